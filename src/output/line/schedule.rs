//! When the gate's line is to be energized, and whether it was. Pure: it is told the time, and what was driven.
//!
//! A part is planned from its trigger on. Without a verdict at its time it is one to be rejected: nobody who decides too
//! late lets it pass. What was driven is held against the plan part by part, so that an edge which came late, too early or
//! never is told, whatever the reason: a process that did not run, a broken line, a verdict after the part was gone.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// When the gate's line is energized.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Energize {
    /// For parts to be rejected. A dead process lets parts pass.
    #[default]
    ToReject,
    /// For parts that pass: a dead process, a cut wire and a part without a verdict reject.
    ToPass,
}

/// A part's time at the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    /// Number of the part.
    pub part: u64,
    /// When it arrives.
    pub from: Instant,
    /// When it is gone. Not part of the pulse.
    pub to: Instant,
}

/// What was driven otherwise than planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deviation {
    /// The gate did not reject, from its time on and to the end, a part that was to be rejected: it may have passed.
    Missed,
    /// Another edge came too late: the gate rejected, or was open, longer than planned, or did not open in time.
    Late,
}

/// A line's level, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Active,
    Inactive,
    /// While it is being set, and after that failed.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// None yet.
    Open,
    Pass,
    Reject,
    /// None when it was too late to wait for one.
    Overdue,
}

#[derive(Debug)]
struct Part {
    pulse: Pulse,
    verdict: Verdict,
    /// Not opened for, because that would have been too late.
    withheld: bool,
    /// Its deviation has been told.
    told: bool,
    /// Nothing is to be checked any more.
    done: bool,
}

impl Part {
    fn is_at(&self, now: Instant) -> bool {
        self.pulse.from <= now && now < self.pulse.to
    }

    fn rejects(&self) -> bool {
        matches!(self.verdict, Verdict::Reject | Verdict::Overdue)
    }
}

/// How far back levels are known, in edges' beginnings and ends.
const LEVELS: usize = 1024;

/// The parts between camera and gate. Where two parts' times overlap and one of them is to be rejected, rejecting wins.
#[derive(Debug)]
pub struct Schedule {
    energize: Energize,
    /// How late an edge may be.
    tolerance: Duration,
    parts: Vec<Part>,
    /// From when on the line had which level.
    levels: VecDeque<(Instant, Level)>,
}

impl Schedule {
    /// Without parts, and with an inactive line since `now`.
    pub fn new(energize: Energize, tolerance: Duration, now: Instant) -> Self {
        // All of its memory is used once, so that it is there later.
        let mut levels = VecDeque::from([(now, Level::Inactive); LEVELS]);
        levels.truncate(1);
        Schedule { energize, tolerance, parts: Vec::with_capacity(1024), levels }
    }

    /// Adds a part that has no verdict yet.
    pub fn expect(&mut self, pulse: Pulse) {
        self.parts.push(Part { pulse, verdict: Verdict::Open, withheld: false, told: false, done: false });
    }

    /// Gives a part its verdict. One to pass is too late when the part was taken for one to be rejected already.
    pub fn decide(&mut self, part: u64, reject: bool) -> Option<Deviation> {
        let part = self.parts.iter_mut().find(|p| p.pulse.part == part)?;
        let too_late = part.verdict == Verdict::Overdue && !reject;
        part.verdict = if reject || too_late { Verdict::Reject } else { Verdict::Pass };
        (too_late && !std::mem::replace(&mut part.told, true)).then_some(Deviation::Late)
    }

    /// Whether the line is to be energized at `now`, which must not go back.
    pub fn level(&mut self, now: Instant) -> bool {
        let grace = self.grace();
        for part in &mut self.parts {
            if part.verdict == Verdict::Open && part.pulse.from + grace <= now {
                part.verdict = Verdict::Overdue;
            }
        }
        let rejects = self.parts.iter().any(|p| p.is_at(now) && p.rejects());
        match self.energize {
            Energize::ToReject => rejects,
            Energize::ToPass if rejects => false,
            Energize::ToPass => {
                if !self.is(true) {
                    self.withhold(now);
                }
                self.parts.iter().any(|p| p.is_at(now) && self.passes(p))
            }
        }
    }

    /// Whether the line has this level now, for sure.
    pub fn is(&self, active: bool) -> bool {
        let level = if active { Level::Active } else { Level::Inactive };
        self.levels.back().is_some_and(|last| last.1 == level)
    }

    /// Notes that the line was set, or that it could not be, at some time from `before` to `after`.
    pub fn driven(&mut self, active: bool, before: Instant, after: Instant, set: bool) {
        self.note(before, Level::Unknown);
        if set {
            self.note(after, if active { Level::Active } else { Level::Inactive });
            if active && self.energize == Energize::ToPass {
                // The part at the gate by now may be another one.
                self.withhold(after);
            }
        }
    }

