//! The data that stages pass to one another.

use std::path::PathBuf;
use std::time::Duration;

use ndarray::{Array2, Array4, ArrayView3};
use posfar::Residuals;

use super::inspection::StageTimes;
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::Placement;
use crate::onnx::Execution;

/// A device's options for running a package.
///
/// ```
/// use weakrest::inspector::Options;
///
/// let options = Options { threshold: Some(2.5), ..Options::default() };
/// # assert!(options.onnxruntime.is_none());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The ONNX Runtime library. `None` searches `ORT_DYLIB_PATH`, the program's folders and the system's.
    pub onnxruntime: Option<PathBuf>,
    /// Threads and providers of networks.
    pub execution: Execution,
    /// Scores above it are rejected. `None` takes the package's threshold.
    pub threshold: Option<f32>,
}

/// A frame's tokens.
#[derive(Debug, Clone, Default)]
pub struct Features {
    /// `[rows × cols, channels]`, padding left out.
    pub tokens: Array2<f32>,
    /// Where the frame lies on the grid.
    pub placement: Placement,
    /// The backbone's input, `[1, 3, rows × stride, cols × stride]`, normalized. Empty unless
    /// [`FeatureStage::keep_picture`](super::FeatureStage::keep_picture) is set.
    pub picture: Array4<f32>,
    /// Time of this stage.
    pub time: Duration,
}

/// A frame's residuals, with the data that later stages need.
#[derive(Debug, Clone, Default)]
pub struct FrameResiduals {
    /// One residual per token.
    pub residuals: Residuals,
    /// Where the frame lies on the grid.
    pub placement: Placement,
    /// As [`Features::picture`].
    pub picture: Array4<f32>,
    /// Time of this stage and the one before.
    pub times: StageTimes,
}

/// Residuals of the nearest neighbors, `[rows, cols, channels]`.
pub(super) fn nearest(residuals: &Residuals, channels: usize) -> Result<ArrayView3<'_, f32>> {
    let unexpected =
        || Error::new(ErrorKind::Model, "the residuals have another shape than the network takes");
    let (rows, cols) = residuals.grid;
    let nearest = residuals.values.outer_iter().next().and_then(|v| v.to_slice());
    ArrayView3::from_shape((rows, cols, channels), nearest.ok_or_else(unexpected)?).map_err(|_| unexpected())
}
