//! The spool on disk: one directory for each start of the process, in it numbered segments of checked lines.
//!
//! ```text
//! DATA_DIR/spool/<spool id>/<sequence of the first record, 20 digits>.log
//! <head> <first 16 hex digits of SHA-256("<head> <json>")> <json>\n
//! ```
//!
//! | head | json |
//! |---|---|
//! | `17` | the event with this sequence |
//! | `s3` | what all events of a session say |
//! | `17s3` | the event with this sequence: what it says itself, the rest being the line `s3` before it |
//!
//! What all events of a session say is half of most events, so it is written once for all that are written together. Its number is
//! never used again in this spool: an event whose session's line is damaged is one without those fields (it still has its `sid`),
//! and never one with those of another session.
//!
//! A spool is written by one process and never again: the next start makes a new one, whose id sorts behind it. So there
//! is no tail to repair. A line that was torn by a crash does not verify, was never acknowledged to anybody, and is
//! skipped, by count, when the rest is shipped. A segment is removed once authd has all of it; what is sent twice
//! after a restart, authd drops by spool id and sequence.

use std::{
    collections::HashMap,
    fmt::Display,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    ops::Range,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;
use bytes::Bytes;
use uuid::Uuid;

/// The longest event, as JSON: authd takes lines of 256 KiB, and adds to them where in which spool they were. A text takes
/// 192 KiB at most, and what a session says of itself in each event, a few hundred bytes.
pub(crate) const MAX_RECORD_BYTES: usize = 240 * 1024;
/// Digits of a line's check.
const CHECK_DIGITS: usize = 16;
/// Sequence and session (20 digits each, and a letter), check, two blanks and the line's end.
const LINE_OVERHEAD: usize = 41 + CHECK_DIGITS + 3;
/// How much of a segment is read at once: more than the longest line, less than the API's 1 MiB a request.
pub(super) const READ_BYTES: usize = 768 * 1024;
const _: () = assert!(READ_BYTES > MAX_RECORD_BYTES + LINE_OVERHEAD);

/// One event and its place in the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Strictly increasing within the spool, from 1.
    pub(crate) sequence: u64,
    /// One JSON object in UTF-8, without a line break. A part of what was read or written at once: cheap to clone.
    pub(crate) json: Bytes,
    /// What the event says too, as all of its session do: likewise. `None` where `json` is all of it.
    pub(crate) session: Option<Bytes>,
}

impl Record {
    /// The same in one piece.
    pub(crate) fn whole(self) -> Self {
        let Some(session) = self.session else { return self };
        let mut json = self.json.to_vec();
        append_members(&mut json, &session);
        Self { sequence: self.sequence, json: json.into(), session: None }
    }
}

/// Appends the members of an object to another. Neither is empty.
pub(super) fn append_members(json: &mut Vec<u8>, more: &[u8]) {
    let _closing = json.pop();
    json.push(b',');
    json.extend_from_slice(more.strip_prefix(b"{").unwrap_or(more));
}

/// HOT: appends a line to `buffer`; `render` appends its JSON. Returns where in it that is.
pub(crate) fn append_line(
    buffer: &mut Vec<u8>,
    head: impl Display,
    render: impl FnOnce(&mut Vec<u8>),
) -> Range<usize> {
    let start = buffer.len();
    // Writing into memory does not fail.
    let _ = write!(buffer, "{head}");
    let head = start..buffer.len();
    // The check comes before what it is of.
    buffer.extend_from_slice(&[b' '; CHECK_DIGITS + 2]);
    let json = buffer.len();
    render(buffer);
    let json = json..buffer.len();
    let part = |range: Range<usize>| buffer.get(range).unwrap_or_default();
    let check = check(part(head.clone()), part(json.clone()));
    if let Some(place) = buffer.get_mut(head.end + 1..json.start - 1) {
        place.copy_from_slice(&check);
    }
    buffer.push(b'\n');
    json
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    Event(u64),
    Session(u64),
    EventOf { sequence: u64, session: u64 },
}

