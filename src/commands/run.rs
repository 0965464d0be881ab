//! `weakrest run`: the service.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::config::Config;
use crate::onnx::{Interrupt, Provider};
use crate::output::journal::Journal;
use crate::output::line::{self, HeldLines, Line, Lines};
use crate::output::mqtt::Mqtt;
use crate::output::pictures::{Originals, Pictures};
use crate::output::web::WebPage;
use crate::output::{Labeling, Output, Reopening, run_id};
use crate::pipeline::{Pipeline, Settings, Setup, SharedStages, Stages};
use crate::record::{Halts, Part, Record, Severity};
use crate::state::StateFolder;
use crate::{Error, ErrorKind, Result};
use clap::Args;
use crossbeam_channel::{Receiver, TryRecvError, bounded};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::alarms::Alarms;
use super::{Outcome, StateArguments, advice, inspector};

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    state: StateArguments,
    /// Print a JSON object per part and line
    #[arg(long)]
    json: bool,
    /// Stop after so many seconds, for trials
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u32>,
}

/// The file of the state folder that is there while the service runs, and after it died.
const RUNNING: &str = "running.json";

/// How often signals are looked at.
const POLL: Duration = Duration::from_millis(20);

/// TensorRT builds its engine on the first load, which takes minutes.
const BUILT: Duration = Duration::from_secs(15 * 60);

/// So many attempts to load may hang at the same time: each takes memory, and maybe a core.
const MOST_HANGING: usize = 3;

/// After which a line that could not be set up is tried again.
const RETRY: Duration = Duration::from_secs(1);

impl Run {
    pub fn run(self) -> Result<Outcome> {
        let cannot = |e| Error::new(ErrorKind::Io, "cannot receive signals").with_source(e);
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(cannot)?;
        let mut loader = Loader { path: self.config.clone(), running: None, hanging: Vec::new() };
        let result = self.serve(&mut signals, &mut loader);
        if loader.hangs() {
            // The process must not wait for a network that never ends, nor take ONNX Runtime from under it.
            let code = match &result {
                Ok(_) => 0,
                Err(e) => {
                    remark!("error: {}", advice::chain(e));
                    e.kind().exit_code()
                }
            };
            signal_hook::low_level::exit(code.into());
        }
        result
    }

    fn serve(&self, signals: &mut Signals, loader: &mut Loader) -> Result<Outcome> {
        loader.begin(Duration::from_millis(Settings::default().load_timeout_ms))?;
        let (config, stages) = loop {
            if signals.pending().any(|signal| signal != SIGHUP) {
                return Ok(Outcome::Pass);
            }
            if let Some(loaded) = loader.poll() {
                break loaded?;
            }
            std::thread::sleep(POLL);
        };
        let state = self.state.folder(&self.config);
        let ended_well = state.read::<u32>(RUNNING).is_ok_and(|process| process.is_none());
        let site = Site { halts: Halts::open(state.clone())?, state, json: self.json };
        let mut alarms = Alarms::read(site.state.clone());
        let pipeline = site.start(&config, &stages, config.line.open()?)?;
        let mut line =
            Running { site, config, stages, pipeline: Some(pipeline), retry: Instant::now(), refused: None };
        if let Some(pipeline) = &line.pipeline {
            alarms.follow(pipeline.status());
        }
        if let Err(e) = line.site.state.write(RUNNING, &std::process::id()) {
            log::warn!("a restart would not know of parts between camera and gate: {}", e.chain());
        }
        if let (false, Some(pipeline)) = (ended_well, &line.pipeline) {
            log::warn!(
                "the service did not end in good order: whatever is between camera and gate now is rejected"
            );
            pipeline.reject_unknown_parts();
        }
        tell(&[NotifyState::Ready]);
        log::info!("ready");

        let until = self.seconds.map(|s| Instant::now() + Duration::from_secs(s.into()));
        let mut reload = false;
        'running: loop {
            reload |= line.pipeline.as_ref().is_some_and(Pipeline::take_reload);
            for signal in signals.pending() {
                match signal {
                    SIGHUP => reload = true,
                    _ => break 'running,
                }
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
            // Asked again while loading, it loads again: what was read may be old already. The line goes on meanwhile
            // with what it has.
            if reload && loader.running.is_none() {
                reload = false;
                if let Err(e) = loader.begin(limit_of(&line.config)) {
                    line.told(Err(e));
                }
            }
            match loader.poll() {
                Some(Ok((new, stages))) => {
                    let changed = line.change(new, stages);
                    line.told(changed);
                }
                Some(Err(e)) => line.told(Err(e)),
                None => {}
            }
            line.retry();
            if let Some(pipeline) = &line.pipeline {
                alarms.follow(pipeline.status());
            }
            std::thread::sleep(POLL);
        }
        tell(&[NotifyState::Stopping]);
        log::info!("stopping");
        if let Some(pipeline) = line.pipeline {
            pipeline.stop();
        }
        alarms.keep();
        for result in [HeldLines::forget(&line.site.state), line.site.state.remove(RUNNING)] {
            if let Err(e) = result {
                log::warn!("line: {}", e.chain());
            }
        }
        Ok(Outcome::Pass)
    }
}

