//! The plan of the gate's line, and the check that it was followed. Pure: the caller passes the time and the
//! driven levels.
//!
//! A part is in the plan from its trigger. A part without a verdict at its time is rejected, so a late
//! decision never lets it pass. The driven levels are compared with the plan for each part. So every early,
//! late or missing edge is found, whatever its cause: a stopped process, a broken line, a verdict after the
//! part was gone.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// When the reject line is energized.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Energize {
    /// To reject. A dead process lets parts pass.
    #[default]
    ToReject,
    /// To pass. A dead process, a cut wire and a missing verdict reject.
    ToPass,
}

/// A part's time at the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    /// Number of the part.
    pub part: u64,
    /// When it arrives.
    pub from: Instant,
    /// When it has left, exclusive.
    pub to: Instant,
}

/// A deviation from the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deviation {
    /// The gate did not reject a part to reject during its whole time. The part may have passed.
    Missed,
    /// Another edge was late: the gate rejected or was open longer than planned, or did not open in time.
    Late,
}

/// The known level of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Active,
    Inactive,
    /// While it is set, and after a failure.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// None yet.
    Open,
    Pass,
    Reject,
    /// None, and it was too late to wait for one.
    Overdue,
}

#[derive(Debug)]
struct Part {
    pulse: Pulse,
    verdict: Verdict,
    /// Not opened, because it was too late.
    withheld: bool,
    /// Its deviation was reported.
    told: bool,
    /// Nothing is left to check.
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

/// Number of remembered starts and ends of edges.
const LEVELS: usize = 1024;

/// The parts between camera and gate. If the times of two parts overlap and one is to be rejected, rejecting
/// wins.
#[derive(Debug)]
pub struct Schedule {
    energize: Energize,
    /// Largest delay of an edge.
    tolerance: Duration,
    parts: Vec<Part>,
    /// The levels of the line and their starts.
    levels: VecDeque<(Instant, Level)>,
}

impl Schedule {
    /// A plan without parts, and a line that is inactive since `now`.
    pub fn new(energize: Energize, tolerance: Duration, now: Instant) -> Self {
        // Uses all of the memory once, so that it is there later.
        let mut levels = VecDeque::from([(now, Level::Inactive); LEVELS]);
        levels.truncate(1);
        Schedule { energize, tolerance, parts: Vec::with_capacity(1024), levels }
    }

    /// Adds a part without a verdict.
    pub fn expect(&mut self, pulse: Pulse) {
        self.parts.push(Part { pulse, verdict: Verdict::Open, withheld: false, told: false, done: false });
    }

    /// Sets a part's verdict. A pass comes too late if the gate already rejects the part.
    pub fn decide(&mut self, part: u64, reject: bool) -> Option<Deviation> {
        let part = self.parts.iter_mut().find(|p| p.pulse.part == part)?;
        let too_late = part.verdict == Verdict::Overdue && !reject;
        part.verdict = if reject || too_late { Verdict::Reject } else { Verdict::Pass };
        (too_late && !std::mem::replace(&mut part.told, true)).then_some(Deviation::Late)
    }

    /// The planned level at `now`. `now` must not go back.
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

    /// Whether the line surely has this level.
    pub fn is(&self, active: bool) -> bool {
        let level = if active { Level::Active } else { Level::Inactive };
        self.levels.back().is_some_and(|last| last.1 == level)
    }

    /// Notes an attempt to set the line between `before` and `after`, and whether it succeeded.
    pub fn driven(&mut self, active: bool, before: Instant, after: Instant, set: bool) {
        self.note(before, Level::Unknown);
        if set {
            self.note(after, if active { Level::Active } else { Level::Inactive });
            if active && self.energize == Energize::ToPass {
                // Another part can be at the gate by now.
                self.withhold(after);
            }
        }
    }

    /// Reports each deviation once, as soon as it is certain, and forgets parts that are gone. Call it after
    /// the level of [`Schedule::level`] at `now` was driven.
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
            // A verdict that comes now is compared with what was done without one.
            self.parts[i].done = gone && self.parts[i].verdict != Verdict::Overdue;
        }
        // A finished part can still decide when the gate had to open for another one.
        for i in (0..self.parts.len()).rev() {
            let to = self.parts[i].pulse.to;
            if self.parts[i].done && !self.parts.iter().any(|p| !p.done && p.pulse.from < to) {
                self.parts.swap_remove(i);
            }
        }
    }

    /// The next time after `now` when the level can change or a part has to be checked.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let (grace, late) = (self.grace(), self.tolerance);
        let moments = self.parts.iter().filter(|p| !p.done).flat_map(|p| {
            let Pulse { from, to, .. } = p.pulse;
            [from, from + grace, from + late, to, to + late]
        });
        moments.filter(|at| *at > now).min()
    }

    /// Parts to reject that would pass if nothing were driven after `now`.
    pub fn unserved(&self, now: Instant) -> impl Iterator<Item = u64> {
        let driven = self.energize == Energize::ToReject;
        let left =
            self.parts.iter().filter(move |p| driven && now < p.pulse.to && p.verdict != Verdict::Pass);
        left.map(|p| p.pulse.part)
    }

    /// How long after its arrival a part can still get its verdict with an edge in time.
    fn grace(&self) -> Duration {
        self.tolerance / 2
    }

    fn note(&mut self, at: Instant, level: Level) {
        if self.levels.len() == LEVELS {
            self.levels.pop_front();
        }
        self.levels.push_back((at, level));
    }

    /// Whether the gate has to be open for a part.
    fn passes(&self, part: &Part) -> bool {
        part.verdict == Verdict::Pass && !part.withheld
    }

    /// Keeps the gate closed for parts that are there at `now` if opening would be too late.
    fn withhold(&mut self, now: Instant) {
        for i in 0..self.parts.len() {
            if self.parts[i].is_at(now) && self.opening(&self.parts[i].pulse, now) + self.tolerance < now {
                self.parts[i].withheld = true;
            }
        }
    }

    /// When the gate had to open for a part that is there at `now`: at its arrival, or when the last reject
    /// had left.
    fn opening(&self, pulse: &Pulse, now: Instant) -> Instant {
        let gone = self.parts.iter().filter(|p| p.rejects() && p.pulse.to <= now).map(|p| p.pulse.to);
        gone.max().map_or(pulse.from, |gone| gone.max(pulse.from))
    }

    /// Whether a part needs the line energized.
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

    /// Whether any part needs the line energized between `from` and `to`.
    fn drives_between(&self, from: Instant, to: Instant) -> bool {
        self.parts.iter().any(|p| p.pulse.from <= to && from < p.pulse.to && self.drives(p))
    }

    /// Whether the gate was open from `from` to `to`, up to `now`, except for the times of rejects.
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

    /// Whether the line had a level from `from` until `to` (exclusive), or until `now` if that is earlier.
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
        // Unknown that far back.
        false
    }
}
