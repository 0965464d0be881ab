//! Draws batches of pictures: turned, cropped, and varied.

use ndarray::Array2;
use posfar::random::SplitMix64;
use rayon::prelude::*;
use swinhead::{Anchored, Picture, Targets};

use super::NEIGHBORS;
use super::blocks::{Block, Known, balanced, surely_defective, unknown_regions};
use super::store::Store;
use crate::error::Result;

/// Larger grids are cut to this many blocks a side.
const CROP: usize = 16;
/// How often pictures of each kind are drawn.
const COMPOSITION: [(Kind, f32); 4] =
    [(Kind::Good, 3.0), (Kind::Painted, 1.0), (Kind::Defective, 2.0), (Kind::Pasted, 2.0)];
/// Blocks of a picture that a crop without defects is likely to show.
const STRANGEST: usize = 20;
/// How often the nearest neighbor, the second and the third are taken.
const NEIGHBOR_WEIGHTS: [f32; NEIGHBORS] = [5.0, 3.0, 2.0];
/// Standard deviation and limit of the logarithm of the factors of residuals.
const SHAKE: (f32, f32) = (0.15, 0.223);
/// Largest share of channels to shake.
const SHAKEN: f32 = 0.5;
/// Largest share of blocks to set to zero.
const DROPOUT: f32 = 0.1;
/// Least ratio of the lengths of residuals: with a painted defect, and without.
const SEEN: f32 = 2.0;
/// Varied copies for a guess.
const COPIES: usize = 2;

/// What a sample is drawn as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Good,
    Defective,
    /// A good picture with a labeled defect.
    Pasted,
    /// A good picture with a painted defect.
    Painted,
}

/// A picture to learn from.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// Its number in the store.
    pub picture: usize,
    pub kind: Kind,
    pub blocks: Vec<Block>,
    /// The number of the labeled picture that it shows, or whose defect was pasted.
    pub labeled: Option<usize>,
    /// The number of the good picture that it shows, or that a defect was pasted into.
    pub good: Option<usize>,
    regions: Vec<Vec<usize>>,
    only_tagged: bool,
}

impl Sample {
    pub fn new(
        store: &Store,
        picture: usize,
        kind: Kind,
        known: &Known,
        labeled: Option<usize>,
        good: Option<usize>,
    ) -> Self {
        let placement = &store.pictures[picture].placement;
        let blocks = known.blocks(placement);
        let regions = unknown_regions(&blocks, placement.grid);
        let only_tagged = matches!(known, Known::Tagged);
        Sample { picture, kind, blocks, labeled, good, regions, only_tagged }
    }

    /// Leaves out blocks of a painted defect that left no trace in the residuals: they look like the variation of
    /// good parts. `suspicion` is of the good picture.
    pub fn hide_unseen(&mut self, store: &Store, suspicion: &[f32]) {
        let seen = store.pictures[self.picture].suspicion.iter().zip(suspicion);
        for (block, (after, before)) in self.blocks.iter_mut().zip(seen) {
            if *block == Block::Defective && *after < SEEN * SEEN * before {
                *block = Block::Mixed;
            }
        }
    }

    /// Whether a person said where the defects are.
    pub fn has_places(&self) -> bool {
        self.kind == Kind::Defective && !self.only_tagged
    }
}

/// What the samples' blocks teach, as far as it is known now.
pub(super) struct Drawer<'a> {
    store: &'a Store,
    samples: &'a [&'a Sample],
    /// Of each sample: labels with the surely defective blocks, and the weights of its blocks.
    taught: Vec<(Vec<Block>, Vec<f32>)>,
}

impl<'a> Drawer<'a> {
    pub fn new(store: &'a Store, samples: &'a [&'a Sample]) -> Self {
        let mut drawer = Drawer { store, samples, taught: Vec::new() };
        drawer.taught =
            samples.iter().map(|s| drawer.teach(s, &store.pictures[s.picture].suspicion)).collect();
        drawer
    }

    /// Whether blocks are unknown.
    pub fn has_unknown(&self) -> bool {
        self.samples.iter().any(|sample| !sample.regions.is_empty())
    }

    /// Decides again which unknown blocks are surely defective.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn suspect(&mut self, head: &Anchored, weights: &[f32]) -> Result<()> {
        let judge = |number: usize| -> Result<_> {
            let sample = self.samples[number];
            let stored = &self.store.pictures[sample.picture];
            let values = self.store.read(sample.picture, 0)?;
            let shape = (stored.lengths.len(), self.store.channels());
            let residuals = Array2::from_shape_vec(shape, values).unwrap_or_default();
            let picture = Picture { grid: stored.placement.grid, residuals, lengths: stored.lengths.clone() };
            Ok((number, self.teach(sample, &head.judge(weights, &picture))))
        };
        let unknown: Vec<usize> =
            (0..self.samples.len()).filter(|&number| !self.samples[number].regions.is_empty()).collect();
        let judged = unknown.into_par_iter().map(judge).collect::<Result<Vec<_>>>()?;
        judged.into_iter().for_each(|(number, taught)| self.taught[number] = taught);
        Ok(())
    }

