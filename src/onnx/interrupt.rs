//! Interrupting networks: one with a loop may never end.

use std::sync::{Arc, Mutex, Weak};

use ort::session::RunOptions;

use crate::error::{Error, ErrorKind, Result};

/// Ends all runs of the networks loaded with it, now and later, from another thread.
///
/// ```
/// use weakrest::inspector::{Execution, Interrupt, Options};
///
/// let interrupt = Interrupt::default();
/// let execution = Execution { interrupt: interrupt.clone(), ..Execution::default() };
/// let options = Options { execution, ..Options::default() };
/// // Load an inspector with these options. From another thread:
/// interrupt.interrupt();
/// # let _ = options;
/// ```
#[derive(Clone, Default)]
pub struct Interrupt(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    over: bool,
    runs: Vec<Weak<RunOptions>>,
}

impl Interrupt {
    /// Ends the runs. They return an error.
    pub fn interrupt(&self) {
        let mut known = self.0.lock().unwrap_or_else(|e| e.into_inner());
        known.over = true;
        for run in known.runs.iter().filter_map(Weak::upgrade) {
            end(&run);
        }
    }

    /// Options for a network's runs.
    pub(super) fn options(&self) -> Result<Arc<RunOptions>> {
        let options = RunOptions::new().map(Arc::new).map_err(|e| {
            Error::new(ErrorKind::Runtime, "ONNX Runtime refused options for a run").with_source(e)
        })?;
        let mut known = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if known.over {
            end(&options);
        }
        known.runs.push(Arc::downgrade(&options));
        Ok(options)
    }
}

fn end(run: &RunOptions) {
    if let Err(e) = run.terminate() {
        log::warn!("a network cannot be interrupted: {e}");
    }
}

impl std::fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interrupt")
    }
}

/// Two settings are equal even if different interrupts can end them.
impl PartialEq for Interrupt {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
