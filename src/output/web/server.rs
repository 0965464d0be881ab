//! The routes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, StatusCode, Uri, header, request};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::super::Labeled;
use super::{Additions, Part, Picture, Shared, audit, metrics, numbers};
use crate::access::{Role, Who};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{About, Api, Gate, Routes, Standing, You, asset, problem};
use crate::package::{Recipe, RecipeFolder};
use crate::record::part::unix_ms;
use crate::record::{self, Problem, Snapshot, Stage};

pub(super) const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The routes.
pub(super) fn router(gate: Arc<Gate>, shared: Arc<Shared>, more: Additions) -> Router {
    const JPEG: &str = "image/jpeg";
    const REJECTS: &str = "The part is not among the latest rejects";
    let changes = |text| {
        About::new(text)
            .gives::<Changed>()
            .refuses(StatusCode::CONFLICT, "It is impossible at the moment; the text says why")
            .refuses(StatusCode::INSUFFICIENT_STORAGE, "The disk is full, so nothing was changed")
    };
    let operate = Api::new()
        .post(
            "/api/trigger",
            trigger,
            About::new("Triggers a part")
                .gives::<Triggered>()
                .refuses(StatusCode::CONFLICT, "The line has no software trigger")
                .refuses(StatusCode::SERVICE_UNAVAILABLE, "The line takes no part at the moment"),
        )
        .post("/api/halt", halt, changes("Halts the line: parts are faults until somebody resumes it"))
        .post("/api/resume", resume, changes("Resumes the line"));
    let engineer = Api::new()
        .post(
            "/api/reload",
            reload,
            changes("Reads configuration and package again; the result is in the status"),
        )
        .post(
            "/api/recipe",
            choose_recipe,
            changes("Takes another package for the next parts; the result is in the status, as for a reload")
                .takes::<ChosenRecipe>(),
        )
        .post(
            "/api/rejects/{part}/label",
            label,
            About::new("Copies the part's original to the label folder")
                .gives::<LabelCopy>()
                .refuses(StatusCode::NOT_FOUND, REJECTS)
                .refuses(StatusCode::NOT_FOUND, "No label folder is set")
                .refuses(StatusCode::INSUFFICIENT_STORAGE, "The disk is full"),
        );
    // The page itself, with which people sign in.
    let page = Router::new()
        .route("/", asset("text/html; charset=utf-8", include_str!("assets/index.html")))
        .route("/app.js", asset(SCRIPT, include_str!("assets/app.js")))
        .route("/chart.js", asset(SCRIPT, include_str!("assets/chart.js")))
        .route("/elements.js", asset(SCRIPT, include_str!("../../elements.js")))
        .route("/german.js", asset(SCRIPT, include_str!("../../german.js")))
        .route("/texts.js", asset(SCRIPT, include_str!("../../texts.js")))
        .route("/page.js", asset(SCRIPT, include_str!("assets/page.js")))
        .route("/parts.js", asset(SCRIPT, include_str!("assets/parts.js")))
        .route("/session.js", asset(SCRIPT, include_str!("assets/session.js")))
        .route("/service.js", asset(SCRIPT, include_str!("assets/service.js")))
        .route(
            "/style.css",
            asset(
                "text/css; charset=utf-8",
                concat!(include_str!("../../colors.css"), include_str!("assets/style.css")),
            ),
        )
        .route("/icon.svg", asset("image/svg+xml", include_str!("assets/icon.svg")));
    let open = Api::new().get(
        "/healthz",
        health,
        About::new("Whether parts are inspected")
            .gives::<Health>()
            .answers::<Health>(StatusCode::SERVICE_UNAVAILABLE, "Parts are not inspected"),
    );
    let looks = Api::new()
        .get(
            "/api/status",
            status,
            About::new("State, problems, counters, times, the package in use").gives::<Told>(),
        )
        .get("/api/parts", parts, About::new("The latest parts").query::<After>().gives::<Parts>())
        .get(
            "/api/recipes",
            recipes,
            About::new("The packages to choose from, and the one in use").gives::<Recipes>(),
        )
        .get("/api/rejects", rejects, About::new("The latest rejects, which have a picture").gives::<Parts>())
        .get(
            "/api/rejects/{part}",
            reject_picture,
            About::new("The picture of a reject: PART.jpg, or RUN-PART.jpg for a part of an earlier run")
                .gives_file(JPEG)
                .refuses(StatusCode::NOT_FOUND, REJECTS),
        )
        .get(
            "/api/live.jpg",
            live_picture,
            About::new("The latest picture; the header X-Part is its part")
                .query::<Plain>()
                .gives_file(JPEG)
                .refuses(StatusCode::NOT_FOUND, "There is no picture yet"),
        )
        .get("/metrics", metrics, About::new("Counters for Prometheus").gives_file(metrics::CONTENT_TYPE))
        .merge(numbers::routes());
    Routes::new(gate)
        .page(page.merge(audit::page()).merge(numbers::page()).merge(more.page))
        .open(open)
        .looks(Role::View, looks.merge(more.looks))
        .looks(Role::Engineer, audit::routes())
        .changes(Role::Operate, operate.merge(more.operate))
        .changes(Role::Engineer, engineer.merge(more.engineer))
        .router("weakrest: the service", shared)
}

