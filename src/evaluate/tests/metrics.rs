//! Metrics against scikit-learn's answers (`tests/data/metrics`) and against definitions too slow to be
//! wrong.

use std::collections::BTreeSet;

use crate::ErrorKind;
use crate::evaluate::datasets::Mask;
use crate::evaluate::metrics::{
    ALLOWED_PERCENTS, Confusion, PRO_LIMIT, PixelMetrics, PixelScores, WIDTH_LIMITS, allowed_rejects, auroc,
    average_precision, best_f1, by_width, confusion, defect_width,
};
use proptest::prelude::*;
use serde::Deserialize;

const TOLERANCE: f64 = 1e-6;

#[derive(Deserialize)]
struct Fixtures {
    images: Vec<ImageCase>,
    pixels: Vec<PixelCase>,
}

#[derive(Deserialize)]
struct ImageCase {
    name: String,
    scores: Vec<f32>,
    labels: Vec<u8>,
    auroc: f64,
    average_precision: f64,
    best_f1: f64,
    lowest_defective: f32,
}

#[derive(Deserialize)]
struct PixelCase {
    name: String,
    images: Vec<PixelImage>,
    auroc: f64,
    average_precision: f64,
    best_f1: f64,
    lowest_defective: f32,
    pro: f64,
    defects: u64,
}

#[derive(Deserialize)]
struct PixelImage {
    width: u32,
    height: u32,
    map: Vec<f32>,
    mask: String,
}

fn fixtures() -> Fixtures {
    serde_json::from_str(include_str!("../../../tests/data/metrics/metrics.json")).unwrap()
}

fn near(a: f64, b: f64, what: &str) {
    assert!((a - b).abs() <= TOLERANCE, "{what}: {a} is not {b}");
}

/// As [`near`], without the panic that every step of shrinking would print.
fn agree(a: f64, b: f64, what: &str) -> Result<(), TestCaseError> {
    prop_assert!((a - b).abs() <= TOLERANCE, "{}: {} is not {}", what, a, b);
    Ok(())
}

#[test]
fn images_as_scikit_learn() {
    for case in fixtures().images {
        let labels: Vec<bool> = case.labels.iter().map(|l| *l == 1).collect();
        let name = &case.name;
        near(auroc(&case.scores, &labels).unwrap().unwrap(), case.auroc, name);
        near(average_precision(&case.scores, &labels).unwrap().unwrap(), case.average_precision, name);
        let best = best_f1(&case.scores, &labels).unwrap().unwrap();
        near(best.f1, case.best_f1, name);
        assert_eq!(best.threshold, case.lowest_defective.next_down(), "{name}");
    }
}

#[test]
fn pixels_as_scikit_learn() {
    for case in fixtures().pixels {
        let mut scores = PixelScores::default();
        for image in &case.images {
            let bits = image.mask.bytes().map(|b| b == b'#').collect();
            scores.add(&image.map, &Mask::new(image.width, image.height, bits).unwrap()).unwrap();
        }
        let found = scores.finish().unwrap();
        let name = &case.name;
        near(found.auroc, case.auroc, name);
        near(found.average_precision, case.average_precision, name);
        near(found.pro, case.pro, name);
        near(found.best_f1.f1, case.best_f1, name);
        assert_eq!(found.best_f1.threshold, case.lowest_defective.next_down(), "{name}");
        assert_eq!(found.defects, case.defects, "{name}");
    }
}

#[test]
fn the_best_threshold_rejects_what_it_counted() {
    let scores = [0.1, 0.4, 0.35, 0.8, 0.0, -0.0];
    let labels = [false, false, true, true, false, true];
    let best = best_f1(&scores, &labels).unwrap().unwrap();
    let counts = confusion(&scores, &labels, best.threshold).unwrap();
    let hits = (counts.defective - counts.misses) as f64;
    near(best.f1, 2.0 * hits / (hits + counts.false_rejects as f64 + counts.defective as f64), "f1");
}

#[test]
fn of_equally_good_thresholds_the_lowest_is_best() {
    // One hit of two without a false call, and both hits with two: F1 is two thirds either way.
    let best = best_f1(&[4.0, 3.0, 2.0, 1.0], &[true, false, false, true]).unwrap().unwrap();
    near(best.f1, 2.0 / 3.0, "f1");
    assert_eq!(best.threshold, 1f32.next_down());
}

