//! `weakrest run`: the service.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Args;
use crossbeam_channel::{Receiver, TryRecvError, bounded};
use sd_notify::NotifyState;
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::access::{Audit, Registry, Who};
use crate::clock::Clock;
use crate::config::{Config, InspectionSettings, Recipes};
use crate::judge::{self, Judge};
use crate::onnx::{Interrupt, Provider};
use crate::output::journal::{Journal, Past};
use crate::output::line::bits::Bits;
use crate::output::line::{self, HeldLines, Line, Lines};
use crate::output::modbus::Modbus;
use crate::output::mqtt::Mqtt;
use crate::output::pictures::{Originals, Pictures};
use crate::output::web::{self, WebPage};
use crate::output::{Labeling, Output, Reopening, run_id};
use crate::package::Package;
use crate::pipeline::{Pipeline, Settings, Setup, SharedStages, Stages, TriggerSource};
use crate::program::Program;
use crate::record::{Halts, Part, Record, Reloads, Severity};
use crate::state::StateFolder;
use crate::teach::{Place, Pupil, Teacher, routes};
use crate::{Error, ErrorKind, Result};

use super::alarms::Alarms;
use super::judge::Job;
use super::{Outcome, StateArguments, advice, inspector};

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    state: StateArguments,
    /// Print one JSON object per part
    #[arg(long)]
    json: bool,
    /// Stop after this time, for trials
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u32>,
}

/// A file in the state folder that exists while the service runs, and after a crash.
const RUNNING: &str = "running.json";

/// A file in the state folder with the number of the recipe in use.
const RECIPE: &str = "recipe.json";

/// The interval between checks for signals.
const POLL: Duration = Duration::from_millis(20);

/// TensorRT builds its engine on the first load, which takes minutes.
const BUILT: Duration = Duration::from_secs(15 * 60);

/// The most loading attempts that may hang at the same time. Each takes memory, and maybe a core.
const MOST_HANGING: usize = 3;

/// The pause before a line that failed to start is started again.
const RETRY: Duration = Duration::from_secs(1);

