//! SSH 2.0 (RFC 4250 to 4254, and OpenSSH's PROTOCOL).
//!
//! A session, as its messages go:
//!
//! ```text
//! client                      sidecar                        upstream: the host's own sshd
//!   │ (TLS, certificate) ─────▶│                                │
//!   │ ═══ key exchange ═══════▶│ our host certificate           │
//!   │ USERAUTH_REQUEST ───────▶│ certificate and signature      │
//!   │                          │ accept() returns here          │
//!   │ ◀─ INFO_REQUEST, code ──▶│ ask(), if anybody asks         │
//!   │                          │ ═══ key exchange ═════════════▶│ pinned or certified
//!   │                          │ USERAUTH_REQUEST ─────────────▶│
//!   │                          │ ◀──────────── USERAUTH_SUCCESS │ dial() returns here
//!   │ ◀──────── USERAUTH_SUCCESS│ relay() starts                 │
//!   │ CHANNEL_REQUEST ────────▶tap ────────────────────────────▶│
//!   │ ◀──────────────────────tap ────────────────── CHANNEL_DATA │
//! ```
//!
//! # Why not a library
//!
//! Libraries are made for the ends of a connection. They grant a channel's window when its data arrives, keep one
//! "wants a reply" for each channel, and serve both directions in one task. A relay on top of that must either
//! hold back a whole connection for one slow channel, or queue without bound; loses the order of answers when a
//! client asks on without waiting, as OpenSSH does; and waits for itself when both sides are busy. Here windows
//! and answers pass through between the two ends, as everything else does, and the two directions do not know
//! each other. What is ours is small: packets, two key exchanges (`kex.rs`), three kinds of cipher (`cipher.rs`),
//! two logins. All cryptography is aws-lc-rs's; there is no algorithm here that has to be switched off.
//!
//! # Where to start reading
//!
//! | file | idea |
//! |---|---|
//! | `front.rs` | one message proves a login |
//! | `transport.rs`, `algorithms.rs`, `kex.rs` | key exchange, on both sides |
//! | `packet.rs`, `cipher.rs` (HOT) | packets, opened and sealed in place |
//! | `host.rs`, `key.rs`, `upstream.rs` | who the host is, and who we are there |
//! | `relay.rs`, `session.rs` (HOT) | the two pumps, and what becomes of each message |
//! | `channels.rs`, `requests.rs`, `lent.rs` | whose number is whose; what is asked, and what is allowed |
//! | `sftp.rs` | which files are touched |

mod algorithms;
mod channels;
mod cipher;
mod client;
mod fault;
mod front;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod host;
mod kex;
mod key;
mod lent;
mod message;
mod packet;
mod relay;
mod requests;
mod session;
mod sftp;
mod transport;
mod upstream;
mod wire;

pub use client::{ClientSocket, SshClient};

pub use fault::SshFault;
pub use host::{HostIdentity, HostKeys, UnknownHost};
pub use key::{BadKey, SshKey};
pub use upstream::SshUpstream;

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;

use crate::endpoint::prepare;
use crate::{
    AcceptError, Accepted, Carried, DialError, Endpoint, Limits, Login, Peer, Protocol, Refusal, RefusalCode,
    Replication, SshProof,
};

use client::Conversation;
use front::Proved;
use relay::Renewal;
use transport::Transport;

/// ALPN of SSH inside TLS, as `tsh proxy ssh` speaks it.
pub const ALPN: &[u8] = b"teleport-proxy-ssh";
/// Channels of all kinds that may be open at the same time in one connection, whatever the roles say.
pub const CHANNELS: usize = 1_024;

/// The first byte of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;
/// How long a client of TLS may take for its first byte. One that takes longer is taken for a client of SSH
/// that waits for us.
const SILENCE: Duration = Duration::from_millis(150);

