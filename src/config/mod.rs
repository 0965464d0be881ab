//! The device's configuration: one TOML file. Each table belongs to a room, which documents and checks its
//! keys.

mod recipes;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::camera::{Framing, HealthSettings, Source};
use crate::error::{Error, Result};
use crate::inspector::Options;
use crate::onnx::{Execution, Interrupt, Provider};
use crate::output::{journal, line, modbus, mqtt, pictures, web};
use crate::package::{Package, PublicKeys};
use crate::pipeline::{self, Trigger};
use crate::settings::{self, Lines};
use crate::teach;
pub use recipes::Recipes;

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The package and how to run it.
    pub inspection: InspectionSettings,
    /// Packages to choose from.
    pub recipes: Option<Recipes>,
    /// The camera.
    pub camera: Source,
    /// How frames are cut and turned.
    #[serde(default)]
    pub framing: Framing,
    /// Limits for frames.
    #[serde(default)]
    pub health: HealthSettings,
    /// The trigger of parts.
    #[serde(default)]
    pub trigger: Trigger,
    /// The output lines.
    #[serde(default)]
    pub line: line::Settings,
    /// Queues and time limits.
    #[serde(default)]
    pub pipeline: pipeline::Settings,
    /// A row per part in a database.
    pub journal: Option<journal::Settings>,
    /// Pictures of parts.
    pub pictures: Option<pictures::Settings>,
    /// Messages to an MQTT broker.
    pub mqtt: Option<mqtt::Settings>,
    /// Registers for a PLC.
    pub modbus: Option<modbus::Settings>,
    /// The web page.
    pub web: Option<web::Settings>,
    /// Teaching on the web page.
    #[serde(default)]
    pub teach: teach::Settings,
    /// The lines of its keys.
    #[serde(skip)]
    pub(crate) lines: Lines,
}

/// The package and how to run it: `[inspection]` of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InspectionSettings {
    /// The package.
    pub package: PathBuf,
    /// Minisign public keys, or their files. One of them must have signed the package. Without any, no
    /// signature is needed.
    #[serde(default)]
    pub public_keys: Vec<String>,
    /// Score above which a part is rejected. Default: the package's.
    pub threshold: Option<f32>,
    /// Providers for the networks, best first: `tensorrt`, `cuda`, `webgpu`, `cpu`.
    #[serde(default = "cpu")]
    pub providers: Vec<Provider>,
    /// The service does not start without this provider.
    pub require: Option<Provider>,
    /// Threads of the networks on the CPU. Default: one per core.
    pub threads: Option<NonZeroUsize>,
    /// ONNX Runtime's library. Default: found by itself.
    pub onnxruntime: Option<PathBuf>,
    /// Folder for TensorRT's engines. Default: `CACHE_DIRECTORY`, which systemd sets.
    pub cache: Option<PathBuf>,
    /// As [`Execution::graphs`].
    #[serde(default = "yes")]
    pub graphs: bool,
}

fn cpu() -> Vec<Provider> {
    vec![Provider::Cpu]
}

fn yes() -> bool {
    true
}

impl InspectionSettings {
    /// Opens the package, and verifies its signature if one is needed.
    ///
    /// # Errors
    /// As [`PublicKeys::read`] and [`Package::open_signed`].
    pub fn open_package(&self) -> Result<Package> {
        Package::open_signed(&self.package, &self.keys()?)
    }

    /// The public keys. One of them must have signed the package.
    ///
    /// # Errors
    /// As [`PublicKeys::read`].
    pub fn keys(&self) -> Result<PublicKeys> {
        PublicKeys::read(&self.public_keys).map_err(|e| e.with_key("inspection.public_keys"))
    }

