//! What can go wrong between two ends of an SSH connection.

use std::io;
use std::time::Duration;

use super::host::UnknownHost;
use crate::reader::Short;

/// The SSH connection to one side failed.
#[derive(Debug, thiserror::Error)]
pub enum SshFault {
    /// The connection failed, or ended in the middle of something.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// It closed where a message may begin.
    #[error("the other side closed the connection")]
    Closed,
    /// It said goodbye (RFC 4253 §11.1).
    #[error("the other side disconnected: {reason} {text:?}")]
    Disconnected {
        /// The reason's number.
        reason: u32,
        /// Its words: printable, at most 200 characters.
        text: String,
    },
    /// What it says first is not SSH 2.0.
    #[error("the other side does not speak SSH 2.0")]
    Identification,
    /// Both sides know no common algorithm.
    #[error("there is no common algorithm for {0}")]
    NoCommonAlgorithm(&'static str),
    /// The key exchange failed.
    #[error("the key exchange failed: {0}")]
    KeyExchange(&'static str),
    /// A key exchange of a live session took longer than it may.
    #[error("a key exchange was not over within {0:?}")]
    Overdue(Duration),
    /// A packet was not made by the other side, or not for here.
    #[error("a packet has a wrong authentication code")]
    Forged,
    /// A packet's length is impossible.
    #[error("a packet has the impossible length {0}")]
    Length(u32),
    /// The other side's host key is not the right one.
    #[error("the host is not known")]
    Host(#[source] UnknownHost),
    /// A message cannot be read, or has no place where it comes.
    #[error("{0}")]
    Protocol(&'static str),
    /// Signing or encrypting failed: our own failure.
    #[error("cryptography failed: {0}")]
    Crypto(&'static str),
}

impl From<io::Error> for SshFault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Short> for SshFault {
    fn from(_: Short) -> Self {
        Self::Protocol("a message ends before it should")
    }
}

impl From<SshFault> for io::Error {
    fn from(fault: SshFault) -> Self {
        match fault {
            SshFault::Io(error) => error,
            SshFault::Closed => Self::new(io::ErrorKind::UnexpectedEof, fault),
            SshFault::Overdue(_) => Self::new(io::ErrorKind::TimedOut, fault),
            fault => Self::new(io::ErrorKind::InvalidData, fault),
        }
    }
}
