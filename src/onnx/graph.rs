//! Parts of ONNX files, read and made. Numbers are those of `onnx.proto3`.

use std::collections::{BTreeMap, BTreeSet};

use super::message::{Message, Value};

/// Numbers of fields.
pub(super) mod field {
    pub const MODEL_GRAPH: u32 = 7;
    pub const GRAPH_NODE: u32 = 1;
    pub const GRAPH_NAME: u32 = 2;
    pub const GRAPH_WEIGHT: u32 = 5;
    pub const GRAPH_INPUT: u32 = 11;
    pub const GRAPH_OUTPUT: u32 = 12;
    pub const NODE_INPUT: u32 = 1;
    pub const NODE_OUTPUT: u32 = 2;
    pub const NODE_NAME: u32 = 3;
    pub const NODE_OPERATOR: u32 = 4;
    pub const NODE_ATTRIBUTE: u32 = 5;
    pub const ATTRIBUTE_NAME: u32 = 1;
    pub const ATTRIBUTE_NUMBER: u32 = 3;
    pub const ATTRIBUTE_NUMBERS: u32 = 8;
    pub const ATTRIBUTE_TYPE: u32 = 20;
    pub const TENSOR_SIZES: u32 = 1;
    pub const TENSOR_TYPE: u32 = 2;
    pub const TENSOR_FLOATS: u32 = 4;
    pub const TENSOR_NAME: u32 = 8;
    pub const TENSOR_RAW: u32 = 9;
    pub const OUTLET_NAME: u32 = 1;
    pub const OUTLET_TYPE: u32 = 2;
}

/// Types of elements.
pub(super) const FLOAT: u64 = 1;
pub(super) const UINT8: u64 = 2;
pub(super) const INT8: u64 = 3;
pub(super) const INT32: u64 = 6;

/// Types of attributes: a whole number, and several.
const WHOLE: u64 = 2;
const WHOLES: u64 = 7;

/// An ONNX file in parts.
pub(super) struct Parts {
    /// Without the graph.
    pub model: Message,
    /// Without nodes and weights.
    pub graph: Message,
    pub nodes: Vec<Message>,
    /// By their names.
    pub weights: BTreeMap<String, Message>,
}

impl Parts {
    pub fn read(bytes: &[u8]) -> Option<Parts> {
        let (mut model, mut graph) = (Message::read(bytes)?, Message::default());
        for bytes in model.all(field::MODEL_GRAPH) {
            graph.0.extend(Message::read(bytes)?.0);
        }
        model.0.retain(|(field, _)| *field != field::MODEL_GRAPH);
        let nodes = graph.all(field::GRAPH_NODE).map(Message::read).collect::<Option<_>>()?;
        let weights = graph.all(field::GRAPH_WEIGHT).map(Message::read);
        let named = |tensor: Message| (tensor.text(field::TENSOR_NAME), tensor);
        let weights = weights.map(|tensor| tensor.map(named)).collect::<Option<_>>()?;
        graph.0.retain(|(field, _)| ![field::GRAPH_NODE, field::GRAPH_WEIGHT].contains(field));
        Some(Parts { model, graph, nodes, weights })
    }

    /// The file with these nodes and weights. Weights that no node reads are left out.
    pub fn write(&self, nodes: Vec<Message>, weights: Vec<Message>) -> Vec<u8> {
        let read: BTreeSet<String> = nodes.iter().flat_map(|node| node.texts(field::NODE_INPUT)).collect();
        let mut graph = Message::default();
        for node in nodes {
            graph = graph.with(field::GRAPH_NODE, node.write());
        }
        graph.0.extend(self.graph.0.iter().cloned());
        for tensor in weights.iter().filter(|tensor| read.contains(&tensor.text(field::TENSOR_NAME))) {
            graph = graph.with(field::GRAPH_WEIGHT, tensor.write());
        }
        self.model.clone().with(field::MODEL_GRAPH, graph.write()).write()
    }
}

pub(super) fn tensor(name: &str, sizes: &[u64], kind: u64, raw: &[u8]) -> Message {
    let sized =
        sizes.iter().fold(Message::default(), |tensor, &n| tensor.with_number(field::TENSOR_SIZES, n));
    sized.with_number(field::TENSOR_TYPE, kind).with(field::TENSOR_NAME, name).with(field::TENSOR_RAW, raw)
}

pub(super) fn node(operator: &str, inputs: &[&str], output: &str) -> Message {
    let node = inputs.iter().fold(Message::default(), |node, input| node.with(field::NODE_INPUT, input));
    let node = node.with(field::NODE_OUTPUT, output).with(field::NODE_NAME, output);
    node.with(field::NODE_OPERATOR, operator)
}

pub(super) fn attribute(name: &str, number: u64) -> Vec<u8> {
    let attribute = Message::default().with(field::ATTRIBUTE_NAME, name);
    attribute.with_number(field::ATTRIBUTE_NUMBER, number).with_number(field::ATTRIBUTE_TYPE, WHOLE).write()
}

/// An input or an output of floats. An empty size is open.
pub(super) fn outlet(name: &str, sizes: &[Message]) -> Vec<u8> {
    let shape = sizes.iter().fold(Message::default(), |shape, size| shape.with(1, size.write()));
    let kind = Message::default().with_number(1, FLOAT).with(2, shape.write());
    let kind = Message::default().with(1, kind.write());
    Message::default().with(field::OUTLET_NAME, name).with(field::OUTLET_TYPE, kind.write()).write()
}

/// The network with its output as `[N, rows, columns, channels]` instead of `[N, channels, rows, columns]`, and that
/// output's name. `None` if the bytes are malformed.
pub(super) fn channels_last(bytes: &[u8], output: &str) -> Option<(Vec<u8>, String)> {
    let mut model = Message::read(bytes)?;
    for (number, value) in &mut model.0 {
        if let (field::MODEL_GRAPH, Value::Bytes(bytes)) = (*number, value) {
            let mut graph = Message::read(bytes)?;
            graph.0.retain(|(field, _)| *field != field::GRAPH_OUTPUT);
            *bytes = graph.write();
        }
    }
    let last = format!("{output}/channels last");
    let order = [0, 2, 3, 1]
        .into_iter()
        .fold(Message::default(), |order, axis| order.with_number(field::ATTRIBUTE_NUMBERS, axis));
    let order = order.with(field::ATTRIBUTE_NAME, "perm").with_number(field::ATTRIBUTE_TYPE, WHOLES);
    let transpose = node("Transpose", &[output], &last).with(field::NODE_ATTRIBUTE, order.write());
    // A message that is there twice is one with the fields of both.
    let added = Message::default()
        .with(field::GRAPH_NODE, transpose.write())
        .with(field::GRAPH_OUTPUT, outlet(&last, &<[Message; 4]>::default()));
    Some((model.with(field::MODEL_GRAPH, added.write()).write(), last))
}
