//! The web server: routes, status codes and answers.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::assets;
use super::ready::{for_browser, small_jpeg};
use super::refusal::Refusal;
use super::session::{Change, Told};
use super::train::{Trainer, Training};
use super::work::{
    Clicks, Detail, Line, MaskFromClicks, MaskOfLine, Png, Reply, State as Listing, Urgent, Work,
};
use crate::access::Role;
use crate::error::{Error, ErrorKind};
use crate::http::{About, Api, Gate, Routes};
use crate::imaging::{Frame, trace};
use crate::labels::formats::{Format, Import, Summary};
use crate::labels::{Rle, runs};

/// Largest request: the runs of a large and ragged mask.
pub const MOST_BODY: usize = 32 << 20;

/// The routes.
pub fn router(gate: Arc<Gate>, work: Work, trainer: Arc<Trainer>) -> Router {
    // Only people with the token may see pictures of products.
    let about = |text| {
        About::new(text)
            .refuses(StatusCode::NOT_FOUND, "There is no such picture or view")
            .refuses(StatusCode::GONE, "The picture's file is gone")
            .answers::<Refused>(StatusCode::CONFLICT, "The picture's file has changed")
            .refuses(
                StatusCode::UNPROCESSABLE_ENTITY,
                "The picture cannot be read, or the text says what is wrong",
            )
            .refuses(StatusCode::SERVICE_UNAVAILABLE, "Not ready yet, or too much is asked at once")
    };
    let private = Api::new()
        .get("/api/state", state, about("Pictures in the order of work, types, prompts").gives::<Listing>())
        .get("/api/pictures/{id}", detail, about("Label and suggestion").gives::<Detail>())
        .get(
            "/api/pictures/{id}/image",
            image,
            about("The picture in a format for browsers").gives_file("image/png").gives_file("image/jpeg"),
        )
        .get(
            "/api/pictures/{id}/small.jpg",
            small,
            about("The picture, at most 96 pixels wide and high").gives_file("image/jpeg"),
        )
        .get(
            "/api/pictures/{id}/map.png",
            map,
            about("The anomaly map, to lay over the picture").gives_file("image/png"),
        )
        .get(
            "/api/pictures/{id}/nearest.png",
            nearest,
            about("What the part should look like").gives_file("image/png"),
        )
        .get(
            "/api/export/{format}",
            export,
            about("The labels for another tool: coco or label-studio").gives::<Exported>(),
        )
        .get(
            "/api/train",
            training,
            About::new("The training of a head that runs or ended last").gives::<Option<Training>>(),
        )
        .routed({
            let trainer = Arc::clone(&trainer);
            move |router| router.layer(Extension(trainer))
        });
    let changes = Api::new()
        .post(
            "/api/import",
            import,
            about("Takes the labels of another tool's file, all or none")
                .query::<Import>()
                .takes_file(&["application/json", "application/xml"])
                .gives::<Summary>(),
        )
        .post(
            "/api/train",
            train,
            about("Starts the training of a head").takes::<Train>().gives::<Training>(),
        )
        .post("/api/train/stop", stop_training, About::new("Ends the training").gives::<Option<Training>>())
        .post(
            "/api/pictures/{id}/click",
            click,
            about("A mask from clicks")
                .takes::<Clicks>()
                .gives::<MaskFromClicks>()
                .refuses(StatusCode::NOT_IMPLEMENTED, "The package has no network for clicks"),
        )
        .post(
            "/api/pictures/{id}/line",
            line,
            about("A mask of a thin line, such as a scratch, through points")
                .takes::<Line>()
                .gives::<MaskOfLine>(),
        )
        .put(
            "/api/pictures/{id}/label",
            save,
            about("Saves the label")
                .takes::<Change>()
                .gives::<Revision>()
                .answers::<Refused>(StatusCode::CONFLICT, "Somebody else saved this picture in between")
                .refuses(
                    StatusCode::INSUFFICIENT_STORAGE,
                    "The disk is full; everything saved before is still there",
                ),
        )
        .routed(|router| router.layer(DefaultBodyLimit::max(MOST_BODY)).layer(Extension(trainer)));
    Routes::new(gate)
        .page(assets::routes())
        .looks(Role::Engineer, private)
        .changes(Role::Engineer, changes)
        .router("weakrest: the labeler", work)
}

