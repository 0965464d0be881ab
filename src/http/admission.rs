//! Who gets in: every route says which role it needs, and every request shows which it has.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use log::Level;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use utoipa::ToSchema;

use super::api::{About, Api, Document, Needs};
use super::attempts::Attempts;
use super::certificate::Certificates;
use super::connections::{Peer, neighborhood};
use super::{is_loopback, last_word, name_of, problem, sign_in, with_body};
use crate::access::{Audit, Limits, Members, Person, Role, Who};

/// A page of another origin cannot send this header: the browser asks the server first and gets no
/// permission.
const OWN_HEADER: HeaderName = HeaderName::from_static("x-weakrest");
/// The page sends it after a person did something there: polls alone prolong no session.
const ACTIVE_HEADER: HeaderName = HeaderName::from_static("x-weakrest-active");
/// Memory for bodies, as a number of bodies of the largest size. Further requests wait.
const LARGEST_BODIES: u64 = 2;

/// What a request must satisfy.
pub(crate) struct Gate {
    /// Whoever sends it is an engineer.
    pub token: Option<String>,
    /// The people who may sign in.
    pub members: Option<Arc<Members>>,
    /// How long their sessions last.
    pub limits: Limits,
    /// What connections are encrypted with.
    pub certificates: Option<Arc<Certificates>>,
    /// Where changes are recorded.
    pub audit: Option<Arc<Audit>>,
    /// Whether only those who are signed in may look.
    pub is_private: bool,
    /// Whether the address is a loopback address.
    pub is_local: bool,
    /// The largest body, in bytes.
    pub most_body: u64,
    /// The error for a larger body.
    pub too_large: &'static str,
    /// A request that may have a larger body.
    pub larger: Option<Larger>,
    /// The option or key that names the token file.
    pub token_file: &'static str,
    /// The option or key that sets the address.
    pub listen: &'static str,
}

/// A request that may have a larger body than the others.
pub(crate) struct Larger {
    pub path: &'static str,
    /// The largest body, in bytes.
    pub most_body: u64,
    /// The error for a larger body.
    pub too_large: &'static str,
}

/// What a request may do before any token is looked at.
pub(crate) enum Standing {
    /// What the role of this account may.
    SignedIn(String, Role),
    /// Nothing until somebody signs in.
    SignedOut,
    /// Nothing without the token.
    NeedsToken,
    /// Everything: it comes from this machine, and neither accounts nor a token are set.
    Local,
    /// Nothing: it comes from elsewhere, and neither accounts nor a token are set.
    Refused,
}

/// What a page needs to know of whoever looks at it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct You {
    /// How changes are allowed here: `account`, `token`, `local` or `refused`.
    pub changes: &'static str,
    /// The account that is signed in.
    pub name: Option<String>,
    /// What it may do. Whoever has the token is an engineer, but the page does not know who has.
    pub role: Option<Role>,
}

impl Gate {
    /// The rules for larger bodies, if they hold for this request.
    pub fn larger(&self, uri: &Uri) -> Option<&Larger> {
        self.larger.as_ref().filter(|larger| larger.path == uri.path())
    }

    /// What a request may do before any token is looked at.
    pub fn standing(&self, request: &Parts) -> Standing {
        if let Some(members) = &self.members {
            let is_active = request.headers.contains_key(ACTIVE_HEADER)
                || !matches!(request.method, Method::GET | Method::HEAD);
            let session = sign_in::secret_of(request).and_then(|secret| {
                members.sessions.of(secret, &members.accounts(), self.limits, is_active, Instant::now())
            });
            return session.map_or(Standing::SignedOut, |(name, role)| Standing::SignedIn(name, role));
        }
        match (&self.token, self.is_local && is_from_here(request)) {
            (Some(_), _) => Standing::NeedsToken,
            (None, true) => Standing::Local,
            (None, false) => Standing::Refused,
        }
    }

    /// The same for a page.
    pub fn you(&self, request: &Parts) -> You {
        let (changes, name, role) = match self.standing(request) {
            Standing::SignedIn(name, role) => ("account", Some(name), Some(role)),
            Standing::SignedOut => ("account", None, None),
            Standing::NeedsToken => ("token", None, None),
            Standing::Local => ("local", None, Some(Role::Engineer)),
            Standing::Refused => ("refused", None, None),
        };
        You { changes, name, role }
    }
}

/// A gate with its counters.
pub(super) struct Guard {
    pub gate: Arc<Gate>,
    /// Wrong tokens and passwords by address.
    pub attempts: Attempts<IpAddr>,
    /// Wrong passwords by name.
    pub names: Attempts<String>,
    /// A password takes the processor for a while: one after the other, beside the inspection.
    pub turns: Semaphore,
    /// KiB left for bodies, and for those that may be larger.
    pub bodies: Semaphore,
    pub larger: Semaphore,
}

