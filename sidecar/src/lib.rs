//! In which order: one process beside a database, one security sequence, one audit trail.
//!
//! # A connection's life
//!
//! ```text
//! accept → authorize → [ask] → audit start → dial upstream → say "logged in" → relay → audit end
//! ```
//!
//! It is written once, in `session`, for every protocol. `protocols` supplies the words (how PostgreSQL asks, refuses,
//! relays), `auth` the decision (a [`Permit`](auth::permit::Permit), which only its authorizer makes). What this crate adds is
//! the order: no upstream is dialled without a permit and a start event on disk; the client hears "logged in" only after the
//! upstream answered; every way out leads through the audit trail.
//!
//! # Where to read
//!
//! | module | idea |
//! |---|---|
//! | `session` | the security sequence: start here |
//! | `refusal` | what a client may read when it is turned away: one exhaustive match |
//! | `listener`, `admission` | accepting; a silent client costs only its own connection |
//! | `workers` | the threads that relay, one for each processor |
//! | `seats` | how many sessions each user has here |
//! | `probe` | what MySQL clients are greeted with: the upstream's own version |
//! | `upstream` | what we prove to the upstream, and how it proves itself |
//! | `audit` | start, statements and end, on disk before they happen; how statements came out; shipped to authd for ever |
//! | `tls` | a handshake that proves a key and judges nothing |
//! | `join`, `link`, `announce` | who this sidecar is, its way to authd, what it says there |
//! | [`config`], `metrics`, `health` | what it is told, what it counts, whether it could start a session |
//! | `process` | what is started in which order, and stopped in which order |
//!
//! # What roles say about a session
//!
//! | option of a role | here |
//! |---|---|
//! | `db_session_settings` | applied to the upstream's session before "logged in", and what RESET returns to; what the upstream does not take is a refusal. A client that may SET can change them: that is a statement, and on record |
//! | `db_replication` | without it a replication start-up is refused. Physical replication asks policy for the database `replication` besides, as `pg_hba.conf` has it |
//! | `client_idle_timeout` | ends a session (57P05) that was idle for so long; never while a statement runs or its result flows. An open transaction is no work, and notifications that come in are none |
//! | `max_connections` | sessions of a user at this sidecar, all its targets together. Counted per sidecar: a user has as many at each |
//! | `disconnect_expired_cert` | ends a session (57P01) when the login behind it expires |
//!
//! A cancel needs the key that the session was given. One that comes with a certificate needs the session's own key or a
//! certificate of its user besides; one in plaintext (libpq up to 16) has nothing but the key to show.
//!
//! # When authd is away
//!
//! New sessions are decided from the replica, with upstream certificates that are in the cache, and audit waits on disk. What
//! needs authd fails closed: a first session of a database user that has no cached certificate, a restart without a stored
//! identity, and everything once locks are strict and five minutes old.

mod admission;
mod announce;
mod audit;
mod backoff;
mod chain;
pub mod config;
mod health;
mod join;
mod link;
mod listener;
mod metrics;
mod probe;
mod process;
mod recording;
mod refusal;
mod seats;
mod session;
#[cfg(test)]
mod testing;
mod tls;
mod upstream;
mod woken;
mod workers;

pub use self::{
    admission::Room,
    join::{IdentityError, JoinError},
    process::{LONGEST_GOODBYE, Sidecar, StartError},
    upstream::UpstreamError,
};
