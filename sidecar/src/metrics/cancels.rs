//! Cancels that came with the right key and a certificate, by what the certificate was found to be.

use prometheus::{IntCounter, IntCounterVec};

/// What became of a cancel that came with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancelled {
    /// Carried to the upstream: the key that the session was opened with.
    BySameKey,
    /// Carried to the upstream: another certificate of the session's user.
    BySameUser,
    /// Dropped: somebody else's certificate.
    Refused,
}

/// Counts the cancels of one target.
#[derive(Clone, Debug)]
pub(crate) struct CancelMetrics {
    by_same_key: IntCounter,
    by_same_user: IntCounter,
    refused: IntCounter,
}

impl CancelMetrics {
    pub(super) fn new(cancels: &IntCounterVec, [target, protocol]: [&str; 2]) -> Self {
        let of = |outcome| cancels.with_label_values(&[target, protocol, outcome]);
        Self { by_same_key: of("same_key"), by_same_user: of("same_user"), refused: of("refused") }
    }

    pub(crate) fn count(&self, outcome: Cancelled) {
        match outcome {
            Cancelled::BySameKey => self.by_same_key.inc(),
            Cancelled::BySameUser => self.by_same_user.inc(),
            Cancelled::Refused => self.refused.inc(),
        }
    }
}
