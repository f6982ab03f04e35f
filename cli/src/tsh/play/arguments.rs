//! What can be typed after `tsh play` and `tsh recordings`.

use clap::{Args, Subcommand, ValueEnum};

use crate::tsh::arguments::Listing;

#[derive(Debug, Args)]
pub(in crate::tsh) struct Play {
    /// ID of the session, as `tsh recordings ls` shows it, or a file (.cast)
    #[arg(value_name = "SESSION")]
    pub(super) session: String,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) format: PlayFormat,
    /// How fast to play: 2 is twice as fast
    #[arg(long, value_name = "N", default_value = "1", value_parser = speed)]
    pub(super) speed: f64,
    /// Do not wait where nothing happened
    #[arg(long)]
    pub(super) skip_idle_time: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    let text = text.strip_suffix('x').unwrap_or(text);
    text.parse()
        .ok()
        .filter(|speed| (0.1..=100.0).contains(speed))
        .ok_or_else(|| "a number from 0.1 to 100".to_owned())
}

/// The forms of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum PlayFormat {
    /// On this terminal, as it was.
    #[default]
    Pty,
    /// The text alone.
    Text,
    /// One event a line.
    Json,
}

#[derive(Debug, Subcommand)]
pub(in crate::tsh) enum Recordings {
    /// List recorded sessions
    Ls(ListRecordings),
}

#[derive(Debug, Args)]
pub(in crate::tsh) struct ListRecordings {
    /// Only sessions from this day or time on [default: 24 hours ago]
    #[arg(long, value_name = "TIME")]
    pub(super) from_utc: Option<String>,
    /// Only sessions until this day or time
    #[arg(long, value_name = "TIME")]
    pub(super) to_utc: Option<String>,
    /// At most this many, the newest
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) limit: u32,
    #[command(flatten)]
    pub(super) listing: Listing,
}
