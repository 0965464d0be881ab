//! Questions to a journal while the service writes it. Each opens the file for itself, reads and closes it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::totals::{self, DAY_SLOTS, GRID, SLOT, Totals};
use super::{Fault, VERSION, version};
use crate::error::{Error, ErrorKind, Result};

/// Time to wait for another program that locks the file.
const BUSY: Duration = Duration::from_millis(800);
/// Rows of a table that are read at a time. Between two pieces the writer can tidy its log.
const PIECE: i64 = 2_000;

/// A period and what is asked for in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Question {
    /// Begin and end, in milliseconds since 1970; the end is not included.
    pub from: i64,
    pub to: i64,
    /// A product, a package. `None`: all.
    pub product: Option<String>,
    pub package: Option<String>,
}

/// A product with a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub id: i64,
    pub product: String,
    pub package: String,
}

/// Totals of a quarter of an hour.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    /// Its begin, in milliseconds since 1970, and the local wall clock then, in seconds as if it were UTC.
    pub start_ms: i64,
    pub local: i64,
    pub engine: i64,
    pub totals: Totals,
}

/// The answer about a period.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    pub engines: Vec<Known>,
    /// In the order of their times.
    pub slots: Vec<Slot>,
    /// Faults of the period, by kind.
    pub faults: BTreeMap<String, i64>,
    /// Begin of the first and of the last quarter of an hour with a part, whatever was asked for.
    pub whole: Option<(i64, i64)>,
    /// Rows of an earlier version that are not counted yet.
    pub uncounted: i64,
    /// Quarters of an hour that were written after later ones: the clock was set back.
    pub backwards: i64,
}

/// Where regions of rejects lie.
#[derive(Debug, Default)]
pub(crate) struct Spots {
    /// Rejects whose picture's size is known.
    pub parts: i64,
    /// Rejects with a region there: [`GRID`] rows of [`GRID`] cells.
    pub cells: Vec<i64>,
    /// Size of the latest picture.
    pub size: Option<(i64, i64)>,
}

/// A journal that is open for reading.
pub(crate) struct Reader {
    connection: Connection,
}

impl Reader {
    /// Opens a journal.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if it is missing, locked, damaged or not yet of this version; [`ErrorKind::Usage`] if
    /// it is another database.
    pub fn open(path: &Path) -> Result<Reader> {
        if !path.exists() {
            return Err(Error::new(ErrorKind::Io, format!("there is no journal yet: {}", path.display())));
        }
        let open = || -> std::result::Result<Connection, Fault> {
            // SQLite needs to write beside the file to read a write-ahead log.
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(BUSY)?;
            connection.pragma_update(None, "query_only", true)?;
            match version(&connection)? {
                VERSION => Ok(connection),
                other => Err(Fault::Version(other)),
            }
        };
        match open() {
            Ok(connection) => Ok(Reader { connection }),
            Err(Fault::Version(_)) => {
                let text = "the journal is not ready: the service has not opened it yet";
                Err(Error::new(ErrorKind::Io, text))
            }
            Err(fault) => Err(told(fault, path)),
        }
    }

    /// Runs one of the questions below and names the file in its error.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the journal is locked or damaged.
    pub fn ask<T>(
        &self,
        path: &Path,
        question: impl FnOnce(&Connection) -> std::result::Result<T, Fault>,
    ) -> Result<T> {
        question(&self.connection).map_err(|fault| told(fault, path))
    }
}

fn told(fault: Fault, path: &Path) -> Error {
    match fault.is_busy() {
        true => Error::new(ErrorKind::Io, "another program locks the journal; try again"),
        false => fault.into_error("read", path),
    }
}

fn engines(database: &Connection) -> std::result::Result<Vec<Known>, Fault> {
    let mut statement = database.prepare("SELECT engine, product, package FROM engines ORDER BY engine")?;
    let known =
        |row: &rusqlite::Row| Ok(Known { id: row.get(0)?, product: row.get(1)?, package: row.get(2)? });
    Ok(statement.query_map([], known)?.collect::<rusqlite::Result<_>>()?)
}

impl Question {
    fn wants(&self, engine: &Known) -> bool {
        self.product.as_ref().is_none_or(|product| *product == engine.product)
            && self.package.as_ref().is_none_or(|package| *package == engine.package)
    }

