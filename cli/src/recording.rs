//! Recorded sessions: an asciicast of version 2 (<https://docs.asciinema.org/manual/asciicast/v2/>), and what of it may be shown on
//! a terminal.
//!
//! A recording holds what somebody made a program print. It is read without trust: what would make the terminal of whoever
//! watches it answer, change its title or its clipboard, is left out ([`Shown`]).

use std::{
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    time::Duration,
};

use serde::Deserialize;

mod shown;

pub use shown::{Plain, Shown};

/// Longest line: one event of a recording.
const MAX_LINE: u64 = 4 << 20;

/// Why a recording cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file cannot be read.
    #[error("cannot read the recording")]
    Io(#[from] io::Error),
    /// It does not begin as one.
    #[error("this is not a recording (asciicast, version 2)")]
    Header,
    /// A line in the middle of it is not an event.
    #[error("the recording is damaged in line {line}")]
    Event {
        /// Which.
        line: usize,
    },
}

/// The first line: of it, what tells a recording from another file.
#[derive(Deserialize)]
struct Header {
    version: u32,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Since the beginning.
    pub at: Duration,
    /// `o` output, `i` input, `r` a new size, `m` a mark.
    pub code: String,
    /// Of what.
    pub data: String,
}

/// Where an event is, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    at: Duration,
    offset: u64,
    line: usize,
}

/// A recording that can be read from anywhere. Only the places of its events are held in memory.
pub struct Recording<R> {
    file: BufReader<R>,
    places: Vec<Place>,
}

impl<R: Read + Seek> Recording<R> {
    /// Reads where everything is. The last line may be cut off: the session goes on, or the sidecar was killed.
    ///
    /// # Errors
    /// [`RecordingError`].
    pub fn open(file: R) -> Result<Self, RecordingError> {
        let mut file = BufReader::new(file);
        file.seek(SeekFrom::Start(0))?;
        let mut line = Vec::new();
        let mut offset = read_line(&mut file, &mut line)?;
        let header: Header = serde_json::from_slice(&line).map_err(|_| RecordingError::Header)?;
        if header.version != 2 {
            return Err(RecordingError::Header);
        }
        let mut places = Vec::new();
        // Time does not go back, whatever the file says.
        let mut now = Duration::ZERO;
        for number in 2.. {
            let length = read_line(&mut file, &mut line)?;
            if length == 0 {
                break;
            }
            match parse(&line) {
                Some(event) => {
                    now = now.max(event.at);
                    places.push(Place { at: now, offset, line: number });
                }
                None if !line.ends_with(b"\n") => break,
                None if line.trim_ascii().is_empty() => {}
                None => return Err(RecordingError::Event { line: number }),
            }
            offset += length;
        }
        Ok(Self { file, places })
    }

    /// How many events there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True where nothing happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// When an event happened; `None` after the last.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<Duration> {
        self.places.get(index).map(|place| place.at)
    }

    /// How long it lasts.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.places.last().map_or(Duration::ZERO, |place| place.at)
    }

    /// The first event at or after a time.
    #[must_use]
    pub fn index_at(&self, time: Duration) -> usize {
        self.places.partition_point(|place| place.at < time)
    }

    /// Reads an event; `None` after the last.
    ///
    /// # Errors
    /// [`RecordingError`].
    pub fn event(&mut self, index: usize) -> Result<Option<Event>, RecordingError> {
        let Some(&Place { at, offset, line: number }) = self.places.get(index) else { return Ok(None) };
        let position = self.file.stream_position()?;
        if position != offset {
            self.file.seek(SeekFrom::Start(offset))?;
        }
        let mut line = Vec::new();
        read_line(&mut self.file, &mut line)?;
        let event = parse(&line).ok_or(RecordingError::Event { line: number })?;
        Ok(Some(Event { at, ..event }))
    }
}

/// Reads one line with its end; answers with its length, 0 at the end of the file.
fn read_line(file: &mut impl BufRead, line: &mut Vec<u8>) -> Result<u64, RecordingError> {
    line.clear();
    let read = file.take(MAX_LINE).read_until(b'\n', line)?;
    if read as u64 == MAX_LINE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long").into());
    }
    Ok(read as u64)
}

/// `[seconds, code, data]`
fn parse(line: &[u8]) -> Option<Event> {
    let (seconds, code, data): (f64, String, String) = serde_json::from_slice(line).ok()?;
    Some(Event { at: Duration::try_from_secs_f64(seconds).ok()?, code, data })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const CAST: &str = concat!(
        "{\"version\": 2, \"width\": 80, \"height\": 24, \"env\": {\"TERM\": \"xterm\"}, \"title\": \"t\"}\n",
        "[0.5, \"o\", \"hello \"]\n",
        "[1.25, \"r\", \"100x40\"]\n",
        "[1.0, \"o\", \"w\\u00f6rld\\r\\n\"]\n",
    );

    fn open(text: &str) -> Result<Recording<Cursor<Vec<u8>>>, RecordingError> {
        Recording::open(Cursor::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn events_are_found_by_their_place_and_their_time() {
        let mut recording = open(CAST).unwrap();
        assert_eq!(recording.len(), 3);
        assert_eq!(recording.event(2).unwrap().unwrap().data, "wörld\r\n");
        assert_eq!(recording.event(0).unwrap().unwrap().data, "hello ");
        assert_eq!(recording.event(3).unwrap(), None);
        assert_eq!(recording.index_at(Duration::from_millis(600)), 1);
        assert_eq!(recording.index_at(Duration::from_secs(9)), 3);
        assert_eq!(recording.duration(), Duration::from_millis(1250), "time does not go back");
    }

    #[test]
    fn a_recording_that_is_cut_off_is_played_as_far_as_it_goes() {
        for end in CAST.find('\n').unwrap() + 1..CAST.len() {
            let recording = open(&CAST[..end]).unwrap();
            assert!(recording.len() <= 3, "{end}");
        }
        assert_eq!(open(&CAST[..CAST.len() - 3]).unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_recording_is_refused() {
        for wrong in ["", "\n", "{}", "{\"version\": 1, \"width\": 80, \"height\": 24}\n", "#!/bin/sh\n"] {
            assert!(matches!(open(wrong), Err(RecordingError::Header)), "{wrong}");
        }
        let damaged = CAST.replace("[1.25", "{1.25");
        assert!(matches!(open(&damaged), Err(RecordingError::Event { line: 3 })));
        for time in ["-1", "1e300", "\"x\""] {
            assert!(open(&CAST.replace("[1.25", &format!("[{time}"))).is_err(), "{time}");
        }
    }
}
