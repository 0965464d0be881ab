//! Metrics: how well scores and anomaly maps separate defective from good.
//!
//! All numbers are shares (0 to 1) over *every* distinct threshold, without binning. They equal
//! scikit-learn's numbers of the same name. A metric that needs both classes is `None` if one is missing.
//! Scores that are not finite are refused: any place in the order would invent a result.
//!
//! Pixel and image metrics come from one pass over the scores, from the highest to the lowest. Equal scores
//! count together.

use rayon::slice::ParallelSliceMut;
use serde::Serialize;

use super::datasets::Mask;
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::Components;

/// The highest false-positive rate of [`PixelMetrics::pro`].
pub const PRO_LIMIT: f64 = 0.3;

/// The shares of good images, in percent, that [`allowed_rejects`] may reject.
pub const ALLOWED_PERCENTS: [u8; 2] = [1, 5];

/// The limits of the classes of [`by_width`], in pixels of the scaled image.
pub const WIDTH_LIMITS: [f64; 3] = [4.0, 8.0, 16.0];

/// The best F1 score and its threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BestF1 {
    /// Harmonic mean of precision and recall, 0 to 1.
    pub f1: f64,
    /// Scores *above* it are defective, as with the inspector's threshold: it is the next `f32` below the
    /// lowest score that counts as defective. (scikit-learn compares with `>=`, so its threshold is that
    /// score itself.) Of several thresholds with the same F1, it is the lowest: it misses the fewest defects.
    pub threshold: f32,
}

/// False rejects and misses of labeled images at a threshold.
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

impl Confusion {
    /// Share of good images that are rejected, 0 to 1; `None` without good images.
    pub fn false_reject_rate(&self) -> Option<f64> {
        (self.good > 0).then(|| self.false_rejects as f64 / self.good as f64)
    }
}

/// What is missed if a share of the good images may be rejected.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Allowed {
    /// The share, in percent.
    pub percent: u8,
    /// The lowest threshold that rejects at most this share of the measured good images.
    pub threshold: f32,
    /// False rejects and misses at it.
    pub confusion: Confusion,
}

/// Results of the defective images with widths in a range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WidthClass {
    /// The least width, in pixels of the scaled image.
    pub from: f64,
    /// Widths are below it; `None` for no limit.
    pub below: Option<f64>,
    /// Defective images.
    pub defective: usize,
    /// Of them with a score at or below the shipped threshold.
    pub misses: usize,
    /// As [`auroc`], of these images and all good ones.
    pub image_auroc: Option<f64>,
}

/// The metrics of [`PixelScores`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PixelMetrics {
    /// Area under the receiver operating characteristic, 0 to 1.
    pub auroc: f64,
    /// Average precision, 0 to 1: the mean precision over all thresholds, weighted by the recall each adds.
    /// It is not interpolated, as scikit-learn's `average_precision_score`.
    pub average_precision: f64,
    /// Per-region overlap, 0 to 1: the found share of a connected defect, averaged over all defects with
    /// equal weight. It is integrated over false-positive rates from 0 to [`PRO_LIMIT`] (trapezoids,
    /// interpolated at the limit) and divided by the limit.
    pub pro: f64,
    /// Best F1 score of pixels.
    pub best_f1: BestF1,
    /// 8-connected defects.
    pub defects: u64,
    /// Defective pixels.
    pub defective_pixels: u64,
    /// Good pixels.
    pub good_pixels: u64,
}

/// The area under the receiver operating characteristic, 0 to 1, as scikit-learn's `roc_auc_score`: the
/// probability that a defective image scores higher than a good one. Ties count one half. `labels` are true
/// for defective. `None` without images of both kinds.
///
/// # Errors
/// [`ErrorKind::NotFinite`] for a score that is not finite, [`ErrorKind::Usage`] if the numbers of labels
/// and scores differ.
pub fn auroc(scores: &[f32], labels: &[bool]) -> Result<Option<f64>> {
    Ok(measure_images(scores, labels)?.map(|m| m.auroc))
}

/// As [`PixelMetrics::average_precision`], of images.
pub fn average_precision(scores: &[f32], labels: &[bool]) -> Result<Option<f64>> {
    Ok(measure_images(scores, labels)?.map(|m| m.average_precision))
}

/// The highest F1 score of all thresholds. It is chosen on the images it is measured on: use it to compare
/// methods, not to predict results. `None` without images of both kinds.
///
/// # Errors
/// As [`auroc`].
pub fn best_f1(scores: &[f32], labels: &[bool]) -> Result<Option<BestF1>> {
    Ok(measure_images(scores, labels)?.map(|m| m.best_f1))
}

/// Counts false rejects and misses. A score *above* the threshold rejects.
///
/// # Errors
/// [`ErrorKind::NotFinite`] for a score that is not finite or a threshold that is not a number,
/// [`ErrorKind::Usage`] if the numbers of labels and scores differ.
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

/// Counts misses at the lowest threshold that rejects at most each of [`ALLOWED_PERCENTS`] of the good images.
/// The threshold is chosen on the images it is measured on: use it to compare methods, not to predict results.
/// Empty without images of both kinds.
///
/// # Errors
/// As [`auroc`].
pub fn allowed_rejects(scores: &[f32], labels: &[bool]) -> Result<Vec<Allowed>> {
    check_images(scores, labels)?;
    let of = |kind| scores.iter().zip(labels).filter(move |(_, label)| **label == kind).map(|(s, _)| *s);
    let mut good: Vec<f32> = of(false).collect();
    good.sort_unstable_by(|a, b| b.total_cmp(a));
    if of(true).next().is_none() {
        return Ok(Vec::new());
    }
    ALLOWED_PERCENTS
        .into_iter()
        .filter_map(|percent| {
            let threshold = *good.get(good.len() * usize::from(percent) / 100)?;
            let counted = confusion(scores, labels, threshold);
            Some(counted.map(|confusion| Allowed { percent, threshold, confusion }))
        })
        .collect()
}

