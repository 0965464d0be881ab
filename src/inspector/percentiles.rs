//! The time that stages take, over many frames.

use std::time::Duration;

use serde::Serialize;

use super::inspection::StageTimes;

/// Milliseconds below which half and 95 % of the frames stayed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half of the frames were faster.
    pub median: f64,
    /// 95 % of the frames were faster.
    pub p95: f64,
}

impl Percentiles {
    /// Of durations, in milliseconds; zero without any.
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: f64| {
            let rank = ((times.len() as f64 * share).ceil() as usize).max(1) - 1;
            times.get(rank).map_or(0.0, |t| t.as_secs_f64() * 1e3)
        };
        Percentiles { median: at(0.5), p95: at(0.95) }
    }
}

/// Time per frame, by stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct StagePercentiles {
    /// Scaling, normalizing and the backbone.
    pub features: Percentiles,
    /// Retrieval and search.
    pub residuals: Percentiles,
    /// Map, score, verdict.
    pub classify: Percentiles,
    /// All three.
    pub total: Percentiles,
}

impl StagePercentiles {
    /// Of the frames' stage times.
    pub fn of(times: &[StageTimes]) -> Self {
        let stage = |pick: fn(&StageTimes) -> Duration| Percentiles::of(times.iter().map(pick).collect());
        StagePercentiles {
            features: stage(|t| t.features),
            residuals: stage(|t| t.residuals),
            classify: stage(|t| t.classify),
            total: stage(|t| t.features + t.residuals + t.classify),
        }
    }
}
