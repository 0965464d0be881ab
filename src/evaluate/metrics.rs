//! How well scores and anomaly maps tell defective from good.
//!
//! All numbers are shares (0 to 1) over *every* distinct threshold, without binning, and equal to scikit-learn's of
//! the same name. A metric that needs both classes is `None` when one of them is missing: there is no honest number
//! then. Scores that are not finite are refused, because sorting them anywhere would invent a result.
//!
//! Everything rests on one pass over the scores from the highest to the lowest, at pixel level as at image level.
//! Scores that are equal are taken together: no order among them is better than another.

use rayon::slice::ParallelSliceMut;
use serde::Serialize;

use super::datasets::Mask;
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::Components;

/// False-positive rate up to which [`PixelMetrics::pro`] is integrated.
pub const PRO_LIMIT: f64 = 0.3;

/// The best F1 score and where it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BestF1 {
    /// Harmonic mean of precision and recall, 0 to 1.
    pub f1: f64,
    /// What is *above* it is defective, as for the inspector's threshold: the next `f32` below the lowest score that
    /// is still called defective. (scikit-learn's thresholds are that score itself, because it compares with `>=`.)
    /// Of several thresholds with the same F1 it is the lowest, which misses the fewest defects.
    pub threshold: f32,
}

/// What a threshold does to labeled images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Confusion {
    /// Good images.
    pub good: usize,
    /// Good images with a score above the threshold.
    pub false_rejects: usize,
    /// Defective images.
    pub defective: usize,
    /// Defective images with a score at or below the threshold.
    pub misses: usize,
}

/// The metrics of [`PixelScores`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PixelMetrics {
    /// Area under the receiver operating characteristic, 0 to 1.
    pub auroc: f64,
    /// Average precision, 0 to 1: see [`average_precision`].
    pub average_precision: f64,
    /// Per-region overlap, 0 to 1: the share of a connected defect that is found, averaged over all defects whatever
    /// their size, integrated over false-positive rates from 0 to [`PRO_LIMIT`] (trapezoids, interpolated at the
    /// limit) and divided by the limit.
    pub pro: f64,
    /// Best F1 score of single pixels.
    pub best_f1: BestF1,
    /// 8-connected defects.
    pub defects: u64,
    /// Defective pixels.
    pub defective_pixels: u64,
    /// Good pixels.
    pub good_pixels: u64,
}

/// The probability that a defective image scores higher than a good one, ties counting one half: the area under the
/// receiver operating characteristic, 0 to 1, as scikit-learn's `roc_auc_score`. `labels` are true for defective;
/// `None` without images of both kinds.
///
/// # Errors
/// [`ErrorKind::NotFinite`] for a score that is not finite, [`ErrorKind::Usage`] when there are not as many labels as
/// scores.
pub fn auroc(scores: &[f32], labels: &[bool]) -> Result<Option<f64>> {
    Ok(measure_images(scores, labels)?.map(|m| m.auroc))
}

/// The mean of the precisions at all thresholds, weighted by how much recall each adds, 0 to 1: no interpolation, as
/// scikit-learn's `average_precision_score`. `None` without images of both kinds.
///
/// # Errors
/// As [`auroc`].
pub fn average_precision(scores: &[f32], labels: &[bool]) -> Result<Option<f64>> {
    Ok(measure_images(scores, labels)?.map(|m| m.average_precision))
}

/// The highest F1 score that any threshold gives. It is chosen on the very images it is measured on: good for
/// comparing methods, never as a promise. `None` without images of both kinds.
///
/// # Errors
/// As [`auroc`].
pub fn best_f1(scores: &[f32], labels: &[bool]) -> Result<Option<BestF1>> {
    Ok(measure_images(scores, labels)?.map(|m| m.best_f1))
}

/// Counts what a threshold rejects and misses. A score *above* the threshold rejects.
///
/// # Errors
/// [`ErrorKind::NotFinite`] for a score that is not finite or a threshold that is not a number, [`ErrorKind::Usage`]
/// when there are not as many labels as scores.
pub fn confusion(scores: &[f32], labels: &[bool], threshold: f32) -> Result<Confusion> {
    check_images(scores, labels)?;
    if threshold.is_nan() {
        return Err(Error::new(ErrorKind::NotFinite, "the threshold is not a number"));
    }
    let mut counts = Confusion::default();
    for (&score, &defective) in scores.iter().zip(labels) {
        if defective {
            counts.defective += 1;
            counts.misses += usize::from(score <= threshold);
        } else {
            counts.good += 1;
            counts.false_rejects += usize::from(score > threshold);
        }
    }
    Ok(counts)
}

