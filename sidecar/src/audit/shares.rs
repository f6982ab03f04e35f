//! How much of the spool each user may take: as much as there is room left for all.
//!
//! While authd takes events as they come there is nothing to divide, and nothing is counted. Once they wait, a user whose
//! sessions have more waiting than there is room left is held up until authd has taken some of it, and ended where it does not.
//! So one user alone comes to about half of the bound, the next to half of what is left, and so on (two at once to a third each):
//! nobody fills the spool for others, but a crowd.
//!
//! What a user has waiting is known well enough, not to the byte: events are counted at what they take of the queue, and what
//! authd takes is taken off everybody's in proportion.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

use super::{AuditError, QUEUE_BYTES, writer::State};

/// Nothing is divided below this part of the bound, or below these bytes: the segment that is written, and the one that is sent.
const CALM: u64 = 8;
const CALM_BYTES: u64 = 8 * 1024 * 1024;
/// Whoever has no more than this part of the bound waiting, or these bytes, is never held up: sessions that are live when the
/// bound is reached go on.
const LITTLE: u64 = 64;
const LITTLE_BYTES: u64 = 512 * 1024;
/// Between two looks at whether there is room again.
const LOOK: Duration = Duration::from_millis(20);

/// The users' shares of one spool.
pub(super) struct Shares {
    state: Arc<State>,
    /// What is left of the queue.
    queue: Arc<Semaphore>,
    bound: u64,
    /// Users that have sessions or events that wait.
    users: Mutex<HashMap<String, Arc<AtomicU64>>>,
    /// Somebody may have something counted.
    divided: AtomicBool,
}

/// One user's share. Cheap to clone.
#[derive(Clone)]
pub(super) struct Share {
    shares: Arc<Shares>,
    /// Bytes that wait.
    taken: Arc<AtomicU64>,
}

impl Shares {
    pub(super) fn new(state: Arc<State>, queue: Arc<Semaphore>, bound: u64) -> Arc<Self> {
        Arc::new(Self { state, queue, bound, users: Mutex::default(), divided: AtomicBool::new(false) })
    }

    /// The share of all sessions of a user.
    pub(super) fn of(self: &Arc<Self>, user: &str) -> Share {
        let mut users = self.users();
        let taken = match users.get(user) {
            Some(taken) => Arc::clone(taken),
            None => {
                // Who has no session and nothing that waits is as good as new.
                users.retain(|_, taken| Arc::strong_count(taken) > 1 || taken.load(Ordering::Relaxed) > 0);
                Arc::clone(users.entry(user.to_owned()).or_default())
            }
        };
        Share { shares: Arc::clone(self), taken }
    }

    /// Bytes that wait, on disk and on their way there, where they are many.
    fn waiting(&self) -> Option<u64> {
        let room = u32::try_from(self.queue.available_permits()).unwrap_or(QUEUE_BYTES);
        let queued = u64::from(QUEUE_BYTES.saturating_sub(room));
        let waiting = self.state.bytes.load(Ordering::Acquire).saturating_add(queued);
        if waiting > CALM_BYTES.max(self.bound / CALM).min(self.bound / 2) {
            return Some(waiting);
        }
        // What was counted is with authd, most of it: the next time begins from nothing.
        if self.divided.load(Ordering::Relaxed) && self.divided.swap(false, Ordering::AcqRel) {
            for taken in self.users().values() {
                taken.store(0, Ordering::Relaxed);
            }
        }
        None
    }

