//! What is to be told of changes: items that a change puts along with itself, and that stay until they were told elsewhere.
//!
//! One receiver hears of them, in the order of commits, and before anybody is answered or finds in memory what was committed
//! with them; no watcher does. To remove one needs no commit, and costs none: it goes with the next that there is.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::Change;

/// The items under one path, as far as they are not in the database.
pub(super) struct Outbox {
    /// Ends with a slash.
    path: &'static str,
    receiver: Mutex<Option<mpsc::UnboundedSender<Change>>>,
    /// Keys of what was told, and is in the database still.
    discarded: Mutex<Vec<String>>,
}

impl Outbox {
    /// Nobody hears of anything yet.
    pub(super) fn new(path: &'static str) -> Self {
        Self { path, receiver: Mutex::default(), discarded: Mutex::default() }
    }

    /// Is this one of them?
    pub(super) fn covers(&self, key: &str) -> bool {
        key.starts_with(self.path)
    }

    /// Who hears of them from now on, in the place of whoever did before. Unbounded: each is of a call that waits for its end.
    pub(super) fn receiver(&self) -> mpsc::UnboundedReceiver<Change> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.receiver.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    /// Tells of what was committed.
    pub(super) fn tell(&self, put: Vec<Change>) {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        // Where nobody hears, it stays in the database for the next process.
        put.into_iter().for_each(|put| drop(receiver.as_ref().map(|receiver| receiver.send(put))));
    }

    /// These were told.
    pub(super) fn discard(&self, keys: Vec<String>) {
        self.discarded().extend(keys);
    }

    /// What there is to remove.
    pub(super) fn to_remove(&self) -> Vec<String> {
        self.discarded().clone()
    }

    /// The first so many of them are gone from the database. By the writing thread alone.
    pub(super) fn removed(&self, count: usize) {
        self.discarded().drain(..count);
    }

    fn discarded(&self) -> MutexGuard<'_, Vec<String>> {
        self.discarded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
