//! The numbers of packets where they are packed.
//!
//! **Outer numbers** go through a command and its answer, as the numbers of ordinary packets do; clients of MySQL's own
//! library check them, and so do we. **Inner numbers** are checked by nobody there: MySQL's library takes them from the outer
//! ones now and then. So they are made here: 0 where a command begins, and what comes next anywhere else.

use std::sync::Arc;

use crate::Malformed;

use super::super::desk::{Desk, FileState};
use super::super::framing::Header;
use super::super::packet;
use super::{Algorithm, packing};

/// Where both directions are.
#[derive(Debug)]
pub(super) struct Numbers {
    desk: Arc<Desk>,
    /// The client's last outer number, and one.
    heard: u8,
    /// Our next outer number, unless an answer begins.
    next: u8,
    /// An answer begins with what is written next.
    begins: bool,
    /// So many answers were over when something was written last.
    answers: u64,
    inner: Inner,
}

/// Where in the client's ordinary packets the bytes are.
#[derive(Debug, Default)]
struct Inner {
    /// The front of a header, and how much of it is there.
    header: [u8; packet::HEADER],
    filled: usize,
    /// Bytes of a payload that are to come.
    left: usize,
    /// The next packet continues the last one.
    continued: bool,
    /// The number of the packet that comes next, unless a command begins.
    next: u8,
    file: File,
}

/// Whether packets are commands, or parts of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum File {
    #[default]
    None,
    Flows,
    /// Its end was read, and the relay has not seen it yet.
    Ended,
}

impl Inner {
    fn is_between_packets(&self) -> bool {
        self.left == 0 && self.filled == 0 && !self.continued
    }
}

impl Numbers {
    pub(super) fn new(desk: Arc<Desk>) -> Self {
        Self { desk, heard: 1, next: 1, begins: true, answers: 0, inner: Inner::default() }
    }

    /// The client's next compressed packet has this number.
    pub(super) fn arrive(&mut self, found: u8) -> Result<(), Malformed> {
        let file = self.inner.is_between_packets() && self.file() == File::Flows;
        let expected = match (self.inner.is_between_packets(), file) {
            (false, _) => self.heard,
            // It goes on where our wish for the file ended.
            (true, true) => self.next,
            (true, false) => 0,
        };
        if found != expected {
            return Err(Malformed::Sequence { expected, found });
        }
        self.heard = found.wrapping_add(1);
        if self.inner.file == File::Flows {
            self.next = self.heard;
        }
        Ok(())
    }

    /// What packets are that begin now. The relay knows: whatever was read before has passed it.
    fn file(&mut self) -> File {
        let state = self.desk.lock();
        self.inner.file = match (state.file == FileState::Flows, self.inner.file) {
            (false, _) => File::None,
            (true, File::None) => {
                self.inner.next = state.sequence;
                File::Flows
            }
            (true, known) => known,
        };
        self.inner.file
    }

    /// Numbers the client's packets, which come in pieces.
    pub(super) fn renumber(&mut self, piece: &mut [u8]) {
        let mut rest = piece;
        while !rest.is_empty() {
            let passed = self.inner.left.min(rest.len());
            if passed > 0 {
                self.inner.left -= passed;
                rest = rest.split_at_mut(passed).1;
                continue;
            }
            let Some((byte, behind)) = rest.split_first_mut() else { return };
            if self.inner.filled == packet::HEADER - 1 {
                *byte = self.number();
            }
            if let Some(place) = self.inner.header.get_mut(self.inner.filled) {
                *place = *byte;
            }
            self.inner.filled += 1;
            if self.inner.filled == packet::HEADER {
                self.header();
            }
            rest = behind;
        }
    }

    /// The number of the packet whose header is being read.
    fn number(&mut self) -> u8 {
        let is_command = !self.inner.continued && self.file() != File::Flows;
        let number = if is_command { 0 } else { self.inner.next };
        self.inner.next = number.wrapping_add(1);
        number
    }

    fn header(&mut self) {
        let inner = &mut self.inner;
        inner.filled = 0;
        let Some(header) = Header::read(&inner.header) else { return };
        if header.length == 0 && !inner.continued && inner.file == File::Flows {
            inner.file = File::Ended;
        }
        (inner.left, inner.continued) = (header.length, header.is_continued());
    }

    /// Packs what leaves next. It belongs to one answer.
    pub(super) fn leave(&mut self, into: &mut Vec<u8>, algorithm: Algorithm, piece: &[u8]) {
        if self.begins {
            self.next = self.heard;
        }
        packing::append(into, algorithm, self.next, piece);
        self.next = self.next.wrapping_add(1);
        let answers = self.desk.lock().answers;
        self.begins = answers != self.answers;
        self.answers = answers;
    }
}
