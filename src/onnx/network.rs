//! A network with one output: a backbone, a head, or a network for clicks.

use std::collections::BTreeMap;
use std::sync::Arc;

use ndarray::{Array4, ArrayView4, ArrayViewMut4, Ix4};
use ort::session::{RunOptions, Session, SessionInputValue};
use ort::value::{Outlet, TensorElementType, TensorRef, ValueType};

use super::captured::{self, Source, Worker};
use super::providers::{self, Execution, Provider, Symbols};
use super::{Runtime, graph, refuse_external_data};
use crate::error::{Error, ErrorKind, Result};

/// Most sizes of inputs with a session of their own. Only pictures of different sizes need more than one.
const SESSIONS: usize = 4;

/// A loaded network. Its inputs and its output are `f32` tensors of rank 4.
///
/// The first run on inputs of a size makes a session for that size. ONNX Runtime then computes all shapes before it
/// runs; else they stay in the graph, and no GPU takes those nodes.
pub struct Network {
    runtime: &'static Runtime,
    bytes: Vec<u8>,
    execution: Execution,
    inputs: Vec<Input>,
    output: String,
    /// The last used one comes last.
    sessions: Vec<Sized>,
    options: Arc<RunOptions>,
}

/// An input's name, and the symbols of its sizes; no text for a fixed size.
struct Input {
    name: String,
    symbols: Vec<String>,
}

/// What runs inputs of these sizes, and on which provider.
struct Sized {
    sizes: Vec<[usize; 4]>,
    runs: Runs,
    provider: Provider,
}

enum Runs {
    Plain { session: Session, inputs: Vec<Array4<f32>> },
    Captured(Worker),
}

impl Network {
    /// Loads a backbone, `[N, 3, height, width]` to `[N, channels, rows, cols]`, from the bytes of an ONNX
    /// file. Here its output is `[N, rows, cols, channels]`: a cell's token lies in one piece.
    ///
    /// # Errors
    /// - [`ErrorKind::Model`] if the bytes are not an ONNX network, refer to other files, or have other
    ///   inputs and outputs.
    /// - [`ErrorKind::Runtime`] if the required provider, or no provider, can be loaded.
    pub fn backbone(runtime: &'static Runtime, bytes: &[u8], execution: &Execution) -> Result<Self> {
        let output = Shape([("N", None), ("channels", None), ("rows", None), ("cols", None)]);
        let mut network = Self::load(runtime, bytes, execution, &[("image", PICTURE)], output)?;
        (network.bytes, network.output) = graph::channels_last(&network.bytes, &network.output)
            .ok_or_else(|| Error::new(ErrorKind::Model, "not an ONNX file, or a damaged one"))?;
        Ok(network)
    }

    /// Loads a head, `[N, rows, cols, channels]` to `[N, rows, cols, 2]`, from the bytes of an ONNX file.
    ///
    /// # Errors
    /// As [`Network::backbone`].
    pub fn head(
        runtime: &'static Runtime,
        bytes: &[u8],
        execution: &Execution,
        channels: usize,
    ) -> Result<Self> {
        let output = Shape([("N", None), ("rows", None), ("cols", None), ("2", Some(2))]);
        Self::load(runtime, bytes, execution, &[("residuals", residuals(channels))], output)
    }

    /// Loads a network for clicks from the bytes of an ONNX file. Its inputs are residuals `[N, rows, cols,
    /// channels]`, the picture `[N, 3, height, width]`, guidance `[N, 3, cells down, cells across]` and a
    /// prompt's vector `[N, 1, 1, length]`. Its output is one logit per cell, `[N, cells down, cells across,
    /// 1]`.
    ///
    /// # Errors
    /// As [`Network::backbone`].
    #[cfg(any(test, feature = "workshop"))]
    pub fn adclick(
        runtime: &'static Runtime,
        bytes: &[u8],
        execution: &Execution,
        channels: usize,
        prompt: usize,
    ) -> Result<Self> {
        let guidance = Shape([("N", None), ("3", Some(3)), ("cells down", None), ("cells across", None)]);
        let prompt = Shape([("N", None), ("1", Some(1)), ("1", Some(1)), ("length", Some(prompt as i64))]);
        let inputs = [
            ("residuals", residuals(channels)),
            ("picture", PICTURE),
            ("guidance", guidance),
            ("prompt", prompt),
        ];
        Self::load(runtime, bytes, execution, &inputs, CELLS)
    }

