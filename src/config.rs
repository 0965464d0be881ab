//! The device's configuration: one TOML file. Each table belongs to a room of its own, which documents and checks its keys.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::camera::{Framing, HealthSettings, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::inspector::Options;
use crate::onnx::{Execution, Interrupt, Provider};
use crate::output::{journal, line, mqtt, pictures, web};
use crate::package::{Package, PublicKeys};
use crate::pipeline::{self, Trigger};

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
        PublicKeys::read(&self.public_keys).map_err(|e| e.within("inspection.public_keys"))
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
    /// [`ErrorKind::Io`] when the file cannot be read; [`ErrorKind::Usage`] naming the file, the key and its line when a
    /// key is missing, unknown or has a value that cannot be.
    pub fn read(path: &Path) -> Result<Self> {
        let text = crate::files::read_text(path)?;
        Self::parse(&text).map_err(|e| e.within(path.display()))
    }

    /// The same for text.
    ///
    /// # Errors
    /// As [`Config::read`], without the file's name.
    pub fn parse(text: &str) -> Result<Self> {
        let config: Config = toml::from_str(text).map_err(|e| {
            let error = Error::new(ErrorKind::Usage, without_value(e.message()));
            let Some(span) = e.span() else { return error };
            let (line, key) = place_of(text, span.start);
            let error = if let Some(key) = key { error.within(key) } else { error };
            error.within(format!("line {line}"))
        })?;
        config.validate().map_err(|e| {
            let message = e.chain();
            match line_of(text, &message) {
                Some(line) => e.within(format!("line {line}")),
                None => e,
            }
        })?;
        Ok(config)
    }

    fn validate(&self) -> Result<()> {
        let inspection = &self.inspection;
        if inspection.threshold.is_some_and(|t| !(t.is_finite() && t >= 0.0)) {
            return Err(Error::new(ErrorKind::Usage, "inspection.threshold must be 0 or more"));
        }
        inspection.options().execution.validate()?;
        self.camera.validate()?;
        self.framing.validate()?;
        self.health.validate()?;
        self.trigger.validate()?;
        self.line.validate()?;
        self.pipeline.validate()?;
        let within = |table: &str, result: Result<()>| result.map_err(|e| e.within(table));
        within("journal", self.journal.as_ref().map_or(Ok(()), journal::Settings::validate))?;
        within("pictures", self.pictures.as_ref().map_or(Ok(()), pictures::Settings::validate))?;
        within("mqtt", self.mqtt.as_ref().map_or(Ok(()), mqtt::Settings::validate))?;
        self.web.as_ref().map_or(Ok(()), web::Settings::validate)
    }
}

/// A message of TOML without what was given: it may be a secret in the wrong place, and messages are shown to everybody.
fn without_value(message: &str) -> String {
    const VALUES: [&str; 4] = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant "];
    // The text given may have such a word in it, what is expected has not.
    match message.rsplit_once(", expected ") {
        Some((start, expected)) if VALUES.iter().any(|value| start.starts_with(value)) => {
            format!("this value cannot be, expected {expected}")
        }
        _ if VALUES.iter().any(|value| message.starts_with(value)) => "this value cannot be".into(),
        _ => message.trim_end().replace('\n', "; "),
    }
}

/// The line of a place in the text, counted from 1, and the key that begins it.
fn place_of(text: &str, place: usize) -> (usize, Option<&str>) {
    let before = text.get(..place).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = text[start..].lines().next().unwrap_or_default();
    let is_key =
        |key: &&str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    // What ends with a sign of equality is encoded, not assigned.
    let assigned = line.split_once('=').filter(|(_, value)| !value.trim_matches([' ', '\t', '=']).is_empty());
    (before.matches('\n').count() + 1, assigned.map(|(key, _)| key.trim()).filter(is_key))
}

