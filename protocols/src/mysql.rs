//! MySQL's client/server protocol, version 10, as MySQL 5.7 to 9 and MariaDB speak it (MySQL "Client/Server
//! Protocol"; MariaDB "Client/Server Protocol").
//!
//! A session, as its packets go:
//!
//! ```text
//! client                     sidecar                        upstream
//!   │ ◀─── greeting (ours) ── │                               │
//!   │ SSLRequest ───────────▶ │                               │
//!   │ ═══ TLS, certificate ══▶│                               │
//!   │ HandshakeResponse ────▶ │    accept() returns here      │
//!   │                         │ ◀─────────────── greeting ──  │
//!   │                         │ SSLRequest ─────────────────▶ │
//!   │                         │ ══ TLS, own certificate ════▶ │
//!   │                         │ HandshakeResponse ──────────▶ │
//!   │                         │ ◀───────────── … auth … OK ─  │    dial() returns here
//!   │ ◀────────── OK (its) ── │    relay() starts             │
//!   │ COM_QUERY ────────────▶ tap ─────────────────────────▶  │
//!   │ ◀──────────────────────────────────────── rows … OK     │
//! ```
//!
//! **The tunnel of tsh** ([`TUNNEL_ALPN`]). In MySQL the server speaks first, so a listener cannot wait for a
//! ClientHello without keeping every native client waiting. The tunnel therefore begins as any client does:
//!
//! ```text
//! tsh                        sidecar
//!   │ ◀─── greeting, plaintext, to be read and thrown away (or an ERR packet, to be shown)
//!   │ SSLRequest ───────────▶ │     4 + 32 bytes, sequence 1: flags PROTOCOL_41 | SSL | SECURE_CONNECTION
//!   │ ═══ TLS, ALPN `touchstone-mysql`, certificate ══▶
//!   │ ◀─── a fresh greeting, sequence 0, without SSL ──│     from here on tsh carries bytes, both ways
//!   │ HandshakeResponse of tsh's own client, sequence 1 ▶
//! ```
//! What follows TLS is a whole connection of its own, so tsh never rewrites a packet.
//!
//! **The greeting** is the upstream's own: version, charset, flags (module `greeting`). Ours are the connection
//! id, from 2^31 up, so that it is never mistaken for one of the upstream's, and the scramble.
//!
//! **The client's password** is not looked at: the certificate is the proof. A client gets OK whatever it
//! answered (module `proof`), and only once the upstream said OK.
//!
//! | file | idea |
//! |---|---|
//! | `front.rs`, `proof.rs` | what a client may say before it is known, and what it is asked |
//! | `handshake.rs`, `login.rs` | the handshake response, read as the upstream reads it |
//! | `greeting.rs`, `probe.rs` | what the upstream is, and how that is found out |
//! | `capabilities.rs` | which flags both legs share |
//! | `upstream.rs`, `auth.rs`, `settings.rs` | what we prove, what we refuse to tell, what holds in a session |
//! | `inspector.rs`, `commands.rs`, `statements.rs` | commands, cut out of the client's bytes, and what becomes of each |
//! | `follower.rs`, `responses.rs` | where an answer ends in the upstream's bytes, and how it came out |
//! | `desk.rs` | what the two know together: which commands wait for an answer |
//! | `compression.rs` | a client's leg that is compressed, unpacked in front of all that |
//! | `kill.rs`, `local_infile.rs` | the two statements that reach beyond their own session |

mod auth;
mod capabilities;
mod client;
mod commands;
mod compression;
mod connection_id;
mod desk;
mod error_packet;
mod follower;
mod framing;
mod front;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod greeting;
mod handshake;
mod inspector;
mod kill;
mod local_infile;
mod login;
mod packet;
mod probe;
mod proof;
mod responses;
mod settings;
mod statements;
mod upstream;

pub use capabilities::Capabilities;
pub use client::MysqlClient;
pub use greeting::{Greeting, UpstreamFacts};
pub use upstream::MysqlUpstream;

use std::sync::Arc;

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::endpoint::prepare;
use crate::owner::same_key;
use crate::relay::Stream;
use crate::{AcceptError, Accepted, DialError, Endpoint, Limits, Login, Peer, Protocol};

use connection_id::ConnectionIds;
use front::ClientStream;

/// ALPN of tsh's tunnel: behind it, a MySQL connection that believes to be without TLS.
pub const TUNNEL_ALPN: &[u8] = b"touchstone-mysql";

/// Whether who presents the first certificate may kill a session of who presented the second, by our connection
/// id. Both have signed a TLS handshake and have a session that policy allowed.
pub type MayKill = dyn Fn(&Peer, &Peer) -> bool + Send + Sync;

