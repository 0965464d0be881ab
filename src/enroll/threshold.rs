//! The threshold, from leave-one-out scores of good pictures. It needs no defects.

use std::collections::BTreeMap;

use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::error::{Error, ErrorKind, Result};
use crate::onnx::check_finite;
use crate::package::{ThresholdInfo, ThresholdRule};

/// Meaning of the scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Lengths of residuals: 0 and above.
    Length,
    /// A head's probabilities: 0 to 1.
    Probability,
}

impl Unit {
    /// The score on an unbounded scale: the logarithm of a length, or of a probability's odds.
    pub fn open(self, score: f32) -> f64 {
        // Identical pictures score exactly 0, and a head can be certain: neither has a logarithm.
        let least = f64::from(f32::MIN_POSITIVE);
        let score = f64::from(score);
        match self {
            Unit::Length => score.max(least).ln(),
            Unit::Probability => score.max(least).ln() - (1.0 - score).max(least).ln(),
        }
    }

    fn close(self, value: f64) -> f64 {
        match self {
            Unit::Length => value.exp(),
            Unit::Probability => 1.0 / (1.0 + (-value).exp()),
        }
    }
}

/// Chooses the threshold for a false-reject rate in (0, 1) from leave-one-out scores. `parts` has the number of each
/// score's part. Scores of one part depend on each other, so n parts count, not their pictures. Each part weighs the
/// same, and so do the pictures of a part.
///
/// - [`ThresholdRule::Rank`] with a rate of at least 1 / (n + 1): the smallest score up to which the parts weigh
///   1 − rate, where each of the n and the new one weighs 1 / (n + 1). With one picture of each part it is the
///   ⌈(n + 1)(1 − rate)⌉-th smallest score. A picture of a new good part scores above it with a probability of at most
///   `rate`, for every distribution (split conformal prediction, Vovk et al. 2005; with groups Lee, Barber and Willett,
///   arXiv 2306.06342). The highest score of each part would keep the promise, too, but for all of a part's pictures at
///   once: more misses. A random one would make the threshold random.
/// - [`ThresholdRule::Tail`] with fewer parts: the upper prediction limit of log-normal scores (logit-normal, for
///   probabilities), `exp(m + t · s · √(1 + 1/n))` with Student's t of n − 1 degrees of freedom, and at least the highest
///   score. It grows with the uncertainty of few parts. s² is what a random picture of each part has on average.
///
/// # Errors
/// [`ErrorKind::Usage`] for fewer than two parts or a rate out of range, [`ErrorKind::NotFinite`] for NaN and infinity.
pub(crate) fn threshold_from_scores(
    scores: &[f32],
    parts: &[usize],
    rate: f64,
    unit: Unit,
) -> Result<ThresholdInfo> {
    check_finite("the leave-one-out scores", scores)?;
    let mut of_part: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
    for (&part, &score) in parts.iter().zip(scores) {
        of_part.entry(part).or_default().push(score);
    }
    let n = of_part.len();
    if n < 2 {
        return Err(Error::new(ErrorKind::Usage, "a threshold needs the scores of at least two good parts"));
    }
    if !(rate > 0.0 && rate < 1.0) {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("the false-reject rate must be between 0 and 1, not {rate}"),
        ));
    }
    // Each score with its weight in parts.
    let mut sorted: Vec<(f32, f64)> =
        of_part.values().flat_map(|own| own.iter().map(|&score| (score, 1.0 / own.len() as f64))).collect();
    sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let pictures = sorted.len();
    let highest = sorted[pictures - 1].0;
    let mut weight = 0.0;
    let up_to = sorted.iter().find(|(_, own)| {
        weight += own;
        // The small amount: rounding must not ask for one score more than the exact sum.
        weight >= (n + 1) as f64 * (1.0 - rate) - 1e-9
    });
    let (value, rule) = match up_to {
        Some((score, _)) => (*score, ThresholdRule::Rank),
        None => (tail_limit(&of_part, rate, unit)?.max(highest), ThresholdRule::Tail),
    };
    let above: f64 = sorted.iter().filter(|(score, _)| *score > value).map(|(_, own)| own).sum();
    Ok(ThresholdInfo {
        value,
        false_reject_rate: rate,
        rule,
        images: pictures,
        parts: n,
        promised_rate: (above + 1.0) / (n + 1) as f64,
        scores: [sorted[0].0, sorted[pictures / 2].0, highest],
    })
}

/// Lowers a limit that is not [`ThresholdRule::Rank`]'s, if it would pass one of the defects with these scores. The new
/// one is half-way from the highest good score to the lowest defect, on the unbounded scale. A defect that scores no higher
/// than good pictures changes nothing.
pub(super) fn lower_below(
    info: &mut ThresholdInfo,
    defects: impl IntoIterator<Item = f32>,
    rule: ThresholdRule,
    unit: Unit,
) {
    let highest = info.scores[2];
    let lowest = defects.into_iter().filter(|score| *score > highest).min_by(f32::total_cmp);
    if let Some(defect) = lowest.filter(|score| *score <= info.value)
        && info.rule != ThresholdRule::Rank
    {
        info.value = unit.close((unit.open(highest) + unit.open(defect)) / 2.0) as f32;
        info.rule = rule;
    }
}

