//! Traces thin defects: a scratch or a crack from a few points on it.
//!
//! Between two points runs the path that follows a dark or a bright line best. Lines are found by the second derivative
//! across them, at several widths (Lindeberg, *Edge Detection and Ridge Detection with Automatic Scale Selection*, 1998).
//! The width is where the line has half of its contrast.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::{Frame, Mask};
use crate::error::{Error, ErrorKind, Result};

/// Widths of lines that are looked for: standard deviations in pixels.
const SCALES: [f32; 4] = [1.0, 1.5, 2.2, 3.2];

/// How far a point may lie beside its line, in pixels.
const NEAR: usize = 4;

/// How far a path may go beside the straight line between two points: pixels, and a share of their distance.
const ASIDE: (f32, f32) = (40.0, 0.3);

/// The least share of a line's strength that a pixel has in the costs of a path. A path costs at most 33 times as much
/// beside lines as on them.
const FLOOR: f32 = 0.03;

/// Half of the greatest width of a line, in pixels.
const WIDEST: f32 = 14.0;

/// Added to half of the width, as a pixel reaches beyond its center.
const RIM: f32 = 0.25;

/// Pixels of a line from which its width at a place is learned, on each side.
const ALONG: usize = 15;

/// The most pixels of the area round a line.
const MOST_PIXELS: usize = 6_000_000;

/// The most points of one line.
pub(crate) const MOST_POINTS: usize = 64;

/// The pixels of a thin line through these points, given as x and y in pixels, in their order along the line.
///
/// # Errors
/// [`ErrorKind::Usage`] for fewer than 2 or more than [`MOST_POINTS`] points, a point outside of the picture, or points
/// that are too far apart.
pub(crate) fn trace(frame: &Frame, points: &[(f32, f32)]) -> Result<Mask> {
    let usage = |text: String| Err(Error::new(ErrorKind::Usage, text));
    if !(2..=MOST_POINTS).contains(&points.len()) {
        return usage(format!("a line has 2 to {MOST_POINTS} points, not {}", points.len()));
    }
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let inside = |v: f32, side: usize| (0.0..=side as f32).contains(&v);
    if let Some((x, y)) = points.iter().find(|(x, y)| !inside(*x, width) || !inside(*y, height)) {
        return usage(format!("the point at {x}, {y} is outside of the picture, which is {width}×{height}"));
    }
    let at = |v: f32, side: usize| (v as usize).min(side - 1);
    let points: Vec<Place> = points.iter().map(|(x, y)| (at(*x, width), at(*y, height))).collect();
    let window = Window::around(&points, (width, height));
    if window.width * window.height > MOST_PIXELS {
        return usage("the line is too long for one piece: trace it in several pieces".into());
    }
    let points: Vec<Place> = points.iter().map(|(x, y)| (x - window.left, y - window.top)).collect();

    // A line can be darker or brighter, in some of the colors only.
    let candidates = channels(frame, &window).into_iter().flat_map(|plane| {
        let planes = ridges(&plane);
        [(-1.0, planes.0), (1.0, planes.1)].map(|(sign, strength)| (plane.clone(), sign, strength))
    });
    let traced = candidates.map(|(plane, sign, strength)| {
        let path = path_through(&strength, &points);
        let mean = path.iter().map(|&place| strength.at(place)).sum::<f32>() / path.len() as f32;
        (mean, plane, sign, path)
    });
    let best = traced.max_by(|a, b| a.0.total_cmp(&b.0));
    let mut bits = vec![false; width * height];
    if let Some((_, plane, sign, path)) = best {
        for (x, y, half) in widths(&plane, &path, sign) {
            draw(&mut bits, (width, height), (x + window.left as f32, y + window.top as f32), half);
        }
    }
    Mask::new(frame.width(), frame.height(), bits)
}

/// Column and row.
type Place = (usize, usize);

