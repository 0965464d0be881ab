//! Good images' features → bank.

use std::ops::Range;

use half::f16;
use ndarray::{Array2, ArrayView2, Axis, s};
use rayon::prelude::*;

use crate::bank::to_f32;
use crate::pca::{Keep, Pca};
use crate::{
    Bank, BankParts, CoresetScope, Error, Matching, Parameters, Result, TokenPlace, TokenStorage, TokenStore,
    coreset, position, retrieval,
};

/// Images between two calls of `progress`.
const IMAGES: usize = 16;
/// Most tokens that a coreset of the whole bank chooses from at a time. With more, it is an approximation
/// ([`coreset::k_center_in_groups`]).
const GROUP: usize = 1 << 20;
/// Most tokens that the bank's PCA is fitted on, evenly spread. More do not change the directions.
const PCA_TOKENS: usize = 1 << 18;

/// Called by [`fit`] with (done, total), in tokens. Returns `false` to stop the work.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize) -> bool;

/// Makes a bank of the stored images. The result is `None` if `progress` returned `false`.
///
/// ```
/// use ndarray::Array2;
/// use posfar::{Parameters, Residuals, Scratch, TokenStore, fit};
///
/// // Any network's features: one row of channels per grid cell.
/// let image = |seed: usize| {
///     Array2::from_shape_fn((8 * 8, 12), |(i, j)| ((i * 7 + j * 5 + seed) % 13) as f32)
/// };
/// let mut store = TokenStore::default();
/// for seed in 0..4 {
///     store.push(image(seed).view(), (8, 8))?;
/// }
/// let Some(bank) = fit(&store, &Parameters::default(), &mut |_, _| true)? else { return Ok(()) };
///
/// let mut damaged = image(2);
/// damaged.row_mut(27).fill(100.0);
/// let (mut scratch, mut residuals) = (Scratch::default(), Residuals::default());
/// bank.residuals(damaged.view(), (8, 8), &[], 1, &mut scratch, &mut residuals)?;
/// let strangest = (0..64).max_by(|&a, &b| residuals.norms[a].total_cmp(&residuals.norms[b]));
/// assert_eq!(strangest, Some(27));
/// # Ok::<(), posfar::Error>(())
/// ```
///
/// # Errors
/// - [`Error::InvalidArgument`] for parameters out of range, or an empty store.
/// - The errors of [`TokenStore::features`] and [`Bank::from_parts`].
pub fn fit<S: TokenStorage>(
    store: &TokenStore<S>,
    parameters: &Parameters,
    progress: Progress,
) -> Result<Option<Bank>> {
    parameters.validate()?;
    if store.is_empty() {
        return Err(Error::InvalidArgument("a bank needs at least one good image".into()));
    }
    let misfit = |e| Error::ShapeMismatch(format!("the images' features do not fit together: {e}"));
    let channels = store.channels();
    let feature_scale = store.feature_scale();
    let amplitude = match parameters.matching {
        Matching::Soft { weight } => weight * feature_scale,
        Matching::Window { .. } => 0.0,
    };
    // Images usually share one grid, and an embedding takes longer than reading an image.
    let usual = store.grids()[0];
    let usual_embedding = position::embedding(usual, channels);
    let placed = |image: usize| -> Result<Array2<f32>> {
        let (mut tokens, grid) = store.features(image)?;
        if amplitude > 0.0 && grid == usual {
            tokens.scaled_add(amplitude, &usual_embedding);
        } else if amplitude > 0.0 {
            tokens.scaled_add(amplitude, &position::embedding(grid, channels));
        }
        Ok(tokens)
    };
    let sizes: Vec<usize> = store.grids().iter().map(|grid| grid.0 * grid.1).collect();

    let wanted = (store.tokens() as f64 * f64::from(parameters.coreset_share)).ceil() as usize;
    let keep = wanted.max(parameters.coreset_floor).min(store.tokens());
    let dims = parameters.projection.min(channels);
    let projection = coreset::random_projection(channels, dims, parameters.seed);
    let project = |image: usize| Ok(placed(image)?.dot(&projection));
    // The kept cells of each image, ascending.
    let kept: Vec<Vec<usize>> = match parameters.coreset {
        _ if keep == store.tokens() => sizes.iter().map(|&size| (0..size).collect()).collect(),
        CoresetScope::Image => {
            let share = keep as f64 / store.tokens() as f64;
            let thin = |image: usize| -> Result<Vec<usize>> {
                let tokens = project(image)?;
                let keep = (tokens.nrows() as f64 * share).ceil() as usize;
                let chosen = coreset::greedy_k_center(tokens.view(), keep, parameters.seed, |_| true)?;
                Ok(sorted(chosen.unwrap_or_default()))
            };
            let (mut kept, mut done) = (Vec::with_capacity(store.len()), 0);
            let going_on = for_images(0..store.len(), thin, |cells| {
                done += cells.len();
                kept.push(cells);
                progress(done.min(keep), keep)
            })?;
            if !going_on {
                return Ok(None);
            }
            kept
        }
        CoresetScope::Bank => {
            let groups = groups(&sizes);
            let counts: Vec<usize> = groups.iter().map(|images| sizes[images.clone()].iter().sum()).collect();
            let load = |group: usize, going_on: &mut dyn FnMut() -> bool| {
                let mut rows = Vec::with_capacity(counts[group] * dims);
                let done = for_images(groups[group].clone(), project, |part| {
                    rows.extend(part);
                    going_on()
                })?;
                if !done {
                    return Ok(None);
                }
                Array2::from_shape_vec((counts[group], dims), rows).map(Some).map_err(misfit)
            };
            let seed = parameters.seed;
            let chosen = coreset::k_center_in_groups(&counts, keep, seed, load, |done| progress(done, keep))?;
            let Some(chosen) = chosen else { return Ok(None) };
            let chosen = sorted(chosen);
            let (mut rest, mut first) = (chosen.as_slice(), 0);
            let cells = |&size: &usize| {
                let (own, others) = rest.split_at(rest.partition_point(|&token| token < first + size));
                let own = own.iter().map(|token| token - first).collect();
                (rest, first) = (others, first + size);
                own
            };
            sizes.iter().map(cells).collect()
        }
    };
    let mut going_on = || progress(keep, keep);
    let count: usize = kept.iter().map(Vec::len).sum();

    let mut tokens = Vec::with_capacity(count * channels);
    let mut places = Vec::with_capacity(count);
    let narrow = |image: usize| -> Result<(usize, Vec<f16>)> {
        let rows = if kept[image].is_empty() { Array2::zeros((0, channels)) } else { placed(image)? };
        Ok((image, kept[image].iter().flat_map(|&cell| rows.row(cell)).map(|&v| f16::from_f32(v)).collect()))
    };
    let done = for_images(0..store.len(), narrow, |(image, rows)| {
        let columns = store.grids()[image].1;
        tokens.extend(rows);
        places.extend(kept[image].iter().map(|cell| TokenPlace {
            image: image as u32,
            row: (cell / columns) as u16,
            col: (cell % columns) as u16,
        }));
        going_on()
    })?;
    if !done {
        return Ok(None);
    }
    let tokens = Array2::from_shape_vec((count, channels), tokens).map_err(misfit)?;

    let sample = tokens.slice(s![..;count.div_ceil(PCA_TOKENS), ..]);
    let pca = Pca::fit(to_f32(sample).view(), Keep::Variance(parameters.variance))?;
    let early_channels = parameters.retrieval_channels.min(channels);
    let early = |image: usize| store.wide(image, early_channels);
    // A few hundred images show the main directions as well as all.
    let step = store.len().div_ceil(256);
    let sample: Vec<Array2<f32>> = (0..store.len()).step_by(step).map(early).collect::<Result<_>>()?;
    let views: Vec<ArrayView2<f32>> = sample.iter().map(|features| features.view()).collect();
    let sample = ndarray::concatenate(Axis(0), &views).map_err(misfit)?;
    let retrieval_pca = Pca::fit(sample.view(), Keep::Components(parameters.retrieval_components))?;
    drop(sample);
    let mut descriptors = Vec::with_capacity(store.len());
    let describe =
        |image: usize| Ok(retrieval::descriptor(early(image)?.view(), store.grids()[image], &retrieval_pca));
    let done = for_images(0..store.len(), describe, |descriptor| {
        descriptors.push(descriptor);
        going_on()
    })?;
    if !done {
        return Ok(None);
    }
    let descriptors = retrieval::stack(&descriptors, retrieval_pca.dims());

    Bank::from_parts(BankParts {
        parameters: parameters.clone(),
        feature_scale,
        tokens,
        places,
        pca,
        retrieval_pca,
        descriptors,
    })
    .map(Some)
}

/// Runs `work` on the images, several at a time, and passes the results to `take` in order. Returns `false` if `take`
/// stopped it by returning `false`.
fn for_images<T: Send>(
    images: Range<usize>,
    work: impl Fn(usize) -> Result<T> + Sync,
    mut take: impl FnMut(T) -> bool,
) -> Result<bool> {
    for first in images.clone().step_by(IMAGES) {
        let some = first..(first + IMAGES).min(images.end);
        let done: Vec<T> = some.into_par_iter().map(&work).collect::<Result<_>>()?;
        for one in done {
            if !take(one) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Consecutive images with at most [`GROUP`] tokens together, or a single larger one.
fn groups(sizes: &[usize]) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut tokens = 0;
    for (image, size) in sizes.iter().enumerate() {
        tokens += size;
        match groups.last_mut() {
            Some(group) if tokens <= GROUP => group.end = image + 1,
            _ => {
                groups.push(image..image + 1);
                tokens = *size;
            }
        }
    }
    groups
}

fn sorted(mut numbers: Vec<usize>) -> Vec<usize> {
    numbers.sort_unstable();
    numbers
}