/// Collects anomaly maps and ground truth image by image, then measures all their pixels together.
///
/// Memory: 4 bytes per good pixel and 8 per defective one, with at most one eighth on top while growing; sorting is
/// in place. While an image with defects is added, another 4 bytes per pixel of that image. Measured (the ignored test
/// `fifty_million_pixels` in `evaluate/tests/metrics.rs`): 50 million pixels in 50 images of 1000×1000 take 2 s on two cores and
/// 0.21 GB for the whole process.
#[derive(Debug, Default)]
pub struct PixelScores {
    /// Sort keys of the good pixels' scores.
    good: Vec<u32>,
    /// Sort keys of the defective pixels' scores in the upper half, the size of their defect in the lower one.
    defective: Vec<u64>,
    defects: u64,
    components: Components,
}

impl PixelScores {
    /// Adds one test image. `map` is its anomaly map *at the mask's own resolution*, rows from the top: shrinking the
    /// ground truth instead would inflate the results. Good images count too, with an empty mask.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when map and mask differ in size, [`ErrorKind::NotFinite`] when the map holds a value that
    /// is not finite. Nothing is added then.
    pub fn add(&mut self, map: &[f32], mask: &Mask) -> Result<()> {
        let (width, bits) = (mask.width() as usize, mask.bits());
        if map.len() != bits.len() {
            return Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "an anomaly map of {} values does not fit a mask of {}×{} pixels; resample the map first",
                    map.len(),
                    mask.width(),
                    mask.height()
                ),
            ));
        }
        if let Some(i) = map.iter().position(|v| !v.is_finite()) {
            return Err(Error::new(
                ErrorKind::NotFinite,
                format!("the anomaly map is {} at column {}, row {}", map[i], i % width, i / width),
            ));
        }

        let defective = mask.defective_pixels();
        reserve_lean(&mut self.good, map.len() - defective);
        if defective == 0 {
            self.good.extend(map.iter().map(|&v| key(v)));
            return Ok(());
        }
        reserve_lean(&mut self.defective, defective);
        self.components.label(width, mask.height() as usize, |i| bits[i]);
        let defects = self.components.list();
        for (&score, &label) in map.iter().zip(self.components.labels()) {
            if label == 0 {
                self.good.push(key(score));
            } else {
                self.defective.push(keyed(score, defects[label as usize - 1].pixels as u32));
            }
        }
        self.defects += defects.len() as u64;
        Ok(())
    }

    /// Measures everything that was added; `None` when there are no good or no defective pixels.
    pub fn finish(mut self) -> Option<PixelMetrics> {
        self.good.par_sort_unstable();
        self.defective.par_sort_unstable();
        measure(&self.good, &self.defective, self.defects)
    }
}

/// Makes room for `more` values. `Vec` would double, which is half a gigabyte too much in the middle of a large data
/// set; an eighth keeps the number of moves just as logarithmic.
fn reserve_lean<T>(values: &mut Vec<T>, more: usize) {
    if values.capacity() - values.len() < more {
        values.reserve_exact(more.max(values.len() / 8));
    }
}

fn check_images(scores: &[f32], labels: &[bool]) -> Result<()> {
    if scores.len() != labels.len() {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("{} scores cannot be compared with {} labels", scores.len(), labels.len()),
        ));
    }
    match scores.iter().position(|v| !v.is_finite()) {
        Some(i) => {
            Err(Error::new(ErrorKind::NotFinite, format!("the score of image {i} (from 0) is {}", scores[i])))
        }
        None => Ok(()),
    }
}

/// An image is measured as a defect of one pixel.
fn measure_images(scores: &[f32], labels: &[bool]) -> Result<Option<PixelMetrics>> {
    check_images(scores, labels)?;
    let (mut good, mut defective) = (Vec::new(), Vec::new());
    for (&score, &label) in scores.iter().zip(labels) {
        if label {
            defective.push(keyed(score, 1));
        } else {
            good.push(key(score));
        }
    }
    good.sort_unstable();
    defective.sort_unstable();
    Ok(measure(&good, &defective, defective.len() as u64))
}

