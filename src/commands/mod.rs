//! The program: one file per sub-command. They know arguments, progress bars and exit codes, and no maths.

// They panic when standard output or standard error is gone; `say!` and `remark!` do not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
mod terminal;
mod advice;
mod alarms;
mod bench;
mod check;
mod enroll;
#[cfg(feature = "workshop")]
mod evaluate;
mod inspect;
#[cfg(feature = "workshop")]
mod label;
mod names;
mod package;
mod release;
#[cfg(feature = "workshop")]
mod report;
#[cfg(feature = "workshop")]
mod residuals;
mod run;
#[cfg(not(feature = "workshop"))]
mod workshop;

use std::num::NonZeroUsize;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use crate::enroll::list_pictures;
use crate::inspector::{Inspector, Options};
use crate::state::StateFolder;
use crate::{Error, ErrorKind, Package, Result};
use clap::{Args, CommandFactory, Parser, Subcommand};

#[cfg(feature = "workshop")]
use {evaluate::Evaluate, label::Label, report::PictureReport, residuals::Residuals};
#[cfg(not(feature = "workshop"))]
use {
    workshop::Elsewhere as Evaluate, workshop::Elsewhere as Label, workshop::Elsewhere as Residuals,
    workshop::PictureReport,
};

#[cfg(feature = "workshop")]
const AFTER_HELP: &str = "Exit codes: 0 all pass, 1 rejects found, 2 usage, 3 fault.";
#[cfg(not(feature = "workshop"))]
const AFTER_HELP: &str = "\
Exit codes: 0 all pass, 1 rejects found, 2 usage, 3 fault.
The commands evaluate, label and residuals, and reports, need the package weakrest-workshop.";

/// Finds defects it has never been shown: learns what good parts look like from pictures of them.
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
    /// Make a package from pictures of good parts
    Enroll(enroll::Enroll),
    /// Judge pictures
    Inspect(inspect::Inspect),
    /// Measure how good inspections are on a labeled data set
    Evaluate(Evaluate),
    /// Look into a package, or verify it
    Package(package::Arguments),
    /// Mark defects in the browser, for training
    Label(Label),
    /// Write what training a head reads: residuals of pictures
    Residuals(Residuals),
    /// Run beside a camera, as a service
    Run(run::Run),
    /// Make the lines of a service inactive that died
    Release(release::Release),
    /// Say whether this machine can run inspections, and a package
    Check(check::Check),
    /// Measure the time of each stage on this machine
    Bench(bench::Bench),
}

/// How a command that worked ends the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Everything passes.
    Pass,
    /// Something was rejected.
    Reject,
    /// Something could not be judged.
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

/// The whole program: carries out the command of the process's arguments, and says what went wrong. The exit code says
/// what became of it.
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
                // Lists have a line for each entry, which no name of a file can begin but like an entry.
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
        Command::Inspect(command) => command.run(),
        Command::Evaluate(command) => command.run(),
        Command::Package(command) => command.run(),
        Command::Label(command) => command.run(),
        Command::Residuals(command) => command.run(),
        Command::Run(command) => command.run(),
        Command::Release(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Bench(command) => command.run(),
    }
}

/// What every command takes that needs what outlives the service.
#[derive(Debug, Clone, Args)]
struct StateArguments {
    /// Folder for what must outlive the service [default: CONFIG.state beside the configuration]
    #[arg(long, value_name = "DIR", env = "STATE_DIRECTORY", hide_env_values = true)]
    state: Option<PathBuf>,
}

impl StateArguments {
    fn folder(&self, config: &Path) -> StateFolder {
        StateFolder::locate(self.state.clone(), config)
    }
}

/// What every command that runs networks takes.
#[derive(Debug, Clone, Args)]
struct RuntimeArguments {
    /// ONNX Runtime's library (default: the one in ORT_DYLIB_PATH, beside the program, or of the system)
    #[arg(long, value_name = "FILE")]
    onnxruntime: Option<PathBuf>,
    /// Threads to compute with (default: one per core)
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = threads)]
    threads: Option<NonZeroUsize>,
}

impl RuntimeArguments {
    /// The engine's options, with the process's thread pool set up to match.
    fn options(&self) -> Options {
        self.options_over(Options::default())
    }

    /// The same over what a service's configuration says.
    fn options_over(&self, mut options: Options) -> Options {
        if let Some(threads) = self.threads {
            // Fails only when the pool exists already, which then has the number of threads of the first call.
            let _ = rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build_global();
        }
        options.execution.threads = self.threads.or(options.execution.threads);
        options.onnxruntime = self.onnxruntime.clone().or(options.onnxruntime);
        options
    }
}

/// The engine for the package at `path`, which errors name where it is at fault.
fn inspector(path: &Path, package: Package, options: &Options) -> Result<Inspector> {
    Inspector::with_options(package, options).map_err(|e| match e.kind() {
        ErrorKind::Runtime | ErrorKind::Usage => e,
        _ => e.within(path.display()),
    })
}

fn threads(text: &str) -> Result<NonZeroUsize, String> {
    // Thousands are a slip of the finger, and make a machine unusable for minutes.
    const MOST: usize = 1024;
    text.parse().ok().filter(|n: &NonZeroUsize| n.get() <= MOST).ok_or(format!("must be 1 to {MOST}"))
}

/// Reads a finite number within bounds.
fn number<T>(low: Bound<f64>, high: Bound<f64>) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + Copy + Into<f64>,
{
    move |text| {
        let fits = |v: &T| (*v).into().is_finite() && (low, high).contains(&(*v).into());
        text.parse().ok().filter(fits).ok_or_else(|| {
            let low = match low {
                Bound::Included(v) => Some(format!("of at least {v}")),
                Bound::Excluded(v) => Some(format!("above {v}")),
                Bound::Unbounded => None,
            };
            let high = match high {
                Bound::Included(v) => Some(format!("at most {v}")),
                Bound::Excluded(v) => Some(format!("below {v}")),
                Bound::Unbounded => None,
            };
            let bounds: Vec<String> = low.into_iter().chain(high).collect();
            format!("must be a number {}", bounds.join(" and "))
        })
    }
}

/// The pictures directly in a folder. What is passed over there is told.
fn pictures_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let (pictures, notes) = list_pictures(folder)?;
    notes.iter().for_each(|note| remark!("note: {note}"));
    Ok(pictures)
}

/// The folder that a file lies in.
fn parent(file: &Path) -> &Path {
    file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether a report can be written to `path`, as far as that is seen now, before long work. Forgetting to name the
/// report, as in `--report part-1.png part-2.png`, must not cost a picture.
fn check_report(path: &Path) -> Result<()> {
    let usage = |what: String| Err(Error::new(ErrorKind::Usage, what).within(path.display()));
    if !path.extension().is_some_and(|e| e.eq_ignore_ascii_case("html") || e.eq_ignore_ascii_case("htm")) {
        return usage("the name of a report must end in .html".into());
    }
    if path.is_dir() {
        return usage("a folder of this name is in the report's place".into());
    }
    if !parent(path).is_dir() {
        return usage(format!("the folder {} does not exist; create it first", parent(path).display()));
    }
    Ok(())
}
