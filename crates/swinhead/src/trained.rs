//! A head as it is trained: it corrects the length of residuals, which stays the anchor of every score.

use ndarray::Array2;

use crate::network::{Layout, Real, Shape};

/// Added to lengths before their logarithm. Typical lengths are about 1.
const LEAST: f32 = 1e-2;
/// Added to a picture's score before its logarithm.
const LEAST_SCORE: f64 = 1e-4;
/// How much less blocks count that are already right.
const GAMMA: i32 = 2;
/// Weights that a head has only while it learns: scale, shift, and the pictures' shift.
const SCALARS: [f32; 3] = [4.0, -3.0, -3.0];

/// The logarithm of the residuals' length of one block: the mean over the scales. `scales` has the channels
/// of each.
pub fn log_lengths(residuals: &[f32], scales: &[usize]) -> f32 {
    let mut rest = residuals;
    let logarithms = scales.iter().map(|&channels| {
        let (own, others) = rest.split_at(channels.min(rest.len()));
        rest = others;
        let square: f32 = own.iter().map(|value| value * value).sum();
        ((square / channels.max(1) as f32).sqrt() + LEAST).ln()
    });
    logarithms.sum::<f32>() / scales.len().max(1) as f32
}

/// A picture, or a part of one, to judge or to learn from. Blocks are in rows from the top.
#[derive(Debug, Clone)]
pub struct Picture<F = f32> {
    /// Rows and columns.
    pub grid: (usize, usize),
    /// `[rows × cols, channels]`, in units of good parts' residuals.
    pub residuals: Array2<F>,
    /// See [`log_lengths`], of the nearest neighbor.
    pub lengths: Vec<F>,
}

/// What a picture should teach, for each of its blocks.
#[derive(Debug, Clone)]
pub struct Targets<F = f32> {
    /// The probability of being defective, and what the block's loss counts; 0: it teaches nothing.
    pub labeled: Vec<(F, F)>,
    /// The guessed probability of being defective, of blocks that have one.
    pub guessed: Vec<Option<F>>,
    /// Whether the picture shows a defect.
    pub defective: bool,
}

/// What one picture counts in the loss of its batch.
#[derive(Debug, Clone, Copy)]
pub struct Share<F = f32> {
    /// Of a labeled block: 1 / labeled and guessed blocks of the batch.
    pub labeled: F,
    /// Of a guessed block.
    pub guessed: F,
    /// Of the picture.
    pub picture: F,
}

/// The parts of a loss.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Losses<F = f32> {
    /// Of labeled blocks.
    pub labeled: F,
    /// Of guessed blocks.
    pub guessed: F,
    /// Of pictures.
    pub picture: F,
}

impl<F: Real> Losses<F> {
    /// Their sum.
    pub fn sum(&self) -> F {
        self.labeled + self.guessed + self.picture
    }
}

/// A head, and how its corrections of lengths become probabilities.
///
/// The logarithm of a block's score is z = log(length) + 2 tanh(d / 2), where d is the difference of the
/// head's two logits. The sigmoid of `scale` z + `shift` is the probability that the block is defective. A
/// picture's score is the highest mean of exp(z) over a window.
///
/// ```
/// use ndarray::Array2;
/// use swinhead::{Anchored, Picture, Shape};
///
/// let head = Anchored::new(Shape { channels: 3, width: 32, depth: 2 }, 2);
/// let weights = head.initial(0);
/// let picture = Picture { grid: (4, 5), residuals: Array2::zeros((20, 3)), lengths: vec![0.0; 20] };
/// assert!(head.judge(&weights, &picture).iter().all(|p| (0.0..=1.0).contains(p)));
/// ```
#[derive(Debug, Clone)]
pub struct Anchored {
    /// Where the head's weights stand; three more follow.
    pub layout: Layout,
    /// Side of the window whose mean decides on a picture, in blocks.
    pub window: usize,
}

impl Anchored {
    /// A head.
    pub fn new(shape: Shape, window: usize) -> Self {
        Anchored { layout: Layout::new(shape), window: window.max(1) }
    }

    /// Weights to begin with.
    pub fn initial(&self, seed: u64) -> Vec<f32> {
        let mut weights = self.layout.initial(seed);
        weights.extend(SCALARS);
        weights
    }

    /// The probability that each block is defective.
    pub fn judge<F: Real>(&self, weights: &[F], picture: &Picture<F>) -> Vec<F> {
        let (scale, shift) = (weights[self.layout.len()], weights[self.layout.len() + 1]);
        let (logits, _) = self.layout.forward(weights, picture.residuals.view(), picture.grid);
        let scores = logits.rows().into_iter().zip(&picture.lengths);
        scores.map(|(pair, &length)| sigmoid(scale * (length + bent(pair[1] - pair[0])) + shift)).collect()
    }

