//! Convolutions in 8-bit integers, with ranges measured on pictures.
//!
//! Each convolution but the one that reads the picture gets its input and its output in 8 bits without sign, with one
//! range per tensor, and its weights in 8 bits with sign, with one range per channel. ONNX's nodes `QuantizeLinear`
//! and `DequantizeLinear` say so, and ONNX Runtime makes integer kernels of them. All else stays in floats.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::Array4;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;

use super::graph::{FLOAT, INT8, INT32, Parts, UINT8, attribute, field, node, outlet, tensor};
use super::message::{Message, Value};
use super::providers::{Symbols, refused, start};
use super::{Runtime, refuse_external_data};
use crate::error::{Error, ErrorKind, Result};

/// A network, and the ranges of its values on the pictures that it has seen.
pub struct Int8 {
    network: Parts,
    convolutions: Vec<Convolution>,
    session: Session,
    input: String,
    /// Least and greatest value of a tensor, with zero between them.
    ranges: BTreeMap<String, (f32, f32)>,
}

/// A convolution to change.
struct Convolution {
    /// Among the nodes.
    at: usize,
    input: String,
    /// Its result, after the activation that ONNX Runtime joins with it.
    output: String,
    weights: String,
    bias: Option<String>,
}

impl Int8 {
    /// Reads a network with one picture as input.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] if ONNX Runtime refuses it, or it has no convolution to change.
    pub fn new(runtime: &Runtime, bytes: &[u8]) -> Result<Int8> {
        refuse_external_data(bytes)?;
        let network = Parts::read(&simplified(runtime, bytes)?).ok_or_else(|| {
            Error::new(ErrorKind::Model, "ONNX Runtime's simplified network cannot be read")
        })?;
        let convolutions = network.convolutions();
        if convolutions.is_empty() {
            return Err(Error::new(ErrorKind::Model, "the network has no convolution to compute in 8 bits"));
        }
        let observed = convolutions.iter().flat_map(|c| [c.input.clone(), c.output.clone()]);
        let ranges: BTreeMap<_, _> = observed.map(|name| (name, (0.0, 0.0))).collect();
        let mut builder = start(runtime, &Symbols::new())?;
        let session = builder.commit_from_memory(&network.observed(ranges.keys())).map_err(refused)?;
        let input = session.inputs().first().map(|input| input.name().to_owned()).unwrap_or_default();
        Ok(Int8 { network, convolutions, session, input, ranges })
    }

    /// Widens the ranges to what a picture needs.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] if the network fails; [`ErrorKind::NotFinite`] if a value is not a finite number.
    pub fn see(&mut self, picture: &Array4<f32>) -> Result<()> {
        let failed = |e: ort::Error| Error::new(ErrorKind::Model, "the network failed").with_source(e);
        let tensor = TensorRef::from_array_view(picture).map_err(failed)?;
        let outputs = self.session.run(ort::inputs![self.input.as_str() => tensor]).map_err(failed)?;
        for (name, range) in &mut self.ranges {
            let value = |end: &str| -> Result<f32> {
                let (_, values) =
                    outputs[format!("{name}{end}").as_str()].try_extract_tensor::<f32>().map_err(failed)?;
                values.first().copied().filter(|value| value.is_finite()).ok_or_else(|| {
                    Error::new(
                        ErrorKind::NotFinite,
                        format!("{name} has a value that is not a finite number"),
                    )
                })
            };
            *range = (range.0.min(value(LEAST)?), range.1.max(value(GREATEST)?));
        }
        Ok(())
    }

    /// The network in 8 bits, as an ONNX file.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] if a convolution's weights are not plain floats.
    pub fn write(&self) -> Result<Vec<u8>> {
        let mut weights = self.network.weights.clone();
        let mut add = |tensor: Message| {
            weights.insert(tensor.text(field::TENSOR_NAME), tensor);
        };
        // After each of these tensors come its nodes of quantization.
        let mut steps: BTreeMap<&str, f32> = BTreeMap::new();
        for (name, &(least, greatest)) in &self.ranges {
            let step = ((greatest - least) / 255.0).max(f32::MIN_POSITIVE);
            let zero = (-least / step).round().clamp(0.0, 255.0) as u8;
            add(tensor(&format!("{name}{STEP}"), &[], FLOAT, &step.to_le_bytes()));
            add(tensor(&format!("{name}{ZERO}"), &[], UINT8, &[zero]));
            steps.insert(name, step);
        }
        let mut changed = self.network.nodes.clone();
        let mut constants: BTreeMap<usize, Vec<Message>> = BTreeMap::new();
        for convolution in &self.convolutions {
            let step = steps.get(convolution.input.as_str()).copied().unwrap_or(1.0);
            let (mut inputs, mut nodes) = (vec![format!("{}{FLOATS}", convolution.input)], Vec::new());
            for tensor in self.network.whole(convolution, step)? {
                let name = &tensor.name;
                let [whole, step, zero] =
                    [format!("{name}{WHOLE_NUMBERS}"), format!("{name}{STEP}"), format!("{name}{ZERO}")];
                inputs.push(format!("{name}{FLOATS}"));
                nodes.push(
                    node("DequantizeLinear", &[&whole, &step, &zero], &inputs[inputs.len() - 1])
                        .with(field::NODE_ATTRIBUTE, attribute("axis", 0)),
                );
                tensor.store(&mut add);
            }
            if let Some(node) = changed.get_mut(convolution.at) {
                set_inputs(node, &inputs);
            }
            constants.insert(convolution.at, nodes);
        }
        let outputs: BTreeSet<&str> = self.convolutions.iter().map(|c| c.output.as_str()).collect();
        let mut nodes = Vec::new();
        for (at, mut node) in changed.into_iter().enumerate() {
            // Whoever reads a convolution's result reads what 8 bits keep of it.
            if !constants.contains_key(&at) {
                let inputs = node.texts(field::NODE_INPUT).into_iter();
                let read =
                    inputs.map(|name| if outputs.contains(name.as_str()) { name + FLOATS } else { name });
                set_inputs(&mut node, &read.collect::<Vec<_>>());
            }
            nodes.extend(constants.remove(&at).unwrap_or_default());
            let made = node.texts(field::NODE_OUTPUT);
            nodes.push(node);
            for name in made.iter().filter(|name| steps.contains_key(name.as_str())) {
                nodes.extend(quantization(name));
            }
        }
        let bytes = self.network.write(nodes, weights.into_values().collect());
        refuse_external_data(&bytes)?;
        Ok(bytes)
    }
}

