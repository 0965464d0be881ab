//! Converts the pixel formats of cameras to those of a [`Frame`](crate::imaging::Frame).
//!
//! Every function overwrites `to`. `to` holds exactly `width × height` pixels.

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::formats::{Bayer, Samples};
use crate::error::{Error, ErrorKind, Result};
use crate::imaging::{Color, whole_jpeg};

/// Memory layout of an uncompressed picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub width: usize,
    pub height: usize,
    /// Bytes from the start of one line to the start of the next, of each plane.
    pub strides: [usize; 3],
    /// Where each plane starts.
    pub offsets: [usize; 3],
    /// Bytes of all planes.
    pub bytes: usize,
}

/// Range of brightness and color differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Range {
    /// Black is 16, white 235; differences from 16 to 240.
    Limited,
    /// All from 0 to 255.
    Full,
}

impl Layout {
    /// One plane.
    pub fn of_lines(width: usize, height: usize, stride: usize) -> Layout {
        Layout {
            width,
            height,
            strides: [stride, 0, 0],
            offsets: [0; 3],
            bytes: stride.saturating_mul(height),
        }
    }

    /// The lines of `from`, `used` bytes of each.
    fn lines<'a>(&self, from: &'a [u8], used: usize) -> Result<impl Iterator<Item = &'a [u8]> + use<'a>> {
        self.plane(from, 0, self.height, used)
    }

    /// The lines of a plane.
    fn plane<'a>(
        &self,
        from: &'a [u8],
        plane: usize,
        height: usize,
        used: usize,
    ) -> Result<impl Iterator<Item = &'a [u8]> + use<'a>> {
        let stride = self.strides[plane];
        let needed = height
            .checked_sub(1)
            .and_then(|before| before.checked_mul(stride))
            .and_then(|before| before.checked_add(used));
        let bytes = from.get(self.offsets[plane]..).unwrap_or_default();
        if used == 0 || stride < used || needed.is_none_or(|needed| bytes.len() < needed) {
            return Err(Error::new(
                ErrorKind::Image,
                format!(
                    "the camera's frame is cut short: {} bytes for {}×{} pixels in lines of {} bytes",
                    from.len(),
                    self.width,
                    self.height,
                    self.strides[0]
                ),
            ));
        }
        Ok(bytes.chunks(stride).take(height).map(move |line| &line[..used]))
    }
}

/// Where the colors of 2×2 pixels lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chroma {
    /// Plane and first byte of U, then of V.
    first: [(usize, usize); 2],
    /// Bytes from one value to the next.
    step: usize,
}

impl Chroma {
    pub const PAIRS_UV: Chroma = Chroma { first: [(1, 0), (1, 1)], step: 2 };
    pub const PAIRS_VU: Chroma = Chroma { first: [(1, 1), (1, 0)], step: 2 };
    pub const PLANES_UV: Chroma = Chroma { first: [(1, 0), (2, 0)], step: 1 };
    pub const PLANES_VU: Chroma = Chroma { first: [(2, 0), (1, 0)], step: 1 };
}

/// Bytes that a line of YUYV takes: pixels come in pairs, also the last one of an odd number.
pub(super) fn yuyv_line(width: usize) -> usize {
    width.div_ceil(2) * 4
}

/// Gray from gray.
pub(super) fn gray_from_gray(from: &[u8], layout: Layout, to: &mut [u8]) -> Result<()> {
    for (line, to) in layout.lines(from, layout.width)?.zip(to.chunks_exact_mut(layout.width)) {
        to.copy_from_slice(line);
    }
    Ok(())
}

/// RGB from RGB, or from BGR if `swapped`.
pub(super) fn rgb_from_rgb(from: &[u8], layout: Layout, swapped: bool, to: &mut [u8]) -> Result<()> {
    let used = layout.width * 3;
    for (line, to) in layout.lines(from, used)?.zip(to.chunks_exact_mut(used)) {
        to.copy_from_slice(line);
        if swapped {
            for pixel in to.chunks_exact_mut(3) {
                pixel.swap(0, 2);
            }
        }
    }
    Ok(())
}

