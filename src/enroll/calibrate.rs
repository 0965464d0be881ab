//! Leave-one-out scores of good parts, and from them the threshold and the golden images.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use posfar::Bank;

use super::outliers::outliers;
use super::threshold::{Unit, lower_below, threshold_from_scores};
use super::{Progress, Step};
use crate::anomaly::AnomalyMap;
use crate::error::{ErrorKind, Result};
use crate::imaging::{Frame, Geometry};
use crate::inspector::{
    ClassifyStage, FeatureStage, Features, FrameResiduals, Provider, ResidualStage, check_frame, slowest,
};
use crate::package::{
    Golden, GoldenInfo, Manifest, ORDINARY, PAINTED, Pictures, STRANGEST, ScaleInfo, Standard, ThresholdInfo,
    ThresholdRule, golden_tolerance, painted,
};

/// Most pictures that set the unit of residuals: each has hundreds of cells.
const MEASURED: usize = 50;

/// Most pictures that are scored without themselves, unless the false-reject rate needs more. Each is compared with
/// every picture: more would take longer than all the rest.
const SCORED: usize = 2_000;

/// The stages of the new package.
pub(super) struct Stages {
    pub features: FeatureStage,
    pub residuals: ResidualStage,
    pub classify: ClassifyStage,
}

impl Stages {
    /// The slowest provider that ran a network.
    fn provider(&self) -> Provider {
        slowest(self.features.provider().into_iter().chain(self.classify.provider()))
    }
}

/// Scores of good pictures, and the number of each one's part.
pub(super) struct Scores {
    pub pictures: Vec<(PathBuf, f32)>,
    parts: Vec<usize>,
    /// Numbers of those that score far above the others, highest first.
    pub outliers: Vec<usize>,
    unit: Unit,
}

impl Scores {
    /// The outliers, highest first.
    pub fn odd(&self) -> Vec<(PathBuf, f32)> {
        self.outliers.iter().map(|&number| self.pictures[number].clone()).collect()
    }
}

/// At most `count` numbers, evenly spread over `all`.
pub(super) fn spread(all: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = all.min(count);
    (0..count).map(move |i| i * all / count)
}

/// Numbers of the pictures to score: all, or as many as the false-reject rate needs, and at least [`SCORED`].
pub(super) fn scored(all: usize, false_reject_rate: f64) -> impl Iterator<Item = usize> {
    spread(all, SCORED.max((1.0 / false_reject_rate).ceil() as usize))
}

/// The size of residuals on good pictures, scale by scale; 1 where all are zero. `load` fills in a picture's features.
pub(super) fn measure_scales<'a>(
    stage: &mut ResidualStage,
    pictures: usize,
    same_part: impl Fn(usize) -> &'a [usize],
    mut load: impl FnMut(usize, &mut Features) -> Result<()>,
) -> Result<Vec<ScaleInfo>> {
    let (mut features, mut residuals) = (Features::default(), FrameResiduals::default());
    let mut lengths = vec![Vec::new(); stage.banks().len()];
    for picture in spread(pictures, MEASURED) {
        load(picture, &mut features)?;
        stage.run_without(&features, same_part(picture), 1, &mut residuals)?;
        for (lengths, scale) in lengths.iter_mut().zip(&residuals.scales) {
            lengths.extend_from_slice(&scale.norms);
        }
    }
    let channels = stage.banks().iter().map(Bank::channels);
    Ok(lengths.into_iter().zip(channels).map(|(lengths, channels)| measure(lengths, channels)).collect())
}

/// The size of residuals of these lengths.
fn measure(mut lengths: Vec<f32>, channels: usize) -> ScaleInfo {
    let positive = |value: f32, other| if value > 0.0 { value } else { other };
    let sum: f64 = lengths.iter().map(|&n| f64::from(n) * f64::from(n)).sum();
    let residual_scale = positive((sum / (lengths.len() * channels).max(1) as f64).sqrt() as f32, 1.0);
    let middle = lengths.len() / 2;
    let median = match lengths.get(middle) {
        Some(_) => *lengths.select_nth_unstable_by(middle, f32::total_cmp).1,
        None => 0.0,
    };
    // Where most cells of good pictures are alike to the bit, the others set the unit.
    ScaleInfo { residual_scale, median: positive(median, residual_scale * (channels as f32).sqrt()) }
}

/// Scores each picture without all enrolled pictures of its part. `load` fills in a picture's features and returns
/// its number in the bank, if it is enrolled. A picture that is not shows a part of its own. The result is `None`
/// if `progress` returned `false`.
pub(super) fn score(
    stages: &mut Stages,
    pictures: &[PathBuf],
    enrolled: &Pictures,
    manifest: &Manifest,
    mut load: impl FnMut(&mut FeatureStage, usize, &mut Features) -> Result<Option<usize>>,
    progress: Progress,
) -> Result<Option<Scores>> {
    let Stages { features: stage, residuals: residual_stage, classify } = stages;
    let (mut features, mut residuals) = (Features::default(), FrameResiduals::default());
    stage.keep_picture(classify.needs_picture());
    let mut map = AnomalyMap::default();
    let (mut scores, mut parts) = (Vec::new(), Vec::new());
    for (picture, path) in pictures.iter().enumerate() {
        let number = load(stage, picture, &mut features)?;
        residual_stage.run_without(&features, enrolled.of_same_part(number), 1, &mut residuals)?;
        parts.push(number.map_or(enrolled.len() + picture, |number| enrolled.part(number)));
        scores.push((path.clone(), classify.score(&residuals, &mut map)?));
        if !progress(Step::Scores, scores.len(), pictures.len()) {
            return Ok(None);
        }
    }
    let unit = if manifest.scores_are_probabilities() { Unit::Probability } else { Unit::Length };
    let outliers = outliers(&values(&scores), unit)?;
    Ok(Some(Scores { pictures: scores, parts, unit, outliers }))
}

