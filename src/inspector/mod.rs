//! The engine: frame → inspection.

mod inspection;

pub use inspection::{AnomalyMap, Inspection, Region, StageTimes, Verdict};
