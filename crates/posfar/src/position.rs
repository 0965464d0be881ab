//! The 2-D sin-cos position embedding of PosFAR (arXiv 2306.03492 version 4).

use ndarray::Array2;

use crate::Grid;

/// The embedding of every cell of a grid: `[rows × cols, channels]`, values in −1..1.
///
/// The first half of the channels encodes the row, the second half the column. Each half holds the `sin`, then the
/// `cos`, of the position in cells at wavelengths from 2π to 2π·10,000. The channels after the last multiple of four
/// are zero. A cell's embedding does not depend on the size of the grid.
///
/// ```
/// let embedding = posfar::position::embedding((2, 3), 8);
/// assert_eq!(embedding.dim(), (6, 8));
/// // The cell at row 0 and column 0: sin 0, sin 0, cos 0, cos 0, and the same for the column.
/// assert_eq!(embedding.row(0).to_vec(), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
/// ```
pub fn embedding(grid: Grid, channels: usize) -> Array2<f32> {
    let quarter = channels / 4;
    let frequency = |k: usize| -> f64 { 1.0 / 10_000f64.powf(k as f64 / quarter.max(1) as f64) };
    Array2::from_shape_fn((grid.0 * grid.1, channels), |(token, channel)| {
        let (row, col) = (token / grid.1, token % grid.1);
        let (place, k) = match channel.checked_div(quarter) {
            Some(0) => (row, channel),
            Some(1) => (row, channel - quarter),
            Some(2) => (col, channel - 2 * quarter),
            Some(3) => (col, channel - 3 * quarter),
            _ => return 0.0,
        };
        let angle = place as f64 * frequency(k);
        (if (channel / quarter).is_multiple_of(2) { angle.sin() } else { angle.cos() }) as f32
    })
}
