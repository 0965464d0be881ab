//! Which lines a service holds, as it is written down when it takes them: whoever releases them after a crash needs nothing
//! else, whatever has become of the configuration.

use std::path::{Path, PathBuf};

use gpiocdev::chip::Chip;
use serde::{Deserialize, Serialize};

use super::Settings;
use super::gpio::{GpioLines, refused};
use crate::error::{Error, ErrorKind, Result};
use crate::state::StateFolder;

/// The file of the state folder that they are written to.
const FILE: &str = "lines.json";

/// Lines of a chip that a service holds, or held when it died.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLines {
    /// The chip.
    pub chip: PathBuf,
    /// What the chip calls itself. Its path may be another chip's after a restart of the machine, or when one is unplugged.
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

    /// What a service has written down when it took its lines.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when that cannot be read, or is damaged.
    pub fn read(state: &StateFolder) -> Result<Option<Self>> {
        state.read(FILE)
    }

    /// Writes down the lines of a configuration, for whoever releases them after a crash. Called before any is driven.
    pub fn note(settings: &Settings, state: &StateFolder) {
        let written = match &HeldLines::of(settings) {
            // Nothing is written where nothing has changed: a full disk does not matter then.
            Some(held) if HeldLines::read(state).is_ok_and(|old| old.as_ref() == Some(held)) => Ok(()),
            Some(held) => state.write(FILE, held),
            None => HeldLines::forget(state),
        };
        if let Err(e) = written {
            // What is not true is worse than nothing.
            let _ = HeldLines::forget(state);
            log::warn!(
                "line: {}; after a crash the lines to release are read from the configuration",
                e.chain()
            );
        }
    }

    /// Notes that no lines are held any more.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when what was noted cannot be removed.
    pub fn forget(state: &StateFolder) -> Result<()> {
        state.remove(FILE)
    }

    /// Makes the lines inactive. All are tried, whatever becomes of one of them.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] for each line that is not there or taken.
    pub fn release(&self) -> std::result::Result<(), Vec<Error>> {
        let chip = self.find().map_err(|e| vec![e])?;
        // Taking hold of a line makes it inactive, and letting it go changes nothing.
        let errors: Vec<Error> = self
            .lines
            .iter()
            .filter_map(|line| GpioLines::open(&chip, Some(*line), None, self.active_low).err())
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Where the chip is now.
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
                    "{} is \"{here}\" now, and \"{wanted}\", whose lines {:?} were held, is not found: look for it (`gpiodetect`)",
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
