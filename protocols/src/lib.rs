//! How it is said: the wire formats and relays of Touchstone.
//!
//! This crate stands between a *client* (psql, a driver, ssh) and an *upstream* (the real database or sshd),
//! speaks the protocol of both, and knows neither policy nor users nor files. Who may do what is decided
//! elsewhere; here is what a proxy of a wire protocol must keep so that such a decision means something, and so
//! that no client can tell the difference.
//!
//! # What must be kept
//!
//! **One login, in the order of its proofs.** A client proves who it is by a TLS client certificate, says
//! what it wants to be (user, database), and is then *told nothing* until somebody decided and the upstream
//! answered. So a connection goes through three doors: [`Protocol::accept`] ends with a [`Login`] and a
//! silent client, [`Protocol::dial`] ends with an upstream that is logged in, and only [`Client::relay`],
//! which takes both, says "you are logged in". The only other way out is [`Client::refuse`].
//!
//! **No byte counts before it is protected.** PostgreSQL and MySQL start in plaintext and switch to TLS.
//! Bytes that a man in the middle puts between the two must never be read as if they came through TLS
//! (CVE-2021-23214, CVE-2021-3935). Towards the upstream there is no way back: one that offers no TLS is an
//! error, not a reason to go on without.
//!
//! **What is decided is what is done.** If the two sides could read the same bytes differently, a policy
//! decides about one session and the upstream opens another. Names that PostgreSQL would cut, parameters that
//! come twice, texts that are no UTF-8 are refused; what the tap is shown is decoded from the very bytes that
//! are forwarded, and a message that the upstream would not accept is not forwarded.
//!
//! **Bytes stay what they are.** A message is forwarded as received and never encoded again: `decode`
//! followed by `encode` loses encodings, order and everything that a library does not know. The upstream's
//! bytes are followed by their headers alone: to know where a message ends, because only there can a client
//! be told why its session ends, and how a statement came out.
//!
//! **Nobody waits for somebody else's peer.** Every length is checked before memory is taken, every wait
//! before and after a session has a deadline ([`Limits`]), and the two directions of a session do not wait
//! for each other: a client that sends on while a large result comes in would otherwise hold the upstream,
//! which holds the client.
//!
//! **A key of one's own.** What lets a client cancel a query is worth as much as a password for that purpose;
//! clients get keys of the sidecar, never the upstream's (module [`postgres`]).
//!
//! # A whole proxy
//!
//! Everything but the decision, which is the caller's whole business:
//!
//! ```no_run
//! use std::sync::Arc;
//! use protocols::postgres::Postgres;
//! use protocols::{Client, Endpoint, Event, Limits, Protocol, Refusal, RefusalCode, Tap, TapClosed, Verdict};
//!
//! /// Shows queries on the terminal.
//! struct Terminal;
//!
//! impl Tap for Terminal {
//!     async fn observe(&mut self, event: Event<'_>) -> Result<Verdict, TapClosed> {
//!         if let Event::Query { text, .. } = event {
//!             println!("{}", text.escape_ascii());
//!         }
//!         Ok(Verdict::Forward)
//!     }
//! }
//!
//! async fn serve(
//!     listener: tokio::net::TcpListener,
//!     tls: Arc<rustls::ServerConfig>,
//!     upstream: Endpoint,
//! ) -> Result<(), Box<dyn std::error::Error>> {
//!     let postgres = Postgres::new(tls, Limits::default());
//!     loop {
//!         let (socket, _) = listener.accept().await?;
//!         let Some(accepted) = postgres.accept(socket).await? else { continue };
//!         if accepted.peer.is_none() {
//!             let refusal = Refusal::new(RefusalCode::NotAuthenticated, "a client certificate is required")
//!                 .with_hint("run: tsh db connect prod");
//!             accepted.client.refuse(refusal).await?;
//!             continue;
//!         }
//!         let session = postgres.dial(&upstream, &accepted.login).await?;
//!         let permit_ends = std::future::pending();
//!         let transferred = accepted.client.relay(session, Terminal, permit_ends).await?;
//!         println!("{} bytes from the client", transferred.from_client);
//!     }
//! }
//! ```
//! (A real one serves each connection in a task of its own, and tells the client of a failed `dial`.)
//!
//! # Where to start reading
//!
//! | file | idea |
//! |---|---|
//! | `postgres.rs` | a PostgreSQL session, as its messages go |
//! | `postgres/front.rs`, `startup.rs` | what a client may say before it is known |
//! | `postgres/upstream.rs`, `auth.rs` | what we prove, and what we refuse to tell |
//! | `frame.rs`, `relay.rs` (HOT) | cutting streams into messages; the two pumps |
//! | `postgres/messages.rs` (HOT) | what the tap sees |
//! | `postgres/cancel.rs` | cancel keys |
//! | `postgres/settings.rs` | what holds in a session whatever the client asked for |
//! | `ledger.rs` | which statement an answer belongs to |
//! | `ssh.rs` | SSH, which has a relay of its own: its messages belong to channels, and are protected |
//!
//! A further protocol brings its own `accept`, `dial` and [`frame::Framing`]; relay, refusals, TLS and
//! endpoints are shared.

mod answer;
mod endpoint;
mod error;
mod event;
pub mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod ledger;
pub mod mysql;
mod owner;
mod peer;
pub mod postgres;
mod reader;
mod refusal;
pub mod relay;
mod secret;
pub mod ssh;
mod starttls;
mod text;

