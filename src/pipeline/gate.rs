//! The gate's thread: it knows of every part from its trigger to the gate, decides, and drives the lines.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};

use super::watch::Thread;
use super::{HEARTBEAT, Shared, Slot, ToGate};
use crate::inspector::Verdict;
use crate::output::line::{self, Line, Lines, OnFault, Pulse, Schedule};
use crate::record::{Engine, FaultKind, Halt, HaltedBy, Record, Severity, State};

/// How long the healthy line keeps each level.
const TOGGLE: Duration = Duration::from_millis(100);

/// How long a line that cannot be driven is left alone before the next attempt.
const RETRY: Duration = Duration::from_millis(100);

/// How long the gate still serves parts to be rejected when the service stops.
const LAST_PULSES: Duration = Duration::from_millis(400);

/// A part that has no verdict yet.
struct Open {
    part: u64,
    triggered: Instant,
    wall: SystemTime,
}

pub(super) struct Gate {
    shared: Arc<Shared>,
    lines: Box<dyn Lines>,
    settings: line::Settings,
    schedule: Schedule,
    open: VecDeque<Open>,
    free: Sender<Box<Slot>>,
    publisher: Sender<Arc<Record>>,
    pool: Pool,
    /// Levels as far as they could be set.
    reject: bool,
    healthy: bool,
    next_toggle: Instant,
    retry: Option<Instant>,
    /// Whether the line cannot be driven although it should be.
    missing: bool,
}

impl Gate {
    pub(super) fn new(
        shared: Arc<Shared>,
        lines: Box<dyn Lines>,
        settings: line::Settings,
        free: Sender<Box<Slot>>,
        publisher: Sender<Arc<Record>>,
    ) -> Self {
        Gate {
            schedule: Schedule::new(settings.energize),
            pool: Pool::new(shared.status.engine()),
            next_toggle: shared.clock.now(),
            shared,
            lines,
            settings,
            open: VecDeque::with_capacity(1024),
            free,
            publisher,
            reject: false,
            healthy: false,
            retry: None,
            missing: false,
        }
    }

