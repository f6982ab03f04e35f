//! HOT: the two halves of a session, as the relay drives them: what becomes of the client's bytes, and what of
//! the upstream's.
//!
//! The halves of one session may share what they know (MySQL's do): then one of them *calls* the other through
//! the future that the relay waits for beside its stream. Both run in one task.

use std::future::{Future, pending};

use crate::Malformed;
use crate::event::Event;
use crate::refusal::Refusal;

/// The next step through a batch of client bytes.
#[derive(Debug)]
pub enum Step<'a> {
    /// The rest is the beginning of a frame: more bytes are needed.
    Starved,
    /// What comes next is decided about when the upstream has answered what came before: the client waits.
    Busy,
    /// So many bytes may be forwarded.
    Pass(usize),
    /// The event must be allowed; then so many bytes may be forwarded.
    Show(Event<'a>, usize),
    /// The event must be allowed; then these bytes are forwarded in the place of so many.
    Instead(Event<'a>, usize, Vec<u8>),
    /// The event must be allowed; then so many bytes are dropped, and the client is told this, between two
    /// messages ([`Inspect::say`]).
    Refuse(Event<'a>, usize, Vec<u8>),
    /// So many bytes may be forwarded; nothing follows.
    Last(usize),
}

/// Something that the upstream's half wants done where the tap is, and the way to the upstream.
#[derive(Debug)]
pub enum Errand<'a> {
    /// The event must be allowed; then these bytes, if any, go to the upstream.
    Show(Event<'a>, Vec<u8>),
    /// These bytes go to the upstream.
    Send(Vec<u8>),
    /// The session ends.
    End(Refusal),
}

/// Decides about client bytes.
pub trait Inspect: Send {
    /// Decides about the front of `bytes`. The caller comes back with what lies behind the step; starved, with
    /// the same bytes and more; busy, with the same bytes after [`Inspect::called`]. Never starved when
    /// `bytes` holds [`super::SHOWN`] bytes.
    ///
    /// # Errors
    /// The client broke the protocol: nothing of `bytes` may be forwarded.
    fn step<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Step<'a>, Malformed>;

    /// The bytes that tell the client, between two upstream messages, why its session ends.
    fn farewell(&self, refusal: &Refusal) -> Vec<u8>;

    /// The answer of a [`Step::Refuse`], whose event was allowed: it goes to the client by the upstream's half.
    fn say(&mut self, _answer: Vec<u8>) {}

    /// What the upstream's half wants done, if anything.
    fn errand(&mut self) -> Option<Errand<'_>> {
        None
    }

    /// The errand was run.
    fn errand_done(&mut self) {}

    /// Completes when there is an errand, or when what was busy may be so no more. May complete too often.
    ///
    /// # Cancel safety
    /// Cancel safe: a call that nobody heard is kept.
    fn called(&self) -> impl Future<Output = ()> + Send {
        pending()
    }
}

/// What becomes of upstream bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// So many bytes, 1 or more, are forwarded; where, in them, a frame ended last: 0 when the first byte
    /// starts one, `None` when they all lie within a frame.
    Forward {
        /// How many.
        bytes: usize,
        /// Where a frame ended last.
        boundary: Option<usize>,
    },
    /// So many bytes, 1 or more, are not for the client.
    Drop(usize),
    /// More bytes are needed.
    Starved,
    /// The upstream says what it cannot say: nothing that follows is understood.
    Lost(&'static str),
}

/// Follows upstream bytes.
pub trait Follow: Send {
    /// Decides about the front of `bytes`, which is not empty. The caller comes back with what lies behind, or,
    /// starved, with the same bytes and more. Never starved when `bytes` holds [`super::SHOWN`] bytes.
    fn follow(&mut self, bytes: &[u8]) -> Course;

    /// True when everything forwarded so far ends with a frame.
    fn at_boundary(&self) -> bool;

    /// What the client is to be told by us now. Asked when everything decided before is written.
    fn say(&mut self) -> Option<Vec<u8>> {
        None
    }

    /// Completes when there is something to say.
    ///
    /// # Cancel safety
    /// Cancel safe: a call that nobody heard is kept.
    fn called(&self) -> impl Future<Output = ()> + Send {
        pending()
    }
}
