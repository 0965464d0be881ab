//! Formats of pictures, by their content, and facts in their headers that decoders do not give.

use std::io::Cursor;

use image::ImageFormat;
use image::codecs::bmp::BmpDecoder;

use super::frame::{damaged, unsupported};
use crate::error::{Error, ErrorKind, Result};

/// The formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Png,
    Jpeg,
    Bmp,
    Tiff,
}

/// Other files that may be taken for pictures: position and bytes of their signature, and their name.
const OTHERS: [(usize, &[u8], &str); 24] = [
    (8, b"WEBP", "a WebP picture"),
    (0, b"GIF8", "a GIF picture"),
    (4, b"ftypavi", "an AVIF picture"),
    (4, b"ftyphe", "a HEIC picture"),
    (4, b"ftypmif1", "a HEIC picture"),
    (4, b"ftypmsf1", "a HEIC picture"),
    (4, b"ftypcrx", "a camera's raw picture"),
    (4, b"ftyp", "a video"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (0, b"II\xbc", "a JPEG XR picture"),
    (0, b"II+\0", "a BigTIFF picture"),
    (0, b"MM\0+", "a BigTIFF picture"),
    (0, b"IIU\0", "a camera's raw picture"),
    (0, b"FUJIFILM", "a camera's raw picture"),
    (0, b"8BPS", "a Photoshop picture"),
    (0, b"v/1\x01", "an OpenEXR picture"),
    (0, b"qoif", "a QOI picture"),
    (0, b"%PDF", "a PDF document"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"version https://git-lfs", "a Git LFS pointer instead of the file"),
];

impl Kind {
    /// The format by the content. File names do not count.
    pub(super) fn of(bytes: &[u8]) -> Result<Self> {
        let begins = |magic: &[u8]| bytes.starts_with(magic);
        if begins(b"\x89PNG\r\n\x1a\n") {
            return Ok(Kind::Png);
        }
        // A marker follows the start marker.
        if begins(b"\xff\xd8\xff") {
            return Ok(Kind::Jpeg);
        }
        if begins(b"BM") {
            return Ok(Kind::Bmp);
        }
        if begins(b"II*\0") || begins(b"MM\0*") {
            return Ok(Kind::Tiff);
        }
        let other =
            OTHERS.iter().find(|(at, magic, _)| bytes.get(*at..).is_some_and(|b| b.starts_with(magic)));
        let netpbm = matches!(bytes, [b'P', b'1'..=b'7', white, ..] if white.is_ascii_whitespace());
        Err(match other {
            Some((_, _, what)) => unsupported(what),
            None if netpbm => unsupported("a PBM, PGM or PPM picture"),
            None if bytes.is_empty() => Error::new(ErrorKind::Image, "the file is empty"),
            None if bytes.iter().all(|&byte| byte == 0) => damaged("the file has only zeros"),
            None => Error::new(ErrorKind::Image, "not a PNG, JPEG, BMP or TIFF picture"),
        })
    }

    pub(super) fn format(self) -> ImageFormat {
        match self {
            Kind::Png => ImageFormat::Png,
            Kind::Jpeg => ImageFormat::Jpeg,
            Kind::Bmp => ImageFormat::Bmp,
            Kind::Tiff => ImageFormat::Tiff,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Png => "PNG",
            Kind::Jpeg => "JPEG",
            Kind::Bmp => "BMP",
            Kind::Tiff => "TIFF",
        }
    }

    /// Whether the file has several pictures: a PNG's animation, announced before the first pixels, or a
    /// TIFF's pages.
    pub(super) fn has_several(self, bytes: &[u8]) -> bool {
        match self {
            Kind::Png => png_chunks(bytes).any(|(kind, _)| &kind == b"acTL"),
            Kind::Tiff => Tiff::of(bytes).is_some_and(|tiff| tiff.has_more_pages()),
            _ => false,
        }
    }

    /// Whether the file has a palette of grays.
    pub(super) fn has_gray_palette(self, bytes: &[u8]) -> bool {
        let gray = |color: &[u8]| color.iter().all(|v| *v == color[0]);
        match self {
            Kind::Png => {
                let mut chunks = png_chunks(bytes);
                let indexed = chunks.next().is_some_and(|(_, header)| header.get(9) == Some(&3));
                let palette = chunks.find(|(kind, _)| kind == b"PLTE");
                indexed && palette.is_some_and(|(_, colors)| colors.chunks_exact(3).all(gray))
            }
            Kind::Bmp => BmpDecoder::new(Cursor::new(bytes))
                .is_ok_and(|bmp| bmp.get_palette().is_some_and(|colors| colors.iter().all(|c| gray(c)))),
            _ => false,
        }
    }

    /// The value of white, if the header gives it and it is less than the full range: cameras with 10, 12 or
    /// 14 bits.
    pub(super) fn told_white(self, bytes: &[u8]) -> Option<u16> {
        const MAX_SAMPLE_VALUE: u16 = 281;
        let told = match self {
            Kind::Tiff => Tiff::of(bytes)?.value(MAX_SAMPLE_VALUE)?,
            _ => return None,
        };
        // Some programs write the picture's brightest value.
        let is_white = (0x1ff..0xffff).contains(&told) && (told + 1).is_power_of_two();
        u16::try_from(told).ok().filter(|_| is_white)
    }

    /// Whether a TIFF has JPEG inside. Decoders do not notice when that is cut short.
    pub(super) fn has_jpeg_inside(self, bytes: &[u8]) -> bool {
        const COMPRESSION: u16 = 259;
        let compression = Tiff::of(bytes).filter(|_| self == Kind::Tiff).and_then(|t| t.value(COMPRESSION));
        matches!(compression, Some(6 | 7))
    }
}

/// A PNG's chunks before its pixels.
fn png_chunks(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    const SIGNATURE: usize = 8;
    const CHECKSUM: usize = 4;
    let mut rest = bytes.get(SIGNATURE..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (&[a, b, c, d, ref kind @ ..], after) = rest.split_first_chunk::<8>()?;
        let (content, after) = after.split_at_checked(u32::from_be_bytes([a, b, c, d]) as usize)?;
        rest = after.get(CHECKSUM..).unwrap_or_default();
        Some(*kind).filter(|kind| kind != b"IDAT").map(|kind| (kind, content))
    })
}

