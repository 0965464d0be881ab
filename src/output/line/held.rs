//! The lines that a service holds, noted when it takes them. A release needs only this note after a
//! crash, even if the configuration has changed.

use std::path::{Path, PathBuf};

use gpiocdev::chip::Chip;
use serde::{Deserialize, Serialize};

use super::Settings;
use super::gpio::{GpioLines, refused};
use crate::error::{Error, ErrorKind, Result};
use crate::state::StateFolder;

/// File in the state folder.
const FILE: &str = "lines.json";

/// Lines of a chip that a service holds, or held when it died.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLines {
    /// The chip.
    pub chip: PathBuf,
    /// The chip's label. Its path can name another chip after a reboot or after unplugging one.
    #[serde(default)]
    pub label: Option<String>,
    /// Numbers of the lines, the gate's first.
    pub lines: Vec<u32>,
    /// Whether they are low when active.
    #[serde(default)]
    pub active_low: bool,
}

impl HeldLines {
    /// The lines of a configuration, if there are any.
    pub fn of(settings: &Settings) -> Option<Self> {
        let chip = settings.chip.clone()?;
        let label = label(&chip).ok();
        let lines = settings.reject.into_iter().chain(settings.healthy).collect();
        Some(HeldLines { chip, label, lines, active_low: settings.active_low })
    }

    /// Reads the note of a service.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the note cannot be read or is damaged.
    pub fn read(state: &StateFolder) -> Result<Option<Self>> {
        state.read(FILE)
    }

    /// Notes the lines of a configuration, for a release after a crash. Called before any line is driven.
    pub fn note(settings: &Settings, state: &StateFolder) {
        let written = match &HeldLines::of(settings) {
            // Nothing is written without a change, so a full disk does not matter then.
            Some(held) if HeldLines::read(state).is_ok_and(|old| old.as_ref() == Some(held)) => Ok(()),
            Some(held) => state.write(FILE, held),
            None => HeldLines::forget(state),
        };
        if let Err(e) = written {
            // No note is better than a wrong one.
            let _ = HeldLines::forget(state);
            log::warn!(
                "line: {}; after a crash the lines to release are read from the configuration",
                e.chain()
            );
        }
    }

    /// Removes the note: no lines are held.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the note cannot be removed.
    pub fn forget(state: &StateFolder) -> Result<()> {
        state.remove(FILE)
    }

    /// Drives the lines to their inactive level. A failure of one does not stop the others.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] for each line that is missing or in use.
    pub fn release(&self) -> std::result::Result<(), Vec<Error>> {
        let chip = self.find().map_err(|e| vec![e])?;
        // Taking a line makes it inactive, and releasing it changes nothing.
        let errors: Vec<Error> = self
            .lines
            .iter()
            .filter_map(|line| GpioLines::open(&chip, Some(*line), None, self.active_low).err())
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// The present path of the chip.
    fn find(&self) -> Result<PathBuf> {
        let here = label(&self.chip);
        let Some(wanted) = &self.label else { return Ok(self.chip.clone()) };
        if here.as_ref().is_ok_and(|here| here == wanted) {
            return Ok(self.chip.clone());
        }
        let chips = gpiocdev::chip::chips().unwrap_or_default();
        let mut same = chips.into_iter().filter(|chip| label(chip).is_ok_and(|label| label == *wanted));
        match (same.next(), same.next(), here) {
            (Some(chip), None, _) => Ok(chip),
            (_, _, Err(e)) => Err(refused(&self.chip, &self.lines, e)),
            (_, _, Ok(here)) => Err(Error::new(
                ErrorKind::Device,
                format!(
                    "{} is now \"{here}\"; \"{wanted}\", whose lines {:?} were held, is missing: find it with `gpiodetect`",
                    self.chip.display(),
                    self.lines
                ),
            )),
        }
    }
}

fn label(chip: &Path) -> std::result::Result<String, gpiocdev::Error> {
    Ok(Chip::from_path(chip)?.info()?.label)
}
