//! The inspector's three stages, each on a thread of its own.

use std::sync::{Arc, Mutex};

use crossbeam_channel::{RecvTimeoutError, Sender};

use super::watch::Thread;
use super::{HEARTBEAT, Job, Jobs, Shared, Slot, ToGate};
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::{Color, Frame};
use crate::inspector::{Features, FrameResiduals, Inspection, Inspector};
use crate::output::line::Times;
use crate::record::{Engine, FaultKind};

type Stage<In, Out> = Box<dyn FnMut(&In, &mut Out) -> Result<()> + Send>;
type FeaturesStage = Stage<Frame, Features>;
type ResidualsStage = Stage<Features, FrameResiduals>;
type ClassifyStage = Stage<FrameResiduals, Inspection>;

/// The stages of an [`Inspector`], or stand-ins of a test.
pub struct Stages {
    /// Product, package, provider and threshold.
    pub engine: Arc<Engine>,
    /// Color of the frames.
    pub color: Color,
    /// Frame → tokens.
    pub features: FeaturesStage,
    /// Tokens → residuals.
    pub residuals: ResidualsStage,
    /// Residuals → map, score, regions, verdict.
    pub classify: ClassifyStage,
}

impl Stages {
    /// The stages of an inspector.
    pub fn new(inspector: Inspector) -> Self {
        let engine = Engine {
            product: inspector.product().to_owned(),
            package: inspector.package().to_owned(),
            provider: inspector.provider().to_string(),
            threshold: inspector.threshold(),
            recipe: 0,
        };
        let color = inspector.color();
        let (mut features, mut residuals, mut classify) = inspector.into_stages();
        Stages {
            engine: Arc::new(engine),
            color,
            features: Box::new(move |frame, out| features.run(frame, out)),
            residuals: Box::new(move |tokens, out| residuals.run(tokens, out)),
            classify: Box::new(move |tokens, out| classify.run(tokens, out)),
        }
    }
}

impl Stages {
    /// The same for the recipe with this number.
    pub(crate) fn of_recipe(mut self, recipe: u16) -> Self {
        Arc::make_mut(&mut self.engine).recipe = recipe;
        self
    }

    /// Stand-ins without a package: every part is a fault for this reason.
    pub(crate) fn without_package(reason: &str) -> Self {
        fn refuse<In, Out>(reason: &str) -> Stage<In, Out> {
            let reason = reason.to_owned();
            Box::new(move |_, _| Err(Error::new(ErrorKind::Usage, reason.clone())))
        }
        let none = Engine {
            product: String::new(),
            package: String::new(),
            provider: String::new(),
            threshold: 0.0,
            recipe: 0,
        };
        Stages {
            engine: Arc::new(none),
            color: Color::Rgb,
            features: refuse(reason),
            residuals: refuse(reason),
            classify: refuse(reason),
        }
    }
}

/// Stages for several lines in a row. If a new configuration cannot be used, the old stages go on without a
/// read from disk.
#[derive(Clone)]
pub struct SharedStages {
    engine: Arc<Engine>,
    color: Color,
    features: Arc<Mutex<FeaturesStage>>,
    residuals: Arc<Mutex<ResidualsStage>>,
    classify: Arc<Mutex<ClassifyStage>>,
}

impl SharedStages {
    /// What inspects the parts.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Color of the frames.
    pub fn color(&self) -> Color {
        self.color
    }

    /// Whether a package inspects the parts.
    pub fn has_package(&self) -> bool {
        !self.engine.package.is_empty()
    }

    /// Stages for a line. Only one line runs at a time, so none waits for another.
    pub fn stages(&self) -> Stages {
        /// The next part refills the buffers of a stage that panicked.
        fn run<In, Out>(stage: &Mutex<Stage<In, Out>>, from: &In, to: &mut Out) -> Result<()> {
            stage.lock().unwrap_or_else(|e| e.into_inner())(from, to)
        }
        let (features, residuals, classify) =
            (Arc::clone(&self.features), Arc::clone(&self.residuals), Arc::clone(&self.classify));
        Stages {
            engine: Arc::clone(&self.engine),
            color: self.color,
            features: Box::new(move |from, to| run(&features, from, to)),
            residuals: Box::new(move |from, to| run(&residuals, from, to)),
            classify: Box::new(move |from, to| run(&classify, from, to)),
        }
    }
}

