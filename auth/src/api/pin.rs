//! The pin of a certificate authority: the hash of its public key, short enough to be told over the telephone.

use std::{fmt, str::FromStr};

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, X509Certificate};

const PREFIX: &str = "sha256:";

/// `sha256:<hex>` of an authority's SubjectPublicKeyInfo. A new certificate for the same key keeps its pin.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CaPin([u8; 32]);

/// Not a CA pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a CA pin is sha256: and 64 hexadecimal digits")]
pub struct CaPinError;

impl CaPin {
    /// The pin of a SubjectPublicKeyInfo (DER).
    #[must_use]
    pub fn of_spki(spki: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, spki).as_ref());
        Self(hash)
    }

    /// The pin of a certificate's key; `None` where it is not a certificate.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        Some(Self::of_spki(certificate.public_key().raw))
    }
}

impl FromStr for CaPin {
    type Err = CaPinError;

    fn from_str(text: &str) -> Result<Self, CaPinError> {
        let digits = text.strip_prefix(PREFIX).ok_or(CaPinError)?;
        let mut hash = [0; 32];
        hex::decode_to_slice(digits, &mut hash).map_err(|_| CaPinError)?;
        Ok(Self(hash))
    }
}

impl TryFrom<String> for CaPin {
    type Error = CaPinError;

    fn try_from(text: String) -> Result<Self, CaPinError> {
        text.parse()
    }
}

impl From<CaPin> for String {
    fn from(pin: CaPin) -> Self {
        pin.to_string()
    }
}

impl fmt::Display for CaPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", hex::encode(self.0))
    }
}

impl fmt::Debug for CaPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_reads_what_it_writes() {
        let pin = CaPin::of_spki(b"key");
        assert_eq!(pin.to_string().parse(), Ok(pin));
        assert_eq!(pin.to_string().len(), PREFIX.len() + 64);
    }

    #[test]
    fn what_is_not_exactly_a_pin_is_refused() {
        let pin = CaPin::of_spki(b"key").to_string();
        for wrong in [
            "",
            "sha256:",
            "sha256:00",
            &pin[7..],
            &format!("{pin}0"),
            &format!(" {pin}"),
            &pin.replace("sha256", "sha1"),
        ] {
            assert_eq!(wrong.parse::<CaPin>(), Err(CaPinError), "{wrong}");
        }
    }
}
