//! The program itself as a child: what takes long runs in a process of its own, at the lowest priority. If it fails,
//! hangs or runs out of memory, the line goes on.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::onnx::Provider;

/// How to start the program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// Its file.
    pub file: PathBuf,
    /// ONNX Runtime's library, if the configuration names one.
    pub onnxruntime: Option<PathBuf>,
    /// Providers for networks.
    pub providers: Vec<Provider>,
    /// Whether a GPU starts the kernels of a network one by one.
    pub no_graphs: bool,
}

/// Stops a child from another thread.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    asked: AtomicBool,
    child: Mutex<Option<Child>>,
}

impl Stop {
    pub fn stop(&self) {
        self.0.asked.store(true, Relaxed);
        if let Some(child) = &mut *self.child() {
            // Fails only if it has ended.
            let _ = child.kill();
        }
    }

    pub fn is_asked(&self) -> bool {
        self.0.asked.load(Relaxed)
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.0.child.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Longest line that is read, and most that is kept of complaints, in bytes.
const LONGEST: u64 = 16 << 20;
const COMPLAINTS: u64 = 64 << 10;

impl Program {
    /// Runs a command with JSON output in the background. Passes on each line of JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Runtime`] with what the program said, if it fails or is stopped.
    pub fn run(
        &self,
        arguments: &[&str],
        files: &[&Path],
        stop: &Stop,
        mut line: impl FnMut(Value),
    ) -> Result<()> {
        let mut command = self.command(arguments);
        command.arg("--json");
        if let Some(library) = &self.onnxruntime {
            command.arg("--onnxruntime").arg(library);
        }
        if !self.providers.is_empty() {
            let names: Vec<&str> = self.providers.iter().map(|provider| provider.name()).collect();
            command.arg("--provider").arg(names.join(","));
        }
        if self.no_graphs {
            command.arg("--no-graphs");
        }
        command.arg("--").args(files);
        let mut child = command.spawn().map_err(failed)?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        *stop.child() = Some(child);
        if stop.is_asked() {
            stop.stop();
        }
        let listener = std::thread::spawn(move || complaints(err));
        let mut lines = out.map(BufReader::new);
        let mut bytes = Vec::new();
        while let Some(lines) = &mut lines {
            bytes.clear();
            if !lines.by_ref().take(LONGEST).read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
                break;
            }
            if let Ok(value) = serde_json::from_slice(&bytes) {
                line(value);
            }
        }
        let complaints = listener.join().unwrap_or_default();
        let child = stop.child().take();
        let status = child.map(|mut child| child.wait()).transpose().map_err(failed)?;
        if stop.is_asked() {
            return Err(Error::new(ErrorKind::Runtime, "stopped"));
        }
        match status.and_then(|status| status.code()) {
            // 1 is a verdict: a part is rejected. 3 without an error is a picture that cannot be inspected.
            Some(0 | 1) => Ok(()),
            Some(3) if complaints.is_empty() => Ok(()),
            code => Err(why(&complaints, code)),
        }
    }

    /// A command of the program in the background, with pipes for what it prints.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.file);
        command.args(arguments).arg("--background");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // The service's own talk with systemd is not the child's.
        command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
        command
    }
}

/// Why the program cannot be started.
pub fn failed(e: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "cannot start weakrest again").with_source(e)
}

/// Reads to its end what a program says, without its notes.
pub fn complaints(err: Option<ChildStderr>) -> String {
    let mut text = Vec::new();
    if let Some(mut err) = err {
        let _ = err.by_ref().take(COMPLAINTS).read_to_end(&mut text);
        // A full pipe would stop the program.
        let _ = std::io::copy(&mut err, &mut std::io::sink());
    }
    let text = String::from_utf8_lossy(&text);
    let said: Vec<&str> = text.lines().filter(|line| !is_remark(line)).collect();
    said.join("; ")
}

/// Why a program has ended, by what it said and its exit code.
pub fn why(complaints: &str, code: Option<i32>) -> Error {
    let text = match (complaints.strip_prefix("error: ").unwrap_or(complaints), code) {
        ("", Some(code)) => format!("weakrest ended with exit code {code}"),
        ("", None) => "weakrest was killed, maybe because memory ran out".to_owned(),
        (said, _) => said.to_owned(),
    };
    Error::new(ErrorKind::Runtime, text)
}

/// Whether a line is a note or of the log, and no error.
fn is_remark(line: &str) -> bool {
    ["note: ", "left out: ", "["].iter().any(|start| line.starts_with(start))
}
