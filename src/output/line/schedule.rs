//! When the gate's line is energized. Pure: it is told the time.

use std::time::Instant;

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
    /// When it arrives.
    pub from: Instant,
    /// When it is gone. Not part of the pulse.
    pub to: Instant,
    /// Whether it is to be rejected.
    pub reject: bool,
}

/// The parts between camera and gate that have their verdict. Where two parts' times overlap and one of them is to be
/// rejected, rejecting wins.
#[derive(Debug, Default)]
pub struct Schedule {
    energize: Energize,
    pulses: Vec<Pulse>,
}

impl Schedule {
    /// Without parts.
    pub fn new(energize: Energize) -> Self {
        Schedule { energize, pulses: Vec::with_capacity(64) }
    }

    /// Adds a part. Answers `false` when it has gone past the gate already.
    pub fn add(&mut self, pulse: Pulse, now: Instant) -> bool {
        if pulse.to <= now {
            return false;
        }
        self.pulses.push(pulse);
        true
    }

    /// Whether the line is energized at `now`. Forgets parts that are gone; `now` must not go back.
    pub fn level(&mut self, now: Instant) -> bool {
        self.pulses.retain(|p| p.to > now);
        let present = |reject: bool| self.pulses.iter().any(|p| p.from <= now && p.reject == reject);
        match self.energize {
            Energize::ToReject => present(true),
            Energize::ToPass => present(false) && !present(true),
        }
    }

    /// The next moment after `now` at which the level may change.
    pub fn next_change(&self, now: Instant) -> Option<Instant> {
        self.pulses.iter().flat_map(|p| [p.from, p.to]).filter(|at| *at > now).min()
    }

    /// Whether a part that is to be rejected is still on its way.
    pub fn has_rejects(&self) -> bool {
        self.pulses.iter().any(|p| p.reject)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against looking at every millisecond, and looking only when told to is enough.
        #[test]
        fn the_level_is_what_the_parts_at_the_gate_need(
            parts in prop::collection::vec((0u64..200, 1u64..40, any::<bool>()), 0..12), to_pass: bool,
        ) {
            let start = Instant::now();
            let at = |ms: u64| start + Duration::from_millis(ms);
            let energize = if to_pass { Energize::ToPass } else { Energize::ToReject };
            let mut schedule = Schedule::new(energize);
            for &(from, length, reject) in &parts {
                let added = schedule.add(Pulse { from: at(from), to: at(from + length), reject }, start);
                prop_assert!(added);
            }
            let (mut level, mut look) = (schedule.level(start), schedule.next_change(start));
            for ms in 0..300 {
                if look.is_some_and(|look| look <= at(ms)) {
                    level = schedule.level(at(ms));
                    look = schedule.next_change(at(ms));
                }
                let here = |wanted: bool| parts.iter().any(|&(f, l, r)| r == wanted && f <= ms && ms < f + l);
                let expected = if to_pass { here(false) && !here(true) } else { here(true) };
                prop_assert_eq!(level, expected, "{} ms", ms);
            }
        }
    }

    #[test]
    fn a_part_that_is_gone_cannot_be_rejected() {
        let now = Instant::now();
        let mut schedule = Schedule::new(Energize::ToReject);
        let earlier = now.checked_sub(Duration::from_millis(10)).unwrap();
        assert!(!schedule.add(Pulse { from: earlier, to: now, reject: true }, now));
        assert!(!schedule.level(now));
    }
}
