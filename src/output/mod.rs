//! Where results go: each output is optional, and none can delay the line, because each has a thread and a bounded
//! queue of its own.

pub mod web;

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

/// What a person or a machine can ask of a running line through an output.
pub trait Control: Send + Sync {
    /// Triggers a part now; gives its number.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] where the line has no software trigger.
    fn trigger(&self) -> Result<u64>;

    /// Halts the line, or resumes it.
    fn set_halted(&self, halted: bool);

    /// Asks for the configuration to be read again.
    fn reload(&self);

    /// State, counters and times.
    fn status(&self) -> &Status;
}
