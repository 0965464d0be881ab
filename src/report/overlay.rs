//! The anomaly map painted over the picture.
//!
//! Heat is normalized by the threshold, never by a picture's own maximum: the same color means the same thing in
//! every picture, and a good part stays as the camera saw it instead of showing its least dull spot in yellow.

use image::{Rgb, RgbImage};

use crate::imaging::Frame;
use crate::inspector::{AnomalyMap, Inspection, Region};

/// Below this multiple of the threshold nothing is tinted.
pub(crate) const COLDEST: f32 = 0.5;
/// From this multiple of the threshold on the heat has its last color.
pub(crate) const HOTTEST: f32 = 2.5;
/// How much of the picture the hottest heat covers: the defect must stay visible under it.
const MAX_ALPHA: f32 = 0.55;

const FOUND: Rgb<u8> = Rgb([255, 255, 255]);
const TRUTH: Rgb<u8> = Rgb([0, 229, 255]);

/// The inferno color map without its black end, evenly spaced. Its lightness rises steadily, so it reads the same
/// with any color vision and in a gray print.
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

/// What [`overlay`] draws besides the heat.
#[derive(Debug, Clone, Copy)]
pub struct OverlayOptions<'a> {
    /// White boxes around the inspection's regions.
    pub boxes: bool,
    /// White lines just outside the edge of a rejected part's area whose anomaly map is above the threshold.
    pub contours: bool,
    /// The labeled defect, drawn as a cyan outline: rows from the top, one value per frame pixel. A mask that is
    /// not of the frame's size is not drawn.
    pub truth: Option<&'a [bool]>,
}

impl Default for OverlayOptions<'_> {
    fn default() -> Self {
        OverlayOptions { boxes: true, contours: true, truth: None }
    }
}

/// The frame, in its own size, under its anomaly map.
///
/// Pixels whose anomaly value is at most half the threshold and that no line crosses are those of the frame. Lines
/// grow with the frame, so that they survive scaling down to a report. An inspection without a map (a fault) gives
/// the frame with whatever boxes it has.
///
/// ```
/// use weakrest::imaging::{Color, Frame};
/// use weakrest::inspector::{AnomalyMap, Inspection, StageTimes, Verdict};
/// use weakrest::report::{OverlayOptions, overlay};
///
/// let frame = Frame::new(4, 4, Color::Gray, vec![90; 16])?;
/// let clean = Inspection {
///     verdict: Verdict::Pass,
///     score: 0.2,
///     threshold: 1.0,
///     regions: vec![],
///     map: AnomalyMap { width: 2, height: 2, values: vec![0.1; 4] },
///     times: StageTimes::default(),
/// };
/// assert_eq!(overlay(&frame, &clean, &OverlayOptions::default()), frame.to_rgb());
/// # Ok::<(), weakrest::Error>(())
/// ```
pub fn overlay(frame: &Frame, inspection: &Inspection, options: &OverlayOptions) -> RgbImage {
    let mut picture = frame.to_rgb();
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let mut found = Lines::new(&picture);
    if let Some(map) = map_of_size(&inspection.map, width, height) {
        tint(&mut picture, &map, inspection.threshold);
        if options.contours && !inspection.regions.is_empty() {
            let hot: Vec<bool> = map.iter().map(|&v| v > inspection.threshold).collect();
            found.outline(&hot);
        }
    }
    if options.boxes {
        for region in &inspection.regions {
            found.corners(region);
        }
    }
    found.paint(&mut picture, FOUND);
    if let Some(mask) = options.truth.filter(|t| t.len() == width * height) {
        let mut truth = Lines::new(&picture);
        truth.outline(mask);
        truth.paint(&mut picture, TRUTH);
    }
    picture
}

/// Two pictures next to each other with a narrow white gap, aligned at the top.
pub fn side_by_side(left: &RgbImage, right: &RgbImage) -> RgbImage {
    let height = left.height().max(right.height());
    let gap = (height / 64).max(2);
    let mut both = RgbImage::from_pixel(left.width() + gap + right.width(), height, Rgb([255; 3]));
    image::imageops::replace(&mut both, left, 0, 0);
    image::imageops::replace(&mut both, right, i64::from(left.width() + gap), 0);
    both
}

