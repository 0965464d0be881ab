//! The journal: one row per part in an SQLite database.
//!
//! Rows are committed at least once a second, and each commit reaches the disk (`synchronous = FULL`). A
//! power cut loses at most the last second and damages nothing. SQLite's write-ahead log allows reading
//! meanwhile. Only the journal's own thread uses the disk. While the disk fails or blocks, rows wait in
//! memory.
//!
//! Removal does not trust the clock: a row's age is the sum of the times between the rows after it, and large
//! steps do not count. See [`Settings::keep_days`].
//!
//! Table `parts`: `run` (one start of the service) and `part` are the primary key. `triggered` is in
//! milliseconds since 1970, UTC. Columns that end in `_ms` are milliseconds. `regions` is JSON. `width` and
//! `height` are the picture's, in pixels; `brightness`, `sharpness` and `noise` its measures. Unmeasured
//! values are NULL. The other tables are totals of these rows.
//!
//! Version 1 had no totals and no measures. Its files are changed in a moment when they are opened, and their
//! rows are added up in small pieces while the service runs.

mod past;
pub(crate) mod read;
mod totals;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, ErrorCode, OpenFlags, params};
use serde::Deserialize;

use super::Output;
use crate::error::{Error, ErrorKind, Result};
use crate::files::parent;
use crate::imaging::Measures;
use crate::record::part::{Part, unix_ms};
use crate::record::{Drift, Record, Severity, Status};
use crate::settings::range;
pub(crate) use past::{Past, PastPart, Tally};
use totals::Added;
pub(crate) use totals::{GRID, Totals};

const NAME: &str = "journal";
const VERSION: i64 = 2;
/// Rows in one transaction: few enough to be quick, enough for the fastest line.
const BATCH: usize = 256;
/// Half of the second in which a row has to reach the disk. The other half is for the disk.
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// Rows kept in memory while the disk takes none: about ten megabytes.
const BACKLOG: usize = 10_000;
/// Pause before the next attempt on a failed disk.
const RETRY: Duration = Duration::from_secs(1);
/// After this time the disk counts as blocked.
const BLOCKS: Duration = Duration::from_secs(5);
/// How long [`Output::finish`] waits for the disk.
const LAST_ROWS: Duration = Duration::from_secs(2);
/// How often the size of the journal and the ages of its rows are checked, and the latest parts are compared
/// with the first ones.
const SIZED: Duration = Duration::from_secs(1);
const COMPARED: Duration = Duration::from_secs(10);
const AGED: Duration = Duration::from_secs(600);
/// Number of rows, evenly spread, from which ages are computed.
const SAMPLES: i64 = 4096;
/// The longest time between two rows that counts for ages, as a share of `keep_days` and in days. Nights and
/// weekends count, jumps of the clock do not.
const SHARE: i64 = 10;
const PAUSE_DAYS: i64 = 4;
/// Rows per removing transaction, and such transactions per check: more than any line adds in a second.
const REMOVED: usize = 500;
const REMOVALS: usize = 20;
/// Space for the write-ahead log, within `max_megabytes`.
const LOG_BYTES: u64 = 8 << 20;
/// Journals up to this size are fully read when opened, in about a second. Of larger ones only both ends are
/// read.
const CHECKED_BYTES: u64 = 256 << 20;

const SCHEMA: &str = "
    CREATE TABLE parts (
        run TEXT NOT NULL,
        part INTEGER NOT NULL,
        triggered INTEGER NOT NULL,
        latency_ms REAL NOT NULL,
        verdict TEXT NOT NULL,
        fault TEXT,
        reason TEXT,
        product TEXT NOT NULL,
        package TEXT NOT NULL,
        provider TEXT NOT NULL,
        score REAL,
        threshold REAL,
        features_ms REAL,
        residuals_ms REAL,
        classify_ms REAL,
        regions TEXT NOT NULL,
        width INTEGER,
        height INTEGER,
        brightness REAL,
        sharpness REAL,
        noise REAL,
        PRIMARY KEY (run, part)
    );";