    /// Loads a head that sees the picture: residuals `[N, rows, cols, channels]` and the picture `[N, 3,
    /// height, width]` to one logit per cell, `[N, cells down, cells across, 1]`.
    ///
    /// # Errors
    /// As [`Network::backbone`].
    pub fn seeing_head(
        runtime: &'static Runtime,
        bytes: &[u8],
        execution: &Execution,
        channels: usize,
    ) -> Result<Self> {
        let inputs = [("residuals", residuals(channels)), ("picture", PICTURE)];
        Self::load(runtime, bytes, execution, &inputs, CELLS)
    }

    fn load(
        runtime: &'static Runtime,
        bytes: &[u8],
        execution: &Execution,
        inputs: &[(&str, Shape)],
        output: Shape,
    ) -> Result<Self> {
        refuse_external_data(bytes)?;
        providers::check(runtime, execution)?;
        let session = providers::description(runtime, bytes)?;
        let inputs = match inputs {
            // Backbones of other programs have other names.
            [(_, shape)] => vec![only(session.inputs(), "input", *shape)?],
            _ => inputs
                .iter()
                .map(|(name, shape)| {
                    let named: Vec<&Outlet> =
                        session.inputs().iter().filter(|input| input.name() == *name).collect();
                    only(named, &format!("input {name:?}"), *shape)
                })
                .collect::<Result<_>>()?,
        };
        if session.inputs().len() != inputs.len() {
            let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
            let text = format!("the network has more inputs than {}", names.join(", "));
            return Err(Error::new(ErrorKind::Model, text));
        }
        let output = only(session.outputs(), "output", output)?.name;
        let options = execution.interrupt.options()?;
        let (bytes, execution, sessions) = (bytes.to_vec(), execution.clone(), Vec::new());
        Ok(Network { runtime, bytes, execution, inputs, output, sessions, options })
    }

    /// The provider that really ran it last. `None` before the first run.
    pub fn provider(&self) -> Option<Provider> {
        self.sessions.last().map(|sized| sized.provider)
    }

    /// The inputs' symbols for these sizes.
    fn symbols<'a>(&'a self, sizes: &'a [[usize; 4]]) -> Symbols<'a> {
        let open = |(input, sizes): (&'a Input, &'a [usize; 4])| {
            input.symbols.iter().zip(sizes).filter(|(symbol, _)| !symbol.is_empty())
        };
        let all = self.inputs.iter().zip(sizes).flat_map(open);
        // A symbol for different sizes says nothing.
        let mut found: BTreeMap<&str, Option<usize>> = BTreeMap::new();
        for (symbol, &size) in all {
            let known = found.entry(symbol).or_insert(Some(size));
            *known = known.filter(|known| *known == size);
        }
        found.into_iter().filter_map(|(symbol, size)| Some((symbol, size?))).collect()
    }

    /// Writes the graph that runs for inputs of these sizes on the CPU.
    #[cfg(test)]
    pub fn optimized(&self, sizes: &[[usize; 4]], path: &std::path::Path) -> Result<()> {
        providers::optimized(self.runtime, &self.bytes, &self.symbols(sizes), path)
    }