    /// The engine's options.
    pub fn options(&self) -> Options {
        let cache = self.cache.clone().or_else(|| std::env::var_os("CACHE_DIRECTORY").map(PathBuf::from));
        Options {
            onnxruntime: self.onnxruntime.clone(),
            execution: Execution {
                threads: self.threads,
                // The other stages need the cores while a network waits for its next frame.
                spinning: false,
                providers: self.providers.clone(),
                require: self.require,
                cache,
                graphs: self.graphs,
                interrupt: Interrupt::default(),
            },
            threshold: self.threshold,
        }
    }
}

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] when the file cannot be read. [`crate::ErrorKind::Usage`] with file, line and
    /// key when a key is missing or unknown, or has a wrong value.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&crate::files::read_text(path)?, path)
    }

    /// The same for text that was read from `path`.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let (config, lines) = settings::read(text, &path.display().to_string())?;
        let mut config = Config { lines, ..config };
        if let Some(recipes) = &mut config.recipes {
            recipes.first.clone_from(&config.inspection.package);
        }
        config.validate().map_err(|e| config.locate(e))?;
        Ok(config)
    }

    /// Puts the package of a recipe in the place of the configuration's. 0 is that one.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] if there are no recipes; as `RecipeFolder::find`.
    pub fn select(&mut self, recipe: u16) -> Result<()> {
        if recipe == 0 {
            return Ok(());
        }
        let missing = || {
            let what = format!(
                "is missing, but recipe {recipe} was chosen; set it, or remove recipe.json in the state folder to use \
                 inspection.package"
            );
            Error::setting("recipes.folder", what)
        };
        let recipes = self.recipes.as_ref().ok_or_else(missing)?;
        self.inspection.package = recipes.folder().find(recipe).map_err(|e| self.locate(e))?.path;
        Ok(())
    }

    /// Whether there is no package yet, and the web page can teach one.
    pub fn is_untaught(&self) -> bool {
        let missing = |e: std::io::Error| e.kind() == std::io::ErrorKind::NotFound;
        let package = self.inspection.package.symlink_metadata();
        self.web.is_some() && self.teach.enabled && package.is_err_and(missing)
    }

    /// Adds file and line to an error that names a key of this configuration.
    pub fn locate(&self, error: Error) -> Error {
        self.lines.locate(error)
    }

    /// The lines, and the times of a recipe at the gate. Without lines no part reaches a gate, so a default deadline
    /// begins when a slow camera must have taken the frame.
    pub(crate) fn line(&self, recipe: u16) -> line::Settings {
        let mut line = self.line.clone();
        if let Some(recipes) = &self.recipes {
            // The lines have one tolerance for all parts.
            line.tolerance_ms =
                recipes.all_lines(&self.line).map(|line| line.tolerance_in_ms()).min_by(f64::total_cmp);
            recipes.adapt(&mut line, recipe);
        }
        let wait = self.camera.period().and_then(|period| self.trigger.longest_wait(period));
        if let (None, None, None, Some(wait)) = (&line.chip, &line.record, line.deadline_ms, wait) {
            line.travel_ms += wait.as_secs_f64() * 1e3;
        }
        line
    }

    /// The longest time from a trigger until the part has left the gate.
    pub(crate) fn longest_way(&self) -> Duration {
        let ways = self.recipe_numbers().map(|recipe| self.line(recipe).times());
        ways.map(|times| times.travel + times.pulse).max().unwrap_or_default()
    }

    /// The recipes that can have times of their own.
    fn recipe_numbers(&self) -> impl Iterator<Item = u16> {
        let own = self.recipes.iter().flat_map(Recipes::with_own_times);
        std::iter::once(0).chain(own)
    }

    /// Refuses times that do not go together, and a camera that cannot show a part in time.
    fn validate_line(&self, recipe: u16) -> Result<()> {
        let line = self.line(recipe);
        line.validate()?;
        let Some(period) = self.camera.period() else { return Ok(()) };
        match self.trigger.longest_wait(period) {
            Some(wait) if wait >= line.deadline() => {
                let key = if line.deadline_ms.is_some() { "line.deadline_ms" } else { "line.travel_ms" };
                Err(Error::setting(key, pipeline::late_frames(period, wait, line.deadline())))
            }
            _ => Ok(()),
        }
    }

    fn validate(&self) -> Result<()> {
        if let Some(threshold) = self.inspection.threshold.filter(|t| !(t.is_finite() && *t >= 0.0)) {
            let what = format!("{threshold} is no score; set 0 or more");
            return Err(Error::setting("inspection.threshold", what));
        }
        self.inspection.options().execution.validate()?;
        self.camera.validate()?;
        self.framing.validate()?;
        self.health.validate()?;
        self.trigger.validate()?;
        self.line.validate()?;
        self.pipeline.validate()?;
        self.recipes.as_ref().map_or(Ok(()), Recipes::validate)?;
        self.validate_line(0)?;
        if let Some(recipes) = &self.recipes {
            for number in recipes.with_own_times() {
                let named = |e: Error| Error::setting(format!("recipes.line.{number}"), e.chain());
                self.validate_line(number).map_err(named)?;
            }
        }
        self.journal.as_ref().map_or(Ok(()), journal::Settings::validate)?;
        self.pictures.as_ref().map_or(Ok(()), pictures::Settings::validate)?;
        self.mqtt.as_ref().map_or(Ok(()), mqtt::Settings::validate)?;
        self.modbus.as_ref().map_or(Ok(()), modbus::Settings::validate)?;
        self.teach.validate()?;
        self.web.as_ref().map_or(Ok(()), web::Settings::validate)
    }
}

#[cfg(test)]
mod tests;
