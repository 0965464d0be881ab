//! The head: residuals → probability that each block is defective, or a correction of its score.

use ndarray::{ArrayView4, ArrayViewMut4};

use super::data::{FrameResiduals, join};
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::Placement;
use crate::onnx::{Execution, Network, Provider, Runtime, check_finite};
use crate::package::{BlockHead, Head as Kind, HeadOutput, NetworkInfo, ScaleInfo, SeeingHead};

/// A head, loaded and ready.
pub struct Head {
    network: Network,
    channels: usize,
    units: Vec<f32>,
    name: String,
    kind: Kind,
    sums: Vec<f32>,
    counts: Vec<f32>,
}

impl Head {
    /// Loads a head. `channels` are of all scales' residuals, `scales` has the package's units of them.
    ///
    /// # Errors
    /// As [`Network::head`].
    pub(crate) fn new(
        runtime: &'static Runtime,
        onnx: &[u8],
        info: &NetworkInfo<Kind>,
        channels: usize,
        scales: &[ScaleInfo],
        execution: &Execution,
    ) -> Result<Self> {
        let network = match info.kind {
            Kind::Block(_) => Network::head(runtime, onnx, execution, channels),
            Kind::Seeing(_) => Network::seeing_head(runtime, onnx, execution, channels),
        };
        let network = network.map_err(|e| e.within(&info.name))?;
        Ok(Head {
            network,
            channels,
            units: scales.iter().map(|scale| scale.residual_scale).collect(),
            name: info.name.clone(),
            kind: info.kind.clone(),
            sums: Vec::new(),
            counts: Vec::new(),
        })
    }

    /// Its name, and the provider that really ran it last.
    pub fn provider(&self) -> Option<(&str, Provider)> {
        Some((&self.name, self.network.provider()?))
    }

    /// Whether it needs [`super::FeatureStage::keep_picture`].
    pub fn needs_picture(&self) -> bool {
        matches!(self.kind, Kind::Seeing(_))
    }

    /// Meaning of its output.
    pub fn output(&self) -> HeadOutput {
        self.kind.output()
    }

    /// The output for each block: the probability that it is defective, or the factor of its score. With it comes the
    /// placement of the blocks. A head that sees the picture has smaller ones, its cells.
    ///
    /// Overlapping windows cover a grid larger than the head's window; overlaps are averaged (SemiREST, arXiv
    /// 2306.03492v1).
    ///
    /// # Errors
    /// [`ErrorKind::Model`] if the network fails or its output has another shape; [`ErrorKind::NotFinite`]
    /// for NaN.
    pub fn run(&mut self, frame: &FrameResiduals) -> Result<(&[f32], Placement)> {
        let placement = match self.kind {
            Kind::Seeing(SeeingHead { cell, .. }) => self.run_with_picture(frame, cell)?,
            Kind::Block(BlockHead { window, step, .. }) => {
                self.run_windows(frame, window, step)?;
                frame.placement
            }
        };
        check_finite("the head's output", &self.sums)?;
        Ok((&self.sums, placement))
    }

    fn run_with_picture(&mut self, frame: &FrameResiduals, cell: u32) -> Result<Placement> {
        let grid = frame.placement.grid;
        let cells = frame.placement.refined(cell);
        let (down, across) = cells.grid;
        let (units, channels, sums) = (&self.units, self.channels, &mut self.sums);
        let fill = |[residuals, mut picture]: [ArrayViewMut4<f32>; 2]| {
            picture.assign(&frame.picture);
            join(&frame.scales, units, 0, (0, 0), grid, channels, residuals)
        };
        let sizes = [[1, grid.0, grid.1, channels], frame.picture.dim().into()];
        self.network.run_in_place(sizes, fill, |logits| {
            if logits.dim() != (1, down, across, 1) {
                return Err(unlike(logits.dim(), (1, down, across, 1)));
            }
            sums.clear();
            sums.extend(logits.iter().map(|v| 1.0 / (1.0 + (-v).exp())));
            Ok(())
        })?;
        Ok(cells)
    }

    fn run_windows(&mut self, frame: &FrameResiduals, window: usize, step: usize) -> Result<()> {
        let (rows, cols) = frame.placement.grid;
        self.sums.clear();
        self.sums.resize(rows * cols, 0.0);
        self.counts.clear();
        self.counts.resize(rows * cols, 0.0);
        let (whole, output) = (rows.max(cols), self.output());
        let (window, step) = if window == 0 { (whole, whole) } else { (window, step.max(1)) };
        let (high, wide) = (window.min(rows), window.min(cols));
        for top in starts(rows, high, step) {
            for left in starts(cols, wide, step) {
                let window = (high, wide);
                let (units, channels) = (&self.units, self.channels);
                let fill = |[residuals]: [ArrayViewMut4<f32>; 1]| {
                    join(&frame.scales, units, 0, (top, left), window, channels, residuals)
                };
                let (sums, counts) = (&mut self.sums, &mut self.counts);
                self.network.run_in_place([[1, high, wide, channels]], fill, |logits| {
                    add(logits, output, (top, left), window, cols, sums, counts)
                })?;
            }
        }
        self.sums.iter_mut().zip(&self.counts).for_each(|(sum, count)| *sum /= count);
        Ok(())
    }
}

fn unlike(found: (usize, usize, usize, usize), expected: (usize, usize, usize, usize)) -> Error {
    Error::new(ErrorKind::Model, format!("the head's output is {found:?} instead of {expected:?}"))
}

/// The starts of windows that cover a length. The last window ends at its end.
fn starts(length: usize, window: usize, step: usize) -> impl Iterator<Item = usize> {
    let last = length - window;
    (0..last).step_by(step.max(1)).chain([last])
}

/// Adds one window's output.
fn add(
    logits: ArrayView4<f32>,
    output: HeadOutput,
    (top, left): (usize, usize),
    (high, wide): (usize, usize),
    cols: usize,
    sums: &mut [f32],
    counts: &mut [f32],
) -> Result<()> {
    if logits.dim() != (1, high, wide, 2) {
        return Err(unlike(logits.dim(), (1, high, wide, 2)));
    }
    for row in 0..high {
        for col in 0..wide {
            let (good, defective) = (logits[(0, row, col, 0)], logits[(0, row, col, 1)]);
            let place = (top + row) * cols + left + col;
            sums[place] += match output {
                HeadOutput::Probability => 1.0 / (1.0 + (good - defective).exp()),
                HeadOutput::Correction => (0.5 * (defective - good)).tanh().exp(),
            };
            counts[place] += 1.0;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_everything_and_end_at_the_end() {
        for (length, window, step, expected) in [
            (32, 32, 8, vec![0]),
            (40, 32, 8, vec![0, 8]),
            (43, 32, 8, vec![0, 8, 11]),
            (5, 5, 5, vec![0]),
            (1, 1, 8, vec![0]),
        ] {
            assert_eq!(
                starts(length, window, step).collect::<Vec<_>>(),
                expected,
                "{length} {window} {step}"
            );
        }
    }
}
