//! Inspects a labeled category and sums up the results.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::datasets::{Category, Mask, Sample};
use super::metrics::{self, Allowed, BestF1, Confusion, PixelMetrics, PixelScores, WidthClass};
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::Frame;
use crate::inspector::{Inspection, Inspector, StagePercentiles};

/// The result of one labeled picture.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The picture.
    #[serde(serialize_with = "as_text")]
    pub image: PathBuf,
    /// The kind of defect; `None` for a good part.
    pub defect: Option<String>,
    /// Image score.
    pub score: f32,
    /// Width of its widest defect, in pixels of the scaled picture; `None` for a good part, or without a
    /// mask.
    pub width: Option<f64>,
}

/// The results of one kind of part: good parts, or parts with one kind of defect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KindCount {
    /// The kind of defect; `None` for good parts.
    pub defect: Option<String>,
    /// Pictures inspected.
    pub pictures: usize,
    /// Pictures rejected at the shipped threshold.
    pub rejected: usize,
}

impl KindCount {
    /// Counts outcomes: good parts first, then defects by name.
    fn of(outcomes: &[Outcome], threshold: f32) -> Vec<KindCount> {
        let mut counts: BTreeMap<&Option<String>, (usize, usize)> = BTreeMap::new();
        for outcome in outcomes {
            let (pictures, rejected) = counts.entry(&outcome.defect).or_default();
            *pictures += 1;
            *rejected += usize::from(outcome.score > threshold);
        }
        let count = |(defect, (pictures, rejected)): (&Option<String>, _)| KindCount {
            defect: defect.clone(),
            pictures,
            rejected,
        };
        counts.into_iter().map(count).collect()
    }
}

// Not every file name is valid JSON.
fn as_text<S: serde::Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&path.display())
}

fn as_texts<S: serde::Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(paths.iter().map(|path| path.display().to_string()))
}

/// The results of one category. Metrics are shares, 0 to 1. A metric that needs pictures of both kinds is
/// `None` without them.
#[derive(Debug, Clone, Serialize)]
pub struct CategoryResult {
    /// Name of the category.
    pub name: String,
    /// Good pictures enrolled.
    pub enrolled: usize,
    /// Scores above it are rejected.
    pub threshold: f32,
    /// Area under the images' receiver operating characteristic.
    pub image_auroc: Option<f64>,
    /// Best F1 score of images, at a threshold chosen with the labels known.
    pub image_best_f1: Option<BestF1>,
    /// False rejects and misses at the shipped threshold.
    pub confusion: Confusion,
    /// Misses if shares of the good pictures may be rejected, at thresholds chosen with the labels known.
    pub allowed: Vec<Allowed>,
    /// Defective pictures by the width of their widest defect; `None` if a defective picture has no mask.
    pub widths: Option<Vec<WidthClass>>,
    /// Rejects by kind of part.
    pub kinds: Vec<KindCount>,
    /// Pixel metrics; `None` also if a defective picture has no mask.
    pub pixels: Option<PixelMetrics>,
    /// Milliseconds per frame.
    pub times: StagePercentiles,
    /// Every picture's score, in the order of the data set.
    pub outcomes: Vec<Outcome>,
    /// Pictures left out: labeled defective with an empty mask, so neither good nor defective.
    #[serde(serialize_with = "as_texts")]
    pub left_out: Vec<PathBuf>,
}

/// Inspects a category's test pictures and measures the results.
///
/// `visit` gets every picture with its inspection and ground truth, for reports. An error of `visit` stops.
///
/// # Errors
/// [`ErrorKind::Dataset`] without test pictures; otherwise as [`Frame::open`], [`Sample::truth`] and
/// [`Inspector::inspect`], with the file named. Nothing is skipped.
pub fn evaluate(
    category: &Category,
    inspector: &mut Inspector,
    mut visit: impl FnMut(&Sample, &Frame, &Inspection, Option<&Mask>) -> Result<()>,
) -> Result<CategoryResult> {
    if category.test.is_empty() {
        return Err(Error::new(ErrorKind::Dataset, format!("{} has no test pictures", category.name)));
    }
    let mut pixels = Some(PixelScores::default());
    let (mut outcomes, mut times, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    for sample in &category.test {
        let frame = Frame::open(&sample.image)?;
        let truth = sample.truth(&frame)?;
        if sample.defect.is_some() && truth.as_ref().is_some_and(|mask| mask.defective_pixels() == 0) {
            left_out.push(sample.image.clone());
            continue;
        }
        let inspection = inspector.inspect(&frame).map_err(|e| e.within(sample.image.display()))?;
        match (&truth, &mut pixels) {
            (Some(truth), Some(pixels)) => {
                let map = inspection.map.resized(frame.width() as usize, frame.height() as usize);
                pixels.add(&map.values, truth)?;
            }
            _ => pixels = None,
        }
        let scale = inspector.scale_of(&frame);
        let defect = truth.as_ref().filter(|_| sample.defect.is_some());
        visit(sample, &frame, &inspection, truth.as_ref())?;
        times.push(inspection.times);
        outcomes.push(Outcome {
            image: sample.image.clone(),
            defect: sample.defect.clone(),
            score: inspection.score,
            width: defect.map(|mask| scale * metrics::defect_width(mask)),
        });
    }
    let scores: Vec<f32> = outcomes.iter().map(|o| o.score).collect();
    let labels: Vec<bool> = outcomes.iter().map(|o| o.defect.is_some()).collect();
    let masked = outcomes.iter().all(|o| o.defect.is_none() || o.width.is_some());
    let widths: Vec<f64> = outcomes.iter().map(|o| o.width.unwrap_or_default()).collect();
    let threshold = inspector.threshold();
    let by_width = masked.then(|| metrics::by_width(&scores, &labels, &widths, threshold)).transpose()?;
    Ok(CategoryResult {
        name: category.name.clone(),
        enrolled: category.train.len(),
        threshold,
        image_auroc: metrics::auroc(&scores, &labels)?,
        image_best_f1: metrics::best_f1(&scores, &labels)?,
        confusion: metrics::confusion(&scores, &labels, threshold)?,
        allowed: metrics::allowed_rejects(&scores, &labels)?,
        widths: by_width.map(Vec::from),
        kinds: KindCount::of(&outcomes, threshold),
        pixels: pixels.and_then(PixelScores::finish),
        times: StagePercentiles::of(&times),
        outcomes,
        left_out,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_counted_good_parts_first() {
        let outcome = |defect: Option<&str>, score| Outcome {
            image: PathBuf::new(),
            defect: defect.map(str::to_owned),
            score,
            width: None,
        };
        let outcomes = [
            outcome(Some("stain"), 3.0),
            outcome(None, 2.0),
            outcome(Some("crack"), 1.0),
            outcome(Some("stain"), 2.0),
            outcome(None, 2.5),
        ];
        let counts: Vec<_> = KindCount::of(&outcomes, 2.0)
            .into_iter()
            .map(|k| (k.defect.unwrap_or_default(), k.pictures, k.rejected))
            .collect();
        assert_eq!(counts, [("".into(), 2, 1), ("crack".into(), 1, 0), ("stain".into(), 2, 1)]);
    }
}
