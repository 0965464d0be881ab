//! `weakrest levels`

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::Result;
use crate::enroll::{Quality, Settings, enroll};

use super::enroll::{KnownDefects, Level, forecast, unless_stopped};
use super::terminal::EnrollBar;
use super::{Outcome, RuntimeArguments, pictures_in};

/// Arguments of `levels`.
#[derive(Debug, Args)]
pub struct Levels {
    /// Folder of pictures of good parts, all of one size
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Leave out pictures that cannot be used
    #[arg(long)]
    skip_bad: bool,
    /// Accept pictures of different sizes
    #[arg(long)]
    any_size: bool,
    #[command(flatten)]
    known: KnownDefects,
    #[command(flatten)]
    runtime: RuntimeArguments,
    /// Print the comparison as JSON
    #[arg(long)]
    json: bool,
}

impl Levels {
    pub fn run(self) -> Result<Outcome> {
        let (pictures, defects) = (pictures_in(&self.images)?, self.known.pictures()?);
        let options = self.runtime.options();
        let mut found = Vec::new();
        for level in Level::value_variants() {
            let quality = Quality::from(*level);
            let settings = Settings {
                skip_bad: self.skip_bad,
                any_size: self.any_size,
                defects: defects.clone(),
                ..quality.settings()
            };
            let backbone = quality.backbone()?;
            let done = unless_stopped(EnrollBar::new(), |progress| {
                enroll(&pictures, &backbone, &settings, &options, progress)
            })?;
            let name = level.to_possible_value().map_or_else(String::new, |name| name.get_name().to_owned());
            let (manifest, milliseconds) = (&done.package.manifest, done.time.as_secs_f64() * 1e3);
            let rejected = done.defects.iter().filter(|(_, score)| *score > manifest.threshold.value).count();
            if self.json {
                found.push(serde_json::json!({
                    "quality": name,
                    "milliseconds": milliseconds,
                    "provider": done.provider,
                    "forecast": manifest.forecast,
                    "known_defects": done.defects.len(),
                    "known_defects_rejected": rejected,
                }));
                continue;
            }
            say!("{name:10} {milliseconds:.1} ms a picture on this machine, networks on {}", done.provider)?;
            for line in forecast(manifest) {
                say!("{line}")?;
            }
            if !done.defects.is_empty() {
                let known = done.defects.len();
                say!("defects    {rejected} of {known} known defects score above the threshold")?;
            }
            say!("")?;
        }
        if self.json {
            say!("{}", serde_json::json!({ "levels": found }))?;
        } else {
            say!("Choose the lowest level that sees your smallest defect: weakrest enroll --quality LEVEL")?;
        }
        Ok(Outcome::Pass)
    }
}
