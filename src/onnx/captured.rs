//! A network on a GPU as one graph of kernels, with its inputs and its output at fixed places.
//!
//! A plain run allocates memory of the GPU, copies the inputs there, starts each kernel and copies the output back. Here
//! memory stays where it is, and ONNX Runtime captures the kernels of one run and replays them with one call (CUDA graphs;
//! WebGPU has the same). The host's memory is pinned where the provider has such memory, and callers fill and read it in
//! place.
//!
//! A replay reads the places that were captured, whatever else a caller passes: a mistake here would judge old pictures.
//! So a graph must first compute what plain runs compute, for inputs of which each is changed in its turn.

use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard};

use crossbeam_channel::{Receiver, Sender, bounded};
use ndarray::{Array4, ArrayView4, ArrayViewMut4};
use ort::memory::{Allocator, MemoryInfo};
use ort::session::{IoBinding, RunOptions, Session, SessionInputValue};
use ort::value::{Tensor, TensorRef};

use super::Runtime;
use super::graph::{field, node, outlet};
use super::message::Message;
use super::providers::{self, Execution, Provider, Symbols, refused};
use crate::error::{Error, ErrorKind, Result};

/// Held for writing while a graph is captured, and for reading while anything runs on a GPU: CUDA refuses most calls of
/// all other threads during a capture.
static CAPTURING: RwLock<()> = RwLock::new(());

/// Held while a session is made and its graph captured. A capture that waited for the minutes of another session in the
/// making would stop all runs.
static MAKING: Mutex<()> = Mutex::new(());

/// No graph is captured until this is dropped.
pub(super) fn running() -> RwLockReadGuard<'static, ()> {
    CAPTURING.read().unwrap_or_else(|e| e.into_inner())
}

/// No other thread makes a session until this is dropped.
pub(super) fn making() -> MutexGuard<'static, ()> {
    MAKING.lock().unwrap_or_else(|e| e.into_inner())
}

/// Largest difference of a replay from a plain run, relative to the largest value.
const TOLERANCE: f32 = 1e-3;

/// A captured network, and the thread that runs it: CUDA captures for each thread anew, and the first part on another
/// thread would wait for that.
pub(super) struct Worker {
    // Only for one thread at a time, and the mutex says so; it is never locked. `None` after a panic.
    captured: Option<Mutex<Box<Captured>>>,
    jobs: Sender<Box<Captured>>,
    answers: Receiver<Result<(Box<Captured>, Result<()>)>>,
}

impl Worker {
    /// Captures a network and compares it with plain runs, on a thread of its own.
    ///
    /// # Errors
    /// Those of the session; [`ErrorKind::Model`] if the provider, which is not the CPU, cannot capture the network, or a
    /// replay computes something else than a plain run.
    pub fn new(source: Source) -> Result<Worker> {
        let (jobs, asked) = bounded::<Box<Captured>>(1);
        let (answer, answers) = bounded(1);
        let work = move || {
            if answer.send(Captured::new(&source).map(|captured| (Box::new(captured), Ok(())))).is_err() {
                return;
            }
            for mut captured in asked {
                let done = captured.run();
                if answer.send(Ok((captured, done))).is_err() {
                    return;
                }
            }
        };
        let named = std::thread::Builder::new().name("gpu".into());
        named.spawn(work).map_err(|e| ended().with_source(e))?;
        let (captured, _) = answers.recv().map_err(|_| ended())??;
        Ok(Worker { captured: Some(Mutex::new(captured)), jobs, answers })
    }

    fn captured(&mut self) -> Result<&mut Captured> {
        let captured = self.captured.as_mut().ok_or_else(ended)?;
        Ok(captured.get_mut().unwrap_or_else(|e| e.into_inner()))
    }

    /// The inputs' memory, to be filled before a run.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] if a run before has panicked.
    pub fn inputs(&mut self) -> Result<impl Iterator<Item = ArrayViewMut4<'_, f32>>> {
        Ok(self.captured()?.inputs.iter_mut().map(|place| place.host.view_mut()))
    }

    /// Computes the output from the inputs' memory.
    ///
    /// # Errors
    /// ONNX Runtime's; as [`Worker::inputs`].
    pub fn run(&mut self) -> Result<ArrayView4<'_, f32>> {
        let captured = self.captured.take().ok_or_else(ended)?;
        self.jobs.send(captured.into_inner().unwrap_or_else(|e| e.into_inner())).map_err(|_| ended())?;
        let (captured, done) = self.answers.recv().map_err(|_| ended())??;
        self.captured = Some(Mutex::new(captured));
        done?;
        Ok(self.captured()?.output.host.view())
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::Model, "the thread of a captured network has ended")
}

