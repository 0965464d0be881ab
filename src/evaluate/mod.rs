//! How good are the inspections? Labeled data sets, metrics, and what brings them together.

pub mod datasets;
pub mod metrics;
mod run;

pub use run::{CategoryResult, KindCount, Outcome, Percentiles, StagePercentiles, evaluate};
