//! The images that are most similar to one image: the "fast" in PosFAR (arXiv 2306.03492 version 4).

use ndarray::{Array2, Array3, ArrayView2, ArrayView3, Axis};
use rayon::prelude::*;

use crate::Grid;
use crate::pca::Pca;

/// Windows along each side of an image.
pub const SIDE: usize = 8;
/// Windows per image.
pub const WINDOWS: usize = SIDE * SIDE;
/// Share of the windows that count, the nearest ones. A defect spoils only some windows.
pub const TRIM: f32 = 0.8;

/// The cells of window `i` along an axis of `len` cells. Windows overlap by at most one cell. Grids with fewer cells
/// than windows repeat cells.
fn span(i: usize, len: usize) -> std::ops::Range<usize> {
    i * len / SIDE..((i + 1) * len).div_ceil(SIDE)
}

/// The descriptor of an image, `[WINDOWS, components]`: each window's mean features, through `pca`.
///
/// `early` is `[rows × cols, channels]`. Windows are shares of the image, so images of different sizes compare.
///
/// ```
/// use ndarray::Array2;
/// use posfar::pca::{Keep, Pca};
/// use posfar::retrieval::{WINDOWS, descriptor, distance};
///
/// let image = Array2::from_shape_fn((16 * 16, 8), |(i, j)| ((i * 5 + j * 3) % 17) as f32);
/// let pca = Pca::fit(image.view(), Keep::Components(4))?;
/// let found = descriptor(image.view(), (16, 16), &pca);
/// assert_eq!(found.dim(), (WINDOWS, 4));
/// assert_eq!(distance(found.view(), found.view()), 0.0);
/// # Ok::<(), posfar::Error>(())
/// ```
///
/// # Panics
/// If `early` has not one row per cell of the grid, or not the channels of `pca`.
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
    // The projection of a mean is the mean of the projections, for a 16th of the work.
    pca.transform(means.view())
}

/// The distance of two descriptors: the mean of the windows' Euclidean distances, without the largest
/// 1 − [`TRIM`] of them.
///
/// # Panics
/// If the descriptors have more than [`WINDOWS`] rows.
pub fn distance(a: ArrayView2<f32>, b: ArrayView2<f32>) -> f32 {
    let (count, components) = a.dim();
    let (a, b) = (a.as_standard_layout(), b.as_standard_layout());
    let mut windows = [0.0f32; WINDOWS];
    let windows = &mut windows[..count];
    measure(a.as_slice().unwrap_or_default(), b.as_slice().unwrap_or_default(), components, windows);
    trimmed_mean(windows).0
}

/// The windows' distances of two contiguous descriptors.
fn measure(a: &[f32], b: &[f32], components: usize, windows: &mut [f32]) {
    let rows = a.chunks_exact(components.max(1)).zip(b.chunks_exact(components.max(1)));
    for (window, (a, b)) in windows.iter_mut().zip(rows) {
        *window = squared_distance(a, b);
    }
    // In its own loop, so the compiler takes several roots at once.
    for window in windows {
        *window = window.sqrt();
    }
}

/// Number of windows that count.
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
    // The processor adds in pairs in this order.
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// A distance beyond which an image is not among the nearest, and a bound that shows it without a sort of the windows.
///
/// `kept` of `n` windows count. For every cutoff t, the smallest `kept` sum up to at least
/// Σ min(window, t) − (n − kept) · t, because each window that does not count adds at most t to the first sum. The
/// bound is sharp if t is the largest window that counts. Images at about the same distance have about the same.
#[derive(Debug, Clone, Copy)]
struct Limit {
    distance: f32,
    cutoff: f32,
}

impl Limit {
    /// Above the relative rounding error of a sum of [`WINDOWS`] terms, 64 · 2⁻²⁴.
    const SLACK: f32 = 1e-5;

    /// Whether the windows' trimmed mean is certainly larger. Never, if the limit is not a finite number.
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

/// Memory for [`most_similar`], reused from image to image.
#[derive(Debug, Default)]
pub struct Scratch {
    distances: Vec<(f32, usize)>,
    sample: Vec<(f32, f32)>,
}

/// Images per piece of work.
const IMAGES: usize = 32;

/// Fills `chosen` with the `k` images nearest to `query`, in ascending order of their index.
///
/// `descriptors` is `[images, WINDOWS, components]`. Only images for which `eligible` holds take part. Equal distances
/// go to the lower index.
///
/// A sample of the images is measured first: an image that is certainly farther than the sample's `k`-th is skipped.
///
/// ```
/// use ndarray::{Array3, Axis};
/// use posfar::retrieval::{Scratch, WINDOWS, most_similar};
///
/// let descriptors = Array3::from_shape_fn((10, WINDOWS, 4), |(image, _, _)| (image * image) as f32);
/// let query = descriptors.index_axis(Axis(0), 5);
/// let mut chosen = Vec::new();
/// most_similar(query, descriptors.view(), 3, |image| image != 5, &mut Scratch::default(), &mut chosen);
/// assert_eq!(chosen, [3, 4, 6]);
/// ```
///
/// # Panics
/// If the query's shape is not a descriptor's.
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

    // The size at which the sample costs as much as the images that pass it.
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

/// Stacks descriptors to `[images, WINDOWS, components]`.
pub(crate) fn stack(descriptors: &[Array2<f32>], components: usize) -> Array3<f32> {
    let mut all = Array3::zeros((descriptors.len(), WINDOWS, components));
    for (mut slot, descriptor) in all.axis_iter_mut(Axis(0)).zip(descriptors) {
        // A bank is stored in half precision. Rounded here, a fresh bank searches like a stored one.
        slot.assign(&descriptor.mapv(|v| half::f16::from_f32(v).to_f32()));
    }
    all
}