/// From version 1. The time that this takes does not depend on the number of rows.
const COLUMNS: &str = "
    ALTER TABLE parts ADD COLUMN width INTEGER;
    ALTER TABLE parts ADD COLUMN height INTEGER;
    ALTER TABLE parts ADD COLUMN brightness REAL;
    ALTER TABLE parts ADD COLUMN sharpness REAL;
    ALTER TABLE parts ADD COLUMN noise REAL;";

/// File and limits: `[journal]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The database. Required. Created if missing.
    pub path: PathBuf,
    /// Days to keep rows, at least 1. Default 365. The age of a row is the sum of the times between the rows
    /// after it. A pause or clock step longer than 4 days or a tenth of this does not count, so rows are kept
    /// longer then.
    pub keep_days: u32,
    /// Size limit on disk, in MiB, at least 16. The oldest rows are removed. Default 1024.
    pub max_megabytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { path: PathBuf::new(), keep_days: 365, max_megabytes: 1024 }
    }
}

impl Settings {
    /// Checks the values.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] naming the key.
    pub(crate) fn validate(&self) -> Result<()> {
        if self.path.as_os_str().is_empty() {
            return Err(Error::setting("journal.path", "is missing; name the journal's file"));
        }
        range("journal.keep_days", self.keep_days, 1..)?;
        range("journal.max_megabytes", self.max_megabytes, 16..=1 << 24)
    }
}

/// Writes the journal. See the [module](self).
///
/// While the file cannot be written, publishing fails, but the last 10 000 rows are kept and written later.
/// Lost rows count as dropped. A damaged file, or one of another version, is renamed to
/// `NAME.damaged-UNIXTIME` or `NAME.version-N-UNIXTIME` with its log, and a new one is started.
pub struct Journal {
    run: String,
    backlog: Arc<Backlog>,
}

/// A part, and what is measured for the journal alone.
struct Row {
    part: Part,
    size: Option<(u32, u32)>,
    measures: Option<Measures>,
}

impl Row {
    fn new(run: &str, record: &Record) -> Row {
        let frame = record.frame();
        Row {
            part: Part::new(run, record),
            size: frame.map(|frame| (frame.width(), frame.height())),
            measures: frame.map(Measures::of),
        }
    }
}

/// Writes rows as the writing thread does, on this one, so that its time can be measured.
#[cfg(test)]
pub(super) fn write_at_once(path: &Path, records: &[Record]) -> Result<()> {
    let written = || {
        let mut connection = open(path, 1 << 30)?;
        for batch in records.chunks(BATCH) {
            let rows: Vec<Row> = batch.iter().map(|record| Row::new("0123456789abcdef", record)).collect();
            insert(&mut connection, &rows)?;
        }
        Ok(())
    };
    written().map_err(|fault: Fault| fault.into_error("write", path))
}

/// Shared by the line's thread and the disk's. Locked for moments only, never during disk access.
#[derive(Default)]
struct Backlog {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    rows: VecDeque<Row>,
    /// Since when the first row waits.
    since: Option<Instant>,
    /// Number of rows that are being written, and the start of the present disk access.
    given: usize,
    working: Option<Instant>,
    lost: u64,
    failed: Option<(ErrorKind, String)>,
    /// Message about a file that could not be used.
    aside: Option<String>,
    /// What changed, if it was compared since the last tick.
    drift: Option<Vec<Drift>>,
    finish: bool,
    ended: bool,
}

impl Backlog {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A panic leaves no half-done change.
        self.waiting.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn wait<'a>(&self, waiting: MutexGuard<'a, Waiting>, time: Duration) -> MutexGuard<'a, Waiting> {
        self.changed.wait_timeout(waiting, time).unwrap_or_else(|e| e.into_inner()).0
    }
}

impl Waiting {
    /// The present error of the disk.
    fn fault(&self) -> Result<()> {
        if self.working.is_some_and(|since| since.elapsed() >= BLOCKS) {
            let text = format!("the disk blocks for more than {} s; rows wait in memory", BLOCKS.as_secs());
            return Err(Error::new(ErrorKind::Io, text));
        }
        self.failed.as_ref().map_or(Ok(()), |(kind, text)| Err(Error::new(*kind, text.clone())))
    }

