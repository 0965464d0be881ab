//! Totals beside the rows: what a page over millions of parts needs is added up when a part is written.
//!
//! A slot is a quarter of an hour (UTC): every shift of every time zone begins with one. `first` and `last`
//! are the rows of a slot, so the rows of a period are found without an index over all of them. Totals stay
//! when their rows are removed. Rows that an earlier version wrote are added little by little.
//!
//! | table | one row per |
//! |---|---|
//! | `engines` | product and package |
//! | `numbers` | engine and slot: counts; sums and sums of squares over the passed parts |
//! | `faults` | engine, slot and kind of fault |
//! | `spots` | engine, day (UTC) and cell of a grid over the part: rejects with a region there. Cell -1 counts all rejects of the day |

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Fault, Row};
use crate::record::{Drift, Quantity};

/// Length of a slot, in milliseconds.
pub(super) const SLOT: i64 = 900_000;
/// Slots of a day.
pub(super) const DAY_SLOTS: i64 = 96;
/// Columns and rows of the grid over the part.
pub(crate) const GRID: i64 = 24;
/// Old rows that are added up at a time: some milliseconds of work.
const CHUNK: i64 = 5_000;
/// Passed parts that say what is usual, and the least that say what is now.
const USUAL: f64 = 500.0;
const NOW: f64 = 100.0;

pub(super) const SCHEMA: &str = "
    CREATE TABLE engines (
        engine INTEGER PRIMARY KEY, product TEXT NOT NULL, package TEXT NOT NULL, UNIQUE (product, package));
    CREATE TABLE numbers (
        engine INTEGER NOT NULL, slot INTEGER NOT NULL,
        first INTEGER NOT NULL, last INTEGER NOT NULL,
        parts INTEGER NOT NULL, passes INTEGER NOT NULL, rejects INTEGER NOT NULL, faults INTEGER NOT NULL,
        scored INTEGER NOT NULL, score REAL NOT NULL, score2 REAL NOT NULL, threshold REAL NOT NULL,
        measured INTEGER NOT NULL, brightness REAL NOT NULL, brightness2 REAL NOT NULL,
        sharpness REAL NOT NULL, sharpness2 REAL NOT NULL, noise REAL NOT NULL, noise2 REAL NOT NULL,
        PRIMARY KEY (engine, slot)) WITHOUT ROWID;
    CREATE INDEX numbers_order ON numbers (engine, first);
    CREATE TABLE faults (
        engine INTEGER NOT NULL, slot INTEGER NOT NULL, kind TEXT NOT NULL, count INTEGER NOT NULL,
        PRIMARY KEY (engine, slot, kind)) WITHOUT ROWID;
    CREATE TABLE spots (
        engine INTEGER NOT NULL, day INTEGER NOT NULL, cell INTEGER NOT NULL, count INTEGER NOT NULL,
        PRIMARY KEY (engine, day, cell)) WITHOUT ROWID;
    CREATE TABLE unadded (rows INTEGER NOT NULL);";

/// A mean and a deviation, in the making.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    pub sum: f64,
    pub squares: f64,
}

impl Sum {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.squares += value * value;
    }

    fn merge(&mut self, other: Sum) {
        self.sum += other.sum;
        self.squares += other.squares;
    }

    fn mean(self, count: f64) -> f64 {
        self.sum / count
    }

    fn deviation(self, count: f64) -> f64 {
        (self.squares / count - self.mean(count).powi(2)).max(0.0).sqrt()
    }
}

/// Totals of some parts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    pub first: i64,
    pub last: i64,
    pub parts: i64,
    pub passes: i64,
    pub rejects: i64,
    pub faults: i64,
    /// Passed parts with a score, and with measures of their picture.
    pub scored: i64,
    pub measured: i64,
    pub(super) score: Sum,
    pub(super) threshold: f64,
    pub(super) brightness: Sum,
    pub(super) sharpness: Sum,
    pub(super) noise: Sum,
}

