//! Which good images are most like this one (the "fast" in PosFAR).

use ndarray::{Array2, Array3, ArrayView2, ArrayView3, Axis};
use rayon::prelude::*;

use super::Grid;
use super::pca::Pca;

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
    let mut windows = [0.0f32; WINDOWS];
    let windows = &mut windows[..a.nrows()];
    let (a, b) = (a.as_standard_layout(), b.as_standard_layout());
    for ((window, a), b) in windows.iter_mut().zip(a.rows()).zip(b.rows()) {
        *window = squared_distance(a.to_slice().unwrap_or_default(), b.to_slice().unwrap_or_default());
    }
    let kept = ((windows.len() as f32 * TRIM).ceil() as usize).max(1).min(windows.len());
    if kept < windows.len() {
        windows.select_nth_unstable_by(kept - 1, f32::total_cmp);
    }
    windows[..kept].iter().map(|w| w.sqrt()).sum::<f32>() / kept as f32
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
    sums.iter().sum()
}

/// Memory that is kept from image to image.
#[derive(Debug, Default)]
pub struct Scratch {
    distances: Vec<(f32, usize)>,
}

/// Images whose distances one thread computes in a row.
const IMAGES: usize = 32;

/// The `k` images nearest to `query`, in ascending order of their index.
///
/// `descriptors` is `[images, WINDOWS, components]`; only images for which `eligible` holds take part. Equal distances
/// are resolved by the lowest index.
pub fn most_similar(
    query: ArrayView2<f32>,
    descriptors: ArrayView3<f32>,
    k: usize,
    eligible: impl Fn(usize) -> bool + Sync,
    scratch: &mut Scratch,
    chosen: &mut Vec<usize>,
) {
    let images = &mut scratch.distances;
    images.clear();
    images.extend((0..descriptors.len_of(Axis(0))).filter(|i| eligible(*i)).map(|i| (0.0, i)));
    images.par_iter_mut().with_min_len(IMAGES).for_each(|(far, image)| {
        *far = distance(query, descriptors.index_axis(Axis(0), *image));
    });
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
