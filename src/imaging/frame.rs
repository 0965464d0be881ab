//! Decoded pictures.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{BufReader, Cursor, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::jpeg::whole_jpeg;
use super::kinds::Kind;
use crate::error::{Error, ErrorKind, Result};

/// Channels of a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// One brightness per pixel.
    Gray,
    /// Red, green, blue.
    Rgb,
}

impl Color {
    /// Bytes per pixel.
    pub fn channels(self) -> usize {
        match self {
            Color::Gray => 1,
            Color::Rgb => 3,
        }
    }
}

impl std::fmt::Display for Color {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Color::Gray => "gray",
            Color::Rgb => "color",
        })
    }
}

/// A picture: 8 bits per channel, rows from the top, channels interleaved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    width: u32,
    height: u32,
    color: Color,
    pixels: Vec<u8>,
}

/// A buffer to [`Frame::refill`]: one black pixel.
impl Default for Frame {
    fn default() -> Self {
        Frame { width: 1, height: 1, color: Color::Gray, pixels: vec![0] }
    }
}

impl Frame {
    /// Largest number of pixels of a picture. A larger file is refused by its header, before it takes memory.
    pub const MAX_PIXELS: u64 = 100_000_000;

    /// A frame from raw pixels.
    ///
    /// # Errors
    /// [`ErrorKind::Image`] when a side is zero, there are more than [`Frame::MAX_PIXELS`], or `pixels` does
    /// not hold `width × height × channels` bytes.
    pub fn new(width: u32, height: u32, color: Color, pixels: Vec<u8>) -> Result<Self> {
        check_size(width, height)?;
        let expected = width as usize * height as usize * color.channels();
        if pixels.len() != expected {
            return Err(Error::new(
                ErrorKind::Image,
                format!("a {width}×{height} {color} frame needs {expected} bytes, got {}", pixels.len()),
            ));
        }
        Ok(Frame { width, height, color, pixels })
    }

    /// Reuses the buffer for another picture. `fill` overwrites `width × height × channels` bytes. Allocates
    /// only for a larger picture than any before.
    ///
    /// # Errors
    /// [`ErrorKind::Image`] as [`Frame::new`]; as `fill`, and then the frame's content is unspecified.
    pub fn refill(
        &mut self,
        width: u32,
        height: u32,
        color: Color,
        fill: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<()> {
        check_size(width, height)?;
        self.pixels.resize(width as usize * height as usize * color.channels(), 0);
        (self.width, self.height, self.color) = (width, height, color);
        fill(&mut self.pixels)
    }

    /// Reads a PNG, JPEG, BMP or TIFF file of 8 or 16 bits per channel, gray or color.
    ///
    /// 16-bit values are scaled to 8 bits over their full range, or over the range in the file's header.
    /// Transparency is ignored. The orientation in the file's EXIF data is applied. A palette of grays is
    /// gray.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the path cannot be read or is not a file; [`ErrorKind::Image`] for another
    /// format, a damaged or animated picture, several pages, more than [`Frame::MAX_PIXELS`], and 16-bit
    /// values without upper bits. Messages name the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        read(path).and_then(|bytes| Self::decode(&bytes)).map_err(|e| e.within(path.display()))
    }

    /// Width, height and color of a picture from its header, the same as [`Frame::open`] gives.
    ///
    /// # Errors
    /// As [`Frame::open`], as far as the header shows.
    pub fn header(path: impl AsRef<Path>) -> Result<(u32, u32, Color)> {
        let path = path.as_ref();
        let bytes = read(path).map_err(|e| e.within(path.display()))?;
        let (kind, decoder, orientation) = open_decoder(&bytes).map_err(|e| e.within(path.display()))?;
        let (width, height) = decoder.dimensions();
        let color = color_of(kind, &bytes, decoder.color_type());
        let upright = !matches!(
            orientation,
            Orientation::Rotate90
                | Orientation::Rotate270
                | Orientation::Rotate90FlipH
                | Orientation::Rotate270FlipH
        );
        Ok(if upright { (width, height, color) } else { (height, width, color) })
    }

