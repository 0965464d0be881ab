//! What the journal counts, and the kept pictures.
//!
//! `from` and `to` are milliseconds since 1970, `to` not included; without them the last seven days.
//! `product` and `package` select. Shifts and days are those of the device's time zone. Counts are kept by
//! quarters of an hour, so a period is widened to whole ones; the rows of the table are exact.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use futures_core::Stream;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use utoipa::{IntoParams, ToSchema};

use super::super::journal::read::{self, HEAD, Judged, Known, Numbers as Found, Question, Reader};
use super::super::journal::{GRID, Totals};
use super::super::pictures::gallery;
use super::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::http::{About, Api, asset, problem};
use crate::record::part::{civil, unix_ms};
use crate::record::{Drift, Quantity};

/// Questions that are answered at the same time. Further ones wait: the inspection needs the cores.
const TOGETHER: usize = 2;
/// Tables that are sent at the same time.
const TABLES: usize = 2;
/// Points of a trend.
const POINTS: usize = 160;
/// Groups of an answer.
const GROUPS: usize = 2_000;
/// Kept parts in an answer, and those that are looked at for it.
const PARTS: usize = 24;
const LOOKED_AT: usize = 2_000;
/// The longest wait for a turn.
const PATIENCE: Duration = Duration::from_secs(5);
const WEEK: i64 = 7 * 86_400_000;

/// When shifts begin.
#[derive(Debug, Clone)]
pub(super) struct Shifts(Vec<i64>);

impl Shifts {
    /// Reads the setting.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] naming the key.
    pub fn new(settings: &[String]) -> Result<Shifts> {
        let minutes = |text: &String| {
            let (hour, minute) = text.split_once(':')?;
            let number = |text: &str| (text.len() == 2).then(|| text.parse::<u8>().ok())?;
            let (hour, minute) = (number(hour)?, number(minute)?);
            (hour < 24 && minute < 60 && minute % 15 == 0).then(|| i64::from(hour) * 60 + i64::from(minute))
        };
        let found: Option<Vec<i64>> = settings.iter().map(minutes).collect();
        let Some(mut found) = found.filter(|all| (1..=24).contains(&all.len())) else {
            let what = "must name when shifts begin, as in [\"06:00\", \"14:00\", \"22:00\"]: 1 to 24 times at \
                        a quarter of an hour";
            return Err(Error::setting("web.shifts", what));
        };
        found.sort_unstable();
        found.dedup();
        Ok(Shifts(found))
    }

    /// The shift of a local time in seconds: its day and its name.
    fn of(&self, local: i64) -> (i64, String) {
        let (day, minute) = (local.div_euclid(86_400), local.rem_euclid(86_400) / 60);
        let name = |at: usize| {
            let end = self.0[(at + 1) % self.0.len()];
            let clock = |minutes: i64| format!("{:02}:{:02}", minutes / 60, minutes % 60);
            format!("{} to {}", clock(self.0[at]), clock(end))
        };
        match self.0.partition_point(|start| *start <= minute) {
            // Before the first shift of the day it is the last one of yesterday.
            0 => (day - 1, name(self.0.len() - 1)),
            after => (day, name(after - 1)),
        }
    }
}

/// What limits the questions.
pub(super) struct Numbers {
    shifts: Shifts,
    questions: Arc<Semaphore>,
    tables: Arc<Semaphore>,
}

impl Numbers {
    pub fn new(shifts: Shifts) -> Numbers {
        Numbers {
            shifts,
            questions: Arc::new(Semaphore::new(TOGETHER)),
            tables: Arc::new(Semaphore::new(TABLES)),
        }
    }
}

/// The page, with which people may have to sign in.
pub(super) fn page() -> Router<Arc<Shared>> {
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    const STYLE: &str = "text/css; charset=utf-8";
    Router::new()
        .route("/numbers", asset("text/html; charset=utf-8", include_str!("assets/numbers.html")))
        .route("/numbers.js", asset(SCRIPT, include_str!("assets/numbers.js")))
        .route("/figures.js", asset(SCRIPT, include_str!("assets/figures.js")))
        .route("/gallery.js", asset(SCRIPT, include_str!("assets/gallery.js")))
        .route("/numbers.css", asset(STYLE, include_str!("assets/numbers.css")))
}

