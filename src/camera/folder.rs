//! A folder of pictures that acts as a camera.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Camera, Captured, FolderSettings, OpenCamera, Timing};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::{Frame, find_pictures};

/// Opens a folder as a camera.
#[derive(Debug, Clone)]
pub struct FolderOpener {
    /// The folder and its rate.
    pub settings: FolderSettings,
    /// Time.
    pub clock: Clock,
}

impl OpenCamera for FolderOpener {
    fn open(&mut self) -> Result<Box<dyn Camera>> {
        let gone = |e: Error| {
            Error::new(ErrorKind::Camera, "is no folder of pictures").with_source(e).with_key("camera.path")
        };
        Ok(Box::new(FolderCamera {
            pictures: find_pictures(&self.settings.path).map_err(gone)?,
            next: 0,
            due: self.clock.now(),
            period: Duration::from_secs_f64(1.0 / self.settings.rate),
            repeat: self.settings.repeat,
            clock: self.clock.clone(),
        }))
    }

    fn describe(&self) -> String {
        format!("the pictures in {}", self.settings.path.display())
    }
}

struct FolderCamera {
    pictures: Vec<PathBuf>,
    /// The index of the next picture.
    next: usize,
    due: Instant,
    period: Duration,
    repeat: bool,
    clock: Clock,
}

impl Camera for FolderCamera {
    fn wait(&mut self, timeout: Duration) -> Result<Option<Captured>> {
        let limit = self.clock.now() + timeout;
        if self.next >= self.pictures.len() && !self.repeat {
            self.clock.sleep_until(limit);
            return Ok(None);
        }
        if self.due > limit {
            self.clock.sleep_until(limit);
            return Ok(None);
        }
        self.clock.sleep_until(self.due);
        let at = self.due;
        self.next = self.next % self.pictures.len() + 1;
        // A slow reader gets the next frame at once, but frames do not pile up.
        self.due = (self.due + self.period).max(self.clock.now());
        Ok(Some(Captured::at(at)))
    }

    fn timing(&self) -> Timing {
        Timing { period: Some(self.period), exposure: None }
    }

    fn read(&mut self, frame: &mut Frame) -> Result<()> {
        *frame = Frame::open(&self.pictures[self.next - 1])?;
        Ok(())
    }
}
