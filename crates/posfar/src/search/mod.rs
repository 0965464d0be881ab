//! Exact nearest neighbors.
//!
//! All candidates are *screened* in whole numbers of eight bits. The rounding errors of the query and the candidate are
//! known. A candidate with a rounded distance above the best distance plus both errors cannot be nearer. The few others
//! are measured in `f32`. Nothing is approximate: the result is a brute-force search's.
//!
//! Three bounds save most of the screening:
//!
//! - Candidates and queries lie in the order of a k-d tree, so blocks of 16 candidates and tiles of 8 queries are
//!   compact. A block is skipped if its box is too far from the tile's.
//! - A distance over the leading dimensions is a lower bound. Most blocks end there.
//! - The neighbor of a close query is the first upper bound.
//!
//! Put the dimensions with the largest variance first, such as by [`Pca`](crate::pca::Pca): the bounds get tighter.

mod candidates;
mod kernel;
mod queries;
mod rounding;
mod scan;
mod tree;

use std::ops::Range;

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

use self::candidates::Candidates;
pub use self::kernel::Instructions;
use self::kernel::{BLOCKS, LANES, QUERIES};
use self::queries::Tiles;
use self::scan::{Search, SearchTiles};
use self::tree::Tree;
use super::check_finite;
use crate::{Error, Result};

/// Candidates whose boxes are compared together.
const GROUP: usize = LANES * BLOCKS;
/// Tiles per piece of work.
const TILES: usize = 4;

/// A row and its distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbor {
    /// Number of the row.
    pub index: u32,
    /// Squared Euclidean distance.
    pub distance: f32,
}

impl Neighbor {
    /// No neighbor: there are fewer candidates than wanted.
    pub const NONE: Neighbor = Neighbor { index: u32::MAX, distance: f32::INFINITY };

    /// Whether this is a neighbor, not [`Neighbor::NONE`].
    pub fn is_some(&self) -> bool {
        self.index != u32::MAX
    }
}

/// Rows, ready for the search. Takes two bytes per value.
///
/// ```
/// use ndarray::array;
/// use posfar::search::{Index, Neighbor, Scratch};
///
/// let index = Index::new(array![[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]].view())?;
/// let queries = array![[1.0, 0.0], [6.0, 7.0]];
/// let found = index.search(queries.view(), 1);
/// assert_eq!(found, [Neighbor { index: 0, distance: 1.0 }, Neighbor { index: 2, distance: 1.0 }]);
///
/// // Rows 1 and 2 only, and none that the filter rejects; memory is reused from search to search.
/// let (mut scratch, mut out) = (Scratch::default(), [Neighbor::NONE; 2]);
/// let (ranges, allowed) = ([1..3], |query: usize, row: usize| query == 0 || row == 1);
/// index.nearest(queries.view(), &ranges, allowed, &mut scratch, &mut out);
/// assert_eq!(out.map(|neighbor| neighbor.index), [1, 1]);
/// # Ok::<(), posfar::Error>(())
/// ```
#[derive(Debug)]
pub struct Index {
    /// `[tokens, dims]` in units of `unit`.
    rows: Vec<i16>,
    dims: usize,
    /// A power of two, so rows are exact in `f32`.
    unit: f32,
    /// A row's value times this, shifted right by fifteen bits, is its screening value in -127..=127.
    multiplier: i32,
    /// Largest rounding error of a row's screening values, in screening units.
    error: f64,
    tree: Tree,
}

