//! Lines of the audit log, each proved by the next. A line is JSON that ends in `,"hash":"…"}`. The hash is
//! SHA-256 of the line before that ending; the line's `previous` is the hash of the line before it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::files::sha256;

/// What the first line of all follows.
const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const HASH: &str = ",\"hash\":\"";
const END: &str = "\"}";
/// The service was cut off while it wrote the line before.
pub(super) const TORN: &str = "torn line";
/// A line before was changed.
pub(super) const DAMAGE: &str = "damage found";

/// One line without its hash.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct Entry {
    /// Counts from 1, through all files.
    pub n: u64,
    /// The hash of the line before.
    pub previous: String,
    /// The time, UTC. The clock may have been wrong.
    pub at: String,
    /// `account NAME`, `token`, `local` or `service`.
    pub who: String,
    /// The address that the request came from.
    pub from: Option<String>,
    /// What was changed.
    pub what: String,
    /// As it was, and as it is to be.
    pub before: Value,
    pub after: Value,
}

/// The end of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Number of the last line. 0 if there is none.
    pub n: u64,
    /// Its hash.
    pub hash: String,
}

impl Default for Head {
    fn default() -> Self {
        Head { n: 0, hash: NOTHING.into() }
    }
}

impl Head {
    /// The next line, with its line break, and the end of the chain then.
    pub fn next(&self, entry: Entry) -> (String, Head) {
        let entry = Entry { n: self.n + 1, previous: self.hash.clone(), ..entry };
        // Strings and values of JSON cannot fail.
        let mut line = serde_json::to_string(&entry).unwrap_or_default();
        line.pop();
        let hash = sha256(line.as_bytes());
        line.extend([HASH, hash.as_str(), END, "\n"]);
        (line, Head { n: entry.n, hash })
    }
}

/// A line that proves itself: entry and hash.
pub(super) fn parse(line: &[u8]) -> Option<(Entry, String)> {
    let line = std::str::from_utf8(line).ok()?;
    let content = line.get(..line.len().checked_sub(HASH.len() + NOTHING.len() + END.len())?)?;
    let hash = line.get(content.len()..)?.strip_prefix(HASH)?.strip_suffix(END)?;
    if sha256(content.as_bytes()) != hash {
        return None;
    }
    Some((serde_json::from_str(&format!("{content}}}")).ok()?, hash.to_owned()))
}

/// The first bad line of a file, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Its number in the file.
    pub line: usize,
    /// What is wrong with it.
    pub why: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} {}", self.line, self.why)
    }
}

/// What a file's lines say of each other.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// What the first line follows.
    pub begins: Option<Head>,
    /// The last line that proves itself.
    pub head: Head,
    /// Number of lines that prove themselves.
    pub count: usize,
    /// Lines that a power cut tore, and that the next line tells of.
    pub torn: Vec<usize>,
    /// The first bad line.
    pub fault: Option<Fault>,
    /// Whether a line after that tells of it.
    pub is_told: bool,
    /// Bytes at the end that are no whole line.
    pub rest: Vec<u8>,
}

/// Checks the lines of a file.
pub(crate) fn walk(bytes: &[u8]) -> Walk {
    let mut walk = Walk::default();
    // A bad line with its number: a torn one if the next line says so.
    let mut bad: Option<(usize, &[u8])> = None;
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
    walk.rest = bytes[whole..].to_vec();
    for (i, line) in bytes[..whole].split_inclusive(|b| *b == b'\n').enumerate() {
        let number = i + 1;
        let line = &line[..line.len() - 1];
        let fault = |walk: &mut Walk, line, why| {
            walk.fault.get_or_insert(Fault { line, why });
        };
        let Some((entry, hash)) = parse(line) else {
            if let Some((line, _)) = bad.replace((number, line)) {
                fault(&mut walk, line, CHANGED);
            }
            continue;
        };
        if let Some((at, torn)) = bad.take() {
            match entry.what == TORN && entry.before == torn_note(torn) {
                true => walk.torn.push(at),
                false => fault(&mut walk, at, CHANGED),
            }
        }
        let follows = Head { n: entry.n.saturating_sub(1), hash: entry.previous };
        match &walk.begins {
            None => walk.begins = Some(follows),
            Some(_) if follows == walk.head => {}
            Some(_) => {
                fault(&mut walk, number, "does not follow the line before: lines are missing or changed")
            }
        }
        walk.is_told |= entry.what == DAMAGE && walk.fault.is_some();
        walk.head = Head { n: entry.n, hash };
        walk.count += 1;
    }
    if let Some((line, _)) = bad {
        walk.fault.get_or_insert(Fault { line, why: CHANGED });
    }
    walk
}

const CHANGED: &str = "was changed: its hash is wrong";

/// What is told of a torn line.
pub(super) fn torn_note(bytes: &[u8]) -> Value {
    json!({"bytes": bytes.len(), "sha256": sha256(bytes)})
}