impl Totals {
    /// The columns of `numbers` after the slot, in their order.
    pub(super) const COLUMNS: &str = "first, last, parts, passes, rejects, faults, scored, score, score2, \
                                      threshold, measured, brightness, brightness2, sharpness, sharpness2, \
                                      noise, noise2";

    /// Reads these columns from `at` on.
    pub(super) fn read(row: &rusqlite::Row, at: usize) -> rusqlite::Result<Totals> {
        let sum =
            |i: usize| Ok::<_, rusqlite::Error>(Sum { sum: row.get(at + i)?, squares: row.get(at + i + 1)? });
        Ok(Totals {
            first: row.get(at)?,
            last: row.get(at + 1)?,
            parts: row.get(at + 2)?,
            passes: row.get(at + 3)?,
            rejects: row.get(at + 4)?,
            faults: row.get(at + 5)?,
            scored: row.get(at + 6)?,
            score: sum(7)?,
            threshold: row.get(at + 9)?,
            measured: row.get(at + 10)?,
            brightness: sum(11)?,
            sharpness: sum(13)?,
            noise: sum(15)?,
        })
    }

    pub(crate) fn merge(&mut self, other: &Totals) {
        self.first = if self.parts == 0 { other.first } else { self.first.min(other.first) };
        self.last = self.last.max(other.last);
        self.parts += other.parts;
        self.passes += other.passes;
        self.rejects += other.rejects;
        self.faults += other.faults;
        self.scored += other.scored;
        self.measured += other.measured;
        self.threshold += other.threshold;
        self.score.merge(other.score);
        self.brightness.merge(other.brightness);
        self.sharpness.merge(other.sharpness);
        self.noise.merge(other.noise);
    }

    /// How many passed parts tell of a quantity, and what.
    fn of(&self, quantity: Quantity) -> (f64, Sum) {
        match quantity {
            Quantity::Light => (self.measured as f64, self.brightness),
            Quantity::Focus => (self.measured as f64, self.sharpness),
            Quantity::Noise => (self.measured as f64, self.noise),
            Quantity::Scores => (self.scored as f64, self.score),
        }
    }

    /// The mean of a quantity over the passed parts.
    pub(crate) fn mean(&self, quantity: Quantity) -> Option<f64> {
        let (count, sum) = self.of(quantity);
        (count > 0.0).then(|| sum.mean(count))
    }

    /// The mean score of the passed parts, as a multiple of their thresholds.
    pub(crate) fn multiple(&self) -> Option<f64> {
        (self.scored > 0 && self.threshold > 0.0).then(|| self.score.sum / self.threshold)
    }
}

/// Totals of rows that are not written yet.
#[derive(Default)]
pub(super) struct Added {
    engines: HashMap<(String, String), i64>,
    numbers: BTreeMap<(i64, i64), Totals>,
    faults: BTreeMap<(i64, i64, String), i64>,
    spots: BTreeMap<(i64, i64, i64), i64>,
}

/// What totals need of a row.
pub(super) struct Counted<'a> {
    pub row: i64,
    pub triggered: i64,
    pub verdict: &'a str,
    pub fault: Option<&'a str>,
    pub product: &'a str,
    pub package: &'a str,
    pub score: Option<f64>,
    pub threshold: Option<f64>,
    /// Brightness, sharpness, noise.
    pub measures: Option<[f64; 3]>,
    /// Size of the picture, and the boxes of its regions: left, top, width, height.
    pub size: Option<(i64, i64)>,
    pub regions: Vec<[i64; 4]>,
}

