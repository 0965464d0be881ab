//! Pixel formats of cameras: their names, the kernel's codes, and how they become frames.

use Bayer::{Bggr, Gbrg, Grbg, Rggb};
use PixelFormat as P;
use serde::{Deserialize, Serialize};

use super::pixels::{self, Chroma, Layout, Range};
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::{Color, Frame};

/// A pixel format of a camera. Frames have 8 bits per channel: more bits are rounded over the format's whole range.
///
/// ```
/// use weakrest::camera::{Bayer, PixelFormat, Samples};
///
/// let format: PixelFormat = "bayer_rggb10".parse().unwrap();
/// assert_eq!(format, PixelFormat::Bayer(Bayer::Rggb, Samples { bits: 10, packed: false }));
/// assert_eq!(PixelFormat::Mono(Samples { bits: 12, packed: false }).to_string(), "y12");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PixelFormat {
    /// 8-bit brightness: `grey`.
    Grey,
    /// Brightness of 10 to 16 bits: `y10`, `y12`, `y14`, `y16`, `y10p`, `y12p`.
    Mono(Samples),
    /// Red, green, blue: `rgb24`.
    Rgb24,
    /// Blue, green, red: `bgr24`.
    Bgr24,
    /// Brightness of every pixel, color of every second one: `yuyv`.
    Yuyv,
    /// The same, color first: `uyvy`.
    Uyvy,
    /// Brightness, then the colors of 2×2 pixels, U before V: `nv12`.
    Nv12,
    /// The same, V before U: `nv21`.
    Nv21,
    /// Brightness, then all U of 2×2 pixels, then all V: `yuv420`.
    Yuv420,
    /// The same, V before U: `yvu420`.
    Yvu420,
    /// One color per pixel, as a sensor has them, of 8 to 16 bits: `bayer_rggb8` to `bayer_bggr16`, packed
    /// `bayer_rggb10p` to `bayer_bggr12p`. Interpolated bilinearly.
    Bayer(Bayer, Samples),
    /// One JPEG picture per frame: `mjpeg`. The inspection sees its artifacts, and lost bytes can stay unnoticed. Use it
    /// only if the camera is too fast for the other formats.
    Mjpeg,
}

/// Values of a sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Samples {
    /// Bits per value: 8, 10, 12, 14 or 16. Values of more than 8 bits come in the lower bits of 16, little-endian.
    pub bits: u8,
    /// Whether they are packed as in MIPI CSI-2: the upper 8 bits of 4 values of 10 bits, or of 2 of 12, each in a byte, then
    /// a byte with their lower bits.
    pub packed: bool,
}

impl Samples {
    /// Bytes of a line.
    pub(super) fn line(self, width: usize) -> usize {
        match (self.bits, self.packed) {
            (8, _) => width,
            (10, true) => width.div_ceil(4) * 5,
            (12, true) => width.div_ceil(2) * 3,
            _ => width * 2,
        }
    }
}

/// The colors of the first two pixels of the first two lines of a sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bayer {
    /// Red, green; green, blue.
    Rggb,
    /// Green, red; blue, green.
    Grbg,
    /// Green, blue; red, green.
    Gbrg,
    /// Blue, green; green, red.
    Bggr,
}

