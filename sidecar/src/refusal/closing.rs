//! What a client reads whose live session is ended from this side.

use std::time::Duration;

use auth::{clock::rfc3339, permit::Ended};
use protocols::RefusalCode;

use super::{Answer, plain};

/// Why a live session is ended from this side.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Closed {
    /// The permit ended.
    Permit(Ended),
    /// Events may be lost.
    AuditFailed,
    /// `client_idle_timeout`: it was idle for so long.
    Idle(Duration),
    /// The sidecar is stopping.
    Shutdown,
}

/// What a client reads whose live session is ended.
#[must_use]
pub(crate) fn closing(closed: &Closed) -> Answer {
    match closed {
        Closed::Permit(Ended::CertificateExpired { at }) => plain(
            RefusalCode::SessionExpired,
            "certificate_expired",
            &format!("the session ended: the certificate expired at {}", rfc3339(*at)),
        ),
        Closed::Permit(Ended::Locked { message }) => {
            plain(RefusalCode::SessionExpired, "locked", &format!("the session ended: {message}"))
        }
        Closed::Permit(Ended::LoginEnded { at }) => plain(
            RefusalCode::SessionExpired,
            "login_ended",
            &format!("the session ended: your logins from before {} have ended", rfc3339(*at)),
        ),
        Closed::Permit(Ended::PolicyChanged) => {
            plain(RefusalCode::SessionExpired, "policy_changed", "the session ended: access was withdrawn")
        }
        Closed::Permit(Ended::ReplicaStale) => plain(
            RefusalCode::SessionExpired,
            "replica_stale",
            "the session ended: the sidecar has lost touch with the cluster, whose locks are strict",
        ),
        Closed::AuditFailed => {
            plain(RefusalCode::Internal, "audit_failed", "the session ended: it can no longer be recorded")
        }
        Closed::Idle(limit) => plain(
            RefusalCode::IdleTimeout,
            "idle_timeout",
            &format!("the session ended: it was idle for {}", duration_text(*limit)),
        ),
        Closed::Shutdown => {
            plain(RefusalCode::Shutdown, "shutdown", "the session ended: the sidecar is stopping")
        }
    }
}

/// `1h30m`, `45s`, as roles say it.
pub(super) fn duration_text(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s"), (millis.into(), "ms")];
    parts.into_iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect()
}
