//! The anomaly map: from one score per cell to one per pixel, one per picture, and regions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{Error, ErrorKind, Result};
use crate::imaging::{Components, Placement};

/// Samples per standard deviation of the smoothing. With fewer, the map between its samples would differ visibly.
const SAMPLES: f32 = 1.75;

/// How the anomaly map is smoothed, and how it makes the score. Lengths are in pixels of the scaled frame.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapParameters {
    /// Standard deviation of the Gaussian smoothing. 0: none.
    pub sigma: f32,
    /// Side of the score's window, at least 1. The score is the highest mean over a window.
    pub window: u32,
}

impl MapParameters {
    /// Checks the range of the numbers.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with the name of the bad one.
    pub fn validate(&self) -> Result<()> {
        if !(self.sigma.is_finite() && (0.0..=256.0).contains(&self.sigma)) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("sigma must be 0 to 256 pixels, not {}", self.sigma),
            ));
        }
        if self.window == 0 {
            return Err(Error::new(ErrorKind::Usage, "the score's window must be at least 1 pixel"));
        }
        Ok(())
    }

    /// Pixels between the map's samples: a smooth map needs few.
    fn step(&self) -> u32 {
        ((self.sigma / SAMPLES) as u32).max(1)
    }

    /// Size of the score's window in the map's samples, of a frame with this content.
    pub(crate) fn window_in(&self, map: &AnomalyMap, content: (u32, u32)) -> (usize, usize) {
        let along = |samples: usize, pixels: u32| {
            let window = self.window as f32 * samples as f32 / pixels.max(1) as f32;
            (window.round() as usize).max(1)
        };
        (along(map.width, content.0), along(map.height, content.1))
    }
}

/// A connected area of the anomaly map above the threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Region {
    /// Left edge of the bounding box in frame pixels.
    pub x: u32,
    /// Top edge of the bounding box in frame pixels.
    pub y: u32,
    /// Width of the bounding box in frame pixels, at least 1.
    pub width: u32,
    /// Height of the bounding box in frame pixels, at least 1.
    pub height: u32,
    /// Highest value of the anomaly map in it.
    pub peak: f32,
    /// Area above the threshold, in frame pixels.
    pub area: u32,
}

/// Anomaly scores at evenly spaced places of the scaled frame, without padding: one per pixel, or fewer of a smooth map.
/// Scores are 0 and above; larger is stranger.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AnomalyMap {
    /// Number of places from left to right.
    pub width: usize,
    /// Number of places from top to bottom.
    pub height: usize,
    /// Rows from the top, `width × height` values.
    pub values: Vec<f32>,
}

impl AnomalyMap {
    /// The map at another size, bilinear between pixel centers, with repeated edges.
    pub fn resized(&self, width: usize, height: usize) -> AnomalyMap {
        let mut values = Vec::with_capacity(width * height);
        if self.values.is_empty() {
            return AnomalyMap { width: 0, height: 0, values };
        }
        let columns: Vec<Tap> = taps(self.width, width).collect();
        for (y0, y1, fy) in taps(self.height, height) {
            let (top, bottom) = (&self.values[y0 * self.width..], &self.values[y1 * self.width..]);
            for &(x0, x1, fx) in &columns {
                let a = top[x0] + (top[x1] - top[x0]) * fx;
                let b = bottom[x0] + (bottom[x1] - bottom[x0]) * fx;
                values.push(a + (b - a) * fy);
            }
        }
        AnomalyMap { width, height, values }
    }
}

/// The two input pixels around an output pixel, and the weight of the second.
type Tap = (usize, usize, f32);

/// The taps of each of `to` output pixels along one axis.
fn taps(from: usize, to: usize) -> impl Iterator<Item = Tap> {
    let scale = from as f32 / to as f32;
    (0..to).map(move |i| tap((i as f32 + 0.5) * scale - 0.5, from))
}

/// The tap at a place of `from` input pixels.
fn tap(center: f32, from: usize) -> Tap {
    let center = center.clamp(0.0, (from - 1) as f32);
    let low = center.floor() as usize;
    (low, (low + 1).min(from - 1), center - low as f32)
}

/// The taps of evenly spaced places, every `step` pixels or a little closer, in `pixels` that start with the first of
/// `cells` of `stride` pixels.
fn sparse_taps(cells: usize, stride: u32, pixels: u32, step: u32) -> impl Iterator<Item = Tap> {
    let places = pixels.div_ceil(step);
    let (apart, stride) = (pixels as f32 / places.max(1) as f32, stride as f32);
    (0..places).map(move |i| tap((i as f32 + 0.5) * apart / stride - 0.5, cells))
}