impl Run {
    pub fn run(self) -> Result<Outcome> {
        let cannot = |e| Error::new(ErrorKind::Io, "cannot receive signals").with_source(e);
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(cannot)?;
        let state = self.state.folder(&self.config);
        // Read before anything inspects: the wrong recipe lets bad parts pass.
        let recipe = chosen_recipe(&state)?;
        let path = self.config.clone();
        let mut loader = Loader { path, recipe, running: None, hanging: Vec::new() };
        let result = self.serve(&mut signals, &mut loader);
        if loader.hangs() {
            // The process must neither wait for a hanging network nor unload ONNX Runtime while it is in use.
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
        loader.begin(Duration::from_millis(Settings::default().load_timeout_ms), true, None)?;
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
        let halts = Halts::open(state.clone())?;
        let audit = Audit::open(state.path().to_owned())?;
        let teacher = Teacher::new(config.teach.clone(), state.clone());
        let judge = Judge::start()?;
        let site = Site { halts, state, json: self.json, registry: Arc::default(), audit, teacher, judge };
        let mut alarms = Alarms::read(site.state.clone());
        site.judge.set(task(&config, &stages));
        let pipeline = site.start(&config, &stages, config.line.open()?)?;
        let mut line = Running {
            site,
            config,
            stages,
            pipeline: Some(pipeline),
            retry: Instant::now(),
            reloads: Reloads::default(),
            before: None,
            asked: (false, None),
        };
        if let Some(pipeline) = &line.pipeline {
            alarms.follow(pipeline.status());
        }
        if let Err(e) = line.site.state.write(RUNNING, &std::process::id()) {
            log::warn!("a restart will not reject the parts between camera and gate: {}", e.chain());
        }
        if let (false, Some(pipeline)) = (ended_well, &line.pipeline) {
            log::warn!("the service ended unexpectedly; the parts between camera and gate are rejected");
            pipeline.reject_unknown_parts(line.config.longest_way());
        }
        let after = json!({"version": env!("CARGO_PKG_VERSION"), "inspects": in_use(&line.stages)});
        // The log shows a failure as a problem of its own.
        let _ = line.site.audit.note(&Who::service(), "start", Value::Null, after);
        tell(&[NotifyState::Ready]);
        log::info!("ready");

        let until = self.seconds.map(|s| Instant::now() + Duration::from_secs(s.into()));
        let mut reload = false;
        'running: loop {
            let (again, recipe) = line.take_asked();
            reload |= again;
            if let Some(number) = recipe {
                reload |= number != loader.recipe;
                loader.recipe = number;
            }
            for signal in signals.pending() {
                match signal {
                    SIGHUP => reload = true,
                    _ => break 'running,
                }
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
            // A request while loading means to load again: the files may have changed. The line goes on
            // meanwhile.
            if reload && loader.running.is_none() {
                reload = false;
                // A package that is gone is no reason to give up the one in memory.
                let may_lack = !line.stages.has_package();
                if let Err(e) = loader.begin(limit_of(&line.config), may_lack, line.before.clone()) {
                    line.told(Err(e));
                }
            }
            match loader.poll() {
                // Another recipe was asked for meanwhile.
                Some(Ok((_, stages))) if stages.engine().recipe != loader.recipe => reload = true,
                Some(Ok((new, stages))) => {
                    let changed = line.change(new, stages);
                    line.told(changed);
                }
                Some(Err(e)) => line.told(Err(e)),
                None => {}
            }
            if loader.running.is_none() && !reload {
                // A recipe that cannot be used is not asked for again.
                loader.recipe = line.stages.engine().recipe;
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

/// The number of the recipe that was chosen last.
pub(super) fn chosen_recipe(state: &StateFolder) -> Result<u16> {
    Ok(state.read(RECIPE)?.unwrap_or(0))
}

/// The time limit for loading.
fn limit_of(config: &Config) -> Duration {
    let limit = Duration::from_millis(config.pipeline.load_timeout_ms);
    if config.inspection.providers.contains(&Provider::TensorRt) { limit.max(BUILT) } else { limit }
}

/// Loads the configuration and the package on a thread of its own, as a network or a disk may hang.
struct Loader {
    path: PathBuf,
    /// The recipe to load.
    recipe: u16,
    running: Option<Attempt>,
    hanging: Vec<JoinHandle<()>>,
}

struct Attempt {
    thread: JoinHandle<()>,
    loaded: Receiver<Result<(Config, SharedStages)>>,
    begun: Instant,
    /// In milliseconds. The configuration sets it once it is read.
    limit: Arc<AtomicU64>,
    interrupt: Interrupt,
}

impl Loader {
    /// Starts to load. `limit` applies until the configuration is read. With `may_lack`, a missing package is no error
    /// if one can be taught on the web page. What is loaded already is taken if it is still the same.
    fn begin(&mut self, limit: Duration, may_lack: bool, loaded_before: Option<Loaded>) -> Result<()> {
        if self.hangs() && self.hanging.len() >= MOST_HANGING {
            let text = format!(
                "{MOST_HANGING} attempts to load hang; check package and disk, then restart the service"
            );
            return Err(Error::new(ErrorKind::Runtime, text));
        }
        let milliseconds = |limit: Duration| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let (done, loaded) = bounded(1);
        let limit = Arc::new(AtomicU64::new(milliseconds(limit)));
        let interrupt = Interrupt::default();
        let (path, known, theirs) = (self.path.clone(), Arc::clone(&limit), interrupt.clone());
        let recipe = self.recipe;
        let load = move || {
            let mut config = Config::read(&path)?;
            known.store(milliseconds(limit_of(&config)), Relaxed);
            config.select(recipe)?;
            if let Some(stages) = loaded_before.and_then(|loaded| loaded.still_is(&config, recipe)) {
                return Ok((config, stages));
            }
            let stages = load(&config, recipe, theirs, may_lack)?;
            Ok((config, stages.into()))
        };
        let thread = std::thread::Builder::new()
            .name("load".into())
            .spawn(move || {
                // Nobody receives the result of an attempt that was given up.
                let _ = done.send(load());
            })
            .map_err(|e| Error::new(ErrorKind::Io, "cannot start the loading thread").with_source(e))?;
        self.running = Some(Attempt { thread, loaded, begun: Instant::now(), limit, interrupt });
        Ok(())
    }

    /// The result of loading, once.
    fn poll(&mut self) -> Option<Result<(Config, SharedStages)>> {
        let attempt = self.running.take()?;
        let limit = Duration::from_millis(attempt.limit.load(Relaxed));
        match attempt.loaded.try_recv() {
            Ok(loaded) => Some(loaded),
            Err(TryRecvError::Disconnected) => {
                Some(Err(Error::new(ErrorKind::Usage, "loading crashed; this is a bug")))
            }
            Err(TryRecvError::Empty) if attempt.begun.elapsed() < limit => {
                self.running = Some(attempt);
                None
            }
            Err(TryRecvError::Empty) => {
                attempt.interrupt.interrupt();
                self.hanging.push(attempt.thread);
                let text = format!(
                    "loading did not finish within {} s; check the package's networks and the disk, or raise \
                     pipeline.load_timeout_ms",
                    limit.as_secs()
                );
                Some(Err(Error::new(ErrorKind::Runtime, text).within(self.path.display())))
            }
        }
    }

    /// Whether an attempt still runs.
    fn hangs(&mut self) -> bool {
        self.hanging.retain(|thread| !thread.is_finished());
        !self.hanging.is_empty() || self.running.is_some()
    }
}

/// Loads and verifies the package, including its golden scores.
fn load(config: &Config, recipe: u16, interrupt: Interrupt, may_lack: bool) -> Result<Stages> {
    let settings = &config.inspection;
    if may_lack && config.is_untaught() {
        let text = no_package(config);
        log::warn!("{text}");
        return Ok(Stages::without_package(&text).of_recipe(recipe));
    }
    let package = settings.open_package().map_err(|e| config.locate(e))?;
    let mut options = settings.options();
    options.execution.interrupt = interrupt;
    let inspector = inspector(&settings.package, package, &options)?;
    let (product, package, provider) = (inspector.product(), inspector.package(), inspector.provider());
    log::info!("{product}: package {package}, networks run on {provider}");
    Ok(Stages::new(inspector).of_recipe(recipe))
}

fn no_package(config: &Config) -> String {
    format!(
        "there is no package {}: teach a product on the web page, or install a package and reload",
        config.inspection.package.display()
    )
}

/// The running line, and what it was made from.
struct Running {
    site: Site,
    config: Config,
    stages: SharedStages,
    /// None while even the previous configuration fails to start.
    pipeline: Option<Pipeline>,
    retry: Instant,
    /// How the reloads ended. A new line does not know.
    reloads: Reloads,
    /// The recipe before, which stays loaded.
    before: Option<Loaded>,
    /// What the outputs of the line before asked for while it stopped: to reload, and a recipe.
    asked: (bool, Option<u16>),
}

/// A package in memory, and the settings that it was loaded with.
#[derive(Clone)]
struct Loaded {
    settings: InspectionSettings,
    stages: SharedStages,
}

impl Loaded {
    /// The package, if it is that of a recipe, and neither its settings nor its file have changed.
    fn still_is(self, config: &Config, recipe: u16) -> Option<SharedStages> {
        let engine = self.stages.engine();
        let same = engine.recipe == recipe
            && self.settings == config.inspection
            && Package::hash_at(&config.inspection.package).is_ok_and(|hash| hash == engine.package);
        same.then_some(self.stages)
    }
}

impl Running {
    /// Applies a new configuration. The line restarts only if more than the inspection changed.
    ///
    /// # Errors
    /// The reason why it cannot be applied. The previous one stays in use, from memory, as its package may be
    /// gone.
    fn change(&mut self, new: Config, stages: SharedStages) -> Result<()> {
        // A restart must find the recipe that inspects. It is on disk before the first part gets it.
        if stages.engine().recipe != self.stages.engine().recipe {
            self.site.state.write(RECIPE, &stages.engine().recipe)?;
        }
        // Whoever sees the new package in the status gets its verdicts.
        self.site.judge.set(task(&new, &stages));
        self.change_now(new, stages).inspect_err(|_| {
            self.site.judge.set(task(&self.config, &self.stages));
            if let Err(e) = self.site.state.write(RECIPE, &self.stages.engine().recipe) {
                log::error!("a restart would use another recipe: {}", e.chain());
            }
        })
    }

    fn change_now(&mut self, new: Config, stages: SharedStages) -> Result<()> {
        // The line would start, but nobody could reach its page.
        if let Some(web) = new.web.as_ref().filter(|web| self.config.web.as_ref() != Some(web)) {
            web.check(self.site.state.path()).map_err(|e| new.locate(e))?;
        }
        let same_line = Config { inspection: self.config.inspection.clone(), ..new.clone() } == self.config;
        // The camera gives the color of the enrolled parts.
        let same_camera = stages.color() == self.stages.color();
        match &self.pipeline {
            Some(pipeline) if same_line && same_camera => {
                if !pipeline.change(stages.stages(), new.line(stages.engine().recipe).times()) {
                    return Err(Error::new(
                        ErrorKind::Runtime,
                        "a stage hangs, so the new package cannot take over; restart the service",
                    ));
                }
            }
            _ => {
                // Lines that the old line does not hold can fail now, before it stops.
                let early = if holds_some(&self.config, &new.line) { None } else { Some(new.line.open()?) };
                log::info!("restarting the line");
                if let Some(old) = self.pipeline.take() {
                    self.asked = old.stop_asked();
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
        if let (Some(pipeline), true) = (&self.pipeline, stages.has_package()) {
            pipeline.status().clear(PACKAGE);
        }
        self.site.teacher.set_place(place(&new, &stages));
        let (before, after) = (in_use(&self.stages), in_use(&stages));
        let settings = std::mem::replace(&mut self.config, new).inspection;
        let stages = std::mem::replace(&mut self.stages, stages);
        if stages.engine().recipe != self.stages.engine().recipe {
            self.before = Some(Loaded { settings, stages });
        }
        // The log shows a failure as a problem of its own.
        let _ = self.site.audit.note(&Who::service(), "configuration", before, after);
        Ok(())
    }

    /// What outputs asked for since the last call: to reload, and a recipe.
    fn take_asked(&mut self) -> (bool, Option<u16>) {
        let (reload, recipe) = std::mem::take(&mut self.asked);
        match &self.pipeline {
            Some(pipeline) => (reload | pipeline.take_reload(), pipeline.take_recipe().or(recipe)),
            None => (reload, recipe),
        }
    }

    /// Starts the previous configuration again if no line runs.
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
                log::error!("the line cannot start: {}; trying again", e.chain());
                // A restart would find the bad configuration instead of the one in memory.
                tell(&[
                    NotifyState::Watchdog,
                    NotifyState::Status("Error: the line cannot start; see the log"),
                ]);
            }
        }
    }

    /// Reports whether the latest configuration is in use.
    fn told(&mut self, result: Result<()>) {
        self.reloads.count += 1;
        self.reloads.refused =
            result.err().map(|e| format!("{}; the previous configuration stays in use", e.chain()));
        self.tell();
    }

    fn tell(&self) {
        if let Some(pipeline) = &self.pipeline {
            pipeline.status().set_reloads(self.reloads.clone());
        }
        match (&self.pipeline, &self.reloads.refused) {
            (Some(pipeline), None) => pipeline.status().clear("configuration"),
            (Some(pipeline), Some(text)) => {
                pipeline.status().raise("configuration", Severity::Warning, text.clone());
            }
            (None, Some(text)) => log::error!("{text}"),
            (None, None) => {}
        }
    }
}

/// What is inspected with, for the audit log.
fn in_use(stages: &SharedStages) -> Value {
    let engine = stages.engine();
    json!({
        "product": engine.product, "package": engine.package, "threshold": engine.threshold, "recipe": engine.recipe,
    })
}

/// Whether a line that runs with `config` holds a GPIO line of `new`.
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

/// Lines that are opened when they are driven first. Until that works, driving them is an error that is tried
/// again.
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

/// What all lines share.
struct Site {
    halts: Arc<Halts>,
    state: StateFolder,
    json: bool,
    registry: Arc<Registry>,
    audit: Arc<Audit>,
    /// Outlives lines, so that their restarts do not end what it does.
    teacher: Arc<Teacher>,
    /// The same for pictures that other programs send.
    judge: Arc<Judge>,
}

/// The component of a missing package.
const PACKAGE: &str = "package";

/// The program itself, for work beside the line.
fn program(config: &Config) -> Program {
    Program {
        // The file can have been replaced by an update; the kernel still has this one.
        file: "/proc/self/exe".into(),
        onnxruntime: config.inspection.onnxruntime.clone(),
        providers: config.inspection.providers.clone(),
        no_graphs: !config.inspection.graphs,
    }
}

/// What pictures of other programs are judged with.
fn task(config: &Config, stages: &SharedStages) -> judge::Task {
    let engine = stages.engine();
    let job = Job {
        inspection: config.inspection.clone(),
        framing: config.framing.clone(),
        package: engine.package.clone(),
        recipe: engine.recipe,
    };
    judge::Task {
        program: program(config),
        has_package: stages.has_package(),
        // Its keys are texts. What is no UTF-8 in a path is refused by the process.
        job: serde_json::to_value(job).unwrap_or_default(),
        limit: limit_of(config),
    }
}

/// Where teaching puts packages.
fn place(config: &Config, stages: &SharedStages) -> Place {
    let inspection = &config.inspection;
    Place {
        package: inspection.package.clone(),
        engine: Some(stages.engine().clone()),
        recipes: config.recipes.as_ref().map(|recipes| (recipes.folder(), recipes.first.clone())),
        signed: !inspection.public_keys.is_empty(),
        threshold: inspection.threshold,
        software_trigger: config.trigger.source == TriggerSource::Software,
        program: program(config),
    }
}

impl Site {
    fn start(&self, config: &Config, stages: &SharedStages, lines: Box<dyn Lines>) -> Result<Pipeline> {
        let clock = Clock::system();
        // The lines are inactive until the pipeline starts.
        HeldLines::note(&config.line, &self.state);
        let camera = config.camera.clone();
        // Whoever teaches takes the camera's own color.
        let camera = if stages.has_package() { camera.of_color(stages.color()) } else { camera };
        let setup = Setup {
            camera: camera.opener(&clock),
            stages: stages.stages(),
            framing: config.framing.clone(),
            health: config.health.clone(),
            trigger: config.trigger.clone(),
            halts: Arc::clone(&self.halts),
            lines,
            line: config.line(stages.engine().recipe),
            settings: config.pipeline.clone(),
            clock,
        };
        // Systemd wants at least two signs of life per interval. The pipeline gives ten a second.
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
        if !stages.has_package() {
            pipeline.status().raise(PACKAGE, Severity::Error, no_package(config));
        }
        // Part numbers begin again with each start, so each run has its own name.
        let run = run_id();
        if self.json {
            pipeline.attach(Box::new(Print(run.clone())))?;
        }
        // What the page shows of earlier runs.
        let past = config.web.as_ref().filter(|_| config.journal.is_some()).map(|_| Arc::<Past>::default());
        if let Some(settings) = config.journal.clone() {
            let shown = past.clone().zip(config.web.as_ref());
            let shown = shown.map(|(past, web)| (past, web.history, web.rejects));
            attach(&mut pipeline, config, "journal", &run, move |run| {
                Journal::with_past(settings.clone(), run, shown.clone())
            })?;
        }
        if let Some(settings) = config.pictures.clone() {
            attach(&mut pipeline, config, "pictures", &run, move |run| Pictures::new(settings.clone(), run))?;
        }
        if let Some(settings) = config.mqtt.clone() {
            let (control, audit) = (pipeline.control(), Arc::clone(&self.audit));
            attach(&mut pipeline, config, "mqtt", &run, move |run| {
                Mqtt::with_control(settings.clone(), run, Some((Arc::clone(&control), Arc::clone(&audit))))
            })?;
        }
        if let Some(settings) = config.recipes.as_ref().and_then(|recipes| recipes.bits.clone()) {
            let (control, audit) = (pipeline.control(), Arc::clone(&self.audit));
            attach(&mut pipeline, config, "recipe lines", &run, move |_| {
                Bits::open(&settings, Arc::clone(&control), Some(Arc::clone(&audit)))
            })?;
        }
        if let Some(settings) = config.modbus.clone() {
            let (control, audit) = (pipeline.control(), Arc::clone(&self.audit));
            attach(&mut pipeline, config, "modbus", &run, move |run| {
                Modbus::with_audit(&settings, run, Arc::clone(&control), Some(Arc::clone(&audit)))
            })?;
        }
        if let Some(settings) = config.web.clone() {
            let control = pipeline.control();
            let originals = config.pictures.as_ref().and_then(|pictures| Originals::new(pictures, &run));
            let teacher = config.teach.enabled.then(|| Arc::clone(&self.teacher));
            if let Some(teacher) = &teacher {
                teacher.attach(pipeline.control());
                teacher.set_place(place(config, stages));
                pipeline.attach(Box::new(Pupil(Arc::clone(teacher))))?;
            }
            let kept = config.pictures.as_ref().map(|pictures| pictures.folder.clone());
            let site = web::Site {
                labeling: originals.map(|originals| Arc::new(originals) as Arc<dyn Labeling>),
                past,
                journal: config.journal.as_ref().map(|journal| journal.path.clone()),
                kept: kept.clone(),
                registry: Arc::clone(&self.registry),
                state: Some(self.state.path().to_owned()),
                audit: Some(Arc::clone(&self.audit)),
                recipes: config.recipes.as_ref().map(Recipes::folder),
                teaches: teacher.is_some(),
                additions: match teacher {
                    Some(teacher) => self.judge.routes().and(routes(teacher, kept, Arc::clone(&self.audit))),
                    None => self.judge.routes(),
                },
            };
            attach(&mut pipeline, config, "web", &run, move |_| {
                WebPage::within(&settings, Arc::clone(&control), site.clone())
            })?;
        }
        Ok(pipeline)
    }
}

/// Adds an output that is opened as soon as that is possible.
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

/// Notifies systemd, if it listens.
fn tell(news: &[NotifyState]) {
    if let Err(e) = sd_notify::notify(news) {
        log::debug!("systemd: {e}");
    }
}
