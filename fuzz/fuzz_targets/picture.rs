//! Pictures with any content.

#![no_main]

use std::io::Cursor;

use image::ImageReader;
use libfuzzer_sys::fuzz_target;
use weakrest::Frame;

/// Larger pictures are accepted, but their allocation takes most of the time.
const PIXELS: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let size = reader.ok().and_then(|r| r.into_dimensions().ok());
    if size.is_some_and(|(w, h)| (PIXELS..=Frame::MAX_PIXELS).contains(&(u64::from(w) * u64::from(h)))) {
        return;
    }
    if let Ok(frame) = Frame::decode(bytes) {
        let pixels = frame.width() as usize * frame.height() as usize;
        assert!(pixels > 0);
        assert_eq!(frame.pixels().len(), pixels * frame.color().channels());
    }
});
