//! How many denied events strangers may cause: bounded in rate, so that they cannot fill the disk.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Denied events of clients without a genuine certificate: this many at once …
const UNKNOWN_BURST: u64 = 100;
/// … and one more in this time. The rest is only counted, so that strangers cannot fill the disk.
const UNKNOWN_REFILL: Duration = Duration::from_millis(100);

/// A token bucket over all clients without a genuine certificate.
pub(super) struct Bucket {
    started: Instant,
    /// Tokens ever taken.
    taken: AtomicU64,
}

impl Bucket {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), taken: AtomicU64::new(0) }
    }

    /// One token, if there is one.
    pub(super) fn take(&self) -> bool {
        let refilled = self.started.elapsed().as_millis() / UNKNOWN_REFILL.as_millis();
        let refilled = u64::try_from(refilled).unwrap_or(u64::MAX);
        self.taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
                // What was not used in quiet times does not add up beyond one burst.
                let taken = taken.max(refilled);
                (taken < refilled.saturating_add(UNKNOWN_BURST)).then_some(taken + 1)
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denials_of_strangers_are_bounded_in_rate() {
        let bucket = Bucket::new();
        let taken = (0..1000).filter(|_| bucket.take()).count() as u64;
        assert!((UNKNOWN_BURST..UNKNOWN_BURST + 20).contains(&taken), "{taken}");
    }
}
