//! The line as a whole: state, problems, counters, times. Shared by all threads; reading never blocks a part for long.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Duration;

use serde::Serialize;

use super::{Engine, FaultKind, Halt, Halts, Record};
use crate::error::Result;
use crate::inspector::Verdict;

/// The state of the inspector, in the words of OPC 40100-1 (machine vision).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum State {
    /// Starting or stopping: no part is inspected.
    Preoperational,
    /// Stopped by a person, or by a fault where faults stop the line. Parts are faults until it is resumed.
    Halted,
    /// Something that inspection needs does not work: see [`Status::problems`]. It is being retried.
    Error,
    /// Parts are inspected.
    Operational,
}

impl State {
    /// The state's name, as OPC 40100-1 has it.
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

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Parts cannot be inspected.
    Error,
    /// Parts are inspected, but something beside does not work, such as a full disk.
    Warning,
}

/// What does not work at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong, for people.
    pub text: String,
}

/// A step on a part's way whose time is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Scaling, normalizing and the backbone.
    Features,
    /// Retrieval and search.
    Residuals,
    /// Map, score, regions.
    Classify,
    /// From the trigger to the verdict.
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

/// How often a duration fell into each of a geometric series of buckets.
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

    /// How many fell into each bucket.
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

/// What an output could not pass on.
#[derive(Debug, Default)]
pub struct OutputCounts {
    /// Parts dropped because the output was slower than the line.
    pub dropped: AtomicU64,
    /// Calls that failed. The output may have kept those parts, to pass them on later.
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
    /// Times that the camera was lost.
    pub camera_losses: AtomicU64,
    /// Inspections that ended after their part's deadline; the part was a fault by then.
    pub late_inspections: AtomicU64,
    /// Parts to be rejected whose pulse was late, short or not given: they may have passed.
    pub missed_pulses: AtomicU64,
    /// Pulses that began or ended too late otherwise: parts beside them may have been served wrongly.
    pub late_pulses: AtomicU64,
    /// Packages swapped in while running.
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
    /// Those that stay until a person has seen them.
    latched: Mutex<Problems>,
    outputs: Mutex<BTreeMap<&'static str, Arc<OutputCounts>>>,
    engine: RwLock<Arc<Engine>>,
    /// Bits of the share of frames that are not inspected.
    unjudged: AtomicU64,
}

impl Status {
    /// The component whose problem are pulses that were not given.
    pub(crate) const GATE: &str = "gate";
    /// The component whose problem are parts that nobody was told of.
    pub(crate) const TRIGGER: &str = "lost triggers";
    /// Components whose errors are latched.
    pub(crate) const LATCHED: [&str; 2] = [Status::GATE, Status::TRIGGER];

