//! How many denied events may be caused: bounded in rate, so that nobody who is turned away can fill the disk.
//!
//! Strangers share one bound. Whoever has a genuine certificate (expired, locked, without its touch, of a user who has all
//! the sessions it may have) has one of its own, so that a certificate that was stolen hides nobody else's denials, and all
//! of them together have another. What is beyond is only counted.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// This many at once, and one more in that time.
#[derive(Clone, Copy)]
struct Rate {
    burst: u64,
    refill: Duration,
}

/// Clients without a genuine certificate, together.
const STRANGERS: Rate = Rate { burst: 100, refill: Duration::from_millis(100) };
/// One user: a job that tries again each second is on record each time.
const USER: Rate = Rate { burst: 100, refill: Duration::from_secs(1) };
/// All users together.
const USERS: Rate = Rate { burst: 500, refill: Duration::from_millis(100) };
/// Users of whom is remembered how much room they have; of others, it is all of it.
const MAX_USERS: usize = 10_000;

/// The room that there is for denied events.
pub(super) struct Denials {
    strangers: Bucket,
    users: Bucket,
    of_user: Mutex<HashMap<String, Bucket>>,
}

impl Denials {
    pub(super) fn new() -> Self {
        Self { strangers: Bucket::new(STRANGERS), users: Bucket::new(USERS), of_user: Mutex::default() }
    }

    /// Takes room for one event about this user, or a stranger, if there is room.
    pub(super) fn take(&self, user: Option<&str>) -> bool {
        let Some(user) = user else { return self.strangers.take() };
        self.take_of_user(user) && self.users.take()
    }

    fn take_of_user(&self, user: &str) -> bool {
        let mut of_user = self.of_user();
        if let Some(bucket) = of_user.get(user) {
            return bucket.take();
        }
        if of_user.len() >= MAX_USERS {
            of_user.retain(|_, bucket| !bucket.is_full());
        }
        if of_user.len() >= MAX_USERS {
            return false;
        }
        of_user.entry(user.to_owned()).or_insert_with(|| Bucket::new(USER)).take()
    }

    fn of_user(&self) -> MutexGuard<'_, HashMap<String, Bucket>> {
        self.of_user.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A token bucket.
struct Bucket {
    rate: Rate,
    started: Instant,
    /// Tokens ever taken.
    taken: AtomicU64,
}

impl Bucket {
    fn new(rate: Rate) -> Self {
        Self { rate, started: Instant::now(), taken: AtomicU64::new(0) }
    }

    /// One token, if there is one.
    fn take(&self) -> bool {
        let refilled = self.refilled();
        self.taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
                // What was not used in quiet times does not add up beyond one burst.
                let taken = taken.max(refilled);
                (taken < refilled.saturating_add(self.rate.burst)).then_some(taken + 1)
            })
            .is_ok()
    }

    /// As good as a new one.
    fn is_full(&self) -> bool {
        self.taken.load(Ordering::Acquire) <= self.refilled()
    }

    fn refilled(&self) -> u64 {
        let refilled = self.started.elapsed().as_millis() / self.rate.refill.as_millis().max(1);
        u64::try_from(refilled).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denials_of_strangers_are_bounded_in_rate() {
        let denials = Denials::new();
        let taken = (0..1000).filter(|_| denials.take(None)).count() as u64;
        assert!((STRANGERS.burst..STRANGERS.burst + 20).contains(&taken), "{taken}");
        assert!(denials.take(Some("jerry")), "strangers take no user's room");
    }

    #[test]
    fn a_user_has_room_of_its_own_and_takes_nobody_elses() {
        let denials = Denials::new();
        let taken = (0..1000).filter(|_| denials.take(Some("jerry"))).count() as u64;
        assert!((USER.burst..USER.burst + 20).contains(&taken), "{taken}");
        assert!(denials.take(Some("tom")) && denials.take(None));
    }

    #[test]
    fn all_users_together_are_bounded_too_and_so_is_what_is_remembered_of_them() {
        let denials = Denials::new();
        let users = 0..2 * MAX_USERS;
        let taken = users.filter(|number| denials.take(Some(&format!("user-{number}")))).count() as u64;
        assert!((USERS.burst..USERS.burst + 100).contains(&taken), "{taken}");
        assert!(denials.of_user().len() <= MAX_USERS);
    }

    #[test]
    fn a_bucket_that_was_left_alone_is_as_good_as_new() {
        let bucket = Bucket::new(USER);
        assert!(bucket.is_full());
        assert!(bucket.take());
        assert!(!bucket.is_full());
        let rested = Bucket { started: Instant::now() - 2 * USER.refill, ..bucket };
        assert!(rested.is_full());
    }
}
