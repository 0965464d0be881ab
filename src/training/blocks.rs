//! Block labels: one for each cell of a picture's grid. `blocks.py` of `weakrest-export` has the same rules.

use crate::imaging::{Components, Mask, Placement, Point};

/// A block may have a defect if a box covers more than this share of it.
const SLIVER: f64 = 0.01;
/// A block is defective from this share of the fullest block of the same defect.
const POSITIVE: f64 = 0.5;
/// It is good up to this share.
const NEGATIVE: f64 = 0.1;
/// Blocks of smaller defects count more, up to this size in blocks.
const LARGE: f32 = 64.0;
/// By this power of the ratio.
const BALANCE: f32 = 0.75;
/// The share of a box that is surely defective.
const FILLED: f32 = 0.3;

/// What is known of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    Good,
    Defective,
    /// Too mixed to say.
    Mixed,
    /// Inside of a box, or in a picture with only a tag.
    Unknown,
}

/// What a person said of a picture.
#[derive(Debug, Clone)]
pub(super) enum Known {
    Good,
    /// It has a defect somewhere.
    Tagged,
    /// Corners of convex boxes, and a mask, in pixels of the frame.
    Placed {
        boxes: Vec<Vec<Point>>,
        mask: Option<Mask>,
    },
}

impl Known {
    /// The labels of a picture's blocks, rows from the top.
    pub fn blocks(&self, placement: &Placement) -> Vec<Block> {
        let (rows, cols) = placement.grid;
        match self {
            Known::Good => vec![Block::Good; rows * cols],
            Known::Tagged => vec![Block::Unknown; rows * cols],
            Known::Placed { boxes, mask } => {
                let exact = mask.as_ref().map(|mask| from_mask(mask, placement));
                let mut blocks = from_boxes(boxes, placement);
                for (block, exact) in blocks.iter_mut().zip(exact.into_iter().flatten()) {
                    if *block != Block::Unknown || exact == Block::Defective {
                        *block = exact;
                    }
                }
                blocks
            }
        }
    }
}

/// The edges of the cells along one side, in pixels of the frame.
fn edges(cells: usize, stride: u32, content: u32, frame: u32) -> Vec<f64> {
    let scale = f64::from(frame) / f64::from(content.max(1));
    (0..=cells).map(|i| (i as f64 * f64::from(stride)).min(f64::from(content)) * scale).collect()
}

fn edges_of(placement: &Placement) -> (Vec<f64>, Vec<f64>) {
    let Placement { frame, content, grid, stride, .. } = *placement;
    (edges(grid.1, stride, content.0, frame.0), edges(grid.0, stride, content.1, frame.1))
}

/// For each pixel of a line, the cells that it lies in, and how much of it.
fn cells(edges: &[f64], pixels: u32) -> Vec<Vec<(usize, f64)>> {
    let mut cells = vec![Vec::new(); pixels as usize];
    for (cell, ends) in edges.windows(2).enumerate() {
        let last = (ends[1].ceil() as usize).min(cells.len());
        for (pixel, own) in cells.iter_mut().enumerate().take(last).skip(ends[0] as usize) {
            let inside = ends[1].min(pixel as f64 + 1.0) - ends[0].max(pixel as f64);
            if inside > 0.0 {
                own.push((cell, inside));
            }
        }
    }
    cells
}

/// The defective share of each block's area in the frame.
fn shares(mask: &Mask, placement: &Placement) -> Vec<f64> {
    let (x, y) = edges_of(placement);
    let cols = placement.grid.1;
    let (across, down) = (cells(&x, mask.width()), cells(&y, mask.height()));
    let mut shares = vec![0.0; placement.grid.0 * cols];
    for (line, rows) in mask.bits().chunks_exact(mask.width().max(1) as usize).zip(&down) {
        for (_, columns) in line.iter().zip(&across).filter(|(bit, _)| **bit) {
            for &(row, high) in rows {
                for &(col, wide) in columns {
                    shares[row * cols + col] += high * wide;
                }
            }
        }
    }
    for (block, share) in shares.iter_mut().enumerate() {
        let (row, col) = (block / cols, block % cols);
        *share /= (x[col + 1] - x[col]) * (y[row + 1] - y[row]);
    }
    shares
}

