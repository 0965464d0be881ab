//! The engine: frame → inspection, in three stages that a pipeline runs on three threads and everyone else calls in a
//! row.

#[cfg(feature = "workshop")]
mod click;
mod data;
mod engine;
mod head;
mod inspection;
mod overlay;
mod percentiles;

#[cfg(feature = "workshop")]
pub use click::ClickSegmenter;
pub use data::{Click, Features, FrameResiduals, Options, Prepared};
pub(crate) use engine::check_frame;
pub use engine::{ClassifyStage, FeatureStage, Inspector, ResidualStage};
pub use head::Head;
pub use inspection::{Inspection, StageTimes, Verdict};
pub use overlay::{OverlayOptions, overlay};
pub use percentiles::{Percentiles, StagePercentiles};

pub use crate::anomaly::{AnomalyMap, Region};