/// A part of the picture.
struct Window {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

impl Window {
    /// Holds every path between the points, and what is needed beside it.
    fn around(points: &[Place], (width, height): (usize, usize)) -> Window {
        let longest = points.windows(2).map(|pair| distance(pair[0], pair[1])).fold(0.0, f32::max);
        let margin = (aside(longest) + WIDEST) as usize + 1;
        let span = |values: &mut dyn Iterator<Item = usize>, side: usize| {
            let (low, high) = values.fold((side, 0), |(low, high), v| (low.min(v), high.max(v)));
            let (low, high) = (low.saturating_sub(margin), (high + margin + 1).min(side));
            (low, high - low)
        };
        let (left, width) = span(&mut points.iter().map(|p| p.0), width);
        let (top, height) = span(&mut points.iter().map(|p| p.1), height);
        Window { left, top, width, height }
    }
}

fn distance(a: Place, b: Place) -> f32 {
    (a.0 as f32 - b.0 as f32).hypot(a.1 as f32 - b.1 as f32)
}

fn aside(length: f32) -> f32 {
    ASIDE.0.max(ASIDE.1 * length)
}

/// Values of the pixels of a window.
#[derive(Clone)]
struct Plane {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

impl Plane {
    fn at(&self, (x, y): Place) -> f32 {
        self.values[y * self.width + x]
    }

    /// The value between pixels. Beyond the edges are the values at the edges.
    fn between(&self, x: f32, y: f32) -> f32 {
        let (x, y) = (x.clamp(0.0, (self.width - 1) as f32), y.clamp(0.0, (self.height - 1) as f32));
        let (left, top) = (x as usize, y as usize);
        let (right, bottom) = ((left + 1).min(self.width - 1), (top + 1).min(self.height - 1));
        let (fx, fy) = (x - left as f32, y - top as f32);
        let line = |row| self.at((left, row)) * (1.0 - fx) + self.at((right, row)) * fx;
        line(top) * (1.0 - fy) + line(bottom) * fy
    }