    /// First and last slot.
    fn slots(&self) -> [i64; 2] {
        [self.from.div_euclid(SLOT), self.to.saturating_sub(1).div_euclid(SLOT)]
    }
}

/// Everything that is counted of a period.
pub(crate) fn numbers(database: &Connection, asked: &Question) -> std::result::Result<Numbers, Fault> {
    let mut found = Numbers { engines: engines(database)?, ..Numbers::default() };
    let [first, last] = asked.slots();
    // The device's time zone, with its summer time.
    let sql = format!(
        "SELECT slot, COALESCE(CAST(strftime('%s', slot * 900, 'unixepoch', 'localtime') AS INTEGER), slot * 900),
            engine, {} FROM numbers WHERE engine = ? AND slot BETWEEN ? AND ?",
        Totals::COLUMNS
    );
    let mut statement = database.prepare(&sql)?;
    let mut kinds = database.prepare(
        "SELECT kind, SUM(count) FROM faults WHERE engine = ? AND slot BETWEEN ? AND ? GROUP BY kind",
    )?;
    for engine in found.engines.iter().filter(|engine| asked.wants(engine)) {
        let mut rows = statement.query([engine.id, first, last])?;
        while let Some(row) = rows.next()? {
            found.slots.push(Slot {
                start_ms: row.get::<_, i64>(0)?.saturating_mul(SLOT),
                local: row.get(1)?,
                engine: row.get(2)?,
                totals: Totals::read(row, 3)?,
            });
        }
        let mut rows = kinds.query([engine.id, first, last])?;
        while let Some(row) = rows.next()? {
            *found.faults.entry(row.get(0)?).or_default() += row.get::<_, i64>(1)?;
        }
    }
    found.slots.sort_by_key(|slot| (slot.start_ms, slot.engine));
    let latest: Vec<(i64, i64)> = database
        .prepare("SELECT MIN(slot), MAX(slot) FROM numbers GROUP BY engine")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let whole = latest.into_iter().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    found.whole = whole.map(|(a, b)| (a.saturating_mul(SLOT), b.saturating_mul(SLOT)));
    if let Some(until) = totals::unadded(database)? {
        let oldest: Option<i64> = database.query_row("SELECT MIN(rowid) FROM parts", [], |row| row.get(0))?;
        found.uncounted = oldest.map_or(0, |oldest| (until - oldest + 1).max(0));
    }
    let mut written: Vec<(i64, i64)> =
        found.slots.iter().map(|slot| (slot.totals.first, slot.start_ms)).collect();
    written.sort_unstable();
    found.backwards = written.windows(2).filter(|pair| pair[1].1 < pair[0].1).count() as i64;
    Ok(found)
}

