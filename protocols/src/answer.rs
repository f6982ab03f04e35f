//! What the upstream answered, as far as audit wants to know: how each statement came out, and when the
//! upstream waits for the client.
//!
//! Decoded from message headers and the first bytes of the few messages that say so. Nothing waits for it,
//! and nothing is held back: the bytes are on their way to the client already.

use crate::refusal::SqlState;

/// Bytes of a message's content that are looked at, at most: a command tag, or an error up to its SQLSTATE.
pub const CAPTURED: usize = 128;

/// One answer of the upstream. Answers come in the order in which the client asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// A statement is done.
    Completed {
        /// Its command tag, which ends with the number of rows where there is one (`SELECT 5`).
        tag: &'a [u8],
    },
    /// A statement is done, which changed or returned so many rows (MySQL).
    Done {
        /// The rows.
        rows: u64,
    },
    /// A statement is prepared, under this number (MySQL).
    Prepared {
        /// The number.
        statement: u32,
    },
    /// A message that prepares, describes or closes something has gone well; or a query says what its rows look
    /// like (PostgreSQL).
    Stepped,
    /// A statement without a word in it is done.
    Empty,
    /// A portal gave as many rows as it was asked for, and has more.
    Suspended,
    /// A function that was called by its number has returned.
    Returned,
    /// A statement failed. What the client sent behind it, up to the end of its round, is skipped.
    Failed {
        /// Why, if the upstream said so in the first [`CAPTURED`] bytes.
        sql_state: Option<SqlState>,
        /// MySQL's error number, which it has beside the SQLSTATE.
        number: Option<u16>,
    },
    /// A statement takes COPY data from the client until [`crate::Event::CopyEnd`].
    CopyIn,
    /// A statement sends COPY data.
    CopyOut,
    /// Data flows both ways until both sides end it: replication.
    CopyBoth,
    /// From here on the upstream reads what the client says in this encoding, and has done so since some statement before
    /// (PostgreSQL, `client_encoding`). It says so when the session begins, and at each change: at the latest when the
    /// round ends in which it was changed.
    Encoding {
        /// As the upstream calls it: `UTF8`, `SJIS`.
        name: &'a [u8],
    },
    /// A round is over: the upstream waits for the client, unless that has sent more already.
    Ready {
        /// What transaction the session is in; `None` when the upstream says none of the three.
        transaction: Option<Transaction>,
    },
}

/// The state of the session's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transaction {
    /// None is open.
    Idle,
    /// One is open.
    Open,
    /// One is open and has failed: everything but its end is refused.
    Failed,
}

impl Answer<'_> {
    /// The number of rows that were changed or returned, by a command tag or by itself; `None` for an answer,
    /// or a command, without one.
    #[must_use]
    pub fn rows(&self) -> Option<u64> {
        let tag = match self {
            Self::Completed { tag } => tag,
            Self::Done { rows } => return Some(*rows),
            _ => return None,
        };
        let number = tag.rsplit(|byte| *byte == b' ').next()?;
        std::str::from_utf8(number).ok()?.parse().ok()
    }
}

/// Hears the upstream's answers. Called on the relay's path: it must not block. [`crate::Ledger`] says which
/// statement an answer belongs to.
pub trait Answers: Send {
    /// One answer, when its message comes by.
    fn answered(&mut self, answer: Answer<'_>);
}
