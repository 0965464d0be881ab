//! The engine: frame → inspection, in three stages that a pipeline runs on three threads and everyone else calls in a
//! row.

mod click;
mod engine;
mod head;
mod inspection;

pub use click::{Click, ClickSegmenter, Prepared};
pub(crate) use engine::check_frame;
pub use engine::{ClassifyStage, FeatureStage, Features, FrameResiduals, Inspector, Options, ResidualStage};
pub use head::Head;
pub use inspection::{Inspection, StageTimes, Verdict};

pub use crate::anomaly::{AnomalyMap, Region};