/// Where the regions of a period's rejects lie. The period is widened to whole days (UTC).
pub(crate) fn spots(database: &Connection, asked: &Question) -> std::result::Result<Spots, Fault> {
    let mut found = Spots { cells: vec![0; (GRID * GRID) as usize], ..Spots::default() };
    let [first, last] = asked.slots().map(|slot| slot.div_euclid(DAY_SLOTS));
    let mut statement = database.prepare(
        "SELECT cell, SUM(count) FROM spots WHERE engine = ? AND day BETWEEN ? AND ? GROUP BY cell",
    )?;
    for engine in engines(database)?.iter().filter(|engine| asked.wants(engine)) {
        let mut rows = statement.query([engine.id, first, last])?;
        while let Some(row) = rows.next()? {
            let (cell, count): (i64, i64) = (row.get(0)?, row.get(1)?);
            match usize::try_from(cell) {
                Ok(cell) => {
                    if let Some(place) = found.cells.get_mut(cell) {
                        *place += count;
                    }
                }
                Err(_) => found.parts += count,
            }
        }
    }
    let size = "SELECT width, height FROM (SELECT rowid AS id, width, height FROM parts ORDER BY rowid DESC LIMIT 1000)
        WHERE width IS NOT NULL ORDER BY id DESC LIMIT 1";
    found.size = database.query_row(size, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    Ok(found)
}

/// The first line of a table of parts.
pub(crate) const HEAD: &str = "run,part,triggered,verdict,fault,reason,product,package,provider,score,threshold,\
                               latency_ms,features_ms,residuals_ms,classify_ms,regions,width,height,brightness,\
                               sharpness,noise\r\n";

/// The rows that may belong to a period: from the first to the last of each group, in the order of writing.
pub(crate) fn ranges(database: &Connection, asked: &Question) -> std::result::Result<Vec<(i64, i64)>, Fault> {
    let [first, last] = asked.slots();
    let mut statement =
        database.prepare("SELECT first, last FROM numbers WHERE engine = ? AND slot BETWEEN ? AND ?")?;
    let mut all: Vec<(i64, i64)> = Vec::new();
    for engine in engines(database)?.iter().filter(|engine| asked.wants(engine)) {
        let rows = statement.query_map([engine.id, first, last], |row| Ok((row.get(0)?, row.get(1)?)))?;
        all.extend(rows.collect::<rusqlite::Result<Vec<_>>>()?);
    }
    // Slots of two packages, or of a clock that was set back, can share rows.
    all.sort_unstable();
    let mut joined: Vec<(i64, i64)> = Vec::new();
    for (first, last) in all {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    // The rows of an earlier version that no slot counts yet.
    if let Some(until) = totals::unadded(database)? {
        joined.insert(0, (i64::MIN, until));
    }
    Ok(joined)
}

/// Lines of the rows after `after` up to `last` that belong to the period. Returns where to go on, or `None`
/// at the end.
pub(crate) fn lines(
    database: &Connection,
    asked: &Question,
    after: i64,
    last: i64,
    text: &mut String,
) -> std::result::Result<Option<i64>, Fault> {
    let mut statement = database.prepare(
        "SELECT rowid, run, part, strftime('%Y-%m-%dT%H:%M:%fZ', triggered / 1000.0, 'unixepoch'), verdict, fault,
            reason, product, package, provider, score, threshold, latency_ms, features_ms, residuals_ms,
            classify_ms, regions, width, height, brightness, sharpness, noise, triggered
        FROM parts WHERE rowid > ? AND rowid <= ? ORDER BY rowid LIMIT ?",
    )?;
    let mut rows = statement.query([after, last, PIECE])?;
    let (mut next, mut count) = (None, 0);
    while let Some(row) = rows.next()? {
        next = Some(row.get(0)?);
        count += 1;
        let triggered: i64 = row.get(22)?;
        let (product, package): (String, String) = (row.get(7)?, row.get(8)?);
        let wanted = |asked: &Option<String>, is: &str| asked.as_ref().is_none_or(|asked| asked == is);
        if !(asked.from..asked.to).contains(&triggered)
            || !wanted(&asked.product, &product)
            || !wanted(&asked.package, &package)
        {
            continue;
        }
        for i in 1..22 {
            use rusqlite::types::ValueRef;
            if i > 1 {
                text.push(',');
            }
            match row.get_ref(i)? {
                ValueRef::Null | ValueRef::Blob(_) => {}
                ValueRef::Integer(n) => text.push_str(&n.to_string()),
                ValueRef::Real(n) => text.push_str(&n.to_string()),
                // Of regions only their number: a table has no room for them.
                ValueRef::Text(t) if i == 16 => {
                    text.push_str(&super::past::regions(&String::from_utf8_lossy(t)).len().to_string());
                }
                ValueRef::Text(t) => cell(&String::from_utf8_lossy(t), text),
            }
        }
        text.push_str("\r\n");
    }
    Ok(next.filter(|_| count == PIECE))
}

/// A cell of text. A spreadsheet must not take it for a formula.
fn cell(value: &str, text: &mut String) {
    let formula = value.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if !formula && !value.contains([',', '"', '\n', '\r']) {
        text.push_str(value);
        return;
    }
    text.push('"');
    if formula {
        text.push('\'');
    }
    for c in value.chars() {
        if c == '"' {
            text.push('"');
        }
        text.push(c);
    }
    text.push('"');
}

/// What a row, or its JSON, tells of a kept part.
#[derive(serde::Deserialize)]
pub(crate) struct Judged {
    pub product: String,
    pub score: Option<f64>,
    pub threshold: Option<f64>,
}

/// Product, score and threshold of a part.
pub(crate) fn part(
    database: &Connection,
    run: &str,
    part: u64,
) -> std::result::Result<Option<Judged>, Fault> {
    let mut statement =
        database.prepare("SELECT product, score, threshold FROM parts WHERE run = ? AND part = ?")?;
    let found = statement.query_row(rusqlite::params![run, part as i64], |row| {
        Ok(Judged { product: row.get(0)?, score: row.get(1)?, threshold: row.get(2)? })
    });
    Ok(found.optional()?)
}
