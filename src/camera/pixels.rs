//! Converts the pixel formats of cameras to those of a [`Frame`](crate::imaging::Frame).
//!
//! Every function overwrites `to`. `to` holds exactly `width × height` pixels.

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::error::{Error, ErrorKind, Result};
use crate::imaging::{Color, whole_jpeg};

/// Memory layout of an uncompressed picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub width: usize,
    pub height: usize,
    /// Bytes from the start of one line to the start of the next.
    pub stride: usize,
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
    /// The lines of `from`, `used` bytes of each.
    fn lines<'a>(&self, from: &'a [u8], used: usize) -> Result<impl Iterator<Item = &'a [u8]> + use<'a>> {
        let needed = self
            .height
            .checked_sub(1)
            .and_then(|before| before.checked_mul(self.stride))
            .and_then(|before| before.checked_add(used));
        if used == 0 || self.stride < used || needed.is_none_or(|needed| from.len() < needed) {
            return Err(Error::new(
                ErrorKind::Image,
                format!(
                    "the camera's frame is cut short: {} bytes for {}×{} pixels in lines of {} bytes",
                    from.len(),
                    self.width,
                    self.height,
                    self.stride
                ),
            ));
        }
        Ok(from.chunks(self.stride).take(self.height).map(move |line| &line[..used]))
    }
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
pub(super) fn gray_from_yuyv(from: &[u8], layout: Layout, to: &mut [u8]) -> Result<()> {
    for (line, to) in layout.lines(from, yuyv_line(layout.width))?.zip(to.chunks_exact_mut(layout.width)) {
        for (pair, to) in line.chunks_exact(2).zip(to) {
            *to = pair[0];
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
}

/// RGB from YUYV by the matrix of BT.601, which webcams use whatever they say of their colors.
pub(super) fn rgb_from_yuyv(from: &[u8], layout: Layout, range: Range, to: &mut [u8]) -> Result<()> {
    let m = match range {
        Range::Limited => Matrix::LIMITED,
        Range::Full => Matrix::FULL,
    };
    let lines = layout.lines(from, yuyv_line(layout.width))?;
    for (line, to) in lines.zip(to.chunks_exact_mut(layout.width * 3)) {
        for (pair, to) in line.chunks_exact(4).zip(to.chunks_mut(6)) {
            let (u, v) = (i32::from(pair[1]) - 128, i32::from(pair[3]) - 128);
            let differences = [v * m.red_from_v, u * m.green_from_u + v * m.green_from_v, u * m.blue_from_u];
            for (y, to) in [pair[0], pair[2]].into_iter().zip(to.chunks_exact_mut(3)) {
                let bright = (i32::from(y) - m.black) * m.brightness + Matrix::ONE / 2;
                for (to, difference) in to.iter_mut().zip(differences) {
                    *to = ((bright + difference) >> Matrix::SHIFT).clamp(0, 255) as u8;
                }
            }
        }
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
        let pair = y * layout.stride + x / 2 * 4;
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
            let layout = Layout { width, height, stride };
            (Just(layout), proptest::collection::vec(any::<u8>(), length))
        })
    }

    proptest! {
        #[test]
        fn yuyv_is_what_the_standard_says((layout, bytes) in buffers(yuyv_line), full: bool) {
            let range = if full { Range::Full } else { Range::Limited };
            let mut rgb = vec![0; layout.width * layout.height * 3];
            rgb_from_yuyv(&bytes, layout, range, &mut rgb).unwrap();
            let mut gray = vec![0; layout.width * layout.height];
            gray_from_yuyv(&bytes, layout, &mut gray).unwrap();
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
                let at = y * layout.stride + x * 3;
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
                prop_assert_eq!(gray[i], bytes[y * layout.stride + x]);
            }
        }

        #[test]
        fn one_byte_too_few_is_refused((layout, bytes) in buffers(yuyv_line)) {
            let mut to = vec![0; layout.width * layout.height * 3];
            let e = rgb_from_yuyv(&bytes[..bytes.len() - 1], layout, Range::Full, &mut to).unwrap_err();
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

    fn jpeg_of(pixels: &[u8], width: u32, height: u32, color: ExtendedColorType) -> Vec<u8> {
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, 95).encode(pixels, width, height, color).unwrap();
        bytes
    }

    #[test]
    fn the_ends_of_a_range_are_black_and_white() {
        let layout = Layout { width: 2, height: 1, stride: 4 };
        for (range, black, white) in [(Range::Limited, 16, 235), (Range::Full, 0, 255)] {
            let mut rgb = [7; 6];
            rgb_from_yuyv(&[black, 128, white, 128], layout, range, &mut rgb).unwrap();
            assert_eq!(rgb, [0, 0, 0, 255, 255, 255], "{range:?}");
        }
    }

    #[test]
    fn every_brightness_of_gray_is_the_same_in_all_three_colors() {
        let layout = Layout { width: 2, height: 1, stride: 4 };
        for y in 0..=255 {
            let mut rgb = [0; 6];
            rgb_from_yuyv(&[y, 128, y, 128], layout, Range::Full, &mut rgb).unwrap();
            assert_eq!(rgb, [y; 6]);
        }
    }

    #[test]
    fn lines_that_overlap_or_are_too_many_are_refused() {
        let mut to = vec![0; 4 * 4];
        for layout in [
            Layout { width: 4, height: 4, stride: 3 },
            Layout { width: 4, height: 4, stride: 0 },
            Layout { width: 4, height: usize::MAX, stride: 4 },
            Layout { width: 4, height: 0, stride: 4 },
            Layout { width: 0, height: 4, stride: 4 },
        ] {
            let e = gray_from_gray(&[0; 64], layout, &mut to).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Image, "{layout:?}");
        }
    }

    #[test]
    fn an_empty_buffer_is_cut_short() {
        let layout = Layout { width: 4, height: 4, stride: 4 };
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
