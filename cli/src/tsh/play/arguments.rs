//! What can be typed after `tsh play` and `tsh recordings`.

use clap::{Args, Subcommand, ValueEnum};

use crate::recordings::ListRecordings;

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
    /// One event a document.
    Yaml,
}

#[derive(Debug, Subcommand)]
pub(in crate::tsh) enum Recordings {
    /// List recorded sessions
    Ls(ListRecordings),
}
