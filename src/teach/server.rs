//! The routes of teaching.
//!
//! | request | answer |
//! |---|---|
//! | `GET /teach` | the page |
//! | `GET /api/teach` | everything that the page shows |
//! | `GET /api/teach/good/{picture}`, `/bad/{picture}` | a collected picture as JPEG; `?side=N` scales it |
//! | `GET /api/teach/recent/{id}` | the picture of a latest part as JPEG |
//! | `GET /api/teach/threshold?value=N` | what a threshold would reject |
//! | `POST /api/teach/product` `{name}` | chooses a product, and creates it if it is new |
//! | `POST /api/teach/settings` `{quality?, false_reject_percent?, ignore?}` | changes the product's settings |
//! | `POST /api/teach/collect` `{mode, count?, seconds?}` | `off`, `next` or `timed` |
//! | `POST /api/teach/remove` `{answer, picture}` | removes a collected picture |
//! | `POST /api/teach/hold` `{on}` | lets the latest parts stay while the page is open |
//! | `POST /api/teach/answer` `{id, answer}` | a person's answer for a latest part |
//! | `POST /api/teach/answer-kept` `{kept, product, answer}` | the same for a part of the pictures folder |
//! | `POST /api/teach/enroll`, `stop` | starts and stops enrolling |
//! | `POST /api/teach/shadow` `{on}` | the new package judges live parts, without effect |
//! | `POST /api/teach/threshold` `{value}` | makes a new package of the active one, with this threshold |
//! | `POST /api/teach/activate` `{package, reason?}` | makes the new package the active one |
//! | `POST /api/teach/back` | goes back to the package before |

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::store::{Answer, Product};
use super::trial::{self, ACTIVE_FILE, Changes, Trial, false_rejects};
use super::{Aid, Collecting, Teacher, shadow, work};
use crate::access::{Audit, Who};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{asset, problem};
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
    let open = Router::new()
        .route("/teach", asset("text/html; charset=utf-8", include_str!("assets/teach.html")))
        .route("/teach.js", asset(SCRIPT, include_str!("assets/teach.js")))
        .route("/teach-api.js", asset(SCRIPT, include_str!("assets/teach-api.js")))
        .route("/teach-areas.js", asset(SCRIPT, include_str!("assets/teach-areas.js")))
        .route("/teach-result.js", asset(SCRIPT, include_str!("assets/teach-result.js")))
        .route("/teach.css", asset("text/css; charset=utf-8", include_str!("assets/teach.css")));
    let looks = Router::new()
        .route("/api/teach", get(everything))
        .route("/api/teach/good/{picture}", get(good_picture))
        .route("/api/teach/bad/{picture}", get(bad_picture))
        .route("/api/teach/recent/{id}", get(recent_picture))
        .route("/api/teach/threshold", get(at_threshold))
        .with_state(desk.clone());
    let operate = Router::new()
        .route("/api/teach/hold", post(hold))
        .route("/api/teach/answer", post(answer))
        .route("/api/teach/answer-kept", post(answer_kept))
        .with_state(desk.clone());
    let engineer = Router::new()
        .route("/api/teach/product", post(choose))
        .route("/api/teach/settings", post(settings))
        .route("/api/teach/collect", post(collect))
        .route("/api/teach/remove", post(remove))
        .route("/api/teach/enroll", post(enroll))
        .route("/api/teach/stop", post(stop))
        .route("/api/teach/shadow", post(shadow))
        .route("/api/teach/threshold", post(threshold))
        .route("/api/teach/activate", post(activate))
        .route("/api/teach/back", post(back))
        .with_state(desk);
    Additions { open, looks, operate, engineer }
}

/// A part that a person can answer for.
#[derive(Serialize)]
struct Latest {
    id: u64,
    part: u64,
    time_ms: u64,
    verdict: &'static str,
    score: Option<f32>,
    threshold: Option<f32>,
    answer: Option<Answer>,
}

#[derive(Serialize)]
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

#[derive(Serialize)]
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