impl Head {
    fn parse(head: &str) -> Option<Self> {
        match head.split_once('s') {
            None => head.parse().ok().map(Self::Event),
            Some(("", session)) => session.parse().ok().map(Self::Session),
            Some((sequence, session)) => {
                Some(Self::EventOf { sequence: sequence.parse().ok()?, session: session.parse().ok()? })
            }
        }
    }
}

/// Reads a line, its line break taken off; `None` when it does not verify.
fn parse_line(line: &[u8]) -> Option<(Head, &[u8])> {
    let mut parts = line.splitn(3, |&byte| byte == b' ');
    let (head, found, json) = (parts.next()?, parts.next()?, parts.next()?);
    let parsed = Head::parse(std::str::from_utf8(head).ok()?)?;
    (check(head, json) == found).then_some((parsed, json))
}

/// In hexadecimal. Finds torn lines, not forgers: who can write here can also compute it.
fn check(head: &[u8], json: &[u8]) -> [u8; CHECK_DIGITS] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(head);
    context.update(b" ");
    context.update(json);
    let sum = context.finish();
    let mut digits = [0; CHECK_DIGITS];
    // The sum is longer than what is taken of it.
    let _ = hex::encode_to_slice(sum.as_ref().get(..CHECK_DIGITS / 2).unwrap_or_default(), &mut digits);
    digits
}

/// What one read of a segment gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Records that verify, in order; together shorter than 768 KiB.
    pub(crate) records: Vec<Record>,
    /// Where the next read begins.
    pub(crate) next: u64,
    /// Bytes of lines that do not verify.
    pub(crate) damaged: u64,
    /// Nothing is left before the limit, a torn tail aside.
    pub(crate) end: bool,
}

/// What was read of a segment so far, as its following lines need it.
#[derive(Debug, Default)]
pub(crate) struct Sessions(HashMap<u64, Bytes>);

/// Reads records from `offset` on, not beyond `limit` (or the end of the file).
///
/// Begins at the start of a segment or of what was written at once, with no `sessions`; or where the last read of it ended, with those
/// that it left.
///
/// # Errors
/// Those of the file system. Damage is no error: it is counted and skipped.
pub(crate) fn read_batch(
    segment: &Path,
    offset: u64,
    limit: Option<u64>,
    sessions: &mut Sessions,
) -> io::Result<Batch> {
    let mut file = File::open(segment)?;
    let length = file.metadata()?.len();
    let limit = limit.map_or(length, |limit| limit.min(length));
    let wanted = usize::try_from(limit.saturating_sub(offset)).unwrap_or(usize::MAX).min(READ_BYTES);
    let mut buffer = vec![0; wanted];
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(&mut buffer)?;
    let reached_limit = offset + wanted as u64 >= limit;
    Ok(split(&Bytes::from(buffer), offset, reached_limit, sessions))
}

fn split(buffer: &Bytes, offset: u64, reached_limit: bool, Sessions(sessions): &mut Sessions) -> Batch {
    let mut batch = Batch { next: offset, end: reached_limit, ..Batch::default() };
    for line in buffer.split_inclusive(|&byte| byte == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(line) => match parse_line(line) {
                Some((Head::Session(number), json)) => {
                    // A copy: it may be kept for longer than the rest of the buffer.
                    sessions.insert(number, Bytes::copy_from_slice(json));
                }
                Some((Head::Event(sequence), json)) => {
                    batch.records.push(Record { sequence, json: buffer.slice_ref(json), session: None });
                }
                Some((Head::EventOf { sequence, session }, json)) => {
                    let session = sessions.get(&session).cloned();
                    batch.records.push(Record { sequence, json: buffer.slice_ref(json), session });
                }
                None => batch.damaged += line.len() as u64 + 1,
            },
            // The tail: torn if nothing follows, too long if it fills the whole buffer, else begun anew by the next read.
            None if reached_limit || line.len() == buffer.len() => batch.damaged += line.len() as u64,
            None => break,
        }
        batch.next += line.len() as u64;
    }
    batch
}

/// The directory of all spools of a sidecar.
#[derive(Clone, Debug)]
pub(crate) struct SpoolRoot(PathBuf);

