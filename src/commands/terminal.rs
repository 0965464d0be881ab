//! Output to the terminal.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[cfg(feature = "workshop")]
use crate::report::Table;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::enroll::Step;
use crate::error::without_passwords;
use crate::{Error, Result};

/// Prints a line to stdout. `println!` panics when the disk is full or the reader is gone (`weakrest … | head
/// -1`).
macro_rules! say {
    ($($text:tt)*) => { $crate::commands::terminal::print(format_args!($($text)*)) };
}

/// Prints a note to stderr. A failure to print it is ignored.
macro_rules! remark {
    ($($text:tt)*) => { $crate::commands::terminal::tell(format_args!($($text)*)) };
}

/// Whether a terminal acts on a character instead of showing it.
fn acts(c: char) -> bool {
    let turns =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// A line that is safe to show, whatever file names it has. Characters that move the cursor, begin a line or
/// turn the direction of writing are escaped as in JSON, so JSON stays the same. Passwords of addresses are
/// left out.
fn plain(line: &str) -> Cow<'_, str> {
    let line = without_passwords(line);
    if !line.contains(acts) {
        return line;
    }
    let mut text = String::with_capacity(line.len() + 8);
    for c in line.chars() {
        let _ = match c {
            '\n' => text.write_str("\\n"),
            c if acts(c) => write!(text, "\\u{:04x}", u32::from(c)),
            c => text.write_char(c),
        };
    }
    text.into()
}

/// Implements [`say`].
pub fn print(line: impl Display) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{}", plain(&line.to_string()))
        .map_err(|e| Error::io("write to", Path::new("standard output"), e))
}

/// Implements [`remark`].
pub fn tell(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{}", plain(&line.to_string()));
}

/// Sends the library's log to stderr.
pub fn start_log() {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn"))
        .format(|to, record| {
            let (level, style) = (record.level(), to.default_level_style(record.level()));
            writeln!(to, "[{style}{level:<5}{style:#}] {}", plain(&record.args().to_string()))
        })
        .init();
}

/// Prints help, or what is wrong with the arguments.
pub fn explain(answer: &clap::Error) -> ExitCode {
    let arguments = || std::env::args_os().map(|a| a.to_string_lossy().into_owned());
    match arguments().find(|argument| answer.use_stderr() && argument.contains(acts)) {
        // Clap would print the argument, maybe a file name from `*`, as it is.
        Some(argument) => {
            let what = answer.kind().as_str().unwrap_or("wrong arguments");
            tell(format_args!("error: {what}: {argument}"));
            tell("put -- before file names that begin with -; see --help");
        }
        None => drop(answer.print()),
    }
    ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(2))
}

/// Whether printing failed because the reader is gone, which is no error.
pub fn reader_is_gone(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|e| e.downcast_ref::<std::io::Error>());
    cause.is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
}

/// A progress bar for the steps of enrolling, hidden without a terminal, or lines for another program.
pub struct EnrollBar {
    bar: ProgressBar,
    step: Option<Step>,
    /// The time of the latest line, if there are lines.
    lines: Option<Option<Instant>>,
}

/// Least time between two lines of progress.
const LINES: Duration = Duration::from_millis(200);

impl EnrollBar {
    pub fn new() -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        EnrollBar { bar: bar(target), step: None, lines: None }
    }

    /// Prints a JSON object per line: `step`, `done`, `of`.
    pub fn lines() -> Self {
        EnrollBar { bar: bar(ProgressDrawTarget::hidden()), step: None, lines: Some(None) }
    }

    /// Shows (step, done, total). Returns whether the work goes on: not without a reader of the lines.
    pub fn show(&mut self, step: Step, done: usize, of: usize) -> bool {
        if let Some(last) = &mut self.lines {
            if self.step == Some(step) && last.is_some_and(|last| last.elapsed() < LINES) {
                return true;
            }
            (self.step, *last) = (Some(step), Some(Instant::now()));
            return say!("{}", serde_json::json!({ "step": words(step), "done": done, "of": of })).is_ok();
        }
        if self.step != Some(step) {
            self.step = Some(step);
            self.bar.reset();
            self.bar.set_message(words(step));
        }
        self.bar.set_length(of as u64);
        self.bar.set_position(done as u64);
        true
    }

    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}

fn words(step: Step) -> &'static str {
    match step {
        Step::Ranges => "measuring ranges",
        Step::Features => "reading pictures",
        Step::Coreset => "choosing tokens",
        Step::Scores => "scoring good parts",
        Step::Forecast => "painting defects",
        Step::Training => "training a head",
    }
}

fn bar(target: ProgressDrawTarget) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), target);
    if let Ok(style) = ProgressStyle::with_template("{msg:20} {wide_bar} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    bar
}

/// A progress bar that counts pictures.
#[cfg(feature = "workshop")]
pub fn picture_bar(count: usize, message: &'static str) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = bar(target);
    bar.set_length(count as u64);
    bar.set_message(message);
    bar
}

/// Prints a table without its title. The first `names` columns are aligned left, the others right.
#[cfg(feature = "workshop")]
pub fn print_table(table: &Table, names: usize) -> Result<()> {
    let rows = || std::iter::once(&table.columns).chain(&table.rows);
    let widths: Vec<usize> = (0..table.columns.len())
        .map(|column| rows().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max().unwrap_or(0))
        .collect();
    for row in rows() {
        let cells = row.iter().zip(&widths).enumerate();
        let line: Vec<String> = cells
            .map(|(i, (cell, &w))| if i < names { format!("{cell:<w$}") } else { format!("{cell:>w$}") })
            .collect();
        print(line.join("  ").trim_end())?;
    }
    Ok(())
}