/// A format, its name, and the kernel's codes, the preferred one first.
type Row = (PixelFormat, &'static str, &'static [&'static [u8; 4]]);

const fn samples(bits: u8) -> Samples {
    Samples { bits, packed: false }
}

const fn packed(bits: u8) -> Samples {
    Samples { bits, packed: true }
}

/// All formats, the best first: without conversion, then uncompressed, then those that are interpolated.
const ROWS: &[Row] = &[
    (P::Grey, "grey", &[b"GREY"]),
    (P::Rgb24, "rgb24", &[b"RGB3"]),
    (P::Bgr24, "bgr24", &[b"BGR3"]),
    (P::Yuyv, "yuyv", &[b"YUYV"]),
    (P::Uyvy, "uyvy", &[b"UYVY"]),
    (P::Nv12, "nv12", &[b"NM12", b"NV12"]),
    (P::Nv21, "nv21", &[b"NM21", b"NV21"]),
    (P::Yuv420, "yuv420", &[b"YM12", b"YU12"]),
    (P::Yvu420, "yvu420", &[b"YM21", b"YV12"]),
    (P::Mono(samples(10)), "y10", &[b"Y10 "]),
    (P::Mono(samples(12)), "y12", &[b"Y12 "]),
    (P::Mono(samples(14)), "y14", &[b"Y14 "]),
    (P::Mono(samples(16)), "y16", &[b"Y16 "]),
    (P::Mono(packed(10)), "y10p", &[b"Y10P"]),
    (P::Mono(packed(12)), "y12p", &[b"Y12P"]),
    (P::Bayer(Rggb, samples(8)), "bayer_rggb8", &[b"RGGB"]),
    (P::Bayer(Grbg, samples(8)), "bayer_grbg8", &[b"GRBG"]),
    (P::Bayer(Gbrg, samples(8)), "bayer_gbrg8", &[b"GBRG"]),
    (P::Bayer(Bggr, samples(8)), "bayer_bggr8", &[b"BA81"]),
    (P::Bayer(Rggb, samples(10)), "bayer_rggb10", &[b"RG10"]),
    (P::Bayer(Grbg, samples(10)), "bayer_grbg10", &[b"BA10"]),
    (P::Bayer(Gbrg, samples(10)), "bayer_gbrg10", &[b"GB10"]),
    (P::Bayer(Bggr, samples(10)), "bayer_bggr10", &[b"BG10"]),
    (P::Bayer(Rggb, samples(12)), "bayer_rggb12", &[b"RG12"]),
    (P::Bayer(Grbg, samples(12)), "bayer_grbg12", &[b"BA12"]),
    (P::Bayer(Gbrg, samples(12)), "bayer_gbrg12", &[b"GB12"]),
    (P::Bayer(Bggr, samples(12)), "bayer_bggr12", &[b"BG12"]),
    (P::Bayer(Rggb, samples(14)), "bayer_rggb14", &[b"RG14"]),
    (P::Bayer(Grbg, samples(14)), "bayer_grbg14", &[b"GR14"]),
    (P::Bayer(Gbrg, samples(14)), "bayer_gbrg14", &[b"GB14"]),
    (P::Bayer(Bggr, samples(14)), "bayer_bggr14", &[b"BG14"]),
    (P::Bayer(Rggb, samples(16)), "bayer_rggb16", &[b"RG16"]),
    (P::Bayer(Grbg, samples(16)), "bayer_grbg16", &[b"GR16"]),
    (P::Bayer(Gbrg, samples(16)), "bayer_gbrg16", &[b"GB16"]),
    (P::Bayer(Bggr, samples(16)), "bayer_bggr16", &[b"BYR2"]),
    (P::Bayer(Rggb, packed(10)), "bayer_rggb10p", &[b"pRAA"]),
    (P::Bayer(Grbg, packed(10)), "bayer_grbg10p", &[b"pgAA"]),
    (P::Bayer(Gbrg, packed(10)), "bayer_gbrg10p", &[b"pGAA"]),
    (P::Bayer(Bggr, packed(10)), "bayer_bggr10p", &[b"pBAA"]),
    (P::Bayer(Rggb, packed(12)), "bayer_rggb12p", &[b"pRCC"]),
    (P::Bayer(Grbg, packed(12)), "bayer_grbg12p", &[b"pgCC"]),
    (P::Bayer(Gbrg, packed(12)), "bayer_gbrg12p", &[b"pGCC"]),
    (P::Bayer(Bggr, packed(12)), "bayer_bggr12p", &[b"pBCC"]),
    (P::Mjpeg, "mjpeg", &[b"MJPG", b"JPEG"]),
];

impl PixelFormat {
    /// All formats, the best first.
    pub(super) fn all() -> impl Iterator<Item = PixelFormat> {
        ROWS.iter().map(|row| row.0)
    }

    /// The kernel's codes, the preferred one first. Empty only for a combination that has no name.
    pub(super) fn codes(self) -> &'static [&'static [u8; 4]] {
        ROWS.iter().find(|row| row.0 == self).map_or(&[], |row| row.2)
    }

    /// The format of a code of the kernel.
    pub(super) fn of(code: [u8; 4]) -> Option<Self> {
        ROWS.iter().find(|row| row.2.contains(&&code)).map(|row| row.0)
    }

    /// Least bytes of a line of each plane. Empty for compressed formats.
    pub(super) fn lines(self, width: usize) -> Vec<usize> {
        let half = width.div_ceil(2);
        match self {
            P::Grey => vec![width],
            P::Mono(samples) | P::Bayer(_, samples) => vec![samples.line(width)],
            P::Rgb24 | P::Bgr24 => vec![width * 3],
            P::Yuyv | P::Uyvy => vec![pixels::yuyv_line(width)],
            P::Nv12 | P::Nv21 => vec![width, half * 2],
            P::Yuv420 | P::Yvu420 => vec![width, half, half],
            P::Mjpeg => Vec::new(),
        }
    }

    /// Lines of a plane.
    fn height(self, plane: usize, height: usize) -> usize {
        // Only formats with a color per 2×2 pixels have further planes.
        if plane == 0 { height } else { height.div_ceil(2) }
    }

    /// Where the planes of a picture lie in one buffer: one behind the other, lines of `stride` bytes in the first.
    pub(super) fn in_one_buffer(self, width: usize, height: usize, stride: usize) -> Layout {
        let third = matches!(self, P::Yuv420 | P::Yvu420);
        let strides: Vec<usize> = self
            .lines(width)
            .into_iter()
            .enumerate()
            .map(|(plane, line)| match plane {
                0 => stride.max(line),
                // Some memory layouts end lines of an odd number of pixels early.
                _ if third => stride.div_ceil(2).max(line),
                _ => stride.max(line),
            })
            .collect();
        self.layout(width, height, &strides)
    }

    /// Where planes lie that follow each other, with these bytes from line to line.
    pub(super) fn layout(self, width: usize, height: usize, strides: &[usize]) -> Layout {
        let mut layout = Layout { width, height, strides: [0; 3], offsets: [0; 3], bytes: 0 };
        for (plane, &stride) in strides.iter().enumerate().take(3) {
            (layout.strides[plane], layout.offsets[plane]) = (stride, layout.bytes);
            layout.bytes += stride.saturating_mul(self.height(plane, height));
        }
        layout
    }

    /// Least bytes of a whole plane: the last line may end early.
    pub(super) fn least(self, layout: &Layout, plane: usize) -> usize {
        let line = self.lines(layout.width).get(plane).copied().unwrap_or(0);
        (self.height(plane, layout.height).saturating_sub(1)).saturating_mul(layout.strides[plane]) + line
    }

    /// Default color of its frames.
    pub(super) fn color(self) -> Color {
        match self {
            P::Grey | P::Mono(_) => Color::Gray,
            _ => Color::Rgb,
        }
    }

    /// The wanted color, if it can give it. Gray frames for an inspector of colors are faults that say so.
    pub(super) fn given(self, wanted: Option<Color>) -> Color {
        wanted.filter(|color| self.can_give(Some(*color))).unwrap_or(self.color())
    }

    /// Checks that it can give frames of a color.
    pub(super) fn check_color(self, color: Option<Color>) -> Result<()> {
        if self.can_give(color) {
            return Ok(());
        }
        let what = format!("{self} has no color; set camera.color to \"gray\", or another format");
        Err(Error::setting("camera.format", what))
    }

    pub(super) fn can_give(self, color: Option<Color>) -> bool {
        !(self.color() == Color::Gray && color == Some(Color::Rgb))
    }

    /// Converts a picture to a frame.
    pub(super) fn decode(
        self,
        bytes: &[u8],
        layout: Layout,
        range: Range,
        color: Color,
        frame: &mut Frame,
    ) -> Result<()> {
        let size = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
        let gray = color == Color::Gray;
        frame.refill(size(layout.width), size(layout.height), color, |to| match self {
            P::Grey => pixels::gray_from_gray(bytes, layout, to),
            P::Mono(samples) => pixels::gray_from_samples(bytes, layout, samples, to),
            P::Rgb24 | P::Bgr24 if gray => pixels::gray_from_rgb(bytes, layout, self == P::Bgr24, to),
            P::Rgb24 | P::Bgr24 => pixels::rgb_from_rgb(bytes, layout, self == P::Bgr24, to),
            P::Yuyv | P::Uyvy if gray => pixels::gray_from_yuyv(bytes, layout, self == P::Uyvy, to),
            P::Yuyv | P::Uyvy => pixels::rgb_from_yuyv(bytes, layout, range, self == P::Uyvy, to),
            P::Nv12 | P::Nv21 | P::Yuv420 | P::Yvu420 if gray => pixels::gray_from_gray(bytes, layout, to),
            P::Nv12 => pixels::rgb_from_planes(bytes, layout, range, Chroma::PAIRS_UV, to),
            P::Nv21 => pixels::rgb_from_planes(bytes, layout, range, Chroma::PAIRS_VU, to),
            P::Yuv420 => pixels::rgb_from_planes(bytes, layout, range, Chroma::PLANES_UV, to),
            P::Yvu420 => pixels::rgb_from_planes(bytes, layout, range, Chroma::PLANES_VU, to),
            P::Bayer(order, samples) => pixels::from_bayer(bytes, layout, order, samples, color, to),
            P::Mjpeg => pixels::decode_jpeg(bytes, layout.width, layout.height, color, to),
        })
    }
}

impl std::str::FromStr for PixelFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = ROWS.iter().find(|row| row.1 == name).map(|row| row.0);
        found.ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("{name:?} is no pixel format; set one of {}", names()))
        })
    }
}

/// The names of all formats, those of sensors in short.
pub(super) fn names() -> String {
    let short = ROWS.iter().map(|row| row.1).filter(|name| !name.starts_with("bayer_"));
    let mut names: Vec<&str> = short.collect();
    names.push("bayer_rggb8 (grbg, gbrg, bggr; 8, 10, 12, 14, 16, 10p, 12p)");
    names.join(", ")
}

impl TryFrom<String> for PixelFormat {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

impl From<PixelFormat> for String {
    fn from(format: PixelFormat) -> String {
        format.to_string()
    }
}

impl std::fmt::Display for PixelFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(ROWS.iter().find(|row| row.0 == *self).map_or("a format without a name", |row| row.1))
    }
}
