//! Which frame shows which part. Pure: it is told the time.
//!
//! Each trigger opens a window, and a frame whose stamp lies in the window of one waiting part alone shows that part.
//! Frame and trigger are compared by the kernel's monotonic clock; when either arrived says nothing. What cannot be told
//! apart is a fault of every part that it could concern.
//!
//! A free-running camera's frame shows the part that was triggered last before it. A camera that the trigger fires may
//! stamp a frame after the next trigger, so there a part that got no frame keeps its window, too.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Triggered;
use crate::camera::Captured;
use crate::record::FaultKind;

/// When a part's frame is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// From the trigger until the window opens, and whether it opens that long before the trigger instead.
    pub after: Duration,
    pub early: bool,
    /// From the trigger until the window closes.
    pub within: Duration,
    /// From the trigger until a frame of the window has arrived.
    pub patience: Duration,
    /// Whether each trigger makes the camera take one frame, and nothing else does.
    pub exclusive: bool,
}

impl Window {
    /// Frames after this moment are within.
    fn opens(&self, part: &Triggered) -> Instant {
        if self.early { part.at.checked_sub(self.after).unwrap_or(part.at) } else { part.at + self.after }
    }

    /// Frames until this moment are within.
    fn closes(&self, part: &Triggered) -> Instant {
        part.at + self.within
    }
}

/// Why a part finds no room.
pub(super) const OVERFLOW: &str = "parts come faster than they can be inspected";

/// Why a part has no frame of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unpaired {
    /// Too many parts wait.
    Overflow,
    /// None was taken in its window.
    NoFrame,
    /// A frame lies in the windows of several parts.
    Ambiguous,
    /// Its window had frames before its trigger was known.
    Passed,
    /// Triggers were lost.
    LostTrigger,
    /// Frames are missing in the camera's numbering.
    Lost,
    /// A frame is damaged.
    Damaged,
    /// Frames came in another order than they were taken.
    Disorder,
    /// The camera does not tell when a frame was taken.
    Unstamped,
    /// Several frames lie in its window, although one is taken per trigger.
    TooMany,
    /// The camera is lost.
    CameraLost,
    /// The service stops.
    Stopped,
}

impl Unpaired {
    pub(super) fn kind(self) -> FaultKind {
        match self {
            Unpaired::Overflow => FaultKind::Overflow,
            Unpaired::CameraLost => FaultKind::Camera,
            Unpaired::Stopped => FaultKind::Stopped,
            _ => FaultKind::Unpaired,
        }
    }

    pub(super) fn reason(self, window: &Window) -> String {
        match self {
            Unpaired::Overflow => OVERFLOW.into(),
            Unpaired::NoFrame => {
                format!(
                    "no frame was taken within {} ms after the trigger (trigger.frame_within_ms)",
                    window.within.as_millis()
                )
            }
            Unpaired::Ambiguous => format!(
                "a frame may show this part or another one: parts come closer together than \
                 trigger.frame_within_ms ({} ms)",
                window.within.as_millis()
            ),
            Unpaired::Passed => "the trigger became known after its frame had passed".into(),
            Unpaired::LostTrigger => "triggers were lost, and a frame may show a part of theirs".into(),
            Unpaired::Lost => "the camera lost frames, and this part's may be one of them".into(),
            Unpaired::Damaged => "the camera marks a frame as damaged that may be this part's".into(),
            Unpaired::Disorder => "the camera gave frames out of order".into(),
            Unpaired::Unstamped => "the camera does not tell when it took a frame".into(),
            Unpaired::TooMany => "several frames were taken for one trigger".into(),
            Unpaired::CameraLost => "the camera is lost".into(),
            Unpaired::Stopped => "the service is stopping".into(),
        }
    }
}

/// A part without a frame of its own.
pub(super) type Fault = (u64, Unpaired);

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The picture of this part.
    Part(Triggered),
    /// No part's.
    Nothing,
    /// Taken without a trigger, although only triggers make the camera take frames.
    Stray,
}

/// The parts that wait for their frame.
#[derive(Debug)]
pub(super) struct Pairing {
    window: Window,
    capacity: usize,
    /// In the order of their triggers.
    waiting: VecDeque<Triggered>,
    /// Parts whose window may still get a frame too many.
    paired: VecDeque<Triggered>,
    /// Stamp of the newest frame.
    newest: Option<Instant>,
    /// The latest trigger of a part without a frame of its own.
    given_up: Option<Instant>,
}

impl Pairing {
    pub(super) fn new(window: Window, capacity: usize) -> Self {
        let (waiting, paired) = (VecDeque::with_capacity(capacity), VecDeque::with_capacity(capacity));
        Pairing { window, capacity, waiting, paired, newest: None, given_up: None }
    }

