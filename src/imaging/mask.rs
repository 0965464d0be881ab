//! Mask files: which pixels are defective.
//!
//! One rule serves data sets, labels and training ([`Mask::open`]; `weakrest-export` has the same rule).
//! Tools write masks as 0 and 255, as 0 and 1, as a color on black, or as a shape in the transparency. Clear
//! masks are read. Ambiguous masks are refused: a misread mask calls every part good, or none.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{DynamicImage, ExtendedColorType, ImageEncoder};
use serde::Serialize;

use super::{Frame, named};
use crate::error::{Error, ErrorKind, Result};

/// The values of a mask file that mean *defective*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaskRule {
    /// White, above the middle of the file's values. Grays between black and white come from smoothed edges,
    /// and counting them all would widen the defects. If a file has only black and one other value, the other
    /// value is defective.
    AboveHalf,
    /// Every value above 0, for masks of small class numbers. Only VisA has them: 1 to 9, the types of
    /// defects, which look black to the eye.
    NonZero,
}

/// Ground truth of one picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    width: u32,
    height: u32,
    bits: Vec<bool>,
}

impl Mask {
    /// A mask from one `bool` per pixel, rows from the top, true for defective.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when `bits` are not `width × height`.
    pub fn new(width: u32, height: u32, bits: Vec<bool>) -> Result<Self> {
        if bits.len() as u64 != u64::from(width) * u64::from(height) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("a {width}×{height} mask does not have {} pixels", bits.len()),
            ));
        }
        Ok(Mask { width, height, bits })
    }

    /// The mask of a good picture of the given size.
    pub fn empty(width: u32, height: u32) -> Self {
        Mask { width, height, bits: vec![false; width as usize * height as usize] }
    }

    /// Reads a mask file. In a color file the brightest channel counts. If only the transparency varies, it
    /// is the mask.
    ///
    /// # Errors
    /// As [`Frame::open`]; [`ErrorKind::Dataset`] with the file for masks that are ambiguous by
    /// [`MaskRule::AboveHalf`]: class numbers, class colors, only dark grays.
    pub fn open(path: impl AsRef<Path>, rule: MaskRule) -> Result<Self> {
        let path = path.as_ref();
        let (picture, exact) = Frame::values(path)?;
        let (width, height) = (picture.width(), picture.height());
        let values = Values::of(picture);
        let bits = match rule {
            MaskRule::NonZero => values.gray.iter().map(|&v| v > 0).collect(),
            MaskRule::AboveHalf => values.marked(width as usize, exact).map_err(|why| {
                let text = format!(
                    "{why}: save it black, with the defects white; in a label file, \"rule\": \"non-zero\" takes every value \
                     above 0"
                );
                Error::new(ErrorKind::Dataset, text).within(path.display())
            })?,
        };
        Ok(Mask { width, height, bits })
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// One `bool` per pixel, rows from the top, true for defective.
    pub fn bits(&self) -> &[bool] {
        &self.bits
    }

    /// Number of defective pixels.
    pub fn defective_pixels(&self) -> usize {
        self.bits.iter().filter(|b| **b).count()
    }

    /// Whether it marks more than half of the picture and of its rim. Masks with black defects do.
    pub fn looks_inverted(&self) -> bool {
        let width = self.width as usize;
        let rim = |i: usize| {
            let (x, y) = (i % width, i / width);
            x == 0 || y == 0 || x + 1 == width || y + 1 == self.height as usize
        };
        let at_rim = self.bits.iter().enumerate().filter(|(i, _)| rim(*i)).map(|(_, bit)| *bit);
        2 * self.defective_pixels() > self.bits.len()
            && 2 * at_rim.clone().filter(|bit| *bit).count() > at_rim.count()
    }
}

/// The values of a mask file.
struct Values {
    /// The brightest channel of each pixel, times its opacity.
    gray: Vec<u16>,
    /// The channels of each pixel's color, one bit per channel.
    hue: Vec<u8>,
    /// Whether all pixels above 0 have one color.
    uniform: bool,
    /// The value of white.
    white: u16,
}