/// Endings of names.
const LEAST: &str = "/least";
const GREATEST: &str = "/greatest";
const STEP: &str = "/step";
const ZERO: &str = "/zero";
const WHOLE_NUMBERS: &str = "/int8";
const FLOATS: &str = "/float";

/// A tensor of weights in whole numbers, with a step for each channel. Its name is its own: convolutions with other
/// inputs may share weights and biases.
struct Whole {
    name: String,
    sizes: Vec<u64>,
    kind: u64,
    values: Vec<u8>,
    steps: Vec<f32>,
}

impl Whole {
    fn store(self, add: &mut impl FnMut(Message)) {
        let Whole { name, sizes, kind, values, steps } = self;
        let channels = [steps.len() as u64];
        let width = if kind == INT8 { 1 } else { 4 };
        add(tensor(&format!("{name}{WHOLE_NUMBERS}"), &sizes, kind, &values));
        let bytes: Vec<u8> = steps.iter().flat_map(|step| step.to_le_bytes()).collect();
        add(tensor(&format!("{name}{STEP}"), &channels, FLOAT, &bytes));
        add(tensor(&format!("{name}{ZERO}"), &channels, kind, &vec![0; steps.len() * width]));
    }
}

impl Parts {
    fn convolutions(&self) -> Vec<Convolution> {
        let names = |field: u32| -> BTreeSet<String> {
            self.graph.all(field).filter_map(Message::read).map(|o| o.text(field::OUTLET_NAME)).collect()
        };
        let (pictures, results) = (names(field::GRAPH_INPUT), names(field::GRAPH_OUTPUT));
        let mut readers: BTreeMap<String, Vec<&Message>> = BTreeMap::new();
        for node in &self.nodes {
            for input in node.texts(field::NODE_INPUT) {
                readers.entry(input).or_default().push(node);
            }
        }
        let found = self.nodes.iter().enumerate().filter_map(|(at, node)| {
            let inputs = node.texts(field::NODE_INPUT);
            let mut output = node.text(field::NODE_OUTPUT);
            if let Some([reader]) = readers.get(&output).map(Vec::as_slice)
                && ["Relu", "Clip"].contains(&reader.text(field::NODE_OPERATOR).as_str())
                && !results.contains(&output)
            {
                output = reader.text(field::NODE_OUTPUT);
            }
            let [input, weights, bias @ ..] = inputs.as_slice() else { return None };
            let constant = |name: &String| self.weights.contains_key(name);
            let known = constant(weights) && bias.iter().all(constant);
            let fits = node.text(field::NODE_OPERATOR) == "Conv"
                && known
                && !pictures.contains(input)
                && !results.contains(&output);
            fits.then(|| Convolution {
                at,
                input: input.clone(),
                output,
                weights: weights.clone(),
                bias: bias.first().cloned(),
            })
        });
        found.collect()
    }

