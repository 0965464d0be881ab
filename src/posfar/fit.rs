//! From good images' features to a bank.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

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

/// Memory that a store takes when nothing else is said: 2,900 images of 32 × 32 tokens with 176 channels.
const MEMORY: usize = 1 << 30;
/// Images handled between two reports of progress, which are also chances to stop.
const IMAGES: usize = 16;
/// Tokens that a coreset of the whole bank is taken of at a time: with more, it is an approximation
/// ([`coreset::k_center_in_groups`]).
const GROUP: usize = 1 << 20;
/// Tokens that the bank's PCA is fitted on at most, evenly spread: so many tell the directions as well as more do.
const PCA_TOKENS: usize = 1 << 18;

/// Features of the good images, in half precision: what a bank is fitted on and leave-one-out goes over.
///
/// Images that the memory does not hold lie in a temporary file, which has no name and is gone with the process.
#[derive(Debug)]
pub struct TokenStore {
    images: Vec<(Grid, Tokens)>,
    memory: usize,
    file: Option<(Arc<File>, u64)>,
    channels: usize,
    tokens: usize,
    sum: Array1<f64>,
    squares: Array1<f64>,
}

#[derive(Debug)]
enum Tokens {
    Memory(Array2<f16>),
    /// Where they begin in the file.
    File(Arc<File>, u64),
}

/// What [`fit`] is doing. Stops it by answering `false`.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize) -> bool;

impl Default for TokenStore {
    fn default() -> Self {
        Self::with_memory(MEMORY)
    }
}

impl TokenStore {
    /// A store that takes at most so many bytes of memory, or one image, for features. The rest is in a file in the
    /// system's folder for temporary files (`TMPDIR`).
    pub fn with_memory(bytes: usize) -> Self {
        TokenStore {
            images: Vec::new(),
            memory: bytes,
            file: None,
            channels: 0,
            tokens: 0,
            sum: Array1::default(0),
            squares: Array1::default(0),
        }
    }

    /// Adds an image's features `[rows × cols, channels]` (no position added). The order of images decides their
    /// numbers.
    ///
    /// # Errors
    /// [`ErrorKind::NotFinite`] when a value is NaN, infinite or too large for half precision; [`ErrorKind::Model`]
    /// when the shape does not fit; [`ErrorKind::StorageFull`] or [`ErrorKind::Io`] when the temporary file fails.
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
        let narrow = self.keep(narrow)?;
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

    /// An image's features `[rows × cols, channels]` and its grid.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] beyond the last image; [`ErrorKind::Io`] when the temporary file cannot be read.
    pub fn features(&self, image: usize) -> Result<(Array2<f32>, Grid)> {
        match self.images.get(image) {
            Some((grid, _)) => Ok((self.wide(image, self.channels)?, *grid)),
            None => Err(Error::new(ErrorKind::Usage, format!("there is no image {image} in the store"))),
        }
    }

    fn keep(&mut self, tokens: Array2<f16>) -> Result<Tokens> {
        let size = tokens.len() * size_of::<f16>();
        if let Some(rest) = self.memory.checked_sub(size) {
            self.memory = rest;
            return Ok(Tokens::Memory(tokens));
        }
        let folder = std::env::temp_dir();
        let doing = |e| Error::io("keep the good parts' features in a temporary file in", &folder, e);
        let (file, end) = match &mut self.file {
            Some(file) => file,
            none => none.insert((Arc::new(tempfile::tempfile_in(&folder).map_err(doing)?), 0)),
        };
        let bytes: Vec<u8> = tokens.iter().flat_map(|v| v.to_le_bytes()).collect();
        file.write_all_at(&bytes, *end).map_err(doing)?;
        let first = *end;
        *end += bytes.len() as u64;
        Ok(Tokens::File(Arc::clone(file), first))
    }

    /// The first channels of an image's features.
    fn wide(&self, image: usize, channels: usize) -> Result<Array2<f32>> {
        let (grid, tokens) = &self.images[image];
        let (file, first) = match tokens {
            Tokens::Memory(tokens) => return Ok(to_f32(tokens.slice(s![.., ..channels]))),
            Tokens::File(file, first) => (file, *first),
        };
        let width = self.channels * size_of::<f16>();
        let mut bytes = vec![0; grid.0 * grid.1 * width];
        file.read_exact_at(&mut bytes, first).map_err(|e| {
            let folder = std::env::temp_dir();
            Error::io("read the good parts' features from a temporary file in", &folder, e)
        })?;
        let value = |at: usize| f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32();
        Ok(Array2::from_shape_fn((grid.0 * grid.1, channels), |(row, channel)| {
            value(row * width + channel * size_of::<f16>())
        }))
    }
}

/// Makes a bank of the stored images.
///
/// `progress` is told how many of how many tokens the coreset has kept; when it answers `false` the result is `None`.
///
/// # Errors
/// [`ErrorKind::Usage`] for impossible parameters or an empty store; as [`TokenStore::features`].
pub fn fit(store: &TokenStore, parameters: &Parameters, progress: Progress) -> Result<Option<Bank>> {
    parameters.validate()?;
    if store.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "a bank needs at least one good image"));
    }
    let misfit = |e| Error::new(ErrorKind::Model, "the images' features do not fit together").with_source(e);
    let channels = store.channels;
    let feature_scale = scale_of(&store.sum, &store.squares, store.tokens as f64);
    let amplitude = match parameters.matching {
        Matching::Soft { weight } => weight * feature_scale,
        Matching::Window { .. } => 0.0,
    };
    // Nearly always every image has the first one's grid, and an embedding takes longer than reading an image.
    let usual = store.images[0].0;
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
    let sizes: Vec<usize> = store.images.iter().map(|(grid, _)| grid.0 * grid.1).collect();

    let wanted = (store.tokens as f64 * f64::from(parameters.coreset_share)).ceil() as usize;
    let keep = wanted.max(parameters.coreset_floor).min(store.tokens);
    let dims = parameters.projection.min(channels);
    let projection = coreset::random_projection(channels, dims, parameters.seed);
    let project = |image: usize| Ok(placed(image)?.dot(&projection));
    // Of each image, in ascending order, the cells that are kept.
    let kept: Vec<Vec<usize>> = match parameters.coreset {
        _ if keep == store.tokens => sizes.iter().map(|&size| (0..size).collect()).collect(),
        CoresetScope::Image => {
            let share = keep as f64 / store.tokens as f64;
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
        let columns = store.images[image].0.1;
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
    // A few hundred images describe an early feature map's main directions as well as all of them.
    let step = store.len().div_ceil(256);
    let sample: Vec<Array2<f32>> = (0..store.len()).step_by(step).map(early).collect::<Result<_>>()?;
    let views: Vec<ArrayView2<f32>> = sample.iter().map(|features| features.view()).collect();
    let sample = ndarray::concatenate(Axis(0), &views).map_err(misfit)?;
    let retrieval_pca = Pca::fit(sample.view(), Keep::Components(parameters.retrieval_components))?;
    drop(sample);
    let mut descriptors = Vec::with_capacity(store.len());
    let describe =
        |image: usize| Ok(retrieval::descriptor(early(image)?.view(), store.images[image].0, &retrieval_pca));
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

/// Does something with each image, some of them side by side, and hands the results on in order, until `take` answers
/// `false`. Whether it never did.
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

/// Successive images of at most [`GROUP`] tokens together, or a single larger one.
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