impl Values {
    fn of(picture: DynamicImage) -> Values {
        let channels = usize::from(picture.color().channel_count());
        if let Some(samples) = picture.as_flat_samples_u8() {
            return Values::from_pixels(samples.samples.chunks_exact(channels), u8::MAX.into());
        }
        match picture.as_flat_samples_u16() {
            Some(samples) => Values::from_pixels(samples.samples.chunks_exact(channels), u16::MAX),
            // Floating-point values.
            None => Values::from_pixels(picture.to_rgba16().chunks_exact(4), u16::MAX),
        }
    }

    fn from_pixels<'a, V: Copy + Into<u16> + PartialEq + 'a>(
        pixels: impl Iterator<Item = &'a [V]> + Clone,
        white: u16,
    ) -> Values {
        let split = |p: &'a [V]| match p.len() {
            2 | 4 => (&p[..p.len() - 1], p[p.len() - 1].into()),
            _ => (p, white),
        };
        let (color, alpha) = pixels.clone().next().map(split).unwrap_or((&[], white));
        // If the color is the same everywhere, the mask is in the transparency, and vice versa.
        let in_alpha =
            pixels.clone().any(|p| split(p).1 < white) && pixels.clone().all(|p| split(p).0 == color);
        let in_color = pixels.clone().all(|p| split(p).1 == alpha);
        let shown = |pixel: &'a [V]| -> [u16; 3] {
            let (color, alpha) = split(pixel);
            let channel = |v: V| match in_color {
                true => v.into(),
                false => (u32::from(v.into()) * u32::from(alpha) / u32::from(white)) as u16,
            };
            match *color {
                _ if in_alpha => [alpha; 3],
                [r, g, b] => [r, g, b].map(channel),
                [gray, ..] => [channel(gray); 3],
                [] => [0; 3],
            }
        };
        let mut values = Values { gray: Vec::new(), hue: Vec::new(), uniform: true, white };
        let mut only = None;
        for color in pixels.map(shown) {
            let gray = color.into_iter().max().unwrap_or_default();
            let part_of = |(bit, v): (usize, u16)| u8::from(v > gray / 2) << bit;
            values.gray.push(gray);
            values.hue.push(color.into_iter().enumerate().map(part_of).sum());
            if gray > 0 {
                values.uniform &= *only.get_or_insert(color) == color;
            }
        }
        values
    }

    /// The defective pixels, or why the mask is ambiguous. `exact` files are lossless.
    fn marked(&self, width: usize, exact: bool) -> std::result::Result<Vec<bool>, String> {
        // Fainter values are noise of smoothing, or class numbers.
        const FAINT: u16 = 31;
        let (unit, half) = (self.white / 255, self.white / 2);
        let above = |limit: u16| self.gray.iter().map(move |&v| v > limit);
        if exact && self.uniform {
            return Ok(above(0).collect());
        }
        if !above(half).any(|bright| bright) {
            return match above(0).any(|dark| dark) {
                true => Err(format!(
                    "its values are {}, and none is above {half} of {}: class numbers, or drawn too dark",
                    self.some_values(),
                    self.white
                )),
                false => Ok(vec![false; self.gray.len()]),
            };
        }
        let numbers = |v: &u16| (1..=FAINT).contains(v);
        if exact
            && self.gray.iter().any(numbers)
            && self.gray.iter().all(|v| *v == 0 || *v == self.white || numbers(v))
        {
            return Err(format!("its values are {}: class numbers beside white", self.some_values()));
        }
        let areas = self.areas(width, (FAINT + 1) * unit);
        let (low, high) =
            (areas.first().map_or(self.white, |a| a.0), areas.last().map_or(self.white, |a| a.0));
        let mut hues: BTreeSet<u8> = areas.iter().map(|a| a.1).collect();
        if !exact {
            // In a lossy file no area has only one value.
            let mut counts = [0; 8];
            let bright = self.gray.iter().zip(&self.hue).filter(|(v, _)| **v > half);
            bright.for_each(|(_, &hue)| counts[usize::from(hue)] += 1);
            let many = counts.iter().sum::<usize>() / 8;
            hues.extend((0..8).filter(|&hue| counts[usize::from(hue)] > many));
        }
        if low <= half || high - low > FAINT * unit || hues.len() > 1 {
            return Err(
                "it has areas of several grays or colors, and it is not clear which are defective".into()
            );
        }
        Ok(above(half).collect())
    }

    /// Value and hue of areas of at least 5 × 5 pixels. Smoothed edges are thinner.
    fn areas(&self, width: usize, least: u16) -> BTreeSet<(u16, u8)> {
        const SIDE: usize = 5;
        let mut found = BTreeSet::new();
        // For each column, the number of last rows with equal pixels.
        let mut rows = vec![0; width];
        for at in (0..self.gray.len()).step_by(width.max(1)) {
            let mut alike = 0;
            for (x, rows) in rows.iter_mut().enumerate() {
                let same = |other: usize| {
                    (self.gray[other], self.hue[other]) == (self.gray[at + x], self.hue[at + x])
                };
                alike = if x > 0 && same(at + x - 1) { alike + 1 } else { 1 };
                *rows = match alike >= SIDE && self.gray[at + x] >= least {
                    true if at > 0 && same(at + x - width) => *rows + 1,
                    true => 1,
                    false => 0,
                };
                if *rows >= SIDE {
                    found.insert((self.gray[at + x], self.hue[at + x]));
                }
            }
        }
        found
    }

    /// The first of the values in the file.
    fn some_values(&self) -> String {
        const SHOWN: usize = 6;
        let all: BTreeSet<u16> = self.gray.iter().copied().collect();
        let shown: Vec<String> = all.iter().take(SHOWN).map(u16::to_string).collect();
        format!("{}{}", shown.join(", "), if all.len() > SHOWN { ", …" } else { "" })
    }
}

