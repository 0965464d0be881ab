//! Refusal of ONNX files that refer to other files: external weights, or compiled code. A package must not
//! reach outside itself, and its hash does not cover other files. Such networks are refused before ONNX
//! Runtime sees them.
//!
//! Every message that can hold a tensor or a node is walked. Operators have an allow list: ONNX's own, none
//! of which names a file, and functions in the file itself. Other operators can do anything: ONNX Runtime's
//! `EPContext` has a path as an attribute.

use std::collections::BTreeSet;

use crate::error::{Error, ErrorKind, Result};

/// Messages in `onnx.proto3` that can hold tensors or nodes, directly or not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    Training,
    Graph,
    Function,
    Node,
    Attribute,
    SparseTensor,
    Tensor,
}

impl Message {
    /// The message in a field, if it is one of these.
    fn inner(self, field: u64) -> Option<Message> {
        Some(match (self, field) {
            (Message::Model, 7) | (Message::Training, 1 | 2) => Message::Graph,
            (Message::Model, 20) => Message::Training,
            (Message::Model, 25) => Message::Function,
            (Message::Graph, 1) | (Message::Function, 7) => Message::Node,
            (Message::Graph, 5) => Message::Tensor,
            (Message::Graph, 15) => Message::SparseTensor,
            (Message::Node, 5) | (Message::Function, 11) => Message::Attribute,
            (Message::Attribute, 5 | 10) | (Message::SparseTensor, 1 | 2) => Message::Tensor,
            (Message::Attribute, 6 | 11) => Message::Graph,
            (Message::Attribute, 22 | 23) => Message::SparseTensor,
            _ => return None,
        })
    }
}

/// Numbers of the fields that are read.
mod field {
    pub const NODE_OPERATOR: u64 = 4;
    pub const NODE_DOMAIN: u64 = 7;
    pub const FUNCTION_NAME: u64 = 1;
    pub const FUNCTION_DOMAIN: u64 = 10;
    pub const TENSOR_EXTERNAL_DATA: u64 = 13;
    pub const TENSOR_DATA_LOCATION: u64 = 14;
}

/// Limit for nested graphs, deeper than in any real network.
const MAX_DEPTH: usize = 64;

/// The operator for code in another file, in any domain.
const CONTEXT: &[u8] = b"EPContext";

/// Refuses an ONNX file that refers to other files, or could.
///
/// # Errors
/// [`ErrorKind::Model`] if it does, or if the bytes are not an ONNX file.
pub fn refuse_external_data(bytes: &[u8]) -> Result<()> {
    let refused = |text: String| Err(Error::new(ErrorKind::Model, text));
    let mut found = Found::default();
    let damaged = "not an ONNX file, or a damaged one";
    if found.walk(bytes, Message::Model, 0).is_none() {
        return refused(damaged.into());
    }
    if found.external {
        return refused(
            "the network keeps its weights in another file; save it as a single ONNX file".into(),
        );
    }
    if !found.graph {
        return refused(damaged.into());
    }
    let context = |of: &BTreeSet<Named>| of.iter().any(|(_, operator)| *operator == CONTEXT);
    if context(&found.nodes) || context(&found.functions) {
        return refused(
            "the network has a node EPContext, which runs code from another file; export the original network as a \
             single ONNX file"
                .into(),
        );
    }
    // Old versions of the format have no functions. A function with the name of ONNX Runtime's operator would
    // hide it.
    let own = |node: &Named| found.functions.contains(node) && !node.0.starts_with(b"com.m");
    let known = |node: &&Named| matches!(node.0, b"" | b"ai.onnx") || own(node);
    match found.nodes.iter().find(|node| !known(node)) {
        None => Ok(()),
        Some((domain, operator)) => refused(format!(
            "the network has the node {} of {}, which is not an ONNX operator and could read other files; export the \
             network with ONNX operators only",
            text(operator),
            text(domain)
        )),
    }
}

/// The operators of an ONNX file's nodes.
#[cfg(test)]
pub fn operators(bytes: &[u8]) -> BTreeSet<String> {
    let mut found = Found::default();
    assert!(found.walk(bytes, Message::Model, 0).is_some(), "not an ONNX file");
    found.nodes.into_iter().map(|(_, operator)| text(operator)).collect()
}

/// A domain and a name in it.
type Named<'a> = (&'a [u8], &'a [u8]);

/// Findings of a walk through a file.
#[derive(Default)]
struct Found<'a> {
    /// A graph that is not empty.
    graph: bool,
    /// A tensor with external data.
    external: bool,
    /// Operators of nodes.
    nodes: BTreeSet<Named<'a>>,
    /// Functions in the file.
    functions: BTreeSet<Named<'a>>,
}

impl<'a> Found<'a> {
    /// `None` if the bytes are malformed.
    fn walk(&mut self, mut bytes: &'a [u8], message: Message, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        // If a text comes twice, every reader takes the last.
        let mut named: Named = (b"", b"");
        while !bytes.is_empty() {
            // Other readers cut a longer key to 32 bits, and would see another field.
            let key = u32::try_from(varint(&mut bytes)?).ok()?;
            let (number, wire_type) = (u64::from(key >> 3), key & 7);
            if number == 0 {
                return None;
            }
            let value = match wire_type {
                0 => {
                    let value = varint(&mut bytes)?;
                    self.external |=
                        message == Message::Tensor && number == field::TENSOR_DATA_LOCATION && value != 0;
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
            match (message, number) {
                (Message::Node, field::NODE_DOMAIN) | (Message::Function, field::FUNCTION_DOMAIN) => {
                    named.0 = value;
                }
                (Message::Node, field::NODE_OPERATOR) | (Message::Function, field::FUNCTION_NAME) => {
                    named.1 = value;
                }
                (Message::Tensor, field::TENSOR_EXTERNAL_DATA) => self.external = true,
                _ => {}
            }
            if let Some(inner) = message.inner(number) {
                self.graph |= message == Message::Model && inner == Message::Graph && !value.is_empty();
                self.walk(value, inner, depth + 1)?;
            }
        }
        match message {
            Message::Node => drop(self.nodes.insert(named)),
            Message::Function => drop(self.functions.insert(named)),
            _ => {}
        }
        Some(())
    }
}

/// A name from a file, for a message.
fn text(name: &[u8]) -> String {
    const LONGEST: usize = 60;
    format!("{:?}", String::from_utf8_lossy(&name[..name.len().min(LONGEST)]))
}

pub(super) fn varint(bytes: &mut &[u8]) -> Option<u64> {
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

pub(super) fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (value, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(value)
}