    /// Number of rows that may not be in the file.
    fn missing(&self) -> usize {
        self.rows.len() + self.given
    }

    /// Drops the oldest rows above the limit.
    fn bound(&mut self) {
        while self.missing() > BACKLOG && self.rows.pop_front().is_some() {
            self.lost += 1;
        }
    }
}

impl Journal {
    /// A journal for the run `run`, see [`super::run_id`]. The writing thread opens the file, so a bad disk
    /// does not delay the start of the line.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a setting out of range; [`ErrorKind::Io`] when the thread cannot be started.
    pub fn new(settings: Settings, run: &str) -> Result<Self> {
        Self::with_past(settings, run, None)
    }

    /// As [`Journal::new`]. Tells what the journal knows of earlier runs: so many of the latest parts, and of
    /// the latest rejects.
    ///
    /// # Errors
    /// As [`Journal::new`].
    pub(crate) fn with_past(
        settings: Settings,
        run: &str,
        past: Option<(Arc<Past>, usize, usize)>,
    ) -> Result<Self> {
        settings.validate()?;
        let backlog = Arc::new(Backlog::default());
        let (shared, disk) = (Arc::clone(&backlog), Disk::new(settings, past));
        std::thread::Builder::new().name(NAME.into()).spawn(move || write(&shared, disk)).map_err(|e| {
            Error::new(ErrorKind::Io, "cannot start the thread that writes the journal").with_source(e)
        })?;
        Ok(Journal { run: run.to_string(), backlog })
    }
}

impl Output for Journal {
    fn name(&self) -> &'static str {
        NAME
    }

    fn publish(&mut self, record: &Record) -> Result<()> {
        let row = Row::new(&self.run, record);
        let mut waiting = self.backlog.lock();
        waiting.rows.push_back(row);
        waiting.since.get_or_insert_with(Instant::now);
        waiting.bound();
        self.backlog.changed.notify_all();
        waiting.fault()
    }

    fn tick(&mut self, _: SystemTime, status: &Status) -> Result<()> {
        let mut waiting = self.backlog.lock();
        status.output(NAME).dropped.fetch_add(std::mem::take(&mut waiting.lost), Relaxed);
        if let Some(text) = waiting.aside.take() {
            // It stays until the next start: somebody has to look at the file.
            status.raise("journal file", Severity::Warning, text);
        }
        if let Some(drift) = waiting.drift.take() {
            status.set_drift(drift);
        }
        waiting.fault()
    }

    /// Rows that are not on disk by then are written later, while the process lives.
    fn finish(&mut self) -> Result<()> {
        let limit = Instant::now() + LAST_ROWS;
        let mut waiting = self.backlog.lock();
        (waiting.finish, waiting.failed) = (true, None);
        self.backlog.changed.notify_all();
        while !waiting.ended && (waiting.failed.is_none() || waiting.missing() == 0) {
            let left = limit.saturating_duration_since(Instant::now());
            if left.is_zero() {
                waiting.failed = Some((ErrorKind::Io, "the disk does not answer".into()));
                break;
            }
            waiting = self.backlog.wait(waiting, left);
        }
        match waiting.missing() {
            0 => Ok(()),
            missing => {
                waiting.fault().map_err(|e| e.within(format!("{missing} parts are not in the journal")))
            }
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.backlog.lock().finish = true;
        self.backlog.changed.notify_all();
    }
}