impl SpoolRoot {
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self(data_dir.join("spool"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn spool(&self, id: Uuid) -> PathBuf {
        self.0.join(id.to_string())
    }

    /// All spools, oldest first (version 7 UUIDs sort by time). What is not named like a spool is left alone.
    pub(crate) fn list(&self) -> io::Result<Vec<Uuid>> {
        let mut spools: Vec<Uuid> = names(&self.0)?.iter().filter_map(|name| name.parse().ok()).collect();
        spools.sort_unstable();
        Ok(spools)
    }

    /// Bytes on disk, all spools together.
    pub(crate) fn size(&self) -> io::Result<u64> {
        let mut total = 0;
        for spool in self.list()? {
            for segment in segments(&self.spool(spool))? {
                total += fs::metadata(segment_path(&self.spool(spool), segment))?.len();
            }
        }
        Ok(total)
    }
}

/// First sequences of a spool's segments, ascending.
pub(crate) fn segments(spool: &Path) -> io::Result<Vec<u64>> {
    let mut segments: Vec<u64> =
        names(spool)?.iter().filter_map(|name| name.strip_suffix(".log")?.parse().ok()).collect();
    segments.sort_unstable();
    Ok(segments)
}

/// Where the segment that begins with this sequence lies.
pub(crate) fn segment_path(spool: &Path, first: u64) -> PathBuf {
    spool.join(format!("{first:020}.log"))
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(directory) {
        Ok(entries) => {
            entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(records: &[&str]) -> Vec<u8> {
        let mut buffer = Vec::new();
        for (index, json) in records.iter().enumerate() {
            append(&mut buffer, &(index + 1).to_string(), json);
        }
        buffer
    }

    fn append(buffer: &mut Vec<u8>, head: &str, json: &str) {
        append_line(buffer, head, |line| line.extend_from_slice(json.as_bytes()));
    }

    /// Events in one piece, and how much was damaged.
    fn read_all(segment: &Path) -> (Vec<Bytes>, u64) {
        let (mut offset, mut records, mut damaged) = (0, Vec::new(), 0);
        let mut sessions = Sessions::default();
        loop {
            let batch = read_batch(segment, offset, None, &mut sessions).unwrap();
            records.extend(batch.records.into_iter().map(|record| record.whole().json));
            damaged += batch.damaged;
            offset = batch.next;
            if batch.end {
                return (records, damaged);
            }
        }
    }

    #[test]
    fn a_segment_cut_at_any_byte_still_gives_every_whole_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = segment_path(directory.path(), 1);
        let lines = [r#"{"a":1}"#, r#"{"b":"two words"}"#, r#"{"c":"ü"}"#];
        let whole = written(&lines);
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let complete = whole[..cut].iter().filter(|&&byte| byte == b'\n').count();
            let (records, damaged) = read_all(&path);
            assert_eq!(records, lines[..complete], "cut at {cut}");
            let tail = cut - written(&lines[..complete]).len();
            assert_eq!(damaged, tail as u64, "cut at {cut}");
        }
    }

    #[test]
    fn damage_in_the_middle_costs_its_own_line_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = segment_path(directory.path(), 1);
        let whole = written(&["{}", r#"{"b":2}"#, "{}"]);
        for byte in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[byte] ^= 0x01;
            fs::write(&path, &damaged).unwrap();
            let (records, _) = read_all(&path);
            assert!(!records.is_empty(), "byte {byte}");
            assert!(records.len() <= 2, "byte {byte}: a changed line verified");
        }
    }

    /// Two sessions, whose events are written together twice.
    fn of_two_sessions() -> Vec<u8> {
        let mut buffer = Vec::new();
        for (head, json) in [
            ("s1", r#"{"user":"alice"}"#),
            ("1s1", r#"{"sid":"a","n":1}"#),
            ("s2", r#"{"user":"bob"}"#),
            ("2s2", r#"{"sid":"b","n":2}"#),
            ("3", r#"{"n":3}"#),
            ("s3", r#"{"user":"bob"}"#),
            ("4s3", r#"{"sid":"b","n":4}"#),
            ("s4", r#"{"user":"alice"}"#),
            ("5s4", r#"{"sid":"a","n":5}"#),
            ("6s3", r#"{"sid":"b","n":6}"#),
        ] {
            append(&mut buffer, head, json);
        }
        buffer
    }

    #[test]
    fn an_event_says_what_its_session_says() {
        let directory = tempfile::tempdir().unwrap();
        let path = segment_path(directory.path(), 1);
        fs::write(&path, of_two_sessions()).unwrap();
        let (records, damaged) = read_all(&path);
        assert_eq!(
            records,
            [
                r#"{"sid":"a","n":1,"user":"alice"}"#,
                r#"{"sid":"b","n":2,"user":"bob"}"#,
                r#"{"n":3}"#,
                r#"{"sid":"b","n":4,"user":"bob"}"#,
                r#"{"sid":"a","n":5,"user":"alice"}"#,
                r#"{"sid":"b","n":6,"user":"bob"}"#,
            ]
        );
        assert_eq!(damaged, 0);
    }

    #[test]
    fn whatever_is_damaged_no_event_becomes_another_session_s() {
        let directory = tempfile::tempdir().unwrap();
        let path = segment_path(directory.path(), 1);
        let whole = of_two_sessions();
        for byte in 0..whole.len() {
            for flip in [0x01, 0x02, 0x10] {
                let mut damaged = whole.clone();
                damaged[byte] ^= flip;
                fs::write(&path, &damaged).unwrap();
                let (records, _) = read_all(&path);
                // One line is lost, or two that became one.
                assert!(records.len() >= 4, "byte {byte}");
                for event in &records {
                    let event: serde_json::Value = serde_json::from_slice(event).unwrap();
                    let (sid, user) = (event["sid"].as_str(), event["user"].as_str());
                    assert!(
                        matches!(
                            (sid, user),
                            (None, None)
                                | (Some("a"), None | Some("alice"))
                                | (Some("b"), None | Some("bob"))
                        ),
                        "byte {byte}: {event}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_read_that_ends_between_a_session_and_its_events_is_gone_on_with() {
        let directory = tempfile::tempdir().unwrap();
        let path = segment_path(directory.path(), 1);
        let mut buffer = Vec::new();
        append(&mut buffer, "s7", r#"{"user":"alice"}"#);
        let long = format!(r#"{{"pad":"{}"}}"#, "x".repeat(200 * 1024));
        for sequence in 1..=9 {
            append(&mut buffer, &format!("{sequence}s7"), &long);
        }
        fs::write(&path, &buffer).unwrap();
        let (records, damaged) = read_all(&path);
        assert_eq!((records.len(), damaged), (9, 0));
        assert!(records.iter().all(|event| event.ends_with(br#","user":"alice"}"#)));
    }

    #[test]
    fn more_than_one_read_long_is_read_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = segment_path(directory.path(), 1);
        let long = format!("\"{}\"", "x".repeat(300 * 1024));
        let lines: Vec<&str> = std::iter::repeat_n(long.as_str(), 7).collect();
        fs::write(&path, written(&lines)).unwrap();
        let (records, damaged) = read_all(&path);
        assert_eq!((records.len(), damaged), (7, 0));
    }

    #[test]
    fn nothing_beyond_the_limit_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = segment_path(directory.path(), 1);
        let one = written(&["{}"]).len() as u64;
        fs::write(&path, written(&["{}", "{}"])).unwrap();
        let batch = read_batch(&path, 0, Some(one), &mut Sessions::default()).unwrap();
        assert_eq!((batch.records.len(), batch.next, batch.end), (1, one, true));
    }

    #[test]
    fn spools_are_listed_oldest_first_and_strangers_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let root = SpoolRoot::new(directory.path());
        assert!(root.list().unwrap().is_empty());
        let (old, new) = (Uuid::now_v7(), Uuid::now_v7());
        for id in [new, old] {
            fs::create_dir_all(root.spool(id)).unwrap();
        }
        fs::create_dir_all(directory.path().join("spool/lost+found")).unwrap();
        assert_eq!(root.list().unwrap(), [old, new]);
        fs::write(segment_path(&root.spool(old), 1), b"12345").unwrap();
        assert_eq!(root.size().unwrap(), 5);
    }
}
