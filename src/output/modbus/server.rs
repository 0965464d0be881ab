//! Connections of clients: who may come in, how many, and how fast.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, yield_now};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Shared;
use super::frame::{self, HEADER};

/// From a request's first byte to its last.
const REQUEST: Duration = Duration::from_secs(5);
/// For a client to take an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// The least time between two requests of a connection. Faster ones wait.
const SPACING: Duration = Duration::from_millis(2);
/// A connection that was silent for less is in use, and keeps its place.
const IN_USE: Duration = Duration::from_secs(1);
/// Pause after a failure to accept.
const PAUSE: Duration = Duration::from_millis(100);

/// The open connections, in the order in which they came.
#[derive(Default)]
struct Places {
    open: BTreeMap<u64, Open>,
    count: u64,
}

struct Open {
    /// Since when its client is silent. `None` while it is served.
    silent_since: Option<Instant>,
    task: Option<AbortHandle>,
}

/// A place among the connections. Dropping it frees the place.
struct Place {
    id: u64,
    places: Arc<Mutex<Places>>,
}

fn locked(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    places.lock().unwrap_or_else(|e| e.into_inner())
}

impl Place {
    /// A place, maybe that of the connection that was silent for longest. `None` if all are in use.
    fn take(places: &Arc<Mutex<Places>>, most: usize) -> Option<Place> {
        let mut open = locked(places);
        if open.open.len() >= most {
            let silent = |(id, open): (&u64, &Open)| Some((open.silent_since?, *id));
            let (since, id) = open.open.iter().filter_map(silent).min()?;
            if since.elapsed() < IN_USE {
                return None;
            }
            if let Some(task) = open.open.remove(&id).and_then(|open| open.task) {
                task.abort();
            }
        }
        open.count += 1;
        let id = open.count;
        open.open.insert(id, Open { silent_since: Some(Instant::now()), task: None });
        Some(Place { id, places: Arc::clone(places) })
    }

    fn set(&self, change: impl FnOnce(&mut Open)) {
        if let Some(open) = locked(&self.places).open.get_mut(&self.id) {
            change(open);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        locked(&self.places).open.remove(&self.id);
    }
}

/// Serves clients for ever.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Mutex::new(Places::default()));
    loop {
        // Serve earlier connections first: a request that has arrived keeps its place.
        yield_now().await;
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                log::debug!("modbus: cannot accept a connection: {e}");
                sleep(PAUSE).await;
                continue;
            }
        };
        let from = peer.ip().to_canonical();
        if !shared.settings.may_read(from) {
            log::debug!("modbus: refused {from}: not in modbus.read_from");
            continue;
        }
        let Some(place) = Place::take(&places, shared.settings.connections) else {
            log::debug!("modbus: refused {from}: all connections are in use");
            continue;
        };
        // A failure only costs time.
        let _ = stream.set_nodelay(true);
        let id = place.id;
        let task = tokio::spawn(client(stream, from, Arc::clone(&shared), place)).abort_handle();
        if let Some(open) = locked(&places).open.get_mut(&id) {
            open.task = Some(task);
        }
    }
}

/// Answers one client until it leaves, falls silent, or sends what is no Modbus.
async fn client(mut stream: TcpStream, from: IpAddr, shared: Arc<Shared>, place: Place) {
    let idle = Duration::from_secs(shared.settings.idle_seconds);
    let mut next = Instant::now();
    loop {
        let mut header = [0; HEADER];
        let Ok(Ok(_)) = timeout(idle, stream.read_exact(&mut header[..1])).await else { return };
        let request = async {
            stream.read_exact(&mut header[1..]).await.ok()?;
            let mut request = vec![0; frame::length(&header)?];
            stream.read_exact(&mut request).await.ok()?;
            Some(request)
        };
        let Ok(Some(request)) = timeout(REQUEST, request).await else { return };
        place.set(|open| open.silent_since = None);
        sleep_until(next).await;
        next = Instant::now() + SPACING;
        let function = request.first().copied().unwrap_or_default();
        let answer = frame::answer(&header, function, shared.answer(&request, from).await);
        place.set(|open| open.silent_since = Some(Instant::now()));
        let Ok(Ok(())) = timeout(ANSWER, stream.write_all(&answer)).await else { return };
    }
}