    /// Decodes a file in memory. See [`Frame::open`].
    ///
    /// # Errors
    /// As [`Frame::open`], without a file name.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let (kind, mut picture) = upright(bytes)?;
        use_all_bits(&mut picture, kind.told_white(bytes))?;
        let color = color_of(kind, bytes, picture.color());
        let (width, height) = (picture.width(), picture.height());
        let pixels = match color {
            Color::Gray => picture.into_luma8().into_raw(),
            Color::Rgb => picture.into_rgb8().into_raw(),
        };
        Self::new(width, height, color, pixels)
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Channels of a pixel.
    pub fn color(&self) -> Color {
        self.color
    }

    /// The pixels: rows from the top, channels interleaved, `width × height × channels` bytes.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// SHA-256 of size, color and pixels. It does not depend on the file's format.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.width.to_le_bytes());
        hash.update(self.height.to_le_bytes());
        hash.update([self.color.channels() as u8]);
        hash.update(&self.pixels);
        hash.finalize().into()
    }

    /// The frame as an RGB picture of the `image` crate, for drawing and saving.
    pub fn to_rgb(&self) -> image::RgbImage {
        let rgb = match self.color {
            Color::Rgb => self.pixels.clone(),
            Color::Gray => self.pixels.iter().flat_map(|&v| [v; 3]).collect(),
        };
        // The size invariant of `new` makes the buffer exactly large enough.
        image::RgbImage::from_raw(self.width, self.height, rgb).unwrap_or_default()
    }
}

#[cfg(feature = "workshop")]
impl Frame {
    /// The original values of a file, the picture upright, and whether its format is lossless. For masks:
    /// their values are not brightness.
    pub(crate) fn values(path: &Path) -> Result<(DynamicImage, bool)> {
        let (kind, picture) =
            read(path).and_then(|bytes| upright(&bytes)).map_err(|e| e.within(path.display()))?;
        Ok((picture, kind != Kind::Jpeg))
    }

    /// The bytes of a file that may be a picture.
    pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>> {
        read(path)
    }

    /// Whether browsers show these bytes as [`Frame::decode`] does: PNG or JPEG without a rotation in EXIF
    /// data.
    pub(crate) fn is_shown_as_it_is(bytes: &[u8]) -> bool {
        open_decoder(bytes).is_ok_and(|(kind, _, orientation)| {
            matches!(kind, Kind::Png | Kind::Jpeg) && orientation == Orientation::NoTransforms
        })
    }
}

/// The bytes of a file, at most as many as [`Frame::MAX_PIXELS`] can take. The path of a disk must not take
/// all memory, and the path of a pipe must not block.
fn read(path: &Path) -> Result<Vec<u8>> {
    const MOST: u64 = Frame::MAX_PIXELS * 8 + (64 << 20);
    let unreadable = |e| Error::new(ErrorKind::Io, "cannot be read").with_source(e);
    // Checked before opening: opening a pipe may wait forever, and opening a device may start it.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        let message = "not a file, but a folder, a pipe or a device; give a picture file";
        return Err(Error::new(ErrorKind::Io, message));
    }
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MOST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MOST {
        return Err(Error::new(ErrorKind::Image, "the file is too large for a picture"));
    }
    Ok(bytes)
}

/// Color of a picture. `decoded` is its decoder's answer, which is always color for palettes.
fn color_of(kind: Kind, bytes: &[u8], decoded: ColorType) -> Color {
    match decoded.has_color() && !kind.has_gray_palette(bytes) {
        true => Color::Rgb,
        false => Color::Gray,
    }
}

/// A decoded picture, with its EXIF orientation applied.
fn upright(bytes: &[u8]) -> Result<(Kind, DynamicImage)> {
    let (kind, decoder, orientation) = open_decoder(bytes)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|e| undecodable(kind, e))?;
    picture.apply_orientation(orientation);
    Ok((kind, picture))
}

