//! Names that are nobody's: how many of them are kept count of.
//!
//! They are counted like users, or the lock-out would tell who is one, but there is no end of them. So there is room for many,
//! and then those go that have failed the least, and longest ago. A name that is closed is the last to go: to have one forgotten
//! before it opens by itself, and see by that that it is nobody's, somebody must close all the others, which takes every
//! turn of [`crate::password::Passwords`] for as long as a name stays closed.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use super::{FAILURE_MEMORY, Failures};

/// Names with a count, at most: some twenty megabytes of memory, as much of the store.
const ROOM: usize = 65_536;

/// The counts of names that are nobody's, by their keys in the store. What an earlier authd left there goes away by itself.
pub(crate) struct MadeUp {
    counts: Mutex<HashMap<String, Failures>>,
    room: usize,
}

impl Default for MadeUp {
    fn default() -> Self {
        Self::with_room(ROOM)
    }
}

impl MadeUp {
    pub(crate) fn with_room(room: usize) -> Self {
        Self { counts: Mutex::default(), room }
    }

    /// Notes how a count stands now; answers with those that are to be forgotten in the store, if there are too many.
    pub(super) fn note(&self, key: String, failures: Failures, now: SystemTime) -> Vec<String> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.insert(key, failures);
        if counts.len() <= self.room {
            return vec![];
        }
        counts.retain(|_, failures| now < failures.last + FAILURE_MEMORY);
        // Some more than must be, so that it is not done for each.
        let excess = counts.len().saturating_sub(self.room - self.room / 16);
        let mut by_weight: Vec<_> =
            counts.iter().map(|(key, failures)| (failures.count, failures.last, key.clone())).collect();
        by_weight.sort_unstable();
        let gone: Vec<_> = by_weight.into_iter().take(excess).map(|(_, _, key)| key).collect();
        for key in &gone {
            counts.remove(key);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn failed(count: u32, seconds: u64) -> Failures {
        Failures { count, last: NOW + Duration::from_secs(seconds) }
    }

    #[test]
    fn there_is_room_for_so_many_and_a_closed_one_is_the_last_to_go() {
        let made_up = MadeUp::with_room(32);
        let mut gone = made_up.note("closed".into(), failed(5, 0), NOW);
        for n in 0..1000 {
            gone.extend(made_up.note(n.to_string(), failed(1, n), NOW));
            assert!(made_up.counts.lock().unwrap().len() <= 32);
        }
        // The oldest went first, and none twice.
        assert!(gone.len() >= 1001 - 32);
        assert!(gone.iter().enumerate().all(|(n, key)| *key == n.to_string()), "{gone:?}");
    }

    #[test]
    fn a_name_that_fails_again_is_one_name() {
        let made_up = MadeUp::with_room(1);
        for count in 1..=5 {
            assert!(made_up.note("name".into(), failed(count, 0), NOW).is_empty());
        }
    }

    #[test]
    fn what_is_over_makes_room_first() {
        let made_up = MadeUp::with_room(32);
        for n in 0..32 {
            made_up.note(n.to_string(), failed(5, 0), NOW);
        }
        let later = NOW + FAILURE_MEMORY;
        let fresh = Failures { count: 1, last: later };
        assert!(made_up.note("fresh".into(), fresh, later).is_empty(), "the store has forgotten them itself");
        assert_eq!(made_up.counts.lock().unwrap().len(), 1);
    }
}
