//! How good are the inspections? Labeled data sets, metrics, and what brings them together.

pub mod datasets;
mod dump;
pub mod metrics;
mod run;
#[cfg(test)]
mod tests;

pub use dump::Dump;
pub use run::{CategoryResult, KindCount, Outcome, evaluate};
