//! What is read, and as what.

use std::path::Path;

use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma, Rgb, RgbImage};
use weakrest::{Color, ErrorKind, Frame};

use crate::by_hand::{encoded, exif, idat, iend, ihdr, jpeg_with, png, png_of, tiff, tiff_of};

/// Decodes a file, and checks that its header promises the same.
fn read(name: &str, bytes: &[u8]) -> Frame {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let frame = Frame::open(&path).unwrap();
    assert_eq!(frame, Frame::decode(bytes).unwrap());
    assert_eq!(Frame::header(&path).unwrap(), (frame.width(), frame.height(), frame.color()), "{name}");
    frame
}

fn gray() -> GrayImage {
    GrayImage::from_fn(23, 17, |x, y| Luma([(x * 11 + y * 3) as u8]))
}

fn rgb() -> RgbImage {
    RgbImage::from_fn(23, 17, |x, y| Rgb([(x * 11) as u8, (y * 15) as u8, (x * y) as u8]))
}

#[test]
fn eight_bits_come_back_as_they_were_written() {
    for (format, name) in [(ImageFormat::Png, "p.png"), (ImageFormat::Tiff, "p.tif")] {
        let frame = read(name, &encoded(&DynamicImage::from(gray()), format));
        assert_eq!((frame.width(), frame.height(), frame.color()), (23, 17, Color::Gray));
        assert_eq!(frame.pixels(), gray().as_raw().as_slice());
    }
    for (format, name) in
        [(ImageFormat::Png, "p.png"), (ImageFormat::Tiff, "p.tiff"), (ImageFormat::Bmp, "p.bmp")]
    {
        let frame = read(name, &encoded(&DynamicImage::from(rgb()), format));
        assert_eq!((frame.width(), frame.height(), frame.color()), (23, 17, Color::Rgb));
        assert_eq!(frame.pixels(), rgb().as_raw().as_slice());
    }
}

#[test]
fn a_gray_bmp_keeps_its_brightness() {
    let frame = read("p.bmp", &encoded(&DynamicImage::from(gray()), ImageFormat::Bmp));
    let brightness: Vec<u8> = frame.to_rgb().pixels().map(|p| p[1]).collect();
    assert_eq!(&brightness, gray().as_raw());
}

#[test]
fn jpeg_comes_back_nearly() {
    let near = |a: &[u8], b: &[u8]| {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.len() as f64
    };
    let smooth = RgbImage::from_fn(64, 40, |x, y| Rgb([(x * 3) as u8, (y * 5) as u8, 90]));
    let frame = read("p.jpg", &encoded(&DynamicImage::from(smooth.clone()), ImageFormat::Jpeg));
    assert_eq!(frame.color(), Color::Rgb);
    assert!(near(frame.pixels(), smooth.as_raw()) < 4.0);
    let smooth = GrayImage::from_fn(64, 40, |x, y| Luma([(x * 2 + y) as u8]));
    let frame = read("p.jpeg", &encoded(&DynamicImage::from(smooth.clone()), ImageFormat::Jpeg));
    assert_eq!(frame.color(), Color::Gray);
    assert!(near(frame.pixels(), smooth.as_raw()) < 2.0);
}

