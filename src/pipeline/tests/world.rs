//! A line in simulated time: a camera that shows what it is told, stages that look at brightness, lines that
//! note their edges.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::camera::{Camera, Framing, HealthSettings, OpenCamera, Scene, SimulatedOpener};
use crate::clock::{Clock, Simulation};
use crate::output::Output;
use crate::output::line::{Edge, Line, Settings as LineSettings, SimulatedLines};
use crate::pipeline::{Pipeline, Settings, Setup, Stages, Subscription, Trigger};
use crate::record::{Engine, FaultKind, Record, State, Status};
use crate::{Color, Error, ErrorKind, Frame, Verdict};

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A picture of one brightness, with a little texture so that nothing takes it for a fault.
pub fn picture(brightness: u8) -> Frame {
    let pixels = (0..32 * 24).map(|i| brightness.saturating_add((i % 3) as u8)).collect();
    Frame::new(32, 24, Color::Gray, pixels).unwrap()
}

pub const GOOD: u8 = 60;
pub const BAD: u8 = 160;

/// What the stages do, besides their work.
#[derive(Debug, Clone, Default)]
pub struct Behavior {
    pub features: Duration,
    pub residuals: Duration,
    pub classify: Duration,
    pub nan: bool,
    pub fails: bool,
}

pub type Shared<T> = Arc<Mutex<T>>;

/// Stages that reject what is brighter than 100.
pub fn stages(clock: &Clock, behavior: &Shared<Behavior>, package: &str) -> Stages {
    let work = |pick: fn(&Behavior) -> Duration| {
        let (clock, behavior) = (clock.clone(), Arc::clone(behavior));
        move || {
            let time = pick(&behavior.lock().unwrap());
            if time > Duration::ZERO {
                clock.sleep_until(clock.now() + time);
            }
        }
    };
    let (features, residuals, classify) = (work(|b| b.features), work(|b| b.residuals), work(|b| b.classify));
    let (at_features, at_classify) = (Arc::clone(behavior), Arc::clone(behavior));
    Stages {
        engine: Arc::new(Engine {
            product: "disc".into(),
            package: package.into(),
            provider: "simulated".into(),
            threshold: 100.0,
            recipe: 0,
        }),
        color: Color::Gray,
        features: Box::new(move |frame, out| {
            features();
            if frame.color() != Color::Gray {
                return Err(Error::new(ErrorKind::Image, "the picture is color"));
            }
            if at_features.lock().unwrap().fails {
                return Err(Error::new(ErrorKind::Model, "the network failed"));
            }
            out.tokens = vec![ndarray::Array2::from_elem((1, 1), f32::from(frame.pixels()[300]))];
            Ok(())
        }),
        residuals: Box::new(move |tokens, out| {
            residuals();
            out.scales.resize_with(1, Default::default);
            out.scales[0].norms = vec![tokens.tokens[0][[0, 0]]];
            Ok(())
        }),
        classify: Box::new(move |residuals, out| {
            classify();
            out.score = residuals.scales[0].norms[0];
            if at_classify.lock().unwrap().nan {
                out.score = f32::NAN;
            }
            out.verdict = if out.score > 100.0 { Verdict::Reject } else { Verdict::Pass };
            Ok(())
        }),
    }
}

pub struct Options {
    pub trigger: Trigger,
    pub line: LineSettings,
    pub settings: Settings,
    pub period: Duration,
    pub outputs: Vec<Box<dyn Output>>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            trigger: Trigger::software(),
            line: LineSettings {
                travel_ms: 200.0,
                pulse_ms: 20.0,
                deadline_ms: Some(150.0),
                ..Default::default()
            },
            settings: Settings { stall_ms: 1000, ..Settings::default() },
            period: ms(10),
            outputs: Vec::new(),
        }
    }
}

struct SlowOpener {
    opener: SimulatedOpener,
    opening: Shared<Duration>,
}

impl OpenCamera for SlowOpener {
    fn open(&mut self) -> crate::Result<Box<dyn Camera>> {
        let time = *self.opening.lock().unwrap();
        self.opener.clock.sleep_until(self.opener.clock.now() + time);
        self.opener.open()
    }

