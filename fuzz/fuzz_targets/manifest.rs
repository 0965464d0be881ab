//! `package.toml` as anyone could have written it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weakrest::package::Manifest;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(manifest) = Manifest::parse(text) {
        // What was taken has a place for every frame.
        for (width, height) in [(1, 1), (640, 480), (u32::MAX, 1)] {
            let place = manifest.geometry.place(width, height);
            assert!(place.grid.0 > 0 && place.grid.1 > 0);
        }
        assert!(manifest.threshold.value.is_finite());
    }
});