/// Gray from RGB, or from BGR if `swapped`, with the weights of BT.601: the same brightness that YUYV and
/// JPEG carry.
pub(super) fn gray_from_rgb(from: &[u8], layout: Layout, swapped: bool, to: &mut [u8]) -> Result<()> {
    let weights: [u32; 3] = if swapped { [114, 587, 299] } else { [299, 587, 114] };
    for (line, to) in layout.lines(from, layout.width * 3)?.zip(to.chunks_exact_mut(layout.width)) {
        for (pixel, to) in line.chunks_exact(3).zip(to) {
            let sum: u32 = pixel.iter().zip(weights).map(|(&v, weight)| u32::from(v) * weight).sum();
            // The weights add up to 1000.
            *to = ((sum + 500) / 1000).min(255) as u8;
        }
    }
    Ok(())
}

/// Gray from YUYV: its brightness as it is. A limited range is not stretched, because many cameras say
/// limited and send full, and stretching would cut off their lights and shadows.
/// `color_first`: UYVY.
pub(super) fn gray_from_yuyv(from: &[u8], layout: Layout, color_first: bool, to: &mut [u8]) -> Result<()> {
    for (line, to) in layout.lines(from, yuyv_line(layout.width))?.zip(to.chunks_exact_mut(layout.width)) {
        for (pair, to) in line.chunks_exact(2).zip(to) {
            *to = pair[usize::from(color_first)];
        }
    }
    Ok(())
}

/// A matrix of BT.601 as fractions of [`Matrix::ONE`].
struct Matrix {
    black: i32,
    brightness: i32,
    red_from_v: i32,
    green_from_u: i32,
    green_from_v: i32,
    blue_from_u: i32,
}

impl Matrix {
    const SHIFT: u32 = 16;
    const ONE: i32 = 1 << Self::SHIFT;

    const FULL: Matrix = Matrix {
        black: 0,
        brightness: Self::ONE,
        red_from_v: 91_881,    // 1.402
        green_from_u: -22_553, // 0.344136
        green_from_v: -46_802, // 0.714136
        blue_from_u: 116_130,  // 1.772
    };

    /// The same for brightness stretched by 255/219 and differences by 255/224.
    const LIMITED: Matrix = Matrix {
        black: 16,
        brightness: 76_309,
        red_from_v: 104_597,
        green_from_u: -25_675,
        green_from_v: -53_279,
        blue_from_u: 132_201,
    };

    fn of(range: Range) -> &'static Matrix {
        match range {
            Range::Limited => &Matrix::LIMITED,
            Range::Full => &Matrix::FULL,
        }
    }

    /// What a color adds to the brightness of red, green and blue.
    fn differences(&self, u: u8, v: u8) -> [i32; 3] {
        let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
        [v * self.red_from_v, u * self.green_from_u + v * self.green_from_v, u * self.blue_from_u]
    }

    fn color(&self, y: u8, differences: [i32; 3], to: &mut [u8]) {
        let bright = (i32::from(y) - self.black) * self.brightness + Self::ONE / 2;
        for (to, difference) in to.iter_mut().zip(differences) {
            *to = ((bright + difference) >> Self::SHIFT).clamp(0, 255) as u8;
        }
    }
}

/// RGB from YUYV, or from UYVY if `color_first`, by the matrix of BT.601, which webcams use whatever they say of their
/// colors.
pub(super) fn rgb_from_yuyv(
    from: &[u8],
    layout: Layout,
    range: Range,
    color_first: bool,
    to: &mut [u8],
) -> Result<()> {
    let matrix = Matrix::of(range);
    let lines = layout.lines(from, yuyv_line(layout.width))?;
    for (line, to) in lines.zip(to.chunks_exact_mut(layout.width * 3)) {
        for (pair, to) in line.chunks_exact(4).zip(to.chunks_mut(6)) {
            let [y0, u, y1, v] = if color_first {
                [pair[1], pair[0], pair[3], pair[2]]
            } else {
                [pair[0], pair[1], pair[2], pair[3]]
            };
            let differences = matrix.differences(u, v);
            for (y, to) in [y0, y1].into_iter().zip(to.chunks_exact_mut(3)) {
                matrix.color(y, differences, to);
            }
        }
    }
    Ok(())
}

