//! The connection to an upstream, whatever it is made of.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::UpstreamAddress;
use super::unix::UnixSocket;
use crate::relay::{ReadAhead, Readable, Stream};

/// TCP or Unix.
pub(crate) type Socket = Either<TcpStream, UnixSocket>;

/// Without TLS or with it.
pub(crate) type UpstreamStream = Either<Socket, Box<TlsStream<ReadAhead<Socket>>>>;

impl<L: Stream, R: Stream> Readable for Either<L, R> {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Left(left) => left.poll_readable(cx),
            Self::Right(right) => right.poll_readable(cx),
        }
    }

    fn read_ahead(&mut self) {
        match self {
            Self::Left(left) => left.read_ahead(),
            Self::Right(right) => right.read_ahead(),
        }
    }

    fn has_more(&self) -> bool {
        match self {
            Self::Left(left) => left.has_more(),
            Self::Right(right) => right.has_more(),
        }
    }
}

impl<S: Stream> Readable for Box<S> {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_readable(cx)
    }

    fn read_ahead(&mut self) {
        (**self).read_ahead();
    }

    fn has_more(&self) -> bool {
        (**self).has_more()
    }
}

impl UpstreamAddress {
    /// Opens a connection. The caller holds the deadline.
    pub(crate) async fn connect(&self) -> io::Result<Socket> {
        let socket = match self {
            Self::Tcp { host, port } => TcpStream::connect((host.as_str(), *port)).await?,
            Self::Found(addresses) => TcpStream::connect(&addresses[..]).await?,
            Self::Unix(path) => return Ok(Either::Right(UnixSocket::connect(path).await?)),
        };
        prepare(&socket)?;
        Ok(Either::Left(socket))
    }
}

/// Sends small messages at once, and notices within 90 s that a peer vanished without a word.
pub(crate) fn prepare(socket: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)?;
    socket.set_nodelay(true)
}
