//! Greedy k-center coresets: a few rows that leave no other row far away (Gonzalez 1985; Sener and Savarese 2018; for
//! memory banks since PatchCore, arXiv 2106.08265, section 3.2).
//!
//! The greedy rule always takes the row that is farthest from the rows taken before. Its largest distance is at most
//! twice the smallest possible one. A plain loop measures `rows × kept` distances. Here the rows lie in a ball tree,
//! and the triangle inequality skips the balls that a new center cannot improve. The choice is the same.

use ndarray::{Array2, ArrayView2};

use crate::check_finite;
use crate::random::SplitMix64;
use crate::{Error, Result};

/// Rows of an undivided ball. Fewer cost more balls, more cost more rows to look at.
const LEAF: usize = 48;

/// A Gaussian random projection `[channels, dims]`. It keeps distances on average (Johnson and Lindenstrauss 1984).
///
/// Use it to choose a coreset of wide rows in fewer dimensions:
///
/// ```
/// use ndarray::Array2;
/// use posfar::coreset::{greedy_k_center, random_projection};
///
/// let rows = Array2::from_shape_fn((500, 300), |(i, j)| ((i * 7 + j * 3) % 50) as f32);
/// let narrow = rows.dot(&random_projection(300, 64, 0));
/// let kept = greedy_k_center(narrow.view(), 20, 0, |_| true)?;
/// assert_eq!(kept.map(|kept| kept.len()), Some(20));
/// # Ok::<(), posfar::Error>(())
/// ```
pub fn random_projection(channels: usize, dims: usize, seed: u64) -> Array2<f32> {
    let mut random = SplitMix64::new(seed);
    let scale = 1.0 / (dims as f32).sqrt();
    Array2::from_shape_simple_fn((channels, dims), || random.normal() * scale)
}

/// Chooses `keep` of the rows `[rows, dims]` and returns their indices in the order of choice.
///
/// `seed` draws the first one. Equal distances go to the lower index. `progress` receives the number of rows kept so
/// far; it stops the work by returning `false`, and the result is `None`.
///
/// ```
/// use ndarray::array;
/// use posfar::coreset::greedy_k_center;
///
/// let rows = array![[0.0], [1.0], [9.0], [10.0]];
/// let kept = greedy_k_center(rows.view(), 2, 0, |_| true)?.unwrap_or_default();
/// // One of the left pair, one of the right pair.
/// assert_ne!(kept[0] < 2, kept[1] < 2);
/// # Ok::<(), posfar::Error>(())
/// ```
///
/// # Errors
/// - [`Error::InvalidArgument`] if `keep` is 0 or larger than the number of rows.
/// - [`Error::NotFinite`] for NaN and infinity.
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

/// As [`greedy_k_center`], for more rows than the memory holds. It is a composable coreset.
///
/// The rows come in groups of `sizes`. Each group is thinned to twice its share, then the rest of all groups to `keep`.
/// A row is at most `r₁ + r₂` from the kept ones: the radius of its group's coreset plus the radius of the second one.
/// A single group is thinned as by [`greedy_k_center`].
///
/// `load` returns a group's rows `[size, dims]`. It calls its second argument now and then, and returns `None` if that
/// returns `false`. The result's indices count through all groups.
///
/// ```
/// use ndarray::Array2;
/// use posfar::coreset::k_center_in_groups;
///
/// let group = |number: usize, _: &mut dyn FnMut() -> bool| {
///     Ok(Some(Array2::from_shape_fn((100, 2), |(i, j)| (number * 100 + i * (j + 1)) as f32)))
/// };
/// let kept = k_center_in_groups(&[100, 100, 100], 12, 0, group, |_| true)?.unwrap_or_default();
/// assert!(kept.len() == 12 && kept.iter().all(|&row| row < 300));
/// # Ok::<(), posfar::Error>(())
/// ```
///
/// # Errors
/// - The errors of [`greedy_k_center`] and of `load`.
/// - [`Error::InvalidArgument`] if a group has another size than `sizes` says.
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
    // Both rounds count, so progress keeps the pace of the work.
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

    /// The row farthest from a point, and its squared distance.
    fn farthest(&self, tokens: &[usize], from: &[f32]) -> Far {
        let far = |&token: &usize| Far { token, distance: squared_distance(self.get(token), from) };
        tokens.iter().map(far).reduce(Far::or).unwrap_or(Far { token: 0, distance: 0.0 })
    }
}

/// A row and its squared distance to the kept ones; negative for a kept row.
#[derive(Clone, Copy)]
struct Far {
    token: usize,
    distance: f32,
}

impl Far {
    /// The farther one. Equal distances: the lower index.
    fn or(self, other: Far) -> Far {
        let other_is =
            other.distance > self.distance || other.distance == self.distance && other.token < self.token;
        if other_is { other } else { self }
    }
}

/// Rows that are near each other.
struct Ball {
    center: Vec<f32>,
    radius: f32,
    /// The row in it that is farthest from the kept ones.
    farthest: Far,
    inside: Inside,
}

enum Inside {
    Halves(Box<[Ball; 2]>),
    /// The rows' numbers and, side by side for fast reads, the rows.
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
            // Across a long chord: the axes of a random projection mean nothing.
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

    /// Updates the distances after `kept` was kept.
    fn keep(&mut self, kept: usize, row: &[f32]) {
        // The rounding error of a sum of so many squares, and a few units for the steps after it.
        let slack = (row.len() + 8) as f32 * f32::EPSILON;
        let away = squared_distance(row, &self.center).sqrt() * (1.0 - slack);
        // An overflow to infinity says nothing about what is near.
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
                        // Below the 0 of another row at the same place, which can still be chosen.
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
    // Sums side by side: the compiler makes vector instructions of them.
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
