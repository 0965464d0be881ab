//! Exact nearest neighbors by blocked matrix products.
//!
//! For a query `q` and a bank row `b` the squared distance is `|q|² + |b|² − 2 q·b`: the products are one matrix
//! multiplication per block of queries and run of candidates, and only the best so far are remembered, never a whole
//! queries × bank matrix.

use std::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, Axis, s};
use rayon::prelude::*;

/// Queries per block, and candidates per product.
const QUERIES: usize = 64;
const CANDIDATES: usize = 256;

/// A bank row and how far it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbor {
    /// Row of the bank.
    pub index: u32,
    /// Squared Euclidean distance.
    pub distance: f32,
}

impl Neighbor {
    /// No neighbor: there were fewer candidates than were asked for.
    pub const NONE: Neighbor = Neighbor { index: u32::MAX, distance: f32::INFINITY };

    /// Whether this is a neighbor at all.
    pub fn is_some(&self) -> bool {
        self.index != u32::MAX
    }
}

/// Squared Euclidean norm of each row.
pub fn squared_norms(rows: ArrayView2<f32>) -> Vec<f32> {
    rows.rows().into_iter().map(|r| r.dot(&r)).collect()
}

/// Finds for every query the `k = out.len() / queries` nearest bank rows.
///
/// - `queries` `[queries, dims]`, `bank` `[tokens, dims]`, `norms` the bank's [`squared_norms`].
/// - `ranges`: the bank rows to search, ascending and disjoint.
/// - `allowed(query, row)`: whether this pair may match.
/// - `out`: `k` per query, nearest first; equal distances lowest row first; [`Neighbor::NONE`] where none is left.
///
/// # Panics
/// If the shapes do not fit each other.
pub fn nearest(
    queries: ArrayView2<f32>,
    bank: ArrayView2<f32>,
    norms: &[f32],
    ranges: &[Range<usize>],
    allowed: impl Fn(usize, usize) -> bool + Sync,
    out: &mut [Neighbor],
) {
    let count = queries.nrows();
    if count == 0 {
        return;
    }
    let k = out.len() / count;
    assert_eq!(out.len(), k * count, "`out` must hold the same number of neighbors for every query");
    assert_eq!(norms.len(), bank.nrows(), "one norm per bank row");
    if k == 0 {
        return;
    }
    out.par_chunks_mut(QUERIES * k).enumerate().for_each_init(
        || Array2::<f32>::zeros((QUERIES, CANDIDATES)),
        |products, (block, out)| {
            let first = block * QUERIES;
            let queries = queries.slice(s![first..first + out.len() / k, ..]);
            out.fill(Neighbor::NONE);
            for range in ranges {
                for start in range.clone().step_by(CANDIDATES) {
                    let end = range.end.min(start + CANDIDATES);
                    let mut products = products.slice_mut(s![..queries.nrows(), ..end - start]);
                    let candidates = bank.slice(s![start..end, ..]);
                    general_mat_mul(-2.0, &queries, &candidates.t(), 0.0, &mut products);
                    for (q, (line, best)) in
                        products.rows().into_iter().zip(out.chunks_exact_mut(k)).enumerate()
                    {
                        for ((offset, product), norm) in line.iter().enumerate().zip(&norms[start..end]) {
                            let distance = product + norm;
                            if distance < best[k - 1].distance && allowed(first + q, start + offset) {
                                insert(best, Neighbor { index: (start + offset) as u32, distance });
                            }
                        }
                    }
                }
            }
            for (query, best) in queries.axis_iter(Axis(0)).zip(out.chunks_exact_mut(k)) {
                let norm = query.dot(&query);
                for neighbor in best.iter_mut().filter(|n| n.is_some()) {
                    neighbor.distance = (neighbor.distance + norm).max(0.0);
                }
            }
        },
    );
}

/// Puts a neighbor that is nearer than the last of `best` in its place, after all that are equally near.
fn insert(best: &mut [Neighbor], neighbor: Neighbor) {
    let mut place = best.len() - 1;
    while place > 0 && neighbor.distance < best[place - 1].distance {
        best[place] = best[place - 1];
        place -= 1;
    }
    best[place] = neighbor;
}