    pub(super) fn run(mut self, messages: Receiver<ToGate>) {
        let clock = self.shared.clock.clone();
        loop {
            let now = clock.now();
            self.shared.beats.beat(Thread::Gate, now);
            self.drive(now);
            self.expire(now);
            match clock.recv(&messages, self.wake(now)) {
                Ok(ToGate::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(message) => self.handle(message),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        while let Ok(message) = messages.try_recv() {
            self.handle(message);
        }
        while let Some(open) = self.open.pop_front() {
            self.decide(open, None, Err((FaultKind::Stopped, "the service is stopping".into())));
        }
        let limit = clock.now() + LAST_PULSES;
        while self.schedule.has_rejects() && clock.now() < limit {
            let now = clock.now();
            self.drive(now);
            let next = self.schedule.next_change(now).unwrap_or(limit);
            clock.sleep_until(next.min(limit));
        }
        self.drive(clock.now());
        if self.schedule.has_rejects() {
            log::warn!("parts to be rejected were still on their way to the gate when the service stopped");
        }
    }

    /// The next moment at which there is something to do.
    fn wake(&self, now: Instant) -> Instant {
        let deadline = self.open.front().map(|open| open.triggered + self.settings.deadline());
        let moments = [self.schedule.next_change(now), deadline, self.retry, Some(self.next_toggle)];
        moments.into_iter().flatten().min().map_or(now + HEARTBEAT, |at| at.min(now + HEARTBEAT))
    }

    /// Sets the lines to what they must be now.
    fn drive(&mut self, now: Instant) {
        let level = self.schedule.level(now);
        if level && !self.reject && self.retry.is_some() && !self.missing {
            self.shared.status.counts.missed_pulses.fetch_add(1, Relaxed);
        }
        self.missing = level && !self.reject && self.retry.is_some();
        if self.retry.is_some_and(|retry| now < retry) {
            return;
        }
        let mut result = Ok(());
        if level != self.reject {
            result = self.lines.set(Line::Reject, level);
            if result.is_ok() {
                self.reject = level;
            }
        }
        if result.is_ok() && now >= self.next_toggle {
            self.next_toggle = now + TOGGLE;
            let level = !self.healthy && self.shared.status.state() == State::Operational;
            if level != self.healthy || self.retry.is_some() {
                result = self.lines.set(Line::Healthy, level);
                if result.is_ok() {
                    self.healthy = level;
                }
            }
        }
        match result {
            Ok(()) if self.retry.take().is_some() => self.shared.status.clear("line"),
            Ok(()) => {}
            Err(e) => {
                self.retry = Some(now + RETRY);
                self.shared.status.raise("line", Severity::Error, e.chain());
            }
        }
    }

    /// Parts without a verdict at their deadline are faults.
    fn expire(&mut self, now: Instant) {
        let deadline = self.settings.deadline();
        while self.open.front().is_some_and(|open| open.triggered + deadline <= now) {
            if let Some(open) = self.open.pop_front() {
                let reason = format!("no verdict within {} ms", deadline.as_millis());
                self.decide(open, None, Err((FaultKind::Late, reason)));
            }
        }
    }

    fn handle(&mut self, message: ToGate) {
        match message {
            ToGate::Announced { part, triggered, wall } => {
                // Two threads that announce can overtake each other, and a trigger's edge is older than its news.
                let place = self.open.partition_point(|open| open.triggered <= triggered);
                self.open.insert(place, Open { part, triggered, wall });
            }
            ToGate::Failed { part, kind, reason } => {
                if let Some(open) = self.take(part) {
                    self.decide(open, None, Err((kind, reason)));
                }
            }
            ToGate::Done(mut slot) => {
                match self.take(slot.part) {
                    Some(open) => {
                        let fresh = self.pool.take();
                        let record = std::mem::replace(&mut slot.record, fresh);
                        let verdict = match slot.failed.take() {
                            Some(failed) => Err(failed),
                            None => Ok(record.inspection_buffer.verdict.clone()),
                        };
                        self.decide(open, Some(record), verdict);
                    }
                    None => {
                        self.shared.status.counts.late_inspections.fetch_add(1, Relaxed);
                    }
                }
                // There are as many places as slots.
                let _ = self.free.try_send(slot);
            }
            ToGate::Stop => {}
        }
    }

    fn take(&mut self, part: u64) -> Option<Open> {
        let at = self.open.iter().position(|open| open.part == part)?;
        self.open.remove(at)
    }

    /// The one place where a part gets its verdict.
    fn decide(
        &mut self,
        open: Open,
        record: Option<Arc<Record>>,
        verdict: std::result::Result<Verdict, (FaultKind, String)>,
    ) {
        let now = self.shared.clock.now();
        let status = &self.shared.status;
        let verdict = match verdict {
            Ok(_) if status.is_halted() => Err((FaultKind::Halted, "the line is halted".into())),
            Ok(Verdict::Fault(reason)) => Err((FaultKind::Inspection, reason)),
            other => other,
        };
        let (verdict, fault) = match verdict {
            Ok(verdict) => (verdict, None),
            Err((kind, reason)) => (Verdict::Fault(reason), Some(kind)),
        };

        let from = open.triggered + self.settings.travel();
        let pulse = Pulse { from, to: from + self.settings.pulse(), reject: verdict != Verdict::Pass };
        if !self.schedule.add(pulse, now) {
            status.counts.missed_pulses.fetch_add(1, Relaxed);
            log::error!("part {}: past the gate before its verdict", open.part);
        }
        if let (OnFault::Stop, Some(kind)) = (self.settings.on_fault, fault)
            && !matches!(kind, FaultKind::Halted | FaultKind::Stopped)
            && !status.is_halted()
        {
            log::error!("part {}: {verdict}; the line is halted until it is resumed", open.part);
            status.halt(Halt::new(HaltedBy::Fault, format!("part {}: {verdict}", open.part)));
        }
        if let (Some(kind), Verdict::Fault(reason)) = (fault, &verdict) {
            log::warn!("part {}: {kind}: {reason}", open.part);
        }
        self.drive(now);

        let whole = record.is_some();
        let mut record = record.unwrap_or_else(|| self.pool.take());
        let known = Arc::make_mut(&mut record);
        if !whole {
            (known.has_frame, known.has_inspection) = (false, false);
            known.engine = self.shared.status.engine();
        }
        known.part = open.part;
        known.triggered = open.wall;
        known.latency = now.saturating_duration_since(open.triggered);
        known.verdict = verdict;
        known.fault = fault;
        self.shared.status.count(&record);
        if let Err(TrySendError::Full(_)) = self.publisher.try_send(Arc::clone(&record)) {
            self.shared.status.output("publisher").dropped.fetch_add(1, Relaxed);
        }
        self.pool.keep(record);
    }
}

/// Records whose buffers are used again once nobody holds them any more.
struct Pool {
    kept: Vec<Arc<Record>>,
    /// Whoever takes a record sets the engine that it was inspected with.
    engine: Arc<Engine>,
}

impl Pool {
    /// The most records that are kept; more only exist while subscribers hold them.
    const MOST: usize = 64;

    fn new(engine: Arc<Engine>) -> Self {
        Pool { kept: Vec::with_capacity(Self::MOST), engine }
    }

    fn take(&mut self) -> Arc<Record> {
        match self.kept.iter().position(|record| Arc::strong_count(record) == 1) {
            Some(at) => self.kept.swap_remove(at),
            None => Arc::new(Record::empty(Arc::clone(&self.engine))),
        }
    }

    fn keep(&mut self, record: Arc<Record>) {
        if self.kept.len() < Self::MOST {
            self.kept.push(record);
        }
    }
}