/// RGB from a plane of brightness and one color per 2×2 pixels, by the matrix of BT.601.
pub(super) fn rgb_from_planes(
    from: &[u8],
    layout: Layout,
    range: Range,
    chroma: Chroma,
    to: &mut [u8],
) -> Result<()> {
    let matrix = Matrix::of(range);
    let (wide, high) = (layout.width.div_ceil(2), layout.height.div_ceil(2));
    let colors = |(plane, first): (usize, usize)| -> Result<_> {
        let lines = layout.plane(from, plane, high, wide * chroma.step)?;
        Ok(lines.map(move |line| line[first..].iter().step_by(chroma.step)))
    };
    let mut colors = colors(chroma.first[0])?.zip(colors(chroma.first[1])?);
    let mut lines = layout.lines(from, layout.width)?;
    for to in to.chunks_mut(layout.width * 6) {
        let Some((u, v)) = colors.next() else { break };
        // In this order: a line that is taken last would be lost.
        for (to, line) in to.chunks_exact_mut(layout.width * 3).zip(lines.by_ref()) {
            let pairs = line.chunks(2).zip(to.chunks_mut(6)).zip(u.clone().zip(v.clone()));
            for ((line, to), (&u, &v)) in pairs {
                let differences = matrix.differences(u, v);
                for (&y, to) in line.iter().zip(to.chunks_exact_mut(3)) {
                    matrix.color(y, differences, to);
                }
            }
        }
    }
    Ok(())
}

/// Reads a line of a sensor's values. `Err` with a value of more bits than the format has.
fn read_samples(line: &[u8], samples: Samples, to: &mut [u16]) -> Result<(), u16> {
    let mut all = 0;
    match (samples.bits, samples.packed) {
        (8, _) => {
            for (to, from) in to.iter_mut().zip(line) {
                *to = u16::from(*from);
            }
        }
        (bits, true) => {
            let (count, low) = if bits == 10 { (4, 2) } else { (2, 4) };
            for (to, from) in to.chunks_mut(count).zip(line.chunks_exact(count + 1)) {
                for (i, to) in to.iter_mut().enumerate() {
                    let lower = from[count] >> (low * i) & ((1 << low) - 1);
                    *to = u16::from(from[i]) << low | u16::from(lower);
                }
            }
        }
        (_, false) => {
            for (to, from) in to.iter_mut().zip(line.chunks_exact(2)) {
                *to = u16::from_le_bytes([from[0], from[1]]);
                all |= *to;
            }
        }
    }
    if u32::from(all) >> samples.bits == 0 { Ok(()) } else { Err(to.iter().copied().max().unwrap_or(all)) }
}

/// The error about values of more bits than the format has.
fn too_bright(samples: Samples, value: u16) -> Error {
    Error::new(
        ErrorKind::Image,
        format!(
            "the camera sends values up to {value} in a format of {} bits: its driver puts them into the upper bits; set \
             camera.format to that of 16 bits",
            samples.bits
        ),
    )
}

/// Gray from brightness of more than 8 bits, rounded over the whole range of the format. The range is never guessed from
/// the pictures: a dark one would come out bright.
pub(super) fn gray_from_samples(from: &[u8], layout: Layout, samples: Samples, to: &mut [u8]) -> Result<()> {
    let mut values = vec![0; layout.width];
    let factor = 255.0 / white(samples);
    let lines = layout.lines(from, samples.line(layout.width))?;
    for (line, to) in lines.zip(to.chunks_exact_mut(layout.width)) {
        read_samples(line, samples, &mut values).map_err(|value| too_bright(samples, value))?;
        for (to, value) in to.iter_mut().zip(&values) {
            *to = rounded(f32::from(*value) * factor);
        }
    }
    Ok(())
}

/// The largest value.
fn white(samples: Samples) -> f32 {
    ((1u32 << samples.bits) - 1) as f32
}

/// A value from 0 to 255, to the nearest.
fn rounded(value: f32) -> u8 {
    (value + 0.5) as u8
}

