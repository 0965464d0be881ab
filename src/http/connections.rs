//! Limits that keep clients from exhausting the service. Every step of a request has a deadline, counted from
//! its start, even if bytes keep trickling. Connections are limited in total, per address and for all other
//! machines. Above a limit, a new connection replaces the one that has been idle longest.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{self, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep_until};

/// Between two requests. A hidden page polls every 10 s, a scraper often every 15 s.
const IDLE: Duration = Duration::from_secs(20);
/// From a request's first byte to the end of its header.
const HEADER: Duration = Duration::from_secs(5);
/// From an answer's first byte to its last.
const ANSWER: Duration = Duration::from_secs(60);
/// Far below 1024, the usual limit of open files per process.
const MOST: usize = 256;
/// Reserved for this machine.
const KEPT_FOR_THIS_MACHINE: usize = 32;
/// Per address: enough for many people behind a proxy.
const MOST_OF_ADDRESS: usize = 64;

/// What counts as one address. With IPv6 it is a /64 network: one client has all its addresses.
pub(super) fn neighborhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into())
        }
        address => address,
    }
}

/// Accepts connections within the limits.
pub(crate) struct Limited {
    inner: TcpListener,
    open: Arc<Mutex<HashMap<u64, Open>>>,
    accepted: u64,
}

struct Open {
    from: IpAddr,
    watch: Arc<Watch>,
}

impl Limited {
    pub fn new(inner: TcpListener) -> Self {
        Limited { inner, open: Arc::default(), accepted: 0 }
    }

    /// Makes room for one more connection. Returns false if all connections are being served.
    fn has_room(&self, from: IpAddr) -> bool {
        let mut open = locked(&self.open);
        let mut makes_room = |most: usize, concerned: &dyn Fn(&Open) -> bool| {
            if open.values().filter(|open| concerned(open)).count() < most {
                return true;
            }
            let silent = |(id, open): (&u64, &Open)| Some((open.watch.silent_since()?, *id));
            let longest = open.iter().filter(|(_, open)| concerned(open)).filter_map(silent).min();
            let shown_out = longest.and_then(|(_, id)| open.remove(&id));
            shown_out.is_some_and(|shown_out| {
                shown_out.watch.end();
                true
            })
        };
        makes_room(MOST_OF_ADDRESS, &|open| open.from == from)
            && (from.is_loopback()
                || makes_room(MOST - KEPT_FOR_THIS_MACHINE, &|open| !open.from.is_loopback()))
            && makes_room(MOST, &|_| true)
    }
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            // Read earlier connections first: a request that has arrived keeps its place.
            yield_now().await;
            let (stream, peer) = Listener::accept(&mut self.inner).await;
            let from = neighborhood(peer.ip());
            if !self.has_room(from) {
                log::debug!("refused {peer}: too many connections");
                continue;
            }
            // A failure only costs time.
            let _ = stream.set_nodelay(true);
            let watch = Arc::new(Watch::default());
            self.accepted += 1;
            locked(&self.open).insert(self.accepted, Open { from, watch: Arc::clone(&watch) });
            let place = Place { id: self.accepted, open: Arc::clone(&self.open) };
            let alarm = Box::pin(sleep_until(Instant::now() + IDLE));
            return (Connection { stream, watch, alarm, _place: place }, peer);
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A place among the connections. Dropping it frees the place.
struct Place {
    id: u64,
    open: Arc<Mutex<HashMap<u64, Open>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        locked(&self.open).remove(&self.id);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// The client and its connection.
#[derive(Clone)]
pub(crate) struct Peer {
    pub address: SocketAddr,
    watch: Arc<Watch>,
}

impl Peer {
    /// The header of a request is complete. From here on its handler keeps the deadlines.
    pub fn is_served(&self) {
        self.watch.enter(Step::Served);
    }

    /// The handler waits for the body and keeps the deadline.
    pub fn is_sending(&self) {
        self.watch.enter(Step::Body);
    }

    /// The answer is ready.
    pub fn is_answered(&self) {
        self.watch.enter(Step::Answer);
    }

    /// The client does not encrypt where it should.
    pub fn speaks_plainly(&self) {
        self.watch.plain.store(true, Relaxed);
    }

    /// Whether the client does not encrypt where it should.
    pub fn is_plain(&self) -> bool {
        self.watch.plain.load(Relaxed)
    }
}

/// The step of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// No request.
    Idle,
    /// Receiving the header.
    Header,
    /// Receiving the body.
    Body,
    /// Handling the request.
    Served,
    /// Sending the answer.
    Answer,
}

impl Step {
    fn limit(self) -> Option<Duration> {
        match self {
            Step::Idle => Some(IDLE),
            Step::Header => Some(HEADER),
            Step::Body | Step::Served => None,
            Step::Answer => Some(ANSWER),
        }
    }
}

struct Watch {
    standing: Mutex<Standing>,
    plain: AtomicBool,
}

struct Standing {
    step: Step,
    since: Instant,
    ended: bool,
    waker: Option<Waker>,
}

impl Default for Watch {
    fn default() -> Self {
        let standing = Standing { step: Step::Idle, since: Instant::now(), ended: false, waker: None };
        Watch { standing: Mutex::new(standing), plain: AtomicBool::new(false) }
    }
}

impl Watch {
    fn enter(&self, step: Step) {
        let mut standing = locked(&self.standing);
        (standing.step, standing.since) = (step, Instant::now());
    }

