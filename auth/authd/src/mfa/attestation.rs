//! Whose make a key may be: `attestation_allowed_cas` and `attestation_denied_cas` of the preference.
//!
//! That the key signed its registration with its own certificate was checked by the library; what is judged here is whom
//! that certificate leads to. It is the key's own certificate that must lead there: further ones that were sent along help
//! on the way and prove nothing by themselves. Denied beats allowed. As soon as there is either list, a key that does not
//! say who made it is refused, since nothing could be compared.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use auth::resource::AttestationAuthorities;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// What the certificates of TPMs say that they are for (2.23.133.8.3); those of other makes say nothing.
const TPM_ATTESTATION: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x03];

/// Longer than any maker's.
const MAX_CHAIN: usize = 8;

/// Why a key was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AttestationError {
    /// It did not say who made it, or only by itself.
    #[error("the cluster takes security keys of certain makes only, and this one does not say who made it")]
    Missing,
    /// Its certificate leads to none that is allowed.
    #[error("the cluster takes security keys of certain makes only, and this one is of another")]
    NotAllowed,
    /// Its certificate leads to one that is denied.
    #[error("the cluster does not take security keys of this make")]
    Denied,
}

/// May a key with these certificates, its own first, be registered?
pub(crate) fn judge(
    chain: &[CertificateDer<'_>],
    authorities: &AttestationAuthorities,
    now: SystemTime,
) -> Result<(), AttestationError> {
    if authorities.is_empty() {
        return Ok(());
    }
    let [own, between @ ..] = chain else { return Err(AttestationError::Missing) };
    if between.len() > MAX_CHAIN {
        return Err(AttestationError::NotAllowed);
    }
    // A denied make must not come in by a defect of its own certificates: only "this leads elsewhere" is a no.
    if authorities.denied().any(|authority| leads_to(own, between, authority, now) != Leads::Elsewhere) {
        return Err(AttestationError::Denied);
    }
    // Nor may the way pass through a denied certificate.
    let named = |denied: &CertificateDer<'_>| chain.iter().any(|certificate| certificate == denied);
    if authorities.denied().any(named) {
        return Err(AttestationError::Denied);
    }
    let anybody = authorities.allowed().next().is_none();
    if anybody
        || authorities.allowed().any(|authority| leads_to(own, between, authority, now) == Leads::There)
    {
        return Ok(());
    }
    Err(AttestationError::NotAllowed)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leads {
    There,
    /// To nothing that this authority signed.
    Elsewhere,
    /// Perhaps there, but not as it should be: out of date, not readable, of an algorithm that nobody should use.
    Doubtful,
}

fn leads_to(
    own: &CertificateDer<'_>,
    between: &[CertificateDer<'_>],
    authority: &CertificateDer<'_>,
    now: SystemTime,
) -> Leads {
    if own == authority {
        return Leads::There;
    }
    let Ok(anchor) = anchor_from_trusted_cert(authority) else { return Leads::Doubtful };
    let Ok(certificate) = EndEntityCert::try_from(own) else { return Leads::Doubtful };
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let anchors = [anchor];
    let verified = certificate.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &anchors,
        between,
        UnixTime::since_unix_epoch(since_epoch),
        KeyUsage::required_if_present(TPM_ATTESTATION),
        None,
        None,
    );
    match verified {
        Ok(_) => Leads::There,
        Err(webpki::Error::UnknownIssuer) => Leads::Elsewhere,
        Err(_) => Leads::Doubtful,
    }
}