/// The writing thread. It writes waiting rows until the journal is dropped.
fn write(backlog: &Backlog, mut disk: Disk) {
    let begun = Instant::now();
    let mut sized = begun;
    let mut retry = Instant::now();
    let mut waiting = backlog.lock();
    loop {
        let now = Instant::now();
        if waiting.finish && waiting.rows.is_empty() && sized > begun {
            break;
        }
        // At the end one more attempt is made at once.
        let may = now >= retry || (waiting.finish && waiting.failed.is_none());
        let full = waiting.finish || waiting.rows.len() >= BATCH;
        let due = waiting.since.filter(|_| !waiting.rows.is_empty()).map(|since| match full {
            true => now,
            false => since + LONGEST_WAIT,
        });
        let size_due = now >= sized && (!waiting.finish || sized == begun);
        let write_due = may && due.is_some_and(|due| now >= due);
        if !size_due && !write_due {
            let next = match due {
                Some(due) if may => due,
                Some(_) => retry,
                None => sized,
            };
            let next = if waiting.finish { next } else { next.min(sized) };
            waiting = backlog.wait(waiting, next.saturating_duration_since(now));
            continue;
        }
        waiting.working = Some(now);
        let mut result = Ok(());
        // Removing comes first: it makes room if the journal is full.
        if size_due {
            sized = now + SIZED;
            drop(waiting);
            result = disk.tidy();
            waiting = backlog.lock();
        }
        if write_due {
            let count = waiting.rows.len().min(BATCH);
            let batch: Vec<Row> = waiting.rows.drain(..count).collect();
            waiting.given = count;
            drop(waiting);
            let written = disk.with(|open| insert(&mut open.connection, &batch));
            waiting = backlog.lock();
            waiting.given = 0;
            match written {
                Ok(()) if waiting.rows.is_empty() => waiting.since = None,
                Ok(()) => waiting.since = Some(Instant::now()),
                Err(e) => {
                    batch.into_iter().rev().for_each(|row| waiting.rows.push_front(row));
                    waiting.bound();
                    result = Err(e);
                }
            }
        }
        waiting.working = None;
        waiting.aside = disk.aside.take().or(waiting.aside.take());
        waiting.drift = disk.drift.take().or(waiting.drift.take());
        match result {
            Ok(()) if write_due || waiting.rows.is_empty() => waiting.failed = None,
            Ok(()) => {}
            Err(e) => {
                retry = Instant::now() + RETRY;
                waiting.failed = Some((e.kind(), e.chain()));
            }
        }
        backlog.changed.notify_all();
    }
    drop(waiting);
    // The file is closed before the end is reported.
    drop(disk);
    backlog.lock().ended = true;
    backlog.changed.notify_all();
}

/// The file.
struct Disk {
    settings: Settings,
    open: Option<Open>,
    aside: Option<String>,
    drift: Option<Vec<Drift>>,
    compared: Option<Instant>,
    usual: totals::Usual,
    /// For whom the past is read, until it was. Its counts go on to grow while old rows are added up.
    past: Option<(Arc<Past>, usize, usize)>,
    told: bool,
}

struct Open {
    connection: Connection,
    identity: Identity,
    /// The last row that is too old, and the time of that check.
    expired: Option<(Instant, Option<i64>)>,
}

impl Disk {
    fn new(settings: Settings, past: Option<(Arc<Past>, usize, usize)>) -> Self {
        Disk {
            settings,
            open: None,
            aside: None,
            drift: None,
            compared: None,
            usual: totals::Usual::default(),
            past,
            told: false,
        }
    }

    /// Runs `work` on the open database. After an error the database is closed, and the next call opens it
    /// again.
    fn with<T>(&mut self, work: impl FnOnce(&mut Open) -> Result<T, Fault>) -> Result<T> {
        let path = &self.settings.path;
        if self.open.as_ref().is_some_and(|open| identity_of(path).as_ref() != Some(&open.identity)) {
            log::warn!("{NAME}: {} was moved or removed; starting a new one", path.display());
            self.open = None;
        }
        if self.open.is_none() {
            fs::create_dir_all(parent(path)).map_err(|e| Error::io("create", parent(path), e))?;
            let limit = self.settings.max_megabytes << 20;
            let opened = match open(path, limit).map_err(|fault| fault.examined(path)) {
                Err(fault) if fault.is_lasting() => {
                    self.aside = Some(set_aside(path, fault)?);
                    open(path, limit)
                }
                other => other,
            };
            let connection = opened.map_err(|fault| fault.into_error("open", path))?;
            let identity = identity_of(path)
                .ok_or_else(|| Error::new(ErrorKind::Io, format!("{} vanished", path.display())))?;
            // Before the first row of this run is written. What cannot be read is only not shown.
            if let (false, Some((past, parts, rejects))) = (self.told, &self.past) {
                match past::read(&connection, *parts, *rejects) {
                    Ok(memory) => past.tell(memory),
                    Err(fault) => log::warn!("{NAME}: {}", fault.into_error("read", path).chain()),
                }
            }
            self.told = true;
            self.open = Some(Open { connection, identity, expired: None });
        }
        let Some(open) = &mut self.open else {
            return Err(Error::new(ErrorKind::Io, format!("{} is not open", path.display())));
        };
        work(open).map_err(|fault| {
            // Another program locks it for a while. Opening it again would only take longer.
            if fault.is_busy() {
                return fault.into_error("write", path);
            }
            self.open = None;
            let fault = fault.examined(path);
            if !fault.is_lasting() {
                return fault.into_error("write", path);
            }
            match set_aside(path, fault) {
                Ok(text) => {
                    self.aside = Some(text);
                    Error::new(ErrorKind::Io, format!("{} was damaged; starting a new one", path.display()))
                }
                Err(e) => e,
            }
        })
    }

