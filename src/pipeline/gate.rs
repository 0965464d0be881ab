//! The gate's thread. It follows every part from its trigger to the gate, decides, and has the lines driven.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};

use super::driver::Reins;
use super::watch::Thread;
use super::{HEARTBEAT, Shared, Slot, ToGate};
use crate::inspector::Verdict;
use crate::output::line::{OnFault, Pulse};
use crate::record::{Engine, FaultKind, Halt, HaltedBy, Record, Severity, State, Status};

/// How long the healthy line keeps each level.
const TOGGLE: Duration = Duration::from_millis(100);

/// A part that has no verdict yet.
struct Open {
    part: u64,
    triggered: Instant,
    wall: SystemTime,
    /// Time from the trigger until the verdict is due.
    deadline: Duration,
}

impl Open {
    /// When the verdict is due.
    fn due(&self) -> Instant {
        self.triggered + self.deadline
    }

    fn late_fault(&self) -> (FaultKind, String) {
        (FaultKind::Late, format!("no verdict within {} ms", self.deadline.as_millis()))
    }
}

pub(super) struct Gate {
    shared: Arc<Shared>,
    driver: Reins,
    on_fault: OnFault,
    open: VecDeque<Open>,
    /// Inspected parts for which a second frame can still come.
    #[expect(clippy::vec_box, reason = "slots go from thread to thread in their boxes")]
    uncertain: Vec<Box<Slot>>,
    free: Sender<Box<Slot>>,
    publisher: Sender<Arc<Record>>,
    pool: Pool,
    /// The healthy line's level.
    healthy: bool,
    next_toggle: Instant,
    /// Parts that were not handled as planned, since the last acknowledgment.
    missed: Parts,
    late: Parts,
    /// Messages of the line before this one.
    before: Option<String>,
}

/// What a person has to do about missed pulses.
const RESUME: &str = "; check these parts, then resume the line";

impl Gate {
    pub(super) fn new(
        shared: Arc<Shared>,
        driver: Reins,
        on_fault: OnFault,
        free: Sender<Box<Slot>>,
        publisher: Sender<Arc<Record>>,
    ) -> Self {
        Gate {
            pool: Pool::new(shared.status.engine()),
            next_toggle: shared.clock.now(),
            shared,
            driver,
            on_fault,
            open: VecDeque::with_capacity(1024),
            uncertain: Vec::new(),
            free,
            publisher,
            healthy: false,
            missed: Parts::default(),
            late: Parts::default(),
            before: None,
        }
    }

