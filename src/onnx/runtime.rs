//! The ONNX Runtime library, loaded once per process.

use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use ort::environment::Environment;

use crate::error::{Error, ErrorKind, Hint, Result};

/// The oldest supported ONNX Runtime, by the API level that this crate uses.
pub const MINIMUM_VERSION: &str = "1.20";

/// Name for the system's loader.
const LIBRARY: &str = "libonnxruntime.so";

/// The loaded library.
pub struct Runtime {
    environment: Environment,
    path: PathBuf,
    version: String,
}

static RUNTIME: OnceLock<Runtime> = OnceLock::new();
static LOADING: Mutex<()> = Mutex::new(());

impl Runtime {
    /// The library of this process. The first call loads it; later ones ignore `path`.
    ///
    /// The search order is `path`, the environment variable `ORT_DYLIB_PATH`, `libonnxruntime.so` beside the
    /// executable and in `../lib`, `../lib/weakrest` and `../onnxruntime` from there, and the system's
    /// loader.
    ///
    /// # Errors
    /// [`ErrorKind::Runtime`] if there is none, or it is older than [`MINIMUM_VERSION`].
    pub fn load(path: Option<&Path>) -> Result<&'static Runtime> {
        if let Some(runtime) = RUNTIME.get() {
            return Ok(runtime);
        }
        // Only one environment can be built, so only one thread may try. A poisoned lock guards nothing.
        let _guard = LOADING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(runtime) = RUNTIME.get() {
            return Ok(runtime);
        }
        let runtime = open(path)?;
        Ok(RUNTIME.get_or_init(|| runtime))
    }

    /// The library's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The library's version, such as `1.20.0`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The library's description of its build.
    pub fn build_info(&self) -> &'static str {
        ort::info()
    }

    pub(super) fn environment(&self) -> &Environment {
        &self.environment
    }
}

fn open(path: Option<&Path>) -> Result<Runtime> {
    let named = path
        .map(Path::to_path_buf)
        .or_else(|| std::env::var_os("ORT_DYLIB_PATH").filter(|v| !v.is_empty()).map(PathBuf::from));
    let path = match named {
        Some(path) => {
            if !path.exists() {
                return Err(unusable(&format!("there is no file {}", path.display())));
            }
            // The loader searches a relative path in other places than the current folder.
            let path = std::path::absolute(&path).map_err(|e| Error::io("find", &path, e))?;
            if is_cut_short(&path) {
                return Err(unusable(&format!("{} is cut short", path.display())));
            }
            path
        }
        None => beside_executable().unwrap_or_else(|| PathBuf::from(LIBRARY)),
    };
    let builder = ort::init_from(&path).map_err(|e| match e {
        ort::LoadDynamicError::BadVersion { version_str, path } => Error::new(
            ErrorKind::Runtime,
            format!(
                "{} is ONNX Runtime {version_str}, but {MINIMUM_VERSION} or newer is needed",
                path.display()
            ),
        )
        .with_hint(Hint::NoRuntime),
        ort::LoadDynamicError::MissingApi { path } => {
            Error::new(ErrorKind::Runtime, format!("{} is a library, but not ONNX Runtime", path.display()))
                .with_hint(Hint::NoRuntime)
        }
        ort::LoadDynamicError::Dlopen { error, path } => {
            // The system's loader names the file and the cause.
            let cause = std::error::Error::source(&error)
                .map_or_else(|| format!("{}: {error}", path.display()), |e| e.to_string());
            unusable(&cause)
        }
        other => unusable(&format!("{}: {other}", path.display())),
    })?;
    let environment = builder
        .with_name("weakrest")
        .with_telemetry(false)
        .build()
        .map_err(|e| Error::new(ErrorKind::Runtime, "ONNX Runtime did not start").with_source(e))?;
    // Errors are returned as well. ONNX Runtime would print them in color, past the program's log.
    environment.set_log_level(ort::logging::LogLevel::Fatal);
    log::debug!("ONNX Runtime from {}", path.display());
    let version = version(&path).unwrap_or_else(|| "unknown".to_owned());
    Ok(Runtime { environment, path, version })
}

/// The version of the loaded library at `path`.
fn version(path: &Path) -> Option<String> {
    type GetApiBase = unsafe extern "C" fn() -> *const ort::sys::OrtApiBase;
    // SAFETY: the library was loaded from there as ONNX Runtime and stays, so its initializers have run and
    // its function has this type. The text that it gives is a constant.
    unsafe {
        let library = libloading::Library::new(path).ok()?;
        let base = library.get::<GetApiBase>(b"OrtGetApiBase").ok()?();
        let text = ((*base).GetVersionString)();
        Some(CStr::from_ptr(text).to_str().ok()?.to_owned())
    }
}

fn unusable(what: &str) -> Error {
    Error::new(ErrorKind::Runtime, format!("ONNX Runtime cannot be loaded: {what}"))
        .with_hint(Hint::NoRuntime)
}

/// Whether a library is truncated, as after an interrupted copy: it ends before the table at its end. The
/// system's loader does not check that, and the process dies by a signal. Files other than 64-bit libraries
/// are left to the loader.
fn is_cut_short(path: &Path) -> bool {
    const ELF_64_BIT_LITTLE_ENDIAN: &[u8] = b"\x7fELF\x02\x01";
    let look = || -> std::io::Result<bool> {
        let mut file = File::open(path)?;
        let mut header = [0u8; 64];
        file.read_exact(&mut header)?;
        if !header.starts_with(ELF_64_BIT_LITTLE_ENDIAN) {
            return Ok(false);
        }
        let number =
            |at: usize, bytes: usize| header[at..at + bytes].iter().rfold(0, |n, &b| n << 8 | u64::from(b));
        let (start, size, count) = (number(40, 8), number(58, 2), number(60, 2));
        Ok(start.saturating_add(size * count) > file.metadata()?.len())
    };
    look().unwrap_or(false)
}

fn beside_executable() -> Option<PathBuf> {
    let executable = std::env::current_exe().ok()?;
    let folder = executable.parent()?;
    ["", "../lib", "../lib/weakrest", "../onnxruntime"]
        .iter()
        // Without `..` the path can be read, and it exists only if the file does.
        .find_map(|relative| {
            folder.join(relative).canonicalize().ok().map(|f| f.join(LIBRARY)).filter(|f| f.exists())
        })
}
