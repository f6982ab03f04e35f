//! Connection ids of our own: from 2^31 up, so that they never look like an upstream's, and no two alike among
//! the connections that are open.
//!
//! An id is no secret, unlike PostgreSQL's cancel key. So a KILL with it is for the owner of its session: who may
//! be taken for that, whoever made the ids says (`MayKill`). The upstream then decides as it would without us.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::Peer;
use crate::event::mysql::KillFate;

use super::MayKill;

/// The lowest of ours.
const FIRST: u32 = 1 << 31;

/// The ids that are in use.
pub(super) struct ConnectionIds {
    state: Mutex<State>,
    may_kill: Box<MayKill>,
}

impl fmt::Debug for ConnectionIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionIds").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct State {
    /// The last one given, less [`FIRST`].
    last: u32,
    live: HashMap<u32, Option<Session>>,
}

/// What a KILL needs to know of a session.
#[derive(Clone, Debug)]
struct Session {
    /// The upstream's number for it.
    thread: u32,
    owner: Arc<Peer>,
}

/// One id, until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionId {
    number: u32,
    ids: Arc<ConnectionIds>,
}

impl ConnectionIds {
    /// `may_kill`: whether who presents the first certificate may kill a session of who presented the second.
    pub(super) fn new(may_kill: Box<MayKill>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { last: 0, live: HashMap::new() }), may_kill })
    }

    /// What becomes of a KILL of this number by who presented this certificate.
    pub(super) fn kill(&self, number: u64, killer: &Peer) -> KillFate {
        let Some(number) = u32::try_from(number).ok().filter(|number| Self::is_ours(*number)) else {
            return KillFate::AsSent;
        };
        let session = self.state.lock().unwrap_or_else(PoisonError::into_inner).live.get(&number).cloned();
        match session.flatten() {
            None => KillFate::UnknownThread,
            Some(session) if (self.may_kill)(killer, &session.owner) => {
                KillFate::Mapped { thread: session.thread }
            }
            Some(_) => KillFate::NotOwner,
        }
    }

    /// True for a number that can only be one of ours.
    pub(super) fn is_ours(number: u32) -> bool {
        number >= FIRST
    }

    /// The next id that nobody has. After 2^31 − 1 of them they begin again.
    pub(super) fn next(self: &Arc<Self>) -> ConnectionId {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            state.last = (state.last + 1) % FIRST;
            let number = FIRST + state.last;
            // Ends: far fewer connections than 2^31 can be open.
            if let Entry::Vacant(vacant) = state.live.entry(number) {
                vacant.insert(None);
                return ConnectionId { number, ids: Arc::clone(self) };
            }
        }
    }
}

impl ConnectionId {
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Its session has begun: from here on it can be killed.
    pub(super) fn begins(&self, thread: u32, owner: Arc<Peer>) {
        let mut state = self.ids.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.live.insert(self.number, Some(Session { thread, owner }));
    }

    /// The ids of all sessions.
    pub(super) fn all(&self) -> &Arc<ConnectionIds> {
        &self.ids
    }
}

impl Drop for ConnectionId {
    fn drop(&mut self) {
        self.ids.state.lock().unwrap_or_else(PoisonError::into_inner).live.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn ids() -> Arc<ConnectionIds> {
        ConnectionIds::new(Box::new(|killer, owner| killer.chain() == owner.chain()))
    }

    fn person(name: u8) -> Arc<Peer> {
        Arc::new(Peer::X509(vec![vec![name].into()]))
    }

    #[test]
    fn ids_are_ours_and_no_two_alike() {
        let ids = ids();
        let held: Vec<_> = (0..100).map(|_| ids.next()).collect();
        let distinct: HashSet<_> = held.iter().map(ConnectionId::number).collect();
        assert_eq!(distinct.len(), 100);
        assert!(distinct.into_iter().all(ConnectionIds::is_ours));
        assert!(!ConnectionIds::is_ours(FIRST - 1));
    }

    #[test]
    fn an_id_that_is_in_use_is_passed_over_when_they_begin_again() {
        let ids = ids();
        let first = ids.next();
        ids.state.lock().unwrap().last = FIRST - 1;
        assert_eq!(ids.next().number(), FIRST);
        assert_eq!(first.number(), FIRST + 1);
        ids.state.lock().unwrap().last = 0;
        assert_eq!(ids.next().number(), FIRST + 2);
    }

    #[test]
    fn an_id_is_free_again_when_its_connection_is_gone() {
        let ids = ids();
        drop(ids.next());
        assert!(ids.state.lock().unwrap().live.is_empty());
    }

    #[test]
    fn only_the_owner_of_a_live_session_kills_it_by_our_number() {
        let ids = ids();
        let (alice, bob) = (person(1), person(2));
        let connection = ids.next();
        let number = u64::from(connection.number());
        assert_eq!(ids.kill(number, &alice), KillFate::UnknownThread, "it has not begun");
        connection.begins(42, Arc::clone(&alice));
        assert_eq!(ids.kill(number, &alice), KillFate::Mapped { thread: 42 });
        assert_eq!(ids.kill(number, &bob), KillFate::NotOwner);
        drop(connection);
        assert_eq!(ids.kill(number, &alice), KillFate::UnknownThread);
    }

    #[test]
    fn numbers_that_are_not_ours_are_for_the_upstream() {
        for number in [0, 42, u64::from(FIRST - 1), u64::from(u32::MAX) + 1] {
            assert_eq!(ids().kill(number, &person(1)), KillFate::AsSent);
        }
    }
}
