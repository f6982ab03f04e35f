//! Reading and writing whole packets while a login lasts: three bytes of length, one of sequence number, and
//! the payload (MySQL "MySQL Packets").
//!
//! Every read takes exactly the bytes of one packet, so nothing is ever left in a buffer of ours: what follows
//! an SSLRequest runs into the TLS handshake and breaks it (CVE-2021-3935, CVE-2021-23214).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

/// Bytes of header.
pub(super) const HEADER: usize = 4;

/// Bytes of payload in a packet at most, header excluded. One that holds so many is continued by the next.
pub(super) const MAX_PAYLOAD: usize = 0xFF_FFFF;

/// A peer's packet could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum PacketError {
    /// The connection failed, or ended within a packet.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// It is not the one that comes next.
    #[error("a packet has number {found} where {expected} comes next")]
    OutOfOrder {
        /// What comes next.
        expected: u8,
        /// What came.
        found: u8,
    },
    /// It is longer than what is left of the peer's allowance.
    #[error("more bytes than a login can hold")]
    TooLong,
}

/// The packets of a login, both ways: their common sequence, and how much the peer may still send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conversation {
    /// The number of the next packet, whoever sends it.
    pub(super) sequence: u8,
    /// Bytes that the peer may still send, headers included.
    left: usize,
}

impl Conversation {
    /// From the first packet on; the peer may send so many bytes.
    pub(super) fn new(allowance: usize) -> Self {
        Self { sequence: 0, left: allowance }
    }

    /// The same allowance, and a sequence that begins again.
    pub(super) fn restart(&mut self) {
        self.sequence = 0;
    }

    /// The peer's next packet: its payload. The length is checked before memory is taken.
    ///
    /// # Cancel safety
    /// Not cancel safe: the connection is of no use afterwards.
    pub(super) async fn receive<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
    ) -> Result<Zeroizing<Vec<u8>>, PacketError> {
        let ended = || PacketError::Io(io::ErrorKind::UnexpectedEof.into());
        self.receive_or_end(stream).await?.ok_or_else(ended)
    }

    /// The same; `None` when the peer closed without a word.
    ///
    /// # Cancel safety
    /// Not cancel safe: the connection is of no use afterwards.
    pub(super) async fn receive_or_end<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, PacketError> {
        let Some((found, payload)) = self.receive_any(stream).await? else { return Ok(None) };
        if found != self.sequence {
            return Err(PacketError::OutOfOrder { expected: self.sequence, found });
        }
        self.sequence = found.wrapping_add(1);
        Ok(Some(payload))
    }

    /// The peer's next packet, whatever its number: number and payload. The sequence does not move.
    ///
    /// # Cancel safety
    /// Not cancel safe: the connection is of no use afterwards.
    pub(super) async fn receive_any<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
    ) -> Result<Option<(u8, Zeroizing<Vec<u8>>)>, PacketError> {
        let Some(header) = header(stream).await? else { return Ok(None) };
        let [length @ .., number] = header;
        let length = payload_length(length);
        let rest = self.left.checked_sub(HEADER + length).ok_or(PacketError::TooLong)?;
        // A packet that is continued is longer than any login: the allowance is far below.
        if length == MAX_PAYLOAD {
            return Err(PacketError::TooLong);
        }
        self.left = rest;
        let mut payload = Zeroizing::new(vec![0; length]);
        stream.read_exact(&mut payload).await.map_err(PacketError::Io)?;
        Ok(Some((number, payload)))
    }

    /// Sends a payload in the next packet, or in several.
    ///
    /// # Cancel safety
    /// Not cancel safe: the connection is of no use afterwards.
    pub(super) async fn send<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        payload: &[u8],
    ) -> io::Result<()> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(HEADER + payload.len()));
        append(&mut bytes, &mut self.sequence, payload);
        stream.write_all(&bytes).await?;
        stream.flush().await
    }
}

/// Appends a payload as the next packet; one of 2^24 − 1 bytes and more as several, the last of them shorter,
/// and be it empty.
pub(super) fn append(into: &mut Vec<u8>, sequence: &mut u8, payload: &[u8]) {
    let mut rest = payload;
    loop {
        let (now, later) = rest.split_at(rest.len().min(MAX_PAYLOAD));
        let [a, b, c, ..] = (now.len() as u32).to_le_bytes();
        into.extend_from_slice(&[a, b, c, *sequence]);
        into.extend_from_slice(now);
        *sequence = sequence.wrapping_add(1);
        rest = later;
        if now.len() < MAX_PAYLOAD {
            return;
        }
    }
}

/// The length in a header: little-endian.
fn payload_length([a, b, c]: [u8; 3]) -> usize {
    usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16
}

/// Four bytes; `None` when the peer closed instead. Clients that only look whether somebody is there close
/// without TLS's goodbye, too.
async fn header<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<[u8; HEADER]>, PacketError> {
    let mut header = [0; HEADER];
    let mut filled = 0;
    while let Some(rest) = header.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest).await {
            Ok(0) if filled == 0 => return Ok(None),
            Err(error) if filled == 0 && error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Ok(0) => return Err(PacketError::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(bytes) => filled += bytes,
            Err(error) => return Err(PacketError::Io(error)),
        }
    }
    Ok(Some(header))
}