    pub(super) fn run(mut self, messages: Receiver<ToGate>) {
        let clock = self.shared.clock.clone();
        loop {
            let now = clock.now();
            self.shared.beats.beat(Thread::Gate, now);
            self.hear();
            self.toggle(now);
            self.confirm(now);
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
        for slot in std::mem::take(&mut self.uncertain) {
            self.done(slot);
        }
        while let Some(open) = self.open.pop_front() {
            self.decide(open, None, Err((FaultKind::Stopped, "the service is stopping".into())));
        }
        self.driver.stop(&clock);
        self.hear();
    }

    /// The time of the next action.
    fn wake(&self, now: Instant) -> Instant {
        let deadline = self.open.iter().map(Open::due).min();
        let certain = self.uncertain.iter().filter_map(|slot| slot.certain).min();
        let moments = [deadline, certain, Some(self.next_toggle)];
        moments.into_iter().flatten().min().map_or(now + HEARTBEAT, |at| at.min(now + HEARTBEAT))
    }

    /// The healthy line's next level.
    fn toggle(&mut self, now: Instant) {
        if now >= self.next_toggle {
            self.next_toggle = now + TOGGLE;
            self.healthy = !self.healthy && self.shared.status.state() == State::Operational;
            self.driver.set_healthy(self.healthy);
        }
    }

    /// Passes on the driver's messages.
    fn hear(&mut self) {
        let report = self.driver.report();
        let status = &self.shared.status;
        match report.lines {
            None => {}
            Some(Ok(())) => status.clear("line"),
            Some(Err(reason)) => status.raise("line", Severity::Error, reason),
        }
        if report.missed.is_empty() && report.late.is_empty() {
            return;
        }
        let known = status.latched(Status::GATE);
        if known.is_none() {
            (self.missed, self.late, self.before) = (Parts::default(), Parts::default(), None);
        } else if self.missed.count + self.late.count == 0 {
            self.before = known.map(|text| text.trim_end_matches(RESUME).chars().take(500).collect());
        }
        self.missed.extend(&report.missed);
        self.late.extend(&report.late);
        let mut told: Vec<String> =
            self.before.iter().map(|text| format!("before this start: {text}")).collect();
        if self.missed.count > 0 {
            told.push(format!("{} was not given in time: it may have passed", self.missed));
        }
        if self.late.count > 0 {
            told.push(format!("{} began or ended too late: check the parts beside", self.late));
        }
        let told = told.join("; ");
        status.latch(Status::GATE, format!("{told}{RESUME}"));
        if self.on_fault == OnFault::Stop && !status.is_halted() {
            log::error!("the line is halted until it is resumed");
            status.halt(Halt::new(HaltedBy::Fault, told));
        }
    }

    /// Parts without a verdict at their deadline are faults.
    fn expire(&mut self, now: Instant) {
        while let Some(at) = self.open.iter().position(|open| open.due() <= now)
            && let Some(open) = self.open.remove(at)
        {
            let late = open.late_fault();
            self.decide(open, None, Err(late));
        }
    }

    fn handle(&mut self, message: ToGate) {
        match message {
            ToGate::Announced { part, triggered, wall, times } => {
                // Two announcing threads can overtake each other, and a trigger's edge is older than its
                // message.
                let from = triggered + times.travel;
                self.driver.expect(Pulse { part, from, to: from + times.pulse });
                let place = self.open.partition_point(|open| open.triggered <= triggered);
                self.open.insert(place, Open { part, triggered, wall, deadline: times.deadline });
            }
            ToGate::Unknown { longest } => {
                let from = self.shared.clock.now();
                let to = from + longest;
                // Parts are counted from 1.
                self.driver.expect(Pulse { part: 0, from, to });
                self.driver.decide(0, true);
            }
            ToGate::Failed { part, kind, reason } => {
                if let Some(at) = self.uncertain.iter().position(|slot| slot.part == part) {
                    let _ = self.free.try_send(self.uncertain.swap_remove(at));
                }
                if let Some(open) = self.take(part) {
                    self.decide(open, None, Err((kind, reason)));
                }
            }
            ToGate::Done(slot) if slot.certain.is_some_and(|certain| self.shared.clock.now() < certain) => {
                self.uncertain.push(slot);
            }
            ToGate::Done(slot) => self.done(slot),
            ToGate::Stop => {}
        }
    }

    /// Decides parts without a second frame.
    fn confirm(&mut self, now: Instant) {
        while let Some(at) = self.uncertain.iter().position(|slot| slot.certain.is_none_or(|at| at <= now)) {
            let slot = self.uncertain.swap_remove(at);
            self.done(slot);
        }
    }

    /// A part has been through all stages.
    fn done(&mut self, mut slot: Box<Slot>) {
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
        // The channel has room for every slot.
        let _ = self.free.try_send(slot);
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
        let in_time = now < open.due();
        let verdict = match verdict {
            Ok(_) if !in_time => {
                status.counts.late_inspections.fetch_add(1, Relaxed);
                Err(open.late_fault())
            }
            Ok(_) if status.is_halted() => Err((FaultKind::Halted, "the line is halted".into())),
            Ok(Verdict::Fault(reason)) => Err((FaultKind::Inspection, reason)),
            other => other,
        };
        let (verdict, fault) = match verdict {
            Ok(verdict) => (verdict, None),
            Err((kind, reason)) => (Verdict::Fault(reason), Some(kind)),
        };

        self.driver.decide(open.part, verdict != Verdict::Pass);
        if let (OnFault::Stop, Some(kind)) = (self.on_fault, fault)
            && !matches!(kind, FaultKind::Halted | FaultKind::Stopped)
            && !status.is_halted()
        {
            log::error!("part {}: {verdict}; the line is halted until it is resumed", open.part);
            status.halt(Halt::new(HaltedBy::Fault, format!("part {}: {verdict}", open.part)));
        }
        if let (Some(kind), Verdict::Fault(reason)) = (fault, &verdict) {
            log::warn!("part {}: {kind}: {reason}", open.part);
        }

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

/// Parts in a message: the numbers of the first ones, and how many more.
#[derive(Debug, Default)]
struct Parts {
    first: Vec<u64>,
    count: usize,
}

impl Parts {
    const NAMED: usize = 10;

    fn extend(&mut self, parts: &[u64]) {
        self.count += parts.len();
        let left = Self::NAMED - self.first.len();
        self.first.extend(parts.iter().take(left));
    }
}

impl std::fmt::Display for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<String> = self.first.iter().map(u64::to_string).collect();
        match self.count - names.len() {
            0 if names.len() == 1 => write!(f, "the pulse of part {}", names[0]),
            0 => write!(f, "each pulse of parts {}", names.join(", ")),
            more => write!(f, "each pulse of parts {} and {more} more", names.join(", ")),
        }
    }
}

/// Records whose buffers are reused once nobody holds them.
struct Pool {
    kept: Vec<Arc<Record>>,
    /// The caller sets the engine of the record.
    engine: Arc<Engine>,
}

impl Pool {
    /// Most records to keep. More exist only while subscribers hold them.
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