    /// Removes rows that are too old or too many.
    fn tidy(&mut self) -> Result<()> {
        let limit = (self.settings.max_megabytes << 20) - LOG_BYTES;
        let keep = i64::from(self.settings.keep_days) * DAY;
        self.with(|open| {
            let known = open.expired.filter(|(at, _)| at.elapsed() < AGED);
            let (at, row) = match known {
                Some(known) => known,
                None => (Instant::now(), last_expired(&open.connection, keep)?),
            };
            if known.is_none() {
                totals::bound(&open.connection, limit)?;
            }
            open.expired = Some((at, row));
            remove(&mut open.connection, row, limit - limit / 8)
        })?;
        if let Some(memory) = self.with(|open| past::catch_up(&mut open.connection))?
            && let Some((past, ..)) = &self.past
        {
            past.tell(memory);
        }
        if self.compared.is_none_or(|at| at.elapsed() >= COMPARED) {
            self.compared = Some(Instant::now());
            let mut usual = std::mem::take(&mut self.usual);
            self.drift = Some(self.with(|open| totals::drift(&open.connection, &mut usual))?);
            self.usual = usual;
        }
        Ok(())
    }
}

const DAY: i64 = 86_400_000;

/// Summary of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalSummary {
    /// Rows.
    pub parts: u64,
    /// Starts of the service.
    pub runs: u64,
    /// Parts with several rows. 0 unless the journal is damaged.
    pub repeated: u64,
    /// Part numbers missing between the first and the last of their run: lost rows.
    pub missing: u64,
}

/// Reads a whole journal, also while the service writes it. Takes seconds for a large one. Changes nothing,
/// except that SQLite completes the last transaction of a killed service, as the next start would.
///
/// # Errors
/// [`ErrorKind::Io`] if the journal is missing, unreadable or damaged, [`ErrorKind::Usage`] if the file is
/// another database or of a newer version.
pub fn check(path: impl AsRef<Path>) -> Result<JournalSummary> {
    let path = path.as_ref();
    let read = || -> Result<JournalSummary, Fault> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_secs(2))?;
        if version(&connection)? == 0 {
            return Ok(JournalSummary { parts: 0, runs: 0, repeated: 0, missing: 0 });
        }
        quick_check(&connection)?;
        // Counted in the table: the index that forbids repetitions may be damaged.
        let sql = "SELECT COALESCE(SUM(n), 0), COUNT(*), COALESCE(SUM(n - different), 0),
                COALESCE(SUM(last - first + 1 - different), 0)
            FROM (SELECT COUNT(*) AS n, COUNT(DISTINCT part) AS different,
                         MIN(part) AS first, MAX(part) AS last
                FROM parts NOT INDEXED GROUP BY run)";
        let summary = connection.query_row(sql, [], |row| {
            let count = |i| row.get::<_, i64>(i).map(|n| u64::try_from(n).unwrap_or(0));
            Ok(JournalSummary { parts: count(0)?, runs: count(1)?, repeated: count(2)?, missing: count(3)? })
        })?;
        Ok(summary)
    };
    read().map_err(|fault| fault.into_error("read", path))
}

/// Why a database cannot be used.
pub(crate) enum Fault {
    Sql(rusqlite::Error),
    Damaged(String),
    Foreign,
    Version(i64),
}

