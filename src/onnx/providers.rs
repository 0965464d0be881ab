//! Execution providers: the requested ones, and the one that really runs a network.
//!
//! ONNX Runtime falls back to the CPU in silence if a provider cannot be loaded or takes only some nodes.
//! Here each provider is tried alone and without fall-back. So the provider that loads is the one that runs,
//! and a required provider runs or is an error.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ort::ep::{ArbitrarilyConfigurableExecutionProvider, CUDA, ExecutionProvider, TensorRT, WebGPU};
use ort::logging::LogLevel;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::engines::Engines;
use super::{Interrupt, Runtime};
use crate::error::{Error, ErrorKind, Result};

/// An execution provider, the fastest first.
///
/// ```
/// use weakrest::inspector::Provider;
///
/// assert_eq!(Provider::TensorRt.name(), "tensorrt");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// NVIDIA TensorRT in half precision, and CUDA for the nodes that it does not take.
    TensorRt,
    /// NVIDIA CUDA.
    Cuda,
    /// WebGPU: any GPU with a Vulkan driver.
    WebGpu,
    /// The CPU.
    Cpu,
}

impl Provider {
    /// All providers, the fastest first.
    pub const ALL: [Provider; 4] = [Provider::TensorRt, Provider::Cuda, Provider::WebGpu, Provider::Cpu];

    /// Whether the library was built with it. [`Provider::load`] tells whether it works here.
    pub(crate) fn is_built_in(self, _: &Runtime) -> bool {
        match self {
            Provider::TensorRt => TensorRT::is_available(),
            Provider::Cuda => CUDA::is_available(),
            Provider::WebGpu => WebGPU::is_available(),
            Provider::Cpu => Ok(true),
        }
        .unwrap_or(false)
    }

    /// Loads its libraries and the driver's.
    ///
    /// # Errors
    /// [`ErrorKind::Runtime`] with what is missing and what to do.
    pub(crate) fn load(self, runtime: &Runtime) -> Result<()> {
        if self == Provider::Cpu {
            return Ok(());
        }
        require_built_in(runtime, self)?;
        let mut builder = Session::builder(runtime.environment()).map_err(|e| not_loaded(self, e))?;
        register(&mut builder, self, false, None)
    }

    /// The GPU's memory, and the host's pinned memory where it has such. `None` for the CPU.
    pub(super) fn memory(self) -> Option<(Described, Option<Described>)> {
        let of = |device, kind| MemoryInfo::new(device, 0, AllocatorType::Device, kind);
        match self {
            Provider::TensorRt | Provider::Cuda => {
                let pinned = of(AllocationDevice::CUDA_PINNED, MemoryType::CPU);
                Some((of(AllocationDevice::CUDA, MemoryType::Default), Some(pinned)))
            }
            Provider::WebGpu => Some((of(AllocationDevice::WEBGPU_BUFFER, MemoryType::Default), None)),
            Provider::Cpu => None,
        }
    }

    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Provider::TensorRt => "tensorrt",
            Provider::Cuda => "cuda",
            Provider::WebGpu => "webgpu",
            Provider::Cpu => "cpu",
        }
    }
}

/// A kind of memory.
type Described = ort::Result<MemoryInfo<'static>>;

impl std::fmt::Display for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Settings for running networks.
///
/// ```
/// use weakrest::inspector::{Execution, Provider};
///
/// let execution = Execution { providers: vec![Provider::Cuda, Provider::Cpu], ..Execution::default() };
/// # assert!(execution.spinning);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Execution {
    /// Threads of a network on the CPU. `None`: one per core.
    pub threads: Option<NonZeroUsize>,
    /// Whether idle threads spin. This is faster if the network has the machine for itself, and slows down
    /// others if not.
    pub spinning: bool,
    /// Providers to try, in this order.
    pub providers: Vec<Provider>,
    /// The only acceptable provider.
    pub require: Option<Provider>,
    /// Folder for TensorRT's engines. Building them takes minutes; without the folder, every start builds
    /// them.
    pub cache: Option<PathBuf>,
    /// Whether a GPU runs each network as one captured graph, where it can: one call starts all of its kernels.
    pub graphs: bool,
    /// Ends it from another thread.
    pub interrupt: Interrupt,
}

impl Default for Execution {
    fn default() -> Self {
        Execution {
            threads: None,
            spinning: true,
            providers: vec![Provider::Cpu],
            require: None,
            cache: None,
            graphs: true,
            interrupt: Interrupt::default(),
        }
    }
}

impl Execution {
    /// Checks that the required provider is among the requested ones.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with the key.
    pub fn validate(&self) -> Result<()> {
        if self.providers.is_empty() {
            let what = "is empty; set at least one of \"tensorrt\", \"cuda\", \"webgpu\" and \"cpu\"";
            return Err(Error::setting("inspection.providers", what));
        }
        match self.require {
            Some(required) if !self.providers.contains(&required) => {
                let what = format!("{required} is not listed; add it to inspection.providers");
                Err(Error::setting("inspection.require", what))
            }
            _ => Ok(()),
        }
    }
}

