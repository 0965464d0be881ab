use ndarray::{Array2, ArrayView2, Axis, s};
use posfar::coreset::{greedy_k_center, k_center_in_groups, random_projection};
use proptest::prelude::*;

use crate::support::{Draw, Kind, KindOf, squared_distance, wide, with_threads};

fn choose(rows: &Array2<f32>, keep: usize, seed: u64) -> Vec<usize> {
    greedy_k_center(rows.view(), keep, seed, |_| true).unwrap().unwrap()
}

/// Squared distance of each row to the nearest kept one.
fn distances(rows: &[Vec<f64>], kept: &[usize]) -> Vec<f64> {
    rows.iter()
        .map(|row| kept.iter().map(|&k| squared_distance(row, &rows[k])).fold(f64::INFINITY, f64::min))
        .collect()
}

/// Greedy k-center by the book: every distance anew in every step, ties to the lowest index.
fn by_the_book(rows: ArrayView2<f32>, keep: usize, first: usize) -> Vec<usize> {
    let rows: Vec<Vec<f64>> = wide(rows).rows().into_iter().map(|r| r.to_vec()).collect();
    let mut kept = vec![first];
    while kept.len() < keep {
        let distances = distances(&rows, &kept);
        let mut farthest: Option<usize> = None;
        for token in (0..rows.len()).filter(|t| !kept.contains(t)) {
            if farthest.is_none_or(|f| distances[token] > distances[f]) {
                farthest = Some(token);
            }
        }
        kept.push(farthest.unwrap());
    }
    kept
}

fn radius(rows: &Array2<f32>, kept: &[usize]) -> f64 {
    let rows: Vec<Vec<f64>> = wide(rows.view()).rows().into_iter().map(|r| r.to_vec()).collect();
    distances(&rows, kept).into_iter().fold(0.0, f64::max).sqrt()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn the_choice_is_the_textbooks(
        count in prop_oneof![1usize..40, 120usize..137, 250usize..262, 380usize..400],
        dims in 1usize..5, span in 0usize..4, share in 0.0f64..1.0, seed: u64,
    ) {
        // Few different values make most distances ties and many tokens duplicates.
        let rows = Draw::new(seed).integers(count, dims, span);
        let keep = ((count.min(60) as f64 * share) as usize).max(1);
        let kept = choose(&rows, keep, seed);
        prop_assert_eq!(&kept, &by_the_book(rows.view(), keep, kept[0]));
    }
}

#[test]
fn the_choice_is_the_textbooks_in_a_tree_of_many_balls() {
    for (count, dims, span, keep) in [(2048, 3, 6, 30), (2305, 2, 1, 12), (2600, 4, 9, 40)] {
        let rows = Draw::new(count as u64).integers(count, dims, span);
        let kept = choose(&rows, keep, 7);
        assert_eq!(kept, by_the_book(rows.view(), keep, kept[0]), "{count} tokens");
    }
}

#[test]
fn the_choice_is_the_textbooks_when_much_is_kept() {
    let rows = Draw::new(3).integers(300, 3, 3);
    let kept = choose(&rows, 290, 1);
    assert_eq!(kept, by_the_book(rows.view(), 290, kept[0]));
}

#[test]
fn no_token_is_left_farther_away_than_by_the_book() {
    for seed in 0..8 {
        let mut draw = Draw::new(seed);
        let (count, keep) = (200 + 90 * seed as usize, 40);
        let rows = draw.reals(count, 6);
        let kept = choose(&rows, keep, seed);
        let book = by_the_book(rows.view(), keep, kept[0]);
        assert!(radius(&rows, &kept) <= radius(&rows, &book) * 1.0001, "seed {seed}");
    }
}

