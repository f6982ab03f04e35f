//! Our own cancel keys: what a client may present to stop its own session's query, and whereto that is carried.
//!
//! A CancelRequest comes on a new connection, which libpq up to 16 opens without TLS; then the key is all
//! there is to go by, so it is the credential: random, ours (an upstream's key never reaches a client),
//! compared in constant time, worth one interruption of one session, gone when the session ends. The process
//! number only finds the entry; it is random as well, so a guess must hit 31 + 32 bits (31 + 256 with protocol
//! 3.2), and an address that guesses wrong too often is not listened to.
//!
//! libpq from 17 on, and tsh's tunnel, send it through TLS with a certificate: then the key must be right
//! *and* the certificate be one that may (`MayCancel`), so that a key that leaked is of no use to somebody who
//! is known to be somebody else.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::Peer;
use crate::endpoint::{UpstreamAddress, UpstreamTls};

mod pace;

use pace::{Bucket, Pace, Sources};

/// Cancels of one session.
const CANCELS: Pace = Pace { burst: 5, refill: Duration::from_millis(200) };
/// Wrong keys from one address. Honest ones exist: of a session that has just ended.
const WRONG_KEYS: Pace = Pace { burst: 10, refill: Duration::from_secs(1) };
/// What the key of no session is compared with, so that it takes as long.
const NO_KEY: [u8; 32] = [0; 32];

/// Where a cancel goes: the upstream's own process number and key, and how to reach it.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) address: UpstreamAddress,
    pub(crate) tls: Option<UpstreamTls>,
    /// The content of the upstream's BackendKeyData: process number and key.
    pub(crate) key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Route({})", self.address)
    }
}

/// The sessions that can be cancelled, by our process number.
#[derive(Debug)]
pub(crate) struct Registry {
    sessions: Mutex<HashMap<u32, Entry>>,
    strangers: Mutex<Sources>,
    capacity: usize,
}

struct Entry {
    key: Zeroizing<Vec<u8>>,
    route: Arc<Route>,
    peer: Arc<Peer>,
    left: Bucket,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({:?})", self.route)
    }
}

/// A session's place in the registry; dropping it takes the session out.
#[derive(Debug)]
pub(crate) struct Registration {
    registry: Arc<Registry>,
    process: u32,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.process);
    }
}

/// What became of a CancelRequest. The client hears nothing of it, as with PostgreSQL.
#[derive(Debug)]
pub(crate) enum Found {
    /// The right key; whose session it is.
    Route(Arc<Route>, Arc<Peer>),
    /// No such session, or the wrong key.
    Unknown,
    /// The right key too often, or too many wrong ones before.
    TooMany,
}