pub(super) fn routes() -> Api<Arc<Shared>> {
    let busy =
        |about: About| about.refuses(StatusCode::SERVICE_UNAVAILABLE, "Others ask, or the journal is in use");
    let counted =
        |text| busy(About::new(text).query::<Asked>()).refuses(StatusCode::NOT_FOUND, "There is no journal");
    const NONE: &str = "No pictures are kept, or not this one";
    Api::new()
        .get(
            "/api/numbers",
            numbers,
            counted("Counts of a period by shift, day, product or package; the trend; what changed")
                .gives::<Answer>(),
        )
        .get(
            "/api/numbers/heat",
            heat,
            counted("Where regions of the rejects lie, in whole days").gives::<Heat>(),
        )
        .get("/api/numbers.csv", table, counted("The parts of a period as a table").gives_file(TABLE))
        .get(
            "/api/kept",
            kept,
            busy(About::new("Kept parts, newest first").query::<Search>().gives::<Page>())
                .refuses(StatusCode::NOT_FOUND, NONE),
        )
        .get(
            "/api/kept/{file}",
            kept_by_name,
            About::new("A file of a kept part: NAME.png, NAME.overlay.jpg or NAME.json")
                .gives_file("image/png")
                .gives_file("image/jpeg")
                .gives::<Value>()
                .refuses(StatusCode::NOT_FOUND, NONE),
        )
}

const TABLE: &str = "text/csv; charset=utf-8";

/// The query of most requests.
#[derive(Debug, Deserialize, IntoParams)]
struct Asked {
    /// Milliseconds since 1970; by default a week before `to`.
    from: Option<i64>,
    /// Milliseconds since 1970, not included; by default now.
    to: Option<i64>,
    product: Option<String>,
    package: Option<String>,
    /// Groups: `shift` (default), `day`, `product` or `package`.
    by: Option<String>,
}

impl Asked {
    fn read(uri: &Uri) -> std::result::Result<(Asked, Question), Box<Response>> {
        let wrong = |text: &str| Box::new(problem(StatusCode::BAD_REQUEST, text));
        let Ok(Query(asked)) = Query::<Asked>::try_from_uri(uri) else {
            return Err(wrong("from and to must be milliseconds since 1970, as in ?from=1772600767000"));
        };
        let now = unix_ms(SystemTime::now()) as i64;
        let to = asked.to.unwrap_or(now);
        let from = asked.from.unwrap_or(to.saturating_sub(WEEK));
        if from >= to {
            return Err(wrong("from must be before to"));
        }
        // "All" is sent as an empty text.
        let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let question = Question { from, to, product: some(&asked.product), package: some(&asked.package) };
        Ok((asked, question))
    }
}

/// The answer to an error of the journal or of the pictures.
fn refused(error: &Error) -> Response {
    let code = match error.kind() {
        ErrorKind::Usage => StatusCode::NOT_FOUND,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    problem(code, error.chain())
}

fn without_journal() -> Response {
    problem(StatusCode::NOT_FOUND, "nothing is counted: set journal.path in the configuration")
}

/// Answers a question to the journal on a thread that may block.
async fn answer<T: Send + 'static>(
    shared: &Shared,
    work: impl FnOnce(&Reader, &std::path::Path) -> Result<T> + Send + 'static,
) -> std::result::Result<T, Box<Response>> {
    let Some(path) = shared.site.journal.clone() else { return Err(without_journal().into()) };
    let permit = turn(&shared.numbers.questions).await?;
    let done = tokio::task::spawn_blocking(move || {
        let _held = permit;
        work(&Reader::open(&path)?, &path)
    });
    match done.await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(refused(&error).into()),
        Err(_) => {
            Err(problem(StatusCode::INTERNAL_SERVER_ERROR, "request failed; see the service's log").into())
        }
    }
}

/// A turn among those who ask.
async fn turn(of: &Arc<Semaphore>) -> std::result::Result<OwnedSemaphorePermit, Box<Response>> {
    match timeout(PATIENCE, Arc::clone(of).acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(problem(StatusCode::SERVICE_UNAVAILABLE, "others ask at the moment; try again").into()),
    }
}

/// Counts, as they are sent.
#[derive(Debug, Serialize, ToSchema)]
struct Counts {
    parts: i64,
    passes: i64,
    rejects: i64,
    faults: i64,
    /// Mean of the passed parts' scores, as a multiple of the threshold.
    score: Option<f64>,
    /// Means over the passed parts' pictures.
    brightness: Option<f64>,
    sharpness: Option<f64>,
    noise: Option<f64>,
}

