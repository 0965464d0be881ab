//! Threads and channels around the inspector's stages: a part's way from the camera to its verdict.
//!
//! ```text
//! camera ──► features ──► residuals ──► classify ──► gate ──► publisher ──► outputs, subscribers
//! ```
//! Each arrow is a bounded channel. Every part gets exactly one verdict, by its deadline: the gate knows of each part from its
//! trigger on, and what has no verdict by then is a fault. The gate serves the reject line first and never waits
//! for an output. Buffers go round: in steady state nothing is allocated per part outside ONNX Runtime.

mod capture;
mod driver;
mod gate;
mod pairing;
mod publish;
mod stages;
#[cfg(test)]
mod tests;
mod watch;

use std::ops::Bound;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use serde::{Deserialize, Serialize};

pub use publish::Subscription;
pub(crate) use stages::SharedStages;
pub use stages::Stages;

use crate::camera::{Framing, HealthSettings, OpenCamera, Timing};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::inspector::{Features, FrameResiduals};
use crate::output::line::{self, EdgeTrigger, Lines};
use crate::output::{Control, Output};
use crate::record::{FaultKind, Halts, Record, Severity, Status};
use crate::settings::range;
use pairing::{Pairing, Unpaired, Window};
use stages::Swap;

/// How often every thread shows that it is alive, and looks whether it is to stop.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// What triggers a part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TriggerSource {
    /// Every frame is a part. When frames come faster than they can be inspected, the oldest waiting one is dropped and
    /// counted.
    #[default]
    Free,
    /// A request, through the web page or [`Pipeline::trigger`].
    Software,
    /// An edge of a GPIO line.
    Gpio,
}

/// What makes a frame a part: `[trigger]` of the configuration.
///
/// A frame shows the part in whose window it was taken: from `frame_after_ms` to `frame_within_ms` after the trigger,
/// by the driver's stamp. The first such frame is inspected. A part without one is a fault, and so is each part to
/// whose window a frame may belong when it is not one part's alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trigger {
    /// What triggers a part.
    pub source: TriggerSource,
    /// The chip of the GPIO line, such as `/dev/gpiochip0`.
    pub chip: Option<PathBuf>,
    /// Number of the GPIO line.
    pub line: Option<u32>,
    /// Falling edges instead of rising ones.
    pub falling: bool,
    /// From the trigger until its frame is taken at the earliest, in milliseconds. Negative where the camera's stamps
    /// are older than the trigger's edge.
    pub frame_after_ms: f64,
    /// From the trigger until its frame is taken at the latest, in milliseconds. Without it one and a half times the
    /// camera's period and its exposure, or 100 where the camera does not tell them.
    pub frame_within_ms: Option<f64>,
    /// Whether the trigger also fires the camera, so that there is exactly one frame per trigger. Then a frame too
    /// many is a fault, too, and a frame without a trigger an alarm.
    pub fires_camera: bool,
}

impl Trigger {
    /// Every frame is a part.
    pub fn free() -> Self {
        Trigger::default()
    }

    /// A request triggers a part.
    pub fn software() -> Self {
        Trigger { source: TriggerSource::Software, ..Trigger::default() }
    }

    /// Checks that the keys fit each other.
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
                let what = "is of no use without a trigger; set trigger.source to \"software\" or \"gpio\"";
                Err(Error::setting(key, what))
            }
            None => Ok(()),
        }
    }

    /// When a part's frame is taken, with a camera of this timing.
    fn window(&self, timing: Timing, deadline: Duration) -> Window {
        const UNKNOWN: Duration = Duration::from_millis(100);
        /// From a frame's stamp until the driver has handed it over: exposure, readout, the way through the bus.
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
        Window {
            after,
            early,
            within,
            patience: deadline.min(within + arrival),
            exclusive: self.fires_camera,
        }
    }
}

/// Queues and patience: `[pipeline]` of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How many parts may wait to be inspected, 1 to 256.
    pub queue: usize,
    /// Without a frame for so long the camera is lost, in milliseconds.
    pub camera_timeout_ms: u64,
    /// A thread that shows no sign of life for so long hangs, in milliseconds. Longer than the slowest inspection.
    pub stall_ms: u64,
    /// When every frame is a part: a larger share of frames that are not inspected is a warning, in percent.
    pub unjudged_percent: f64,
    /// Reading the configuration and loading the package, its golden pictures included, are given up after so long, in
    /// milliseconds. At least 15 minutes where TensorRT builds its engine.
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
    /// Checks that the numbers make sense.
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

