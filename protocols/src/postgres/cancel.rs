//! Our own cancel keys: what a client may present to stop its own session's query, and whereto that is carried.
//!
//! A CancelRequest comes on a new connection, which libpq up to 16 opens without TLS and every libpq without
//! a certificate; the key is all there is to go by, so it is the credential: random, ours (an upstream's key
//! never reaches a client), compared in constant time, worth one interruption of one session, gone when the
//! session ends. The process number only finds the entry; it is random as well, so a guess must hit 31 + 32
//! bits (31 + 256 with protocol 3.2).

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::endpoint::{UpstreamAddress, UpstreamTls};

/// Cancels of one session that may follow each other at once, and the time after which one more may come.
const BURST: u32 = 5;
const REFILL: Duration = Duration::from_millis(200);

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
    capacity: usize,
}

struct Entry {
    key: Zeroizing<Vec<u8>>,
    route: Arc<Route>,
    tokens: u32,
    refilled: Instant,
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
    Route(Arc<Route>),
    /// No such session, or the wrong key.
    Unknown,
    /// The right key, too often.
    TooMany,
}

impl Registry {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { sessions: Mutex::default(), capacity })
    }

    /// A new random process number and key for this session. `None` when the registry is full.
    pub(crate) fn register(
        self: &Arc<Self>,
        route: Route,
        key_length: usize,
        now: Instant,
    ) -> Option<(Registration, Zeroizing<Vec<u8>>)> {
        let random = SystemRandom::new();
        let mut key = Zeroizing::new(vec![0; key_length]);
        random.fill(&mut key).ok()?;
        let entry = Entry { key: key.clone(), route: Arc::new(route), tokens: BURST, refilled: now };
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

    /// Looks a CancelRequest up.
    pub(crate) fn find(&self, process: u32, key: &[u8], now: Instant) -> Found {
        let mut sessions = self.lock();
        let Some(entry) = sessions.get_mut(&process) else { return Found::Unknown };
        if constant_time::verify_slices_are_equal(&entry.key, key).is_err() {
            return Found::Unknown;
        }
        if entry.spend(now) { Found::Route(Arc::clone(&entry.route)) } else { Found::TooMany }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Entry>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// One token, if there is one.
    fn spend(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.refilled).as_millis() / REFILL.as_millis();
        if passed > 0 {
            let tokens = u128::from(self.tokens) + passed;
            self.tokens = u32::try_from(tokens).unwrap_or(BURST).min(BURST);
            self.refilled = now;
        }
        let enough = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        enough
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

    #[test]
    fn only_the_whole_key_of_a_live_session_is_good() {
        let registry = Registry::new(8);
        let now = Instant::now();
        let (registration, key) = registry.register(route(), 32, now).unwrap();
        let process = registration.process();
        assert!(matches!(registry.find(process, &key, now), Found::Route(_)));
        assert!(matches!(registry.find(process, &key[..4], now), Found::Unknown));
        assert!(matches!(registry.find(process, &[], now), Found::Unknown));
        assert!(matches!(registry.find(process ^ 1, &key, now), Found::Unknown));
        drop(registration);
        assert!(matches!(registry.find(process, &key, now), Found::Unknown));
    }

    #[test]
    fn a_key_is_good_for_a_few_cancels_at_a_time() {
        let registry = Registry::new(8);
        let now = Instant::now();
        let (registration, key) = registry.register(route(), 4, now).unwrap();
        for _ in 0..BURST {
            assert!(matches!(registry.find(registration.process(), &key, now), Found::Route(_)));
        }
        assert!(matches!(registry.find(registration.process(), &key, now), Found::TooMany));
        assert!(matches!(registry.find(registration.process(), &key, now + REFILL), Found::Route(_)));
        assert!(matches!(registry.find(registration.process(), &key, now + REFILL), Found::TooMany));
    }

    #[test]
    fn a_full_registry_gives_no_key() {
        let registry = Registry::new(1);
        let first = registry.register(route(), 4, Instant::now());
        assert!(first.is_some());
        assert!(registry.register(route(), 4, Instant::now()).is_none());
        drop(first);
        assert!(registry.register(route(), 4, Instant::now()).is_some());
    }
}
