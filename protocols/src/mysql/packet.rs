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

    /// Bytes that the peer may still send.
    pub(super) fn left(&self) -> usize {
        self.left
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a peer that sends these bytes and closes is read as.
    async fn received(bytes: &[u8], allowance: usize) -> Result<Option<Vec<u8>>, PacketError> {
        let mut stream = bytes;
        let payload = Conversation::new(allowance).receive_or_end(&mut stream).await?;
        Ok(payload.map(|payload| payload.to_vec()))
    }

    #[tokio::test]
    async fn a_packet_is_its_length_its_number_and_its_payload() {
        let mut talk = Conversation::new(100);
        let mut stream = &b"\x02\0\0\0ab\x01\0\0\x01c\0\0\0\x02"[..];
        for expected in [&b"ab"[..], b"c", b""] {
            assert_eq!(talk.receive(&mut stream).await.unwrap()[..], *expected);
        }
        assert_eq!((talk.sequence, talk.left()), (3, 100 - 15));
        assert_eq!(talk.receive_or_end(&mut stream).await.unwrap(), None);
        assert!(matches!(talk.receive(&mut stream).await, Err(PacketError::Io(_))));
    }

    #[tokio::test]
    async fn a_packet_cut_short_at_any_byte_is_an_error() {
        let whole = b"\x02\0\0\0ab";
        assert_eq!(received(b"", 10).await.unwrap(), None);
        for end in 1..whole.len() {
            assert!(matches!(received(&whole[..end], 10).await, Err(PacketError::Io(_))), "{end}");
        }
    }

    #[tokio::test]
    async fn a_packet_with_another_number_is_refused() {
        let error = received(b"\x01\0\0\x01a", 10).await.unwrap_err();
        assert!(matches!(error, PacketError::OutOfOrder { expected: 0, found: 1 }), "{error:?}");
    }

    #[tokio::test]
    async fn no_more_is_read_than_the_allowance_however_it_is_cut() {
        assert!(received(b"\x06\0\0\0abcdef", 10).await.is_ok());
        for header in [&b"\x07\0\0\0"[..], b"\xff\xff\xff\0", b"\xfe\xff\xff\0"] {
            assert!(matches!(received(header, 10).await, Err(PacketError::TooLong)));
        }
        assert!(matches!(received(b"\xff\xff\xff\0", usize::MAX).await, Err(PacketError::TooLong)));
        let mut talk = Conversation::new(10);
        let mut stream = &b"\0\0\0\0\0\0\0\x01\0\0\0\x02"[..];
        assert!(talk.receive(&mut stream).await.is_ok() && talk.receive(&mut stream).await.is_ok());
        assert!(matches!(talk.receive(&mut stream).await, Err(PacketError::TooLong)));
    }

    #[test]
    fn a_payload_of_exactly_the_longest_packet_is_followed_by_an_empty_one() {
        let (mut bytes, mut sequence) = (Vec::new(), 254);
        append(&mut bytes, &mut sequence, &vec![7; MAX_PAYLOAD]);
        assert_eq!(bytes[..4], [0xFF, 0xFF, 0xFF, 254]);
        assert_eq!(bytes[HEADER + MAX_PAYLOAD..], [0, 0, 0, 255]);
        assert_eq!(sequence, 0);
    }
}