    /// The status of a line that is starting.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self::with_halts(engine, Arc::default())
    }

    /// The same of a line that may be halted already.
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
        }
    }

    /// The state as of now.
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

    /// Says whether the line is still starting, or stopping already.
    pub(crate) fn set_loading(&self, loading: bool) {
        self.loading.store(loading, Relaxed);
    }

    /// Whether the line is halted.
    pub fn is_halted(&self) -> bool {
        self.halts.is_halted()
    }

    /// Halts the line for a fault; waits for nothing.
    pub(crate) fn halt(&self, halt: Halt) {
        self.halts.begin(halt);
    }

    /// Waits a moment for the disk to know of a halt that is new.
    pub(crate) fn settle_halt(&self) {
        if self.is_halted() {
            self.halts.settle();
        }
    }

    /// Halts the line or resumes it, as a person decided. Resuming acknowledges latched problems.
    ///
    /// # Errors
    /// As [`Halts::decide`].
    pub fn set_halted(&self, halted: bool) -> Result<()> {
        self.halts.decide(halted)?;
        if !halted {
            lock(&self.latched).clear();
        }
        Ok(())
    }

    /// What does not work, by component (`camera`, `line`, `journal` …).
    pub fn problems(&self) -> BTreeMap<&'static str, Problem> {
        let mut problems = lock(&self.problems).clone();
        problems.extend(self.halts.problems());
        problems.extend(lock(&self.latched).clone());
        problems
    }

    /// Notes that `component` does not work. Logged when it is new or its text changed.
    pub fn raise(&self, component: &'static str, severity: Severity, text: impl Into<String>) {
        note(&self.problems, component, Problem { severity, text: text.into() });
    }

    /// Notes an error that stays until a person resumes the line, whatever becomes of its cause.
    pub fn latch(&self, component: &'static str, text: impl Into<String>) {
        note(&self.latched, component, Problem { severity: Severity::Error, text: text.into() });
    }

    /// A component's error that waits for a person who resumes the line.
    pub fn latched(&self, component: &str) -> Option<String> {
        lock(&self.latched).get(component).map(|problem| problem.text.clone())
    }

    /// Notes that `component` works again.
    pub fn clear(&self, component: &'static str) {
        if lock(&self.problems).remove(component).is_some() {
            log::info!("{component}: works again");
        }
    }

    /// Times of a stage.
    pub fn times(&self, stage: Stage) -> &Histogram {
        &self.times[stage as usize]
    }

    /// The counters of an output, made on the first call.
    pub(crate) fn output(&self, name: &'static str) -> Arc<OutputCounts> {
        Arc::clone(self.outputs.lock().unwrap_or_else(|e| e.into_inner()).entry(name).or_default())
    }

    /// How many parts outputs lost, and in words which; `None` while none did.
    pub(crate) fn losses(&self) -> Option<(u64, String)> {
        let outputs = self.outputs.lock().unwrap_or_else(|e| e.into_inner());
        let lost = outputs.iter().map(|(name, counts)| (*name, counts.dropped.load(Relaxed)));
        let lost: Vec<_> = lost.filter(|(_, count)| *count > 0).collect();
        if lost.is_empty() {
            return None;
        }
        let words: Vec<_> = lost.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let text = format!(
            "parts that were inspected but not passed on, because a disk or a network was too slow: {}",
            words.join(", ")
        );
        Some((lost.iter().map(|(_, count)| count).sum(), text))
    }

    /// What parts are inspected with.
    pub fn engine(&self) -> Arc<Engine> {
        Arc::clone(&self.engine.read().unwrap_or_else(|e| e.into_inner()))
    }

    /// Says what parts are inspected with from now on.
    pub(crate) fn set_engine(&self, engine: Arc<Engine>) {
        *self.engine.write().unwrap_or_else(|e| e.into_inner()) = engine;
    }

    /// Says what share of the camera's frames is not inspected, 0 to 1, where every frame is a part.
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

    /// Everything as of now, for machines.
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

/// [`Status`] at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    /// The state.
    pub state: State,
    /// What parts are inspected with.
    pub engine: Engine,
    /// What does not work, by component.
    pub problems: BTreeMap<&'static str, Problem>,
    /// Since when and why the line is halted.
    pub halted: Option<Halt>,
    /// Whether one of them waits for a person who resumes the line.
    pub latched: bool,
    /// Parts that got a verdict.
    pub parts: u64,
    /// Verdict *pass*.
    pub passes: u64,
    /// Verdict *reject*.
    pub rejects: u64,
    /// Verdict *fault*, by [`FaultKind::name`].
    pub faults: BTreeMap<&'static str, u64>,
    /// See [`Counts::dropped_frames`].
    pub dropped_frames: u64,
    /// See [`Counts::lost_frames`].
    pub lost_frames: u64,
    /// Share of the last seconds' frames that were not inspected, 0 to 1, where every frame is a part.
    pub unjudged_share: f64,
    /// See [`Counts::camera_losses`].
    pub camera_losses: u64,
    /// See [`Counts::late_inspections`].
    pub late_inspections: u64,
    /// See [`Counts::missed_pulses`].
    pub missed_pulses: u64,
    /// See [`Counts::late_pulses`].
    pub late_pulses: u64,
    /// See [`Counts::swaps`].
    pub swaps: u64,
    /// Parts that each output dropped.
    pub outputs_dropped: BTreeMap<&'static str, u64>,
    /// See [`OutputCounts::failed`].
    pub outputs_failed: BTreeMap<&'static str, u64>,
    /// The latest part's time in each stage.
    pub milliseconds: BTreeMap<&'static str, f64>,
}
