//! Defects on good pictures: labeled ones, so that each is seen on many parts, and painted ones.

use posfar::random::SplitMix64;

use super::blocks::Known;
use crate::error::Result;
use crate::imaging::{Defect, DefectKind, Frame, Mask, filled};

/// Largest shift of a defect, relative to the picture's sides. Many defects belong to a place of the part.
const REACH: f64 = 0.12;
/// Places to try for one defect. A shift can push it out of the picture.
const ATTEMPTS: usize = 20;
/// Fewest pixels of a pasted defect, unless it has fewer.
const FEWEST: usize = 4;
/// Smallest and largest painted defect, relative to the picture's longer side.
const SIZES: (f32, f32) = (0.02, 0.25);
/// Smallest visible change, in gray levels of 255.
const VISIBLE: u8 = 6;
/// Pixels beside a defect that show how bright its surroundings are.
const SURROUNDINGS: usize = 20;

/// A good picture with the defects of a labeled one, shifted, and what is then known of it. `None` if the
/// label has no places, or no place fits.
///
/// # Errors
/// As [`Frame::new`] and [`Mask::new`].
pub(super) fn paste(
    labeled: &Frame,
    known: &Known,
    good: &Frame,
    random: &mut SplitMix64,
) -> Result<Option<(Frame, Known)>> {
    let Known::Placed { boxes, mask } = known else { return Ok(None) };
    let (size, to) = ((labeled.width(), labeled.height()), (good.width(), good.height()));
    let mut region =
        mask.as_ref().map_or(vec![false; (size.0 * size.1) as usize], |mask| mask.bits().to_vec());
    for corners in boxes {
        region.iter_mut().zip(filled(corners, size)).for_each(|(bit, new)| *bit |= new);
    }
    let count = region.iter().filter(|bit| **bit).count();
    for _ in 0..ATTEMPTS {
        // Pictures of other sizes have their middle in common.
        let mut shift = |from: u32, to: u32| {
            let reach = (REACH * f64::from(to)) as usize;
            (i64::from(to) - i64::from(from)) / 2 + random.below(2 * reach + 1) as i64 - reach as i64
        };
        let by = (shift(size.0, to.0), shift(size.1, to.1));
        let moved = |bits: &[bool]| shifted(bits, size, to, by);
        let there = moved(&region);
        if there.iter().filter(|bit| **bit).count() < FEWEST.min(count).max(1) {
            continue;
        }
        let mask = mask.as_ref().map(|mask| Mask::new(to.0, to.1, moved(mask.bits()))).transpose()?;
        let boxes: Vec<_> = boxes.iter().filter_map(|corners| moved_box(corners, by, to)).collect();
        if boxes.is_empty() && mask.as_ref().is_none_or(|mask| mask.defective_pixels() == 0) {
            continue;
        }
        let frame = blend(good, labeled, by, &there)?;
        return Ok(Some((frame, Known::Placed { boxes, mask })));
    }
    Ok(None)
}

/// A good picture with one to three painted defects, and where it visibly changed.
///
/// # Errors
/// As [`Frame::new`] and [`Mask::new`].
pub(super) fn paint(good: &Frame, random: &mut SplitMix64) -> Result<(Frame, Mask)> {
    let (width, height) = (good.width() as f32, good.height() as f32);
    let mut made = good.clone();
    for _ in 0..1 + random.below(3) {
        let kind = DefectKind::ALL[random.below(DefectKind::ALL.len())];
        // Even on a logarithmic scale.
        let size = SIZES.0 * (SIZES.1 / SIZES.0).powf(random.unit()) * width.max(height);
        let center = (random.unit() * width, random.unit() * height);
        made = Defect { kind, size, center, angle: random.unit() }.paint(&made)?;
    }
    let channels = good.color().channels();
    let pixels = good.pixels().chunks_exact(channels).zip(made.pixels().chunks_exact(channels));
    let changed = pixels.map(|(a, b)| a.iter().zip(b).any(|(a, b)| a.abs_diff(*b) >= VISIBLE));
    let mask = Mask::new(good.width(), good.height(), changed.collect())?;
    Ok((made, mask))
}

