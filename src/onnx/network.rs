//! A network with one input and one output: a backbone or a head.

use ndarray::{Array4, ArrayView4, Ix4};
use ort::session::Session;
use ort::value::{TensorElementType, TensorRef, ValueType};

use super::providers::{self, Execution, Provider};
use super::{Runtime, refuse_external_data};
use crate::error::{Error, ErrorKind, Result};

/// A loaded network. Its input and output are `f32` tensors of rank 4.
pub struct Network {
    session: Session,
    input: String,
    output: String,
    provider: Provider,
}

impl Network {
    /// Loads a backbone, `[N, 3, height, width]` to `[N, channels, rows, cols]`, from the bytes of an ONNX file.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] when the bytes are not an ONNX network, keep weights in other files, or have other inputs
    /// and outputs than one of these shapes each; [`ErrorKind::Runtime`] when the required provider cannot be used, or none.
    pub fn backbone(runtime: &Runtime, bytes: &[u8], execution: &Execution) -> Result<Self> {
        let input = Shape([("N", None), ("3", Some(3)), ("height", None), ("width", None)]);
        let output = Shape([("N", None), ("channels", None), ("rows", None), ("cols", None)]);
        Self::load(runtime, bytes, execution, input, output)
    }

    /// Loads a head, `[N, rows, cols, channels]` to `[N, rows, cols, 2]`, from the bytes of an ONNX file.
    ///
    /// # Errors
    /// As [`Network::backbone`].
    pub fn head(runtime: &Runtime, bytes: &[u8], execution: &Execution, channels: usize) -> Result<Self> {
        let text = channels.to_string();
        let input = Shape([("N", None), ("rows", None), ("cols", None), (&text, Some(channels as i64))]);
        let output = Shape([("N", None), ("rows", None), ("cols", None), ("2", Some(2))]);
        Self::load(runtime, bytes, execution, input, output)
    }

    fn load(
        runtime: &Runtime,
        bytes: &[u8],
        execution: &Execution,
        input: Shape,
        output: Shape,
    ) -> Result<Self> {
        refuse_external_data(bytes)?;
        let (session, provider) = providers::session(runtime, bytes, execution)?;
        let input = only(session.inputs(), "input", input)?;
        let output = only(session.outputs(), "output", output)?;
        Ok(Network { session, input, output, provider })
    }

    /// What it really runs on.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// Runs the network and hands its output to `read`.
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

/// Each dimension's name and, where it must be one, its size.
struct Shape<'a>([(&'a str, Option<i64>); 4]);

/// The only outlet's name, if it is an `f32` tensor of this shape. Sizes that a network leaves open fit.
fn only(outlets: &[ort::value::Outlet], what: &str, wanted: Shape) -> Result<String> {
    let wrong = |found: String| {
        let names = wanted.0.map(|(name, _)| name).join(", ");
        Err(Error::new(
            ErrorKind::Model,
            format!(
                "the network must have one {what} of 32-bit floats [{names}], but has {found}; export it with `weakrest-export`"
            ),
        ))
    };
    let [outlet] = outlets else { return wrong(format!("{} {what}s", outlets.len())) };
    match outlet.dtype() {
        ValueType::Tensor { ty: TensorElementType::Float32, shape, .. }
            if shape.len() == 4
                && wanted
                    .0
                    .iter()
                    .zip(shape.iter())
                    .all(|((_, size), &n)| n == -1 || size.is_none_or(|size| size == n)) =>
        {
            Ok(outlet.name().to_owned())
        }
        other => wrong(other.to_string()),
    }
}
