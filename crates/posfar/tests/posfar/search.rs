#![allow(clippy::single_range_in_vec_init, reason = "one range of rows is a usual search")]

use std::ops::Range;

use ndarray::Array2;
use posfar::search::{Index, Instructions, Neighbor, Scratch};
use proptest::prelude::*;

use crate::support::{Draw, Kind, KindOf, squared_distance, wide, with_threads};

/// Every allowed candidate of every query, sorted by distance and then row; the first `k` of them.
fn brute_force(
    queries: &Array2<f32>,
    bank: &Array2<f32>,
    ranges: &[Range<usize>],
    allowed: impl Fn(usize, usize) -> bool,
    k: usize,
) -> Vec<Option<(usize, f64)>> {
    let mut all = Vec::new();
    let (queries, bank) = (wide(queries.view()), wide(bank.view()));
    for (q, query) in queries.rows().into_iter().enumerate() {
        let query = query.to_vec();
        let mut found: Vec<(usize, f64)> = ranges
            .iter()
            .flat_map(|r| r.clone())
            .filter(|&row| allowed(q, row))
            .map(|row| (row, squared_distance(&query, bank.row(row).as_slice().unwrap())))
            .collect();
        found.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        all.extend((0..k).map(|rank| found.get(rank).copied()));
    }
    all
}

/// What every instruction set that this machine has finds: they must agree to the last bit.
fn fast(
    queries: &Array2<f32>,
    index: &Index,
    ranges: &[Range<usize>],
    allowed: impl Fn(usize, usize) -> bool + Sync,
    k: usize,
) -> Vec<Neighbor> {
    let mut found: Vec<Vec<Neighbor>> = Instructions::available()
        .into_iter()
        .map(|instructions| {
            let mut out = vec![Neighbor { index: 12, distance: -5.0 }; queries.nrows() * k];
            index.nearest(queries.view(), ranges, &allowed, &mut Scratch::new(instructions), &mut out);
            out
        })
        .collect();
    assert!(found.iter().all(|f| *f == found[0]));
    found.pop().unwrap()
}

fn index(rows: &Array2<f32>) -> Index {
    Index::new(rows.view()).unwrap()
}

/// Against brute force on the rows as the index rounded them. Distances closer than rounding may change places.
fn check_against_brute_force(
    queries: &Array2<f32>,
    index: &Index,
    ranges: &[Range<usize>],
    allowed: impl Fn(usize, usize) -> bool + Sync,
    k: usize,
) {
    let rows = wide(index.rows().view());
    let slow = brute_force(queries, &index.rows(), ranges, &allowed, k);
    let found = fast(queries, index, ranges, &allowed, k);
    for (place, (fast, slow)) in found.iter().zip(slow).enumerate() {
        let query = place / k;
        let Some((row, distance)) = slow else {
            assert!(!fast.is_some());
            continue;
        };
        assert!(fast.is_some(), "query {query} found nothing, but row {row} is there");
        assert!(allowed(query, fast.index as usize));
        if fast.index as usize != row {
            let really = squared_distance(
                &wide(queries.view()).row(query).to_vec(),
                &rows.row(fast.index as usize).to_vec(),
            );
            assert!(really <= distance * (1.0 + 1e-5), "query {query}: {really} instead of {distance}");
        }
        assert!((f64::from(fast.distance) - distance).abs() <= 1e-5 * distance + 1e-30);
    }
    for best in found.chunks(k) {
        assert!(best.is_sorted_by(|a, b| a.distance <= b.distance));
        let mut rows: Vec<u32> = best.iter().filter(|n| n.is_some()).map(|n| n.index).collect();
        rows.sort_unstable();
        assert!(rows.windows(2).all(|w| w[0] < w[1]), "a row was found twice");
    }
}

/// Ascending, disjoint runs of rows, some empty, some touching.
fn cut(count: usize, draw: &mut Draw) -> Vec<Range<usize>> {
    let mut borders: Vec<usize> = (0..2 * draw.below(4)).map(|_| draw.below(count + 1)).collect();
    borders.sort_unstable();
    let mut ranges: Vec<Range<usize>> = borders.chunks_exact(2).map(|b| b[0]..b[1]).collect();
    if draw.below(3) == 0 {
        ranges = vec![0..count / 2, count / 2..count];
    }
    ranges
}

