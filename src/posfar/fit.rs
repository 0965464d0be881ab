//! From good images' features to a bank.

use half::f16;
use half::slice::HalfFloatSliceExt;
use ndarray::{Array1, Array2, ArrayView2, Axis, s};
use rayon::prelude::*;

use super::bank::{scale_of, to_f32};
use super::pca::{Keep, Pca};
use super::{
    Bank, BankParts, CoresetScope, Grid, Matching, Parameters, TokenPlace, check_finite, coreset, position,
    retrieval,
};
use crate::error::{Error, ErrorKind, Result};

/// Features of the good images, in half precision: what a bank is fitted on and leave-one-out goes over.
#[derive(Debug, Default)]
pub struct TokenStore {
    images: Vec<(Grid, Array2<f16>)>,
    channels: usize,
    tokens: usize,
    sum: Array1<f64>,
    squares: Array1<f64>,
}

/// What [`fit`] is doing. Stops it by answering `false`.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize) -> bool;

impl TokenStore {
    /// Adds an image's features `[rows × cols, channels]` (no position added). The order of images decides their
    /// numbers.
    ///
    /// # Errors
    /// [`ErrorKind::NotFinite`] when a value is NaN, infinite or too large for half precision; [`ErrorKind::Model`]
    /// when the shape does not fit.
    pub fn push(&mut self, features: ArrayView2<f32>, grid: Grid) -> Result<()> {
        let (count, channels) = features.dim();
        if count == 0 || channels == 0 || count != grid.0 * grid.1 {
            return Err(Error::new(
                ErrorKind::Model,
                format!("features of shape {:?} do not fit a grid of {}×{}", features.dim(), grid.0, grid.1),
            ));
        }
        if !self.images.is_empty() && channels != self.channels {
            return Err(Error::new(
                ErrorKind::Model,
                format!("features of {channels} channels among features of {}", self.channels),
            ));
        }
        if grid.0 > usize::from(u16::MAX) || grid.1 > usize::from(u16::MAX) {
            return Err(Error::new(ErrorKind::Model, "the grid has more than 65,535 rows or columns"));
        }
        check_finite("the image's features", features)?;
        let mut narrow = Array2::<f16>::from_elem((count, channels), f16::ZERO);
        for (mut to, from) in narrow.rows_mut().into_iter().zip(features.rows()) {
            match (to.as_slice_mut(), from.as_slice()) {
                (Some(to), Some(from)) => to.convert_from_f32_slice(from),
                _ => to.zip_mut_with(&from, |t, &f| *t = f16::from_f32(f)),
            }
        }
        if narrow.iter().any(|v| !v.is_finite()) {
            return Err(Error::new(
                ErrorKind::NotFinite,
                "the image's features are too large for half precision",
            ));
        }
        if self.images.is_empty() {
            self.channels = channels;
            self.sum = Array1::zeros(channels);
            self.squares = Array1::zeros(channels);
        }
        for row in features.rows() {
            ndarray::Zip::from(&mut self.sum).and(&mut self.squares).and(row).for_each(|s, q, &v| {
                let v = f64::from(v);
                *s += v;
                *q += v * v;
            });
        }
        self.tokens += count;
        self.images.push((grid, narrow));
        Ok(())
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether there is no image yet.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Number of tokens of all images.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// An image's features `[rows × cols, channels]` and its grid, or `None` beyond the last image.
    pub fn features(&self, image: usize) -> Option<(Array2<f32>, Grid)> {
        self.images.get(image).map(|(grid, tokens)| (to_f32(tokens.view()), *grid))
    }
}

/// Makes a bank of the stored images.
///
/// `progress` is told how many of how many tokens the coreset has kept; when it answers `false` the result is `None`.
///
/// # Errors
/// [`ErrorKind::Usage`] for impossible parameters or an empty store.
pub fn fit(store: &TokenStore, parameters: &Parameters, progress: Progress) -> Result<Option<Bank>> {
    parameters.validate()?;
    if store.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "a bank needs at least one good image"));
    }
    let channels = store.channels;
    let feature_scale = scale_of(&store.sum, &store.squares, store.tokens as f64);
    let amplitude = match parameters.matching {
        Matching::Soft { weight } => weight * feature_scale,
        Matching::Window { .. } => 0.0,
    };
    let placed = |image: usize| -> Array2<f32> {
        let (grid, tokens) = &store.images[image];
        let mut tokens = to_f32(tokens.view());
        if amplitude > 0.0 {
            tokens.scaled_add(amplitude, &position::embedding(*grid, channels));
        }
        tokens
    };
    let firsts: Vec<usize> = store
        .images
        .iter()
        .scan(0, |next, (grid, _)| {
            let first = *next;
            *next += grid.0 * grid.1;
            Some(first)
        })
        .collect();

    let wanted = (store.tokens as f64 * f64::from(parameters.coreset_share)).ceil() as usize;
    let keep = wanted.max(parameters.coreset_floor).min(store.tokens);
    let dims = parameters.projection.min(channels);
    let projection = coreset::random_projection(channels, dims, parameters.seed);
    let project = |image: usize| placed(image).dot(&projection);
    let kept: Vec<usize> = match parameters.coreset {
        _ if keep == store.tokens => (0..keep).collect(),
        CoresetScope::Image => {
            let share = keep as f64 / store.tokens as f64;
            let mut kept = Vec::with_capacity(keep);
            // A group at a time, so that stopping does not wait for all images.
            let images: Vec<usize> = (0..store.len()).collect();
            for group in images.chunks(64) {
                let chosen: Vec<Vec<usize>> = group
                    .par_iter()
                    .map(|&image| {
                        let tokens = project(image);
                        let keep = (tokens.nrows() as f64 * share).ceil() as usize;
                        let mut chosen =
                            coreset::greedy_k_center(tokens.view(), keep, parameters.seed, |_| true)?
                                .unwrap_or_default();
                        chosen.sort_unstable();
                        Ok(chosen.into_iter().map(|token| firsts[image] + token).collect())
                    })
                    .collect::<Result<_>>()?;
                kept.extend(chosen.into_iter().flatten());
                if !progress(kept.len().min(keep), keep) {
                    return Ok(None);
                }
            }
            kept
        }
        CoresetScope::Bank => {
            let mut projected = Array2::<f32>::zeros((store.tokens, dims));
            let mut slots: Vec<_> = Vec::with_capacity(store.len());
            let mut rest = projected.view_mut();
            for (grid, _) in &store.images {
                let (slot, tail) = rest.split_at(Axis(0), grid.0 * grid.1);
                slots.push(slot);
                rest = tail;
            }
            slots.into_par_iter().enumerate().for_each(|(image, mut slot)| slot.assign(&project(image)));
            match coreset::greedy_k_center(projected.view(), keep, parameters.seed, |done| {
                progress(done, keep)
            })? {
                Some(mut kept) => {
                    kept.sort_unstable();
                    kept
                }
                None => return Ok(None),
            }
        }
    };
    let keep = kept.len();

    let mut tokens = Array2::from_elem((keep, channels), f16::ZERO);
    let mut places = Vec::with_capacity(keep);
    for (image, &first) in firsts.iter().enumerate() {
        let (grid, _) = store.images[image];
        let start = places.len();
        let end = kept.partition_point(|&t| t < first + grid.0 * grid.1);
        if start == end {
            continue;
        }
        let source = placed(image);
        for (&token, mut target) in
            kept[start..end].iter().zip(tokens.slice_mut(s![start..end, ..]).rows_mut())
        {
            let cell = token - first;
            target.zip_mut_with(&source.row(cell), |t, &f| *t = f16::from_f32(f));
            places.push(TokenPlace {
                image: image as u32,
                row: (cell / grid.1) as u16,
                col: (cell % grid.1) as u16,
            });
        }
    }

    let pca = Pca::fit(to_f32(tokens.view()).view(), Keep::Variance(parameters.variance))?;
    let early_channels = parameters.retrieval_channels.min(channels);
    let early = |image: usize| to_f32(store.images[image].1.slice(s![.., ..early_channels]));
    // A few hundred images describe an early feature map's main directions as well as all of them.
    let step = store.len().div_ceil(256);
    let sample: Vec<Array2<f32>> = (0..store.len()).step_by(step).map(early).collect();
    let views: Vec<ArrayView2<f32>> = sample.iter().map(|features| features.view()).collect();
    let sample = ndarray::concatenate(Axis(0), &views).map_err(|e| {
        Error::new(ErrorKind::Model, "the images' features do not fit together").with_source(e)
    })?;
    let retrieval_pca = Pca::fit(sample.view(), Keep::Components(parameters.retrieval_components))?;
    drop(sample);
    let descriptors: Vec<Array2<f32>> = (0..store.len())
        .into_par_iter()
        .map(|image| retrieval::descriptor(early(image).view(), store.images[image].0, &retrieval_pca))
        .collect();
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