/// Everything that a pipeline is made of. Time, camera, lines and outputs are handed in, so that all of it runs with simulated
/// ones, too.
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
    /// Whether the line is halted from its first part on.
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
    /// Until when another frame may come in its window, which would make it a fault.
    certain: Option<Instant>,
    /// Why it cannot be inspected.
    failed: Option<(FaultKind, String)>,
}

/// What goes from stage to stage.
enum Job {
    Part(Box<Slot>),
    /// New stages for the parts behind.
    Swap(Box<Swap>),
}

/// What the gate is told.
enum ToGate {
    /// A part exists.
    Announced { part: u64, triggered: Instant, wall: SystemTime },
    /// A part has been through all stages.
    Done(Box<Slot>),
    /// Parts that nobody knows of may be on their way to the gate.
    Unknown,
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
}

/// What all threads share.
struct Shared {
    clock: Clock,
    status: Arc<Status>,
    stop: AtomicBool,
    parts: AtomicU64,
    beats: watch::Beats,
    reload: AtomicBool,
    /// Every part from its trigger on.
    gate: Sender<ToGate>,
    /// The parts that wait for a frame, unless every frame is a part. Held while a part is triggered, so that whoever
    /// looks for a frame's part knows of every earlier trigger.
    pairing: Option<Mutex<Pairing>>,
    /// The line whose edges trigger parts.
    edges: Option<EdgeTrigger>,
}