/// Checks that the required provider, or one of the requested ones, can be loaded.
///
/// # Errors
/// [`ErrorKind::Usage`] as [`Execution::validate`]; [`ErrorKind::Runtime`] with what is missing.
pub(super) fn check(runtime: &Runtime, execution: &Execution) -> Result<()> {
    execution.validate()?;
    let mut last = Ok(());
    for &provider in &execution.providers {
        if execution.require.is_some_and(|required| required != provider) {
            continue;
        }
        last = provider.load(runtime).map_err(|e| unusable(provider, e));
        if last.is_ok() {
            break;
        }
    }
    last
}

/// A session that tells a network's inputs and outputs.
pub(super) fn description(runtime: &Runtime, bytes: &[u8]) -> Result<Session> {
    start(runtime, &Symbols::new())?
        .with_optimization_level(GraphOptimizationLevel::Disable)
        .map_err(|e| refused(e.into()))?
        .with_intra_threads(1)
        .map_err(|e| refused(e.into()))?
        .commit_from_memory(bytes)
        .map_err(refused)
}

/// Open sizes of a network's inputs by their symbols.
pub(super) type Symbols<'a> = BTreeMap<&'a str, usize>;

/// Writes the graph that runs on the CPU.
#[cfg(test)]
pub(super) fn optimized(runtime: &Runtime, bytes: &[u8], symbols: &Symbols, path: &Path) -> Result<()> {
    let builder = start(runtime, symbols)?;
    let mut builder = builder.with_optimized_model_path(path).map_err(|e| refused(e.into()))?;
    builder.commit_from_memory(bytes).map_err(refused)?;
    Ok(())
}

/// What `load` makes on the first provider that takes the whole network, and that provider.
pub(super) fn first<T>(
    execution: &Execution,
    mut load: impl FnMut(Provider) -> Result<T>,
) -> Result<(T, Provider)> {
    let mut failed: Option<Error> = None;
    for &provider in &execution.providers {
        let required = execution.require == Some(provider);
        if execution.require.is_some() && !required {
            continue;
        }
        match load(provider) {
            Ok(loaded) => return Ok((loaded, provider)),
            Err(e) if provider == Provider::Cpu => return Err(failed.unwrap_or(e)),
            Err(e) => {
                let e = unusable(provider, e);
                if required {
                    return Err(e);
                }
                log::warn!("{}", e.chain());
                failed = Some(e);
            }
        }
    }
    Err(failed.unwrap_or_else(|| Error::new(ErrorKind::Runtime, "no provider can be used")))
}

fn unusable(provider: Provider, e: Error) -> Error {
    Error::new(ErrorKind::Runtime, format!("the provider {provider} cannot be used")).with_source(e)
}

pub(super) fn refused(e: ort::Error) -> Error {
    Error::new(ErrorKind::Model, "ONNX Runtime refused the network").with_source(e)
}

/// The beginning of every session: for inputs of these sizes.
pub(super) fn start(runtime: &Runtime, symbols: &Symbols) -> Result<SessionBuilder> {
    // Without its name, ONNX Runtime guesses the format. One of its formats can refer to other files.
    let mut builder = Session::builder(runtime.environment())
        .map_err(refused)?
        .with_config_entry("session.load_model_format", "ONNX")
        .map_err(|e| refused(e.into()))?
        // Else sums of 8-bit products overflow on x86 processors without VNNI.
        .with_config_entry("session.x64quantprecision", "1")
        .map_err(|e| refused(e.into()))?;
    for (symbol, &size) in symbols {
        builder = builder.with_dimension_override(symbol, size as i64).map_err(|e| refused(e.into()))?;
    }
    Ok(builder)
}

/// A session on this provider. `symbols` are the inputs' open sizes. A session that captures its runs must only run as
/// [`super::captured`] does.
pub(super) fn attempt(
    runtime: &Runtime,
    bytes: &[u8],
    execution: &Execution,
    symbols: &Symbols,
    provider: Provider,
    captures: bool,
) -> Result<Session> {
    let builder = || -> Result<SessionBuilder> {
        let builder = start(runtime, symbols)?
            .with_intra_op_spinning(execution.spinning)
            .map_err(|e| refused(e.into()))?
            // The search needs the cores right after the network.
            .with_config_entry("session.force_spinning_stop", "1")
            .map_err(|e| refused(e.into()))?;
        match execution.threads {
            Some(n) => builder.with_intra_threads(n.get()).map_err(|e| refused(e.into())),
            None => Ok(builder),
        }
    };
    if provider == Provider::Cpu {
        return builder()?.commit_from_memory(bytes).map_err(refused);
    }
    require_built_in(runtime, provider)?;
    let cache = execution.cache.as_deref().filter(|_| provider == Provider::TensorRt);
    let engines = cache.and_then(|cache| Engines::open(engine_folder(cache, bytes, symbols)));
    let registered = |mut builder: SessionBuilder| -> Result<SessionBuilder> {
        register(&mut builder, provider, captures, engines.as_ref().map(Engines::folder))?;
        Ok(builder)
    };
    let whole = || -> Result<std::result::Result<Session, ort::Error>> {
        let builder = builder()?.with_disable_cpu_fallback().map_err(|e| refused(e.into()))?;
        Ok(registered(builder)?.commit_from_memory(bytes))
    };
    match whole()? {
        Ok(session) => Ok(session),
        Err(e) if e.to_string().contains(LEFT_TO_CPU) => {
            let nodes = nodes_on_cpu(registered(builder()?)?, bytes);
            Err(refused(e).within(format!("the CPU would have to run {nodes}")))
        }
        Err(e) => match engines.as_ref().filter(|engines| engines.discard()) {
            Some(engines) => {
                log::warn!("TensorRT's engines in {} are built anew: {e}", engines.folder().display());
                whole()?.map_err(refused)
            }
            None => Err(refused(e)),
        },
    }
}