/// Shares are relative to the fullest block of the same defect. Without that, a defect narrower than a block
/// would have no defective block. A speck that fills little of every block has none.
fn from_mask(mask: &Mask, placement: &Placement) -> Vec<Block> {
    let shares = shares(mask, placement);
    let mut regions = Components::default();
    regions.label(placement.grid.1, placement.grid.0, |block| shares[block] > 0.0);
    let mut fullest = vec![NEGATIVE / POSITIVE; regions.list().len() + 1];
    for (&region, &share) in regions.labels().iter().zip(&shares) {
        fullest[region as usize] = share.max(fullest[region as usize]);
    }
    let judge = |(&share, &region): (&f64, &u32)| match share / fullest[region as usize] {
        share if share >= POSITIVE => Block::Defective,
        share if share > NEGATIVE => Block::Mixed,
        _ => Block::Good,
    };
    shares.iter().zip(regions.labels()).map(judge).collect()
}

/// Unknown where a box covers more than a sliver of a block, or most of those that it touches; good
/// elsewhere.
fn from_boxes(boxes: &[Vec<Point>], placement: &Placement) -> Vec<Block> {
    let (x, y) = edges_of(placement);
    let (rows, cols) = placement.grid;
    let mut blocks = vec![Block::Good; rows * cols];
    for corners in boxes {
        let share = |block: usize| {
            let (row, col) = (block / cols, block % cols);
            let mut inside = corners.clone();
            for (axis, bound, side) in
                [(0, x[col], 1.0), (0, x[col + 1], -1.0), (1, y[row], 1.0), (1, y[row + 1], -1.0)]
            {
                inside = clip(&inside, axis, bound, side);
            }
            area(&inside) / ((x[col + 1] - x[col]) * (y[row + 1] - y[row]))
        };
        let shares: Vec<f64> = (0..rows * cols).map(share).collect();
        let most = shares.iter().copied().fold(0.0, f64::max);
        for (block, share) in blocks.iter_mut().zip(&shares) {
            if *share > SLIVER.min(most / 2.0) {
                *block = Block::Unknown;
            }
        }
    }
    blocks
}

/// The part of a convex shape above `bound` on an axis (`side` 1) or below it (−1).
fn clip(corners: &[Point], axis: usize, bound: f64, side: f64) -> Vec<Point> {
    let mut kept = Vec::new();
    for (i, &point) in corners.iter().enumerate() {
        let before = corners[(i + corners.len() - 1) % corners.len()];
        let depths = [before, point].map(|p| side * (p[axis] - bound));
        if depths[0] * depths[1] < 0.0 {
            let part = depths[0] / (depths[0] - depths[1]);
            kept.push([0, 1].map(|axis| before[axis] + (point[axis] - before[axis]) * part));
        }
        if depths[1] >= 0.0 {
            kept.push(point);
        }
    }
    kept
}

fn area(corners: &[Point]) -> f64 {
    let turned = corners.iter().zip(corners.iter().cycle().skip(1));
    turned.map(|(a, b)| a[0] * b[1] - a[1] * b[0]).sum::<f64>().abs() / 2.0
}

/// The connected areas of unknown blocks: each stands for a defect, or a box.
pub(super) fn unknown_regions(blocks: &[Block], grid: (usize, usize)) -> Vec<Vec<usize>> {
    regions(blocks, grid, Block::Unknown)
}

fn regions(blocks: &[Block], (rows, cols): (usize, usize), kind: Block) -> Vec<Vec<usize>> {
    let mut found = Components::default();
    found.label(cols, rows, |block| blocks[block] == kind);
    let mut regions = vec![Vec::new(); found.list().len()];
    for (block, &region) in found.labels().iter().enumerate().filter(|(_, region)| **region > 0) {
        regions[region as usize - 1].push(block);
    }
    regions
}

