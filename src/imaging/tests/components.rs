//! Connected areas against a flood fill that is too simple to be wrong.

use crate::imaging::components::{Component, Components};
use proptest::prelude::*;

/// Grows each area pixel by pixel until nothing is added any more.
fn flood(width: usize, height: usize, bits: &[bool]) -> (Vec<u32>, Vec<Component>) {
    let mut labels = vec![0u32; bits.len()];
    let mut list = Vec::new();
    for start in 0..bits.len() {
        if !bits[start] || labels[start] != 0 {
            continue;
        }
        let label = list.len() as u32 + 1;
        let mut queue = vec![start];
        let (mut left, mut top, mut right, mut bottom, mut pixels) = (width, height, 0, 0, 0);
        labels[start] = label;
        while let Some(i) = queue.pop() {
            let (x, y) = (i % width, i / width);
            (left, top, right, bottom) = (left.min(x), top.min(y), right.max(x), bottom.max(y));
            pixels += 1;
            for ny in y.saturating_sub(1)..(y + 2).min(height) {
                for nx in x.saturating_sub(1)..(x + 2).min(width) {
                    let n = ny * width + nx;
                    if bits[n] && labels[n] == 0 {
                        labels[n] = label;
                        queue.push(n);
                    }
                }
            }
        }
        list.push(Component { x: left, y: top, width: right - left + 1, height: bottom - top + 1, pixels });
    }
    (labels, list)
}

fn picture() -> impl Strategy<Value = (usize, usize, Vec<bool>)> {
    (1usize..24, 1usize..24, 0.05f64..0.95).prop_flat_map(|(w, h, share)| {
        (Just(w), Just(h), prop::collection::vec(prop::bool::weighted(share), w * h))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn same_as_flood_fill(pictures in prop::collection::vec(picture(), 1..4)) {
        let mut areas = Components::default();
        for (width, height, bits) in pictures {
            areas.label(width, height, |i| bits[i]);
            let (labels, list) = flood(width, height, &bits);
            prop_assert_eq!(areas.labels(), &labels[..]);
            prop_assert_eq!(areas.list(), &list[..]);
        }
    }
}

#[test]
fn arms_that_meet_late_are_one_area() {
    // A comb, a spiral's arm and a W: the shapes that need labels joined after the fact.
    let picture = ["#.#.#.#.", "#.#.#.#.", "#######.", ".......#", "#.#.#..#", ".#.#.##."];
    let bits: Vec<bool> = picture.iter().flat_map(|row| row.bytes().map(|b| b == b'#')).collect();
    let mut areas = Components::default();
    areas.label(8, 6, |i| bits[i]);
    assert_eq!(areas.list().len(), 1);
    assert_eq!(
        areas.list()[0],
        Component { x: 0, y: 0, width: 8, height: 6, pixels: bits.iter().filter(|b| **b).count() }
    );
}

#[test]
fn nothing_has_no_areas() {
    let mut areas = Components::default();
    areas.label(3, 2, |_| true);
    for (width, height) in [(0, 0), (0, 5), (5, 0), (4, 4)] {
        areas.label(width, height, |_| false);
        assert!(areas.list().is_empty());
        assert_eq!(areas.labels().len(), width * height);
    }
}

#[test]
fn pixels_that_touch_at_a_corner_belong_together() {
    let score = [9, 0, 0, 8, 0, 7, 0, 8];
    let mut areas = Components::default();
    areas.label(4, 2, |i| score[i] > 5);
    assert_eq!(areas.list().len(), 2);
    assert_eq!(areas.labels(), [1, 0, 0, 2, 0, 1, 0, 2]);
}
