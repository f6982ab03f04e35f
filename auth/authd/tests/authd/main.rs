//! authd as its callers meet it: the real server on a port of its own, the real client, real assertions of a software
//! security key, and a clock that the tests move.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests arrange, act and assert; they may panic freely"
)]

mod admin;
mod admin_touch;
mod assertions;
mod at_once;
mod attestation;
mod audit;
mod callers;
mod ended;
mod expiry;
mod key;
mod killed;
mod login;
mod mfa;
mod on_record;
mod passkeys;
mod recordings;
mod rotation;
mod second_factor;
mod server;
mod session;
mod sidecars;
mod ssh;
mod watch;
mod web;
mod world;
