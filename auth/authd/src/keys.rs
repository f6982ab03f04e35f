//! Where things are in the store.
//!
//! What changes at every use (counters, last use) is kept apart from what sidecars watch, so that a login does not look
//! like a change of policy.

use auth::{identity::UserName, resource::Kind};
use uuid::Uuid;

use crate::{
    ca::AuthorityKind,
    store::{below, key},
};

/// Everything below is a resource: `resource/<kind>/<name>`.
pub(crate) const RESOURCE: &str = "resource";
/// Authorities with their private keys: `authority/<type>`.
pub(crate) const AUTHORITY: &str = "authority";
/// MFA devices, the part that sidecars know: `device/<user>/<id>`.
pub(crate) const DEVICE: &str = "device";
/// Users whose logins from before some moment are over: `ended-logins/<user>`.
pub(crate) const ENDED_LOGINS: &str = "ended-logins";

/// What the store keeps in memory alone. Whoever would answer a challenge of an earlier process is asked anew.
pub(crate) const FLEETING: [&str; 1] = ["challenge/"];

/// What the audit trail is to be told of changes that are made: `outbox/<id>`.
pub(crate) const OUTBOX: &str = "outbox/";

/// What the store keeps in memory as well: whatever is asked for to know who calls and what they may. It grows with people,
/// devices and targets; of what they do it holds the counts of failures, which are bounded for each (those of names that are
/// nobody's, together) and go away by themselves.
pub(crate) const ASKED_OFTEN: [&str; 9] = [
    "account/",
    "device/",
    "device-state/",
    "failures/",
    "failures-logged-in/",
    "failures-passkey/",
    "resource/",
    "sidecar/",
    "target/",
];

pub(crate) fn resource(kind: Kind, name: &str) -> String {
    match kind {
        // A token's name is its secret: found by hash, so that looking it up takes the same time whatever it is.
        Kind::Token => key(&[RESOURCE, kind.as_str(), &crate::secret::hash(name)]),
        _ => key(&[RESOURCE, kind.as_str(), name]),
    }
}

pub(crate) fn resources(kind: Kind) -> String {
    below(&[RESOURCE, kind.as_str()])
}

pub(crate) fn authority(kind: AuthorityKind) -> String {
    key(&[AUTHORITY, kind.as_str()])
}

pub(crate) fn account(user: &UserName) -> String {
    key(&["account", user.as_str()])
}

pub(crate) fn ended_logins(user: &UserName) -> String {
    key(&[ENDED_LOGINS, user.as_str()])
}

pub(crate) fn device(user: &UserName, id: Uuid) -> String {
    key(&[DEVICE, user.as_str(), &id.to_string()])
}

pub(crate) fn devices(user: &UserName) -> String {
    below(&[DEVICE, user.as_str()])
}

/// Secrets and counters of a device.
pub(crate) fn device_state(user: &UserName, id: Uuid) -> String {
    key(&["device-state", user.as_str(), &id.to_string()])
}

pub(crate) fn device_states(user: &UserName) -> String {
    below(&["device-state", user.as_str()])
}

/// Which device a WebAuthn credential is, so that no two have the same, whoever their users are.
pub(crate) fn credential(id: &[u8]) -> String {
    key(&["credential", &crate::secret::hash(&hex::encode(id))])
}

pub(crate) fn invitation(token: &str) -> String {
    key(&["invitation", &crate::secret::hash(token)])
}

pub(crate) fn challenge(user: &UserName, id: &str) -> String {
    key(&["challenge", user.as_str(), id])
}

pub(crate) fn challenges(user: &UserName) -> String {
    below(&["challenge", user.as_str()])
}

/// What an administrator's touch still allows: `approval/<user>/<hash of the challenge's id>`.
pub(crate) fn approval(user: &UserName, challenge_id: &str) -> String {
    key(&["approval", user.as_str(), &crate::secret::hash(challenge_id)])
}

pub(crate) fn approvals(user: &UserName) -> String {
    below(&["approval", user.as_str()])
}

pub(crate) fn registration(user: &UserName, id: &str) -> String {
    key(&["registration", user.as_str(), id])
}

pub(crate) fn registrations(user: &UserName) -> String {
    below(&["registration", user.as_str()])
}

/// A signed-in browser.
pub(crate) fn web_session(user: &UserName, secret: &str) -> String {
    key(&["web-session", user.as_str(), &crate::secret::hash(secret)])
}

pub(crate) fn web_sessions(user: &UserName) -> String {
    below(&["web-session", user.as_str()])
}

/// Recovery codes, and what was granted for one.
pub(crate) fn recovery_codes(user: &UserName) -> String {
    key(&["recovery", user.as_str(), "codes"])
}

pub(crate) fn recovery_grant(user: &UserName, secret: &str) -> String {
    key(&["recovery", user.as_str(), "grant", &crate::secret::hash(secret)])
}

pub(crate) fn recovery(user: &UserName) -> String {
    below(&["recovery", user.as_str()])
}

pub(crate) fn outbox(id: Uuid) -> String {
    format!("{OUTBOX}{id}")
}

pub(crate) fn sidecar(id: Uuid) -> String {
    key(&["sidecar", &id.to_string()])
}

/// The certificate that a sidecar has, for as long as that is in date.
pub(crate) fn held_certificate(sidecar: Uuid) -> String {
    key(&["held-certificate", &sidecar.to_string()])
}

pub(crate) fn held_certificates() -> String {
    below(&["held-certificate"])
}

/// Whose a recorded session is, and how far its recording has come.
pub(crate) fn recording(session: Uuid) -> String {
    key(&["recording", &session.to_string()])
}

pub(crate) fn recordings() -> String {
    below(&["recording"])
}

pub(crate) fn target(kind: &str, name: &str, sidecar: Uuid) -> String {
    key(&["target", kind, name, &sidecar.to_string()])
}

pub(crate) fn targets_named(kind: &str, name: &str) -> String {
    below(&["target", kind, name])
}

pub(crate) fn targets() -> String {
    below(&["target"])
}
