//! The value that one must hold to open a session. It knows when it ends.

use std::{
    fmt,
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::watch, time::sleep};

use crate::{
    authorizer::{Core, Mfa, Session, SessionRequest, Standing},
    certificate::VerifiedCertificate,
    clock::rfc3339,
    denied::DenyReason,
    identity::{DeviceId, Identity, MfaEvidence, RoleName},
    policy::SessionOptions,
    replica::STALE_AFTER,
    resource::LockingMode,
};

#[cfg(test)]
mod tests;

/// However far away the next thing is, the wall clock is looked at this often: it may have been set.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Slept beyond a moment, so that it has come for certain.
const A_LITTLE: Duration = Duration::from_millis(1);

/// The right to one session. Only [`Authorizer::authorize`](crate::authorizer::Authorizer::authorize) makes one.
#[must_use = "a permit is the right to a session"]
pub struct Permit {
    core: Arc<Core>,
    session: Arc<Session>,
    standing: Standing,
}

/// Why a session must end now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// `disconnect_expired_cert`: the user's login is over.
    #[error("the certificate expired")]
    CertificateExpired {
        /// When.
        at: SystemTime,
    },
    /// An administrator's stop.
    #[error("{message}")]
    Locked {
        /// `lock targeting … is in force: …`
        message: String,
    },
    /// The user was reset, recovered or deleted since the login behind the session.
    #[error("logins from before {} have ended", rfc3339(*at))]
    LoginEnded {
        /// When.
        at: SystemTime,
    },
    /// The policy does not give the right any more.
    #[error("the policy no longer allows this session")]
    PolicyChanged,
    /// `locking_mode: strict`, and authd has not been heard for too long.
    #[error("the lock view is stale")]
    ReplicaStale,
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("user", &self.identity().user).finish_non_exhaustive()
    }
}

impl Permit {
    pub(crate) fn new(core: Arc<Core>, session: Session, standing: Standing) -> Self {
        Self { core, session: Arc::new(session), standing }
    }

    /// Who was let in.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.session.identity()
    }

    /// The certificate that they presented.
    #[must_use]
    pub fn certificate(&self) -> &VerifiedCertificate {
        self.session.certificate()
    }

    /// The device whose touch (or code) for this session is verified.
    #[must_use]
    pub fn mfa_device(&self) -> Option<DeviceId> {
        match self.session.mfa() {
            Mfa::Verified { device, .. } => Some(device),
            Mfa::NotVerified => None,
        }
    }

    /// The verified receipt of the touch, for the audit trail.
    #[must_use]
    pub fn receipt(&self) -> Option<&[u8]> {
        match &self.identity().mfa {
            MfaEvidence::Receipt { receipt, .. } => Some(receipt),
            MfaEvidence::None | MfaEvidence::Claimed { .. } => None,
        }
    }

    /// The role that decided.
    #[must_use]
    pub fn decided_by(&self) -> &RoleName {
        &self.standing.decided_by
    }

    /// What the roles together, and the cluster, say about the session, as of its beginning.
    #[must_use]
    pub fn options(&self) -> &SessionOptions {
        &self.standing.terms.options
    }

    /// What was asked for.
    #[must_use]
    pub fn request(&self) -> &SessionRequest {
        self.session.request()
    }

    /// Completes when the session must end:
    /// - at the certificate's expiry, where the cluster or a role says `disconnect_expired_cert`. A session certificate is made
    ///   to be short, so for one that says when the certificate behind it expires, that moment counts instead;
    /// - when a lock on it comes into force;
    /// - when the login behind it is ended: its user was reset, recovered or deleted;
    /// - when a change of policy takes the right away: each generation is asked the same question as the first, with the
    ///   MFA status that the session had. An authority or device that is no longer trusted stops new sessions only, and so
    ///   does a touch that has grown too old;
    /// - in `locking_mode: strict`, when authd has not been heard for five minutes.
    ///
    /// # Cancel safety
    /// May be dropped and asked for again: it begins with a look at how things are now.
    pub fn ended(&self) -> impl Future<Output = Ended> + Send + use<> {
        watch_session(Arc::clone(&self.core), Arc::clone(&self.session), self.core.replica.changes())
    }
}

async fn watch_session(core: Arc<Core>, session: Arc<Session>, mut changes: watch::Receiver<u64>) -> Ended {
    loop {
        // The race: authd's change against our look. The news is marked as read *before* the look, so a change during or
        // after the look makes `changed` return at once. The first look also finds what came between the decision
        // and the subscription.
        changes.borrow_and_update();
        let next = match core.look(&session) {
            Ok(next) => next,
            Err(ended) => return ended,
        };
        tokio::select! {
            // The sender lives in the replica, which `core` holds.
            _ = changes.changed() => {}
            () = sleep(next) => {}
        }
    }
}

impl Core {
    /// Whether a session may go on, and when to look again if nothing changes before.
    fn look(&self, session: &Session) -> Result<Duration, Ended> {
        let view = self.view();
        let now = view.now;
        let standing = self.standing(session, &view).map_err(Ended::from)?;
        let options = &standing.terms.options;
        let mut next = LOOK_AGAIN;
        if options.disconnect_expired_cert {
            let at = expiry(session.identity());
            next = next.min(until(at, now).ok_or(Ended::CertificateExpired { at })?);
        }
        if options.lock == LockingMode::Strict {
            let age = view.age.ok_or(Ended::ReplicaStale)?;
            next = next.min(STALE_AFTER.saturating_sub(age) + A_LITTLE);
        }
        if let Some(at) = standing.terms.expires() {
            next = next.min(until(at, now).ok_or(Ended::PolicyChanged)?);
        }
        Ok(next)
    }
}

/// End of the login behind a session.
fn expiry(identity: &Identity) -> SystemTime {
    identity.previous_expiry.unwrap_or(identity.not_after)
}

/// How long until a moment, and a little; `None` once it has come.
fn until(at: SystemTime, now: SystemTime) -> Option<Duration> {
    at.duration_since(now).ok().filter(|left| !left.is_zero()).map(|left| left + A_LITTLE)
}

impl From<DenyReason> for Ended {
    fn from(reason: DenyReason) -> Self {
        match reason {
            DenyReason::Locked(lock) => Self::Locked { message: lock.to_string() },
            DenyReason::LoginEnded { at, .. } => Self::LoginEnded { at },
            DenyReason::ReplicaStale { .. } => Self::ReplicaStale,
            // What cannot be decided any more is not allowed any more.
            _ => Self::PolicyChanged,
        }
    }
}
