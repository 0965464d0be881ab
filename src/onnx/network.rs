//! A network with one image input and one feature-map output.

use std::num::NonZeroUsize;

use ndarray::{Array4, ArrayView4, Ix4};
use ort::session::Session;
use ort::value::{TensorElementType, TensorRef, ValueType};

use super::{Runtime, refuse_external_data};
use crate::error::{Error, ErrorKind, Result};

/// How many threads ONNX Runtime uses within one network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Threads {
    /// One per core.
    #[default]
    All,
    /// This many.
    Exactly(NonZeroUsize),
}

/// A loaded network that maps `[N, 3, height, width]` to `[N, channels, rows, cols]`, both `f32`.
pub struct Network {
    session: Session,
    input: String,
    output: String,
}

impl Network {
    /// Loads a network from the bytes of an ONNX file.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when the bytes are not an ONNX network, keep weights in other files, or have other inputs
    /// and outputs than one of rank 4 each.
    pub fn from_bytes(runtime: &Runtime, bytes: &[u8], threads: Threads) -> Result<Self> {
        refuse_external_data(bytes)?;
        let refused =
            |e: ort::Error| Error::new(ErrorKind::Model, "ONNX Runtime refused the network").with_source(e);
        // Without this key ONNX Runtime guesses the format, and one of those it knows may name other files.
        let mut builder = Session::builder(runtime.environment())
            .map_err(refused)?
            .with_config_entry("session.load_model_format", "ONNX")
            .map_err(|e| refused(e.into()))?;
        if let Threads::Exactly(n) = threads {
            builder = builder.with_intra_threads(n.get()).map_err(|e| refused(e.into()))?;
        }
        let session = builder.commit_from_memory(bytes).map_err(refused)?;
        let input = only(session.inputs(), "input", Some(3))?;
        let output = only(session.outputs(), "output", None)?;
        Ok(Network { session, input, output })
    }

    /// Runs the network and hands its output `[N, channels, rows, cols]` to `read`.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when ONNX Runtime cannot run it on an input of this size.
    pub fn run<T>(
        &mut self,
        input: &Array4<f32>,
        read: impl FnOnce(ArrayView4<f32>) -> Result<T>,
    ) -> Result<T> {
        let failed = |e: ort::Error| {
            Error::new(ErrorKind::Model, format!("the network failed on an input of {:?}", input.dim()))
                .with_source(e)
        };
        let tensor = TensorRef::from_array_view(input).map_err(failed)?;
        let outputs = self.session.run(ort::inputs![self.input.as_str() => tensor]).map_err(failed)?;
        let output = outputs[self.output.as_str()].try_extract_array::<f32>().map_err(failed)?;
        let output = output.into_dimensionality::<Ix4>().map_err(|e| {
            Error::new(ErrorKind::Model, "the network's output does not have four dimensions").with_source(e)
        })?;
        read(output)
    }
}

/// The only outlet's name, if it is an `f32` tensor of rank 4 (with this many channels).
fn only(outlets: &[ort::value::Outlet], what: &str, channels: Option<i64>) -> Result<String> {
    let wanted = match channels {
        Some(n) => format!("one {what} of 32-bit floats [N, {n}, height, width]"),
        None => format!("one {what} of 32-bit floats [N, channels, rows, cols]"),
    };
    let wrong = |found: String| {
        Err(Error::new(
            ErrorKind::Model,
            format!(
                "the network must have {wanted}, but has {found}; export it with `weakrest-export backbone`"
            ),
        ))
    };
    let [outlet] = outlets else { return wrong(format!("{} {what}s", outlets.len())) };
    match outlet.dtype() {
        ValueType::Tensor { ty: TensorElementType::Float32, shape, .. }
            if shape.len() == 4 && channels.is_none_or(|n| shape[1] == n || shape[1] == -1) =>
        {
            Ok(outlet.name().to_owned())
        }
        other => wrong(other.to_string()),
    }
}
