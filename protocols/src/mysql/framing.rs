//! HOT: the header of a packet, after login: how long its payload is, whether the next one continues it, and its
//! number (MySQL `Protocol::Packet`).

use super::packet::{HEADER, MAX_PAYLOAD};

/// A packet's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of payload; at most [`MAX_PAYLOAD`].
    pub(super) length: usize,
    /// Counts up within a command and its answer.
    pub(super) sequence: u8,
}

impl Header {
    /// The header at the front of `bytes`; `None` when it is not all there.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, sequence] = *bytes.first_chunk::<HEADER>()?;
        let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        Some(Self { length, sequence })
    }

    /// The payload goes on in the next packet, be that an empty one.
    pub(super) fn is_continued(self) -> bool {
        self.length == MAX_PAYLOAD
    }
}

/// One packet, of a payload that is shorter than [`MAX_PAYLOAD`].
pub(super) fn packet(mut sequence: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    super::packet::append(&mut bytes, &mut sequence, payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_length_and_number_and_comes_whole_or_not_at_all() {
        let bytes = packet(7, b"abc");
        assert_eq!(bytes, b"\x03\0\0\x07abc");
        assert_eq!(Header::read(&bytes), Some(Header { length: 3, sequence: 7 }));
        for end in 0..HEADER {
            assert_eq!(Header::read(&bytes[..end]), None);
        }
    }

    #[test]
    fn only_the_longest_packet_is_continued() {
        assert!(Header::read(b"\xff\xff\xff\0").is_some_and(Header::is_continued));
        assert!(Header::read(b"\xfe\xff\xff\0").is_some_and(|header| !header.is_continued()));
    }
}