    /// The network with the least and the greatest value of these tensors as further outputs.
    fn observed<'a>(&self, names: impl Iterator<Item = &'a String>) -> Vec<u8> {
        let mut nodes = self.nodes.clone();
        let mut outlets = Vec::new();
        for name in names {
            for (operator, end) in [("ReduceMin", LEAST), ("ReduceMax", GREATEST)] {
                let output = format!("{name}{end}");
                nodes.push(
                    node(operator, &[name], &output).with(field::NODE_ATTRIBUTE, attribute("keepdims", 0)),
                );
                outlets.push(outlet(&output, &[]));
            }
        }
        let mut graph = self.graph.clone();
        for outlet in outlets {
            graph = graph.with(field::GRAPH_OUTPUT, outlet);
        }
        let parts = Parts { model: self.model.clone(), graph, nodes: Vec::new(), weights: BTreeMap::new() };
        parts.write(nodes, self.weights.values().cloned().collect())
    }

    /// A convolution's weights in 8 bits, and its bias in the 32 bits of its sums.
    fn whole(&self, convolution: &Convolution, step: f32) -> Result<Vec<Whole>> {
        let odd =
            |name: &str| Error::new(ErrorKind::Model, format!("the weights {name} are not plain floats"));
        let read = |name: &str| self.weights.get(name).and_then(floats).ok_or_else(|| odd(name));
        let name = convolution.weights.as_str();
        let (sizes, values) = read(name)?;
        let channels = usize::try_from(sizes.first().copied().unwrap_or(0)).unwrap_or(0);
        if channels == 0 || values.len() % channels != 0 || values.is_empty() {
            return Err(odd(name));
        }
        let bias = convolution.bias.as_deref().map(|name| read(name).map(|read| (name, read))).transpose()?;
        let of_channel = values.len() / channels;
        let largest = |values: &[f32]| values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let mut steps: Vec<f32> = values.chunks_exact(of_channel).map(|of| largest(of) / 127.0).collect();
        if let Some((name, (_, bias))) = &bias {
            if bias.len() != channels {
                return Err(odd(name));
            }
            for (channel, bias) in steps.iter_mut().zip(bias) {
                // Weights that vanish beside the bias must not make it overflow.
                *channel = channel.max(bias.abs() / step / (1 << 24) as f32);
            }
        }
        steps.iter_mut().for_each(|step| *step = step.max(f32::MIN_POSITIVE));
        let rounded = values.chunks_exact(of_channel).zip(&steps).flat_map(|(values, step)| {
            values.iter().map(move |value| (value / step).round().clamp(-127.0, 127.0) as i8 as u8)
        });
        let own = |what: &str| format!("convolution {}/{what}", convolution.at);
        let mut all = vec![Whole {
            name: own("weights"),
            sizes,
            kind: INT8,
            values: rounded.collect(),
            steps: steps.clone(),
        }];
        if let Some((_, (sizes, bias))) = bias {
            let steps: Vec<f32> = steps.iter().map(|channel| channel * step).collect();
            let rounded = bias.iter().zip(&steps).flat_map(|(bias, step)| {
                // `as` saturates.
                ((f64::from(*bias) / f64::from(*step)).round() as i32).to_le_bytes()
            });
            all.push(Whole { name: own("bias"), sizes, kind: INT32, values: rounded.collect(), steps });
        }
        Ok(all)
    }
}

/// What ONNX Runtime makes of a network with constants computed, in ONNX's own operators.
fn simplified(runtime: &Runtime, bytes: &[u8]) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir().map_err(|e| Error::io("create", &std::env::temp_dir(), e))?;
    let path = folder.path().join("network.onnx");
    let builder = start(runtime, &Symbols::new())?
        .with_optimization_level(GraphOptimizationLevel::Level1)
        .map_err(|e| refused(e.into()))?;
    let mut builder = builder.with_optimized_model_path(&path).map_err(|e| refused(e.into()))?;
    builder.commit_from_memory(bytes).map_err(refused)?;
    std::fs::read(&path).map_err(|e| Error::io("read", &path, e))
}

/// A tensor's sizes and its floats.
fn floats(tensor: &Message) -> Option<(Vec<u64>, Vec<f32>)> {
    if tensor.numbers(field::TENSOR_TYPE)?.last() != Some(&FLOAT) {
        return None;
    }
    let mut bytes = Vec::new();
    for (number, value) in &tensor.0 {
        match value {
            Value::Bytes(some) if [field::TENSOR_RAW, field::TENSOR_FLOATS].contains(number) => {
                bytes.extend_from_slice(some);
            }
            Value::Four(some) if *number == field::TENSOR_FLOATS => bytes.extend_from_slice(some),
            _ => {}
        }
    }
    let (values, rest) = bytes.as_chunks::<4>();
    let values: Vec<f32> = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
    let finite = rest.is_empty() && values.iter().all(|value| value.is_finite());
    finite.then_some((tensor.numbers(field::TENSOR_SIZES)?, values))
}

/// The nodes that round a tensor to 8 bits and make floats of it again.
fn quantization(name: &str) -> [Message; 2] {
    let [step, zero] = [format!("{name}{STEP}"), format!("{name}{ZERO}")];
    let (whole, float) = (format!("{name}{WHOLE_NUMBERS}"), format!("{name}{FLOATS}"));
    [
        node("QuantizeLinear", &[name, &step, &zero], &whole),
        node("DequantizeLinear", &[&whole, &step, &zero], &float),
    ]
}

fn set_inputs(node: &mut Message, inputs: &[String]) {
    node.0.retain(|(field, _)| *field != field::NODE_INPUT);
    let inputs = inputs.iter().map(|name| (field::NODE_INPUT, Value::Bytes(name.as_bytes().to_vec())));
    node.0.splice(0..0, inputs);
}
