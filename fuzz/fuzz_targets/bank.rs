//! `bank.safetensors`: what is taken can also be searched.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ndarray::Array2;
use weakrest::package::bank_from_bytes;
use weakrest::posfar::{Matching, Parameters};

fuzz_target!(|bytes: &[u8]| {
    let parameters = Parameters {
        matching: Matching::Window { reach: 0.3 },
        coreset: weakrest::posfar::CoresetScope::Image,
        coreset_share: 1.0,
        coreset_floor: 0,
        projection: 4,
        variance: 0.9,
        retrieval_channels: 3,
        retrieval_components: 2,
        images: 2,
        seed: 0,
    };
    let Ok(bank) = bank_from_bytes(bytes, &parameters) else { return };
    let features = Array2::from_shape_fn((6, bank.channels()), |(i, j)| (i + j) as f32);
    for exclude in [None, Some(0), Some(usize::MAX)] {
        // Too large to measure, or nothing left: an error is an answer.
        let _ = bank.residuals(
            features.view(),
            (2, 3),
            exclude,
            3,
            &mut Default::default(),
            &mut Default::default(),
        );
    }
});