/// The time of a stage.
#[derive(Serialize, ToSchema)]
struct StageTime {
    name: &'static str,
    count: u64,
    last_ms: f64,
    mean_ms: f64,
    worst_ms: f64,
}

/// The service at one moment.
#[derive(Serialize, ToSchema)]
#[schema(as = Status)]
struct Told {
    #[serde(flatten)]
    status: Snapshot,
    stages: Vec<StageTime>,
    version: &'static str,
    /// How changes are allowed here: `account`, `token`, `local` or `refused`.
    changes: &'static str,
    you: You,
    /// Whether rejects can be copied to the label folder.
    labels: bool,
    /// Whether there is a page for teaching.
    teaches: bool,
    /// Whether there are packages to choose from.
    recipes: bool,
    uptime_s: f64,
    /// Identifies this run: part numbers start again with each run.
    started_ms: u64,
    /// The part of the latest picture.
    picture: Option<u64>,
    /// The latest part among the rejects.
    last_reject: Option<u64>,
    /// Differs when the list of rejects has changed.
    reject_changes: u64,
    /// What was counted of the present product with the present package.
    counted: Counted,
}
/// What was counted of a product with a package.
#[derive(Serialize, ToSchema)]
struct Counted {
    since_ms: u64,
    /// Whether it goes on from what the journal has counted. Otherwise it begins with this run.
    journal: bool,
    parts: u64,
    passes: u64,
    rejects: u64,
    faults: u64,
}

async fn status(State(shared): State<Arc<Shared>>, request: request::Parts) -> Response {
    let status = shared.control.status();
    let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    let stages = Stage::ALL.map(|stage| {
        let times = status.times(stage);
        let count: u64 = times.counts().iter().sum();
        StageTime {
            name: stage.name(),
            count,
            last_ms: ms(times.last()),
            mean_ms: ms(times.sum()) / count.max(1) as f64,
            worst_ms: ms(times.worst()),
        }
    });
    let engine = status.engine();
    let (picture, last_reject, reject_changes, counted, started_ms) = {
        let mut memory = shared.memory();
        let tally = *memory.tally(&engine.product, &engine.package, unix_ms(shared.started_at));
        let counted = Counted {
            since_ms: tally.since_ms.min(unix_ms(SystemTime::now())),
            journal: memory.restored,
            parts: tally.parts,
            passes: tally.passes,
            rejects: tally.rejects,
            faults: tally.faults,
        };
        let (picture, last) =
            (memory.latest.as_ref().map(|shot| shot.part), memory.rejects.back().map(|r| r.0.part));
        // What the journal knows comes a moment after the start, and then the known parts are others.
        (picture, last, memory.reject_changes, counted, unix_ms(shared.started_at) + memory.generation)
    };
    let you = shared.gate.you(&request);
    Json(Told {
        status: status.snapshot(),
        stages: stages.into(),
        version: env!("CARGO_PKG_VERSION"),
        changes: you.changes,
        you,
        labels: shared.site.labeling.is_some(),
        teaches: shared.site.teaches,
        recipes: shared.site.recipes.is_some(),
        uptime_s: shared.started.elapsed().as_secs_f64(),
        started_ms,
        picture,
        last_reject,
        reject_changes,
        counted,
    })
    .into_response()
}