/// Every 16-bit value there is, to the nearest of 256 steps over the full range.
#[test]
fn sixteen_bits_are_scaled_over_their_full_range() {
    let values: Vec<u16> = (0..=u16::MAX).collect();
    let scaled: Vec<u8> = values.iter().map(|&v| ((u32::from(v) + 128) / 257) as u8).collect();
    let gray = ImageBuffer::<Luma<u16>, _>::from_raw(256, 256, values.clone()).unwrap();
    let triple = |v: u16| [v, v / 2, u16::MAX - v];
    let rgb: Vec<u16> = values.iter().flat_map(|&v| triple(v)).collect();
    let rgb = ImageBuffer::<Rgb<u16>, _>::from_raw(256, 256, rgb).unwrap();
    let scaled_rgb: Vec<u8> =
        values.iter().flat_map(|&v| triple(v)).map(|v| ((u32::from(v) + 128) / 257) as u8).collect();
    for (format, name) in [(ImageFormat::Png, "p.png"), (ImageFormat::Tiff, "p.tif")] {
        let frame = read(name, &encoded(&DynamicImage::from(gray.clone()), format));
        assert_eq!(frame.color(), Color::Gray);
        assert_eq!(frame.pixels(), scaled, "{name}");
        let frame = read(name, &encoded(&DynamicImage::from(rgb.clone()), format));
        assert_eq!(frame.color(), Color::Rgb);
        assert_eq!(frame.pixels(), scaled_rgb, "{name}");
    }
    assert_eq!((scaled[0], scaled[65_535], scaled[32_768]), (0, 255, 128));
}

/// Cameras of 10 or 12 bits store them in 16. A TIFF can say so; without that, the picture would be nearly black.
#[test]
fn sixteen_bits_that_are_not_in_use_are_refused_or_scaled() {
    const MAX_SAMPLE_VALUE: u16 = 281;
    let tiff16 = |values: &[u16], told: Option<u16>| {
        let pixels: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut tags =
            vec![(256, values.len() as u16), (257, 1), (258, 16), (259, 1), (262, 1), (277, 1), (278, 1)];
        tags.extend(told.map(|told| (MAX_SAMPLE_VALUE, told)));
        tiff_of(&pixels, &tags)
    };
    let png16 = |values: &[u16]| {
        png(values.len() as u32, 16, 0, &[values.iter().flat_map(|v| v.to_be_bytes()).collect()])
    };
    for (values, says) in [
        ([0, 512, 1023], "only 10 are in use"),
        ([5, 2000, 4095], "only 12 are in use"),
        ([0, 0, 1], "only 1 are in use"),
    ] {
        for file in [png16(&values), tiff16(&values, None), tiff16(&values, Some(900))] {
            let error = Frame::decode(&file).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Image);
            assert!(
                error.chain().contains(says) && error.chain().contains("save it with"),
                "{}",
                error.chain()
            );
        }
    }
    let color: Vec<u8> = [300_u16, 4000, 7].iter().flat_map(|v| v.to_be_bytes()).collect();
    assert!(Frame::decode(&png(1, 16, 2, &[color])).is_err());
    for (told, values, expected) in [
        (1023, [0, 512, 1023], [0, 128, 255]),
        (4095, [0, 257, 4095], [0, 16, 255]),
        (16_383, [64, 8192, 16_383], [1, 128, 255]),
    ] {
        assert_eq!(read("p.tif", &tiff16(&values, Some(told))).pixels(), expected);
    }
    let error = Frame::decode(&tiff16(&[0, 4096, 9], Some(4095))).unwrap_err();
    assert!(error.chain().contains("limits values to 4095"), "{}", error.chain());
    // What is dark, but not that dark, and what is black in any range.
    assert_eq!(read("p.png", &png16(&[0, 4096, 257])).pixels(), [0, 16, 1]);
    assert_eq!(read("p.png", &png16(&[0, 0, 0])).pixels(), [0, 0, 0]);
}

#[test]
fn a_palette_of_grays_is_gray() {
    let palette = |colors: &[u8]| {
        let lines = [vec![2, 0], vec![1, 1]];
        png_of(&[ihdr(2, 2, 8, 3), (b"PLTE", colors.to_vec()), (b"tRNS", vec![9]), idat(&lines), iend()])
    };
    let frame = read("p.png", &palette(&[10, 10, 10, 90, 90, 90, 250, 250, 250]));
    assert_eq!((frame.color(), frame.pixels()), (Color::Gray, [250, 10, 90, 90].as_slice()));
    assert_eq!(read("p.png", &palette(&[10, 10, 10, 90, 90, 90, 250, 250, 251])).color(), Color::Rgb);
    // Colors that happen to be grays are colors.
    let suggested = (b"PLTE", vec![1, 1, 1]);
    let file = png_of(&[ihdr(1, 1, 8, 2), suggested, idat(&[vec![5, 5, 5]]), iend()]);
    assert_eq!(read("p.png", &file).color(), Color::Rgb);
}