/// A decoder for the bytes of a [`Frame`], with a checked header.
fn open_decoder(bytes: &[u8]) -> Result<(Kind, impl ImageDecoder + '_, Orientation)> {
    let kind = Kind::of(bytes)?;
    // A part has one picture. The first of several may not be the intended one.
    if kind.has_several(bytes) {
        return Err(Error::new(
            ErrorKind::Image,
            "the file is animated or has several pages; save the intended picture alone",
        ));
    }
    if kind.has_jpeg_inside(bytes) {
        return Err(unsupported("a TIFF compressed as JPEG"));
    }
    let whole = match kind {
        Kind::Jpeg => whole_jpeg(bytes)?,
        _ => Cow::Borrowed(bytes),
    };
    let mut reader = ImageReader::with_format(BufReader::new(Cursor::new(whole)), kind.format());
    // For PNG, only data beside the pixels count: a few bytes may unpack to a huge color profile.
    let beside = 64 << 20;
    let mut limits = Limits::default();
    limits.max_alloc = Some(match kind {
        Kind::Png => beside,
        _ => Frame::MAX_PIXELS * 8 + beside,
    });
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|e| undecodable(kind, e))?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    if matches!(decoder.color_type(), ColorType::Rgb32F | ColorType::Rgba32F) {
        return Err(unsupported("a picture of floating-point values"));
    }
    let orientation = decoder.orientation().map_err(|e| undecodable(kind, e))?;
    Ok((kind, decoder, orientation))
}

/// Scales values to 16 bits, if the file gives the value of `white`. Otherwise pictures of 10 or 12 bits
/// would have 4 or 16 gray levels.
fn use_all_bits(picture: &mut DynamicImage, white: Option<u16>) -> Result<()> {
    let (values, channels, colors): (&mut [u16], _, _) = match picture {
        DynamicImage::ImageLuma16(p) => (p, 1, 1),
        DynamicImage::ImageLumaA16(p) => (p, 2, 1),
        DynamicImage::ImageRgb16(p) => (p, 3, 3),
        DynamicImage::ImageRgba16(p) => (p, 4, 3),
        _ => return Ok(()),
    };
    let brightest =
        values.chunks_exact(channels).flat_map(|pixel| &pixel[..colors]).copied().max().unwrap_or(0);
    let bad = |what: String| Err(Error::new(ErrorKind::Image, what));
    match white {
        Some(white) if brightest > white => bad(format!(
            "the file's header limits values to {white}, but some are larger; save it with 8 bits per value"
        )),
        Some(white) => {
            for value in values {
                *value = ((u32::from(*value) * 0xffff + u32::from(white) / 2) / u32::from(white)).min(0xffff)
                    as u16;
            }
            Ok(())
        }
        // Black is black in any range.
        None if (1..0x1000).contains(&brightest) => bad(format!(
            "16 bits per value, but only {} are in use (the brightest value is {brightest}): nearly black, or from \
             a camera of 10 or 12 bits; save it with 8 bits, or with values up to 65535",
            16 - brightest.leading_zeros()
        )),
        None => Ok(()),
    }
}

pub(super) fn check_size(width: u32, height: u32) -> Result<()> {
    if width == 0 || height == 0 {
        return Err(Error::new(ErrorKind::Image, "the picture has no pixels"));
    }
    if u64::from(width) * u64::from(height) > Frame::MAX_PIXELS {
        return Err(Error::new(
            ErrorKind::Image,
            format!(
                "{width}×{height} pixels are more than the limit of {} million; crop or scale the picture",
                Frame::MAX_PIXELS / 1_000_000
            ),
        ));
    }
    Ok(())
}

/// The error of a damaged picture.
pub(super) fn damaged(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Image, "the picture is damaged or cut short").with_source(why)
}

/// The error of a format that is not read.
pub(super) fn unsupported(what: &str) -> Error {
    let message = format!("{what} is not supported; save the picture as ordinary PNG, JPEG, BMP or TIFF");
    Error::new(ErrorKind::Image, message)
}

fn undecodable(kind: Kind, e: ImageError) -> Error {
    match e {
        ImageError::Limits(_) => {
            Error::new(ErrorKind::Image, "the picture is too large to decode").with_source(e)
        }
        // A complete JPEG that is not decoded is not damaged.
        ImageError::Unsupported(_) => unsupported(&format!("this kind of {}", kind.name())).with_source(e),
        _ if kind == Kind::Jpeg => unsupported("this kind of JPEG").with_source(e),
        _ => damaged(e),
    }
}