/// The color and opacity of an anomaly value that is `ratio` times the threshold.
pub(crate) fn heat(ratio: f32) -> (Rgb<u8>, f32) {
    // NaN compares false with everything and must not be painted as if it were a value.
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

/// An anomaly value as a multiple of the threshold. A threshold of zero makes every positive value infinitely hot.
pub(crate) fn ratio(value: f32, threshold: f32) -> f32 {
    if threshold > 0.0 || value.is_nan() || threshold.is_nan() {
        value / threshold
    } else if value > 0.0 {
        f32::INFINITY
    } else {
        0.0
    }
}

fn map_of_size(map: &AnomalyMap, width: usize, height: usize) -> Option<Vec<f32>> {
    if map.values.is_empty() || map.values.len() != map.width.saturating_mul(map.height) {
        return None;
    }
    Some(map.resized(width, height).values)
}

fn mix(a: u8, b: u8, fraction: f32) -> u8 {
    (f32::from(a) + (f32::from(b) - f32::from(a)) * fraction).round() as u8
}

fn blend(pixel: &mut Rgb<u8>, color: Rgb<u8>, alpha: f32) {
    for c in 0..3 {
        pixel[c] = mix(pixel[c], color[c], alpha);
    }
}

fn tint(picture: &mut RgbImage, map: &[f32], threshold: f32) {
    for (pixel, &value) in picture.pixels_mut().zip(map) {
        let (color, alpha) = heat(ratio(value, threshold));
        if alpha > 0.0 {
            blend(pixel, color, alpha);
        }
    }
}

/// Lines to be drawn, collected first and painted once: overlapping strokes would darken the halo where lines crowd.
struct Lines {
    width: usize,
    marks: Vec<u8>,
    pen: i64,
}

const HALO: u8 = 1;
const LINE: u8 = 2;
const GAP: u8 = 3;

impl Lines {
    fn new(picture: &RgbImage) -> Self {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let pen = i64::from(picture.width().max(picture.height()) / 240).max(1);
        Lines { width, marks: vec![0; width * height], pen }
    }

    /// Ink along the straight line from one pixel to another, cut at the borders.
    fn stroke(&mut self, from: (i64, i64), to: (i64, i64)) {
        let (before, after, halo) = ((self.pen - 1) / 2, self.pen / 2, self.halo());
        self.mark(from, to, before + halo, after + halo, HALO);
        self.mark(from, to, before, after, LINE);
    }

    fn halo(&self) -> i64 {
        (self.pen + 1) / 2
    }

    /// Marks the rectangle between two pixels, widened to the top left by `before` and to the bottom right by `after`.
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

    /// Around the `true` area, a line's width outside it: a thin defect must not vanish under its own outline.
    fn outline(&mut self, area: &[bool]) {
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

    /// The four corners of a region's box, a little outside it where the picture has room. Corners instead of
    /// whole boxes keep the part visible when regions are many.
    fn corners(&mut self, region: &Region) {
        let (width, height) = (self.width as i64, (self.marks.len() / self.width) as i64);
        let margin = self.pen * 3;
        let (x, y) = (i64::from(region.x), i64::from(region.y));
        let left = (x - margin).clamp(0, width - 1);
        let top = (y - margin).clamp(0, height - 1);
        let right = (x + i64::from(region.width) - 1 + margin).clamp(left, width - 1);
        let bottom = (y + i64::from(region.height) - 1 + margin).clamp(top, height - 1);
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

    /// The halo is dark, so that a light line stays visible on light ground.
    fn paint(&self, picture: &mut RgbImage, color: Rgb<u8>) {
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
    use crate::imaging::Color;
    use crate::inspector::{StageTimes, Verdict};

    fn frame(width: u32, height: u32) -> Frame {
        let pixels = (0..width * height).map(|i| (60 + i % 90) as u8).collect();
        Frame::new(width, height, Color::Gray, pixels).unwrap()
    }

    fn inspection(map: AnomalyMap, regions: Vec<Region>) -> Inspection {
        Inspection {
            verdict: if regions.is_empty() { Verdict::Pass } else { Verdict::Reject },
            score: 1.0,
            threshold: 2.0,
            regions,
            map,
            times: StageTimes::default(),
        }
    }

    fn map(width: usize, height: usize, value: impl Fn(usize, usize) -> f32) -> AnomalyMap {
        let values = (0..width * height).map(|i| value(i % width, i / width)).collect();
        AnomalyMap { width, height, values }
    }

    fn region(x: u32, y: u32, width: u32, height: u32) -> Region {
        Region { x, y, width, height, peak: 5.0, area: width.saturating_mul(height) }
    }

    #[test]
    fn a_clean_part_is_left_pixel_identical() {
        let f = frame(60, 40);
        let clean = inspection(map(15, 10, |x, _| x as f32 / 15.0), vec![]);
        assert_eq!(overlay(&f, &clean, &OverlayOptions::default()), f.to_rgb());
    }

    #[test]
    fn a_hot_area_is_tinted_and_the_rest_is_left_alone() {
        let f = frame(64, 64);
        let hot = inspection(map(64, 64, |x, y| if x < 20 && y < 20 { 6.0 } else { 0.3 }), vec![]);
        let plain = f.to_rgb();
        let painted = overlay(&f, &hot, &OverlayOptions { contours: false, ..Default::default() });
        for (x, y, p) in painted.enumerate_pixels() {
            assert_eq!(p != plain.get_pixel(x, y), x < 20 && y < 20, "at {x},{y}");
        }
        let p = painted.get_pixel(10, 10);
        assert!(p[0] > p[2] + 30, "hot is yellow, not {p:?}");
    }

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

    #[test]
    fn boxes_are_cut_at_the_borders() {
        for (w, h) in [(1, 1), (2, 7), (40, 30), (700, 10)] {
            let f = frame(w, h);
            for r in [
                region(0, 0, 1, 1),
                region(w - 1, h - 1, 1, 1),
                region(0, 0, w, h),
                region(w - 1, h - 1, 50, 50),
                region(u32::MAX, u32::MAX, u32::MAX, u32::MAX),
                region(3, 3, 0, 0),
            ] {
                let painted =
                    overlay(&f, &inspection(AnomalyMap::default(), vec![r]), &OverlayOptions::default());
                assert_eq!(painted.dimensions(), (w, h));
                assert!(painted.pixels().any(|p| *p == FOUND), "nothing drawn for {r:?} in {w}×{h}");
            }
        }
    }

    #[test]
    fn a_box_lies_around_its_region() {
        let painted = overlay(
            &frame(100, 100),
            &inspection(AnomalyMap::default(), vec![region(40, 50, 20, 10)]),
            &OverlayOptions::default(),
        );
        let white: Vec<(u32, u32)> =
            painted.enumerate_pixels().filter(|(_, _, p)| **p == FOUND).map(|(x, y, _)| (x, y)).collect();
        let span = |v: Vec<u32>| (v.iter().copied().min().unwrap(), v.iter().copied().max().unwrap());
        assert_eq!(span(white.iter().map(|p| p.0).collect()), (37, 62));
        assert_eq!(span(white.iter().map(|p| p.1).collect()), (47, 62));
        assert!(white.iter().all(|&(x, y)| !((40..60).contains(&x) && (50..60).contains(&y))));
    }

    #[test]
    fn maps_of_any_size_fit_any_frame() {
        for (w, h) in [(1, 1), (7, 3), (50, 80)] {
            for (mw, mh) in [(0, 0), (1, 1), (13, 2), (90, 90)] {
                let painted = overlay(
                    &frame(w, h),
                    &inspection(map(mw, mh, |_, _| 9.0), vec![region(0, 0, w, h)]),
                    &OverlayOptions::default(),
                );
                assert_eq!(painted.dimensions(), (w, h));
            }
        }
        // A map whose values do not fill its size is no map.
        let short = AnomalyMap { width: 4, height: 4, values: vec![9.0; 3] };
        let f = frame(8, 8);
        assert_eq!(overlay(&f, &inspection(short, vec![]), &OverlayOptions::default()), f.to_rgb());
    }

    #[test]
    fn the_labeled_defect_has_its_own_color() {
        let f = frame(50, 50);
        let mask: Vec<bool> =
            (0..2500).map(|i| (10..20).contains(&(i % 50)) && (10..20).contains(&(i / 50))).collect();
        let options = OverlayOptions { truth: Some(&mask), ..Default::default() };
        let painted = overlay(&f, &inspection(AnomalyMap::default(), vec![]), &options);
        for (x, y, pixel) in painted.enumerate_pixels() {
            let inside = (9..21).contains(&x) && (9..21).contains(&y);
            let on_line = !inside && (8..22).contains(&x) && (8..22).contains(&y);
            assert_eq!(*pixel == TRUTH, on_line, "at {x},{y}");
            assert!(!inside || pixel == f.to_rgb().get_pixel(x, y), "the defect is covered at {x},{y}");
        }

        let of_another_size = OverlayOptions { truth: Some(&mask[1..]), ..Default::default() };
        assert_eq!(
            overlay(&f, &inspection(AnomalyMap::default(), vec![]), &of_another_size),
            f.to_rgb(),
            "a mask of another size"
        );
    }

    #[test]
    fn two_pictures_stand_side_by_side() {
        let (a, b) = (frame(10, 20).to_rgb(), frame(30, 12).to_rgb());
        let both = side_by_side(&a, &b);
        assert_eq!(both.dimensions(), (42, 20));
        assert_eq!(both.get_pixel(3, 7), a.get_pixel(3, 7));
        assert_eq!(both.get_pixel(12 + 5, 7), b.get_pixel(5, 7));
        assert_eq!(*both.get_pixel(11, 0), Rgb([255; 3]));
    }
}
