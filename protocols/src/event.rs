//! What the tap sees of a client's messages: borrowed views, decoded from the bytes that are forwarded.
//!
//! A message longer than the relay's buffer is shown by its first bytes; `cut` says how many bytes of the
//! last field are not shown (0: everything is). Where a text was cut, [`Event::TextEnd`] follows when the
//! whole of it has come by, with its hash; where values were, [`Event::ValuesEnd`]. Text is in the client's own
//! encoding, which need not be UTF-8.

use crate::reader::Reader;
use crate::refusal::Refusal;

pub(crate) mod mysql;
pub(crate) mod ssh;

pub use mysql::MysqlEvent;
use ssh::SshEvent;

/// One thing that a client did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A simple query: one or more statements.
    Query {
        /// The text.
        text: &'a [u8],
        /// Bytes of the text that are not shown, at least: MySQL does not say beforehand how long a statement of
        /// 16 MiB and more will be.
        cut: u64,
    },
    /// A statement is prepared.
    Parse {
        /// Its name; empty for the unnamed one.
        statement: &'a [u8],
        /// The text.
        text: &'a [u8],
        /// Bytes of the text that are not shown, together with the parameter types behind it.
        cut: u64,
    },
    /// A prepared statement is given its values.
    Bind {
        /// The portal; empty for the unnamed one.
        portal: &'a [u8],
        /// The statement; empty for the unnamed one.
        statement: &'a [u8],
        /// The values.
        parameters: Parameters<'a>,
        /// Bytes of the message that are not shown.
        cut: u64,
    },
    /// A prepared statement or portal is described. Nothing is run by it; but it may fail, and what lies behind
    /// it is skipped then.
    Describe {
        /// Which of the two.
        kind: PreparedKind,
        /// Its name.
        name: &'a [u8],
    },
    /// A portal is run.
    Execute {
        /// The portal; empty for the unnamed one.
        portal: &'a [u8],
        /// Rows at most; 0 is all.
        max_rows: u32,
    },
    /// A prepared statement or portal is closed.
    Close {
        /// Which of the two.
        kind: PreparedKind,
        /// Its name.
        name: &'a [u8],
    },
    /// A function is called by its number (the "fast path").
    FunctionCall {
        /// The function's OID.
        function: u32,
        /// Its arguments.
        arguments: Parameters<'a>,
        /// Bytes of the message that are not shown.
        cut: u64,
    },
    /// A round is over: the client waits for everything it asked, and an error in it is forgotten from here on
    /// (PostgreSQL `Sync`).
    Sync,
    /// The client has sent all its COPY data, or gives up.
    CopyEnd {
        /// It gives up: the upstream is to fail the statement.
        failed: bool,
    },
    /// The text that was shown cut, by the [`Event::Query`], [`Event::Parse`] or [`MysqlEvent::Prepare`] just
    /// before this event, is complete. Shown before the last bytes of its message are forwarded: the upstream cannot run what was
    /// not allowed here.
    TextEnd {
        /// SHA-256 of the whole text, its shown part included.
        sha256: [u8; 32],
        /// Bytes of the whole text.
        length: u64,
    },
    /// The values that were shown cut, by the [`Event::Bind`] or [`Event::FunctionCall`] just before this event, are
    /// complete. Shown before the last bytes of their message are forwarded.
    ValuesEnd {
        /// SHA-256 of the message from its first value on ([`Parameters::sent`]), the shown part included.
        sha256: [u8; 32],
        /// Bytes of that.
        length: u64,
    },
    /// A command of MySQL's protocol.
    Mysql(MysqlEvent<'a>),
    /// Something in an SSH session.
    Ssh(SshEvent<'a>),
    /// The client broke the protocol. The message is not forwarded, and the session ends.
    Malformed {
        /// How.
        reason: Malformed,
    },
}

/// What a name in [`Event::Close`] or [`Event::Describe`] belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreparedKind {
    /// A prepared statement.
    Statement,
    /// A portal.
    Portal,
}

/// How a client broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// A type byte that no client message has.
    #[error("unknown message type 0x{0:02x}")]
    UnknownType(u8),
    /// A length that this message cannot have.
    #[error("message of type 0x{kind:02x} has the impossible length {length}")]
    Length {
        /// The type byte.
        kind: u8,
        /// The length field as sent.
        length: u32,
    },
    /// A field inside the message runs past its end, or bytes are left behind the last one.
    #[error("message of type 0x{0:02x} does not hold what it says")]
    Content(u8),
    /// A packet out of order (MySQL).
    #[error("packet number {found} where {expected} comes next")]
    Sequence {
        /// The number that comes next.
        expected: u8,
        /// The number that came.
        found: u8,
    },
    /// A command that is refused, or not known, and longer than any honest one (MySQL).
    #[error("a command 0x{0:02x} that is too long")]
    TooLong(u8),
    /// A compressed packet that does not hold what it says (MySQL).
    #[error("a compressed packet is broken: {0}")]
    Compression(&'static str),
    /// A message that cannot be read, or is not allowed where it comes (SSH).
    #[error("{0}")]
    Ssh(&'static str),
}

/// What the tap decides about an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Forward the message.
    Forward,
    /// Do not forward it, and go on: an SSH request that can be answered with "no" is answered so. Anything else,
    /// in any protocol, is ended by it as by [`Verdict::End`].
    Refuse(Refusal),
    /// Do not forward it; end the session and tell the client why.
    End(Refusal),
}

/// Parameter values as sent: each is NULL or bytes, in text or binary format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters<'a> {
    pub(crate) formats: &'a [u8],
    pub(crate) count: u16,
    pub(crate) values: &'a [u8],
}

/// One parameter value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// The bytes; `None` is NULL.
    pub value: Option<&'a [u8]>,
    /// Sent in binary format.
    pub binary: bool,
    /// Bytes of the value that are not shown.
    pub cut: u64,
}

impl<'a> Parameters<'a> {
    /// The message from its first value on, as it was sent: the values, each behind its length in four bytes, and
    /// the format codes of results. Of a cut message, what is shown of that.
    #[must_use]
    pub fn sent(&self) -> &'a [u8] {
        self.values
    }

    /// How many values the message says it holds; a cut message shows fewer.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// The values, in order. In a cut message the last one may be shown in part, and those behind it not at
    /// all.
    pub fn iter(&self) -> impl Iterator<Item = Parameter<'a>> + use<'a> {
        let Self { formats, count, values } = *self;
        let mut reader = Reader::new(values);
        (0..usize::from(count)).map_while(move |index| {
            let length = reader.u32().ok()?;
            let binary = is_binary(formats, index);
            if length == u32::MAX {
                return Some(Parameter { value: None, binary, cut: 0 });
            }
            let shown = reader.rest().len().min(usize::try_from(length).ok()?);
            let value = reader.take(shown).ok()?;
            Some(Parameter { value: Some(value), binary, cut: u64::from(length) - shown as u64 })
        })
    }
}

/// Format codes, two bytes each: none is text, one is for all, else one for each.
fn is_binary(formats: &[u8], index: usize) -> bool {
    let index = if formats.len() == 2 { 0 } else { index };
    formats.chunks_exact(2).nth(index) == Some(&[0, 1])
}
