//! Keeps latched errors across restarts of the line and of the service. Only a person clears them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::record::Status;
use crate::state::StateFolder;

/// Their file in the state folder.
const FILE: &str = "alarms.json";

/// Latched errors: missed pulses, and parts that passed without a verdict.
pub struct Alarms {
    state: StateFolder,
    /// By component.
    texts: BTreeMap<String, String>,
    /// The status of the present line.
    status: Option<Arc<Status>>,
}

impl Alarms {
    /// Reads the errors from the last run of the service.
    pub fn read(state: StateFolder) -> Self {
        let texts = state.read(FILE).unwrap_or_else(|e| {
            log::error!("{}", e.chain());
            let text = "the alarms of the last run are lost; their file is damaged";
            Some(BTreeMap::from([(Status::GATE.into(), text.into())]))
        });
        Alarms { state, texts: texts.unwrap_or_default(), status: None }
    }

    /// Saves the errors of a line. A new line takes over those of the line before.
    pub fn follow(&mut self, status: &Arc<Status>) {
        if !self.status.as_ref().is_some_and(|known| Arc::ptr_eq(known, status)) {
            self.keep();
            for component in Status::LATCHED {
                if let Some(text) = self.texts.get(component) {
                    status.latch(component, text.as_str());
                }
            }
            self.status = Some(Arc::clone(status));
        }
        self.keep();
    }

    /// Saves the errors of the present line.
    pub fn keep(&mut self) {
        let Some(status) = &self.status else { return };
        let texts: BTreeMap<String, String> = Status::LATCHED
            .into_iter()
            .filter_map(|component| Some((component.to_owned(), status.latched(component)?)))
            .collect();
        if texts == self.texts {
            return;
        }
        let written = if texts.is_empty() { self.state.remove(FILE) } else { self.state.write(FILE, &texts) };
        if let Err(e) = written {
            log::error!("alarms cannot be saved and will be lost when the service ends: {}", e.chain());
        }
        self.texts = texts;
    }
}
