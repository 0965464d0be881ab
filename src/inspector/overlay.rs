//! The anomaly map painted over the frame.

use image::RgbImage;

use super::inspection::Inspection;
use crate::anomaly::AnomalyMap;
use crate::imaging::{FOUND, Frame, Lines, TRUTH, tint};

/// What [`overlay`] draws besides the heat.
#[derive(Debug, Clone, Copy)]
pub struct OverlayOptions<'a> {
    /// White boxes around the inspection's regions.
    pub boxes: bool,
    /// White lines just outside the edge of a rejected part's area whose anomaly map is above the threshold.
    pub contours: bool,
    /// The labeled defect, drawn as a cyan outline: rows from the top, one value per frame pixel. A mask that
    /// is not of the frame's size is not drawn.
    pub truth: Option<&'a [bool]>,
}

impl Default for OverlayOptions<'_> {
    fn default() -> Self {
        OverlayOptions { boxes: true, contours: true, truth: None }
    }
}

/// The frame, in its own size, under its anomaly map.
///
/// Pixels whose anomaly value is at most half the threshold and that no line crosses are those of the frame.
/// Lines grow with the frame, so that they survive scaling down to a report. An inspection without a map (a
/// fault) gives the frame with whatever boxes it has.
///
/// ```
/// use weakrest::{Color, Frame};
/// use weakrest::inspector::{AnomalyMap, Inspection, OverlayOptions, StageTimes, Verdict, overlay};
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
            found.corners([region.x, region.y, region.width, region.height]);
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

fn map_of_size(map: &AnomalyMap, width: usize, height: usize) -> Option<Vec<f32>> {
    if map.values.is_empty() || map.values.len() != map.width.saturating_mul(map.height) {
        return None;
    }
    Some(map.resized(width, height).values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::anomaly::Region;
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
}
