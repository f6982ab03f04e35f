//! The crate's promises, through its public API: against scripted peers, and against a real PostgreSQL where
//! one is installed.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests arrange, act and assert; helpers outside of test functions may panic as freely"
)]

mod attribution;
mod binding;
mod cancel;
mod dial;
mod front;
mod mysql;
mod real;
mod replication;
mod session;
mod settings;
mod ssh;
mod support;
