//! `weakrest check`

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::camera::{self, Health};
use crate::clock::Clock;
use crate::config::Config;
use crate::files::write_file;
use crate::imaging::sharpness;
use crate::inspector::Options;
use crate::onnx::{MINIMUM_VERSION, Network, Provider, Runtime};
use crate::output::journal;
use crate::output::line::realtime;
use crate::output::pictures::png_of;
use crate::package::{BackboneFile, FrameSize, Recipe};
use crate::pipeline::TriggerSource;
use crate::{Color, Error, ErrorKind, Frame, Inspector, Package, Result};

use super::page::say_page;
use super::run::chosen_recipe;
use super::{Outcome, RuntimeArguments, StateArguments, inspector};

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Package to check
    package: Option<PathBuf>,
    /// Check a configuration with its package, camera, lines, journal and web page
    #[arg(long, value_name = "FILE", conflicts_with = "package")]
    config: Option<PathBuf>,
    /// Write the camera's picture, as the inspector gets it, to a PNG file
    #[arg(long, value_name = "FILE", requires = "config")]
    picture: Option<PathBuf>,
    #[command(flatten)]
    state: StateArguments,
    #[command(flatten)]
    runtime: RuntimeArguments,
}

impl Check {
    pub fn run(self) -> Result<Outcome> {
        let mut config = self.config.as_deref().map(Config::read).transpose()?;
        if let (Some(config), Some(path)) = (&mut config, &self.config) {
            config.select(chosen_recipe(&self.state.folder(path))?)?;
        }
        let options = match &config {
            Some(config) => self.runtime.options_over(config.inspection.options()),
            None => self.runtime.options(),
        };
        say!("weakrest       {} on {}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH)?;
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        say!("threads        {} of {cores}", options.execution.threads.map_or(cores, |n| n.get()))?;
        let runtime = Runtime::load(options.onnxruntime.as_deref())?;
        say!("ONNX Runtime   {} ({MINIMUM_VERSION} or newer needed)", runtime.path().display())?;
        say!("               version {}", runtime.version())?;
        say!("               {}", runtime.build_info())?;
        say_providers(runtime, &options)?;
        let backbone = BackboneFile::built_in()?;
        let side = backbone.info.kind.multiple as usize * 4;
        let mut network = Network::backbone(runtime, &backbone.onnx, &options.execution)?;
        let shape = network.run([&ndarray::Array4::zeros((1, 3, side, side))], |out| Ok(out.dim()))?;
        say!("backbone       {} runs ({} channels)", backbone.info.name, shape.3)?;
        let mut slower = Vec::new();
        if self.package.is_none() {
            say_cameras()?;
        }
        if let Some(path) = &self.package {
            let package = Package::open(path)?;
            let product = package.manifest.product.clone();
            let inspector = inspector(path, package, &options)?;
            say!("package        {} ({product}) is intact; golden scores match", path.display())?;
            slower.extend(say_networks(&inspector, &options)?);
        }
        if let (Some(config), Some(path)) = (&config, &self.config) {
            say_recipes(config).map_err(|e| config.locate(e))?;
            slower.extend(
                check_service(config, &options, self.picture.as_deref()).map_err(|e| config.locate(e))?,
            );
            if let Some(modbus) = &config.modbus {
                say!("modbus         {modbus}")?;
            }
            if let Some(web) = &config.web {
                say_page(web, &self.state.folder(path)).map_err(|e| config.locate(e))?;
            }
        }
        match slower.first() {
            None => say!("all is well")?,
            Some((network, provider)) => {
                say!("all is well, but {network} runs on {provider} only: see above")?
            }
        }
        Ok(Outcome::Pass)
    }
}

/// Prints the cameras that can be named in a configuration.
fn say_cameras() -> Result<()> {
    let mut first = "cameras";
    for (kind, camera) in camera::list() {
        say!("{first:14} {kind:8} {camera}")?;
        first = "";
    }
    if first.is_empty() { Ok(()) } else { say!("{first:14} none is connected or answers on the network") }
}

/// Prints the packages to choose from.
fn say_recipes(config: &Config) -> Result<()> {
    let Some(recipes) = &config.recipes else { return Ok(()) };
    let list = recipes.folder().list()?;
    let name = |recipe: &Recipe| {
        let used = if recipe.path == config.inspection.package { " (in use)" } else { "" };
        format!("{} {}{used}", recipe.number, recipe.name)
    };
    say!("recipes        {}: {}", list.len(), list.iter().map(name).collect::<Vec<_>>().join(", "))
}

/// Prints the providers that ONNX Runtime has on this machine. For a missing one that the configuration
/// lists, prints what to do. A missing `require` is an error later, when the networks are loaded.
fn say_providers(runtime: &Runtime, options: &Options) -> Result<()> {
    for (i, provider) in Provider::ALL.into_iter().enumerate() {
        let asked = options.execution.providers.contains(&provider);
        let found = match provider.load(runtime) {
            Ok(()) => "can be loaded".to_owned(),
            Err(e) if asked => format!("asked for, but {}", e.chain()),
            Err(e) if provider.is_built_in(runtime) => format!("built in, but {}", e.chain()),
            Err(_) => "not built in".to_owned(),
        };
        say!("{:14} {provider:8} {found}", if i == 0 { "providers" } else { "" })?;
    }
    Ok(())
}

/// Prints what the networks run on. Returns those on a slower provider than the first that was asked for.
fn say_networks(inspector: &Inspector, options: &Options) -> Result<Vec<(String, Provider)>> {
    let wanted = options.execution.providers.first();
    let mut slower = Vec::new();
    for (name, provider) in inspector.providers() {
        say!("network        {name} runs on {provider}")?;
        if wanted.is_some_and(|wanted| provider > *wanted) {
            slower.push((name.to_owned(), provider));
        }
    }
    Ok(slower)
}

/// Checks what the service needs, in the order in which it needs it. Returns the networks on a slower provider than
/// asked for.
fn check_service(
    config: &Config,
    options: &Options,
    picture: Option<&Path>,
) -> Result<Vec<(String, Provider)>> {
    let enrolled = check_package(config, options)?;
    let slower = match &enrolled {
        Some((inspector, _)) => say_networks(inspector, options)?,
        None => Vec::new(),
    };
    let frame = take_frame(config, enrolled.as_ref().map(|(inspector, _)| inspector.color()))?;
    let (width, height) = (frame.width(), frame.height());
    say!("camera         gives {width}×{height}, {} (after framing)", frame.color())?;
    say!("               sharpness {:.1} (compare health.sharpness)", sharpness(&frame))?;
    if let Some(path) = picture {
        let failed = |e| Error::new(ErrorKind::Image, "cannot encode the picture").with_source(e);
        write_file(path, &png_of(&frame).map_err(failed)?)?;
        say!("               picture in {}", path.display())?;
    }
    if let Some((inspector, size)) = &enrolled {
        if frame.color() != inspector.color() {
            return Err(unlike(format!(
                "the enrolled parts are {}, but the camera's are {}",
                inspector.color(),
                frame.color()
            )));
        }
        if *size != FrameSize::Any && *size != FrameSize::Fixed(width, height) {
            return Err(unlike(format!(
                "the enrolled parts have {size} pixels, but the camera gives {width}x{height}"
            )));
        }
    }
    if let Some(unhealthy) = Health::new(config.health.clone()).check(&frame) {
        return Err(Error::new(ErrorKind::Camera, unhealthy.to_string()));
    }

    // Pulses may be late on a busy machine without it. That is no error: the service runs, and reports late
    // pulses.
    let lacks = realtime::lacks();
    if lacks.is_empty() {
        say!("gate's thread  has real-time priority and locked memory")?;
    }
    for lack in lacks {
        say!("gate's thread  {}", lack.chain())?;
    }
    // An opened and closed line is inactive.
    drop(config.line.open()?);
    match (&config.line.chip, config.line.reject, &config.line.record) {
        (Some(chip), Some(line), _) => say!("reject line    {line} of {}", chip.display())?,
        (_, _, Some(file)) => say!("reject line    none; edges are written to {}", file.display())?,
        _ => say!("reject line    none; verdicts are only reported")?,
    }
    if let Some(settings) = config.journal.as_ref().filter(|s| s.path.exists()) {
        let journal = journal::check(&settings.path)?;
        say!(
            "journal        {} parts in {} runs, {} duplicate, {} missing",
            journal.parts,
            journal.runs,
            journal.repeated,
            journal.missing
        )?;
    }
    Ok(slower)
}

/// Opens the package and checks its golden scores. `None` if there is none yet, and the web page can teach one.
fn check_package(config: &Config, options: &Options) -> Result<Option<(Inspector, FrameSize)>> {
    let path = &config.inspection.package;
    if config.is_untaught() {
        say!("package        none yet: teach a product on the web page. Until then every part is a fault")?;
        return Ok(None);
    }
    let package = config.inspection.open_package()?;
    let signed = package.signed.clone();
    let (product, size) = (package.manifest.product.clone(), package.manifest.input.size);
    let inspector = inspector(path, package, options)?;
    say!("package        {} ({product}) is intact; golden scores match", path.display())?;
    match signed {
        Some(signed) => say!("signature      {}", signed.comment)?,
        None => say!("signature      not required (inspection.public_keys)")?,
    }
    Ok(Some((inspector, size)))
}

fn unlike(what: String) -> Error {
    Error::new(ErrorKind::Camera, format!("{what}; enroll pictures of this camera with this framing"))
}

/// Takes a frame as the inspector gets it.
fn take_frame(config: &Config, color: Option<Color>) -> Result<Frame> {
    let camera = config.camera.clone();
    let camera = match color {
        Some(color) => camera.of_color(color),
        None => camera,
    };
    let mut opener = camera.opener(&Clock::system());
    let mut camera = opener.open()?;
    let patience = if config.trigger.fires_camera {
        remark!("let a part pass the trigger now; the trigger fires the camera");
        Duration::from_secs(30)
    } else {
        Duration::from_secs(3)
    };
    let error = |what: String| Err(Error::new(ErrorKind::Camera, format!("{} {what}", opener.describe())));
    let Some(captured) = camera.wait(patience)? else {
        return error(format!("gave no frame for {} s", patience.as_secs()));
    };
    if captured.at.is_none() && config.trigger.source != TriggerSource::Free {
        return error(
            "has no monotonic time stamps, so its frames cannot be matched to triggers; set trigger.source to \
             \"free\", or use another camera"
                .into(),
        );
    }
    if captured.damaged {
        return error("sent a damaged frame; check its cable and its bandwidth".into());
    }
    let (mut raw, mut frame) = (Frame::default(), Frame::default());
    camera.read(&mut raw)?;
    config.framing.apply(&raw, &mut frame)?;
    Ok(frame)
}
