//! Measures inspections on labeled data sets.

pub mod datasets;
mod dump;
pub mod metrics;
mod run;
#[cfg(test)]
mod tests;

pub use dump::Dump;
pub use run::{CategoryResult, KindCount, evaluate};
