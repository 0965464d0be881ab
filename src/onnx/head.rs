//! A head as an ONNX file: the graph of the built-in head with other weights.

use super::graph::{FLOAT, Parts, field, outlet, tensor};
use super::message::Message;
use super::refuse_external_data;
use crate::error::{Error, ErrorKind, Result};

/// Names of weights that only their place in the graph tells.
const UNNAMED: &str = "onnx::";

/// The graph of `template` under another name, for residuals of `channels`, with the weights that `weights`
/// gives for a name: a bias, a normalization, a matrix `[in, out]`, or the position biases of a layer,
/// `[heads, cells, cells]`. It reads the residuals with their sign.
///
/// # Errors
/// [`ErrorKind::Model`] if the template has other weights.
pub(crate) fn head_with_weights(
    template: &[u8],
    name: &str,
    channels: usize,
    weights: impl Fn(&str) -> Option<Vec<f32>>,
) -> Result<Vec<u8>> {
    let unlike = |what: &str| Error::new(ErrorKind::Model, format!("the built-in head has another {what}"));
    let mut parts = Parts::read(template).ok_or_else(|| unlike("format"))?;
    let layers = (parts.weights.keys().filter(|name| name.ends_with("before_mix.weight"))).count();
    let of_layer = |layer| {
        ["attention.project", "attention.merge", "mix.0", "mix.2"]
            .map(|part| format!("layers.{layer}.{part}.weight"))
    };
    let matrices = (0..layers).flat_map(of_layer);
    let mut matrices =
        std::iter::once("embed.weight".to_owned()).chain(matrices).chain(["classify.weight".into()]);
    let mut positions = (0..layers).map(|layer| format!("layers.{layer}.attention.bias"));
    // Which weights the unnamed ones are.
    let mut known: Vec<(String, String)> = Vec::new();
    for node in &mut parts.nodes {
        let operator = node.text(field::NODE_OPERATOR);
        if operator == "Abs" {
            // The built-in head does not see the sign.
            node.0.retain(|(number, _)| *number != field::NODE_OPERATOR);
            *node = std::mem::take(node).with(field::NODE_OPERATOR, "Identity");
        }
        for input in node.texts(field::NODE_INPUT) {
            if parts.weights.contains_key(&input) {
                let name = match (operator.as_str(), input.starts_with(UNNAMED)) {
                    ("MatMul", true) => matrices.next(),
                    (_, true) => positions.next(),
                    (_, false) => Some(input.clone()),
                };
                known.push((input, name.ok_or_else(|| unlike("number of weights"))?));
            }
        }
    }
    let mut stored = Vec::new();
    for (stands, name) in known {
        let sizes = parts.weights.get(&stands).and_then(|tensor| tensor.numbers(field::TENSOR_SIZES));
        let mut sizes = sizes.ok_or_else(|| unlike("weight"))?;
        if name == "embed.weight" {
            sizes[0] = 2 * channels as u64;
        }
        let values = weights(&name).ok_or_else(|| unlike(&name))?;
        if values.len() as u64 != sizes.iter().product::<u64>() {
            return Err(unlike(&format!("size of {name}")));
        }
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        stored.push(tensor(&stands, &sizes, FLOAT, &raw));
    }
    let free = |name: &str| Message::default().with(2, name);
    let sizes =
        [free("batch"), free("rows"), free("columns"), Message::default().with_number(1, channels as u64)];
    parts.graph.0.retain(|(number, _)| ![field::GRAPH_NAME, field::GRAPH_INPUT].contains(number));
    parts.graph = std::mem::take(&mut parts.graph)
        .with(field::GRAPH_NAME, name)
        .with(field::GRAPH_INPUT, outlet("residuals", &sizes));
    let bytes = parts.write(parts.nodes.clone(), stored);
    refuse_external_data(&bytes)?;
    Ok(bytes)
}
