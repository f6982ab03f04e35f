//! What leaves for the client: whole ordinary packets in each compressed one.
//!
//! A client may find a packet's pieces in two compressed packets at most (mysql-connector-python does), because MySQL's
//! own never come in more. So what is short is gathered until it is whole, and what is long goes as it is, in one compressed
//! packet that is not packed: neither is held.

use super::Algorithm;
use super::numbers::Numbers;
use super::packing;
use crate::mysql::framing::Header;
use crate::mysql::packet::{self, MAX_PAYLOAD};

/// Bytes of an ordinary packet, header included, that is gathered. Packing so much at once keeps nobody else waiting.
const WHOLE: usize = 256 * 1024;

/// Where in the packets to the client the bytes are.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// The front of a header, and how much of it is there.
    header: [u8; packet::HEADER],
    filled: usize,
    /// Bytes of a payload that are to come.
    left: usize,
    /// Packets that are gathered; so much of it are whole ones.
    pub(super) gathered: Vec<u8>,
    whole: usize,
    /// Of a long packet, bytes that are to come; so many of them in the current compressed one.
    long: usize,
    bare: usize,
}

impl Leaving {
    /// Appends compressed packets with what of `piece` can go. It belongs to one answer.
    pub(super) fn push(
        &mut self,
        into: &mut Vec<u8>,
        algorithm: Algorithm,
        numbers: &mut Numbers,
        mut piece: &[u8],
    ) {
        if self.filled == 0 && self.left == 0 {
            numbers.answer();
        }
        while let Some((first, rest)) = piece.split_first() {
            if self.left > 0 {
                let (now, rest) = piece.split_at(self.left.min(piece.len()));
                self.payload(into, numbers, now);
                piece = rest;
                continue;
            }
            if let Some(place) = self.header.get_mut(self.filled) {
                *place = *first;
            }
            self.filled += 1;
            if self.filled == packet::HEADER {
                self.begin(into, algorithm, numbers);
            }
            piece = rest;
        }
        self.pack(into, algorithm, numbers);
        numbers.written();
    }

    /// A header is there.
    fn begin(&mut self, into: &mut Vec<u8>, algorithm: Algorithm, numbers: &mut Numbers) {
        self.filled = 0;
        let Some(header) = Header::read(&self.header) else { return };
        self.left = header.length;
        let [a, b, c, _] = self.header;
        let renumbered = [a, b, c, numbers.inner()];
        if packet::HEADER + header.length > WHOLE {
            self.pack(into, algorithm, numbers);
            self.long = packet::HEADER + header.length;
            self.stream(into, numbers, &renumbered);
        } else {
            self.gathered.extend_from_slice(&renumbered);
            self.whole_if_over();
        }
    }

    fn payload(&mut self, into: &mut Vec<u8>, numbers: &mut Numbers, bytes: &[u8]) {
        self.left -= bytes.len();
        if self.long > 0 {
            self.stream(into, numbers, bytes);
        } else {
            self.gathered.extend_from_slice(bytes);
            self.whole_if_over();
        }
    }

    fn whole_if_over(&mut self) {
        if self.left == 0 {
            self.whole = self.gathered.len();
        }
    }

    /// Bytes of a long packet, as they are.
    fn stream(&mut self, into: &mut Vec<u8>, numbers: &mut Numbers, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.bare == 0 {
                self.bare = self.long.min(MAX_PAYLOAD);
                packing::header(into, self.bare, numbers.outer(), 0);
            }
            let (now, rest) = bytes.split_at(bytes.len().min(self.bare));
            into.extend_from_slice(now);
            self.bare -= now.len();
            self.long = self.long.saturating_sub(now.len());
            bytes = rest;
        }
    }

    /// Packs the packets that are whole.
    fn pack(&mut self, into: &mut Vec<u8>, algorithm: Algorithm, numbers: &mut Numbers) {
        let rest = self.gathered.split_off(self.whole.min(self.gathered.len()));
        if !self.gathered.is_empty() {
            packing::append(into, algorithm, numbers.outer(), &self.gathered);
        }
        (self.gathered, self.whole) = (rest, 0);
    }
}
