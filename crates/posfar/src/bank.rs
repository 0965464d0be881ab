//! The kept tokens of the good images, and a new image's residuals.

use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;
use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, ArrayViewMut1, Axis, s};
use rayon::prelude::*;

use crate::pca::Pca;
use crate::search::{self, Index, Neighbor};
use crate::{Error, Result};
use crate::{Grid, Matching, Parameters, check_finite, position, retrieval};

/// Tokens per piece of work.
const ROWS: usize = 64;

/// Origin of a bank's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenPlace {
    /// Number of the good image, from 0.
    pub image: u32,
    /// Row of its grid.
    pub row: u16,
    /// Column of its grid.
    pub col: u16,
}

/// Everything in a bank, to store it and to load it: [`Bank::parts`] and [`Bank::from_parts`].
///
/// ```
/// use posfar::{Bank, BankParts, TokenPlace};
///
/// fn reload(bank: &Bank) -> Result<Bank, posfar::Error> {
///     let parts: BankParts = bank.parts().clone();
///     for (token, TokenPlace { image, row, col }) in parts.tokens.rows().into_iter().zip(&parts.places) {
///         println!("{image}, {row}, {col}: {token}");
///     }
///     Bank::from_parts(parts)
/// }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct BankParts {
    /// How the bank was made.
    pub parameters: Parameters,
    /// Root mean square of the channels' standard deviations over all good tokens. It is the unit of
    /// [`Matching::Soft`]'s weight.
    pub feature_scale: f32,
    /// Kept tokens with their position embedding, `[tokens, channels]`, in the order of `places`.
    pub tokens: Array2<f16>,
    /// Origin of each token, strictly ascending.
    pub places: Vec<TokenPlace>,
    /// The space of distances, fitted on `tokens`.
    pub pca: Pca,
    /// PCA of the leading channels, for retrieval.
    pub retrieval_pca: Pca,
    /// One descriptor per image, `[images, WINDOWS, components]`.
    pub descriptors: Array3<f32>,
}

/// The kept tokens of the good images, ready for the search. [`fit`](crate::fit) makes it.
#[derive(Debug)]
pub struct Bank {
    parts: BankParts,
    /// The tokens in PCA space.
    index: Index,
    /// Rows of each image.
    ranges: Vec<Range<usize>>,
}

/// The differences between an image's tokens and their nearest good tokens: see [`Bank::residuals`].
#[derive(Debug, Default, Clone)]
pub struct Residuals {
    /// Rows and columns of the grid.
    pub grid: Grid,
    /// Good token minus the image's token, in the full feature space, `[neighbors, rows × cols, channels]`: for the
    /// nearest neighbor, the second, the third.
    pub values: Array3<f32>,
    /// Euclidean norm of the nearest neighbor's residual, one per token: the anomaly score of the cell.
    pub norms: Vec<f32>,
    /// The neighbors, `neighbors` per token, nearest first. Distances are squared and in PCA space.
    pub neighbors: Vec<Neighbor>,
    /// Numbers of the searched images, ascending.
    pub images: Vec<usize>,
}

/// Memory for [`Bank::residuals`], reused from image to image.
#[derive(Debug, Default)]
pub struct Scratch {
    position: Position,
    reduced: Array2<f32>,
    ranges: Vec<Range<usize>>,
    retrieval: retrieval::Scratch,
    search: search::Scratch,
}

/// The position embedding of a grid: the same for every image.
#[derive(Debug, Default)]
struct Position {
    grid: Grid,
    /// `[rows × cols, channels]`.
    embedding: Array2<f32>,
    /// The embedding minus the mean in PCA space, `[rows × cols, dims]`.
    reduced: Array2<f32>,
}

