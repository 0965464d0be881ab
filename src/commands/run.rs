//! `weakrest run`: the service.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Args;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use weakrest::clock::Clock;
use weakrest::config::Config;
use weakrest::output::journal::Journal;
use weakrest::output::mqtt::Mqtt;
use weakrest::output::pictures::{Originals, Pictures};
use weakrest::output::web::WebPage;
use weakrest::output::{Labeling, Output, Reopening, run_id};
use weakrest::pipeline::{Pipeline, Setup, Stages};
use weakrest::record::{Part, Record, Severity};
use weakrest::{Error, ErrorKind, Result};

use super::{Outcome, StateArguments, inspector};

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

/// How often signals are looked at.
const POLL: Duration = Duration::from_millis(20);

impl Run {
    pub fn run(self) -> Result<Outcome> {
        let cannot = |e| Error::new(ErrorKind::Io, "cannot receive signals").with_source(e);
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(cannot)?;
        let mut config = Config::read(&self.config)?;
        let start = |config: &Config, stages| start(config, stages, self.json);
        let stages = load(&config)?;
        let mut color = stages.color;
        let mut pipeline = start(&config, stages)?;
        tell(&[NotifyState::Ready]);
        log::info!("ready");

        let until = self.seconds.map(|s| Instant::now() + Duration::from_secs(s.into()));
        let mut loading: Option<JoinHandle<Result<(Config, Stages)>>> = None;
        let mut reload = false;
        'running: loop {
            reload |= pipeline.take_reload();
            for signal in signals.pending() {
                match signal {
                    SIGHUP => reload = true,
                    _ => break 'running,
                }
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
            // Asked again while loading, it loads again: what was read may be old already.
            if reload && loading.is_none() {
                reload = false;
                // The line goes on meanwhile with what it has.
                let path = self.config.clone();
                loading = Some(std::thread::spawn(move || {
                    let config = Config::read(&path)?;
                    let stages = load(&config)?;
                    Ok((config, stages))
                }));
            }
            if loading.as_ref().is_some_and(JoinHandle::is_finished)
                && let Some(thread) = loading.take()
            {
                match thread.join().unwrap_or_else(|_| Err(bug())) {
                    Ok((new, stages)) => {
                        // A camera gives the color that its parts were enrolled in.
                        let same_camera = stages.color == color;
                        color = stages.color;
                        pipeline = change(pipeline, &mut config, new, stages, same_camera, &start)?;
                    }
                    Err(e) => {
                        let text = format!("{}; what was in use before stays in use", e.chain());
                        pipeline.status().raise("configuration", Severity::Warning, text);
                    }
                }
            }
            std::thread::sleep(POLL);
        }
        tell(&[NotifyState::Stopping]);
        log::info!("stopping");
        pipeline.stop();
        Ok(Outcome::Pass)
    }
}

fn bug() -> Error {
    Error::new(ErrorKind::Usage, "reading the configuration ended by a bug")
}

/// Loads and verifies the package, its golden pictures included.
fn load(config: &Config) -> Result<Stages> {
    let settings = &config.inspection;
    let package = settings.open_package()?;
    let inspector = inspector(&settings.package, package, &settings.options())?;
    let (product, package, provider) = (inspector.product(), inspector.package(), inspector.provider());
    log::info!("{product}: package {package}, networks run on {provider}");
    Ok(Stages::new(inspector))
}

fn start(config: &Config, stages: Stages, json: bool) -> Result<Pipeline> {
    let clock = Clock::system();
    let setup = Setup {
        camera: config.camera.clone().of_color(stages.color).opener(&clock),
        stages,
        framing: config.framing.clone(),
        health: config.health.clone(),
        trigger: config.trigger.clone(),
        lines: config.line.open()?,
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
    if json {
        pipeline.attach(Box::new(Print(run.clone())))?;
    }
    if let Some(settings) = config.journal.clone() {
        attach(&mut pipeline, "journal", &run, move |run| Journal::new(settings.clone(), run))?;
    }
    if let Some(settings) = config.pictures.clone() {
        attach(&mut pipeline, "pictures", &run, move |run| Pictures::new(settings.clone(), run))?;
    }
    if let Some(settings) = config.mqtt.clone() {
        attach(&mut pipeline, "mqtt", &run, move |run| Mqtt::new(settings.clone(), run))?;
    }
    if let Some(settings) = config.web.clone() {
        let control = pipeline.control();
        let originals = config.pictures.as_ref().and_then(|pictures| Originals::new(pictures, &run));
        let labeling = originals.map(|originals| Arc::new(originals) as Arc<dyn Labeling>);
        attach(&mut pipeline, "web", &run, move |_| {
            WebPage::with_labeling(&settings, Arc::clone(&control), labeling.clone())
        })?;
    }
    Ok(pipeline)
}

/// Adds an output that is opened when that becomes possible.
fn attach<O: Output + 'static>(
    pipeline: &mut Pipeline,
    name: &'static str,
    run: &str,
    open: impl Fn(&str) -> Result<O> + Send + 'static,
) -> Result<()> {
    let run = run.to_owned();
    let open = move || open(&run).map(|output| Box::new(output) as Box<dyn Output>);
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

/// Puts a new configuration into effect. Only where more than the inspection changed does the line stop for a moment.
fn change(
    old: Pipeline,
    config: &mut Config,
    new: Config,
    stages: Stages,
    same_camera: bool,
    start: &dyn Fn(&Config, Stages) -> Result<Pipeline>,
) -> Result<Pipeline> {
    let same_line = Config { inspection: config.inspection.clone(), ..new.clone() } == *config;
    if same_line && same_camera {
        old.swap(stages);
        old.status().clear("configuration");
        *config = new;
        return Ok(old);
    }
    log::info!("the line is set up anew");
    old.stop();
    match start(&new, stages) {
        Ok(pipeline) => {
            *config = new;
            Ok(pipeline)
        }
        Err(e) => {
            let pipeline = start(config, load(config)?)?;
            let text = format!("{}; what was in use before stays in use", e.chain());
            pipeline.status().raise("configuration", Severity::Warning, text);
            Ok(pipeline)
        }
    }
}

/// Tells systemd, if it listens.
fn tell(news: &[NotifyState]) {
    if let Err(e) = sd_notify::notify(news) {
        log::debug!("systemd: {e}");
    }
}
