//! What a challenge is for, and what follows from that: which devices count, whether one may do without, how the audit
//! trail calls it.
//!
//! | `second_factor` | devices that count | without one |
//! |---|---|---|
//! | `off` | none; to change devices: all | login, devices, administration go on; a session that needs MFA does not |
//! | `optional` | all | the same |
//! | `otp` | TOTP | refused |
//! | `webauthn` | WebAuthn | refused |
//! | `on` | all | refused |
//!
//! Who may go on without a device may still not add the first one by a login certificate alone: that takes the password
//! (see [`prove_by_password`](crate::cluster::Cluster::prove_by_password)).

use auth::{
    proto,
    resource::{AuthPreference, SecondFactor},
};
use prost::Message;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    audit,
    mfa::{self, Device},
    users::Door,
};

/// What a challenge is for. An answer given for one purpose is worth nothing for another.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Scope {
    /// Finishing a login.
    Login,
    /// A login of whoever has the passkey.
    PasswordlessLogin,
    /// One session: the exact bytes of its intent.
    Session { intent: Vec<u8> },
    /// One session over SSH, with a code given on that very connection: also its session identifier. Judged at once, never
    /// stored.
    SshCode { intent: Vec<u8>, session_hash: Vec<u8> },
    /// Adding or removing a device.
    ManageDevices,
    /// One command of an administrator: the exact bytes of its intent.
    AdminAction { intent: Vec<u8> },
}

impl Scope {
    /// The word of audit events.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Login => "LOGIN",
            Self::PasswordlessLogin => "PASSWORDLESS_LOGIN",
            Self::Session { .. } | Self::SshCode { .. } => "USER_SESSION",
            Self::ManageDevices => "MANAGE_DEVICES",
            Self::AdminAction { .. } => "ADMIN_ACTION",
        }
    }

    /// What it is for, in the words of audit events.
    pub(crate) fn describe(&self, event: &mut Value) {
        match self {
            Self::Login | Self::PasswordlessLogin | Self::ManageDevices => {}
            Self::Session { intent } | Self::SshCode { intent, .. } => {
                if let Self::SshCode { session_hash, .. } = self {
                    audit::set(event, "ssh_session_hash", hex::encode(session_hash));
                }
                let intent = proto::SessionIntent::decode(intent.as_slice()).unwrap_or_default();
                let route = intent.route.unwrap_or_default();
                audit::set(event, "target", route.target_name);
                audit::set(event, "login", route.login);
                audit::set(event, "db_name", route.db_name);
                audit::set(event, "addr.remote", intent.client_address);
            }
            Self::AdminAction { intent } => {
                let intent = proto::AdminIntent::decode(intent.as_slice()).unwrap_or_default();
                audit::set(event, "command", intent.command);
                audit::set(event, "calls", intent.request_sha256.len());
            }
        }
    }

    pub(super) fn is_passwordless(&self) -> bool {
        matches!(self, Self::PasswordlessLogin)
    }

    pub(super) fn door(&self) -> Door {
        match self {
            Self::Login => Door::Login,
            Self::PasswordlessLogin => Door::Passkey,
            Self::Session { .. } | Self::SshCode { .. } | Self::ManageDevices | Self::AdminAction { .. } => {
                Door::LoggedIn
            }
        }
    }

    /// May a user without a device go on?
    pub(super) fn may_do_without(&self, factor: SecondFactor) -> bool {
        match self {
            // A session challenge exists only because MFA is asked for; a passwordless login is its passkey.
            Self::Session { .. } | Self::SshCode { .. } | Self::PasswordlessLogin => false,
            Self::Login | Self::ManageDevices | Self::AdminAction { .. } => {
                matches!(factor, SecondFactor::Off | SecondFactor::Optional)
            }
        }
    }

    /// The devices that count: what the cluster accepts and the user has.
    pub(super) fn usable<'a>(&self, preference: &AuthPreference, devices: &'a [Device]) -> Vec<&'a Device> {
        match self {
            // With second factors switched off, whoever has a device must still show it before the set is changed.
            Self::ManageDevices if preference.second_factor == SecondFactor::Off => devices.iter().collect(),
            _ => mfa::usable(preference, devices),
        }
    }
}
