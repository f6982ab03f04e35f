//! How often something may happen: a few times at once, then at a steady pace.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Addresses that are told apart, more or less: 96 KiB for each target.
const SLOTS: usize = 4_096;

/// Times that may follow each other at once, and the time after which one more may.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) burst: u32,
    pub(super) refill: Duration,
}

/// What is left of a pace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    tokens: u32,
    refilled: Instant,
}

impl Bucket {
    pub(super) fn full(pace: Pace, now: Instant) -> Self {
        Self { tokens: pace.burst, refilled: now }
    }

    /// True when it may happen once more.
    pub(super) fn has_any(&mut self, pace: Pace, now: Instant) -> bool {
        let passed =
            now.saturating_duration_since(self.refilled).as_millis() / pace.refill.as_millis().max(1);
        if passed > 0 {
            let tokens = u128::from(self.tokens) + passed;
            self.tokens = u32::try_from(tokens).unwrap_or(pace.burst).min(pace.burst);
            self.refilled = now;
        }
        self.tokens > 0
    }

    /// Takes one, if there is one.
    pub(super) fn spend(&mut self, pace: Pace, now: Instant) -> bool {
        let any = self.has_any(pace, now);
        self.tokens = self.tokens.saturating_sub(1);
        any
    }
}

/// A bucket for each source address, in a table that does not grow. Two addresses that fall into one slot
/// share it; which ones do, nobody outside can know.
#[derive(Debug)]
pub(super) struct Sources {
    slots: Vec<Bucket>,
    hasher: RandomState,
    pace: Pace,
}

impl Sources {
    pub(super) fn new(pace: Pace, now: Instant) -> Self {
        Self { slots: vec![Bucket::full(pace, now); SLOTS], hasher: RandomState::new(), pace }
    }

    /// True while this address has not been wrong too often.
    pub(super) fn has_any(&mut self, from: IpAddr, now: Instant) -> bool {
        let pace = self.pace;
        self.slot(from).is_none_or(|bucket| bucket.has_any(pace, now))
    }

    /// This address was wrong once more.
    pub(super) fn spend(&mut self, from: IpAddr, now: Instant) {
        let pace = self.pace;
        if let Some(bucket) = self.slot(from) {
            bucket.spend(pace, now);
        }
    }

    fn slot(&mut self, from: IpAddr) -> Option<&mut Bucket> {
        let hash = self.hasher.hash_one(source(from));
        self.slots.get_mut((hash % SLOTS as u64) as usize)
    }
}

/// What one guest can easily have many of counts as one: a /64 of IPv6.
fn source(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_are_one_source() {
        let address = |text: &str| source(text.parse().unwrap());
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:1"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
    }

    #[test]
    fn who_was_wrong_too_often_waits_and_nobody_else_does() {
        let pace = Pace { burst: 3, refill: Duration::from_secs(1) };
        let now = Instant::now();
        let mut sources = Sources::new(pace, now);
        let guest = "192.0.2.1".parse().unwrap();
        for _ in 0..3 {
            assert!(sources.has_any(guest, now));
            sources.spend(guest, now);
        }
        assert!(!sources.has_any(guest, now));
        // One of these may share the slot, not all of them.
        let others = (2..20).map(|last| IpAddr::from([192, 0, 2, last]));
        assert!(others.map(|other| sources.has_any(other, now)).filter(|free| *free).count() > 10);
        assert!(sources.has_any(guest, now + pace.refill));
    }
}
