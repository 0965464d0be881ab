//! Painting of overlays: colors of heat, and lines.
//!
//! Heat is relative to the threshold, never to a picture's own maximum: a color means the same in every
//! picture, and a good part has no color.

use image::{Rgb, RgbImage};

/// Values below this multiple of the threshold have no color.
pub(crate) const COLDEST: f32 = 0.5;
/// Values from this multiple of the threshold on have the last color.
pub(crate) const HOTTEST: f32 = 2.5;
/// Opacity of the hottest color. The defect must stay visible under it.
const MAX_ALPHA: f32 = 0.55;

pub(crate) const FOUND: Rgb<u8> = Rgb([255, 255, 255]);
pub(crate) const TRUTH: Rgb<u8> = Rgb([0, 229, 255]);

/// The inferno color map without its black end, evenly spaced. Its lightness rises steadily, so it works with
/// any color vision and in a gray print.
const INFERNO: [[u8; 3]; 13] = [
    [87, 16, 110],
    [113, 25, 110],
    [138, 34, 106],
    [163, 44, 97],
    [188, 55, 84],
    [210, 70, 68],
    [228, 90, 49],
    [241, 115, 29],
    [249, 142, 9],
    [252, 172, 17],
    [249, 203, 53],
    [242, 234, 105],
    [252, 255, 164],
];

/// Color and opacity of an anomaly value, `ratio` times the threshold.
pub(crate) fn heat(ratio: f32) -> (Rgb<u8>, f32) {
    // NaN compares false with everything, and has no color.
    if ratio.is_nan() || ratio <= COLDEST {
        return (Rgb(INFERNO[0]), 0.0);
    }
    let t = ((ratio - COLDEST) / (HOTTEST - COLDEST)).min(1.0);
    let position = t * (INFERNO.len() - 1) as f32;
    let low = (position as usize).min(INFERNO.len() - 2);
    let fraction = position - low as f32;
    let color = std::array::from_fn(|c| mix(INFERNO[low][c], INFERNO[low + 1][c], fraction));
    (Rgb(color), MAX_ALPHA * (1.0 - (1.0 - t) * (1.0 - t)))
}

/// An anomaly value as a multiple of the threshold. A threshold of zero makes every positive value infinitely
/// hot.
pub(crate) fn ratio(value: f32, threshold: f32) -> f32 {
    if threshold > 0.0 || value.is_nan() || threshold.is_nan() {
        value / threshold
    } else if value > 0.0 {
        f32::INFINITY
    } else {
        0.0
    }
}

fn mix(a: u8, b: u8, fraction: f32) -> u8 {
    (f32::from(a) + (f32::from(b) - f32::from(a)) * fraction).round() as u8
}

fn blend(pixel: &mut Rgb<u8>, color: Rgb<u8>, alpha: f32) {
    for c in 0..3 {
        pixel[c] = mix(pixel[c], color[c], alpha);
    }
}

pub(crate) fn tint(picture: &mut RgbImage, map: &[f32], threshold: f32) {
    for (pixel, &value) in picture.pixels_mut().zip(map) {
        let (color, alpha) = heat(ratio(value, threshold));
        if alpha > 0.0 {
            blend(pixel, color, alpha);
        }
    }
}

/// Lines, collected first and painted once: overlapping strokes would darken their halos.
pub(crate) struct Lines {
    width: usize,
    marks: Vec<u8>,
    pen: i64,
}

const HALO: u8 = 1;
const LINE: u8 = 2;
const GAP: u8 = 3;

impl Lines {
    pub(crate) fn new(picture: &RgbImage) -> Self {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let pen = i64::from(picture.width().max(picture.height()) / 240).max(1);
        Lines { width, marks: vec![0; width * height], pen }
    }

    /// Marks the straight line between two pixels, cut at the borders.
    fn stroke(&mut self, from: (i64, i64), to: (i64, i64)) {
        let (before, after, halo) = ((self.pen - 1) / 2, self.pen / 2, self.halo());
        self.mark(from, to, before + halo, after + halo, HALO);
        self.mark(from, to, before, after, LINE);
    }

    fn halo(&self) -> i64 {
        (self.pen + 1) / 2
    }