/// Gray or RGB from a sensor's pixels of one color each. The other two are the mean of the neighbors with them; borders
/// are mirrored. Gray has the weights of BT.601.
pub(super) fn from_bayer(
    from: &[u8],
    layout: Layout,
    order: Bayer,
    samples: Samples,
    color: Color,
    to: &mut [u8],
) -> Result<()> {
    let (width, height) = (layout.width, layout.height);
    if width < 2 || height < 2 {
        return Err(Error::new(ErrorKind::Image, "a sensor's picture needs 2×2 pixels or more"));
    }
    // Row and column of the first red pixel.
    let (red_row, red_column) = match order {
        Bayer::Rggb => (0, 0),
        Bayer::Grbg => (0, 1),
        Bayer::Gbrg => (1, 0),
        Bayer::Bggr => (1, 1),
    };
    let lines: Vec<&[u8]> = layout.lines(from, samples.line(width))?.collect();
    let read = |row: usize, to: &mut Vec<u16>| {
        to.resize(width + 2, 0);
        read_samples(lines[row], samples, &mut to[1..=width]).map_err(|value| too_bright(samples, value))?;
        (to[0], to[width + 1]) = (to[2], to[width - 1]);
        Ok::<_, Error>(())
    };
    // The line above, this one, and the one below.
    let mut near: [Vec<u16>; 3] = Default::default();
    read(1, &mut near[0])?;
    read(0, &mut near[1])?;
    let channels = color.channels();
    let factor = 255.0 / white(samples);
    for (row, to) in to.chunks_exact_mut(width * channels).enumerate() {
        let below = if row + 1 < height { row + 1 } else { height - 2 };
        read(below, &mut near[2])?;
        let [above, here, under] = &near;
        let has_red = row % 2 == red_row;
        for (column, to) in to.chunks_exact_mut(channels).enumerate() {
            let at = |line: &[u16], x: usize| f32::from(line[x]);
            let x = column + 1;
            let own = at(here, x);
            let across = (at(here, x - 1) + at(here, x + 1)) * 0.5;
            let down = (at(above, x) + at(under, x)) * 0.5;
            let rgb = match (has_red, column % 2 == red_column) {
                (true, true) | (false, false) => {
                    let green = (across + down) * 0.5;
                    let corners = at(above, x - 1) + at(above, x + 1) + at(under, x - 1) + at(under, x + 1);
                    let corners = corners * 0.25;
                    if has_red { [own, green, corners] } else { [corners, green, own] }
                }
                (true, false) => [across, own, down],
                (false, true) => [down, own, across],
            };
            match to {
                [gray] => *gray = rounded((0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]) * factor),
                to => {
                    for (to, value) in to.iter_mut().zip(rgb) {
                        *to = rounded(value * factor);
                    }
                }
            }
        }
        near.rotate_left(1);
    }
    Ok(())
}

/// Gray or RGB from JPEG. An incomplete picture is refused, as in files.
pub(super) fn decode_jpeg(
    from: &[u8],
    width: usize,
    height: usize,
    color: Color,
    to: &mut [u8],
) -> Result<()> {
    let whole = whole_jpeg(from).map_err(|e| e.within("the camera's JPEG frame"))?;
    let unsupported = || Error::new(ErrorKind::Image, "the camera's JPEG frame is of an unsupported kind");
    let options = DecoderOptions::default().set_strict_mode(true).jpeg_set_out_colorspace(match color {
        Color::Gray => ColorSpace::Luma,
        Color::Rgb => ColorSpace::RGB,
    });
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&whole[..]), options);
    decoder.decode_headers().map_err(|e| unsupported().with_source(e))?;
    if let Some((w, h)) = decoder.dimensions().filter(|&size| size != (width, height)) {
        return Err(Error::new(
            ErrorKind::Image,
            format!("the camera sent a JPEG frame of {w}×{h} pixels instead of {width}×{height}"),
        ));
    }
    if decoder.output_buffer_size() != Some(to.len()) {
        return Err(unsupported());
    }
    decoder.decode_into(to).map_err(|e| unsupported().with_source(e))
}

#[cfg(test)]
mod tests {
    use image::ExtendedColorType;
    use image::codecs::jpeg::JpegEncoder;
    use proptest::prelude::*;

    use super::*;
    use crate::camera::PixelFormat;
    use crate::imaging::Frame;

