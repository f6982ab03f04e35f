//! The crate's promises, through its public API: against scripted peers, and against a real PostgreSQL where one is installed.

mod cancel;
mod dial;
mod front;
mod real;
mod session;
mod support;
