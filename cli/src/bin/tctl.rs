//! `tctl`: what administrators type.

use std::process::ExitCode;

use cli::{report, tctl};

fn main() -> ExitCode {
    // Nothing here relies on it, but no other provider may ever be picked.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match report::parse::<tctl::Tctl>() {
        Ok(tctl) => report::exit(tctl::run(tctl)),
        Err(code) => code,
    }
}
