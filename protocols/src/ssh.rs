//! SSH 2.0 (RFC 4250 to 4254, and OpenSSH's PROTOCOL).

mod fault;
mod host;
mod key;
mod wire;

pub use fault::SshFault;
pub use host::{HostIdentity, HostKeys, UnknownHost};
pub use key::{BadKey, SshKey};

use std::future::Future;
use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::{
    AcceptError, Accepted, Client, DialError, Endpoint, Limits, Login, Protocol, Refusal, RelayError, Tap,
    Transferred,
};

/// ALPN of SSH inside TLS, as `tsh proxy ssh` speaks it.
pub const ALPN: &[u8] = b"teleport-proxy-ssh";
/// Channels of all kinds that may be open at the same time in one connection, whatever the roles say.
pub const CHANNELS: usize = 1_024;

/// The SSH front of one target.
pub struct Ssh {
    identity: HostIdentity,
    tls: TlsAcceptor,
    limits: Limits,
    knows: Arc<Knows>,
}

/// Whether an authority, whose key is here in its wire form, is one whose certificates are worth a look.
pub type Knows = dyn Fn(&[u8]) -> bool + Send + Sync;

impl std::fmt::Debug for Ssh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ssh").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Ssh {
    /// `identity` is what clients know the target by. `tls` offers [`ALPN`], asks for a client certificate, and
    /// has resumption switched off: for those who bring SSH inside TLS.
    #[must_use]
    pub fn new(identity: HostIdentity, tls: Arc<ServerConfig>, limits: Limits) -> Self {
        Self { identity, tls: TlsAcceptor::from(tls), limits, knows: Arc::new(|_| true) }
    }

    /// Passes over certificates of other authorities, as if they were not offered: a client may hold certificates
    /// of other houses, and tries them one by one. This decides nothing: what is accepted is still judged by
    /// whoever asks for it.
    #[must_use]
    pub fn with_known_authorities(mut self, knows: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Self {
        self.knows = Arc::new(knows);
        self
    }
}

/// A client that waits at the door.
#[derive(Debug)]
pub struct SshClient(());

/// An upstream that is logged in.
#[derive(Debug)]
pub struct SshUpstream(());

impl Protocol for Ssh {
    const NAME: &'static str = "ssh";
    type Client = SshClient;
    type Upstream = SshUpstream;

    async fn accept(&self, _: TcpStream) -> Result<Option<Accepted<SshClient>>, AcceptError> {
        let _ = (&self.identity, &self.tls, &self.knows);
        Err(AcceptError::Ssh(SshFault::Closed))
    }

    async fn dial(&self, _: &Endpoint, _: &Login) -> Result<SshUpstream, DialError> {
        Err(DialError::Ssh(SshFault::Closed))
    }
}

impl Client for SshClient {
    type Upstream = SshUpstream;

    async fn refuse(self, _: Refusal) -> io::Result<()> {
        Ok(())
    }

    async fn relay(
        self,
        _: SshUpstream,
        _: impl Tap,
        _: impl Future<Output = Refusal> + Send,
    ) -> Result<Transferred, RelayError> {
        Ok(Transferred::default())
    }
}