impl Counts {
    fn of(totals: &Totals) -> Counts {
        Counts {
            parts: totals.parts,
            passes: totals.passes,
            rejects: totals.rejects,
            faults: totals.faults,
            score: totals.multiple(),
            brightness: totals.mean(Quantity::Light),
            sharpness: totals.mean(Quantity::Focus),
            noise: totals.mean(Quantity::Noise),
        }
    }
}

/// Counts of a shift, day, product or package.
#[derive(Debug, Serialize, ToSchema)]
struct Group {
    /// The day, `YYYY-MM-DD`, for shifts and days.
    day: Option<String>,
    /// The shift, the product or the package.
    name: String,
    product: Option<String>,
    /// Begin of its first quarter of an hour with a part.
    start_ms: i64,
    #[serde(flatten)]
    counts: Counts,
}

/// A point of the trend.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TrendPoint)]
struct Point {
    time_ms: i64,
    #[serde(flatten)]
    counts: Counts,
}

/// A product with a package that inspected it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KnownPackage)]
struct Package {
    product: String,
    package: String,
}

/// A drift in words.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ToldDrift)]
struct Changed {
    text: String,
    change: f64,
    #[serde(flatten)]
    drift: Drift,
}

/// The counts of a period.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Numbers)]
struct Answer {
    from_ms: i64,
    to_ms: i64,
    /// First and last quarter of an hour with a part in the whole journal.
    first_ms: Option<i64>,
    last_ms: Option<i64>,
    packages: Vec<Package>,
    total: Counts,
    faults: BTreeMap<String, i64>,
    groups: Vec<Group>,
    trend: Vec<Point>,
    drift: Vec<Changed>,
    /// What a reader should know of these counts.
    remarks: Vec<String>,
}

async fn numbers(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    let (asked, question) = match Asked::read(&uri) {
        Ok(read) => read,
        Err(refusal) => return *refusal,
    };
    let by = asked.by.unwrap_or_else(|| "shift".into());
    if !["shift", "day", "product", "package"].contains(&by.as_str()) {
        return problem(StatusCode::BAD_REQUEST, "by must be shift, day, product or package");
    }
    let shifts = shared.numbers.shifts.clone();
    let found = answer(&shared, move |reader, path| {
        let found = reader.ask(path, |database| read::numbers(database, &question))?;
        Ok(summed(&found, &question, &by, &shifts))
    });
    match found.await {
        Ok(mut answer) => {
            // What the journal's thread compares every few seconds.
            let changed = |drift: Drift| Changed { text: drift.to_string(), change: drift.change(), drift };
            answer.drift = shared.control.status().snapshot().drift.into_iter().map(changed).collect();
            Json(answer).into_response()
        }
        Err(refusal) => *refusal,
    }
}

fn summed(found: &Found, question: &Question, by: &str, shifts: &Shifts) -> Answer {
    let engine = |id: i64| found.engines.iter().find(|engine| engine.id == id);
    let mut total = Totals::default();
    // Keys sort in the order in which groups are shown.
    let mut groups: BTreeMap<(i64, String, String), (i64, Totals)> = BTreeMap::new();
    for slot in &found.slots {
        total.merge(&slot.totals);
        let known =
            |of: fn(&Known) -> &String| engine(slot.engine).map_or_else(String::new, |e| of(e).clone());
        let key = match by {
            "shift" => {
                let (day, name) = shifts.of(slot.local);
                (day, name, String::new())
            }
            "day" => (slot.local.div_euclid(86_400), String::new(), String::new()),
            "product" => (0, known(|e| &e.product), String::new()),
            _ => (0, known(|e| &e.package), known(|e| &e.product)),
        };
        let group = groups.entry(key).or_insert((slot.start_ms, Totals::default()));
        group.0 = group.0.min(slot.start_ms);
        group.1.merge(&slot.totals);
    }
    let by_time = matches!(by, "shift" | "day");
    let mut remarks = Vec::new();
    let mut groups: Vec<Group> = groups
        .into_iter()
        .map(|((day, name, product), (start_ms, totals))| Group {
            day: by_time.then(|| date(day)),
            name,
            product: Some(product).filter(|product| !product.is_empty()),
            start_ms,
            counts: Counts::of(&totals),
        })
        .collect();
    if by_time {
        groups.sort_by_key(|group| std::cmp::Reverse(group.start_ms));
    }
    if groups.len() > GROUPS {
        groups.truncate(GROUPS);
        remarks.push(format!("Only {GROUPS} groups are shown: choose a shorter period."));
    }
    if found.uncounted > 0 {
        remarks
            .push(format!("{} older parts are not counted yet; the service adds them up.", found.uncounted));
    }
    if found.backwards > 0 {
        let text = "The clock was set back in this period: some parts have times before earlier parts.";
        remarks.push(text.into());
    }
    if found.whole.is_none() {
        remarks.push("The journal has no parts yet.".into());
    } else if found.slots.is_empty() {
        remarks.push("There are no parts in this period.".into());
    }
    let known =
        found.engines.iter().map(|e| Package { product: e.product.clone(), package: e.package.clone() });
    Answer {
        from_ms: question.from,
        to_ms: question.to,
        first_ms: found.whole.map(|whole| whole.0),
        last_ms: found.whole.map(|whole| whole.1),
        packages: known.collect(),
        total: Counts::of(&total),
        faults: found.faults.clone(),
        groups,
        trend: trend(found, question),
        drift: Vec::new(),
        remarks,
    }
}

