//! The journal: one row per part in an SQLite database.
//!
//! Rows are committed at least once a second, and each commit reaches the disk (`synchronous = FULL`): a
//! power cut loses the last second at most and damages nothing. SQLite's write-ahead log lets others read
//! meanwhile.
//!
//! Table `parts`: `run` (which start of the service) and `part` are the primary key; `triggered` is in
//! milliseconds since 1970, UTC; columns that end in `_ms` are milliseconds; `regions` is JSON. What was not
//! measured is NULL.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, ErrorCode, OpenFlags, params};
use serde::Deserialize;

use super::Output;
use crate::error::{Error, ErrorKind, Result};
use crate::files::parent;
use crate::record::part::{Part, unix_ms};
use crate::record::{Record, Status};

const NAME: &str = "journal";
const VERSION: i64 = 1;
/// Rows in one transaction: small enough to be quick, large enough that no line is faster than its commits.
const BATCH: usize = 256;
/// The other half of the second in which a row is to reach the disk is left to the caller's tick.
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// Rows kept in memory while the disk does not take them: some ten megabytes.
const BACKLOG: usize = 10_000;
/// A disk that failed is not asked again for every part.
const RETRY: Duration = Duration::from_secs(1);
/// Rows removed in one transaction, and transactions in one tick: more than any line adds in a second.
const REMOVED: usize = 500;
const REMOVALS: usize = 20;
/// Room for the write-ahead log beside the database, within `max_megabytes`.
const LOG_BYTES: u64 = 8 << 20;
/// Journals up to this size are read wholly when opened, which takes a second or so; of larger ones both
/// ends.
const CHECKED_BYTES: u64 = 256 << 20;

const SCHEMA: &str = "
    BEGIN;
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
        PRIMARY KEY (run, part)
    );
    PRAGMA user_version = 1;
    COMMIT;";

/// Where the journal is, and how much of it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The database; made if there is none. Required.
    pub path: PathBuf,
    /// Rows of parts that were triggered longer ago are removed, in days, at least 1. Default 365.
    pub keep_days: u32,
    /// The most room on disk, in MiB, at least 16; the oldest rows give way. Default 1024.
    pub max_megabytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { path: PathBuf::new(), keep_days: 365, max_megabytes: 1024 }
    }
}

impl Settings {
    /// Whether the values make sense.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`], naming the key.
    pub fn validate(&self) -> Result<()> {
        let bad = |key: &str, text: &str| Err(Error::new(ErrorKind::Usage, text).within(key));
        if self.path.as_os_str().is_empty() {
            return bad("path", "name the journal's file");
        }
        if self.keep_days == 0 {
            return bad("keep_days", "must be at least 1");
        }
        if !(16..=1 << 24).contains(&self.max_megabytes) {
            return bad("max_megabytes", "must be 16 to 16777216");
        }
        Ok(())
    }
}

/// Writes the journal. See the [module](self).
///
/// While the file cannot be written, publishing fails, but the last 10 000 rows are kept and written as soon
/// as it can. Rows that are lost for good count as dropped. A damaged file is renamed to
/// `NAME.damaged-UNIXTIME`, its log with it, and a new one begun.
pub struct Journal {
    settings: Settings,
    run: String,
    connection: Option<(Connection, Identity)>,
    rows: VecDeque<Part>,
    written: Instant,
    failed: Option<(Instant, ErrorKind, String)>,
    lost: u64,
}

impl Journal {
    /// A journal for parts of the run `run`, see [`super::run_id`]. The file is opened with the first row or
    /// tick, so that a bad disk does not keep the line from starting.
    ///
    /// # Errors
    /// As [`Settings::validate`].
    pub fn new(settings: Settings, run: &str) -> Result<Self> {
        settings.validate()?;
        Ok(Journal {
            settings,
            run: run.to_string(),
            connection: None,
            rows: VecDeque::new(),
            written: Instant::now(),
            failed: None,
            lost: 0,
        })
    }