impl Index {
    /// Rounds rows `[rows, dims]` to 16 bits. The largest value of all decides the unit.
    ///
    /// # Errors
    /// - [`Error::InvalidArgument`] for more than 4,294,967,294 rows or 65,535 dimensions.
    /// - [`Error::NotFinite`] for NaN, infinity, and rows whose squares overflow.
    pub fn new(rows: ArrayView2<f32>) -> Result<Self> {
        let (count, dims) = rows.dim();
        // Rows are numbered in 32 bits, columns in 16. Sums of more dimensions could overflow, too.
        if count >= u32::MAX as usize || dims > usize::from(u16::MAX) {
            return Err(Error::InvalidArgument(format!(
                "{count} × {dims} values are more than an index can hold"
            )));
        }
        let norms: Vec<f32> = rows.rows().into_iter().map(|r| r.dot(&r)).collect();
        check_finite("the rows' squared norms", &norms)?;
        let largest = rows.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        // The smallest power of two with all values in 16 bits.
        let exponent = (f64::from(largest) / 32_767.0).log2().ceil().clamp(-126.0, 127.0);
        let unit = exponent.exp2() as f32;
        let rows: Vec<i16> = rows.iter().map(|v| (v / unit).round() as i16).collect();
        let largest = rows.iter().fold(1, |m, v| v.unsigned_abs().max(m));
        let multiplier = ((127.49 * 32_768.0 / f64::from(largest)) as i32).min(i32::from(i16::MAX));
        let tree = Tree::new(&rows, dims);
        let mut index = Index { rows, dims, unit, multiplier, error: 0.0, tree };
        index.error = (0..index.len()).map(|row| index.rounding(row)).fold(0.0, f64::max);
        Ok(index)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len() / self.dims.max(1)
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Values per row.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// The rows with which distances are measured, rounded to 16 bits: `[rows, dims]`.
    pub fn rows(&self) -> Array2<f32> {
        self.rows_of(std::slice::from_ref(&(0..self.len())))
    }

    /// As [`Index::rows`], for some ranges of rows, one after the other.
    ///
    /// # Panics
    /// If a range ends after the last row.
    pub fn rows_of(&self, ranges: &[Range<usize>]) -> Array2<f32> {
        let rows: Vec<usize> = ranges.iter().flat_map(|r| r.clone()).collect();
        Array2::from_shape_fn((rows.len(), self.dims), |(row, dim)| {
            f32::from(self.row(rows[row])[dim]) * self.unit
        })
    }

    #[inline(always)]
    fn row(&self, row: usize) -> &[i16] {
        &self.rows[row * self.dims..][..self.dims]
    }

    #[inline(always)]
    fn screening(&self, value: i16) -> i32 {
        (i32::from(value) * self.multiplier + (1 << 14)) >> 15
    }

    /// Screening units per unit of value.
    fn scale(&self) -> f64 {
        f64::from(self.multiplier) / (32_768.0 * f64::from(self.unit))
    }

    /// Rounding error of a row's screening values, in screening units.
    fn rounding(&self, row: usize) -> f64 {
        let square = |&value: &i16| {
            let exact = f64::from(value) * f64::from(self.multiplier) / 32_768.0;
            (exact - f64::from(self.screening(value))).powi(2)
        };
        self.row(row).iter().map(square).sum::<f64>().sqrt()
    }

    /// Returns the `k` nearest rows of each query: `k` per query, nearest first.
    ///
    /// `queries` is `[queries, dims]`. Equal distances go to the lower row. If there are fewer than `k` rows,
    /// [`Neighbor::NONE`] fills up. See [`Index::nearest`] for the details.
    ///
    /// # Panics
    /// If the queries have other dimensions than the rows.
    pub fn search(&self, queries: ArrayView2<f32>, k: usize) -> Vec<Neighbor> {
        let mut out = vec![Neighbor::NONE; queries.nrows() * k];
        let everything = 0..self.len();
        let ranges = std::slice::from_ref(&everything);
        self.nearest(queries, ranges, |_, _| true, &mut Scratch::default(), &mut out);
        out
    }

    /// Finds the `k = out.len() / queries` nearest rows of each query, without allocations if `scratch` has been used
    /// for a search of the same size.
    ///
    /// - `queries`: `[queries, dims]`.
    /// - `ranges`: the rows to search, ascending and disjoint.
    /// - `allowed(query, row)`: whether this pair may match.
    /// - `out`: `k` per query, nearest first. Equal distances go to the lower row. [`Neighbor::NONE`] fills up.
    ///
    /// The result is a brute-force search's in `f32`, for every number of threads and all [`Instructions`]. A distance
    /// that is not finite is no match.
    ///
    /// # Panics
    /// If the shapes do not fit each other, or a range ends after the last row.
    pub fn nearest(
        &self,
        queries: ArrayView2<f32>,
        ranges: &[Range<usize>],
        allowed: impl Fn(usize, usize) -> bool + Sync,
        scratch: &mut Scratch,
        out: &mut [Neighbor],
    ) {
        let count = queries.nrows();
        if count == 0 {
            return;
        }
        let k = out.len() / count;
        assert_eq!(out.len(), k * count, "`out` must hold the same number of neighbors for every query");
        assert_eq!(queries.ncols(), self.dims, "queries and rows must have the same dimensions");
        if k == 0 {
            return;
        }
        let Scratch { instructions, candidates, tiles, sorted } = scratch;
        candidates.pack(self, ranges, *instructions);
        tiles.pack(self, queries, candidates, *instructions);
        sorted.clear();
        sorted.resize(count * k, Neighbor::NONE);
        let search = Search { index: self, candidates, tiles, k, allowed: &allowed };
        sorted.par_chunks_mut(TILES * QUERIES * k).enumerate().for_each(|(task, best)| {
            // SAFETY: `Scratch` has only available instructions.
            unsafe { instructions.run(SearchTiles { search: &search, first: task * TILES, best }) }
        });
        for (best, &query) in sorted.chunks_exact(k).zip(&tiles.order) {
            for (out, best) in out[query as usize * k..].iter_mut().zip(best) {
                let index = candidates.rows.get(best.index as usize).copied().unwrap_or(u32::MAX);
                *out = Neighbor { index, ..*best };
            }
        }
    }
}

/// Memory for [`Index::nearest`], reused from search to search, and the instruction set.
#[derive(Debug)]
pub struct Scratch {
    instructions: Instructions,
    candidates: Candidates,
    tiles: Tiles,
    sorted: Vec<Neighbor>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new(Instructions::best())
    }
}

impl Scratch {
    /// Uses these instructions, or the best ones, if the processor does not have them.
    pub fn new(instructions: Instructions) -> Self {
        let has = Instructions::available().contains(&instructions);
        Scratch {
            instructions: if has { instructions } else { Instructions::best() },
            candidates: Candidates::default(),
            tiles: Tiles::default(),
            sorted: Vec::new(),
        }
    }
}
