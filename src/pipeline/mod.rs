//! The line: threads and channels around the inspector's stages, from the camera to the verdict.
//!
//! ```text
//! camera ──► features ──► residuals ──► classify ──► gate ──► publisher ──► outputs, subscribers
//! ```
//! Each arrow is a bounded channel. Every part gets exactly one verdict, by its deadline: the gate knows each
//! part from its trigger, and a part without a verdict by then is a fault. The gate drives the reject line
//! first and never waits for an output. Buffers are reused: in steady state nothing is allocated per part
//! outside ONNX Runtime.

mod capture;
mod driver;
mod gate;
mod pairing;
mod publish;
mod shift;
mod stages;
#[cfg(test)]
mod tests;
mod watch;

use std::ops::Bound;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};

pub use publish::Subscription;
pub(crate) use stages::SharedStages;
pub use stages::Stages;

use crate::camera::{Framing, HealthSettings, OpenCamera, Timing};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::inspector::{Features, FrameResiduals};
use crate::output::line::{self, EdgeTrigger, Lines, Times};
use crate::output::{Control, Output};
use crate::record::{FaultKind, Halts, Record, Severity, Status};
use crate::settings::range;
use pairing::{Pairing, Unpaired, Window};
use shift::Shift;
use stages::Swap;

/// How often every thread shows that it is alive, and checks whether to stop.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// What triggers a part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TriggerSource {
    /// Every frame is a part. If frames come faster than the inspection, the oldest waiting one is dropped
    /// and counted.
    #[default]
    Free,
    /// A request through the web page or [`Pipeline::trigger`].
    Software,
    /// An edge of a GPIO line.
    Gpio,
}

/// How frames and parts are matched: `[trigger]` of the configuration.
///
/// Each trigger opens a window, from `frame_after_ms` to `frame_within_ms` after it. The first frame with a
/// driver's stamp in the window shows the part. A part without a frame is a fault. If a frame lies in the
/// windows of several parts, all of them are faults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trigger {
    /// What triggers a part.
    pub source: TriggerSource,
    /// The chip of the GPIO line, such as `/dev/gpiochip0`.
    pub chip: Option<PathBuf>,
    /// Number of the GPIO line.
    pub line: Option<u32>,
    /// Trigger on falling edges instead of rising ones.
    pub falling: bool,
    /// Earliest capture after the trigger, in milliseconds. Negative if the camera's stamps are older than
    /// the trigger's edge.
    pub frame_after_ms: f64,
    /// Latest capture after the trigger, in milliseconds. Default: 1.5 camera periods plus the exposure, or 100
    /// if the camera does not report them.
    pub frame_within_ms: Option<f64>,
    /// Whether the trigger also fires the camera, so that each trigger gives exactly one frame. Then an extra
    /// frame is a fault, and a frame without a trigger an alarm.
    pub fires_camera: bool,
}

impl Trigger {
    /// Every frame is a part.
    pub fn free() -> Self {
        Trigger::default()
    }

    /// Requests trigger parts.
    pub fn software() -> Self {
        Trigger { source: TriggerSource::Software, ..Trigger::default() }
    }

