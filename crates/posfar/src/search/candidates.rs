//! The searched rows, packed for the kernels.

use std::ops::Range;

use rayon::prelude::*;

use super::kernel::{BLOCKS, BOX, Boxes, Instructions, LANES, Line, Screen, Terms, Work};
use super::rounding::{CHUNK, STAGES, Stages, add_squares, filled_up};
use super::tree::Sorted;
use super::{GROUP, Index};

/// The searched rows in the order of the tree, rounded and packed for the kernels.
#[derive(Debug, Default)]
pub struct Candidates {
    pub levels: u32,
    pub sorted: Sorted,
    /// The searched rows, as they come, and in the tree's order. [`u32::MAX`] fills up the last group.
    searched: Vec<u32>,
    pub rows: Vec<u32>,
    /// Lines of a block, and the ends of its screening's stages.
    pub depth: usize,
    pub stages: Stages,
    /// The rows themselves, in order.
    pub values: Vec<i16>,
    pub groups: Vec<Group>,
    /// Four dimensions each, block after block.
    pub lines: Vec<Line>,
}

/// Boxes and norms of a group's blocks.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    pub boxes: Boxes,
    /// Minus half the squared norm over each stage, rounded down.
    pub terms: [[Terms; STAGES]; BLOCKS],
}

impl Candidates {
    pub fn pack(&mut self, index: &Index, ranges: &[Range<usize>], instructions: Instructions) {
        self.searched.clear();
        self.searched.extend(ranges.iter().flat_map(|r| r.start as u32..r.end as u32));
        let count = self.searched.len();
        self.levels = index.tree.levels(count);
        self.sorted.leaves.resize(count, 0);
        let work = self.searched.par_iter().zip(&mut self.sorted.leaves).with_min_len(1024);
        work.for_each(|(&row, leaf)| *leaf = index.tree.leaf(self.levels, index.row(row as usize)) as u16);
        let groups = count.div_ceil(GROUP);
        self.rows.clear();
        self.rows.resize(groups * GROUP, u32::MAX);
        self.sorted.sort(1 << self.levels, |place, member| self.rows[place as usize] = self.searched[member]);

        self.depth = index.dims.div_ceil(4);
        self.stages = Stages::of(self.depth);
        let terms = [[Terms([0; LANES]); STAGES]; BLOCKS];
        self.groups.resize(groups, Group { boxes: Boxes::EMPTY, terms });
        self.lines.resize(groups * BLOCKS * self.depth, Line([[0; 4]; LANES]));
        self.values.resize(groups * GROUP * index.dims, 0);
        let rows = self.rows.par_chunks_exact(GROUP);
        let values = self.values.par_chunks_exact_mut((GROUP * index.dims).max(1));
        let lines = self.lines.par_chunks_exact_mut((BLOCKS * self.depth).max(1));
        rows.zip(values).zip(lines).zip(&mut self.groups).for_each(|(((rows, values), lines), group)| {
            let (stages, depth) = (&self.stages, self.depth);
            // SAFETY: `Scratch` has only available instructions.
            unsafe { instructions.run(PackGroup { index, stages, depth, rows, values, lines, group }) }
        });
    }
}

/// Rows lie all over the memory. They are prefetched this many rows before they are packed.
const AHEAD: usize = 6;

struct PackGroup<'a> {
    index: &'a Index,
    stages: &'a Stages,
    depth: usize,
    rows: &'a [u32],
    values: &'a mut [i16],
    lines: &'a mut [Line],
    group: &'a mut Group,
}

impl Work for PackGroup<'_> {
    #[inline(always)]
    unsafe fn run<S: Screen, const Q: usize>(self) {
        let PackGroup { index, stages, depth, rows, values, lines, group } = self;
        for (block, (rows, lines)) in rows.chunks_exact(LANES).zip(lines.chunks_exact_mut(depth)).enumerate()
        {
            let (mut low, mut high) = ([255u8; BOX], [0u8; BOX]);
            for (lane, &row) in rows[..LANES].iter().enumerate().filter(|(_, row)| **row != u32::MAX) {
                if let Some(&ahead) = rows.get(lane + AHEAD).filter(|row| **row != u32::MAX) {
                    S::prefetch(index.row(ahead as usize));
                }
                let row = index.row(row as usize);
                values[(block * LANES + lane) * index.dims..][..index.dims].copy_from_slice(row);
                let mut pack = |part: usize, values: [i16; CHUNK]| {
                    let rounded = values.map(|v| index.screening(v));
                    let lines = &mut lines[part * (CHUNK / 4)..];
                    let bytes = rounded.map(|v| v as u8 ^ S::OFFSET);
                    for (line, bytes) in lines.iter_mut().zip(bytes.as_chunks().0) {
                        line.0[lane] = *bytes;
                    }
                    if part == 0 {
                        for (dim, value) in rounded[..BOX].iter().enumerate() {
                            let value = (value + 128) as u8;
                            (low[dim], high[dim]) = (low[dim].min(value), high[dim].max(value));
                        }
                    }
                };
                let (chunks, rest) = row.as_chunks();
                for (part, chunk) in chunks.iter().enumerate() {
                    pack(part, *chunk);
                }
                if !rest.is_empty() {
                    pack(chunks.len(), filled_up(rest));
                }
            }
            let mut start = 0;
            for (terms, &end) in group.terms[block].iter_mut().zip(stages.ends()) {
                let mut squares = [0; LANES];
                for line in &lines[start..end] {
                    add_squares(&mut squares, &line.0, S::OFFSET);
                }
                terms.0 = squares.map(|s| -((s + 1) >> 1));
                start = end;
            }
            for dim in 0..BOX {
                (group.boxes.low[dim][block], group.boxes.high[dim][block]) = (low[dim], high[dim]);
            }
        }
    }
}
