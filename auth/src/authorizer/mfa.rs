//! Step 4: what the evidence of MFA proves, and step 6: how old it is.

use std::time::{Duration, SystemTime};

use super::SessionRequest;
use crate::{
    certificate::{CertificateError, VerifiedCertificate},
    credential::{Credential, OtpProof},
    denied::DenyReason,
    identity::{DeviceId, MfaEvidence},
    policy::MfaStatus,
    receipt::{self, CLOCK_SKEW},
    replica::{DeviceKind, KnownDevice, Snapshot},
};

/// What was proven about MFA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mfa {
    NotVerified,
    Verified {
        device: DeviceId,
        /// When the device answered, by the best evidence that there is.
        at: SystemTime,
    },
}

impl Mfa {
    /// As far as policy asks.
    pub(crate) fn status(self) -> MfaStatus {
        match self {
            Self::Verified { .. } => MfaStatus::Verified,
            Self::NotVerified => MfaStatus::NotVerified,
        }
    }
}

/// The evidence in the certificate, or the code that came after it.
pub(super) fn verify(
    credential: &Credential<'_>,
    certificate: &VerifiedCertificate,
    request: &SessionRequest,
    snapshot: &Snapshot,
) -> Result<Mfa, DenyReason> {
    match credential {
        Credential::X509(_) | Credential::Ssh { .. } | Credential::SshInTls { .. } => {
            verify_evidence(certificate, snapshot)
        }
        Credential::SshWithOtp { certificate: bytes, session_hash, proof } => {
            let place = (&request.target.name, &request.login);
            if !proof.is_for(&certificate.identity.user, bytes, session_hash, place) {
                return Err(DenyReason::OtherCode { device: proof.device() });
            }
            verify_code(certificate, proof, snapshot)
        }
    }
}

/// authd has judged the code. Whose device it is, and whether codes count, is asked again here, where both are known too.
fn verify_code(
    certificate: &VerifiedCertificate,
    proof: &OtpProof,
    snapshot: &Snapshot,
) -> Result<Mfa, DenyReason> {
    let (identity, device) = (&certificate.identity, proof.device());
    // A code is asked for after a login certificate alone; what has evidence of its own is judged by that.
    if identity.route.is_some() || identity.mfa != MfaEvidence::None {
        return Err(DenyReason::OtherCode { device });
    }
    match known(device, certificate, snapshot)?.kind {
        DeviceKind::Totp => codes_count(device, snapshot)?,
        DeviceKind::Webauthn(_) => return Err(DenyReason::ReceiptMissing { device }),
    }
    Ok(Mfa::Verified { device, at: proof.at() })
}

fn known<'s>(
    device: DeviceId,
    certificate: &VerifiedCertificate,
    snapshot: &'s Snapshot,
) -> Result<&'s KnownDevice, DenyReason> {
    let known = snapshot.device(device).ok_or(DenyReason::UnknownDevice { device })?;
    if known.user != certificate.identity.user {
        return Err(DenyReason::DeviceOfAnotherUser { device });
    }
    Ok(known)
}

fn codes_count(device: DeviceId, snapshot: &Snapshot) -> Result<(), DenyReason> {
    let preference = snapshot.auth_preference().ok_or(DenyReason::ReplicaNotReady)?;
    if !preference.second_factor.allows_otp() {
        return Err(DenyReason::OtpNotAccepted { device });
    }
    Ok(())
}

/// What the evidence in the certificate proves. authd's word alone is enough only for devices that leave no proof.
fn verify_evidence(certificate: &VerifiedCertificate, snapshot: &Snapshot) -> Result<Mfa, DenyReason> {
    let identity = &certificate.identity;
    let (device, receipt) = match &identity.mfa {
        MfaEvidence::None => return Ok(Mfa::NotVerified),
        MfaEvidence::Claimed { device } => (*device, None),
        MfaEvidence::Receipt { device, receipt } => (*device, Some(receipt)),
    };
    let known = known(device, certificate, snapshot)?;
    let at = match (&known.kind, receipt) {
        (DeviceKind::Webauthn(key), Some(receipt)) => {
            verify_receipt(certificate, receipt, device, key, snapshot)?.time
        }
        (DeviceKind::Webauthn(_), None) => return Err(DenyReason::ReceiptMissing { device }),
        (DeviceKind::Totp, Some(_)) => return Err(DenyReason::ReceiptUnexpected { device }),
        (DeviceKind::Totp, None) => {
            codes_count(device, snapshot)?;
            certificate.not_before
        }
    };
    Ok(Mfa::Verified { device, at })
}

pub(super) fn check_age(mfa: Mfa, interval: Option<Duration>, now: SystemTime) -> Result<(), DenyReason> {
    let (Mfa::Verified { at: touched, .. }, Some(interval)) = (mfa, interval) else { return Ok(()) };
    // A touch that is still to come by our clock is at most the skew away: the receipt and the certificate's life say so.
    let age = now.duration_since(touched).unwrap_or_default();
    if age > interval.saturating_add(CLOCK_SKEW) {
        return Err(DenyReason::MfaTooOld { touched, now, interval });
    }
    Ok(())
}

fn verify_receipt(
    certificate: &VerifiedCertificate,
    receipt: &[u8],
    device: DeviceId,
    key: &receipt::DeviceKey,
    snapshot: &Snapshot,
) -> Result<receipt::VerifiedReceipt, DenyReason> {
    let identity = &certificate.identity;
    // A certificate with evidence and without a route does not come this far: see `CertificateError::IncompleteMfa`.
    let route = identity.route.as_ref().ok_or(DenyReason::Certificate(CertificateError::IncompleteMfa))?;
    let relying_party = snapshot.relying_party().ok_or(DenyReason::ReplicaNotReady)?;
    let expected = receipt::Expected {
        cluster: &identity.cluster,
        user: &identity.user,
        device,
        route,
        // The handshake was signed with the key that the certificate holds.
        public_key_sha256: &certificate.public_key_sha256,
        not_before: certificate.not_before,
    };
    receipt::verify(receipt, &expected, key, relying_party).map_err(DenyReason::Receipt)
}
