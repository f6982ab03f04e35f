//! Who may take up room before it is known who they are: a bounded number of connections, and of unknown ones.
//!
//! A connection is *unknown* until it is authorized. When there is no room for another unknown one, the newcomer is let in
//! and the oldest unknown connection of the address that has the most is closed. So sockets that say nothing push out each
//! other and never a newcomer, and an address that opens thousands loses its own first.
//!
//! Who has a genuine certificate and is asked for a code need not make room either, for a person is looking for a phone. Of
//! each user, and in all, only so many do: a certificate that was stolen gives its thief no more room than that.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use auth::identity::UserName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Connections of one user that are asked for a code, and need not make room.
const ASKED_OF_USER: usize = 5;
/// Of all users.
const ASKED: usize = 500;

/// How much room there is on one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Connections in all, sessions included.
    pub connections: usize,
    /// Unknown connections in all.
    pub unknown: usize,
    /// Unknown connections of one client address.
    pub unknown_per_address: usize,
}

/// The door of one listener.
#[derive(Debug)]
pub(crate) struct Admission {
    connections: Arc<Semaphore>,
    room: Room,
    unknown: Mutex<Unknown>,
}

#[derive(Debug, Default)]
struct Unknown {
    next: u64,
    total: usize,
    by_address: HashMap<IpAddr, VecDeque<Waiting>>,
    /// Who is asked for a code, and so waits in no queue.
    asked: HashMap<u64, UserName>,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    evict: CancellationToken,
}

/// A connection's place. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _connection: OwnedSemaphorePermit,
    admission: Arc<Admission>,
    address: IpAddr,
    number: u64,
    evicted: CancellationToken,
}

impl Admission {
    pub(crate) fn new(room: Room) -> Arc<Self> {
        Arc::new(Self {
            connections: Arc::new(Semaphore::new(room.connections)),
            room,
            unknown: Mutex::default(),
        })
    }

    /// A place for a connection from `address`; `None` when the listener has all the connections it may have.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let connection = Arc::clone(&self.connections).try_acquire_owned().ok()?;
        let evicted = CancellationToken::new();
        let mut unknown = self.unknown();
        unknown.make_room(address, &self.room);
        let number = unknown.next;
        unknown.next += 1;
        unknown.total += 1;
        unknown.by_address.entry(address).or_default().push_back(Waiting { number, evict: evicted.clone() });
        drop(unknown);
        Some(Place { _connection: connection, admission: Arc::clone(self), address, number, evicted })
    }

    fn unknown(&self) -> MutexGuard<'_, Unknown> {
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unknown {
    fn make_room(&mut self, address: IpAddr, room: &Room) {
        let of_address = self.by_address.get(&address).map_or(0, VecDeque::len);
        let from = if of_address >= room.unknown_per_address {
            Some(address)
        } else if self.total >= room.unknown {
            self.by_address.iter().max_by_key(|(_, waiting)| waiting.len()).map(|(address, _)| *address)
        } else {
            None
        };
        if let Some(oldest) =
            from.and_then(|from| self.by_address.get_mut(&from)).and_then(VecDeque::pop_front)
        {
            self.total -= 1;
            oldest.evict.cancel();
        }
    }

    fn leave(&mut self, address: IpAddr, number: u64) {
        let Some(waiting) = self.by_address.get_mut(&address) else { return };
        if let Ok(index) = waiting.binary_search_by_key(&number, |waiting| waiting.number) {
            waiting.remove(index);
            self.total -= 1;
        }
        if waiting.is_empty() {
            self.by_address.remove(&address);
        }
    }

    fn may_ask(&self, user: &UserName) -> bool {
        let of_user = self.asked.values().filter(|asked| *asked == user).count();
        self.asked.len() < ASKED && of_user < ASKED_OF_USER
    }
}

impl Place {
    /// The client is known now: its place is no longer among those that have to make room.
    pub(crate) fn known(&self) {
        let mut unknown = self.admission.unknown();
        unknown.leave(self.address, self.number);
        unknown.asked.remove(&self.number);
    }