#[test]
fn confusion_counts_above_the_threshold() {
    let (scores, labels) =
        ([1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 4.0], [false, false, false, true, true, true, true]);
    let counted = |threshold| confusion(&scores, &labels, threshold).unwrap();
    assert_eq!(counted(2.0), Confusion { good: 3, false_rejects: 1, defective: 4, misses: 2 });
    assert_eq!(counted(f32::NEG_INFINITY), Confusion { good: 3, false_rejects: 3, defective: 4, misses: 0 });
    assert_eq!(counted(4.0), Confusion { good: 3, false_rejects: 0, defective: 4, misses: 4 });
    assert_eq!(confusion(&[], &[], 0.0).unwrap(), Confusion::default());
}

#[test]
fn one_class_has_no_metrics() {
    for labels in [vec![], vec![true; 3], vec![false; 3]] {
        let scores = &[0.1, 0.2, 0.3][..labels.len()];
        assert_eq!(auroc(scores, &labels).unwrap(), None);
        assert_eq!(average_precision(scores, &labels).unwrap(), None);
        assert_eq!(best_f1(scores, &labels).unwrap(), None);
    }
    assert_eq!(PixelScores::default().finish(), None);
    for bits in [vec![true; 4], vec![false; 4]] {
        let mut scores = PixelScores::default();
        scores.add(&[0.0, 0.1, 0.2, 0.3], &Mask::new(2, 2, bits).unwrap()).unwrap();
        assert_eq!(scores.finish(), None);
    }
}

#[test]
fn one_good_part_of_twenty_is_five_percent() {
    let scores: Vec<f32> = (1..=20).map(|v| v as f32).chain([19.5, 20.0, 21.0]).collect();
    let labels: Vec<bool> = (0..scores.len()).map(|i| i >= 20).collect();
    let [one, five] = allowed_rejects(&scores, &labels).unwrap()[..] else { panic!() };
    assert_eq!((one.percent, one.threshold, one.confusion.misses), (1, 20.0, 2));
    assert_eq!((five.percent, five.threshold, five.confusion.misses), (5, 19.0, 0));
    assert_eq!((one.confusion.false_rejects, five.confusion.false_rejects), (0, 1));
    // Of two equal good scores, one cannot fall without the other.
    let tied: Vec<f32> = scores.iter().map(|s| if *s == 19.0 { 20.0 } else { *s }).collect();
    let allowed = allowed_rejects(&tied, &labels).unwrap();
    assert_eq!((allowed[1].threshold, allowed[1].confusion.false_rejects), (20.0, 0));
    for labels in [[true; 3], [false; 3]] {
        assert_eq!(allowed_rejects(&[1.0, 2.0, 3.0], &labels).unwrap(), []);
        assert_eq!(by_width(&[1.0, 2.0, 3.0], &labels, &[1.0; 3], 1.0).unwrap()[0].image_auroc, None);
    }
}

#[test]
fn the_width_is_that_of_the_largest_circle() {
    let width = |columns: usize, rows: usize, defective: &dyn Fn(usize, usize) -> bool| {
        let bits = (0..columns * rows).map(|i| defective(i % columns, i / columns)).collect();
        defect_width(&Mask::new(columns as u32, rows as u32, bits).unwrap())
    };
    assert_eq!(width(0, 0, &|_, _| true), 0.0);
    assert_eq!(width(20, 10, &|_, _| false), 0.0);
    assert_eq!(width(20, 10, &|x, y| x == 3 && y == 5), 2.0);
    assert_eq!(width(20, 10, &|x, _| (5..8).contains(&x)), 4.0);
    assert_eq!(width(20, 10, &|_, y| y == 0), 2.0, "the frame's edge ends a defect");
    assert_eq!(width(21, 9, &|_, _| true), 10.0);
    let near = |x: usize, y: usize| x.abs_diff(50).pow(2) + y.abs_diff(40).pow(2) <= 20 * 20;
    assert!((width(100, 80, &near) - 41.0).abs() < 1.0);
    assert_eq!(width(40, 40, &|x, y| x == y), 2.0, "a thin slanted scratch");
}

