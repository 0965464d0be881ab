//! A simulated camera for tests. It shows a [`Scene`] at a fixed rate and can be unplugged.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::{Camera, Captured, OpenCamera, Timing};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::Frame;

/// What a simulated camera sees. Clones share one scene.
#[derive(Debug, Clone)]
pub struct Scene(Arc<Mutex<SceneState>>);

#[derive(Debug)]
struct SceneState {
    frame: Frame,
    period: Duration,
    plugged: bool,
    silent: bool,
    frozen: bool,
    lost: u64,
    damaged: bool,
    /// Frames captured so far. The simulated sensor noise depends on it.
    taken: u64,
    opened: u64,
}

impl Scene {
    /// A scene that shows `frame` once per `period`.
    pub fn new(frame: Frame, period: Duration) -> Self {
        Scene(Arc::new(Mutex::new(SceneState {
            frame,
            period,
            plugged: true,
            silent: false,
            frozen: false,
            lost: 0,
            damaged: false,
            taken: 0,
            opened: 0,
        })))
    }

    /// Shows another frame.
    pub fn show(&self, frame: Frame) {
        self.lock().frame = frame;
    }

    /// Unplugs the camera, or plugs it in again.
    pub fn set_plugged(&self, plugged: bool) {
        self.lock().plugged = plugged;
    }

    /// Stops the frames of a camera that stays plugged in, or resumes them.
    pub fn set_silent(&self, silent: bool) {
        self.lock().silent = silent;
    }

    /// Repeats identical frames, or stops that.
    pub fn set_frozen(&self, frozen: bool) {
        self.lock().frozen = frozen;
    }

    /// Loses this many frames before the next one.
    pub fn lose(&self, frames: u64) {
        self.lock().lost += frames;
    }

    /// Marks the next frame as damaged.
    pub fn damage(&self) {
        self.lock().damaged = true;
    }

    /// Returns how often the camera was opened.
    pub fn opened(&self) -> u64 {
        self.lock().opened
    }

    fn lock(&self) -> MutexGuard<'_, SceneState> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Opens a camera that looks at a [`Scene`].
#[derive(Debug, Clone)]
pub struct SimulatedOpener {
    /// The scene.
    pub scene: Scene,
    /// Time.
    pub clock: Clock,
}

impl OpenCamera for SimulatedOpener {
    fn open(&mut self) -> Result<Box<dyn Camera>> {
        let mut scene = self.scene.lock();
        if !scene.plugged {
            return Err(unplugged());
        }
        scene.opened += 1;
        let due = self.clock.now() + scene.period;
        drop(scene);
        Ok(Box::new(SimulatedCamera { scene: self.scene.clone(), clock: self.clock.clone(), due }))
    }

    fn describe(&self) -> String {
        "a simulated camera".into()
    }
}

/// A camera that looks at a [`Scene`].
#[derive(Debug)]
pub struct SimulatedCamera {
    scene: Scene,
    clock: Clock,
    due: Instant,
}

fn unplugged() -> Error {
    Error::new(ErrorKind::Camera, "the simulated camera is unplugged")
}

impl Camera for SimulatedCamera {
    fn wait(&mut self, timeout: Duration) -> Result<Option<Captured>> {
        let limit = self.clock.now() + timeout;
        self.clock.sleep_until(self.due.min(limit));
        let mut scene = self.scene.lock();
        if !scene.plugged {
            return Err(unplugged());
        }
        if self.clock.now() < self.due {
            return Ok(None);
        }
        let at = self.due;
        self.due = (self.due + scene.period).max(self.clock.now());
        if scene.silent {
            return Ok(None);
        }
        scene.taken += 1;
        let damaged = std::mem::take(&mut scene.damaged);
        Ok(Some(Captured { at: Some(at), lost: std::mem::take(&mut scene.lost), damaged }))
    }

    fn timing(&self) -> Timing {
        Timing { period: Some(self.scene.lock().period), exposure: None }
    }

    fn read(&mut self, frame: &mut Frame) -> Result<()> {
        let scene = self.scene.lock();
        let from = &scene.frame;
        frame.refill(from.width(), from.height(), from.color(), |pixels| {
            pixels.copy_from_slice(from.pixels());
            if let (false, Some(first)) = (scene.frozen, pixels.first_mut()) {
                *first = first.wrapping_add(scene.taken as u8);
            }
            Ok(())
        })
    }
}