impl From<rusqlite::Error> for Fault {
    fn from(e: rusqlite::Error) -> Self {
        match e.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Fault::Damaged(e.to_string()),
            _ => Fault::Sql(e),
        }
    }
}

impl Fault {
    /// Whether it stays until somebody repairs the file.
    fn is_lasting(&self) -> bool {
        matches!(self, Fault::Damaged(_) | Fault::Version(_))
    }

    fn is_busy(&self) -> bool {
        let code = |e: &rusqlite::Error| e.sqlite_error_code();
        matches!(self, Fault::Sql(e)
            if matches!(code(e), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)))
    }

    /// Reports damage as damage. For some damaged headers SQLite has other words, such as "read-only".
    fn examined(self, path: &Path) -> Self {
        match self {
            Fault::Sql(e) if !matches!(e.sqlite_error_code(), Some(ErrorCode::DiskFull)) => {
                match header_damage(path).or_else(|| log_damage(path)) {
                    Some(what) => Fault::Damaged(what),
                    None => Fault::Sql(e),
                }
            }
            other => other,
        }
    }

    fn into_error(self, doing: &str, path: &Path) -> Error {
        let at = path.display();
        match self {
            Fault::Sql(e) if e.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                let text = format!("cannot {doing} {at}: the disk, or the journal's max_megabytes, is full");
                Error::new(ErrorKind::StorageFull, text).with_source(e)
            }
            Fault::Sql(e) => Error::new(ErrorKind::Io, format!("cannot {doing} {at}")).with_source(e),
            Fault::Damaged(what) => Error::new(ErrorKind::Io, format!("{at} is damaged: {what}")),
            Fault::Foreign => {
                Error::setting("journal.path", format!("{at} is not a journal; name another file"))
            }
            Fault::Version(version) => Error::setting(
                "journal.path",
                format!("{at} has version {version}, this program knows {VERSION}; name another file"),
            ),
        }
    }
}

fn open(path: &Path, limit: u64) -> Result<Connection, Fault> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // SQLite would take a damaged log for an empty one, and write because of some damaged headers.
    if let Some(what) = header_damage(path).or_else(|| log_damage(path)) {
        return Err(Fault::Damaged(what));
    }
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(2))?;
    let version = version(&connection)?;
    if version == 0 {
        // Only an empty database accepts this setting.
        connection.pragma_update(None, "auto_vacuum", "incremental")?;
        set_up(&mut connection, SCHEMA)?;
    } else if fs::metadata(path).is_ok_and(|m| m.len() <= CHECKED_BYTES) {
        quick_check(&connection)?;
    } else {
        let ends = "SELECT * FROM parts
            WHERE rowid IN ((SELECT MIN(rowid) FROM parts), (SELECT MAX(rowid) FROM parts))";
        run(&connection, ends)?;
    }
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    if version == 1 {
        set_up(&mut connection, COLUMNS)?;
    }
    connection.pragma_update(None, "journal_size_limit", (LOG_BYTES / 2) as i64)?;
    let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    connection.pragma_update(None, "max_page_count", (limit - LOG_BYTES) as i64 / page.max(512))?;
    Ok(connection)
}

/// Makes the tables of this version, all or nothing.
fn set_up(connection: &mut Connection, parts: &str) -> Result<(), Fault> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(parts)?;
    transaction.execute_batch(totals::SCHEMA)?;
    totals::begin(&transaction)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(())
}

/// 0 for an empty database.
fn version(connection: &Connection) -> Result<i64, Fault> {
    let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let tables = count("SELECT COUNT(*) FROM sqlite_schema")?;
    let parts = count("SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = 'parts'")?;
    match (version, parts, tables) {
        (_, _, 0) => Ok(0),
        // Without this table it is somebody else's.
        (_, 0, _) => Err(Fault::Foreign),
        (1 | VERSION, ..) => match knows(connection, version) {
            Ok(()) => Ok(version),
            Err(e) => Err(match e.sqlite_error_code() {
                // An error of the statement, not of the disk.
                None | Some(ErrorCode::Unknown) => Fault::Damaged(format!("its table is another: {e}")),
                Some(_) => e.into(),
            }),
        },
        _ => Err(Fault::Version(version)),
    }
}

