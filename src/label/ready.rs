//! The results for one picture.

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

use super::nearest::Nearest;
use super::work::{Png, Suggestion};
use crate::anomaly::AnomalyMap;
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::{Color, Components, Frame, Mask, heat, ratio};
use crate::inspector::{Inspector, Prepared, Verdict};
use crate::labels::{Rle, Stamp};

/// A suggestion is sure from this multiple of the threshold on, far beyond the scores of good parts.
const SURE: f32 = 1.25;

/// Longest side of a picture in the list, in pixels.
const SMALL: u32 = 96;

/// The results for one picture.
pub struct Ready {
    /// Size and time of the file.
    pub stamp: Option<Stamp>,
    /// SHA-256 of the file.
    pub hash: String,
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// The inspection, or why the detector cannot judge the picture.
    pub prepared: std::result::Result<Prepared, String>,
    /// Where a defect may be.
    pub suggestion: Option<Suggestion>,
    /// PNG of the anomaly map, once computed; `None` inside if there is no map.
    map: Option<Option<Png>>,
    nearest: Option<Option<Png>>,
}

impl Ready {
    /// Inspects a picture.
    ///
    /// # Errors
    /// As [`Frame::decode`].
    pub fn new(inspector: &mut Inspector, bytes: &[u8], stamp: Option<Stamp>, hash: String) -> Result<Ready> {
        let frame = Frame::decode(bytes)?;
        let prepared = inspector.prepare(&frame).map_err(|e| e.reason());
        let size = (frame.width(), frame.height());
        let suggestion = prepared.as_ref().ok().and_then(|prepared| suggestion_from_map(prepared, size));
        Ok(Ready { stamp, hash, size, prepared, suggestion, map: None, nearest: None })
    }

    /// Image score.
    pub fn score(&self) -> Option<f32> {
        self.prepared.as_ref().ok().map(|p| p.inspection.score)
    }

    /// The anomaly map as PNG.
    pub fn map(&mut self, threshold: f32) -> Option<Png> {
        let prepared = self.prepared.as_ref().ok()?;
        self.map.get_or_insert_with(|| png_from_map(&prepared.inspection.map, threshold)).clone()
    }

    /// What the part should look like, as PNG.
    pub fn nearest(&mut self, nearest: &mut Nearest, inspector: &Inspector) -> Option<Png> {
        let prepared = self.prepared.as_ref().ok()?;
        let compose = || {
            let (bank, scale) = inspector.fullest_bank()?;
            let composed = nearest.compose(prepared, bank, scale);
            let picture = composed.map_err(|e| log::warn!("{}", e.chain())).ok()?;
            let (width, height) = picture.dimensions();
            png(picture.as_raw(), width, height, ExtendedColorType::Rgba8).map(Png::from)
        };
        self.nearest.get_or_insert_with(compose).clone()
    }
}

/// A picture file as a JPEG of at most [`SMALL`] pixels on each side.
///
/// # Errors
/// As [`Frame::decode`]; [`ErrorKind::Image`] when it cannot be encoded.
pub fn small_jpeg(bytes: &[u8]) -> Result<Vec<u8>> {
    let picture = Frame::decode(bytes)?.to_rgb();
    let share = f64::from(SMALL) / f64::from(picture.width().max(picture.height()));
    let scaled = |side: u32| ((f64::from(side) * share.min(1.0)) as u32).max(1);
    let small = image::imageops::thumbnail(&picture, scaled(picture.width()), scaled(picture.height()));
    let mut jpeg = Vec::new();
    let cannot = |e| Error::new(ErrorKind::Image, "cannot encode a small picture").with_source(e);
    JpegEncoder::new_with_quality(&mut jpeg, 80).encode_image(&small).map_err(cannot)?;
    Ok(jpeg)
}

/// Media type and content of a picture file for browsers.
///
/// # Errors
/// As [`Frame::decode`]; [`ErrorKind::Image`] when it cannot be encoded.
pub fn for_browser(bytes: Vec<u8>) -> Result<(&'static str, Vec<u8>)> {
    if Frame::is_shown_as_it_is(&bytes) {
        let kind = if bytes.starts_with(&[0xff, 0xd8]) { "image/jpeg" } else { "image/png" };
        return Ok((kind, bytes));
    }
    let frame = Frame::decode(&bytes)?;
    let color = match frame.color() {
        Color::Gray => ExtendedColorType::L8,
        Color::Rgb => ExtendedColorType::Rgb8,
    };
    let png = png(frame.pixels(), frame.width(), frame.height(), color)
        .ok_or_else(|| Error::new(ErrorKind::Image, "the picture cannot be encoded for the browser"))?;
    Ok(("image/png", png))
}

/// The pixels above the threshold and above half of the peak of their area: a strong defect shines beyond its
/// edge. `None` for a part that passes.
fn suggestion_from_map(prepared: &Prepared, (width, height): (u32, u32)) -> Option<Suggestion> {
    let inspection = &prepared.inspection;
    if inspection.verdict != Verdict::Reject {
        return None;
    }
    let map = inspection.map.resized(width as usize, height as usize).values;
    let mut areas = Components::default();
    areas.label(width as usize, height as usize, |i| map[i] > inspection.threshold);
    let mut peaks = vec![0.0f32; areas.list().len() + 1];
    for (&area, &value) in areas.labels().iter().zip(&map) {
        peaks[area as usize] = peaks[area as usize].max(value);
    }
    let marked = |(&area, &value): (&u32, &f32)| area > 0 && value > 0.5 * peaks[area as usize];
    let bits = areas.labels().iter().zip(&map).map(marked).collect();
    let mask = Mask::new(width, height, bits).ok().filter(|mask| mask.defective_pixels() > 0)?;
    let sure = inspection.score >= SURE * inspection.threshold;
    Some(Suggestion { mask: Rle::from(&mask), sure })
}

fn png_from_map(map: &AnomalyMap, threshold: f32) -> Option<Png> {
    let pixels: Vec<u8> = map
        .values
        .iter()
        .flat_map(|&value| {
            let (color, alpha) = heat(ratio(value, threshold));
            [color[0], color[1], color[2], (alpha * 255.0).round() as u8]
        })
        .collect();
    png(&pixels, map.width as u32, map.height as u32, ExtendedColorType::Rgba8).map(Png::from)
}

fn png(pixels: &[u8], width: u32, height: u32, color: ExtendedColorType) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive)
        .write_image(pixels, width, height, color)
        .map_err(|e| log::warn!("cannot encode a picture: {e}"))
        .ok()?;
    Some(bytes)
}
