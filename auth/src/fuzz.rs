//! What a fuzzer calls: bytes from outside, and what must hold whatever they are.
//!
//! Built for tests and under `cfg(fuzzing)` alone. A panic is a finding.

use std::time::{Duration, SystemTime};

use ssh_key::{
    Certificate, PrivateKey, PublicKey,
    certificate::{Builder, CertType},
    private::{Ed25519Keypair, KeypairData},
};

use crate::{
    certificate::openssh::{self, Presented, SOURCE_ADDRESS, is_principal},
    identity::ClusterName,
};

#[cfg(test)]
mod tests;

/// A certificate as a client presents it. As it is, nobody that we trust has signed it, so it is refused; then with the
/// signature of an authority that signs anything, so that all that comes after the signature is tried too: what is accepted
/// keeps every rule.
pub fn openssh_certificate(bytes: &[u8]) {
    let Ok(certificate) = openssh::parse(bytes) else { return };
    let Some(authority) = authority() else { return };
    let trusted = [authority.public_key().clone()];
    if certificate.signature_key() != authority.public_key().key_data() {
        assert!(!judge(&certificate, &trusted), "another authority's certificate was accepted");
    }
    let Some(signed) = sign_again(&certificate, &authority) else { return };
    if judge(&signed, &trusted) {
        assert_eq!(signed.cert_type(), CertType::User);
        assert!(!signed.valid_principals().is_empty(), "for everybody");
        assert!(signed.valid_principals().iter().all(|name| is_principal(name)));
        assert!(signed.critical_options().keys().all(|name| name == SOURCE_ADDRESS));
        assert!(signed.valid_after() <= NOW && NOW < signed.valid_before());
    }
}

/// 2026-01-01T00:00:00Z.
const NOW: u64 = 1_767_225_600;

fn judge(certificate: &Certificate, authorities: &[PublicKey]) -> bool {
    let Ok(cluster) = ClusterName::new("example") else { return false };
    let login = certificate.valid_principals().first().map_or("root", String::as_str);
    let presented = Presented { certificate, login, client: [192, 0, 2, 7].into() };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    openssh::verify_user(&presented, authorities, &cluster, now).is_ok()
}

fn authority() -> Option<PrivateKey> {
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[1; 32])), "").ok()
}

/// The same certificate, word for word, where the library writes such a one at all.
fn sign_again(certificate: &Certificate, authority: &PrivateKey) -> Option<Certificate> {
    let key = certificate.public_key().clone();
    let (after, before) = (certificate.valid_after(), certificate.valid_before());
    let mut builder = Builder::new(certificate.nonce(), key, after, before).ok()?;
    builder.serial(certificate.serial()).ok()?.cert_type(certificate.cert_type()).ok()?;
    builder.key_id(certificate.key_id()).ok()?;
    if certificate.valid_principals().is_empty() {
        builder.all_principals_valid().ok()?;
    }
    for principal in certificate.valid_principals() {
        builder.valid_principal(principal).ok()?;
    }
    for (name, value) in certificate.critical_options().iter() {
        builder.critical_option(name, value).ok()?;
    }
    for (name, value) in certificate.extensions().iter() {
        builder.extension(name, value).ok()?;
    }
    builder.sign(authority).ok()
}
