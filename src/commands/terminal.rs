//! What commands show on the terminal.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use weakrest::enroll::Step;

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

/// A duration in milliseconds.
pub fn ms(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