/// What ONNX Runtime says if a provider does not take the whole network.
const LEFT_TO_CPU: &str = "fallback to CPU EP";

/// The nodes that the CPU runs in a session that allows it. ONNX Runtime tells them only in its log.
fn nodes_on_cpu(builder: SessionBuilder, bytes: &[u8]) -> String {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&lines);
    let keep = move |_: LogLevel, _: &str, _: &str, _: &str, line: &str| {
        // The lines of placements are indented.
        if line.starts_with(' ') {
            to.lock().unwrap_or_else(|e| e.into_inner()).push(line.to_owned());
        }
    };
    let session = || -> Result<Session> {
        let builder = builder.with_log_level(LogLevel::Verbose).map_err(|e| refused(e.into()))?;
        let mut builder = builder.with_logger(Arc::new(keep)).map_err(|e| refused(e.into()))?;
        builder.commit_from_memory(bytes).map_err(refused)
    };
    if let Err(e) = session() {
        log::debug!("where nodes run is not known: {}", e.chain());
    }
    let lines = lines.lock().unwrap_or_else(|e| e.into_inner());
    placed_on_cpu(lines.iter().map(String::as_str))
}

/// Reads the lines of ONNX Runtime's log that tell which provider runs which node.
pub(super) fn placed_on_cpu<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    const MOST: usize = 8;
    let (mut nodes, mut here) = (Vec::new(), false);
    for line in lines {
        if line.contains(" placed on [") {
            here = line.contains("[CPUExecutionProvider]");
            if here && line.contains("All nodes") {
                return "all nodes".to_owned();
            }
        } else if here {
            nodes.push(line.trim());
        }
    }
    match nodes.len() {
        0 => "some nodes".to_owned(),
        n if n > MOST => format!("{} and {} more nodes", nodes[..MOST].join(", "), n - MOST),
        _ => nodes.join(", "),
    }
}

/// Remedy for a missing provider.
const ADVICE: &str = "install an ONNX Runtime built for this machine's JetPack or CUDA, and name its library in \
                      inspection.onnxruntime";

fn require_built_in(runtime: &Runtime, provider: Provider) -> Result<()> {
    if provider.is_built_in(runtime) {
        return Ok(());
    }
    let library = runtime.path().display();
    Err(Error::new(ErrorKind::Runtime, format!("{library} was built without {provider}; {ADVICE}")))
}

fn not_loaded(provider: Provider, e: ort::Error) -> Error {
    Error::new(ErrorKind::Runtime, format!("{provider} cannot be loaded")).with_source(e)
}

fn register(
    builder: &mut SessionBuilder,
    provider: Provider,
    captures: bool,
    engines: Option<&Path>,
) -> Result<()> {
    let failed = |e: ort::Error| not_loaded(provider, e);
    if provider == Provider::WebGpu {
        // `with_enable_graph_capture` says "true", which ONNX Runtime refuses.
        let gpu = WebGPU::default().with_arbitrary_config("enableGraphCapture", u8::from(captures));
        return gpu.register(builder).map_err(failed);
    }
    if provider == Provider::TensorRt {
        let mut tensorrt = TensorRT::default().with_fp16(true).with_cuda_graph(captures);
        if let Some(folder) = engines {
            tensorrt = tensorrt
                .with_engine_cache(true)
                .with_engine_cache_path(folder.display())
                .with_timing_cache(true)
                .with_timing_cache_path(folder.display());
        }
        tensorrt.register(builder).map_err(failed)?;
    }
    let captures = captures && provider == Provider::Cuda;
    CUDA::default().with_cuda_graph(captures).register(builder).map_err(failed)
}

/// The folder for engines of one network with one size and one ONNX Runtime. TensorRT adds the device's kind to file
/// names.
fn engine_folder(cache: &Path, bytes: &[u8], symbols: &Symbols) -> PathBuf {
    let library = crate::files::sha256(ort::info().as_bytes());
    let sizes: String = symbols.iter().map(|(symbol, size)| format!("{symbol}={size} ")).collect();
    let model = crate::files::sha256(&[bytes, sizes.as_bytes()].concat());
    cache.join("tensorrt").join(format!("{}-{}", &model[..16], &library[..8]))
}