/// A rule that forbids about half of all pairs and some queries everything.
fn rule(query: usize, row: usize) -> bool {
    !query.is_multiple_of(7) && (query * 31 + row * 17) % 5 < 3
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn whole_numbers_find_exactly_what_brute_force_finds(
        queries in prop_oneof![1usize..10, 62usize..67, 127usize..131],
        tokens in prop_oneof![1usize..20, 254usize..259, 511usize..515, 1100usize..1110],
        dims in prop_oneof![1usize..6, 14usize..18, 31usize..35], span in 0usize..5, k in 1usize..4,
        filtered: bool, seed: u64,
    ) {
        let mut draw = Draw::new(seed);
        let (queries, bank) = (draw.integers(queries, dims, span), draw.integers(tokens, dims, span));
        let ranges = cut(tokens, &mut draw);
        let allowed = |q: usize, row: usize| !filtered || rule(q, row);
        let index = index(&bank);
        // Whole numbers survive rounding to 16 bits, because its unit is a power of two.
        prop_assert_eq!(index.rows(), &bank);
        let fast = fast(&queries, &index, &ranges, allowed, k);
        let slow = brute_force(&queries, &bank, &ranges, allowed, k);
        for (fast, slow) in fast.iter().zip(slow) {
            match slow {
                None => {
                    prop_assert_eq!(*fast, Neighbor::NONE);
                    prop_assert!(!fast.is_some());
                }
                Some((row, distance)) => {
                    prop_assert_eq!(*fast, Neighbor { index: row as u32, distance: distance as f32 });
                    prop_assert!(fast.is_some());
                }
            }
        }
    }

    #[test]
    fn real_numbers_find_neighbors_that_are_as_near(
        queries in 1usize..80, tokens in 1usize..900,
        dims in prop_oneof![1usize..20, 24usize..36, 62usize..67, 127usize..131],
        k in 1usize..4, seed: u64,
    ) {
        let mut draw = Draw::new(seed);
        let (queries, bank) = (draw.reals(queries, dims), draw.reals(tokens, dims));
        let everything = 0..tokens;
        check_against_brute_force(&queries, &index(&bank), &[everything], |_, _| true, k);
    }

    /// Dimensions of falling variance and clusters, as PCA of real tokens gives.
    #[test]
    fn clusters_find_their_neighbors(
        tokens in 500usize..2000, dims in 20usize..70, clusters in 1usize..12, spread in -3i32..1, seed: u64,
    ) {
        let mut draw = Draw::new(seed);
        let centers = draw.reals(clusters, dims);
        let mut clustered = |count: usize| {
            let noise = draw.reals(count, dims) * 10f32.powi(spread);
            Array2::from_shape_fn((count, dims), |(i, dim)| {
                (centers[[(i * 7) % clusters, dim]] + noise[[i, dim]]) * 40.0 / (1.0 + dim as f32)
            })
        };
        let (queries, bank) = (clustered(60), clustered(tokens));
        let ranges = [0..tokens / 3, tokens / 2..tokens];
        check_against_brute_force(&queries, &index(&bank), &ranges, |_, _| true, 1);
        check_against_brute_force(&queries, &index(&bank), &ranges, rule, 3);
    }

    /// An attack on the bound: rows that screening rounds to the same values, or in the wrong order, because a single
    /// large row makes the steps of rounding coarse, or because they lie around the middle between two steps.
    #[test]
    fn rounding_never_hides_the_nearest(
        dims in 1usize..40, coarse in 1f32..2000.0, step in 0.0005f32..2.0, far in 0.0f32..300.0, k in 1usize..4,
        seed: u64,
    ) {
        let mut draw = Draw::new(seed);
        let mut bank = draw.reals(700, dims) * step;
        bank[[350, dims - 1]] = coarse;
        bank[[351, 0]] = -coarse;
        let middle = (draw.below(200) as f32 - 100.0 + 0.5) * coarse / 127.49;
        for mut row in bank.rows_mut().into_iter().skip(400) {
            row += middle;
        }
        let mut queries = draw.reals(40, dims) * step;
        for (i, mut query) in queries.rows_mut().into_iter().enumerate() {
            query += [0.0, middle, far * step, far * coarse][i % 4];
        }
        check_against_brute_force(&queries, &index(&bank), &[0..700], |_, _| true, k);
    }

    #[test]
    fn queries_far_outside_of_the_bank_find_their_neighbors(
        dims in 1usize..40, power in 0i32..10, scale in -8i32..8, seed: u64,
    ) {
        let mut draw = Draw::new(seed);
        let scale = 10f32.powi(scale);
        let bank = draw.reals(600, dims) * scale;
        let mut queries = draw.reals(20, dims) * scale;
        for mut query in queries.rows_mut().into_iter().step_by(2) {
            query *= 10f32.powi(power);
        }
        check_against_brute_force(&queries, &index(&bank), &[0..600], |_, _| true, 2);
    }
}