/// Whether the tables have what this program writes.
fn knows(connection: &Connection, version: i64) -> rusqlite::Result<()> {
    if version == 1 {
        return connection.prepare(INSERT_1).map(drop);
    }
    connection.prepare(INSERT)?;
    connection.prepare("SELECT 1 FROM engines, numbers, faults, spots, unadded").map(drop)
}

/// Checks the first 100 bytes of a database of this program.
fn header_damage(path: &Path) -> Option<String> {
    let mut header = [0; 100];
    // SQLite reports a shorter or unreadable file.
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut header)).ok()?;
    let page = u16::from_be_bytes([header[16], header[17]]);
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let sound = header.starts_with(b"SQLite format 3\0")
        && (page == 1 || (page.is_power_of_two() && page >= 512))
        && header[18..20].iter().all(|version| matches!(version, 1 | 2))
        && header[20..24] == [0, 64, 32, 32]
        && word(44) <= 4
        && word(56) <= 1;
    (!sound).then(|| "its header is not one that this program writes".into())
}

/// Checks the write-ahead log and its index, if they exist.
fn log_damage(path: &Path) -> Option<String> {
    for suffix in ["-wal", "-shm"] {
        let log = suffixed(path, suffix);
        if fs::symlink_metadata(&log).is_ok_and(|m| !m.is_file()) {
            return Some(format!("{} is no file", log.display()));
        }
    }
    let log = suffixed(path, "-wal");
    let mut header = [0; 32];
    match fs::File::open(&log).and_then(|mut file| file.read_exact(&mut header)) {
        Ok(()) => {}
        Err(e) => {
            use std::io::ErrorKind::{NotFound, PermissionDenied, UnexpectedEof};
            let usual = matches!(e.kind(), NotFound | PermissionDenied | UnexpectedEof);
            return (!usual).then(|| format!("{} cannot be read: {e}", log.display()));
        }
    }
    // A power cut can leave zeros.
    if header == [0; 32] {
        return None;
    }
    let words: Vec<u32> =
        header.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect();
    // The lowest bit of the first word is the byte order of the checksum.
    let (mut sum, mut other) = (0u32, 0u32);
    for pair in words[..6].chunks_exact(2) {
        let [a, b] = [pair[0], pair[1]].map(|w| if words[0] & 1 == 1 { w } else { w.swap_bytes() });
        sum = sum.wrapping_add(a).wrapping_add(other);
        other = other.wrapping_add(b).wrapping_add(sum);
    }
    let sound = words[0] & !1 == 0x377f_0682 && words[6..] == [sum, other];
    (!sound).then(|| format!("the header of {} is damaged", log.display()))
}

fn quick_check(connection: &Connection) -> Result<(), Fault> {
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found == "ok" { Ok(()) } else { Err(Fault::Damaged(found)) }
}

/// Runs a statement to its end and ignores its rows.
fn run(connection: &Connection, sql: &str) -> Result<(), Fault> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

// A failed commit may still have reached the disk.
const INSERT: &str = "INSERT INTO parts
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (run, part) DO NOTHING";
/// As version 1 wrote it.
const INSERT_1: &str = "INSERT INTO parts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (run, part) DO NOTHING";

fn insert(connection: &mut Connection, rows: &[Row]) -> Result<(), Fault> {
    let transaction = connection.transaction()?;
    let mut added = Added::default();
    {
        let mut statement = transaction.prepare(INSERT)?;
        for row in rows {
            let part = &row.part;
            let new = statement.execute(params![
                part.run,
                part.part as i64,
                unix_ms(part.triggered) as i64,
                part.latency_ms,
                part.verdict,
                part.fault.map(|f| f.name()),
                part.reason,
                part.engine.product,
                part.engine.package,
                part.engine.provider,
                part.score.map(f64::from),
                f64::from(part.engine.threshold),
                part.features_ms,
                part.residuals_ms,
                part.classify_ms,
                serde_json::to_string(&part.regions).unwrap_or_else(|_| "[]".into()),
                row.size.map(|(width, _)| width),
                row.size.map(|(_, height)| height),
                row.measures.map(|m| f64::from(m.brightness)),
                row.measures.map(|m| f64::from(m.sharpness)),
                row.measures.map(|m| f64::from(m.noise)),
            ])?;
            if new > 0 {
                added.add(&transaction, &totals::counted(transaction.last_insert_rowid(), row))?;
            }
        }
    }
    added.write(&transaction)?;
    transaction.commit()?;
    Ok(())
}

