//! The receipt of a touch: what a security key signed, and the proof that it was for this very session.
//!
//! A WebAuthn challenge is usually random bytes. Ours is the hash of a [`SessionIntent`], which names cluster, user, target,
//! login, the session's public key, the time and a nonce; so the key's signature covers what the session is for, and
//! whoever knows the device's public key can check it: the sidecar at once, an auditor years later. Nobody has to take
//! authd's word for it. What is touched for at login is hashed under another domain ([`Purpose`]), so no such touch is
//! ever a receipt.
//!
//! Each rule of [`verify`] (WebAuthn Level 2 §7.2, steps 11 to 20, and then ours) is one variant of [`ReceiptError`]. The
//! signature counter is for authd, which sees every touch.

use std::time::{Duration, SystemTime};

use prost::Message;
use uuid::Uuid;

use crate::{
    clock::{from_unix_millis, rfc3339},
    identity::{ClusterName, DeviceId, Login, Route, UserName},
    proto::{self, SessionIntent},
};

mod assertion;
mod cbor;
mod device_key;
mod purpose;

#[cfg(test)]
mod tests;

pub use assertion::RelyingParty;
pub use device_key::{DeviceKey, DeviceKeyError};
pub use purpose::{Purpose, challenge};

/// Larger than any receipt that authd writes.
pub const MAX_RECEIPT_BYTES: usize = 8 * 1024;

/// What is put down to clocks and rounding where the times of evidence are compared: nobody is refused for so little.
///
/// It is no promise that clocks may differ by as much. Certificates of users begin half a minute before they are made, so a
/// sidecar whose clock is further behind takes them for not yet valid; and one whose clock is ahead takes that much off the
/// one minute of a session certificate.
pub const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// How long a challenge may wait for its touch.
pub const CHALLENGE_LIFE: Duration = Duration::from_secs(5 * 60);

const NONCE_BYTES: usize = 16;

/// What the session at hand is, to be compared with what was touched for.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The cluster.
    pub cluster: &'a ClusterName,
    /// The user of the certificate.
    pub user: &'a UserName,
    /// The device that the certificate names.
    pub device: DeviceId,
    /// The route of the certificate.
    pub route: &'a Route,
    /// SHA-256 of the SubjectPublicKeyInfo that completed the handshake.
    pub public_key_sha256: &'a [u8; 32],
    /// Beginning of the certificate's life.
    pub not_before: SystemTime,
}

/// Why a receipt is no proof: one variant a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Larger than [`MAX_RECEIPT_BYTES`].
    #[error("the receipt is {bytes} bytes long, more than {MAX_RECEIPT_BYTES}")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// Cannot be read.
    #[error("the receipt cannot be read: {what}")]
    Malformed {
        /// Which part.
        what: &'static str,
    },
    /// Made with another device than the certificate names.
    #[error("the receipt is of another device")]
    OtherDevice,
    /// Client data is not of `webauthn.get`: a registration, say.
    #[error("the assertion is not of type webauthn.get")]
    WrongType,
    /// What was signed is not this intent.
    #[error("the security key signed another intent")]
    ChallengeMismatch,
    /// The touch was asked for by another site.
    #[error("the assertion was made for origin {origin:?}")]
    WrongOrigin {
        /// The origin that it names.
        origin: String,
    },
    /// The touch was asked for from within another site's page.
    #[error("the assertion was made across origins")]
    CrossOrigin,
    /// Made for another relying party.
    #[error("the assertion is for another relying party")]
    WrongRelyingParty,
    /// Nobody touched the key.
    #[error("the security key was not touched")]
    UserNotPresent,
    /// Not the signature of this device's key.
    #[error("the security key's signature is wrong")]
    BadSignature,
    /// The intent names another cluster.
    #[error("the touch was for another cluster")]
    OtherCluster,
    /// The intent names another user.
    #[error("the touch was by another user")]
    OtherUser,
    /// The intent names another target or protocol.
    #[error("the touch was for another target")]
    OtherTarget,
    /// The intent names another login.
    #[error("the touch was for another login")]
    OtherLogin,
    /// The intent names another session key than the one that completed the handshake.
    #[error("the touch was for another session key")]
    OtherKey,
    /// The intent has no proper nonce.
    #[error("the intent has no nonce of {NONCE_BYTES} bytes")]
    NoNonce,
    /// The intent is older than a challenge can be.
    #[error("the touch was for an intent of {}, long before the certificate", rfc3339(*time))]
    TooOld {
        /// When the intent was made.
        time: SystemTime,
    },
    /// The intent is younger than the certificate.
    #[error("the touch was for an intent of {}, after the certificate", rfc3339(*time))]
    FromTheFuture {
        /// When the intent was made.
        time: SystemTime,
    },
}