/// As tokens of pictures are: many alike, some strange, in more dimensions than are summed side by side and a few more.
#[test]
fn no_token_is_left_farther_away_than_by_the_book_in_many_dimensions() {
    for (seed, dims) in [(1, 16), (2, 19), (3, 64)] {
        let mut draw = Draw::new(seed);
        let centers = draw.reals(12, dims) * 20.0;
        let rows = Array2::from_shape_fn((1500, dims), |(token, dim)| {
            // Widths from nothing to a tenth of the space.
            let cluster = (token * token) % 12;
            centers[[cluster, dim]] + draw.real() * (cluster % 4) as f32
        });
        let kept = choose(&rows, 150, seed);
        let book = by_the_book(rows.view(), 150, kept[0]);
        let (own, best) = (radius(&rows, &kept), radius(&rows, &book));
        assert!(own <= best * 1.001, "{dims} dimensions: {own} instead of {best}");
    }
}

/// Rows cut into groups, and the choice among them.
fn in_groups(rows: &Array2<f32>, sizes: &[usize], keep: usize) -> Vec<usize> {
    let load = |group: usize, going_on: &mut dyn FnMut() -> bool| {
        let first: usize = sizes[..group].iter().sum();
        Ok(going_on().then(|| rows.slice(s![first..first + sizes[group], ..]).to_owned()))
    };
    k_center_in_groups(sizes, keep, 3, load, |_| true).unwrap().unwrap()
}

#[test]
fn one_group_is_thinned_as_without_groups() {
    let rows = Draw::new(21).reals(700, 5);
    assert_eq!(in_groups(&rows, &[700], 90), choose(&rows, 90, 3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// The bound of composable coresets.
    #[test]
    fn groups_leave_no_token_farther_than_both_rounds_radii_together(
        sizes in prop::collection::vec(1usize..160, 2..6), dims in 1usize..6, share in 0.01f64..1.0, seed: u64,
    ) {
        let count: usize = sizes.iter().sum();
        let rows = Draw::new(seed).reals(count, dims);
        let keep = ((count as f64 * share) as usize).max(1);
        let kept = in_groups(&rows, &sizes, keep);
        let mut different = kept.clone();
        different.sort_unstable();
        different.dedup();
        prop_assert_eq!(different.len(), keep);
        prop_assert!(different.iter().all(|&i| i < count));

        let (mut union, mut first, mut widest) = (Vec::new(), 0, 0.0f64);
        for &size in &sizes {
            let group = rows.slice(s![first..first + size, ..]).to_owned();
            let quota = ((size as f64 * 2.0 * keep as f64 / count as f64).ceil() as usize).min(size);
            let chosen = choose(&group, quota, 3);
            widest = widest.max(radius(&group, &chosen));
            union.extend(chosen.into_iter().map(|i| first + i));
            first += size;
        }
        prop_assert!(kept.iter().all(|k| union.contains(k)));
        let places: Vec<usize> =
            kept.iter().filter_map(|k| union.iter().position(|u| u == k)).collect();
        let second = radius(&rows.select(Axis(0), &union), &places);
        prop_assert!(radius(&rows, &kept) <= (widest + second) * 1.0001);
    }
}

#[test]
fn groups_tell_their_progress_and_can_be_stopped_anywhere() {
    let rows = Draw::new(22).reals(4000, 3);
    let sizes = [1500, 1500, 1000];
    let run = |stop_after: usize| {
        let (told, load) =
            (std::cell::RefCell::new(Vec::new()), |group: usize, going_on: &mut dyn FnMut() -> bool| {
                let first: usize = sizes[..group].iter().sum();
                Ok(going_on().then(|| rows.slice(s![first..first + sizes[group], ..]).to_owned()))
            });
        let done = k_center_in_groups(&sizes, 1200, 0, load, |n| {
            told.borrow_mut().push(n);
            told.borrow().len() < stop_after
        });
        (done.unwrap(), told.into_inner())
    };
    let (all, told) = run(usize::MAX);
    assert_eq!(all.unwrap().len(), 1200);
    assert!(told.len() > 10 && told.is_sorted() && told.iter().all(|&n| n <= 1200), "{told:?}");
    for stop in 1..=told.len() {
        let (stopped, told) = run(stop);
        assert_eq!((stopped, told.len()), (None, stop));
    }
}

#[test]
fn groups_of_another_size_than_was_said_are_refused() {
    for keep in [2, 12] {
        let load = |_: usize, _: &mut dyn FnMut() -> bool| Ok(Some(Array2::zeros((5, 2))));
        assert_eq!(
            k_center_in_groups(&[5, 6], keep, 0, load, |_| true).unwrap_err().kind(),
            Kind::InvalidArgument
        );
    }
}

#[test]
fn no_token_is_chosen_twice() {
    let mut draw = Draw::new(1);
    let same = Array2::from_elem((200, 3), 0.1);
    let alike = Array2::from_shape_fn((200, 3), |(i, _)| 100.0 + (i % 3) as f32 * 1e-6);
    let huge = draw.reals(200, 3) * 1e30;
    for rows in [same, alike, huge, draw.reals(200, 3)] {
        let mut kept = choose(&rows, 200, 5);
        kept.sort_unstable();
        assert_eq!(kept, (0..200).collect::<Vec<_>>());
    }
}

#[test]
fn the_choice_does_not_depend_on_the_number_of_threads() {
    let rows = Draw::new(11).reals(4000, 8);
    let results = with_threads(|| choose(&rows, 300, 3));
    assert!(results.iter().all(|r| *r == results[0]));
}

#[test]
fn the_first_token_depends_on_the_seed_and_nothing_else_is_random() {
    let rows = Draw::new(2).reals(500, 4);
    assert_eq!(choose(&rows, 50, 9), choose(&rows, 50, 9));
    let firsts: std::collections::BTreeSet<usize> = (0..40).map(|seed| choose(&rows, 1, seed)[0]).collect();
    assert!(firsts.len() > 20, "{firsts:?}");
}

#[test]
fn progress_rises_and_stops_the_work() {
    let rows = Draw::new(4).reals(1200, 3);
    let mut told = Vec::new();
    let all = greedy_k_center(rows.view(), 1000, 0, |n| {
        told.push(n);
        true
    });
    assert_eq!(all.unwrap().unwrap().len(), 1000);
    assert!(told.len() >= 3 && told.is_sorted() && told.iter().all(|&n| n <= 1000), "{told:?}");
    let mut calls = 0;
    let stopped = greedy_k_center(rows.view(), 1000, 0, |_| {
        calls += 1;
        calls < 2
    });
    assert_eq!(stopped.unwrap(), None);
    assert_eq!(calls, 2);
}

#[test]
fn what_is_not_finite_is_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut rows = Draw::new(5).reals(300, 3);
        rows[[299, 2]] = bad;
        assert_eq!(greedy_k_center(rows.view(), 5, 0, |_| true).unwrap_err().kind(), Kind::NotFinite);
    }
}

