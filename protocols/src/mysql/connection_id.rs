//! Connection ids of our own: from 2^31 up, so that they never look like an upstream's, and no two alike among
//! the connections that are open.
//!
//! An id is no secret, unlike PostgreSQL's cancel key: whoever may KILL with it is for the relay to judge.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The lowest of ours.
const FIRST: u32 = 1 << 31;

/// The ids that are in use.
#[derive(Debug)]
pub(super) struct ConnectionIds {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The last one given, less [`FIRST`].
    last: u32,
    live: HashSet<u32>,
}

/// One id, until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionId {
    number: u32,
    ids: Arc<ConnectionIds>,
}

impl ConnectionIds {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { last: 0, live: HashSet::new() }) })
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
            if state.live.insert(number) {
                return ConnectionId { number, ids: Arc::clone(self) };
            }
        }
    }
}

impl ConnectionId {
    pub(super) fn number(&self) -> u32 {
        self.number
    }
}

impl Drop for ConnectionId {
    fn drop(&mut self) {
        self.ids.state.lock().unwrap_or_else(PoisonError::into_inner).live.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_ours_and_no_two_alike() {
        let ids = ConnectionIds::new();
        let held: Vec<_> = (0..100).map(|_| ids.next()).collect();
        let distinct: HashSet<_> = held.iter().map(ConnectionId::number).collect();
        assert_eq!(distinct.len(), 100);
        assert!(distinct.into_iter().all(ConnectionIds::is_ours));
        assert!(!ConnectionIds::is_ours(FIRST - 1));
    }

    #[test]
    fn an_id_that_is_in_use_is_passed_over_when_they_begin_again() {
        let ids = ConnectionIds::new();
        let first = ids.next();
        ids.state.lock().unwrap().last = FIRST - 1;
        assert_eq!(ids.next().number(), FIRST);
        assert_eq!(first.number(), FIRST + 1);
        ids.state.lock().unwrap().last = 0;
        assert_eq!(ids.next().number(), FIRST + 2);
    }

    #[test]
    fn an_id_is_free_again_when_its_connection_is_gone() {
        let ids = ConnectionIds::new();
        drop(ids.next());
        assert!(ids.state.lock().unwrap().live.is_empty());
    }
}
