//! The routes.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::prompts::Prompts;
use super::session::{Change, Told};
use super::work::{Clicks, Refusal, Work};
use crate::http::{self, Gate, asset};

/// The most that a request may bring along: the runs of a large and ragged mask.
pub const MOST_BODY: usize = 32 << 20;
/// A page asks for news every few seconds, in each tab.
const RESCAN: Duration = Duration::from_secs(1);

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The routes.
pub fn router(gate: Arc<Gate>, work: Arc<Work>) -> Router {
    let looks = Router::new()
        .route("/", asset("text/html; charset=utf-8", include_str!("assets/index.html")))
        .route("/app.js", asset(SCRIPT, include_str!("assets/app.js")))
        .route("/boxes.js", asset(SCRIPT, include_str!("assets/boxes.js")))
        .route("/mask.js", asset(SCRIPT, include_str!("assets/mask.js")))
        .route("/saver.js", asset(SCRIPT, include_str!("assets/saver.js")))
        .route("/stage.js", asset(SCRIPT, include_str!("assets/stage.js")))
        .route("/work.js", asset(SCRIPT, include_str!("assets/work.js")))
        .route(
            "/style.css",
            asset(
                "text/css; charset=utf-8",
                concat!(include_str!("../colors.css"), include_str!("assets/style.css")),
            ),
        )
        .route("/icon.svg", asset("image/svg+xml", include_str!("assets/icon.svg")));
    // Pictures of products are not for everybody on the network.
    let private = Router::new()
        .route("/api/state", get(state))
        .route("/api/pictures/{id}", get(detail))
        .route("/api/pictures/{id}/image", get(image))
        .route("/api/pictures/{id}/map.png", get(map))
        .route("/api/pictures/{id}/nearest.png", get(nearest));
    let changes = Router::new()
        .route("/api/pictures/{id}/click", post(click))
        .route("/api/pictures/{id}/label", put(save))
        .layer(DefaultBodyLimit::max(MOST_BODY));
    http::router(gate, looks, private, changes, work)
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            error: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            label: Option<Box<Told>>,
        }
        (self.code, Json(Body { error: self.text, label: self.label })).into_response()
    }
}

/// Does what takes time on a thread that may wait.
async fn apart<T: Send + 'static>(
    work: Arc<Work>,
    job: impl FnOnce(&Work) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(move || job(&work)).await {
        Ok(result) => result,
        Err(_) => {
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "that failed by a bug; see the terminal"))
        }
    }
}

fn id_of(text: &str) -> Result<usize, Refusal> {
    text.parse().map_err(|_| Refusal::new(StatusCode::NOT_FOUND, format!("there is no picture {text}")))
}

fn body_of<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Refusal> {
    let body = body.map_err(|e| Refusal::new(e.status(), format!("the request cannot be read: {e}")))?;
    serde_json::from_slice(&body).map_err(|e| {
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("the request is not what it should be: {e}"))
    })
}

#[derive(Serialize)]
struct Adclick<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Listed {
    id: usize,
    name: String,
    width: Option<u32>,
    height: Option<u32>,
    score: Option<f32>,
    done: bool,
    kind: Option<crate::labels::Tag>,
    r#type: Option<String>,
    /// That of its label, once the picture was read.
    revision: Option<String>,
    missing: bool,
    /// Why it cannot be labeled.
    error: Option<String>,
}

async fn state(State(work): State<Arc<Work>>) -> Response {
    #[derive(Serialize)]
    struct Body<'a> {
        /// Numbers of pictures mean something in this run of the program alone.
        session: &'a str,
        product: &'a str,
        folder: String,
        labels: String,
        adclick: Option<Adclick<'a>>,
        text: bool,
        nearest: bool,
        types: Vec<String>,
        prompts: Prompts,
        threshold: f32,
        preparing: usize,
        pictures: Vec<Listed>,
    }
    let answer = apart(work, |work| {
        work.rescan(RESCAN);
        let (folder, labels) = work.places();
        let session = work.session();
        let listed = |id: usize| {
            let picture = session.picture(id)?;
            let label = session.label(picture);
            Some(Listed {
                id,
                name: picture.found.name.clone(),
                width: picture.size.map(|s| s.0),
                height: picture.size.map(|s| s.1),
                score: picture.score,
                done: label.is_some(),
                kind: label.map(|l| l.tag),
                r#type: label.and_then(|l| l.kind.clone()),
                revision: picture.hash.is_some().then(|| session.revision(picture)),
                missing: picture.missing,
                error: picture.error.clone(),
            })
        };
        let body = Body {
            session: work.id(),
            product: work.product(),
            folder,
            labels,
            adclick: work.segmenter().map(|name| Adclick { name }),
            text: work.takes_any_words(),
            nearest: work.has_nearest(),
            types: session.types().into_iter().map(str::to_owned).collect(),
            prompts: work.prompts().clone(),
            threshold: work.threshold(),
            preparing: session.unscored().len(),
            pictures: session.order(work.threshold()).into_iter().filter_map(listed).collect(),
        };
        Ok(Json(body).into_response())
    });
    answer.await.unwrap_or_else(IntoResponse::into_response)
}

async fn detail(State(work): State<Arc<Work>>, Path(id): Path<String>) -> Result<Response, Refusal> {
    let id = id_of(&id)?;
    let detail = apart(work, move |work| work.detail(id)).await?;
    Ok(Json(detail).into_response())
}

async fn image(
    State(work): State<Arc<Work>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let id = id_of(&id)?;
    let (kind, bytes, hash) = apart(work, move |work| work.image(id)).await?;
    let tag = format!("\"{hash}\"");
    // Asked again each time, so that a changed picture is seen, and sent only when it changed.
    let caching = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::ETAG, HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\""))),
    ];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|given| given.as_bytes() == tag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, caching).into_response());
    }
    Ok((caching, [(header::CONTENT_TYPE, kind)], bytes).into_response())
}

async fn map(State(work): State<Arc<Work>>, Path(id): Path<String>) -> Result<Response, Refusal> {
    let id = id_of(&id)?;
    let png = apart(work, move |work| work.map(id)).await?;
    Ok(([(header::CONTENT_TYPE, "image/png")], png).into_response())
}

async fn nearest(State(work): State<Arc<Work>>, Path(id): Path<String>) -> Result<Response, Refusal> {
    let id = id_of(&id)?;
    let png = apart(work, move |work| work.nearest(id)).await?;
    Ok(([(header::CONTENT_TYPE, "image/png")], png).into_response())
}

async fn click(
    State(work): State<Arc<Work>>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let id = id_of(&id)?;
    let clicks: Clicks = body_of(body)?;
    let mask = apart(work, move |work| work.click(id, clicks)).await?;
    Ok(Json(mask).into_response())
}

async fn save(
    State(work): State<Arc<Work>>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    #[derive(Serialize, Deserialize)]
    struct Body {
        revision: String,
    }
    let id = id_of(&id)?;
    let change: Change = body_of(body)?;
    let revision = apart(work, move |work| work.save(id, change)).await?;
    Ok(Json(Body { revision }).into_response())
}
