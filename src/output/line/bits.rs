//! Digital lines that choose the recipe: the simplest way for a controller without a network.
//!
//! The levels of the lines are the bits of the recipe's number. A controller does not set all lines in one moment, so
//! a number counts once it stays. 0 chooses nothing, as all lines of a broken cable show it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use gpiocdev::Request;
use gpiocdev::line::{Value, Values};
use serde::{Deserialize, Serialize};

use super::gpio::refused;
use crate::access::{Audit, Person, Who};
use crate::error::{Error, ErrorKind, Result};
use crate::output::{Control, Output, choose_recipe};
use crate::record::{Record, Status};
use crate::settings::range;

/// Time between two looks at the lines.
const LOOK: Duration = Duration::from_millis(10);
/// Pause before a number is asked for again that could not be recorded.
const AGAIN: Duration = Duration::from_secs(1);

/// The lines: `[recipes.bits]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The GPIO chip, such as `/dev/gpiochip0`.
    pub chip: PathBuf,
    /// Numbers of the lines on the chip, from the lowest bit on.
    pub lines: Vec<u32>,
    /// Whether a low level is a bit that is set.
    #[serde(default)]
    pub active_low: bool,
    /// How long a number must stay until it counts, in milliseconds.
    #[serde(default = "settled")]
    pub settle_ms: u64,
}

fn settled() -> u64 {
    50
}

impl Settings {
    /// Checks the values.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] naming the key.
    pub(crate) fn validate(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::setting("recipes.bits.lines", what));
        if !(1..=16).contains(&self.lines.len()) {
            return wrong("has the wrong length; set 1 to 16 lines, the lowest bit first");
        }
        if (1..self.lines.len()).any(|i| self.lines[..i].contains(&self.lines[i])) {
            return wrong("has a line twice; set each once");
        }
        range("recipes.bits.settle_ms", self.settle_ms, 1..=10_000)
    }
}

/// Looks at the lines, and asks for the recipe that they name.
pub(crate) struct Bits {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Why the lines cannot be read.
    trouble: Mutex<Option<String>>,
}

impl Shared {
    fn trouble(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Bits {
    /// Takes the lines.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] if the chip or a line is missing, in use or not accessible.
    pub fn open(settings: &Settings, control: Arc<dyn Control>, audit: Option<Arc<Audit>>) -> Result<Self> {
        let mut builder = Request::builder();
        builder.on_chip(&settings.chip).with_consumer("weakrest").with_lines(&settings.lines);
        if settings.active_low {
            builder.as_active_low();
        }
        let request =
            builder.as_input().request().map_err(|e| refused(&settings.chip, &settings.lines, e))?;
        let lines = settings.lines.clone();
        let mut settling = Settling::new(Duration::from_millis(settings.settle_ms));
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let look = move || {
            // Why the number of the lines could not be asked for.
            let mut refused = None;
            while !theirs.stop.load(Relaxed) {
                let who = Who { person: Person::Lines, from: None };
                let now = Instant::now();
                *theirs.trouble() = match number(&request, &lines) {
                    Err(e) => Some(e.chain()),
                    Ok(number) => {
                        if let Some(recipe) = settling.see(number, now) {
                            let asked = choose_recipe(&*control, audit.as_deref(), &who, recipe);
                            refused = asked.err().map(|e| e.chain());
                            if refused.is_some() {
                                settling.tell_again(now + AGAIN);
                            }
                        }
                        refused.clone()
                    }
                };
                std::thread::sleep(LOOK);
            }
        };
        let failed =
            |e| Error::new(ErrorKind::Io, "cannot start the thread of the recipe's lines").with_source(e);
        let thread = std::thread::Builder::new().name("bits".into()).spawn(look).map_err(failed)?;
        Ok(Bits { shared, thread: Some(thread) })
    }
}

/// The number that the lines show.
fn number(request: &Request, lines: &[u32]) -> Result<u16> {
    let mut values = Values::from_offsets(lines);
    let gone = |e| Error::new(ErrorKind::Device, "the recipe's lines cannot be read").with_source(e);
    request.values(&mut values).map_err(gone)?;
    let bits = lines.iter().enumerate().filter(|(_, line)| values.get(**line) == Some(Value::Active));
    Ok(bits.map(|(bit, _)| 1 << bit).sum())
}

impl Output for Bits {
    fn name(&self) -> &'static str {
        "recipe lines"
    }

    fn publish(&mut self, _: &Record) -> Result<()> {
        Ok(())
    }

    fn tick(&mut self, _: SystemTime, _: &Status) -> Result<()> {
        match &*self.shared.trouble() {
            None => Ok(()),
            Some(text) => Err(Error::new(ErrorKind::Device, text.clone())),
        }
    }
}

impl Drop for Bits {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits until a number stays. Pure: the caller passes the time.
struct Settling {
    time: Duration,
    seen: Option<(u16, Instant)>,
    told: u16,
}

impl Settling {
    fn new(time: Duration) -> Self {
        Settling { time, seen: None, told: 0 }
    }

    /// Takes the number that the lines show now. Returns it once, when it has stayed for long enough.
    fn see(&mut self, number: u16, now: Instant) -> Option<u16> {
        match self.seen {
            Some((same, since)) if same == number => {
                let is_new = number != 0 && number != self.told && now >= since + self.time;
                is_new.then(|| std::mem::replace(&mut self.told, number));
                is_new.then_some(number)
            }
            _ => {
                self.seen = Some((number, now));
                None
            }
        }
    }

    /// Returns the number once more, if it stays from this moment on.
    fn tell_again(&mut self, from: Instant) {
        self.told = 0;
        self.seen = self.seen.map(|(number, _)| (number, from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_counts_once_and_only_if_it_stays() {
        let start = Instant::now();
        let mut settling = Settling::new(Duration::from_millis(50));
        let mut see = |at, number| settling.see(number, start + Duration::from_millis(at));
        // 3 becomes 4 line by line, through 7 and 6.
        let seen =
            [(0, 3), (40, 3), (50, 3), (60, 3), (70, 7), (80, 6), (90, 4), (130, 4), (140, 4), (150, 4)];
        let told: Vec<_> = seen.into_iter().filter_map(|(at, number)| see(at, number)).collect();
        assert_eq!(told, [3, 4]);
        // A loose contact, and a broken cable.
        let seen = [(200, 6), (210, 4), (300, 4), (310, 0), (400, 0), (410, 4), (500, 4), (510, 5), (560, 5)];
        let told: Vec<_> = seen.into_iter().filter_map(|(at, number)| see(at, number)).collect();
        assert_eq!(told, [5]);
    }

    #[test]
    fn a_number_that_could_not_be_asked_for_counts_again_later() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut settling = Settling::new(Duration::from_millis(50));
        assert_eq!((settling.see(5, at(0)), settling.see(5, at(50))), (None, Some(5)));
        settling.tell_again(at(1050));
        let told = [60, 1000, 1090, 1100, 1110].map(|ms| settling.see(5, at(ms)));
        assert_eq!(told, [None, None, None, Some(5), None]);
    }
}