impl Guard {
    fn new(gate: Arc<Gate>) -> Guard {
        let room = |most_body: u64| {
            let room = (LARGEST_BODIES * most_body).max(1 << 20) >> 10;
            Semaphore::new(usize::try_from(room).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS))
        };
        let bodies = room(gate.most_body);
        let larger = room(gate.larger.as_ref().map_or(0, |larger| larger.most_body));
        let (attempts, names) = (Attempts::default(), Attempts::default());
        Guard { gate, attempts, names, turns: Semaphore::new(1), bodies, larger }
    }
}

/// Routes by the role that they need. Each handler of a change finds out who asks by an argument
/// `Extension(who): Extension<Who>`.
pub(crate) struct Routes<S> {
    guard: Arc<Guard>,
    all: Router<S>,
    document: Document,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// No routes yet.
    pub fn new(gate: Arc<Gate>) -> Self {
        Routes { guard: Arc::new(Guard::new(gate)), all: Router::new(), document: Document::default() }
    }

    /// Adds the files of the page itself. They are open to all, signed in or not.
    pub fn page(mut self, routes: Router<S>) -> Self {
        self.all = self.all.merge(routes);
        self
    }

    /// Adds routes that are open to all, signed in or not.
    pub fn open(self, routes: Api<S>) -> Self {
        self.needing(Needs::Nothing, routes)
    }

    /// Adds routes that change nothing. Those of [`Role::View`] are open to all, unless only those who are
    /// signed in may look.
    pub fn looks(self, role: Role, routes: Api<S>) -> Self {
        let check = middleware::from_fn_with_state((Arc::clone(&self.guard), role), may_look);
        self.needing(Needs::Look(role), routes.routed(|router| router.route_layer(check)))
    }

    /// Adds routes that change something. They also need a header that other sites cannot send.
    pub fn changes(self, role: Role, routes: Api<S>) -> Self {
        let check = middleware::from_fn_with_state((Arc::clone(&self.guard), role), may_change);
        self.needing(Needs::Change(role), routes.routed(|router| router.route_layer(check)))
    }

    fn needing(mut self, needs: Needs, routes: Api<S>) -> Self {
        self.all = self.all.merge(self.document.add(needs, routes));
        self
    }

    /// The server's router, with signing in, the document of the interface and headers for all. `title` names the
    /// interface.
    pub fn router(self, title: &'static str, state: S) -> Router {
        let signing_in = sign_in::routes(&self.guard);
        let (known, text) = (Arc::new(OnceLock::<Document>::new()), Arc::new(OnceLock::<Bytes>::new()));
        let (document, gate) = (Arc::clone(&known), Arc::clone(&self.guard.gate));
        let own = Api::new().get(
            "/api/openapi.json",
            move || async move {
                let write = || known.get().map(|known| known.text(&gate, title)).unwrap_or_default().into();
                ([(header::CONTENT_TYPE, "application/json")], text.get_or_init(write).clone())
            },
            About::new("This document").gives::<Value>(),
        );
        let Routes { guard, all, document: mut growing } = self.open(own);
        let signing_in = growing.add(Needs::Nothing, signing_in);
        document.get_or_init(|| growing);
        all.with_state(state)
            .merge(signing_in)
            .fallback(|uri: Uri| async move {
                problem(StatusCode::NOT_FOUND, format!("no such page: {}", uri.path()))
            })
            .method_not_allowed_fallback(|method: Method, uri: Uri| async move {
                let text = format!("{} does not accept {method}", uri.path());
                problem(StatusCode::METHOD_NOT_ALLOWED, text)
            })
            .layer(middleware::from_fn_with_state(guard, super::everybody))
    }
}

/// Whether a request comes from this machine and not through a proxy on it. Most proxies add a header; some
/// others use HTTP/1.0 or forward the origin of the page.
fn is_from_here(request: &Parts) -> bool {
    let headers = &request.headers;
    let is_forwarded = |name: &HeaderName| {
        let name = name.as_str();
        let says = |part| name.contains(part);
        ["forwarded", "client-ip", "clientip", "connecting-ip", "real-ip", "x-original-", "x-envoy-"]
            .into_iter()
            .any(says)
            || matches!(name, "via" | "cdn-loop" | "x-proxyuser-ip" | "x-appengine-user-ip")
    };
    let origin = headers.get_all(header::ORIGIN).iter().all(|origin| {
        let host = origin.to_str().ok().and_then(|o| o.split_once("://")).and_then(|o| name_of(o.1));
        host.is_some_and(is_loopback)
    });
    origin
        && request.version != Version::HTTP_10
        && peer(request).is_none_or(|peer| peer.to_canonical().is_loopback())
        && !headers.keys().any(is_forwarded)
}

/// The address of whoever asks. A proxy on this machine appends its client to the list.
pub(super) fn address(request: &Parts) -> IpAddr {
    let peer = peer(request).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)).to_canonical();
    let list = request.headers.get_all("x-forwarded-for").iter().next_back();
    let last = list.and_then(|list| list.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
    last.filter(|_| peer.is_loopback()).unwrap_or(peer)
}

/// The address whose wrong tokens and passwords count together.
pub(super) fn asker(request: &Parts) -> IpAddr {
    neighborhood(address(request))
}

fn peer(request: &Parts) -> Option<IpAddr> {
    request.extensions.get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| peer.address.ip())
}

