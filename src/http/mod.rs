//! The base of both web servers: access, request limits and common headers; and the thread of every server.
//!
//! HTTP/1.1, plain or encrypted. Everything is served from memory.

mod admission;
mod api;
mod attempts;
mod certificate;
mod connections;
mod der;
mod sign_in;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::error::{Error, ErrorKind, Result};
use crate::files;
use admission::Guard;
pub(crate) use admission::{Gate, Larger, Routes, Standing, You};
pub(crate) use api::{About, Api};
pub(crate) use certificate::{Certificate, Certificates, day_of, self_signed};
use connections::{Limited, Peer};
use tls::Secured;

/// Nothing from elsewhere and nothing inline: text from a camera driver or a file name can never run.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Connections that may wait to be accepted. A client without a place retries after a second at the earliest.
const WAITING: u32 = 1024;
/// The time for a small body to arrive.
const BODY: Duration = Duration::from_secs(5);
/// The least speed of a large body.
const LEAST_BYTES_PER_SECOND: u64 = 1 << 20;
/// How long a request waits for its turn.
const TURN: Duration = Duration::from_secs(10);

/// Whether an address is a loopback address.
pub(crate) fn is_local(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Reads the token from a file.
///
/// # Errors
/// As [`files::read_secret`]; [`ErrorKind::Usage`] if the file holds no token.
pub(crate) fn token_from_file(path: &Path) -> Result<String> {
    let text = files::read_secret(path)?;
    let token = text.trim();
    if token.len() < 16 || !token.bytes().all(|b| b.is_ascii_graphic()) {
        let text = "the file must hold one line of at least 16 letters, digits and signs; create a token \
                    with: openssl rand -hex 16";
        return Err(Error::new(ErrorKind::Usage, text));
    }
    Ok(token.into())
}

/// An IP address and a port.
///
/// # Errors
/// [`ErrorKind::Usage`] for any other text.
pub(crate) fn address_from_text(text: &str) -> Result<SocketAddr> {
    text.parse().map_err(|_| {
        let text = "must be an IP address and a port, such as 127.0.0.1:8080 or [::]:8080";
        Error::new(ErrorKind::Usage, text)
    })
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // As the standard library: a server that has just ended leaves its port free.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(WAITING)
}

/// A running server. Dropping it stops it.
pub(crate) struct Server {
    name: &'static str,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves a router on a thread called `name`, encrypted with `certificates`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the server cannot listen on the address.
    pub fn start(
        name: &'static str,
        wanted: SocketAddr,
        router: Router,
        certificates: Option<&Arc<Certificates>>,
    ) -> Result<Server> {
        let config = certificates.map(Certificates::config).transpose()?;
        Self::run(name, wanted, async move |listener| {
            let service = router.into_make_service_with_connect_info::<Peer>();
            let served = axum::serve(Secured::new(Limited::new(listener), config), service).await;
            if let Err(error) = served {
                log::error!("{name}: {error}");
            }
        })
    }

    /// Serves whatever `serve` answers, on a thread called `name`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the server cannot listen on the address.
    pub fn run<F: Future<Output = ()>>(
        name: &'static str,
        wanted: SocketAddr,
        serve: impl FnOnce(TcpListener) -> F + Send + 'static,
    ) -> Result<Server> {
        let failed = |e: std::io::Error| {
            let advice = match e.kind() {
                std::io::ErrorKind::AddrInUse => "; another program uses that port, choose another one",
                std::io::ErrorKind::AddrNotAvailable => "; it is not an address of this machine",
                std::io::ErrorKind::PermissionDenied => "; ports below 1024 are for privileged programs",
                _ => "",
            };
            Error::new(ErrorKind::Io, format!("cannot listen on {wanted}{advice}")).with_source(e)
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(8)
            .thread_name(format!("{name}-work"))
            .build()
            .map_err(failed)?;
        let listener = {
            let _entered = runtime.enter();
            listen(wanted).map_err(failed)?
        };
        let address = listener.local_addr().map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = serve(listener) => {}
                        _ = stopped => {}
                    }
                });
                // Answers that are still on their way are dropped.
                runtime.shutdown_background();
            })
            .map_err(failed)?;
        Ok(Server { name, address, stop: Some(stop), thread: Some(thread) })
    }

    /// The address the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the server still runs.
    pub fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Stops the server and waits for its end.
    pub fn halt(&mut self) {
        // Fails if the thread has already ended: nothing to stop.
        let _ = self.stop.take().map(|stop| stop.send(()));
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the thread of the {} server panicked", self.name);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.halt();
    }
}

/// The answer to a failed request, for people and machines.
#[derive(Serialize, ToSchema)]
pub(crate) struct Refusal {
    /// Why it is refused, and what to do.
    pub error: String,
}

