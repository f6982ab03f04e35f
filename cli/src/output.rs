//! What a command prints: a table for people, JSON or YAML for programs.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use auth::text::may_stand;
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
        Format::Json => print_text(&json(value)?),
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

/// Indented JSON that no terminal takes for commands.
///
/// # Errors
/// [`OutputError::Json`].
pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, OutputError> {
    serde_json::to_string_pretty(value).map(|json| escaped_json(&json)).map_err(OutputError::Json)
}

/// The same JSON with what can drive a terminal escaped. JSON itself escapes only what lies below the blank, and
/// nothing else outside strings can match.
#[must_use]
pub fn escaped_json(json: &str) -> String {
    let escaped = |c: char| match c {
        '\n' | '\r' | '\t' => c.to_string(),
        c if drives_terminals(c) => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    json.chars().map(escaped).collect()
}

/// `text` with every character replaced that could drive the terminal or make text read as another, so that a name or a
/// message from elsewhere is shown as what it is.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if drives_terminals(c) { '\u{fffd}' } else { c }).collect()
}

/// [`printable`] for texts of several lines.
#[must_use]
pub fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// `arch=arm,env=prod`, by name.
#[must_use]
pub fn labels(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

fn drives_terminals(c: char) -> bool {
    !may_stand(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_from_elsewhere_do_not_reach_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\r\nc"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c");
    }

    #[test]
    fn text_from_elsewhere_cannot_be_turned_around() {
        assert_eq!(printable("a\u{202e}b\u{2066}c\u{9b}31m"), "a\u{fffd}b\u{fffd}c\u{fffd}31m");
    }

    #[test]
    fn several_lines_stay_several_lines() {
        assert_eq!(printable_lines("a\x1b\nb\r"), "a\u{fffd}\nb\u{fffd}");
    }

    #[test]
    fn json_means_the_same_and_cannot_drive_the_terminal() {
        let value = ["a\u{9b}31m\x1b[2J\u{7f}\u{202e}\n ü"];
        let text = json(&value).unwrap();
        assert!(!text.chars().any(|c| c != '\n' && drives_terminals(c)), "{text:?}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&text).unwrap(), value);
    }

    #[test]
    fn ordinary_text_of_every_script_is_kept() {
        assert_eq!(printable("Olga 用户 ü"), "Olga 用户 ü");
    }
}
