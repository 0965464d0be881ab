//! Outputs of the line. Each is optional and has its own thread and bounded queue, so none can delay the
//! line.
//!
//! ```no_run
//! use weakrest::output::journal::{self, Journal, JournalSummary};
//! use weakrest::output::modbus::{self, Modbus};
//! use weakrest::output::mqtt::{self, Mqtt};
//! use weakrest::output::pictures::{self, Pictures};
//! use weakrest::output::run_id;
//! use weakrest::output::web::{self, Tls, View, WebPage};
//! use weakrest::pipeline::Pipeline;
//!
//! fn attach(pipeline: &mut Pipeline) -> weakrest::Result<()> {
//!     let run = run_id();
//!     let settings = journal::Settings { path: "parts.sqlite".into(), ..Default::default() };
//!     pipeline.attach(Box::new(Journal::new(settings, &run)?))?;
//!     let settings = pictures::Settings { folder: "kept".into(), ..Default::default() };
//!     pipeline.attach(Box::new(Pictures::new(settings, &run)?))?;
//!     let settings = mqtt::Settings { host: "broker.local".into(), ..Default::default() };
//!     pipeline.attach(Box::new(Mqtt::new(settings, &run)?))?;
//!     let settings = modbus::Settings { require_poll_seconds: Some(5), ..Default::default() };
//!     pipeline.attach(Box::new(Modbus::start(&settings, &run, pipeline.control())?))?;
//!     let settings = web::Settings {
//!         accounts_file: Some("accounts".into()),
//!         tls: Tls::Off,
//!         view: View::SignedIn,
//!         ..Default::default()
//!     };
//!     let page = WebPage::start(&settings, pipeline.control())?;
//!     pipeline.attach(Box::new(page))
//! }
//!
//! let JournalSummary { parts, missing, .. } = journal::check("parts.sqlite")?;
//! println!("{parts} parts, {missing} missing");
//! # Ok::<(), weakrest::Error>(())
//! ```

pub mod journal;
pub mod line;
pub mod modbus;
pub mod mqtt;
pub mod pictures;
#[cfg(test)]
pub(crate) mod tests;
pub mod web;

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::time::SystemTime;

use serde_json::json;

use crate::access::{Audit, Who};
use crate::error::Result;
use crate::record::{Record, Status};

/// Receives every part's record. Its methods run on their own thread and may block. If its queue fills
/// meanwhile, the oldest parts are dropped and counted.
pub trait Output: Send {
    /// Name for logs, counters and problems.
    fn name(&self) -> &'static str;

    /// Passes on one part.
    ///
    /// # Errors
    /// Any error. It is counted, and shown until a part is passed on again. The next part is tried in any
    /// case.
    fn publish(&mut self, record: &Record) -> Result<()>;

    /// Called about once a second, with or without parts.
    ///
    /// # Errors
    /// As [`Output::publish`].
    fn tick(&mut self, now: SystemTime, status: &Status) -> Result<()> {
        let _ = (now, status);
        Ok(())
    }

    /// Called once, after the last part.
    ///
    /// # Errors
    /// As [`Output::publish`].
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A new name for one run of the service: 16 random hexadecimal digits. Part numbers start again at 1 in each
/// run, so run and part together identify a part. All outputs of a run get the same name.
pub fn run_id() -> String {
    // The keys of the standard library's hash tables come from the operating system's random numbers.
    format!("{:016x}", RandomState::new().hash_one(SystemTime::now()))
}

/// Controls of a running line, for outputs such as a web page.
pub trait Control: Send + Sync {
    /// Triggers a part now and returns its number.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] if the line has no software trigger.
    fn trigger(&self) -> Result<u64>;

    /// Halts or resumes the line for a person.
    ///
    /// # Errors
    /// Why the decision could not be written to disk. The line is halted then, in both cases.
    fn set_halted(&self, halted: bool) -> Result<()>;

    /// Requests a reload of the configuration.
    fn reload(&self);

    /// Requests another recipe: the package with this number. How it ended is in the status, as for a reload.
    fn select_recipe(&self, number: u16);

    /// State, counters and times.
    fn status(&self) -> &Status;
}

/// Asks for a recipe, and records who did.
///
/// # Errors
/// As [`Audit::record`]. The recipe is not asked for then.
pub(crate) fn choose_recipe(
    control: &dyn Control,
    audit: Option<&Audit>,
    who: &Who,
    number: u16,
) -> Result<()> {
    let present = control.status().engine().recipe;
    if let Some(audit) = audit.filter(|_| number != present) {
        audit.record(who, "recipe", json!({"recipe": present}), json!({"recipe": number}))?;
    }
    // Another one can be on its way.
    control.select_recipe(number);
    Ok(())
}

/// Copies kept pictures to the folder for labeling.
pub(crate) trait Labeling: Send + Sync {
    /// Copies the original of a rejected part of a run, by default this one. `triggered` is its trigger time,
    /// exact to the millisecond.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] if the picture is not kept; otherwise the error of the files.
    fn label(&self, run: Option<&str>, part: u64, triggered: SystemTime) -> Result<Labeled>;
}

/// A picture in the folder for labeling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Labeled {
    /// Its path.
    pub file: PathBuf,
    /// False if it was already there.
    pub copied: bool,
}

/// An output that is opened again until it works, and reports the error until then. So a broken disk or a
/// taken port does not stop the line.
pub(crate) struct Reopening<F> {
    name: &'static str,
    open: F,
    output: Option<Box<dyn Output>>,
}

impl<F: FnMut() -> Result<Box<dyn Output>> + Send> Reopening<F> {
    /// Opens the output for the first time.
    pub fn new(name: &'static str, mut open: F) -> Self {
        let output = match open() {
            Ok(output) => Some(output),
            Err(e) => {
                log::warn!("{name}: {}; retrying", e.chain());
                None
            }
        };
        Reopening { name, open, output }
    }

    fn opened(&mut self) -> Result<&mut Box<dyn Output>> {
        match &mut self.output {
            Some(output) => Ok(output),
            none => Ok(none.insert((self.open)()?)),
        }
    }
}

impl<F: FnMut() -> Result<Box<dyn Output>> + Send> Output for Reopening<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn publish(&mut self, record: &Record) -> Result<()> {
        self.opened()?.publish(record)
    }

    fn tick(&mut self, now: SystemTime, status: &Status) -> Result<()> {
        self.opened()?.tick(now, status)
    }

    fn finish(&mut self) -> Result<()> {
        self.output.as_mut().map_or(Ok(()), |output| output.finish())
    }
}
