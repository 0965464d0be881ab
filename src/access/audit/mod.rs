//! The audit log: every change with who, when, from where, what, and the state before and after.
//!
//! A line is on disk before the change that it tells of. The file `audit.jsonl` of the state folder is only
//! appended to. A full one is kept as `audit-FIRST.jsonl`, named by its first line; the next begins with its
//! hash. Of many the oldest is removed, and the log says which.

pub(crate) mod chain;
mod log;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde_json::{Value, json};

use super::Who;
use crate::clock::utc;
use crate::error::{Error, ErrorKind, Result};
pub(crate) use chain::Entry;
pub(crate) use log::Limits;
use log::Log;

/// How long a request waits for the disk.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a disk that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Changes that may wait for the disk.
const MOST_WAITING: usize = 64;

/// The log. A thread of its own writes it, so that a disk which does not answer holds nobody for long.
pub(crate) struct Audit {
    jobs: Sender<Job>,
    folder: PathBuf,
    shared: Arc<Shared>,
}

struct Job {
    entry: Entry,
    /// Whether it has happened already, whatever becomes of the line.
    has_happened: bool,
    done: Sender<Result<u64>>,
}

#[derive(Default)]
struct Shared(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Since when the disk is at work.
    busy: Option<Instant>,
    /// Whether a request has waited for it in vain: the next ones need not.
    given_up: bool,
    /// Why nothing can be written.
    problem: Option<String>,
    /// What is wrong with the lines of before.
    damage: Option<String>,
}

impl Audit {
    /// Opens the log in a state folder. It need not exist, nor be writable yet.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the thread that writes cannot be started.
    pub fn open(folder: PathBuf) -> Result<Arc<Audit>> {
        Self::with_limits(folder, Limits::default())
    }

    /// The same with other sizes of its files.
    pub(crate) fn with_limits(folder: PathBuf, limits: Limits) -> Result<Arc<Audit>> {
        let (jobs, received) = bounded(MOST_WAITING);
        let shared = Arc::new(Shared::default());
        let (theirs, place) = (Arc::clone(&shared), folder.clone());
        std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || keep(&received, &theirs, &place, limits))
            .map_err(|e| {
                Error::new(ErrorKind::Io, "cannot start the thread that keeps the audit log").with_source(e)
            })?;
        Ok(Arc::new(Audit { jobs, folder, shared }))
    }

    /// Records a change that is about to be made, with the state as it is and as it is to be. On success the
    /// line is on disk. Returns its number.
    ///
    /// # Errors
    /// Why it is not. The change must not be made then.
    pub fn record(&self, who: &Who, what: &str, before: Value, after: Value) -> Result<u64> {
        self.write(who, what, before, after, false)
    }

    /// Records what has happened already. A failure is also told by [`Audit::problem`].
    ///
    /// # Errors
    /// Why it is not recorded.
    pub fn note(&self, who: &Who, what: &str, before: Value, after: Value) -> Result<u64> {
        self.write(who, what, before, after, true)
    }

    fn write(&self, who: &Who, what: &str, before: Value, after: Value, has_happened: bool) -> Result<u64> {
        let entry = entry_of(who, what, before, after);
        let silent = || {
            let text = format!("the audit log's disk does not answer for {} s", PATIENCE.as_secs());
            Error::new(ErrorKind::Io, text)
        };
        if self.shared.lock().hangs() {
            return Err(silent());
        }
        let (done, answer) = bounded(1);
        self.jobs
            .try_send(Job { entry, has_happened, done })
            .map_err(|_| Error::new(ErrorKind::Io, "too many changes wait for the audit log"))?;
        match answer.recv_timeout(PATIENCE) {
            Ok(result) => result,
            Err(_) => answer.try_recv().unwrap_or_else(|_| {
                self.shared.lock().given_up = true;
                Err(silent())
            }),
        }
    }

    /// What is wrong with the log, to be shown until it ends.
    pub fn problem(&self) -> Option<String> {
        let known = self.shared.lock();
        let stuck = known.hangs().then(|| "its disk does not answer".to_owned());
        let refused = stuck.or_else(|| known.problem.clone());
        let refused = refused.map(|why| format!("changes other than halt are refused: {why}"));
        refused.or_else(|| known.damage.clone())
    }

    /// The lines after number `after`, as they are in the files, at most `most`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn lines(&self, after: u64, most: usize) -> Result<Vec<String>> {
        log::lines(&self.folder, after, most)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Known {
    fn hangs(&self) -> bool {
        self.busy.is_some_and(|since| self.given_up || since.elapsed() >= PATIENCE)
    }
}

fn entry_of(who: &Who, what: &str, before: Value, after: Value) -> Entry {
    Entry {
        n: 0,
        previous: String::new(),
        at: utc(SystemTime::now()),
        who: who.person.to_string(),
        from: who.from.map(|from| from.to_string()),
        what: what.into(),
        before,
        after,
    }
}

/// Writes each line until all handles are dropped.
fn keep(jobs: &Receiver<Job>, shared: &Shared, folder: &Path, limits: Limits) {
    let mut writer = Writer { folder, limits, shared, log: None, missed: VecDeque::new() };
    loop {
        match jobs.recv_timeout(RETRY) {
            Ok(job) => writer.write(job),
            Err(RecvTimeoutError::Timeout) if shared.lock().problem.is_some() => drop(writer.retry()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

struct Writer<'a> {
    folder: &'a Path,
    limits: Limits,
    shared: &'a Shared,
    log: Option<Log>,
    /// What happened while nothing could be written.
    missed: VecDeque<Entry>,
}

impl Writer<'_> {
    fn write(&mut self, job: Job) {
        let Job { entry, has_happened, done } = job;
        let kept = has_happened.then(|| entry.clone());
        let result = self.retry().and_then(|()| self.append(entry));
        if let (Err(_), Some(entry)) = (&result, kept) {
            self.missed.truncate(MOST_WAITING - 1);
            self.missed.push_back(entry);
        }
        let number = result.as_ref().ok().copied();
        // Whoever asked has given up, and refused the change.
        if done.send(result).is_err()
            && !has_happened
            && let Some(n) = number
        {
            // A failure is told by the log's own problem.
            let _ = self.append(entry_of(&Who::service(), "not carried out", json!({"n": n}), Value::Null));
        }
    }

    /// Writes what was missed. It has the time at which it happened.
    fn retry(&mut self) -> Result<()> {
        while let Some(entry) = self.missed.front().cloned() {
            self.append(entry)?;
            self.missed.pop_front();
        }
        // Not locked while it is written.
        let problem = self.shared.lock().problem.clone();
        match problem {
            Some(problem) => self
                .append(entry_of(&Who::service(), "recorded again", json!({"problem": problem}), Value::Null))
                .map(drop),
            None => Ok(()),
        }
    }

    fn append(&mut self, entry: Entry) -> Result<u64> {
        self.shared.lock().busy = Some(Instant::now());
        let result = self.appended(entry);
        let mut known = self.shared.lock();
        (known.busy, known.given_up) = (None, false);
        known.problem = result.as_ref().err().map(Error::chain);
        if result.is_err() {
            // The file may end in a part of the line. What is there is found out when it is opened again.
            self.log = None;
        }
        result
    }

    fn appended(&mut self, entry: Entry) -> Result<u64> {
        let log = match &mut self.log {
            Some(log) => log,
            none => {
                let (opened, damage) = Log::open(self.folder, self.limits)?;
                self.shared.lock().damage = damage;
                none.insert(opened)
            }
        };
        log.append(entry)
    }
}

#[cfg(test)]
mod tests;