/// Of each region of unknown blocks those that are surely defective: the most suspicious ones, as many as a
/// defect fills of its box at least. Of a tag one, because it does not say how large the defect is.
pub(super) fn surely_defective(
    regions: &[Vec<usize>],
    cols: usize,
    suspicion: &[f32],
    only_tagged: bool,
) -> Vec<usize> {
    let mut surely = Vec::new();
    for region in regions {
        let extent = |of: &dyn Fn(usize) -> usize| {
            let places = region.iter().map(|&block| of(block));
            places.clone().max().unwrap_or(0) - places.min().unwrap_or(0)
        };
        // At its border, a box covers half of a block on average.
        let border = extent(&|block| block / cols) + extent(&|block| block % cols) + 1;
        let filled = FILLED * region.len().saturating_sub(border) as f32;
        let count = if only_tagged { 1 } else { (filled as usize).max(1) };
        let mut order = region.clone();
        order.sort_by(|&a, &b| suspicion[b].total_cmp(&suspicion[a]));
        surely.extend(order.into_iter().take(count));
    }
    surely
}

/// Weights of blocks in the loss: small defects count beside large ones.
pub(super) fn balanced(blocks: &[Block], grid: (usize, usize)) -> Vec<f32> {
    let mut weights = vec![1.0; blocks.len()];
    for region in regions(blocks, grid, Block::Defective) {
        let weight = (LARGE / region.len() as f32).max(1.0).powf(BALANCE);
        region.into_iter().for_each(|block| weights[block] = weight);
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(frame: (u32, u32), content: (u32, u32)) -> Placement {
        let grid = (content.1.div_ceil(8) as usize, content.0.div_ceil(8) as usize);
        Placement { frame, content, canvas: content, grid, stride: 8 }
    }

    fn text(blocks: &[Block], cols: usize) -> Vec<String> {
        let letter = |block: &Block| match block {
            Block::Good => '.',
            Block::Defective => '#',
            Block::Mixed => '-',
            Block::Unknown => '?',
        };
        blocks.chunks(cols).map(|row| row.iter().map(letter).collect()).collect()
    }

    #[test]
    fn a_thin_crack_has_defective_blocks() {
        // Blocks of 16 pixels of the frame; the crack is 2 wide.
        let placement = placement((64, 48), (32, 24));
        let bits = (0..64 * 48).map(|i| (20..22).contains(&(i % 64)) && i / 64 < 20).collect();
        let known = Known::Placed { boxes: Vec::new(), mask: Some(Mask::new(64, 48, bits).unwrap()) };
        assert_eq!(text(&known.blocks(&placement), 4), [".#..", ".-..", "...."]);
    }

    #[test]
    fn a_box_is_unknown_and_a_mask_in_it_is_not() {
        let placement = placement((32, 24), (32, 24));
        let boxes = vec![vec![[9.0, 1.0], [25.0, 1.0], [25.0, 9.0], [9.0, 9.0]]];
        let known = Known::Placed { boxes: boxes.clone(), mask: None };
        assert_eq!(text(&known.blocks(&placement), 4), [".???", ".???", "...."]);
        let bits = (0..32 * 24).map(|i| (8..16).contains(&(i % 32)) && i / 32 < 8).collect();
        let known = Known::Placed { boxes, mask: Some(Mask::new(32, 24, bits).unwrap()) };
        assert_eq!(text(&known.blocks(&placement), 4), [".#??", ".???", "...."]);
        assert_eq!(text(&Known::Tagged.blocks(&placement), 4), ["????", "????", "????"]);
    }

    #[test]
    fn the_most_suspicious_blocks_of_a_box_are_sure() {
        let region: Vec<usize> = (0..5).flat_map(|row| (0..5).map(move |col| row * 8 + col)).collect();
        let suspicion: Vec<f32> = (0..64).map(|block| block as f32).collect();
        let regions = [region];
        // 25 blocks, 9 of them half outside.
        assert_eq!(surely_defective(&regions, 8, &suspicion, false), [36, 35, 34, 33]);
        assert_eq!(surely_defective(&regions, 8, &suspicion, true), [36]);
    }

    #[test]
    fn small_defects_count_more() {
        let mut blocks = vec![Block::Good; 20 * 20];
        blocks[0] = Block::Defective;
        blocks[200..400].fill(Block::Defective);
        let weights = balanced(&blocks, (20, 20));
        assert!((weights[0] - 64f32.powf(0.75)).abs() < 1e-4);
        assert_eq!((weights[1], weights[300]), (1.0, 1.0));
    }
}
