//! X.509: which certificate is a user's, which is a sidecar's, and whom it names.
//!
//! rustls-webpki judges signature and form; what it leaves to its caller is judged here. It is asked at a moment inside the
//! certificate's own life, so that an expired certificate with a genuine signature can be told from a forged one.

use std::{
    ops::RangeInclusive,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use uuid::Uuid;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, aws_lc_rs::ECDSA_P256_SHA256};
use x509_parser::prelude::{ASN1Time, ExtendedKeyUsage, FromDer, GeneralName, X509Certificate};

use super::{
    CertificateError, MAX_CERTIFICATE_BYTES, RejectedCertificate, SidecarIdentity, VerifiedCertificate,
};
use crate::identity::{ClusterName, TargetName};

mod extension;
mod subject;

#[cfg(test)]
mod tests;

pub use extension::{RECEIPT_OID_DER, receipt_extension_value};
pub use subject::{SubjectAttribute, USAGE_DATABASE, subject};

/// Organisation (O) of a sidecar's certificate. No role may have this name.
pub const SIDECAR_ORGANISATION: &str = "Sidecar";

/// Organisation (O) of authd's own certificate. No role may have this name.
pub const AUTH_ORGANISATION: &str = "Auth";

/// What comes after a target's name in a sidecar's certificate.
const TARGET_SUFFIX: &str = ".target.touchstone.internal";

/// Judges what a client presented as a user's certificate. Only the first certificate counts, and it must be signed by
/// one of `authorities` directly. Any input is answered, none panics.
///
/// # Errors
/// The first rule that it breaks, and whom it names where its signature is genuine.
pub fn verify_user(
    chain: &[CertificateDer<'_>],
    authorities: &[CertificateDer<'_>],
    cluster: &ClusterName,
    now: SystemTime,
) -> Result<VerifiedCertificate, RejectedCertificate> {
    let leaf = first(chain)?;
    let certificate = parse(leaf)?;
    let life = Life::of(&certificate)?;
    check_signature(leaf, authorities, &life)?;

    check_kind(&certificate)?;
    let receipt = extension::receipt(&certificate)?;
    let identity = subject::identity(certificate.subject(), receipt, life.not_after)?;
    if identity.cluster != *cluster {
        let error = CertificateError::OtherCluster { certificate_for: identity.cluster.clone() };
        return Err(RejectedCertificate { error, identity: Some(Box::new(identity)) });
    }
    let verified = VerifiedCertificate {
        identity,
        public_key_sha256: sha256(certificate.public_key().raw),
        not_before: life.not_before,
        serial_hex: serial_hex(&certificate),
    };
    check_life(&verified, now)?;
    Ok(verified)
}

/// The last of [`verify_user`]'s rules, and the only one that time can change.
///
/// # Errors
/// It is not in date.
pub(crate) fn check_life(
    certificate: &VerifiedCertificate,
    now: SystemTime,
) -> Result<(), RejectedCertificate> {
    let life = Life { not_before: certificate.not_before, not_after: certificate.identity.not_after };
    life.check(now).map_err(|error| RejectedCertificate {
        error,
        identity: Some(Box::new(certificate.identity.clone())),
    })
}

/// Judges what a client presented as a sidecar's certificate, by the same rules.
///
/// # Errors
/// The first rule that it breaks.
pub fn verify_sidecar(
    chain: &[CertificateDer<'_>],
    host_authorities: &[CertificateDer<'_>],
    now: SystemTime,
) -> Result<SidecarIdentity, CertificateError> {
    let leaf = first(chain)?;
    let certificate = parse(leaf)?;
    let life = Life::of(&certificate)?;
    check_signature(leaf, host_authorities, &life)?;

    if !purposes(&certificate)?.client_auth {
        return Err(CertificateError::NotForClients);
    }
    if subject::organisations(certificate.subject())? != [SIDECAR_ORGANISATION] {
        return Err(CertificateError::NotSidecar);
    }
    let name = subject::common_name(certificate.subject())?;
    let (id, cluster) = name.split_once('.').ok_or(CertificateError::NotSidecar)?;
    let id = Uuid::try_parse(id).map_err(|_| CertificateError::NotSidecar)?;
    let cluster = ClusterName::new(cluster)
        .map_err(|source| CertificateError::Name { attribute: "cluster name", source })?;
    life.check(now)?;
    Ok(SidecarIdentity {
        id,
        cluster,
        target_names: target_names(&certificate)?,
        public_key_sha256: sha256(certificate.public_key().raw),
        not_after: life.not_after,
    })
}

/// When a certificate is valid, by its own words: whoever made it, and whatever it is for. `None` where it cannot be read.
#[must_use]
pub fn validity(certificate: &CertificateDer<'_>) -> Option<RangeInclusive<SystemTime>> {
    let life = Life::of(&parse(certificate).ok()?).ok()?;
    Some(life.not_before..=life.not_after)
}

fn first<'a, 'c>(chain: &'a [CertificateDer<'c>]) -> Result<&'a CertificateDer<'c>, CertificateError> {
    let leaf = chain.first().ok_or(CertificateError::Absent)?;
    if leaf.len() > MAX_CERTIFICATE_BYTES {
        return Err(CertificateError::TooLarge { bytes: leaf.len() });
    }
    Ok(leaf)
}

fn parse<'a>(leaf: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateError> {
    match X509Certificate::from_der(leaf) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(CertificateError::Malformed { what: "bytes after its end" }),
        Err(_) => Err(CertificateError::Malformed { what: "not X.509" }),
    }
}

/// Signature, form, critical extensions, and extended key usage where there is one; no dates.
fn check_signature(
    leaf: &CertificateDer<'_>,
    authorities: &[CertificateDer<'_>],
    life: &Life,
) -> Result<(), CertificateError> {
    // An authority that cannot be read vouches for nobody.
    let anchors: Vec<TrustAnchor<'_>> =
        authorities.iter().filter_map(|authority| anchor_from_trusted_cert(authority).ok()).collect();
    EndEntityCert::try_from(leaf)
        .and_then(|leaf| {
            let usage = KeyUsage::client_auth();
            leaf.verify_for_usage(&[ECDSA_P256_SHA256], &anchors, &[], life.inside(), usage, None, None)
                .map(drop)
        })
        .map_err(|error| match error {
            webpki::Error::UnknownIssuer => CertificateError::UnknownAuthority,
            webpki::Error::InvalidSignatureForPublicKey => CertificateError::BadSignature,
            webpki::Error::CaUsedAsEndEntity => CertificateError::IsAuthority,
            webpki::Error::RequiredEkuNotFoundContext(_) => CertificateError::NotForClients,
            webpki::Error::UnsupportedCriticalExtension => {
                CertificateError::Malformed { what: "unknown critical extension" }
            }
            webpki::Error::InvalidCertValidity => CertificateError::Invalid { attribute: "validity" },
            _ => CertificateError::Malformed { what: "not a certificate that we write" },
        })
}

/// What makes a certificate a user's: clientAuth, no serverAuth, no authority.
fn check_kind(certificate: &X509Certificate<'_>) -> Result<(), CertificateError> {
    if certificate.is_ca() {
        return Err(CertificateError::IsAuthority);
    }
    let purposes = purposes(certificate)?;
    if purposes.server_auth {
        return Err(CertificateError::HostCertificate);
    }
    if !purposes.client_auth {
        return Err(CertificateError::NotForClients);
    }
    Ok(())
}

/// What the key may be used for, said out loud: webpki takes silence for "anything".
fn purposes<'c>(certificate: &'c X509Certificate<'_>) -> Result<&'c ExtendedKeyUsage<'c>, CertificateError> {
    let purposes = certificate.extended_key_usage();
    let purposes = purposes.map_err(|_| CertificateError::Duplicate { attribute: "extended key usage" })?;
    purposes.map(|extension| extension.value).ok_or(CertificateError::NotForClients)
}

fn target_names(certificate: &X509Certificate<'_>) -> Result<Vec<TargetName>, CertificateError> {
    let names = certificate.subject_alternative_name();
    let names = names.map_err(|_| CertificateError::Duplicate { attribute: "subject alternative name" })?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => name.strip_suffix(TARGET_SUFFIX),
            _ => None,
        })
        .map(|name| {
            TargetName::new(name)
                .map_err(|source| CertificateError::Name { attribute: "target name", source })
        })
        .collect()
}

