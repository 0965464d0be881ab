//! The program, one file per command: arguments, progress bars and exit codes, and no math.

// `println!` panics when the output is closed. `say!` and `remark!` do not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
mod terminal;
mod account;
mod advice;
mod alarms;
mod audit;
mod background;
mod bench;
mod check;
mod enroll;
#[cfg(feature = "workshop")]
mod evaluate;
mod inspect;
mod judge;
#[cfg(feature = "workshop")]
mod label;
mod levels;
mod names;
mod package;
mod page;
mod release;
#[cfg(feature = "workshop")]
mod report;
#[cfg(feature = "workshop")]
mod residuals;
mod run;
#[cfg(feature = "workshop")]
mod train;
#[cfg(not(feature = "workshop"))]
mod workshop;

use std::num::NonZeroUsize;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::enroll::list_pictures;
use crate::inspector::{Inspector, Options, Provider};
use crate::settings::wanted;
use crate::state::StateFolder;
use crate::{ErrorKind, Package, Result};

#[cfg(feature = "workshop")]
use {evaluate::Evaluate, label::Label, residuals::Residuals, train::Train};
#[cfg(not(feature = "workshop"))]
use {
    workshop::Elsewhere as Evaluate, workshop::Elsewhere as Label, workshop::Elsewhere as Residuals,
    workshop::Elsewhere as Train,
};

#[cfg(feature = "workshop")]
const AFTER_HELP: &str = "Exit codes: 0 all pass, 1 rejects found, 2 usage, 3 fault.";
#[cfg(not(feature = "workshop"))]
const AFTER_HELP: &str = "\
Exit codes: 0 all pass, 1 rejects found, 2 usage, 3 fault.
The commands evaluate, label, residuals and train, and reports need the Debian package weakrest-workshop.";

/// Find defects on parts after learning from pictures of good parts only.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 110,
    after_help = AFTER_HELP
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Learn a product from pictures of good parts, and write its package
    Enroll(enroll::Enroll),
    /// Compare the levels of quality on a product: time, and which defects would be rejected
    Levels(levels::Levels),
    /// Inspect pictures
    Inspect(inspect::Inspect),
    /// Judge what the service sends
    #[command(hide = true)]
    Judge(judge::Judge),
    /// Measure accuracy on a labeled data set
    Evaluate(Evaluate),
    /// Show, verify, install or extend a package
    Package(package::Arguments),
    /// Label defects in the browser
    Label(Label),
    /// Train a head on labeled pictures, and add it to the package if it is better
    Train(Train),
    /// Write the residuals of pictures, for training a head with weakrest-export
    Residuals(Residuals),
    /// Inspect the frames of a camera, as a service
    Run(run::Run),
    /// Drive a dead service's output lines to their safe level
    Release(release::Release),
    /// Add, list or remove accounts of the web page
    Account(account::Arguments),
    /// Verify the audit log: who changed what
    Audit(audit::Arguments),
    /// Check this machine, a package or a configuration
    Check(check::Check),
    /// Measure the time of each stage on this machine
    Bench(bench::Bench),
}

/// The result of a command that ran without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Every part passed.
    Pass,
    /// A part was rejected.
    Reject,
    /// A part could not be inspected.
    Fault,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> ExitCode {
        ExitCode::from(match outcome {
            Outcome::Pass => 0,
            Outcome::Reject => 1,
            Outcome::Fault => 3,
        })
    }
}

/// The description of the arguments, for manual pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the command that the process's arguments name, and prints an error if it fails.
pub fn main() -> ExitCode {
    terminal::start_log();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(answer) => return terminal::explain(&answer),
    };
    match carry_out(arguments.command) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            if !terminal::reader_is_gone(&error) {
                // A list has one line per entry. A file name cannot look like the start of another message.
                let text = advice::chain(&error);
                let mut lines = text.split("\n  ");
                remark!("error: {}", lines.next().unwrap_or_default());
                lines.for_each(|line| remark!("  {line}"));
            }
            ExitCode::from(error.kind().exit_code())
        }
    }
}