/// The MySQL front of one target, its greeting, and the connection ids of its live sessions.
///
/// A KILL comes on a connection of its own: every listener of a target must use the same `Mysql`.
pub struct Mysql {
    tls: TlsAcceptor,
    greeting: Greeting,
    limits: Limits,
    ids: Arc<ConnectionIds>,
}

impl std::fmt::Debug for Mysql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mysql").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Mysql {
    /// `tls` offers [`TUNNEL_ALPN`], asks for a client certificate, and has resumption switched off.
    #[must_use]
    pub fn new(tls: Arc<ServerConfig>, greeting: Greeting, limits: Limits) -> Self {
        Self { tls: TlsAcceptor::from(tls), greeting, limits, ids: ConnectionIds::new(Box::new(same_key)) }
    }

    /// Judges a KILL of one of our connection ids; without this, only the very key of a session's own certificate
    /// may kill it. To be called before the first client comes.
    #[must_use]
    pub fn with_may_kill(mut self, may_kill: impl Fn(&Peer, &Peer) -> bool + Send + Sync + 'static) -> Self {
        self.ids = ConnectionIds::new(Box::new(may_kill));
        self
    }

    /// What the upstream is known to be; clients are greeted with it.
    #[must_use]
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// Asks the upstream what it is, without logging in, and learns it. To be called before the first client
    /// comes, and every few minutes; sessions refresh it too.
    ///
    /// # Errors
    /// The upstream cannot be reached, or is none. What was known before stays known.
    pub async fn probe(&self, endpoint: &Endpoint) -> Result<Arc<UpstreamFacts>, DialError> {
        let facts = Arc::new(probe::probe(endpoint, self.limits.dial).await?);
        self.greeting.learn(Arc::clone(&facts));
        Ok(facts)
    }

    /// [`Protocol::accept`] on any stream.
    ///
    /// # Errors
    /// As [`Protocol::accept`].
    pub async fn accept_stream<S: Stream>(
        &self,
        stream: S,
    ) -> Result<Option<Accepted<MysqlClient<S>>>, AcceptError> {
        let deadline = self.limits.handshake;
        let knock = front::knock(stream, &self.tls, &self.greeting, &self.ids, &self.limits);
        timeout(deadline, knock).await.map_err(|_| AcceptError::Deadline(deadline))?
    }
}

/// The chain that the client presented in the handshake that its private key signed.
fn peer<S>(stream: &ClientStream<S>) -> Peer {
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    Peer::from_chain(chain.iter().map(|certificate| certificate.clone().into_owned()).collect())
}

impl Protocol for Mysql {
    const NAME: &'static str = "mysql";
    type Client = MysqlClient;
    type Upstream = MysqlUpstream;

    async fn accept(&self, socket: TcpStream) -> Result<Option<Accepted<MysqlClient>>, AcceptError> {
        prepare(&socket).map_err(AcceptError::Client)?;
        self.accept_stream(socket).await
    }

    fn parameters(login: &Login) -> Vec<(Vec<u8>, Vec<u8>)> {
        login::parameters(login)
    }

    async fn dial(&self, endpoint: &Endpoint, login: &Login) -> Result<MysqlUpstream, DialError> {
        upstream::dial(endpoint, login, &self.greeting, self.limits.dial).await
    }
}

/// A handshake response as a client may send it, whatever it was offered; and whatever becomes of its names.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz_response(bytes: &[u8]) {
    for flags in [u32::MAX, Capabilities::OURS.flags() | Capabilities::NEEDED.flags()] {
        handshake::fuzz(bytes, Capabilities::new(flags, flags));
    }
    login::fuzz(bytes);
}

/// Compressed packets, by either algorithm.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz_compressed(bytes: &[u8]) {
    let step = 1 + usize::from(bytes.first().copied().unwrap_or(0)) % 97;
    for algorithm in [compression::Algorithm::Zlib, compression::Algorithm::Zstd(3)] {
        let (whole, malformed) = compression::unpack_all(algorithm, bytes, bytes.len().max(1), 4_096);
        let (stepped, ended) = compression::unpack_all(algorithm, bytes, step, 1 + step);
        assert_eq!(ended.is_some(), malformed.is_some(), "{algorithm:?} ends otherwise in steps of {step}");
        // What is broken may show at once, or when what lies before has come out; and how much of a packet comes out before
        // the rest of it has come, is for the decoder to say.
        let same = if malformed.is_some() || compression::ends_inside(bytes) {
            stepped.starts_with(&whole) || whole.starts_with(&stepped)
        } else {
            stepped == whole
        };
        assert!(same, "{algorithm:?} unpacks something else in steps of {step}");
    }
}

/// What an upstream may say before it is ready.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz_login_answers(bytes: &[u8]) {
    greeting::fuzz(bytes);
    auth::fuzz(bytes);
    settings::fuzz(bytes);
    let _ = error_packet::parse(bytes);
}