    /// Runs `work` on the open database. After any error it is closed: whatever was wrong, be it a disk that
    /// came back or a file that was replaced, opening starts afresh.
    fn with<T>(
        &mut self,
        work: impl FnOnce(&mut Connection, &VecDeque<Part>) -> Result<T, Fault>,
    ) -> Result<T> {
        let path = &self.settings.path;
        if self.connection.as_ref().is_some_and(|(_, identity)| identity_of(path).as_ref() != Some(identity))
        {
            log::warn!("{NAME}: {} was moved or removed; beginning a new one", path.display());
            self.connection = None;
        }
        if self.connection.is_none() {
            fs::create_dir_all(parent(path)).map_err(|e| Error::io("create", parent(path), e))?;
            let limit = self.settings.max_megabytes << 20;
            let opened = match open(path, limit) {
                Err(fault) if fault.is_damage() => {
                    set_aside(path, fault)?;
                    open(path, limit)
                }
                other => other,
            };
            let connection = opened.map_err(|fault| fault.into_error("open", path))?;
            let identity = identity_of(path)
                .ok_or_else(|| Error::new(ErrorKind::Io, format!("{} vanished", path.display())))?;
            self.connection = Some((connection, identity));
        }
        let Some((connection, _)) = &mut self.connection else {
            return Err(Error::new(ErrorKind::Io, format!("{} is not open", path.display())));
        };
        work(connection, &self.rows).map_err(|fault| {
            self.connection = None;
            if !fault.is_damage() {
                return fault.into_error("write", path);
            }
            match set_aside(path, fault) {
                Ok(()) => {
                    Error::new(ErrorKind::Io, format!("{} was damaged; beginning a new one", path.display()))
                }
                Err(e) => e,
            }
        })
    }

    fn write(&mut self) -> Result<()> {
        if let Some((at, kind, text)) = &self.failed
            && at.elapsed() < RETRY
        {
            return Err(Error::new(*kind, text.clone()));
        }
        while !self.rows.is_empty() {
            match self.with(|connection, rows| insert(connection, rows.iter().take(BATCH))) {
                Ok(count) => drop(self.rows.drain(..count)),
                Err(e) => {
                    self.failed = Some((Instant::now(), e.kind(), e.chain()));
                    return Err(e);
                }
            }
        }
        self.failed = None;
        self.written = Instant::now();
        Ok(())
    }
}

impl Output for Journal {
    fn name(&self) -> &'static str {
        NAME
    }

    fn publish(&mut self, record: &Record) -> Result<()> {
        if self.rows.is_empty() {
            self.written = Instant::now();
        }
        if self.rows.len() >= BACKLOG {
            self.rows.pop_front();
            self.lost += 1;
        }
        self.rows.push_back(Part::new(&self.run, record));
        let due = self.rows.len() >= BATCH || self.written.elapsed() >= LONGEST_WAIT;
        if due || self.failed.is_some() { self.write() } else { Ok(()) }
    }

    fn tick(&mut self, now: SystemTime, status: &Status) -> Result<()> {
        status.output(NAME).dropped.fetch_add(std::mem::take(&mut self.lost), Relaxed);
        let limit = (self.settings.max_megabytes << 20) - LOG_BYTES;
        let age = Duration::from_secs(u64::from(self.settings.keep_days) * 86_400);
        let oldest = unix_ms(now).saturating_sub(age.as_millis() as u64);
        // Removing comes first: it is what makes room where the journal itself is full.
        let removed = self.with(|connection, _| remove(connection, oldest, limit - limit / 8));
        if matches!(removed, Ok(1..)) {
            self.failed = None;
        }
        self.write().and(removed.map(drop))
    }

    fn finish(&mut self) -> Result<()> {
        self.failed = None;
        let result = self.write();
        self.connection = None;
        result.map_err(|e| e.within(format!("{} parts are not in the journal", self.rows.len())))
    }
}

/// What is in a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalSummary {
    /// Rows.
    pub parts: u64,
    /// Starts of the service.
    pub runs: u64,
    /// Parts that are in the journal more than once: 0 unless it is damaged.
    pub repeated: u64,
    /// Part numbers that are missing between the first and the last of their run: parts whose row was lost.
    pub missing: u64,
}

/// Reads a journal through, also while the service writes it. Takes seconds for a large one. Changes nothing,
/// but completes what a service that was killed has left half done, as the service's next start would.
///
/// # Errors
/// [`ErrorKind::Io`] when there is none, it cannot be read or is damaged; [`ErrorKind::Usage`] when the file
/// is another database, or of a newer version.
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
        // Counted in the table itself: the index, which would forbid repetitions, may be what is wrong.
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
enum Fault {
    Sql(rusqlite::Error),
    Damaged(String),
    Foreign,
    Newer(i64),
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
    fn is_damage(&self) -> bool {
        matches!(self, Fault::Damaged(_))
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
            Fault::Foreign => Error::new(
                ErrorKind::Usage,
                format!("{at} is not a journal; name another file in journal.path"),
            ),
            Fault::Newer(version) => Error::new(
                ErrorKind::Usage,
                format!(
                    "{at} has version {version}, this program knows {VERSION}; name another in journal.path"
                ),
            ),
        }
    }
}