impl Added {
    pub fn add(&mut self, database: &Connection, part: &Counted) -> Result<(), Fault> {
        let engine = self.engine(database, part.product, part.package)?;
        let slot = part.triggered.div_euclid(SLOT);
        let totals = self.numbers.entry((engine, slot)).or_default();
        let mut one = Totals { first: part.row, last: part.row, parts: 1, ..Totals::default() };
        match part.verdict {
            "pass" => {
                one.passes = 1;
                if let (Some(score), Some(threshold)) = (part.score, part.threshold) {
                    one.scored = 1;
                    one.score.add(score);
                    one.threshold = threshold;
                }
                if let Some([brightness, sharpness, noise]) = part.measures {
                    one.measured = 1;
                    one.brightness.add(brightness);
                    one.sharpness.add(sharpness);
                    one.noise.add(noise);
                }
            }
            "reject" => one.rejects = 1,
            _ => one.faults = 1,
        }
        totals.merge(&one);
        if one.faults > 0 {
            let kind = part.fault.unwrap_or("inspection").to_owned();
            *self.faults.entry((engine, slot, kind)).or_default() += 1;
        }
        if let (1, Some((width @ 1.., height @ 1..))) = (one.rejects, part.size) {
            let day = slot.div_euclid(DAY_SLOTS);
            let mut hit = [false; (GRID * GRID) as usize];
            for [x, y, w, h] in &part.regions {
                let cell = |at: i64, side: i64| (at * GRID / side).clamp(0, GRID - 1);
                for row in cell(*y, height)..=cell(y + h - 1, height) {
                    for column in cell(*x, width)..=cell(x + w - 1, width) {
                        hit[(row * GRID + column) as usize] = true;
                    }
                }
            }
            let cells = hit.iter().enumerate().filter(|(_, hit)| **hit).map(|(cell, _)| cell as i64);
            for cell in cells.chain([-1]) {
                *self.spots.entry((engine, day, cell)).or_default() += 1;
            }
        }
        Ok(())
    }

    fn engine(&mut self, database: &Connection, product: &str, package: &str) -> Result<i64, Fault> {
        let key = (product.to_owned(), package.to_owned());
        if let Some(engine) = self.engines.get(&key) {
            return Ok(*engine);
        }
        database
            .prepare("INSERT INTO engines (product, package) VALUES (?, ?) ON CONFLICT DO NOTHING")?
            .execute([product, package])?;
        let engine = database
            .prepare("SELECT engine FROM engines WHERE product = ? AND package = ?")?
            .query_row([product, package], |row| row.get(0))?;
        self.engines.insert(key, engine);
        Ok(engine)
    }

    /// Adds the totals to the tables.
    pub fn write(self, database: &Connection) -> Result<(), Fault> {
        let mut statement = database.prepare(
            "INSERT INTO numbers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (engine, slot) DO UPDATE SET
                first = MIN(first, excluded.first), last = MAX(last, excluded.last),
                parts = parts + excluded.parts, passes = passes + excluded.passes,
                rejects = rejects + excluded.rejects, faults = faults + excluded.faults,
                scored = scored + excluded.scored, score = score + excluded.score,
                score2 = score2 + excluded.score2, threshold = threshold + excluded.threshold,
                measured = measured + excluded.measured, brightness = brightness + excluded.brightness,
                brightness2 = brightness2 + excluded.brightness2, sharpness = sharpness + excluded.sharpness,
                sharpness2 = sharpness2 + excluded.sharpness2, noise = noise + excluded.noise,
                noise2 = noise2 + excluded.noise2",
        )?;
        for ((engine, slot), t) in &self.numbers {
            statement.execute(params![
                engine,
                slot,
                t.first,
                t.last,
                t.parts,
                t.passes,
                t.rejects,
                t.faults,
                t.scored,
                t.score.sum,
                t.score.squares,
                t.threshold,
                t.measured,
                t.brightness.sum,
                t.brightness.squares,
                t.sharpness.sum,
                t.sharpness.squares,
                t.noise.sum,
                t.noise.squares,
            ])?;
        }
        let mut statement = database.prepare(
            "INSERT INTO faults VALUES (?, ?, ?, ?)
            ON CONFLICT (engine, slot, kind) DO UPDATE SET count = count + excluded.count",
        )?;
        for ((engine, slot, kind), count) in &self.faults {
            statement.execute(params![engine, slot, kind, count])?;
        }
        let mut statement = database.prepare(
            "INSERT INTO spots VALUES (?, ?, ?, ?)
            ON CONFLICT (engine, day, cell) DO UPDATE SET count = count + excluded.count",
        )?;
        for ((engine, day, cell), count) in &self.spots {
            statement.execute(params![engine, day, cell, count])?;
        }
        Ok(())
    }

