//! Threads and channels around the inspector's stages: a part's way from the camera to its verdict.
//!
//! ```text
//! camera ──► features ──► residuals ──► classify ──► gate ──► publisher ──► outputs, subscribers
//! ```
//! Each arrow is a bounded channel. Every part gets exactly one verdict, by its deadline: the gate knows of each part from its
//! trigger on, and what has no verdict by then is a fault. The gate serves the reject line first and never waits
//! for an output. Buffers go round: in steady state nothing is allocated per part outside ONNX Runtime.

mod capture;
mod gate;
mod publish;
mod stages;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};

pub use publish::Subscription;
pub use stages::Stages;

use crate::camera::{Framing, HealthSettings, OpenCamera};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::inspector::{Features, FrameResiduals};
use crate::output::line::{self, EdgeTrigger, Lines};
use crate::output::{Control, Output};
use crate::record::{FaultKind, Record, Severity, Status};
use stages::Swap;

/// How often every thread shows that it is alive, and looks whether it is to stop.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// What makes a frame a part: `[trigger]` of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "lowercase", deny_unknown_fields)]
pub enum Trigger {
    /// Every frame is a part. When frames come faster than they can be inspected, the oldest waiting one is dropped and
    /// counted.
    #[default]
    Free,
    /// A request, through the web page or [`Pipeline::trigger`]. The next frame shows the part.
    Software,
    /// An edge of a GPIO line. The next frame shows the part.
    Gpio {
        /// The chip, such as `/dev/gpiochip0`.
        chip: std::path::PathBuf,
        /// Number of the line.
        line: u32,
        /// Falling edges instead of rising ones.
        #[serde(default)]
        falling: bool,
    },
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
}

impl Default for Settings {
    fn default() -> Self {
        Settings { queue: 4, camera_timeout_ms: 1_000, stall_ms: 5_000 }
    }
}

impl Settings {
    /// Checks that the numbers make sense.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] naming the key.
    pub fn validate(&self) -> Result<()> {
        let within = |key: &str, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(Error::new(
                ErrorKind::Usage,
                format!("pipeline.{key} must be {least} to {most}, not {value}"),
            ))
        };
        within("queue", self.queue as u64, 1, 256)?;
        within("camera_timeout_ms", self.camera_timeout_ms, 10, 3_600_000)?;
        within("stall_ms", self.stall_ms, 500, 600_000)
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
    /// The lines.
    pub lines: Box<dyn Lines>,
    /// How the gate is driven.
    pub line: line::Settings,
    /// Queues and patience.
    pub settings: Settings,
}

/// A part on its way.
struct Slot {
    part: u64,
    triggered: Instant,
    wall: SystemTime,
    record: Arc<Record>,
    features: Features,
    residuals: FrameResiduals,
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
    /// A part cannot be inspected.
    Failed { part: u64, kind: FaultKind, reason: String },
    /// No more parts come.
    Stop,
}

/// A part that was triggered and waits for its frame.
#[derive(Debug, Clone, Copy)]
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
    /// Every part from its trigger on; and the triggers that wait for a frame, unless every frame is a part.
    gate: Sender<ToGate>,
    triggers: Option<Sender<Triggered>>,
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

    fn trigger_at(&self, at: Instant) -> Result<u64> {
        let Some(triggers) = &self.triggers else {
            return Err(Error::new(
                ErrorKind::Usage,
                "the camera is free-running: every frame is a part; set trigger.source to \"software\"",
            ));
        };
        let wall = self.clock.wall();
        let part = self.announce(at, wall);
        if self.stopping() {
            self.fail(part, FaultKind::Stopped, "the service is stopping");
        } else if triggers.try_send(Triggered { part, at, wall }).is_err() {
            self.fail(part, FaultKind::Overflow, "parts come faster than they can be inspected");
        }
        Ok(part)
    }
}

