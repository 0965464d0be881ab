//! Gradients against differences, and the whole against PyTorch.

use ndarray::Array2;
use posfar::random::SplitMix64;
use serde_json::Value;

use crate::*;

/// A picture of noise, and targets of all kinds.
fn example(grid: (usize, usize), channels: usize, seed: u64) -> (Picture<f64>, Targets<f64>) {
    let blocks = grid.0 * grid.1;
    let mut random = SplitMix64::new(seed);
    let residuals = Array2::from_shape_simple_fn((blocks, channels), || 1.5 * f64::from(random.normal()));
    let lengths = (0..blocks).map(|_| 0.3 * f64::from(random.normal())).collect();
    let labeled =
        (0..blocks).map(|at| (f64::from(u8::from(at.is_multiple_of(3))), [1.0, 2.5, 0.0][at % 4 % 3]));
    let guessed = (0..blocks).map(|at| (at % 4 == 2).then_some(0.8));
    let targets =
        Targets { labeled: labeled.collect(), guessed: guessed.collect(), defective: seed.is_multiple_of(2) };
    (Picture { grid, residuals, lengths }, targets)
}

/// Each tensor's gradient, along a random direction.
#[test]
fn gradients_are_slopes() {
    for (seed, grid) in [(0, (1, 1)), (1, (3, 9)), (2, (10, 13)), (3, (8, 8)), (4, (2, 5))] {
        let head = Anchored::new(Shape { channels: 5, width: 64, depth: 3 }, 2);
        let mut random = SplitMix64::new(seed);
        // Larger than in training, so that no part of the network is nearly linear.
        let weights: Vec<f64> =
            head.initial(seed).iter().map(|w| f64::from(w + 0.15 * random.normal())).collect();
        let (picture, targets) = example(grid, 5, seed);
        let share = Share { labeled: 0.7, guessed: 0.4, picture: 0.5 };
        let loss = |weights: &[f64]| {
            head.learn(weights, &picture, &targets, share, &mut vec![0.0; weights.len()]).sum()
        };
        let mut gradients = vec![0.0; weights.len()];
        head.learn(&weights, &picture, &targets, share, &mut gradients);

        let scalars = ["scale", "shift", "shift of pictures"].iter().enumerate();
        let end = head.layout.len();
        let parts = head.layout.parts().map(|(name, part)| (name, part.range()));
        for (name, range) in parts.chain(scalars.map(|(i, name)| (*name, end + i..end + i + 1))) {
            let direction: Vec<f64> = range.clone().map(|_| f64::from(random.normal())).collect();
            let moved = |by: f64| {
                let mut moved = weights.clone();
                moved[range.clone()].iter_mut().zip(&direction).for_each(|(w, d)| *w += by * d);
                loss(&moved)
            };
            const BY: f64 = 1e-5;
            let slope = (moved(BY) - moved(-BY)) / (2.0 * BY);
            let expected: f64 = gradients[range].iter().zip(&direction).map(|(g, d)| g * d).sum();
            let near = (slope - expected).abs() <= 1e-9 + 1e-5 * slope.abs().max(expected.abs());
            assert!(near, "{grid:?} {name}: {expected} instead of {slope}");
        }
    }
}

const REFERENCE: &str = include_str!("../tests/reference.json");
const SCALES: [usize; 2] = [2, 4];
const GRID: (usize, usize) = (9, 11);

fn sines(count: usize, first: f64, step: f64, factor: f64) -> impl Iterator<Item = f32> {
    (0..count).map(move |i| (factor * (step * i as f64 + first).sin()) as f32)
}

/// The weights of the reference.
fn weights(head: &Anchored) -> Vec<f32> {
    let mut weights = head.initial(0);
    let mut parts: Vec<_> = head.layout.parts().collect();
    parts.sort_unstable_by_key(|(name, _)| *name);
    for (rank, (name, part)) in parts.into_iter().enumerate() {
        let raised = if name.ends_with("weight") && part.size.0 == 1 { 1.0 } else { 0.0 };
        let values = sines(part.range().len(), 1.3 * rank as f64, 0.7, 0.1);
        weights[part.range()].iter_mut().zip(values).for_each(|(weight, value)| *weight = value + raised);
    }
    weights
}

