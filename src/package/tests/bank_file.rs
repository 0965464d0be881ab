//! `bank-1.safetensors`: damaged and crafted.

use std::collections::HashMap;

use half::f16;
use ndarray::Array2;
use posfar::{Bank, Grid, Matching, Parameters, Residuals, TokenStore, fit};
use proptest::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::support::Copy;
use crate::ErrorKind;
use crate::package::{bank_from_bytes, bytes_from_bank};

type Arrays = HashMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn parameters() -> Parameters {
    Parameters {
        // No matrix is square, so that a turned one is found.
        variance: 0.9,
        retrieval_channels: 3,
        retrieval_components: 2,
        images: 2,
        ..Parameters::default()
    }
}

fn small_bank() -> Bank {
    let mut store = TokenStore::default();
    for image in 0..3 {
        let features = Array2::from_shape_fn((12, 5), |(i, j)| ((i * 7 + j * 5 + image * 3) % 11) as f32);
        store.push(features.view(), (3, 4)).unwrap();
    }
    fit(&store, &parameters(), &mut |_, _| true).unwrap().unwrap()
}

fn features(image: usize, grid: Grid) -> Array2<f32> {
    Array2::from_shape_fn((grid.0 * grid.1, 5), |(i, j)| ((i * 7 + j * 5 + image * 3) % 11) as f32 + 0.1)
}

fn arrays(bytes: &[u8]) -> Arrays {
    let tensors = SafeTensors::deserialize(bytes).unwrap();
    tensors
        .iter()
        .map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect()
}

fn bytes(arrays: &Arrays) -> Vec<u8> {
    let views: Vec<(&str, TensorView)> = arrays
        .iter()
        .map(|(name, (dtype, shape, data))| {
            (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap())
        })
        .collect();
    safetensors::serialize(views, None).unwrap()
}

fn kind(bytes: &[u8]) -> Option<ErrorKind> {
    bank_from_bytes(bytes, &parameters()).err().map(|e| e.kind())
}

#[test]
fn a_stored_bank_gives_the_same_residuals_to_the_last_bit() {
    for matching in [Matching::Soft { weight: 0.3 }, Matching::Window { reach: 0.2 }] {
        let parameters = Parameters { matching, ..parameters() };
        let mut store = TokenStore::default();
        for (image, grid) in [(3, 4), (4, 3), (5, 5), (1, 7)].into_iter().enumerate() {
            store.push(features(image, grid).view(), grid).unwrap();
        }
        let fresh = fit(&store, &parameters, &mut |_, _| true).unwrap().unwrap();
        let stored = bank_from_bytes(&bytes_from_bank(&fresh).unwrap(), &parameters).unwrap();
        assert_eq!(fresh.parts(), stored.parts());
        assert_eq!(fresh.index().rows(), stored.index().rows());
        let residuals = |bank: &Bank| {
            let mut out = Residuals::default();
            let image = features(9, (6, 2));
            bank.residuals(image.view(), (6, 2), &[], 3, &mut Default::default(), &mut out).unwrap();
            (out.values, out.norms, out.neighbors, out.images)
        };
        assert_eq!(residuals(&fresh), residuals(&stored));
    }
}

#[test]
fn every_array_must_be_there_with_its_type_and_dimensions() {
    let good = arrays(&bytes_from_bank(&small_bank()).unwrap());
    assert_eq!(kind(&bytes(&good)), None);
    for name in good.keys() {
        let mut missing = good.clone();
        missing.remove(name);
        assert_eq!(kind(&bytes(&missing)), Some(ErrorKind::Package), "{name} is missing");

        // The same bytes as numbers of another kind, and of another size.
        let mut other = good.clone();
        let (dtype, _, _) = other.get_mut(name).unwrap();
        *dtype = match *dtype {
            Dtype::F16 => Dtype::BF16,
            Dtype::F32 => Dtype::I32,
            Dtype::U32 => Dtype::F32,
            _ => Dtype::F16,
        };
        assert_eq!(kind(&bytes(&other)), Some(ErrorKind::Package), "{name} of another type");
        let (dtype, shape, data) = other.get_mut(name).unwrap();
        (*dtype, *shape) = (Dtype::U8, vec![data.len()]);
        assert_eq!(kind(&bytes(&other)), Some(ErrorKind::Package), "{name} as bytes");

        let mut empty = good.clone();
        let (_, shape, data) = empty.get_mut(name).unwrap();
        data.clear();
        shape[0] = 0;
        assert_eq!(kind(&bytes(&empty)), Some(ErrorKind::Package), "{name} is empty");
    }
    for name in ["tokens", "pca.components", "retrieval_pca.components", "descriptors"] {
        let mut flat = good.clone();
        let (_, shape, _) = flat.get_mut(name).unwrap();
        *shape = vec![shape.iter().product()];
        assert_eq!(kind(&bytes(&flat)), Some(ErrorKind::Package), "{name} in one dimension");
        let mut turned = good.clone();
        turned.get_mut(name).unwrap().1.reverse();
        assert_eq!(kind(&bytes(&turned)), Some(ErrorKind::Package), "{name} turned");
    }
}

