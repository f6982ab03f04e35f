//! What can be typed after `tsh scp`.

use std::ffi::OsString;

use clap::Args;

#[derive(Debug, Args)]
pub(in crate::tsh) struct Scp {
    /// Copy directories with all that is in them
    #[arg(short, long)]
    pub(super) recursive: bool,
    /// Keep times and modes
    #[arg(short, long)]
    pub(super) preserve: bool,
    /// Show no progress
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Port of the sidecar [default: the one that it says]
    #[arg(short = 'P', long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) port: Option<u16>,
    /// For those who are used to name a jump host: ignored, the sidecar of a node is reached directly
    #[arg(short = 'J', long, value_name = "HOST:PORT")]
    pub(super) jumphost: Option<String>,
    /// What to copy, and where to: a path here, or `[user@]host:path`
    #[arg(required = true, num_args = 2.., value_name = "PATH")]
    pub(super) paths: Vec<OsString>,
}
