//! The device's configuration: one TOML file. Each table belongs to a room of its own, which documents and checks its keys.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::camera::{Framing, HealthSettings, Source};
use crate::error::{Error, Result};
use crate::inspector::Options;
use crate::onnx::{Execution, Interrupt, Provider};
use crate::output::{journal, line, mqtt, pictures, web};
use crate::package::{Package, PublicKeys};
use crate::pipeline::{self, Trigger};
use crate::settings::{self, Lines};

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What parts are inspected with.
    pub inspection: InspectionSettings,
    /// Where frames come from.
    pub camera: Source,
    /// How frames are cut and turned.
    #[serde(default)]
    pub framing: Framing,
    /// What frames must be like.
    #[serde(default)]
    pub health: HealthSettings,
    /// What makes a frame a part.
    #[serde(default)]
    pub trigger: Trigger,
    /// The reject line and its like.
    #[serde(default)]
    pub line: line::Settings,
    /// Queues and patience.
    #[serde(default)]
    pub pipeline: pipeline::Settings,
    /// A row per part in a database.
    pub journal: Option<journal::Settings>,
    /// Pictures of parts.
    pub pictures: Option<pictures::Settings>,
    /// News for an MQTT broker.
    pub mqtt: Option<mqtt::Settings>,
    /// The web page.
    pub web: Option<web::Settings>,
    /// Where its keys stand.
    #[serde(skip)]
    pub(crate) lines: Lines,
}

/// What parts are inspected with: `[inspection]` of the configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InspectionSettings {
    /// The package.
    pub package: PathBuf,
    /// Keys of minisign, each a file or the key itself, of which one must have signed the package. Without any it need
    /// not be signed.
    #[serde(default)]
    pub public_keys: Vec<String>,
    /// Score above which a part is rejected, instead of the package's.
    pub threshold: Option<f32>,
    /// What the networks run on, the best first: `tensorrt`, `cuda`, `cpu`.
    #[serde(default = "cpu")]
    pub providers: Vec<Provider>,
    /// Nothing but this provider will do: without it the service does not start.
    pub require: Option<Provider>,
    /// Threads of the networks on the CPU. One per core without it.
    pub threads: Option<NonZeroUsize>,
    /// ONNX Runtime's library. Looked for without it.
    pub onnxruntime: Option<PathBuf>,
    /// Folder for what TensorRT has built. The one that systemd gives (`CACHE_DIRECTORY`) without it.
    pub cache: Option<PathBuf>,
}

fn cpu() -> Vec<Provider> {
    vec![Provider::Cpu]
}

impl InspectionSettings {
    /// Opens the package, and verifies its signature where that is required.
    ///
    /// # Errors
    /// As [`PublicKeys::read`] and [`Package::open_signed`].
    pub fn open_package(&self) -> Result<Package> {
        Package::open_signed(&self.package, &self.keys()?)
    }

    /// The keys of which one must have signed the package.
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
    /// [`crate::ErrorKind::Io`] when the file cannot be read. [`crate::ErrorKind::Usage`] with file, line and key when a key is missing
    /// or unknown, or has a wrong value.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&crate::files::read_text(path)?, path)
    }

    /// The same for text that was read from `path`.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let (config, lines) = settings::read(text, &path.display().to_string())?;
        let config = Config { lines, ..config };
        config.validate().map_err(|e| config.locate(e))?;
        Ok(config)
    }

    /// Adds file and line to an error that names a key of this configuration.
    pub fn locate(&self, error: Error) -> Error {
        self.lines.locate(error)
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
        self.journal.as_ref().map_or(Ok(()), journal::Settings::validate)?;
        self.pictures.as_ref().map_or(Ok(()), pictures::Settings::validate)?;
        self.mqtt.as_ref().map_or(Ok(()), mqtt::Settings::validate)?;
        self.web.as_ref().map_or(Ok(()), web::Settings::validate)
    }
}

#[cfg(test)]
mod tests;
