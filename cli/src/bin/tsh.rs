//! `tsh`: log in, prove who you are, open databases.

use std::{process::ExitCode, time::Duration};

use cli::{report, tsh};

fn main() -> ExitCode {
    // Libraries build their own configurations; this is for whatever asks for the process's default.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments = match report::parse::<tsh::Arguments>() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return report::exit(Err(error.into())),
    };
    let result = runtime.block_on(Box::pin(tsh::run(arguments)));
    // A thread may still wait for a key or a keystroke; nobody needs its answer any more.
    runtime.shutdown_timeout(Duration::ZERO);
    report::exit(result)
}
