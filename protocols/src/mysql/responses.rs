//! HOT: where the answer to a command ends, and how it came out (MySQL "Command Phase"; MariaDB "Server Response
//! Packets").
//!
//! ```text
//! results     OK | ERR | 0xFB file name | count, definitions, [EOF], rows, EOF or OK; again while "more results" is set
//! prepared    OK with counts, definitions of parameters, [EOF], definitions of columns, [EOF] | ERR
//! rows        rows, EOF or OK | ERR
//! one         OK | EOF | ERR
//! text        anything, in one packet
//! dump        events, EOF | ERR
//! ```
//! [EOF] is there unless `CLIENT_DEPRECATE_EOF` was negotiated. Of each packet the first [`LEAD`] bytes are looked
//! at, or fewer.

use crate::reader::{Reader, Short};
use crate::refusal::SqlState;

use super::capabilities::Capabilities;
use super::packet::MAX_PAYLOAD;

/// Bytes at the front of a payload that say all there is to know: an OK up to its status flags has 21 at most.
pub(super) const LEAD: usize = 24;

/// Status flags (`SERVER_STATUS_flags_enum`).
const IN_TRANSACTION: u16 = 0x0001;
const MORE_RESULTS: u16 = 0x0008;
const CURSOR_EXISTS: u16 = 0x0040;

const OK: u8 = 0x00;
const FILE: u8 = 0xFB;
const EOF: u8 = 0xFE;
const ERR: u8 = 0xFF;
/// A row may begin with 0xFE as well, but is longer then.
const EOF_BELOW: usize = 9;
/// MariaDB's progress report is an ERR of this number, in front of the answer.
const PROGRESS: u16 = 0xFFFF;

/// What the encoding of answers depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    deprecate_eof: bool,
    /// A byte behind the number of columns says whether their definitions follow.
    says_metadata: bool,
    /// The same in the answer to a prepare.
    says_prepared_metadata: bool,
    progress: bool,
    /// Attributes stand in front of a query's text.
    pub(super) query_attributes: bool,
}

/// What a command is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Any number of results.
    Results,
    /// What a prepare is answered with.
    Prepared,
    /// Rows, or definitions of columns, without a head.
    Rows,
    /// One packet.
    One,
    /// One packet without a form.
    Text,
    /// Events without an end of their own.
    Dump,
}

/// What a packet of an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing is over.
    Goes,
    /// A statement is prepared.
    Prepared {
        statement: u32,
        parameters: u16,
        /// Nothing follows.
        last: bool,
    },
    /// A result is over.
    Done {
        /// Changed or returned.
        rows: u64,
        /// A transaction is open, where the upstream says so.
        in_transaction: Option<bool>,
        /// The whole answer is over.
        last: bool,
    },
    /// The answer is over without a result of its own.
    End,
    /// The command failed, and the answer is over.
    Failed { number: Option<u16>, sql_state: Option<SqlState> },
    /// The client is asked for a file, whose name is behind the first byte.
    File,
}

/// An upstream said what it cannot say.
pub(super) type Wrong = &'static str;

/// Follows one answer after the other.
#[derive(Debug)]
pub(super) struct Tracker {
    terms: Terms,
    reply: Reply,
    phase: Phase,
    rows: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Head,
    Definitions {
        left: u64,
        then: Then,
    },
    /// EOF behind definitions.
    Eof(Then),
    Rows,
}

/// What comes behind definitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Rows,
    Columns { count: u64, follow: bool },
    End,
}

impl Terms {
    pub(super) fn of(capabilities: Capabilities) -> Self {
        let optional = capabilities.contains(Capabilities::OPTIONAL_METADATA);
        Self {
            deprecate_eof: capabilities.contains(Capabilities::DEPRECATE_EOF),
            says_metadata: optional || capabilities.contains(Capabilities::MARIADB_CACHE_METADATA),
            says_prepared_metadata: optional,
            progress: capabilities.contains(Capabilities::MARIADB_PROGRESS)
                || capabilities.contains(Capabilities::PROGRESS_OBSOLETE),
            query_attributes: capabilities.contains(Capabilities::QUERY_ATTRIBUTES),
        }
    }
}