/// How long loading may take.
fn limit_of(config: &Config) -> Duration {
    let limit = Duration::from_millis(config.pipeline.load_timeout_ms);
    if config.inspection.providers.contains(&Provider::TensorRt) { limit.max(BUILT) } else { limit }
}

/// Reads the configuration and what it names, on a thread of its own: a network may never end, a disk never answer.
struct Loader {
    path: PathBuf,
    running: Option<Attempt>,
    hanging: Vec<JoinHandle<()>>,
}

struct Attempt {
    thread: JoinHandle<()>,
    loaded: Receiver<Result<(Config, SharedStages)>>,
    begun: Instant,
    /// In milliseconds, as the configuration says once it was read.
    limit: Arc<AtomicU64>,
    interrupt: Interrupt,
}

impl Loader {
    /// Begins to load, and gives up after `limit` what was not even read by then.
    fn begin(&mut self, limit: Duration) -> Result<()> {
        if self.hangs() && self.hanging.len() >= MOST_HANGING {
            let text =
                format!("{MOST_HANGING} attempts to load hang already; restart the service once it can load");
            return Err(Error::new(ErrorKind::Runtime, text));
        }
        let milliseconds = |limit: Duration| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let (done, loaded) = bounded(1);
        let limit = Arc::new(AtomicU64::new(milliseconds(limit)));
        let interrupt = Interrupt::default();
        let (path, known, theirs) = (self.path.clone(), Arc::clone(&limit), interrupt.clone());
        let load = move || {
            let config = Config::read(&path)?;
            known.store(milliseconds(limit_of(&config)), Relaxed);
            let stages = load(&config, theirs)?;
            Ok((config, stages.into()))
        };
        let thread = std::thread::Builder::new()
            .name("load".into())
            .spawn(move || {
                // Nobody listens any more to one that was given up.
                let _ = done.send(load());
            })
            .map_err(|e| Error::new(ErrorKind::Io, "cannot start the thread that loads").with_source(e))?;
        self.running = Some(Attempt { thread, loaded, begun: Instant::now(), limit, interrupt });
        Ok(())
    }

    /// What was loaded, or why it was not, once.
    fn poll(&mut self) -> Option<Result<(Config, SharedStages)>> {
        let attempt = self.running.take()?;
        let limit = Duration::from_millis(attempt.limit.load(Relaxed));
        match attempt.loaded.try_recv() {
            Ok(loaded) => Some(loaded),
            Err(TryRecvError::Disconnected) => {
                Some(Err(Error::new(ErrorKind::Usage, "reading the configuration ended by a bug")))
            }
            Err(TryRecvError::Empty) if attempt.begun.elapsed() < limit => {
                self.running = Some(attempt);
                None
            }
            Err(TryRecvError::Empty) => {
                attempt.interrupt.interrupt();
                self.hanging.push(attempt.thread);
                let text = format!(
                    "loading did not end within {} s and was given up; look at the package's networks and at the \
                     disk, or raise pipeline.load_timeout_ms",
                    limit.as_secs()
                );
                Some(Err(Error::new(ErrorKind::Runtime, text).within(self.path.display())))
            }
        }
    }

    /// Whether an attempt that was given up still runs.
    fn hangs(&mut self) -> bool {
        self.hanging.retain(|thread| !thread.is_finished());
        !self.hanging.is_empty() || self.running.is_some()
    }
}