impl Bank {
    /// Checks parts from outside, such as a file, and prepares the search.
    ///
    /// # Errors
    /// - [`Error::InvalidBank`] if the parts do not fit each other.
    /// - [`Error::NotFinite`] for NaN, infinity, and tokens whose squares overflow in PCA space.
    /// - [`Error::InvalidArgument`] for parameters out of range.
    pub fn from_parts(parts: BankParts) -> Result<Self> {
        parts.parameters.validate()?;
        let bad = |m: String| Err(Error::InvalidBank(m));
        let (count, channels) = parts.tokens.dim();
        let images = parts.descriptors.dim().0;
        if count == 0 || channels == 0 {
            return bad("the bank has no tokens".into());
        }
        if count >= u32::MAX as usize {
            return bad(format!("{count} tokens are more than a bank can hold"));
        }
        if parts.places.len() != count {
            return bad(format!("the bank has {count} tokens but {} places", parts.places.len()));
        }
        if !parts.places.is_sorted_by(|a, b| a < b) {
            return bad("the bank's tokens are not in the order of their images, rows and columns".into());
        }
        if parts.places.last().is_some_and(|p| p.image as usize >= images) {
            return bad(format!("a token comes from an image beyond the {images} that have descriptors"));
        }
        let (early, components) = (parts.retrieval_pca.mean.len(), parts.retrieval_pca.dims());
        if early == 0
            || early > channels
            || components == 0
            || parts.retrieval_pca.components.nrows() != early
            || parts.descriptors.dim() != (images, retrieval::WINDOWS, components)
        {
            return bad(format!(
                "descriptors of shape {:?} do not fit a reduction of {early} channels to {components}",
                parts.descriptors.dim()
            ));
        }
        if parts.pca.mean.len() != channels
            || parts.pca.components.nrows() != channels
            || parts.pca.dims() == 0
        {
            return bad(format!(
                "a PCA of {} channels does not fit tokens of {channels}",
                parts.pca.mean.len()
            ));
        }
        if !(parts.feature_scale.is_finite() && parts.feature_scale >= 0.0) {
            return Err(Error::NotFinite("the features' scale is not a finite number".into()));
        }
        if parts.tokens.iter().any(|v| !v.is_finite()) {
            return Err(Error::NotFinite("the bank holds a value that is not a finite number".into()));
        }
        for pca in [&parts.pca, &parts.retrieval_pca] {
            check_finite("the bank's PCA", pca.mean.iter().chain(&pca.components))?;
        }
        check_finite("the bank's descriptors", &parts.descriptors)?;

        let index = Index::new(reduce(&parts.tokens, &parts.pca).view())?;
        let ranges = (0..images as u32)
            .map(|image| {
                let start = parts.places.partition_point(|p| p.image < image);
                start..parts.places.partition_point(|p| p.image <= image)
            })
            .collect();
        Ok(Bank { parts, index, ranges })
    }

    /// Everything in the bank.
    pub fn parts(&self) -> &BankParts {
        &self.parts
    }

    /// The same bank with another K: the number of similar images to search.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for 0.
    pub fn with_images(mut self, images: usize) -> Result<Self> {
        self.parts.parameters.images = images;
        self.parts.parameters.validate()?;
        Ok(self)
    }

    /// Number of kept tokens.
    pub fn len(&self) -> usize {
        self.parts.tokens.nrows()
    }

    /// Always false: a bank has tokens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of channels of a token.
    pub fn channels(&self) -> usize {
        self.parts.tokens.ncols()
    }

    /// Number of good images.
    pub fn images(&self) -> usize {
        self.ranges.len()
    }

    /// Number of dimensions of the space of distances.
    pub fn dims(&self) -> usize {
        self.parts.pca.dims()
    }

    /// The tokens in PCA space.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Computes an image's residuals.
    ///
    /// - `features`: the image's tokens without position, `[rows × cols, channels]`.
    /// - `exclude`: numbers of the good images to leave out, ascending. For leave-one-out, the image itself and all that show
    ///   the same part.
    /// - `neighbors`: number of neighbors per token, 1 to 3. If there are fewer, the last one is repeated.
    ///
    /// With [`Matching::Window`], a token without a bank token in its window is matched without the limit.
    ///
    /// # Errors
    /// - [`Error::ShapeMismatch`] if `features` does not fit the grid or the bank's channels.
    /// - [`Error::InvalidArgument`] for another number of neighbors, or if `exclude` leaves no tokens.
    /// - [`Error::NotFinite`] if a feature is NaN, infinite or too large to measure.
    pub fn residuals(
        &self,
        features: ArrayView2<f32>,
        grid: Grid,
        exclude: &[usize],
        neighbors: usize,
        scratch: &mut Scratch,
        out: &mut Residuals,
    ) -> Result<()> {
        let (count, channels) = (grid.0 * grid.1, self.channels());
        if features.dim() != (count, channels) {
            return Err(Error::ShapeMismatch(format!(
                "features of shape {:?} do not fit a grid of {}×{} tokens of {channels} channels",
                features.dim(),
                grid.0,
                grid.1
            )));
        }
        if !(1..=3).contains(&neighbors) {
            return Err(Error::InvalidArgument(format!(
                "the number of neighbors must be 1 to 3, not {neighbors}"
            )));
        }
        check_finite("the image's features", features)?;

        let early = features.slice(s![.., ..self.parts.retrieval_pca.mean.len()]);
        let eligible =
            |image: usize| !self.ranges[image].is_empty() && exclude.binary_search(&image).is_err();
        self.retrieve(early, grid, eligible, &mut scratch.retrieval, &mut out.images);
        if out.images.is_empty() {
            return Err(Error::InvalidArgument(
                "the images left out leave no tokens to compare with: keep more tokens, or enroll more parts"
                    .into(),
            ));
        }
        scratch.ranges.clear();
        for &image in &out.images {
            let range = self.ranges[image].clone();
            match scratch.ranges.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => scratch.ranges.push(range),
            }
        }
        self.place(grid, &mut scratch.position);
        if scratch.reduced.dim() != (count, self.dims()) {
            scratch.reduced = Array2::zeros((count, self.dims()));
        }
        scratch.reduced.assign(&scratch.position.reduced);
        self.parts.pca.add_projection(features, &mut scratch.reduced);