impl Tracker {
    pub(super) fn new(terms: Terms) -> Self {
        Self { terms, reply: Reply::One, phase: Phase::Head, rows: 0 }
    }

    /// The next packet begins an answer of this kind.
    pub(super) fn begin(&mut self, reply: Reply) {
        self.reply = reply;
        self.next_result();
    }

    /// How many bytes of a payload of this length are looked at, given its first byte.
    pub(super) fn wanted(&self, length: usize, first: Option<u8>) -> usize {
        match (self.phase, first) {
            (_, None) => length.min(1),
            (Phase::Head, _) | (_, Some(OK | EOF | ERR)) => length.min(LEAD),
            (_, Some(_)) => 1,
        }
    }

    /// A packet: bytes of its payload, and as much of its front as [`Tracker::wanted`] says.
    ///
    /// # Errors
    /// No answer of this kind goes on so.
    pub(super) fn packet(&mut self, length: usize, lead: &[u8]) -> Result<Heard, Wrong> {
        if self.reply == Reply::Text {
            return Ok(if lead.first() == Some(&ERR) { failed(lead) } else { done(0, None) });
        }
        let first = *lead.first().ok_or("an empty packet")?;
        if first == ERR {
            let is_progress = self.terms.progress && lead.get(1..3) == Some(&PROGRESS.to_le_bytes());
            return Ok(if is_progress { Heard::Goes } else { failed(lead) });
        }
        match self.phase {
            Phase::Head => self.head(first, length, lead),
            Phase::Definitions { left, then } => Ok(self.definitions(left - 1, then)),
            Phase::Eof(then) if first == EOF && length < EOF_BELOW => {
                let status = eof_status(lead).unwrap_or(0);
                if then == Then::Rows && status & CURSOR_EXISTS != 0 {
                    return Ok(self.result(Some(status)));
                }
                Ok(self.enter(then))
            }
            Phase::Eof(_) => Err("definitions without an end"),
            Phase::Rows if self.ends_rows(first, length) => {
                let status = self.end_status(length, lead).map_err(|Short| "an end that is cut short")?;
                Ok(self.result(Some(status)))
            }
            Phase::Rows => {
                self.rows += 1;
                Ok(Heard::Goes)
            }
        }
    }

    fn head(&mut self, first: u8, length: usize, lead: &[u8]) -> Result<Heard, Wrong> {
        match (self.reply, first) {
            (Reply::Prepared, OK) => {
                self.prepared(lead).map_err(|Short| "a prepared statement without its counts")
            }
            (Reply::Dump, OK) => Ok(Heard::Goes),
            (Reply::Results | Reply::One, OK) => {
                let (rows, status) = ok(lead).map_err(|Short| "an OK that is cut short")?;
                self.rows = rows;
                Ok(self.result(Some(status)))
            }
            (Reply::Results | Reply::One | Reply::Dump, EOF) if self.ends_rows(first, length) => {
                let status = self.end_status(length, lead).map_err(|Short| "an end that is cut short")?;
                Ok(self.result(Some(status)))
            }
            (Reply::Results, FILE) => Ok(Heard::File),
            (Reply::Results, _) => self.columns(lead).map_err(|Short| "a result without a number of columns"),
            _ => Err("an answer of another command"),
        }
    }

    /// The head of a result: the number of columns, and whether they are defined.
    fn columns(&mut self, lead: &[u8]) -> Result<Heard, Short> {
        let mut reader = Reader::new(lead);
        let count = reader.lenenc()?;
        let follow = !self.terms.says_metadata || reader.u8()? != 0;
        Ok(self.begin_definitions(count, follow, Then::Rows))
    }