/// Loads and verifies the package, its golden pictures included.
fn load(config: &Config, interrupt: Interrupt) -> Result<Stages> {
    let settings = &config.inspection;
    let package = settings.open_package().map_err(|e| config.locate(e))?;
    let mut options = settings.options();
    options.execution.interrupt = interrupt;
    let inspector = inspector(&settings.package, package, &options)?;
    let (product, package, provider) = (inspector.product(), inspector.package(), inspector.provider());
    log::info!("{product}: package {package}, networks run on {provider}");
    Ok(Stages::new(inspector))
}

/// The line that runs, with what it was made of.
struct Running {
    site: Site,
    config: Config,
    stages: SharedStages,
    /// None while not even what was in use before can be set up again.
    pipeline: Option<Pipeline>,
    retry: Instant,
    /// Why the configuration that was read last is not in use.
    refused: Option<String>,
}

impl Running {
    /// Puts a new configuration into effect. Only where more than the inspection changed does the line stop for a moment.
    ///
    /// # Errors
    /// Why it cannot be. What was in use before is in use then, out of the memory: its package may be gone by now.
    fn change(&mut self, new: Config, stages: SharedStages) -> Result<()> {
        let same_line = Config { inspection: self.config.inspection.clone(), ..new.clone() } == self.config;
        // A camera gives the color that its parts were enrolled in.
        let same_camera = stages.color() == self.stages.color();
        match &self.pipeline {
            Some(pipeline) if same_line && same_camera => {
                if !pipeline.swap(stages.stages()) {
                    return Err(Error::new(
                        ErrorKind::Runtime,
                        "a stage hangs, so that nothing can be swapped in",
                    ));
                }
            }
            _ => {
                // Those that the old line does not hold show what is wrong with them before it stops.
                let early = if holds_some(&self.config, &new.line) { None } else { Some(new.line.open()?) };
                log::info!("the line is set up anew");
                if let Some(old) = self.pipeline.take() {
                    old.stop();
                }
                let lines = early.map_or_else(|| new.line.open(), Ok);
                match lines.and_then(|lines| self.site.start(&new, &stages, lines)) {
                    Ok(pipeline) => self.pipeline = Some(pipeline),
                    Err(e) => {
                        self.retry = Instant::now();
                        self.retry();
                        return Err(e);
                    }
                }
            }
        }
        (self.config, self.stages) = (new, stages);
        Ok(())
    }

    /// Sets up again what was in use, where there is no line at all.
    fn retry(&mut self) {
        if self.pipeline.is_some() || Instant::now() < self.retry {
            return;
        }
        self.retry = Instant::now() + RETRY;
        let lines = Box::new(LaterLines { settings: self.config.line.clone(), lines: None });
        match self.site.start(&self.config, &self.stages, lines) {
            Ok(pipeline) => {
                self.pipeline = Some(pipeline);
                self.tell();
            }
            Err(e) => {
                log::error!("there is no line: {}; will be tried again", e.chain());
                // A restart would find the configuration that cannot be used, and not the one in memory.
                tell(&[NotifyState::Watchdog, NotifyState::Status("Error: there is no line; see the log")]);
            }
        }
    }

    /// Tells of a configuration that is in use, or why it is not.
    fn told(&mut self, result: Result<()>) {
        self.refused = result.err().map(|e| format!("{}; what was in use before stays in use", e.chain()));
        self.tell();
    }

    fn tell(&self) {
        match (&self.pipeline, &self.refused) {
            (Some(pipeline), None) => pipeline.status().clear("configuration"),
            (Some(pipeline), Some(text)) => {
                pipeline.status().raise("configuration", Severity::Warning, text.clone());
            }
            (None, Some(text)) => log::error!("{text}"),
            (None, None) => {}
        }
    }
}

/// Whether a line that runs with `config` holds one of the lines of `new`.
fn holds_some(config: &Config, new: &line::Settings) -> bool {
    let same = |chip: &PathBuf| {
        let place = |chip: &PathBuf| std::fs::canonicalize(chip).unwrap_or_else(|_| chip.clone());
        new.chip.as_ref().is_some_and(|new| place(new) == place(chip))
    };
    let wanted = [new.reject, new.healthy];
    let mut held = Vec::new();
    if config.line.chip.as_ref().is_some_and(same) {
        held.extend([config.line.reject, config.line.healthy]);
    }
    if config.trigger.chip.as_ref().is_some_and(same) {
        held.push(config.trigger.line);
    }
    held.iter().flatten().any(|line| wanted.contains(&Some(*line)))
}

