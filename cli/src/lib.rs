//! What people type: `tsh` for users, `tctl` for administrators.
//!
//! Both binaries share the pieces below. The paved path of a command:
//!
//! 1. [`home::Home`] is the directory (`~/.tsh`) that outlives commands; [`profile::Login`] is one login read from it.
//! 2. [`connect`] turns that login into an API channel, verified against the authorities that were saved at first
//!    trust ([`trust`]).
//! 3. [`output`] prints a table, JSON or YAML; [`report`] turns the result into an exit status: 0, or 1 with one
//!    `ERROR: …` line on standard error.
//!
//! People are asked through [`terminal::Terminal`]: the controlling terminal, so that a pipe into `tsh db connect`
//! belongs to the client alone. Names and texts that come from elsewhere pass [`output::printable`] before they are shown.

mod armour;
pub mod client;
mod completion;
pub mod connect;
pub mod database;
mod environment;
pub mod files;
pub mod home;
pub mod interrupt;
mod labelled;
pub mod logging;
pub mod mfa;
pub mod output;
pub mod profile;
pub mod proxy_address;
pub mod recording;
mod recordings;
pub mod report;
pub mod session;
pub mod ssh;
pub mod tctl;
pub mod terminal;
pub mod times;
pub mod trust;
pub mod tsh;
mod ttl;
pub mod tunnel;

/// As `version` and `--version` of all our programs say it.
pub(crate) const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod testing;
