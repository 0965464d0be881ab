//! Pictures for the page. They are scaled first, then painted and encoded: the cost does not grow with the
//! camera's resolution.

use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::{ImageBuffer, Luma, Rgb};

use crate::error::{Error, ErrorKind, Result};
use crate::imaging::{Color, Frame};
use crate::inspector::{Inspection, OverlayOptions, Region, overlay};
use crate::record::Record;

/// Longest side of a rejected part's picture.
pub(super) const REJECT_SIDE: u32 = 640;
/// Longest side of the latest part's picture.
const LIVE_SIDE: u32 = 1280;
const JPEG_QUALITY: u8 = 85;

/// The latest part's frame and inspection. They are encoded on the first request, once for all clients.
#[derive(Default)]
pub(super) struct Shot {
    pub part: u64,
    frame: Frame,
    inspection: Option<Inspection>,
    pub painted: OnceLock<Option<Bytes>>,
    plain: OnceLock<Option<Bytes>>,
}

impl Shot {
    /// A copy of the record's frame and inspection. It reuses the buffers of `spare` if no one reads them.
    pub fn refilled(spare: Option<Arc<Shot>>, record: &Record) -> Arc<Shot> {
        let mut shot = spare.and_then(|spare| Arc::try_unwrap(spare).ok()).unwrap_or_default();
        shot.part = record.part;
        (shot.painted, shot.plain) = Default::default();
        if let Some(frame) = record.frame() {
            let copied = shot.frame.refill(frame.width(), frame.height(), frame.color(), |pixels| {
                pixels.copy_from_slice(frame.pixels());
                Ok(())
            });
            // The frame exists, so its size is valid.
            debug_assert!(copied.is_ok());
        }
        shot.inspection = record.inspection().map(|new| {
            let mut inspection = shot.inspection.take().unwrap_or_default();
            inspection.threshold = new.threshold;
            inspection.regions.clone_from(&new.regions);
            (inspection.map.width, inspection.map.height) = (new.map.width, new.map.height);
            inspection.map.values.clone_from(&new.map.values);
            inspection
        });
        Arc::new(shot)
    }

    /// The picture as JPEG, with or without the anomaly map; `None` if it cannot be encoded. The first call
    /// is slow.
    pub fn jpeg(&self, plain: bool) -> Option<Bytes> {
        let (cell, inspection) =
            if plain { (&self.plain, None) } else { (&self.painted, self.inspection.as_ref()) };
        let encode =
            || encoded(&self.frame, inspection, LIVE_SIDE).map_err(|e| log::warn!("web: {}", e.chain())).ok();
        cell.get_or_init(encode).clone()
    }
}

/// A JPEG of a frame, at most `longest` pixels long, with the anomaly map of the inspection.
///
/// # Errors
/// [`ErrorKind::Image`] if it cannot be encoded.
pub(crate) fn encoded(frame: &Frame, inspection: Option<&Inspection>, longest: u32) -> Result<Bytes> {
    let small = shrunk(frame, longest)?;
    let frame_of_picture = small.as_ref().unwrap_or(frame);
    let picture = match inspection {
        None => frame_of_picture.to_rgb(),
        Some(inspection) => {
            let inspection = Inspection {
                threshold: inspection.threshold,
                regions: inspection.regions.iter().map(|r| moved(r, frame, frame_of_picture)).collect(),
                map: inspection.map.clone(),
                ..Default::default()
            };
            overlay(frame_of_picture, &inspection, &OverlayOptions::default())
        }
    };
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY)
        .encode_image(&picture)
        .map_err(|e| Error::new(ErrorKind::Image, "cannot encode a picture").with_source(e))?;
    Ok(jpeg.into())
}

/// A smaller copy; `None` if the frame is small enough.
fn shrunk(frame: &Frame, longest: u32) -> Result<Option<Frame>> {
    let (width, height) = (frame.width(), frame.height());
    let side = width.max(height);
    if side <= longest {
        return Ok(None);
    }
    let scaled = |length: u32| {
        // At most `longest`, which is a `u32`.
        (u64::from(length) * u64::from(longest)).div_ceil(u64::from(side)).max(1) as u32
    };
    let (new_width, new_height) = (scaled(width), scaled(height));
    let pixels = match frame.color() {
        Color::Gray => ImageBuffer::<Luma<u8>, _>::from_raw(width, height, frame.pixels())
            .map(|p| image::imageops::thumbnail(&p, new_width, new_height).into_raw()),
        Color::Rgb => ImageBuffer::<Rgb<u8>, _>::from_raw(width, height, frame.pixels())
            .map(|p| image::imageops::thumbnail(&p, new_width, new_height).into_raw()),
    };
    Frame::new(new_width, new_height, frame.color(), pixels.unwrap_or_default()).map(Some)
}

