//! One file per sub-command. They know arguments, progress bars and exit codes, and no maths.

#[macro_use]
mod terminal;
mod bench;
mod check;
mod enroll;
mod evaluate;
mod inspect;
mod package;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use weakrest::Result;
use weakrest::inspector::Options;

/// Finds defects it has never been shown: learns what good parts look like from pictures of them.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 110,
    after_help = "Exit codes: 0 all pass, 1 rejects found, 2 usage, 3 fault."
)]
pub struct Arguments {
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
    Evaluate(evaluate::Evaluate),
    /// Look into a package, or verify it
    Package(package::Package),
    /// Say whether this machine can run inspections, and a package
    Check(check::Check),
    /// Measure the time of each stage on this machine
    Bench(bench::Bench),
}

/// How a command that worked ends the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
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

/// Carries out a command, and says what went wrong. The exit code says what became of it.
pub fn run(arguments: Arguments) -> ExitCode {
    match carry_out(arguments.command) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            if !terminal::reader_is_gone(&error) {
                remark!("error: {}", error.chain());
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
        Command::Check(command) => command.run(),
        Command::Bench(command) => command.run(),
    }
}

/// What every command that runs networks takes.
#[derive(Debug, Clone, Args)]
struct RuntimeArguments {
    /// ONNX Runtime's library (default: looked for beside the program and on the system)
    #[arg(long, value_name = "FILE", env = "ORT_DYLIB_PATH")]
    onnxruntime: Option<PathBuf>,
    /// Threads to compute with (default: one per core)
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

impl RuntimeArguments {
    /// The engine's options, with the process's thread pool set up to match.
    fn options(&self) -> Options {
        if let Some(threads) = self.threads {
            // Fails only when the pool exists already, which then has the number of threads of the first call.
            let _ = rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build_global();
        }
        Options { onnxruntime: self.onnxruntime.clone(), threads: self.threads, threshold: None }
    }
}
