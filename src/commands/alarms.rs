//! Keeps latched errors from one line to the next, and from one start of the service to the next: only a person ends them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::record::Status;
use crate::state::StateFolder;

/// The file of the state folder that they are written to.
const FILE: &str = "alarms.json";

/// What is told of pulses that were not given and of parts that passed untold, and not seen by a person.
pub struct Alarms {
    state: StateFolder,
    /// By component.
    texts: BTreeMap<String, String>,
    /// Of the line that is followed.
    status: Option<Arc<Status>>,
}

impl Alarms {
    /// What was told when the service ended.
    pub fn read(state: StateFolder) -> Self {
        let texts = state.read(FILE).unwrap_or_else(|e| {
            log::error!("{}", e.chain());
            let text =
                "there may have been alarms before the service was started; what was told of them is damaged";
            Some(BTreeMap::from([(Status::GATE.into(), text.into())]))
        });
        Alarms { state, texts: texts.unwrap_or_default(), status: None }
    }

    /// Writes down what a line tells now. One that is new is told what the one before told.
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

    /// Writes down what the line that is followed told last.
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
            log::error!("alarms will be forgotten when the service ends: {}", e.chain());
        }
        self.texts = texts;
    }
}
