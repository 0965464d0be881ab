//! Simulated lines for tests. They note every edge with its time.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::{Line, Lines};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};

/// An edge of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// Which line.
    pub line: Line,
    /// Its new level.
    pub active: bool,
    /// Time of the edge.
    pub at: Instant,
}

/// Lines that note their edges. Clones share the lines.
#[derive(Debug, Clone)]
pub struct SimulatedLines {
    clock: Clock,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    edges: Vec<Edge>,
    levels: [bool; 2],
    broken: bool,
    slow: Duration,
}

impl SimulatedLines {
    /// Two inactive lines.
    pub fn new(clock: Clock) -> Self {
        // Noting an edge must not delay the next one.
        let state = State { edges: Vec::with_capacity(1 << 15), ..State::default() };
        SimulatedLines { clock, state: Arc::new(Mutex::new(state)) }
    }

    /// The edges of a line so far.
    pub fn edges(&self, line: Line) -> Vec<Edge> {
        self.lock().edges.iter().filter(|e| e.line == line).copied().collect()
    }

    /// A line's present level.
    pub fn level(&self, line: Line) -> bool {
        self.lock().levels[line as usize]
    }

    /// Makes setting a line fail, or work again.
    pub fn set_broken(&self, broken: bool) {
        self.lock().broken = broken;
    }

    /// Makes setting a line take `time`. The level changes at the end.
    pub fn set_slow(&self, time: Duration) {
        self.lock().slow = time;
    }

    /// A handle for the pipeline. Dropping it leaves the lines inactive, as with real ones.
    pub fn handle(&self) -> Box<dyn Lines> {
        Box::new(Handle(self.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn set(&self, line: Line, active: bool) {
        let mut state = self.lock();
        let at = self.clock.now();
        if state.levels[line as usize] != active {
            state.levels[line as usize] = active;
            state.edges.push(Edge { line, active, at });
        }
    }
}

struct Handle(SimulatedLines);

impl Lines for Handle {
    fn set(&mut self, line: Line, active: bool) -> Result<()> {
        let State { broken, slow, .. } = *self.0.lock();
        if slow > Duration::ZERO {
            self.0.clock.sleep_until(self.0.clock.now() + slow);
        }
        if broken {
            return Err(Error::new(ErrorKind::Device, "the simulated lines are broken"));
        }
        self.0.set(line, active);
        Ok(())
    }

    fn has(&self, _: Line) -> bool {
        true
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.set(Line::Reject, false);
        self.0.set(Line::Healthy, false);
    }
}
