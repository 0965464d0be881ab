//! Greedy k-center coreset: the fewest tokens that leave no token far from the kept ones (Sener and Savarese 2018; used
//! for memory banks since PatchCore, arXiv 2106.08265).
//!
//! Always taking the token that is farthest from those taken so far costs `tokens × kept` distances when done by the
//! book. A token's distance to the kept set can only shrink, so an old value is an upper bound: tokens are handled in
//! blocks, and a block is brought up to date only while its bound is the largest of all. The choice is the same.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, Axis, s};
use rayon::prelude::*;

use super::check_finite;
use super::random::SplitMix64;
use crate::error::{Error, ErrorKind, Result};

/// Tokens that share one bound. Blocks of one image's row are alike, so one bound serves them well.
const BLOCK: usize = 128;
/// Blocks brought up to date side by side: fixed, so that the work does not depend on the number of threads.
const SIDE_BY_SIDE: usize = 16;

/// A Gaussian random projection `[channels, dims]` that keeps distances on average (Johnson and Lindenstrauss 1984).
pub fn random_projection(channels: usize, dims: usize, seed: u64) -> Array2<f32> {
    let mut random = SplitMix64::new(seed);
    let scale = 1.0 / (dims as f32).sqrt();
    Array2::from_shape_simple_fn((channels, dims), || random.normal() * scale)
}

struct Block {
    first: usize,
    /// Squared distance of each token to the nearest of the first `seen` kept tokens.
    distances: Vec<f32>,
    seen: usize,
    farthest: usize,
    bound: f32,
}

/// Chooses `keep` of the rows `[tokens, dims]`; the indices are returned in the order of choice.
///
/// The first one is drawn with `seed`. Among equally far tokens the lowest index is taken. `progress` is told how many
/// have been kept so far and stops the work by answering `false` (the result is then `None`).
///
/// # Errors
/// [`ErrorKind::NotFinite`] on NaN or infinity; [`ErrorKind::Usage`] when `keep` is 0 or larger than the number of rows.
pub fn greedy_k_center(
    rows: ArrayView2<f32>,
    keep: usize,
    seed: u64,
    mut progress: impl FnMut(usize) -> bool,
) -> Result<Option<Vec<usize>>> {
    let (count, dims) = rows.dim();
    if keep == 0 || keep > count {
        return Err(Error::new(ErrorKind::Usage, format!("cannot keep {keep} of {count} tokens")));
    }
    for row in rows.rows() {
        check_finite("the tokens for the coreset", row)?;
    }
    let norms: Vec<f32> = rows.rows().into_iter().map(|r| r.dot(&r)).collect();

    let mut kept = Vec::with_capacity(keep);
    let mut kept_rows = Array2::<f32>::zeros((keep, dims));
    let mut kept_norms = Vec::with_capacity(keep);
    let mut blocks: Vec<Block> = (0..count)
        .step_by(BLOCK)
        .map(|first| Block {
            first,
            distances: vec![f32::INFINITY; BLOCK.min(count - first)],
            seen: 0,
            farthest: first,
            bound: f32::INFINITY,
        })
        .collect();

    let mut next = SplitMix64::new(seed).below(count);
    loop {
        kept_rows.row_mut(kept.len()).assign(&rows.row(next));
        kept_norms.push(norms[next]);
        kept.push(next);
        // Rounding could leave a kept token a little away from itself, and it would be kept twice.
        blocks[next / BLOCK].distances[next % BLOCK] = -1.0;
        if kept.len() % 256 == 0 && !progress(kept.len()) {
            return Ok(None);
        }
        if kept.len() == keep {
            return Ok(Some(kept));
        }
        next = loop {
            let fresh = kept.len();
            let best =
                blocks.iter().filter(|b| b.seen == fresh).map(|b| b.bound).fold(f32::NEG_INFINITY, f32::max);
            // An equal bound may hide a token of lower index, so equality is looked into as well.
            let mut stale: Vec<&mut Block> =
                blocks.iter_mut().filter(|b| b.seen < fresh && b.bound >= best).collect();
            if stale.is_empty() {
                let farthest =
                    blocks.iter().filter(|b| b.seen == fresh && b.bound == best).map(|b| b.farthest).min();
                break farthest.unwrap_or(0);
            }
            if stale.len() > SIDE_BY_SIDE {
                stale.select_nth_unstable_by(SIDE_BY_SIDE - 1, |a, b| {
                    b.bound.total_cmp(&a.bound).then(a.first.cmp(&b.first))
                });
                stale.truncate(SIDE_BY_SIDE);
            }
            stale.into_par_iter().for_each(|block| {
                catch_up(block, rows, &norms, kept_rows.slice(s![..fresh, ..]), &kept_norms);
            });
        };
    }
}

/// Brings a block's distances up to date with every kept token.
fn catch_up(
    block: &mut Block,
    rows: ArrayView2<f32>,
    norms: &[f32],
    kept: ArrayView2<f32>,
    kept_norms: &[f32],
) {
    let size = block.distances.len();
    let tokens = rows.slice(s![block.first..block.first + size, ..]);
    let fresh = kept.nrows();
    let mut products = Array2::<f32>::zeros((size, BLOCK));
    for (batch, centers) in kept.slice(s![block.seen.., ..]).axis_chunks_iter(Axis(0), BLOCK).enumerate() {
        let first = block.seen + batch * BLOCK;
        let mut products = products.slice_mut(s![.., ..centers.nrows()]);
        general_mat_mul(-2.0, &tokens, &centers.t(), 0.0, &mut products);
        let center_norms = &kept_norms[first..first + centers.nrows()];
        for ((line, distance), norm) in
            products.rows().into_iter().zip(&mut block.distances).zip(&norms[block.first..])
        {
            let nearest = line.iter().zip(center_norms).map(|(p, c)| p + c).fold(f32::INFINITY, f32::min);
            *distance = distance.min((nearest + norm).max(0.0));
        }
    }
    block.seen = fresh;
    block.bound = f32::NEG_INFINITY;
    for (i, &d) in block.distances.iter().enumerate() {
        if d > block.bound {
            block.bound = d;
            block.farthest = block.first + i;
        }
    }
}