    /// The totals by engine.
    pub fn by_engine(&self) -> HashMap<(String, String), Totals> {
        let mut all: HashMap<(String, String), Totals> = HashMap::new();
        for (key, id) in &self.engines {
            let of_it = self.numbers.iter().filter(|((engine, _), _)| engine == id);
            of_it.for_each(|(_, totals)| all.entry(key.clone()).or_default().merge(totals));
        }
        all
    }
}

/// A row that was just written.
pub(super) fn counted(id: i64, row: &Row) -> Counted<'_> {
    let part = &row.part;
    Counted {
        row: id,
        triggered: crate::record::part::unix_ms(part.triggered) as i64,
        verdict: part.verdict,
        fault: part.fault.map(|f| f.name()),
        product: &part.engine.product,
        package: &part.engine.package,
        score: part.score.map(f64::from),
        threshold: Some(f64::from(part.engine.threshold)).filter(|t| t.is_finite()),
        measures: row.measures.map(|m| [m.brightness, m.sharpness, m.noise].map(f64::from)),
        size: row.size.map(|(width, height)| (width.into(), height.into())),
        regions: part.regions.iter().map(|r| [r.x, r.y, r.width, r.height].map(i64::from)).collect(),
    }
}

/// Notes that every present row is to be added.
pub(super) fn begin(database: &Connection) -> Result<(), Fault> {
    database.execute(
        "INSERT INTO unadded SELECT newest FROM (SELECT MAX(rowid) AS newest FROM parts)
            WHERE newest IS NOT NULL",
        [],
    )?;
    Ok(())
}

/// The rows of an earlier version that are still to be added: up to this one.
pub(super) fn unadded(database: &Connection) -> Result<Option<i64>, Fault> {
    Ok(database.query_row("SELECT rows FROM unadded", [], |row| row.get(0)).optional()?)
}

/// Adds the newest rows that are still to be added. Returns their totals; empty when there are no more.
pub(super) fn catch_up(database: &mut Connection) -> Result<HashMap<(String, String), Totals>, Fault> {
    let Some(until) = unadded(database)? else { return Ok(HashMap::new()) };
    let transaction = database.transaction()?;
    let mut added = Added::default();
    let oldest = add_rows(&transaction, until, &mut added)?;
    let totals = added.by_engine();
    added.write(&transaction)?;
    match oldest {
        Some(oldest) => transaction.execute("UPDATE unadded SET rows = ?", [oldest - 1])?,
        None => transaction.execute("DELETE FROM unadded", [])?,
    };
    transaction.commit()?;
    Ok(totals)
}

fn add_rows(database: &Transaction, until: i64, added: &mut Added) -> Result<Option<i64>, Fault> {
    // An earlier version wrote neither measures nor the picture's size.
    let mut statement = database.prepare(
        "SELECT rowid, triggered, verdict, fault, product, package, score, threshold
        FROM parts WHERE rowid <= ? ORDER BY rowid DESC LIMIT ?",
    )?;
    let mut rows = statement.query([until, CHUNK])?;
    let mut oldest = None;
    while let Some(row) = rows.next()? {
        let text = |i: usize| row.get::<_, Option<String>>(i);
        let (verdict, fault, product, package) =
            (row.get::<_, String>(2)?, text(3)?, row.get::<_, String>(4)?, row.get::<_, String>(5)?);
        let part = Counted {
            row: row.get(0)?,
            triggered: row.get(1)?,
            verdict: &verdict,
            fault: fault.as_deref(),
            product: &product,
            package: &package,
            score: row.get(6)?,
            threshold: row.get(7)?,
            measures: None,
            size: None,
            regions: Vec::new(),
        };
        added.add(database, &part)?;
        oldest = Some(part.row);
    }
    Ok(oldest)
}