/// The slots of a period, in a number that a chart can show.
fn trend(found: &Found, question: &Question) -> Vec<Point> {
    let (Some(first), Some(last)) = (found.slots.first(), found.slots.last()) else { return Vec::new() };
    let (start, end) = (first.start_ms.max(question.from), last.start_ms);
    let step = (end.saturating_sub(start) / POINTS as i64).max(1);
    let mut points: BTreeMap<i64, (i64, Totals)> = BTreeMap::new();
    for slot in &found.slots {
        let place = slot.start_ms.saturating_sub(start).div_euclid(step);
        points.entry(place).or_insert((slot.start_ms, Totals::default())).1.merge(&slot.totals);
    }
    points.into_values().map(|(time_ms, totals)| Point { time_ms, counts: Counts::of(&totals) }).collect()
}

/// A day since 1970 as `YYYY-MM-DD`.
fn date(day: i64) -> String {
    let [year, month, day, ..] = civil(UNIX_EPOCH + Duration::from_secs(day.max(0).unsigned_abs() * 86_400));
    format!("{year:04}-{month:02}-{day:02}")
}

/// Where regions of the rejects lie.
#[derive(Serialize, ToSchema)]
struct Heat {
    /// Rejects whose picture's size is known.
    parts: i64,
    columns: i64,
    rows: i64,
    /// Rejects with a region in each cell, row by row from the top left.
    cells: Vec<i64>,
    width: Option<i64>,
    height: Option<i64>,
}

async fn heat(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    let question = match Asked::read(&uri) {
        Ok((_, question)) => question,
        Err(refusal) => return *refusal,
    };
    let found =
        answer(&shared, move |reader, path| reader.ask(path, |database| read::spots(database, &question)));
    match found.await {
        Ok(spots) => Json(Heat {
            parts: spots.parts,
            columns: GRID,
            rows: GRID,
            cells: spots.cells,
            width: spots.size.map(|size| size.0),
            height: spots.size.map(|size| size.1),
        })
        .into_response(),
        Err(refusal) => *refusal,
    }
}

/// A body that a thread writes piece by piece. If the thread fails, the answer is cut off, so that nobody takes
/// it for whole.
struct Pieces(mpsc::Receiver<std::io::Result<Bytes>>);

