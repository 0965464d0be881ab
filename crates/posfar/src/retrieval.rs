//! Which good images are most like this one (the "fast" in PosFAR).

use ndarray::{Array2, Array3, ArrayView2, ArrayView3, Axis};
use rayon::prelude::*;

use crate::Grid;
use crate::pca::Pca;

/// Windows along each side of an image.
pub const SIDE: usize = 8;
/// Windows per image.
pub const WINDOWS: usize = SIDE * SIDE;
/// Share of the windows, the nearest ones, whose mean is the distance: a defect spoils only some windows.
pub const TRIM: f32 = 0.8;

/// Cells along an axis of `len` cells that belong to window `i`. Windows overlap by at most one cell, and grids with
/// fewer cells than windows repeat cells.
fn span(i: usize, len: usize) -> std::ops::Range<usize> {
    i * len / SIDE..((i + 1) * len).div_ceil(SIDE)
}

/// The windowed descriptor of an image: `[WINDOWS, components]`, the mean of the early feature map in each window.
///
/// `early` is `[rows × cols, channels]`. Windows are shares of the image, so that images of different sizes compare.
///
/// # Panics
/// If `early` does not have one row per cell of the grid or not the channels of `pca`.
pub fn descriptor(early: ArrayView2<f32>, grid: Grid, pca: &Pca) -> Array2<f32> {
    let mut means = Array2::<f32>::zeros((WINDOWS, early.ncols()));
    for (window, mut mean) in means.rows_mut().into_iter().enumerate() {
        let (rows, cols) = (span(window / SIDE, grid.0), span(window % SIDE, grid.1));
        let cells = (rows.len() * cols.len()) as f32;
        for row in rows {
            for col in cols.clone() {
                mean += &early.row(row * grid.1 + col);
            }
        }
        mean /= cells;
    }
    // Projecting the means is the same as taking means of projections, and 16 times less work.
    pca.transform(means.view())
}

/// Trimmed mean of the windows' Euclidean distances between two descriptors.
///
/// # Panics
/// If they have more than [`WINDOWS`] rows.
pub fn distance(a: ArrayView2<f32>, b: ArrayView2<f32>) -> f32 {
    let (count, components) = a.dim();
    let (a, b) = (a.as_standard_layout(), b.as_standard_layout());
    let mut windows = [0.0f32; WINDOWS];
    let windows = &mut windows[..count];
    measure(a.as_slice().unwrap_or_default(), b.as_slice().unwrap_or_default(), components, windows);
    trimmed_mean(windows).0
}

/// The windows' distances between two descriptors that lie in one piece.
fn measure(a: &[f32], b: &[f32], components: usize, windows: &mut [f32]) {
    let rows = a.chunks_exact(components.max(1)).zip(b.chunks_exact(components.max(1)));
    for (window, (a, b)) in windows.iter_mut().zip(rows) {
        *window = squared_distance(a, b);
    }
    // In a loop of its own, because several roots are taken at once then.
    for window in windows {
        *window = window.sqrt();
    }
}

/// How many windows count.
fn kept(windows: usize) -> usize {
    ((windows as f32 * TRIM).ceil() as usize).max(1).min(windows)
}

/// The mean of the windows that count, and the largest of them.
fn trimmed_mean(windows: &mut [f32]) -> (f32, f32) {
    let kept = kept(windows.len());
    if kept < windows.len() {
        windows.select_nth_unstable_by(kept - 1, f32::total_cmp);
    }
    let windows = &windows[..kept];
    (windows.iter().sum::<f32>() / kept as f32, windows.last().copied().unwrap_or_default())
}

fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            sums[i] += (a[i] - b[i]) * (a[i] - b[i]);
        }
    }
    for (i, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        sums[i] += (a - b) * (a - b);
    }
    let [a, b, c, d, e, f, g, h] = sums;
    // In this order the processor adds in pairs.
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// A distance beyond which an image is not among the nearest, and what tells so without sorting its windows.
///
/// The windows that count are `kept` of `n`. For every cutoff t, those of the smallest `kept` sum up to at least
/// Σ min(window, t) over all windows minus (n - kept) · t, because each window that does not count takes at most t from
/// the sum. The bound is sharp when t is the largest window that counts, and images that are about equally far have about
/// the same.
#[derive(Debug, Clone, Copy)]
struct Limit {
    distance: f32,
    cutoff: f32,
}

impl Limit {
    /// Larger than what rounding moves a sum of [`WINDOWS`] terms, in parts of the sum: 64 · 2⁻²⁴.
    const SLACK: f32 = 1e-5;