/// The line, counted from 1, of the key that a message begins with, if it is in the text.
fn line_of(text: &str, message: &str) -> Option<usize> {
    // Either `table.key …` or `table: key: …`.
    let mut words = message.split([' ', '.', ':']).filter(|word| !word.is_empty());
    let (table, key) = (words.next()?, words.next()?);
    let mut current = "";
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.split_once(']')) {
            current = name.0.trim();
        } else if current == table && line.split('=').next().is_some_and(|k| k.trim() == key) {
            return Some(number + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str =
        "[inspection]\npackage = \"p\"\n[camera]\nkind = \"folder\"\npath = \"d\"\nrate = 5\n";

    #[test]
    fn the_least_configuration_will_do() {
        let config = Config::parse(LEAST).unwrap();
        assert_eq!(config.trigger, Trigger::free());
        assert_eq!(config.inspection.providers, [Provider::Cpu]);
    }

    #[test]
    fn what_is_wrong_is_told_with_key_and_line() {
        for (more, told) in [
            (
                "[line]\ntravel_ms = 100\ndeadline_ms = 200\n",
                &["line 9", "line.deadline_ms", "line.travel_ms"][..],
            ),
            ("[lines]\ntravel_ms = 100\n", &["lines", "line 7"]),
            ("[line]\ntravel = 100\n", &["travel", "line 8", "travel_ms"]),
            ("[line]\nreject = 3\n", &["line 8", "line.reject", "line.chip"]),
            ("[line]\npulse_ms = \"long\"\n", &["line 8", "pulse_ms"]),
            ("[pipeline]\n\n# deep\nqueue = 1000\n", &["line 10", "pipeline.queue", "256"]),
            ("[health]\nblack = -1\n", &["line 8", "health.black"]),
            ("[journal]\npath = \"j\"\nkeep_days = 0\n", &["line 9", "journal", "keep_days"]),
            ("[framing]\nrotation = 45\n", &["line 8", "framing.rotation"]),
            ("[trigger]\nsource = \"magic\"\n", &["line 8", "source", "software"]),
        ] {
            let error = Config::parse(&format!("{LEAST}{more}")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            let text = error.chain();
            for word in told {
                assert!(text.contains(word), "{word} is missing in\n{text}");
            }
        }
    }

    #[test]
    fn a_secret_in_the_wrong_place_is_not_told() {
        for wrong in [
            "[web]\nlisten = \"S3CRET\"\n",
            "[web]\nlisten = \"S3CRET\n",
            "[web]\nlisten = S3CRET\n",
            "[web]\nlisten = 'S3CRET\\'' # \n",
            "[web]\ntoken_file = \"S3\\CRET\"\n",
            "[web]\ntoken = \"S3CRET\"\n",
            "[web]\nrejects = \"S3CRET, expected S3CRET\"\n",
            "[mqtt]\nprefix = \"p\"\npassword = \"S3CRET\"\n",
            "[mqtt]\nprefix = \"p\"\nport = \"S3CRET\"\n",
            "[mqtt]\nprefix = \"p\"\nport = [\n  \"S3CRET\"\n]\n",
            "[mqtt]\nprefix = \"p\"\nclient_id = \"\"\"\nS3CRET==\n",
            "[mqtt]\nS3CRET==\n",
            "[mqtt]\npassword: S3CRET\n",
            "mqtt = \"S3CRET\"\n",
            "[trigger]\nsource = \"S3CRET\"\n",
            "[line]\non_fault = \"S3CRET\"\n",
        ] {
            let text = format!("{LEAST}{wrong}");
            let told = Config::parse(&text).unwrap_err().chain();
            assert!(!told.contains("S3") && !told.contains("CRET"), "{told}");
            assert!(told.contains("line "), "{told}");
        }
        let told = Config::parse(&format!("{LEAST}[web]\nlisten = \"oops\n")).unwrap_err().chain();
        assert!(told.contains("line 8: listen: "), "{told}");
    }

    #[test]
    fn a_rate_that_no_duration_can_hold_is_refused() {
        for rate in ["0", "-1", "1e-300", "nan", "inf", "5000"] {
            let error = Config::parse(&LEAST.replace("rate = 5", &format!("rate = {rate}"))).unwrap_err();
            assert!(error.chain().contains("camera.rate"), "{rate}: {}", error.chain());
        }
    }
}
