//! Polygons on pictures.

use std::ops::Range;

/// x and y in pixels. A pixel's center is at half a pixel.
pub type Point = [f64; 2];
/// Corners in their order around the area.
pub type Polygon = Vec<Point>;

/// Passes on the pixels of each row with their centers inside a polygon (even-odd rule): the row, and columns from the
/// left.
pub(crate) fn inside(
    polygon: &[Point],
    (width, height): (u32, u32),
    mut pass: impl FnMut(usize, Range<usize>),
) {
    let mut crossings: Vec<usize> = Vec::new();
    for row in 0..height as usize {
        let y = row as f64 + 0.5;
        crossings.clear();
        for (i, &[x0, y0]) in polygon.iter().enumerate() {
            let [x1, y1] = polygon[(i + 1) % polygon.len()];
            if (y0 <= y) != (y1 <= y) {
                let at = x0 + (y - y0) * (x1 - x0) / (y1 - y0);
                // The first pixel with its center right of the edge.
                crossings.push(((at - 0.5).floor() + 1.0).clamp(0.0, f64::from(width)) as usize);
            }
        }
        crossings.sort_unstable();
        for pair in crossings.chunks_exact(2) {
            if pair[0] < pair[1] {
                pass(row, pair[0]..pair[1]);
            }
        }
    }
}

/// The pixels with their centers inside a polygon (even-odd rule), rows from the top.
#[cfg(feature = "workshop")]
pub(crate) fn filled(polygon: &[Point], (width, height): (u32, u32)) -> Vec<bool> {
    let mut bits = vec![false; width as usize * height as usize];
    inside(polygon, (width, height), |row, columns| {
        bits[row * width as usize..][columns].fill(true);
    });
    bits
}
