//! The threshold, from leave-one-out scores of good pictures. It needs no defects.

use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::error::{Error, ErrorKind, Result};
use crate::onnx::check_finite;
use crate::package::{ThresholdInfo, ThresholdRule};

/// Meaning of the scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Lengths of residuals: 0 and above.
    Length,
    /// A head's probabilities: 0 to 1.
    Probability,
}

impl Unit {
    /// The score on an unbounded scale: the logarithm of a length, or of a probability's odds.
    fn open(self, score: f32) -> f64 {
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

/// Chooses the threshold for a false-reject rate in (0, 1) from leave-one-out scores.
///
/// - [`ThresholdRule::Rank`] with a rate of at least 1 / (n + 1) for n scores: the ⌈(n + 1)(1 − rate)⌉-th smallest score.
///   A new good picture scores above it with a probability of at most `rate`, for every distribution (split conformal
///   prediction, Vovk et al. 2005).
/// - [`ThresholdRule::Tail`] with fewer scores: the upper prediction limit of log-normal scores (logit-normal, for
///   probabilities), `exp(m + t · s · √(1 + 1/n))` with Student's t of n − 1 degrees of freedom, and at least the highest
///   score. It grows with the uncertainty of few pictures.
///
/// # Errors
/// [`ErrorKind::Usage`] for fewer than two scores or a rate out of range, [`ErrorKind::NotFinite`] for NaN and infinity.
pub(super) fn threshold_from_scores(scores: &[f32], rate: f64, unit: Unit) -> Result<ThresholdInfo> {
    check_finite("the leave-one-out scores", scores)?;
    let n = scores.len();
    if n < 2 {
        return Err(Error::new(ErrorKind::Usage, "a threshold needs the scores of at least two good images"));
    }
    if !(rate > 0.0 && rate < 1.0) {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("the false-reject rate must be between 0 and 1, not {rate}"),
        ));
    }
    let mut sorted = scores.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let highest = sorted[n - 1];
    // The small amount: rounding must not ask for one rank more than the exact product.
    let rank = ((n + 1) as f64 * (1.0 - rate) - 1e-9).ceil() as usize;
    let (value, rule) = if rank <= n {
        (sorted[rank.max(1) - 1], ThresholdRule::Rank)
    } else {
        (tail_limit(&sorted, rate, unit)?.max(highest), ThresholdRule::Tail)
    };
    Ok(ThresholdInfo {
        value,
        false_reject_rate: rate,
        rule,
        images: n,
        promised_rate: (sorted.iter().filter(|&&s| s > value).count() + 1) as f64 / (n + 1) as f64,
        scores: [sorted[0], sorted[n / 2], highest],
    })
}

/// Lowers a [`ThresholdRule::Tail`] limit that would pass a painted defect with this score. The new one is half-way from
/// the highest good score to it, on the unbounded scale. A defect that scores no higher than good pictures changes
/// nothing.
pub(super) fn lower_below(info: &mut ThresholdInfo, painted: f32, unit: Unit) {
    let highest = info.scores[2];
    if info.rule == ThresholdRule::Tail && painted <= info.value && painted > highest {
        info.value = unit.close((unit.open(highest) + unit.open(painted)) / 2.0) as f32;
        info.rule = ThresholdRule::Painted;
    }
}

fn tail_limit(scores: &[f32], rate: f64, unit: Unit) -> Result<f32> {
    let n = scores.len() as f64;
    let logs: Vec<f64> = scores.iter().map(|&s| unit.open(s)).collect();
    let mean = logs.iter().sum::<f64>() / n;
    let variance = logs.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let student = StudentsT::new(0.0, 1.0, n - 1.0)
        .map_err(|e| Error::new(ErrorKind::Usage, "the threshold cannot be computed").with_source(e))?;
    let limit = unit.close(mean + student.inverse_cdf(1.0 - rate) * (variance * (1.0 + 1.0 / n)).sqrt());
    // The limit of two pictures can be infinite; the largest number rejects as little.
    Ok(limit.min(f64::from(f32::MAX)) as f32)
}

/// The promise that this number of pictures allows, in a sentence or two for the user.
pub(crate) fn promise(info: &ThresholdInfo) -> String {
    let percent = |rate: f64| format!("{:.2} %", 100.0 * rate);
    let needed = (1.0 / info.false_reject_rate).ceil() as usize - 1;
    match info.rule {
        ThresholdRule::Rank => format!(
            "{} good images promise that on average at most {} of good parts are rejected, if parts, light and camera \
             stay as enrolled.",
            info.images,
            percent(info.promised_rate)
        ),
        ThresholdRule::Tail => format!(
            "{} good images alone can promise no less than {} of good parts rejected. The threshold aims at {} with \
             the log-normal tail of their scores. {needed} images would promise it without that assumption.",
            info.images,
            percent(1.0 / (info.images + 1) as f64),
            percent(info.false_reject_rate)
        ),
        ThresholdRule::Painted => format!(
            "{} good images are too few to aim at {} of good parts rejected. The threshold is half-way from their highest \
             score to a painted defect's. {needed} images would promise it.",
            info.images,
            percent(info.false_reject_rate)
        ),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn enough_images_take_a_rank() {
        let scores: Vec<f32> = (1..=199).map(|v| v as f32).collect();
        let info = threshold_from_scores(&scores, 0.01, Unit::Length).unwrap();
        assert_eq!((info.rule, info.value), (ThresholdRule::Rank, 198.0));
        assert!((info.promised_rate - 0.01).abs() < 1e-12);
        assert_eq!(info.scores, [1.0, 100.0, 199.0]);
    }

    /// For 5 log scores of mean 0 and deviation 1 the limit is t(0.99; 4) √1.2 = 3.74695 · 1.09545.
    #[test]
    fn few_images_take_the_tail() {
        let d = (0.5f32).sqrt();
        let scores: Vec<f32> = [-2.0 * d, 0.0, 0.0, 0.0, 2.0 * d].iter().map(|v: &f32| v.exp()).collect();
        let info = threshold_from_scores(&scores, 0.01, Unit::Length).unwrap();
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
                draw() > threshold_from_scores(&scores, 0.05, Unit::Length).unwrap().value
            })
            .count();
        let share = exceeded as f64 / f64::from(trials);
        assert!(share <= 0.05 + 3.0 * (0.05f64 * 0.95 / f64::from(trials)).sqrt(), "{share}");
    }

    #[test]
    fn a_limit_beyond_a_painted_defect_is_lowered_to_where_it_rejects_it() {
        let lowered = |scores: &[f32], painted| {
            let mut info = threshold_from_scores(scores, 0.01, Unit::Length).unwrap();
            lower_below(&mut info, painted, Unit::Length);
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
    }

    proptest! {
        #[test]
        fn thresholds_are_finite_and_fall_with_the_rate(
            scores in prop::collection::vec(0.0f32..1e4, 2..150), a in 0.001f64..0.5, b in 0.001f64..0.5,
        ) {
            let (low, high) = (a.min(b), a.max(b));
            let strict = threshold_from_scores(&scores, low, Unit::Length).unwrap();
            let lax = threshold_from_scores(&scores, high, Unit::Length).unwrap();
            prop_assert!(strict.value.is_finite() && lax.value.is_finite());
            prop_assert!(strict.value >= lax.value);
        }
    }
}