    fn teach(&self, sample: &Sample, suspicion: &[f32]) -> (Vec<Block>, Vec<f32>) {
        let grid = self.store.pictures[sample.picture].placement.grid;
        let mut blocks = sample.blocks.clone();
        for block in surely_defective(&sample.regions, grid.1, suspicion, sample.only_tagged) {
            blocks[block] = Block::Defective;
        }
        if sample.only_tagged {
            // Guesses for a whole picture are mostly wrong about faint parts of a defect: worse than none.
            let unknown = blocks.iter_mut().filter(|block| **block == Block::Unknown);
            unknown.for_each(|block| *block = Block::Mixed);
        }
        // The sizes of painted defects say nothing about real ones.
        let weights =
            if sample.kind == Kind::Painted { vec![1.0; blocks.len()] } else { balanced(&blocks, grid) };
        (blocks, weights)
    }

    /// One picture of a batch. `average` guesses unknown blocks.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn draw(
        &self,
        head: &Anchored,
        average: &[f32],
        random: &mut SplitMix64,
    ) -> Result<(Picture, Targets)> {
        let number = self.choose(random);
        let (sample, (blocks, weights)) = (self.samples[number], &self.taught[number]);
        let stored = &self.store.pictures[sample.picture];
        // Residuals do not depend on orientation.
        let (order, grid) = turned(stored.placement.grid, random);
        let look = |block: usize| (blocks[block], stored.suspicion[block]);
        let (order, grid) = crop(&order, grid, look, random);

        let neighbors = (0..NEIGHBORS).map(|neighbor| self.store.read(sample.picture, neighbor));
        let neighbors: Vec<Vec<f32>> = neighbors.collect::<Result<_>>()?;
        let channels = self.store.channels();
        let lengths: Vec<f32> = order.iter().map(|&block| stored.lengths[block]).collect();
        let mut vary = || {
            let residuals = varied(&neighbors, &order, channels, random);
            Picture { grid, residuals, lengths: lengths.clone() }
        };
        let picture = vary();
        let unknown = |block: &&usize| blocks[**block] == Block::Unknown;
        let mut guessed = vec![None; order.len()];
        if order.iter().any(|block| unknown(&block)) {
            // The average is steadier than the current head, which would follow its own mistakes.
            let copies: Vec<Vec<f32>> = (0..COPIES).map(|_| head.judge(average, &vary())).collect();
            for (at, _) in order.iter().enumerate().filter(|(_, block)| unknown(block)) {
                let mean = copies.iter().map(|copy| copy[at]).sum::<f32>() / COPIES as f32;
                guessed[at] = Some(sharpened(mean));
            }
        }
        let label = |&block: &usize| match blocks[block] {
            Block::Good => (0.0, weights[block]),
            Block::Defective => (1.0, weights[block]),
            Block::Mixed | Block::Unknown => (0.0, 0.0),
        };
        let shows = |&block: &usize| matches!(blocks[block], Block::Defective | Block::Unknown);
        let targets = Targets {
            labeled: order.iter().map(label).collect(),
            guessed,
            defective: order.iter().any(shows),
        };
        Ok((picture, targets))
    }

    fn choose(&self, random: &mut SplitMix64) -> usize {
        let of = |kind: Kind| self.samples.iter().enumerate().filter(move |(_, sample)| sample.kind == kind);
        let kinds: Vec<_> = COMPOSITION.into_iter().filter(|(kind, _)| of(*kind).next().is_some()).collect();
        let mut at = random.unit() * kinds.iter().map(|(_, share)| share).sum::<f32>();
        let chosen = kinds.iter().find(|(_, share)| {
            at -= share;
            at < 0.0
        });
        let kind = chosen.or(kinds.last()).map_or(Kind::Good, |(kind, _)| *kind);
        of(kind).nth(random.below(of(kind).count())).map_or(0, |(number, _)| number)
    }
}

/// Pushes a probability away from one half.
fn sharpened(probability: f32) -> f32 {
    let (defective, good) = (probability.powi(2), (1.0 - probability).powi(2));
    defective / (defective + good)
}