struct Captured {
    // What uses a session is dropped before it.
    run: IoBinding,
    inputs: Vec<Place>,
    output: Place,
    copies: Session,
    session: Session,
    options: Arc<RunOptions>,
}

/// A tensor in the host's memory and in the GPU's, and the copy from one to the other.
struct Place {
    name: String,
    copy: IoBinding,
    host: Host,
    device: Tensor<f32>,
}

/// A network to capture: its bytes, the sizes of its inputs' symbols, its inputs and its output.
pub(super) struct Source {
    pub runtime: &'static Runtime,
    pub provider: Provider,
    pub bytes: Vec<u8>,
    pub execution: Execution,
    pub symbols: Vec<(String, usize)>,
    pub inputs: Vec<(String, [usize; 4])>,
    pub output: String,
}

impl Captured {
    fn new(source: &Source) -> Result<Captured> {
        let Source { runtime, provider, bytes, execution, symbols, inputs: wanted, output: result } = source;
        let symbols: Symbols = symbols.iter().map(|(symbol, size)| (symbol.as_str(), *size)).collect();
        let mut session = providers::attempt(runtime, bytes, execution, &symbols, *provider, true)?;
        // TensorRT would copy in half precision.
        let copier = if *provider == Provider::TensorRt { Provider::Cuda } else { *provider };
        let copies = providers::attempt(runtime, &identity(), execution, &Symbols::new(), copier, false)?;
        let memory = Memory::new(&session, *provider)?;
        let mut run = session.create_binding().map_err(refused)?;
        let mut inputs = Vec::new();
        for (at, (name, sizes)) in wanted.iter().enumerate() {
            let mut place = memory.place(&copies, name, *sizes)?;
            run.bind_input(name, &place.device).map_err(refused)?;
            place.host.view_mut().assign(&noise(*sizes, at));
            inputs.push(place);
        }
        let expected = plain(&mut session, &inputs, result)?;
        let mut output = memory.place(&copies, result, expected.dim().into())?;
        run.bind_output(result, &mut output.device).map_err(refused)?;
        output.copy.bind_input(COPIED, &output.device).map_err(refused)?;
        output.copy.bind_output(COPY, &mut output.host.tensor).map_err(refused)?;
        let options = execution.interrupt.options()?;
        let mut captured = Captured { run, inputs, output, copies, session, options };

        captured.capture()?;
        compare(captured.output.host.view(), expected.view())?;
        let mut before = expected;
        for at in 0..wanted.len() {
            let other = noise(wanted[at].1, wanted.len() + at);
            captured.inputs[at].host.view_mut().assign(&other);
            let expected = plain(&mut captured.session, &captured.inputs, result)?;
            captured.run()?;
            compare(captured.output.host.view(), expected.view())?;
            if before == expected {
                return Err(unusable("an input does not change the output"));
            }
            before = expected;
        }
        Ok(captured)
    }

    /// The first run, which captures the graph. Who makes this holds [`MAKING`].
    fn capture(&mut self) -> Result<()> {
        {
            let _running = running();
            self.copy_inputs()?;
        }
        {
            let _capturing = CAPTURING.write().unwrap_or_else(|e| e.into_inner());
            self.start()?;
        }
        let _running = running();
        self.copy_output()
    }

    /// Computes the output from the inputs' memory.
    fn run(&mut self) -> Result<()> {
        let _running = running();
        self.copy_inputs()?;
        self.start()?;
        self.copy_output()
    }

    fn copy_inputs(&mut self) -> Result<()> {
        for place in &mut self.inputs {
            // Binding copies into new memory of the GPU, and the run from there to the captured place.
            place.copy.bind_input(COPIED, &place.host.tensor).map_err(failed)?;
            self.copies.run_binding_with_options(&place.copy, &self.options).map_err(failed)?;
        }
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        self.session.run_binding_with_options(&self.run, &self.options).map_err(failed)?;
        Ok(())
    }

    fn copy_output(&mut self) -> Result<()> {
        self.copies.run_binding_with_options(&self.output.copy, &self.options).map_err(failed)?;
        Ok(())
    }
}

fn failed(e: ort::Error) -> Error {
    Error::new(ErrorKind::Model, "the network failed on the GPU").with_source(e)
}

fn unusable(what: &str) -> Error {
    Error::new(ErrorKind::Model, format!("the captured graph cannot be used: {what}"))
}

