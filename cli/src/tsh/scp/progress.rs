//! How far a file is: one line, as scp shows it.

use std::{
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use crate::output::printable;

/// How often the line is drawn anew.
const PERIOD: Duration = Duration::from_millis(200);
/// Room for the name.
const NAME: usize = 40;

/// The line of one file.
pub(super) struct Progress {
    name: String,
    size: u64,
    begun: Instant,
    drawn: Option<Instant>,
    shown: bool,
}

impl Progress {
    pub(super) fn new(name: &Path, size: u64, shown: bool) -> Self {
        let name = name.file_name().unwrap_or(name.as_os_str()).to_string_lossy();
        Self { name: printable(&name), size, begun: Instant::now(), drawn: None, shown }
    }

    pub(super) fn at(&mut self, bytes: u64) {
        let now = Instant::now();
        if self.shown && self.drawn.is_none_or(|drawn| now.duration_since(drawn) >= PERIOD) {
            self.drawn = Some(now);
            draw(&line(&self.name, bytes, self.size, now.duration_since(self.begun)), "");
        }
    }

    pub(super) fn done(mut self, bytes: u64) {
        if self.shown {
            draw(&line(&self.name, bytes, bytes, self.begun.elapsed()), "\n");
            self.drawn = None;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // What is said about a file that did not get there stands on a line of its own.
        if self.drawn.is_some() {
            let _ = writeln!(std::io::stderr().lock());
        }
    }
}

fn draw(line: &str, end: &str) {
    let mut terminal = std::io::stderr().lock();
    let _ = write!(terminal, "\r{line}\x1b[K{end}").and_then(|()| terminal.flush());
}

/// `name    45%   12MB   3.4MB/s   00:03`
fn line(name: &str, bytes: u64, size: u64, since: Duration) -> String {
    let percent = bytes.saturating_mul(100).checked_div(size).unwrap_or(100).min(100);
    let rate = bytes as f64 / since.as_secs_f64().max(0.001);
    let seconds = since.as_secs();
    let name: String = name.chars().take(NAME).collect();
    format!(
        "{name:<NAME$} {percent:>3}% {:>7} {:>9}/s {:02}:{:02}",
        amount(bytes as f64),
        amount(rate),
        seconds / 60,
        seconds % 60
    )
}

fn amount(bytes: f64) -> String {
    let (mut amount, mut units) = (bytes, ["B", "KB", "MB", "GB", "TB"].into_iter().peekable());
    let mut unit = units.next().unwrap_or("B");
    while amount >= 1024.0
        && let Some(larger) = units.next()
    {
        amount /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{amount:.0}{unit}") } else { format!("{amount:.1}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_reads_as_scps() {
        let line = line("backup.tar", 1_572_864, 3_145_728, Duration::from_secs(61));
        assert_eq!(line, format!("{:<40}  50%   1.5MB    25.2KB/s 01:01", "backup.tar"));
        assert!(super::line("empty", 0, 0, Duration::ZERO).contains("100%"));
    }

    #[test]
    fn amounts_have_units() {
        assert_eq!(amount(0.0), "0B");
        assert_eq!(amount(1023.0), "1023B");
        assert_eq!(amount(1536.0), "1.5KB");
        assert_eq!(amount(5.0 * 1024.0 * 1024.0 * 1024.0 * 1024.0 * 1024.0), "5120.0TB");
    }
}
