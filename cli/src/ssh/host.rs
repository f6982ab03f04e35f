//! Is this the sidecar of that node? Nothing is ever trusted on first use: a sidecar shows a host certificate of the cluster's
//! host authority that names the node, or it is not spoken to.
//!
//! russh has proved, before it asks us, that the other end holds the key of what it presents. Everything that a certificate
//! means is checked here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use russh::keys::PublicKeyOrCertificate;
use ssh_key::{Certificate, PublicKey, certificate::CertType, public::KeyData};

use crate::times;

/// The keys that sign host certificates of a cluster: never none.
#[derive(Clone, Debug)]
pub struct HostAuthorities(Vec<KeyData>);

/// Why there are no authorities to verify a host by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthoritiesError {
    /// There are none: every host would be a stranger.
    #[error("the auth service does not say who signs host certificates")]
    None,
    /// One cannot be read.
    #[error("the auth service names a host authority that cannot be read")]
    Unreadable,
}

/// Why a host is not the one that was meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// A key, and nobody who vouches for it.
    #[error("it presents a plain host key, not a host certificate of the cluster")]
    PlainKey,
    /// A certificate of a user.
    #[error("it presents a certificate that is not for hosts")]
    NotForHosts,
    /// Somebody else's cluster.
    #[error("its host certificate is not signed by the cluster's host authority")]
    Authority,
    /// Damaged, or forged.
    #[error("the signature of its host certificate is wrong")]
    Signature,
    /// Over, or not begun.
    #[error("its host certificate is valid from {} to {}, and it is {}", times::rfc3339(*.not_before), times::rfc3339(*.not_after), times::rfc3339(*.now))]
    Dates {
        /// Begin of its life.
        not_before: SystemTime,
        /// End of its life.
        not_after: SystemTime,
        /// Now.
        now: SystemTime,
    },
    /// The certificate of another host. One that names nobody is for nobody.
    #[error("its host certificate is for {}, not {expected:?}", listed(.named))]
    Principal {
        /// Who it names.
        named: Vec<String>,
        /// Who was meant.
        expected: String,
    },
    /// A condition that we do not know, and so cannot keep.
    #[error("its host certificate has the unknown critical option {0:?}")]
    CriticalOption(String),
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "no host".to_owned() } else { format!("{names:?}") }
}

impl HostAuthorities {
    /// Reads `authorized_keys` lines.
    ///
    /// # Errors
    /// [`AuthoritiesError`]: an authority that cannot be read is not left out in silence.
    pub fn parse<S: AsRef<str>>(lines: &[S]) -> Result<Self, AuthoritiesError> {
        let keys = lines.iter().map(|line| PublicKey::from_openssh(line.as_ref().trim()));
        let keys: Vec<_> = keys
            .map(|key| key.map(|key| key.key_data().clone()).map_err(|_| AuthoritiesError::Unreadable))
            .collect::<Result<_, _>>()?;
        // A certificate in the place of a key would make its holder an authority (CVE-2025-49825).
        if keys.iter().any(|key| key.certificate().is_some()) {
            return Err(AuthoritiesError::Unreadable);
        }
        if keys.is_empty() { Err(AuthoritiesError::None) } else { Ok(Self(keys)) }
    }

    /// Checks that what a host presents makes it the node `name`.
    ///
    /// # Errors
    /// [`HostError`]: do not say a word to it.
    pub fn verify(
        &self,
        presented: &PublicKeyOrCertificate,
        name: &str,
        now: SystemTime,
    ) -> Result<(), HostError> {
        let certificate = presented.certificate().ok_or(HostError::PlainKey)?;
        if certificate.cert_type() != CertType::Host {
            return Err(HostError::NotForHosts);
        }
        if !self.0.contains(certificate.signature_key()) {
            return Err(HostError::Authority);
        }
        certificate.verify_signature().map_err(|_| HostError::Signature)?;
        check_dates(certificate, now)?;
        if !certificate.valid_principals().iter().any(|principal| principal == name) {
            let named = certificate.valid_principals().to_vec();
            return Err(HostError::Principal { named, expected: name.to_owned() });
        }
        match certificate.critical_options().keys().next() {
            Some(option) => Err(HostError::CriticalOption(option.clone())),
            None => Ok(()),
        }
    }
}

/// PROTOCOL.certkeys: valid after <= now < valid before.
fn check_dates(certificate: &Certificate, now: SystemTime) -> Result<(), HostError> {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if (certificate.valid_after()..certificate.valid_before()).contains(&seconds) {
        return Ok(());
    }
    let at = |seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH);
    let (not_before, not_after) = (at(certificate.valid_after()), at(certificate.valid_before()));
    Err(HostError::Dates { not_before, not_after, now })
}

#[cfg(test)]
mod tests;
