//! Records of parts and the status of the line: written by the pipeline, passed on by outputs. No threads, no
//! devices.

mod drift;
mod halt;
pub(crate) mod part;
mod status;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use utoipa::ToSchema;

pub use drift::{Drift, Quantity};
pub use halt::{Halt, HaltedBy, Halts};
pub(crate) use part::Part;
pub(crate) use status::OutputCounts;
pub use status::{Histogram, Problem, Reloads, Severity, Snapshot, Stage, State, Status};

use crate::imaging::Frame;
use crate::inspector::{Inspection, Verdict};

/// Kind of a fault: one word for counters and machines. The verdict has the full reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The verdict came after the part's deadline, or never.
    Late,
    /// Parts came faster than they could be inspected.
    Overflow,
    /// The camera gave no picture.
    Camera,
    /// No picture shows this part for sure.
    Unpaired,
    /// The camera repeats the same picture.
    Frozen,
    /// The picture is black.
    Black,
    /// The picture is over-exposed.
    OverExposed,
    /// The picture is out of focus.
    Defocused,
    /// The picture has another color or size than the enrolled ones, or cannot be decoded.
    WrongFormat,
    /// A score or feature is not a finite number.
    NotFinite,
    /// The inspection failed in another way.
    Inspection,
    /// The line is halted.
    Halted,
    /// The service was stopped while the part was on its way.
    Stopped,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [FaultKind; 13] = [
        FaultKind::Late,
        FaultKind::Overflow,
        FaultKind::Camera,
        FaultKind::Unpaired,
        FaultKind::Frozen,
        FaultKind::Black,
        FaultKind::OverExposed,
        FaultKind::Defocused,
        FaultKind::WrongFormat,
        FaultKind::NotFinite,
        FaultKind::Inspection,
        FaultKind::Halted,
        FaultKind::Stopped,
    ];

    /// The name in counters and JSON.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::Late => "late",
            FaultKind::Overflow => "overflow",
            FaultKind::Camera => "camera",
            FaultKind::Unpaired => "unpaired",
            FaultKind::Frozen => "frozen",
            FaultKind::Black => "black",
            FaultKind::OverExposed => "over-exposed",
            FaultKind::Defocused => "defocused",
            FaultKind::WrongFormat => "wrong-format",
            FaultKind::NotFinite => "not-finite",
            FaultKind::Inspection => "inspection",
            FaultKind::Halted => "halted",
            FaultKind::Stopped => "stopped",
        }
    }
}

impl std::fmt::Display for FaultKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// What inspects the parts.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Engine {
    /// Name of the product.
    pub product: String,
    /// SHA-256 of the package's manifest, in hexadecimal: names the package.
    pub package: String,
    /// The execution provider that the networks really run on.
    pub provider: String,
    /// Scores above the threshold are rejected.
    pub threshold: f32,
    /// Number of the recipe; 0 is the configuration's package.
    pub recipe: u16,
}

/// Everything about one part. There is exactly one record per part.
#[derive(Debug, Clone)]
pub struct Record {
    /// Number of the part, counted from 1 since the service started.
    pub part: u64,
    /// Time of the trigger, by the wall clock.
    pub triggered: SystemTime,
    /// Time from the trigger to the verdict.
    pub latency: Duration,
    /// The verdict.
    pub verdict: Verdict,
    /// Kind of the fault, if the verdict is one.
    pub fault: Option<FaultKind>,
    /// What inspected the part.
    pub engine: Arc<Engine>,
    /// Whether `frame` shows this part.
    pub has_frame: bool,
    /// Whether `inspection` is of this part.
    pub has_inspection: bool,
    /// The buffer of [`Record::frame`].
    pub frame_buffer: Frame,
    /// The buffer of [`Record::inspection`].
    pub inspection_buffer: Inspection,
}

impl Record {
    /// A record of no part, with empty buffers.
    pub fn empty(engine: Arc<Engine>) -> Self {
        Record {
            part: 0,
            triggered: SystemTime::UNIX_EPOCH,
            latency: Duration::ZERO,
            verdict: Verdict::Fault(String::new()),
            fault: None,
            engine,
            has_frame: false,
            has_inspection: false,
            frame_buffer: Frame::default(),
            inspection_buffer: Inspection::default(),
        }
    }

    /// The part's picture. `None` if there was none in time.
    pub fn frame(&self) -> Option<&Frame> {
        self.has_frame.then_some(&self.frame_buffer)
    }

    /// The part's inspection. `None` if there was none in time.
    pub fn inspection(&self) -> Option<&Inspection> {
        self.has_inspection.then_some(&self.inspection_buffer)
    }
}
