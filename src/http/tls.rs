//! Encrypted connections, within the limits of all connections. The handshake is part of the first request's
//! header: it has no time of its own.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use rustls::ServerConfig;
use tokio::io::{self, AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

use super::connections::{Connection, Limited, Peer};

/// The first byte of a handshake.
const HANDSHAKE: u8 = 0x16;

/// Accepts connections within the limits, and encrypts them if it has a certificate.
pub(super) struct Secured {
    inner: Limited,
    acceptor: Option<TlsAcceptor>,
}

impl Secured {
    pub fn new(inner: Limited, config: Option<Arc<ServerConfig>>) -> Self {
        Secured { inner, acceptor: config.map(TlsAcceptor::from) }
    }
}

impl Listener for Secured {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Stream, SocketAddr) {
        let (connection, address) = self.inner.accept().await;
        let peer = connection.peer(address);
        let state = match &self.acceptor {
            Some(acceptor) => State::Unknown(Some((connection, acceptor.clone()))),
            None => State::Plain(connection),
        };
        (Stream { peer, state }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

impl Connected<IncomingStream<'_, Secured>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Secured>) -> Self {
        stream.io().peer.clone()
    }
}

/// A connection: plain, encrypted, or not known yet.
pub(super) struct Stream {
    peer: Peer,
    state: State,
}

enum State {
    /// Nothing has arrived.
    Unknown(Option<(Connection, TlsAcceptor)>),
    Shaking(Box<Accept<Connection>>),
    Encrypted(Box<TlsStream<Connection>>),
    Plain(Connection),
}

impl Stream {
    /// Waits until it is known how the client speaks.
    fn poll_known(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.state = match &mut self.state {
                State::Unknown(waiting) => {
                    let Some((connection, _)) = waiting else {
                        return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
                    };
                    let first = ready!(connection.poll_first(cx))?;
                    let Some((connection, acceptor)) = waiting.take() else { continue };
                    match first {
                        Some(HANDSHAKE) => State::Shaking(Box::new(acceptor.accept(connection))),
                        _ => {
                            self.peer.speaks_plainly();
                            State::Plain(connection)
                        }
                    }
                }
                State::Shaking(accept) => State::Encrypted(Box::new(ready!(Pin::new(accept).poll(cx))?)),
                State::Encrypted(_) | State::Plain(_) => return Poll::Ready(Ok(())),
            };
        }
    }
}

/// Passes a call on to the stream, once it is known.
macro_rules! known {
    ($self:ident, $cx:ident, $method:ident $(, $argument:expr)*) => {{
        ready!($self.poll_known($cx))?;
        match &mut $self.state {
            State::Encrypted(stream) => Pin::new(stream).$method($cx $(, $argument)*),
            State::Plain(stream) => Pin::new(stream).$method($cx $(, $argument)*),
            State::Unknown(_) | State::Shaking(_) => Poll::Pending,
        }
    }};
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        known!(self, cx, poll_read, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        known!(self, cx, poll_write, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.state {
            State::Encrypted(stream) => Pin::new(stream).poll_flush(cx),
            State::Plain(stream) => Pin::new(stream).poll_flush(cx),
            // Nothing has been written.
            State::Unknown(_) | State::Shaking(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.state {
            State::Encrypted(stream) => Pin::new(stream).poll_shutdown(cx),
            State::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            // Dropping it closes it.
            State::Unknown(_) | State::Shaking(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        known!(self, cx, poll_write_vectored, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
