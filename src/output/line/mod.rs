//! Digital output lines: the reject gate, and the healthy line.

pub(crate) mod bits;
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
    /// Drives the gate. [`Energize`] defines when it is active.
    Reject,
    /// Toggles while all is well, so a dead process and a stuck line both show.
    Healthy,
}

/// Sets lines. Dropping it leaves both inactive, their safe level.
pub trait Lines: Send {
    /// Sets a line. Active means energized.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Device`] if the line cannot be driven.
    fn set(&mut self, line: Line, active: bool) -> Result<()>;

    /// Whether this line exists. A missing line is never late.
    fn has(&self, line: Line) -> bool;
}

/// No lines, for an inspector that only reports.
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

/// Effect of a fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFault {
    /// The part is rejected.
    #[default]
    Reject,
    /// The part is rejected, and the line halts until a person resumes it.
    Stop,
}

/// Lines and timing of the gate: `[line]` of the configuration.
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
    /// A file for every edge, instead of a chip: for trials without hardware. Each edge is a line
    /// `NANOSECONDS reject|healthy 0|1`, by the kernel's monotonic clock.
    pub record: Option<PathBuf>,
    /// When the reject line is energized.
    pub energize: Energize,
    /// Effect of a fault.
    pub on_fault: OnFault,
    /// Time from the trigger to the gate, in milliseconds.
    pub travel_ms: f64,
    /// Length of the pulse, in milliseconds.
    pub pulse_ms: f64,
    /// Largest delay of an edge, in milliseconds, at most half a pulse. See [`Settings::tolerance`].
    pub tolerance_ms: Option<f64>,
    /// Time from the trigger to the verdict's deadline, in milliseconds, at most the travel time. Default:
    /// the travel time.
    pub deadline_ms: Option<f64>,
}

/// Checks a time in milliseconds.
///
/// # Errors
/// [`crate::ErrorKind::Usage`] naming the key.
pub(crate) fn check_time(key: &str, value: f64) -> Result<()> {
    // More than an hour is a slip of the unit.
    const MOST: f64 = 3_600_000.0;
    range(key, value, (Bound::Excluded(0.0), Bound::Included(MOST)))
}

/// The times of a part, from its trigger on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    /// Time until it is at the gate.
    pub travel: Duration,
    /// Time that it is there.
    pub pulse: Duration,
    /// Time until its verdict is due.
    pub deadline: Duration,
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
    /// Checks the values.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] naming the key.
    pub(crate) fn validate(&self) -> Result<()> {
        let times = [
            ("line.travel_ms", Some(self.travel_ms)),
            ("line.pulse_ms", Some(self.pulse_ms)),
            ("line.tolerance_ms", self.tolerance_ms),
            ("line.deadline_ms", self.deadline_ms),
        ];
        for (key, value) in times {
            if let Some(value) = value {
                check_time(key, value)?;
            }
        }
        let wrong = |key: &str, what: &str| Err(Error::setting(key, what));
        if self.deadline() > self.travel() {
            return wrong(
                "line.deadline_ms",
                "is later than the part at the gate; set at most line.travel_ms",
            );
        }
        if self.tolerance_ms.is_some_and(|tolerance| tolerance > self.pulse_ms / 2.0) {
            return wrong(
                "line.tolerance_ms",
                "lets a pulse miss the part; set at most half of line.pulse_ms",
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

    /// The times of a part.
    pub(crate) fn times(&self) -> Times {
        Times { travel: self.travel(), pulse: self.pulse(), deadline: self.deadline() }
    }

    /// Time from the trigger to the gate.
    pub fn travel(&self) -> Duration {
        Duration::from_secs_f64(self.travel_ms / 1e3)
    }

    /// Length of the pulse.
    pub fn pulse(&self) -> Duration {
        Duration::from_secs_f64(self.pulse_ms / 1e3)
    }

    /// Largest delay of an edge. Default: 5 ms, or half a pulse if that is less. At 1 m/s a part moves 5 mm
    /// in this time: the travel time is not known better, and a valve is slower.
    pub fn tolerance(&self) -> Duration {
        Duration::from_secs_f64(self.tolerance_in_ms() / 1e3)
    }

    /// The same in milliseconds, without rounding.
    pub(crate) fn tolerance_in_ms(&self) -> f64 {
        const DEFAULT: f64 = 5.0;
        self.tolerance_ms.unwrap_or(DEFAULT.min(self.pulse_ms / 2.0))
    }

    /// Time from the trigger to the verdict's deadline.
    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_secs_f64(self.deadline_ms.unwrap_or(self.travel_ms) / 1e3)
    }

    /// Takes the lines. Both are inactive then.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Device`] if the chip or a line is missing or in use.
    pub fn open(&self) -> Result<Box<dyn Lines>> {
        match (&self.chip, &self.record) {
            (Some(chip), _) => {
                Ok(Box::new(GpioLines::open(chip, self.reject, self.healthy, self.active_low)?))
            }
            (None, Some(file)) => Ok(Box::new(RecordedLines::open(file)?)),
            (None, None) => Ok(Box::new(NoLines)),
        }
    }

    /// Whether this line exists.
    pub fn has(&self, line: Line) -> bool {
        let number = match line {
            Line::Reject => self.reject,
            Line::Healthy => self.healthy,
        };
        self.record.is_some() || number.is_some()
    }
}