/// Memory that is reused from frame to frame.
#[derive(Debug, Default)]
pub struct MapScratch {
    rows: Vec<Tap>,
    cols: Vec<Tap>,
    kernel: Vec<f32>,
    padded: Vec<f32>,
    line: Vec<f32>,
    plane: Vec<f32>,
    columns: Vec<f64>,
    components: Components,
    peaks: Vec<f32>,
}

/// Smallest value that one layer contributes to a map of several, in its unit: a cell like an enrolled one in
/// one scale must not hide what the others see.
const FLOOR: f32 = 1e-3;

/// Makes the smoothed map of layers with one value of at least 0 per cell (`rows × cols`), bilinear between the
/// cells' centers. Each comes with its unit. The map of several layers is their geometric mean, pixel by pixel. It is
/// multiplied by `factors`, one per cell, if there are any.
pub fn map_from_layers<'a>(
    layers: impl ExactSizeIterator<Item = (&'a [f32], f32)>,
    factors: Option<&[f32]>,
    placement: &Placement,
    parameters: &MapParameters,
    scratch: &mut MapScratch,
    map: &mut AnomalyMap,
) {
    let (rows, cols) = placement.grid;
    let (step, stride) = (parameters.step(), placement.stride);
    scratch.cols.clear();
    scratch.cols.extend(sparse_taps(cols, stride, placement.content.0, step));
    scratch.rows.clear();
    scratch.rows.extend(sparse_taps(rows, stride, placement.content.1, step));
    map.width = scratch.cols.len();
    map.height = scratch.rows.len();
    map.values.resize(map.width * map.height, 0.0);
    let count = layers.len();
    let floor = if count > 1 { FLOOR } else { 0.0 };
    for (number, (cells, unit)) in layers.enumerate() {
        let factor = 1.0 / unit;
        interpolate(cells, cols, scratch, map, |out, value| {
            let value = value * factor;
            // Unlike `max`, this keeps NaN.
            let value = if value < floor { floor } else { value };
            *out = if number == 0 { value } else { *out * value };
        });
    }
    take_root(&mut map.values, count);
    if let Some(factors) = factors {
        interpolate(factors, cols, scratch, map, |out, factor| *out *= factor);
    }
    let in_samples = |samples: usize, pixels: u32| parameters.sigma * samples as f32 / pixels.max(1) as f32;
    let sigmas = (in_samples(map.width, placement.content.0), in_samples(map.height, placement.content.1));
    smooth(map, sigmas, scratch);
}

/// Calls `put` for each pixel of the map, with the value there between the cells' centers.
fn interpolate(
    cells: &[f32],
    cols: usize,
    scratch: &mut MapScratch,
    map: &mut AnomalyMap,
    put: impl Fn(&mut f32, f32),
) {
    let MapScratch { rows, cols: columns, line, .. } = scratch;
    for (&(y0, y1, fy), out) in rows.iter().zip(map.values.chunks_exact_mut(map.width)) {
        let (top, bottom) = (&cells[y0 * cols..][..cols], &cells[y1 * cols..][..cols]);
        line.clear();
        line.extend(top.iter().zip(bottom).map(|(t, b)| t + (b - t) * fy));
        for (out, &(x0, x1, fx)) in out.iter_mut().zip(&*columns) {
            put(out, line[x0] + (line[x1] - line[x0]) * fx);
        }
    }
}

/// Replaces products of `count` values by their geometric mean.
fn take_root(products: &mut [f32], count: usize) {
    match count {
        0 | 1 => {}
        2 => products.iter_mut().for_each(|v| *v = v.sqrt()),
        3 => products.iter_mut().for_each(|v| *v = cube_root(*v)),
        _ => products.iter_mut().for_each(|v| *v = v.powf(1.0 / count as f32)),
    }
}

/// The cube root of a normal number above 0, to six digits; NaN for infinity. Unlike `cbrt`, a loop of it is
/// vectorized.
fn cube_root(value: f32) -> f32 {
    // A third of the exponent: off by 4 % at most. Each of Halley's steps cubes that error.
    const THIRD_OF_BIAS: u32 = 0x2a51_19f2;
    let mut root = f32::from_bits(value.to_bits() / 3 + THIRD_OF_BIAS);
    for _ in 0..2 {
        let cube = root * root * root;
        root *= (cube + 2.0 * value) / (2.0 * cube + value);
    }
    root
}

