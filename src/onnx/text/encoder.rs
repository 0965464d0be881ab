//! A sentence encoder: a tokenizer, and a network for its pieces.

use std::path::Path;

use ndarray::Array2;
use ort::session::Session;
use ort::value::TensorRef;
use tokenizers::Tokenizer;

use super::check_text;
use crate::error::{Error, ErrorKind, Result};
use crate::onnx::providers::{self, Execution};
use crate::onnx::{Runtime, captured, check_finite, refuse_external_data};

/// The network's file in an encoder's folder.
const NETWORK: &str = "text-encoder.onnx";
/// The tokenizer's file.
const TOKENIZER: &str = "tokenizer.json";

/// A sentence encoder, loaded and ready.
pub struct TextEncoder {
    session: Session,
    tokenizer: Tokenizer,
}

impl TextEncoder {
    /// Loads `text-encoder.onnx` and `tokenizer.json` from a folder. `weakrest-export text-encoder` writes
    /// them.
    ///
    /// # Errors
    /// - [`ErrorKind::Io`] if a file cannot be read.
    /// - [`ErrorKind::Model`] if a file is not a network or not a tokenizer.
    /// - [`ErrorKind::Runtime`] as [`crate::onnx::Network::backbone`].
    pub fn open(runtime: &Runtime, folder: &Path, execution: &Execution) -> Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).map_err(|e| Error::io("read", &path, e))
        };
        let (onnx, words) = (read(NETWORK)?, read(TOKENIZER)?);
        refuse_external_data(&onnx)?;
        let sizes = Default::default();
        let (session, _) = {
            let _making = captured::making();
            providers::first(execution, |provider| {
                providers::attempt(runtime, &onnx, execution, &sizes, provider, false)
            })?
        };
        let place = folder.join(TOKENIZER);
        let mut tokenizer = Tokenizer::from_bytes(words).map_err(|e| {
            Error::new(ErrorKind::Model, "is not a tokenizer").with_source(e).within(place.display())
        })?;
        // The network takes a limited number of pieces. The tokenizer's file sets it.
        if tokenizer.get_truncation().is_none() {
            let text = "has no truncation; make the text encoder again with weakrest-export";
            return Err(Error::new(ErrorKind::Model, text).within(place.display()));
        }
        tokenizer.with_padding(None);
        Ok(TextEncoder { session, tokenizer })
    }

    /// The vector of a text, of length 1.
    ///
    /// # Errors
    /// - [`ErrorKind::Usage`] as [`check_text`].
    /// - [`ErrorKind::Model`] if the network fails.
    /// - [`ErrorKind::NotFinite`] if its output has NaN.
    pub fn encode(&mut self, text: &str) -> Result<Vec<f32>> {
        check_text(text)?;
        let failed = |what: &str| Error::new(ErrorKind::Model, format!("the text encoder failed: {what}"));
        let pieces = self.tokenizer.encode(text, true).map_err(|e| failed("its tokenizer").with_source(e))?;
        let ids: Vec<i64> = pieces.get_ids().iter().map(|id| i64::from(*id)).collect();
        let ids =
            Array2::from_shape_vec((1, ids.len()), ids).map_err(|e| failed("its pieces").with_source(e))?;
        let real = Array2::<i64>::ones(ids.dim());
        let run = |e: ort::Error| failed("its network").with_source(e);
        let inputs = ort::inputs![
            "pieces" => TensorRef::from_array_view(&ids).map_err(run)?,
            "real" => TensorRef::from_array_view(&real).map_err(run)?
        ];
        let _running = captured::running();
        let outputs = self.session.run(inputs).map_err(run)?;
        let vector = outputs["vectors"].try_extract_array::<f32>().map_err(run)?;
        let vector: Vec<f32> = vector.iter().copied().collect();
        check_finite("the text encoder's output", &vector)?;
        Ok(vector)
    }
}
