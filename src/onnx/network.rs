//! A network with one image input and one feature-map output.

use ndarray::{Array4, ArrayView4, Ix4};
use ort::session::Session;
use ort::value::{TensorElementType, TensorRef, ValueType};

use super::providers::{self, Execution, Provider};
use super::{Runtime, refuse_external_data};
use crate::error::{Error, ErrorKind, Result};

/// A loaded network that maps `[N, 3, height, width]` to `[N, channels, rows, cols]`, both `f32`.
pub struct Network {
    session: Session,
    input: String,
    output: String,
    provider: Provider,
}

impl Network {
    /// Loads a network from the bytes of an ONNX file.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when the bytes are not an ONNX network, keep weights in other files, or have other inputs
    /// and outputs than one of rank 4 each; [`ErrorKind::Runtime`] when the required provider cannot be used, or none.
    pub fn from_bytes(runtime: &Runtime, bytes: &[u8], execution: &Execution) -> Result<Self> {
        refuse_external_data(bytes)?;
        let (session, provider) = providers::session(runtime, bytes, execution)?;
        let input = only(session.inputs(), "input", Some(3))?;
        let output = only(session.outputs(), "output", None)?;
        Ok(Network { session, input, output, provider })
    }

    /// What it really runs on.
    pub fn provider(&self) -> Provider {
        self.provider
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
