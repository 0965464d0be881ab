//! The halt of the line. It survives reloads, crashes and restarts until a person resumes the line.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::part::{civil, unix_ms};
use super::{Problem, Severity};
use crate::error::{Error, ErrorKind, Result};
use crate::state::StateFolder;

/// File in the state folder while the line is halted.
const FILE: &str = "halted.json";
/// How long a person's request waits for the disk.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the halt of a fault waits for the disk.
const MOMENT: Duration = Duration::from_millis(500);
/// Pause before the next attempt on a failed disk.
const RETRY: Duration = Duration::from_secs(1);

/// Who halted the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HaltedBy {
    /// A person, through the web page, its API, or a PLC.
    Person,
    /// A fault, or a state that could not be read.
    Fault,
}

/// Why the line is halted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Halt {
    /// Time of the halt, in milliseconds since 1970.
    pub since_ms: u64,
    /// Who halted the line.
    pub by: HaltedBy,
    /// What happened.
    pub reason: String,
}

impl Halt {
    /// A halt with the present time.
    pub(crate) fn new(by: HaltedBy, reason: impl Into<String>) -> Self {
        Halt { since_ms: unix_ms(SystemTime::now()), by, reason: reason.into() }
    }
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [year, month, day, hour, minute, second, _] =
            civil(UNIX_EPOCH + Duration::from_millis(self.since_ms));
        let by = match self.by {
            HaltedBy::Person => "a person",
            HaltedBy::Fault => "a fault",
        };
        write!(
            f,
            "by {by} since {year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC: {}; \
             parts are faults until a person resumes the line",
            self.reason
        )
    }
}

/// The line's halt and its file. All lines of the process share it, one after the other.
///
/// The halt is in memory first, so that no thread of the line waits for a disk. Its own thread writes the
/// file.
#[derive(Debug, Default)]
pub struct Halts {
    halted: AtomicBool,
    /// Locked while a person's request waits for the disk. The next request waits.
    turn: Mutex<()>,
    kept: Arc<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    known: Mutex<Known>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Known {
    halt: Option<Halt>,
    /// Content of the file at the start.
    read: Option<Result<Option<Halt>, String>>,
    /// Content to write. `None` removes the file.
    file: Option<Halt>,
    /// Number of changes, number of the last written change, and why writing fails.
    wanted: u64,
    written: u64,
    /// The last change that [`Halts::settle`] waited for.
    settled: u64,
    failed: Option<(u64, String)>,
    /// Whether there is a file.
    outlives: bool,
    ended: bool,
}

impl Halts {
    /// Reads the state folder. A file that cannot be read halts the line.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the thread that reads and writes cannot be started.
    pub(crate) fn open(folder: StateFolder) -> Result<Arc<Self>> {
        let halts = Halts::default();
        let kept = Arc::clone(&halts.kept);
        std::thread::Builder::new().name("halt".into()).spawn(move || keep(&kept, &folder)).map_err(|e| {
            Error::new(ErrorKind::Io, "cannot start the thread that keeps halts").with_source(e)
        })?;
        {
            let mut known = halts.kept.wait(PATIENCE, |known| known.read.is_some());
            known.outlives = true;
            known.halt = known.read.take().unwrap_or_else(|| Err(Kept::silence())).unwrap_or_else(|why| {
                Some(Halt::new(HaltedBy::Fault, format!("the halt file cannot be read: {why}")))
            });
            if let Some(halt) = &known.halt {
                log::warn!("halted {halt}");
                halts.halted.store(true, Relaxed);
            }
        }
        Ok(Arc::new(halts))
    }

    /// Whether the line is halted.
    pub(crate) fn is_halted(&self) -> bool {
        self.halted.load(Relaxed)
    }

    /// Why the line is halted.
    pub(crate) fn halt(&self) -> Option<Halt> {
        self.kept.lock().halt.clone()
    }

    /// Halts the line at once; the file follows. The first of several reasons is kept.
    pub(crate) fn begin(&self, halt: Halt) {
        let mut known = self.kept.lock();
        self.halted.store(true, Relaxed);
        if known.halt.is_none() {
            known.halt = Some(halt.clone());
            self.kept.want(&mut known, Some(halt));
        }
    }

