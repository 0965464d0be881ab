//! Prompts: words for defects, with their vectors by a text encoder.

use std::collections::HashMap;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::damaged;
use crate::error::Result;

const VECTORS: &str = "vectors";
const TEXTS: &str = "prompts";

/// A description of a defect.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// Kind of defect, such as `scratch`.
    pub kind: String,
    /// The words, such as `a thin scratch`.
    pub text: String,
    /// Its vector.
    pub vector: Vec<f32>,
}

/// The prompts that a network for clicks was trained with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prompts(pub Vec<Prompt>);

#[derive(Serialize, Deserialize)]
struct Text {
    #[serde(rename = "type")]
    kind: String,
    text: String,
}

impl Prompts {
    /// Reads a safetensors file with `vectors`, `f32`, `[prompts, length]`, and in its metadata `prompts`, a
    /// JSON list of `{"type": …, "text": …}` in the same order.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Package`] if it is not such a file, or a number is not finite.
    pub fn from_bytes(bytes: &[u8], length: usize) -> Result<Self> {
        let wrong = |what: &str| damaged(format!("the prompts are damaged: {what}"));
        let failed = |e: safetensors::SafeTensorError| wrong("not a safetensors file").with_source(e);
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(failed)?;
        let listed = header.metadata().as_ref().and_then(|m| m.get(TEXTS));
        let listed = listed.ok_or_else(|| wrong("their texts are missing"))?;
        let texts: Vec<Text> =
            serde_json::from_str(listed).map_err(|e| wrong("their texts cannot be read").with_source(e))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(failed)?;
        let vectors = tensors.tensor(VECTORS).map_err(failed)?;
        if vectors.dtype() != Dtype::F32 || vectors.shape() != [texts.len(), length] {
            return Err(wrong("there is not a vector of the network's length for each text"));
        }
        let (values, _) = vectors.data().as_chunks::<4>();
        let values: Vec<f32> = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        if values.iter().any(|v| !v.is_finite()) {
            return Err(wrong("a number is not finite"));
        }
        let prompt = |(text, vector): (Text, &[f32])| Prompt {
            kind: text.kind,
            text: text.text,
            vector: vector.to_vec(),
        };
        Ok(Prompts(texts.into_iter().zip(values.chunks(length.max(1))).map(prompt).collect()))
    }

    /// Writes the same file, for vectors of this length.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Package`] if a vector has another length.
    pub fn to_bytes(&self, length: usize) -> Result<Vec<u8>> {
        let failed = |e: safetensors::SafeTensorError| damaged("cannot store prompts".into()).with_source(e);
        let texts: Vec<Text> =
            self.0.iter().map(|p| Text { kind: p.kind.clone(), text: p.text.clone() }).collect();
        let texts = serde_json::to_string(&texts)
            .map_err(|e| damaged("cannot store prompts".into()).with_source(e))?;
        let bytes: Vec<u8> = self.0.iter().flat_map(|p| &p.vector).flat_map(|v| v.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![self.0.len(), length], &bytes).map_err(failed)?;
        let metadata = HashMap::from([(TEXTS.to_owned(), texts)]);
        safetensors::serialize([(VECTORS, view)], Some(metadata)).map_err(failed)
    }

    /// The vector of a text, or of the first prompt of a kind of defect. Case and outer blanks are ignored.
    #[cfg(any(test, feature = "workshop"))]
    pub fn find(&self, text: &str) -> Option<&[f32]> {
        let plain = |text: &str| text.trim().to_lowercase();
        let wanted = plain(text);
        let by_text = self.0.iter().find(|p| plain(&p.text) == wanted);
        let found = by_text.or_else(|| self.0.iter().find(|p| plain(&p.kind) == wanted));
        found.map(|p| p.vector.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: usize = 384;

    fn two() -> Prompts {
        let prompt = |kind: &str, text: &str, value| Prompt {
            kind: kind.into(),
            text: text.into(),
            vector: vec![value; LENGTH],
        };
        Prompts(vec![prompt("scratch", "a thin scratch", 0.5), prompt("stain", "a dark stain", -1.0)])
    }

    #[test]
    fn prompts_survive_their_file_and_are_found_by_text_and_kind() {
        let read = Prompts::from_bytes(&two().to_bytes(LENGTH).unwrap(), LENGTH).unwrap();
        assert_eq!(read, two());
        assert_eq!(read.find(" A thin SCRATCH ").unwrap()[0], 0.5);
        assert_eq!(read.find("stain").unwrap()[0], -1.0);
        assert_eq!(read.find("a hole"), None);
    }

    #[test]
    fn damaged_prompts_are_refused() {
        let mut nan = two();
        nan.0[0].vector[3] = f32::NAN;
        for bytes in [Vec::new(), b"what".to_vec(), nan.to_bytes(LENGTH).unwrap()] {
            assert!(Prompts::from_bytes(&bytes, LENGTH).is_err());
        }
        let mut short = two();
        short.0[0].vector.pop();
        assert!(short.to_bytes(LENGTH).is_err());
    }
}