    /// Marks the rectangle between two pixels, widened to the top left by `before` and to the bottom right by
    /// `after`.
    fn mark(&mut self, from: (i64, i64), to: (i64, i64), before: i64, after: i64, mark: u8) {
        let (width, height) = (self.width as i64, (self.marks.len() / self.width) as i64);
        let (left, right) = ((from.0 - before).clamp(0, width), (to.0 + after + 1).clamp(0, width));
        let (top, bottom) = ((from.1 - before).clamp(0, height), (to.1 + after + 1).clamp(0, height));
        for y in top..bottom {
            for m in &mut self.marks[y as usize * self.width..][left as usize..right.max(left) as usize] {
                *m = mark.max(*m);
            }
        }
    }

    /// Marks an outline of the `true` area, a line's width outside it, so that a thin defect stays visible.
    pub(crate) fn outline(&mut self, area: &[bool]) {
        let mut around = Lines { width: self.width, marks: vec![0; self.marks.len()], pen: self.pen };
        let width = self.width;
        let height = area.len() / width;
        for at in (0..area.len()).filter(|at| area[*at]) {
            let (x, y) = (at % width, at / width);
            let enclosed = (x == 0 || area[at - 1])
                && (x + 1 == width || area[at + 1])
                && (y == 0 || area[at - width])
                && (y + 1 == height || area[at + width]);
            if !enclosed {
                let pixel = (x as i64, y as i64);
                let (gap, line) = (self.pen, 2 * self.pen);
                let halo = line + self.halo();
                around.mark(pixel, pixel, halo, halo, HALO);
                around.mark(pixel, pixel, line, line, LINE);
                around.mark(pixel, pixel, gap, gap, GAP);
            }
        }
        for ((mark, new), inside) in self.marks.iter_mut().zip(around.marks).zip(area) {
            if !inside && new != GAP {
                *mark = new.max(*mark);
            }
        }
    }

    /// Marks the four corners of a box, a little outside it if the picture has room. Corners keep the part
    /// visible where whole boxes would cover it.
    pub(crate) fn corners(&mut self, [x, y, box_width, box_height]: [u32; 4]) {
        let (width, height) = (self.width as i64, (self.marks.len() / self.width) as i64);
        let margin = self.pen * 3;
        let (x, y) = (i64::from(x), i64::from(y));
        let left = (x - margin).clamp(0, width - 1);
        let top = (y - margin).clamp(0, height - 1);
        let right = (x + i64::from(box_width) - 1 + margin).clamp(left, width - 1);
        let bottom = (y + i64::from(box_height) - 1 + margin).clamp(top, height - 1);
        let arm = ((right - left).min(bottom - top) / 3).min(self.pen * 12);
        for y in [top, bottom] {
            self.stroke((left, y), (left + arm, y));
            self.stroke((right - arm, y), (right, y));
        }
        for x in [left, right] {
            self.stroke((x, top), (x, top + arm));
            self.stroke((x, bottom - arm), (x, bottom));
        }
    }

    /// Paints the lines. The dark halo keeps a light line visible on a light part.
    pub(crate) fn paint(&self, picture: &mut RgbImage, color: Rgb<u8>) {
        for (pixel, &mark) in picture.pixels_mut().zip(&self.marks) {
            match mark {
                HALO => blend(pixel, Rgb([0; 3]), 0.4),
                LINE => *pixel = color,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heat_means_the_same_in_every_picture() {
        assert_eq!(heat(COLDEST).1, 0.0);
        assert_eq!(heat(f32::NAN).1, 0.0);
        assert_eq!(heat(f32::INFINITY), heat(HOTTEST));
        let steps: Vec<f32> = (5..=25).map(|r| heat(r as f32 / 10.0).1).collect();
        assert!(steps.windows(2).all(|w| w[0] < w[1]), "{steps:?}");
        // The same values under half the threshold are twice as hot.
        assert_eq!(ratio(3.0, 1.5), 2.0);
        assert_eq!(ratio(3.0, 0.0), f32::INFINITY);
        assert_eq!(ratio(0.0, 0.0), 0.0);
        assert!(ratio(1.0, f32::NAN).is_nan() && ratio(f32::NAN, 0.0).is_nan());
    }
}
