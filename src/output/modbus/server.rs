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
    /// Whether its address is one of those that the configuration names.
    is_named: bool,
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
    /// A place, maybe that of another connection. `None` if all are in use.
    ///
    /// A named address takes the place of any that is not. Else only a silent connection makes room, and never
    /// one of a named address for another. Where some are named the others may only read, so no command is cut
    /// off half-way.
    fn take(places: &Arc<Mutex<Places>>, most: usize, is_named: bool) -> Option<Place> {
        let mut places_now = locked(places);
        if places_now.open.len() >= most {
            let rank = |(id, open): (&u64, &Open)| {
                (open.is_named, open.silent_since.is_none(), open.silent_since, *id)
            };
            let (its_name, _, since, id) = places_now.open.iter().map(rank).min()?;
            let is_silent = since.is_some_and(|since| since.elapsed() >= IN_USE);
            let makes_room = match (is_named, its_name) {
                (true, false) => true,
                (false, true) => false,
                _ => is_silent,
            };
            if !makes_room {
                return None;
            }
            if let Some(task) = places_now.open.remove(&id).and_then(|open| open.task) {
                task.abort();
            }
        }
        places_now.count += 1;
        let id = places_now.count;
        places_now.open.insert(id, Open { is_named, silent_since: Some(Instant::now()), task: None });
        drop(places_now);
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
        let is_named = shared.settings.names(from);
        let Some(place) = Place::take(&places, shared.settings.connections, is_named) else {
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
        sleep_until(next).await;
        next = Instant::now() + SPACING;
        place.set(|open| open.silent_since = None);
        let function = request.first().copied().unwrap_or_default();
        let answer = frame::answer(&header, function, shared.answer(&request, from).await);
        place.set(|open| open.silent_since = Some(Instant::now()));
        let Ok(Ok(())) = timeout(ANSWER, stream.write_all(&answer)).await else { return };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_from_the_silent_and_by_those_that_are_named() {
        let places = Arc::new(Mutex::new(Places::default()));
        let take = |is_named| Place::take(&places, 2, is_named);
        let set = |place: &Place, silent_since| place.set(|open| open.silent_since = silent_since);
        let is_open = |place: &Place| locked(&places).open.contains_key(&place.id);
        let (first, second) = (take(false).unwrap(), take(false).unwrap());
        assert!(take(false).is_none(), "both are in use");
        let long_ago = Instant::now().checked_sub(2 * IN_USE).unwrap();
        set(&second, Some(long_ago));
        let third = take(false).unwrap();
        assert!(is_open(&first) && !is_open(&second) && is_open(&third));
        // The PLC finds a place among those in use, and stays.
        set(&first, None);
        let plc = take(true).unwrap();
        assert!(is_open(&first) && !is_open(&third));
        let again = take(true).unwrap();
        assert!(!is_open(&first) && is_open(&plc) && is_open(&again));
        set(&plc, Some(long_ago));
        assert!(take(false).is_none());
        let rebooted = take(true).unwrap();
        assert!(!is_open(&plc) && is_open(&again) && is_open(&rebooted));
        drop(rebooted);
        assert!(take(false).is_some());
    }
}
