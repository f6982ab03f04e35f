//! MFA devices: what a user has, how one is added, and whether an answer is right.

mod attestation;
mod authenticator_data;
mod devices;
mod enrol;
mod stored_key;
pub(crate) mod totp;
pub(crate) mod webauthn;

use std::time::SystemTime;

use auth::{
    clock::unix_millis,
    identity::{DeviceId, UserName},
    proto,
    resource::{AuthPreference, SecondFactor},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use webauthn_rs::prelude::{PublicKeyCredential, SecurityKey};
use zeroize::Zeroizing;

pub(crate) use attestation::AttestationError;
pub(crate) use webauthn::CounterWentBack;

use crate::{error::Refused, keys};

/// The two kinds of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DeviceType {
    Totp,
    Webauthn,
}

impl DeviceType {
    pub(crate) fn from_proto(kind: i32) -> Result<Self, Refused> {
        match proto::DeviceKind::try_from(kind) {
            Ok(proto::DeviceKind::Totp) => Ok(Self::Totp),
            Ok(proto::DeviceKind::Webauthn) => Ok(Self::Webauthn),
            Ok(proto::DeviceKind::Unspecified) | Err(_) => {
                Err(Refused::field("kind", "must be TOTP or WebAuthn"))
            }
        }
    }

    pub(crate) fn to_proto(self) -> i32 {
        match self {
            Self::Totp => proto::DeviceKind::Totp as i32,
            Self::Webauthn => proto::DeviceKind::Webauthn as i32,
        }
    }

    /// The word of audit events.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Totp => "TOTP",
            Self::Webauthn => "WebAuthn",
        }
    }

    pub(crate) fn is_accepted(self, factor: SecondFactor) -> bool {
        match self {
            Self::Totp => factor.allows_otp(),
            Self::Webauthn => factor.allows_webauthn(),
        }
    }
}

/// A device, the part that does not change (but for the name) and that sidecars may know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Device {
    pub(crate) id: Uuid,
    pub(crate) user: UserName,
    pub(crate) name: String,
    pub(crate) kind: DeviceType,
    pub(crate) added_at: SystemTime,
    /// Base64 of the COSE_Key; empty for TOTP.
    cose_public_key: String,
    /// It can log in by itself.
    #[serde(default)]
    pub(crate) passwordless: bool,
    /// AAGUID, as the key said.
    #[serde(default)]
    model: Option<Uuid>,
    /// The signature counter that it was registered with.
    #[serde(default)]
    first_counter: u32,
}

impl Device {
    pub(crate) fn id(&self) -> DeviceId {
        DeviceId(self.id)
    }

    pub(crate) fn to_device_key(&self) -> proto::DeviceKey {
        proto::DeviceKey {
            id: self.id.to_string(),
            user: self.user.to_string(),
            kind: self.kind.to_proto(),
            // We wrote it; a key that could not be read verifies nothing.
            cose_public_key: BASE64_STANDARD.decode(&self.cose_public_key).unwrap_or_default(),
        }
    }
}

/// The part of a device that is secret or changes with use.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct DeviceState {
    pub(crate) last_used: Option<SystemTime>,
    pub(crate) secret: DeviceSecret,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum DeviceSecret {
    Totp {
        /// Base32.
        secret: Zeroizing<String>,
        /// The last time step of which a code was accepted: it and everything before it is used up.
        last_step: Option<u64>,
    },
    Webauthn {
        key: Box<SecurityKey>,
        /// The signature counter last seen (WebAuthn Level 2, 6.1.1).
        counter: u32,
    },
}

impl DeviceSecret {
    /// The signature counter last seen.
    fn counter(&self) -> Option<u32> {
        match self {
            Self::Totp { .. } => None,
            Self::Webauthn { counter, .. } => Some(*counter),
        }
    }

    /// Where the store says that this credential is taken.
    pub(crate) fn credential(&self) -> Option<String> {
        match self {
            Self::Totp { .. } => None,
            Self::Webauthn { key, .. } => Some(keys::credential(key.cred_id())),
        }
    }
}

/// A device that has proved itself and is not stored yet.
pub(crate) struct NewDevice {
    pub(crate) kind: DeviceType,
    pub(crate) name: String,
    pub(crate) secret: DeviceSecret,
    pub(crate) cose_public_key: Vec<u8>,
    pub(crate) passwordless: bool,
    pub(crate) model: Option<Uuid>,
}

impl NewDevice {
    pub(crate) fn totp(name: String, secret: DeviceSecret) -> Self {
        let (cose_public_key, passwordless, model) = (vec![], false, None);
        Self { kind: DeviceType::Totp, name, secret, cose_public_key, passwordless, model }
    }
}

/// What somebody answered to a challenge.
pub(crate) enum Answer {
    Nothing,
    Totp(String),
    Webauthn(Box<PublicKeyCredential>),
}

impl Answer {
    pub(crate) fn from_proto(response: Option<proto::MfaResponse>) -> Result<Self, Refused> {
        use proto::mfa_response::Response;
        Ok(match response.and_then(|response| response.response) {
            None => Self::Nothing,
            Some(Response::TotpCode(code)) => Self::Totp(code),
            Some(Response::WebauthnAssertionJson(json)) => {
                let credential = serde_json::from_str(&json)
                    .map_err(|_| Refused::field("webauthn_assertion_json", "is not an assertion"))?;
                Self::Webauthn(Box::new(credential))
            }
        })
    }
}

/// What an answer proved.
pub(crate) enum Proof {
    /// Nothing was asked for.
    NotNeeded,
    Totp {
        device: Device,
    },
    Webauthn {
        device: Device,
        assertion: webauthn::Assertion,
    },
}

impl Proof {
    pub(crate) fn device(&self) -> Option<&Device> {
        match self {
            Self::NotNeeded => None,
            Self::Totp { device } | Self::Webauthn { device, .. } => Some(device),
        }
    }
}

/// How audit events name a device.
pub(crate) fn audit_fields(device: &Device) -> serde_json::Map<String, serde_json::Value> {
    [
        ("mfa_device_name", device.name.as_str().into()),
        ("mfa_device_uuid", device.id.to_string().into()),
        ("mfa_device_type", device.kind.as_str().into()),
    ]
    .into_iter()
    .map(|(field, value): (&str, serde_json::Value)| (field.to_owned(), value))
    .collect()
}

/// Kinds that count for a user: what the cluster accepts and the user has.
pub(crate) fn usable<'a>(preference: &AuthPreference, devices: &'a [Device]) -> Vec<&'a Device> {
    devices.iter().filter(|device| device.kind.is_accepted(preference.second_factor)).collect()
}

pub(crate) fn describe(device: &Device, last_used: Option<SystemTime>) -> proto::MfaDevice {
    proto::MfaDevice {
        passwordless: device.passwordless,
        id: device.id.to_string(),
        name: device.name.clone(),
        kind: device.kind.to_proto(),
        added_at: unix_millis(device.added_at),
        last_used: last_used.map_or(0, unix_millis),
    }
}
