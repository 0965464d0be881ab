//! Functions for the fuzz targets. Each reads arbitrary bytes, and panics if accepted data cannot be used.

use ndarray::Array2;

use crate::Result;
use crate::onnx::refuse_external_data;
use crate::package::{Manifest, bank_from_bytes, bytes_from_bank};
use posfar::{Matching, Parameters, TokenStore, fit};

/// `bank-1.safetensors`: an accepted bank can be searched.
pub fn bank(bytes: &[u8]) {
    let matching = Matching::Window { reach: 0.3 };
    let parameters = Parameters { matching, images: 2, ..Parameters::default() };
    let Ok(bank) = bank_from_bytes(bytes, &parameters) else { return };
    let features = Array2::from_shape_fn((6, bank.channels()), |(i, j)| (i + j) as f32);
    for exclude in [&[][..], &[0], &[usize::MAX]] {
        // An error is fine: distances too large, or no tokens left.
        let _ = bank.residuals(
            features.view(),
            (2, 3),
            exclude,
            3,
            &mut Default::default(),
            &mut Default::default(),
        );
    }
}

/// The bytes of a small bank, as a seed for [`bank`].
///
/// # Errors
/// As [`fit`].
pub fn small_bank() -> Result<Option<Vec<u8>>> {
    let parameters = Parameters { retrieval_components: 1, ..Parameters::default() };
    let mut store = TokenStore::default();
    for image in 0..2 {
        let features = Array2::from_shape_fn((6, 4), |(i, j)| ((i * 7 + j * 5 + image * 3) % 11) as f32);
        store.push(features.view(), (2, 3))?;
    }
    let bank = fit(&store, &parameters, &mut |_, _| true)?;
    bank.map(|bank| bytes_from_bank(&bank)).transpose()
}

/// `package.toml`: an accepted manifest has a place for every frame.
pub fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(manifest) = Manifest::parse(text) {
        for (width, height) in [(1, 1), (640, 480), (u32::MAX, 1)] {
            let place = manifest.geometry().place(width, height);
            assert!(place.grid.0 > 0 && place.grid.1 > 0);
        }
        assert!(manifest.threshold.value.is_finite());
    }
}

/// The search for references to other files. It reads a network before ONNX Runtime does.
pub fn onnx(bytes: &[u8]) {
    let taken = refuse_external_data(bytes).is_ok();
    // ONNX merges graphs, so an empty one in front changes nothing.
    let merged = [&[0x3a, 0], bytes].concat();
    assert!(bytes.is_empty() || taken == refuse_external_data(&merged).is_ok());
}
