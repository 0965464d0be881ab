//! The result of an inspection.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::anomaly::{AnomalyMap, Region};

/// The verdict on a part.
///
/// ```
/// use weakrest::Verdict;
///
/// assert_eq!(Verdict::Reject.to_string(), "reject");
/// assert_eq!(Verdict::Fault("no frame".into()).to_string(), "fault (no frame)");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase", tag = "verdict", content = "reason")]
pub enum Verdict {
    /// The score is at most the threshold.
    Pass,
    /// The score is above the threshold.
    Reject,
    /// The part could not be judged. A fault is never a pass.
    Fault(String),
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Verdict::Pass => f.write_str("pass"),
            Verdict::Reject => f.write_str("reject"),
            Verdict::Fault(reason) => write!(f, "fault ({reason})"),
        }
    }
}

/// The time of each stage.
///
/// ```
/// use weakrest::inspector::StageTimes;
///
/// let StageTimes { features, residuals, classify } = StageTimes::default();
/// assert!((features + residuals + classify).is_zero());
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// Scaling, normalizing and the backbone.
    pub features: Duration,
    /// Retrieval and nearest-neighbor search.
    pub residuals: Duration,
    /// Anomaly map, score, regions, verdict.
    pub classify: Duration,
}

/// The result for one part.
///
/// ```
/// use weakrest::{Inspection, Verdict};
///
/// let part = Inspection::default();
/// assert!(part.verdict != Verdict::Pass, "not inspected yet");
/// ```
#[derive(Debug, Clone)]
pub struct Inspection {
    /// Pass, reject or fault.
    pub verdict: Verdict,
    /// Image score: the highest local mean of the anomaly map.
    pub score: f32,
    /// Scores above it are rejected.
    pub threshold: f32,
    /// Areas of a rejected part above the threshold, highest peak first; at least one. Empty for a pass.
    pub regions: Vec<Region>,
    /// The anomaly map.
    pub map: AnomalyMap,
    /// The time of each stage.
    pub times: StageTimes,
}

/// A buffer for a result. It is a fault until then.
impl Default for Inspection {
    fn default() -> Self {
        Inspection {
            verdict: Verdict::Fault("not inspected".into()),
            score: f32::NAN,
            threshold: f32::NAN,
            regions: Vec::new(),
            map: AnomalyMap::default(),
            times: StageTimes::default(),
        }
    }
}
