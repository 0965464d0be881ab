//! Lines of a GPIO chip, through the kernel's character device.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use gpiocdev::Request;
use gpiocdev::line::{EdgeDetection, Value};

use super::{Line, Lines};
use crate::clock::at_monotonic;
use crate::error::{Error, ErrorKind, Result};

const CONSUMER: &str = "weakrest";

/// Lines of a GPIO chip.
pub struct GpioLines {
    request: Request,
    reject: Option<u32>,
    healthy: Option<u32>,
}

impl GpioLines {
    /// Takes the lines. Both are inactive then.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] if the chip or a line is missing, in use or not accessible.
    pub fn open(chip: &Path, reject: Option<u32>, healthy: Option<u32>, active_low: bool) -> Result<Self> {
        let offsets: Vec<u32> = reject.into_iter().chain(healthy).collect();
        let mut builder = Request::builder();
        builder.on_chip(chip).with_consumer(CONSUMER).with_lines(&offsets);
        if active_low {
            builder.as_active_low();
        }
        let request = builder.as_output(Value::Inactive).request().map_err(|e| refused(chip, &offsets, e))?;
        Ok(GpioLines { request, reject, healthy })
    }
}

pub(super) fn refused(chip: &Path, offsets: &[u32], cause: gpiocdev::Error) -> Error {
    let offsets: Vec<String> = offsets.iter().map(u32::to_string).collect();
    Error::new(
        ErrorKind::Device,
        format!(
            "cannot use line {} of {}: check that they exist, are free, and that this user has access (`gpioinfo`)",
            offsets.join(" and "),
            chip.display()
        ),
    )
    .with_source(cause)
}

impl Lines for GpioLines {
    fn set(&mut self, line: Line, active: bool) -> Result<()> {
        let offset = match line {
            Line::Reject => self.reject,
            Line::Healthy => self.healthy,
        };
        let Some(offset) = offset else { return Ok(()) };
        let value = if active { Value::Active } else { Value::Inactive };
        self.request
            .set_value(offset, value)
            .map(drop)
            .map_err(|e| Error::new(ErrorKind::Device, format!("cannot drive line {offset}")).with_source(e))
    }

    fn has(&self, line: Line) -> bool {
        match line {
            Line::Reject => self.reject.is_some(),
            Line::Healthy => self.healthy.is_some(),
        }
    }
}

impl Drop for GpioLines {
    fn drop(&mut self) {
        for line in [Line::Reject, Line::Healthy] {
            if let Err(e) = self.set(line, false) {
                log::error!("{}", e.chain());
            }
        }
    }
}

/// An edge of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineEdge {
    /// Time of the edge, by the kernel.
    pub at: Instant,
    /// Number of edges before it that the kernel dropped.
    pub lost: u32,
}

/// A line whose edges trigger parts, such as a light barrier's.
pub struct EdgeTrigger {
    request: Request,
    /// The kernel's number of the latest edge; numbers begin with 1.
    last: AtomicU32,
}

impl EdgeTrigger {
    /// Takes the line.
    ///
    /// # Errors
    /// As [`GpioLines::open`].
    pub fn open(chip: &Path, line: u32, falling: bool) -> Result<Self> {
        let edge = if falling { EdgeDetection::FallingEdge } else { EdgeDetection::RisingEdge };
        let request = Request::builder()
            .on_chip(chip)
            .with_consumer(CONSUMER)
            .with_line(line)
            .with_edge_detection(edge)
            .request()
            .map_err(|e| refused(chip, &[line], e))?;
        Ok(EdgeTrigger { request, last: AtomicU32::new(0) })
    }

    /// Waits for an edge, at most `timeout`. Returns whether there is one.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] if the line is gone.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        self.request.wait_edge_event(timeout).map_err(gone)
    }

    /// The next edge, if one is there. Call it from one thread at a time.
    ///
    /// # Errors
    /// As [`EdgeTrigger::wait`]; also for an edge without a time.
    pub fn next(&self) -> Result<Option<LineEdge>> {
        if !self.request.has_edge_event().map_err(gone)? {
            return Ok(None);
        }
        let event = self.request.read_edge_event().map_err(gone)?;
        let lost = event.line_seqno.wrapping_sub(self.last.swap(event.line_seqno, Relaxed)).saturating_sub(1);
        let at = at_monotonic(Duration::from_nanos(event.timestamp_ns))
            .ok_or_else(|| Error::new(ErrorKind::Device, "the trigger's edge has a time in the future"))?;
        Ok(Some(LineEdge { at, lost }))
    }
}

fn gone(cause: gpiocdev::Error) -> Error {
    Error::new(ErrorKind::Device, "the trigger's line is gone").with_source(cause)
}