pub use answer::{Answer, Answers, CAPTURED, Transaction};
pub use endpoint::{Allowed, Credential, Endpoint, Setting, SshTerms, UpstreamAddress, UpstreamTls};
pub use error::{AcceptError, DialError, RelayError, RelayFault, UpstreamReport};
pub use event::mysql::{FileFate, KillFate, Value, Values};
pub use event::ssh::{
    ChannelKind, Exit, Listener, SftpAttributes, SftpEvent, SftpOperation, SftpOutcome, SshAction, SshEvent,
    TcpForward, TerminalSize,
};
pub use event::{Event, Malformed, MysqlEvent, Parameter, Parameters, PreparedKind, Verdict};
pub use ledger::Ledger;
pub use peer::{Peer, Prompt, Reply, SshProof};
pub use refusal::{Refusal, RefusalCode, SqlState};
pub use secret::Secret;

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

/// One wire protocol: how its clients knock, and how its upstreams are asked.
pub trait Protocol: Send + Sync + 'static {
    /// The protocol's name in configuration, metrics and audit: `postgres`.
    const NAME: &'static str;
    /// A client that has said who it wants to be, and has been told nothing yet.
    type Client: Client<Upstream = Self::Upstream>;
    /// A connection to the upstream that is logged in.
    type Upstream: Send;

    /// Everything up to, not including, "you are logged in". `None`: served in full (health probe,
    /// CancelRequest).
    ///
    /// # Errors
    /// The client broke the protocol, or its deadline; it was told so where the protocol has words for it.
    fn accept(
        &self,
        socket: TcpStream,
    ) -> impl Future<Output = Result<Option<Accepted<Self::Client>>, AcceptError>> + Send;

    /// What a client of this protocol sets in the session that it asks for, by names and values as it sent them, in
    /// order: a later one of the same name may take the place of an earlier one. It decides how what is run is
    /// read (`client_encoding`, `search_path`, `options`; MySQL's `collation`), so who records that records this.
    #[must_use]
    fn parameters(login: &Login) -> Vec<(Vec<u8>, Vec<u8>)> {
        let _ = login;
        Vec::new()
    }

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
    /// What it has proved.
    pub peer: Peer,
    /// What it asks to be at the target.
    pub login: Login,
    /// The connection, waiting for one of [`Client::refuse`] and [`Client::relay`].
    pub client: C,
}

/// A client that waits for an answer. Both answers consume it.
pub trait Client: Send + Sized {
    /// What [`Protocol::dial`] makes.
    type Upstream;

    /// Asks the client a question, before it is told whether it is logged in. It may be asked again.
    ///
    /// # Cancel safety
    /// Where it is dropped while it waits, the client can only be refused.
    fn ask(&mut self, prompt: &Prompt) -> impl Future<Output = Reply> + Send {
        let _ = prompt;
        std::future::ready(Reply::Unable)
    }

    /// Turns the client away in its protocol's own words, and closes so that it can read them.
    ///
    /// # Errors
    /// The client went away before it was told.
    fn refuse(self, refusal: Refusal) -> impl Future<Output = io::Result<()>> + Send;

    /// Says "you are logged in", then carries the session until either side, the tap or `ended` ends it.
    ///
    /// # Errors
    /// A side failed or broke the protocol, or the tap closed. [`RelayError::transferred`] still counts the
    /// bytes.
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
    /// # Cancel safety
    /// Must be cancel safe: it is dropped where it waits when the session ends meanwhile. The event is not
    /// forwarded then.
    ///
    /// # Errors
    /// [`TapClosed`] when nothing can be recorded any more: the session ends.
    fn observe(&mut self, event: Event<'_>) -> impl Future<Output = Result<Verdict, TapClosed>> + Send;

    /// Bytes came from the client, and no event with them: more of a message that was shown already, the beginning of one
    /// that will be, or what is forwarded unseen. HOT: for a long message, once for each read.
    fn heard(&mut self) {}

    /// Who hears what the upstream answers; asked once, when the session starts. Nobody, unless a tap says
    /// otherwise.
    fn answers(&mut self) -> Option<Box<dyn Answers>> {
        None
    }
}

/// The tap can record nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tap is closed")]
pub struct TapClosed;

/// What the client asks to be at the target, in the protocol's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The database user or SSH login: 1 or more bytes of UTF-8.
    pub user: String,
    /// The database. For PostgreSQL it defaults to the user, and is `None` in [`Replication::Physical`] alone:
    /// the upstream opens no database then, whatever the client named.
    pub database: Option<String>,
    /// Whether it asks to copy the upstream rather than to query it. Whoever decides about a login decides
    /// about this: a replication connection reads every table, whatever the rights on it.
    pub replication: Replication,
    /// Whatever else the protocol carries from its client to its upstream, unchanged.
    pub carried: Carried,
}

/// Whether a login asks for a replication connection (PostgreSQL documentation, "Streaming Replication
/// Protocol").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Replication {
    /// An ordinary session.
    #[default]
    None,
    /// The whole cluster's write-ahead log and files (`replication=true`: pg_receivewal, pg_basebackup, a
    /// standby). There is no database, and no SQL but SHOW.
    Physical,
    /// The changes of one database (`replication=database`: pg_recvlogical, a subscription); SQL works too.
    Logical,
}

/// Opaque bytes that one protocol's `accept` hands to its own `dial`: for PostgreSQL, the start-up parameters
/// in order.
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
