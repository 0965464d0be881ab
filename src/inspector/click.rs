//! Masks from clicks.

use ndarray::{Array2, ArrayView2};

use super::{FrameResiduals, Inspection, Options};
use crate::error::Result;
use crate::package::Package;

/// A place that a person pointed at, in pixels of the frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Click {
    /// From the left edge.
    pub x: f32,
    /// From the top edge.
    pub y: f32,
    /// Whether it is defective there.
    pub positive: bool,
}

/// What was computed of a picture before its first click.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Residuals, and where the frame lies on the grid.
    pub residuals: FrameResiduals,
    /// Anomaly map, score and verdict.
    pub inspection: Inspection,
}

/// The network that makes masks from clicks. No package has one yet.
#[derive(Debug)]
pub enum ClickSegmenter {}

impl ClickSegmenter {
    /// The network of a package, if it has one.
    ///
    /// # Errors
    /// As loading a network.
    pub fn load(_package: &Package, _options: &Options) -> Result<Option<Self>> {
        Ok(None)
    }

    /// Name of the network.
    pub fn name(&self) -> &str {
        match *self {}
    }

    /// Probability that each pixel is defective, `[height, width]` of the frame.
    ///
    /// # Errors
    /// As running a network.
    pub fn segment(
        &mut self,
        _prepared: &Prepared,
        _clicks: &[Click],
        _previous: Option<ArrayView2<f32>>,
        _prompt: Option<&[f32]>,
    ) -> Result<Array2<f32>> {
        match *self {}
    }

    /// The vector of a type or a free text, if it is known.
    ///
    /// # Errors
    /// As running a network.
    pub fn prompt(&mut self, _text: &str) -> Result<Option<Vec<f32>>> {
        match *self {}
    }
}