    /// Waits a moment for the file of a new halt, so that a crash right after a fault does not undo its halt.
    /// Waits only once for a slow or blocked disk.
    pub(crate) fn settle(&self) {
        let number = {
            let mut known = self.kept.lock();
            if known.settled == known.wanted {
                return;
            }
            known.settled = known.wanted;
            known.wanted
        };
        drop(self.kept.follow(MOMENT, number));
    }

    /// Halts or resumes the line for a person. On success the decision is on disk.
    ///
    /// # Errors
    /// Why it could not be written. The line is halted then in both cases: it is not resumed if a restart
    /// would halt it.
    pub(crate) fn decide(&self, halted: bool) -> Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(|e| e.into_inner());
        if halted {
            self.begin(Halt::new(HaltedBy::Person, "asked for through the web page or by a PLC"));
            let number = self.kept.lock().wanted;
            return self.kept.follow(PATIENCE, number).map(drop).map_err(|text| {
                let text = format!("the line is halted, but a restart would not keep it halted: {text}");
                Error::new(ErrorKind::Io, text)
            });
        }
        let number = self.kept.want(&mut self.kept.lock(), None);
        match self.kept.follow(PATIENCE, number) {
            // A halt in the meantime is kept.
            Ok(known) if known.wanted != number => Ok(()),
            Ok(mut known) => {
                known.halt = None;
                self.halted.store(false, Relaxed);
                Ok(())
            }
            Err(text) => {
                let mut known = self.kept.lock();
                let halt = known.halt.clone();
                self.kept.want(&mut known, halt);
                let text = format!("the line stays halted: a restart would halt it again: {text}");
                Err(Error::new(ErrorKind::Io, text))
            }
        }
    }

    /// Problems to show: the halt, and a failure to write its file.
    pub(super) fn problems(&self) -> impl Iterator<Item = (&'static str, Problem)> {
        let known = self.kept.lock();
        let warn = |text| Problem { severity: Severity::Warning, text };
        let halted = known.halt.as_ref().map(|halt| ("halted", warn(halt.to_string())));
        let failed = known.failed.as_ref().map(|(_, why)| {
            (
                "halt file",
                warn(format!(
                    "the halt file cannot be written, so a restart may not keep the line's state: {why}"
                )),
            )
        });
        halted.into_iter().chain(failed)
    }
}

impl Drop for Halts {
    fn drop(&mut self) {
        self.kept.lock().ended = true;
        self.kept.changed.notify_all();
    }
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Known> {
        // Nothing that was half done is left in it by a panic.
        self.known.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Requests a change of the file. Returns the number of the change.
    fn want(&self, known: &mut Known, file: Option<Halt>) -> u64 {
        known.file = file;
        if known.outlives {
            known.wanted += 1;
            self.changed.notify_all();
        }
        known.wanted
    }

    /// Waits for the disk, for a limited time.
    fn wait(&self, patience: Duration, done: impl Fn(&Known) -> bool) -> MutexGuard<'_, Known> {
        let limit = Instant::now() + patience;
        let mut known = self.lock();
        while !done(&known) {
            let left = limit.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            known = self.changed.wait_timeout(known, left).unwrap_or_else(|e| e.into_inner()).0;
        }
        known
    }

    /// Waits until a change is written. Returns why it was not.
    fn follow(&self, patience: Duration, number: u64) -> Result<MutexGuard<'_, Known>, String> {
        let failed = |known: &Known| known.failed.clone().filter(|(failed, _)| *failed >= number);
        let known = self.wait(patience, |known| known.written >= number || failed(known).is_some());
        if known.written >= number {
            return Ok(known);
        }
        Err(failed(&known).map_or_else(Self::silence, |(_, why)| why))
    }

    fn silence() -> String {
        format!("the disk did not answer for {} s", PATIENCE.as_secs())
    }
}