/// An 8-bit PNG, 255 where defective and 0 elsewhere.
///
/// # Errors
/// [`ErrorKind::Image`] when it cannot be encoded.
pub fn png_from_mask(mask: &Mask) -> Result<Vec<u8>> {
    let pixels: Vec<u8> = mask.bits().iter().map(|&bit| if bit { 255 } else { 0 }).collect();
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, FilterType::NoFilter)
        .write_image(&pixels, mask.width(), mask.height(), ExtendedColorType::L8)
        .map_err(|e| Error::new(ErrorKind::Image, "cannot encode a mask").with_source(e))?;
    Ok(bytes)
}

/// Checks masks that belong together. Returns notes for people.
///
/// # Errors
/// [`ErrorKind::Dataset`] when no mask has a defective pixel, or all look inverted.
pub fn check_together(masks: &[(PathBuf, Seen)]) -> Result<Vec<String>> {
    let wrong = |text: String| Err(Error::new(ErrorKind::Dataset, text));
    let Some((first, _)) = masks.first() else { return Ok(Vec::new()) };
    let of = |wanted: Seen| -> Vec<PathBuf> {
        masks.iter().filter(|(_, seen)| *seen == wanted).map(|(path, _)| path.clone()).collect()
    };
    let (empty, inverted) = (of(Seen::Empty), of(Seen::Inverted));
    if empty.len() == masks.len() {
        return wrong(format!("{}: no mask has a defective pixel: save defects white", first.display()));
    }
    if empty.len() + inverted.len() == masks.len() {
        return wrong(format!(
            "{}: every mask marks more than half of its picture and of its rim: they look inverted; save them black, with the \
             defects white",
            inverted.first().unwrap_or(first).display()
        ));
    }
    let mut notes = Vec::new();
    if !inverted.is_empty() {
        let (masks, mark) = if inverted.len() == 1 { ("mask", "marks") } else { ("masks", "mark") };
        notes.push(format!(
            "{} {masks} {mark} more than half of the picture and of its rim ({}): inverted?",
            inverted.len(),
            named(&inverted)
        ));
    }
    Ok(notes)
}

/// The look of a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// No pixel is defective.
    Empty,
    /// Some pixels are defective.
    Marked,
    /// [`Mask::looks_inverted`].
    Inverted,
}

impl From<&Mask> for Seen {
    fn from(mask: &Mask) -> Seen {
        match mask.defective_pixels() {
            0 => Seen::Empty,
            _ if mask.looks_inverted() => Seen::Inverted,
            _ => Seen::Marked,
        }
    }
}
