//! What must not be taken for a picture, and must not take long or much memory either.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Instant;

use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use proptest::prelude::*;
use weakrest::{Error, ErrorKind, Frame};

use crate::by_hand::{encoded, exif, idat, iend, ihdr, jpeg_with, png_of, tiff, tiff_of, zlib_bomb};

/// Adds up what each thread asks for, so that tests beside each other do not disturb each other.
struct Counting;

thread_local! {
    static REQUESTED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it is; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = REQUESTED.try_with(|r| r.set(r.get() + layout.size()));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The error, the bytes of memory that were asked for, and the seconds it took.
fn refusal(bytes: &[u8]) -> (Error, usize, f64) {
    let (before, start) = (REQUESTED.get(), Instant::now());
    let Err(error) = Frame::decode(bytes) else { panic!("this is not a picture to take") };
    (error, REQUESTED.get() - before, start.elapsed().as_secs_f64())
}

fn refused(what: &str, bytes: &[u8]) {
    let (error, _, _) = refusal(bytes);
    assert_eq!(error.kind(), ErrorKind::Image, "{what}: {error}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part 7.png");
    std::fs::write(&path, bytes).unwrap();
    let Err(error) = Frame::open(&path) else { panic!("{what} was opened") };
    assert_eq!(error.kind(), ErrorKind::Image);
    assert!(error.to_string().contains("part 7.png"), "{error}");
}

fn picture() -> RgbImage {
    RgbImage::from_fn(61, 47, |x, y| Rgb([(x * 4) as u8, (y * 5) as u8, (x * y) as u8]))
}

#[test]
fn what_is_no_picture_is_refused() {
    refused("nothing", b"");
    refused("a byte", b"\x89");
    refused("text", b"These are not the pixels that you are looking for.\n");
    refused("zeros", &[0; 4096]);
    refused("a GIF", b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;");
    refused("a WebP", b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f\0\0\0\x10\x07\x10\x11\x11\x88\x88\xfe\x07\0");
    refused("an SVG", b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>");
    refused("a PPM", b"P6 1 1 255 abc");
    for magic in [b"\x89PNG\r\n\x1a\n".as_slice(), b"\xff\xd8\xff\xe0", b"BM", b"II*\0", b"MM\0*"] {
        refused("a mere beginning", magic);
        refused("a beginning and zeros", &[magic, &[0; 100]].concat());
        refused("a beginning and noise", &[magic, &[0xa7; 100]].concat());
    }
}

/// Who is told that a whole picture is damaged looks for the fault in the wrong place.
#[test]
fn what_is_not_supported_is_not_called_damaged() {
    let mut bmp = encoded(&DynamicImage::from(picture()), ImageFormat::Bmp);
    bmp[30] = 4;
    let tiff = |changes: &[(u16, u16)]| {
        let mut tags = vec![(256, 2), (257, 2), (258, 8), (259, 1), (262, 1), (277, 1), (278, 2)];
        for change in changes {
            tags.retain(|(tag, _)| *tag != change.0);
            tags.push(*change);
        }
        tiff_of(&[7; 64], &tags)
    };
    for (file, says) in [
        (b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0".to_vec(), "a WebP picture is not supported"),
        (b"GIF89a\x01\0\x01\0".to_vec(), "a GIF picture is not supported"),
        (b"\0\0\0\x18ftypheic\0\0\0\0".to_vec(), "a HEIC picture is not supported"),
        (b"\0\0\0\x20ftypavif\0\0\0\0".to_vec(), "an AVIF picture is not supported"),
        (b"\0\0\0\x18ftypisom\0\0\0\0".to_vec(), "a video is not supported"),
        (b"P5 2 2 255 abcd".to_vec(), "PGM or PPM picture is not supported"),
        (b"II+\0\x08\0\0\0".to_vec(), "a BigTIFF picture is not supported"),
        (bmp, "this kind of BMP is not supported"),
        (tiff(&[(259, 34_925)]), "this kind of TIFF is not supported"),
        (tiff(&[(259, 50_000)]), "this kind of TIFF is not supported"),
        (tiff(&[(259, 7)]), "a TIFF compressed as JPEG is not supported"),
        (tiff(&[(258, 12)]), "this kind of TIFF is not supported"),
        (tiff(&[(258, 32), (339, 3)]), "this kind of TIFF is not supported"),
        (tiff(&[(258, 16), (339, 2)]), "this kind of TIFF is not supported"),
    ] {
        let reason = refusal(&file).0.chain();
        assert!(reason.contains(says) && !reason.contains("damaged"), "{says}: {reason}");
        refused(says, &file);
    }
    // What is damaged is called so.
    for file in [vec![0; 4096], tiff(&[(273, 9999)])] {
        let reason = refusal(&file).0.chain();
        assert!(reason.contains("damaged"), "{reason}");
    }
}

#[test]
fn a_picture_that_was_cut_short_is_refused() {
    let picture = DynamicImage::from(picture());
    let gray = DynamicImage::from(picture.to_luma8());
    for (format, what) in [
        (ImageFormat::Png, "PNG"),
        (ImageFormat::Jpeg, "JPEG"),
        (ImageFormat::Bmp, "BMP"),
        (ImageFormat::Tiff, "TIFF"),
    ] {
        for picture in [&picture, &gray] {
            let whole = encoded(picture, format);
            let frame = Frame::decode(&whole).unwrap();
            for cut in (0..whole.len()).step_by(whole.len() / 97 + 1).chain(whole.len() - 24..whole.len()) {
                match Frame::decode(&whole[..cut]) {
                    Err(e) => assert_eq!(e.kind(), ErrorKind::Image),
                    // The last bytes may hold nothing that a picture needs.
                    Ok(f) => assert!(
                        f == frame && whole.len() - cut <= 24,
                        "{what} cut at {cut} of {}",
                        whole.len()
                    ),
                }
            }
        }
    }
}

/// The preview within has an end of its own.
#[test]
fn a_jpeg_with_a_preview_that_was_cut_short_is_refused() {
    let whole = encoded(&DynamicImage::from(picture()), ImageFormat::Jpeg);
    let preview = encoded(&DynamicImage::from(GrayImage::new(16, 16)), ImageFormat::Jpeg);
    let with_preview = jpeg_with(&whole, &[exif(1), preview].concat());
    assert_eq!(Frame::decode(&with_preview).unwrap(), Frame::decode(&whole).unwrap());
    refused("a JPEG with preview that was cut", &with_preview[..with_preview.len() - 100]);
}

/// Cameras and network shares leave files behind that were allocated, but not written to the end.
#[test]
fn a_jpeg_whose_end_is_zeros_is_refused() {
    let whole = encoded(&DynamicImage::from(picture()), ImageFormat::Jpeg);
    for share in 3..10 {
        let mut file = whole.clone();
        file[whole.len() * share / 10..].fill(0);
        refused("a JPEG that ends in zeros", &file);
    }
}

/// Some cameras append a preview or their own data.
#[test]
fn what_follows_a_whole_jpeg_does_not_matter() {
    let whole = encoded(&DynamicImage::from(picture()), ImageFormat::Jpeg);
    let frame = Frame::decode(&whole).unwrap();
    for more in [b"\0\0\0".to_vec(), b"made by a camera".to_vec(), whole.clone()] {
        assert_eq!(Frame::decode(&[whole.clone(), more].concat()).unwrap(), frame);
    }
}

#[test]
fn a_changed_png_is_refused() {
    let whole = encoded(&DynamicImage::from(picture()), ImageFormat::Png);
    let start = whole.windows(4).position(|w| w == b"IDAT").unwrap();
    for at in (start + 4..whole.len() - 16).step_by(whole.len() / 60 + 1) {
        let mut file = whole.clone();
        file[at] ^= 0x40;
        refused("a PNG with a changed bit", &file);
    }
}

#[test]
fn a_huge_picture_is_refused_by_its_header() {
    let huge = png_of(&[ihdr(30_000, 30_000, 8, 2), idat(&[vec![0; 8]]), iend()]);
    let mut bmp = encoded(&DynamicImage::from(GrayImage::new(4, 4)), ImageFormat::Bmp);
    bmp[18..22].copy_from_slice(&30_000u32.to_le_bytes());
    bmp[22..26].copy_from_slice(&30_000u32.to_le_bytes());
    let mut jpeg = encoded(&DynamicImage::from(GrayImage::new(16, 16)), ImageFormat::Jpeg);
    let size = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap() + 5;
    jpeg[size..size + 4].copy_from_slice(&[0x75, 0x30, 0x75, 0x30]);
    let tiff = tiff(30_000, 30_000, &[0; 16], 1, false, 1);
    for (what, file) in [("PNG", huge), ("BMP", bmp), ("JPEG", jpeg), ("TIFF", tiff)] {
        let (error, bytes, seconds) = refusal(&file);
        assert_eq!(error.kind(), ErrorKind::Image, "{what}");
        assert!(error.to_string().contains("30000×30000"), "{what}: {error}");
        assert!(bytes < 16 << 20, "{what} took {bytes} bytes");
        assert!(seconds < 1.0, "{what} took {seconds} s");
    }
}

#[test]
fn the_largest_sides_there_are_do_not_overflow() {
    for (width, height) in [(u32::MAX, u32::MAX), (0x7fff_ffff, 0x7fff_ffff), (1, u32::MAX), (0, 5), (5, 0)] {
        let (error, bytes, _) = refusal(&png_of(&[ihdr(width, height, 16, 6), idat(&[vec![0; 8]]), iend()]));
        assert_eq!(error.kind(), ErrorKind::Image);
        assert!(bytes < 16 << 20, "{width}×{height} took {bytes} bytes");
    }
}

/// A few megabytes of a color profile that unpack to a gigabyte.
#[test]
fn a_color_profile_cannot_take_all_memory() {
    let profile = [b"p\0\0".as_slice(), &zlib_bomb(1 << 30)].concat();
    let file = png_of(&[ihdr(1, 1, 8, 0), (b"iCCP", profile), idat(&[vec![9]]), iend()]);
    assert!(file.len() < 8 << 20);
    let (before, start) = (REQUESTED.get(), Instant::now());
    let decoded = Frame::decode(&file);
    let bytes = REQUESTED.get() - before;
    if let Err(error) = decoded {
        assert_eq!(error.kind(), ErrorKind::Image);
    }
    assert!(bytes < 256 << 20, "{} MiB", bytes >> 20);
    assert!(start.elapsed().as_secs_f64() < 10.0);
}

#[test]
fn an_animation_is_refused() {
    let control = (b"acTL", [1u32.to_be_bytes(), 0u32.to_be_bytes()].concat());
    let frame = {
        let mut data = Vec::new();
        for value in [0u32, 1, 1, 0, 0] {
            data.extend(value.to_be_bytes());
        }
        data.extend([0, 1, 0, 10, 0, 0]);
        (b"fcTL", data)
    };
    let still = png_of(&[ihdr(1, 1, 8, 0), idat(&[vec![9]]), iend()]);
    assert!(Frame::decode(&still).is_ok());
    let animated = png_of(&[ihdr(1, 1, 8, 0), control, frame, idat(&[vec![9]]), iend()]);
    refused("an animated PNG", &animated);
    assert!(refusal(&animated).0.to_string().contains("animated"));
}

#[test]
fn several_pages_are_refused() {
    for big in [false, true] {
        assert!(Frame::decode(&tiff(2, 2, &[1, 2, 3, 4], 1, big, 1)).is_ok());
        for pages in [2, 5] {
            let file = tiff(2, 2, &[1, 2, 3, 4], pages, big, 1);
            refused("a TIFF of several pages", &file);
            assert!(refusal(&file).0.to_string().contains("several pages"));
        }
    }
}

#[test]
fn headers_are_refused_like_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.png");
    let two_pages = tiff(2, 2, &[1, 2, 3, 4], 2, false, 1);
    let huge = png_of(&[ihdr(30_000, 30_000, 8, 2), idat(&[vec![0; 8]]), iend()]);
    for bytes in [b"".as_slice(), b"text", &two_pages, &huge] {
        std::fs::write(&path, bytes).unwrap();
        let error = Frame::header(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Image);
        assert!(error.to_string().contains("p.png"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Whatever becomes of a file: an answer, no panic, and a picture that is what it says it is.
    #[test]
    fn damage_never_panics(
        kind in 0usize..5, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let gray = GrayImage::from_fn(9, 7, |x, y| Luma([(x * y) as u8]));
        let picture = DynamicImage::from(gray);
        let mut file = match kind {
            0 => encoded(&picture, ImageFormat::Png),
            1 => encoded(&picture, ImageFormat::Jpeg),
            2 => encoded(&picture, ImageFormat::Bmp),
            3 => encoded(&picture, ImageFormat::Tiff),
            _ => tiff(3, 2, &[1, 2, 3, 4, 5, 6], 1, true, 3),
        };
        for (place, value) in changes {
            let place = place.index(file.len());
            file[place] = value;
        }
        match Frame::decode(&file) {
            Ok(frame) => {
                let pixels = frame.width() as usize * frame.height() as usize * frame.color().channels();
                prop_assert_eq!(frame.pixels().len(), pixels);
            }
            Err(e) => prop_assert_eq!(e.kind(), ErrorKind::Image),
        }
    }
}
