//! Signing in and out.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::admission::{Guard, You, address, asker, foreign, turn};
use super::api::{About, Api};
use super::{TURN, last_word, length, problem, with_body};
use crate::access::accounts::LONGEST;
use crate::access::{Person, Who};

/// The cookie's name.
pub(super) const COOKIE: &str = "weakrest-session";
/// Digits of a session's secret.
const DIGITS: usize = 64;
/// The largest request: a name and a password, every character escaped.
const MOST_BODY: u64 = 16 * LONGEST as u64;

/// The routes.
pub(super) fn routes(guard: &Arc<Guard>) -> Api<()> {
    const PATH: &str = "/api/session";
    let check = middleware::from_fn_with_state(Arc::clone(guard), may_sign_in);
    let none = "No accounts are set, so nobody can sign in";
    let signs = |text| About::new(text).gives::<You>().refuses(StatusCode::NOT_FOUND, none);
    let changes = Api::new()
        .post(
            PATH,
            sign_in,
            signs("Signs in, and sets the cookie of the session")
                .takes::<Given>()
                .refuses(StatusCode::UNAUTHORIZED, "The name or the password is wrong")
                .refuses(StatusCode::REQUEST_TIMEOUT, "The body came too slowly")
                .refuses(StatusCode::UNPROCESSABLE_ENTITY, "The body is no name with a password")
                .refuses(StatusCode::TOO_MANY_REQUESTS, "Too many wrong passwords came from this address")
                .refuses(StatusCode::SERVICE_UNAVAILABLE, "Too many people sign in at once"),
        )
        .delete(PATH, sign_out, signs("Signs out"))
        .routed(|router| router.route_layer(check));
    let looks =
        Api::new().get(PATH, who, About::new("Who is signed in, and what they may do").gives::<You>());
    looks.merge(changes).with_state(Arc::clone(guard))
}

/// Who signs in.
#[derive(Deserialize, ToSchema)]
#[schema(as = SignIn)]
struct Given {
    name: String,
    password: String,
}

/// The secret of a request's session.
pub(super) fn secret_of(request: &Parts) -> Option<&str> {
    let cookies = request.headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
    cookies
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='))
        .find(|secret| secret.len() == DIGITS)
}

/// Checks requests that sign in or out.
async fn may_sign_in(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let (request, body) = request.into_parts();
    if guard.gate.members.is_none() {
        return last_word(StatusCode::NOT_FOUND, "nobody can sign in here: no accounts are set");
    }
    if let Some(refusal) = foreign(&request) {
        return refusal;
    }
    if length(&request.headers) > MOST_BODY {
        return last_word(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the request is too large for a name and a password",
        );
    }
    with_body(&guard, Request::from_parts(request, body), next).await
}

async fn who(State(guard): State<Arc<Guard>>, request: Parts) -> Json<You> {
    Json(guard.gate.you(&request))
}

async fn sign_in(State(guard): State<Arc<Guard>>, request: Request) -> Response {
    let (request, body) = request.into_parts();
    match signed_in(&guard, &request, body).await {
        Ok(response) | Err(response) => response,
    }
}

async fn signed_in(guard: &Guard, request: &Parts, body: Body) -> Result<Response, Response> {
    let Some(members) = guard.gate.members.clone() else {
        return Err(problem(StatusCode::NOT_FOUND, "no accounts are set"));
    };
    let broken = |text: &str| problem(StatusCode::INTERNAL_SERVER_ERROR, text);
    let bytes = to_bytes(body, usize::try_from(MOST_BODY).unwrap_or(usize::MAX)).await;
    let given = bytes.ok().and_then(|bytes| serde_json::from_slice::<Given>(&bytes).ok());
    let Some(Given { name, password }) = given.filter(|given| given.password.len() <= LONGEST) else {
        let text = "must be {\"name\": \"…\", \"password\": \"…\"}";
        return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, text));
    };
    let asker = asker(request);
    turn(guard.attempts.turn(asker, Instant::now()), &format!("passwords from {asker}")).await?;
    // Whoever guesses from elsewhere does not keep the owner of an account waiting.
    let is_known = members.knows(&name, asker);
    if !is_known {
        turn(guard.names.turn(name.clone(), Instant::now()), "passwords for this account").await?;
    }
    let Ok(Ok(_turn)) = timeout(TURN, guard.turns.acquire()).await else {
        return Err(last_word(StatusCode::SERVICE_UNAVAILABLE, "too many people sign in at once: try again"));
    };
    let account = {
        let (accounts, name) = (members.accounts(), name.clone());
        tokio::task::spawn_blocking(move || accounts.signed_in(&name, &password).cloned()).await
    };
    let Some(account) = account.map_err(|_| broken("signing in failed; see the service's log"))? else {
        guard.attempts.is_wrong(asker, Instant::now());
        guard.names.is_wrong(name, Instant::now());
        log::warn!("web: wrong name or password from {}", address(request));
        return Err(problem(StatusCode::UNAUTHORIZED, "wrong name or password"));
    };
    // What somebody may have planted in this browser ends.
    secret_of(request).inspect(|secret| members.sessions.close(secret));
    let secret = members.sessions.open(&account, Instant::now()).map_err(|e| broken(&e.chain()))?;
    let is_told = members.remember(&account.name, asker, Instant::now());
    log::info!("web: account {} signed in from {}", account.name, address(request));
    if is_told {
        note(guard, request, &account.name).await;
    }
    let you = You { changes: "account", name: Some(account.name), role: Some(account.role) };
    Ok((cookie(guard, request, &secret), Json(you)).into_response())
}

async fn sign_out(State(guard): State<Arc<Guard>>, request: Parts) -> Response {
    if let (Some(members), Some(secret)) = (&guard.gate.members, secret_of(&request)) {
        members.sessions.close(secret);
    }
    let you = You { changes: "account", name: None, role: None };
    (cookie(&guard, &request, ""), Json(you)).into_response()
}

/// Records who signed in. Nobody is kept from halting the line if that is impossible.
async fn note(guard: &Guard, request: &Parts, name: &str) {
    let Some(audit) = guard.gate.audit.clone() else { return };
    let who = Who { person: Person::Account(name.into()), from: Some(address(request)) };
    // A failure is told by the log's own problem.
    let _ =
        tokio::task::spawn_blocking(move || audit.note(&who, "signed in", Value::Null, Value::Null)).await;
}

/// The header that sets the cookie, or removes it. It ends with the browser; the service ends it earlier.
fn cookie(guard: &Guard, request: &Parts, secret: &str) -> [(HeaderName, String); 1] {
    let is_encrypted = guard.gate.certificates.is_some()
        || request.headers.get("x-forwarded-proto").is_some_and(|by| by.as_bytes() == b"https");
    let secure = if is_encrypted { "; Secure" } else { "" };
    let end = if secret.is_empty() { "; Max-Age=0" } else { "" };
    [(header::SET_COOKIE, format!("{COOKIE}={secret}; Path=/; HttpOnly; SameSite=Strict{secure}{end}"))]
}
