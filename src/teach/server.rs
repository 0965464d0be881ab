//! The routes of teaching.

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::store::{Answer, Product};
use super::trial::{self, ACTIVE_FILE, Changes, Trial, false_rejects};
use super::{Aid, Collecting, Target, Teacher, shadow, work};
use crate::access::{Audit, Who};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{About, Api, asset, problem};
use crate::imaging::{Frame, Polygon};
use crate::output::web::Additions;
use crate::output::web::picture::encoded;
use crate::record::part::unix_ms;

const SCRIPT: &str = "text/javascript; charset=utf-8";
/// Longest side of a picture, by default and at most.
const SIDES: [u32; 2] = [320, 2048];
/// Number of the latest events on the page.
const EVENTS: usize = 50;

/// What the routes know.
#[derive(Clone)]
struct Desk {
    teacher: Arc<Teacher>,
    /// The folder of kept pictures.
    kept: Option<PathBuf>,
    audit: Arc<Audit>,
}

/// The routes of teaching, for the web page. `kept` is the folder of kept pictures.
pub(crate) fn routes(teacher: Arc<Teacher>, kept: Option<PathBuf>, audit: Arc<Audit>) -> Additions {
    let desk = Desk { teacher, kept, audit };
    let page = Router::new()
        .route("/teach", asset("text/html; charset=utf-8", include_str!("assets/teach.html")))
        .route("/teach.js", asset(SCRIPT, include_str!("assets/teach.js")))
        .route("/teach-api.js", asset(SCRIPT, include_str!("assets/teach-api.js")))
        .route("/teach-areas.js", asset(SCRIPT, include_str!("assets/teach-areas.js")))
        .route("/teach-result.js", asset(SCRIPT, include_str!("assets/teach-result.js")))
        .route("/teach.css", asset("text/css; charset=utf-8", include_str!("assets/teach.css")));
    let changes = |text| {
        About::new(text)
            .gives::<Everything>()
            .refuses(StatusCode::CONFLICT, "It is impossible as it is; the text says why")
            .refuses(StatusCode::INSUFFICIENT_STORAGE, "The disk is full, so nothing was changed")
    };
    let picture = |text| {
        About::new(text)
            .query::<Side>()
            .gives_file("image/jpeg")
            .refuses(StatusCode::CONFLICT, "There is no such picture")
    };
    let looks = Api::new()
        .get(
            "/api/teach",
            everything,
            About::new("Products, pictures, progress, the new package and what it changes")
                .gives::<Everything>()
                .refuses(StatusCode::CONFLICT, "The product's files are damaged"),
        )
        .get("/api/teach/good/{picture}", good_picture, picture("A collected picture of a good part"))
        .get("/api/teach/bad/{picture}", bad_picture, picture("A collected picture of a bad part"))
        .get("/api/teach/recent/{id}", recent_picture, picture("The picture of a latest part"))
        .get(
            "/api/teach/threshold",
            at_threshold,
            About::new("What a threshold would reject")
                .query::<Threshold>()
                .gives::<AtThreshold>()
                .refuses(StatusCode::CONFLICT, "There is no product"),
        )
        .with_state(desk.clone());
    let operate = Api::new()
        .post(
            "/api/teach/hold",
            hold,
            changes("Lets the latest parts stay while somebody looks at them").takes::<Switch>(),
        )
        .post(
            "/api/teach/answer",
            answer,
            changes("A person's answer for a latest part").takes::<AnswerRecent>(),
        )
        .post(
            "/api/teach/answer-kept",
            answer_kept,
            changes("The same for a kept part").takes::<AnswerKept>(),
        )
        .with_state(desk.clone());
    let engineer = Api::new()
        .post(
            "/api/teach/product",
            choose,
            changes("Chooses a product, and creates it if it is new").takes::<ChosenName>(),
        )
        .post(
            "/api/teach/settings",
            settings,
            changes("Changes the product's settings").takes::<NewSettings>(),
        )
        .post("/api/teach/collect", collect, changes("How good parts are collected").takes::<Collect>())
        .post("/api/teach/remove", remove, changes("Removes a collected picture").takes::<Removed>())
        .post("/api/teach/enroll", enroll, changes("Starts to enroll"))
        .post("/api/teach/stop", stop, changes("Stops enrolling"))
        .post(
            "/api/teach/shadow",
            shadow,
            changes("The new package judges live parts, without effect").takes::<Switch>(),
        )
        .post(
            "/api/teach/threshold",
            threshold,
            changes("Makes a new package of the one in use, with this threshold").takes::<Threshold>(),
        )
        .post(
            "/api/teach/activate",
            activate,
            changes("Makes the new package the one in use").takes::<Activate>(),
        )
        .post("/api/teach/back", back, changes("Goes back to the package before"))
        .with_state(desk);
    Additions { page, looks, operate, engineer }
}