fn values(scores: &[(PathBuf, f32)]) -> Vec<f32> {
    scores.iter().map(|(_, score)| *score).collect()
}

/// Scores known defects.
fn known(stages: &mut Stages, defects: &[PathBuf], manifest: &Manifest) -> Result<Vec<(PathBuf, f32)>> {
    let Stages { features: stage, residuals: residual_stage, classify } = stages;
    let (mut features, mut residuals) = (Features::default(), FrameResiduals::default());
    let mut map = AnomalyMap::default();
    let geometry = manifest.geometry();
    let score = |path: &PathBuf| {
        let frame = Frame::open(path)?;
        let mut judged = || {
            check_frame(&frame, manifest.input.color, manifest.input.size)?;
            stage.run(&geometry.scale(&frame)?, &mut features)?;
            residual_stage.run(&features, &mut residuals)?;
            classify.score(&residuals, &mut map)
        };
        Ok((path.clone(), judged().map_err(|e| e.within(path.display()))?))
    };
    defects.iter().map(score).collect()
}

/// Median time from a scaled picture to its score.
fn time(stages: &mut Stages, frame: &Frame) -> Result<Duration> {
    const RUNS: usize = 9;
    let Stages { features: stage, residuals: residual_stage, classify } = stages;
    let (mut features, mut residuals) = (Features::default(), FrameResiduals::default());
    let mut map = AnomalyMap::default();
    let mut times = [Duration::ZERO; RUNS];
    for time in &mut times {
        let start = Instant::now();
        stage.run(frame, &mut features)?;
        residual_stage.run(&features, &mut residuals)?;
        classify.score(&residuals, &mut map)?;
        *time = start.elapsed();
    }
    times.sort_unstable();
    Ok(times[RUNS / 2])
}

/// What a package's scores lead to.
pub(super) struct Calibrated {
    pub threshold: ThresholdInfo,
    pub golden: Vec<Golden>,
    /// Scores of the known defects.
    pub defects: Vec<(PathBuf, f32)>,
    /// Median time from a scaled picture to its score.
    pub time: Duration,
    /// The slowest provider that ran a network.
    pub provider: Provider,
}

/// Chooses the threshold and the golden images, with the pictures of known defects.
///
/// # Errors
/// Those of reading and judging the pictures; [`ErrorKind::Image`] if the threshold would pass a painted defect.
pub(super) fn calibrate(
    stages: &mut Stages,
    scores: &Scores,
    defects: &[PathBuf],
    manifest: &Manifest,
) -> Result<Calibrated> {
    let known = known(stages, defects, manifest)?;
    let Stages { features: stage, residuals: residual_stage, classify } = stages;
    let (mut features, mut residuals) = (Features::default(), FrameResiduals::default());
    let mut map = AnomalyMap::default();
    let Scores { pictures: scores, parts, unit, .. } = scores;
    let rate = manifest.threshold.false_reject_rate;
    let mut threshold = threshold_from_scores(&values(scores), parts, rate, *unit)?;

    let mut score = |frame: &Frame| -> Result<f32> {
        stage.run(frame, &mut features)?;
        residual_stage.run(&features, &mut residuals)?;
        classify.score(&residuals, &mut map)
    };
    let [ordinary, strangest] = golden_frames(scores, threshold.value, &manifest.geometry())?;
    let painted = painted(&ordinary)?;
    let standard = Standard { ordinary: score(&ordinary)?, painted: score(&painted)? };
    lower_below(&mut threshold, [standard.painted], ThresholdRule::Painted, *unit);
    lower_below(&mut threshold, known.iter().map(|(_, score)| *score), ThresholdRule::Known, *unit);
    standard.check(threshold.value, ErrorKind::Image, ADVICE)?;
    let tolerance = golden_tolerance(threshold.value, manifest.scores_are_probabilities());
    let golden = |file: &str, frame, score| {
        let info = GoldenInfo { file: file.to_owned(), score };
        Golden { frame, info, tolerance }
    };
    let strangest_score = score(&strangest)?;
    let golden = vec![
        golden(ORDINARY, ordinary, standard.ordinary),
        golden(STRANGEST, strangest, strangest_score),
        golden(PAINTED, painted, standard.painted),
    ];
    let time = time(stages, &golden[0].frame)?;
    Ok(Calibrated { threshold, golden, defects: known, time, provider: stages.provider() })
}

/// For good pictures with a threshold that passes a painted defect.
const ADVICE: &str = "the good pictures vary too much, or there are too few: take more, and check that all show good parts \
                      from the same place in the same light";

/// An ordinary good picture that passes, and the strangest.
fn golden_frames(scores: &[(PathBuf, f32)], threshold: f32, geometry: &Geometry) -> Result<[Frame; 2]> {
    let mut order: Vec<&(PathBuf, f32)> = scores.iter().collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let load = |path: &Path| geometry.scale(&Frame::open(path)?);
    // A high false-reject rate can reject the middle one.
    let passing = order.iter().filter(|(_, score)| *score <= threshold).count();
    let ordinary = (order.len() / 2).min(passing.saturating_sub(1));
    Ok([load(&order[ordinary].0)?, load(&order[order.len() - 1].0)?])
}
