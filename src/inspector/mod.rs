//! The engine: frame → inspection, in three stages. A pipeline runs them on three threads, everyone else in a
//! row.

#[cfg(feature = "workshop")]
mod click;
mod data;
mod engine;
mod head;
mod inspection;
mod overlay;
mod percentiles;
#[cfg(test)]
mod tests;

#[cfg(feature = "workshop")]
pub use click::{Click, ClickSegmenter, Prepared};
pub use data::Options;
#[cfg(feature = "workshop")]
pub(crate) use data::join;
#[doc(hidden)]
pub use data::{Features, FrameResiduals};
pub use engine::Inspector;
#[doc(hidden)]
pub use engine::{ClassifyStage, FeatureStage, ResidualStage};
pub(crate) use engine::{check_frame, slowest};
pub(crate) use head::Head;
pub use inspection::{Inspection, StageTimes, Verdict};
pub use overlay::{OverlayOptions, overlay};
pub(crate) use percentiles::{Percentiles, StagePercentiles};

pub use crate::anomaly::{AnomalyMap, Region};
pub use crate::onnx::{Execution, Interrupt, Provider};
