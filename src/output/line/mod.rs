//! The digital lines beside the conveyor: the reject gate, and a line that tells whether all is well.

mod gpio;
mod held;
pub mod realtime;
mod recorded;
mod schedule;
mod simulated;

use std::ops::Bound;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use gpio::EdgeTrigger;
use gpio::GpioLines;
pub(crate) use held::HeldLines;
use recorded::RecordedLines;
pub use schedule::Energize;
pub(crate) use schedule::{Deviation, Pulse, Schedule};
pub use simulated::{Edge, SimulatedLines};

use crate::error::{Error, Result};
use crate::settings::range;

/// One of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// Drives the gate. What active means is [`Energize`].
    Reject,
    /// Toggles while all is well, so that both a dead process and a stuck line show.
    Healthy,
}

/// Sets lines. Dropping it leaves both inactive, which is the safe level.
pub trait Lines: Send {
    /// Drives a line: active is energized.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Device`] when the line cannot be driven.
    fn set(&mut self, line: Line, active: bool) -> Result<()>;

    /// Whether there is such a line at all. What is not there is not late.
    fn has(&self, line: Line) -> bool;
}

/// No lines at all: for an inspector that only reports.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLines;

impl Lines for NoLines {
    fn set(&mut self, _: Line, _: bool) -> Result<()> {
        Ok(())
    }

    fn has(&self, _: Line) -> bool {
        false
    }
}

/// What a fault does to the line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFault {
    /// The part is rejected.
    #[default]
    Reject,
    /// The part is rejected, and the line halts until a person resumes it.
    Stop,
}

/// Where the lines are and how the gate is driven: `[line]` of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The GPIO chip, such as `/dev/gpiochip0`. Without it no line is driven.
    pub chip: Option<PathBuf>,
    /// Number of the reject line on the chip.
    pub reject: Option<u32>,
    /// Number of the healthy line on the chip.
    pub healthy: Option<u32>,
    /// Whether the lines are low when active.
    pub active_low: bool,
    /// Instead of a chip: a file that every edge is written to, for trials without hardware. See [`RecordedLines`].
    pub record: Option<PathBuf>,
    /// When the gate's line is energized.
    pub energize: Energize,
    /// What a fault does.
    pub on_fault: OnFault,
    /// From the trigger until the part is at the gate, in milliseconds.
    pub travel_ms: f64,
    /// How long the line is driven for a part, in milliseconds.
    pub pulse_ms: f64,
    /// How late an edge may be, in milliseconds; at most half a pulse. See [`Settings::tolerance`].
    pub tolerance_ms: Option<f64>,
    /// From the trigger until there must be a verdict, in milliseconds; at most the travel time, which is the default.
    pub deadline_ms: Option<f64>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            chip: None,
            reject: None,
            healthy: None,
            active_low: false,
            record: None,
            energize: Energize::ToReject,
            on_fault: OnFault::Reject,
            travel_ms: 500.0,
            pulse_ms: 50.0,
            tolerance_ms: None,
            deadline_ms: None,
        }
    }
}

impl Settings {
    /// Checks that the numbers make sense.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] naming the key.
    pub(crate) fn validate(&self) -> Result<()> {
        // An hour is a slip of the unit.
        const MOST: f64 = 3_600_000.0;
        let times = [
            ("line.travel_ms", Some(self.travel_ms)),
            ("line.pulse_ms", Some(self.pulse_ms)),
            ("line.tolerance_ms", self.tolerance_ms),
            ("line.deadline_ms", self.deadline_ms),
        ];
        for (key, value) in times {
            if let Some(value) = value {
                range(key, value, (Bound::Excluded(0.0), Bound::Included(MOST)))?;
            }
        }
        let wrong = |key: &str, what: &str| Err(Error::setting(key, what));
        if self.deadline() > self.travel() {
            return wrong(
                "line.deadline_ms",
                "a verdict so late finds the part gone; set at most line.travel_ms",
            );
        }
        if self.tolerance_ms.is_some_and(|tolerance| tolerance > self.pulse_ms / 2.0) {
            return wrong(
                "line.tolerance_ms",
                "a pulse so late misses the part; set at most half of line.pulse_ms",
            );
        }
        for (key, line) in [("line.reject", self.reject), ("line.healthy", self.healthy)] {
            if self.chip.is_none() && line.is_some() {
                return wrong(key, "has no chip; set line.chip, such as \"/dev/gpiochip0\"");
            }
        }
        if self.chip.is_some() && self.reject.is_none() && self.healthy.is_none() {
            return wrong("line.reject", "is missing; set the number of the gate's line on line.chip");
        }
        if self.chip.is_some() && self.record.is_some() {
            return wrong("line.record", "takes the place of line.chip; set one of them");
        }
        if self.reject.is_some() && self.reject == self.healthy {
            return wrong("line.healthy", "is the line of line.reject; set another");
        }
        Ok(())
    }

    /// From the trigger until the part is at the gate.
    pub fn travel(&self) -> Duration {
        Duration::from_secs_f64(self.travel_ms / 1e3)
    }

    /// How long the line is driven for a part.
    pub fn pulse(&self) -> Duration {
        Duration::from_secs_f64(self.pulse_ms / 1e3)
    }

    /// How late an edge may be: 5 ms by default, or half a pulse where that is less. A part at 1 m/s goes 5 mm meanwhile, as
    /// little as the travel time is known, and a valve takes longer to move.
    pub fn tolerance(&self) -> Duration {
        const DEFAULT: f64 = 5.0;
        Duration::from_secs_f64(self.tolerance_ms.unwrap_or(DEFAULT.min(self.pulse_ms / 2.0)) / 1e3)
    }

    /// From the trigger until there must be a verdict.
    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_secs_f64(self.deadline_ms.unwrap_or(self.travel_ms) / 1e3)
    }

    /// Takes hold of the lines; both are inactive then.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Device`] when the chip or a line is not there or taken.
    pub fn open(&self) -> Result<Box<dyn Lines>> {
        match (&self.chip, &self.record) {
            (Some(chip), _) => {
                Ok(Box::new(GpioLines::open(chip, self.reject, self.healthy, self.active_low)?))
            }
            (None, Some(file)) => Ok(Box::new(RecordedLines::open(file)?)),
            (None, None) => Ok(Box::new(NoLines)),
        }
    }

    /// Whether there is such a line at all.
    pub fn has(&self, line: Line) -> bool {
        let number = match line {
            Line::Reject => self.reject,
            Line::Healthy => self.healthy,
        };
        self.record.is_some() || number.is_some()
    }
}