/// The answer to a refused request.
struct Problem {
    code: StatusCode,
    text: String,
    label: Option<Box<Told>>,
}

impl Problem {
    fn new(code: StatusCode, text: impl Into<String>) -> Problem {
        Problem { code, text: text.into(), label: None }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let mut text = refusal.to_string();
        let code = match &refusal {
            Refusal::NoPicture(_) | Refusal::NoView(_) => StatusCode::NOT_FOUND,
            Refusal::Gone(_) => StatusCode::GONE,
            Refusal::Changed(_) | Refusal::Conflict(_) => StatusCode::CONFLICT,
            Refusal::NotYet | Refusal::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::NoClicks => StatusCode::NOT_IMPLEMENTED,
            Refusal::Wrong(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::Bug => StatusCode::INTERNAL_SERVER_ERROR,
            Refusal::Failed(error) => match error.kind() {
                ErrorKind::StorageFull => {
                    text.push_str("; everything saved before is still there");
                    StatusCode::INSUFFICIENT_STORAGE
                }
                ErrorKind::Usage | ErrorKind::Image => StatusCode::UNPROCESSABLE_ENTITY,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            },
        };
        let label = match refusal {
            Refusal::Conflict(label) => Some(label),
            _ => None,
        };
        Problem { code, text, label }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        Refusal::from(error).into()
    }
}

/// A refusal, with the label that is there instead.
#[derive(Serialize, ToSchema)]
struct Refused {
    error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<Box<Told>>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.code, Json(Refused { error: self.text, label: self.label })).into_response()
    }
}

/// Runs slow work on a thread that may wait.
async fn apart<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(job).await.unwrap_or_else(|_| Err(Refusal::Bug.into()))
}

/// Sends a command to the labeler's thread and waits for its answer.
async fn ask<T: Send + 'static>(
    work: Work,
    command: impl FnOnce(Reply<T>) -> Urgent + Send + 'static,
) -> Result<T, Problem> {
    apart(move || Ok(work.ask(command)?)).await
}

fn id_of(text: &str) -> Result<usize, Problem> {
    text.parse().map_err(|_| Refusal::NoPicture(text.to_owned()).into())
}

fn body_of<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Problem> {
    let body = body.map_err(|e| Problem::new(e.status(), format!("the request cannot be read: {e}")))?;
    serde_json::from_slice(&body)
        .map_err(|e| Refusal::Wrong(format!("the request is not as it should be: {e}")).into())
}

async fn state(State(work): State<Work>) -> Result<Response, Problem> {
    Ok(Json(ask(work, Urgent::State).await?).into_response())
}

async fn detail(State(work): State<Work>, Path(id): Path<String>) -> Result<Response, Problem> {
    let id = id_of(&id)?;
    Ok(Json(ask(work, move |reply| Urgent::Detail(id, reply)).await?).into_response())
}

async fn image(
    State(work): State<Work>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = id_of(&id)?;
    let file = ask(work, move |reply| Urgent::File(id, reply)).await?;
    let tag = format!("\"{}\"", file.hash);
    // Browsers ask each time, but an unchanged picture is not sent again.
    let caching = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::ETAG, HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\""))),
    ];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|given| given.as_bytes() == tag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, caching).into_response());
    }
    let (kind, bytes) = apart(move || Ok(for_browser(file.bytes)?)).await?;
    Ok((caching, [(header::CONTENT_TYPE, kind)], bytes).into_response())
}

