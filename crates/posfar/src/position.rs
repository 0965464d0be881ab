//! Fixed 2-D sin-cos position embedding (PosFAR, arXiv 2306.03492 v4).

use ndarray::Array2;

use crate::Grid;

/// The embedding of every cell of a grid: `[rows × cols, channels]`, values in −1..1.
///
/// The first half of the channels encodes the row, the second half the column, each as `sin` then `cos` of the
/// position (in cells) times wavelengths from 2π to 2π·10,000. Channels beyond the last multiple of four are zero. The
/// embedding of a cell does not depend on the size of the grid.
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