#[test]
fn equally_near_rows_come_in_their_order() {
    let bank = Array2::from_elem((600, 2), 1.0);
    let queries = Array2::from_elem((70, 2), 1.0);
    for best in fast(&queries, &index(&bank), &[5..20, 300..600], |_, row| row != 6, 3).chunks(3) {
        assert_eq!(best.iter().map(|n| n.index).collect::<Vec<_>>(), [5, 7, 8]);
        assert!(best.iter().all(|n| n.distance == 0.0));
    }
}

#[test]
fn a_search_does_not_depend_on_the_number_of_threads() {
    let mut draw = Draw::new(9);
    let (queries, bank) = (draw.reals(500, 12), draw.reals(1500, 12));
    let index = index(&bank);
    let results = with_threads(|| fast(&queries, &index, &[0..700, 800..1500], |_, _| true, 3));
    assert!(results.iter().all(|r| *r == results[0]));
}

#[test]
fn no_queries_no_ranges_and_no_neighbors_are_no_trouble() {
    let mut draw = Draw::new(10);
    let bank = index(&draw.reals(10, 3));
    let everything = [0..10];
    assert!(fast(&Array2::zeros((0, 3)), &bank, &everything, |_, _| true, 2).is_empty());
    assert!(fast(&draw.reals(4, 3), &bank, &everything, |_, _| true, 0).is_empty());
    assert_eq!(fast(&draw.reals(4, 3), &bank, &[], |_, _| true, 2), [Neighbor::NONE; 8]);
    let zeros = index(&Array2::zeros((10, 3)));
    assert_eq!(
        fast(&Array2::zeros((1, 3)), &zeros, &everything, |_, _| true, 1),
        [Neighbor { index: 0, distance: 0.0 }]
    );
    // A distance that overflows is none.
    assert_eq!(fast(&Array2::from_elem((1, 3), 1e30), &zeros, &everything, |_, _| true, 1), [Neighbor::NONE]);
}

#[test]
fn more_dimensions_or_rows_than_can_be_numbered_are_refused() {
    let wide = Array2::zeros((2, 65_535));
    assert!(Index::new(wide.view()).is_ok());
    for shape in [(2, 65_536), (u32::MAX as usize, 0)] {
        let rows = Array2::zeros(shape);
        assert_eq!(Index::new(rows.view()).unwrap_err().kind(), Kind::InvalidArgument);
    }
}

/// The longest rows with the largest values: no sum overflows.
#[test]
fn the_most_dimensions_find_their_neighbors() {
    let mut draw = Draw::new(17);
    let signs = Array2::from_shape_simple_fn((40, 65_535), || if draw.below(2) == 0 { -1.0 } else { 1.0 });
    let index = index(&signs);
    let everything = 0..40;
    for k in [1, 3] {
        let found = fast(&signs, &index, std::slice::from_ref(&everything), |_, _| true, k);
        for (row, found) in found.chunks(k).enumerate() {
            assert_eq!((found[0].index as usize, found[0].distance), (row, 0.0));
        }
    }
    let all = Array2::ones((17, 65_535));
    let found = fast(&all, &Index::new((&all * -1.0).view()).unwrap(), &[0..17], |_, _| true, 2);
    assert!(found.iter().all(|n| n.distance == 4.0 * 65_535.0), "{found:?}");
}

#[test]
fn rows_that_are_not_finite_are_refused() {
    // The last one has a norm that is infinite.
    for value in [f32::NAN, f32::INFINITY, 1e20] {
        let error = Index::new(Array2::from_elem((2, 2), value).view()).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFinite);
    }
}

#[test]
fn a_scratch_serves_searches_of_any_size() {
    let mut draw = Draw::new(11);
    let mut scratch = Scratch::default();
    for (queries, tokens, dims) in [(50, 900, 40), (3, 20, 2), (0, 5, 2), (90, 300, 64), (9, 1000, 17)] {
        let (queries, bank) = (draw.reals(queries, dims), draw.reals(tokens, dims));
        let (index, ranges) = (index(&bank), [0..tokens]);
        let mut out = vec![Neighbor::NONE; queries.nrows()];
        index.nearest(queries.view(), &ranges, |_, _| true, &mut scratch, &mut out);
        assert_eq!(out, fast(&queries, &index, &ranges, |_, _| true, 1));
    }
}