    /// Checks the values.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] naming the key.
    pub(crate) fn validate(&self) -> Result<()> {
        const GPIO: &str = "is for a GPIO trigger; set trigger.source to \"gpio\"";
        match (self.source, &self.chip, self.line) {
            (TriggerSource::Gpio, None, _) => {
                return Err(Error::setting(
                    "trigger.chip",
                    "is missing; set the chip of the trigger's line, such as \"/dev/gpiochip0\"",
                ));
            }
            (TriggerSource::Gpio, _, None) => {
                return Err(Error::setting(
                    "trigger.line",
                    "is missing; set the number of the trigger's line on its chip",
                ));
            }
            (TriggerSource::Free | TriggerSource::Software, Some(_), _) => {
                return Err(Error::setting("trigger.chip", GPIO));
            }
            (TriggerSource::Free | TriggerSource::Software, _, Some(_)) => {
                return Err(Error::setting("trigger.line", GPIO));
            }
            _ => {}
        }
        if self.falling && self.source != TriggerSource::Gpio {
            return Err(Error::setting("trigger.falling", GPIO));
        }
        const MOST: f64 = 60_000.0;
        range("trigger.frame_after_ms", self.frame_after_ms, -MOST..=MOST)?;
        if let Some(within) = self.frame_within_ms {
            let above = (Bound::Excluded(self.frame_after_ms.max(0.0)), Bound::Included(MOST));
            range("trigger.frame_within_ms", within, above)?;
        }
        let triggered = [
            ("trigger.fires_camera", self.fires_camera),
            ("trigger.frame_within_ms", self.frame_within_ms.is_some()),
            ("trigger.frame_after_ms", self.frame_after_ms != 0.0),
        ];
        match triggered.into_iter().find(|(_, is_set)| *is_set && self.source == TriggerSource::Free) {
            Some((key, _)) => {
                let what = "needs a trigger; set trigger.source to \"software\" or \"gpio\"";
                Err(Error::setting(key, what))
            }
            None => Ok(()),
        }
    }

    /// The longest time from a trigger to the capture of its frame, if a free-running camera with this period
    /// takes it. `None` if the trigger and the frame are one.
    pub(crate) fn longest_wait(&self, period: Duration) -> Option<Duration> {
        let millis = |ms: f64| Duration::from_secs_f64(ms.max(0.0) / 1e3);
        let waits = self.source != TriggerSource::Free && !self.fires_camera;
        let first = period + millis(self.frame_after_ms);
        waits.then(|| self.frame_within_ms.map_or(first, |within| first.min(millis(within))))
    }

    /// When a part's frame is captured, for a camera with this timing.
    fn window(&self, timing: Timing) -> Window {
        const UNKNOWN: Duration = Duration::from_millis(100);
        /// Time from a frame's stamp to its delivery: exposure, readout, bus.
        const ARRIVAL: Duration = Duration::from_millis(100);
        let millis = |ms: f64| Duration::from_secs_f64(ms / 1e3);
        let after = millis(self.frame_after_ms.abs());
        let early = self.frame_after_ms < 0.0;
        let within = match (self.frame_within_ms, timing.period) {
            (Some(within), _) => millis(within),
            (None, Some(period)) => {
                let opens = if early { Duration::ZERO } else { after };
                opens + period * 3 / 2 + timing.exposure.unwrap_or_default()
            }
            (None, None) => UNKNOWN + if early { Duration::ZERO } else { after },
        };
        let arrival = timing.period.map_or(ARRIVAL, |period| ARRIVAL.max(period * 2));
        Window { after, early, within, arrival: within + arrival, exclusive: self.fires_camera }
    }
}

/// What is wrong with a camera whose frames come too late for the deadline.
pub(crate) fn late_frames(period: Duration, wait: Duration, deadline: Duration) -> String {
    format!(
        "the camera takes a frame each {} ms, so a part's frame is taken up to {} ms after its trigger, but its \
         verdict is due after {} ms: set a higher camera.rate, or if the gate is further away a longer \
         line.travel_ms, or let the trigger fire the camera (trigger.fires_camera)",
        period.as_millis(),
        wait.as_millis(),
        deadline.as_millis()
    )
}

/// Queues and time limits: `[pipeline]` of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Number of parts that can wait for inspection, 1 to 256.
    pub queue: usize,
    /// Time without a frame after which the camera is lost, in milliseconds. At least 3 periods of the camera apply.
    /// With [`Trigger::fires_camera`] it counts from a trigger without a frame.
    pub camera_timeout_ms: u64,
    /// Time without a sign of life after which a thread hangs, in milliseconds. Set it above the slowest
    /// inspection.
    pub stall_ms: u64,
    /// With a free-running camera: a larger share of uninspected frames, in percent, is a warning.
    pub unjudged_percent: f64,
    /// Time limit for reading the configuration and loading the package with its golden pictures, in
    /// milliseconds. At least 15 minutes if TensorRT builds its engine.
    pub load_timeout_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            queue: 4,
            camera_timeout_ms: 1_000,
            stall_ms: 5_000,
            load_timeout_ms: 60_000,
            unjudged_percent: 1.0,
        }
    }
}

