//! ONNX files may keep weights in other files, named by path. A package must not reach outside itself, and what is
//! not in the file is not covered by its hash, so such networks are refused before ONNX Runtime sees them.
//!
//! Only as much of the protocol-buffer format is read as it takes to find such references.

use crate::error::{Error, ErrorKind, Result};

/// Field numbers of the messages in `onnx.proto3` that lead to tensors.
mod field {
    pub const MODEL_GRAPH: u64 = 7;
    pub const MODEL_FUNCTIONS: u64 = 25;
    pub const GRAPH_NODE: u64 = 1;
    pub const GRAPH_INITIALIZER: u64 = 5;
    pub const GRAPH_SPARSE_INITIALIZER: u64 = 15;
    pub const FUNCTION_NODE: u64 = 7;
    pub const FUNCTION_ATTRIBUTE: u64 = 11;
    pub const NODE_ATTRIBUTE: u64 = 5;
    pub const ATTRIBUTE_TENSOR: u64 = 5;
    pub const ATTRIBUTE_GRAPH: u64 = 6;
    pub const ATTRIBUTE_TENSORS: u64 = 10;
    pub const ATTRIBUTE_GRAPHS: u64 = 11;
    pub const ATTRIBUTE_SPARSE_TENSOR: u64 = 22;
    pub const ATTRIBUTE_SPARSE_TENSORS: u64 = 23;
    pub const SPARSE_VALUES: u64 = 1;
    pub const SPARSE_INDICES: u64 = 2;
    pub const TENSOR_EXTERNAL_DATA: u64 = 13;
    pub const TENSOR_DATA_LOCATION: u64 = 14;
}

#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Function,
    Node,
    Attribute,
    SparseTensor,
    Tensor,
}

/// Deeper nesting of graphs than any real network has.
const MAX_DEPTH: usize = 64;

/// Refuses an ONNX file that refers to other files.
///
/// # Errors
/// [`ErrorKind::Model`] when it does, or when the bytes are not an ONNX file at all.
pub fn refuse_external_data(bytes: &[u8]) -> Result<()> {
    match has_external_data(bytes, Message::Model, 0) {
        Some(false) if !bytes.is_empty() => Ok(()),
        Some(true) => Err(Error::new(
            ErrorKind::Model,
            "the network keeps its weights in another file; save it as a single ONNX file",
        )),
        _ => Err(Error::new(ErrorKind::Model, "not an ONNX file, or a damaged one")),
    }
}

/// `None` when the bytes are malformed.
fn has_external_data(mut bytes: &[u8], message: Message, depth: usize) -> Option<bool> {
    if depth > MAX_DEPTH {
        return None;
    }
    while !bytes.is_empty() {
        // Other readers cut a longer key down to 32 bits, and would see another field than is looked at here.
        let key = u32::try_from(varint(&mut bytes)?).ok()?;
        let (number, wire_type) = (u64::from(key >> 3), key & 7);
        let value: &[u8] = match wire_type {
            0 => {
                let value = varint(&mut bytes)?;
                if matches!(message, Message::Tensor) && number == field::TENSOR_DATA_LOCATION && value != 0 {
                    return Some(true);
                }
                continue;
            }
            1 => {
                take(&mut bytes, 8)?;
                continue;
            }
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                take(&mut bytes, length)?
            }
            5 => {
                take(&mut bytes, 4)?;
                continue;
            }
            _ => return None,
        };
        let inner = match (message, number) {
            (Message::Model, field::MODEL_GRAPH) => Message::Graph,
            (Message::Model, field::MODEL_FUNCTIONS) => Message::Function,
            (Message::Graph, field::GRAPH_NODE) | (Message::Function, field::FUNCTION_NODE) => Message::Node,
            (Message::Graph, field::GRAPH_INITIALIZER) => Message::Tensor,
            (Message::Graph, field::GRAPH_SPARSE_INITIALIZER) => Message::SparseTensor,
            (Message::Node, field::NODE_ATTRIBUTE) | (Message::Function, field::FUNCTION_ATTRIBUTE) => {
                Message::Attribute
            }
            (Message::Attribute, field::ATTRIBUTE_TENSOR | field::ATTRIBUTE_TENSORS) => Message::Tensor,
            (Message::Attribute, field::ATTRIBUTE_GRAPH | field::ATTRIBUTE_GRAPHS) => Message::Graph,
            (Message::Attribute, field::ATTRIBUTE_SPARSE_TENSOR | field::ATTRIBUTE_SPARSE_TENSORS) => {
                Message::SparseTensor
            }
            (Message::SparseTensor, field::SPARSE_VALUES | field::SPARSE_INDICES) => Message::Tensor,
            (Message::Tensor, field::TENSOR_EXTERNAL_DATA) => return Some(true),
            _ => continue,
        };
        if has_external_data(value, inner, depth + 1)? {
            return Some(true);
        }
    }
    Some(false)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (value, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(value)
}
