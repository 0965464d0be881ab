//! The data that stages pass to one another.

use std::path::PathBuf;
use std::time::Duration;

use ndarray::{Array2, Array4, ArrayView3, ArrayViewMut4, s};
use posfar::{Grid, Residuals};

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
    /// One for each of the backbone's scales, `[rows × cols, channels]`, padding left out.
    pub tokens: Vec<Array2<f32>>,
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
    /// One for each of the backbone's scales, with one residual per token.
    pub scales: Vec<Residuals>,
    /// Where the frame lies on the grid.
    pub placement: Placement,
    /// As [`Features::picture`].
    pub picture: Array4<f32>,
    /// Time of this stage and the one before.
    pub times: StageTimes,
}

/// Fills `input`, `[1, height, width, channels]`, with a window of the residuals of one neighbor, 0 for the nearest: all
/// scales one after another along the channels, each divided by its unit.
///
/// # Errors
/// [`ErrorKind::Model`] if the scales do not have this neighbor, or these channels together, or `input` has other sizes.
pub(crate) fn join(
    scales: &[Residuals],
    units: &[f32],
    neighbor: usize,
    (top, left): Grid,
    (high, wide): Grid,
    channels: usize,
    mut input: ArrayViewMut4<f32>,
) -> Result<()> {
    let unexpected =
        || Error::new(ErrorKind::Model, "the residuals have another shape than the network takes");
    if input.dim() != (1, high, wide, channels) {
        return Err(unexpected());
    }
    let mut first = 0;
    for (residuals, unit) in scales.iter().zip(units) {
        let (rows, cols) = residuals.grid;
        let count = residuals.values.dim().2;
        let chosen = residuals.values.outer_iter().nth(neighbor).and_then(|v| v.to_slice());
        let chosen = ArrayView3::from_shape((rows, cols, count), chosen.ok_or_else(unexpected)?)
            .map_err(|_| unexpected())?;
        if first + count > channels || top + high > rows || left + wide > cols {
            return Err(unexpected());
        }
        let (from, factor) = (chosen.slice(s![top..top + high, left..left + wide, ..]), 1.0 / unit);
        let mut to = input.slice_mut(s![0, .., .., first..first + count]);
        to.zip_mut_with(&from, |to, from| *to = from * factor);
        first += count;
    }
    if first == channels { Ok(()) } else { Err(unexpected()) }
}