impl Settings {
    /// Checks the values.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] naming the key.
    pub(crate) fn validate(&self) -> Result<()> {
        range("pipeline.queue", self.queue, 1..=256)?;
        range("pipeline.camera_timeout_ms", self.camera_timeout_ms, 10..=3_600_000)?;
        range("pipeline.stall_ms", self.stall_ms, 500..=600_000)?;
        range("pipeline.load_timeout_ms", self.load_timeout_ms, 1_000..=7_200_000)?;
        range("pipeline.unjudged_percent", self.unjudged_percent, 0.0..=100.0)
    }
}

/// The components of a pipeline. Clock, camera and lines are handed in, so simulated ones work, too.
pub struct Setup {
    /// Time.
    pub clock: Clock,
    /// The inspector.
    pub stages: Stages,
    /// The camera.
    pub camera: Box<dyn OpenCamera>,
    /// How frames are cut and turned.
    pub framing: Framing,
    /// What frames must be like.
    pub health: HealthSettings,
    /// What makes a frame a part.
    pub trigger: Trigger,
    /// The halt state of the line, which outlives this pipeline.
    pub halts: Arc<Halts>,
    /// The lines.
    pub lines: Box<dyn Lines>,
    /// How the gate is driven.
    pub line: line::Settings,
    /// Queues and patience.
    pub settings: Settings,
}

impl Setup {
    /// A line in which every frame is a part, without digital lines, and with the defaults of all settings.
    pub fn new(clock: Clock, stages: Stages, camera: Box<dyn OpenCamera>) -> Self {
        Setup {
            clock,
            stages,
            camera,
            framing: Framing::default(),
            health: HealthSettings::default(),
            trigger: Trigger::free(),
            halts: Arc::default(),
            lines: Box::new(line::NoLines),
            line: line::Settings::default(),
            settings: Settings::default(),
        }
    }
}

/// A part on its way.
struct Slot {
    part: u64,
    triggered: Instant,
    wall: SystemTime,
    record: Arc<Record>,
    features: Features,
    residuals: FrameResiduals,
    /// Until when a second frame can come in its window and make it a fault.
    certain: Option<Instant>,
    /// Why the part cannot be inspected.
    failed: Option<(FaultKind, String)>,
}

/// Messages from stage to stage.
enum Job {
    Part(Box<Slot>),
    /// New stages for all later parts.
    Swap(Box<Swap>),
}

/// Messages to the gate.
enum ToGate {
    /// A part exists.
    Announced { part: u64, triggered: Instant, wall: SystemTime, times: Times },
    /// A part has been through all stages.
    Done(Box<Slot>),
    /// Unknown parts may be on their way to the gate, for this time.
    Unknown { longest: Duration },
    /// A part cannot be inspected.
    Failed { part: u64, kind: FaultKind, reason: String },
    /// No more parts come.
    Stop,
}

/// A part that was triggered and waits for its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Triggered {
    part: u64,
    at: Instant,
    wall: SystemTime,
    /// Time from the trigger until the verdict is due.
    deadline: Duration,
}

/// What all threads share.
struct Shared {
    clock: Clock,
    status: Arc<Status>,
    stop: AtomicBool,
    parts: AtomicU64,
    beats: watch::Beats,
    reload: AtomicBool,
    /// The recipe that an output asked for; [`NO_RECIPE`] without.
    recipe: AtomicU32,
    /// Every part from its trigger on.
    gate: Sender<ToGate>,
    /// The parts that wait for a frame. `None` if every frame is a part. Locked while a part is triggered, so
    /// that the search for a frame's part knows every earlier trigger.
    pairing: Option<Mutex<Pairing>>,
    /// What the parts are triggered under. Locked after `pairing`.
    shift: Mutex<Shift>,
    /// The line whose edges trigger parts.
    edges: Option<EdgeTrigger>,
}

