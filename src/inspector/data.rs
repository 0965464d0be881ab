//! What the stages hand to one another.

use std::path::PathBuf;
use std::time::Duration;

use ndarray::{Array2, Array4, ArrayView3};
use posfar::Residuals;

use super::inspection::{Inspection, StageTimes};
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::Placement;
use crate::onnx::Execution;

/// What a device decides about running a package.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The ONNX Runtime library. `None` looks for it: see [`Runtime::load`](crate::onnx::Runtime::load).
    pub onnxruntime: Option<PathBuf>,
    /// What networks run on.
    pub execution: Execution,
    /// Score above which a part is rejected. `None` takes the package's.
    pub threshold: Option<f32>,
}

/// A frame's tokens as the backbone sees them.
#[derive(Debug, Clone, Default)]
pub struct Features {
    /// `[rows × cols, channels]`, padding left out.
    pub tokens: Array2<f32>,
    /// Where the frame lies on the grid.
    pub placement: Placement,
    /// What the network saw of the frame, `[1, 3, rows × stride, cols × stride]`, normalized. Empty unless
    /// [`FeatureStage::keep_picture`](super::FeatureStage::keep_picture) asked for it.
    pub picture: Array4<f32>,
    /// How long it took.
    pub time: Duration,
}

/// A frame's residuals and what later stages need of the frame.
#[derive(Debug, Clone, Default)]
pub struct FrameResiduals {
    /// Residual of every token.
    pub residuals: Residuals,
    /// Where the frame lies on the grid.
    pub placement: Placement,
    /// As [`Features::picture`].
    pub picture: Array4<f32>,
    /// How long this stage took, and the one before.
    pub times: StageTimes,
}

/// A place that is, or is not, to be in the mask; pixels of the frame, from its left top corner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Click {
    /// To the right, 0 to the frame's width.
    pub x: f32,
    /// Down, 0 to the frame's height.
    pub y: f32,
    /// Whether it is defective there.
    pub positive: bool,
}

/// What was computed of a frame before its first click: see [`super::Inspector::prepare`].
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Residuals, what the backbone saw, and where the frame lies on the grid.
    pub residuals: FrameResiduals,
    /// Anomaly map, score and verdict.
    pub inspection: Inspection,
}

/// Residuals of the nearest neighbors, `[rows, cols, channels]`.
pub(super) fn nearest(residuals: &Residuals, channels: usize) -> Result<ArrayView3<'_, f32>> {
    let unexpected = || Error::new(ErrorKind::Model, "residuals of another shape than the head takes");
    let (rows, cols) = residuals.grid;
    let nearest = residuals.values.outer_iter().next().and_then(|v| v.to_slice());
    ArrayView3::from_shape((rows, cols, channels), nearest.ok_or_else(unexpected)?).map_err(|_| unexpected())
}
