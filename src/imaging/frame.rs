//! Decoded pictures.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read, Seek};
use std::path::Path;

use image::codecs::bmp::BmpDecoder;
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};

/// What a pixel holds.
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
    /// The most pixels that a picture may have. Above it a file is refused by its header, before memory is taken.
    pub const MAX_PIXELS: u64 = 100_000_000;

    /// A frame from raw pixels.
    ///
    /// # Errors
    /// [`ErrorKind::Image`] when a side is zero, there are more than [`Frame::MAX_PIXELS`], or `pixels` does not
    /// hold `width × height × channels` bytes.
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

    /// The same buffer for another picture: `fill` gets `width × height × channels` bytes to overwrite, whatever
    /// they hold. Allocates only when the picture is larger than any before.
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
    /// 16-bit values are scaled to 8 bits over their full range, transparency is ignored, and the orientation that
    /// a camera noted in the file is applied.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the file cannot be read; [`ErrorKind::Image`] when it is not such a picture, is
    /// damaged, is animated or has several pages, or is larger than [`Frame::MAX_PIXELS`]. Messages name the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        read(path).and_then(|bytes| Self::decode(&bytes)).map_err(|e| e.within(path.display()))
    }

    /// Width, height and color of a picture as [`Frame::open`] would give them, from its header alone.
    ///
    /// # Errors
    /// As [`Frame::open`], as far as the header tells.
    pub fn header(path: impl AsRef<Path>) -> Result<(u32, u32, Color)> {
        let path = path.as_ref();
        let bytes = read(path).map_err(|e| e.within(path.display()))?;
        let (decoder, orientation) = open_decoder(&bytes).map_err(|e| e.within(path.display()))?;
        let (width, height) = decoder.dimensions();
        let color = color_of(&bytes, decoder.color_type());
        let upright = !matches!(
            orientation,
            Orientation::Rotate90
                | Orientation::Rotate270
                | Orientation::Rotate90FlipH
                | Orientation::Rotate270FlipH
        );
        Ok(if upright { (width, height, color) } else { (height, width, color) })
    }

    /// The same as [`Frame::open`] for bytes in memory.
    ///
    /// # Errors
    /// As [`Frame::open`], without a file name.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let picture = upright(bytes)?;
        let color = color_of(bytes, picture.color());
        let (width, height) = (picture.width(), picture.height());
        let pixels = match color {
            Color::Gray => picture.into_luma8().into_raw(),
            Color::Rgb => picture.into_rgb8().into_raw(),
        };
        Self::new(width, height, color, pixels)
    }

    /// The values of a file as it holds them, the picture upright, and whether it keeps values to the letter: masks mean by
    /// them what no picture does.
    pub(crate) fn values(path: &Path) -> Result<(DynamicImage, bool)> {
        let bytes = read(path).map_err(|e| e.within(path.display()))?;
        let exact = !matches!(image::guess_format(&bytes), Ok(ImageFormat::Jpeg));
        Ok((upright(&bytes).map_err(|e| e.within(path.display()))?, exact))
    }

    /// The bytes of a file that may be a picture.
    pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>> {
        read(path)
    }

    /// Whether a browser shows these bytes as [`Frame::decode`] does: PNG or JPEG that no camera noted to be turned.
    pub(crate) fn is_shown_as_it_is(bytes: &[u8]) -> bool {
        let format = image::guess_format(bytes);
        matches!(format, Ok(ImageFormat::Png | ImageFormat::Jpeg))
            && open_decoder(bytes).is_ok_and(|(_, orientation)| orientation == Orientation::NoTransforms)
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// What a pixel holds.
    pub fn color(&self) -> Color {
        self.color
    }

    /// The pixels: rows from the top, channels interleaved, `width × height × channels` bytes.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// SHA-256 of size, color and pixels: the same for the same picture in whatever file.
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

/// The bytes of a file, but no more than a picture of [`Frame::MAX_PIXELS`] can have: a wrong name, such as that of a
/// disk, must not take all memory.
fn read(path: &Path) -> Result<Vec<u8>> {
    const MOST: u64 = Frame::MAX_PIXELS * 8 + (64 << 20);
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes))
        .map_err(|e| Error::new(ErrorKind::Io, "cannot be read").with_source(e))?;
    if bytes.len() as u64 > MOST {
        return Err(Error::new(ErrorKind::Image, "the file is too large for a picture"));
    }
    Ok(bytes)
}

/// What a picture shows. `decoded` is what its decoder makes of it: that of BMP always makes color.
fn color_of(bytes: &[u8], decoded: ColorType) -> Color {
    match decoded.has_color() && !is_gray_bmp(bytes) {
        true => Color::Rgb,
        false => Color::Gray,
    }
}

/// Whether a BMP has a palette of nothing but grays, the format's only way to be gray.
fn is_gray_bmp(bytes: &[u8]) -> bool {
    bytes.starts_with(b"BM")
        && BmpDecoder::new(Cursor::new(bytes)).is_ok_and(|bmp| {
            bmp.get_palette().is_some_and(|colors| colors.iter().all(|[r, g, b]| r == g && g == b))
        })
}