    /// Tells of each part once that was not served as planned, as soon as that is sure, and forgets parts that are gone.
    /// After [`Schedule::level`] was asked for, and driven, at `now`.
    pub fn check(&mut self, now: Instant, mut tell: impl FnMut(u64, Deviation)) {
        for i in 0..self.parts.len() {
            let part = &self.parts[i];
            if part.done {
                continue;
            }
            let (number, gone) = (part.pulse.part, part.pulse.to + self.tolerance <= now);
            if !part.told
                && let Some(deviation) = self.deviation(part, now)
            {
                self.parts[i].told = true;
                tell(number, deviation);
            }
            // A verdict that comes now is held against what was done without one.
            self.parts[i].done = gone && self.parts[i].verdict != Verdict::Overdue;
        }
        // What is done may still say when the gate was to open for another part.
        for i in (0..self.parts.len()).rev() {
            let to = self.parts[i].pulse.to;
            if self.parts[i].done && !self.parts.iter().any(|p| !p.done && p.pulse.from < to) {
                self.parts.swap_remove(i);
            }
        }
    }

    /// The next moment after `now` at which the level may change, or a part is to be checked.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let (grace, late) = (self.grace(), self.tolerance);
        let moments = self.parts.iter().filter(|p| !p.done).flat_map(|p| {
            let Pulse { from, to, .. } = p.pulse;
            [from, from + grace, from + late, to, to + late]
        });
        moments.filter(|at| *at > now).min()
    }

    /// The parts that pass if nothing is driven from `now` on, though they are not to.
    pub fn unserved(&self, now: Instant) -> impl Iterator<Item = u64> {
        let driven = self.energize == Energize::ToReject;
        let left =
            self.parts.iter().filter(move |p| driven && now < p.pulse.to && p.verdict != Verdict::Pass);
        left.map(|p| p.pulse.part)
    }

    /// How long after its arrival a part may still get its verdict: the edge is in time all the same.
    fn grace(&self) -> Duration {
        self.tolerance / 2
    }

    fn note(&mut self, at: Instant, level: Level) {
        if self.levels.len() == LEVELS {
            self.levels.pop_front();
        }
        self.levels.push_back((at, level));
    }

    /// Whether the gate is to be open for a part.
    fn passes(&self, part: &Part) -> bool {
        part.verdict == Verdict::Pass && !part.withheld
    }

    /// Does not open the gate for parts that are there at `now` and for which that would be too late.
    fn withhold(&mut self, now: Instant) {
        for i in 0..self.parts.len() {
            if self.parts[i].is_at(now) && self.opening(&self.parts[i].pulse, now) + self.tolerance < now {
                self.parts[i].withheld = true;
            }
        }
    }

    /// When the gate was to open for a part that is there at `now`: when it arrived, or the last one to be rejected had gone.
    fn opening(&self, pulse: &Pulse, now: Instant) -> Instant {
        let gone = self.parts.iter().filter(|p| p.rejects() && p.pulse.to <= now).map(|p| p.pulse.to);
        gone.max().map_or(pulse.from, |gone| gone.max(pulse.from))
    }

    /// Whether the line is energized for a part.
    fn drives(&self, part: &Part) -> bool {
        match self.energize {
            Energize::ToReject => part.rejects(),
            Energize::ToPass => self.passes(part),
        }
    }

    fn deviation(&self, part: &Part, now: Instant) -> Option<Deviation> {
        let Pulse { from, to, .. } = part.pulse;
        let begin = from + self.tolerance;
        if part.rejects() {
            let rejecting = match self.energize {
                Energize::ToReject => Level::Active,
                Energize::ToPass => Level::Inactive,
            };
            if begin <= now && !self.had(rejecting, begin, to, now) {
                return Some(Deviation::Missed);
            }
        } else if self.energize == Energize::ToPass && !self.was_open(begin, to, now) {
            return Some(Deviation::Late);
        }
        let end = to + self.tolerance;
        if end <= now && self.drives(part) && !self.drives_between(to, end) {
            let level = self.levels.iter().rev().find(|(at, _)| *at <= end);
            if level.is_some_and(|(_, level)| *level != Level::Inactive) {
                return Some(Deviation::Late);
            }
        }
        None
    }

    /// Whether the line is energized for a part at any time from `from` to `to`.
    fn drives_between(&self, from: Instant, to: Instant) -> bool {
        self.parts.iter().any(|p| p.pulse.from <= to && from < p.pulse.to && self.drives(p))
    }

    /// Whether the gate was open from `from` to `to`, as far as that is over by `now`, but for the time of parts to be rejected.
    fn was_open(&self, from: Instant, to: Instant, now: Instant) -> bool {
        let mut at = from;
        while at < to && at <= now {
            let rejects = || self.parts.iter().filter(|p| p.rejects()).map(|p| p.pulse);
            if let Some(other) = rejects().find(|r| r.from <= at && at < r.to + self.tolerance) {
                at = other.to + self.tolerance;
                continue;
            }
            let until =
                rejects().map(|r| r.from).filter(|from| *from > at).min().map_or(to, |next| next.min(to));
            if !self.had(Level::Active, at, until, now) {
                return false;
            }
            at = until;
        }
        true
    }

    /// Whether the line had a level all the time from `from` to before `to`, or until `now` where that is earlier.
    fn had(&self, level: Level, from: Instant, to: Instant, now: Instant) -> bool {
        for &(begin, was) in self.levels.iter().rev() {
            let within = if now < to { begin <= now } else { begin < to };
            if within && was != level {
                return false;
            }
            if begin <= from {
                return true;
            }
        }
        // Not known that far back.
        false
    }
}