#[test]
fn a_number_that_is_none_is_refused_in_every_array_of_numbers() {
    let good = arrays(&bytes_from_bank(&small_bank()).unwrap());
    for (name, (dtype, _, data)) in &good {
        let bad: Vec<Vec<u8>> = match dtype {
            Dtype::F16 => [f16::NAN, f16::INFINITY].map(|v| v.to_le_bytes().to_vec()).to_vec(),
            Dtype::F32 => [f32::NAN, f32::NEG_INFINITY].map(|v| v.to_le_bytes().to_vec()).to_vec(),
            _ => continue,
        };
        for bad in bad {
            for at in [0, data.len() - bad.len()] {
                let mut arrays = good.clone();
                arrays.get_mut(name).unwrap().2[at..][..bad.len()].copy_from_slice(&bad);
                assert_eq!(kind(&bytes(&arrays)), Some(ErrorKind::NotFinite), "{name} at {at}");
            }
        }
    }
}

/// A shape of nothing takes no bytes, however often it is repeated.
#[test]
fn a_bank_cannot_claim_more_images_than_it_has_bytes_for() {
    let mut arrays = arrays(&bytes_from_bank(&small_bank()).unwrap());
    arrays.insert("retrieval_pca.components".into(), (Dtype::F32, vec![3, 0], Vec::new()));
    for images in [3, 1 << 32, usize::MAX >> 7] {
        arrays.insert("descriptors".into(), (Dtype::F16, vec![images, 64, 0], Vec::new()));
        assert_eq!(kind(&bytes(&arrays)), Some(ErrorKind::Package), "{images} images");
    }
}

#[test]
fn a_bank_that_was_cut_or_is_none_is_refused() {
    let good = bytes_from_bank(&small_bank()).unwrap();
    for cut in 0..good.len() {
        assert_eq!(kind(&good[..cut]), Some(ErrorKind::Package), "cut at {cut}");
    }
    assert_eq!(kind(&[good.as_slice(), b"x"].concat()), Some(ErrorKind::Package));
    assert_eq!(kind(b"{}"), Some(ErrorKind::Package));
    assert_eq!(kind(&[0xff; 64]), Some(ErrorKind::Package));
}

#[test]
fn a_bad_bank_in_a_package_is_told_with_its_name() {
    let copy = Copy::new();
    let mut spoilt = arrays(&copy.get("bank-1.safetensors"));
    spoilt.get_mut("tokens").unwrap().2[..2].copy_from_slice(&f16::NAN.to_le_bytes());
    copy.put_signed("bank-1.safetensors", &bytes(&spoilt));
    let error = copy.refusal();
    assert_eq!(error.kind(), ErrorKind::NotFinite);
    assert!(error.to_string().contains("stripes.weakrest: bank-1.safetensors: "), "{error}");

    copy.put_signed("bank-1.safetensors", &bytes_from_bank(&small_bank()).unwrap());
    let error = copy.refusal();
    assert_eq!(error.kind(), ErrorKind::Package);
    assert!(error.to_string().contains("5 channels"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn damage_never_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5)) {
        let mut bytes = bytes_from_bank(&small_bank()).unwrap();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Ok(bank) = bank_from_bytes(&bytes, &parameters()) {
            // What was taken can be searched.
            let features = Array2::zeros((12, bank.channels()));
            let done = bank.residuals(features.view(), (3, 4), &[], 3, &mut Default::default(), &mut Default::default());
            prop_assert!(done.is_ok() || done.is_err_and(|e| matches!(e, posfar::Error::NotFinite(_))));
        }
    }
}
