//! The network: from the residuals of a grid of blocks to two logits per block, and back to gradients.
//!
//! All weights stand in one slice. A [`Layout`] says where. Matrices are `[in, out]`.

use std::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, NdFloat, Zip};
use posfar::random::SplitMix64;

/// Side of an attention window, in blocks. The windows of every second layer are shifted by half of it.
pub const WINDOW: usize = 8;
/// Features of an attention head: a width is a multiple of this.
pub const HEAD_WIDTH: usize = 32;
/// Residuals are clamped to this.
const LIMIT: f64 = 64.0;
/// Added to the variance of a normalized block.
const EPSILON: f64 = 1e-5;
/// Offsets of two blocks in a window, along one side.
const OFFSETS: usize = 2 * WINDOW - 1;

/// A floating-point number. Heads are trained in `f32`; `f64` is for checks of gradients.
pub trait Real: NdFloat + Default {
    /// The nearest number.
    fn of(value: f64) -> Self;
    /// The error function.
    fn erf(self) -> Self;
}

impl Real for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }

    fn erf(self) -> Self {
        libm::erff(self)
    }
}

impl Real for f64 {
    fn of(value: f64) -> Self {
        value
    }

    fn erf(self) -> Self {
        libm::erf(self)
    }
}

/// Size of a head. It reads r and log(1 + r²) of each residual r.
///
/// ```
/// use swinhead::{Layout, Shape};
///
/// let layout = Layout::new(Shape { channels: 176, width: 64, depth: 2 });
/// assert_eq!(layout.len(), layout.parts().map(|(_, part)| part.range().len()).sum());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Values per block of the residuals.
    pub channels: usize,
    /// Features per block, a multiple of [`HEAD_WIDTH`].
    pub width: usize,
    /// Layers.
    pub depth: usize,
}

/// Where a tensor of two dimensions stands among all weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    at: usize,
    /// Its size.
    pub size: (usize, usize),
    /// Whether weight decay pulls it to zero: only matrices.
    pub decays: bool,
}

impl Part {
    /// Its place in the slice.
    pub fn range(&self) -> Range<usize> {
        self.at..self.at + self.size.0 * self.size.1
    }

    fn of<'a, F: Real>(&self, weights: &'a [F]) -> ArrayView2<'a, F> {
        let (rows, cols) = self.size;
        ArrayView2::from_shape((rows, cols), &weights[self.range()]).expect("a part has its size")
    }

    fn of_mut<'a, F: Real>(&self, weights: &'a mut [F]) -> ArrayViewMut2<'a, F> {
        let (rows, cols) = self.size;
        ArrayViewMut2::from_shape((rows, cols), &mut weights[self.range()]).expect("a part has its size")
    }
}

/// Weight and bias of a linear layer or a normalization.
#[derive(Debug, Clone, Copy)]
struct Affine {
    weight: Part,
    bias: Part,
}

#[derive(Debug, Clone)]
struct Layer {
    before_attention: Affine,
    positions: Part,
    project: Affine,
    merge: Affine,
    before_mix: Affine,
    widen: Affine,
    narrow: Affine,
    shift: usize,
}

/// The places of all weights of a head, by the names that PyTorch gives them.
#[derive(Debug, Clone)]
pub struct Layout {
    shape: Shape,
    parts: Vec<(String, Part)>,
    embed: Affine,
    layers: Vec<Layer>,
    norm: Affine,
    classify: Affine,
}