/// A receipt that can be read. Nothing in it is verified yet.
#[derive(Clone, Debug)]
pub struct ParsedReceipt {
    receipt: proto::Receipt,
    intent: SessionIntent,
    device: DeviceId,
}

impl ParsedReceipt {
    /// Reads a `touchstone.auth.v1.Receipt`.
    ///
    /// # Errors
    /// [`ReceiptError::TooLarge`] or [`ReceiptError::Malformed`].
    pub fn parse(receipt: &[u8]) -> Result<Self, ReceiptError> {
        if receipt.len() > MAX_RECEIPT_BYTES {
            return Err(ReceiptError::TooLarge { bytes: receipt.len() });
        }
        let malformed = |what| ReceiptError::Malformed { what };
        let receipt = proto::Receipt::decode(receipt).map_err(|_| malformed("not a receipt"))?;
        let intent = SessionIntent::decode(receipt.intent.as_slice()).map_err(|_| malformed("its intent"))?;
        let device = Uuid::try_parse(&receipt.device_id).map_err(|_| malformed("its device"))?;
        Ok(Self { receipt, intent, device: DeviceId(device) })
    }

    /// The device that it claims to be of.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// What it claims to be for.
    #[must_use]
    pub fn intent(&self) -> &SessionIntent {
        &self.intent
    }
}

/// A receipt that proves a touch for this very session.
#[derive(Clone, Debug)]
pub struct VerifiedReceipt {
    /// The device that was touched.
    pub device: DeviceId,
    /// What it was touched for.
    pub intent: SessionIntent,
    /// When the touch was asked for: the intent's time, under the key's signature.
    pub time: SystemTime,
    /// The key also asked for a PIN or a fingerprint.
    pub user_verified: bool,
}

/// Proves a touch: the device's signature, over this intent, for this session.
///
/// # Errors
/// The first rule that the receipt breaks.
pub fn verify(
    receipt: &[u8],
    expected: &Expected<'_>,
    key: &DeviceKey,
    relying_party: &RelyingParty,
) -> Result<VerifiedReceipt, ReceiptError> {
    let ParsedReceipt { receipt, intent, device } = ParsedReceipt::parse(receipt)?;
    if device != expected.device {
        return Err(ReceiptError::OtherDevice);
    }
    assertion::check_client_data(
        &receipt.client_data_json,
        &challenge(Purpose::Session, &receipt.intent),
        relying_party,
    )?;
    let flags = assertion::check_authenticator_data(&receipt.authenticator_data, relying_party)?;
    assertion::check_signature(&receipt, key)?;
    // From here on the intent is what the key signed.
    let time = check_intent(&intent, expected)?;
    Ok(VerifiedReceipt { device, intent, time, user_verified: flags.user_verified })
}

fn check_intent(intent: &SessionIntent, expected: &Expected<'_>) -> Result<SystemTime, ReceiptError> {
    let rule = |holds: bool, otherwise: ReceiptError| if holds { Ok(()) } else { Err(otherwise) };
    let route = intent.route.as_ref().ok_or(ReceiptError::Malformed { what: "its intent has no route" })?;
    let Route { target, protocol, login } = expected.route;
    let (kind, user, name) = match login {
        Login::Database { user, name } => ("database", user, name.as_str()),
        Login::Node { login } => ("node", login, ""),
    };
    rule(intent.cluster == expected.cluster.as_str(), ReceiptError::OtherCluster)?;
    rule(intent.user == expected.user.as_str(), ReceiptError::OtherUser)?;
    rule(
        route.target_kind == kind
            && route.target_name == target.as_str()
            && route.protocol == protocol.as_str(),
        ReceiptError::OtherTarget,
    )?;
    rule(route.login == *user && route.db_name == name, ReceiptError::OtherLogin)?;
    rule(intent.public_key_sha256 == expected.public_key_sha256, ReceiptError::OtherKey)?;
    rule(intent.nonce.len() == NONCE_BYTES, ReceiptError::NoNonce)?;
    check_time(intent.time, expected.not_before)
}

/// The intent was made before the certificate, at most a challenge's life before; give or take the skew of two clocks.
fn check_time(time: i64, not_before: SystemTime) -> Result<SystemTime, ReceiptError> {
    let time = from_unix_millis(time).ok_or(ReceiptError::Malformed { what: "its intent's time" })?;
    match not_before.duration_since(time) {
        Ok(age) if age > CHALLENGE_LIFE + CLOCK_SKEW => Err(ReceiptError::TooOld { time }),
        Err(ahead) if ahead.duration() > CLOCK_SKEW => Err(ReceiptError::FromTheFuture { time }),
        Ok(_) | Err(_) => Ok(time),
    }
}
