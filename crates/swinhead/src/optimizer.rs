//! AdamW, and the moving average of the weights.

use rayon::prelude::*;

use crate::trained::{Anchored, Losses, Picture, Share, Targets};

/// How a head is trained. The defaults are those of `weakrest-export train`.
///
/// ```
/// use swinhead::Schedule;
///
/// let schedule = Schedule::default();
/// assert!(schedule.rate_at(0) < schedule.rate && schedule.rate_at(149) < schedule.rate_at(75));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Steps in all.
    pub steps: usize,
    /// Largest learning rate.
    pub rate: f32,
    /// Weight decay of matrices.
    pub decay: f32,
    /// Largest norm of the gradient.
    pub clip: f32,
    /// Share of the steps in which the rate rises. It then falls like a cosine.
    pub warmup: f32,
    /// Decay of the moving average.
    pub average: f32,
    /// Share of the steps in which the weight of guesses rises from zero.
    pub ramp: f32,
    /// Weight of the loss of pictures, relative to the loss of blocks.
    pub picture: f32,
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule {
            steps: 150,
            rate: 2e-3,
            decay: 0.05,
            clip: 1.0,
            warmup: 0.05,
            average: 0.99,
            ramp: 0.4,
            picture: 0.125,
        }
    }
}

impl Schedule {
    /// The learning rate of a step; steps count from 0.
    pub fn rate_at(&self, step: usize) -> f32 {
        let warmup = (self.warmup * self.steps as f32).round().max(1.0);
        if (step as f32) < warmup {
            return self.rate * (step + 1) as f32 / warmup;
        }
        let done = (step as f32 - warmup) / (self.steps as f32 - warmup).max(1.0);
        self.rate * 0.5 * (1.0 + (std::f32::consts::PI * done).cos())
    }
}

/// A head in training.
///
/// ```
/// use ndarray::Array2;
/// use swinhead::{Anchored, Picture, Schedule, Shape, Targets, Trainer};
///
/// let head = Anchored::new(Shape { channels: 3, width: 32, depth: 1 }, 2);
/// let mut trainer = Trainer::new(head, Schedule::default(), 0);
/// let picture = Picture { grid: (2, 3), residuals: Array2::ones((6, 3)), lengths: vec![0.0; 6] };
/// let targets = Targets { labeled: vec![(1.0, 1.0); 6], guessed: vec![None; 6], defective: true };
/// let batch = [(picture, targets)];
/// let (first, second) = (trainer.step(&batch), trainer.step(&batch));
/// assert!(second.sum() < first.sum());
/// ```
#[derive(Debug, Clone)]
pub struct Trainer {
    /// The head.
    pub head: Anchored,
    schedule: Schedule,
    weights: Vec<f32>,
    average: Vec<f32>,
    decays: Vec<bool>,
    moments: Vec<[f32; 2]>,
    step: usize,
}

impl Trainer {
    /// A head before its first step. The seed is of its weights.
    pub fn new(head: Anchored, schedule: Schedule, seed: u64) -> Self {
        let weights = head.initial(seed);
        Self::from_weights(head, schedule, weights)
    }

    /// As [`Trainer::new`], from given weights: those of the layout, and three more.
    pub fn from_weights(head: Anchored, schedule: Schedule, weights: Vec<f32>) -> Self {
        let mut decays = vec![false; weights.len()];
        for (_, part) in head.layout.parts() {
            decays[part.range()].fill(part.decays);
        }
        let average = weights.clone();
        Trainer { head, schedule, moments: vec![[0.0; 2]; weights.len()], weights, average, decays, step: 0 }
    }

    /// Steps done.
    pub fn done(&self) -> usize {
        self.step
    }

    /// The average of the weights, which is the result.
    pub fn average(&self) -> &[f32] {
        &self.average
    }

    /// One step along the gradient of a batch's loss. The result does not depend on the number of threads.
    pub fn step(&mut self, batch: &[(Picture, Targets)]) -> Losses {
        let count = |targets: &Targets| {
            let labeled = targets.labeled.iter().filter(|(_, weight)| *weight > 0.0).count();
            labeled + targets.guessed.iter().flatten().count()
        };
        let count: usize = batch.iter().map(|(_, targets)| count(targets)).sum();
        let one = 1.0 / count.max(1) as f32;
        let ramp = self.step as f32 / (self.schedule.ramp * self.schedule.steps as f32).max(1.0);
        let picture = self.schedule.picture / batch.len().max(1) as f32;
        let share = Share { labeled: one, guessed: one * ramp.min(1.0), picture };
        let learn = |(picture, targets): &(Picture, Targets)| {
            let mut gradients = vec![0.0; self.weights.len()];
            let losses = self.head.learn(&self.weights, picture, targets, share, &mut gradients);
            (losses, gradients)
        };
        // Sums in a fixed order.
        let learned: Vec<(Losses, Vec<f32>)> = batch.par_iter().map(learn).collect();
        let mut losses = Losses::default();
        let mut gradients = vec![0.0; self.weights.len()];
        for (own, gradient) in &learned {
            losses.labeled += own.labeled;
            losses.guessed += own.guessed;
            losses.picture += own.picture;
            gradients.iter_mut().zip(gradient).for_each(|(sum, own)| *sum += own);
        }
        self.move_along(&gradients);
        losses
    }

    fn move_along(&mut self, gradients: &[f32]) {
        const KEPT: [f64; 2] = [0.9, 0.999];
        let Schedule { decay, clip, average, .. } = self.schedule;
        let rate = self.schedule.rate_at(self.step);
        let norm = gradients.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
        let scale = (f64::from(clip) / (norm + 1e-6)).min(1.0) as f32;
        let [first, second] = KEPT.map(|kept| (1.0 - kept.powi(self.step as i32 + 1)) as f32);
        let kept = KEPT.map(|kept| kept as f32);
        // Early weights are bad: the average forgets them sooner.
        let kept_average = average.min((1.0 + self.step as f32) / (10.0 + self.step as f32));
        let all = self.weights.iter_mut().zip(&mut self.average).zip(&mut self.moments);
        for (((weight, mean), moments), (&gradient, &decays)) in all.zip(gradients.iter().zip(&self.decays)) {
            let gradient = gradient * scale;
            if decays {
                *weight -= rate * decay * *weight;
            }
            moments[0] += (1.0 - kept[0]) * (gradient - moments[0]);
            moments[1] = kept[1] * moments[1] + (1.0 - kept[1]) * gradient * gradient;
            *weight -= rate * (moments[0] / first) / ((moments[1] / second).sqrt() + 1e-8);
            *mean += (1.0 - kept_average) * (*weight - *mean);
        }
        self.step += 1;
    }
}
