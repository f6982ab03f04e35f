//! The auth service of Touchstone: the only code that can sign.

mod access;
mod admin;
mod api;
mod audit;
pub mod ca;
mod challenge;
mod cluster;
pub mod config;
mod data_dir;
mod error;
mod invite;
mod issue;
mod join;
mod keys;
mod login;
mod mfa;
mod password;
mod secret;
pub mod server;
pub mod store;
mod targets;
mod tls;
mod users;
mod watch;
mod web;

/// The version that `Ping` and `authd version` tell.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
