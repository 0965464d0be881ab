//! Lines that write every edge to a file, for trials without hardware.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Line, Lines};
use crate::error::{Error, Result};

/// Lines that write to a file. Each edge is a line `NANOSECONDS reject|healthy 0|1`, by the kernel's
/// monotonic clock.
pub struct RecordedLines {
    file: File,
    path: PathBuf,
    levels: [bool; 2],
}

impl RecordedLines {
    /// Opens the file to append. Both lines are inactive then.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) if the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|e| Error::io("open", path, e))?;
        Ok(RecordedLines { file, path: path.to_owned(), levels: [false; 2] })
    }
}

impl Lines for RecordedLines {
    fn set(&mut self, line: Line, active: bool) -> Result<()> {
        if self.levels[line as usize] == active {
            return Ok(());
        }
        let name = match line {
            Line::Reject => "reject",
            Line::Healthy => "healthy",
        };
        let clock = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let text = format!("{} {name} {}\n", clock.tv_sec * 1_000_000_000 + clock.tv_nsec, u8::from(active));
        self.file.write_all(text.as_bytes()).map_err(|e| Error::io("write", &self.path, e))?;
        self.levels[line as usize] = active;
        Ok(())
    }

    fn has(&self, _: Line) -> bool {
        true
    }
}

impl Drop for RecordedLines {
    fn drop(&mut self) {
        for line in [Line::Reject, Line::Healthy] {
            if let Err(e) = self.set(line, false) {
                log::error!("{}", e.chain());
            }
        }
    }
}
