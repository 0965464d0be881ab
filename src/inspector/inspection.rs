//! What an inspection says of a part.

use std::time::Duration;

use serde::Serialize;

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

/// A connected area of the anomaly map above the threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Region {
    /// Left edge of the bounding box in frame pixels.
    pub x: u32,
    /// Top edge of the bounding box in frame pixels.
    pub y: u32,
    /// Width of the bounding box in frame pixels, at least 1.
    pub width: u32,
    /// Height of the bounding box in frame pixels, at least 1.
    pub height: u32,
    /// Highest value of the anomaly map inside.
    pub peak: f32,
    /// Frame pixels above the threshold, rounded from the map's own pixels.
    pub area: u32,
}

/// Per-pixel anomaly score over the frame, at the resolution of the scaled frame (padding cut off). Values are
/// residual norms: ≥ 0, larger is stranger.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AnomalyMap {
    /// Width in map pixels.
    pub width: usize,
    /// Height in map pixels.
    pub height: usize,
    /// Rows from the top, `width × height` values.
    pub values: Vec<f32>,
}

impl AnomalyMap {
    /// The map bilinearly resampled to another size (pixel centers, edges repeated).
    pub fn resized(&self, width: usize, height: usize) -> AnomalyMap {
        let mut values = Vec::with_capacity(width * height);
        if self.values.is_empty() {
            return AnomalyMap { width: 0, height: 0, values };
        }
        let columns = taps(self.width, width);
        for (y0, y1, fy) in taps(self.height, height) {
            let (top, bottom) = (&self.values[y0 * self.width..], &self.values[y1 * self.width..]);
            for &(x0, x1, fx) in &columns {
                let a = top[x0] + (top[x1] - top[x0]) * fx;
                let b = bottom[x0] + (bottom[x1] - bottom[x0]) * fx;
                values.push(a + (b - a) * fy);
            }
        }
        AnomalyMap { width, height, values }
    }
}

/// For each of `to` output pixels along one axis: the two input pixels it lies between and the second one's weight.
pub(crate) fn taps(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let scale = from as f32 / to as f32;
    (0..to)
        .map(|i| {
            let center = ((i as f32 + 0.5) * scale - 0.5).clamp(0.0, (from - 1) as f32);
            let low = center.floor() as usize;
            (low, (low + 1).min(from - 1), center - low as f32)
        })
        .collect()
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
    /// Areas above the threshold, highest peak first. Never empty for a reject.
    pub regions: Vec<Region>,
    /// Where the frame is strange.
    pub map: AnomalyMap,
    /// How long it took.
    pub times: StageTimes,
}