/// What a run without the graph computes from the inputs' memory.
fn plain(session: &mut Session, inputs: &[Place], output: &str) -> Result<Array4<f32>> {
    let _running = running();
    let mut options = RunOptions::new().map_err(failed)?;
    // ONNX Runtime's word for a run that is neither captured nor replayed.
    options.set("gpu_graph_id", "-1").map_err(failed)?;
    // `ort` has no tensor that reads pinned memory as the host's.
    let values: Vec<Array4<f32>> = inputs.iter().map(|place| place.host.view().to_owned()).collect();
    let mut named = Vec::new();
    for (place, values) in inputs.iter().zip(&values) {
        let tensor = TensorRef::from_array_view(values).map_err(failed)?;
        named.push((place.name.as_str(), SessionInputValue::from(tensor)));
    }
    let outputs = session.run_with_options(named, &options).map_err(failed)?;
    let output = outputs[output].try_extract_array::<f32>().map_err(failed)?;
    output
        .into_owned()
        .into_dimensionality()
        .map_err(|_| unusable("its output does not have four dimensions"))
}

fn compare(found: ArrayView4<f32>, expected: ArrayView4<f32>) -> Result<()> {
    let largest = expected.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    let differences = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs());
    // A value that is not a number is not near.
    if differences.clone().all(|difference| difference <= TOLERANCE * largest) {
        return Ok(());
    }
    let most = differences.fold(0.0f32, f32::max);
    Err(unusable(&format!(
        "its output differs from a plain run's by {most:.2e}, where the largest value is {largest:.2e}"
    )))
}

/// Values from -1 to 1 without order.
fn noise(sizes: [usize; 4], seed: usize) -> Array4<f32> {
    let mut state = 0x9e37_79b9_u32.wrapping_mul(seed as u32 + 1);
    Array4::from_shape_simple_fn(sizes, || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    })
}

/// Where tensors of a session can be.
struct Memory {
    device: Allocator,
    host: Allocator,
}

impl Memory {
    fn new(session: &Session, provider: Provider) -> Result<Memory> {
        let (device, pinned) = provider.memory().ok_or_else(|| unusable("the provider has no memory"))?;
        let allocator = |info: ort::Result<MemoryInfo>| Allocator::new(session, info?);
        let device = allocator(device).map_err(refused)?;
        let host = pinned.map_or_else(|| Ok(Allocator::default()), allocator);
        Ok(Memory { device, host: host.map_err(refused)? })
    }

    /// Memory for a tensor, and the binding that copies into the GPU's, or out of it once it is bound so.
    fn place(&self, copies: &Session, name: &str, sizes: [usize; 4]) -> Result<Place> {
        let tensor = |allocator| Tensor::<f32>::new(allocator, sizes).map_err(refused);
        let (mut device, mut tensor) = (tensor(&self.device)?, tensor(&self.host)?);
        let length = sizes.iter().product();
        // SAFETY: ONNX Runtime gave this memory for as many values, and nobody else has it yet.
        unsafe { std::ptr::write_bytes(tensor.data_ptr_mut().cast::<f32>(), 0, length) };
        let mut copy = copies.create_binding().map_err(refused)?;
        copy.bind_output(COPY, &mut device).map_err(refused)?;
        Ok(Place { name: name.to_owned(), copy, host: Host { tensor, sizes }, device })
    }
}

/// A tensor in the host's memory, pinned or not.
struct Host {
    tensor: Tensor<f32>,
    sizes: [usize; 4],
}

// `ort` takes pinned memory for the GPU's, and gives no view of it.
impl Host {
    fn view(&self) -> ArrayView4<'_, f32> {
        // SAFETY: the tensor has these sizes, lies in the host's memory, was written when it was made, and nobody
        // writes to it while it is borrowed: all runs that do have ended.
        unsafe { ArrayView4::from_shape_ptr(self.sizes, self.tensor.data_ptr().cast()) }
    }

    fn view_mut(&mut self) -> ArrayViewMut4<'_, f32> {
        // SAFETY: as above, and it is borrowed for writing.
        unsafe { ArrayViewMut4::from_shape_ptr(self.sizes, self.tensor.data_ptr_mut().cast()) }
    }
}

/// Names of the input and of the output of [`identity`].
const COPIED: &str = "copied";
const COPY: &str = "copy";

/// A network whose output is its input: `ort` copies between memories only with such a one, and its own knows neither
/// WebGPU nor two threads at once.
fn identity() -> Vec<u8> {
    let any: [Message; 4] = Default::default();
    let graph = Message::default()
        .with(field::GRAPH_NODE, node("Identity", &[COPIED], COPY).write())
        .with(field::GRAPH_NAME, "copy")
        .with(field::GRAPH_INPUT, outlet(COPIED, &any))
        .with(field::GRAPH_OUTPUT, outlet(COPY, &any));
    let operators = Message::default().with(1, "").with_number(2, 17);
    let model = Message::default().with_number(1, 8).with(8, operators.write());
    model.with(field::MODEL_GRAPH, graph.write()).write()
}