/// The first page of a TIFF. Malformed files give `None`: the decoder has the better message.
struct Tiff<'a> {
    bytes: &'a [u8],
    little: bool,
    /// Twelve bytes for each of its values.
    entries: &'a [u8],
    next: u32,
}

impl<'a> Tiff<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let mut tiff = Tiff { bytes, little: bytes.starts_with(b"II"), entries: &[], next: 0 };
        let at = tiff.long(bytes.get(4..)?)? as usize;
        let (count, rest) = (tiff.short(bytes.get(at..)?)?, bytes.get(at + 2..)?);
        let (entries, rest) = rest.split_at_checked(12 * usize::from(count))?;
        (tiff.entries, tiff.next) = (entries, tiff.long(rest)?);
        Some(tiff)
    }

    fn short(&self, bytes: &[u8]) -> Option<u16> {
        let bytes = *bytes.first_chunk()?;
        Some(if self.little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    fn long(&self, bytes: &[u8]) -> Option<u32> {
        let bytes = *bytes.first_chunk()?;
        Some(if self.little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    fn has_more_pages(&self) -> bool {
        self.next != 0
    }

    /// The first number of a tag.
    fn value(&self, tag: u16) -> Option<u32> {
        let entry = self.entries.chunks_exact(12).find(|entry| self.short(entry) == Some(tag))?;
        let (kind, count) = (self.short(&entry[2..])?, self.long(&entry[4..])?);
        let size = if kind == 3 { 2 } else { 4 };
        let place = match count.checked_mul(size)? {
            0 => return None,
            1..=4 => &entry[8..],
            _ => self.bytes.get(self.long(&entry[8..])? as usize..)?,
        };
        match kind {
            3 => self.short(place).map(u32::from),
            4 => self.long(place),
            _ => None,
        }
    }
}
