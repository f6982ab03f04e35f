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
        /// Its command tag, which ends with the number of rows where there is one (`SELECT 5`); empty for an
        /// empty statement.
        tag: &'a [u8],
    },
    /// A portal gave as many rows as it was asked for, and has more.
    Suspended,
    /// A statement failed. What the client sent behind it, up to the end of its round, is skipped.
    Failed {
        /// Why, if the upstream said so in the first [`CAPTURED`] bytes.
        sql_state: Option<SqlState>,
    },
    /// A round is over: the upstream waits for the client, unless that has sent more already.
    Ready,
}

/// Hears the upstream's answers. Called on the relay's path: it must not block.
pub trait Answers: Send {
    /// One answer, when its message comes by.
    fn answered(&mut self, answer: Answer<'_>);
}