impl Shared {
    fn stopping(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Gives a part its number and tells the gate of it.
    fn announce(&self, at: Instant, wall: SystemTime) -> u64 {
        let part = self.parts.fetch_add(1, Relaxed) + 1;
        // The gate outlives all who announce.
        let _ = self.clock.send(&self.gate, ToGate::Announced { part, triggered: at, wall });
        part
    }

    fn fail(&self, part: u64, kind: FaultKind, reason: impl Into<String>) {
        let _ = self.clock.send(&self.gate, ToGate::Failed { part, kind, reason: reason.into() });
    }

    /// Locks the parts that wait for a frame; `None` when every frame is a part.
    fn pairing(&self) -> Option<MutexGuard<'_, Pairing>> {
        Some(self.pairing.as_ref()?.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
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
        let part = self.announce(at, wall);
        if self.stopping() {
            self.unpaired((part, Unpaired::Stopped), pairing);
        } else if let Err(fault) = pairing.trigger(Triggered { part, at, wall }) {
            self.unpaired(fault, pairing);
        }
        part
    }

    /// A moment, told by the wall clock.
    fn wall_at(&self, at: Instant) -> SystemTime {
        let age = self.clock.now().saturating_duration_since(at);
        self.clock.wall().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    fn unpaired(&self, (part, why): pairing::Fault, pairing: &Pairing) {
        self.fail(part, why.kind(), why.reason(pairing.window()));
    }

    /// Triggers a part for each edge that the kernel knows of.
    fn take_edges(&self, pairing: &mut Pairing) -> Result<()> {
        let Some(edges) = &self.edges else { return Ok(()) };
        while let Some(edge) = edges.next()? {
            if edge.lost > 0 {
                let text = format!(
                    "{} parts passed without being told: the trigger's edges came too fast",
                    edge.lost
                );
                self.status.latch(Status::TRIGGER, text);
                let mut faults = Vec::new();
                pairing.lost_trigger(edge.at, &mut faults);
                faults.into_iter().for_each(|fault| self.unpaired(fault, pairing));
            }
            self.trigger_at(pairing, edge.at);
        }
        Ok(())
    }
}

/// A running line. Dropping it stops it.
pub struct Pipeline {
    shared: Arc<Shared>,
    to_stages: Option<Sender<Job>>,
    /// In the order of a part's way: a thread ends when the one before it has.
    stages: Vec<(&'static str, JoinHandle<()>)>,
    gate: Option<JoinHandle<()>>,
    /// First of all the gate's driver, which ends when the gate has.
    after: Vec<(&'static str, JoinHandle<()>)>,
    publisher: Arc<publish::Publisher>,
}

/// How long [`Pipeline::stop`] waits for parts on their way.
const DRAIN: Duration = Duration::from_millis(400);

/// How long [`Pipeline::swap`] waits for a stage.
const HANDED_OVER: Duration = Duration::from_secs(5);

/// How long [`Pipeline::stop`] waits for outputs, whatever the disk or the network does. Systemd grants 5 s for all.
const LAST_WORDS: Duration = Duration::from_secs(3);

impl Pipeline {
    /// Starts a line. `alive` is called about ten times a second while no thread hangs.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for impossible settings; [`ErrorKind::Device`] when the trigger's line cannot be used;
    /// [`ErrorKind::Io`] when a thread cannot be started.
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
        let deadline = line.deadline();
        let pairing = (!free_running)
            .then(|| Mutex::new(Pairing::new(trigger.window(Timing::default(), deadline), settings.queue)));
        let shared = Arc::new(Shared {
            clock: clock.clone(),
            status: Arc::clone(&status),
            stop: AtomicBool::new(false),
            parts: AtomicU64::new(0),
            beats: watch::Beats::new(clock.now()),
            reload: AtomicBool::new(false),
            gate: to_gate.clone(),
            pairing,
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
        // Room for every part that the queues can hold, so that the gate never waits for the publisher.
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
        let gate = gate::Gate::new(Arc::clone(&shared), reins, line, free_tx, to_publisher);
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
            stages::features(Arc::clone(&shared), features, features_in, features_out, free_running);
        let capture = capture::Capture::new(
            Arc::clone(&shared),
            camera,
            framing,
            health,
            capture::Settings {
                timeout: Duration::from_millis(settings.camera_timeout_ms),
                unjudged: settings.unjudged_percent / 1e2,
                trigger,
                deadline,
            },
            capture::Queues { free: free_rx, back, out: to_features, waiting: features_rx },
        );
        // A line in the air is worse than a camera too early: what follows a thread is there before it.
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

    /// Feeds an output with every part's record from now on, on a thread of its own.
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

    /// Every part's record from now on. Who is slower than the line loses the oldest of `capacity` records.
    pub fn subscribe(&self, capacity: usize) -> Subscription {
        self.publisher.subscribe(capacity.max(1), None)
    }

    /// Triggers a part now; gives its number. It gets its verdict whatever happens.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the camera is free-running.
    pub fn trigger(&self) -> Result<u64> {
        self.shared.trigger()
    }

    /// Rejects whatever comes to the gate from now until a part that is triggered now has gone past it: for a line whose
    /// parts on their way were known to a process that died.
    pub(crate) fn reject_unknown_parts(&self) {
        let _ = self.shared.clock.send(&self.shared.gate, ToGate::Unknown);
    }

    /// Inspects all parts behind those on their way with other stages. No part is dropped. False when a stage hangs,
    /// so that they could not be handed over.
    pub fn swap(&self, stages: Stages) -> bool {
        let Some(to_stages) = &self.to_stages else { return false };
        let limit = Instant::now() + HANDED_OVER;
        let mut job = Job::Swap(Box::new(stages.into()));
        loop {
            match to_stages.try_send(job) {
                Ok(()) => return true,
                Err(TrySendError::Full(back)) if Instant::now() < limit => job = back,
                Err(_) => return false,
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// State, counters and times.
    pub fn status(&self) -> &Arc<Status> {
        &self.shared.status
    }

    /// What outputs may ask of this line.
    pub fn control(&self) -> Arc<dyn Control> {
        Arc::new(Remote(Arc::clone(&self.shared)))
    }

    /// Whether an output asked for the configuration to be read again, since this was asked last.
    pub(crate) fn take_reload(&self) -> bool {
        self.shared.reload.swap(false, Relaxed)
    }

    /// Stops the line: parts on their way get their verdict, those behind are faults, all lines go to their safe
    /// level, outputs finish. Takes less than a second unless an output hangs, which is left behind then.
    pub fn stop(mut self) {
        self.end();
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
        // In real time: disks and networks know no other.
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

/// Waits for the end of a thread, while there is `patience`.
fn join(name: &str, thread: JoinHandle<()>, patience: impl Fn() -> bool) {
    while !thread.is_finished() {
        if !patience() {
            log::error!("{name}: does not end; left behind");
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    if thread.join().is_err() {
        log::error!("{name}: ended by a bug");
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

/// Triggers a part at every edge as soon as it comes.
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

    fn status(&self) -> &Status {
        &self.0.status
    }
}

/// Receivers that a thread takes jobs from.
type Jobs = Receiver<Job>;