/// A mask of a picture, moved into a picture of size `to`.
fn shifted(bits: &[bool], size: (u32, u32), to: (u32, u32), by: (i64, i64)) -> Vec<bool> {
    let mut moved = vec![false; (to.0 * to.1) as usize];
    for (at, _) in bits.iter().enumerate().filter(|(_, bit)| **bit) {
        let (x, y) = ((at as u32 % size.0.max(1)) as i64 + by.0, (at as u32 / size.0.max(1)) as i64 + by.1);
        if (0..i64::from(to.0)).contains(&x) && (0..i64::from(to.1)).contains(&y) {
            moved[(y * i64::from(to.0) + x) as usize] = true;
        }
    }
    moved
}

/// A box after a shift, unless its middle left the picture.
fn moved_box(corners: &[[f64; 2]], by: (i64, i64), to: (u32, u32)) -> Option<Vec<[f64; 2]>> {
    let moved: Vec<_> = corners.iter().map(|p| [p[0] + by.0 as f64, p[1] + by.1 as f64]).collect();
    let middle = [0, 1].map(|axis| moved.iter().map(|p| p[axis]).sum::<f64>() / moved.len() as f64);
    let inside = (0.0..f64::from(to.0)).contains(&middle[0]) && (0.0..f64::from(to.1)).contains(&middle[1]);
    inside.then_some(moved)
}

/// The region of one picture in another, with soft edges, at the brightness of its new surroundings.
fn blend(good: &Frame, labeled: &Frame, by: (i64, i64), region: &[bool]) -> Result<Frame> {
    let (width, height) = (good.width() as usize, good.height() as usize);
    let channels = good.color().channels();
    let unit = (width.max(height) as f64 / 256.0).round().max(1.0) as usize;
    let grown = grow(region, width, 2 * unit);
    let ring = grow(&grown, width, 4 * unit);
    // Pixels repeat at the edges that they leave.
    let source = |at: usize| {
        let along = |at: usize, by: i64, side: u32| (at as i64 - by).clamp(0, i64::from(side) - 1) as usize;
        let (x, y) = (along(at % width, by.0, labeled.width()), along(at / width, by.1, labeled.height()));
        (y * labeled.width() as usize + x) * channels
    };
    let (mut sums, mut count) = (vec![0.0; channels], 0);
    for at in (0..width * height).filter(|&at| ring[at] && !grown[at]) {
        let from = source(at);
        for (channel, sum) in sums.iter_mut().enumerate() {
            *sum += f32::from(good.pixels()[at * channels + channel])
                - f32::from(labeled.pixels()[from + channel]);
        }
        count += 1;
    }
    let bright = |channel: usize| if count > SURROUNDINGS { sums[channel] / count as f32 } else { 0.0 };
    let alpha = blur(&grown, width, unit);
    let mut pixels = good.pixels().to_vec();
    for (at, &alpha) in alpha.iter().enumerate().filter(|(_, alpha)| **alpha > 0.0) {
        let from = source(at);
        for channel in 0..channels {
            let value = &mut pixels[at * channels + channel];
            let new = f32::from(labeled.pixels()[from + channel]) + bright(channel);
            *value = (f32::from(*value) * (1.0 - alpha) + new * alpha).round() as u8;
        }
    }
    Frame::new(good.width(), good.height(), good.color(), pixels)
}

/// Sums over squares of 2 × `radius` + 1, cut at the picture's edges.
fn sums(values: &[f32], width: usize, radius: usize) -> Vec<f32> {
    let height = values.len() / width.max(1);
    let mut all = values.to_vec();
    for (count, step, lines, apart) in [(width, 1, height, width), (height, width, width, 1)] {
        for line in 0..lines {
            let mut before = vec![0.0f64; count + 1];
            for i in 0..count {
                before[i + 1] = before[i] + f64::from(all[line * apart + i * step]);
            }
            for i in 0..count {
                let ends = (i.saturating_sub(radius), (i + radius + 1).min(count));
                all[line * apart + i * step] = (before[ends.1] - before[ends.0]) as f32;
            }
        }
    }
    all
}