/// Parts since an answer before.
#[derive(Serialize, ToSchema)]
struct Parts {
    started_ms: u64,
    /// The next `after`. Parts can be published out of order, so it is no part number.
    next: u64,
    /// In order of publication.
    #[schema(value_type = Vec<Part>)]
    parts: Vec<Shown>,
}

/// Run and part in `17` or `0123456789abcdef-17`.
fn key(text: &str) -> Option<(Option<&str>, u64)> {
    let (run, part) = text.rsplit_once('-').map_or((None, text), |(run, part)| (Some(run), part));
    Some((run, part.parse().ok()?))
}

impl Part {
    fn is(&self, run: Option<&str>, part: u64) -> bool {
        self.run.as_deref() == run && self.part == part
    }
}

/// A part shared with the memory.
struct Shown(Arc<Part>);

impl Serialize for Shown {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Where to go on.
#[derive(Deserialize, IntoParams)]
pub(super) struct After {
    /// `next` of the answer before, or 0.
    #[serde(default)]
    pub after: u64,
}

async fn parts(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    let Ok(Query(After { after })) = Query::try_from_uri(&uri) else {
        return problem(StatusCode::BAD_REQUEST, "after must be a number, such as /api/parts?after=17");
    };
    let (started_ms, next, parts) = {
        let memory = shared.memory();
        let started_ms = unix_ms(shared.started_at) + memory.generation;
        let new = memory.sequence.saturating_sub(after);
        let known = memory.parts.len()
            - usize::try_from(new).map_or(memory.parts.len(), |n| n.min(memory.parts.len()));
        (started_ms, memory.sequence, memory.parts.range(known..).map(|p| Shown(Arc::clone(p))).collect())
    };
    Json(Parts { started_ms, next, parts }).into_response()
}

async fn rejects(State(shared): State<Arc<Shared>>) -> Response {
    let (started_ms, next, parts) = {
        let memory = shared.memory();
        let started_ms = unix_ms(shared.started_at) + memory.generation;
        (started_ms, memory.sequence, memory.rejects.iter().map(|(p, _)| Shown(Arc::clone(p))).collect())
    };
    Json(Parts { started_ms, next, parts }).into_response()
}

async fn reject_picture(State(shared): State<Arc<Shared>>, Path(file): Path<String>) -> Response {
    let Some((run, number)) = file.strip_suffix(".jpg").and_then(key) else {
        return problem(
            StatusCode::NOT_FOUND,
            "pictures are named by part number, such as /api/rejects/17.jpg",
        );
    };
    let picture = shared.memory().rejects.iter().rev().find(|r| r.0.is(run, number)).map(|r| r.1.clone());
    match picture {
        Some(Picture::Kept(file)) => numbers::kept_file(&shared, file).await,
        Some(Picture::Encoded(jpeg)) => ([(header::CONTENT_TYPE, "image/jpeg")], jpeg).into_response(),
        None => problem(StatusCode::NOT_FOUND, format!("part {number} is not among the latest rejects")),
    }
}

/// A copy of a part's original.
#[derive(Serialize, ToSchema)]
struct LabelCopy {
    file: String,
    /// False if the file was already there.
    copied: bool,
}

async fn label(
    State(shared): State<Arc<Shared>>,
    Extension(who): Extension<Who>,
    Path(part): Path<String>,
) -> Response {
    let Some(labeling) = shared.site.labeling.clone() else {
        let text = "set pictures.label_folder to copy rejects there for labeling";
        return problem(StatusCode::NOT_FOUND, text);
    };
    let known = key(&part).and_then(|(run, number)| {
        let memory = shared.memory();
        let found = memory.rejects.iter().find(|r| r.0.is(run, number))?;
        Some((found.0.run.clone(), number, UNIX_EPOCH + Duration::from_millis(found.0.time_ms)))
    });
    let Some((run, number, triggered)) = known else {
        return problem(StatusCode::NOT_FOUND, format!("part {part} is not among the latest rejects"));
    };
    let copy = move || {
        shared.record(&who, "label", Value::Null, json!({"part": number}))?;
        labeling.label(run.as_deref(), number, triggered)
    };
    match tokio::task::spawn_blocking(copy).await {
        Ok(Ok(Labeled { file, copied })) => {
            Json(LabelCopy { file: file.display().to_string(), copied }).into_response()
        }
        Ok(Err(e)) => {
            let code = match e.kind() {
                ErrorKind::Usage => StatusCode::NOT_FOUND,
                ErrorKind::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            problem(code, e.chain())
        }
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "copy failed; see the service's log"),
    }
}

#[derive(Deserialize, IntoParams)]
struct Plain {
    /// `1`: without the anomaly map.
    plain: Option<String>,
}

async fn live_picture(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    let Ok(Query(Plain { plain })) = Query::try_from_uri(&uri) else {
        return problem(StatusCode::BAD_REQUEST, "invalid query; use /api/live.jpg or /api/live.jpg?plain=1");
    };
    let plain = plain.is_some_and(|p| p != "0");
    let Some(shot) = shared.memory().latest.clone() else {
        return problem(StatusCode::NOT_FOUND, "no picture yet");
    };
    let part = shot.part;
    match tokio::task::spawn_blocking(move || shot.jpeg(plain)).await {
        Ok(Some(jpeg)) => {
            let headers = [
                (header::CONTENT_TYPE, "image/jpeg".into()),
                (HeaderName::from_static("x-part"), part.to_string()),
            ];
            (headers, jpeg).into_response()
        }
        _ => problem(StatusCode::INTERNAL_SERVER_ERROR, "the picture cannot be encoded"),
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let text = metrics::text(shared.control.status(), shared.started.elapsed());
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

/// Whether parts are inspected.
#[derive(Serialize, ToSchema)]
struct Health {
    state: record::State,
    /// What is wrong, by component. It is empty for those who may not look.
    problems: BTreeMap<&'static str, Problem>,
}

async fn health(State(shared): State<Arc<Shared>>, request: request::Parts) -> Response {
    let status = shared.control.status();
    // Programs that watch the service do not sign in. What is wrong is for those who may look.
    let may_look =
        !shared.gate.is_private || matches!(shared.gate.standing(&request), Standing::SignedIn(..));
    let problems = if may_look { status.problems() } else { Default::default() };
    let state = status.state();
    let code = match state {
        record::State::Operational => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, Json(Health { state, problems })).into_response()
}

/// A part that was triggered.
#[derive(Serialize, ToSchema)]
struct Triggered {
    part: u64,
}

async fn trigger(State(shared): State<Arc<Shared>>) -> Response {
    match tokio::task::spawn_blocking(move || shared.control.trigger()).await {
        Ok(Ok(part)) => Json(Triggered { part }).into_response(),
        Ok(Err(e)) if e.kind() == ErrorKind::Usage => problem(StatusCode::CONFLICT, e.chain()),
        Ok(Err(e)) => problem(StatusCode::SERVICE_UNAVAILABLE, e.chain()),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "trigger failed; see the service's log"),
    }
}

/// Halts first: nothing that happens to the record may keep the line running.
async fn halt(State(shared): State<Arc<Shared>>, Extension(who): Extension<Who>) -> Response {
    change(shared, move |shared| {
        let before = state_of(shared);
        let done = shared.control.set_halted(true);
        let missing = shared.note(&who, "halt", before, state_of(shared));
        done.map(|()| missing)
    })
    .await
}

async fn resume(State(shared): State<Arc<Shared>>, Extension(who): Extension<Who>) -> Response {
    change(shared, move |shared| {
        let before = state_of(shared);
        shared.record(&who, "resume", before.clone(), json!({"halted": false}))?;
        let done = shared.control.set_halted(false);
        if let Err(e) = &done {
            shared.note(&who, "resume failed", before, json!(e.chain()));
        }
        done.map(|()| None)
    })
    .await
}

async fn reload(State(shared): State<Arc<Shared>>, Extension(who): Extension<Who>) -> Response {
    change(shared, move |shared| {
        let engine = shared.control.status().engine();
        shared.record(&who, "reload", json!({"package": engine.package}), Value::Null)?;
        shared.control.reload();
        Ok(None)
    })
    .await
}

/// The packages to choose from.
#[derive(Serialize, ToSchema)]
struct Recipes {
    /// The one in use; 0 is the configuration's package.
    recipe: u16,
    recipes: Vec<Recipe>,
}

async fn recipes(State(shared): State<Arc<Shared>>) -> Response {
    let list = tokio::task::spawn_blocking(move || {
        let recipes = shared.site.recipes.as_ref().map_or(Ok(Vec::new()), RecipeFolder::list)?;
        Ok::<_, Error>(Recipes { recipe: shared.control.status().engine().recipe, recipes })
    });
    match list.await {
        Ok(Ok(body)) => Json(body).into_response(),
        Ok(Err(e)) => problem(StatusCode::INTERNAL_SERVER_ERROR, e.chain()),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "request failed; see the service's log"),
    }
}

/// A recipe to take.
#[derive(Deserialize, ToSchema)]
struct ChosenRecipe {
    /// Its number; 0 for the configuration's package.
    #[schema(maximum = 65534)]
    recipe: u16,
}

/// Loading takes a moment, and goes on beside the line. How it ended is in the status.
async fn choose_recipe(
    State(shared): State<Arc<Shared>>,
    Extension(who): Extension<Who>,
    body: Bytes,
) -> Response {
    let Ok(ChosenRecipe { recipe }) = serde_json::from_slice(&body) else {
        return problem(StatusCode::BAD_REQUEST, "the request cannot be read: give {\"recipe\": 0 to 65534}");
    };
    change(shared, move |shared| {
        if recipe != 0 {
            let unset = || Error::setting("recipes.folder", "is missing, so there are no recipes");
            shared.site.recipes.as_ref().ok_or_else(unset)?.find(recipe)?;
        }
        let before = json!({"recipe": shared.control.status().engine().recipe});
        shared.record(&who, "recipe", before, json!({"recipe": recipe}))?;
        shared.control.select_recipe(recipe);
        Ok(None)
    })
    .await
}

fn state_of(shared: &Shared) -> Value {
    json!({"state": shared.control.status().state()})
}

/// What a change led to.
#[derive(Serialize, ToSchema)]
struct Changed {
    state: record::State,
    /// What is not as it should be, although the change was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

/// Makes a change and answers with the new state, and with what the change gives as a warning.
async fn change(
    shared: Arc<Shared>,
    action: impl FnOnce(&Shared) -> Result<Option<String>> + Send + 'static,
) -> Response {
    let done = tokio::task::spawn_blocking(move || {
        let warning = action(&shared)?;
        Ok::<_, Error>(Changed { state: shared.control.status().state(), warning })
    });
    match done.await {
        Ok(Ok(body)) => Json(body).into_response(),
        Ok(Err(e)) if e.kind() == ErrorKind::StorageFull => {
            problem(StatusCode::INSUFFICIENT_STORAGE, e.chain())
        }
        Ok(Err(e)) if e.kind() == ErrorKind::Usage => problem(StatusCode::CONFLICT, e.chain()),
        Ok(Err(e)) => problem(StatusCode::INTERNAL_SERVER_ERROR, Error::chain(&e)),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "request failed; see the service's log"),
    }
}