    /// Number, columns, parameters, a filler, warnings, and whether they are defined.
    fn prepared(&mut self, lead: &[u8]) -> Result<Heard, Short> {
        let mut reader = Reader::new(lead);
        reader.u8()?;
        let (statement, columns, parameters) = (reader.u32_le()?, reader.u16_le()?, reader.u16_le()?);
        reader.take(3)?;
        let follow = !self.terms.says_prepared_metadata || reader.u8() != Ok(0);
        let columns = Then::Columns { count: columns.into(), follow };
        let next = match parameters {
            0 => self.enter(columns),
            _ => self.begin_definitions(parameters.into(), follow, columns),
        };
        Ok(Heard::Prepared { statement, parameters, last: next == Heard::End })
    }

    fn begin_definitions(&mut self, count: u64, follow: bool, then: Then) -> Heard {
        if count == 0 || !follow {
            return self.definitions(0, then);
        }
        self.phase = Phase::Definitions { left: count, then };
        Heard::Goes
    }

    /// So many definitions are left.
    fn definitions(&mut self, left: u64, then: Then) -> Heard {
        if left > 0 {
            self.phase = Phase::Definitions { left, then };
            return Heard::Goes;
        }
        if !self.terms.deprecate_eof {
            self.phase = Phase::Eof(then);
            return Heard::Goes;
        }
        self.enter(then)
    }

    fn enter(&mut self, then: Then) -> Heard {
        match then {
            Then::Rows => {
                self.phase = Phase::Rows;
                Heard::Goes
            }
            Then::Columns { count: 0, .. } | Then::End => Heard::End,
            Then::Columns { count, follow } => self.begin_definitions(count, follow, Then::End),
        }
    }

    /// A result is over.
    fn result(&mut self, status: Option<u16>) -> Heard {
        let last = status.is_none_or(|status| status & MORE_RESULTS == 0) || self.reply != Reply::Results;
        let rows = self.rows;
        self.next_result();
        Heard::Done { rows, in_transaction: status.map(|status| status & IN_TRANSACTION != 0), last }
    }

    fn next_result(&mut self) {
        self.rows = 0;
        self.phase = if self.reply == Reply::Rows { Phase::Rows } else { Phase::Head };
    }

    fn ends_rows(&self, first: u8, length: usize) -> bool {
        first == EOF && length < if self.terms.deprecate_eof { MAX_PAYLOAD } else { EOF_BELOW }
    }

    /// The status of EOF, or of OK in its place. Some commands are answered with the old EOF all the same.
    fn end_status(&self, length: usize, lead: &[u8]) -> Result<u16, Short> {
        match self.terms.deprecate_eof && length >= 7 {
            true => ok(lead).map(|(_, status)| status),
            false => eof_status(lead),
        }
    }
}

fn done(rows: u64, status: Option<u16>) -> Heard {
    Heard::Done { rows, in_transaction: status.map(|status| status & IN_TRANSACTION != 0), last: true }
}

/// Rows and status (MySQL `OK_Packet`).
fn ok(lead: &[u8]) -> Result<(u64, u16), Short> {
    let mut reader = Reader::new(lead);
    reader.u8()?;
    let rows = reader.lenenc()?;
    reader.lenenc()?;
    Ok((rows, reader.u16_le()?))
}

/// MySQL `EOF_Packet`: warnings, then status.
fn eof_status(lead: &[u8]) -> Result<u16, Short> {
    let mut reader = Reader::new(lead);
    reader.take(3)?;
    reader.u16_le()
}

/// MySQL `ERR_Packet`.
fn failed(lead: &[u8]) -> Heard {
    let (number, sql_state) = number_and_state(lead);
    Heard::Failed { number, sql_state }
}

/// What the front of an ERR says.
pub(super) fn number_and_state(lead: &[u8]) -> (Option<u16>, Option<SqlState>) {
    let mut reader = Reader::new(lead);
    let _ = reader.u8();
    let number = reader.u16_le().ok();
    let state = reader.take(6).ok().and_then(|marked| marked.strip_prefix(b"#")).and_then(SqlState::parse);
    (number, state)
}

#[cfg(test)]
mod tests;
