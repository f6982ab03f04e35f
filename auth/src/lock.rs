//! Locks: an administrator's immediate stop, matched against a session.
//!
//! A lock holds for a session to which *all* of what it names applies. It is asked at the door and, for as long as the
//! session lives, whenever a lock changes.

use std::{fmt, time::SystemTime};

use crate::{
    identity::{DeviceId, Identity, Login, MfaEvidence, TargetName},
    resource::{Lock, LockTarget},
};

/// What a lock can be on.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Who is there.
    pub identity: &'a Identity,
    /// What they ask to be, or are.
    pub login: &'a Login,
    /// What they ask for, or use.
    pub target: &'a TargetName,
    /// The id of the sidecar in front of it, where it is known.
    pub sidecar_id: Option<&'a str>,
}

/// The stop, in the words that the stopped may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockInForce {
    /// Whom or what the lock names.
    pub target: LockTarget,
    /// Why; may be empty.
    pub message: String,
}

impl fmt::Display for LockInForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LockTarget { user, role, login, mfa_device, server_id } = &self.target;
        let mut parts = Vec::new();
        parts.extend(user.as_ref().map(|user| format!("User:{:?}", user.as_str())));
        parts.extend(role.as_ref().map(|role| format!("Role:{:?}", role.as_str())));
        parts.extend(login.as_ref().map(|login| format!("Login:{login:?}")));
        parts.extend(mfa_device.map(|device| format!("MFADevice:\"{device}\"")));
        parts.extend(server_id.as_ref().map(|id| format!("ServerID:{:?}", id.as_str())));
        write!(f, "lock targeting {} is in force", parts.join(" "))?;
        if self.message.is_empty() { Ok(()) } else { write!(f, ": {}", self.message) }
    }
}

/// The first lock in force for a session.
#[must_use]
pub fn in_force<'l>(
    locks: impl IntoIterator<Item = &'l Lock>,
    subject: &Subject<'_>,
    now: SystemTime,
) -> Option<LockInForce> {
    locks
        .into_iter()
        .filter(|lock| lock.is_in_force(now))
        .find(|lock| applies(&lock.target, subject))
        .map(|lock| LockInForce { target: lock.target.clone(), message: lock.message.clone() })
}

/// True where everything that the target names applies. A target that names nothing applies to everybody: it cannot be
/// written, and if it ever is, a stop that stops too much is the safer reading.
fn applies(target: &LockTarget, subject: &Subject<'_>) -> bool {
    let LockTarget { user, role, login, mfa_device, server_id } = target;
    let is_target =
        // A sidecar's id is a UUID, however its hexadecimal digits are written.
        |id: &str| {
            id == subject.target.as_str()
                || subject.sidecar_id.is_some_and(|sidecar| sidecar.eq_ignore_ascii_case(id))
        };
    user.as_ref().is_none_or(|user| *user == subject.identity.user)
        && role.as_ref().is_none_or(|role| subject.identity.roles.contains(role))
        && login.as_ref().is_none_or(|login| login == account(subject.login))
        && mfa_device.is_none_or(|device| claimed_device(subject.identity) == Some(device))
        && server_id.as_ref().is_none_or(|id| is_target(id.as_str()))
}

fn account(login: &Login) -> &str {
    match login {
        Login::Database { user, .. } => user,
        Login::Node { login } => login,
    }
}

/// The device that a certificate names, proven or not: for a stop, a claim is enough.
fn claimed_device(identity: &Identity) -> Option<DeviceId> {
    match identity.mfa {
        MfaEvidence::None => None,
        MfaEvidence::Claimed { device } | MfaEvidence::Receipt { device, .. } => Some(device),
    }
}
