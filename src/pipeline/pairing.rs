//! Matches frames with parts. Pure: the caller passes the time.
//!
//! Each trigger opens a window. A frame shows a part if its stamp lies in the window of this waiting part
//! only. Frame and trigger are compared by the kernel's monotonic clock, never by their arrival. An ambiguous
//! frame is a fault of every part that it could show.
//!
//! A free-running camera's frame shows the last part triggered before it. A camera fired by the trigger can
//! stamp a frame after the next trigger, so there a part without a frame keeps its window, too.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Triggered;
use crate::camera::Captured;
use crate::record::FaultKind;

/// When a part's frame is captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// Time from the trigger to the start of the window, and whether the window starts that long before the
    /// trigger instead.
    pub after: Duration,
    pub early: bool,
    /// Time from the trigger to the end of the window.
    pub within: Duration,
    /// Time from the trigger to the latest arrival of a frame of the window.
    pub arrival: Duration,
    /// Whether each trigger, and nothing else, makes the camera take one frame.
    pub exclusive: bool,
}

impl Window {
    /// How long a part waits for its frame.
    pub(super) fn patience(&self, part: &Triggered) -> Duration {
        self.arrival.min(part.deadline)
    }

    /// Start of the window, exclusive.
    fn opens(&self, part: &Triggered) -> Instant {
        if self.early { part.at.checked_sub(self.after).unwrap_or(part.at) } else { part.at + self.after }
    }

    /// End of the window, inclusive.
    fn closes(&self, part: &Triggered) -> Instant {
        part.at + self.within
    }
}

/// Why a part is refused.
pub(super) const OVERFLOW: &str = "parts come faster than they can be inspected";

/// Why a part has no frame of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unpaired {
    /// Too many parts wait.
    Overflow,
    /// No frame in its window.
    NoFrame,
    /// A frame lies in the windows of several parts.
    Ambiguous,
    /// Its frame passed before its trigger was known.
    Passed,
    /// Triggers were lost.
    LostTrigger,
    /// Frames are missing in the camera's numbering.
    Lost,
    /// A frame is damaged.
    Damaged,
    /// Frames came out of order.
    Disorder,
    /// A frame has no stamp.
    Unstamped,
    /// Several frames in its window, although each trigger makes one.
    TooMany,
    /// The camera is lost.
    CameraLost,
    /// Its trigger became known after the next recipe was in use.
    Changed,
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
            Unpaired::LostTrigger => "triggers were lost: a frame may show a part of theirs".into(),
            Unpaired::Lost => "the camera lost frames: this part's may be one of them".into(),
            Unpaired::Damaged => "the camera marks a frame as damaged: it may be this part's".into(),
            Unpaired::Disorder => "the camera gave frames out of order".into(),
            Unpaired::Unstamped => "the camera does not tell when it took a frame".into(),
            Unpaired::TooMany => "several frames were taken for one trigger".into(),
            Unpaired::CameraLost => "the camera is lost".into(),
            Unpaired::Changed => "the trigger became known after another recipe was in use".into(),
            Unpaired::Stopped => "the service is stopping".into(),
        }
    }
}

/// A part without a frame of its own.
pub(super) type Fault = (u64, Unpaired);

/// The result for a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// It shows this part.
    Part(Triggered),
    /// It shows no part.
    Nothing,
    /// It came without a trigger, although only triggers make frames.
    Stray,
}

/// The parts that wait for their frame.
#[derive(Debug)]
pub(super) struct Pairing {
    window: Window,
    capacity: usize,
    /// In the order of their triggers.
    waiting: VecDeque<Triggered>,
    /// Parts whose window can still get an extra frame.
    paired: VecDeque<Triggered>,
    /// Stamp of the newest frame.
    newest: Option<Instant>,
    /// The latest trigger of a part without a frame of its own.
    given_up: Option<Instant>,
    /// The first trigger since the latest frame.
    unanswered: Option<Instant>,
}

impl Pairing {
    pub(super) fn new(window: Window, capacity: usize) -> Self {
        let (waiting, paired) = (VecDeque::with_capacity(capacity), VecDeque::with_capacity(capacity));
        Pairing { window, capacity, waiting, paired, newest: None, given_up: None, unanswered: None }
    }

    pub(super) fn window(&self) -> &Window {
        &self.window
    }

    /// Sets another camera's timing. Waiting parts keep waiting.
    pub(super) fn set_window(&mut self, window: Window) {
        self.window = window;
    }

    /// Notes that the camera was opened. What it did not answer before is no fault of it now.
    pub(super) fn opened(&mut self, window: Window) {
        self.set_window(window);
        self.unanswered = None;
    }

    /// Adds a part that waits for its frame.
    pub(super) fn trigger(&mut self, part: Triggered) -> Result<(), Fault> {
        self.unanswered.get_or_insert(part.at);
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

    /// Notes that triggers between the latest one and `until` were lost.
    pub(super) fn lost_trigger(&mut self, until: Instant, faults: &mut Vec<Fault>) {
        self.fail_all(Unpaired::LostTrigger, faults);
        self.give_up(until);
    }

    /// Takes the next frame. Adds parts that get no frame because of it to `faults`.
    pub(super) fn frame(&mut self, captured: &Captured, faults: &mut Vec<Fault>) -> Found {
        self.unanswered = None;
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
        // At the moment of the next trigger, it can show either part.
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
        let window = self.window;
        self.fail_while(|part| part.at + window.patience(part) <= now, Unpaired::NoFrame, faults);
    }

    /// The earliest trigger of a part that waits for its frame.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.waiting.front().map(|part| part.at)
    }

    /// The first trigger since the latest frame.
    pub(super) fn unanswered(&self) -> Option<Instant> {
        self.unanswered
    }

    /// When to call [`Pairing::expire`].
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.waiting.front().map(|part| part.at + self.window.patience(part))
    }

    /// Refuses a part that no frame may show.
    pub(super) fn refuse(&mut self, part: &Triggered, why: Unpaired) -> Fault {
        self.give_up(part.at);
        (part.part, why)
    }

    /// Gives up all waiting parts.
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

    /// Notes that the part of this trigger gets no frame.
    fn give_up(&mut self, triggered: Instant) {
        self.given_up = self.given_up.max(Some(triggered));
    }
}

#[cfg(test)]
mod tests;
