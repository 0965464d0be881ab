//! Heads as ONNX files against the trainer's own forward pass.

use ndarray::{Array2, Array4};
use posfar::random::SplitMix64;
use swinhead::{Anchored, Picture, Shape};

use super::blocks::Block;
use super::*;
use crate::imaging::{Mask, Placement};
use crate::onnx::{Execution, Network, Runtime};

/// The file of some weights gives what the trainer computes, on grids of all kinds and for any number of
/// channels.
#[test]
fn the_written_network_is_the_trained_one() {
    let runtime = Runtime::load(None).unwrap();
    for channels in [7, 176] {
        let head = Anchored::new(Shape { channels, width: WIDTH, depth: DEPTH }, 2);
        let mut random = SplitMix64::new(channels as u64);
        let mut weights = head.initial(1);
        weights.iter_mut().for_each(|weight| *weight += 0.1 * random.normal());
        let end = head.layout.len();
        // So the probability is the sigmoid of the logits' difference, as far as it is small.
        weights[end..].copy_from_slice(&[1.0, 0.0, 0.0]);
        let onnx = head_with_weights(&HeadFile::built_in().unwrap().onnx, "test", channels, |name| {
            named(&head, &weights, name)
        })
        .unwrap();
        let mut network = Network::head(runtime, &onnx, &Execution::default(), channels).unwrap();
        for (rows, cols) in [(13, 21), (1, 1), (8, 9), (32, 32), (3, 40)] {
            let mut input = Array4::from_shape_simple_fn((1, rows, cols, channels), || 2.0 * random.normal());
            // Beyond the limit of residuals.
            input[(0, rows / 2, cols / 2, 0)] = -100.0;
            let residuals =
                Array2::from_shape_vec((rows * cols, channels), input.iter().copied().collect()).unwrap();
            let picture = Picture { grid: (rows, cols), residuals, lengths: vec![0.0; rows * cols] };
            let expected = head.judge(&weights, &picture);
            network
                .run([&input], |logits| {
                    for (block, expected) in expected.iter().enumerate() {
                        let at = |class| logits[(0, block / cols, block % cols, class)];
                        let z = 2.0 * ((at(1) - at(0)) / 2.0).tanh();
                        let found = 1.0 / (1.0 + (-z).exp());
                        assert!(
                            (found - expected).abs() < 1e-4,
                            "{rows}×{cols}, {block}: {found} {expected}"
                        );
                    }
                    Ok(())
                })
                .unwrap();
        }
    }
}

#[test]
fn another_graph_is_refused() {
    let other = &crate::package::BackboneFile::built_in().unwrap().onnx;
    for template in [other.as_slice(), b"no graph"] {
        let refused = head_with_weights(template, "test", 7, |_| Some(vec![0.0; 3])).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Model);
    }
}

/// `export/tests/test_small_trainer.py` writes the file.
#[test]
fn blocks_are_those_of_weakrest_export() {
    let text = include_str!("../../tests/data/blocks.json");
    let cases: Vec<serde_json::Value> = serde_json::from_str(text).unwrap();
    for case in &cases {
        let size = |key: &str| -> (u32, u32) { serde_json::from_value(case[key].clone()).unwrap() };
        let (frame, content) = (size("frame"), size("content"));
        let stride = case["stride"].as_u64().unwrap() as u32;
        let grid = (content.1.div_ceil(stride) as usize, content.0.div_ceil(stride) as usize);
        let placement = Placement { frame, content, canvas: content, grid, stride };
        let boxes = serde_json::from_value(case["boxes"].clone()).unwrap();
        let masks: Vec<[u32; 4]> = serde_json::from_value(case["masks"].clone()).unwrap();
        let inside = |i: u32| {
            let (x, y) = (i % frame.0, i / frame.0);
            masks.iter().any(|m| (m[0]..m[2]).contains(&x) && (m[1]..m[3]).contains(&y))
        };
        let bits = (0..frame.0 * frame.1).map(inside).collect();
        let mask = (!masks.is_empty()).then(|| Mask::new(frame.0, frame.1, bits).unwrap());
        let found = Known::Placed { boxes, mask }.blocks(&placement);
        let letter = |block: &Block| match block {
            Block::Good => '.',
            Block::Defective => '#',
            Block::Mixed => '-',
            Block::Unknown => '?',
        };
        let rows: Vec<String> = found.chunks(grid.1).map(|row| row.iter().map(letter).collect()).collect();
        let expected: Vec<String> = serde_json::from_value(case["blocks"].clone()).unwrap();
        assert_eq!(rows, expected, "{case}");
    }
}