#[test]
fn impossible_numbers_of_tokens_are_refused() {
    let rows = Draw::new(6).reals(10, 2);
    for keep in [0, 11, usize::MAX] {
        assert_eq!(
            greedy_k_center(rows.view(), keep, 0, |_| true).unwrap_err().kind(),
            Kind::InvalidArgument
        );
    }
    let none = Array2::<f32>::zeros((0, 3));
    for keep in [0, 1] {
        assert_eq!(
            greedy_k_center(none.view(), keep, 0, |_| true).unwrap_err().kind(),
            Kind::InvalidArgument
        );
    }
}

#[test]
fn the_random_projection_keeps_distances_on_average_and_depends_on_its_seed_alone() {
    let projection = random_projection(300, 64, 1);
    assert_eq!(projection, random_projection(300, 64, 1));
    assert_ne!(projection, random_projection(300, 64, 2));
    let rows = Draw::new(8).reals(40, 300);
    let (long, short) = (wide(rows.view()), wide(rows.dot(&projection).view()));
    let mut ratios = Vec::new();
    for i in 0..40 {
        for j in 0..i {
            let of = |m: &Array2<f64>| squared_distance(&m.row(i).to_vec(), &m.row(j).to_vec());
            ratios.push(of(&short) / of(&long));
        }
    }
    let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
    assert!((mean - 1.0).abs() < 0.1, "{mean}");
    assert!(ratios.iter().all(|r| (0.3..2.2).contains(r)));
}