/// A picture as its decoder makes it, but turned as a camera noted.
fn upright(bytes: &[u8]) -> Result<DynamicImage> {
    let (decoder, orientation) = open_decoder(bytes)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(undecodable)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// A decoder for bytes that a [`Frame`] may come from, its header checked.
fn open_decoder(bytes: &[u8]) -> Result<(impl ImageDecoder + '_, Orientation)> {
    let bad = |what: &str| Error::new(ErrorKind::Image, what);
    if bytes.is_empty() {
        return Err(bad("the file is empty"));
    }
    let format = image::guess_format(bytes)
        .ok()
        .filter(|f| matches!(f, ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::Bmp | ImageFormat::Tiff))
        .ok_or_else(|| bad("not a PNG, JPEG, BMP or TIFF picture"))?;
    refuse_sequences(bytes, format)?;
    if format == ImageFormat::Jpeg && !jpeg_has_end(bytes) {
        return Err(bad(CUT_SHORT));
    }

    let mut reader = ImageReader::with_format(BufReader::new(Cursor::new(bytes)), format);
    // Of a PNG only what it holds beside its pixels is counted: a few bytes unpack to a huge color profile.
    let beside = 64 << 20;
    let mut limits = Limits::default();
    limits.max_alloc = Some(match format {
        ImageFormat::Png => beside,
        _ => Frame::MAX_PIXELS * 8 + beside,
    });
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(undecodable)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    let orientation = decoder.orientation().map_err(undecodable)?;
    Ok((decoder, orientation))
}

fn check_size(width: u32, height: u32) -> Result<()> {
    if width == 0 || height == 0 {
        return Err(Error::new(ErrorKind::Image, "the picture has no pixels"));
    }
    if u64::from(width) * u64::from(height) > Frame::MAX_PIXELS {
        return Err(Error::new(
            ErrorKind::Image,
            format!(
                "{width}×{height} pixels is more than the {} million that a picture may have; crop or scale it first",
                Frame::MAX_PIXELS / 1_000_000
            ),
        ));
    }
    Ok(())
}

const CUT_SHORT: &str = "the picture is damaged or cut short";

fn undecodable(e: ImageError) -> Error {
    let message = match &e {
        ImageError::Limits(_) => "the picture is too large to decode",
        _ => CUT_SHORT,
    };
    Error::new(ErrorKind::Image, message).with_source(e)
}

/// A part has one picture. Taking the first of several silently would inspect something the user did not mean.
fn refuse_sequences(bytes: &[u8], format: ImageFormat) -> Result<()> {
    let several = match format {
        ImageFormat::Png => png_is_animated(bytes),
        ImageFormat::Tiff => tiff_has_more_pages(Cursor::new(bytes)),
        _ => false,
    };
    if several {
        return Err(Error::new(
            ErrorKind::Image,
            "the file is animated or has several pages; save the one picture that is meant",
        ));
    }
    Ok(())
}

/// Whether a PNG announces an animation, which it has to do before its first pixels.
fn png_is_animated(bytes: &[u8]) -> bool {
    const SIGNATURE: usize = 8;
    const CHECKSUM: usize = 4;
    let mut rest = bytes.get(SIGNATURE..).unwrap_or_default();
    while let Some((&[a, b, c, d, ref kind @ ..], chunk)) = rest.split_first_chunk::<8>() {
        match kind {
            b"acTL" => return true,
            b"IDAT" => return false,
            _ => {}
        }
        let length = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_add(CHECKSUM);
        rest = chunk.get(length..).unwrap_or_default();
    }
    false
}

/// Whether a JPEG goes on to its end marker. The decoder fills what is missing with gray and does not tell.
pub(crate) fn jpeg_has_end(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|&b| b == 0xff)) {
        at += found + 1;
        match bytes.get(at) {
            Some(0xd9) => return true,
            // Fill bytes, and what stands within compressed data: stuffed bytes and restart markers.
            Some(0xff | 0x00 | 0x01 | 0xd0..=0xd8) => {}
            // Every other segment tells its length, so that a preview inside it is not looked into.
            Some(_) => {
                let Some(&[high, low]) = bytes.get(at + 1..at + 3) else { return false };
                at += 1 + usize::from(u16::from_be_bytes([high, low]));
            }
            None => return false,
        }
    }
    false
}

/// Whether the first image file directory of a TIFF links to a second one. A malformed file answers `false`: the
/// decoder has the better error message.
fn tiff_has_more_pages(mut file: impl BufRead + Seek) -> bool {
    use std::io::SeekFrom;
    let mut read = || -> std::io::Result<bool> {
        let mut head = [0u8; 8];
        file.read_exact(&mut head)?;
        let little = &head[..2] == b"II";
        let u16_of = |b: [u8; 2]| if little { u16::from_le_bytes(b) } else { u16::from_be_bytes(b) };
        let u32_of = |b: [u8; 4]| if little { u32::from_le_bytes(b) } else { u32::from_be_bytes(b) };
        if u16_of([head[2], head[3]]) != 42 {
            return Ok(false);
        }
        let first = u32_of([head[4], head[5], head[6], head[7]]);
        file.seek(SeekFrom::Start(u64::from(first)))?;
        let mut count = [0u8; 2];
        file.read_exact(&mut count)?;
        file.seek(SeekFrom::Current(12 * i64::from(u16_of(count))))?;
        let mut next = [0u8; 4];
        file.read_exact(&mut next)?;
        Ok(u32_of(next) != 0)
    };
    read().unwrap_or(false)
}
