//! The log of a command: on standard error, quiet unless asked.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts the log: warnings; everything with `debug`; or what `TOUCHSTONE_LOG` says.
pub fn start(debug: bool) {
    let default = if debug { "debug" } else { "warn" };
    let filter = EnvFilter::try_from_env("TOUCHSTONE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    // A second start (in tests) keeps the first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        // A reader that is gone: said on the same standard error, it would be a panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .try_init();
}