#[test]
fn transparency_is_ignored() {
    // Gray and alpha, then color and alpha, in 8 and in 16 bits: two pixels, one of them invisible.
    let frame = read("p.png", &png(2, 8, 4, &[vec![10, 255, 200, 0]]));
    assert_eq!((frame.color(), frame.pixels()), (Color::Gray, [10, 200].as_slice()));
    let frame = read("p.png", &png(2, 16, 4, &[vec![10, 10, 255, 255, 200, 200, 0, 0]]));
    assert_eq!((frame.color(), frame.pixels()), (Color::Gray, [10, 200].as_slice()));
    let frame = read("p.png", &png(2, 8, 6, &[vec![1, 2, 3, 255, 201, 202, 203, 0]]));
    assert_eq!((frame.color(), frame.pixels()), (Color::Rgb, [1, 2, 3, 201, 202, 203].as_slice()));
    let wide: Vec<u8> = [1, 2, 3, 255, 201, 202, 203, 0].iter().flat_map(|&v| [v, v]).collect();
    let frame = read("p.png", &png(2, 16, 6, &[wide]));
    assert_eq!((frame.color(), frame.pixels()), (Color::Rgb, [1, 2, 3, 201, 202, 203].as_slice()));
}

#[test]
fn palettes_and_few_bits_are_unpacked() {
    let palette = (b"PLTE", vec![10, 20, 30, 40, 50, 60, 70, 80, 90]);
    for (bits, line) in [(8, vec![2, 0, 1]), (2, vec![0b10_00_01_00]), (4, vec![0x20, 0x10])] {
        let file = png_of(&[ihdr(3, 1, bits, 3), palette.clone(), idat(&[line]), iend()]);
        let frame = read("p.png", &file);
        assert_eq!(frame.color(), Color::Rgb);
        assert_eq!(frame.pixels(), [70, 80, 90, 10, 20, 30, 40, 50, 60]);
    }
    let frame = read("p.png", &png(4, 1, 0, &[vec![0b1010_0000]]));
    assert_eq!((frame.color(), frame.pixels()), (Color::Gray, [255, 0, 255, 0].as_slice()));
    let frame = read("p.png", &png(4, 2, 0, &[vec![0b0001_1011]]));
    assert_eq!(frame.pixels(), [0, 85, 170, 255]);
    let frame = read("p.png", &png(2, 4, 0, &[vec![0x0f]]));
    assert_eq!(frame.pixels(), [0, 255]);
}

#[test]
fn tiff_of_either_byte_order_is_read() {
    for big in [false, true] {
        let frame = read("p.tif", &tiff(3, 2, &[1, 2, 3, 4, 5, 6], 1, big, 1));
        assert_eq!((frame.width(), frame.height(), frame.pixels()), (3, 2, [1, 2, 3, 4, 5, 6].as_slice()));
    }
}

/// Brightness of the top left, top right, bottom left and bottom right quarter.
fn quarters(frame: &Frame) -> [u8; 4] {
    let (w, h) = (frame.width() as usize, frame.height() as usize);
    let step = frame.color().channels();
    [(1, 1), (3, 1), (1, 3), (3, 3)].map(|(x, y)| frame.pixels()[(y * h / 4 * w + x * w / 4) * step])
}

/// What becomes of quarters A B / C D for each of EXIF's orientations, from 1 to 8, and whether the sides change places.
const TURNED: [(&[u8; 4], bool); 8] = [
    (b"ABCD", false),
    (b"BADC", false),
    (b"DCBA", false),
    (b"CDAB", false),
    (b"ACBD", true),
    (b"CADB", true),
    (b"DBCA", true),
    (b"BDAC", true),
];