impl Shared {
    fn stopping(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Numbers a part and announces it to the gate.
    fn announce(&self, at: Instant, wall: SystemTime, times: Times) -> u64 {
        let part = self.parts.fetch_add(1, Relaxed) + 1;
        // The gate outlives all senders.
        let _ = self.clock.send(&self.gate, ToGate::Announced { part, triggered: at, wall, times });
        part
    }

    fn fail(&self, part: u64, kind: FaultKind, reason: impl Into<String>) {
        let _ = self.clock.send(&self.gate, ToGate::Failed { part, kind, reason: reason.into() });
    }

    /// Locks the parts that wait for a frame; `None` when every frame is a part.
    fn pairing(&self) -> Option<MutexGuard<'_, Pairing>> {
        Some(self.pairing.as_ref()?.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    fn shift(&self) -> MutexGuard<'_, Shift> {
        self.shift.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Triggers a part now.
    fn trigger(&self) -> Result<u64> {
        let Some(mut pairing) = self.pairing() else {
            return Err(Error::new(
                ErrorKind::Usage,
                "the camera is free-running: every frame is a part; set trigger.source to \"software\"",
            ));
        };
        Ok(self.trigger_at(&mut pairing, self.clock.now()))
    }

    fn trigger_at(&self, pairing: &mut Pairing, at: Instant) -> u64 {
        let wall = self.wall_at(at);
        let (times, too_late) = {
            let shift = self.shift();
            (shift.times_at(at), shift.is_over(at))
        };
        let part = self.announce(at, wall, times);
        let triggered = Triggered { part, at, wall, deadline: times.deadline };
        if self.stopping() {
            self.unpaired((part, Unpaired::Stopped), pairing);
        } else if too_late {
            self.unpaired(pairing.refuse(&triggered, Unpaired::Changed), pairing);
        } else if let Err(fault) = pairing.trigger(triggered) {
            self.unpaired(fault, pairing);
        }
        part
    }

    /// A moment in wall-clock time.
    fn wall_at(&self, at: Instant) -> SystemTime {
        let age = self.clock.now().saturating_duration_since(at);
        self.clock.wall().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    fn unpaired(&self, (part, why): pairing::Fault, pairing: &Pairing) {
        self.fail(part, why.kind(), why.reason(pairing.window()));
    }

    /// Asks the pairing, and tells the gate about parts without a frame.
    fn ask<T>(
        &self,
        pairing: &mut Pairing,
        question: impl FnOnce(&mut Pairing, &mut Vec<pairing::Fault>) -> T,
    ) -> T {
        let mut faults = Vec::new();
        let answer = question(pairing, &mut faults);
        faults.into_iter().for_each(|fault| self.unpaired(fault, pairing));
        answer
    }

    /// Triggers a part for each edge that the kernel has.
    fn take_edges(&self, pairing: &mut Pairing) -> Result<()> {
        let Some(edges) = &self.edges else { return Ok(()) };
        while let Some(edge) = edges.next()? {
            if edge.lost > 0 {
                let text = format!("{} triggers were lost: the edges came too fast", edge.lost);
                self.status.latch(Status::TRIGGER, text);
                self.ask(pairing, |pairing, faults| pairing.lost_trigger(edge.at, faults));
            }
            self.trigger_at(pairing, edge.at);
        }
        Ok(())
    }
}

/// A running line. Drop it to stop the line.
pub struct Pipeline {
    shared: Arc<Shared>,
    to_stages: Option<Sender<Job>>,
    /// In the order of a part's way. A thread ends after the one before it.
    stages: Vec<(&'static str, JoinHandle<()>)>,
    gate: Option<JoinHandle<()>>,
    /// The gate's driver comes first. It ends after the gate.
    after: Vec<(&'static str, JoinHandle<()>)>,
    publisher: Arc<publish::Publisher>,
}

/// How long [`Pipeline::stop`] waits for parts on their way.
const DRAIN: Duration = Duration::from_millis(400);

/// How long [`Pipeline::swap`] waits for a stage.
const HANDED_OVER: Duration = Duration::from_secs(5);

/// How long [`Pipeline::stop`] waits for outputs. Systemd grants 5 s for everything.
const LAST_WORDS: Duration = Duration::from_secs(3);

impl Pipeline {
    /// Starts a line. Calls `alive` about ten times a second while no thread hangs.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for impossible settings, [`ErrorKind::Device`] if the trigger's line cannot be
    /// used, [`ErrorKind::Io`] if a thread cannot start.
    pub fn start(setup: Setup, alive: impl FnMut(&Status) + Send + 'static) -> Result<Self> {
        let Setup { clock, stages, camera, framing, health, trigger, halts, lines, line, settings } = setup;
        settings.validate()?;
        line.validate()?;
        framing.validate()?;
        health.validate()?;
        trigger.validate()?;
        let edges = match (&trigger.chip, trigger.line) {
            (Some(chip), Some(number)) => Some(EdgeTrigger::open(chip, number, trigger.falling)?),
            _ => None,
        };
        let status = Arc::new(Status::with_halts(Arc::clone(&stages.engine), halts));
        let (to_gate, gate_rx) = bounded(1024);
        let free_running = trigger.source == TriggerSource::Free;
        let pairing = (!free_running)
            .then(|| Mutex::new(Pairing::new(trigger.window(Timing::default()), settings.queue)));
        let shared = Arc::new(Shared {
            clock: clock.clone(),
            status: Arc::clone(&status),
            stop: AtomicBool::new(false),
            parts: AtomicU64::new(0),
            beats: watch::Beats::new(clock.now()),
            reload: AtomicBool::new(false),
            recipe: AtomicU32::new(NO_RECIPE),
            gate: to_gate.clone(),
            pairing,
            shift: Mutex::new(Shift::new(line.times())),
            edges,
        });
        let publisher = Arc::new(publish::Publisher::default());
        let (to_features, features_rx) = bounded(settings.queue);
        let (to_residuals, residuals_rx) = bounded(1);
        let (to_classify, classify_rx) = bounded(1);
        let slots = settings.queue + 6;
        let (free_tx, free_rx) = bounded(slots);
        for _ in 0..slots {
            let _ = free_tx.send(Box::new(Slot {
                part: 0,
                triggered: clock.now(),
                wall: SystemTime::UNIX_EPOCH,
                record: Arc::new(Record::empty(Arc::clone(&stages.engine))),
                features: Features::default(),
                residuals: FrameResiduals::default(),
                certain: None,
                failed: None,
            }));
        }
        // Room for every part in the queues, so that the gate never waits for the publisher.
        let (to_publisher, published) = bounded(publish::QUEUE);

        let mut pipeline = Pipeline {
            shared: Arc::clone(&shared),
            to_stages: Some(to_features.clone()),
            stages: Vec::new(),
            gate: None,
            after: Vec::new(),
            publisher: Arc::clone(&publisher),
        };
        let back = free_tx.clone();
        let (driver, reins) = driver::driver(Arc::clone(&shared), lines, &line);
        pipeline.after.push(("driver", spawn(&clock, "driver", move || driver.run())?));
        let (times, on_fault) = (line.times(), line.on_fault);
        let gate = gate::Gate::new(Arc::clone(&shared), reins, on_fault, free_tx, to_publisher);
        pipeline.gate = Some(spawn(&clock, "gate", move || gate.run(gate_rx))?);
        let publish = publish::run(Arc::clone(&shared), publisher, published);
        pipeline.after.push(("publisher", spawn(&clock, "publisher", publish)?));
        let watch = watch::run(Arc::clone(&shared), Duration::from_millis(settings.stall_ms), alive);
        pipeline.after.push(("watchdog", spawn(&clock, "watchdog", watch)?));

        let Stages { engine: _, color: _, features, residuals, classify } = stages;
        let classify = stages::classify(Arc::clone(&shared), classify, classify_rx);
        let residuals = stages::residuals(Arc::clone(&shared), residuals, residuals_rx, to_classify);
        let (features_out, features_in) = (to_residuals, features_rx.clone());
        let features =
            stages::features(Arc::clone(&shared), features, features_in, features_out, free_running, times);
        let capture = capture::Capture::new(
            Arc::clone(&shared),
            camera,
            framing,
            health,
            capture::Settings {
                timeout: Duration::from_millis(settings.camera_timeout_ms),
                unjudged: settings.unjudged_percent / 1e2,
                trigger,
            },
            capture::Queues { free: free_rx, back, out: to_features, waiting: features_rx },
        );
        // Receivers start before senders.
        pipeline.stages.push(("classify", spawn(&clock, "classify", classify)?));
        pipeline.stages.push(("residuals", spawn(&clock, "residuals", residuals)?));
        pipeline.stages.push(("features", spawn(&clock, "features", features)?));
        pipeline.stages.push(("camera", spawn(&clock, "camera", move || capture.run())?));
        if shared.edges.is_some() {
            let shared = Arc::clone(&shared);
            pipeline.stages.push(("trigger", spawn(&clock, "trigger", move || watch_edges(&shared))?));
        }
        pipeline.stages.reverse();
        status.set_loading(false);
        Ok(pipeline)
    }

    /// Adds an output. It gets the record of every later part, on its own thread.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the thread cannot be started.
    pub fn attach(&mut self, output: Box<dyn Output>) -> Result<()> {
        let name = output.name();
        let counts = self.shared.status.output(name);
        let subscription = self.publisher.subscribe(publish::QUEUE, Some(counts));
        let run = publish::run_output(Arc::clone(&self.shared), output, subscription);
        self.after.push((name, spawn(&self.shared.clock, name, run)?));
        Ok(())
    }

    /// Subscribes to the record of every later part. A slow subscriber loses the oldest of `capacity`
    /// records.
    pub fn subscribe(&self, capacity: usize) -> Subscription {
        self.publisher.subscribe(capacity.max(1), None)
    }

    /// Triggers a part now and returns its number. The part gets a verdict in any case.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if the camera is free-running.
    pub fn trigger(&self) -> Result<u64> {
        self.shared.trigger()
    }

    /// Rejects everything at the gate for the longest time that a part needs to pass it. For a restart after a
    /// crash: the parts on their way are unknown.
    pub(crate) fn reject_unknown_parts(&self, longest: Duration) {
        let _ = self.shared.clock.send(&self.shared.gate, ToGate::Unknown { longest });
    }

    /// Inspects all parts that are triggered later with other stages. No part is dropped. Returns false if a stage
    /// hangs and did not take them.
    pub fn swap(&self, stages: Stages) -> bool {
        let times = self.shared.shift().times();
        self.change(stages, times)
    }

    /// The same, with other times at the gate for these parts.
    pub(crate) fn change(&self, stages: Stages, times: Times) -> bool {
        let Some(to_stages) = &self.to_stages else { return false };
        let mut pairing = self.shared.pairing();
        if let Some(pairing) = &mut pairing {
            // A trigger of before can still be on its way.
            if let Err(e) = self.shared.take_edges(pairing) {
                self.shared.status.raise("trigger", Severity::Error, e.chain());
            }
        }
        self.shared.shift().begin(self.shared.clock.now(), stages, times);
        drop(pairing);
        let mut limit = Instant::now() + HANDED_OVER;
        loop {
            let mut pairing = self.shared.pairing();
            if let Some(pairing) = &mut pairing {
                // The camera's thread can be in its driver for long.
                let now = self.shared.clock.now();
                self.shared.ask(pairing, |pairing, faults| pairing.expire(now, faults));
            }
            let mut shift = self.shared.shift();
            let waits =
                pairing.as_ref().and_then(|pairing| pairing.oldest()).is_some_and(|at| shift.is_before(at));
            if waits {
                // Their frames come within a time limit of their own.
                limit = Instant::now() + HANDED_OVER;
            } else if !shift.has_one_in_hand() && shift.hand_over(to_stages) {
                return true;
            } else if Instant::now() >= limit {
                shift.give_up();
                drop(shift);
                // The stages of before do not judge what was triggered since.
                if let Some(pairing) = &mut pairing {
                    self.shared.ask(pairing, |pairing, faults| pairing.fail_all(Unpaired::Overflow, faults));
                }
                return false;
            }
            drop((shift, pairing));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// State, counters and times.
    pub fn status(&self) -> &Arc<Status> {
        &self.shared.status
    }

    /// The controls of this line, for outputs.
    pub fn control(&self) -> Arc<dyn Control> {
        Arc::new(Remote(Arc::clone(&self.shared)))
    }

    /// Whether an output asked to reload the configuration, since the last call.
    pub(crate) fn take_reload(&self) -> bool {
        self.shared.reload.swap(false, Relaxed)
    }

    /// The recipe that an output asked for, since the last call.
    pub(crate) fn take_recipe(&self) -> Option<u16> {
        u16::try_from(self.shared.recipe.swap(NO_RECIPE, Relaxed)).ok()
    }

    /// Stops the line. Parts on their way get their verdict, later ones are faults, all lines go to their
    /// safe level, outputs finish. Takes less than a second, unless an output hangs; then it is left behind.
    pub fn stop(mut self) {
        self.end();
    }

    /// The same. Returns what outputs asked for until the end: to reload, and a recipe.
    pub(crate) fn stop_asked(mut self) -> (bool, Option<u16>) {
        self.end();
        (self.take_reload(), self.take_recipe())
    }

    fn end(&mut self) {
        let Some(gate) = self.gate.take() else { return };
        self.shared.status.set_loading(true);
        self.shared.stop.store(true, Relaxed);
        self.to_stages = None;
        let limit = self.shared.clock.now() + DRAIN;
        for (name, thread) in self.stages.drain(..) {
            join(name, thread, || self.shared.clock.now() < limit);
        }
        let _ = self.shared.clock.send(&self.shared.gate, ToGate::Stop);
        join("gate", gate, || true);
        // In real time: disks and networks have no simulated time.
        let limit = Instant::now() + LAST_WORDS;
        for (name, thread) in self.after.drain(..) {
            join(name, thread, || Instant::now() < limit);
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits for the end of a thread while `patience` returns true.
fn join(name: &str, thread: JoinHandle<()>, patience: impl Fn() -> bool) {
    while !thread.is_finished() {
        if !patience() {
            log::warn!("{name}: still at work on its last part; stopping without it");
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    if thread.join().is_err() {
        log::error!("{name}: the thread panicked");
    }
}

fn spawn(clock: &Clock, name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let participant = clock.participant();
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            let _participant = participant;
            run();
        })
        .map_err(|e| Error::new(ErrorKind::Io, format!("cannot start the thread {name}")).with_source(e))
}

/// Triggers a part at every edge.
fn watch_edges(shared: &Shared) {
    let Some(edges) = &shared.edges else { return };
    while !shared.stopping() {
        let result = edges.wait(HEARTBEAT).and_then(|_| match shared.pairing() {
            Some(mut pairing) => shared.take_edges(&mut pairing),
            None => Ok(()),
        });
        match result {
            Ok(()) => shared.status.clear("trigger"),
            Err(e) => {
                shared.status.raise("trigger", Severity::Error, e.chain());
                std::thread::sleep(HEARTBEAT);
            }
        }
    }
}

struct Remote(Arc<Shared>);

impl Control for Remote {
    fn trigger(&self) -> Result<u64> {
        self.0.trigger()
    }

    fn set_halted(&self, halted: bool) -> Result<()> {
        self.0.status.set_halted(halted)
    }

    fn reload(&self) {
        self.0.reload.store(true, Relaxed);
    }

    fn select_recipe(&self, number: u16) {
        self.0.recipe.store(number.into(), Relaxed);
    }

    fn status(&self) -> &Status {
        &self.0.status
    }
}

/// More than any number of a recipe.
const NO_RECIPE: u32 = u32::MAX;

/// Receivers that a thread takes jobs from.
type Jobs = Receiver<Job>;