async fn small(State(work): State<Work>, Path(id): Path<String>) -> Result<Response, Problem> {
    let id = id_of(&id)?;
    let file = ask(work, move |reply| Urgent::File(id, reply)).await?;
    let bytes = apart(move || Ok(small_jpeg(&file.bytes)?)).await?;
    // Whoever looks at the list again sees a changed file after a while.
    let caching = (header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=600"));
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg")), caching], bytes).into_response())
}

fn png(png: Png) -> Response {
    ([(header::CONTENT_TYPE, "image/png")], Bytes::from_owner(png)).into_response()
}

async fn map(State(work): State<Work>, Path(id): Path<String>) -> Result<Response, Problem> {
    let id = id_of(&id)?;
    ask(work, move |reply| Urgent::Map(id, reply)).await.map(png)
}

async fn nearest(State(work): State<Work>, Path(id): Path<String>) -> Result<Response, Problem> {
    let id = id_of(&id)?;
    ask(work, move |reply| Urgent::Nearest(id, reply)).await.map(png)
}

async fn click(
    State(work): State<Work>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let id = id_of(&id)?;
    let clicks: Clicks = body_of(body)?;
    let asked = Instant::now();
    Ok(Json(ask(work, move |reply| Urgent::Click(id, clicks, asked, reply)).await?).into_response())
}

/// Identifies a saved label.
#[derive(Serialize, ToSchema)]
struct Revision {
    revision: String,
}

async fn line(
    State(work): State<Work>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let id = id_of(&id)?;
    let line: Line = body_of(body)?;
    let asked = Instant::now();
    let file = ask(work, move |reply| Urgent::File(id, reply)).await?;
    // It needs no network, so the labeler's thread goes on with others.
    apart(move || {
        let mask = trace(&Frame::decode(&file.bytes)?, &line.points)?;
        let counts = runs(mask.bits().iter().copied());
        let mask = Rle { size: [mask.height(), mask.width()], counts };
        Ok(Json(MaskOfLine { mask, milliseconds: asked.elapsed().as_secs_f64() * 1e3 }).into_response())
    })
    .await
}

async fn export(State(work): State<Work>, Path(format): Path<String>) -> Result<Response, Problem> {
    let wrong = |()| Problem::new(StatusCode::NOT_FOUND, format!("there is no format {format}"));
    let format: Format = format.parse().map_err(wrong)?;
    let (text, summary) = ask(work, move |reply| Urgent::Export(format, reply)).await?;
    Ok(Json(Exported { text, pictures: summary.pictures, notes: summary.notes }).into_response())
}

/// Labels for another tool.
#[derive(Serialize, ToSchema)]
struct Exported {
    /// The text of a file.
    text: String,
    /// Number of pictures.
    pictures: usize,
    /// What was left out, for people.
    notes: Vec<String>,
}

async fn import(
    State(work): State<Work>,
    uri: Uri,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let how = Query::try_from_uri(&uri).map(|Query(how)| how);
    let how: Import =
        how.map_err(|e| Problem::new(e.status(), format!("the request cannot be read: {e}")))?;
    let body = body.map_err(|e| Problem::new(e.status(), format!("the request cannot be read: {e}")))?;
    let summary = ask(work, move |reply| Urgent::Import(body.to_vec(), how, reply)).await?;
    Ok(Json(summary).into_response())
}

async fn training(Extension(trainer): Extension<Arc<Trainer>>) -> Response {
    Json(trainer.training()).into_response()
}

/// How to train.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Train {
    /// Steps. Default: as many as are usual.
    #[serde(default)]
    steps: Option<u32>,
}

async fn train(
    Extension(trainer): Extension<Arc<Trainer>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let Train { steps } = body_of(body)?;
    trainer.start(steps)?;
    Ok(training(Extension(trainer)).await)
}

async fn stop_training(Extension(trainer): Extension<Arc<Trainer>>) -> Response {
    trainer.stop();
    training(Extension(trainer)).await
}

async fn save(
    State(work): State<Work>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let id = id_of(&id)?;
    let change: Change = body_of(body)?;
    let revision = ask(work, move |reply| Urgent::Save(id, change, reply)).await?;
    Ok(Json(Revision { revision }).into_response())
}