/// The right half of a Gaussian, cut at 4 σ.
fn gaussian(sigma: f32, kernel: &mut Vec<f32>) {
    let radius = (4.0 * sigma).ceil() as usize;
    kernel.clear();
    kernel.extend((0..=radius).map(|i| (-0.5 * (i as f32 / sigma).powi(2)).exp()));
    let total = kernel[0] + 2.0 * kernel[1..].iter().sum::<f32>();
    kernel.iter_mut().for_each(|k| *k /= total);
}

/// Separable Gaussian of these deviations along rows and columns, with repeated borders.
fn smooth(map: &mut AnomalyMap, (across, down): (f32, f32), scratch: &mut MapScratch) {
    if across <= 0.0 || down <= 0.0 {
        return;
    }
    let MapScratch { kernel, padded, plane, .. } = scratch;
    gaussian(across, kernel);
    let radius = kernel.len() - 1;
    let (width, height) = (map.width, map.height);
    plane.clear();
    plane.resize(width * height, 0.0);
    padded.clear();
    padded.resize(width + 2 * radius, 0.0);
    for (line, out) in map.values.chunks_exact(width).zip(plane.chunks_exact_mut(width)) {
        padded[..radius].fill(line[0]);
        padded[radius..radius + width].copy_from_slice(line);
        padded[radius + width..].fill(line[width - 1]);
        for (o, v) in out.iter_mut().zip(&padded[radius..]) {
            *o = kernel[0] * v;
        }
        for (i, k) in kernel.iter().enumerate().skip(1) {
            let (left, right) = (&padded[radius - i..][..width], &padded[radius + i..][..width]);
            for ((o, l), r) in out.iter_mut().zip(left).zip(right) {
                *o += k * (l + r);
            }
        }
    }
    gaussian(down, kernel);
    for (y, out) in map.values.chunks_exact_mut(width).enumerate() {
        for (o, v) in out.iter_mut().zip(&plane[y * width..]) {
            *o = kernel[0] * v;
        }
        for (i, k) in kernel.iter().enumerate().skip(1) {
            let up = &plane[y.saturating_sub(i) * width..][..width];
            let down = &plane[(y + i).min(height - 1) * width..][..width];
            for ((o, u), d) in out.iter_mut().zip(up).zip(down) {
                *o += k * (u + d);
            }
        }
    }
}

/// The highest mean of the map over a window of `wide` × `high` samples, or the whole side of a smaller map. NaN or
/// infinite, if the map holds such a value.
pub fn score_from_map(map: &AnomalyMap, (wide, high): (usize, usize), scratch: &mut MapScratch) -> f32 {
    let (wide, high) = (wide.min(map.width), high.min(map.height));
    if wide == 0 || high == 0 {
        return 0.0;
    }
    let columns = &mut scratch.columns;
    columns.clear();
    columns.resize(map.width, 0.0);
    let mut best = f64::NEG_INFINITY;
    for (y, line) in map.values.chunks_exact(map.width).enumerate() {
        for (c, &v) in columns.iter_mut().zip(line) {
            *c += f64::from(v);
        }
        if y >= high {
            for (c, &v) in columns.iter_mut().zip(&map.values[(y - high) * map.width..]) {
                *c -= f64::from(v);
            }
        }
        if y + 1 >= high {
            let mut sum: f64 = columns[..wide].iter().sum();
            best = best.max(sum);
            for x in wide..map.width {
                sum += columns[x] - columns[x - wide];
                best = best.max(sum);
            }
        }
    }
    // `max` ignores NaN. A column's sum keeps it, because infinity minus infinity is NaN.
    if columns.iter().any(|c| !c.is_finite()) {
        return f32::NAN;
    }
    (best / (wide * high) as f64) as f32
}