fn numbers(bits: &[bool]) -> Vec<f32> {
    bits.iter().map(|&bit| f32::from(u8::from(bit))).collect()
}

/// Dilation with a square.
fn grow(bits: &[bool], width: usize, radius: usize) -> Vec<bool> {
    sums(&numbers(bits), width, radius).iter().map(|sum| *sum > 0.5).collect()
}

/// A bell-shaped blur: two means over squares.
fn blur(bits: &[bool], width: usize, radius: usize) -> Vec<f32> {
    let area = (2 * radius + 1).pow(2) as f32;
    let mean = |values: &[f32]| sums(values, width, radius).iter().map(|sum| sum / area).collect::<Vec<_>>();
    mean(&mean(&numbers(bits)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::Color;

    fn gray(size: (u32, u32), value: impl Fn(u32, u32) -> u8) -> Frame {
        let pixels = (0..size.0 * size.1).map(|i| value(i % size.0, i / size.0)).collect();
        Frame::new(size.0, size.1, Color::Gray, pixels).unwrap()
    }

    #[test]
    fn a_pasted_defect_is_as_dark_beside_its_new_surroundings() {
        let good = gray((80, 60), |_, _| 150);
        let bad =
            gray((80, 60), |x, y| if (30..40).contains(&x) && (20..30).contains(&y) { 40 } else { 100 });
        let bits = bad.pixels().iter().map(|v| *v == 40).collect();
        let mask = Known::Placed { boxes: Vec::new(), mask: Some(Mask::new(80, 60, bits).unwrap()) };
        let boxes = vec![vec![[30.0, 20.0], [40.0, 20.0], [40.0, 30.0], [30.0, 30.0]]];
        for known in [mask, Known::Placed { boxes, mask: None }] {
            let mut places = std::collections::BTreeSet::new();
            for seed in 0..8 {
                let mut random = SplitMix64::new(seed);
                let (frame, known) = paste(&bad, &known, &good, &mut random).unwrap().unwrap();
                let dark: Vec<usize> = (0..80 * 60).filter(|&at| frame.pixels()[at] < 100).collect();
                assert_eq!(dark.len(), 100);
                assert!(
                    dark.iter().all(|&at| frame.pixels()[at].abs_diff(90) <= 1),
                    "60 darker than beside it"
                );
                let Known::Placed { boxes, mask } = known else { unreachable!() };
                let (left, top) = (dark[0] % 80, dark[0] / 80);
                match mask {
                    Some(mask) => {
                        assert!(dark.iter().all(|&at| mask.bits()[at]) && mask.defective_pixels() == 100)
                    }
                    None => assert_eq!(boxes[0][0], [left as f64, top as f64]),
                }
                places.insert((left, top));
            }
            assert!(places.len() > 4, "it moves");
        }
    }

    #[test]
    fn a_tag_has_nothing_to_paste_and_other_sizes_meet_in_the_middle() {
        let (good, bad) = (gray((60, 90), |_, _| 150), gray((80, 60), |_, _| 40));
        let mut random = SplitMix64::new(0);
        assert!(paste(&bad, &Known::Tagged, &good, &mut random).unwrap().is_none());
        let boxes = vec![vec![[35.0, 25.0], [45.0, 25.0], [45.0, 35.0], [35.0, 35.0]]];
        let known = Known::Placed { boxes, mask: None };
        let (frame, known) = paste(&bad, &known, &good, &mut random).unwrap().unwrap();
        assert_eq!((frame.width(), frame.height()), (60, 90));
        let Known::Placed { boxes, .. } = known else { unreachable!() };
        assert!((boxes[0][0][0] - 25.0).abs() <= 7.0 && (boxes[0][0][1] - 40.0).abs() <= 10.0, "{boxes:?}");
    }
}
