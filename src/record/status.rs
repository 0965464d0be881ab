//! Status of the line: state, problems, counters, times. All threads share it. Reading never blocks a part
//! for long.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::{Drift, Engine, FaultKind, Halt, Halts, Record};
use crate::error::Result;
use crate::inspector::Verdict;

/// State of the inspector, named as in OPC 40100-1 (machine vision).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub enum State {
    /// Starting or stopping. No part is inspected.
    Preoperational,
    /// Halted by a person, or by a fault if faults halt the line. Parts are faults until a person resumes the
    /// line.
    Halted,
    /// Something that the inspection needs does not work: see [`Status::problems`]. It is retried.
    Error,
    /// Parts are inspected.
    Operational,
}

impl State {
    /// The state's name in OPC 40100-1.
    pub fn name(self) -> &'static str {
        match self {
            State::Preoperational => "Preoperational",
            State::Halted => "Halted",
            State::Error => "Error",
            State::Operational => "Operational",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Severity of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Parts cannot be inspected.
    Error,
    /// Parts are inspected, but something else does not work, such as a full disk.
    Warning,
}

/// How the reloads of the configuration ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reloads {
    /// Ended reloads since the process started.
    pub count: u64,
    /// Why the configuration of the last one is not in use. `None` if it is.
    pub refused: Option<String>,
}

/// Something that does not work at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// Error or warning.
    pub severity: Severity,
    /// Message for people.
    pub text: String,
}

/// A measured step of a part's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Scaling, normalizing and the backbone.
    Features,
    /// Retrieval and search.
    Residuals,
    /// Map, score, regions.
    Classify,
    /// Time from the trigger to the verdict.
    Latency,
}

impl Stage {
    /// Every stage.
    pub const ALL: [Stage; 4] = [Stage::Features, Stage::Residuals, Stage::Classify, Stage::Latency];

    /// Name for people and machines.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Features => "features",
            Stage::Residuals => "residuals",
            Stage::Classify => "classify",
            Stage::Latency => "latency",
        }
    }
}

/// A histogram of durations in geometric buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; Histogram::BOUNDS.len() + 1],
    sum_us: AtomicU64,
    last_us: AtomicU64,
    worst_us: AtomicU64,
}

impl Histogram {
    /// Upper bounds of the buckets in microseconds; the last bucket has none.
    pub const BOUNDS: [u64; 14] = [
        500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 512_000, 1_024_000,
        2_048_000, 4_096_000,
    ];

    /// Counts a duration.
    pub(crate) fn add(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = Self::BOUNDS.partition_point(|&bound| bound < us);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
        self.last_us.store(us, Relaxed);
        self.worst_us.fetch_max(us, Relaxed);
    }

    /// Number of durations in each bucket.
    pub fn counts(&self) -> [u64; Self::BOUNDS.len() + 1] {
        std::array::from_fn(|i| self.buckets[i].load(Relaxed))
    }

    /// Sum of all durations.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us.load(Relaxed))
    }

    /// The latest duration.
    pub fn last(&self) -> Duration {
        Duration::from_micros(self.last_us.load(Relaxed))
    }

    /// The longest duration.
    pub fn worst(&self) -> Duration {
        Duration::from_micros(self.worst_us.load(Relaxed))
    }
}

/// Losses of an output.
#[derive(Debug, Default)]
pub struct OutputCounts {
    /// Parts dropped because the output was slower than the line.
    pub dropped: AtomicU64,
    /// Calls that failed. The output can have kept those parts to pass them on later.
    pub failed: AtomicU64,
}

/// Counters since the service started.
#[derive(Debug, Default)]
pub struct Counts {
    /// Parts that got a verdict.
    pub parts: AtomicU64,
    /// Verdict *pass*.
    pub passes: AtomicU64,
    /// Verdict *reject*.
    pub rejects: AtomicU64,
    /// Verdict *fault*, in the order of [`FaultKind::ALL`].
    pub faults: [AtomicU64; FaultKind::ALL.len()],
    /// Frames of a free-running camera that were dropped for newer ones.
    pub dropped_frames: AtomicU64,
    /// Frames missing in the camera's own numbering.
    pub lost_frames: AtomicU64,
    /// How often the camera was lost.
    pub camera_losses: AtomicU64,
    /// Inspections that ended after their part's deadline. The part was already a fault.
    pub late_inspections: AtomicU64,
    /// Parts to reject whose pulse was late, short or missing. They may have passed.
    pub missed_pulses: AtomicU64,
    /// Other pulses that began or ended too late. The parts beside may have been handled wrongly.
    pub late_pulses: AtomicU64,
    /// Package swaps while running.
    pub swaps: AtomicU64,
}