impl Registry {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        let strangers = Mutex::new(Sources::new(WRONG_KEYS, Instant::now()));
        Arc::new(Self { sessions: Mutex::default(), strangers, capacity })
    }

    /// A new random process number and key for this session. `None` when the registry is full.
    pub(crate) fn register(
        self: &Arc<Self>,
        route: Route,
        peer: Peer,
        key_length: usize,
        now: Instant,
    ) -> Option<(Registration, Zeroizing<Vec<u8>>)> {
        let random = SystemRandom::new();
        let mut key = Zeroizing::new(vec![0; key_length]);
        random.fill(&mut key).ok()?;
        let left = Bucket::full(CANCELS, now);
        let entry = Entry { key: key.clone(), route: Arc::new(route), peer: Arc::new(peer), left };
        let mut sessions = self.lock();
        if sessions.len() >= self.capacity {
            return None;
        }
        loop {
            let mut process = [0; 4];
            random.fill(&mut process).ok()?;
            // Clients read it as a signed number and show it: keep it positive.
            let process = u32::from_be_bytes(process) >> 1;
            if process != 0 && !sessions.contains_key(&process) {
                sessions.insert(process, entry);
                return Some((Registration { registry: Arc::clone(self), process }, key));
            }
        }
    }

    /// Looks a CancelRequest up, which came from this address, if it came from one.
    pub(crate) fn find(&self, process: u32, key: &[u8], from: Option<IpAddr>, now: Instant) -> Found {
        if from.is_some_and(|from| !self.strangers().has_any(from, now)) {
            return Found::TooMany;
        }
        let found = self.look_up(process, key, now);
        if let (Found::Unknown, Some(from)) = (&found, from) {
            self.strangers().spend(from, now);
        }
        found
    }

    fn look_up(&self, process: u32, key: &[u8], now: Instant) -> Found {
        let mut sessions = self.lock();
        let entry = sessions.get_mut(&process);
        let expected = entry.as_ref().map_or(&NO_KEY[..], |entry| &entry.key);
        let right = constant_time::verify_slices_are_equal(expected, key).is_ok();
        match entry.filter(|_| right) {
            None => Found::Unknown,
            Some(entry) => match entry.left.spend(CANCELS, now) {
                true => Found::Route(Arc::clone(&entry.route), Arc::clone(&entry.peer)),
                false => Found::TooMany,
            },
        }
    }

    /// The certificate was not one that may cancel: as bad as a wrong key.
    pub(crate) fn reject(&self, from: Option<IpAddr>, now: Instant) {
        if let Some(from) = from {
            self.strangers().spend(from, now);
        }
    }

    fn strangers(&self) -> MutexGuard<'_, Sources> {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Entry>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    /// The process number that the client is given, 1 to 2³¹ − 1.
    pub(crate) fn process(&self) -> u32 {
        self.process
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> Route {
        let address = UpstreamAddress::Unix("/nowhere".into());
        Route { address, tls: None, key: Zeroizing::new(b"upstream".to_vec()) }
    }

    fn register(
        registry: &Arc<Registry>,
        key_length: usize,
        now: Instant,
    ) -> Option<(Registration, Zeroizing<Vec<u8>>)> {
        registry.register(route(), Peer::default(), key_length, now)
    }

    #[test]
    fn only_the_whole_key_of_a_live_session_is_good() {
        let registry = Registry::new(8);
        let now = Instant::now();
        let (registration, key) = register(&registry, 32, now).unwrap();
        let process = registration.process();
        let find = |process, key: &[u8]| registry.find(process, key, None, now);
        assert!(matches!(find(process, &key), Found::Route(..)));
        assert!(matches!(find(process, &key[..4]), Found::Unknown));
        assert!(matches!(find(process, &[]), Found::Unknown));
        assert!(matches!(find(process ^ 1, &key), Found::Unknown));
        assert!(matches!(find(process ^ 1, &NO_KEY), Found::Unknown));
        drop(registration);
        assert!(matches!(find(process, &key), Found::Unknown));
    }

    #[test]
    fn a_key_is_good_for_a_few_cancels_at_a_time() {
        let registry = Registry::new(8);
        let now = Instant::now();
        let (registration, key) = register(&registry, 4, now).unwrap();
        let find = |now| registry.find(registration.process(), &key, None, now);
        for _ in 0..CANCELS.burst {
            assert!(matches!(find(now), Found::Route(..)));
        }
        assert!(matches!(find(now), Found::TooMany));
        assert!(matches!(find(now + CANCELS.refill), Found::Route(..)));
        assert!(matches!(find(now + CANCELS.refill), Found::TooMany));
    }

    #[test]
    fn who_guesses_is_soon_not_listened_to_even_with_the_right_key() {
        let registry = Registry::new(8);
        let now = Instant::now();
        let (registration, key) = register(&registry, 4, now).unwrap();
        let process = registration.process();
        let guest = Some(IpAddr::from([192, 0, 2, 1]));
        for _ in 0..WRONG_KEYS.burst {
            assert!(matches!(registry.find(process ^ 1, &key, guest, now), Found::Unknown));
        }
        assert!(matches!(registry.find(process, &key, guest, now), Found::TooMany));
        assert!(matches!(registry.find(process, &key, guest, now + WRONG_KEYS.refill), Found::Route(..)));
    }

    #[test]
    fn a_full_registry_gives_no_key() {
        let registry = Registry::new(1);
        let first = register(&registry, 4, Instant::now());
        assert!(first.is_some());
        assert!(register(&registry, 4, Instant::now()).is_none());
        drop(first);
        assert!(register(&registry, 4, Instant::now()).is_some());
    }
}