        out.grid = grid;
        out.neighbors.resize(count * neighbors, Neighbor::NONE);
        let queries = scratch.reduced.view();
        match self.parts.parameters.matching {
            Matching::Soft { .. } => {
                self.index.nearest(
                    queries,
                    &scratch.ranges,
                    |_, _| true,
                    &mut scratch.search,
                    &mut out.neighbors,
                );
            }
            Matching::Window { reach } => {
                let reach = reach * grid.0.max(grid.1) as f32;
                let within = |query: usize, row: usize| {
                    let place = self.parts.places[row];
                    let rows = (query / grid.1).abs_diff(usize::from(place.row)) as f32;
                    let cols = (query % grid.1).abs_diff(usize::from(place.col)) as f32;
                    rows <= reach && cols <= reach
                };
                self.index.nearest(queries, &scratch.ranges, within, &mut scratch.search, &mut out.neighbors);
                let lonely = |best: &&mut [Neighbor]| !best[0].is_some();
                let alone: Vec<usize> =
                    (0..count).filter(|query| !out.neighbors[query * neighbors].is_some()).collect();
                if !alone.is_empty() {
                    let queries = queries.select(Axis(0), &alone);
                    let mut found = vec![Neighbor::NONE; alone.len() * neighbors];
                    let any = |_, _| true;
                    self.index.nearest(queries.view(), &scratch.ranges, any, &mut scratch.search, &mut found);
                    let alone = out.neighbors.chunks_exact_mut(neighbors).filter(lonely);
                    for (best, found) in alone.zip(found.chunks_exact(neighbors)) {
                        best.copy_from_slice(found);
                    }
                }
            }
        }

        self.subtract(features, &scratch.position.embedding, neighbors, out);
        // A distance that overflows finds no neighbor. No residual must not pass for no defect.
        if out.neighbors.iter().step_by(neighbors).any(|n| !n.is_some()) {
            return Err(Error::NotFinite("the image's features are too large to measure".into()));
        }
        check_finite("the image's residuals", &out.norms)
    }

    /// Neighbors minus tokens, and the norms.
    fn subtract(
        &self,
        features: ArrayView2<f32>,
        positions: &Array2<f32>,
        neighbors: usize,
        out: &mut Residuals,
    ) {
        let (count, channels) = features.dim();
        if out.values.dim() != (neighbors, count, channels) {
            out.values = Array3::zeros((neighbors, count, channels));
        }
        out.norms.resize(count, 0.0);
        let features = features.as_standard_layout();
        for (rank, mut values) in out.values.axis_iter_mut(Axis(0)).enumerate() {
            let rows = values.axis_chunks_iter_mut(Axis(0), ROWS).into_par_iter();
            let rows = rows.zip(features.axis_chunks_iter(Axis(0), ROWS));
            let rows = rows.zip(positions.axis_chunks_iter(Axis(0), ROWS));
            let found = out.neighbors.par_chunks(ROWS * neighbors);
            let norms = out.norms.par_chunks_mut(ROWS);
            rows.zip(found).zip(norms).for_each(|((((mut values, features), positions), found), norms)| {
                let rows = values.rows_mut().into_iter().zip(features.rows()).zip(positions.rows());
                for ((((mut value, feature), position), best), norm) in
                    rows.zip(found.chunks_exact(neighbors)).zip(norms)
                {
                    let Some(neighbor) = best[..=rank].iter().rev().find(|n| n.is_some()) else { continue };
                    let good = self.parts.tokens.row(neighbor.index as usize);
                    let squares = subtract(&mut value, good, feature, position);
                    if rank == 0 {
                        *norm = squares.sqrt();
                    }
                }
            });
        }
    }
}