    pub(super) fn window(&self) -> &Window {
        &self.window
    }

    /// Another camera's timing. Parts that wait keep waiting.
    pub(super) fn set_window(&mut self, window: Window) {
        self.window = window;
    }

    /// A part waits for its frame from now on.
    pub(super) fn trigger(&mut self, part: Triggered) -> Result<(), Fault> {
        let why = if self.newest.is_some_and(|newest| self.window.opens(&part) < newest) {
            Unpaired::Passed
        } else if self.waiting.len() >= self.capacity {
            Unpaired::Overflow
        } else {
            let place = self.waiting.partition_point(|other| other.at <= part.at);
            self.waiting.insert(place, part);
            return Ok(());
        };
        self.give_up(part.at);
        Err((part.part, why))
    }

    /// Nobody knows when parts came between the latest trigger and `until`.
    pub(super) fn lost_trigger(&mut self, until: Instant, faults: &mut Vec<Fault>) {
        self.fail_all(Unpaired::LostTrigger, faults);
        self.give_up(until);
    }

    /// The next frame. Parts that it leaves without one are added to `faults`.
    pub(super) fn frame(&mut self, captured: &Captured, faults: &mut Vec<Fault>) -> Found {
        let Some(at) = captured.at else {
            self.fail_all(Unpaired::Unstamped, faults);
            return Found::Nothing;
        };
        let ordered = self.newest.is_none_or(|newest| newest < at);
        let newest = self.newest.map_or(at, |newest| newest.max(at));
        self.newest = Some(newest);
        let window = self.window;
        self.fail_while(|part| window.closes(part) < at, Unpaired::NoFrame, faults);
        if !ordered {
            self.fail_all(Unpaired::Disorder, faults);
            return Found::Nothing;
        }
        let broken = match captured {
            Captured { damaged: true, .. } => Some(Unpaired::Damaged),
            Captured { lost: 1.., .. } => Some(Unpaired::Lost),
            _ => None,
        };
        if let Some(why) = broken {
            self.fail_while(|part| window.opens(part) < at, why, faults);
            return Found::Nothing;
        }
        self.paired.retain(|part| window.closes(part) >= at);
        let count = self.waiting.partition_point(|part| window.opens(part) < at);
        let other = self.given_up.is_some_and(|given_up| {
            if window.exclusive {
                at <= given_up + window.within
            } else {
                self.waiting.front().is_some_and(|part| part.at <= given_up)
            }
        });
        // Taken at the moment of the next trigger, it may show either part.
        let between = count > 0 && self.waiting.get(count).is_some_and(|next| next.at <= at);
        let ambiguous = count > 1 || other || between;
        if count == 0 {
            if !window.exclusive {
                return Found::Nothing;
            }
            if self.paired.is_empty() && !ambiguous {
                return Found::Stray;
            }
            faults.extend(self.paired.drain(..).map(|part| (part.part, Unpaired::TooMany)));
            return Found::Nothing;
        }
        if ambiguous || !self.paired.is_empty() {
            faults.extend(self.paired.drain(..).map(|part| (part.part, Unpaired::TooMany)));
            self.fail_while(|part| window.opens(part) < at, Unpaired::Ambiguous, faults);
            return Found::Nothing;
        }
        match self.waiting.pop_front() {
            Some(part) => {
                if window.exclusive {
                    self.paired.push_back(part);
                }
                Found::Part(part)
            }
            None => Found::Nothing,
        }
    }

    /// Gives up parts whose frame should have arrived by `now`.
    pub(super) fn expire(&mut self, now: Instant, faults: &mut Vec<Fault>) {
        let patience = self.window.patience;
        self.fail_while(|part| part.at + patience <= now, Unpaired::NoFrame, faults);
    }

    /// When [`Pairing::expire`] has something to do.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.waiting.front().map(|part| part.at + self.window.patience)
    }

    /// No waiting part gets a frame.
    pub(super) fn fail_all(&mut self, why: Unpaired, faults: &mut Vec<Fault>) {
        self.fail_while(|_| true, why, faults);
    }

    fn fail_while(&mut self, which: impl Fn(&Triggered) -> bool, why: Unpaired, faults: &mut Vec<Fault>) {
        while self.waiting.front().is_some_and(&which)
            && let Some(part) = self.waiting.pop_front()
        {
            self.give_up(part.at);
            faults.push((part.part, why));
        }
    }

    /// The part that was triggered then gets no frame any more.
    fn give_up(&mut self, triggered: Instant) {
        self.given_up = self.given_up.max(Some(triggered));
    }
}

#[cfg(test)]
mod tests;
