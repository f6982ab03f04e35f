//! How long to wait before trying again: twice as long each time, up to a limit, never twice the same.

use std::{hash::BuildHasher as _, time::Duration};

/// Waits that grow from `first` to `most`. Each is drawn from its upper half, so that many sidecars that lost the same
/// authd do not come back in step.
pub(crate) struct Backoff {
    next: Duration,
    most: Duration,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, most: Duration) -> Self {
        Self { next: first, most }
    }

    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.next.min(self.most);
        self.next = wait.saturating_mul(2);
        wait.mul_f64(0.5 + fraction() / 2.0)
    }
}

/// From 0 to 1. Spreads load; nothing secret depends on it.
fn fraction() -> f64 {
    let random = std::hash::RandomState::new().hash_one(0_u8);
    f64::from((random >> 32) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_stay_in_their_upper_half() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        for whole in [1, 2, 4, 5, 5] {
            let (wait, whole) = (backoff.next(), Duration::from_secs(whole));
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
        }
    }
}