impl Layout {
    /// The layout of a head's weights.
    pub fn new(shape: Shape) -> Self {
        let mut parts: Vec<(String, Part)> = Vec::new();
        let mut at = 0;
        let mut add = |name: String, size: (usize, usize), decays: bool| {
            let part = Part { at, size, decays };
            at += size.0 * size.1;
            parts.push((name, part));
            part
        };
        let mut linear = |name: &str, from: usize, to: usize| Affine {
            weight: add(format!("{name}.weight"), (from, to), from > 1),
            bias: add(format!("{name}.bias"), (1, to), false),
        };
        let width = shape.width;
        let embed = linear("embed", 2 * shape.channels, width);
        let layers = (0..shape.depth).map(|number| {
            let of = |what: &str| format!("layers.{number}.{what}");
            let before_attention = linear(&of("before_attention"), 1, width);
            let project = linear(&of("attention.project"), width, 3 * width);
            let merge = linear(&of("attention.merge"), width, width);
            let before_mix = linear(&of("before_mix"), 1, width);
            let widen = linear(&of("mix.0"), width, 2 * width);
            let narrow = linear(&of("mix.2"), 2 * width, width);
            let shift = if number % 2 == 1 { WINDOW / 2 } else { 0 };
            // Its place follows below: `linear` holds `add`.
            let positions = Part { at: 0, size: (OFFSETS * OFFSETS, width / HEAD_WIDTH), decays: false };
            Layer { before_attention, positions, project, merge, before_mix, widen, narrow, shift }
        });
        let mut layers: Vec<Layer> = layers.collect();
        let norm = linear("norm", 1, width);
        let classify = linear("classify", width, 2);
        for (number, layer) in layers.iter_mut().enumerate() {
            layer.positions = add(format!("layers.{number}.attention.bias"), layer.positions.size, false);
        }
        Layout { shape, parts, embed, layers, norm, classify }
    }

