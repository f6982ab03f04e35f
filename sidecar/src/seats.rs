//! How many sessions each user has at this sidecar, at all its targets together: what `max_connections` is measured by.
//!
//! Counted here and nowhere else: a user who may have ten connections may have ten at each sidecar. (A count across
//! sidecars would need authd on the way in, and nobody could come in while it is away.)

use std::{
    collections::{HashMap, hash_map::Entry},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use auth::identity::UserName;

/// The sessions of all users.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    taken: Mutex<HashMap<UserName, NonZeroU32>>,
}

/// One session's seat, from its admission to its end. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    user: UserName,
}

impl Seats {
    /// A seat for one more session of this user; `None` when it has as many as `limit` allows.
    ///
    /// Counting and taking are one step under the lock: of two connections that race for the last seat, one gets it. A
    /// session takes its seat before its upstream is dialled, so those that are being opened count too.
    pub(crate) fn take(self: &Arc<Self>, user: &UserName, limit: Option<u32>) -> Option<Seat> {
        let mut taken = self.taken();
        let others = taken.get(user).map_or(0, |others| others.get());
        if limit.is_some_and(|limit| others >= limit) {
            return None;
        }
        taken.insert(user.clone(), NonZeroU32::MIN.saturating_add(others));
        Some(Seat { seats: Arc::clone(self), user: user.clone() })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<UserName, NonZeroU32>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        if let Entry::Occupied(mut entry) = taken.entry(self.user.clone()) {
            match NonZeroU32::new(entry.get().get() - 1) {
                Some(others) => drop(entry.insert(others)),
                None => drop(entry.remove()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserName {
        UserName::new(name).unwrap()
    }

    #[test]
    fn a_user_has_as_many_seats_as_the_limit_says_and_no_other_loses_one() {
        let seats = Arc::new(Seats::default());
        let (jerry, tom) = (user("jerry"), user("tom"));
        let held: Vec<_> = (0..2).map(|_| seats.take(&jerry, Some(2)).unwrap()).collect();
        assert!(seats.take(&jerry, Some(2)).is_none());
        assert!(seats.take(&tom, Some(2)).is_some());
        drop(held);
        assert!(seats.take(&jerry, Some(2)).is_some());
        assert!(seats.taken().is_empty(), "who has no session takes no memory");
    }

    #[test]
    fn sessions_without_a_limit_count_for_those_that_have_one() {
        let seats = Arc::new(Seats::default());
        let _held: Vec<_> = (0..3).map(|_| seats.take(&user("jerry"), None).unwrap()).collect();
        assert!(seats.take(&user("jerry"), Some(3)).is_none());
        assert!(seats.take(&user("jerry"), Some(4)).is_some());
    }

    #[test]
    fn of_many_that_race_for_the_last_seats_no_more_get_in_than_there_are() {
        let seats = Arc::new(Seats::default());
        let held = std::thread::scope(|scope| {
            let racers: Vec<_> =
                (0..32).map(|_| scope.spawn(|| seats.take(&user("jerry"), Some(5)))).collect();
            racers.into_iter().filter_map(|racer| racer.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(held.len(), 5);
    }
}
