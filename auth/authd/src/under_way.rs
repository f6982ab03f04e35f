//! Calls that will soon have something for the disk, and the writers that wait for them: several share one sync.
//!
//! A writer (the store's, the audit trail's) is a thread that takes what has queued up, and syncs once for it. On a busy core
//! hardly anything would ever queue up: the writer is woken for the first, and done before the next call has come so far. So
//! short calls that write are announced ([`UnderWay::begin`]), and a writer that has work sleeps, and leaves the core to them, as
//! long as one of them is on its way: announced, and waiting for no writer yet. Whoever waits for the one writer cannot come to
//! the other in the meantime, and neither waits for such.
//!
//! One call alone is not held up at all, nor is anybody for longer than [`AT_MOST`]. A call that waits for a person, for its
//! caller's next bytes, for a password's hash, or for changes (Watch), must not be announced: others would wait for it in
//! vain. Calls that are not announced come to the writers as ever, and share the syncs that they find.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::mpsc, task::yield_now};

/// The longest that a writer waits for others. Half a dozen certificates get so far on one core in that time; a sync itself
/// may take as long.
const AT_MOST: Duration = Duration::from_millis(3);
/// What shares one sync at most. Where so many wait, nobody waits for more.
const GROUP: usize = 64;

/// The calls of one authd. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct UnderWay(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Rung when a writer that sleeps has nobody left to wait for.
    bell: Condvar,
    at_most: Duration,
}

#[derive(Debug, Default)]
struct State {
    /// Announced.
    calls: usize,
    /// Waiting for a writer, whichever; not all of them are announced, so a writer may wait for too few, never for too many.
    waiting: usize,
    /// Writers that sleep until others have come.
    sleeping: usize,
}

/// A call that is announced, until this is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Call(UnderWay);

/// Somebody waits for a writer, until this is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Waiting(UnderWay);

/// How a writer came to its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gathered {
    /// There was nobody to wait for.
    AtOnce,
    /// All that were waited for came, or left.
    All,
    /// The time was over.
    InTime,
}

impl Default for UnderWay {
    fn default() -> Self {
        Self::waiting_at_most(AT_MOST)
    }
}

impl UnderWay {
    /// With another bound than the usual.
    pub(crate) fn waiting_at_most(at_most: Duration) -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), bell: Condvar::new(), at_most }))
    }

    /// Announces a call. Others that have arrived begin, and count, before it goes on: it yields to them once.
    ///
    /// # Cancel safety
    /// Dropped, it is no longer announced.
    pub(crate) async fn begin(&self) -> Call {
        self.lock().calls += 1;
        let call = Call(self.clone());
        yield_now().await;
        call
    }

    /// Somebody comes to a writer: `enqueue` puts something into its queue and must keep what it is given, there or with its caller.
    /// Counted and queued is one step, so a writer that finds all waiting finds them in its queue, or another in its own.
    ///
    /// Whoever goes on to another writer afterwards has it dropped by the first before it hears the answer: it is on its way again
    /// by then. Others keep it until they are awake.
    pub(crate) fn waits<T>(&self, enqueue: impl FnOnce(Waiting) -> T) -> T {
        let mut state = self.lock();
        state.waiting += 1;
        let queued = enqueue(Waiting(self.clone()));
        self.ring(state);
        queued
    }

    /// Wakes the writers, where there is nobody left to wait for.
    fn ring(&self, state: MutexGuard<'_, State>) {
        let rings = state.sleeping > 0 && !state.is_anybody_coming();
        drop(state);
        if rings {
            self.0.bell.notify_all();
        }
    }

    /// A writer's next work: all that shares one sync, in its order. Empty: there will be no more. A queue that is closed is
    /// not waited for.
    pub(crate) fn take<T>(&self, queue: &mut mpsc::Receiver<T>) -> Vec<T> {
        let mut group = Vec::new();
        if queue.blocking_recv_many(&mut group, GROUP) == 0 || queue.is_closed() {
            return group;
        }
        self.gather();
        let more = GROUP - group.len();
        group.extend(std::iter::from_fn(|| queue.try_recv().ok()).take(more));
        group
    }

    fn gather(&self) -> Gathered {
        let mut state = self.lock();
        if !state.is_anybody_coming() {
            return Gathered::AtOnce;
        }
        state.sleeping += 1;
        let (mut state, slept) = self
            .0
            .bell
            .wait_timeout_while(state, self.0.at_most, |state| state.is_anybody_coming())
            .unwrap_or_else(PoisonError::into_inner);
        state.sleeping -= 1;
        if slept.timed_out() { Gathered::InTime } else { Gathered::All }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Is there a call that may come to a writer while that waits, and is it worth waiting for?
    fn is_anybody_coming(&self) -> bool {
        self.waiting < self.calls && self.waiting < GROUP
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.calls -= 1;
        self.0.ring(state);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

#[cfg(test)]
mod tests;
