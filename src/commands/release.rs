//! `weakrest release`: what systemd does after a service that died.

use std::path::PathBuf;

use clap::Args;
use weakrest::Result;
use weakrest::config::Config;

use super::{Outcome, StateArguments};

/// Arguments of `release`.
#[derive(Debug, Args)]
pub struct Release {
    /// The service's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    state: StateArguments,
}

impl Release {
    pub fn run(self) -> Result<Outcome> {
        // The kernel leaves the lines of a process that died at their last levels. Taking hold of them makes both
        // inactive, and letting them go changes nothing.
        drop(Config::read(&self.config)?.line.open()?);
        Ok(Outcome::Pass)
    }
}