    /// The loss of one picture. Adds its gradients to `gradients`.
    pub fn learn<F: Real>(
        &self,
        weights: &[F],
        picture: &Picture<F>,
        targets: &Targets<F>,
        share: Share<F>,
        gradients: &mut [F],
    ) -> Losses<F> {
        let at = self.layout.len();
        let [scale, shift, picture_shift] = [0, 1, 2].map(|i| weights[at + i]);
        let (logits, trace) = self.layout.forward(weights, picture.residuals.view(), picture.grid);
        let scores = logits.rows().into_iter().zip(&picture.lengths);
        let scores: Vec<F> = scores.map(|(pair, &length)| length + bent(pair[1] - pair[0])).collect();

        let mut losses = Losses { labeled: F::zero(), guessed: F::zero(), picture: F::zero() };
        let mut of_scores = vec![F::zero(); scores.len()];
        let (mut of_scale, mut of_shift) = (F::zero(), F::zero());
        for (block, (&score, gradient)) in scores.iter().zip(&mut of_scores).enumerate() {
            let logit = scale * score + shift;
            let (target, weight) = targets.labeled[block];
            let mut slope = F::zero();
            if weight > F::zero() {
                let (loss, own) = focal(logit, target);
                losses.labeled += loss * weight * share.labeled;
                slope += own * weight * share.labeled;
            }
            if let Some(guess) = targets.guessed[block] {
                let probability = sigmoid(logit);
                let off = probability - guess;
                losses.guessed += off * off * share.guessed;
                let steep = probability * (F::one() - probability);
                slope += F::of(2.0) * off * steep * share.guessed;
            }
            *gradient = slope * scale;
            of_scale += slope * score;
            of_shift += slope;
        }

        let (highest, (top, left), (high, wide)) = self.highest(&scores, picture.grid);
        let raised = highest + F::of(LEAST_SCORE);
        let logit = scale * raised.ln() + picture_shift;
        let truth = if targets.defective { F::one() } else { F::zero() };
        losses.picture = (softplus(logit) - truth * logit) * share.picture;
        let slope = (sigmoid(logit) - truth) * share.picture;
        let area = F::of((high * wide) as f64);
        for row in top..top + high {
            for col in left..left + wide {
                let block = row * picture.grid.1 + col;
                of_scores[block] += slope * scale / raised * scores[block].exp() / area;
            }
        }

        gradients[at] += of_scale + slope * raised.ln();
        gradients[at + 1] += of_shift;
        gradients[at + 2] += slope;
        let mut of_logits = Array2::zeros(logits.dim());
        for (mut gradient, (pair, &slope)) in
            of_logits.rows_mut().into_iter().zip(logits.rows().into_iter().zip(&of_scores))
        {
            let tanh = ((pair[1] - pair[0]) * F::of(0.5)).tanh();
            let own = slope * (F::one() - tanh * tanh);
            (gradient[0], gradient[1]) = (-own, own);
        }
        self.layout.backward(weights, &trace, &of_logits, gradients);
        losses
    }

    /// The highest mean of exp(score) over a window: its value, its upper left block and its size.
    fn highest<F: Real>(
        &self,
        scores: &[F],
        (rows, cols): (usize, usize),
    ) -> (F, (usize, usize), (usize, usize)) {
        let (high, wide) = (self.window.min(rows), self.window.min(cols));
        let area = F::of((high * wide) as f64);
        let mut best = (F::neg_infinity(), (0, 0), (high, wide));
        for top in 0..=rows - high {
            for left in 0..=cols - wide {
                let mut sum = F::zero();
                for row in top..top + high {
                    for col in left..left + wide {
                        sum += scores[row * cols + col].exp();
                    }
                }
                if sum / area > best.0 {
                    best = (sum / area, (top, left), (high, wide));
                }
            }
        }
        best
    }
}

/// 2 tanh(d / 2)
fn bent<F: Real>(difference: F) -> F {
    F::of(2.0) * (difference * F::of(0.5)).tanh()
}

pub(crate) fn sigmoid<F: Real>(value: F) -> F {
    F::one() / (F::one() + (-value).exp())
}

/// log(1 + exp(value))
fn softplus<F: Real>(value: F) -> F {
    value.max(F::zero()) + (-value.abs()).exp().ln_1p()
}

/// The focal loss of a logit for a soft target, both classes weighted alike, and its slope.
fn focal<F: Real>(logit: F, target: F) -> (F, F) {
    let half = F::of(0.5);
    let (defective, good) = (sigmoid(logit), sigmoid(-logit));
    // Minus the logarithms of both probabilities.
    let (of_defective, of_good) = (softplus(-logit), softplus(logit));
    let gamma = F::of(f64::from(GAMMA));
    let loss = half
        * (target * good.powi(GAMMA) * of_defective + (F::one() - target) * defective.powi(GAMMA) * of_good);
    let slope = half
        * (-target * good.powi(GAMMA) * (gamma * defective * of_defective + good)
            + (F::one() - target) * defective.powi(GAMMA) * (gamma * good * of_good + defective));
    (loss, slope)
}