/// `export/tests/test_small_trainer.py` has the same.
fn batch() -> Vec<(Picture, Targets)> {
    let (blocks, channels) = (GRID.0 * GRID.1, SCALES.iter().sum::<usize>());
    let values: Vec<f32> = sines(2 * blocks * channels, 0.0, 0.37, 2.0).collect();
    let picture = |number: usize| {
        let own = values[number * blocks * channels..][..blocks * channels].to_vec();
        let lengths = own.chunks_exact(channels).map(|block| log_lengths(block, &SCALES)).collect();
        let residuals = Array2::from_shape_vec((blocks, channels), own).unwrap();
        let guess = |at: usize| (number == 1 && at.is_multiple_of(7)).then_some(0.3 + 0.2 * (at % 3) as f32);
        let label = |at: usize| {
            let weight = if at.is_multiple_of(4) { 1.5 } else { 1.0 };
            let taught = at % 5 != 1 && guess(at).is_none();
            (f32::from(u8::from(at.is_multiple_of(5))), if taught { weight } else { 0.0 })
        };
        let targets = Targets {
            labeled: (0..blocks).map(label).collect(),
            guessed: (0..blocks).map(guess).collect(),
            defective: number == 0,
        };
        (Picture { grid: GRID, residuals, lengths }, targets)
    };
    vec![picture(0), picture(1)]
}

#[track_caller]
fn near(found: impl IntoIterator<Item = f32>, expected: &Value) {
    let found: Vec<f32> = found.into_iter().collect();
    let expected: Vec<f64> = expected.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(*found) - expected).abs() < 5e-5, "{at}: {found} instead of {expected}");
    }
}

/// Forward pass, losses, gradients, AdamW, clipping, rates and the average.
#[test]
fn three_steps_are_those_of_pytorch() {
    let reference: Value = serde_json::from_str(REFERENCE).unwrap();
    let head = Anchored::new(Shape { channels: 6, width: 32, depth: 2 }, 2);
    let (weights, batch) = (weights(&head), batch());
    let judge = |weights: &[f32]| -> Vec<f32> {
        batch.iter().flat_map(|(picture, _)| head.judge(weights, picture)).collect()
    };
    near(judge(&weights), &reference["first"]);
    let schedule = Schedule { steps: 10, ..Schedule::default() };
    let mut trainer = Trainer::from_weights(head.clone(), schedule, weights);
    for expected in reference["losses"].as_array().unwrap() {
        let Losses { labeled, guessed, picture } = trainer.step(&batch);
        near([labeled, guessed, picture], expected);
    }
    near(judge(trainer.average()), &reference["last"]);
}

#[test]
fn threads_change_nothing() {
    let learned = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let head = Anchored::new(Shape { channels: 6, width: 32, depth: 2 }, 2);
            let mut trainer = Trainer::new(head, Schedule::default(), 3);
            let batch: Vec<_> = batch().into_iter().cycle().take(6).collect();
            for _ in 0..4 {
                trainer.step(&batch);
            }
            trainer.average().to_vec()
        })
    };
    assert_eq!(learned(1), learned(4));
}

#[test]
fn a_head_learns_what_lengths_do_not_show() {
    // Blocks of the same length; the sign of the first channel tells them apart.
    let head = Anchored::new(Shape { channels: 2, width: 32, depth: 2 }, 2);
    let mut trainer = Trainer::new(head, Schedule { steps: 60, ..Schedule::default() }, 0);
    let mut random = SplitMix64::new(1);
    let mut picture = || {
        let signs: Vec<f32> = (0..36).map(|_| if random.below(2) == 0 { 1.0 } else { -1.0 }).collect();
        let residuals = Array2::from_shape_fn((36, 2), |(block, c)| if c == 0 { signs[block] } else { 0.5 });
        let labeled = signs.iter().map(|sign| (if *sign > 0.0 { 1.0 } else { 0.0 }, 1.0)).collect();
        let targets = Targets { labeled, guessed: vec![None; 36], defective: true };
        (Picture { grid: (6, 6), residuals, lengths: vec![0.0; 36] }, targets)
    };
    for _ in 0..60 {
        let batch: Vec<_> = (0..8).map(|_| picture()).collect();
        trainer.step(&batch);
    }
    let (unseen, targets) = picture();
    let judged = trainer.head.judge(trainer.average(), &unseen);
    for (probability, (truth, _)) in judged.iter().zip(&targets.labeled) {
        assert!((probability - truth).abs() < 0.5, "{probability} instead of {truth}");
    }
}
