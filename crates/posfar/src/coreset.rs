//! Greedy k-center coreset: the fewest tokens that leave no token far from the kept ones (Gonzalez 1985, Sener and
//! Savarese 2018; used for memory banks since PatchCore, arXiv 2106.08265).
//!
//! Always taking the token that is farthest from those taken so far costs `tokens × kept` distances when done by the
//! book. Here the tokens lie in a ball tree: a ball that is farther from a new center than its farthest token is from
//! the centers before (triangle inequality) is passed over. The choice is the same.

use ndarray::{Array2, ArrayView2};

use crate::check_finite;
use crate::random::SplitMix64;
use crate::{Error, Result};

/// Tokens in a ball that is not divided: fewer cost more balls, more cost more tokens looked at.
const LEAF: usize = 48;

/// A Gaussian random projection `[channels, dims]` that keeps distances on average (Johnson and Lindenstrauss 1984).
pub fn random_projection(channels: usize, dims: usize, seed: u64) -> Array2<f32> {
    let mut random = SplitMix64::new(seed);
    let scale = 1.0 / (dims as f32).sqrt();
    Array2::from_shape_simple_fn((channels, dims), || random.normal() * scale)
}

/// Chooses `keep` of the rows `[tokens, dims]`; the indices are returned in the order of choice.
///
/// The first one is drawn with `seed`. Among equally far tokens the lowest index is taken. `progress` is told how many
/// have been kept so far and stops the work by answering `false` (the result is then `None`).
///
/// # Errors
/// [`Error::NotFinite`] on NaN or infinity; [`Error::InvalidArgument`] when `keep` is 0 or larger than the number of rows.
pub fn greedy_k_center(
    rows: ArrayView2<f32>,
    keep: usize,
    seed: u64,
    mut progress: impl FnMut(usize) -> bool,
) -> Result<Option<Vec<usize>>> {
    let count = rows.nrows();
    if keep == 0 || keep > count {
        return Err(Error::InvalidArgument(format!("cannot keep {keep} of {count} tokens")));
    }
    for row in rows.rows() {
        check_finite("the tokens for the coreset", row)?;
    }
    let rows = rows.as_standard_layout();
    let rows = Rows { values: rows.as_slice().unwrap_or_default(), dims: rows.ncols() };
    let mut tree = Ball::new(&rows, &mut (0..count).collect::<Vec<_>>());
    let mut kept = Vec::with_capacity(keep);
    let mut next = SplitMix64::new(seed).below(count);
    loop {
        kept.push(next);
        if kept.len() % 256 == 0 && !progress(kept.len()) {
            return Ok(None);
        }
        if kept.len() == keep {
            return Ok(Some(kept));
        }
        tree.keep(next, rows.get(next));
        next = tree.farthest.token;
    }
}

/// As [`greedy_k_center`] for more tokens than fit in memory, which come in groups of `sizes`: a composable coreset.
///
/// Each group is thinned by itself to twice its share, and what is left of all groups to `keep`. A token is at most as
/// far from the kept ones as the radius of its group's coreset and that of the second one together. A single group
/// is thinned as [`greedy_k_center`] does.
///
/// `load` gives a group's rows, or `None` when the function that it is handed, to be called now and then, answers `false`.
/// Indices count through all groups; they are in the order of choice.
///
/// # Errors
/// As [`greedy_k_center`] and `load`; [`Error::InvalidArgument`] when a group has another size than was said.
pub fn k_center_in_groups(
    sizes: &[usize],
    keep: usize,
    seed: u64,
    load: impl Fn(usize, &mut dyn FnMut() -> bool) -> Result<Option<Array2<f32>>>,
    mut progress: impl FnMut(usize) -> bool,
) -> Result<Option<Vec<usize>>> {
    let count: usize = sizes.iter().sum();
    let alone = sizes.len() == 1;
    let share = 2.0 * keep as f64 / count as f64;
    let quota = |&n: &usize| if alone { keep } else { ((n as f64 * share).ceil() as usize).min(n) };
    let quotas: Vec<usize> = sizes.iter().map(quota).collect();
    let work = quotas.iter().sum::<usize>() + if alone { 0 } else { keep };
    // Choices of both rounds count, so that progress goes on at the pace of the work.
    let mut tell = |done: usize| progress((done as f64 / work as f64 * keep as f64) as usize);

    let (mut union, mut origins, mut first) = (Vec::new(), Vec::new(), 0);
    let mut dims = 0;
    for (group, (&size, &quota)) in sizes.iter().zip(&quotas).enumerate() {
        let done = origins.len();
        let Some(rows) = load(group, &mut || tell(done))? else { return Ok(None) };
        if rows.nrows() != size {
            return Err(Error::InvalidArgument(format!(
                "a group of {size} tokens came with {}",
                rows.nrows()
            )));
        }
        let Some(mut chosen) = greedy_k_center(rows.view(), quota, seed, |n| tell(done + n))? else {
            return Ok(None);
        };
        if alone {
            return Ok(Some(chosen));
        }
        chosen.sort_unstable();
        dims = rows.ncols();
        for index in chosen {
            union.extend(rows.row(index));
            origins.push(first + index);
        }
        first += size;
    }
    let union = Array2::from_shape_vec((origins.len(), dims), union)
        .map_err(|e| Error::InvalidArgument(format!("the groups' tokens differ in their dimensions: {e}")))?;
    let chosen = greedy_k_center(union.view(), keep, seed, |n| tell(origins.len() + n))?;
    Ok(chosen.map(|chosen| chosen.into_iter().map(|i| origins[i]).collect()))
}