/// The metrics from sorted keys, in one walk from the highest score to the lowest.
fn measure(good: &[u32], defective: &[u64], defects: u64) -> Option<PixelMetrics> {
    if good.is_empty() || defective.is_empty() {
        return None;
    }
    let (good_total, defective_total) = (good.len() as u64, defective.len() as u64);
    let limit = PRO_LIMIT * good_total as f64;

    // Twice the area under the curve, in pixels by pixels: exact, whatever the number of pixels.
    let mut twice_auroc = 0u128;
    let mut average_precision = 0.0;
    let mut pro = 0.0;
    let mut overlap = 0.0;
    let mut best = (0u64, 1u64, 0u32);
    let (mut g, mut d) = (good.len(), defective.len());
    while g > 0 || d > 0 {
        let (g_before, d_before, overlap_before) = (g, d, overlap);
        let at = match (good[..g].last(), defective[..d].last()) {
            (Some(&good), Some(&defective)) => good.max(key_of(defective)),
            (Some(&good), None) => good,
            (None, Some(&defective)) => key_of(defective),
            (None, None) => break,
        };
        while g > 0 && good[g - 1] == at {
            g -= 1;
        }
        while d > 0 && key_of(defective[d - 1]) == at {
            d -= 1;
            overlap += 1.0 / f64::from(defective[d] as u32);
        }
        let false_positives = good_total - g as u64;
        let hits = defective_total - d as u64;

        if g < g_before {
            let hits_before = defective_total - d_before as u64;
            twice_auroc += u128::from((g_before - g) as u64) * u128::from(hits_before + hits);
            let (from, to) = ((good_total - g_before as u64) as f64, false_positives as f64);
            if from < limit {
                let (end, share) =
                    if to <= limit { (to, 1.0) } else { (limit, (limit - from) / (to - from)) };
                let overlap_at_end = overlap_before + (overlap - overlap_before) * share;
                pro += (end - from) * (overlap_before + overlap_at_end) / 2.0;
            }
        }
        // Precision and F1 can only matter where recall grows.
        if d < d_before {
            let called = hits + false_positives;
            average_precision += (d_before - d) as f64 * (hits as f64 / called as f64);
            // F1 = 2 hits / (called + defective), compared as fractions so that equal ones are equal.
            let (hits_best, sum_best, _) = best;
            let sum = called + defective_total;
            if u128::from(hits) * u128::from(sum_best) >= u128::from(hits_best) * u128::from(sum) {
                best = (hits, sum, at);
            }
        }
    }

    let (hits, sum, at) = best;
    let pairs = good_total as f64 * defective_total as f64;
    Some(PixelMetrics {
        auroc: twice_auroc as f64 / 2.0 / pairs,
        average_precision: average_precision / defective_total as f64,
        pro: pro / limit / defects as f64,
        best_f1: BestF1 { f1: 2.0 * hits as f64 / sum as f64, threshold: value(at).next_down() },
        defects,
        defective_pixels: defective_total,
        good_pixels: good_total,
    })
}

/// An integer that sorts as the finite score does. Both zeros have the same.
fn key(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

/// The score of a key.
fn value(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key ^ 1 << 31 } else { !key })
}

fn keyed(score: f32, defect_pixels: u32) -> u64 {
    u64::from(key(score)) << 32 | u64::from(defect_pixels)
}

fn key_of(keyed: u64) -> u32 {
    (keyed >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_sort_as_scores(a in prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL | prop::num::f32::ZERO,
                               b in prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL | prop::num::f32::ZERO) {
            prop_assert_eq!(a.partial_cmp(&b), Some(key(a).cmp(&key(b))));
            prop_assert_eq!(value(key(a)), a);
        }
    }

    #[test]
    fn keys_of_the_ends() {
        for v in [f32::MIN, -1.0, -0.0, 0.0, 1.0, f32::MAX] {
            assert_eq!(value(key(v)), v);
        }
        assert_eq!(key(-0.0), key(0.0));
        assert!(key(f32::MIN) < key(-1.0) && key(1.0) < key(f32::MAX));
    }
}
