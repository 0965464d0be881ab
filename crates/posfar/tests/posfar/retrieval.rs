use ndarray::{Array2, Array3, Axis};
use posfar::pca::{Keep, Pca};
use posfar::retrieval::{Scratch, WINDOWS, descriptor, distance, most_similar};
use proptest::prelude::*;

use crate::support::{Draw, project, trimmed_mean, wide, window_means};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Also on grids with fewer cells than windows.
    #[test]
    fn a_descriptor_holds_the_windows_means(
        grid in (1usize..26, 1usize..26), channels in 1usize..6, keep in 1usize..6, seed: u64,
    ) {
        let early = Draw::new(seed).reals(grid.0 * grid.1, channels);
        let pca = Pca::fit(early.view(), Keep::Components(keep)).unwrap();
        let fast = descriptor(early.view(), grid, &pca);
        prop_assert_eq!(fast.dim(), (WINDOWS, keep.min(channels)));
        let slow = project(window_means(wide(early.view()).view(), grid).view(), &pca);
        prop_assert!((wide(fast.view()) - slow).iter().all(|v| v.abs() < 1e-5));
    }

    #[test]
    fn the_distance_is_the_mean_of_the_nearest_windows(components in 1usize..8, seed: u64) {
        let mut draw = Draw::new(seed);
        let (a, b) = (draw.reals(WINDOWS, components), draw.reals(WINDOWS, components));
        let slow = trimmed_mean(wide(a.view()).view(), wide(b.view()).view());
        prop_assert!((f64::from(distance(a.view(), b.view())) - slow).abs() < 1e-5);
        prop_assert_eq!(distance(a.view(), b.view()), distance(b.view(), a.view()));
        prop_assert_eq!(distance(a.view(), a.view()), 0.0);
    }

    /// Descriptors of few different values, so that many images are equally far.
    #[test]
    fn the_most_similar_images_are_the_nearest_and_among_equals_the_first(
        images in 1usize..30, different in 1usize..5, k in 0usize..40, forbidden in 0usize..4, seed: u64,
    ) {
        let mut draw = Draw::new(seed);
        let kinds: Vec<Array2<f32>> = (0..different).map(|_| draw.integers(WINDOWS, 2, 3)).collect();
        let chosen: Vec<usize> = (0..images).map(|_| draw.below(different)).collect();
        let mut all = Array3::zeros((images, WINDOWS, 2));
        for (mut slot, &kind) in all.axis_iter_mut(Axis(0)).zip(&chosen) {
            slot.assign(&kinds[kind]);
        }
        let query = draw.integers(WINDOWS, 2, 3);
        let eligible = |i: usize| forbidden == 0 || i % 4 != forbidden;
        let far: Vec<f32> = kinds.iter().map(|k| distance(query.view(), k.view())).collect();
        let mut order: Vec<usize> = (0..images).filter(|&i| eligible(i)).collect();
        order.sort_by(|&a, &b| far[chosen[a]].total_cmp(&far[chosen[b]]).then(a.cmp(&b)));
        order.truncate(k);
        order.sort_unstable();
        let mut chosen = vec![77];
        most_similar(query.view(), all.view(), k, eligible, &mut Scratch::default(), &mut chosen);
        prop_assert_eq!(chosen, order);
    }

    /// Many images at all kinds of distances, so that most are left out by the bound; some are as far as others, and some
    /// have spoiled windows.
    #[test]
    fn of_many_images_the_nearest_are_the_most_similar(
        images in 100usize..400, components in 1usize..20, k in 1usize..20, spread in 0i32..4, seed: u64,
    ) {
        let mut draw = Draw::new(seed);
        let query = draw.reals(WINDOWS, components);
        let mut all = Array3::zeros((images, WINDOWS, components));
        for image in 0..images {
            let far = 10f32.powf(spread as f32 * draw.real());
            let mut descriptor = &query + &(draw.reals(WINDOWS, components) * far);
            for _ in 0..draw.below(16) {
                descriptor.row_mut(draw.below(WINDOWS)).fill(1e5);
            }
            if image > 0 && draw.below(8) == 0 {
                descriptor = all.index_axis(Axis(0), draw.below(image)).to_owned();
            }
            all.index_axis_mut(Axis(0), image).assign(&descriptor);
        }
        let far: Vec<f32> = all.outer_iter().map(|d| distance(query.view(), d)).collect();
        let mut order: Vec<usize> = (0..images).collect();
        order.sort_by(|&a, &b| far[a].total_cmp(&far[b]).then(a.cmp(&b)));
        order.truncate(k);
        order.sort_unstable();
        let mut chosen = Vec::new();
        most_similar(query.view(), all.view(), k, |_| true, &mut Scratch::default(), &mut chosen);
        prop_assert_eq!(chosen, order);
    }
}

/// A defect may spoil a fifth of the windows without making the image another one.
#[test]
fn the_farthest_fifth_of_the_windows_does_not_count() {
    let a = Array2::<f32>::zeros((WINDOWS, 3));
    let mut b = a.clone();
    for window in 0..12 {
        b.row_mut(5 * window).fill(1e6);
    }
    assert_eq!(distance(a.view(), b.view()), 0.0);
    b.row_mut(63).fill(1e6);
    assert!(distance(a.view(), b.view()) > 1e4);
}

/// Windows are shares of the image: the same picture at another resolution has the same descriptor.
#[test]
fn grids_of_different_sizes_compare() {
    let paint = |grid: (usize, usize)| {
        Array2::from_shape_fn((grid.0 * grid.1, 2), |(cell, channel)| {
            let (row, col) = (cell / grid.1 * 8 / grid.0, cell % grid.1 * 8 / grid.1);
            (row * 3 + col * (channel + 1)) as f32
        })
    };
    let grids = [(8, 8), (16, 16), (8, 24), (40, 16)];
    let pca = Pca::fit(paint((8, 8)).view(), Keep::Components(2)).unwrap();
    let first = descriptor(paint(grids[0]).view(), grids[0], &pca);
    for grid in grids {
        let other = descriptor(paint(grid).view(), grid, &pca);
        assert!(distance(first.view(), other.view()) < 1e-4, "{grid:?}");
    }
}

#[test]
fn a_grid_smaller_than_the_windows_repeats_its_cells() {
    let early = Array2::from_shape_vec((2, 1), vec![1.0, 3.0]).unwrap();
    let pca = Pca { mean: ndarray::arr1(&[0.0]), components: ndarray::arr2(&[[1.0]]) };
    let wide = descriptor(early.view(), (1, 2), &pca);
    for (window, value) in wide.iter().enumerate() {
        assert_eq!(*value, if window % 8 < 4 { 1.0 } else { 3.0 });
    }
    let tall = descriptor(early.view(), (2, 1), &pca);
    for (window, value) in tall.iter().enumerate() {
        assert_eq!(*value, if window < 32 { 1.0 } else { 3.0 });
    }
}