fn tail_limit(of_part: &BTreeMap<usize, Vec<f32>>, rate: f64, unit: Unit) -> Result<f32> {
    let n = of_part.len() as f64;
    // Mean and mean square deviation of each part.
    let moments: Vec<(f64, f64)> = of_part
        .values()
        .map(|own| {
            let logs = own.iter().map(|&score| unit.open(score));
            let mean = logs.clone().sum::<f64>() / own.len() as f64;
            (mean, logs.map(|v| (v - mean).powi(2)).sum::<f64>() / own.len() as f64)
        })
        .collect();
    let mean = moments.iter().map(|(m, _)| m).sum::<f64>() / n;
    let between = moments.iter().map(|(m, _)| (m - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let variance = between + moments.iter().map(|(_, within)| within).sum::<f64>() / n;
    let limit =
        unit.close(mean + student(n - 1.0)?.inverse_cdf(1.0 - rate) * (variance * (1.0 + 1.0 / n)).sqrt());
    // The limit of two pictures can be infinite; the largest number rejects as little.
    Ok(limit.min(f64::from(f32::MAX)) as f32)
}

/// Student's t distribution.
pub(super) fn student(freedom: f64) -> Result<StudentsT> {
    StudentsT::new(0.0, 1.0, freedom)
        .map_err(|e| Error::new(ErrorKind::Usage, "the threshold cannot be computed").with_source(e))
}

/// The promise that this number of pictures allows, in a sentence or two for the user.
pub(crate) fn promise(info: &ThresholdInfo) -> String {
    let percent = |rate: f64| format!("{:.2} %", 100.0 * rate);
    let needed = (1.0 / info.false_reject_rate).ceil() as usize - 1;
    let (images, needed) = match info.images == info.parts {
        true => (format!("{} good images", info.images), format!("{needed} images")),
        false => (format!("{} good parts in {} images", info.parts, info.images), format!("{needed} parts")),
    };
    match info.rule {
        ThresholdRule::Rank => format!(
            "{images} promise that on average at most {} of good parts are rejected, if parts, light and camera \
             stay as enrolled.",
            percent(info.promised_rate)
        ),
        ThresholdRule::Tail => format!(
            "{images} alone can promise no less than {} of good parts rejected. The threshold aims at {} with \
             the log-normal tail of their scores. {needed} would promise it without that assumption.",
            percent(1.0 / (info.parts + 1) as f64),
            percent(info.false_reject_rate)
        ),
        ThresholdRule::Person => format!(
            "A person chose the threshold, so it promises nothing. {images} score up to {:.3}.",
            info.scores[2]
        ),
        ThresholdRule::Painted | ThresholdRule::Known => format!(
            "{images} are too few to aim at {} of good parts rejected. The threshold is half-way from their highest \
             score to a {} defect's. {needed} would promise it.",
            percent(info.false_reject_rate),
            if info.rule == ThresholdRule::Known { "known" } else { "painted" }
        ),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One picture of each part.
    fn singles(scores: &[f32], rate: f64) -> ThresholdInfo {
        let parts: Vec<usize> = (0..scores.len()).collect();
        threshold_from_scores(scores, &parts, rate, Unit::Length).unwrap()
    }

    #[test]
    fn enough_images_take_a_rank() {
        let scores: Vec<f32> = (1..=199).map(|v| v as f32).collect();
        let info = singles(&scores, 0.01);
        assert_eq!((info.rule, info.value), (ThresholdRule::Rank, 198.0));
        assert!((info.promised_rate - 0.01).abs() < 1e-12);
        assert_eq!(info.scores, [1.0, 100.0, 199.0]);
    }

    /// For 5 log scores of mean 0 and deviation 1 the limit is t(0.99; 4) √1.2 = 3.74695 · 1.09545.
    #[test]
    fn few_images_take_the_tail() {
        let d = (0.5f32).sqrt();
        let scores: Vec<f32> = [-2.0 * d, 0.0, 0.0, 0.0, 2.0 * d].iter().map(|v: &f32| v.exp()).collect();
        let info = singles(&scores, 0.01);
        assert_eq!(info.rule, ThresholdRule::Tail);
        assert!((f64::from(info.value).ln() - 3.746_947 * 1.2f64.sqrt()).abs() < 1e-3, "{}", info.value);
        assert!(promise(&info).contains("99 images"), "{}", promise(&info));
    }

    /// The promise itself: among exchangeable scores the held-out one exceeds the threshold no more often than the rate.
    #[test]
    fn the_rank_keeps_its_promise() {
        let mut state = 1u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let u = (state >> 40) as f32 / (1u32 << 24) as f32;
            1.0 / (1.001 - u)
        };
        let trials = 4000;
        let exceeded = (0..trials)
            .filter(|_| {
                let scores: Vec<f32> = (0..50).map(|_| draw()).collect();
                draw() > singles(&scores, 0.05).value
            })
            .count();
        let share = exceeded as f64 / f64::from(trials);
        assert!(share <= 0.05 + 3.0 * (0.05f64 * 0.95 / f64::from(trials)).sqrt(), "{share}");
    }

    #[test]
    fn a_limit_beyond_a_painted_defect_is_lowered_to_where_it_rejects_it() {
        let lowered = |scores: &[f32], painted| {
            let mut info = singles(scores, 0.01);
            lower_below(&mut info, [painted], ThresholdRule::Painted, Unit::Length);
            info
        };
        let info = lowered(&[9.0, 4.0], 16.0);
        assert_eq!(info.rule, ThresholdRule::Painted);
        assert!((info.value - 12.0).abs() < 1e-4, "{}", info.value);
        // What needs no lowering, what cannot be, and what images enough have set.
        assert_eq!(lowered(&[9.0, 9.1], 16.0).rule, ThresholdRule::Tail);
        assert!(lowered(&[9.0, 4.0], 8.0).value > 1000.0);
        let many: Vec<f32> = (1..=199).map(|v| v as f32).collect();
        assert_eq!(lowered(&many, 198.0).value, 198.0);

        // The lowest of several defects counts, in any order.
        for defects in [[16.0, 25.0], [25.0, 16.0]] {
            let mut info = singles(&[9.0, 4.0], 0.01);
            lower_below(&mut info, defects, ThresholdRule::Known, Unit::Length);
            assert!((info.value - 12.0).abs() < 1e-4 && info.rule == ThresholdRule::Known, "{info:?}");
        }
    }

    /// Parts whose pictures score alike. A picture of a new part exceeds the threshold no more often than the rate; if each
    /// picture counted as a part, it would.
    #[test]
    fn the_rank_keeps_its_promise_for_parts_with_many_pictures() {
        let mut state = 1u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u32 << 24) as f32
        };
        let trials = 4000;
        let (mut exceeded, mut hardly) = (0, 0);
        for _ in 0..trials {
            let (mut scores, mut parts) = (Vec::new(), Vec::new());
            for part in 0..25 {
                let own = draw();
                for _ in 0..=(draw() * 6.0) as usize {
                    scores.push(1.0 + own + 0.1 * draw());
                    parts.push(part);
                }
            }
            let new = 1.0 + draw() + 0.1 * draw();
            let info = threshold_from_scores(&scores, &parts, 0.05, Unit::Length).unwrap();
            assert_eq!((info.rule, info.parts, info.images), (ThresholdRule::Rank, 25, scores.len()));
            exceeded += usize::from(new > info.value);
            hardly += usize::from(new > info.scores[2]);
        }
        let share = |count: usize| count as f64 / f64::from(trials);
        let spread = 3.0 * (0.05f64 * 0.95 / f64::from(trials)).sqrt();
        assert!(share(exceeded) <= 0.05 + spread, "{}", share(exceeded));
        assert!(share(exceeded) > share(hardly), "not merely the highest score");
    }

    /// Two parts with log scores 0 and 2, and 4 and 6: means 1 and 5, so 8 between them; 1 within each.
    #[test]
    fn the_tail_counts_parts() {
        let scores = [0.0f32, 2.0, 4.0, 6.0].map(f32::exp);
        let info = threshold_from_scores(&scores, &[7, 7, 9, 9], 0.05, Unit::Length).unwrap();
        assert_eq!((info.rule, info.parts, info.images), (ThresholdRule::Tail, 2, 4));
        // t(0.95; 1) = 6.31375.
        assert!(
            (f64::from(info.value).ln() - (3.0 + 6.313_752 * (9.0f64 * 1.5).sqrt())).abs() < 1e-3,
            "{info:?}"
        );
        assert!(promise(&info).starts_with("2 good parts in 4 images alone"), "{}", promise(&info));
        assert!(promise(&info).contains("19 parts"), "{}", promise(&info));
    }

    proptest! {
        #[test]
        fn thresholds_are_finite_and_fall_with_the_rate(
            scores in prop::collection::vec(0.0f32..1e4, 2..150), a in 0.001f64..0.5, b in 0.001f64..0.5,
        ) {
            let (low, high) = (a.min(b), a.max(b));
            let strict = singles(&scores, low);
            let lax = singles(&scores, high);
            prop_assert!(strict.value.is_finite() && lax.value.is_finite());
            prop_assert!(strict.value >= lax.value);
        }
    }
}
