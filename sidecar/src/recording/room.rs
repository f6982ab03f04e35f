//! What recordings take on disk until authd has them in full: together, and each user's.
//!
//! Nobody's may take more than there is room left for all, as in the audit spool: one user alone comes to half of the bound, the
//! next to half of what is left, and so on. Those who have little are never in the way.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::RecordError;

/// Whose recordings take no more than this part of the bound, or these bytes, has little.
const LITTLE: u64 = 64;
const LITTLE_BYTES: u64 = 512 * 1024;

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Room(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    all: u64,
    users: HashMap<String, u64>,
}

impl Room {
    /// Bytes of all.
    pub(super) fn all(&self) -> u64 {
        self.taken().all
    }

    pub(super) fn take(&self, user: &str, bytes: u64) {
        let mut taken = self.taken();
        taken.all = taken.all.saturating_add(bytes);
        match taken.users.get_mut(user) {
            Some(of_user) => *of_user = of_user.saturating_add(bytes),
            None => drop(taken.users.insert(user.to_owned(), bytes)),
        }
    }

    pub(super) fn give_back(&self, user: &str, bytes: u64) {
        let mut taken = self.taken();
        taken.all = taken.all.saturating_sub(bytes);
        let left = taken.users.get_mut(user).map(|of_user| {
            *of_user = of_user.saturating_sub(bytes);
            *of_user
        });
        if left == Some(0) {
            taken.users.remove(user);
        }
    }

    /// May a recording of this user's take more, where all may take up to `most` and recordings begin up to `bound`?
    pub(super) fn check(&self, user: &str, bound: u64, most: u64) -> Result<(), RecordError> {
        let taken = self.taken();
        let all = taken.all;
        if all > most {
            return Err(RecordError::Full { bytes: all, bound: most });
        }
        let (bytes, left) = (taken.users.get(user).copied().unwrap_or_default(), bound.saturating_sub(all));
        if bytes > left.max(LITTLE_BYTES.max(bound / LITTLE)) {
            return Err(RecordError::Share { bytes, left });
        }
        Ok(())
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: u64 = 1024 * 1024 * 1024;
    const PART: u64 = 1024 * 1024;

    #[test]
    fn nobodys_recordings_take_the_room_of_others() {
        let room = Room::default();
        for (number, expected) in [(0, 513), (1, 769), (2, 897)] {
            let user = format!("user-{number}");
            while room.check(&user, BOUND, BOUND).is_ok() {
                room.take(&user, PART);
            }
            assert!(matches!(room.check(&user, BOUND, BOUND), Err(RecordError::Share { .. })));
            assert_eq!(room.all() / PART, expected, "{user}");
            room.check("somebody else", BOUND, BOUND).unwrap();
        }
        room.give_back("user-0", 400 * PART);
        room.check("user-0", BOUND, BOUND).unwrap();
    }

    #[test]
    fn nothing_is_kept_of_users_whose_recordings_are_with_authd() {
        let room = Room::default();
        room.take("jerry", PART);
        room.give_back("jerry", PART);
        assert_eq!((room.all(), room.taken().users.len()), (0, 0));
    }
}