    /// Filters the lines with one kernel and the columns with another. Both have an odd length.
    fn filtered(&self, along_lines: &[f32], along_columns: &[f32]) -> Plane {
        let clamped = |at: usize, offset: usize, reach: usize, side: usize| {
            (at + offset).saturating_sub(reach).min(side - 1)
        };
        let mut between = vec![0.0; self.values.len()];
        for (line, to) in self.values.chunks_exact(self.width).zip(between.chunks_exact_mut(self.width)) {
            for (x, to) in to.iter_mut().enumerate() {
                let reach = along_lines.len() / 2;
                let pixels = along_lines.iter().enumerate();
                *to = pixels.map(|(i, k)| k * line[clamped(x, i, reach, self.width)]).sum();
            }
        }
        let mut values = vec![0.0; self.values.len()];
        for (y, to) in values.chunks_exact_mut(self.width).enumerate() {
            for (i, k) in along_columns.iter().enumerate() {
                let row = clamped(y, i, along_columns.len() / 2, self.height);
                let from = &between[row * self.width..][..self.width];
                to.iter_mut().zip(from).for_each(|(to, from)| *to += k * from);
            }
        }
        Plane { values, ..*self }
    }
}

/// The brightness of the window, and its colors if it has some.
fn channels(frame: &Frame, window: &Window) -> Vec<Plane> {
    let count = frame.color().channels();
    let pixel = |x: usize, y: usize| {
        let start = ((y + window.top) * frame.width() as usize + x + window.left) * count;
        &frame.pixels()[start..start + count]
    };
    let plane = |value: &dyn Fn(&[u8]) -> f32| {
        let places = (0..window.height).flat_map(|y| (0..window.width).map(move |x| (x, y)));
        let values = places.map(|(x, y)| value(pixel(x, y))).collect();
        Plane { width: window.width, height: window.height, values }
    };
    let mean = |pixel: &[u8]| pixel.iter().map(|v| f32::from(*v)).sum::<f32>() / count as f32;
    let mut planes = vec![plane(&mean)];
    if count > 1 {
        planes.extend((0..count).map(|channel| plane(&|pixel: &[u8]| f32::from(pixel[channel]))));
    }
    planes
}

/// How much each pixel lies on a dark and on a bright line.
fn ridges(plane: &Plane) -> (Plane, Plane) {
    let none = Plane { values: vec![0.0; plane.values.len()], ..*plane };
    let (mut dark, mut bright) = (none.clone(), none);
    for scale in SCALES {
        let [smooth, slope, curve] = kernels(scale);
        let across = plane.filtered(&curve, &smooth);
        let down = plane.filtered(&smooth, &curve);
        let mixed = plane.filtered(&slope, &slope);
        // Wide lines count less than scale-invariant ones would: among thin ones they are noise.
        let weight = scale.powf(1.5);
        for i in 0..plane.values.len() {
            let (xx, yy, xy) = (across.values[i], down.values[i], mixed.values[i]);
            let turned = ((xx - yy) / 2.0).hypot(xy);
            let middle = (xx + yy) / 2.0;
            dark.values[i] = dark.values[i].max(weight * (middle + turned));
            bright.values[i] = bright.values[i].max(weight * (turned - middle));
        }
    }
    (dark, bright)
}

/// A Gaussian and its first and second derivative.
fn kernels(sigma: f32) -> [Vec<f32>; 3] {
    let reach = (4.0 * sigma).ceil() as i32;
    let weights: Vec<(f32, f32)> =
        (-reach..=reach).map(|i| (i as f32, (-0.5 * (i as f32 / sigma).powi(2)).exp())).collect();
    let sum: f32 = weights.iter().map(|(_, w)| w).sum();
    let of = |factor: &dyn Fn(f32) -> f32| weights.iter().map(|(x, w)| factor(*x) * w / sum).collect();
    [of(&|_| 1.0), of(&|x| x / sigma.powi(2)), of(&|x| (x * x / sigma.powi(2) - 1.0) / sigma.powi(2))]
}

/// The path through the points that keeps to lines.
fn path_through(strength: &Plane, points: &[Place]) -> Vec<Place> {
    let points: Vec<Place> = points.iter().map(|&point| strongest(strength, point)).collect();
    let mut known: Vec<f32> = points.iter().map(|&point| strength.at(point)).collect();
    known.sort_by(f32::total_cmp);
    // A weak line must not be left for a strong one beside it.
    let usual = known[known.len() / 2].max(1e-3);
    let mut path = vec![points[0]];
    for pair in points.windows(2) {
        path.extend(cheapest(strength, usual, pair[0], pair[1]).into_iter().skip(1));
    }
    path
}

/// The strongest place near a point.
fn strongest(strength: &Plane, (x, y): Place) -> Place {
    let near = |at: usize, side: usize| at.saturating_sub(NEAR)..(at + NEAR + 1).min(side);
    let places = near(y, strength.height).flat_map(|y| near(x, strength.width).map(move |x| (x, y)));
    places.max_by(|a, b| strength.at(*a).total_cmp(&strength.at(*b))).unwrap_or((x, y))
}

/// A place on the way of a search, by its costs.
struct Reached {
    costs: f32,
    at: Place,
}

impl Ord for Reached {
    /// The cheapest is the greatest, and comes first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.costs.total_cmp(&self.costs).then_with(|| other.at.cmp(&self.at))
    }
}

impl PartialOrd for Reached {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Reached {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Reached {}

/// The cheapest path between two places (Dijkstra), not too far beside the straight line.
fn cheapest(strength: &Plane, usual: f32, from: Place, to: Place) -> Vec<Place> {
    let (width, height) = (strength.width, strength.height);
    let index = |(x, y): Place| y * width + x;
    let price = |place: Place| 1.0 / (FLOOR + (strength.at(place) / usual).clamp(0.0, 1.0));
    let (dx, dy) = (to.0 as f32 - from.0 as f32, to.1 as f32 - from.1 as f32);
    let length = dx.hypot(dy).max(1.0);
    let limit = aside(length);
    let allowed = |(x, y): Place| {
        let (px, py) = (x as f32 - from.0 as f32, y as f32 - from.1 as f32);
        let along = ((px * dx + py * dy) / (length * length)).clamp(0.0, 1.0);
        (px - along * dx).hypot(py - along * dy) <= limit
    };
    let mut costs = vec![f32::INFINITY; width * height];
    let mut before = vec![from; width * height];
    let mut open = BinaryHeap::from([Reached { costs: 0.0, at: from }]);
    costs[index(from)] = 0.0;
    while let Some(reached) = open.pop() {
        if reached.at == to {
            break;
        }
        if reached.costs > costs[index(reached.at)] {
            continue;
        }
        let (x, y) = reached.at;
        let near = |at: usize, side: usize| at.saturating_sub(1)..(at + 2).min(side);
        for next in near(y, height).flat_map(|y| near(x, width).map(move |x| (x, y))) {
            if next == reached.at || !allowed(next) {
                continue;
            }
            let step = distance(reached.at, next) * (price(reached.at) + price(next)) / 2.0;
            if reached.costs + step < costs[index(next)] {
                costs[index(next)] = reached.costs + step;
                before[index(next)] = reached.at;
                open.push(Reached { costs: reached.costs + step, at: next });
            }
        }
    }
    // The straight line is allowed, so the end is reached.
    let mut path = vec![to];
    while let Some(&last) = path.last().filter(|last| **last != from) {
        path.push(before[index(last)]);
    }
    path.reverse();
    path
}

/// Center and half of the width at each place of a path. The line is darker (`sign` -1) or brighter (1) than what is
/// beside it.
fn widths(plane: &Plane, path: &[Place], sign: f32) -> Vec<(f32, f32, f32)> {
    const STEP: f32 = 0.5;
    const REACH: usize = 6;
    let count = (2.0 * WIDEST / STEP) as usize + 1;
    let middle = count / 2;
    let last = path.len() - 1;
    let normals: Vec<(f32, f32)> = (0..path.len())
        .map(|i| {
            let (a, b) = (path[i.saturating_sub(REACH)], path[(i + REACH).min(last)]);
            let length = distance(a, b).max(1e-6);
            ((a.1 as f32 - b.1 as f32) / length, (b.0 as f32 - a.0 as f32) / length)
        })
        .collect();
    let offset = |i: usize| (i as f32 - middle as f32) * STEP;
    let profiles: Vec<Vec<f32>> = path
        .iter()
        .zip(&normals)
        .map(|(&(x, y), &(nx, ny))| {
            let across = (0..count).map(offset);
            across.map(|o| sign * plane.between(x as f32 + o * nx, y as f32 + o * ny)).collect()
        })
        .collect();
    let around = |i: usize, reach: usize| i.saturating_sub(reach)..(i + reach + 1).min(path.len());
    let measured: Vec<(f32, f32)> = (0..path.len())
        .map(|i| {
            let range = around(i, 4);
            let share = 1.0 / range.len() as f32;
            let profile: Vec<f32> =
                (0..count).map(|o| range.clone().map(|j| profiles[j][o]).sum::<f32>() * share).collect();
            let top = (middle - 2..=middle + 2).max_by(|a, b| profile[*a].total_cmp(&profile[*b]));
            let top = top.unwrap_or(middle);
            let beside = profile[..count / 4].iter().chain(&profile[count - count / 4..]);
            let base = median(beside.copied().collect());
            let level = base + 0.5 * (profile[top] - base).max(0.0);
            let low = (0..top).rev().find(|o| profile[*o] <= level).unwrap_or(0);
            let high = (top + 1..count).find(|o| profile[*o] <= level).unwrap_or(count - 1);
            ((high - low - 1) as f32 * STEP / 2.0, (offset(low) + offset(high)) / 2.0)
        })
        .collect();
    (0..path.len())
        .map(|i| {
            let half = median(measured[around(i, ALONG)].iter().map(|m| m.0).collect()).clamp(0.5, WIDEST);
            let aside = median(measured[around(i, REACH)].iter().map(|m| m.1).collect());
            // The path itself belongs to the line.
            let aside = aside.clamp(-half, half);
            let ((x, y), (nx, ny)) = (path[i], normals[i]);
            (x as f32 + aside * nx, y as f32 + aside * ny, half + RIM)
        })
        .collect()
}

fn median(mut values: Vec<f32>) -> f32 {
    values.sort_by(f32::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Sets the pixels with their center in a disk.
fn draw(bits: &mut [bool], (width, height): (usize, usize), (x, y): (f32, f32), radius: f32) {
    let range = |center: f32, side: usize| {
        let low = (center - radius).ceil().max(0.0) as usize;
        low..((center + radius).floor().max(-1.0) + 1.0).min(side as f32) as usize
    };
    for row in range(y, height) {
        for column in range(x, width) {
            if (column as f32 - x).hypot(row as f32 - y) <= radius {
                bits[row * width + column] = true;
            }
        }
    }
}

#[cfg(test)]
mod tests;
