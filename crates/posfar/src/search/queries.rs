//! The queries, packed for the kernels.

use ndarray::ArrayView2;
use rayon::prelude::*;

use super::Index;
use super::candidates::Candidates;
use super::kernel::{BOX, Instructions, QUERIES, Screen, Work};
use super::rounding::{CHUNK, STAGES, Stages, add_squares, filled_up};
use super::tree::Sorted;

/// Tiles with queries larger than 2 to this power times the rows are not screened.
const LARGEST_SHIFT: f32 = 20.0;

/// A query's share of a bound on sums.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rounded {
    /// Squared norm of the screening values up to the end of each stage.
    pub squares: [i32; STAGES],
    /// The share of the candidates' offset in the sums up to there.
    pub offsets: [i32; STAGES],
    /// Rounding error of the query, in screening units.
    pub error: f64,
}

/// Eight queries.
#[derive(Debug, Clone, Copy)]
pub struct Tile {
    /// The screening values are the queries' divided by 2 to this power.
    pub shift: u32,
    pub low: [u8; BOX],
    pub high: [u8; BOX],
    /// First candidate of the leaf that a query belongs to.
    pub near: u32,
    pub queries: [Rounded; QUERIES],
}

impl Tile {
    const EMPTY: Tile = Tile {
        shift: 0,
        low: [255; BOX],
        high: [0; BOX],
        near: 0,
        queries: [Rounded { squares: [0; STAGES], offsets: [0; STAGES], error: 0.0 }; QUERIES],
    };
}

/// The queries in the order of the tree, rounded and packed for the kernels.
#[derive(Debug, Default)]
pub struct Tiles {
    sorted: Sorted,
    /// Query at each place.
    pub order: Vec<u32>,
    /// The queries themselves, in this order.
    pub values: Vec<f32>,
    pub tiles: Vec<Tile>,
    /// `[tile][line]`: four dimensions of eight queries.
    pub words: Vec<[[u8; 4]; QUERIES]>,
}

impl Tiles {
    pub fn pack(
        &mut self,
        index: &Index,
        queries: ArrayView2<f32>,
        candidates: &Candidates,
        instructions: Instructions,
    ) {
        let (count, dims) = queries.dim();
        let queries = queries.as_standard_layout();
        let queries = queries.as_slice().unwrap_or_default();
        self.sorted.leaves.resize(count, 0);
        let units = 1.0 / index.unit;
        let work = self.sorted.leaves.par_iter_mut().zip(queries.par_chunks_exact(dims.max(1)));
        work.with_min_len(256).for_each_init(
            || vec![0i16; dims],
            |row, (leaf, query)| {
                // Casts saturate: the leaf only decides the order.
                row.iter_mut().zip(query).for_each(|(r, &v)| *r = (v * units) as i16);
                *leaf = index.tree.leaf(candidates.levels, row) as u16;
            },
        );
        let tiles = count.div_ceil(QUERIES);
        self.tiles.clear();
        self.tiles.resize(tiles, Tile::EMPTY);
        self.order.resize(count, 0);
        self.values.resize(count * dims, 0.0);
        let Tiles { sorted, order, values, tiles, words } = self;
        let starts = &candidates.sorted.starts;
        let leaf = |leaves: &[u16], query: usize| starts[usize::from(leaves[query])];
        sorted.sort(1 << candidates.levels, |place, query| {
            let place = place as usize;
            order[place] = query as u32;
            values[place * dims..][..dims].copy_from_slice(&queries[query * dims..][..dims]);
        });
        for (tile, order) in tiles.iter_mut().zip(order.chunks(QUERIES)) {
            tile.near = leaf(&sorted.leaves, order[order.len() / 2] as usize);
        }
        words.clear();
        words.resize(tiles.len() * candidates.depth, [[0; 4]; QUERIES]);
        let work =
            values.par_chunks(QUERIES * dims.max(1)).zip(words.par_chunks_exact_mut(candidates.depth.max(1)));
        work.zip(tiles).with_min_len(16).for_each(|((values, words), tile)| {
            // SAFETY: `Scratch` has only available instructions.
            unsafe { instructions.run(PackTile { index, stages: &candidates.stages, values, words, tile }) }
        });
    }
}

struct PackTile<'a> {
    index: &'a Index,
    stages: &'a Stages,
    values: &'a [f32],
    words: &'a mut [[[u8; 4]; QUERIES]],
    tile: &'a mut Tile,
}

impl Work for PackTile<'_> {
    #[inline(always)]
    unsafe fn run<S: Screen, const Q: usize>(self) {
        /// Added and subtracted, rounds to the nearest whole number.
        const WHOLE: f32 = (1 << 23) as f32 * 1.5;
        let PackTile { index, stages, values, words, tile } = self;
        let scale = index.scale() as f32;
        let ratio = values.iter().fold(0.0f32, |m, v| m.max(v.abs())) * scale / S::LIMIT;
        let shift = if ratio <= 1.0 { 0.0 } else { ratio.log2().ceil() };
        if shift > LARGEST_SHIFT {
            // Without a bound: all candidates are measured.
            tile.queries.iter_mut().for_each(|query| query.error = f64::INFINITY);
            return;
        }
        tile.shift = shift as u32;
        let factor = (1u32 << tile.shift) as f32;
        let narrow = scale / factor;
        for (q, (values, query)) in values.chunks_exact(index.dims).zip(&mut tile.queries).enumerate() {
            let (mut errors, mut norms) = ([0.0f32; CHUNK], [0.0f32; CHUNK]);
            for (part, values) in values.chunks(CHUNK).enumerate() {
                let chunk = filled_up(values);
                let mut rounded = [0i32; CHUNK];
                for i in 0..CHUNK {
                    let exact = chunk[i] * narrow;
                    let whole = ((exact + WHOLE) - WHOLE).clamp(-S::LIMIT, S::LIMIT);
                    errors[i] += (exact - whole) * (exact - whole);
                    norms[i] += exact * exact;
                    rounded[i] = whole as i32;
                }
                let words = &mut words[part * (CHUNK / 4)..];
                for (word, bytes) in words.iter_mut().zip(rounded.map(|v| v as u8).as_chunks().0) {
                    word[q] = *bytes;
                }
                if part == 0 {
                    for (dim, value) in rounded[..BOX].iter().enumerate() {
                        let value = ((value << tile.shift) + 128).clamp(0, 255) as u8;
                        (tile.low[dim], tile.high[dim]) =
                            (tile.low[dim].min(value), tile.high[dim].max(value));
                    }
                }
            }
            // The product with the scale is itself rounded, and so are the sums.
            let error = f64::from(errors.iter().sum::<f32>()).sqrt() * (1.0 + 1e-4);
            let norm = f64::from(norms.iter().sum::<f32>()).sqrt();
            query.error = (error + norm * 1e-6) * f64::from(factor);
        }
        let (mut squares, mut sums, mut start) = ([0; QUERIES], [0; QUERIES], 0);
        for (stage, &end) in stages.ends().iter().enumerate() {
            for word in &words[start..end] {
                add_squares(&mut squares, word, 0);
                for (sum, values) in sums.iter_mut().zip(word) {
                    *sum += values.iter().map(|v| i32::from(v.cast_signed())).sum::<i32>();
                }
            }
            for (q, query) in tile.queries.iter_mut().enumerate() {
                query.squares[stage] = squares[q];
                query.offsets[stage] = sums[q] * i32::from(S::OFFSET);
            }
            start = end;
        }
    }
}