/// Waits until it is somebody's turn.
///
/// # Errors
/// The refusal if too many wait already.
pub(super) async fn turn(wait: Result<Duration, Duration>, whose: &str) -> Result<(), Response> {
    match wait {
        Ok(Duration::ZERO) => {}
        Ok(wait) => sleep(wait).await,
        Err(wait) => {
            let mut response =
                last_word(StatusCode::TOO_MANY_REQUESTS, format!("too many wrong {whose}: try again later"));
            response.headers_mut().insert(header::RETRY_AFTER, (wait.as_secs() + 1).into());
            return Err(response);
        }
    }
    Ok(())
}

/// Who asks, if they may do what needs `role`. `None` if anybody may.
async fn admit(guard: &Guard, role: Role, request: &Parts) -> Result<Option<Who>, Response> {
    let gate = &guard.gate;
    if role == Role::View && !gate.is_private {
        return Ok(None);
    }
    let who = |person| Some(Who { person, from: Some(address(request)) });
    let given = request.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let given = given.and_then(|v| v.split_once(' ')).filter(|v| v.0.eq_ignore_ascii_case("bearer"));
    let file = gate.token_file;
    let text = match (gate.standing(request), given, &gate.token) {
        (_, Some((_, given)), Some(token)) => {
            let asker = asker(request);
            turn(guard.attempts.turn(asker, Instant::now()), &format!("tokens from {asker}")).await?;
            if is_same(given.trim(), token) {
                return Ok(who(Person::Token));
            }
            guard.attempts.is_wrong(asker, Instant::now());
            log::warn!("web: wrong token from {asker} for {}", request.uri.path());
            format!("wrong token: it is not the one in {file}")
        }
        (Standing::SignedIn(name, has), _, _) if has >= role => return Ok(who(Person::Account(name))),
        (Standing::SignedIn(name, has), _, _) => {
            let text = format!("{name} has the role {has}; this needs the role {role}");
            return Err(last_word(StatusCode::FORBIDDEN, text));
        }
        (Standing::Local, _, _) => return Ok(who(Person::Local)),
        (Standing::Refused, _, _) if gate.is_local => {
            let text = format!(
                "this request came from another machine or through a proxy: set {file} to allow changes \
                 with a token"
            );
            return Err(last_word(StatusCode::FORBIDDEN, text));
        }
        (Standing::Refused, _, _) => {
            let text = format!(
                "this page is read-only: set {file} to allow changes with a token, or set {} to a loopback \
                 address such as 127.0.0.1:8080",
                gate.listen
            );
            return Err(last_word(StatusCode::FORBIDDEN, text));
        }
        (Standing::SignedOut, _, Some(_)) => {
            format!("sign in first, or send the token in {file} as Authorization: Bearer TOKEN")
        }
        (Standing::SignedOut, _, None) => "sign in first".into(),
        (Standing::NeedsToken, _, _) => {
            format!("token required: send the token in {file} as Authorization: Bearer TOKEN")
        }
    };
    let mut response = last_word(StatusCode::UNAUTHORIZED, text);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    Err(response)
}

type Needed = State<(Arc<Guard>, Role)>;

/// Checks requests that change nothing.
async fn may_look(State((guard, role)): Needed, request: Request, next: Next) -> Response {
    let (request, body) = request.into_parts();
    match admit(&guard, role, &request).await {
        Ok(_) => next.run(Request::from_parts(request, body)).await,
        Err(refusal) => refusal,
    }
}

/// Checks requests that make changes.
async fn may_change(State((guard, role)): Needed, request: Request, next: Next) -> Response {
    let (mut request, body) = request.into_parts();
    let who = match admit(&guard, role, &request).await {
        Ok(who) => who,
        Err(refusal) => return refusal,
    };
    if let Some(refusal) = foreign(&request) {
        return refusal;
    }
    if let Some(who) = who {
        // Many pictures a second may come to be judged, which changes nothing.
        let level = if guard.gate.larger(&request.uri).is_some() { Level::Debug } else { Level::Info };
        log::log!(
            level,
            "web: {} requested by {} from {}",
            request.uri.path(),
            who.person,
            address(&request)
        );
        request.extensions.insert(who);
    }
    // Only now: a refused client uses no memory.
    with_body(&guard, Request::from_parts(request, body), next).await
}

/// The refusal of a request that another site could have sent.
pub(super) fn foreign(request: &Parts) -> Option<Response> {
    let headers = &request.headers;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let is_json = kind.split(';').next().is_some_and(|k| k.trim().eq_ignore_ascii_case("application/json"));
    (!is_json && !headers.contains_key(OWN_HEADER)).then(|| {
        let text = "changes need the header X-Weakrest: 1 or Content-Type: application/json, which other \
                    sites cannot send";
        last_word(StatusCode::FORBIDDEN, text)
    })
}

/// Compares in constant time: the time reveals neither the token nor its length.
fn is_same(given: &str, token: &str) -> bool {
    let (given, token) = (Sha256::digest(given), Sha256::digest(token));
    given.iter().zip(token.iter()).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}
