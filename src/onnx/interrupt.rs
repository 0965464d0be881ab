//! Ending what networks compute: one with a loop may never end by itself.

use std::sync::{Arc, Mutex, Weak};

use ort::session::RunOptions;

use crate::error::{Error, ErrorKind, Result};

/// Ends all that networks compute which were loaded with it, from another thread and for good.
#[derive(Clone, Default)]
pub struct Interrupt(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    over: bool,
    runs: Vec<Weak<RunOptions>>,
}

impl Interrupt {
    /// Ends them. Whoever waits for one gets an error, now and later.
    pub fn interrupt(&self) {
        let mut known = self.0.lock().unwrap_or_else(|e| e.into_inner());
        known.over = true;
        for run in known.runs.iter().filter_map(Weak::upgrade) {
            end(&run);
        }
    }

    /// What a network's runs are to be given.
    pub(super) fn options(&self) -> Result<Arc<RunOptions>> {
        let options = RunOptions::new().map(Arc::new).map_err(|e| {
            Error::new(ErrorKind::Runtime, "ONNX Runtime gives no options for a run").with_source(e)
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

/// How a network runs does not depend on who may end it.
impl PartialEq for Interrupt {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
