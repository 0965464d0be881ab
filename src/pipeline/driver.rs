//! The gate's driver: a thread that only sets edges. It never waits for another thread: it exchanges messages
//! under locks that it only tries.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::watch::Thread;
use super::{HEARTBEAT, Shared};
use crate::clock::{Bell, Clock};
use crate::error::Result;
use crate::output::line::{self, Deviation, Line, Lines, Pulse, Schedule, realtime};

/// Pause before the next attempt on a line that cannot be driven, unless an edge comes first.
const RETRY: Duration = Duration::from_millis(100);

/// How long the gate still rejects parts while the service stops.
const LAST_PULSES: Duration = Duration::from_millis(400);

/// Messages to the driver.
enum Order {
    /// A part is on its way to the gate.
    Expect(Pulse),
    /// It has its verdict.
    Decide { part: u64, reject: bool },
    /// The healthy line's level.
    Healthy(bool),
    /// No more parts come.
    Stop,
}

/// Messages from the driver.
#[derive(Default)]
pub(super) struct Report {
    /// Parts to reject that may have passed.
    pub missed: Vec<u64>,
    /// Parts to pass that were rejected, and rejects that took longer than planned.
    pub late: Vec<u64>,
    /// Why lines cannot be driven, or that they can again.
    pub lines: Option<std::result::Result<(), String>>,
}

impl Report {
    fn is_empty(&self) -> bool {
        self.missed.is_empty() && self.late.is_empty() && self.lines.is_none()
    }

    /// Appends later messages, and leaves their source empty.
    fn append(&mut self, later: &mut Report) {
        self.missed.append(&mut later.missed);
        self.late.append(&mut later.late);
        if later.lines.is_some() {
            self.lines = later.lines.take();
        }
    }
}

#[derive(Default)]
struct Mail {
    orders: Mutex<Vec<Order>>,
    report: Mutex<Report>,
    bell: Bell,
    ended: AtomicBool,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The gate's handle of the driver. Drop it to stop the driver.
pub(super) struct Reins(Arc<Mail>);

impl Reins {
    pub(super) fn expect(&self, pulse: Pulse) {
        self.send(Order::Expect(pulse));
    }

    pub(super) fn decide(&self, part: u64, reject: bool) {
        self.send(Order::Decide { part, reject });
    }

    pub(super) fn set_healthy(&self, level: bool) {
        self.send(Order::Healthy(level));
    }

    /// What happened since the last call.
    pub(super) fn report(&self) -> Report {
        let mut report = Report::default();
        report.append(&mut lock(&self.0.report));
        report
    }

    /// Stops the driver after the parts that are close to the gate. Waits for its end.
    pub(super) fn stop(&self, clock: &Clock) {
        self.send(Order::Stop);
        let limit = clock.now() + LAST_PULSES + HEARTBEAT;
        while !self.0.ended.load(Relaxed) && clock.now() < limit {
            clock.sleep_until(clock.now() + Duration::from_millis(1));
        }
    }

    fn send(&self, order: Order) {
        lock(&self.0.orders).push(order);
        self.0.bell.ring();
    }
}

impl Drop for Reins {
    fn drop(&mut self) {
        self.send(Order::Stop);
    }
}

/// A driver and its handle.
pub(super) fn driver(
    shared: Arc<Shared>,
    lines: Box<dyn Lines>,
    settings: &line::Settings,
) -> (Driver, Reins) {
    let mail = Arc::new(Mail { orders: Mutex::new(Vec::with_capacity(1024)), ..Mail::default() });
    let driver = Driver {
        mail: Arc::clone(&mail),
        orders: Vec::with_capacity(1024),
        report: Report { missed: Vec::with_capacity(64), late: Vec::with_capacity(64), lines: None },
        schedule: Schedule::new(settings.energize, settings.tolerance(), shared.clock.now()),
        has_gate: lines.has(Line::Reject),
        healthy: [false; 2],
        broken: [false; 2],
        retry: shared.clock.now(),
        stopping: None,
        shared,
        lines,
    };
    (driver, Reins(mail))
}

pub(super) struct Driver {
    shared: Arc<Shared>,
    lines: Box<dyn Lines>,
    mail: Arc<Mail>,
    /// Buffer for messages taken from the mail.
    orders: Vec<Order>,
    /// Messages that could not be delivered yet.
    report: Report,
    schedule: Schedule,
    has_gate: bool,
    /// The level of the healthy line, and the level to set.
    healthy: [bool; 2],
    /// Per line: when to try again, if the last attempt failed.
    broken: [bool; 2],
    retry: Instant,
    /// When to stop, if it is to.
    stopping: Option<Instant>,
}

impl Driver {
    pub(super) fn run(mut self) {
        let clock = self.shared.clock.clone();
        if self.has_gate && clock.is_system() {
            realtime::ready();
        }
        loop {
            self.shared.beats.beat(Thread::Driver, clock.now());
            self.take_orders();
            let now = self.drive_gate();
            self.check(now);
            self.drive_healthy();
            self.tell();
            let end = now + HEARTBEAT;
            let mut wake = self.schedule.next(now).map_or(end, |at| at.min(end));
            if let Some(limit) = self.stopping {
                if limit <= now || self.schedule.unserved(now).next().is_none() {
                    break;
                }
                wake = wake.min(limit);
            }
            if self.broken != [false; 2] {
                wake = wake.min(self.retry);
            }
            clock.wait(&self.mail.bell, wake);
        }
        let Driver { schedule, shared, report, .. } = &mut self;
        for part in schedule.unserved(clock.now()) {
            note(shared, report, part, Deviation::Missed);
        }
        lock(&self.mail.report).append(&mut self.report);
        self.mail.ended.store(true, Relaxed);
    }

