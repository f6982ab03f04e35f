//! Reading and writing whole messages, before the relay takes over.
//!
//! Every read takes exactly the bytes of one message, so nothing is ever left in a buffer of ours: what
//! follows belongs to whoever reads next.

use std::io;

use bytes::BytesMut;
use pgwire::messages::Message;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::DialError;

/// What an upstream may send until it is ready: far more than PostgreSQL ever does.
const MESSAGES: usize = 1_000;
const BYTES: usize = 256 * 1024;

/// What is left of an upstream's allowance until it is ready.
#[derive(Debug)]
pub(super) struct Allowance {
    messages: usize,
    bytes: usize,
}

impl Allowance {
    pub(super) fn new() -> Self {
        Self { messages: MESSAGES, bytes: BYTES }
    }

    fn spend(&mut self, bytes: usize) -> Result<(), DialError> {
        let left = (self.messages.checked_sub(1), self.bytes.checked_sub(bytes));
        let (Some(messages), Some(bytes)) = left else {
            return Err(DialError::Protocol("it sends more than a login can hold"));
        };
        (self.messages, self.bytes) = (messages, bytes);
        Ok(())
    }
}

/// One message of the upstream.
#[derive(Debug)]
pub(super) struct Received {
    /// Header and content.
    bytes: Vec<u8>,
}

impl Received {
    pub(super) fn kind(&self) -> u8 {
        self.bytes.first().copied().unwrap_or(0)
    }

    pub(super) fn content(&self) -> &[u8] {
        self.bytes.get(5..).unwrap_or_default()
    }

    /// The whole message, to be sent on.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads one message of the upstream. The length is checked before memory is taken.
///
/// # Cancel safety
/// Not cancel safe: the connection is of no use afterwards.
pub(super) async fn receive<S: AsyncRead + Unpin>(
    stream: &mut S,
    allowance: &mut Allowance,
) -> Result<Received, DialError> {
    let mut header = [0; 5];
    stream.read_exact(&mut header).await.map_err(DialError::Connect)?;
    let [_, length @ ..] = header;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    let Some(content) = length.checked_sub(4) else {
        return Err(DialError::Protocol("a message is shorter than its header"));
    };
    allowance.spend(content)?;
    let mut bytes = header.to_vec();
    bytes.resize(header.len() + content, 0);
    let (_, rest) = bytes.split_at_mut(header.len());
    stream.read_exact(rest).await.map_err(DialError::Connect)?;
    Ok(Received { bytes })
}

/// Appends a message. Fails only for one that is longer than its kind may be.
pub(super) fn encode(message: &impl Message, into: &mut Vec<u8>) -> io::Result<()> {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes).map_err(io::Error::other)?;
    into.extend_from_slice(&bytes);
    Ok(())
}