/// The blocks of a grid, turned or mirrored at random.
fn turned((rows, cols): (usize, usize), random: &mut SplitMix64) -> (Vec<usize>, (usize, usize)) {
    let [across, upside, mirrored] = [(); 3].map(|()| random.below(2) == 1);
    let (high, wide) = if across { (cols, rows) } else { (rows, cols) };
    let block = |at: usize| {
        let (row, col) = (at / wide, at % wide);
        let row = if upside { high - 1 - row } else { row };
        let col = if mirrored { wide - 1 - col } else { col };
        if across { col * cols + row } else { row * cols + col }
    };
    ((0..high * wide).map(block).collect(), (high, wide))
}

/// A crop of at most [`CROP`] rows and columns. Three of four have a defective or unknown block, if there is
/// one. Of the others, half have one of the strangest blocks: these decide the score of a good picture.
fn crop(
    order: &[usize],
    (rows, cols): (usize, usize),
    look: impl Fn(usize) -> (Block, f32),
    random: &mut SplitMix64,
) -> (Vec<usize>, (usize, usize)) {
    if rows.max(cols) <= CROP {
        return (order.to_vec(), (rows, cols));
    }
    let shows = |&at: &usize| matches!(look(order[at]).0, Block::Defective | Block::Unknown);
    let defective: Vec<usize> = (0..order.len()).filter(shows).collect();
    let mut center = None;
    if !defective.is_empty() && random.below(4) > 0 {
        center = Some(defective[random.below(defective.len())]);
    } else if random.below(2) == 1 {
        let mut strangest: Vec<usize> = (0..order.len()).collect();
        strangest.sort_by(|&a, &b| look(order[b]).1.total_cmp(&look(order[a]).1));
        center = Some(strangest[random.below(STRANGEST.min(strangest.len()))]);
    }
    let mut start = |side: usize, center: Option<usize>| {
        let last = side.saturating_sub(CROP);
        match center {
            None => random.below(last + 1),
            Some(center) => center.saturating_sub(random.below(CROP.min(side))).min(last),
        }
    };
    let (top, left) = (start(rows, center.map(|at| at / cols)), start(cols, center.map(|at| at % cols)));
    let (high, wide) = (CROP.min(rows), CROP.min(cols));
    let kept = (top..top + high).flat_map(|row| (left..left + wide).map(move |col| order[row * cols + col]));
    (kept.collect(), (high, wide))
}

/// A random copy of the residuals of some blocks, `[blocks, channels]`.
fn varied(neighbors: &[Vec<f32>], order: &[usize], channels: usize, random: &mut SplitMix64) -> Array2<f32> {
    let all: f32 = NEIGHBOR_WEIGHTS.iter().sum();
    let shaken = SHAKEN * random.unit();
    let shaken: Vec<usize> = (0..channels).filter(|_| random.unit() < shaken).collect();
    let dropped = DROPOUT * random.unit();
    let mut values = Vec::with_capacity(order.len() * channels);
    for &block in order {
        let at = random.unit() * all;
        let neighbor = if at < NEIGHBOR_WEIGHTS[0] {
            0
        } else {
            1 + usize::from(at >= NEIGHBOR_WEIGHTS[0] + NEIGHBOR_WEIGHTS[1])
        };
        let first = values.len();
        if random.unit() < dropped {
            values.resize(first + channels, 0.0);
            continue;
        }
        values.extend_from_slice(&neighbors[neighbor][block * channels..(block + 1) * channels]);
        for &channel in &shaken {
            values[first + channel] *= (SHAKE.0 * random.normal()).clamp(-SHAKE.1, SHAKE.1).exp();
        }
    }
    Array2::from_shape_vec((order.len(), channels), values).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turned_grids_keep_every_block_and_its_neighbors() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..40 {
            let (order, (rows, cols)) = turned((3, 5), &mut SplitMix64::new(seed));
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..15).collect::<Vec<_>>());
            for row in 0..rows {
                for col in 1..cols {
                    let (a, b) = (order[row * cols + col - 1], order[row * cols + col]);
                    assert_eq!((a / 5).abs_diff(b / 5) + (a % 5).abs_diff(b % 5), 1, "they still touch");
                }
            }
            seen.insert(order);
        }
        assert_eq!(seen.len(), 8);
    }

    #[test]
    fn most_crops_show_the_defect() {
        let order: Vec<usize> = (0..40 * 30).collect();
        let look = |block| (if block == 1150 { Block::Defective } else { Block::Good }, 0.0);
        let mut random = SplitMix64::new(0);
        let shows = (0..400).filter(|_| {
            let (kept, size) = crop(&order, (40, 30), look, &mut random);
            assert_eq!((size, kept.len()), ((16, 16), 256));
            kept.contains(&1150)
        });
        assert!((300..380).contains(&shows.count()));
    }
}