fn carry_out(command: Command) -> Result<Outcome> {
    match command {
        Command::Enroll(command) => command.run(),
        Command::Levels(command) => command.run(),
        Command::Inspect(command) => command.run(),
        Command::Judge(command) => command.run(),
        Command::Evaluate(command) => command.run(),
        Command::Package(command) => command.run(),
        Command::Label(command) => command.run(),
        Command::Train(command) => command.run(),
        Command::Residuals(command) => command.run(),
        Command::Run(command) => command.run(),
        Command::Release(command) => command.run(),
        Command::Account(command) => command.run(),
        Command::Audit(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Bench(command) => command.run(),
    }
}

/// Arguments of commands that use the service's state.
#[derive(Debug, Clone, Args)]
struct StateArguments {
    /// Folder of the service's state [default: CONFIG.state]
    #[arg(long, value_name = "DIR", env = "STATE_DIRECTORY", hide_env_values = true)]
    state: Option<PathBuf>,
}

impl StateArguments {
    fn folder(&self, config: &Path) -> StateFolder {
        StateFolder::locate(self.state.clone(), config)
    }
}

/// Arguments of commands that run networks.
#[derive(Debug, Clone, Args)]
struct RuntimeArguments {
    /// ONNX Runtime's library [default: ORT_DYLIB_PATH, or the installed one]
    #[arg(long, value_name = "FILE")]
    onnxruntime: Option<PathBuf>,
    /// Number of threads [default: one per core]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = threads)]
    threads: Option<NonZeroUsize>,
    /// Providers for networks, in the order to try: `tensorrt`, `cuda`, `webgpu`, `cpu`. Without `cpu`, nothing falls
    /// back to it [default: cpu, or the configuration's]
    #[arg(long, value_name = "PROVIDER,...", value_delimiter = ',', value_parser = provider)]
    provider: Vec<Provider>,
    /// On a GPU, start the kernels of a network one by one, not as one captured graph
    #[arg(long)]
    no_graphs: bool,
    /// Give way to other programs, and end with the one that started this one
    #[arg(long)]
    background: bool,
}

fn provider(text: &str) -> Result<Provider, String> {
    let named = Provider::ALL.into_iter().find(|provider| provider.name() == text);
    named.ok_or_else(|| format!("must be {}", Provider::ALL.map(Provider::name).join(", ")))
}

impl RuntimeArguments {
    /// The inspector's options. Sets the size of the process's thread pool, too.
    fn options(&self) -> Options {
        self.options_over(Options::default())
    }

    /// The same, on top of a configuration's options.
    fn options_over(&self, mut options: Options) -> Options {
        if self.background {
            // Threads that begin later inherit it.
            background::enter();
        }
        if let Some(threads) = self.threads {
            // Fails only if the pool exists already. It keeps its size then.
            let _ = rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build_global();
        }
        options.execution.threads = self.threads.or(options.execution.threads);
        if !self.provider.is_empty() {
            options.execution.providers = self.provider.clone();
            options.execution.require = None;
        }
        options.execution.graphs &= !self.no_graphs;
        options.onnxruntime = self.onnxruntime.clone().or(options.onnxruntime);
        options
    }
}

/// Loads the package from `path`. Errors of the package name its path.
fn inspector(path: &Path, package: Package, options: &Options) -> Result<Inspector> {
    Inspector::with_options(package, options).map_err(|e| match e.kind() {
        ErrorKind::Runtime | ErrorKind::Usage => e,
        _ => e.within(path.display()),
    })
}

fn threads(text: &str) -> Result<NonZeroUsize, String> {
    // Thousands are a typing error, and make a machine unusable for minutes.
    const MOST: usize = 1024;
    text.parse().ok().filter(|n: &NonZeroUsize| n.get() <= MOST).ok_or(format!("must be 1 to {MOST}"))
}

/// Reads a number within bounds.
fn number<T>(low: Bound<f64>, high: Bound<f64>) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + Copy + Into<f64>,
{
    move |text| {
        let fits = |v: &T| (*v).into().is_finite() && (low, high).contains(&(*v).into());
        text.parse().ok().filter(fits).ok_or_else(|| format!("must be {}", wanted(&(low, high))))
    }
}

/// The pictures directly in a folder. Prints notes about other files.
fn pictures_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let (pictures, notes) = list_pictures(folder)?;
    notes.iter().for_each(|note| remark!("note: {note}"));
    Ok(pictures)
}

/// The folder of a file.
fn parent(file: &Path) -> &Path {
    file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