    /// The size of the head.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Number of weights.
    pub fn len(&self) -> usize {
        self.parts.last().map_or(0, |(_, part)| part.range().end)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names and places of all weights.
    pub fn parts(&self) -> impl Iterator<Item = (&str, Part)> {
        self.parts.iter().map(|(name, part)| (name.as_str(), *part))
    }

    /// Weights to begin with: small random ones.
    pub fn initial(&self, seed: u64) -> Vec<f32> {
        let mut random = SplitMix64::new(seed);
        let mut weights = vec![0.0; self.len()];
        for (name, part) in self.parts() {
            let own = &mut weights[part.range()];
            if part.decays || name.ends_with("attention.bias") {
                own.fill_with(|| 0.02 * random.normal().clamp(-2.0, 2.0));
            } else if name.ends_with("weight") {
                own.fill(1.0);
            }
        }
        weights
    }

    /// The position biases of a layer as attention adds them: `[heads, WINDOW², WINDOW²]`, one head after
    /// another.
    pub fn position_biases(&self, weights: &[f32], layer: usize) -> Vec<f32> {
        let Some(table) = self.layers.get(layer).map(|layer| layer.positions.of(weights)) else {
            return Vec::new();
        };
        let area = 0..WINDOW * WINDOW;
        let of_head = |head: usize| {
            let cells = area.clone().flat_map(|from| area.clone().map(move |to| (from, to)));
            cells.map(move |(from, to)| table[(offset(from, to), head)])
        };
        (0..table.ncols()).flat_map(of_head).collect()
    }

    /// Logits `[rows × cols, 2]` of residuals `[rows × cols, channels]`, and what [`Layout::backward`] needs.
    pub(crate) fn forward<F: Real>(
        &self,
        weights: &[F],
        residuals: ArrayView2<F>,
        grid: (usize, usize),
    ) -> (Array2<F>, Trace<F>) {
        let read = read(residuals);
        let mut tokens = linear(&self.embed, weights, &read);
        let mut layers = Vec::new();
        for layer in &self.layers {
            let windows = windows(grid, layer.shift);
            let (normed, before_attention) = normalized(&layer.before_attention, weights, &tokens);
            let projected = linear(&layer.project, weights, &normed);
            let (seen, attention) = attend(layer.positions.of(weights), &projected, &windows);
            tokens += &linear(&layer.merge, weights, &seen);
            let (mixed, before_mix) = normalized(&layer.before_mix, weights, &tokens);
            let wide = linear(&layer.widen, weights, &mixed);
            let active = wide.mapv(gelu);
            tokens += &linear(&layer.narrow, weights, &active);
            layers.push(LayerTrace {
                windows,
                normed,
                before_attention,
                projected,
                attention,
                seen,
                mixed,
                before_mix,
                wide,
                active,
            });
        }
        let (normed, norm) = normalized(&self.norm, weights, &tokens);
        let logits = linear(&self.classify, weights, &normed);
        (logits, Trace { read, layers, normed, norm })
    }

    /// Adds the gradients of all weights, for the gradients of the logits.
    pub(crate) fn backward<F: Real>(
        &self,
        weights: &[F],
        trace: &Trace<F>,
        logits: &Array2<F>,
        gradients: &mut [F],
    ) {
        let normed = linear_back(&self.classify, weights, &trace.normed, logits, gradients);
        let mut tokens = normalized_back(&self.norm, weights, &trace.norm, &normed, gradients);
        for (layer, trace) in self.layers.iter().zip(&trace.layers).rev() {
            let mut wide = linear_back(&layer.narrow, weights, &trace.active, &tokens, gradients);
            wide.zip_mut_with(&trace.wide, |gradient, &value| *gradient *= gelu_slope(value));
            let mixed = linear_back(&layer.widen, weights, &trace.mixed, &wide, gradients);
            tokens += &normalized_back(&layer.before_mix, weights, &trace.before_mix, &mixed, gradients);
            let seen = linear_back(&layer.merge, weights, &trace.seen, &tokens, gradients);
            let positions = layer.positions.of_mut(gradients);
            let projected = attend_back(&trace.projected, &trace.attention, &trace.windows, &seen, positions);
            let normed = linear_back(&layer.project, weights, &trace.normed, &projected, gradients);
            tokens += &normalized_back(
                &layer.before_attention,
                weights,
                &trace.before_attention,
                &normed,
                gradients,
            );
        }
        add_linear(&self.embed, &trace.read, &tokens, gradients);
    }
}

/// What the backward pass needs of the forward pass.
pub(crate) struct Trace<F> {
    read: Array2<F>,
    layers: Vec<LayerTrace<F>>,
    normed: Array2<F>,
    norm: Normalized<F>,
}

struct LayerTrace<F> {
    windows: Vec<Window>,
    normed: Array2<F>,
    before_attention: Normalized<F>,
    projected: Array2<F>,
    /// The weights of each window and head.
    attention: Vec<Array2<F>>,
    seen: Array2<F>,
    mixed: Array2<F>,
    before_mix: Normalized<F>,
    wide: Array2<F>,
    active: Array2<F>,
}

/// Tokens with mean 0 and deviation 1, and the inverse of the deviation that they had.
struct Normalized<F> {
    tokens: Array2<F>,
    inverse: Vec<F>,
}

/// The blocks of a window that are in the grid: number of the block, and its cell in the window.
type Window = Vec<(usize, usize)>;

fn windows((rows, cols): (usize, usize), shift: usize) -> Vec<Window> {
    let (down, across) = ((rows + shift).div_ceil(WINDOW), (cols + shift).div_ceil(WINDOW));
    let mut windows = vec![Window::new(); down * across];
    for row in 0..rows {
        for col in 0..cols {
            let (y, x) = (row + shift, col + shift);
            let cell = y % WINDOW * WINDOW + x % WINDOW;
            windows[y / WINDOW * across + x / WINDOW].push((row * cols + col, cell));
        }
    }
    windows.retain(|window| !window.is_empty());
    windows
}

/// The row of the table of position biases for two cells of a window.
fn offset(from: usize, to: usize) -> usize {
    let along = |from: usize, to: usize| from + WINDOW - 1 - to;
    along(from / WINDOW, to / WINDOW) * OFFSETS + along(from % WINDOW, to % WINDOW)
}

/// r and log(1 + r²) of each residual.
fn read<F: Real>(residuals: ArrayView2<F>) -> Array2<F> {
    let (tokens, channels) = residuals.dim();
    let limit = F::of(LIMIT);
    let mut read = Vec::with_capacity(2 * tokens * channels);
    for token in residuals.rows() {
        let first = read.len();
        read.extend(token.iter().map(|residual| residual.max(-limit).min(limit)));
        for at in first..first + channels {
            read.push((F::one() + read[at] * read[at]).ln());
        }
    }
    Array2::from_shape_vec((tokens, 2 * channels), read).unwrap_or_default()
}

fn linear<F: Real>(layer: &Affine, weights: &[F], input: &Array2<F>) -> Array2<F> {
    let bias = &weights[layer.bias.range()];
    let repeated = bias.iter().copied().cycle().take(input.nrows() * bias.len()).collect();
    let mut output = Array2::from_shape_vec((input.nrows(), bias.len()), repeated).unwrap_or_default();
    general_mat_mul(F::one(), input, &layer.weight.of(weights), F::one(), &mut output);
    output
}

/// Adds the gradients of the weights. Returns the gradient of the input.
fn linear_back<F: Real>(
    layer: &Affine,
    weights: &[F],
    input: &Array2<F>,
    output: &Array2<F>,
    gradients: &mut [F],
) -> Array2<F> {
    add_linear(layer, input, output, gradients);
    output.dot(&layer.weight.of(weights).t())
}

fn add_linear<F: Real>(layer: &Affine, input: &Array2<F>, output: &Array2<F>, gradients: &mut [F]) {
    let mut weight = layer.weight.of_mut(gradients);
    general_mat_mul(F::one(), &input.t(), output, F::one(), &mut weight);
    let mut bias = layer.bias.of_mut(gradients);
    bias += &output.sum_axis(Axis(0));
}

fn normalized<F: Real>(layer: &Affine, weights: &[F], input: &Array2<F>) -> (Array2<F>, Normalized<F>) {
    let width = F::of(input.ncols() as f64);
    let mut tokens = input.as_standard_layout().into_owned();
    let mut inverse = Vec::with_capacity(input.nrows());
    let mut output = Vec::with_capacity(input.len());
    let affine = || weights[layer.weight.range()].iter().zip(&weights[layer.bias.range()]);
    for token in tokens.as_slice_mut().unwrap_or_default().chunks_exact_mut(input.ncols().max(1)) {
        let mean = sum(token.iter().copied()) / width;
        token.iter_mut().for_each(|value| *value -= mean);
        let variance = sum(token.iter().map(|&value| value * value)) / width;
        let own = F::one() / (variance + F::of(EPSILON)).sqrt();
        token.iter_mut().for_each(|value| *value *= own);
        output.extend(token.iter().zip(affine()).map(|(&value, (&weight, &bias))| value * weight + bias));
        inverse.push(own);
    }
    let output = Array2::from_shape_vec(input.dim(), output).unwrap_or_default();
    (output, Normalized { tokens, inverse })
}

fn sum<F: Real>(values: impl Iterator<Item = F>) -> F {
    values.fold(F::zero(), |sum, value| sum + value)
}

fn normalized_back<F: Real>(
    layer: &Affine,
    weights: &[F],
    trace: &Normalized<F>,
    output: &Array2<F>,
    gradients: &mut [F],
) -> Array2<F> {
    let wide = output.ncols().max(1);
    let width = F::of(wide as f64);
    let mut input = output.as_standard_layout().into_owned();
    let tokens = trace.tokens.as_slice().unwrap_or_default().chunks_exact(wide);
    let rows = input.as_slice_mut().unwrap_or_default().chunks_exact_mut(wide);
    for ((row, token), &inverse) in rows.zip(tokens).zip(&trace.inverse) {
        for (at, (gradient, &value)) in row.iter_mut().zip(token).enumerate() {
            gradients[layer.weight.at + at] += *gradient * value;
            gradients[layer.bias.at + at] += *gradient;
            *gradient *= weights[layer.weight.at + at];
        }
        let mean = sum(row.iter().copied()) / width;
        let along = sum(row.iter().zip(token).map(|(&gradient, &value)| gradient * value)) / width;
        for (gradient, &value) in row.iter_mut().zip(token) {
            *gradient = (*gradient - mean - value * along) * inverse;
        }
    }
    input
}

fn gelu<F: Real>(value: F) -> F {
    let half = F::of(0.5);
    half * value * (F::one() + (value * F::of(std::f64::consts::FRAC_1_SQRT_2)).erf())
}

fn gelu_slope<F: Real>(value: F) -> F {
    let half = F::of(0.5);
    let below = half * (F::one() + (value * F::of(std::f64::consts::FRAC_1_SQRT_2)).erf());
    below + value * F::of(0.398_942_280_401_432_7) * (-half * value * value).exp()
}

/// Query, key or value (`part` 0 to 2) of a window's blocks for one head.
fn gathered<F: Real>(projected: &Array2<F>, window: &Window, part: usize, head: usize) -> Array2<F> {
    columns(projected, window, part * projected.ncols() / 3 + head * HEAD_WIDTH)
}

/// Columns of a window's blocks from `first` on, as many as a head has features.
fn columns<F: Real>(tokens: &Array2<F>, window: &Window, first: usize) -> Array2<F> {
    let (all, wide) = (tokens.as_slice().unwrap_or_default(), tokens.ncols());
    let mut gathered = Vec::with_capacity(window.len() * HEAD_WIDTH);
    for &(block, _) in window {
        gathered.extend_from_slice(&all[block * wide + first..][..HEAD_WIDTH]);
    }
    Array2::from_shape_vec((window.len(), HEAD_WIDTH), gathered).unwrap_or_default()
}

/// Puts [`columns`] back.
fn put<F: Real>(from: &Array2<F>, window: &Window, first: usize, tokens: &mut Array2<F>) {
    let wide = tokens.ncols();
    let (Some(all), Some(from)) = (tokens.as_slice_mut(), from.as_slice()) else { return };
    for (row, &(block, _)) in from.chunks_exact(HEAD_WIDTH).zip(window) {
        all[block * wide + first..][..HEAD_WIDTH].copy_from_slice(row);
    }
}

fn attention_scale<F: Real>() -> F {
    F::of((HEAD_WIDTH as f64).powf(-0.5))
}

/// What each block sees of its window, and the weights of each window and head.
fn attend<F: Real>(
    positions: ArrayView2<F>,
    projected: &Array2<F>,
    windows: &[Window],
) -> (Array2<F>, Vec<Array2<F>>) {
    let width = projected.ncols() / 3;
    let mut seen = Array2::zeros((projected.nrows(), width));
    let mut attention = Vec::new();
    for window in windows {
        for head in 0..width / HEAD_WIDTH {
            let [query, key, value] = [0, 1, 2].map(|part| gathered(projected, window, part, head));
            let mut weights = query.dot(&key.t());
            for (mut row, &(_, from)) in weights.rows_mut().into_iter().zip(window) {
                let mut highest = F::neg_infinity();
                for (weight, &(_, to)) in row.iter_mut().zip(window) {
                    *weight = *weight * attention_scale() + positions[(offset(from, to), head)];
                    highest = highest.max(*weight);
                }
                row.mapv_inplace(|weight| (weight - highest).exp());
                let sum = row.sum();
                row /= sum;
            }
            let found = weights.dot(&value).as_standard_layout().into_owned();
            put(&found, window, head * HEAD_WIDTH, &mut seen);
            attention.push(weights);
        }
    }
    (seen, attention)
}

/// Adds the gradients of the position biases. Returns those of the projected tokens.
fn attend_back<F: Real>(
    projected: &Array2<F>,
    attention: &[Array2<F>],
    windows: &[Window],
    seen: &Array2<F>,
    mut positions: ArrayViewMut2<F>,
) -> Array2<F> {
    let width = projected.ncols() / 3;
    let mut gradient = Array2::zeros(projected.dim());
    let heads = windows.iter().flat_map(|window| (0..width / HEAD_WIDTH).map(move |head| (window, head)));
    for ((window, head), weights) in heads.zip(attention) {
        let [query, key, value] = [0, 1, 2].map(|part| gathered(projected, window, part, head));
        let found = columns(seen, window, head * HEAD_WIDTH);
        let of_value = weights.t().dot(&found);
        let mut scores = found.dot(&value.t());
        for ((mut row, own), &(_, from)) in scores.rows_mut().into_iter().zip(weights.rows()).zip(window) {
            let mean = row.dot(&own);
            Zip::from(&mut row).and(&own).for_each(|score, &weight| *score = (*score - mean) * weight);
            for (&score, &(_, to)) in row.iter().zip(window) {
                positions[(offset(from, to), head)] += score;
            }
        }
        scores *= attention_scale::<F>();
        let (of_query, of_key) = (scores.dot(&key), scores.t().dot(&query));
        for (part, own) in [of_query, of_key, of_value].into_iter().enumerate() {
            // A product with a transposed factor may have its columns in a row.
            let own = own.as_standard_layout().into_owned();
            put(&own, window, part * width + head * HEAD_WIDTH, &mut gradient);
        }
    }
    gradient
}