    /// Makes the session for inputs of these sizes the last one.
    fn choose(&mut self, sizes: &[[usize; 4]]) -> Result<()> {
        if let Some(at) = self.sessions.iter().position(|sized| sized.sizes == sizes) {
            self.sessions[at..].rotate_left(1);
            return Ok(());
        }
        let _making = captured::making();
        let (runs, provider) = providers::first(&self.execution, |provider| self.session(sizes, provider))?;
        if self.sessions.len() == SESSIONS {
            let _running = captured::running();
            self.sessions.remove(0);
        }
        self.sessions.push(Sized { sizes: sizes.to_vec(), runs, provider });
        Ok(())
    }

    /// What runs inputs of these sizes on this provider: a captured graph where that is possible.
    fn session(&self, sizes: &[[usize; 4]], provider: Provider) -> Result<Runs> {
        let symbols = self.symbols(sizes);
        if provider != Provider::Cpu && self.execution.graphs {
            let names = self.inputs.iter().map(|input| input.name.clone());
            let source = Source {
                runtime: self.runtime,
                provider,
                bytes: self.bytes.clone(),
                execution: self.execution.clone(),
                symbols: symbols.iter().map(|(symbol, size)| ((*symbol).to_owned(), *size)).collect(),
                inputs: names.zip(sizes.iter().copied()).collect(),
                output: self.output.clone(),
            };
            match Worker::new(source) {
                Ok(worker) => {
                    log::debug!("a network runs on {provider} as one captured graph");
                    return Ok(Runs::Captured(worker));
                }
                // Whether the provider works at all is the next session's to tell.
                Err(e) => log::info!("a network runs on {provider} without a captured graph: {}", e.chain()),
            }
        }
        let (runtime, bytes) = (self.runtime, &self.bytes);
        let session = providers::attempt(runtime, bytes, &self.execution, &symbols, provider, false)?;
        Ok(Runs::Plain { session, inputs: sizes.iter().map(|sizes| Array4::zeros(*sizes)).collect() })
    }

    /// As [`Network::run_in_place`], on these inputs.
    ///
    /// # Errors
    /// As [`Network::run_in_place`].
    pub fn run<const N: usize, T>(
        &mut self,
        inputs: [&Array4<f32>; N],
        read: impl FnOnce(ArrayView4<f32>) -> Result<T>,
    ) -> Result<T> {
        let fill = |places: [ArrayViewMut4<f32>; N]| {
            places.into_iter().zip(inputs).for_each(|(mut place, input)| place.assign(input));
            Ok(())
        };
        self.run_in_place(inputs.map(|input| input.dim().into()), fill, read)
    }

    /// Runs the network on inputs of these sizes, in the order of the loading function's description. `fill` writes
    /// every value of them in place, which saves a copy; `read` gets the output.
    ///
    /// # Errors
    /// - [`ErrorKind::Model`] if ONNX Runtime cannot run it on inputs of these sizes, or it was interrupted.
    /// - [`ErrorKind::Runtime`] if the required provider, or no provider, can run it.
    /// - Those of `fill` and `read`.
    pub fn run_in_place<const N: usize, T>(
        &mut self,
        sizes: [[usize; 4]; N],
        fill: impl FnOnce([ArrayViewMut4<f32>; N]) -> Result<()>,
        read: impl FnOnce(ArrayView4<f32>) -> Result<T>,
    ) -> Result<T> {
        let failed = |e: ort::Error| {
            let sizes = sizes.map(|[a, b, c, d]| format!("{a}×{b}×{c}×{d}")).join(", ");
            Error::new(ErrorKind::Model, format!("the network failed on an input of {sizes}")).with_source(e)
        };
        self.choose(&sizes)?;
        let Some(Sized { runs, provider, .. }) = self.sessions.last_mut() else {
            return Err(Error::new(ErrorKind::Model, "the network has no session"));
        };
        match runs {
            Runs::Captured(worker) => {
                fill(all(worker.inputs()?)?)?;
                read(worker.run()?)
            }
            Runs::Plain { session, inputs } => {
                fill(all(inputs.iter_mut().map(|input| input.view_mut()))?)?;
                let mut named = Vec::with_capacity(N);
                for (Input { name, .. }, input) in self.inputs.iter().zip(&*inputs) {
                    let tensor = TensorRef::from_array_view(input).map_err(failed)?;
                    named.push((name.as_str(), SessionInputValue::from(tensor)));
                }
                let running = (*provider != Provider::Cpu).then(captured::running);
                let outputs = session.run_with_options(named, &self.options).map_err(failed)?;
                drop(running);
                let output = outputs[self.output.as_str()].try_extract_array::<f32>().map_err(failed)?;
                let output = output.into_dimensionality::<Ix4>().map_err(|e| {
                    let text = "the network's output does not have four dimensions";
                    Error::new(ErrorKind::Model, text).with_source(e)
                })?;
                read(output)
            }
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _running = captured::running();
        self.sessions.clear();
    }
}

/// The inputs, which are as many as the network has.
fn all<'a, const N: usize>(
    inputs: impl Iterator<Item = ArrayViewMut4<'a, f32>>,
) -> Result<[ArrayViewMut4<'a, f32>; N]> {
    let inputs: Vec<_> = inputs.collect();
    let wrong = |inputs: Vec<_>| {
        Error::new(ErrorKind::Model, format!("the network has {} inputs, not {N}", inputs.len()))
    };
    inputs.try_into().map_err(wrong)
}

