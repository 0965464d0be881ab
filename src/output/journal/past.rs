//! What a journal knew before this run, for whoever shows it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use serde::Deserialize;

use super::totals::{SLOT, Totals};
use super::{Fault, totals};
use crate::anomaly::Region;
use crate::record::{Engine, FaultKind};

/// Rejects are looked for among so many of the latest rows: without an index, and in a moment.
const REACH: i64 = 50_000;
/// Products that are told of.
const ENGINES: usize = 64;

/// Handed from the journal's writing thread to those who show it. The thread reads it before it writes the
/// first row of this run, so nothing is counted twice.
#[derive(Debug, Default)]
pub(crate) struct Past(Mutex<Option<Memory>>);

impl Past {
    /// What became known since the last call.
    pub fn take(&self) -> Option<Memory> {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).take()
    }

    pub(super) fn tell(&self, news: Memory) {
        let mut kept = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let memory = kept.get_or_insert_default();
        for (engine, tally) in news.tallies {
            memory.tallies.entry(engine).or_default().merge(&tally);
        }
        memory.parts.extend(news.parts);
        memory.rejects.extend(news.rejects);
    }
}

/// What was counted of one product with one package.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Begin of the first quarter of an hour with a part, in milliseconds since 1970.
    pub since_ms: u64,
    pub parts: u64,
    pub passes: u64,
    pub rejects: u64,
    pub faults: u64,
}

impl Tally {
    pub fn merge(&mut self, other: &Tally) {
        if self.parts == 0 || (other.parts > 0 && other.since_ms < self.since_ms) {
            self.since_ms = other.since_ms;
        }
        self.parts += other.parts;
        self.passes += other.passes;
        self.rejects += other.rejects;
        self.faults += other.faults;
    }

    fn of(totals: &Totals, slot: i64) -> Tally {
        let count = |n: i64| n.unsigned_abs();
        Tally {
            since_ms: count(slot.max(0) * SLOT),
            parts: count(totals.parts),
            passes: count(totals.passes),
            rejects: count(totals.rejects),
            faults: count(totals.faults),
        }
    }
}

/// The parts of earlier runs.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// By product and package.
    pub tallies: HashMap<(String, String), Tally>,
    /// The latest parts, oldest first.
    pub parts: Vec<PastPart>,
    /// The latest rejects, oldest first.
    pub rejects: Vec<PastPart>,
}

/// A part of an earlier run.
#[derive(Debug, Clone)]
pub(crate) struct PastPart {
    pub run: String,
    pub part: u64,
    pub triggered_ms: u64,
    pub latency_ms: f64,
    pub verdict: &'static str,
    pub fault: Option<FaultKind>,
    pub reason: Option<String>,
    pub engine: Arc<Engine>,
    pub score: Option<f32>,
    pub regions: Vec<Region>,
}

/// Reads what is known: so many of the latest parts and rejects.
pub(super) fn read(database: &Connection, parts: usize, rejects: usize) -> Result<Memory, Fault> {
    let mut memory = Memory::default();
    let sql = "SELECT product, package, MIN(slot), SUM(parts), SUM(passes), SUM(rejects), SUM(faults)
        FROM numbers JOIN engines USING (engine) GROUP BY engine ORDER BY MAX(last) DESC LIMIT ?";
    let mut statement = database.prepare(sql)?;
    let mut rows = statement.query([ENGINES as i64])?;
    while let Some(row) = rows.next()? {
        let totals = Totals {
            parts: row.get(3)?,
            passes: row.get(4)?,
            rejects: row.get(5)?,
            faults: row.get(6)?,
            ..Totals::default()
        };
        memory.tallies.insert((row.get(0)?, row.get(1)?), Tally::of(&totals, row.get(2)?));
    }
    memory.parts = latest(database, "", parts)?;
    memory.rejects = latest(database, "verdict = 'reject' AND", rejects)?;
    Ok(memory)
}

/// Adds a piece of the rows of an earlier version. Returns `None` when there are no more.
pub(super) fn catch_up(database: &mut Connection) -> Result<Option<Memory>, Fault> {
    if totals::unadded(database)?.is_none() {
        return Ok(None);
    }
    let found = totals::catch_up(database)?;
    // The time of these parts is that of their first slot, which the table knows by now.
    let mut tallies = HashMap::new();
    for (key, totals) in found {
        let sql =
            "SELECT MIN(slot) FROM numbers JOIN engines USING (engine) WHERE product = ? AND package = ?";
        let slot: Option<i64> = database.prepare(sql)?.query_row([&key.0, &key.1], |row| row.get(0))?;
        tallies.insert(key, Tally::of(&totals, slot.unwrap_or_default()));
    }
    Ok(Some(Memory { tallies, ..Memory::default() }))
}

fn latest(database: &Connection, which: &str, count: usize) -> Result<Vec<PastPart>, Fault> {
    let sql = format!(
        "SELECT run, part, triggered, latency_ms, verdict, fault, reason, product, package, provider, score,
            threshold, regions
        FROM parts WHERE {which} rowid > (SELECT MAX(rowid) FROM parts) - ? ORDER BY rowid DESC LIMIT ?"
    );
    let mut statement = database.prepare(&sql)?;
    let mut rows = statement.query([REACH, count as i64])?;
    let mut found: Vec<PastPart> = Vec::new();
    while let Some(row) = rows.next()? {
        let text: String = row.get(4)?;
        let Some(verdict) = ["pass", "reject", "fault"].into_iter().find(|v| *v == text) else { continue };
        let fault: Option<String> = row.get(5)?;
        let engine = Engine {
            product: row.get(7)?,
            package: row.get(8)?,
            provider: row.get(9)?,
            threshold: row.get::<_, Option<f64>>(11)?.unwrap_or(f64::INFINITY) as f32,
            recipe: 0,
        };
        let same =
            found.last().filter(|other| *other.engine == engine).map(|other| Arc::clone(&other.engine));
        let number = |i: usize| row.get::<_, i64>(i).map(|n| u64::try_from(n).unwrap_or(0));
        found.push(PastPart {
            run: row.get(0)?,
            part: number(1)?,
            triggered_ms: number(2)?,
            latency_ms: row.get(3)?,
            verdict,
            fault: fault.and_then(|name| FaultKind::ALL.into_iter().find(|kind| kind.name() == name)),
            reason: row.get(6)?,
            engine: same.unwrap_or_else(|| engine.into()),
            score: row.get::<_, Option<f64>>(10)?.map(|score| score as f32),
            regions: regions(&row.get::<_, String>(12)?),
        });
    }
    found.reverse();
    Ok(found)
}

/// The regions of a row. None where another program wrote something else.
pub(super) fn regions(json: &str) -> Vec<Region> {
    #[derive(Deserialize)]
    struct Written {
        x: u32,
        y: u32,
        width: u32,
        height: u32,
        peak: f32,
        area: u32,
    }
    let written: Vec<Written> = serde_json::from_str(json).unwrap_or_default();
    let region =
        |w: Written| Region { x: w.x, y: w.y, width: w.width, height: w.height, peak: w.peak, area: w.area };
    written.into_iter().map(region).collect()
}
