//! Who may cancel a statement: whoever has the cancel key, and, where a certificate comes with it, the session's own user.
//!
//! A cancel comes on a connection of its own. Without a certificate (libpq up to 16 sends it in plaintext) the key is all
//! there is to go by, as with PostgreSQL itself. With one, it must be of the very key of the session's certificate, or a
//! user certificate of this cluster that is valid now and names the same user.

use std::{sync::Arc, time::SystemTime};

use auth::{
    certificate::{CertificateError, x509},
    clock::Clock,
    identity::UserName,
    replica::{Replica, Snapshot},
};
use protocols::Peer;
use rustls::server::ParsedCertificate;

use crate::metrics::{CancelMetrics, Cancelled};

/// Judges cancels that come with a certificate.
pub(crate) struct CancelJudge {
    pub(crate) replica: Arc<Replica>,
    pub(crate) clock: Clock,
    pub(crate) metrics: CancelMetrics,
}

impl CancelJudge {
    /// Whether who presents `canceller` may cancel a session of who presented `owner`.
    pub(crate) fn may_cancel(&self, canceller: &Peer, owner: &Peer) -> bool {
        let outcome = self.judge(canceller, owner);
        self.metrics.count(outcome);
        outcome != Cancelled::Refused
    }

    fn judge(&self, canceller: &Peer, owner: &Peer) -> Cancelled {
        // First, because a session certificate lives for a minute and its session for hours: the key is still the same, and has
        // just signed a handshake.
        if let (Some(key), Some(owners)) = (public_key(canceller), public_key(owner))
            && key == owners
        {
            return Cancelled::BySameKey;
        }
        let (snapshot, now) = (self.replica.snapshot(), self.clock.now());
        let same_user = user_now(&snapshot, canceller, now)
            .is_some_and(|user| user_once(&snapshot, owner, now).is_some_and(|owner| owner == user));
        if same_user { Cancelled::BySameUser } else { Cancelled::Refused }
    }
}

fn public_key(peer: &Peer) -> Option<Vec<u8>> {
    let certificate = ParsedCertificate::try_from(peer.chain().first()?).ok()?;
    Some(certificate.subject_public_key_info().to_vec())
}

/// Whom a certificate names that is good now.
fn user_now(snapshot: &Snapshot, peer: &Peer, now: SystemTime) -> Option<UserName> {
    let verified =
        x509::verify_user(peer.chain(), snapshot.user_authorities(), snapshot.cluster()?, now).ok()?;
    Some(verified.identity.user)
}

/// The same for one that has opened a session: it was good then, and may have expired since.
fn user_once(snapshot: &Snapshot, peer: &Peer, now: SystemTime) -> Option<UserName> {
    match x509::verify_user(peer.chain(), snapshot.user_authorities(), snapshot.cluster()?, now) {
        Ok(verified) => Some(verified.identity.user),
        Err(rejected) => match rejected.error {
            CertificateError::Expired { .. } => rejected.identity.map(|identity| identity.user),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests;