/// A part that a person can answer for.
#[derive(Serialize, ToSchema)]
#[schema(as = LatestPart)]
struct Latest {
    id: u64,
    part: u64,
    time_ms: u64,
    verdict: &'static str,
    score: Option<f32>,
    threshold: Option<f32>,
    answer: Option<Answer>,
}

/// The product that is taught.
#[derive(Serialize, ToSchema)]
struct ChosenProduct {
    #[serde(flatten)]
    settings: Product,
    good: Vec<String>,
    bad: Vec<String>,
    /// Who did what, a line each, oldest first.
    history: Vec<String>,
    /// The new package, and what it changes.
    candidate: Option<Trial>,
    changes: Option<Changes>,
    /// Whether the new package is in use already.
    is_active: bool,
}

/// Teaching at one moment.
#[derive(Serialize, ToSchema)]
#[schema(as = Teaching)]
struct Everything {
    products: Vec<String>,
    product: Option<ChosenProduct>,
    collecting: Collecting,
    /// Why collecting has ended.
    refused: Option<String>,
    software_trigger: bool,
    job: Option<work::Progress>,
    shadow: shadow::Seen,
    aid: Aid,
    recent: Vec<Latest>,
    /// Whether the latest parts stay as they are.
    held: bool,
    /// Whether there is a package to go back to.
    has_previous: bool,
    /// Where the new package would go.
    target: Option<Target>,
    /// Why a new package cannot be used here.
    obstacles: Vec<String>,
}

impl Teacher {
    /// What a change may change, for the record of changes.
    fn before(&self) -> Value {
        let active = self.control().ok().map(|control| control.status().engine().package.clone());
        json!({"product": self.inner().chosen, "package": active})
    }

    fn everything(&self) -> Result<Everything> {
        let product = match self.chosen() {
            Ok(product) => {
                let candidate = trial::candidate(&product)?;
                let changes = candidate.as_ref().map(|trial| self.changes(&product, trial)).transpose()?;
                let mut history = trial::notes(&product.events()?);
                let first = history.len().saturating_sub(EVENTS);
                let active = self.control().ok().map(|control| control.status().engine().package.clone());
                Some(ChosenProduct {
                    settings: product.known()?,
                    good: product.pictures(Answer::Good)?,
                    bad: product.pictures(Answer::Bad)?,
                    history: history.split_off(first),
                    is_active: candidate.as_ref().is_some_and(|c| Some(&c.package) == active.as_ref()),
                    candidate,
                    changes,
                })
            }
            Err(_) => None,
        };
        let place = self.place();
        let mut obstacles = Vec::new();
        if place.signed {
            obstacles.push(
                "The configuration needs signed packages (inspection.public_keys). A package of this page has no signature, so it \
                 cannot be activated here."
                    .to_owned(),
            );
        }
        if let Some(threshold) = place.threshold {
            obstacles.push(format!(
                "The configuration sets the threshold to {threshold} (inspection.threshold). It replaces that of every package; \
                 remove it to use theirs."
            ));
        }
        let products = self.store.products()?;
        let has_previous = self.has_previous();
        // What is wrong with the recipes is told when somebody activates.
        let target = product.as_ref().and_then(|product| self.target(&product.settings.name).ok());
        let inner = self.inner();
        let latest = |recent: &super::Recent| Latest {
            id: recent.id,
            part: recent.part,
            time_ms: unix_ms(recent.triggered),
            verdict: recent.verdict,
            score: recent.score,
            threshold: recent.threshold,
            answer: recent.answer,
        };
        Ok(Everything {
            products,
            product,
            collecting: inner.collecting,
            refused: inner.refused.clone(),
            software_trigger: place.software_trigger,
            job: inner.job.as_ref().map(work::Job::progress),
            shadow: inner.shadow.seen(),
            aid: inner.aid,
            held: inner.held,
            recent: inner.recent.iter().rev().map(latest).collect(),
            has_previous,
            target,
            obstacles,
        })
    }
}