impl From<Stages> for SharedStages {
    fn from(stages: Stages) -> Self {
        let Stages { engine, color, features, residuals, classify } = stages;
        SharedStages {
            engine,
            color,
            features: Arc::new(Mutex::new(features)),
            residuals: Arc::new(Mutex::new(residuals)),
            classify: Arc::new(Mutex::new(classify)),
        }
    }
}

/// New stages on their way to the threads, in the order of the parts. Each thread takes its own and passes
/// the rest on.
pub(super) struct Swap {
    engine: Arc<Engine>,
    times: Times,
    features: Option<FeaturesStage>,
    residuals: Option<ResidualsStage>,
    classify: Option<ClassifyStage>,
}

impl Swap {
    pub(super) fn new(stages: Stages, times: Times) -> Self {
        let Stages { engine, color: _, features, residuals, classify } = stages;
        Swap { engine, times, features: Some(features), residuals: Some(residuals), classify: Some(classify) }
    }
}

/// The kind of fault of a stage's error.
fn kind_of(error: &Error) -> FaultKind {
    match error.kind() {
        ErrorKind::Image => FaultKind::WrongFormat,
        ErrorKind::NotFinite => FaultKind::NotFinite,
        _ => FaultKind::Inspection,
    }
}

/// Processes jobs until all senders are gone.
fn each(shared: &Shared, thread: Thread, jobs: &Jobs, mut work: impl FnMut(Job)) {
    loop {
        shared.beats.beat(thread, shared.clock.now());
        match shared.clock.recv(jobs, shared.clock.now() + HEARTBEAT) {
            Ok(job) => work(job),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Runs a stage on a part, unless the part already failed.
fn attempt(slot: &mut Slot, stage: impl FnOnce(&mut Slot) -> Result<()>) {
    if slot.failed.is_none()
        && let Err(e) = stage(slot)
    {
        slot.failed = Some((kind_of(&e), e.chain()));
    }
}

pub(super) fn features(
    shared: Arc<Shared>,
    mut stage: FeaturesStage,
    jobs: Jobs,
    out: Sender<Job>,
    free_running: bool,
    mut times: Times,
) -> impl FnOnce() + Send {
    let mut engine = shared.status.engine();
    move || {
        each(&shared, Thread::Features, &jobs, |mut job| {
            match &mut job {
                Job::Swap(swap) => {
                    (engine, times) = (Arc::clone(&swap.engine), swap.times);
                    if let Some(new) = swap.features.take() {
                        stage = new;
                    }
                }
                Job::Part(slot) => {
                    if free_running {
                        // From here on the frame cannot be dropped for a newer one.
                        slot.part = shared.announce(slot.triggered, slot.wall, times);
                    }
                    let record = Arc::make_mut(&mut slot.record);
                    record.engine = Arc::clone(&engine);
                    attempt(slot, |slot| stage(&slot.record.frame_buffer, &mut slot.features));
                }
            }
            let _ = shared.clock.send(&out, job);
        });
    }
}

pub(super) fn residuals(
    shared: Arc<Shared>,
    mut stage: ResidualsStage,
    jobs: Jobs,
    out: Sender<Job>,
) -> impl FnOnce() + Send {
    move || {
        each(&shared, Thread::Residuals, &jobs, |mut job| {
            match &mut job {
                Job::Swap(swap) => {
                    if let Some(new) = swap.residuals.take() {
                        stage = new;
                    }
                }
                Job::Part(slot) => attempt(slot, |slot| stage(&slot.features, &mut slot.residuals)),
            }
            let _ = shared.clock.send(&out, job);
        });
    }
}

pub(super) fn classify(shared: Arc<Shared>, mut stage: ClassifyStage, jobs: Jobs) -> impl FnOnce() + Send {
    move || {
        each(&shared, Thread::Classify, &jobs, |job| match job {
            Job::Swap(mut swap) => {
                if let Some(new) = swap.classify.take() {
                    stage = new;
                }
                log::info!("package {} of {} is in use", swap.engine.package, swap.engine.product);
                shared.status.set_engine(Arc::clone(&swap.engine));
                shared.status.counts.swaps.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            Job::Part(mut slot) => {
                attempt(&mut slot, |slot| {
                    let record = Arc::make_mut(&mut slot.record);
                    stage(&slot.residuals, &mut record.inspection_buffer)?;
                    let score = record.inspection_buffer.score;
                    if !score.is_finite() {
                        return Err(Error::new(ErrorKind::NotFinite, "the score is not a finite number"));
                    }
                    record.has_inspection = true;
                    Ok(())
                });
                let _ = shared.clock.send(&shared.gate, ToGate::Done(slot));
            }
        });
    }
}