    /// Time of the earlier step keeps counting.
    fn advance(&self, from: Step, to: Step) {
        let mut standing = locked(&self.standing);
        if standing.step == from {
            (standing.step, standing.since) = (to, Instant::now());
        }
    }

    /// Since when the client is silent. `None` while the service is working.
    fn silent_since(&self) -> Option<Instant> {
        let standing = locked(&self.standing);
        (standing.step != Step::Served).then_some(standing.since)
    }

    /// Ends the connection.
    fn end(&self) {
        let mut standing = locked(&self.standing);
        standing.ended = true;
        if let Some(waker) = standing.waker.take() {
            waker.wake();
        }
    }
}

/// A connection that fails at its deadline, or when its place is needed.
pub(crate) struct Connection {
    stream: TcpStream,
    watch: Arc<Watch>,
    alarm: Pin<Box<Sleep>>,
    _place: Place,
}

impl Connection {
    /// Its client.
    pub fn peer(&self, address: SocketAddr) -> Peer {
        Peer { address, watch: Arc::clone(&self.watch) }
    }

    /// The first byte, once it has arrived. It stays to be read. `None` if there will be none.
    pub fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<u8>>> {
        let mut byte = [0];
        let poll = self.stream.poll_peek(cx, &mut ReadBuf::new(&mut byte));
        match self.poll_end(cx) {
            Poll::Ready(end) => Poll::Ready(Err(end)),
            Poll::Pending => poll.map_ok(|count| (count > 0).then_some(byte[0])),
        }
    }

    /// The error that ends the connection, if it must end now.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let deadline = {
            let mut standing = locked(&self.watch.standing);
            if standing.ended {
                return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
            }
            standing.waker = Some(cx.waker().clone());
            standing.step.limit().map(|limit| standing.since + limit)
        };
        let Some(deadline) = deadline else { return Poll::Pending };
        if self.alarm.deadline() != deadline {
            self.alarm.as_mut().reset(deadline);
        }
        self.alarm.as_mut().poll(cx).map(|()| io::ErrorKind::TimedOut.into())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.watch.advance(Step::Idle, Step::Header);
        }
        match self.poll_end(cx) {
            Poll::Ready(end) => Poll::Ready(Err(end)),
            Poll::Pending => poll,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Poll::Ready(end) = self.poll_end(cx) {
            return Poll::Ready(Err(end));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Everything is written.
        self.watch.advance(Step::Answer, Step::Idle);
        // TCP needs no flush.
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(end) = self.poll_end(cx) {
            return Poll::Ready(Err(end));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct House {
        limited: Limited,
        count: u64,
        // A listener needs one.
        _runtime: tokio::runtime::Runtime,
    }

    impl House {
        fn new() -> House {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
            House { limited: Limited::new(listener), count: 0, _runtime: runtime }
        }

        /// Whether somebody gets in, and stands at this step then.
        fn enter(&mut self, from: &str, step: Step) -> bool {
            let from = neighborhood(from.parse().unwrap());
            let has_room = self.limited.has_room(from);
            if has_room {
                let watch = Arc::new(Watch::default());
                watch.enter(step);
                self.count += 1;
                locked(&self.limited.open).insert(self.count, Open { from, watch });
            }
            has_room
        }

        fn inside(&self, from: &str) -> usize {
            let from = neighborhood(from.parse().unwrap());
            locked(&self.limited.open).values().filter(|open| open.from == from).count()
        }
    }

    #[test]
    fn an_address_takes_so_much_and_pushes_out_none_but_its_own() {
        let mut house = House::new();
        assert!(house.enter("10.0.0.2", Step::Header));
        assert!((0..1000).all(|_| house.enter("10.0.0.1", Step::Header)));
        assert_eq!((house.inside("10.0.0.1"), house.inside("10.0.0.2")), (MOST_OF_ADDRESS, 1));
        // Who is being served stays, and the newest too.
        assert!(house.enter("10.0.0.1", Step::Served));
        let newest = house.count;
        assert!((0..MOST_OF_ADDRESS - 1).all(|_| house.enter("10.0.0.1", Step::Answer)));
        assert!(locked(&house.limited.open).contains_key(&newest));
        // All addresses of a network are one.
        for i in 0..200 {
            assert!(house.enter(&format!("2001:db8::{i:x}"), Step::Idle));
        }
        assert_eq!(house.inside("2001:db8::ffff"), MOST_OF_ADDRESS);
    }

    #[test]
    fn this_machine_finds_room_whatever_many_others_do() {
        for step in [Step::Idle, Step::Header, Step::Body, Step::Served, Step::Answer] {
            let mut house = House::new();
            for i in 0..1000 {
                let got_in = house.enter(&format!("10.0.{}.{}", i % 10, i % 7), step);
                assert!(got_in || step == Step::Served);
            }
            assert_eq!(locked(&house.limited.open).len(), MOST - KEPT_FOR_THIS_MACHINE);
            assert!((0..KEPT_FOR_THIS_MACHINE).all(|_| house.enter("127.0.0.1", Step::Served)));
            assert!((0..1000).all(|_| house.enter("127.0.0.1", Step::Idle)) || step == Step::Served);
            assert_eq!(house.enter("10.0.0.99", Step::Header), step != Step::Served);
            assert!(locked(&house.limited.open).len() <= MOST);
        }
    }
}