impl Stream for Pieces {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

async fn table(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    let question = match Asked::read(&uri) {
        Ok((_, question)) => question,
        Err(refusal) => return *refusal,
    };
    let Some(path) = shared.site.journal.clone() else { return without_journal() };
    let held = match turn(&shared.numbers.tables).await {
        Ok(permit) => permit,
        Err(refusal) => return *refusal,
    };
    let (asked, file) = (question.clone(), path.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let reader = Reader::open(&file)?;
        let ranges = reader.ask(&file, |database| read::ranges(database, &asked))?;
        Ok::<_, Error>((reader, ranges))
    });
    let (reader, ranges) = match opened.await {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => return refused(&error),
        Err(_) => return problem(StatusCode::INTERNAL_SERVER_ERROR, "request failed; see the service's log"),
    };
    let (send, pieces) = mpsc::channel(2);
    let name =
        format!("parts-{}-{}.csv", date(question.from / 86_400_000), date((question.to - 1) / 86_400_000));
    tokio::task::spawn_blocking(move || {
        let _held = held;
        let mut text = String::from(HEAD);
        for (first, last) in ranges {
            let mut after = Some(first.saturating_sub(1));
            while let Some(from) = after {
                let read =
                    reader.ask(&path, |database| read::lines(database, &question, from, last, &mut text));
                let piece = match read {
                    Ok(next) => {
                        after = next;
                        Ok(Bytes::from(std::mem::take(&mut text)))
                    }
                    Err(error) => {
                        log::warn!("web: a table of parts was cut off: {}", error.chain());
                        Err(std::io::Error::other(error.chain()))
                    }
                };
                let failed = piece.is_err();
                // The reader has gone away, or the answer is lost.
                if send.blocking_send(piece).is_err() || failed {
                    return;
                }
            }
        }
        if !text.is_empty() {
            let _ = send.blocking_send(Ok(Bytes::from(text)));
        }
    });
    let headers = [
        (header::CONTENT_TYPE, TABLE.to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    (headers, Body::from_stream(Pieces(pieces))).into_response()
}

/// Which kept parts are asked for.
#[derive(Debug, Deserialize, IntoParams)]
struct Search {
    verdict: Option<String>,
    product: Option<String>,
    /// `YYYY-MM-DD`, UTC as the folder's names.
    day: Option<String>,
    part: Option<String>,
    /// Least and highest score, as a multiple of the threshold.
    least: Option<String>,
    most: Option<String>,
    /// The name that the previous answer gave as `next`.
    after: Option<String>,
}

/// What is looked for beside the names of the files.
struct Content {
    product: Option<String>,
    least: Option<f64>,
    most: Option<f64>,
}

/// A kept part.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KeptPart)]
struct Shown {
    name: String,
    run: String,
    part: u64,
    verdict: String,
    /// Time of the trigger, in milliseconds since 1970.
    time_ms: u64,
    product: Option<String>,
    /// The score as a multiple of the threshold.
    multiple: Option<f64>,
    picture: bool,
    overlay: bool,
}

/// Kept parts.
#[derive(Serialize, ToSchema)]
#[schema(as = KeptParts)]
struct Page {
    parts: Vec<Shown>,
    /// Goes on as `after`.
    next: Option<String>,
}

async fn kept(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    let wrong = |text: &str| problem(StatusCode::BAD_REQUEST, text);
    let Ok(Query(search)) = Query::<Search>::try_from_uri(&uri) else {
        return wrong("invalid query; use /api/kept?verdict=reject&day=2026-03-04&least=1.5");
    };
    let Some(folder) = shared.site.kept.clone() else {
        return problem(
            StatusCode::NOT_FOUND,
            "no pictures are kept: set pictures.folder in the configuration",
        );
    };
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (day, part) = (some(search.day), some(search.part));
    let day = day.map(|day| day.replace('-', ""));
    if day.as_ref().is_some_and(|day| day.len() != 8 || !day.bytes().all(|b| b.is_ascii_digit())) {
        return wrong("day must be a date such as 2026-03-04");
    }
    let number = |text: Option<String>| match some(text) {
        None => Ok(None),
        Some(text) => text.parse::<f64>().map(Some),
    };
    let (Ok(least), Ok(most)) = (number(search.least), number(search.most)) else {
        return wrong("least and most must be numbers: multiples of the threshold");
    };
    let Ok(part) = part.map(|part| part.parse::<u64>()).transpose() else {
        return wrong("part must be a number");
    };
    let wanted = gallery::Wanted { day, verdict: some(search.verdict), part, after: some(search.after) };
    let content = Content { product: some(search.product), least, most };
    let journal = shared.site.journal.clone();
    let held = match turn(&shared.numbers.questions).await {
        Ok(permit) => permit,
        Err(refusal) => return *refusal,
    };
    let listed = tokio::task::spawn_blocking(move || {
        let _held = held;
        // Without a journal the parts' own files tell, only slower.
        let reader = journal.and_then(|path| Some((Reader::open(&path).ok()?, path)));
        let mut shown = Vec::new();
        let page = gallery::list(&folder, &wanted, PARTS, LOOKED_AT, |kept| {
            let known = known(&reader, &folder, kept);
            let multiple = known.as_ref().and_then(|known| known.1);
            let fits = content
                .product
                .as_ref()
                .is_none_or(|product| known.as_ref().is_some_and(|known| known.0 == *product))
                && content.least.is_none_or(|least| multiple.is_some_and(|m| m >= least))
                && content.most.is_none_or(|most| multiple.is_some_and(|m| m <= most));
            if fits {
                shown.push(Shown {
                    name: kept.name.clone(),
                    run: kept.run.clone(),
                    part: kept.part,
                    verdict: kept.verdict.clone(),
                    time_ms: time_of(&kept.name),
                    product: known.map(|known| known.0),
                    multiple,
                    picture: kept.picture,
                    overlay: kept.overlay,
                });
            }
            fits
        })?;
        Ok::<_, Error>(Page { parts: shown, next: page.next })
    });
    match listed.await {
        Ok(Ok(body)) => Json(body).into_response(),
        Ok(Err(error)) => refused(&error),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "request failed; see the service's log"),
    }
}

/// Product, and score as a multiple of the threshold, of a kept part.
fn known(
    reader: &Option<(Reader, PathBuf)>,
    folder: &std::path::Path,
    kept: &gallery::Kept,
) -> Option<(String, Option<f64>)> {
    let row = reader.as_ref().and_then(|(reader, path)| {
        reader.ask(path, |database| read::part(database, &kept.run, kept.part)).ok().flatten()
    });
    let Judged { product, score, threshold } = match row {
        Some(row) => row,
        None => {
            let (bytes, _) = gallery::read(folder, &format!("{}.json", kept.name)).ok()?;
            serde_json::from_slice(&bytes).ok()?
        }
    };
    let multiple = score.zip(threshold.filter(|t| *t > 0.0)).map(|(score, threshold)| score / threshold);
    Some((product, multiple))
}

/// The time in the name of a kept part, `YYYYMMDD-HHMMSS.mmm-…`.
fn time_of(name: &str) -> u64 {
    let number = |from: usize, to: usize| name.get(from..to).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    let (year, month, day) = (number(0, 4), number(4, 6), number(6, 8));
    // Days since 1970; years begin in March (Howard Hinnant, "chrono-compatible low-level date algorithms").
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.saturating_sub(1), month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    let days = days.saturating_sub(719_469);
    ((days * 24 + number(9, 11)) * 60 + number(11, 13)) * 60_000 + number(13, 15) * 1000 + number(16, 19)
}

async fn kept_by_name(State(shared): State<Arc<Shared>>, Path(file): Path<String>) -> Response {
    let Some(folder) = shared.site.kept.clone() else {
        return problem(
            StatusCode::NOT_FOUND,
            "no pictures are kept: set pictures.folder in the configuration",
        );
    };
    let read = tokio::task::spawn_blocking(move || gallery::read(&folder, &file));
    match read.await {
        Ok(Ok((bytes, kind))) => ([(header::CONTENT_TYPE, kind)], bytes).into_response(),
        Ok(Err(error)) => problem(StatusCode::NOT_FOUND, error.chain()),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "request failed; see the service's log"),
    }
}

