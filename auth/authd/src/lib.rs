//! The auth service of Touchstone: the only code that can sign.
//!
//! # What it does
//! It keeps users, their devices and their roles; it makes certificates; it tells sidecars what they need to decide by
//! themselves; it keeps the audit trail. It never sees a session: those run between a client and a sidecar.
//!
//! # Who calls, and what for
//! ```text
//! nobody   ── Public ──►   an invitation is accepted; password + second factor → login certificates (12 h)
//! user     ── Users ───►   "for this session" → challenge bound to it → touch → session certificate (1 min)
//! sidecar  ── Sidecars ►   join token → certificate (24 h); watch; announce; upstream certificates; audit
//! root     ── Admin ───►   users, roles, locks, tokens (or a user whose roles carry `rules`)
//! ```
//! Who calls is derived from the TLS client certificate alone, once a connection (`api::caller`), and asked for in the
//! first line of every call.
//!
//! # Where to read
//! - `issue` decides what a certificate may say: the one place. [`ca`] only writes and signs.
//! - `challenge` and `mfa` judge answers; `login`, `passwordless`, `issue::session` and `admin::change` spend them.
//! - `admin::change` is the one gate of what administrators change: its value is what every such function wants to see.
//! - [`store`] is what makes "once" true: a challenge, an invitation, a code, a counter are used up by commits that name
//!   the revision they were read at, so that of two racers one loses.
//! - `watch` and `audit` are the two streams: policy out to sidecars, events in from them.
//! - [`server`] is the process around it, [`config`] what it is told.

mod access;
mod admin;
mod api;
mod audit;
mod browser_mfa;
pub mod ca;
mod challenge;
mod cluster;
pub mod config;
mod data_dir;
mod ended;
mod error;
mod invite;
mod issue;
mod join;
mod keys;
mod login;
mod memo;
mod mfa;
mod on_record;
mod otp;
mod password;
mod passwordless;
mod recordings;
mod recovery;
mod registration;
mod room;
mod rotation;
mod secret;
pub mod server;
pub mod store;
mod targets;
mod tls;
mod under_way;
mod users;
mod watch;
mod web;

/// The version that `Ping` and `authd version` tell.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
