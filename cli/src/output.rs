//! What a command prints: a table for people, JSON or YAML for programs.

use std::io::{self, Write};

use serde::Serialize;

mod table;

pub use table::Table;

/// The forms of a listing (`--format`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// Indented JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Why nothing was printed.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Standard output is gone.
    #[error("cannot write to standard output")]
    Write(#[source] io::Error),
    /// The value has no JSON form.
    #[error("cannot write this as JSON")]
    Json(#[source] serde_json::Error),
    /// The value has no YAML form.
    #[error("cannot write this as YAML")]
    Yaml(#[source] serde_saphyr::ser::Error),
}

/// Prints `value` as the format asks; `text` is called for people only and ends without a line break.
///
/// # Errors
/// [`OutputError`] where the value cannot be written.
pub fn print<T: Serialize + ?Sized>(
    format: Format,
    value: &T,
    text: impl FnOnce() -> String,
) -> Result<(), OutputError> {
    match format {
        Format::Text => print_text(&text()),
        Format::Json => print_text(&serde_json::to_string_pretty(value).map_err(OutputError::Json)?),
        Format::Yaml => print_text(serde_saphyr::to_string(&value).map_err(OutputError::Yaml)?.trim_end()),
    }
}

/// Prints one text and a line break on standard output. Unlike `println!` it does not panic when the reader has gone.
///
/// # Errors
/// [`OutputError::Write`].
pub fn print_text(text: &str) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(OutputError::Write)
}

/// `text` with every control character replaced, so that a name or a message from elsewhere cannot drive the terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_from_elsewhere_do_not_reach_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\r\nc"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c");
    }

    #[test]
    fn ordinary_text_of_every_script_is_kept() {
        assert_eq!(printable("Olga 用户 ü"), "Olga 用户 ü");
    }
}