/// The diameter of the largest circle inside a defect of the mask, in pixels of the mask: twice the largest
/// distance from the center of a defective pixel to the center of a pixel that is not. Pixels outside of the
/// mask are not. 0 without a defect.
pub fn defect_width(mask: &Mask) -> f64 {
    let (width, bits) = (mask.width() as usize, mask.bits());
    if width == 0 {
        return 0.0;
    }
    // Distance of each pixel to the nearest good one of its column, from above and then from below.
    let mut vertical: Vec<u32> = bits.iter().map(|&bit| u32::from(bit)).collect();
    for (i, &bit) in bits.iter().enumerate() {
        if bit && i >= width {
            vertical[i] = vertical[i - width] + 1;
        }
    }
    for i in (0..bits.len()).rev() {
        let below = vertical.get(i + width).copied().unwrap_or(0);
        vertical[i] = vertical[i].min(below + 1);
    }
    let mut widest = 0;
    for row in vertical.chunks_exact(width) {
        for (x, &own) in row.iter().enumerate() {
            // The nearest good pixel is in this column, or in one that is nearer than it.
            let mut nearest = u64::from(own).pow(2);
            let mut reach = 1;
            while nearest > widest && reach * reach < nearest {
                for column in [x.checked_sub(reach as usize), Some(x + reach as usize)] {
                    let there = column.and_then(|x| row.get(x)).copied().unwrap_or(0);
                    nearest = nearest.min(reach * reach + u64::from(there).pow(2));
                }
                reach += 1;
            }
            widest = widest.max(nearest);
        }
    }
    2.0 * (widest as f64).sqrt()
}

/// Measures the defective images of each class of widths, against all good images. The classes' limits are
/// [`WIDTH_LIMITS`]. `widths` are those of each image's widest defect; those of good images do not matter.
///
/// # Errors
/// As [`confusion`].
pub fn by_width(
    scores: &[f32],
    labels: &[bool],
    widths: &[f64],
    threshold: f32,
) -> Result<[WidthClass; WIDTH_LIMITS.len() + 1]> {
    check_images(scores, labels)?;
    if widths.len() != labels.len() {
        let text = format!("{} widths cannot be compared with {} labels", widths.len(), labels.len());
        return Err(Error::new(ErrorKind::Usage, text));
    }
    let mut classes = [WidthClass { from: 0.0, below: None, defective: 0, misses: 0, image_auroc: None };
        WIDTH_LIMITS.len() + 1];
    for (class, limit) in WIDTH_LIMITS.into_iter().enumerate() {
        classes[class].below = Some(limit);
        classes[class + 1].from = limit;
    }
    for class in &mut classes {
        let inside = |width: f64| width >= class.from && class.below.is_none_or(|limit| width < limit);
        let (scores, labels): (Vec<f32>, Vec<bool>) = scores
            .iter()
            .zip(labels)
            .zip(widths)
            .filter(|((_, defective), width)| !**defective || inside(**width))
            .map(|((score, defective), _)| (*score, *defective))
            .unzip();
        let counts = confusion(&scores, &labels, threshold)?;
        (class.defective, class.misses) = (counts.defective, counts.misses);
        class.image_auroc = auroc(&scores, &labels)?;
    }
    Ok(classes)
}

/// Collects anomaly maps and ground truth by image, then measures all pixels together.
///
/// Memory: 4 bytes per good pixel and 8 per defective one, with at most one eighth on top while growing;
/// sorting is in place. While an image with defects is added, another 4 bytes per pixel of that image.
/// Measured (the ignored test `fifty_million_pixels` in `evaluate/tests/metrics.rs`): 50 million pixels in 50
/// images of 1000×1000 take 2 s on two cores and 0.21 GB for the whole process.
#[derive(Debug, Default)]
pub struct PixelScores {
    /// Sort keys of the good pixels' scores.
    good: Vec<u32>,
    /// Sort keys of the defective pixels' scores in the upper half, the size of their defect in the lower
    /// one.
    defective: Vec<u64>,
    defects: u64,
    components: Components,
}

impl PixelScores {
    /// Adds one test image. `map` is its anomaly map *at the mask's resolution*, rows from the top. Shrinking
    /// the mask instead would inflate the results. Good images count too, with an empty mask.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if map and mask differ in size; [`ErrorKind::NotFinite`] if a value of the map is
    /// not finite. Then nothing is added.
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

    /// Measures all added pixels; `None` without good or without defective pixels.
    pub fn finish(mut self) -> Option<PixelMetrics> {
        self.good.par_sort_unstable();
        self.defective.par_sort_unstable();
        measure(&self.good, &self.defective, self.defects)
    }
}

/// Makes room for `more` values. `Vec` would double its capacity: half a gigabyte too much in a large data
/// set. An eighth keeps the number of moves logarithmic, too.
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

/// Treats an image as a defect of one pixel.
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

    // Twice the area under the curve, in pixels squared: exact for any number of pixels.
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
        // Precision and F1 matter only where recall grows.
        if d < d_before {
            let called = hits + false_positives;
            average_precision += (d_before - d) as f64 * (hits as f64 / called as f64);
            // F1 = 2 hits / (called + defective), compared as fractions: equal values stay equal.
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

/// An integer with the order of the finite scores. Both zeros have the same key.
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