/// All 16 bytes, whatever zeros DER dropped or put before them.
fn serial_hex(certificate: &X509Certificate<'_>) -> String {
    let serial = certificate.raw_serial();
    format!("{:0>32}", hex::encode(serial.strip_prefix(&[0]).unwrap_or(serial)))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// From when until when, both inclusive.
struct Life {
    not_before: SystemTime,
    not_after: SystemTime,
}

impl Life {
    fn of(certificate: &X509Certificate<'_>) -> Result<Self, CertificateError> {
        let moment = |time: ASN1Time| {
            let seconds = u64::try_from(time.timestamp()).ok()?;
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
        };
        let validity = certificate.validity();
        match (moment(validity.not_before), moment(validity.not_after)) {
            (Some(not_before), Some(not_after)) if not_before <= not_after => {
                Ok(Self { not_before, not_after })
            }
            _ => Err(CertificateError::Invalid { attribute: "validity" }),
        }
    }

    /// A moment at which the dates cannot be what is wrong.
    fn inside(&self) -> UnixTime {
        let since = self.not_before.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        UnixTime::since_unix_epoch(since)
    }

    fn check(&self, now: SystemTime) -> Result<(), CertificateError> {
        if now < self.not_before {
            return Err(CertificateError::NotYetValid { not_before: self.not_before, now });
        }
        if now > self.not_after {
            return Err(CertificateError::Expired { not_after: self.not_after, now });
        }
        Ok(())
    }
}
