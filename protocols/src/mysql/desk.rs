//! HOT: what the two halves of a session know together: which commands wait for an answer, in order, and what one
//! half wants of the other.
//!
//! Both halves run in one task, so the lock is never waited for; and nobody holds it across an `.await`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::event::mysql::FileFate;
use crate::refusal::Refusal;

use super::responses::Reply;

/// Commands that may wait for an answer: a client that sends more waits itself.
pub(super) const MAX_WAITING: usize = 1_024;
/// Of these, the room for so many stays when the session is idle.
const KEPT: usize = 16;

/// What both halves know.
#[derive(Debug, Default)]
pub(super) struct Desk {
    state: Mutex<State>,
    to_inspector: Notify,
    to_follower: Notify,
}

#[derive(Debug)]
pub(super) struct State {
    /// Commands that wait for an answer.
    pub(super) waiting: VecDeque<Waiting>,
    /// The client's half does not go on before something here changes.
    pub(super) inspector_waits: bool,
    /// Statements that were prepared, and their parameters, which the client's half has not heard of.
    pub(super) prepared: Vec<(u32, u16)>,
    /// The upstream wants a file.
    pub(super) file: FileState,
    /// Why the session must end, once somebody has found out.
    pub(super) ending: Option<Refusal>,
    /// Answers to the client that are over, and results in the middle of one: with each, MySQL's server sends what it has.
    pub(super) answers: u64,
    pub(super) results: u64,
    /// The number of the next packet to the client, if we are the next who say something.
    pub(super) sequence: u8,
}

impl Default for State {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            inspector_waits: false,
            prepared: Vec::new(),
            file: FileState::None,
            ending: None,
            answers: 0,
            results: 0,
            sequence: 1,
        }
    }
}

/// A command that waits for its answer.
#[derive(Debug)]
pub(super) enum Waiting {
    /// The upstream answers, and the client hears it. The statement offers these files.
    Client(Reply, Vec<Vec<u8>>),
    /// The upstream answers ours, and nobody hears it: the session's settings are made again.
    Settings,
    /// We answer with these bytes.
    Said(Vec<u8>),
}

/// Where the upstream's wish for a file stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FileState {
    /// There is none.
    None,
    /// It was heard; the client's half is to show it to the tap.
    Wished {
        name: Vec<u8>,
        /// The number of the packet with the wish.
        sequence: u8,
        fate: FileFate,
    },
    /// The tap has seen it. The client may hear of it.
    Seen(FileFate),
    /// The client sends the file.
    Flows,
}

impl Desk {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the client's half look here.
    pub(super) fn call_inspector(&self) {
        self.to_inspector.notify_one();
    }

    /// Makes the upstream's half look here.
    pub(super) fn call_follower(&self) {
        self.to_follower.notify_one();
    }

    /// # Cancel safety
    /// Cancel safe: a call that nobody heard is kept.
    pub(super) async fn inspector_called(&self) {
        self.to_inspector.notified().await;
    }

    /// # Cancel safety
    /// Cancel safe: a call that nobody heard is kept.
    pub(super) async fn follower_called(&self) {
        self.to_follower.notified().await;
    }

    /// Is a command unanswered?
    pub(super) fn is_busy(&self) -> bool {
        !self.lock().waiting.is_empty()
    }
}

impl State {
    /// The command at the front is answered.
    pub(super) fn answered(&mut self) {
        self.waiting.pop_front();
        self.sequence = 1;
        if self.waiting.is_empty() {
            self.waiting.shrink_to(KEPT);
        }
    }

    /// True when the client's half has to wait before a command like this can be decided about.
    pub(super) fn is_closed_to(&self, needs_prepared: bool) -> bool {
        self.waiting.len() >= MAX_WAITING
            || self.waiting.iter().any(|waiting| match waiting {
                // What follows may be the file, and not a command. What has no end of its own is followed by none.
                Waiting::Client(Reply::Dump, _) | Waiting::Settings => true,
                Waiting::Client(Reply::Prepared, _) => needs_prepared,
                Waiting::Client(_, files) => !files.is_empty(),
                Waiting::Said(_) => false,
            })
    }
}