/// Reads the file, then writes each requested change until all handles are dropped.
fn keep(kept: &Kept, folder: &StateFolder) {
    let read = folder.read::<Halt>(FILE).map_err(|e| e.chain());
    let mut known = kept.lock();
    known.read = Some(read);
    kept.changed.notify_all();
    loop {
        if known.written == known.wanted {
            if known.ended {
                return;
            }
            known = kept.changed.wait(known).unwrap_or_else(|e| e.into_inner());
            continue;
        }
        let (number, file) = (known.wanted, known.file.clone());
        drop(known);
        let result = match &file {
            Some(halt) => folder.write(FILE, halt),
            None => folder.remove(FILE),
        };
        known = kept.lock();
        match result {
            Ok(()) => (known.written, known.failed) = (number, None),
            Err(e) => {
                if known.failed.is_none() {
                    log::warn!("halt: {}", e.chain());
                }
                known.failed = Some((number, e.chain()));
                if known.ended {
                    return;
                }
            }
        }
        kept.changed.notify_all();
        if known.failed.is_some() && known.wanted == number {
            known = kept.changed.wait_timeout(known, RETRY).unwrap_or_else(|e| e.into_inner()).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(at: &std::path::Path) -> StateFolder {
        StateFolder::locate(Some(at.join("state")), at)
    }

    #[test]
    fn a_halt_is_on_disk_before_it_is_answered_and_only_a_resume_ends_it() {
        let at = tempfile::tempdir().unwrap();
        let halts = Halts::open(folder(at.path())).unwrap();
        assert!(!halts.is_halted());
        halts.decide(true).unwrap();
        let written: Halt = folder(at.path()).read(FILE).unwrap().unwrap();
        assert_eq!((Some(&written), written.by), (halts.halt().as_ref(), HaltedBy::Person));
        // A fault later on does not change who halted it first.
        halts.begin(Halt::new(HaltedBy::Fault, "part 7"));
        let again = Halts::open(folder(at.path())).unwrap();
        assert_eq!((again.is_halted(), again.halt()), (true, Some(written)));
        again.decide(false).unwrap();
        assert!(!again.is_halted() && again.halt().is_none());
        assert!(!Halts::open(folder(at.path())).unwrap().is_halted());
    }

    #[test]
    fn a_fault_halts_at_once_and_the_file_follows() {
        let at = tempfile::tempdir().unwrap();
        let halts = Halts::open(folder(at.path())).unwrap();
        halts.begin(Halt::new(HaltedBy::Fault, "part 7: no picture"));
        assert!(halts.is_halted());
        halts.decide(true).unwrap();
        let written: Halt = folder(at.path()).read(FILE).unwrap().unwrap();
        assert_eq!(written.reason, "part 7: no picture");
        let problem = halts.problems().next().unwrap();
        assert!(problem.0 == "halted" && problem.1.text.contains("by a fault since 20"), "{problem:?}");
    }

    #[test]
    fn what_cannot_be_read_or_written_leaves_the_line_halted_and_is_told() {
        let at = tempfile::tempdir().unwrap();
        let state = folder(at.path());
        for damage in [&b""[..], b"{", b"\0\0\0\0", b"null", b"{\"by\": \"nobody\"}"] {
            std::fs::create_dir_all(at.path().join("state")).unwrap();
            std::fs::write(state.file(FILE), damage).unwrap();
            let halts = Halts::open(state.clone()).unwrap();
            assert!(halts.is_halted(), "{damage:?}");
            assert!(halts.halt().unwrap().reason.contains("halted.json"), "{:?}", halts.halt());
            halts.decide(false).unwrap();
            assert!(!halts.is_halted() && !state.file(FILE).exists());
        }
        // A disk that does not answer, as a pipe does not that nobody writes to.
        let made = std::process::Command::new("mkfifo").arg(state.file(FILE)).status();
        assert!(made.unwrap().success());
        let halts = Halts::open(state.clone()).unwrap();
        assert!(halts.is_halted() && halts.halt().unwrap().reason.contains("did not answer"));
        // Somebody does, so that the thread ends.
        std::fs::write(state.file(FILE), "{").unwrap();
        halts.decide(false).unwrap();
        // A folder in the file's place can neither be replaced nor removed.
        let halts = Halts::open(state.clone()).unwrap();
        std::fs::create_dir_all(state.file(FILE).join("in the way")).unwrap();
        let told = halts.decide(true).unwrap_err().chain();
        assert!(halts.is_halted() && told.contains("restart would not keep it halted"), "{told}");
        assert!(halts.problems().any(|(name, p)| name == "halt file" && p.text.contains("halted.json")));
        assert!(halts.decide(false).unwrap_err().chain().contains("stays halted"));
        assert!(halts.is_halted() && Halts::open(state.clone()).unwrap().is_halted());
        std::fs::remove_dir_all(state.file(FILE)).unwrap();
        halts.decide(false).unwrap();
        assert!(!halts.is_halted() && halts.problems().next().is_none());
    }
}
