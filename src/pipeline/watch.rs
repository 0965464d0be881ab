//! The watchdog: checks that every thread that a part needs is alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::{HEARTBEAT, Shared};
use crate::record::{Severity, Status};

/// A thread that a part needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thread {
    Camera,
    Features,
    Residuals,
    Classify,
    Gate,
    Driver,
}

impl Thread {
    const ALL: [Thread; 6] =
        [Thread::Camera, Thread::Features, Thread::Residuals, Thread::Classify, Thread::Gate, Thread::Driver];

    /// Name of the problem if the thread hangs.
    fn problem(self) -> &'static str {
        match self {
            Thread::Camera => "camera thread",
            Thread::Features => "features thread",
            Thread::Residuals => "residuals thread",
            Thread::Classify => "classify thread",
            Thread::Gate => "gate thread",
            Thread::Driver => "driver thread",
        }
    }
}

/// When each thread last gave a sign of life.
pub(super) struct Beats {
    start: Instant,
    /// Milliseconds after `start`.
    last: [AtomicU64; Thread::ALL.len()],
}

impl Beats {
    pub(super) fn new(start: Instant) -> Self {
        Beats { start, last: Default::default() }
    }

    pub(super) fn beat(&self, thread: Thread, now: Instant) {
        self.last[thread as usize].store(self.millis(now), Relaxed);
    }

    fn silent_for(&self, thread: Thread, now: Instant) -> Duration {
        Duration::from_millis(self.millis(now).saturating_sub(self.last[thread as usize].load(Relaxed)))
    }

    fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_millis() as u64
    }
}

/// Checks ten times a second for hanging threads. Calls `alive` if none hangs.
pub(super) fn run(
    shared: Arc<Shared>,
    stall: Duration,
    mut alive: impl FnMut(&Status) + Send,
) -> impl FnOnce() + Send {
    move || {
        while !shared.stopping() {
            let now = shared.clock.now();
            let mut all = true;
            for thread in Thread::ALL {
                let silent = shared.beats.silent_for(thread, now);
                if silent >= stall {
                    all = false;
                    shared.status.raise(
                        thread.problem(),
                        Severity::Error,
                        format!("hangs for more than {} s", stall.as_secs_f32()),
                    );
                } else {
                    shared.status.clear(thread.problem());
                }
            }
            if all {
                alive(&shared.status);
            }
            shared.clock.sleep_until(now + HEARTBEAT);
        }
    }
}