/// The last row older than `keep` milliseconds. Rows are in the order of writing, whatever the clock said.
fn last_expired(connection: &Connection, keep: i64) -> Result<Option<i64>, Fault> {
    let longest = (keep / SHARE).min(PAUSE_DAYS * DAY);
    let ends = "SELECT MIN(rowid), MAX(rowid) FROM parts";
    let ends = connection.query_row(ends, [], |row| Ok(Option::zip(row.get(0)?, row.get(1)?)))?;
    let Some((first, last)): Option<(i64, i64)> = ends else { return Ok(None) };
    let stride = (last.saturating_sub(first) / SAMPLES).max(1);
    let mut statement =
        connection.prepare("SELECT rowid, triggered FROM parts WHERE rowid >= ? ORDER BY rowid LIMIT 1")?;
    // Each row's time on a scale without jumps of the clock.
    let mut places: Vec<(i64, i64)> = Vec::new();
    let (mut next, mut before, mut place) = (first, None, 0i64);
    loop {
        let (row, at): (i64, i64) = statement.query_row([next], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let step = at.saturating_sub(before.unwrap_or(at));
        if step.saturating_abs() <= longest {
            place += step;
        }
        places.push((row, place));
        if row >= last {
            break;
        }
        (next, before) = (row.saturating_add(stride).min(last), Some(at));
    }
    Ok(places.iter().rev().find(|(_, at)| place - at > keep).map(|(row, _)| *row))
}

/// Removes the rows up to `expired`, and the oldest rows while there are more than `limit` bytes.
fn remove(connection: &mut Connection, expired: Option<i64>, limit: u64) -> Result<(), Fault> {
    let pragma = |name: &str| -> Result<u64, Fault> {
        Ok(connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0))?.unsigned_abs())
    };
    let page = pragma("page_size")?;
    for _ in 0..REMOVALS {
        let too_large = (pragma("page_count")? - pragma("freelist_count")?) * page > limit;
        // Only the first rows are checked, or every check would read all of them.
        let removed = connection.execute(
            "DELETE FROM parts WHERE rowid IN (SELECT rowid FROM
                 (SELECT rowid FROM parts ORDER BY rowid LIMIT ?1) WHERE ?2 OR rowid <= ?3)",
            params![REMOVED as i64, too_large, expired.unwrap_or(i64::MIN)],
        )?;
        if removed == 0 {
            break;
        }
    }
    // A little free space is soon used again. Returning each page at once would only wear the disk.
    if pragma("freelist_count")? * page > 1 << 20 {
        run(connection, "PRAGMA incremental_vacuum(512)")?;
    }
    Ok(())
}

/// Renames an unusable database and its log, so that a person can still rescue its rows. Returns a message.
fn set_aside(path: &Path, fault: Fault) -> Result<String> {
    let why = match fault {
        Fault::Version(version) => format!("version-{version}"),
        _ => "damaged".into(),
    };
    let mut time = unix_ms(SystemTime::now()) / 1000;
    let mut aside = suffixed(path, &format!(".{why}-{time}"));
    while aside.symlink_metadata().is_ok() {
        time += 1;
        aside = suffixed(path, &format!(".{why}-{time}"));
    }
    let text = format!(
        "{}; it is kept as {}, and a new journal was started",
        fault.into_error("read", path).chain(),
        aside.display()
    );
    // The log first: SQLite would remove a log without its database.
    for suffix in ["-wal", "-shm", ""] {
        let file = suffixed(path, suffix);
        match fs::rename(&file, suffixed(&aside, suffix)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("rename", &file, e)),
            _ => {}
        }
    }
    log::warn!("{NAME}: {text}");
    Ok(text)
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Identity of the file: SQLite would go on writing to a removed one.
type Identity = (u64, u64);

fn identity_of(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}
