//! PostgreSQL's frontend/backend protocol, versions 3.0 and 3.2 (PostgreSQL documentation, "Frontend/Backend
//! Protocol").
//!
//! A session, as its messages go:
//!
//! ```text
//! client                     sidecar                        upstream
//!   │ SSLRequest ───────────▶ │                               │
//!   │ ◀─────────────────── S  │                               │
//!   │ ═══ TLS, certificate ══▶│                               │
//!   │ StartupMessage ───────▶ │    accept() returns here      │
//!   │                         │ SSLRequest ─────────────────▶ │
//!   │                         │ ◀───────────────────────── S  │
//!   │                         │ ══ TLS, own certificate ════▶ │
//!   │                         │ StartupMessage ─────────────▶ │
//!   │                         │ ◀─ AuthenticationOk … Ready   │    dial() returns here
//!   │ ◀─ AuthenticationOk …   │    relay() starts             │
//!   │ Query ────────────────▶ tap ─────────────────────────▶  │
//!   │ ◀──────────────────────────────────────── RowData …     │
//! ```
//! Only BackendKeyData differs: the client gets a cancel key of ours (module `cancel`).

mod auth;
mod cancel;
mod client;
mod error_response;
mod front;
mod messages;
mod settings;
mod startup;
mod upstream;
mod wire;

pub use client::PostgresClient;
pub use messages::Messages;
pub use upstream::PostgresUpstream;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::endpoint::prepare;
use crate::owner::same_key;
use crate::reader::Reader;
use crate::relay::{self, Stream};
use crate::{AcceptError, Accepted, DialError, Endpoint, Limits, Login, Peer, Protocol};

use cancel::{Found, Registry};
use front::{ClientStream, Door, Front};

/// ALPN of direct TLS (`sslnegotiation=direct`) and of libpq 17 and newer behind SSLRequest.
pub const ALPN: &[u8] = b"postgresql";
/// ALPN of tsh's tunnel: TLS first, inside it PostgreSQL that believes to be without.
pub const TUNNEL_ALPN: &[u8] = b"touchstone-postgres";

/// The PostgreSQL front of one target, and the cancel keys of its live sessions.
///
/// A CancelRequest comes on a connection of its own: every listener of a target must use the same `Postgres`.
pub struct Postgres {
    tls: TlsAcceptor,
    limits: Limits,
    registry: Arc<Registry>,
    may_cancel: Arc<MayCancel>,
}

