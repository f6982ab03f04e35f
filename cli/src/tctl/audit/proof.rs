//! Whether a session's record proves itself: its receipt is of a device that the trail knows, signed with that device's key,
//! and for what the session says that it was.
//!
//! The rules of the receipt are those of the sidecar ([`auth::receipt`]). Two things that the sidecar had at hand are not
//! in the trail: the key that completed the handshake, and the certificate's beginning. The first is taken from the intent,
//! so that what remains is that *some* key was touched for; in place of the second the session must have begun after the
//! touch, and no later than a certificate can live.

use std::time::{Duration, SystemTime};

use auth::{
    clock::{from_unix_millis, rfc3339},
    identity::{DeviceId, Login, Protocol, Route},
    receipt::{
        self, CHALLENGE_LIFE, CLOCK_SKEW, DeviceKey, DeviceKeyError, Expected, ParsedReceipt, ReceiptError,
        RelyingParty,
    },
};

use super::trail::{Claims, Device, Kind, Session, Trail};

/// No certificate lives longer, whatever a role says.
const LONGEST: Duration = Duration::from_secs(30 * 3600);

/// What a session's record comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// This key was touched for this session, and nobody can have made that up.
    Proved {
        device: DeviceId,
        name: String,
        touched: SystemTime,
        /// The key asked for a PIN or a fingerprint too.
        user_verified: bool,
    },
    /// A code of this device was typed, says authd. No proof is possible.
    Otp { device: DeviceId, name: String },
    /// It was opened without MFA, and says so.
    NotClaimed,
}

/// Why a session's record proves nothing, though it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unproved {
    /// A field is missing or is not what it should be.
    #[error("{0} of the event cannot be read")]
    Field(&'static str),
    /// It claims MFA with a security key, and there is no receipt.
    #[error("it claims MFA and has no receipt")]
    NoReceipt,
    /// There is a receipt, and the event claims no MFA.
    #[error("it has a receipt and names no device")]
    NoClaim,
    /// No `mfa.add` of the device.
    #[error("no mfa.add of device {0} in this trail")]
    UnknownDevice(DeviceId),
    /// The trail registers the device twice, with different keys.
    #[error("the trail registers device {0} twice, differently")]
    Contradicted(DeviceId),
    /// The device is somebody else's.
    #[error("the device is of user {0:?}")]
    OtherOwner(String),
    /// A receipt of a device that cannot sign.
    #[error("the device shows codes and cannot have signed this")]
    NoKey,
    /// The device's key cannot be used.
    #[error("the device's public key in the trail cannot be used")]
    Key(#[from] DeviceKeyError),
    /// The receipt breaks a rule.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// The device was registered after the touch.
    #[error("the touch was at {}, before the device was registered", rfc3339(*.0))]
    NotYet(SystemTime),
    /// The device was removed before the touch.
    #[error("the touch was at {}, after the device was removed", rfc3339(*.0))]
    Gone(SystemTime),
    /// The session began before the touch.
    #[error("the touch was at {}, after the session began", rfc3339(*.0))]
    After(SystemTime),
    /// The session began longer after the touch than a certificate lives.
    #[error("the touch was at {}, long before the session began", rfc3339(*.0))]
    LongBefore(SystemTime),
}

/// Judges one session.
pub(super) fn judge(session: &Session, trail: &Trail) -> Result<Proof, Unproved> {
    let claims = session.claims().map_err(Unproved::Field)?;
    let (id, receipt) = match (claims.device, &claims.receipt) {
        (None, None) => return Ok(Proof::NotClaimed),
        (None, Some(_)) => return Err(Unproved::NoClaim),
        (Some(id), receipt) => (id, receipt),
    };
    if trail.contradicted.contains(&id.0) {
        return Err(Unproved::Contradicted(id));
    }
    let device = trail.devices.get(&id.0).ok_or(Unproved::UnknownDevice(id))?;
    if device.user != claims.user.as_str() {
        return Err(Unproved::OtherOwner(device.user.clone()));
    }
    match (&device.kind, receipt) {
        (Kind::Otp, None) => Ok(Proof::Otp { device: id, name: device.name.clone() }),
        (Kind::Otp, Some(_)) => Err(Unproved::NoKey),
        (Kind::Key { .. }, None) => Err(Unproved::NoReceipt),
        (Kind::Key { cose, rp_id }, Some(receipt)) => {
            let origins = trail.origins.get(rp_id).into_iter().flatten().cloned().collect();
            let party = RelyingParty { rp_id: rp_id.clone(), origins };
            verify(&claims, id, device, receipt, &DeviceKey::from_cose(cose)?, &party)
        }
    }
}

fn verify(
    claims: &Claims,
    id: DeviceId,
    device: &Device,
    receipt: &[u8],
    key: &DeviceKey,
    party: &RelyingParty,
) -> Result<Proof, Unproved> {
    let malformed = |what| ReceiptError::Malformed { what };
    let intent = ParsedReceipt::parse(receipt)?.intent().clone();
    let time = from_unix_millis(intent.time).ok_or(malformed("its intent's time"))?;
    let key_hash: [u8; 32] =
        intent.public_key_sha256.as_slice().try_into().map_err(|_| malformed("its intent's key"))?;
    let named = intent.route.unwrap_or_default();
    let touched_for = Route {
        target: claims.target.clone(),
        protocol: claims.protocol,
        login: match claims.protocol {
            Protocol::Ssh => Login::Node { login: named.login },
            Protocol::Postgres | Protocol::Mysql => {
                Login::Database { user: named.login, name: named.db_name }
            }
        },
    };
    // What the session asked to be must be covered by what was touched for, by the rule of the sidecar.
    if !touched_for.covers(&claims.login) {
        return Err(ReceiptError::OtherLogin.into());
    }
    let expected = Expected {
        cluster: &claims.cluster,
        user: &claims.user,
        device: id,
        route: &touched_for,
        public_key_sha256: &key_hash,
        not_before: time,
    };
    let verified = receipt::verify(receipt, &expected, key, party)?;
    check_times(claims.time, device, verified.time)?;
    let name = device.name.clone();
    Ok(Proof::Proved { device: id, name, touched: verified.time, user_verified: verified.user_verified })
}

fn check_times(started: SystemTime, device: &Device, touched: SystemTime) -> Result<(), Unproved> {
    let later = |one: SystemTime, than: SystemTime, by: Duration| {
        one.duration_since(than).is_ok_and(|difference| difference > by)
    };
    if later(device.added, touched, CLOCK_SKEW) {
        return Err(Unproved::NotYet(touched));
    }
    if device.gone.is_some_and(|gone| later(touched, gone, CLOCK_SKEW)) {
        return Err(Unproved::Gone(touched));
    }
    if later(touched, started, CLOCK_SKEW) {
        return Err(Unproved::After(touched));
    }
    if later(started, touched, LONGEST + CHALLENGE_LIFE + CLOCK_SKEW) {
        return Err(Unproved::LongBefore(touched));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
