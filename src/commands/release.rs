//! `weakrest release`: systemd runs it after the service has died.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;

use crate::files::read_text;
use crate::output::line::{HeldLines, Settings};
use crate::settings;
use crate::{Error, ErrorKind, Result};

use super::{Outcome, StateArguments};

/// Arguments of `release`.
#[derive(Debug, Args)]
pub struct Release {
    /// Configuration, for its lines if the service left no record of them
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    state: StateArguments,
}

impl Release {
    pub fn run(self) -> Result<Outcome> {
        // The kernel leaves the lines of a process that died at their last levels.
        let state = self.state.folder(&self.config);
        let held = HeldLines::read(&state).unwrap_or_else(|e| {
            remark!("warning: {}; the lines of the configuration are released", e.chain());
            None
        });
        let held = match held {
            Some(held) => Some(held),
            None => configured(&self.config)?,
        };
        if let Some(held) = held
            && let Err(mut errors) = held.release()
        {
            let last = errors.pop();
            for error in errors {
                remark!("error: {}", error.chain());
            }
            return last.map_or(Ok(Outcome::Pass), Err);
        }
        HeldLines::forget(&state)?;
        Ok(Outcome::Pass)
    }
}

/// The lines of a configuration. Other keys may be wrong.
fn configured(path: &Path) -> Result<Option<HeldLines>> {
    #[derive(Deserialize)]
    struct Configured {
        #[serde(default)]
        line: Wiring,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Wiring {
        chip: Option<PathBuf>,
        reject: Option<u32>,
        healthy: Option<u32>,
        active_low: bool,
    }
    let text = read_text(path)?;
    let (Configured { line }, _) = settings::read(&text, &path.display().to_string())
        .map_err(|e| Error::new(ErrorKind::Usage, "the lines to release are unknown").with_source(e))?;
    let Wiring { chip, reject, healthy, active_low } = line;
    Ok(HeldLines::of(&Settings { chip, reject, healthy, active_low, ..Settings::default() }))
}