/// The SSH front of one target.
pub struct Ssh {
    identity: HostIdentity,
    tls: TlsAcceptor,
    limits: Limits,
    knows: Arc<Knows>,
    renewal: Renewal,
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
        Self {
            identity,
            tls: TlsAcceptor::from(tls),
            limits,
            knows: Arc::new(|_| true),
            renewal: Renewal::default(),
        }
    }

    /// Passes over certificates of other authorities, as if they were not offered: a client may hold certificates
    /// of other houses, and tries them one by one. This decides nothing: what is accepted is still judged by
    /// whoever asks for it.
    #[must_use]
    pub fn with_known_authorities(mut self, knows: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Self {
        self.knows = Arc::new(knows);
        self
    }

    /// Exchanges keys anew after so many bytes in one direction, rather than after 1 GiB.
    #[must_use]
    pub fn with_new_keys_after(mut self, bytes: u64) -> Self {
        self.renewal.after = bytes;
        self
    }
}

impl Protocol for Ssh {
    const NAME: &'static str = "ssh";
    type Client = SshClient;
    type Upstream = SshUpstream;

    async fn accept(&self, socket: TcpStream) -> Result<Option<Accepted<SshClient>>, AcceptError> {
        let deadline = self.limits.handshake;
        let accepted = timeout(deadline, self.knock(socket)).await;
        accepted.map_err(|_| AcceptError::Deadline(deadline))?
    }

    async fn dial(&self, endpoint: &Endpoint, login: &Login) -> Result<SshUpstream, DialError> {
        upstream::dial(endpoint, login, self.limits.dial).await
    }
}

impl Ssh {
    /// TLS or not, by the first byte: a client of SSH may wait for us to begin, one of TLS begins.
    async fn knock(&self, socket: TcpStream) -> Result<Option<Accepted<SshClient>>, AcceptError> {
        prepare(&socket).map_err(AcceptError::Client)?;
        let mut first = [0];
        let waited = timeout(SILENCE, socket.peek(&mut first)).await;
        if let Ok(peeked) = waited
            && peeked.map_err(AcceptError::Client)? == 1
            && first == [TLS_HANDSHAKE]
        {
            let stream = self.tls.accept(socket).await.map_err(AcceptError::Tls)?;
            let (_, connection) = stream.get_ref();
            if connection.alpn_protocol() != Some(ALPN) {
                return Err(AcceptError::Alpn(connection.alpn_protocol().map(<[u8]>::to_vec)));
            }
            let chain = connection.peer_certificates().unwrap_or_default();
            let chain: Vec<_> = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
            let accepted = self.accept_stream(Either::Right(Box::new(stream))).await?;
            return Ok(accepted.map(|accepted| inside(accepted, chain)));
        }
        self.accept_stream(Either::Left(socket)).await
    }

    /// [`Protocol::accept`] for SSH on any stream, without a deadline.
    ///
    /// # Errors
    /// As [`Protocol::accept`].
    pub async fn accept_stream<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &self,
        stream: S,
    ) -> Result<Option<Accepted<SshClient<S>>>, AcceptError> {
        let transport = Transport::accept(stream, &self.identity).await.map_err(AcceptError::Ssh)?;
        let Some(mut transport) = transport else { return Ok(None) };
        match front::login(&mut transport, &*self.knows).await {
            Ok(Proved { user, proof, attempts }) => {
                let login = Login {
                    user: user.clone(),
                    database: None,
                    replication: Replication::None,
                    carried: Carried::default(),
                };
                let (limits, renewal, conversation) = (self.limits, self.renewal, Conversation::None);
                let client = SshClient { transport, user, attempts, limits, renewal, conversation };
                Ok(Some(Accepted { peer: Peer::Ssh(proof), login, client }))
            }
            Err(SshFault::Protocol(text)) => {
                let Transport { mut incoming, mut outgoing, .. } = transport;
                let refusal = Refusal::new(RefusalCode::NotAuthenticated, text);
                // It was told, if it listens.
                let _ = client::say_goodbye(&mut incoming, &mut outgoing, &refusal, self.limits.close).await;
                Err(AcceptError::Refused(refusal))
            }
            Err(fault) => Err(AcceptError::Ssh(fault)),
        }
    }
}

/// SSH inside TLS: what both prove.
fn inside<C>(accepted: Accepted<C>, chain: Vec<CertificateDer<'static>>) -> Accepted<C> {
    let peer = match accepted.peer {
        Peer::Ssh(ssh) if !chain.is_empty() => Peer::SshInTls { chain, ssh },
        peer => peer,
    };
    Accepted { peer, ..accepted }
}