    /// BT.601 as its tables say it, pixel by pixel.
    fn slow_rgb(y: u8, u: u8, v: u8, range: Range) -> [u8; 3] {
        let (y, u, v) = match range {
            Range::Full => (f64::from(y), f64::from(u) - 128.0, f64::from(v) - 128.0),
            Range::Limited => (
                (f64::from(y) - 16.0) * 255.0 / 219.0,
                (f64::from(u) - 128.0) * 255.0 / 224.0,
                (f64::from(v) - 128.0) * 255.0 / 224.0,
            ),
        };
        let (red, blue) = (0.299, 0.114);
        let green = 1.0 - red - blue;
        let r = y + 2.0 * (1.0 - red) * v;
        let b = y + 2.0 * (1.0 - blue) * u;
        let g = y - (2.0 * (1.0 - red) * red * v + 2.0 * (1.0 - blue) * blue * u) / green;
        [r, g, b].map(|c| c.round().clamp(0.0, 255.0) as u8)
    }

    fn yuyv_at(bytes: &[u8], layout: Layout, x: usize, y: usize) -> [u8; 3] {
        let pair = y * layout.strides[0] + x / 2 * 4;
        [bytes[pair + x % 2 * 2], bytes[pair + 1], bytes[pair + 3]]
    }

    fn each_pixel(layout: Layout) -> impl Iterator<Item = (usize, usize, usize)> {
        (0..layout.height).flat_map(move |y| (0..layout.width).map(move |x| (x, y, y * layout.width + x)))
    }

    /// A layout for lines of so many bytes and the buffer of exactly the bytes that it needs.
    fn buffers(line: fn(usize) -> usize) -> impl Strategy<Value = (Layout, Vec<u8>)> {
        (1usize..20, 1usize..6, 0usize..9).prop_flat_map(move |(width, height, padding)| {
            let stride = line(width) + padding;
            let length = stride * (height - 1) + line(width);
            let layout = Layout::of_lines(width, height, stride);
            (Just(layout), proptest::collection::vec(any::<u8>(), length))
        })
    }