#[test]
fn widths_are_classed_from_their_lower_limit() {
    // A good score of 2 and one of 4; one defect of each width.
    let widths = [0.0, 0.0, 2.0, 4.0, 8.0, 15.9, 16.0, 300.0];
    let scores = [2.0, 4.0, 1.0, 3.0, 5.0, 3.0, 5.0, 5.0];
    let labels = [false, false, true, true, true, true, true, true];
    let classes = by_width(&scores, &labels, &widths, 3.5).unwrap();
    let seen: Vec<_> = classes.iter().map(|c| (c.from, c.below, c.defective, c.misses)).collect();
    let limits = [(0.0, Some(4.0)), (4.0, Some(8.0)), (8.0, Some(16.0)), (16.0, None)];
    let counts = [(1, 1), (1, 1), (2, 1), (2, 0)];
    for (seen, ((from, below), (defective, misses))) in seen.into_iter().zip(limits.into_iter().zip(counts)) {
        assert_eq!(seen, (from, below, defective, misses));
    }
    assert_eq!(classes.map(|c| c.image_auroc), [0.0, 0.5, 0.75, 1.0].map(Some));
    let error = by_width(&scores, &labels, &widths[1..], 3.5).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::Usage, "7 widths cannot be compared with 8 labels")
    );
}

#[test]
fn the_false_reject_rate_needs_good_parts() {
    let counts = Confusion { good: 4, false_rejects: 1, defective: 2, misses: 0 };
    assert_eq!(counts.false_reject_rate(), Some(0.25));
    assert_eq!(Confusion { good: 0, false_rejects: 0, ..counts }.false_reject_rate(), None);
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    let labels = [true, false];
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let scores = [0.5, bad];
        let kinds = [
            auroc(&scores, &labels).unwrap_err().kind(),
            average_precision(&scores, &labels).unwrap_err().kind(),
            best_f1(&scores, &labels).unwrap_err().kind(),
            confusion(&scores, &labels, 0.0).unwrap_err().kind(),
            allowed_rejects(&scores, &labels).unwrap_err().kind(),
            by_width(&scores, &labels, &[1.0; 2], 0.0).unwrap_err().kind(),
        ];
        assert_eq!(kinds, [ErrorKind::NotFinite; 6]);
    }
    assert_eq!(confusion(&[0.5, 0.6], &labels, f32::NAN).unwrap_err().kind(), ErrorKind::NotFinite);
}

#[test]
fn a_refused_map_leaves_no_trace() {
    let mask = Mask::new(2, 2, vec![true, false, false, false]).unwrap();
    let mut scores = PixelScores::default();
    let error = scores.add(&[0.9, 0.1, f32::NAN, 0.1], &mask).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFinite);
    assert_eq!(error.to_string(), "the anomaly map is NaN at column 0, row 1");
    let error = scores.add(&[0.9, 0.1], &mask).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    scores.add(&[0.9, 0.1, 0.2, 0.1], &mask).unwrap();
    let found = scores.finish().unwrap();
    assert_eq!((found.good_pixels, found.defective_pixels, found.defects), (3, 1, 1));
    assert_eq!((found.auroc, found.average_precision, found.pro, found.best_f1.f1), (1.0, 1.0, 1.0, 1.0));
}

