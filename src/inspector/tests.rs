//! Several scales, compared with a slow version.

use std::path::{Path, PathBuf};

use half::f16;
use ndarray::{Array1, Array2, Array3, Array4, ArrayView1, Axis, s};
use posfar::{Bank, Matching, Residuals};

use super::data::join;
use super::{Features, FrameResiduals, Inspection, Inspector, Options};
use crate::enroll::{Settings, enroll};
use crate::imaging::Frame;
use crate::package::{BackboneFile, Package, Scale, Tap};

/// A picture of 48 × 32 pixels with its own noise. A defect is a red square.
fn draw(folder: &Path, number: u32, defect: bool) -> PathBuf {
    let path = folder.join(format!("{number}.png"));
    let picture = image::RgbImage::from_fn(48, 32, |x, y| {
        let noise = |salt: u32| {
            (x.wrapping_mul(31) ^ y.wrapping_mul(17) ^ (number * 7 + salt)).wrapping_mul(2_654_435_761) >> 26
        };
        if defect && (20..29).contains(&x) && (9..17).contains(&y) {
            return image::Rgb([250, 20, 20]);
        }
        image::Rgb([60 + noise(1) as u8, 120 + noise(2) as u8, (90 + noise(3) + 2 * x) as u8])
    });
    picture.save(&path).unwrap();
    path
}

/// A network of four channels on a grid of 8 pixels, read as scales of these channels.
fn backbone(scales: &[usize]) -> BackboneFile {
    let mut backbone = BackboneFile::built_in().unwrap();
    backbone.onnx = include_bytes!("../../tests/data/onnx/cells.onnx").to_vec();
    let taps = |channels| vec![Tap { stride: 8, channels, weight: 1.0 }];
    backbone.info.kind.scales =
        scales.iter().map(|&channels| Scale { channels, taps: taps(channels) }).collect();
    backbone
}

fn package(pictures: &[PathBuf], backbone: &BackboneFile) -> Package {
    let settings = Settings {
        longest_side: Some(48),
        matching: Matching::Soft { weight: 0.0 },
        coreset_floor: 60,
        sigma: 0.0,
        variations: Vec::new(),
        ..Settings::default()
    };
    enroll(pictures, backbone, &settings, &Options::default(), &mut |_, _, _| true).unwrap().unwrap().package
}

/// The length of each token's residual to the bank's nearest one, without an image's.
fn lengths(bank: &Bank, tokens: &Array2<f32>, exclude: Option<u32>) -> Vec<f32> {
    let parts = bank.parts();
    let good = parts.tokens.mapv(f16::to_f32);
    let reduce = |token: ArrayView1<f32>| (&token - &parts.pca.mean).dot(&parts.pca.components);
    let far = |a: &Array1<f32>, b: &Array1<f32>| (a - b).mapv(|v| v * v).sum();
    let length = |token: ArrayView1<f32>| {
        let reduced = reduce(token);
        let others = good.rows().into_iter().zip(&parts.places).filter(|(_, at)| Some(at.image) != exclude);
        let nearest = others
            .map(|(row, _)| row)
            .min_by(|a, b| far(&reduce(*a), &reduced).total_cmp(&far(&reduce(*b), &reduced)))
            .unwrap();
        (&nearest - &token).mapv(|v| v * v).sum().sqrt()
    };
    tokens.rows().into_iter().map(length).collect()
}

/// Between the centers of the four cells around a pixel.
fn bilinear(cells: &[f32], (rows, cols): (usize, usize), x: usize, y: usize) -> f64 {
    let at = |pixel: usize, count: usize| {
        let center = ((pixel as f64 + 0.5) / 8.0 - 0.5).clamp(0.0, (count - 1) as f64);
        (center as usize, (center as usize + 1).min(count - 1), center.fract())
    };
    let ((x0, x1, fx), (y0, y1, fy)) = (at(x, cols), at(y, rows));
    let cell = |row: usize, col: usize| f64::from(cells[row * cols + col]);
    (cell(y0, x0) * (1.0 - fx) + cell(y0, x1) * fx) * (1.0 - fy)
        + (cell(y1, x0) * (1.0 - fx) + cell(y1, x1) * fx) * fy
}

fn near(value: f64, expected: f64) -> bool {
    (value - expected).abs() <= 2e-4 * expected.abs().max(1.0)
}

