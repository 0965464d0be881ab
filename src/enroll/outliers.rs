//! Good pictures that score far above the others.

use statrs::distribution::ContinuousCDF;

use super::threshold::{Unit, student};
use crate::error::Result;

/// Probability that the test names a picture of a set without an odd one, if its scores are log-normal.
const SIGNIFICANCE: f64 = 0.01;
/// Largest share of outliers, but at least one may be. More of them are not odd, but a kind of good part.
const MOST: f64 = 0.05;
/// Fewer pictures do not show what is ordinary.
const FEWEST: usize = 10;

/// The numbers of the scores that are too high for a normal distribution on the unbounded scale, highest first:
/// the generalized extreme Studentized deviate test (Rosner 1983), of the upper side only. It sees several
/// outliers, which hide each other from a test for one.
pub(super) fn outliers(scores: &[f32], unit: Unit) -> Result<Vec<usize>> {
    if scores.len() < FEWEST {
        return Ok(Vec::new());
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let open: Vec<f64> = order.iter().map(|&number| unit.open(scores[number])).collect();
    let most = ((MOST * scores.len() as f64) as usize).max(1);
    let mut found = 0;
    for tested in 0..most {
        let rest = &open[tested..];
        let n = rest.len() as f64;
        let mean = rest.iter().sum::<f64>() / n;
        let deviation = (rest.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
        let t = student(n - 2.0)?.inverse_cdf(1.0 - SIGNIFICANCE / n);
        let critical = (n - 1.0) * t / ((n - 2.0 + t * t) * n).sqrt();
        if rest[0] - mean > critical * deviation {
            found = tested + 1;
        }
    }
    order.truncate(found);
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Standard normal quantiles, in no order.
    fn ordinary(count: usize) -> Vec<f32> {
        use statrs::distribution::Normal;
        let normal = Normal::new(0.0, 1.0).unwrap();
        let quantile = |i: usize| normal.inverse_cdf((i as f64 + 0.5) / count as f64);
        (0..count).map(|i| (3.0 + 0.1 * quantile(i * 7 % count)).exp() as f32).collect()
    }

    #[test]
    fn ordinary_scores_have_no_outlier() {
        for count in [2, 10, 31, 100, 1000] {
            assert_eq!(outliers(&ordinary(count), Unit::Length).unwrap(), [0; 0], "{count}");
        }
        assert_eq!(outliers(&[5.0; 30], Unit::Length).unwrap(), [0; 0]);
    }

    #[test]
    fn odd_pictures_are_found_even_if_they_hide_each_other() {
        let mut scores = ordinary(60);
        (scores[7], scores[20], scores[40]) = (50.0, 51.0, 49.0);
        assert_eq!(outliers(&scores, Unit::Length).unwrap(), [20, 7, 40]);
    }

    #[test]
    fn a_tenth_of_the_pictures_is_not_odd() {
        let mut scores = ordinary(60);
        scores[..6].fill(50.0);
        assert_eq!(outliers(&scores, Unit::Length).unwrap(), [0; 0]);
    }
}