#[test]
fn the_orientation_that_a_camera_noted_is_applied() {
    let shade = |letter: u8| 20 + 60 * (letter - b'A');
    let picture = |w: u32, h: u32| {
        GrayImage::from_fn(w, h, |x, y| Luma([shade(b'A' + (x >= w / 2) as u8 + 2 * (y >= h / 2) as u8)]))
    };
    let jpeg = encoded(&DynamicImage::from(picture(64, 32)), ImageFormat::Jpeg);
    let pixels = picture(64, 32).into_raw();
    let lines: Vec<Vec<u8>> = pixels.chunks(64).map(<[u8]>::to_vec).collect();
    for (i, (letters, swapped)) in TURNED.iter().enumerate() {
        let orientation = i as u16 + 1;
        let png = png_of(&[ihdr(64, 32, 8, 0), (b"eXIf", exif(orientation)), idat(&lines), iend()]);
        for (name, file) in [
            ("p.jpg", jpeg_with(&jpeg, &exif(orientation))),
            ("p.tif", tiff(64, 32, &pixels, 1, false, orientation)),
            ("p.png", png),
        ] {
            let frame = read(name, &file);
            let size = if *swapped { (32, 64) } else { (64, 32) };
            assert_eq!((frame.width(), frame.height()), size, "{name} {orientation}");
            let expected = letters.map(shade);
            for (found, expected) in quarters(&frame).into_iter().zip(expected) {
                assert!(found.abs_diff(expected) < 3, "{name} {orientation}: {found} {expected}");
            }
        }
    }
}

#[test]
fn an_orientation_that_does_not_exist_changes_nothing() {
    let jpeg = encoded(&DynamicImage::from(gray()), ImageFormat::Jpeg);
    for orientation in [0, 9, 999] {
        let frame = read("p.jpg", &jpeg_with(&jpeg, &exif(orientation)));
        assert_eq!((frame.width(), frame.height()), (23, 17));
    }
}

#[test]
fn the_name_says_nothing_about_the_kind_of_picture() {
    let frame = read("picture.jpg", &encoded(&DynamicImage::from(gray()), ImageFormat::Png));
    assert_eq!(frame.pixels(), gray().as_raw().as_slice());
}

#[test]
fn a_missing_file_is_named() {
    for error in [Frame::open("no/such.png").unwrap_err(), Frame::header("no/such.png").unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("no/such.png"));
    }
    for path in [".", "/dev/null"] {
        let error = Frame::open(Path::new(path)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("not a file"), "{error}");
    }
}

#[test]
fn raw_pixels_must_fill_the_frame() {
    assert!(Frame::new(3, 2, Color::Gray, vec![0; 6]).is_ok());
    assert!(Frame::new(3, 2, Color::Rgb, vec![0; 18]).is_ok());
    for (width, height, bytes) in [(3, 2, 5), (3, 2, 7), (0, 2, 0), (3, 0, 0), (10_001, 10_000, 0)] {
        let error = Frame::new(width, height, Color::Gray, vec![0; bytes]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Image);
    }
    assert_eq!(Frame::new(u32::MAX, u32::MAX, Color::Rgb, Vec::new()).unwrap_err().kind(), ErrorKind::Image);
}

#[test]
fn a_gray_frame_is_drawn_gray() {
    let frame = Frame::new(2, 1, Color::Gray, vec![7, 200]).unwrap();
    assert_eq!(frame.to_rgb().into_raw(), [7, 7, 7, 200, 200, 200]);
    let frame = Frame::new(1, 1, Color::Rgb, vec![1, 2, 3]).unwrap();
    assert_eq!(frame.to_rgb().into_raw(), [1, 2, 3]);
}