#[test]
fn scales_are_searched_alone_and_meet_in_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let good: Vec<PathBuf> = (0..6).map(|number| draw(folder.path(), number, false)).collect();
    let bad = Frame::open(draw(folder.path(), 6, true)).unwrap();

    let stages = |package| Inspector::with_options(package, &Options::default()).unwrap().into_stages();
    let (mut alone, ..) = stages(package(&good, &backbone(&[4])));
    let mut written = package(&good, &backbone(&[1, 3]));
    written.write(folder.path().join("part.weakrest"), false).unwrap();
    let opened = Package::open(folder.path().join("part.weakrest")).unwrap();
    let units = opened.manifest.scales.clone();
    let (mut features, mut residuals, mut classify) = stages(opened);

    let (mut whole, mut tokens, mut found) = (Features::default(), Features::default(), Default::default());
    let mut tokens_of = |frame: &Frame| {
        alone.run(frame, &mut whole).unwrap();
        features.run(frame, &mut tokens).unwrap();
        assert_eq!(tokens.tokens[0], whole.tokens[0].slice(s![.., ..1]));
        assert_eq!(tokens.tokens[1], whole.tokens[0].slice(s![.., 1..]));
        tokens.clone()
    };
    let banks = std::sync::Arc::clone(residuals.banks());
    for (scale, (bank, unit)) in banks.iter().zip(&units).enumerate() {
        let mut all = Vec::new();
        for (number, path) in (0..).zip(&good) {
            let stored =
                tokens_of(&Frame::open(path).unwrap()).tokens[scale].mapv(|v| f16::from_f32(v).to_f32());
            all.extend(lengths(bank, &stored, Some(number)));
        }
        let squares: f32 = all.iter().map(|v| v * v).sum();
        let mean = squares / (all.len() * bank.channels()) as f32;
        assert!(near(unit.residual_scale.into(), mean.sqrt().into()), "{unit:?} {mean}");
        all.sort_by(f32::total_cmp);
        assert!(near(unit.median.into(), all[all.len() / 2].into()), "{unit:?} {all:?}");
    }

    let tokens = tokens_of(&bad);
    residuals.run(&tokens, &mut found).unwrap();
    let mut judged = Inspection::default();
    classify.run(&found, &mut judged).unwrap();
    let layers: Vec<Vec<f32>> =
        banks.iter().zip(&tokens.tokens).map(|(bank, tokens)| lengths(bank, tokens, None)).collect();
    for (layer, scale) in layers.iter().zip(&found.scales) {
        assert!(layer.iter().zip(&scale.norms).all(|(a, b)| near((*a).into(), (*b).into())));
    }
    assert_eq!((judged.map.width, judged.map.height), (48, 32));
    for (y, line) in judged.map.values.chunks_exact(48).enumerate() {
        for (x, &value) in line.iter().enumerate() {
            let logs = layers
                .iter()
                .zip(&units)
                .map(|(layer, unit)| (bilinear(layer, (4, 6), x, y) / f64::from(unit.median)).max(1e-3).ln());
            let expected = (logs.sum::<f64>() / 2.0).exp();
            assert!(near(value.into(), expected), "{value} {expected} at {x}, {y}");
        }
    }
    let peak = judged.map.values.iter().copied().fold(0.0, f32::max);
    let corner = judged.map.values[0];
    assert!(peak > 10.0 * corner, "{peak} {corner}");
}

#[cfg(feature = "workshop")]
#[test]
fn training_reads_all_scales_each_in_its_unit() {
    let folder = tempfile::tempdir().unwrap();
    let good: Vec<PathBuf> = (0..6).map(|number| draw(folder.path(), number, false)).collect();
    draw(folder.path(), 6, true);
    std::fs::write(folder.path().join("list"), "{\"image\": \"6.png\"}\n").unwrap();
    let package = || package(&good, &backbone(&[1, 3]));
    let (list, out) = (folder.path().join("list"), folder.path().join("out"));
    crate::training::write_residuals(package(), &list, &out, false, &Options::default(), |_, _| {}).unwrap();
    let shard = std::fs::read(out.join("residuals-00000.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&shard).unwrap();
    let view = tensors.tensor("000000").unwrap();
    assert_eq!(view.shape(), [3, 4, 6, 4]);
    let (bytes, _) = view.data().as_chunks::<2>();
    let written: Vec<f32> = bytes.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect();

    let package = package();
    let units: Vec<f32> = package.manifest.scales.iter().map(|scale| scale.residual_scale).collect();
    let mut inspector = Inspector::with_options(package, &Options::default()).unwrap();
    let bad = Frame::open(folder.path().join("6.png")).unwrap();
    let prepared = inspector.prepare(&bad).unwrap();
    let mut input = Array4::zeros((1, 4, 6, 4));
    join(&prepared.residuals.scales, &units, 0, (0, 0), (4, 6), 4, input.view_mut()).unwrap();
    for (a, b) in written.iter().zip(&input) {
        assert!((a - b).abs() <= 1e-3 * b.abs().max(1.0), "{a} {b}");
    }
}

#[test]
fn a_networks_input_is_a_window_of_all_scales() {
    let (rows, cols) = (3, 5);
    let scale = |channels: usize, first: f32| Residuals {
        grid: (rows, cols),
        values: Array3::from_shape_fn((2, rows * cols, channels), |(neighbor, cell, channel)| {
            first + (1000 * neighbor + 10 * cell + channel) as f32
        }),
        ..Residuals::default()
    };
    let frame = FrameResiduals { scales: vec![scale(2, 0.0), scale(3, 500.0)], ..FrameResiduals::default() };
    let mut input = Array4::zeros((1, 2, 3, 5));
    join(&frame.scales, &[2.0, 0.5], 0, (1, 2), (2, 3), 5, input.view_mut()).unwrap();
    for (row, rows) in input.index_axis(Axis(0), 0).outer_iter().enumerate() {
        for (col, values) in rows.outer_iter().enumerate() {
            let cell = ((row + 1) * cols + col + 2) as f32 * 10.0;
            let expected = [
                cell / 2.0,
                (cell + 1.0) / 2.0,
                (cell + 500.0) * 2.0,
                (cell + 501.0) * 2.0,
                (cell + 502.0) * 2.0,
            ];
            assert_eq!(values.to_vec(), expected);
        }
    }
    for (window, channels) in [((3, 3), 5), ((2, 4), 5), ((2, 3), 4), ((2, 3), 6)] {
        let mut input = Array4::zeros((1, window.0, window.1, channels));
        assert!(join(&frame.scales, &[2.0, 0.5], 0, (1, 2), window, channels, input.view_mut()).is_err());
    }
}