#[test]
fn labels_must_match_scores() {
    assert_eq!(auroc(&[0.1], &[]).unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(confusion(&[0.1], &[true, false], 0.0).unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(Mask::new(2, 2, vec![true; 3]).unwrap_err().kind(), ErrorKind::Usage);
}

/// All pairs.
fn slow_auroc(scores: &[f32], labels: &[bool]) -> f64 {
    let (mut wins, mut pairs) = (0.0, 0.0);
    for (d, _) in scores.iter().zip(labels).filter(|(_, l)| **l) {
        for (g, _) in scores.iter().zip(labels).filter(|(_, l)| !**l) {
            pairs += 1.0;
            wins += if d > g {
                1.0
            } else if d == g {
                0.5
            } else {
                0.0
            };
        }
    }
    wins / pairs
}

/// Distinct scores, highest first.
fn thresholds(scores: &[f32]) -> Vec<f32> {
    let mut distinct = scores.to_vec();
    distinct.sort_by(|a, b| b.total_cmp(a));
    distinct.dedup();
    distinct
}

/// Defective and good ones among the scores that reach `threshold`.
fn called(scores: &[f32], labels: &[bool], threshold: f32) -> (f64, f64) {
    let count =
        |kind| scores.iter().zip(labels).filter(|(s, l)| **s >= threshold && **l == kind).count() as f64;
    (count(true), count(false))
}

/// Average precision and best F1, every threshold from scratch.
fn slow_precision(scores: &[f32], labels: &[bool]) -> (f64, f64) {
    let defective = labels.iter().filter(|l| **l).count() as f64;
    let (mut ap, mut best, mut recall) = (0.0, 0.0f64, 0.0);
    for threshold in thresholds(scores) {
        let (hits, false_calls) = called(scores, labels, threshold);
        ap += (hits / defective - recall) * hits / (hits + false_calls);
        recall = hits / defective;
        best = best.max(2.0 * hits / (hits + false_calls + defective));
    }
    (ap, best)
}

/// The threshold of [`allowed_rejects`], trying each good score from the lowest.
fn slow_allowed(scores: &[f32], labels: &[bool], percent: u8) -> f32 {
    let good: Vec<f32> = scores.iter().zip(labels).filter(|(_, l)| !**l).map(|(s, _)| *s).collect();
    let falls = |threshold: f32| good.iter().filter(|s| **s > threshold).count();
    let mut rising = thresholds(&good);
    rising.reverse();
    rising.into_iter().find(|t| 100 * falls(*t) <= usize::from(percent) * good.len()).unwrap()
}

/// Twice the largest distance from a defective pixel to any other, or to any outside of the mask.
fn slow_width(image: &Image) -> f64 {
    let (width, height) = (image.width as i64, image.height as i64);
    let defective = |x: i64, y: i64| {
        (0..width).contains(&x) && (0..height).contains(&y) && image.bits[(y * width + x) as usize]
    };
    let places = || (-1..=height).flat_map(|y| (-1..=width).map(move |x| (x, y)));
    let nearest = |x: i64, y: i64| {
        let good = places().filter(|(a, b)| !defective(*a, *b));
        good.map(|(a, b)| (a - x).pow(2) + (b - y).pow(2)).min().unwrap()
    };
    let widest = places().filter(|(x, y)| defective(*x, *y)).map(|(x, y)| nearest(x, y)).max();
    2.0 * (widest.unwrap_or(0) as f64).sqrt()
}

struct Image {
    width: usize,
    height: usize,
    map: Vec<f32>,
    bits: Vec<bool>,
}

impl Image {
    /// The pixels of each defect, by growing sets until they stop.
    fn defects(&self) -> Vec<BTreeSet<usize>> {
        let near = |a: usize, b: usize| {
            (a % self.width).abs_diff(b % self.width) <= 1 && (a / self.width).abs_diff(b / self.width) <= 1
        };
        let mut left: BTreeSet<usize> = (0..self.width * self.height).filter(|i| self.bits[*i]).collect();
        let mut found = Vec::new();
        while let Some(first) = left.pop_first() {
            let mut area = BTreeSet::from([first]);
            while let Some(&next) = left.iter().find(|i| area.iter().any(|a| near(*a, **i))) {
                left.remove(&next);
                area.insert(next);
            }
            found.push(area);
        }
        found
    }
}

/// PRO with every threshold from scratch, and the number of defects.
fn slow_pro(images: &[Image]) -> (f64, usize) {
    let scores: Vec<f32> = images.iter().flat_map(|i| i.map.iter().copied()).collect();
    let labels: Vec<bool> = images.iter().flat_map(|i| i.bits.iter().copied()).collect();
    let good = labels.iter().filter(|l| !**l).count() as f64;
    let defects: Vec<(usize, BTreeSet<usize>)> =
        images.iter().enumerate().flat_map(|(n, i)| i.defects().into_iter().map(move |d| (n, d))).collect();
    let mut points = vec![(0.0, 0.0)];
    for threshold in thresholds(&scores) {
        let overlaps = defects.iter().map(|(n, area)| {
            area.iter().filter(|i| images[*n].map[**i] >= threshold).count() as f64 / area.len() as f64
        });
        points.push((
            called(&scores, &labels, threshold).1 / good,
            overlaps.sum::<f64>() / defects.len() as f64,
        ));
    }
    let mut area = 0.0;
    for pair in points.windows(2) {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        let end = x1.min(PRO_LIMIT);
        if x1 > x0 && end > x0 {
            let y = y0 + (y1 - y0) * (end - x0) / (x1 - x0);
            area += (end - x0) * (y0 + y) / 2.0;
        }
    }
    (area / PRO_LIMIT, defects.len())
}

/// Few distinct values, so that ties are common, or many.
fn score() -> impl Strategy<Value = f32> {
    prop_oneof![(-3i8..4).prop_map(f32::from), -1e6f32..1e6, -1e-6f32..1e-6]
}

fn images() -> impl Strategy<Value = Vec<Image>> {
    let image = (1usize..9, 1usize..9, 0.0f64..0.7).prop_flat_map(|(width, height, share)| {
        let pixel = (score(), prop::bool::weighted(share));
        prop::collection::vec(pixel, width * height).prop_map(move |pixels| {
            let (map, bits) = pixels.into_iter().unzip();
            Image { width, height, map, bits }
        })
    });
    prop::collection::vec(image, 1..4)
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}×{} {:?} {:?}", self.width, self.height, self.map, self.bits)
    }
}