    fn take_orders(&mut self) {
        // The holder of the lock rings when it is free again.
        if let Ok(mut orders) = self.mail.orders.try_lock() {
            std::mem::swap(&mut *orders, &mut self.orders);
        }
        for order in self.orders.drain(..) {
            match order {
                Order::Expect(pulse) if self.has_gate => self.schedule.expect(pulse),
                Order::Decide { part, reject } if self.has_gate => {
                    if let Some(deviation) = self.schedule.decide(part, reject) {
                        note(&self.shared, &mut self.report, part, deviation);
                    }
                }
                Order::Expect(_) | Order::Decide { .. } => {}
                Order::Healthy(level) => self.healthy[1] = level,
                Order::Stop => {
                    self.stopping.get_or_insert(self.shared.clock.now() + LAST_PULSES);
                }
            }
        }
    }

    /// Sets the gate's line to its planned level. Returns the time of that plan.
    fn drive_gate(&mut self) -> Instant {
        let clock = self.shared.clock.clone();
        loop {
            let now = clock.now();
            let level = self.schedule.level(now);
            if self.schedule.is(level) {
                return now;
            }
            let result = self.lines.set(Line::Reject, level);
            self.schedule.driven(level, now, clock.now(), result.is_ok());
            if !self.note_set(Line::Reject, now, result) {
                return now;
            }
        }
    }

    fn drive_healthy(&mut self) {
        let now = self.shared.clock.now();
        // Not while a fault is still unreported.
        let trouble = self.broken[0] || !self.report.is_empty() || self.stopping.is_some();
        let level = self.healthy[1] && !trouble;
        let due = if self.broken[1] { self.retry <= now } else { level != self.healthy[0] };
        if due {
            let result = self.lines.set(Line::Healthy, level);
            if self.note_set(Line::Healthy, now, result) {
                self.healthy[0] = level;
            }
        }
    }

    /// Notes the result of setting a line. Returns whether it was set.
    fn note_set(&mut self, line: Line, now: Instant, result: Result<()>) -> bool {
        let before = self.broken;
        self.broken[line as usize] = result.is_err();
        match result {
            Ok(()) => {
                if before != [false; 2] && self.broken == [false; 2] {
                    self.report.lines = Some(Ok(()));
                }
                true
            }
            Err(e) => {
                self.retry = now + RETRY;
                self.report.lines = Some(Err(e.chain()));
                false
            }
        }
    }

    fn check(&mut self, now: Instant) {
        let Driver { schedule, shared, report, .. } = self;
        schedule.check(now, |part, deviation| note(shared, report, part, deviation));
    }

    fn tell(&mut self) {
        if !self.report.is_empty()
            && let Ok(mut report) = self.mail.report.try_lock()
        {
            report.append(&mut self.report);
        }
    }
}

fn note(shared: &Shared, report: &mut Report, part: u64, deviation: Deviation) {
    let counts = &shared.status.counts;
    match deviation {
        Deviation::Missed => {
            counts.missed_pulses.fetch_add(1, Relaxed);
            report.missed.push(part);
        }
        Deviation::Late => {
            counts.late_pulses.fetch_add(1, Relaxed);
            report.late.push(part);
        }
    }
}