fn open(path: &Path, limit: u64) -> Result<Connection, Fault> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(2))?;
    let version = version(&connection)?;
    // Only a database that is still empty takes this setting.
    connection.pragma_update(None, "auto_vacuum", "incremental")?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "journal_size_limit", (LOG_BYTES / 2) as i64)?;
    if version == 0 {
        connection.execute_batch(SCHEMA)?;
    }
    let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    connection.pragma_update(None, "max_page_count", (limit - LOG_BYTES) as i64 / page.max(512))?;
    if fs::metadata(path).is_ok_and(|m| m.len() <= CHECKED_BYTES) {
        quick_check(&connection)?;
    } else {
        let ends = "SELECT * FROM parts
            WHERE rowid IN ((SELECT MIN(rowid) FROM parts), (SELECT MAX(rowid) FROM parts))";
        run(&connection, ends)?;
    }
    Ok(connection)
}

/// 0 for an empty database.
fn version(connection: &Connection) -> Result<i64, Fault> {
    let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (version, tables) {
        (0, 0) => Ok(0),
        (0, _) => Err(Fault::Foreign),
        (VERSION, _) => Ok(VERSION),
        _ => Err(Fault::Newer(version)),
    }
}

fn quick_check(connection: &Connection) -> Result<(), Fault> {
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found == "ok" { Ok(()) } else { Err(Fault::Damaged(found)) }
}

/// Runs a statement whose rows nobody wants to the end.
fn run(connection: &Connection, sql: &str) -> Result<(), Fault> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

fn insert<'a>(connection: &mut Connection, parts: impl Iterator<Item = &'a Part>) -> Result<usize, Fault> {
    let transaction = connection.transaction()?;
    let mut count = 0;
    {
        // A commit that failed may have reached the disk all the same.
        let mut statement = transaction.prepare(
            "INSERT INTO parts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (run, part) DO NOTHING",
        )?;
        for part in parts {
            statement.execute(params![
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
            ])?;
            count += 1;
        }
    }
    transaction.commit()?;
    Ok(count)
}

/// Removes rows of parts triggered before `oldest`, and the oldest rows while there are more than `limit`
/// bytes. Gives how many.
fn remove(connection: &mut Connection, oldest: u64, limit: u64) -> Result<usize, Fault> {
    let pragma = |name: &str| -> Result<u64, Fault> {
        Ok(connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0))?.unsigned_abs())
    };
    let page = pragma("page_size")?;
    let mut total = 0;
    for _ in 0..REMOVALS {
        let too_large = (pragma("page_count")? - pragma("freelist_count")?) * page > limit;
        // Rows are in the order of their parts: only the first are looked at, or every tick would read them
        // all.
        let removed = connection.execute(
            "DELETE FROM parts WHERE rowid IN (SELECT rowid FROM
                 (SELECT rowid, triggered FROM parts ORDER BY rowid LIMIT ?1) WHERE ?2 OR triggered < ?3)",
            params![REMOVED as i64, too_large, oldest as i64],
        )?;
        total += removed;
        if removed == 0 {
            break;
        }
    }
    // A little free room is soon used again; giving back each page at once would only wear the disk.
    if pragma("freelist_count")? * page > 1 << 20 {
        run(connection, "PRAGMA incremental_vacuum(512)")?;
    }
    Ok(total)
}

/// Renames a damaged database and its log, so that a person can still rescue what is in it.
fn set_aside(path: &Path, fault: Fault) -> Result<()> {
    let suffixed = |base: &Path, suffix: &str| -> PathBuf {
        let mut name = OsString::from(base);
        name.push(suffix);
        name.into()
    };
    let mut time = unix_ms(SystemTime::now()) / 1000;
    let mut aside = suffixed(path, &format!(".damaged-{time}"));
    while aside.exists() {
        time += 1;
        aside = suffixed(path, &format!(".damaged-{time}"));
    }
    log::warn!("{NAME}: {}; it is kept as {}", fault.into_error("read", path).chain(), aside.display());
    fs::rename(path, &aside).map_err(|e| Error::io("rename", path, e))?;
    for suffix in ["-wal", "-shm"] {
        let log = suffixed(path, suffix);
        match fs::rename(&log, suffixed(&aside, suffix)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("rename", &log, e)),
            _ => {}
        }
    }
    Ok(())
}

/// Which file it is: SQLite would go on writing to one that was removed.
type Identity = (u64, u64);

fn identity_of(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}
