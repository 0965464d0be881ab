//! What an inspection says of a part.

use std::time::Duration;

use serde::Serialize;

use crate::anomaly::{AnomalyMap, Region};

/// What happens to the part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "verdict", content = "reason")]
pub enum Verdict {
    /// The score is at most the threshold.
    Pass,
    /// The score is above the threshold.
    Reject,
    /// The part could not be judged. Never to be taken for a pass.
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

/// How long each stage took.
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
#[derive(Debug, Clone)]
pub struct Inspection {
    /// What happens to the part.
    pub verdict: Verdict,
    /// Image score: the highest local mean of the anomaly map.
    pub score: f32,
    /// Scores above it are rejected.
    pub threshold: f32,
    /// Areas of a rejected part above the threshold, highest peak first; at least one. Empty for a part that passes.
    pub regions: Vec<Region>,
    /// Where the frame is strange.
    pub map: AnomalyMap,
    /// How long it took.
    pub times: StageTimes,
}

/// A buffer to judge into: as long as nothing is judged, not a pass.
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
