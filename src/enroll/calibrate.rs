//! Scores of good pictures, each judged without itself, and what follows from them: threshold and golden images.

use std::path::{Path, PathBuf};

use super::threshold::{Unit, threshold_from_scores};
use super::{Progress, Step};
use crate::anomaly::AnomalyMap;
use crate::error::Result;
use crate::imaging::{Frame, Geometry};
use crate::inspector::{ClassifyStage, FeatureStage, Features, FrameResiduals, ResidualStage};
use crate::package::{Golden, GoldenInfo, Manifest, ThresholdInfo, golden_file, golden_tolerance};

/// Pictures whose residuals tell the unit of residuals: each has hundreds of blocks.
const MEASURED: usize = 50;

/// Pictures that are scored without themselves at most, as far as the false-reject rate needs no more: each is compared
/// with every picture, so that scoring all of many would take longer than everything else.
const SCORED: usize = 2_000;

/// The stages of the package that is being made.
pub(super) struct Stages {
    pub features: FeatureStage,
    pub residuals: ResidualStage,
    pub classify: ClassifyStage,
}

/// What a package knows from its scores.
pub(super) struct Calibration {
    pub scores: Vec<(PathBuf, f32)>,
    pub threshold: ThresholdInfo,
    pub golden: Vec<Golden>,
    pub sees_painted_square: bool,
}

/// Numbers of pictures, at most `count`, evenly spread over `all`.
fn spread(all: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = all.min(count);
    (0..count).map(move |i| i * all / count)
}

/// Numbers of the pictures that are scored: all, or as many as the rate of false rejects needs, and [`SCORED`] at least.
pub(super) fn scored(all: usize, false_reject_rate: f64) -> impl Iterator<Item = usize> {
    spread(all, SCORED.max((1.0 / false_reject_rate).ceil() as usize))
}

/// The root mean square of the residuals' values on good pictures; one when all are zero. `load` fills in a picture's
/// features and tells its number in the bank.
pub(super) fn residual_scale(
    stage: &mut ResidualStage,
    pictures: usize,
    mut load: impl FnMut(usize, &mut Features) -> Result<Option<usize>>,
) -> Result<f32> {
    let (mut features, mut residuals) = (Features::default(), FrameResiduals::default());
    let (mut sum, mut count) = (0.0f64, 0);
    for picture in spread(pictures, MEASURED) {
        let number = load(picture, &mut features)?;
        stage.run_without(&features, number, 1, &mut residuals)?;
        sum += residuals.residuals.norms.iter().map(|&n| f64::from(n) * f64::from(n)).sum::<f64>();
        count += features.tokens.len();
    }
    let scale = (sum / count.max(1) as f64).sqrt() as f32;
    Ok(if scale > 0.0 { scale } else { 1.0 })
}

/// Scores pictures, each without itself, and chooses the threshold and the golden images. `load` fills in a picture's
/// features and tells its number in the bank, if it is enrolled. `None` when `progress` stopped it.
pub(super) fn calibrate(
    stages: &mut Stages,
    pictures: &[PathBuf],
    manifest: &Manifest,
    mut load: impl FnMut(&mut FeatureStage, usize, &mut Features) -> Result<Option<usize>>,
    progress: Progress,
) -> Result<Option<Calibration>> {
    let Stages { features: stage, residuals: residual_stage, classify } = stages;
    let (mut features, mut residuals) = (Features::default(), FrameResiduals::default());
    stage.keep_picture(classify.sees_picture());
    let mut map = AnomalyMap::default();
    let mut scores = Vec::new();
    for (picture, path) in pictures.iter().enumerate() {
        let number = load(stage, picture, &mut features)?;
        residual_stage.run_without(&features, number, 1, &mut residuals)?;
        scores.push((path.clone(), classify.score(&residuals, &mut map)?));
        if !progress(Step::Scores, scores.len(), pictures.len()) {
            return Ok(None);
        }
    }
    let values: Vec<f32> = scores.iter().map(|(_, score)| *score).collect();
    let head = manifest.head.is_some();
    let unit = if head { Unit::Probability } else { Unit::Length };
    let threshold = threshold_from_scores(&values, manifest.threshold.false_reject_rate, unit)?;

    let tolerance = golden_tolerance(threshold.value, head);
    let mut golden = Vec::new();
    let mut sees_painted_square = false;
    for (name, frame) in golden_frames(&scores, &manifest.geometry)? {
        stage.run(&frame, &mut features)?;
        residual_stage.run(&features, &mut residuals)?;
        let score = classify.score(&residuals, &mut map)?;
        sees_painted_square |= score > threshold.value;
        golden.push(Golden { frame, info: GoldenInfo { file: golden_file(name), score }, tolerance });
    }
    Ok(Some(Calibration { scores, threshold, golden, sees_painted_square }))
}

/// The most ordinary and the strangest good picture, and the ordinary one with a square painted on it.
fn golden_frames(scores: &[(PathBuf, f32)], geometry: &Geometry) -> Result<Vec<(&'static str, Frame)>> {
    let mut order: Vec<&(PathBuf, f32)> = scores.iter().collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let load = |path: &Path| geometry.scale(&Frame::open(path)?);
    let ordinary = load(&order[order.len() / 2].0)?;
    let strangest = load(&order[order.len() - 1].0)?;
    let painted = paint_square(&ordinary)?;
    Ok(vec![("ordinary", ordinary), ("strangest", strangest), ("painted", painted)])
}

/// A square of an eighth of the longest side in the middle, black on a light part and white on a dark one.
fn paint_square(frame: &Frame) -> Result<Frame> {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let channels = frame.color().channels();
    let side = (width.max(height) / 8).max(1);
    let (wide, high) = (side.min(width), side.min(height));
    let (left, top) = ((width - wide) / 2, (height - high) / 2);
    let mut pixels = frame.pixels().to_vec();
    let row = |y: usize| (y * width + left) * channels..(y * width + left + wide) * channels;
    let brightness: u64 = (top..top + high).flat_map(|y| &pixels[row(y)]).map(|&v| u64::from(v)).sum();
    let light = brightness > 127 * (wide * high * channels) as u64;
    for y in top..top + high {
        pixels[row(y)].fill(if light { 0 } else { 255 });
    }
    Frame::new(frame.width(), frame.height(), frame.color(), pixels)
}