/// Lines that are taken once they can be: until then driving them fails, which is told and tried again.
struct LaterLines {
    settings: line::Settings,
    lines: Option<Box<dyn Lines>>,
}

impl Lines for LaterLines {
    fn set(&mut self, line: Line, active: bool) -> Result<()> {
        let lines = match &mut self.lines {
            Some(lines) => lines,
            none => none.insert(self.settings.open()?),
        };
        lines.set(line, active)
    }

    fn has(&self, line: Line) -> bool {
        self.settings.has(line)
    }
}

/// What stays the same from one line to the next.
struct Site {
    halts: Arc<Halts>,
    state: StateFolder,
    json: bool,
}

impl Site {
    fn start(&self, config: &Config, stages: &SharedStages, lines: Box<dyn Lines>) -> Result<Pipeline> {
        let clock = Clock::system();
        // They are inactive until the line starts.
        HeldLines::note(&config.line, &self.state);
        let setup = Setup {
            camera: config.camera.clone().of_color(stages.color()).opener(&clock),
            stages: stages.stages(),
            framing: config.framing.clone(),
            health: config.health.clone(),
            trigger: config.trigger.clone(),
            halts: Arc::clone(&self.halts),
            lines,
            line: config.line.clone(),
            settings: config.pipeline.clone(),
            clock,
        };
        // Systemd wants to hear from the service at least twice in its interval, and ten times a second is no use.
        let interval = sd_notify::watchdog_enabled().map(|interval| interval / 4);
        let mut fed: Option<Instant> = None;
        let mut pipeline = Pipeline::start(setup, move |status| {
            if let Some(interval) = interval
                && fed.is_none_or(|fed| fed.elapsed() >= interval)
            {
                fed = Some(Instant::now());
                let state = format!("{}, {} parts", status.state(), status.counts.parts.load(Relaxed));
                tell(&[NotifyState::Watchdog, NotifyState::Status(&state)]);
            }
        })?;
        // Part numbers begin again with each start of the line, so each has a name of its own.
        let run = run_id();
        if self.json {
            pipeline.attach(Box::new(Print(run.clone())))?;
        }
        if let Some(settings) = config.journal.clone() {
            attach(&mut pipeline, config, "journal", &run, move |run| Journal::new(settings.clone(), run))?;
        }
        if let Some(settings) = config.pictures.clone() {
            attach(&mut pipeline, config, "pictures", &run, move |run| Pictures::new(settings.clone(), run))?;
        }
        if let Some(settings) = config.mqtt.clone() {
            attach(&mut pipeline, config, "mqtt", &run, move |run| Mqtt::new(settings.clone(), run))?;
        }
        if let Some(settings) = config.web.clone() {
            let control = pipeline.control();
            let originals = config.pictures.as_ref().and_then(|pictures| Originals::new(pictures, &run));
            let labeling = originals.map(|originals| Arc::new(originals) as Arc<dyn Labeling>);
            attach(&mut pipeline, config, "web", &run, move |_| {
                WebPage::with_labeling(&settings, Arc::clone(&control), labeling.clone())
            })?;
        }
        Ok(pipeline)
    }
}

/// Adds an output that is opened when that becomes possible.
fn attach<O: Output + 'static>(
    pipeline: &mut Pipeline,
    config: &Config,
    name: &'static str,
    run: &str,
    open: impl Fn(&str) -> Result<O> + Send + 'static,
) -> Result<()> {
    let (config, run) = (config.clone(), run.to_owned());
    let open = move || {
        let output = open(&run).map_err(|e| config.locate(e))?;
        Ok(Box::new(output) as Box<dyn Output>)
    };
    pipeline.attach(Box::new(Reopening::new(name, open)))
}

/// Prints each part.
struct Print(String);

impl Output for Print {
    fn name(&self) -> &'static str {
        "print"
    }

    fn publish(&mut self, record: &Record) -> Result<()> {
        let line = serde_json::to_string(&Part::new(&self.0, record))
            .map_err(|e| Error::new(ErrorKind::Io, "cannot be written as JSON").with_source(e))?;
        say!("{line}")
    }
}

/// Tells systemd, if it listens.
fn tell(news: &[NotifyState]) {
    if let Err(e) = sd_notify::notify(news) {
        log::debug!("systemd: {e}");
    }
}
