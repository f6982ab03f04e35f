//! OpenSSH user certificates (PROTOCOL.certkeys): whom they name, and every check that the library leaves to its caller.
//!
//! ssh-key and russh verify that *some* key signed the certificate. That it is our authority's, that it is a plain key, that the
//! certificate is a user's, for somebody, for this login, from here, now, and without conditions that we do not know, is
//! judged here. Names of extensions are Teleport's; what it lacks ends in `@touchstone`.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest::{SHA256, digest};
use ssh_key::{
    Certificate, HashAlg, PublicKey,
    certificate::{CertType, OptionsMap},
    public::KeyData,
};

use super::{CertificateError, MAX_CERTIFICATE_BYTES, RejectedCertificate, VerifiedCertificate};
use crate::{
    identity::{ClusterName, Identity, MAX_NAME_BYTES, UserName},
    text::may_stand,
};

mod extensions;
mod source_address;

#[cfg(test)]
mod tests;

pub use extensions::{extensions, permissions};

/// The one critical option that we know (and write, where a role says `pin_source_ip`): a list of address ranges.
pub const SOURCE_ADDRESS: &str = "source-address";

/// A certificate that proved possession of its key, and the occasion.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// What was presented.
    pub certificate: &'a Certificate,
    /// The account asked for.
    pub login: &'a str,
    /// From where.
    pub client: IpAddr,
}

/// Reads the wire form of a certificate, all of it. Nothing in it is believed yet.
///
/// # Errors
/// [`CertificateError::Absent`], [`CertificateError::TooLarge`], [`CertificateError::Malformed`].
pub fn parse(wire: &[u8]) -> Result<Certificate, CertificateError> {
    match wire.len() {
        0 => Err(CertificateError::Absent),
        bytes if bytes > MAX_CERTIFICATE_BYTES => Err(CertificateError::TooLarge { bytes }),
        _ => Certificate::from_bytes(wire)
            .map_err(|_| CertificateError::Malformed { what: "not an OpenSSH certificate" }),
    }
}

/// Judges what a client presented as a user's certificate.
///
/// # Errors
/// The first rule that it breaks, and whom it names where its signature is genuine.
pub fn verify_user(
    presented: &Presented<'_>,
    authorities: &[PublicKey],
    cluster: &ClusterName,
    now: SystemTime,
) -> Result<VerifiedCertificate, RejectedCertificate> {
    let certificate = presented.certificate;
    let life = Life::of(certificate)?;
    check_signature(certificate, authorities)?;
    // We certify no other kind, and of some (those of security keys) a signature means less than it seems to.
    let KeyData::Ed25519(_) = certificate.public_key() else {
        return Err(CertificateError::Invalid { attribute: "public key" }.into());
    };
    if certificate.cert_type() != CertType::User {
        return Err(CertificateError::HostCertificate.into());
    }

    let identity = identity(certificate, life.not_after)?;
    let judge = || {
        if identity.cluster != *cluster {
            return Err(CertificateError::OtherCluster { certificate_for: identity.cluster.clone() });
        }
        life.check(now)?;
        check_critical_options(certificate.critical_options(), presented.client)?;
        if !identity.logins.iter().any(|login| login == presented.login) {
            return Err(CertificateError::OtherPrincipal { login: presented.login.to_owned() });
        }
        Ok(())
    };
    if let Err(error) = judge() {
        return Err(RejectedCertificate { error, identity: Some(Box::new(identity)) });
    }
    Ok(VerifiedCertificate {
        public_key_sha256: public_key_sha256(certificate)?,
        not_before: life.not_before,
        serial_hex: format!("{:016x}", certificate.serial()),
        identity,
    })
}

/// The authority's key, plain and known; then its signature. Dates are judged apart: the library is asked at a moment
/// inside the certificate's own life.
fn check_signature(certificate: &Certificate, authorities: &[PublicKey]) -> Result<(), CertificateError> {
    let authority = certificate.signature_key();
    if authority.is_certificate() || certificate.public_key().is_certificate() {
        return Err(CertificateError::Nested);
    }
    if !authorities.iter().any(|known| known.key_data() == authority) {
        return Err(CertificateError::UnknownAuthority);
    }
    certificate
        .validate_at(certificate.valid_after(), [&authority.fingerprint(HashAlg::Sha256)])
        .map_err(|_| CertificateError::BadSignature)
}

fn identity(certificate: &Certificate, not_after: SystemTime) -> Result<Identity, CertificateError> {
    let user = UserName::new(certificate.key_id())
        .map_err(|source| CertificateError::Name { attribute: "key id", source })?;
    let logins = certificate.valid_principals();
    if logins.is_empty() {
        return Err(CertificateError::NoPrincipals);
    }
    if !logins.iter().all(|login| is_principal(login)) {
        return Err(CertificateError::Invalid { attribute: "principal" });
    }
    extensions::identity(certificate.extensions(), user, logins.to_vec(), not_after)
}

/// May a principal of a certificate have this name? A comma divides principals for some readers (CVE-2026-35414), a NUL ends them for others.
#[must_use]
pub fn is_principal(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && !name.contains(|c: char| c == ',' || c.is_whitespace() || !may_stand(c))
}

fn check_critical_options(options: &OptionsMap, client: IpAddr) -> Result<(), CertificateError> {
    for (name, value) in options.iter() {
        match name.as_str() {
            SOURCE_ADDRESS => source_address::check(value, client)?,
            _ => return Err(CertificateError::UnknownCriticalOption { name: name.clone() }),
        }
    }
    Ok(())
}

fn public_key_sha256(certificate: &Certificate) -> Result<[u8; 32], CertificateError> {
    let key = PublicKey::from(certificate.public_key().clone()).to_bytes();
    let key = key.map_err(|_| CertificateError::Malformed { what: "its public key" })?;
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, &key).as_ref());
    Ok(hash)
}

/// From `not_before`, up to but not including `not_after` (PROTOCOL.certkeys).
struct Life {
    not_before: SystemTime,
    not_after: SystemTime,
}

impl Life {
    /// "For ever" is a number beyond every clock, and no life that we give.
    fn of(certificate: &Certificate) -> Result<Self, CertificateError> {
        let moment = |seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        match (moment(certificate.valid_after()), moment(certificate.valid_before())) {
            (Some(not_before), Some(not_after)) if not_before < not_after => {
                Ok(Self { not_before, not_after })
            }
            _ => Err(CertificateError::Invalid { attribute: "validity" }),
        }
    }

    fn check(&self, now: SystemTime) -> Result<(), CertificateError> {
        if now < self.not_before {
            return Err(CertificateError::NotYetValid { not_before: self.not_before, now });
        }
        if now >= self.not_after {
            return Err(CertificateError::Expired { not_after: self.not_after, now });
        }
        Ok(())
    }
}
