//! Exact nearest neighbors.
//!
//! Candidates are *screened* in whole numbers of eight bits: how far rounding can move a query and a candidate is known,
//! so a candidate whose rounded distance is larger than the best distance so far plus both errors cannot be nearer, and
//! the few others are measured in `f32`. Nothing is approximate: the neighbors are those of a search over all candidates.
//!
//! Three bounds save most of the screening. Candidates and queries are put in the order of a k-d tree, so that blocks of
//! sixteen candidates and tiles of eight queries are compact: a block whose box is too far from the tile's is left
//! out. A distance over the leading dimensions is a lower bound of the whole one: most blocks end there. And the
//! neighbor of a query close by is a first upper bound.

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
use crate::Result;

/// Candidates whose boxes are looked at together.
const GROUP: usize = LANES * BLOCKS;
/// Tiles that one thread works on in a row.
const TILES: usize = 4;

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

/// Bank rows, ready to be searched: two bytes for each value.
#[derive(Debug)]
pub struct Index {
    /// `[tokens, dims]` in units of `unit`.
    rows: Vec<i16>,
    dims: usize,
    /// A power of two, so that rows are exactly representable in `f32`.
    unit: f32,
    /// A row's value times this, shifted right by fifteen bits, is its screening value in -127..=127.
    multiplier: i32,
    /// How far rounding to screening values moves a row at most, in screening units.
    error: f64,
    tree: Tree,
}

impl Index {
    /// Rounds rows `[tokens, dims]` to 16 bits of the largest of all values.
    ///
    /// # Errors
    /// [`crate::Error::NotFinite`] on NaN, infinity or rows whose squares are infinite.
    pub fn new(rows: ArrayView2<f32>) -> Result<Self> {
        let norms: Vec<f32> = rows.rows().into_iter().map(|r| r.dot(&r)).collect();
        check_finite("the bank's tokens in PCA space", &norms)?;
        let largest = rows.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        // The smallest power of two that leaves no value outside of 16 bits.
        let exponent = (f64::from(largest) / 32_767.0).log2().ceil().clamp(-126.0, 127.0);
        let unit = exponent.exp2() as f32;
        let dims = rows.ncols();
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

    /// The rows as they are measured against, rounded to 16 bits: `[tokens, dims]`.
    pub fn rows(&self) -> Array2<f32> {
        self.rows_of(std::slice::from_ref(&(0..self.len())))
    }

    /// Those of some ranges, one after the other.
    ///
    /// # Panics
    /// If a range reaches beyond the last row.
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

    /// How far rounding to screening values moves a row, in screening units.
    fn rounding(&self, row: usize) -> f64 {
        let square = |&value: &i16| {
            let exact = f64::from(value) * f64::from(self.multiplier) / 32_768.0;
            (exact - f64::from(self.screening(value))).powi(2)
        };
        self.row(row).iter().map(square).sum::<f64>().sqrt()
    }

    /// Finds for every query the `k = out.len() / queries` nearest rows.
    ///
    /// - `queries` `[queries, dims]`.
    /// - `ranges`: the rows to search, ascending and disjoint.
    /// - `allowed(query, row)`: whether this pair may match.
    /// - `out`: `k` per query, nearest first; equal distances lowest row first; [`Neighbor::NONE`] where none is left.
    ///
    /// The result is that of measuring every pair in `f32`, whatever the number of threads and the instructions. A
    /// distance that is not finite is no match.
    ///
    /// # Panics
    /// If the shapes do not fit each other, or `ranges` reaches beyond the last row.
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
            // SAFETY: `Scratch` has only instructions that are available.
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

/// Memory that is kept from search to search, and what to compute with.
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
    /// With these instructions, or the best ones when the processor does not have them.
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
