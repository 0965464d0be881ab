//! The change from one recipe to the next. A part keeps the recipe that it was triggered under: its stages, and its
//! times at the gate.

use std::time::Instant;

use crossbeam_channel::{Sender, TrySendError};

use super::{Job, Stages, Swap};
use crate::output::line::Times;

/// What parts are triggered under, before and since the latest change.
pub(super) struct Shift {
    /// When it began. `None` without a change, or if it was taken back.
    from: Option<Instant>,
    before: Times,
    since: Times,
    /// The stages of `since`, while parts of before wait for their frames.
    stages: Option<Box<Swap>>,
    /// Whether a part of before has its frame, but is not with the stages yet.
    in_hand: bool,
}

impl Shift {
    pub(super) fn new(times: Times) -> Self {
        Shift { from: None, before: times, since: times, stages: None, in_hand: false }
    }

    /// The times of parts that are triggered now.
    pub(super) fn times(&self) -> Times {
        self.since
    }

    /// The times of a part that was triggered at this moment.
    pub(super) fn times_at(&self, triggered: Instant) -> Times {
        if self.is_before(triggered) { self.before } else { self.since }
    }

    /// Whether a part that was triggered at this moment has what was in use before.
    pub(super) fn is_before(&self, triggered: Instant) -> bool {
        self.from.is_some_and(|from| triggered < from)
    }

    /// Whether the stages of such a part are in use no more.
    pub(super) fn is_over(&self, triggered: Instant) -> bool {
        self.is_before(triggered) && self.stages.is_none()
    }

    /// Parts that are triggered from `now` on have other stages and times.
    pub(super) fn begin(&mut self, now: Instant, stages: Stages, times: Times) {
        let stages = Some(Box::new(Swap::new(stages, times)));
        *self = Shift { from: Some(now), before: self.since, since: times, stages, in_hand: self.in_hand };
    }

    /// Takes the change back. The stages did not take it.
    pub(super) fn give_up(&mut self) {
        if self.stages.take().is_some() {
            (self.from, self.since) = (None, self.before);
        }
    }

    /// Notes that a part has its frame.
    pub(super) fn take_in_hand(&mut self) {
        self.in_hand = true;
    }

    /// Notes that the part with a frame is with the stages, or failed.
    pub(super) fn let_go(&mut self) {
        self.in_hand = false;
    }

    /// Whether a part has its frame, but is not with the stages yet.
    pub(super) fn has_one_in_hand(&self) -> bool {
        self.in_hand
    }

    /// Sends the stages ahead of a part that was triggered at this moment, if it needs them. Returns whether the part
    /// can follow.
    pub(super) fn reach(&mut self, triggered: Instant, to_stages: &Sender<Job>) -> bool {
        self.is_before(triggered) || self.hand_over(to_stages)
    }

    /// Sends the stages, unless they were sent. Returns false if the queue is full, or nobody takes from it.
    pub(super) fn hand_over(&mut self, to_stages: &Sender<Job>) -> bool {
        let Some(stages) = self.stages.take() else { return true };
        match to_stages.try_send(Job::Swap(stages)) {
            Ok(()) => true,
            Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => {
                if let Job::Swap(stages) = back {
                    self.stages = Some(stages);
                }
                false
            }
        }
    }
}
