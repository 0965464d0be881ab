//! Data set layouts, and metrics against scikit-learn.

mod datasets;
mod metrics;
