//! A part as outputs write it: everything except its pictures, owned, so that it can wait for a disk or a
//! broker.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use crate::anomaly::Region;
use crate::clock;
pub(crate) use crate::clock::{civil, unix_ms};
use crate::inspector::{StageTimes, Verdict};
use crate::record::{Engine, FaultKind, Record};

/// A defocused or displaced part can have thousands of regions. The strongest are enough, and keep rows and
/// messages small.
const MOST_REGIONS: usize = 100;

/// One part, with the names of the journal's columns and of all JSON. Missing times and scores, and scores
/// that are not finite, are `null`.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    /// Name of the run of the service.
    pub run: String,
    /// Number of the part in its run.
    pub part: u64,
    /// Time of the trigger (UTC).
    #[serde(serialize_with = "utc")]
    pub triggered: SystemTime,
    /// Time from the trigger to the verdict.
    pub latency_ms: f64,
    /// `pass`, `reject` or `fault`.
    pub verdict: &'static str,
    /// The kind of fault.
    pub fault: Option<FaultKind>,
    /// The reason of the fault.
    pub reason: Option<String>,
    /// What inspected the part.
    #[serde(flatten, serialize_with = "engine")]
    pub engine: Arc<Engine>,
    /// The image's score.
    pub score: Option<f32>,
    /// Time of the first stage.
    pub features_ms: Option<f64>,
    /// Time of the second stage.
    pub residuals_ms: Option<f64>,
    /// Time of the third stage.
    pub classify_ms: Option<f64>,
    /// Highest peak first, at most 100.
    pub regions: Vec<Region>,
}

impl Part {
    /// The part of a run, from its record.
    pub fn new(run: &str, record: &Record) -> Self {
        let (verdict, reason) = match &record.verdict {
            Verdict::Pass => ("pass", None),
            Verdict::Reject => ("reject", None),
            Verdict::Fault(reason) => ("fault", Some(reason.clone())),
        };
        let inspection = record.inspection();
        let time = |stage: fn(&StageTimes) -> Duration| inspection.map(|i| milliseconds(stage(&i.times)));
        Part {
            run: run.to_string(),
            part: record.part,
            triggered: record.triggered,
            latency_ms: milliseconds(record.latency),
            verdict,
            fault: record.fault,
            reason,
            engine: Arc::clone(&record.engine),
            score: inspection.map(|i| i.score).filter(|s| s.is_finite()),
            features_ms: time(|t| t.features),
            residuals_ms: time(|t| t.residuals),
            classify_ms: time(|t| t.classify),
            regions: inspection
                .map_or(Vec::new(), |i| i.regions.iter().take(MOST_REGIONS).copied().collect()),
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn engine<S: Serializer>(engine: &Arc<Engine>, serializer: S) -> Result<S::Ok, S::Error> {
    engine.as_ref().serialize(serializer)
}

fn utc<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&clock::utc(*time))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |seconds: u64| civil(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), [1970, 1, 1, 0, 0, 0, 0]);
        assert_eq!(at(951_782_399), [2000, 2, 28, 23, 59, 59, 0]);
        assert_eq!(at(951_782_400), [2000, 2, 29, 0, 0, 0, 0]);
        assert_eq!(at(1_709_251_199), [2024, 2, 29, 23, 59, 59, 0]);
        assert_eq!(at(1_735_689_599), [2024, 12, 31, 23, 59, 59, 0]);
        assert_eq!(at(4_107_542_400), [2100, 3, 1, 0, 0, 0, 0], "2100 is no leap year");
        assert_eq!(
            civil(UNIX_EPOCH + Duration::from_millis(1_234_567_890_123)),
            [2009, 2, 13, 23, 31, 30, 123]
        );
        assert_eq!(civil(UNIX_EPOCH - Duration::from_secs(1)), [1970, 1, 1, 0, 0, 0, 0]);
    }
}