/// Fills `regions` with the areas of the map above `threshold` as boxes in the frame, highest peak first.
pub fn regions_from_map(
    map: &AnomalyMap,
    frame: (u32, u32),
    threshold: f32,
    scratch: &mut MapScratch,
    regions: &mut Vec<Region>,
) {
    let areas = &mut scratch.components;
    areas.label(map.width, map.height, |i| map.values[i] > threshold);
    scratch.peaks.clear();
    scratch.peaks.resize(areas.list().len(), f32::NEG_INFINITY);
    for (&label, &value) in areas.labels().iter().zip(&map.values) {
        if label > 0 {
            let peak = &mut scratch.peaks[label as usize - 1];
            *peak = peak.max(value);
        }
    }
    let (sx, sy) =
        (f64::from(frame.0) / map.width.max(1) as f64, f64::from(frame.1) / map.height.max(1) as f64);
    regions.clear();
    regions.extend(areas.list().iter().zip(&scratch.peaks).map(|(area, &peak)| {
        let left = ((area.x as f64 * sx).floor() as u32).min(frame.0.saturating_sub(1));
        let top = ((area.y as f64 * sy).floor() as u32).min(frame.1.saturating_sub(1));
        let right = (((area.x + area.width) as f64 * sx).ceil() as u32).min(frame.0);
        let bottom = (((area.y + area.height) as f64 * sy).ceil() as u32).min(frame.1);
        Region {
            x: left,
            y: top,
            width: right.saturating_sub(left).max(1),
            height: bottom.saturating_sub(top).max(1),
            peak,
            area: (area.pixels as f64 * sx * sy).round().max(1.0) as u32,
        }
    }));
    regions.sort_unstable_by(|a, b| b.peak.total_cmp(&a.peak).then((a.y, a.x).cmp(&(b.y, b.x))));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_that_is_no_number_spoils_the_score_wherever_it_is() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..30 {
                let mut map = AnomalyMap { width: 6, height: 5, values: vec![1.0; 30] };
                map.values[at] = bad;
                for window in [1, 2, 5, 100] {
                    let score = score_from_map(&map, (window, window), &mut MapScratch::default());
                    assert!(!score.is_finite(), "{bad} at {at}, window {window}: {score}");
                }
            }
        }
    }

    fn placement(content: (u32, u32), stride: u32) -> Placement {
        Placement {
            frame: content,
            content,
            canvas: (content.0.next_multiple_of(16), content.1.next_multiple_of(16)),
            grid: (content.1.div_ceil(stride) as usize, content.0.div_ceil(stride) as usize),
            stride,
        }
    }

    proptest! {
        #[test]
        fn the_score_is_the_highest_window_mean(
            width in 1usize..12, height in 1usize..12, window in 1usize..15,
            values in prop::collection::vec(0.0f32..9.0, 144),
        ) {
            let map = AnomalyMap { width, height, values: values[..width * height].to_vec() };
            let (w, h) = (window.min(width), window.min(height));
            let mut best = f32::NEG_INFINITY;
            for y in 0..=height - h {
                for x in 0..=width - w {
                    let cells = (y..y + h).flat_map(|y| (x..x + w).map(move |x| y * width + x));
                    best = best.max(cells.map(|i| map.values[i]).sum::<f32>() / (w * h) as f32);
                }
            }
            let score = score_from_map(&map, (window, window), &mut MapScratch::default());
            prop_assert!((score - best).abs() <= 1e-4, "{score} {best}");
        }

        #[test]
        fn smoothing_keeps_a_constant_and_never_exceeds_the_range(
            width in 1u32..40, height in 1u32..40, sigma in 0.0f32..5.0,
            values in prop::collection::vec(0.0f32..9.0, 25),
        ) {
            let place = placement((width, height), 8);
            let count = place.grid.0 * place.grid.1;
            let parameters = MapParameters { sigma, window: 4 };
            let mut map = AnomalyMap::default();
            map_from_layers([(&*vec![3.0; count], 1.0)].into_iter(), None, &place, &parameters, &mut MapScratch::default(), &mut map);
            let places = |pixels: u32| pixels.div_ceil(parameters.step()) as usize;
            prop_assert_eq!((map.width, map.height), (places(width), places(height)));
            prop_assert!(map.values.iter().all(|v| (v - 3.0).abs() < 1e-4));
            map_from_layers([(&values[..count], 1.0)].into_iter(), None, &place, &parameters, &mut MapScratch::default(), &mut map);
            let (low, high) = values[..count].iter().fold((f32::MAX, f32::MIN), |(l, h), &v| (l.min(v), h.max(v)));
            prop_assert!(map.values.iter().all(|&v| v >= low - 1e-4 && v <= high + 1e-4));
        }
    }

    proptest! {
        #[test]
        fn layers_meet_in_their_geometric_mean(
            count in 1usize..6, units in prop::collection::vec(0.1f32..50.0, 6),
            values in prop::collection::vec(-6.0f32..6.0, 6 * 6),
        ) {
            // Cells of one pixel: nothing is interpolated.
            let place = placement((3, 2), 1);
            let cells: Vec<f32> = values.iter().map(|v| 10f32.powf(*v)).collect();
            let layers: Vec<(&[f32], f32)> = cells.chunks(6).zip(units).take(count).collect();
            let (parameters, mut map) = (MapParameters { sigma: 0.0, window: 1 }, AnomalyMap::default());
            map_from_layers(layers.iter().copied(), None, &place, &parameters, &mut MapScratch::default(), &mut map);
            for (at, &value) in map.values.iter().enumerate() {
                let least = if count > 1 { 1e-3 } else { 0.0 };
                let logs = layers.iter().map(|(cells, unit)| {
                    (f64::from(cells[at]) / f64::from(*unit)).max(least).ln()
                });
                let expected = (logs.sum::<f64>() / count as f64).exp();
                prop_assert!((f64::from(value) / expected - 1.0).abs() < 2e-6, "{value} {expected}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 32, ..ProptestConfig::default() })]

        /// A map of fewer samples is the map of all pixels at their places, and its score nearly the same, even for one hot cell.
        #[test]
        fn fewer_samples_of_a_smooth_map_say_the_same(
            // Sides of any remainder; residuals of good parts with a defect of one cell.
            width in 400u32..520, height in 400u32..520, peak in 0usize..32 * 32,
            values in prop::collection::vec(0.5f32..1.5, 33 * 33),
        ) {
            let place = placement((width, height), 16);
            let mut cells = values[..place.grid.0 * place.grid.1].to_vec();
            let peak = peak % cells.len();
            cells[peak] = 6.0;
            let sparse = MapParameters { sigma: 3.6, window: 28 };
            prop_assert_eq!(sparse.step(), 2);
            let (mut scratch, mut few, mut all) = (MapScratch::default(), AnomalyMap::default(), AnomalyMap::default());
            map_from_layers([(&*cells, 1.0)].into_iter(), None, &place, &sparse, &mut scratch, &mut few);
            prop_assert_eq!((few.width, few.height), (width.div_ceil(2) as usize, height.div_ceil(2) as usize));
            // The same smoothing of every pixel.
            let plain = MapParameters { sigma: 0.0, ..sparse };
            map_from_layers([(&*cells, 1.0)].into_iter(), None, &place, &plain, &mut scratch, &mut all);
            smooth(&mut all, (sparse.sigma, sparse.sigma), &mut scratch);
            let whole = few.resized(all.width, all.height);
            for (few, all) in whole.values.iter().zip(&all.values) {
                prop_assert!((few - all).abs() <= 0.2, "{few} {all}");
            }
            let score = |map: &AnomalyMap, scratch: &mut MapScratch| {
                score_from_map(map, sparse.window_in(map, place.content), scratch)
            };
            let (few, all) = (score(&few, &mut scratch), score(&all, &mut scratch));
            prop_assert!((few - all).abs() <= 1e-2 * all, "{few} {all}");
        }
    }

    #[test]
    fn a_layer_without_a_number_or_beyond_all_numbers_is_not_hidden() {
        let place = placement((2, 1), 1);
        for bad in [f32::NAN, f32::INFINITY, f32::MAX] {
            for count in 1..6 {
                for worst in 0..count {
                    let layers: Vec<[f32; 2]> =
                        (0..count).map(|layer| [if layer == worst { bad } else { 2.0 }, 1.0]).collect();
                    let (parameters, mut map) =
                        (MapParameters { sigma: 0.0, window: 1 }, AnomalyMap::default());
                    let layers = layers.iter().map(|cells| (cells.as_slice(), 0.5));
                    map_from_layers(layers, None, &place, &parameters, &mut MapScratch::default(), &mut map);
                    let score = score_from_map(&map, (1, 1), &mut MapScratch::default());
                    assert!(!score.is_finite(), "{bad} in layer {worst} of {count}: {score}");
                }
            }
        }
    }

    #[test]
    fn a_hot_token_peaks_at_its_cell_and_becomes_one_region() {
        let place = Placement { frame: (128, 64), ..placement((64, 32), 8) };
        let mut tokens = vec![0.0; 4 * 8];
        tokens[2 * 8 + 5] = 10.0;
        let parameters = MapParameters { sigma: 2.0, window: 4 };
        let (mut scratch, mut map) = (MapScratch::default(), AnomalyMap::default());
        map_from_layers([(&*tokens, 1.0)].into_iter(), None, &place, &parameters, &mut scratch, &mut map);
        let peak =
            map.values.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| i).unwrap_or(0);
        let (x, y) = (peak % 64, peak / 64);
        assert!((40..48).contains(&x) && (16..24).contains(&y), "{x} {y}");

        let mut regions = Vec::new();
        regions_from_map(&map, place.frame, 4.0, &mut scratch, &mut regions);
        assert_eq!(regions.len(), 1);
        let r = regions[0];
        assert!(r.x >= 72 && r.x + r.width <= 104 && r.y >= 24 && r.y + r.height <= 56, "{r:?}");
    }
}