    /// Whether the windows' trimmed mean is certainly larger. Never when the limit is not a finite number.
    fn excludes(&self, windows: &[f32]) -> bool {
        let mut sums = [0.0f32; 8];
        let (chunks, rest) = windows.as_chunks::<8>();
        for chunk in chunks {
            for i in 0..8 {
                sums[i] += if chunk[i] < self.cutoff { chunk[i] } else { self.cutoff };
            }
        }
        let rest: f32 = rest.iter().map(|w| w.min(self.cutoff)).sum();
        let sum = sums.iter().sum::<f32>() + rest;
        let kept = kept(windows.len());
        let least = sum * (1.0 - Self::SLACK) - (windows.len() - kept) as f32 * self.cutoff;
        least > self.distance * kept as f32 * (1.0 + Self::SLACK)
    }
}

/// Memory that is kept from image to image.
#[derive(Debug, Default)]
pub struct Scratch {
    distances: Vec<(f32, usize)>,
    sample: Vec<(f32, f32)>,
}

/// Images whose distances one thread computes in a row.
const IMAGES: usize = 32;

/// The `k` images nearest to `query`, in ascending order of their index.
///
/// `descriptors` is `[images, WINDOWS, components]`; only images for which `eligible` holds take part. Equal distances
/// are resolved by the lowest index.
///
/// A sample of the images is measured first: what is certainly farther than the sample's `k`-th is not among the nearest
/// of all.
///
/// # Panics
/// If the query's shape is not that of a descriptor.
pub fn most_similar(
    query: ArrayView2<f32>,
    descriptors: ArrayView3<f32>,
    k: usize,
    eligible: impl Fn(usize) -> bool + Sync,
    scratch: &mut Scratch,
    chosen: &mut Vec<usize>,
) {
    let Scratch { distances: images, sample } = scratch;
    images.clear();
    images.extend((0..descriptors.len_of(Axis(0))).filter(|i| eligible(*i)).map(|i| (f32::INFINITY, i)));
    let (count, components) = query.dim();
    assert_eq!(
        descriptors.dim(),
        (descriptors.len_of(Axis(0)), count, components),
        "another shape of descriptor"
    );
    let (query, descriptors) = (query.as_standard_layout(), descriptors.as_standard_layout());
    let (query, descriptors) =
        (query.as_slice().unwrap_or_default(), descriptors.as_slice().unwrap_or_default());
    let windows_of = |image: usize, windows: &mut [f32]| {
        let length = count * components;
        measure(query, &descriptors[image * length..][..length], components, windows);
    };

    // So many that measuring them costs as much as measuring what they let pass.
    let step = (images.len() / k.max(1)).isqrt().max(1);
    let sampled = images.par_iter_mut().step_by(step).with_min_len(IMAGES).map(|(far, image)| {
        let mut windows = [0.0f32; WINDOWS];
        windows_of(*image, &mut windows[..count]);
        let (distance, cutoff) = trimmed_mean(&mut windows[..count]);
        *far = distance;
        (distance, cutoff)
    });
    sampled.collect_into_vec(sample);
    if step > 1 && k > 0 {
        let (_, &mut (distance, cutoff), _) =
            sample.select_nth_unstable_by(k - 1, |a, b| a.0.total_cmp(&b.0));
        let limit = Limit { distance, cutoff };
        images.par_iter_mut().enumerate().with_min_len(IMAGES).for_each(|(i, (far, image))| {
            if i % step == 0 {
                return;
            }
            let mut windows = [0.0f32; WINDOWS];
            let windows = &mut windows[..count];
            windows_of(*image, windows);
            if !limit.excludes(windows) {
                *far = trimmed_mean(windows).0;
            }
        });
    }
    if k < images.len() {
        images.select_nth_unstable_by(k, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        images.truncate(k);
    }
    chosen.clear();
    chosen.extend(images.iter().map(|(_, image)| image));
    chosen.sort_unstable();
}

/// Stacks descriptors of equal shape into `[images, WINDOWS, components]`.
pub(crate) fn stack(descriptors: &[Array2<f32>], components: usize) -> Array3<f32> {
    let mut all = Array3::zeros((descriptors.len(), WINDOWS, components));
    for (mut slot, descriptor) in all.axis_iter_mut(Axis(0)).zip(descriptors) {
        // Packages store half precision; rounding here makes a fresh bank and a stored one search alike.
        slot.assign(&descriptor.mapv(|v| half::f16::from_f32(v).to_f32()));
    }
    all
}