struct Rows<'a> {
    values: &'a [f32],
    dims: usize,
}

impl Rows<'_> {
    fn get(&self, token: usize) -> &[f32] {
        &self.values[token * self.dims..][..self.dims]
    }

    /// The token farthest from a point, and its squared distance.
    fn farthest(&self, tokens: &[usize], from: &[f32]) -> Far {
        let far = |&token: &usize| Far { token, distance: squared_distance(self.get(token), from) };
        tokens.iter().map(far).reduce(Far::or).unwrap_or(Far { token: 0, distance: 0.0 })
    }
}

/// A token and a squared distance of it; of a kept token a negative one.
#[derive(Clone, Copy)]
struct Far {
    token: usize,
    distance: f32,
}

impl Far {
    /// The farther one; of equally far ones that with the lower index.
    fn or(self, other: Far) -> Far {
        let other_is =
            other.distance > self.distance || other.distance == self.distance && other.token < self.token;
        if other_is { other } else { self }
    }
}

/// Tokens that are near each other.
struct Ball {
    center: Vec<f32>,
    radius: f32,
    /// That token within which is farthest from the kept ones.
    farthest: Far,
    inside: Inside,
}

enum Inside {
    Halves(Box<[Ball; 2]>),
    /// The tokens and, one after the other so that they are read quickly, their rows.
    Tokens(Vec<Token>, Vec<f32>),
}

struct Token {
    nearest: Far,
    /// Distance from the ball's center.
    off: f32,
}

impl Ball {
    fn new(rows: &Rows, tokens: &mut [usize]) -> Ball {
        let mut center = vec![0.0; rows.dims];
        for &token in &*tokens {
            center.iter_mut().zip(rows.get(token)).for_each(|(c, v)| *c += v);
        }
        center.iter_mut().for_each(|c| *c /= tokens.len() as f32);
        let rim = rows.farthest(tokens, &center);
        let inside = if tokens.len() <= LEAF {
            let token = |&token: &usize| Token {
                nearest: Far { token, distance: f32::INFINITY },
                off: squared_distance(rows.get(token), &center).sqrt(),
            };
            Inside::Tokens(
                tokens.iter().map(token).collect(),
                tokens.iter().flat_map(|&t| rows.get(t)).copied().collect(),
            )
        } else {
            // Across the longest chord that is quickly found: the projection's own axes mean nothing.
            let opposite = rows.farthest(tokens, rows.get(rim.token)).token;
            let chord: Vec<f32> =
                rows.get(rim.token).iter().zip(rows.get(opposite)).map(|(a, b)| a - b).collect();
            let along = |&token: &usize| -> (f32, usize) {
                (rows.get(token).iter().zip(&chord).map(|(v, c)| v * c).sum(), token)
            };
            let mut places: Vec<(f32, usize)> = tokens.iter().map(along).collect();
            let half = places.len() / 2;
            places.select_nth_unstable_by(half, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            tokens.iter_mut().zip(places).for_each(|(token, place)| *token = place.1);
            let (low, high) = tokens.split_at_mut(half);
            let (low, high) = rayon::join(|| Ball::new(rows, low), || Ball::new(rows, high));
            Inside::Halves(Box::new([low, high]))
        };
        let farthest = Far { token: rim.token, distance: f32::INFINITY };
        Ball { center, radius: rim.distance.sqrt(), farthest, inside }
    }

    /// Brings the distances up to date with a newly kept token.
    fn keep(&mut self, kept: usize, row: &[f32]) {
        // What rounding can do to a sum of so many squares, and a few units for what is made of it.
        let slack = (row.len() + 8) as f32 * f32::EPSILON;
        let away = squared_distance(row, &self.center).sqrt() * (1.0 - slack);
        // Infinite when the square overflows, which tells nothing of what is near.
        let cannot_matter = |off: f32, distance: f32| {
            let least = away - off * (1.0 + slack);
            least > 0.0 && least < f32::INFINITY && least * least > distance * (1.0 + slack)
        };
        if cannot_matter(self.radius, self.farthest.distance) {
            return;
        }
        self.farthest = match &mut self.inside {
            Inside::Halves(halves) => {
                halves.iter_mut().for_each(|half| half.keep(kept, row));
                halves[0].farthest.or(halves[1].farthest)
            }
            Inside::Tokens(tokens, rows) => {
                for (i, Token { nearest, off }) in tokens.iter_mut().enumerate() {
                    if nearest.token == kept {
                        // Below what a token at the same place has, which may still be chosen.
                        nearest.distance = -1.0;
                    } else if !cannot_matter(*off, nearest.distance) {
                        let other = &rows[i * row.len()..][..row.len()];
                        nearest.distance = nearest.distance.min(squared_distance(row, other));
                    }
                }
                tokens.iter().map(|t| t.nearest).reduce(Far::or).unwrap_or(self.farthest)
            }
        };
    }
}

fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    // Sums side by side, which the compiler turns into vector instructions.
    const LANES: usize = 16;
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| (a - b) * (a - b)).sum();
    let mut sums = [0.0f32; LANES];
    for (a, b) in a.zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += (a - b) * (a - b);
        }
    }
    rest + sums.iter().sum::<f32>()
}
