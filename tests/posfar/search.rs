use std::ops::Range;

use ndarray::Array2;
use proptest::prelude::*;
use weakrest::posfar::search::{Neighbor, nearest, squared_norms};

use crate::support::{Draw, squared_distance, wide, with_threads};

/// Every allowed candidate of every query, sorted by distance and then row; the first `k` of them.
fn brute_force(
    queries: &Array2<f32>,
    bank: &Array2<f32>,
    ranges: &[Range<usize>],
    allowed: impl Fn(usize, usize) -> bool,
    k: usize,
) -> Vec<Option<(usize, f64)>> {
    let mut all = Vec::new();
    for (q, query) in wide(queries.view()).rows().into_iter().enumerate() {
        let mut found: Vec<(usize, f64)> = ranges
            .iter()
            .flat_map(|r| r.clone())
            .filter(|&row| allowed(q, row))
            .map(|row| (row, squared_distance(&query.to_vec(), &wide(bank.view()).row(row).to_vec())))
            .collect();
        found.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        all.extend((0..k).map(|rank| found.get(rank).copied()));
    }
    all
}

fn fast(
    queries: &Array2<f32>,
    bank: &Array2<f32>,
    ranges: &[Range<usize>],
    allowed: impl Fn(usize, usize) -> bool + Sync,
    k: usize,
) -> Vec<Neighbor> {
    let mut out = vec![Neighbor { index: 12, distance: -5.0 }; queries.nrows() * k];
    nearest(queries.view(), bank.view(), &squared_norms(bank.view()), ranges, allowed, &mut out);
    out
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
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whole_numbers_find_exactly_what_brute_force_finds(
        queries in prop_oneof![1usize..8, 62usize..67, 127usize..131],
        tokens in prop_oneof![1usize..12, 254usize..259, 511usize..515],
        dims in 1usize..6, span in 0usize..5, k in 1usize..4, filtered: bool, seed: u64,
    ) {
        let mut draw = Draw::new(seed);
        let (queries, bank) = (draw.integers(queries, dims, span), draw.integers(tokens, dims, span));
        let ranges = cut(tokens, &mut draw);
        let allowed = |q: usize, row: usize| !filtered || rule(q, row);
        let fast = fast(&queries, &bank, &ranges, allowed, k);
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
        queries in 1usize..80, tokens in 1usize..400, dims in 1usize..20, k in 1usize..4, seed: u64,
    ) {
        let mut draw = Draw::new(seed);
        let (queries, bank) = (draw.reals(queries, dims), draw.reals(tokens, dims));
        let everything = 0..tokens;
        let ranges = std::slice::from_ref(&everything);
        let slow = brute_force(&queries, &bank, ranges, |_, _| true, k);
        let found = fast(&queries, &bank, ranges, |_, _| true, k);
        for (query, (fast, slow)) in found.chunks(k).zip(slow.chunks(k)).enumerate() {
            for (fast, slow) in fast.iter().zip(slow) {
                let Some((_, distance)) = slow else {
                    prop_assert!(!fast.is_some());
                    continue;
                };
                let row = |m: &Array2<f32>, i: usize| wide(m.view()).row(i).to_vec();
                let really = squared_distance(&row(&queries, query), &row(&bank, fast.index as usize));
                prop_assert!((really - distance).abs() < 1e-5, "{really} {distance}");
                prop_assert!((f64::from(fast.distance) - distance).abs() < 1e-5);
            }
            prop_assert!(fast.is_sorted_by(|a, b| a.distance <= b.distance));
        }
    }
}

#[test]
fn equally_near_rows_come_in_their_order() {
    let bank = Array2::from_elem((600, 2), 1.0);
    let queries = Array2::from_elem((70, 2), 1.0);
    for best in fast(&queries, &bank, &[5..20, 300..600], |_, row| row != 6, 3).chunks(3) {
        assert_eq!(best.iter().map(|n| n.index).collect::<Vec<_>>(), [5, 7, 8]);
        assert!(best.iter().all(|n| n.distance == 0.0));
    }
}

#[test]
fn a_search_does_not_depend_on_the_number_of_threads() {
    let mut draw = Draw::new(9);
    let (queries, bank) = (draw.reals(500, 12), draw.reals(1500, 12));
    let results = with_threads(|| fast(&queries, &bank, &[0..700, 800..1500], |_, _| true, 3));
    assert!(results.iter().all(|r| *r == results[0]));
}

#[test]
fn no_queries_no_ranges_and_no_neighbors_are_no_trouble() {
    let mut draw = Draw::new(10);
    let bank = draw.reals(10, 3);
    let everything = 0..10;
    let everything = std::slice::from_ref(&everything);
    assert!(fast(&Array2::zeros((0, 3)), &bank, everything, |_, _| true, 2).is_empty());
    assert!(fast(&draw.reals(4, 3), &bank, everything, |_, _| true, 0).is_empty());
    assert_eq!(fast(&draw.reals(4, 3), &bank, &[], |_, _| true, 2), [Neighbor::NONE; 8]);
}
