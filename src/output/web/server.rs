//! The routes, and who may use them.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

use super::connections::{Limited, Peer};
use super::{Part, Shared, metrics};
use crate::error::ErrorKind;
use crate::record::part::unix_ms;
use crate::record::{Snapshot, Stage};

/// Nothing from elsewhere, nothing inline: text that came from a camera's driver or a file name can never
/// run.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// What a request may bring along, far more than any needs: none has anything to say.
const MAX_BODY: u64 = 1024;
/// A page of another origin cannot send it without being asked by the browser first, and is never answered.
const OWN_HEADER: HeaderName = HeaderName::from_static("x-weakrest");

/// Who may change the line.
pub(super) enum Changes {
    /// Whoever knows the token.
    Token(String),
    /// Whoever is on this machine.
    Local,
    /// Nobody.
    Refused,
}

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let changes = Router::new()
        .route("/api/trigger", post(trigger))
        .route("/api/halt", post(halt))
        .route("/api/resume", post(resume))
        .route("/api/reload", post(reload))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&shared), may_change));
    let router = Router::new()
        .route("/", asset("text/html; charset=utf-8", include_str!("assets/index.html")))
        .route("/app.js", asset("text/javascript; charset=utf-8", include_str!("assets/app.js")))
        .route("/style.css", asset("text/css; charset=utf-8", include_str!("assets/style.css")))
        .route("/icon.svg", asset("image/svg+xml", include_str!("assets/icon.svg")))
        .route("/api/status", get(status))
        .route("/api/parts", get(parts))
        .route("/api/rejects", get(rejects))
        .route("/api/rejects/{file}", get(reject_picture))
        .route("/api/live.jpg", get(live_picture))
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .merge(changes)
        .fallback(
            |uri: Uri| async move { problem(StatusCode::NOT_FOUND, format!("there is no {}", uri.path())) },
        )
        .method_not_allowed_fallback(|method: Method, uri: Uri| async move {
            let text = format!("{} does not take {method}", uri.path());
            problem(StatusCode::METHOD_NOT_ALLOWED, text)
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), guard))
        .with_state(shared);
    let service = router.into_make_service_with_connect_info::<Peer>();
    if let Err(error) = axum::serve(Limited::new(listener), service).await {
        log::error!("web: {error}");
    }
}

/// A failed request, for people and machines.
fn problem(code: StatusCode, text: impl Into<String>) -> Response {
    #[derive(Serialize)]
    struct Body {
        error: String,
    }
    (code, Json(Body { error: text.into() })).into_response()
}

fn asset(kind: &'static str, text: &'static str) -> MethodRouter<Arc<Shared>> {
    get(move || async move { ([(header::CONTENT_TYPE, kind)], text) })
}

/// What holds for every request and answer.
async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let mut response = match refusal(&shared, &request) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refusal(shared: &Shared, request: &Request) -> Option<Response> {
    let headers = request.headers();
    let length = headers.get(header::CONTENT_LENGTH).map_or("0", |v| v.to_str().unwrap_or(""));
    // A body of unknown length is one too many: it is not read, so the connection cannot be used again.
    if headers.contains_key(header::TRANSFER_ENCODING) || length.parse().is_ok_and(|n: u64| n > MAX_BODY) {
        let mut response =
            problem(StatusCode::PAYLOAD_TOO_LARGE, "requests need no body; this one is too large");
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return Some(response);
    }
    let Some(host) = host(headers) else {
        return Some(problem(StatusCode::BAD_REQUEST, "the request needs one Host header with a host in it"));
    };
    // A site somewhere can give its own name this machine's address, and would then be let in by the browser.
    let named = [Some(host), request.uri().host()];
    if matches!(shared.changes, Changes::Local) && !named.into_iter().flatten().all(is_loopback) {
        let text = format!(
            "{host} is not a name of this machine; use http://localhost, or set web.token_file \
             to be reached by other names"
        );
        return Some(problem(StatusCode::FORBIDDEN, text));
    }
    None
}

/// The host that the request is meant for, without its port.
fn host(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::HOST).iter();
    let (host, None) = (all.next()?.to_str().ok()?, all.next()) else { return None };
    let end = match host.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, port) = host.split_at(end);
    let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(|p| p.parse::<u16>().is_ok());
    (is_port && !name.is_empty() && !name.contains(['@', '/', ' '])).then_some(name)
}

fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// What holds for requests that change something.
async fn may_change(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    match &shared.changes {
        Changes::Local => {}
        Changes::Refused => {
            let text = "this page is for looking only: set web.token_file to change something from another \
                        machine, or set web.listen to a loopback address such as 127.0.0.1:8080";
            return problem(StatusCode::FORBIDDEN, text);
        }
        Changes::Token(token) => {
            let given = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
            let given = given.and_then(|v| v.split_once(' ')).filter(|v| v.0.eq_ignore_ascii_case("bearer"));
            if !given.is_some_and(|given| is_same(given.1.trim(), token)) {
                let text = match given {
                    Some(_) => "that is not the token in web.token_file",
                    None => "this needs the token in web.token_file, as Authorization: Bearer TOKEN",
                };
                if let (Some(_), Some(peer)) = (given, peer(&request)) {
                    log::warn!("web: {peer} asked for {} with a wrong token", request.uri().path());
                }
                let mut response = problem(StatusCode::UNAUTHORIZED, text);
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                return response;
            }
        }
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let is_json = kind.split(';').next().is_some_and(|k| k.trim().eq_ignore_ascii_case("application/json"));
    if !is_json && !headers.contains_key(OWN_HEADER) {
        let text = "changes need the header X-Weakrest: 1, or Content-Type: application/json, which a page \
                    of another site cannot send";
        return problem(StatusCode::FORBIDDEN, text);
    }
    if let Some(peer) = peer(&request) {
        log::info!("web: {} asked for by {peer}", request.uri().path());
    }
    next.run(request).await
}

fn peer(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<ConnectInfo<Peer>>().map(|ConnectInfo(Peer(peer))| peer.ip())
}

/// Compares in a time that tells nothing of the token, nor of its length.
fn is_same(given: &str, token: &str) -> bool {
    let (given, token) = (Sha256::digest(given), Sha256::digest(token));
    given.iter().zip(token.iter()).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

#[derive(Serialize)]
struct StageTime {
    name: &'static str,
    count: u64,
    last_ms: f64,
    mean_ms: f64,
    worst_ms: f64,
}

async fn status(State(shared): State<Arc<Shared>>) -> Response {
    #[derive(Serialize)]
    struct Body {
        #[serde(flatten)]
        status: Snapshot,
        stages: Vec<StageTime>,
        version: &'static str,
        /// `local`, `token` or `refused`: who may change something.
        changes: &'static str,
        uptime_s: f64,
        /// Names this run: it and the numbers of parts start anew together.
        started_ms: u64,
        /// Number of the part whose picture is the latest.
        picture: Option<u64>,
        /// Number of the latest part whose picture is among the rejects.
        last_reject: Option<u64>,
    }
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
    let (picture, last_reject) = {
        let memory = shared.memory();
        (memory.latest.as_ref().map(|shot| shot.part), memory.rejects.back().map(|r| r.0.part))
    };
    let changes = match shared.changes {
        Changes::Token(_) => "token",
        Changes::Local => "local",
        Changes::Refused => "refused",
    };
    Json(Body {
        status: status.snapshot(),
        stages: stages.into(),
        version: env!("CARGO_PKG_VERSION"),
        changes,
        uptime_s: shared.started.elapsed().as_secs_f64(),
        started_ms: unix_ms(shared.started_at),
        picture,
        last_reject,
    })
    .into_response()
}

#[derive(Serialize)]
struct Parts {
    started_ms: u64,
    /// To be asked for next, as `after`: parts can be published in another order than that of their numbers.
    next: u64,
    /// In the order in which they were published.
    parts: Vec<Shown>,
}

/// A part that is shared with the memory.
struct Shown(Arc<Part>);

impl Serialize for Shown {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

async fn parts(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    #[derive(Deserialize)]
    struct Question {
        #[serde(default)]
        after: u64,
    }
    let Ok(Query(Question { after })) = Query::try_from_uri(&uri) else {
        return problem(StatusCode::BAD_REQUEST, "after must be a number, such as /api/parts?after=17");
    };
    let (next, parts) = {
        let memory = shared.memory();
        let new = memory.sequence.saturating_sub(after);
        let known = memory.parts.len()
            - usize::try_from(new).map_or(memory.parts.len(), |n| n.min(memory.parts.len()));
        (memory.sequence, memory.parts.range(known..).map(|p| Shown(Arc::clone(p))).collect())
    };
    let started_ms = unix_ms(shared.started_at);
    Json(Parts { started_ms, next, parts }).into_response()
}

async fn rejects(State(shared): State<Arc<Shared>>) -> Response {
    let (next, parts) = {
        let memory = shared.memory();
        (memory.sequence, memory.rejects.iter().map(|(p, _)| Shown(Arc::clone(p))).collect())
    };
    let started_ms = unix_ms(shared.started_at);
    Json(Parts { started_ms, next, parts }).into_response()
}

async fn reject_picture(State(shared): State<Arc<Shared>>, Path(file): Path<String>) -> Response {
    let Some(number) = file.strip_suffix(".jpg").and_then(|n| n.parse::<u64>().ok()) else {
        return problem(
            StatusCode::NOT_FOUND,
            "pictures are named by their part, such as /api/rejects/17.jpg",
        );
    };
    let picture = shared.memory().rejects.iter().rev().find(|r| r.0.part == number).map(|r| r.1.clone());
    match picture {
        Some(jpeg) => ([(header::CONTENT_TYPE, "image/jpeg")], jpeg).into_response(),
        None => problem(StatusCode::NOT_FOUND, format!("part {number} is not among the latest rejects")),
    }
}

async fn live_picture(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    #[derive(Deserialize)]
    struct Question {
        plain: Option<String>,
    }
    let Ok(Query(Question { plain })) = Query::try_from_uri(&uri) else {
        return problem(StatusCode::BAD_REQUEST, "the query is not one; try /api/live.jpg?plain=1");
    };
    let plain = plain.is_some_and(|p| p != "0");
    let Some(shot) = shared.memory().latest.clone() else {
        return problem(StatusCode::NOT_FOUND, "there is no picture yet");
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

async fn health(State(shared): State<Arc<Shared>>) -> Response {
    #[derive(Serialize)]
    struct Body {
        state: crate::record::State,
        problems: std::collections::BTreeMap<&'static str, crate::record::Problem>,
    }
    let status = shared.control.status();
    let (state, problems) = (status.state(), status.problems());
    let code = match state {
        crate::record::State::Operational => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, Json(Body { state, problems })).into_response()
}

async fn trigger(State(shared): State<Arc<Shared>>) -> Response {
    #[derive(Serialize)]
    struct Body {
        part: u64,
    }
    match tokio::task::spawn_blocking(move || shared.control.trigger()).await {
        Ok(Ok(part)) => Json(Body { part }).into_response(),
        Ok(Err(e)) if e.kind() == ErrorKind::Usage => problem(StatusCode::CONFLICT, e.chain()),
        Ok(Err(e)) => problem(StatusCode::SERVICE_UNAVAILABLE, e.chain()),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "triggering failed; see the service's log"),
    }
}

async fn halt(State(shared): State<Arc<Shared>>) -> Response {
    change(shared, |shared| shared.control.set_halted(true)).await
}

async fn resume(State(shared): State<Arc<Shared>>) -> Response {
    change(shared, |shared| shared.control.set_halted(false)).await
}

async fn reload(State(shared): State<Arc<Shared>>) -> Response {
    change(shared, |shared| shared.control.reload()).await
}

/// Answers with the state after it.
async fn change(shared: Arc<Shared>, action: impl FnOnce(&Shared) + Send + 'static) -> Response {
    #[derive(Serialize)]
    struct Body {
        state: crate::record::State,
    }
    let done = tokio::task::spawn_blocking(move || {
        action(&shared);
        shared.control.status().state()
    });
    match done.await {
        Ok(state) => Json(Body { state }).into_response(),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "that failed; see the service's log"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_strictly() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_str(text).unwrap());
            host(&headers).map(str::to_owned)
        };
        for (text, expected) in [
            ("localhost:8080", Some("localhost")),
            ("127.0.0.1", Some("127.0.0.1")),
            ("[::1]:80", Some("[::1]")),
            ("[::1]", Some("[::1]")),
            ("", None),
            (":80", None),
            ("a:b", None),
            ("[::1", None),
            ("[::1]evil.example", None),
            ("127.0.0.1:80@evil.example", None),
            ("localhost:80:80", None),
        ] {
            assert_eq!(of(text).as_deref(), expected, "{text}");
        }
        let mut two = HeaderMap::new();
        two.append(header::HOST, HeaderValue::from_static("localhost"));
        two.append(header::HOST, HeaderValue::from_static("evil.example"));
        assert_eq!(host(&two), None);
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for name in ["localhost", "LocalHost", "127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"] {
            assert!(is_loopback(name), "{name}");
        }
        for name in
            ["localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "0.0.0.0", "[::]", "evil"]
        {
            assert!(!is_loopback(name), "{name}");
        }
    }
}
