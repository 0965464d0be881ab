//! Where results go: each output is optional, and none can delay the line, because each has a thread and a bounded
//! queue of its own.

pub mod journal;
pub mod line;
pub mod mqtt;
pub mod pictures;
#[cfg(test)]
mod tests;
pub mod web;

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::time::SystemTime;

use crate::error::Result;
use crate::record::{Record, Status};

/// Passes results on. It is called from one thread of its own, and may take its time: meanwhile the oldest parts that
/// wait for it are dropped and counted.
pub trait Output: Send {
    /// Name for logs, counters and problems.
    fn name(&self) -> &'static str;

    /// Passes on one part.
    ///
    /// # Errors
    /// Whatever is wrong; it is counted and shown until a part is passed on again. The next part is tried anyway.
    fn publish(&mut self, record: &Record) -> Result<()>;

    /// Called about once a second, whether there are parts or not.
    ///
    /// # Errors
    /// As [`Output::publish`].
    fn tick(&mut self, now: SystemTime, status: &Status) -> Result<()> {
        let _ = (now, status);
        Ok(())
    }

    /// Called once, when no more parts come.
    ///
    /// # Errors
    /// As [`Output::publish`].
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A new name for one start of the service: 16 random hexadecimal digits. With it, part numbers, which begin
/// again at 1, name a part for good. All outputs of one start get the same.
pub fn run_id() -> String {
    // The keys of the standard library's hash tables come from the operating system's random numbers.
    format!("{:016x}", RandomState::new().hash_one(SystemTime::now()))
}

/// What a person or a machine can ask of a running line through an output.
pub trait Control: Send + Sync {
    /// Triggers a part now; gives its number.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] where the line has no software trigger.
    fn trigger(&self) -> Result<u64>;

    /// Halts the line, or resumes it, as a person decided.
    ///
    /// # Errors
    /// What is wrong with the disk that is to remember it. The line is halted then, in either case.
    fn set_halted(&self, halted: bool) -> Result<()>;

    /// Asks for the configuration to be read again.
    fn reload(&self);

    /// State, counters and times.
    fn status(&self) -> &Status;
}

/// Puts kept pictures of parts where they will be labeled.
pub(crate) trait Labeling: Send + Sync {
    /// Copies the original of a rejected part of this run, which was triggered then, to the millisecond.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] when it is not kept (any more); otherwise what went wrong with the files.
    fn label(&self, part: u64, triggered: SystemTime) -> Result<Labeled>;
}

/// A picture that waits to be labeled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Labeled {
    /// Where it is.
    pub file: PathBuf,
    /// False when it was there already.
    pub copied: bool,
}

/// An output that is opened when that becomes possible, and until then says why it is not: a broken disk or a taken
/// port must not keep the line from running.
pub(crate) struct Reopening<F> {
    name: &'static str,
    open: F,
    output: Option<Box<dyn Output>>,
}

impl<F: FnMut() -> Result<Box<dyn Output>> + Send> Reopening<F> {
    /// Tries to open it for the first time.
    pub fn new(name: &'static str, mut open: F) -> Self {
        let output = match open() {
            Ok(output) => Some(output),
            Err(e) => {
                log::warn!("{name}: {}; will be tried again", e.chain());
                None
            }
        };
        Reopening { name, open, output }
    }

    fn opened(&mut self) -> Result<&mut Box<dyn Output>> {
        match &mut self.output {
            Some(output) => Ok(output),
            none => Ok(none.insert((self.open)()?)),
        }
    }
}

impl<F: FnMut() -> Result<Box<dyn Output>> + Send> Output for Reopening<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn publish(&mut self, record: &Record) -> Result<()> {
        self.opened()?.publish(record)
    }

    fn tick(&mut self, now: SystemTime, status: &Status) -> Result<()> {
        self.opened()?.tick(now, status)
    }

    fn finish(&mut self) -> Result<()> {
        self.output.as_mut().map_or(Ok(()), |output| output.finish())
    }
}