fn measured(images: &[Image]) -> Option<PixelMetrics> {
    let mut scores = PixelScores::default();
    for image in images {
        let mask = Mask::new(image.width as u32, image.height as u32, image.bits.clone()).unwrap();
        scores.add(&image.map, &mask).unwrap();
    }
    scores.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn images_as_defined(pairs in prop::collection::vec((score(), any::<bool>()), 2..80)) {
        let (scores, labels): (Vec<f32>, Vec<bool>) = pairs.into_iter().unzip();
        let Some(found) = auroc(&scores, &labels).unwrap() else {
            prop_assert!(labels.iter().all(|l| *l) || labels.iter().all(|l| !*l));
            return Ok(());
        };
        let (ap, f1) = slow_precision(&scores, &labels);
        agree(found, slow_auroc(&scores, &labels), "auroc")?;
        agree(average_precision(&scores, &labels).unwrap().unwrap(), ap, "average precision")?;
        let best = best_f1(&scores, &labels).unwrap().unwrap();
        agree(best.f1, f1, "best F1")?;
        let counts = confusion(&scores, &labels, best.threshold).unwrap();
        let hits = (counts.defective - counts.misses) as f64;
        agree(2.0 * hits / (hits + (counts.false_rejects + counts.defective) as f64), f1, "F1 at the threshold")?;
    }

    #[test]
    fn allowed_rejects_as_defined(pairs in prop::collection::vec((score(), any::<bool>()), 2..80)) {
        let (scores, labels): (Vec<f32>, Vec<bool>) = pairs.into_iter().unzip();
        let found = allowed_rejects(&scores, &labels).unwrap();
        if labels.iter().all(|l| *l) || labels.iter().all(|l| !*l) {
            prop_assert_eq!(found, []);
            return Ok(());
        }
        prop_assert_eq!(found.len(), ALLOWED_PERCENTS.len());
        for (found, percent) in found.into_iter().zip(ALLOWED_PERCENTS) {
            prop_assert_eq!(found.percent, percent);
            prop_assert_eq!(found.threshold, slow_allowed(&scores, &labels, percent));
            prop_assert_eq!(found.confusion, confusion(&scores, &labels, found.threshold).unwrap());
        }
    }

    #[test]
    fn widths_as_defined(
        (width, height, bits) in (1usize..12, 1usize..12, 0.3f64..1.0).prop_flat_map(|(w, h, share)| {
            (Just(w), Just(h), prop::collection::vec(prop::bool::weighted(share), w * h))
        })
    ) {
        let mask = Mask::new(width as u32, height as u32, bits.clone()).unwrap();
        let image = Image { width, height, map: vec![], bits };
        prop_assert_eq!(defect_width(&mask), slow_width(&image));
    }

    #[test]
    fn width_classes_as_defined(
        images in prop::collection::vec((score(), any::<bool>(), 0.0f64..20.0), 1..60),
        threshold in score(),
    ) {
        let scores: Vec<f32> = images.iter().map(|i| i.0).collect();
        let labels: Vec<bool> = images.iter().map(|i| i.1).collect();
        let widths: Vec<f64> = images.iter().map(|i| i.2).collect();
        for (n, class) in by_width(&scores, &labels, &widths, threshold).unwrap().into_iter().enumerate() {
            let number = |width: f64| WIDTH_LIMITS.iter().filter(|limit| width >= **limit).count();
            let own: Vec<_> = images.iter().filter(|i| !i.1 || number(i.2) == n).collect();
            let (scores, labels): (Vec<f32>, Vec<bool>) = own.iter().map(|i| (i.0, i.1)).unzip();
            let bad = || own.iter().filter(|i| i.1);
            prop_assert_eq!(class.defective, bad().count());
            prop_assert_eq!(class.misses, bad().filter(|i| i.0 <= threshold).count());
            match class.image_auroc {
                Some(found) => agree(found, slow_auroc(&scores, &labels), "auroc")?,
                None => prop_assert!(bad().count() == 0 || bad().count() == own.len()),
            }
        }
    }

    #[test]
    fn pixels_as_defined(images in images()) {
        let scores: Vec<f32> = images.iter().flat_map(|i| i.map.iter().copied()).collect();
        let labels: Vec<bool> = images.iter().flat_map(|i| i.bits.iter().copied()).collect();
        let Some(found) = measured(&images) else {
            prop_assert!(labels.iter().all(|l| *l) || labels.iter().all(|l| !*l));
            return Ok(());
        };
        let (ap, f1) = slow_precision(&scores, &labels);
        let (pro, defects) = slow_pro(&images);
        agree(found.auroc, slow_auroc(&scores, &labels), "auroc")?;
        agree(found.average_precision, ap, "average precision")?;
        agree(found.best_f1.f1, f1, "best F1")?;
        agree(found.pro, pro, "PRO")?;
        prop_assert_eq!(found.defects, defects as u64);
        prop_assert_eq!(found.defective_pixels, labels.iter().filter(|l| **l).count() as u64);
        prop_assert_eq!(found.defective_pixels + found.good_pixels, labels.len() as u64);
    }
}

