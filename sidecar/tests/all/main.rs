//! The sidecar on the real path: a real authd in this process, a real PostgreSQL, real clients.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests arrange, act and assert; helpers outside of test functions may panic as freely"
)]

mod command_line;
mod container;
mod life;
mod sessions;
mod statements;
mod strangers;
mod support;
mod terms;
