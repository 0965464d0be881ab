use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::imaging::{Color, MaskRule};

/// A gray picture with a line of this darkness, and the line's mask.
fn with_line(size: (u32, u32), ends: [(f32, f32); 2], half: f32, contrast: i16) -> (Frame, Mask) {
    let (width, height) = (size.0 as usize, size.1 as usize);
    let mut bits = vec![false; width * height];
    let [(ax, ay), (bx, by)] = ends;
    for step in 0..=1000 {
        let share = step as f32 / 1000.0;
        draw(&mut bits, (width, height), (ax + share * (bx - ax), ay + share * (by - ay)), half);
    }
    let pixels = (0..width * height).map(|i| {
        // Uneven light, and texture.
        let ground = 120 + (i % width / 16) as i16 + ((i * 7919) % 7) as i16;
        (ground + if bits[i] { contrast } else { 0 }).clamp(0, 255) as u8
    });
    let frame = Frame::new(size.0, size.1, Color::Gray, pixels.collect()).unwrap();
    (frame, Mask::new(size.0, size.1, bits).unwrap())
}

fn overlap(a: &Mask, b: &Mask) -> f64 {
    let both = a.bits().iter().zip(b.bits()).filter(|(a, b)| **a && **b).count();
    let any = a.bits().iter().zip(b.bits()).filter(|(a, b)| **a || **b).count();
    both as f64 / any.max(1) as f64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Dark or bright, at any angle, from points that a hand put a little beside it.
    #[test]
    fn a_line_is_traced_from_its_ends(
        angle in 0.0f32..6.3, half in 1.0f32..4.0, dark in any::<bool>(),
        beside in proptest::collection::vec(-2.0f32..2.0, 4)
    ) {
        let (x, y) = (60.0 * angle.cos(), 60.0 * angle.sin());
        let ends = [(100.0 - x, 90.0 - y), (100.0 + x, 90.0 + y)];
        let (frame, truth) = with_line((200, 180), ends, half, if dark { -60 } else { 60 });
        let points = [0, 1].map(|i| (ends[i].0 + beside[2 * i], ends[i].1 + beside[2 * i + 1]));
        let found = trace(&frame, &points).unwrap();
        prop_assert!(overlap(&found, &truth) > 0.6, "{}", overlap(&found, &truth));
    }

    /// Whatever the points are, the mask has the picture's size, and every point is near it.
    #[test]
    fn any_points_give_a_mask(
        width in 1u32..80, height in 1u32..80,
        places in proptest::collection::vec((0.0f32..=1.0, 0.0f32..=1.0), 2..6), seed in any::<u8>()
    ) {
        let pixels = (0..width * height * 3).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect();
        let frame = Frame::new(width, height, Color::Rgb, pixels).unwrap();
        let points: Vec<(f32, f32)> = places.iter().map(|(x, y)| (x * width as f32, y * height as f32)).collect();
        let mask = trace(&frame, &points).unwrap();
        prop_assert_eq!((mask.width(), mask.height()), (width, height));
        for (x, y) in points {
            let set = (0..mask.bits().len()).filter(|i| mask.bits()[*i]);
            let far = set.map(|i| {
                let at = ((i % width as usize) as f32, (i / width as usize) as f32);
                (at.0 - x).hypot(at.1 - y)
            });
            let nearest = far.fold(f32::INFINITY, f32::min);
            prop_assert!(nearest <= NEAR as f32 * 1.5 + WIDEST, "{nearest}");
        }
    }

    /// The quick search is as cheap as a slow one that improves all places until nothing changes.
    #[test]
    fn no_path_is_cheaper(values in proptest::collection::vec(0.0f32..2.0, 12 * 9)) {
        let strength = Plane { width: 12, height: 9, values };
        let (from, to) = ((1, 1), (10, 7));
        let price = |place: Place| 1.0 / (FLOOR + strength.at(place).clamp(0.0, 1.0));
        let step = |a: Place, b: Place| distance(a, b) * (price(a) + price(b)) / 2.0;
        let path = cheapest(&strength, 1.0, from, to);
        prop_assert_eq!((path[0], path[path.len() - 1]), (from, to));
        let costs: f32 = path.windows(2).map(|pair| step(pair[0], pair[1])).sum();
        let places: Vec<Place> = (0..12 * 9).map(|i| (i % 12, i / 12)).collect();
        let mut least = vec![f32::INFINITY; places.len()];
        least[from.1 * 12 + from.0] = 0.0;
        loop {
            let before = least.clone();
            for &a in &places {
                for &b in places.iter().filter(|b| a.0.abs_diff(b.0) <= 1 && a.1.abs_diff(b.1) <= 1 && **b != a) {
                    let through = least[a.1 * 12 + a.0] + step(a, b);
                    least[b.1 * 12 + b.0] = least[b.1 * 12 + b.0].min(through);
                }
            }
            if before == least {
                break;
            }
        }
        prop_assert!((costs - least[to.1 * 12 + to.0]).abs() < 1e-2 * costs, "{costs}");
    }
}

#[test]
fn a_line_of_one_color_alone_is_seen() {
    let (gray, truth) = with_line((200, 180), [(40.0, 60.0), (160.0, 120.0)], 1.5, -60);
    // Red goes down where green goes up: the brightness stays.
    let pixels = gray.pixels().iter().zip(truth.bits());
    let pixels = pixels.flat_map(|(_, line)| if *line { [80, 140, 110] } else { [110, 110, 110] }).collect();
    let frame = Frame::new(200, 180, Color::Rgb, pixels).unwrap();
    let found = trace(&frame, &[(40.0, 60.0), (160.0, 120.0)]).unwrap();
    assert!(overlap(&found, &truth) > 0.6, "{}", overlap(&found, &truth));
}