/// State, problems, counters and times of a running line.
#[derive(Debug)]
pub struct Status {
    /// Counters.
    pub(crate) counts: Counts,
    times: [Histogram; Stage::ALL.len()],
    loading: AtomicBool,
    halts: Arc<Halts>,
    problems: Mutex<Problems>,
    /// Problems that stay until a person acknowledges them.
    latched: Mutex<Problems>,
    outputs: Mutex<BTreeMap<&'static str, Arc<OutputCounts>>>,
    engine: RwLock<Arc<Engine>>,
    /// Share of uninspected frames, as the bits of an `f64`.
    unjudged: AtomicU64,
    reloads: Mutex<Reloads>,
    drift: Mutex<Vec<Drift>>,
}

impl Status {
    /// Component of missed pulses.
    pub(crate) const GATE: &str = "gate";
    /// Component of lost triggers.
    pub(crate) const TRIGGER: &str = "lost triggers";
    /// Component of a camera that is too slow for its triggers.
    pub(crate) const SLOW_CAMERA: &str = "camera rate";
    /// Components with latched errors.
    pub(crate) const LATCHED: [&str; 2] = [Status::GATE, Status::TRIGGER];

    /// Status of a starting line.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self::with_halts(engine, Arc::default())
    }

    /// Status of a starting line with this halt.
    pub(crate) fn with_halts(engine: Arc<Engine>, halts: Arc<Halts>) -> Self {
        Status {
            counts: Counts::default(),
            times: Default::default(),
            loading: AtomicBool::new(true),
            halts,
            problems: Mutex::default(),
            latched: Mutex::default(),
            outputs: Mutex::default(),
            engine: RwLock::new(engine),
            unjudged: AtomicU64::new(0),
            reloads: Mutex::default(),
            drift: Mutex::default(),
        }
    }

    /// The present state.
    pub fn state(&self) -> State {
        if self.loading.load(Relaxed) {
            State::Preoperational
        } else if self.is_halted() {
            State::Halted
        } else if [lock(&self.problems), lock(&self.latched)]
            .iter()
            .any(|problems| problems.values().any(|p| p.severity == Severity::Error))
        {
            State::Error
        } else {
            State::Operational
        }
    }

    /// Sets whether the line is starting or stopping.
    pub(crate) fn set_loading(&self, loading: bool) {
        self.loading.store(loading, Relaxed);
    }

    /// Whether the line is halted.
    pub fn is_halted(&self) -> bool {
        self.halts.is_halted()
    }

    /// Halts the line for a fault, without waiting.
    pub(crate) fn halt(&self, halt: Halt) {
        self.halts.begin(halt);
    }

    /// Waits a moment until a new halt is on disk.
    pub(crate) fn settle_halt(&self) {
        if self.is_halted() {
            self.halts.settle();
        }
    }

    /// Halts or resumes the line for a person. Resuming acknowledges latched problems.
    ///
    /// # Errors
    /// What is wrong with the disk that stores the decision.
    pub fn set_halted(&self, halted: bool) -> Result<()> {
        self.halts.decide(halted)?;
        if !halted {
            lock(&self.latched).clear();
        }
        Ok(())
    }

    /// The present problems, by component (`camera`, `line`, `journal` …).
    pub fn problems(&self) -> BTreeMap<&'static str, Problem> {
        let mut problems = lock(&self.problems).clone();
        problems.extend(self.halts.problems());
        problems.extend(lock(&self.latched).clone());
        problems
    }

    /// Raises a problem of `component`. Logs a new problem or a new text.
    pub fn raise(&self, component: &'static str, severity: Severity, text: impl Into<String>) {
        note(&self.problems, component, Problem { severity, text: text.into() });
    }

    /// Raises an error that stays until a person resumes the line, even if its cause ends.
    pub fn latch(&self, component: &'static str, text: impl Into<String>) {
        note(&self.latched, component, Problem { severity: Severity::Error, text: text.into() });
    }

    /// The latched error of a component.
    pub fn latched(&self, component: &str) -> Option<String> {
        lock(&self.latched).get(component).map(|problem| problem.text.clone())
    }

    /// Clears the problem of `component`.
    pub fn clear(&self, component: &'static str) {
        if lock(&self.problems).remove(component).is_some() {
            log::info!("{component}: works again");
        }
    }

    /// Sets how the reloads of the configuration ended.
    pub(crate) fn set_reloads(&self, reloads: Reloads) {
        *self.reloads.lock().unwrap_or_else(|e| e.into_inner()) = reloads;
    }

    /// Sets what changed since the first parts of the package. Changes too large to be chance are a warning.
    pub(crate) fn set_drift(&self, drift: Vec<Drift>) {
        const NAME: &str = "drift";
        let told: Vec<_> = drift.iter().filter(|d| d.alarm).map(ToString::to_string).collect();
        match told.is_empty() {
            true => self.clear(NAME),
            false => self.raise(NAME, Severity::Warning, told.join("; ")),
        }
        *self.drift.lock().unwrap_or_else(|e| e.into_inner()) = drift;
    }

    /// Times of a stage.
    pub fn times(&self, stage: Stage) -> &Histogram {
        &self.times[stage as usize]
    }

    /// The counters of an output, created on the first call.
    pub(crate) fn output(&self, name: &'static str) -> Arc<OutputCounts> {
        Arc::clone(self.outputs.lock().unwrap_or_else(|e| e.into_inner()).entry(name).or_default())
    }

    /// Number of lost parts and a message about them. `None` without losses.
    pub(crate) fn losses(&self) -> Option<(u64, String)> {
        let outputs = self.outputs.lock().unwrap_or_else(|e| e.into_inner());
        let lost = outputs.iter().map(|(name, counts)| (*name, counts.dropped.load(Relaxed)));
        let lost: Vec<_> = lost.filter(|(_, count)| *count > 0).collect();
        if lost.is_empty() {
            return None;
        }
        let words: Vec<_> = lost.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let text = format!(
            "inspected parts were not passed on, because a disk or a network was too slow: {}",
            words.join(", ")
        );
        Some((lost.iter().map(|(_, count)| count).sum(), text))
    }

    /// What inspects the parts.
    pub fn engine(&self) -> Arc<Engine> {
        Arc::clone(&self.engine.read().unwrap_or_else(|e| e.into_inner()))
    }

    /// Sets what inspects the parts.
    pub(crate) fn set_engine(&self, engine: Arc<Engine>) {
        *self.engine.write().unwrap_or_else(|e| e.into_inner()) = engine;
    }

    /// Sets the share of uninspected frames, 0 to 1, of a free-running camera.
    pub(crate) fn set_unjudged(&self, share: f64) {
        self.unjudged.store(share.to_bits(), Relaxed);
    }

    /// Counts a part.
    pub(crate) fn count(&self, record: &Record) {
        let counts = &self.counts;
        counts.parts.fetch_add(1, Relaxed);
        match (&record.verdict, record.fault) {
            (Verdict::Pass, _) => counts.passes.fetch_add(1, Relaxed),
            (Verdict::Reject, _) => counts.rejects.fetch_add(1, Relaxed),
            (Verdict::Fault(_), kind) => {
                counts.faults[kind.unwrap_or(FaultKind::Inspection) as usize].fetch_add(1, Relaxed)
            }
        };
        if let Some(inspection) = record.inspection() {
            self.times(Stage::Features).add(inspection.times.features);
            self.times(Stage::Residuals).add(inspection.times.residuals);
            self.times(Stage::Classify).add(inspection.times.classify);
        }
        self.times(Stage::Latency).add(record.latency);
    }

    /// A snapshot for machines.
    pub fn snapshot(&self) -> Snapshot {
        let counts = &self.counts;
        let of = |counter: &AtomicU64| counter.load(Relaxed);
        let faults: BTreeMap<_, _> =
            FaultKind::ALL.iter().map(|kind| (kind.name(), of(&counts.faults[*kind as usize]))).collect();
        let outputs = self.outputs.lock().unwrap_or_else(|e| e.into_inner());
        Snapshot {
            state: self.state(),
            engine: Engine::clone(&self.engine()),
            problems: self.problems(),
            halted: self.halts.halt(),
            latched: !lock(&self.latched).is_empty(),
            parts: of(&counts.parts),
            passes: of(&counts.passes),
            rejects: of(&counts.rejects),
            faults,
            dropped_frames: of(&counts.dropped_frames),
            lost_frames: of(&counts.lost_frames),
            unjudged_share: f64::from_bits(of(&self.unjudged)),
            camera_losses: of(&counts.camera_losses),
            late_inspections: of(&counts.late_inspections),
            missed_pulses: of(&counts.missed_pulses),
            late_pulses: of(&counts.late_pulses),
            swaps: of(&counts.swaps),
            drift: self.drift.lock().unwrap_or_else(|e| e.into_inner()).clone(),
            reloads: self.reloads.lock().unwrap_or_else(|e| e.into_inner()).clone(),
            outputs_dropped: outputs.iter().map(|(name, o)| (*name, of(&o.dropped))).collect(),
            outputs_failed: outputs.iter().map(|(name, o)| (*name, of(&o.failed))).collect(),
            milliseconds: Stage::ALL
                .iter()
                .map(|stage| (stage.name(), self.times(*stage).last().as_secs_f64() * 1e3))
                .collect(),
        }
    }
}

