//! The numbers of packets where they are packed.
//!
//! **Outer numbers** go through a command and its answer, as the numbers of ordinary packets do; clients of MySQL's own
//! library check them, and so do we. **Inner numbers** are taken from the outer ones where an answer or one of its results
//! begins, and count up from there: MySQL's server checks none, some clients do (mysql_async). So they are made here: towards
//! the upstream, 0 where a command begins, and what comes next anywhere else; towards the client, as MySQL's server makes them.

use std::sync::Arc;

use crate::Malformed;

use super::super::desk::{Desk, FileState};
use super::super::framing::Header;
use super::super::packet;

/// Where both directions are.
#[derive(Debug)]
pub(super) struct Numbers {
    desk: Arc<Desk>,
    /// The client's last outer number, and one.
    heard: u8,
    /// Our next outer number, and the inner one, unless an answer begins.
    next: u8,
    next_inner: u8,
    /// With what is written next.
    begins: Begins,
    /// So many answers and results were over when something was written last.
    answers: u64,
    results: u64,
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

/// What begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begins {
    Nothing,
    Result,
    Answer,
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
        Self {
            desk,
            heard: 1,
            next: 1,
            next_inner: 1,
            begins: Begins::Answer,
            answers: 0,
            results: 0,
            inner: Inner::default(),
        }
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
            (self.next, self.next_inner) = (self.heard, self.heard);
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

    /// Something is to be written, at the front of a packet.
    pub(super) fn answer(&mut self) {
        match std::mem::replace(&mut self.begins, Begins::Nothing) {
            Begins::Nothing => {}
            Begins::Result => self.next_inner = self.next,
            Begins::Answer => (self.next, self.next_inner) = (self.heard, self.heard),
        }
    }

    /// The next compressed packet's number.
    pub(super) fn outer(&mut self) -> u8 {
        let number = self.next;
        self.next = number.wrapping_add(1);
        number
    }

    /// The next ordinary packet's number.
    pub(super) fn inner(&mut self) -> u8 {
        let number = self.next_inner;
        self.next_inner = number.wrapping_add(1);
        number
    }

    /// Something was written. The relay knows whether an answer is over with it.
    pub(super) fn written(&mut self) {
        let (answers, results) = {
            let state = self.desk.lock();
            (state.answers, state.results)
        };
        if answers != self.answers {
            self.begins = Begins::Answer;
        } else if results != self.results {
            self.begins = Begins::Result;
        }
        (self.answers, self.results) = (answers, results);
    }
}
