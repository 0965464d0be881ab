//! ONNX files may name other files: weights that lie elsewhere, code compiled before. A package must not reach outside
//! itself, and what is not in the file is not covered by its hash, so such networks are refused before ONNX Runtime sees them.
//!
//! Every message that may hold a tensor or a node is walked. Operators are a white list: those of ONNX itself, none of which
//! names a file, and functions that the file brings along. An operator of somebody else's may do anything, as ONNX Runtime's own
//! `EPContext` does, whose attribute is a path.

use std::collections::BTreeSet;

use crate::error::{Error, ErrorKind, Result};

/// Messages in `onnx.proto3` that hold tensors or nodes, or others that do.
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
    /// The message in a field, by its number, if it is one of these.
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

/// Field numbers of what is looked at itself.
mod field {
    pub const NODE_OPERATOR: u64 = 4;
    pub const NODE_DOMAIN: u64 = 7;
    pub const FUNCTION_NAME: u64 = 1;
    pub const FUNCTION_DOMAIN: u64 = 10;
    pub const TENSOR_EXTERNAL_DATA: u64 = 13;
    pub const TENSOR_DATA_LOCATION: u64 = 14;
}

/// Deeper nesting of graphs than any real network has.
const MAX_DEPTH: usize = 64;

/// The operator that stands for code in another file, whatever domain it claims.
const CONTEXT: &[u8] = b"EPContext";

/// Refuses an ONNX file that refers to other files, or may.
///
/// # Errors
/// [`ErrorKind::Model`] when it does, or when the bytes are not an ONNX file at all.
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
            "the network has a node EPContext, which runs code from another file; export the network itself as a single \
             ONNX file"
                .into(),
        );
    }
    // Old versions of the format have no functions: one by the name of ONNX Runtime's own operator would only hide that.
    let own = |node: &Named| found.functions.contains(node) && !node.0.starts_with(b"com.m");
    let known = |node: &&Named| matches!(node.0, b"" | b"ai.onnx") || own(node);
    match found.nodes.iter().find(|node| !known(node)) {
        None => Ok(()),
        Some((domain, operator)) => refused(format!(
            "the network has the node {} of {}, which is none of ONNX's own operators and may reach for other files; export \
             the network with ONNX's operators only",
            text(operator),
            text(domain)
        )),
    }
}

/// A domain and a name in it.
type Named<'a> = (&'a [u8], &'a [u8]);

/// What a walk through a file has met.
#[derive(Default)]
struct Found<'a> {
    /// A graph that holds anything.
    graph: bool,
    /// A tensor with its numbers elsewhere.
    external: bool,
    /// Operators of nodes.
    nodes: BTreeSet<Named<'a>>,
    /// Functions that nodes may call.
    functions: BTreeSet<Named<'a>>,
}

impl<'a> Found<'a> {
    /// `None` when the bytes are malformed.
    fn walk(&mut self, mut bytes: &'a [u8], message: Message, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        // Of a text that comes twice, every reader takes the last.
        let mut named: Named = (b"", b"");
        while !bytes.is_empty() {
            // Other readers cut a longer key down to 32 bits, and would see another field than is looked at here.
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

/// A name from a file, for people.
fn text(name: &[u8]) -> String {
    const LONGEST: usize = 60;
    format!("{:?}", String::from_utf8_lossy(&name[..name.len().min(LONGEST)]))
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