type Problems = BTreeMap<&'static str, Problem>;

fn lock(problems: &Mutex<Problems>) -> MutexGuard<'_, Problems> {
    // A poisoned map is still a map of texts.
    problems.lock().unwrap_or_else(|e| e.into_inner())
}

fn note(problems: &Mutex<Problems>, component: &'static str, problem: Problem) {
    let mut problems = lock(problems);
    if problems.get(component) != Some(&problem) {
        match problem.severity {
            Severity::Error => log::error!("{component}: {}", problem.text),
            Severity::Warning => log::warn!("{component}: {}", problem.text),
        }
        problems.insert(component, problem);
    }
}

/// [`Status`] at one moment, for JSON.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Snapshot {
    /// The state.
    pub state: State,
    /// What inspects the parts.
    pub engine: Engine,
    /// The problems, by component.
    pub problems: BTreeMap<&'static str, Problem>,
    /// The halt, if the line is halted.
    pub halted: Option<Halt>,
    /// Whether a problem waits for a person to resume the line.
    pub latched: bool,
    /// Parts that got a verdict.
    pub parts: u64,
    /// Verdict *pass*.
    pub passes: u64,
    /// Verdict *reject*.
    pub rejects: u64,
    /// Verdict *fault*, by [`FaultKind::name`].
    pub faults: BTreeMap<&'static str, u64>,
    /// Frames of a free-running camera that were dropped for newer ones.
    pub dropped_frames: u64,
    /// Frames missing in the camera's own numbering.
    pub lost_frames: u64,
    /// Share of uninspected frames over the last seconds, 0 to 1, of a free-running camera.
    pub unjudged_share: f64,
    /// Times that the camera was lost.
    pub camera_losses: u64,
    /// Inspections that ended after their part's deadline; the part was a fault by then.
    pub late_inspections: u64,
    /// Parts to be rejected whose pulse was late, short or not given: they may have passed.
    pub missed_pulses: u64,
    /// Pulses that began or ended too late otherwise: parts beside them may have been served wrongly.
    pub late_pulses: u64,
    /// Packages swapped in while running.
    pub swaps: u64,
    /// How the reloads of the configuration ended.
    pub reloads: Reloads,
    /// Light, focus, noise and good scores, as far as the journal knows enough parts.
    pub drift: Vec<Drift>,
    /// Parts that each output dropped.
    pub outputs_dropped: BTreeMap<&'static str, u64>,
    /// Calls of each output that failed.
    pub outputs_failed: BTreeMap<&'static str, u64>,
    /// The latest part's time in each stage.
    pub milliseconds: BTreeMap<&'static str, f64>,
}