/// Each dimension's name and required size.
#[derive(Clone, Copy)]
struct Shape([(&'static str, Option<i64>); 4]);

const PICTURE: Shape = Shape([("N", None), ("3", Some(3)), ("height", None), ("width", None)]);
const CELLS: Shape = Shape([("N", None), ("cells down", None), ("cells across", None), ("1", Some(1))]);

fn residuals(channels: usize) -> Shape {
    Shape([("N", None), ("rows", None), ("cols", None), ("channels", Some(channels as i64))])
}

/// The only outlet, if it is an `f32` tensor of this shape. An open size fits.
fn only<'a>(
    outlets: impl IntoIterator<Item = &'a Outlet, IntoIter: ExactSizeIterator>,
    what: &str,
    wanted: Shape,
) -> Result<Input> {
    let wrong = |found: String| {
        let size = |(name, size): (&str, Option<i64>)| size.map_or(name.to_owned(), |n| n.to_string());
        let names = wanted.0.map(size).join(", ");
        Err(Error::new(
            ErrorKind::Model,
            format!(
                "the network must have one {what} of 32-bit floats [{names}], but has {found}; export it with `weakrest-export`"
            ),
        ))
    };
    let mut outlets = outlets.into_iter();
    let count = outlets.len();
    let (Some(outlet), 1) = (outlets.next(), count) else { return wrong(format!("{count} {what}s")) };
    match outlet.dtype() {
        ValueType::Tensor { ty: TensorElementType::Float32, shape, dimension_symbols }
            if shape.len() == 4
                && wanted
                    .0
                    .iter()
                    .zip(shape.iter())
                    .all(|((_, size), &n)| n == -1 || size.is_none_or(|size| size == n)) =>
        {
            let symbols = dimension_symbols.iter().map(ToString::to_string).collect();
            Ok(Input { name: outlet.name().to_owned(), symbols })
        }
        other => wrong(other.to_string()),
    }
}

/// Refuses numbers that are not finite. `what` names them in the message.
///
/// # Errors
/// [`ErrorKind::NotFinite`].
pub(crate) fn check_finite<'a>(
    what: &str,
    values: impl IntoIterator<Item = &'a f32, IntoIter: Clone>,
) -> Result<()> {
    let values = values.into_iter();
    // A fold without an early end is vectorized, unlike a search for the first bad number.
    if values.clone().fold(true, |finite, v| finite & v.is_finite()) {
        return Ok(());
    }
    let at = values.take_while(|v| v.is_finite()).count();
    let text = format!("{what} holds a value that is not a finite number (element {at})");
    Err(Error::new(ErrorKind::NotFinite, text))
}
