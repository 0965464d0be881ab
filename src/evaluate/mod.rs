//! Labeled data sets, metrics and the report that compares them.

pub mod datasets;
pub mod metrics;