/// A region, scaled to another size of the frame.
fn moved(region: &Region, from: &Frame, to: &Frame) -> Region {
    let scale = |start: u32, length: u32, from: u32, to: u32| {
        let position = |v: u32| f64::from(v) * f64::from(to) / f64::from(from);
        let first = position(start).floor() as u32;
        (first, (position(start.saturating_add(length)).ceil() as u32).saturating_sub(first).max(1))
    };
    let (x, width) = scale(region.x, region.width, from.width(), to.width());
    let (y, height) = scale(region.y, region.height, from.height(), to.height());
    Region { x, y, width, height, ..*region }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspector::AnomalyMap;

    fn size(jpeg: &[u8]) -> (u32, u32) {
        let frame = Frame::decode(jpeg).unwrap();
        (frame.width(), frame.height())
    }

    #[test]
    fn pictures_of_any_shape_are_scaled_to_fit() {
        for (width, height, expected) in [
            (2000, 1000, (640, 320)),
            (1000, 2000, (320, 640)),
            (300, 200, (300, 200)),
            (20_000, 1, (640, 1)),
            (1, 20_000, (1, 640)),
            (641, 640, (640, 640)),
        ] {
            for color in [Color::Gray, Color::Rgb] {
                let pixels = vec![70; width as usize * height as usize * color.channels()];
                let frame = Frame::new(width, height, color, pixels).unwrap();
                assert_eq!(size(&encoded(&frame, None, 640).unwrap()), expected);
            }
        }
    }

    #[test]
    fn the_heat_stays_where_the_region_is() {
        let frame = Frame::new(2560, 1280, Color::Gray, vec![90; 2560 * 1280]).unwrap();
        let mut values = vec![0.0; 64 * 32];
        for y in 8..12 {
            values[y * 64 + 40..y * 64 + 44].fill(3.0);
        }
        let region = Region { x: 1600, y: 320, width: 160, height: 160, peak: 3.0, area: 25_600 };
        let inspection = Inspection {
            score: 3.0,
            threshold: 1.0,
            regions: vec![region],
            map: AnomalyMap { width: 64, height: 32, values },
            ..Default::default()
        };
        let picture = Frame::decode(&encoded(&frame, Some(&inspection), 640).unwrap()).unwrap();
        let colored = |x: usize, y: usize| {
            let at = (y * 640 + x) * 3;
            let pixel = &picture.pixels()[at..at + 3];
            pixel.iter().max().unwrap() - pixel.iter().min().unwrap() > 30
        };
        assert!(colored(420, 100), "the middle of the region");
        assert!(!colored(220, 100) && !colored(420, 220), "elsewhere");
    }

    #[test]
    fn a_shot_reuses_the_buffers_of_one_that_nobody_looks_at() {
        let engine = std::sync::Arc::new(crate::record::Engine {
            product: String::new(),
            package: String::new(),
            provider: String::new(),
            threshold: 1.0,
            recipe: 0,
        });
        let mut record = Record::empty(engine);
        record.frame_buffer = Frame::new(64, 64, Color::Gray, vec![1; 4096]).unwrap();
        record.has_frame = true;
        let first = Shot::refilled(None, &record);
        let place = first.frame.pixels().as_ptr();
        assert!(first.jpeg(false).is_some());
        let looked_at = Arc::clone(&first);
        let other = Shot::refilled(Some(first), &record);
        assert_ne!(other.frame.pixels().as_ptr(), place);
        record.part = 2;
        let again = Shot::refilled(Some(looked_at), &record);
        assert_eq!((again.frame.pixels().as_ptr(), again.part), (place, 2));
        assert!(again.painted.get().is_none(), "the old picture is not shown for the new part");
    }
}