/// Removes the oldest totals beyond a share of the journal's size.
pub(super) fn bound(database: &Connection, bytes: u64) -> Result<(), Fault> {
    // A row of `numbers` takes some 200 bytes with its index, one of `spots` some 20.
    for (table, key, order, most) in [
        ("numbers", "(engine, slot)", "first", bytes / 8 / 200),
        ("spots", "(engine, day, cell)", "day", bytes / 8 / 20),
    ] {
        let count: i64 =
            database.query_row(&format!("SELECT COUNT(*) FROM {table}"), [], |row| row.get(0))?;
        let surplus = count.saturating_sub(i64::try_from(most).unwrap_or(i64::MAX));
        if surplus > 0 {
            let columns = key.trim_matches(['(', ')']);
            let sql = format!(
                "DELETE FROM {table} WHERE {key} IN (SELECT {columns} FROM {table} ORDER BY {order} LIMIT ?)"
            );
            database.execute(&sql, [surplus])?;
        }
    }
    database.execute(
        "DELETE FROM faults WHERE NOT EXISTS
            (SELECT 1 FROM numbers n WHERE n.engine = faults.engine AND n.slot = faults.slot)",
        [],
    )?;
    Ok(())
}

/// The first passed parts of an engine: with measures, and with a score. Once there are enough they stay.
#[derive(Debug, Default)]
pub(super) struct Usual {
    engine: Option<i64>,
    measured: Option<(Totals, i64)>,
    scored: Option<(Totals, i64)>,
}

/// What has changed since the first parts of the engine of the latest row. Empty while too few parts tell.
pub(super) fn drift(database: &Connection, usual: &mut Usual) -> Result<Vec<Drift>, Fault> {
    let engine = present(database)?;
    if usual.engine != engine {
        *usual = Usual { engine, ..Usual::default() };
    }
    let Some(engine) = engine else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (column, kept, quantities) in [
        ("measured", &mut usual.measured, &[Quantity::Light, Quantity::Focus, Quantity::Noise][..]),
        ("scored", &mut usual.scored, &[Quantity::Scores]),
    ] {
        if kept.is_none() {
            *kept = gathered(database, engine, column, "ASC", USUAL)?;
        }
        let Some((before, until)) = *kept else { continue };
        let Some((after, from)) = gathered(database, engine, column, "DESC", NOW)? else { continue };
        // A quarter of an hour that tells what is usual cannot tell what has changed.
        if from <= until {
            continue;
        }
        for quantity in quantities {
            let ((count, sum), (recent, now)) = (before.of(*quantity), after.of(*quantity));
            found.push(Drift::new(*quantity, sum.mean(count), sum.deviation(count), now.mean(recent)));
        }
    }
    Ok(Drift::explained(found))
}

/// The totals from one end, in the order of writing whatever the clock said, until enough parts tell; and the
/// first row of the last slot. `None` if there are too few.
fn gathered(
    database: &Connection,
    engine: i64,
    column: &str,
    order: &str,
    wanted: f64,
) -> Result<Option<(Totals, i64)>, Fault> {
    let sql = format!(
        "SELECT {} FROM numbers WHERE engine = ? AND {column} > 0 ORDER BY first {order}",
        Totals::COLUMNS
    );
    let mut statement = database.prepare(&sql)?;
    let mut rows = statement.query([engine])?;
    let mut all = Totals::default();
    while let Some(row) = rows.next()? {
        let totals = Totals::read(row, 0)?;
        all.merge(&totals);
        let count = if column == "scored" { all.scored } else { all.measured };
        if count as f64 >= wanted {
            return Ok(Some((all, totals.first)));
        }
    }
    Ok(None)
}

/// The engine of the latest row.
fn present(database: &Connection) -> Result<Option<i64>, Fault> {
    let sql = "SELECT engine FROM engines JOIN
        (SELECT product, package FROM parts ORDER BY rowid DESC LIMIT 1) USING (product, package)";
    Ok(database.query_row(sql, [], |row| row.get(0)).optional()?)
}