    /// Takes off everybody's share what authd has taken.
    fn recount(&self, waiting: u64) {
        let users = self.users();
        let counted: u64 = users.values().map(|taken| taken.load(Ordering::Relaxed)).sum();
        if counted <= waiting {
            return;
        }
        for taken in users.values() {
            let scale =
                |taken| u64::try_from(u128::from(taken) * u128::from(waiting) / u128::from(counted)).ok();
            let _ = taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, scale);
        }
    }

    fn users(&self) -> MutexGuard<'_, HashMap<String, Arc<AtomicU64>>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Counts an event. HOT.
    pub(super) fn take(&self, bytes: u32) {
        if self.shares.waiting().is_some() {
            self.taken.fetch_add(u64::from(bytes), Ordering::Relaxed);
            self.shares.divided.store(true, Ordering::Release);
        }
    }

    /// Is there room for more? HOT where there is.
    ///
    /// # Errors
    /// There is not: [`AuditError::Share`].
    pub(super) fn check(&self) -> Result<(), AuditError> {
        let Some(waiting) = self.shares.waiting() else { return Ok(()) };
        if self.is_within(waiting) {
            return Ok(());
        }
        self.shares.recount(waiting);
        if self.is_within(waiting) {
            return Ok(());
        }
        Err(AuditError::Share { bytes: self.taken.load(Ordering::Relaxed), left: self.left(waiting) })
    }

    /// Waits until there is room, no longer than `patience`. HOT where there is: nobody looks at a clock.
    ///
    /// # Errors
    /// As of [`Self::check`], when there is still none.
    pub(super) async fn room(&self, patience: Duration) -> Result<(), AuditError> {
        let mut until = None;
        loop {
            let checked = self.check();
            if checked.is_ok() || *until.get_or_insert_with(|| Instant::now() + patience) <= Instant::now() {
                return checked;
            }
            sleep(LOOK).await;
        }
    }

    fn is_within(&self, waiting: u64) -> bool {
        let little = LITTLE_BYTES.max(self.shares.bound / LITTLE);
        self.taken.load(Ordering::Relaxed) <= self.left(waiting).max(little)
    }

    fn left(&self, waiting: u64) -> u64 {
        self.shares.bound.saturating_sub(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;
    const BOUND: u64 = 1024 * MIB;
    const EVENT: u32 = 64 * 1024;

    fn spool() -> (Arc<State>, Arc<Shares>) {
        let state = State::new(0);
        let queue = Arc::new(Semaphore::new(QUEUE_BYTES as usize));
        (Arc::clone(&state), Shares::new(state, queue, BOUND))
    }

    /// Writes as much as it may; nothing is shipped.
    fn fill(state: &State, share: &Share) {
        while share.check().is_ok() && state.bytes.load(Ordering::Relaxed) <= 2 * BOUND {
            share.take(EVENT);
            state.bytes.fetch_add(u64::from(EVENT), Ordering::Relaxed);
        }
    }

    #[test]
    fn one_user_leaves_room_for_others_and_several_do_too() {
        let (state, shares) = spool();
        let mut left = BOUND;
        for number in 0..4 {
            let user = shares.of(&format!("user-{number}"));
            fill(&state, &user);
            let left_now = BOUND - state.bytes.load(Ordering::Relaxed);
            assert!(left_now > left * 2 / 5, "{number}: of {} are left {}", left / MIB, left_now / MIB);
            assert!(matches!(user.check(), Err(AuditError::Share { .. })));
            shares.of("somebody else").check().unwrap();
            left = left_now;
        }
    }

    #[test]
    fn two_users_at_once_come_to_a_third_each() {
        let (state, shares) = spool();
        let users = [shares.of("mallory"), shares.of("malory")];
        while users.iter().any(|user| user.check().is_ok()) {
            for user in users.iter().filter(|user| user.check().is_ok()) {
                user.take(EVENT);
                state.bytes.fetch_add(u64::from(EVENT), Ordering::Relaxed);
            }
        }
        let left = BOUND - state.bytes.load(Ordering::Relaxed);
        assert!(left > 280 * MIB, "{}", left / MIB);
    }

    #[test]
    fn a_user_cannot_take_more_through_more_sessions() {
        let (state, shares) = spool();
        for _ in 0..20 {
            fill(&state, &shares.of("mallory"));
        }
        assert!(state.bytes.load(Ordering::Relaxed) < 600 * MIB);
    }

    #[test]
    fn whoever_has_little_waiting_goes_on_beyond_the_bound() {
        let (state, shares) = spool();
        let (jerry, mallory) = (shares.of("jerry"), shares.of("mallory"));
        state.bytes.store(BOUND + BOUND / 8, Ordering::Relaxed);
        jerry.take(EVENT);
        for _ in 0..BOUND / u64::from(EVENT) {
            mallory.take(EVENT);
        }
        jerry.check().unwrap();
        mallory.check().unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_was_held_up_goes_on_once_authd_has_taken_some() {
        let (state, shares) = spool();
        let mallory = shares.of("mallory");
        fill(&state, &mallory);
        let held = tokio::spawn({
            let mallory = mallory.clone();
            async move { mallory.room(Duration::from_secs(10)).await }
        });
        sleep(Duration::from_secs(1)).await;
        assert!(!held.is_finished());
        state.bytes.fetch_sub(8 * MIB, Ordering::Relaxed);
        held.await.unwrap().unwrap();

        fill(&state, &mallory);
        assert!(matches!(mallory.room(Duration::from_secs(10)).await, Err(AuditError::Share { .. })));
        // All of it: what was counted then is forgotten.
        state.bytes.store(0, Ordering::Relaxed);
        mallory.check().unwrap();
        assert_eq!(mallory.taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn nothing_is_kept_of_users_who_are_gone() {
        let (_, shares) = spool();
        for number in 0..100 {
            drop(shares.of(&format!("user-{number}")));
        }
        assert!(shares.users().len() <= 1);
    }
}
