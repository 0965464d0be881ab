//! Protocol buffers as a list of fields: to change parts of an ONNX file and keep the others as they are.

use super::external::{take, varint};

/// A field's value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Number(u64),
    Eight([u8; 8]),
    /// A text, a message, or packed numbers.
    Bytes(Vec<u8>),
    Four([u8; 4]),
}

/// A message: its fields by number, in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Message(pub Vec<(u32, Value)>);

impl Message {
    /// `None` if the bytes are malformed.
    pub fn read(mut bytes: &[u8]) -> Option<Message> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = u32::try_from(varint(&mut bytes)?).ok()?;
            let value = match key & 7 {
                0 => Value::Number(varint(&mut bytes)?),
                1 => Value::Eight(take(&mut bytes, 8)?.try_into().ok()?),
                2 => {
                    let length = usize::try_from(varint(&mut bytes)?).ok()?;
                    Value::Bytes(take(&mut bytes, length)?.to_vec())
                }
                5 => Value::Four(take(&mut bytes, 4)?.try_into().ok()?),
                _ => return None,
            };
            fields.push((key >> 3, value));
        }
        Some(Message(fields))
    }

    pub fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (field, value) in &self.0 {
            let (kind, content): (u32, &[u8]) = match value {
                Value::Number(_) => (0, &[]),
                Value::Eight(content) => (1, content),
                Value::Bytes(content) => (2, content),
                Value::Four(content) => (5, content),
            };
            push(&mut bytes, u64::from(field << 3 | kind));
            match value {
                Value::Number(number) => push(&mut bytes, *number),
                Value::Bytes(_) => push(&mut bytes, content.len() as u64),
                _ => {}
            }
            bytes.extend_from_slice(content);
        }
        bytes
    }

    pub fn with(mut self, field: u32, bytes: impl AsRef<[u8]>) -> Message {
        self.0.push((field, Value::Bytes(bytes.as_ref().to_vec())));
        self
    }

    pub fn with_number(mut self, field: u32, number: u64) -> Message {
        self.0.push((field, Value::Number(number)));
        self
    }

    /// The contents of a repeated field.
    pub fn all(&self, field: u32) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter_map(move |(number, value)| match value {
            Value::Bytes(bytes) if *number == field => Some(bytes.as_slice()),
            _ => None,
        })
    }

    /// The texts of a repeated field.
    pub fn texts(&self, field: u32) -> Vec<String> {
        self.all(field).map(|text| String::from_utf8_lossy(text).into_owned()).collect()
    }

    /// A text, empty if it is not there.
    pub fn text(&self, field: u32) -> String {
        self.texts(field).pop().unwrap_or_default()
    }

    /// Numbers of a repeated field, packed or not.
    pub fn numbers(&self, field: u32) -> Option<Vec<u64>> {
        let mut numbers = Vec::new();
        for (number, value) in &self.0 {
            match value {
                Value::Number(n) if *number == field => numbers.push(*n),
                Value::Bytes(bytes) if *number == field => {
                    let mut rest = bytes.as_slice();
                    while !rest.is_empty() {
                        numbers.push(varint(&mut rest)?);
                    }
                }
                _ => {}
            }
        }
        Some(numbers)
    }
}

/// Appends a varint.
fn push(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}
