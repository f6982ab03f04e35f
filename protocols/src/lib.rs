//! How it is said: the wire formats and relays of Touchstone.

mod endpoint;
mod error;
mod event;
pub mod frame;
pub mod postgres;
mod reader;
mod refusal;
pub mod relay;
mod secret;
mod starttls;

pub use endpoint::{Credential, Endpoint, UpstreamAddress, UpstreamTls};
pub use error::{AcceptError, DialError, RelayError, RelayFault, UpstreamReport};
pub use event::{Event, Malformed, Parameter, Parameters, PreparedKind, Verdict};
pub use refusal::{Refusal, RefusalCode, SqlState};
pub use secret::Secret;

use std::future::Future;
use std::io;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;

/// One wire protocol: how its clients knock, and how its upstreams are asked.
pub trait Protocol: Send + Sync + 'static {
    /// The protocol's name in configuration, metrics and audit: `postgres`.
    const NAME: &'static str;
    /// A client that has said who it wants to be, and has been told nothing yet.
    type Client: Client<Upstream = Self::Upstream>;
    /// A connection to the upstream that is logged in.
    type Upstream: Send;

    /// Everything up to, not including, "you are logged in". `None`: served in full (health probe, CancelRequest).
    ///
    /// # Errors
    /// The client broke the protocol, or its deadline; it was told so where the protocol has words for it.
    fn accept(
        &self,
        socket: TcpStream,
    ) -> impl Future<Output = Result<Option<Accepted<Self::Client>>, AcceptError>> + Send;

    /// Opens a connection to the upstream and logs in there, under a deadline of its own.
    ///
    /// # Errors
    /// The upstream cannot be reached, is not what it should be, or said no.
    fn dial(
        &self,
        endpoint: &Endpoint,
        login: &Login,
    ) -> impl Future<Output = Result<Self::Upstream, DialError>> + Send;
}

/// A client at the door: who it proves to be, and what it asks to be.
#[derive(Debug)]
pub struct Accepted<C> {
    /// Its certificate chain, leaf first; the private key has signed the TLS handshake.
    pub peer: PeerCertificate,
    /// What it asks to be at the target.
    pub login: Login,
    /// The connection, waiting for one of [`Client::refuse`] and [`Client::relay`].
    pub client: C,
}

/// A client that waits for an answer. Both answers consume it.
pub trait Client: Send + Sized {
    /// What [`Protocol::dial`] makes.
    type Upstream;

    /// Turns the client away in its protocol's own words, and closes so that it can read them.
    ///
    /// # Errors
    /// The client went away before it was told.
    fn refuse(self, refusal: Refusal) -> impl Future<Output = io::Result<()>> + Send;

    /// Says "you are logged in", then carries the session until either side, the tap or `ended` ends it.
    ///
    /// # Errors
    /// A side failed or broke the protocol, or the tap closed. [`RelayError::transferred`] still counts the bytes.
    fn relay(
        self,
        upstream: Self::Upstream,
        tap: impl Tap,
        ended: impl Future<Output = Refusal> + Send,
    ) -> impl Future<Output = Result<Transferred, RelayError>> + Send;
}

/// Where the relay lets audit look at client messages, before they are forwarded.
pub trait Tap: Send {
    /// Looks at one event. While it waits, the client waits; the upstream's answers flow on.
    ///
    /// # Errors
    /// [`TapClosed`] when nothing can be recorded any more: the session ends.
    fn observe(&mut self, event: Event<'_>) -> impl Future<Output = Result<Verdict, TapClosed>> + Send;
}

/// The tap can record nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tap is closed")]
pub struct TapClosed;

/// The certificate chain that a client presented, leaf first; empty when it presented none.
#[derive(Clone, Debug, Default)]
pub struct PeerCertificate(pub Vec<CertificateDer<'static>>);

/// What the client asks to be at the target, in the protocol's own words.
#[derive(Clone, Debug)]
pub struct Login {
    /// The database user or SSH login: 1 or more bytes of UTF-8.
    pub user: String,
    /// The database; for PostgreSQL always set (it defaults to the user).
    pub database: Option<String>,
    /// Whatever else the protocol carries from its client to its upstream, unchanged.
    pub carried: Carried,
}

/// Opaque bytes that one protocol's `accept` hands to its own `dial`: for PostgreSQL, the start-up parameters in order.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Carried(Vec<u8>);

impl std::fmt::Debug for Carried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Carried({} bytes)", self.0.len())
    }
}

/// What a session carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transferred {
    /// Bytes forwarded from the client to the upstream, after login.
    pub from_client: u64,
    /// Bytes forwarded from the upstream to the client, after login.
    pub from_upstream: u64,
    /// Why it ended, when [`Client::relay`] returned without an error.
    pub end: End,
}

/// How a session ended when nothing failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// The client said goodbye or closed.
    #[default]
    Client,
    /// The upstream closed.
    Upstream,
    /// We ended it, and told the client why.
    Refused(RefusalCode),
}

/// How long a peer may keep us waiting, and how much it may make us hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From accept to the whole login request, TLS included.
    pub handshake: Duration,
    /// From connect to "ready" at the upstream, TLS and authentication included.
    pub dial: Duration,
    /// For a last message to reach a peer, and for its goodbye.
    pub close: Duration,
    /// Sessions that can be cancelled at the same time; above it sessions work, but get no cancel key.
    pub cancellable_sessions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(15),
            dial: Duration::from_secs(15),
            close: Duration::from_secs(5),
            cancellable_sessions: 65_536,
        }
    }
}