/// A running line. Dropping it stops it.
pub struct Pipeline {
    shared: Arc<Shared>,
    to_stages: Option<Sender<Job>>,
    /// In the order of a part's way: a thread ends when the one before it has.
    stages: Vec<(&'static str, JoinHandle<()>)>,
    gate: Option<JoinHandle<()>>,
    after: Vec<(&'static str, JoinHandle<()>)>,
    publisher: Arc<publish::Publisher>,
}

/// How long [`Pipeline::stop`] waits for parts on their way.
const DRAIN: Duration = Duration::from_millis(400);

impl Pipeline {
    /// Starts a line. `alive` is called about ten times a second while no thread hangs.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for impossible settings; [`ErrorKind::Device`] when the trigger's line cannot be used;
    /// [`ErrorKind::Io`] when a thread cannot be started.
    pub fn start(setup: Setup, alive: impl FnMut(&Status) + Send + 'static) -> Result<Self> {
        let Setup { clock, stages, camera, framing, health, trigger, lines, line, settings } = setup;
        settings.validate()?;
        line.validate()?;
        framing.validate()?;
        health.validate()?;
        let edges = match &trigger {
            Trigger::Gpio { chip, line, falling } => Some(EdgeTrigger::open(chip, *line, *falling)?),
            Trigger::Free | Trigger::Software => None,
        };
        let status = Arc::new(Status::new(Arc::clone(&stages.engine)));
        let (to_gate, gate_rx) = bounded(1024);
        let (triggers_tx, triggers) = match trigger {
            Trigger::Free => (None, None),
            _ => {
                let (tx, rx) = bounded(settings.queue);
                (Some(tx), Some(rx))
            }
        };
        let shared = Arc::new(Shared {
            clock: clock.clone(),
            status: Arc::clone(&status),
            stop: AtomicBool::new(false),
            parts: AtomicU64::new(0),
            beats: watch::Beats::new(clock.now()),
            reload: AtomicBool::new(false),
            gate: to_gate.clone(),
            triggers: triggers_tx,
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
                failed: None,
            }));
        }
        // Room for every part that the queues can hold, so that the gate never waits for the publisher.
        let (to_publisher, published) = bounded(publish::QUEUE);

        let free_running = triggers.is_none();
        let mut pipeline = Pipeline {
            shared: Arc::clone(&shared),
            to_stages: Some(to_features.clone()),
            stages: Vec::new(),
            gate: None,
            after: Vec::new(),
            publisher: Arc::clone(&publisher),
        };
        let back = free_tx.clone();
        let gate = gate::Gate::new(Arc::clone(&shared), lines, line, free_tx, to_publisher);
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
            Duration::from_millis(settings.camera_timeout_ms),
            capture::Queues { free: free_rx, back, out: to_features, waiting: features_rx, triggers },
        );
        // A line in the air is worse than a camera too early: what follows a thread is there before it.
        pipeline.stages.push(("classify", spawn(&clock, "classify", classify)?));
        pipeline.stages.push(("residuals", spawn(&clock, "residuals", residuals)?));
        pipeline.stages.push(("features", spawn(&clock, "features", features)?));
        pipeline.stages.push(("camera", spawn(&clock, "camera", move || capture.run())?));
        if let Some(edges) = edges {
            let shared = Arc::clone(&shared);
            pipeline
                .stages
                .push(("trigger", spawn(&clock, "trigger", move || watch_edges(&shared, &edges))?));
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
        self.shared.trigger_at(self.shared.clock.now())
    }

    /// Inspects all parts behind those on their way with other stages. No part is dropped.
    pub fn swap(&self, stages: Stages) {
        if let Some(to_stages) = &self.to_stages {
            let _ = self.shared.clock.send(to_stages, Job::Swap(Box::new(stages.into())));
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
    pub fn take_reload(&self) -> bool {
        self.shared.reload.swap(false, Relaxed)
    }

    /// Stops the line: parts on their way get their verdict, those behind are faults, all lines go to their safe
    /// level, outputs finish. Takes less than a second unless an output hangs.
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
            while !thread.is_finished() && self.shared.clock.now() < limit {
                std::thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                join(name, thread);
            } else {
                log::error!("{name}: does not end; left behind");
            }
        }
        let _ = self.shared.clock.send(&self.shared.gate, ToGate::Stop);
        join("gate", gate);
        for (name, thread) in self.after.drain(..) {
            join(name, thread);
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.end();
    }
}

fn join(name: &str, thread: JoinHandle<()>) {
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

/// Triggers a part at every edge.
fn watch_edges(shared: &Shared, edges: &EdgeTrigger) {
    while !shared.stopping() {
        match edges.wait(HEARTBEAT) {
            Ok(None) => shared.status.clear("trigger"),
            Ok(Some(at)) => {
                shared.status.clear("trigger");
                let _ = shared.trigger_at(at);
            }
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
        self.0.trigger_at(self.0.clock.now())
    }

    fn set_halted(&self, halted: bool) {
        self.0.status.set_halted(halted);
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
