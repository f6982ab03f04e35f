//! The sidecar on the real path: a real authd in this process, a real PostgreSQL, real clients.

mod command_line;
mod life;
mod sessions;
mod strangers;
mod support;