/// Does something that may wait for a disk, away from the server's thread.
async fn away<T: Send + 'static>(
    desk: Desk,
    work: impl FnOnce(&Desk) -> Result<T> + Send + 'static,
) -> std::result::Result<T, Response> {
    match tokio::task::spawn_blocking(move || work(&desk)).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(e)) => Err(refusal(&e)),
        Err(_) => Err(problem(StatusCode::INTERNAL_SERVER_ERROR, "request failed; see the service's log")),
    }
}

fn refusal(error: &Error) -> Response {
    let code = match error.kind() {
        ErrorKind::Usage | ErrorKind::Image => StatusCode::CONFLICT,
        ErrorKind::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    problem(code, error.chain())
}

/// Makes a change that is recorded before, and answers with the new state.
async fn change(
    desk: Desk,
    who: Who,
    (what, question): (&'static str, Value),
    work: impl FnOnce(&Desk, &str) -> Result<()> + Send + 'static,
) -> Response {
    let done = away(desk, move |desk| {
        let before = desk.teacher.before();
        desk.audit.record(&who, what, before, question).map_err(|e| {
            let text = "the change is refused, because the audit log cannot be written";
            Error::new(e.kind(), text).with_source(e)
        })?;
        work(desk, &name(&who))?;
        desk.teacher.everything()
    });
    match done.await {
        Ok(everything) => Json(everything).into_response(),
        Err(refusal) => refusal,
    }
}

/// The same with a body.
async fn asked<T: DeserializeOwned + Send + 'static>(
    desk: Desk,
    who: Who,
    (what, body): (&'static str, Bytes),
    work: impl FnOnce(&Desk, T, &str) -> Result<()> + Send + 'static,
) -> Response {
    let read = |body: &[u8]| {
        Ok::<_, serde_json::Error>((serde_json::from_slice(body)?, serde_json::from_slice(body)?))
    };
    match read(&body) {
        Ok((question, recorded)) => {
            change(desk, who, (what, recorded), move |desk, who| work(desk, question, who)).await
        }
        Err(e) => problem(StatusCode::BAD_REQUEST, format!("the request cannot be read: {e}")),
    }
}

/// Who asks, for the history of a product.
fn name(who: &Who) -> String {
    match who.from {
        Some(from) if !from.to_canonical().is_loopback() => format!("{} ({from})", who.person),
        _ => who.person.to_string(),
    }
}

async fn everything(State(desk): State<Desk>) -> Response {
    desk.teacher.look();
    match away(desk, |desk| desk.teacher.everything()).await {
        Ok(everything) => Json(everything).into_response(),
        Err(refusal) => refusal,
    }
}

#[derive(Deserialize, IntoParams)]
struct Side {
    /// The longest side in pixels: 320 by default, 16 to 2048.
    side: Option<u32>,
}

async fn jpeg(
    desk: Desk,
    uri: Uri,
    frame: impl FnOnce(&Desk) -> Result<Arc<Frame>> + Send + 'static,
) -> Response {
    let side = Query::<Side>::try_from_uri(&uri).ok().and_then(|query| query.side);
    let side = side.unwrap_or(SIDES[0]).clamp(16, SIDES[1]);
    match away(desk, move |desk| encoded(&*frame(desk)?, None, side)).await {
        Ok(jpeg) => {
            // A name always means the same picture.
            let headers =
                [(header::CONTENT_TYPE, "image/jpeg"), (header::CACHE_CONTROL, "private, max-age=3600")];
            (headers, jpeg).into_response()
        }
        Err(refusal) => refusal,
    }
}

async fn good_picture(State(desk): State<Desk>, Path(name): Path<String>, uri: Uri) -> Response {
    picture(desk, uri, Answer::Good, name).await
}

async fn bad_picture(State(desk): State<Desk>, Path(name): Path<String>, uri: Uri) -> Response {
    picture(desk, uri, Answer::Bad, name).await
}

async fn picture(desk: Desk, uri: Uri, answer: Answer, name: String) -> Response {
    jpeg(desk, uri, move |desk| Frame::open(desk.teacher.chosen()?.picture(answer, &name)?).map(Arc::new))
        .await
}

async fn recent_picture(State(desk): State<Desk>, Path(id): Path<u64>, uri: Uri) -> Response {
    jpeg(desk, uri, move |desk| {
        let gone = || Error::new(ErrorKind::Usage, "this part is not among the latest any more");
        let found = desk.teacher.inner().recent.iter().find(|r| r.id == id).map(|r| Arc::clone(&r.frame));
        found.ok_or_else(gone)
    })
    .await
}

/// A threshold.
#[derive(Deserialize, IntoParams, ToSchema)]
struct Threshold {
    /// Scores above it are rejected.
    value: f32,
}

/// What a threshold would reject.
#[derive(Serialize, Default, ToSchema)]
struct AtThreshold {
    /// Scores of good parts that the active package has.
    good: Vec<f32>,
    /// Scores of known defects.
    bad: Vec<f32>,
    /// Expected false rejects per 1,000 parts, and the limits that hold with 95 %.
    per_1000: [f64; 3],
    /// Known defects that are rejected.
    caught: usize,
}

async fn at_threshold(State(desk): State<Desk>, uri: Uri) -> Response {
    let Ok(Query(Threshold { value })) = Query::try_from_uri(&uri) else {
        return problem(StatusCode::BAD_REQUEST, "give a threshold, such as /api/teach/threshold?value=2.5");
    };
    let done = away(desk, move |desk| {
        let teacher = &desk.teacher;
        let active = teacher.control()?.status().engine();
        let product = match teacher.store.product(&active.product) {
            Ok(product) => product,
            Err(_) => return Ok(AtThreshold { per_1000: false_rejects(0, 0), ..AtThreshold::default() }),
        };
        let measured: Option<Trial> = product.read(ACTIVE_FILE)?;
        let (good, bad): (Vec<f32>, Vec<f32>) = measured
            .filter(|trial| trial.package == active.package)
            .map(|t| (t.good.iter().map(|s| s.score).collect(), t.bad.iter().map(|s| s.score).collect()))
            .unwrap_or_default();
        let above = good.iter().filter(|score| **score > value).count();
        let caught = bad.iter().filter(|score| **score > value).count();
        Ok(AtThreshold { per_1000: false_rejects(above, good.len()), caught, good, bad })
    });
    match done.await {
        Ok(body) => Json(body).into_response(),
        Err(refusal) => refusal,
    }
}

/// A product.
#[derive(Deserialize, ToSchema)]
struct ChosenName {
    name: String,
}

async fn choose(State(desk): State<Desk>, Extension(who): Extension<Who>, body: Bytes) -> Response {
    asked(desk, who, ("teach: product", body), |desk, q: ChosenName, who| desk.teacher.choose(&q.name, who))
        .await
}

/// Settings of a product. What is missing stays.
#[derive(Deserialize, ToSchema)]
struct NewSettings {
    /// The level of quality: `fast`, `standard` or `best`.
    quality: Option<String>,
    /// Accepted share of false rejects, in percent: 0.01 to 50.
    false_reject_percent: Option<f64>,
    /// Areas that are never inspected: corners in shares of the picture's width and height, 0 to 1.
    #[schema(value_type = Option<Vec<Vec<[f64; 2]>>>)]
    ignore: Option<Vec<Polygon>>,
}

async fn settings(State(desk): State<Desk>, Extension(who): Extension<Who>, body: Bytes) -> Response {
    asked(desk, who, ("teach: settings", body), |desk, q: NewSettings, who| {
        let apply = |product: &mut Product| {
            if let Some(quality) = q.quality {
                product.quality = quality;
            }
            if let Some(percent) = q.false_reject_percent {
                product.false_reject_percent = percent;
            }
            if let Some(ignore) = q.ignore {
                product.ignore = ignore;
            }
        };
        desk.teacher.set(apply, who)
    })
    .await
}

/// How to collect good parts.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase", tag = "mode")]
enum Collect {
    /// Not at all.
    Off,
    /// The next parts, this many: 1 by default, at most 1000.
    Next { count: Option<u32> },
    /// A part from time to time: after 0.2 to 3600 s.
    Timed { seconds: f64 },
}

async fn collect(State(desk): State<Desk>, Extension(who): Extension<Who>, body: Bytes) -> Response {
    asked(desk, who, ("teach: collect", body), |desk, q: Collect, who| {
        let how = match q {
            Collect::Off => Collecting::Off,
            Collect::Next { count } => Collecting::Next { left: count.unwrap_or(1).clamp(1, 1000) },
            Collect::Timed { seconds } => Collecting::Timed { seconds },
        };
        desk.teacher.collect(how, who)
    })
    .await
}

/// A collected picture.
#[derive(Deserialize, ToSchema)]
struct Removed {
    answer: Answer,
    picture: String,
}

async fn remove(State(desk): State<Desk>, Extension(who): Extension<Who>, body: Bytes) -> Response {
    asked(desk, who, ("teach: remove picture", body), |desk, q: Removed, who| {
        desk.teacher.remove(q.answer, &q.picture, who)
    })
    .await
}

/// On or off.
#[derive(Deserialize, ToSchema)]
struct Switch {
    on: bool,
}

/// Changes nothing but what the page shows, so it is not recorded.
async fn hold(State(desk): State<Desk>, body: Bytes) -> Response {
    let Ok(Switch { on }) = serde_json::from_slice(&body) else {
        return problem(StatusCode::BAD_REQUEST, "the request cannot be read: give {\"on\": true or false}");
    };
    desk.teacher.hold(on);
    everything(State(desk)).await
}

/// An answer for a latest part.
#[derive(Deserialize, ToSchema)]
struct AnswerRecent {
    id: u64,
    answer: Answer,
}

async fn answer(State(desk): State<Desk>, Extension(who): Extension<Who>, body: Bytes) -> Response {
    asked(desk, who, ("teach: answer", body), |desk, q: AnswerRecent, who| {
        desk.teacher.answer(q.id, q.answer, who)
    })
    .await
}

/// An answer for a kept part.
#[derive(Deserialize, ToSchema)]
struct AnswerKept {
    /// The day and the name of the part, `DAY/NAME`.
    kept: String,
    product: String,
    answer: Answer,
}

async fn answer_kept(State(desk): State<Desk>, Extension(who): Extension<Who>, body: Bytes) -> Response {
    asked(desk, who, ("teach: answer", body), |desk, q: AnswerKept, who| {
        let unset = || Error::setting("pictures.folder", "is missing, so no pictures are kept");
        let folder = desk.kept.as_ref().ok_or_else(unset)?;
        desk.teacher.answer_kept(folder, &q.kept, &q.product, q.answer, who)
    })
    .await
}

async fn enroll(State(desk): State<Desk>, Extension(who): Extension<Who>) -> Response {
    change(desk, who, ("teach: enroll", Value::Null), |desk, who| desk.teacher.enroll(who)).await
}

async fn stop(State(desk): State<Desk>, Extension(who): Extension<Who>) -> Response {
    change(desk, who, ("teach: stop", Value::Null), |desk, _| {
        desk.teacher.stop();
        Ok(())
    })
    .await
}

async fn shadow(State(desk): State<Desk>, Extension(who): Extension<Who>, body: Bytes) -> Response {
    asked(desk, who, ("teach: trial", body), |desk, q: Switch, _| desk.teacher.shadow(q.on)).await
}

async fn threshold(State(desk): State<Desk>, Extension(who): Extension<Who>, body: Bytes) -> Response {
    asked(desk, who, ("teach: threshold", body), |desk, q: Threshold, who| {
        desk.teacher.set_threshold(q.value, who)
    })
    .await
}

/// The new package.
#[derive(Deserialize, ToSchema)]
struct Activate {
    /// Its hash, as shown.
    package: String,
    /// Why, if known defects are newly missed.
    reason: Option<String>,
}

async fn activate(State(desk): State<Desk>, Extension(who): Extension<Who>, body: Bytes) -> Response {
    asked(desk, who, ("teach: activate", body), |desk, q: Activate, who| {
        desk.teacher.activate(&q.package, q.reason.as_deref(), who)
    })
    .await
}

async fn back(State(desk): State<Desk>, Extension(who): Extension<Who>) -> Response {
    change(desk, who, ("teach: go back", Value::Null), |desk, who| desk.teacher.back(who)).await
}