#[test]
fn points_that_make_no_line_are_told() {
    let (frame, _) = with_line((200, 180), [(40.0, 60.0), (160.0, 120.0)], 1.5, -60);
    let told = |points: &[(f32, f32)]| trace(&frame, points).unwrap_err().chain();
    assert!(told(&[(1.0, 1.0)]).contains("2 to 64 points, not 1"));
    assert!(told(&[(1.0, 1.0); 65]).contains("not 65"));
    assert!(told(&[(1.0, 1.0), (201.0, 3.0)]).contains("outside of the picture, which is 200×180"));
    assert!(told(&[(1.0, 1.0), (f32::NAN, 3.0)]).contains("outside of the picture"));
    let large = Frame::new(3000, 3000, Color::Gray, vec![9; 9_000_000]).unwrap();
    let told = trace(&large, &[(0.0, 0.0), (2999.0, 2999.0)]).unwrap_err().chain();
    assert!(told.contains("too long for one piece"), "{told}");
}

/// The largest region of a mask.
fn largest(mask: &Mask) -> Vec<usize> {
    let (width, height) = (mask.width() as usize, mask.height() as usize);
    let mut left = mask.bits().to_vec();
    let mut best = Vec::new();
    for start in 0..left.len() {
        if !std::mem::take(&mut left[start]) {
            continue;
        }
        let mut region = vec![start];
        let mut next = 0;
        while let Some(&i) = region.get(next) {
            next += 1;
            for j in neighbors(i, width, height) {
                if std::mem::take(&mut left[j]) {
                    region.push(j);
                }
            }
        }
        if region.len() > best.len() {
            best = region;
        }
    }
    best
}

fn neighbors(i: usize, width: usize, height: usize) -> impl Iterator<Item = usize> {
    let (x, y) = (i % width, i / width);
    let near = |at: usize, side: usize| at.saturating_sub(1)..(at + 2).min(side);
    near(y, height).flat_map(move |y| near(x, width).map(move |x| y * width + x)).filter(move |j| *j != i)
}

/// Steps from a place within a region.
fn steps(from: usize, inside: &[bool], (width, height): (usize, usize)) -> Vec<Option<u32>> {
    let mut steps = vec![None; inside.len()];
    steps[from] = Some(0);
    let mut open = VecDeque::from([from]);
    while let Some(i) = open.pop_front() {
        for j in neighbors(i, width, height).filter(|j| inside[*j]) {
            if steps[j].is_none() {
                steps[j] = steps[i].map(|n| n + 1);
                open.push_back(j);
            }
        }
    }
    steps
}

/// Three clicks as a person would set them: the ends of a thin region, and half-way between them.
fn clicks(region: &[usize], size: (usize, usize)) -> [(f32, f32); 3] {
    let mut inside = vec![false; size.0 * size.1];
    region.iter().for_each(|i| inside[*i] = true);
    let far = |from: usize| {
        let steps = steps(from, &inside, size);
        (region.iter().copied().max_by_key(|i| steps[*i]).unwrap(), steps)
    };
    let (a, _) = far(region[0]);
    let (b, from_a) = far(a);
    let from_b = steps(b, &inside, size);
    let uneven =
        |i: usize| from_a[i].unwrap().abs_diff(from_b[i].unwrap()) + from_a[i].unwrap() + from_b[i].unwrap();
    let middle = region.iter().copied().min_by_key(|i| uneven(*i)).unwrap();
    [a, middle, b].map(|i| ((i % size.0) as f32 + 0.5, (i / size.0) as f32 + 0.5))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Three clicks on real cracks: `cargo test --lib trace:: -- --nocapture` prints the overlaps.
#[test]
fn three_clicks_on_real_cracks_overlap_by_half() {
    let Some(data) = std::env::var_os("WEAKREST_DATA").map(PathBuf::from) else {
        eprintln!("SKIP imaging::trace: WEAKREST_DATA is not set: real cracks are not traced");
        return;
    };
    for (product, kind) in [("kolektorsdd/commutator", "defect"), ("mtd/magnetic_tile", "crack")] {
        let folder = data.join(product);
        let (mut sum, mut count, mut least) = (0.0, 0, f64::INFINITY);
        for picture in files(&folder.join("test").join(kind)) {
            let name = format!("{}_mask.png", picture.file_stem().unwrap().to_string_lossy());
            let truth =
                Mask::open(folder.join("ground_truth").join(kind).join(name), MaskRule::AboveHalf).unwrap();
            let size = (truth.width() as usize, truth.height() as usize);
            let region = largest(&truth);
            let [a, _, b] = clicks(&region, size);
            // A line is far longer than wide.
            if (a.0 - b.0).hypot(a.1 - b.1).powi(2) < 4.0 * region.len() as f32 {
                continue;
            }
            let mut bits = vec![false; truth.bits().len()];
            region.iter().for_each(|i| bits[*i] = true);
            let truth = Mask::new(truth.width(), truth.height(), bits).unwrap();
            let found = trace(&Frame::open(&picture).unwrap(), &clicks(&region, size)).unwrap();
            let overlap = overlap(&found, &truth);
            (sum, count, least) = (sum + overlap, count + 1, least.min(overlap));
        }
        println!(
            "{product}: {count} cracks, overlap {:.2} in the mean, {least:.2} at least",
            sum / f64::from(count)
        );
        assert!(count >= 20 && sum / f64::from(count) >= 0.5, "{product}");
    }
}