/// The file of a kept reject.
pub(super) async fn kept_file(shared: &Arc<Shared>, file: PathBuf) -> Response {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    kept_by_name(State(Arc::clone(shared)), Path(name)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifts_are_those_of_their_day_also_past_midnight() {
        let shifts = |times: &[&str]| Shifts::new(&times.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>());
        let three = shifts(&["22:00", "06:00", "14:00"]).unwrap();
        let at = |hour: i64| three.of(20_000 * 86_400 + hour * 3600);
        assert_eq!(at(6), (20_000, "06:00 to 14:00".into()));
        assert_eq!(at(23), (20_000, "22:00 to 06:00".into()));
        assert_eq!(at(5), (19_999, "22:00 to 06:00".into()));
        assert_eq!(shifts(&["00:00"]).unwrap().of(90_000), (1, "00:00 to 00:00".into()));
        for wrong in [&[][..], &["6:00"], &["24:00"], &["06:10"], &["06:00", "x"], &["06.00"]] {
            assert!(shifts(wrong).unwrap_err().chain().starts_with("web.shifts: must name"), "{wrong:?}");
        }
    }

    #[test]
    fn a_name_tells_the_time() {
        for ms in [1_772_600_767_089u64, 0, 951_782_400_001, 4_107_542_399_999] {
            let [y, m, d, h, min, s, milli] = civil(UNIX_EPOCH + Duration::from_millis(ms));
            let name = format!("{y:04}{m:02}{d:02}-{h:02}{min:02}{s:02}.{milli:03}-0-1-pass");
            assert_eq!(time_of(&name), ms, "{name}");
        }
    }
}