/// Whether who presents the first certificate in a CancelRequest may cancel a session of who presented the
/// second. Both have signed a TLS handshake, and nothing else is known of the first: its chain is as anybody
/// may make it. Neither is empty.
pub type MayCancel = dyn Fn(&Peer, &Peer) -> bool + Send + Sync;

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Postgres {
    /// `tls` offers [`ALPN`] and [`TUNNEL_ALPN`], asks for a client certificate, and has resumption switched
    /// off.
    #[must_use]
    pub fn new(tls: Arc<ServerConfig>, limits: Limits) -> Self {
        let registry = Registry::new(limits.cancellable_sessions);
        Self { tls: TlsAcceptor::from(tls), limits, registry, may_cancel: Arc::new(same_key) }
    }

    /// Judges CancelRequests that come with a certificate; without this, only the very key of the session's
    /// own certificate may cancel it. A CancelRequest without a certificate is not judged: libpq up to 16
    /// sends them so, and without TLS, and the cancel key is all there is to go by (module `cancel`).
    #[must_use]
    pub fn with_may_cancel(
        mut self,
        may_cancel: impl Fn(&Peer, &Peer) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.may_cancel = Arc::new(may_cancel);
        self
    }

    /// [`Protocol::accept`] on any stream. `from` is the client's address, by which wrong cancel keys are
    /// counted; a stream without one is one of our own process.
    ///
    /// # Errors
    /// As [`Protocol::accept`].
    pub async fn accept_stream<S: Stream>(
        &self,
        stream: S,
        from: Option<IpAddr>,
    ) -> Result<Option<Accepted<PostgresClient<S>>>, AcceptError> {
        let deadline = self.limits.handshake;
        let knock = timeout(deadline, front::knock(stream, &self.tls, &self.limits)).await;
        match knock.map_err(|_| AcceptError::Deadline(deadline))?? {
            Front::Login(stream, startup) => {
                let peer = peer(&stream);
                let client = PostgresClient {
                    stream,
                    version: startup.version,
                    registry: Arc::clone(&self.registry),
                    limits: self.limits,
                    span: tracing::Span::current(),
                };
                Ok(Some(Accepted { peer, login: startup.login, client }))
            }
            Front::Cancel(key, door) => {
                self.cancel(&key, door, from).await;
                Ok(None)
            }
            Front::Nothing => Ok(None),
        }
    }

    /// Whether the certificate that came with a CancelRequest, if one did, may cancel this one's session.
    fn is_allowed<S>(&self, door: &Door<S>, owner: &Peer) -> bool {
        let canceller = match door {
            Door::Tls(stream) => peer(stream),
            Door::Plain(_) => Peer::default(),
        };
        canceller.is_none() || (!owner.is_none() && (self.may_cancel)(&canceller, owner))
    }

    /// Carries a CancelRequest to where its session is, and closes when that is done: clients take the close
    /// for "done". Whether the key was good is not told (PostgreSQL documentation, "Canceling Requests in
    /// Progress").
    async fn cancel<S: Stream>(&self, process_and_key: &[u8], door: Door<S>, from: Option<IpAddr>) {
        let mut reader = Reader::new(process_and_key);
        if let Ok(process) = reader.u32() {
            match self.registry.find(process, reader.rest(), from, Instant::now()) {
                Found::Route(_, owner) if !self.is_allowed(&door, &owner) => {
                    self.registry.reject(from, Instant::now());
                    tracing::warn!("a cancel request with the key of somebody else's session");
                }
                Found::Route(route, _) => {
                    if let Err(error) = upstream::cancel(&route, self.limits.dial).await {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "a cancel did not reach its upstream"
                        );
                    }
                }
                Found::Unknown => tracing::debug!("a cancel request with a key of no live session"),
                Found::TooMany => {
                    tracing::warn!("a session is cancelled, or cancel keys are guessed, too often")
                }
            }
        }
        let close = self.limits.close;
        // There is nobody left to tell.
        let _ = match door {
            Door::Plain(mut stream) => relay::close(&mut stream, b"", close, 0).await,
            Door::Tls(mut stream) => relay::close(&mut *stream, b"", close, 0).await,
        };
    }
}

/// The chain that the client presented in the handshake that its private key signed.
fn peer<S>(stream: &ClientStream<S>) -> Peer {
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    Peer::from_chain(chain.iter().map(|certificate| certificate.clone().into_owned()).collect())
}

impl Protocol for Postgres {
    const NAME: &'static str = "postgres";
    type Client = PostgresClient;
    type Upstream = PostgresUpstream;

    async fn accept(&self, socket: TcpStream) -> Result<Option<Accepted<PostgresClient>>, AcceptError> {
        prepare(&socket).map_err(AcceptError::Client)?;
        let from = socket.peer_addr().map_err(AcceptError::Client)?.ip();
        self.accept_stream(socket, Some(from)).await
    }

    fn parameters(login: &Login) -> Vec<(Vec<u8>, Vec<u8>)> {
        let set = startup::parameters(login).into_iter();
        set.map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
    }

    async fn dial(&self, endpoint: &Endpoint, login: &Login) -> Result<PostgresUpstream, DialError> {
        upstream::dial(endpoint, login, self.limits.dial).await
    }
}

/// A packet as a client may begin with: what is understood is encoded so that it is understood the same.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz_startup(bytes: &[u8]) {
    let Some((first, content)) = bytes.split_first_chunk() else { return };
    let startup::Opening::Startup { minor, .. } = startup::Opening::decide(*first) else { return };
    let Ok(parsed) = startup::parse(minor, content) else { return };
    let Some(packet) = startup::encode(&parsed.login, &[]) else { return };
    let Some((_, content)) = packet.split_first_chunk::<8>() else { return };
    let again = startup::parse(minor, content).map(|again| again.login);
    assert!(again.is_ok_and(|again| again == parsed.login), "the upstream reads something else");
}

/// What an upstream may say before it is ready.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz_login_answers(bytes: &[u8]) {
    let _ = auth::fuzz(bytes);
    let _ = error_response::parse(bytes);
    let _ = error_response::sql_state_in(bytes);
}