    proptest! {
        #[test]
        fn yuyv_is_what_the_standard_says((layout, bytes) in buffers(yuyv_line), full: bool) {
            let range = if full { Range::Full } else { Range::Limited };
            let mut rgb = vec![0; layout.width * layout.height * 3];
            rgb_from_yuyv(&bytes, layout, range, false, &mut rgb).unwrap();
            let mut gray = vec![0; layout.width * layout.height];
            gray_from_yuyv(&bytes, layout, false, &mut gray).unwrap();
            for (x, y, i) in each_pixel(layout) {
                let [luma, u, v] = yuyv_at(&bytes, layout, x, y);
                let expected = slow_rgb(luma, u, v, range);
                for c in 0..3 {
                    prop_assert!(rgb[i * 3 + c].abs_diff(expected[c]) <= 1, "{luma} {u} {v}: {expected:?}");
                }
                prop_assert_eq!(gray[i], luma);
            }
        }

        #[test]
        fn rgb_is_taken_line_by_line((layout, bytes) in buffers(|width| width * 3), swapped: bool) {
            let mut rgb = vec![0; layout.width * layout.height * 3];
            rgb_from_rgb(&bytes, layout, swapped, &mut rgb).unwrap();
            let mut gray = vec![0; layout.width * layout.height];
            gray_from_rgb(&bytes, layout, swapped, &mut gray).unwrap();
            for (x, y, i) in each_pixel(layout) {
                let at = y * layout.strides[0] + x * 3;
                let [r, g, b] = if swapped { [2, 1, 0] } else { [0, 1, 2] }.map(|c| bytes[at + c]);
                prop_assert_eq!(&rgb[i * 3..][..3], &[r, g, b]);
                let luma = 0.299 * f64::from(r) + 0.587 * f64::from(g) + 0.114 * f64::from(b);
                prop_assert!((f64::from(gray[i]) - luma).abs() < 0.51);
            }
        }

        #[test]
        fn gray_is_taken_line_by_line((layout, bytes) in buffers(|width| width)) {
            let mut gray = vec![0; layout.width * layout.height];
            gray_from_gray(&bytes, layout, &mut gray).unwrap();
            for (x, y, i) in each_pixel(layout) {
                prop_assert_eq!(gray[i], bytes[y * layout.strides[0] + x]);
            }
        }

        #[test]
        fn planes_of_color_are_what_the_standard_says(
            width in 1usize..20, height in 1usize..9, padding in 0usize..5, full: bool, third: bool, swapped: bool,
            seed: u64,
        ) {
            let format = match (third, swapped) {
                (false, false) => PixelFormat::Nv12,
                (false, true) => PixelFormat::Nv21,
                (true, false) => PixelFormat::Yuv420,
                (true, true) => PixelFormat::Yvu420,
            };
            let strides: Vec<usize> = format.lines(width).iter().map(|line| line + padding).collect();
            let layout = format.layout(width, height, &strides);
            let bytes = noise(seed, layout.bytes);
            let range = if full { Range::Full } else { Range::Limited };
            let mut frame = Frame::default();
            format.decode(&bytes, layout, range, Color::Rgb, &mut frame).unwrap();
            for (x, y, i) in each_pixel(layout) {
                let chroma = |second: bool| match third {
                    false => bytes[layout.offsets[1] + y / 2 * strides[1] + x / 2 * 2 + usize::from(second)],
                    true => {
                        let plane = 1 + usize::from(second);
                        bytes[layout.offsets[plane] + y / 2 * strides[plane] + x / 2]
                    }
                };
                let expected = slow_rgb(bytes[y * strides[0] + x], chroma(swapped), chroma(!swapped), range);
                for (got, expected) in frame.pixels()[i * 3..][..3].iter().zip(expected) {
                    prop_assert!(got.abs_diff(expected) <= 1, "{format} {x} {y}");
                }
            }
            let needed = layout.bytes - padding;
            let e = format.decode(&bytes[..needed - 1], layout, range, Color::Rgb, &mut frame).unwrap_err();
            prop_assert_eq!(e.kind(), ErrorKind::Image);
        }

        /// The mean of all pixels of a color among the 3×3 around a pixel, on the sensor mirrored at its borders.
        #[test]
        fn a_sensors_colors_are_the_means_of_their_neighbors(
            width in 2usize..12, height in 2usize..9, order in 0usize..4, depth in 0usize..7, padding in 0usize..4,
            seed: u64,
        ) {
            let order = ["rggb", "grbg", "gbrg", "bggr"][order];
            let depth = ["8", "10", "12", "14", "16", "10p", "12p"][depth];
            let format: PixelFormat = format!("bayer_{order}{depth}").parse().unwrap();
            let PixelFormat::Bayer(_, samples) = format else { unreachable!() };
            let stride = format.lines(width)[0] + padding;
            let layout = format.in_one_buffer(width, height, stride);
            let mut bytes = noise(seed, layout.bytes);
            if !samples.packed && samples.bits > 8 {
                for high in bytes.chunks_mut(stride).flat_map(|line| line.iter_mut().skip(1).step_by(2)) {
                    *high &= (0xff_u32 >> (16 - samples.bits)) as u8;
                }
            }
            let value = |x: usize, y: usize| -> f64 {
                let line = &bytes[y * stride..];
                f64::from(match depth {
                    "8" => u32::from(line[x]),
                    "10p" => {
                        let group = &line[x / 4 * 5..];
                        u32::from(group[x % 4]) * 4 + u32::from(group[4] >> (2 * (x % 4))) % 4
                    }
                    "12p" => {
                        let group = &line[x / 2 * 3..];
                        u32::from(group[x % 2]) * 16 + u32::from(group[2] >> (4 * (x % 2))) % 16
                    }
                    _ => u32::from(line[2 * x]) + 256 * u32::from(line[2 * x + 1]),
                })
            };
            let color_of = |x: usize, y: usize| order.as_bytes()[y % 2 * 2 + x % 2];
            let mirrored = |at: isize, side: usize| match at {
                -1 => 1,
                at if at as usize == side => side - 2,
                at => at as usize,
            };
            let white = f64::from((1u32 << samples.bits) - 1);
            let mut frame = Frame::default();
            format.decode(&bytes, layout, Range::Full, Color::Rgb, &mut frame).unwrap();
            for (x, y, i) in each_pixel(layout) {
                for (c, wanted) in b"rgb".iter().enumerate() {
                    let mut found = Vec::new();
                    for (dx, dy) in (-1..=1isize).flat_map(|dy| (-1..=1isize).map(move |dx| (dx, dy))) {
                        let at = (mirrored(x as isize + dx, width), mirrored(y as isize + dy, height));
                        // A green pixel has four green ones at its corners, which are not its neighbors.
                        let own = color_of(x, y) == *wanted;
                        if color_of(at.0, at.1) == *wanted && (!own || (dx, dy) == (0, 0)) {
                            found.push(value(at.0, at.1));
                        }
                    }
                    let mean = found.iter().sum::<f64>() / found.len() as f64 * 255.0 / white;
                    let got = f64::from(frame.pixels()[i * 3 + c]);
                    prop_assert!((got - mean).abs() < 0.51, "{format} {x} {y} {c}: {got} {mean}");
                }
            }
            let mut gray = Frame::default();
            format.decode(&bytes, layout, Range::Full, Color::Gray, &mut gray).unwrap();
            for (gray, rgb) in gray.pixels().iter().zip(frame.pixels().chunks_exact(3)) {
                let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(f64::from);
                prop_assert!((f64::from(*gray) - (0.299 * r + 0.587 * g + 0.114 * b)).abs() < 1.01);
            }
        }

        #[test]
        fn any_bytes_are_a_picture_or_refused(
            width in 0usize..9, height in 0usize..9, stride in 0usize..40, bytes: Vec<u8>,
        ) {
            for format in PixelFormat::all() {
                let layout = format.in_one_buffer(width, height, stride);
                for color in [Color::Gray, Color::Rgb].into_iter().filter(|c| format.can_give(Some(*c))) {
                    let _ = format.decode(&bytes, layout, Range::Full, color, &mut Frame::default());
                }
            }
        }

        #[test]
        fn one_byte_too_few_is_refused((layout, bytes) in buffers(yuyv_line)) {
            let mut to = vec![0; layout.width * layout.height * 3];
            let e = rgb_from_yuyv(&bytes[..bytes.len() - 1], layout, Range::Full, false, &mut to).unwrap_err();
            prop_assert_eq!(e.kind(), ErrorKind::Image);
        }

        #[test]
        fn jpeg_of_anything_is_decoded_or_refused(bytes: Vec<u8>, cut in 0usize..2000, flip in 0usize..2000) {
            let mut to = vec![0; 16 * 16 * 3];
            let _ = decode_jpeg(&bytes, 16, 16, Color::Rgb, &mut to);
            let mut jpeg = jpeg_of(&[120; 16 * 16 * 3], 16, 16, ExtendedColorType::Rgb8);
            let length = jpeg.len();
            jpeg[flip % length] ^= 0x55;
            let _ = decode_jpeg(&jpeg[..length - cut % length], 16, 16, Color::Rgb, &mut to);
        }
    }

    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed | 1;
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    fn jpeg_of(pixels: &[u8], width: u32, height: u32, color: ExtendedColorType) -> Vec<u8> {
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, 95).encode(pixels, width, height, color).unwrap();
        bytes
    }

    #[test]
    fn the_ends_of_a_range_are_black_and_white() {
        let layout = Layout::of_lines(2, 1, 4);
        for (range, black, white) in [(Range::Limited, 16, 235), (Range::Full, 0, 255)] {
            let mut rgb = [7; 6];
            rgb_from_yuyv(&[black, 128, white, 128], layout, range, false, &mut rgb).unwrap();
            assert_eq!(rgb, [0, 0, 0, 255, 255, 255], "{range:?}");
        }
    }

    #[test]
    fn every_brightness_of_gray_is_the_same_in_all_three_colors() {
        let layout = Layout::of_lines(2, 1, 4);
        for y in 0..=255 {
            let mut rgb = [0; 6];
            rgb_from_yuyv(&[y, 128, y, 128], layout, Range::Full, false, &mut rgb).unwrap();
            assert_eq!(rgb, [y; 6]);
        }
    }

    #[test]
    fn lines_that_overlap_or_are_too_many_are_refused() {
        let mut to = vec![0; 4 * 4];
        for layout in [
            Layout::of_lines(4, 4, 3),
            Layout::of_lines(4, 4, 0),
            Layout::of_lines(4, usize::MAX, 4),
            Layout::of_lines(4, 0, 4),
            Layout::of_lines(0, 4, 4),
        ] {
            let e = gray_from_gray(&[0; 64], layout, &mut to).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Image, "{layout:?}");
        }
    }

    #[test]
    fn an_empty_buffer_is_cut_short() {
        let layout = Layout::of_lines(4, 4, 4);
        let e = gray_from_gray(&[], layout, &mut [0; 16]).unwrap_err();
        assert!(e.chain().contains("cut short"), "{}", e.chain());
    }

    #[test]
    fn jpeg_gives_color_or_brightness() {
        let (width, height) = (24, 17);
        let red: Vec<u8> = [200, 30, 40].repeat(width * height);
        let jpeg = jpeg_of(&red, 24, 17, ExtendedColorType::Rgb8);
        let mut rgb = vec![0; width * height * 3];
        decode_jpeg(&jpeg, width, height, Color::Rgb, &mut rgb).unwrap();
        assert!(rgb.iter().zip(&red).all(|(a, b)| a.abs_diff(*b) <= 3));
        let mut gray = vec![0; width * height];
        decode_jpeg(&jpeg, width, height, Color::Gray, &mut gray).unwrap();
        // 0.299 · 200 + 0.587 · 30 + 0.114 · 40
        assert!(gray.iter().all(|v| v.abs_diff(82) <= 3));
    }

    #[test]
    fn a_gray_jpeg_gives_either() {
        let jpeg = jpeg_of(&[99; 16 * 16], 16, 16, ExtendedColorType::L8);
        let mut rgb = vec![0; 16 * 16 * 3];
        decode_jpeg(&jpeg, 16, 16, Color::Rgb, &mut rgb).unwrap();
        let mut gray = vec![0; 16 * 16];
        decode_jpeg(&jpeg, 16, 16, Color::Gray, &mut gray).unwrap();
        assert!(rgb.iter().chain(&gray).all(|v| v.abs_diff(99) <= 2));
    }

    #[test]
    fn a_jpeg_with_padding_behind_its_end_is_whole() {
        let mut jpeg = jpeg_of(&[99; 16 * 16], 16, 16, ExtendedColorType::L8);
        jpeg.extend([0; 100]);
        decode_jpeg(&jpeg, 16, 16, Color::Gray, &mut [0; 256]).unwrap();
    }

    #[test]
    fn a_jpeg_without_huffman_tables_gets_those_of_the_standard() {
        let jpeg = jpeg_of(&[99; 16 * 16], 16, 16, ExtendedColorType::L8);
        let mut bare = jpeg.clone();
        while let Some(at) = bare.windows(2).position(|w| w == [0xff, 0xc4]) {
            bare.drain(at..at + 2 + usize::from(u16::from_be_bytes([bare[at + 2], bare[at + 3]])));
        }
        let (mut from_whole, mut from_bare) = ([0; 256], [1; 256]);
        decode_jpeg(&jpeg, 16, 16, Color::Gray, &mut from_whole).unwrap();
        decode_jpeg(&bare, 16, 16, Color::Gray, &mut from_bare).unwrap();
        assert_eq!(from_whole, from_bare);
    }

    #[test]
    fn a_jpeg_of_another_size_is_named() {
        let jpeg = jpeg_of(&[99; 16 * 8], 16, 8, ExtendedColorType::L8);
        let e = decode_jpeg(&jpeg, 16, 16, Color::Gray, &mut [0; 256]).unwrap_err();
        assert!(e.chain().contains("16×8 pixels instead of 16×16"), "{}", e.chain());
    }

    #[test]
    fn a_jpeg_that_is_cut_short_is_refused() {
        let noise: Vec<u8> = (0..64u32 * 64).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let jpeg = jpeg_of(&noise, 64, 64, ExtendedColorType::L8);
        let mut to = vec![0; 64 * 64];
        decode_jpeg(&jpeg, 64, 64, Color::Gray, &mut to).unwrap();
        for kept in [0, 1, 20, jpeg.len() / 2, jpeg.len() - 2, jpeg.len() - 1] {
            let e = decode_jpeg(&jpeg[..kept], 64, 64, Color::Gray, &mut to).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Image, "{kept}");
            assert!(e.chain().starts_with("the camera's JPEG frame: "), "{}", e.chain());
        }
        // Some drivers close what they lost the rest of; a bus may lose something from the middle.
        let (middle, end) = (jpeg.len() / 2, [0xff, 0xd9]);
        for parts in [
            [&jpeg[..middle], &end],
            [&jpeg[..jpeg.len() - 9], &end],
            [&jpeg[..middle], &jpeg[middle + 150..]],
        ] {
            let e = decode_jpeg(&parts.concat(), 64, 64, Color::Gray, &mut to).unwrap_err();
            assert!(e.chain().contains("damaged or cut short"), "{}", e.chain());
        }
    }
}