#[derive(Deserialize)]
struct Side {
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

async fn at_threshold(State(desk): State<Desk>, uri: Uri) -> Response {
    #[derive(Deserialize)]
    struct Question {
        value: f32,
    }
    #[derive(Serialize, Default)]
    struct Body {
        /// Scores of good parts that the active package has, and of known defects.
        good: Vec<f32>,
        bad: Vec<f32>,
        /// Expected false rejects per 1,000 parts, and the limits that hold with 95 %.
        per_1000: [f64; 3],
        /// Known defects that are rejected.
        caught: usize,
    }
    let Ok(Query(Question { value })) = Query::try_from_uri(&uri) else {
        return problem(StatusCode::BAD_REQUEST, "give a threshold, such as /api/teach/threshold?value=2.5");
    };
    let done = away(desk, move |desk| {
        let teacher = &desk.teacher;
        let active = teacher.control()?.status().engine();
        let product = match teacher.store.product(&active.product) {
            Ok(product) => product,
            Err(_) => return Ok(Body { per_1000: false_rejects(0, 0), ..Body::default() }),
        };
        let measured: Option<Trial> = product.read(ACTIVE_FILE)?;
        let (good, bad): (Vec<f32>, Vec<f32>) = measured
            .filter(|trial| trial.package == active.package)
            .map(|t| (t.good.iter().map(|s| s.score).collect(), t.bad.iter().map(|s| s.score).collect()))
            .unwrap_or_default();
        let above = good.iter().filter(|score| **score > value).count();
        let caught = bad.iter().filter(|score| **score > value).count();
        Ok(Body { per_1000: false_rejects(above, good.len()), caught, good, bad })
    });
    match done.await {
        Ok(body) => Json(body).into_response(),
        Err(refusal) => refusal,
    }
}

async fn choose(State(desk): State<Desk>, Extension(who): Extension<Who>, body: Bytes) -> Response {
    #[derive(Deserialize)]
    struct Question {
        name: String,
    }
    asked(desk, who, ("teach: product", body), |desk, q: Question, who| desk.teacher.choose(&q.name, who))
        .await
}

async fn settings(State(desk): State<Desk>, Extension(who): Extension<Who>, body: Bytes) -> Response {
    #[derive(Deserialize)]
    struct Question {
        quality: Option<String>,
        false_reject_percent: Option<f64>,
        ignore: Option<Vec<Polygon>>,
    }
    asked(desk, who, ("teach: settings", body), |desk, q: Question, who| {
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

async fn collect(State(desk): State<Desk>, Extension(who): Extension<Who>, body: Bytes) -> Response {
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase", tag = "mode")]
    enum Question {
        Off,
        Next { count: Option<u32> },
        Timed { seconds: f64 },
    }
    asked(desk, who, ("teach: collect", body), |desk, q: Question, who| {
        let how = match q {
            Question::Off => Collecting::Off,
            Question::Next { count } => Collecting::Next { left: count.unwrap_or(1).clamp(1, 1000) },
            Question::Timed { seconds } => Collecting::Timed { seconds },
        };
        desk.teacher.collect(how, who)
    })
    .await
}

async fn remove(State(desk): State<Desk>, Extension(who): Extension<Who>, body: Bytes) -> Response {
    #[derive(Deserialize)]
    struct Question {
        answer: Answer,
        picture: String,
    }
    asked(desk, who, ("teach: remove picture", body), |desk, q: Question, who| {
        desk.teacher.remove(q.answer, &q.picture, who)
    })
    .await
}

/// Changes nothing but what the page shows, so it is not recorded.
async fn hold(State(desk): State<Desk>, body: Bytes) -> Response {
    #[derive(Deserialize)]
    struct Question {
        on: bool,
    }
    let Ok(Question { on }) = serde_json::from_slice(&body) else {
        return problem(StatusCode::BAD_REQUEST, "the request cannot be read: give {\"on\": true or false}");
    };
    desk.teacher.hold(on);
    everything(State(desk)).await
}

async fn answer(State(desk): State<Desk>, Extension(who): Extension<Who>, body: Bytes) -> Response {
    #[derive(Deserialize)]
    struct Question {
        id: u64,
        answer: Answer,
    }
    asked(desk, who, ("teach: answer", body), |desk, q: Question, who| {
        desk.teacher.answer(q.id, q.answer, who)
    })
    .await
}

async fn answer_kept(State(desk): State<Desk>, Extension(who): Extension<Who>, body: Bytes) -> Response {
    #[derive(Deserialize)]
    struct Question {
        kept: String,
        product: String,
        answer: Answer,
    }
    asked(desk, who, ("teach: answer", body), |desk, q: Question, who| {
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
    #[derive(Deserialize)]
    struct Question {
        on: bool,
    }
    asked(desk, who, ("teach: trial", body), |desk, q: Question, _| desk.teacher.shadow(q.on)).await
}

async fn threshold(State(desk): State<Desk>, Extension(who): Extension<Who>, body: Bytes) -> Response {
    #[derive(Deserialize)]
    struct Question {
        value: f32,
    }
    asked(desk, who, ("teach: threshold", body), |desk, q: Question, who| {
        desk.teacher.set_threshold(q.value, who)
    })
    .await
}

async fn activate(State(desk): State<Desk>, Extension(who): Extension<Who>, body: Bytes) -> Response {
    #[derive(Deserialize)]
    struct Question {
        package: String,
        reason: Option<String>,
    }
    asked(desk, who, ("teach: activate", body), |desk, q: Question, who| {
        desk.teacher.activate(&q.package, q.reason.as_deref(), who)
    })
    .await
}

async fn back(State(desk): State<Desk>, Extension(who): Extension<Who>) -> Response {
    change(desk, who, ("teach: go back", Value::Null), |desk, who| desk.teacher.back(who)).await
}