/// A [`Refusal`] with its code.
pub(crate) fn problem(code: StatusCode, text: impl Into<String>) -> Response {
    (code, Json(Refusal { error: text.into() })).into_response()
}

/// A file inside the program.
pub(crate) fn asset<S: Clone + Send + Sync + 'static>(
    kind: &'static str,
    text: &'static str,
) -> MethodRouter<S> {
    get(move || async move { ([(header::CONTENT_TYPE, kind)], text) })
}

/// Checks every request, and completes every answer.
async fn everybody(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<Peer>>().cloned();
    if let Some(ConnectInfo(peer)) = &peer {
        peer.is_served();
    }
    let is_plain = guard.gate.certificates.is_some() && peer.as_ref().is_some_and(|peer| peer.0.is_plain());
    let refusal = refusal(&guard.gate, &request).or_else(|| is_plain.then(|| elsewhere(&request)));
    let mut response = match refusal {
        Some(refusal) => refusal,
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if let Some(ConnectInfo(peer)) = &peer {
        peer.is_answered();
    }
    response
}

/// A refusal that closes the connection: the rest of the request is not read.
fn last_word(code: StatusCode, text: impl Into<String>) -> Response {
    let mut response = problem(code, text);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn refusal(gate: &Gate, request: &Request) -> Option<Response> {
    let headers = request.headers();
    // A body of unknown length is refused.
    let (most, too_large) = match gate.larger(request.uri()) {
        Some(larger) => (larger.most_body, larger.too_large),
        None => (gate.most_body, gate.too_large),
    };
    if headers.contains_key(header::TRANSFER_ENCODING) || length(headers) > most {
        return Some(last_word(StatusCode::PAYLOAD_TOO_LARGE, too_large));
    }
    let Some(host) = host(headers) else {
        return Some(problem(StatusCode::BAD_REQUEST, "the request needs exactly one Host header"));
    };
    // A foreign site can give its own name this machine's address (DNS rebinding). The browser would let it
    // in.
    let named = [Some(host), request.uri().host()];
    if gate.is_local && !named.into_iter().flatten().all(is_loopback) {
        let text = format!(
            "{host} is not a name of this machine: use http://localhost, let a proxy send Host: localhost, \
             or set {} to an address that others reach",
            gate.listen
        );
        return Some(problem(StatusCode::FORBIDDEN, text));
    }
    None
}

/// The answer to a request that is not encrypted: where the page is instead. A secret in it was readable
/// already, so nothing but a look is sent on.
fn elsewhere(request: &Request) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let page = format!("https://{host}");
    let place = request.uri().path_and_query().map_or("/", |place| place.as_str());
    let mut response =
        last_word(StatusCode::FORBIDDEN, format!("this page is encrypted: use {page} instead"));
    if matches!(*request.method(), Method::GET | Method::HEAD)
        && let Ok(place) = HeaderValue::from_str(&(page + place))
    {
        *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

/// The length of a request's body.
fn length(headers: &HeaderMap) -> u64 {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok());
    length.map_or(0, |n| n.parse().unwrap_or(u64::MAX))
}

/// The host of a request, without its port.
fn host(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::HOST).iter();
    let (host, None) = (all.next()?.to_str().ok()?, all.next()) else { return None };
    name_of(host)
}

/// A host without its port.
fn name_of(host: &str) -> Option<&str> {
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

/// Reads the body into memory and passes the request on. The memory is limited.
async fn with_body(guard: &Guard, request: Request, next: Next) -> Response {
    let length = length(request.headers());
    if length == 0 {
        return next.run(request).await;
    }
    let peer = request.extensions().get::<ConnectInfo<Peer>>().cloned();
    if let Some(ConnectInfo(peer)) = &peer {
        peer.is_sending();
    }
    let room = u32::try_from(length.div_ceil(1 << 10)).unwrap_or(u32::MAX);
    let bodies = if guard.gate.larger(request.uri()).is_some() { &guard.larger } else { &guard.bodies };
    let Ok(Ok(_room)) = timeout(TURN, bodies.acquire_many(room)).await else {
        return last_word(StatusCode::SERVICE_UNAVAILABLE, "too many large requests at once: try again");
    };
    let (parts, body) = request.into_parts();
    let patience = BODY + Duration::from_secs(length / LEAST_BYTES_PER_SECOND);
    let most = usize::try_from(length).unwrap_or(usize::MAX);
    match timeout(patience, to_bytes(body, most)).await {
        Ok(Ok(bytes)) => {
            if let Some(ConnectInfo(peer)) = &peer {
                peer.is_served();
            }
            next.run(Request::from_parts(parts, Body::from(bytes))).await
        }
        Ok(Err(e)) => last_word(StatusCode::BAD_REQUEST, format!("the request cannot be read: {e}")),
        Err(_) => last_word(StatusCode::REQUEST_TIMEOUT, "the request arrived too slowly"),
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
