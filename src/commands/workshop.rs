//! Commands that the device's program lacks. It runs the workshop's program instead, if that is installed.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use clap::Args;

use super::Outcome;
use crate::{Error, ErrorKind, Result};

/// The workshop's program, as its package installs it.
const PROGRAM: &str = "../lib/weakrest/weakrest-workshop";

/// Replaces this process by the workshop's program with the same arguments. Returns the error if that fails.
pub fn hand_over(what: &str) -> Error {
    let Some(program) = installed() else {
        let text =
            format!("{what} needs the package weakrest-workshop; apt install ./weakrest-workshop_*.deb");
        return Error::new(ErrorKind::Usage, text);
    };
    let error = Command::new(&program).arg0("weakrest").args(std::env::args_os().skip(1)).exec();
    Error::io("run", &program, error)
}

fn installed() -> Option<PathBuf> {
    std::env::current_exe().ok()?.parent()?.join(PROGRAM).canonicalize().ok()
}

/// Arguments of any command of the workshop.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct Elsewhere {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Elsewhere {
    pub fn run(self) -> Result<Outcome> {
        let name = std::env::args_os().nth(1).unwrap_or_default();
        Err(hand_over(&format!("weakrest {}", name.display())))
    }
}