    fn describe(&self) -> String {
        self.opener.describe()
    }
}

pub struct World {
    // Dropped first, so that a failing test does not leave the threads waiting for time.
    pub simulation: Simulation,
    pub clock: Clock,
    pub start: Instant,
    pub scene: Scene,
    pub lines: SimulatedLines,
    pub behavior: Shared<Behavior>,
    /// How long opening the camera takes.
    pub opening: Shared<Duration>,
    pub alive: Arc<AtomicU64>,
    pub records: Subscription,
    pub pipeline: Option<Pipeline>,
}

impl World {
    pub fn new() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        let (clock, simulation) = Simulation::start();
        Self::on(clock, simulation, options)
    }

    pub fn on(clock: Clock, simulation: Simulation, options: Options) -> Self {
        let scene = Scene::new(picture(GOOD), options.period);
        let lines = SimulatedLines::new(clock.clone());
        let behavior = Shared::default();
        let alive = Arc::new(AtomicU64::new(0));
        let opening = Shared::default();
        let setup = Setup {
            clock: clock.clone(),
            stages: stages(&clock, &behavior, "first"),
            camera: Box::new(SlowOpener {
                opener: SimulatedOpener { scene: scene.clone(), clock: clock.clone() },
                opening: Arc::clone(&opening),
            }),
            framing: Framing::default(),
            health: HealthSettings::default(),
            trigger: options.trigger,
            halts: Default::default(),
            lines: lines.handle(),
            line: options.line,
            settings: options.settings,
        };
        let count = Arc::clone(&alive);
        let pipeline = Pipeline::start(setup, move |_: &Status| {
            count.fetch_add(1, Relaxed);
        });
        let mut pipeline = pipeline.unwrap();
        for output in options.outputs {
            pipeline.attach(output).unwrap();
        }
        let records = pipeline.subscribe(1000);
        let start = clock.now();
        let world = World {
            simulation,
            clock,
            start,
            scene,
            lines,
            behavior,
            opening,
            alive,
            records,
            pipeline: Some(pipeline),
        };
        // The camera gives its first frames.
        world.run(50);
        world
    }

    pub fn pipeline(&self) -> &Pipeline {
        self.pipeline.as_ref().unwrap()
    }

    pub fn status(&self) -> &Status {
        self.pipeline().status()
    }

    pub fn state(&self) -> State {
        self.status().state()
    }

    /// Milliseconds of simulated time pass.
    pub fn run(&self, time: u64) {
        self.simulation.advance(ms(time)).unwrap();
    }

    /// Triggers a part that the camera sees so; gives its number.
    pub fn part(&self, brightness: u8) -> u64 {
        self.scene.show(picture(brightness));
        self.pipeline().trigger().unwrap()
    }

    /// The records since this was called last, in the order of their verdicts.
    pub fn told(&self) -> Vec<Arc<Record>> {
        self.records.try_iter().collect()
    }

    /// Part and verdict or kind of fault of each record since this was called last.
    pub fn verdicts(&self) -> Vec<(u64, String)> {
        self.told().iter().map(|r| (r.part, word(r))).collect()
    }

    /// Times of a line's edges in milliseconds after `since`, with the level.
    pub fn edges(&self, line: Line, since: Instant) -> Vec<(u128, bool)> {
        let after = |e: &Edge| (e.at.saturating_duration_since(since).as_millis(), e.active);
        self.lines.edges(line).iter().filter(|e| e.at >= since).map(after).collect()
    }

    /// Stops the line while time goes on.
    pub fn stop(&mut self) {
        let pipeline = self.pipeline.take().unwrap();
        let stopping = std::thread::spawn(move || pipeline.stop());
        while !stopping.is_finished() {
            self.run(5);
        }
        stopping.join().unwrap();
    }
}

pub fn word(record: &Record) -> String {
    match (&record.verdict, record.fault) {
        (Verdict::Pass, None) => "pass".into(),
        (Verdict::Reject, None) => "reject".into(),
        (Verdict::Fault(reason), Some(kind)) if !reason.is_empty() => FaultKind::name(kind).into(),
        other => panic!("{other:?}"),
    }
}