    /// The client, whose certificate is this user's, is asked for a code. Where too many are, it is as unknown as before.
    pub(crate) fn asked(&self, user: &UserName) {
        let mut unknown = self.admission.unknown();
        if unknown.may_ask(user) {
            unknown.leave(self.address, self.number);
            unknown.asked.insert(self.number, user.clone());
        }
    }

    /// Completes when an unknown connection must make room.
    pub(crate) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.known();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { connections: 10, unknown: 4, unknown_per_address: 3 };

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn is_evicted(place: &Place) -> bool {
        place.evicted.is_cancelled()
    }

    #[test]
    fn a_newcomer_pushes_out_the_oldest_of_its_own_address() {
        let admission = Admission::new(ROOM);
        let places: Vec<_> = (0..5).map(|_| admission.admit(address(1)).unwrap()).collect();
        let evicted: Vec<_> = places.iter().map(is_evicted).collect();
        assert_eq!(evicted, [true, true, false, false, false]);
    }

    #[test]
    fn when_the_listener_is_full_the_address_with_the_most_gives_way() {
        let admission = Admission::new(ROOM);
        let alone = admission.admit(address(1)).unwrap();
        let crowd: Vec<_> = (0..3).map(|_| admission.admit(address(2)).unwrap()).collect();
        let newcomer = admission.admit(address(3)).unwrap();
        assert!(is_evicted(&crowd[0]));
        assert!(![&alone, &crowd[1], &crowd[2], &newcomer].into_iter().any(is_evicted));
    }

    #[test]
    fn a_known_connection_never_gives_way() {
        let admission = Admission::new(ROOM);
        let known = admission.admit(address(1)).unwrap();
        known.known();
        let _later: Vec<_> = (0..5).map(|_| admission.admit(address(1)).unwrap()).collect();
        assert!(!is_evicted(&known));
    }

    fn user(name: &str) -> UserName {
        UserName::new(name).unwrap()
    }

    #[test]
    fn who_is_asked_for_a_code_need_not_make_room_but_only_so_many_of_a_user() {
        let room = Room { connections: 100, unknown: 20, unknown_per_address: 20 };
        let admission = Admission::new(room);
        let thief: Vec<_> = (0..20).map(|_| admission.admit(address(1)).unwrap()).collect();
        thief.iter().for_each(|place| place.asked(&user("jerry")));
        let toms = admission.admit(address(1)).unwrap();
        toms.asked(&user("tom"));
        let crowd: Vec<_> = (0..20).map(|_| admission.admit(address(1)).unwrap()).collect();
        let evicted = thief.iter().filter(|place| is_evicted(place)).count();
        assert_eq!(evicted, thief.len() - ASKED_OF_USER);
        assert!(!is_evicted(&toms) && !crowd.iter().any(is_evicted));
        // Room comes back when the code is right, and when the client leaves.
        thief[0].known();
        drop(thief);
        assert_eq!(admission.unknown().asked.len(), 1);
        toms.known();
        assert!(admission.unknown().asked.is_empty());
    }

    #[test]
    fn all_who_are_asked_are_bounded_too() {
        let room = Room { connections: 2 * ASKED, unknown: 2 * ASKED, unknown_per_address: 2 * ASKED };
        let admission = Admission::new(room);
        let places: Vec<_> = (0..ASKED + 1).map(|_| admission.admit(address(1)).unwrap()).collect();
        for (number, place) in places.iter().enumerate() {
            place.asked(&user(&format!("user-{number}")));
        }
        let unknown = admission.unknown();
        assert_eq!((unknown.asked.len(), unknown.total), (ASKED, 1));
        // Or they could not leave.
        drop(unknown);
    }

    #[test]
    fn all_connections_together_are_bounded_and_their_room_comes_back() {
        let admission = Admission::new(ROOM);
        let places: Vec<_> = (0..10).map(|last| admission.admit(address(last)).unwrap()).collect();
        places.iter().for_each(Place::known);
        assert!(admission.admit(address(99)).is_none());
        drop(places);
        assert!(admission.admit(address(99)).is_some());
        assert_eq!(admission.unknown().total, 0);
        assert!(admission.unknown().by_address.is_empty());
    }
}