impl Scratch {
    /// The last image's tokens in PCA space, `[tokens, dims]`.
    pub fn queries(&self) -> ArrayView2<'_, f32> {
        self.reduced.view()
    }

    /// The bank's rows that were searched for them, ascending.
    pub fn searched(&self) -> &[Range<usize>] {
        &self.ranges
    }
}

impl Bank {
    /// The images to search, ascending.
    fn retrieve(
        &self,
        early: ArrayView2<f32>,
        grid: Grid,
        eligible: impl Fn(usize) -> bool + Sync,
        scratch: &mut retrieval::Scratch,
        images: &mut Vec<usize>,
    ) {
        let descriptor = retrieval::descriptor(early, grid, &self.parts.retrieval_pca);
        let (descriptors, k) = (self.parts.descriptors.view(), self.parts.parameters.images);
        retrieval::most_similar(descriptor.view(), descriptors, k, eligible, scratch, images);
    }

    /// Computes the embedding, if the last image had another grid.
    fn place(&self, grid: Grid, position: &mut Position) {
        let shape = (grid.0 * grid.1, self.channels());
        if position.grid == grid && position.embedding.dim() == shape {
            return;
        }
        position.embedding = match self.parts.parameters.matching {
            Matching::Soft { weight } => {
                position::embedding(grid, shape.1) * (weight * self.parts.feature_scale)
            }
            Matching::Window { .. } => Array2::zeros(shape),
        };
        position.reduced = self.parts.pca.transform(position.embedding.view());
        position.grid = grid;
    }
}

/// Good token minus token with position. Returns the squared norm.
fn subtract(
    value: &mut ArrayViewMut1<f32>,
    good: ArrayView1<f16>,
    feature: ArrayView1<f32>,
    position: ArrayView1<f32>,
) -> f32 {
    const WIDE: usize = 16;
    let slices = (value.as_slice_mut(), good.as_slice(), feature.as_slice(), position.as_slice());
    let (Some(value), Some(good), Some(feature), Some(position)) = slices else { return f32::NAN };
    good.convert_to_f32_slice(value);
    let mut squares = [0.0; WIDE];
    let (values, rest) = value.as_chunks_mut::<WIDE>();
    let (features, feature_rest) = feature.as_chunks::<WIDE>();
    let (positions, position_rest) = position.as_chunks::<WIDE>();
    for ((value, feature), position) in values.iter_mut().zip(features).zip(positions) {
        for i in 0..WIDE {
            value[i] -= feature[i] + position[i];
            squares[i] += value[i] * value[i];
        }
    }
    for (i, value) in rest.iter_mut().enumerate() {
        *value -= feature_rest[i] + position_rest[i];
        squares[i] += *value * *value;
    }
    squares.iter().sum()
}

/// Half-precision rows through PCA, in chunks.
fn reduce(tokens: &Array2<f16>, pca: &Pca) -> Array2<f32> {
    const CHUNK: usize = 1024;
    let mut reduced = Array2::zeros((tokens.nrows(), pca.dims()));
    reduced
        .axis_chunks_iter_mut(Axis(0), CHUNK)
        .into_par_iter()
        .zip(tokens.axis_chunks_iter(Axis(0), CHUNK))
        .for_each(|(mut target, chunk)| target.assign(&pca.transform(to_f32(chunk).view())));
    reduced
}

/// Widens half-precision rows.
pub(crate) fn to_f32(rows: ArrayView2<f16>) -> Array2<f32> {
    let mut wide = Array2::<f32>::zeros(rows.dim());
    for (mut to, from) in wide.rows_mut().into_iter().zip(rows.rows()) {
        match (to.as_slice_mut(), from.as_slice()) {
            (Some(to), Some(from)) => from.convert_to_f32_slice(to),
            _ => to.zip_mut_with(&from, |t, f| *t = f.to_f32()),
        }
    }
    wide
}

/// The root of the mean of the columns' variances.
pub(crate) fn scale_of(sum: &Array1<f64>, squares: &Array1<f64>, count: f64) -> f32 {
    let variance: f64 =
        sum.iter().zip(squares).map(|(s, q)| (q / count - (s / count) * (s / count)).max(0.0)).sum();
    (variance / sum.len().max(1) as f64).sqrt() as f32
}