/// The measured claim about time and memory:
/// `cargo test --release --lib -- --ignored --nocapture fifty_million`
#[test]
#[ignore = "takes a quarter of a gigabyte and is only of interest in release mode"]
fn fifty_million_pixels() {
    let (width, height, images) = (1000u32, 1000u32, 50);
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    let mut scores = PixelScores::default();
    let (mut adding, mut area) = (std::time::Duration::ZERO, 0.0);
    for n in 0..images {
        // Forty defects of 25×40 pixels in every second image: 2 % of all pixels.
        let defective = |x: u32, y: u32| n % 2 == 0 && x % 125 < 25 && y % 200 < 40;
        let bits: Vec<bool> = (0..width * height).map(|i| defective(i % width, i / width)).collect();
        let map: Vec<f32> = bits.iter().map(|b| random() + if *b { 0.5 } else { 0.0 }).collect();
        area += bits.iter().filter(|b| **b).count() as f64;
        let mask = Mask::new(width, height, bits).unwrap();
        let start = std::time::Instant::now();
        scores.add(&map, &mask).unwrap();
        adding += start.elapsed();
    }
    let start = std::time::Instant::now();
    let found = scores.finish().unwrap();
    println!("adding {adding:.2?}, finish {:.2?}, {found:?}", start.elapsed());
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        println!("{}", status.lines().find(|l| l.starts_with("VmHWM")).unwrap_or("no peak memory"));
    }
    assert_eq!(found.defective_pixels as f64, area);
    // Uniform scores, shifted by half: the area under the curve is 1 - 0.5²/2.
    near((found.auroc * 1e3).round() / 1e3, 0.875, "auroc");
}
