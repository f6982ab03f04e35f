//! A local port whose connections reach one target with a session certificate.
//!
//! Bytes are pumped as they come, both ways, each direction closing by itself. Whoever reaches the port has the session, so
//! it listens on 127.0.0.1 alone and, where the operating system tells (Linux), serves only processes of the same user
//! (`peer`); other users of the machine are refused. Of a PostgreSQL client that has hung up already only a CancelRequest
//! is passed on (`cancel`). A connection that cannot be served hears why in its protocol's own words (`refusal`).

use std::{
    future::Future,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    database::DatabaseProtocol,
    output::printable,
    report::{self, eprint_line},
};

mod cancel;
mod dial;
mod peer;
mod refusal;
mod renewal;

pub use dial::{DialError, dial, dial_node, dial_plain};
pub use peer::{PeerError, require_same_user};
pub use renewal::Renewal;

/// Connections served at the same time; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 100;

/// A pause after a failed accept (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the connections of a tunnel lead.
pub trait Upstream: Send + Sync + 'static {
    /// A connection to the target.
    type Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin;

    /// Opens a connection. May ask somebody for a touch first, so it may take minutes.
    fn connect(&self) -> impl Future<Output = anyhow::Result<Self::Stream>> + Send;

    /// The same for a connection that must not make anybody be asked: `None` where there is no way without asking, or the
    /// target cannot be reached.
    fn connect_without_asking(&self) -> impl Future<Output = Option<Self::Stream>> + Send;

    /// What is spoken at the other end.
    fn protocol(&self) -> DatabaseProtocol;

    /// True where whoever connects has what the certificate opens, so that other users must be kept out.
    const GIVES_ACCESS: bool;
}

/// Why there is no local port.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on 127.0.0.1:{port}")]
pub struct BindError {
    port: u16,
    source: io::Error,
}

/// A local port that is ours and leads nowhere yet: taken before anybody is asked for a touch, which a port that is
/// somebody else's would waste.
pub struct LocalPort {
    listener: TcpListener,
    address: SocketAddr,
}

impl LocalPort {
    /// Binds 127.0.0.1; port 0 takes a free one.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn bind(port: u16) -> Result<Self, BindError> {
        let failed = |source| BindError { port, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }
}

/// A local port that leads somewhere.
pub struct Tunnel<U> {
    listener: TcpListener,
    address: SocketAddr,
    upstream: Arc<U>,
}

impl<U: Upstream> Tunnel<U> {
    /// Leads the connections of a port to an upstream.
    #[must_use]
    pub fn new(port: LocalPort, upstream: U) -> Self {
        let LocalPort { listener, address } = port;
        Self { listener, address, upstream: Arc::new(upstream) }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves connections until `shutdown`; those still open are closed then.
    pub async fn serve(self, shutdown: CancellationToken) {
        let mut connections = JoinSet::new();
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = accept(&self.listener, &slots) => accepted,
            };
            match accepted {
                Ok((socket, peer, slot)) => {
                    let (upstream, address) = (Arc::clone(&self.upstream), self.address);
                    connections.spawn(async move {
                        serve_one(socket, peer, address, &*upstream).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        connections.shutdown().await;
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (socket, peer) = listener.accept().await?;
    Ok((socket, peer, slot))
}

async fn serve_one<U: Upstream>(mut socket: TcpStream, peer: SocketAddr, address: SocketAddr, upstream: &U) {
    if U::GIVES_ACCESS
        && let Err(error) = require_same_user(peer, address).await
    {
        if matches!(error, PeerError::Unknown)
            && upstream.protocol() == DatabaseProtocol::Postgres
            && let Some(request) = cancel::left_behind(&mut socket).await
            && let Some(target) = upstream.connect_without_asking().await
        {
            return cancel::pass_on(&request, target).await;
        }
        eprint_line(&format!("Refused a local connection from {peer}: {error}"));
        return;
    }
    let _ = socket.set_nodelay(true);
    match upstream.connect().await {
        Ok(mut target) => {
            let transferred = copy_bidirectional(&mut socket, &mut target).await;
            tracing::debug!(%peer, ?transferred, "connection ended");
        }
        Err(error) => {
            let reason = printable(&report::one_line(&error));
            eprint_line(&format!("Failed to connect to the database: {reason}"));
            if let Err(error) = refusal::refuse(&mut socket, upstream.protocol(), &reason).await {
                tracing::debug!(%peer, %error, "the client did not wait for the reason");
            }
        }
    }
}

#[cfg(test)]
mod tests;
