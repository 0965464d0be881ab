//! `weakrest release`: what systemd does after a service that died.

use std::path::{Path, PathBuf};

use crate::output::line::{HeldLines, Settings};
use crate::{Error, ErrorKind, Result};
use clap::Args;
use serde::Deserialize;

use super::{Outcome, StateArguments};

/// Arguments of `release`.
#[derive(Debug, Args)]
pub struct Release {
    /// The service's configuration, for its lines where the service has not written down which ones it held
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

/// The lines of a configuration, of which the rest may be wrong.
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
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
    let Configured { line } = toml::from_str(&text).map_err(|e| {
        let message = format!("{}: which lines to release is not known", path.display());
        Error::new(ErrorKind::Usage, message).with_source(e)
    })?;
    let Wiring { chip, reject, healthy, active_low } = line;
    Ok(HeldLines::of(&Settings { chip, reject, healthy, active_low, ..Settings::default() }))
}
