//! What commands show on the terminal.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use weakrest::enroll::Step;
use weakrest::report::Table;

/// A progress bar for the steps of enrolling. Silent when nobody looks.
pub struct EnrollBar {
    bar: ProgressBar,
    step: Option<Step>,
}

impl EnrollBar {
    pub fn new() -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        EnrollBar { bar: bar(target), step: None }
    }

    /// Shows a step's progress; always answers that the work goes on.
    pub fn show(&mut self, step: Step, done: usize, of: usize) -> bool {
        if self.step != Some(step) {
            self.step = Some(step);
            self.bar.reset();
            self.bar.set_message(match step {
                Step::Features => "reading pictures",
                Step::Coreset => "choosing tokens",
                Step::Scores => "scoring good parts",
            });
        }
        self.bar.set_length(of as u64);
        self.bar.set_position(done as u64);
        true
    }

    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}

fn bar(target: ProgressDrawTarget) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), target);
    if let Ok(style) = ProgressStyle::with_template("{msg:20} {wide_bar} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    bar
}

/// A bar that counts pictures.
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

/// Prints a table without its title: the first `names` columns to the left, as words are, the others to the right.
pub fn print_table(table: &Table, names: usize) {
    let rows = || std::iter::once(&table.columns).chain(&table.rows);
    let widths: Vec<usize> = (0..table.columns.len())
        .map(|column| rows().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max().unwrap_or(0))
        .collect();
    for row in rows() {
        let cells = row.iter().zip(&widths).enumerate();
        let line: Vec<String> = cells
            .map(|(i, (cell, &w))| if i < names { format!("{cell:<w$}") } else { format!("{cell:>w$}") })
            .collect();
        println!("{}", line.join("  ").trim_end());
    }
}

/// A duration in milliseconds.
pub fn ms(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
