//! `weakrest residuals`

use std::path::PathBuf;

use clap::Args;

use crate::training::write_residuals;
use crate::{Package, Result};

use super::terminal::picture_bar;
use super::{Outcome, RuntimeArguments};

/// Arguments of `residuals`.
#[derive(Debug, Args)]
pub struct Residuals {
    /// Package of the product
    package: PathBuf,
    /// List of {"image": "PATH"} or {"image": "PATH", "leave_out": "PATH"}, one per line
    #[arg(long, value_name = "FILE.jsonl")]
    list: PathBuf,
    /// Output folder, created if missing
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Also write the backbone's input, for training ADClick
    #[arg(long)]
    pictures: bool,
    #[command(flatten)]
    runtime: RuntimeArguments,
}

impl Residuals {
    pub fn run(self) -> Result<Outcome> {
        let package = Package::open(&self.package)?;
        let mut bar = None;
        let options = self.runtime.options();
        write_residuals(package, &self.list, &self.output, self.pictures, &options, |done, of| {
            bar.get_or_insert_with(|| picture_bar(of, "computing residuals")).set_position(done as u64);
        })?;
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        Ok(Outcome::Pass)
    }
}
