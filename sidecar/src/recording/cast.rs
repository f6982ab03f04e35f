//! asciicast v2: a header, then one line for each thing that a terminal showed.
//!
//! ```text
//! {"version":2,"width":80,"height":24,"timestamp":1700000000,"title":"jerry@prod-web","env":{"TERM":"xterm"}}
//! [0.001204,"o","$ "]
//! [2.517,"r","132x43"]
//! ```
//!
//! What was typed is not in it: passwords would be. What is no UTF-8 becomes U+FFFD; a character that was cut in two by the
//! wire is put together again.

use std::time::{Duration, Instant};

use serde::Serialize;

/// Columns and lines, where the client does not say, or says nonsense.
const DEFAULT_SIZE: Size = Size { columns: 80, rows: 24 };
/// No screen is larger; a player takes memory for what is said here.
const MAX_SIDE: u32 = 4096;
/// A terminal's name, at most.
const MAX_TERM: usize = 64;

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Size {
    pub(crate) columns: u32,
    pub(crate) rows: u32,
}

impl Size {
    /// What a client says, made sensible.
    pub(crate) fn new(columns: u32, rows: u32) -> Self {
        let side = |said, default| match said {
            0 => default,
            said => u32::min(said, MAX_SIDE),
        };
        Self { columns: side(columns, DEFAULT_SIZE.columns), rows: side(rows, DEFAULT_SIZE.rows) }
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.columns, self.rows)
    }
}

#[derive(Serialize)]
struct Header<'a> {
    version: u8,
    width: u32,
    height: u32,
    timestamp: i64,
    title: &'a str,
    env: Environment<'a>,
}

#[derive(Serialize)]
struct Environment<'a> {
    #[serde(rename = "TERM")]
    term: &'a str,
}

/// The first line. `timestamp`: seconds since 1970.
pub(crate) fn header(size: Size, term: &str, title: &str, timestamp: i64) -> Vec<u8> {
    let term = term.get(..MAX_TERM).unwrap_or(term);
    let env = Environment { term };
    line(&Header { version: 2, width: size.columns, height: size.rows, timestamp, title, env })
}

/// Makes the lines behind the header.
#[derive(Debug)]
pub(crate) struct Cast {
    began: Instant,
    /// The beginning of a character whose rest has not come: at most three bytes.
    pending: Vec<u8>,
}

impl Cast {
    pub(crate) fn new(began: Instant) -> Self {
        Self { began, pending: Vec::new() }
    }

    /// What the terminal shows; empty where it is but the beginning of a character.
    pub(crate) fn output(&mut self, now: Instant, shown: &[u8]) -> Vec<u8> {
        self.pending.extend_from_slice(shown);
        let text = take_text(&mut self.pending);
        if text.is_empty() { Vec::new() } else { self.event(now, 'o', &text) }
    }

    /// The terminal has another size.
    pub(crate) fn resize(&self, now: Instant, size: Size) -> Vec<u8> {
        self.event(now, 'r', &size.to_string())
    }

    /// The rest, at the end.
    pub(crate) fn finish(&mut self, now: Instant) -> Vec<u8> {
        if self.pending.is_empty() {
            return Vec::new();
        }
        self.pending.clear();
        self.event(now, 'o', "\u{fffd}")
    }

    fn event(&self, now: Instant, kind: char, data: &str) -> Vec<u8> {
        line(&(Seconds(now.saturating_duration_since(self.began)), kind, data))
    }
}

/// To the microsecond.
struct Seconds(Duration);

impl Serialize for Seconds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Exact for a hundred years: a double holds 2^53 microseconds.
        serializer.serialize_f64(self.0.as_micros() as f64 / 1e6)
    }
}

/// What is serialised here always can be.
fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Takes the text out of `pending`; the beginning of a character stays until its rest arrives.
fn take_text(pending: &mut Vec<u8>) -> String {
    let mut text = String::with_capacity(pending.len());
    let mut rest = pending.as_slice();
    loop {
        match std::str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                rest = &[];
                break;
            }
            Err(error) => {
                let (valid, after) = rest.split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(valid));
                rest = after;
                let Some(wrong) = error.error_len() else { break };
                text.push('\u{fffd}');
                rest = rest.get(wrong..).unwrap_or_default();
            }
        }
    }
    *pending = rest.to_vec();
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parsed(line: &[u8]) -> Value {
        assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1, "one line");
        serde_json::from_slice(line).unwrap()
    }

    #[test]
    fn the_header_is_that_of_version_2() {
        let header = parsed(&header(Size::new(132, 43), "xterm-256color", "jerry@prod-web", 1_700_000_000));
        let expected = json!({
            "version": 2, "width": 132, "height": 43, "timestamp": 1_700_000_000,
            "title": "jerry@prod-web", "env": {"TERM": "xterm-256color"},
        });
        assert_eq!(header, expected);
    }

    #[test]
    fn sizes_that_make_no_sense_are_made_sensible() {
        assert_eq!(Size::new(0, 0), Size { columns: 80, rows: 24 });
        assert_eq!(Size::new(u32::MAX, 1), Size { columns: 4096, rows: 1 });
    }

    #[test]
    fn what_is_shown_stands_with_its_time_and_control_characters_are_escaped() {
        let began = Instant::now();
        let mut cast = Cast::new(began);
        let line = cast.output(began + Duration::from_micros(1_204), b"\x1b[1m$ \"\r\n");
        assert_eq!(parsed(&line), json!([0.001_204, "o", "\u{1b}[1m$ \"\r\n"]));
        let line = cast.resize(began + Duration::from_millis(2_500), Size::new(132, 43));
        assert_eq!(parsed(&line), json!([2.5, "r", "132x43"]));
    }

    #[test]
    fn a_character_cut_anywhere_is_put_together() {
        let text = "aü€😀z".as_bytes();
        for cut in 0..=text.len() {
            let now = Instant::now();
            let mut cast = Cast::new(now);
            let mut shown = String::new();
            for part in [&text[..cut], &text[cut..]] {
                let line = cast.output(now, part);
                if !line.is_empty() {
                    shown.push_str(parsed(&line)[2].as_str().unwrap());
                }
            }
            assert_eq!(shown.as_bytes(), text, "cut at {cut}");
            assert!(cast.finish(now).is_empty());
        }
    }

    #[test]
    fn what_is_no_text_is_marked_and_what_follows_is_kept() {
        let now = Instant::now();
        let mut cast = Cast::new(now);
        assert_eq!(parsed(&cast.output(now, b"a\xff\xfeb\xe2\x82"))[2], "a\u{fffd}\u{fffd}b");
        assert_eq!(parsed(&cast.finish(now))[2], "\u{fffd}", "half a character at the end");
    }
}
