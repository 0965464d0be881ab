//! Changes and their record: what the page's handlers call, and how the record is read.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderName, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use utoipa::ToSchema;

use super::Shared;
use super::server::{After, SCRIPT};
use crate::access::audit::Entry;
use crate::access::{Audit, Who};
use crate::error::{Error, ErrorKind};
use crate::http::{About, Api, asset, problem};

/// Lines in one answer to the page.
const MOST: usize = 200;

/// The page that shows the record.
pub(super) fn page<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/audit", asset("text/html; charset=utf-8", include_str!("assets/audit.html")))
        .route("/audit.js", asset(SCRIPT, include_str!("assets/audit.js")))
}

/// The record, for engineers.
pub(super) fn routes() -> Api<Arc<Shared>> {
    let about = |text| About::new(text).refuses(StatusCode::NOT_FOUND, "No audit log is kept");
    let full = |about: About| about.refuses(StatusCode::INSUFFICIENT_STORAGE, "The disk is full");
    Api::new()
        .get("/api/audit", latest, full(about("Who changed what")).query::<After>().gives::<Latest>())
        .get("/api/audit.jsonl", lines, full(about("All of it, a line each")).gives_file(LINES))
        .get("/api/audit.csv", table, full(about("All of it, as a table")).gives_file(TABLE))
}

const LINES: &str = "application/jsonl";
const TABLE: &str = "text/csv; charset=utf-8";

/// Lines of the audit log.
#[derive(ToSchema)]
#[schema(as = AuditLines)]
#[expect(
    dead_code,
    reason = "each line is JSON already, and is passed on to the byte: its hash is of these bytes"
)]
struct Latest {
    entries: Vec<Line>,
}

/// A line with its hash.
#[derive(ToSchema)]
#[schema(as = AuditLine)]
#[expect(dead_code, reason = "as above")]
struct Line {
    #[serde(flatten)]
    entry: Entry,
    /// SHA-256 of the line without it.
    hash: String,
}

impl Shared {
    /// Records a change that is about to be made. On success it is on disk; the change may be made.
    ///
    /// # Errors
    /// The refusal of the change.
    pub(super) fn record(&self, who: &Who, what: &str, before: Value, after: Value) -> Result<(), Error> {
        let Some(audit) = &self.gate.audit else { return Ok(()) };
        audit.record(who, what, before, after).map(drop).map_err(|e| {
            let text = "the change is refused, because the audit log cannot be written";
            Error::new(e.kind(), text).with_source(e)
        })
    }

    /// Records what has happened already, such as a halt or a failure. Returns why that was impossible.
    pub(super) fn note(&self, who: &Who, what: &str, before: Value, after: Value) -> Option<String> {
        let result = self.gate.audit.as_ref()?.note(who, what, before, after);
        result.err().map(|e| format!("not in the audit log: {}", e.chain()))
    }
}

fn failed(e: &Error) -> Response {
    let code = match e.kind() {
        ErrorKind::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    problem(code, e.chain())
}

/// The lines after a number.
async fn read(shared: &Shared, after: u64, most: usize) -> Result<Vec<String>, Response> {
    let Some(audit) = shared.gate.audit.clone() else {
        return Err(problem(StatusCode::NOT_FOUND, "this service keeps no audit log"));
    };
    let read = move |audit: Arc<Audit>| audit.lines(after, most);
    match tokio::task::spawn_blocking(move || read(audit)).await {
        Ok(Ok(lines)) => Ok(lines),
        Ok(Err(e)) => Err(failed(&e)),
        Err(_) => Err(problem(StatusCode::INTERNAL_SERVER_ERROR, "reading failed; see the service's log")),
    }
}

async fn latest(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    let Ok(Query(After { after })) = Query::try_from_uri(&uri) else {
        return problem(StatusCode::BAD_REQUEST, "after must be a number, such as /api/audit?after=17");
    };
    match read(&shared, after, MOST).await {
        // Each line is JSON already, and is passed on to the byte: its hash is of these bytes.
        Ok(lines) => {
            let body = format!("{{\"entries\":[{}]}}", lines.join(","));
            ([(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(refusal) => refusal,
    }
}

/// Headers of a file to save.
fn file(kind: &'static str, name: &'static str) -> [(HeaderName, &'static str); 2] {
    [(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, name)]
}

async fn lines(State(shared): State<Arc<Shared>>) -> Response {
    match read(&shared, 0, usize::MAX).await {
        Ok(lines) => {
            let text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
            (file(LINES, "attachment; filename=\"audit.jsonl\""), text).into_response()
        }
        Err(refusal) => refusal,
    }
}

async fn table(State(shared): State<Arc<Shared>>) -> Response {
    const COLUMNS: [&str; 9] = ["n", "at", "who", "from", "what", "before", "after", "previous", "hash"];
    match read(&shared, 0, usize::MAX).await {
        Ok(lines) => {
            let mut text = COLUMNS.join(",") + "\r\n";
            for line in lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
                let cells = COLUMNS.map(|column| cell(&line[column]));
                text.extend([cells.join(",").as_str(), "\r\n"]);
            }
            (file(TABLE, "attachment; filename=\"audit.csv\""), text).into_response()
        }
        Err(refusal) => refusal,
    }
}

/// A cell of a table. A text that a spreadsheet would take for a formula begins with an apostrophe.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::Number(n) => return n.to_string(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    format!("\"{}{}\"", if is_formula { "'" } else { "" }, text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_are_no_formulas_and_no_two_cells() {
        for (value, text) in [
            (json!(null), ""),
            (json!(-7), "-7"),
            (json!("a,\"b\"\nc"), "\"a,\"\"b\"\"\nc\""),
            (json!("=HYPERLINK(1)"), "\"'=HYPERLINK(1)\""),
            (json!({"state": "Halted"}), "\"{\"\"state\"\":\"\"Halted\"\"}\""),
        ] {
            assert_eq!(cell(&value), text);
        }
    }
}
