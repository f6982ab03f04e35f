//! The five authorities and the certificates they write.
//!
//! One writer makes every X.509 certificate of Touchstone, those of the authorities included: it can repeat a subject
//! attribute and write arcs of 128 bits, which the usual libraries cannot. It decides nothing: what a certificate may
//! say is decided in `issue`, alone.

mod authority;
mod der;
mod keyring;
mod ssh;
mod x509;

pub use authority::{Authority, AuthorityKind, AuthorityRecord};
pub use keyring::{Keyring, KeyringRecord, Phase, RotationError};
pub use ssh::{IssuedSsh, SshPublicKey, SshTemplate};
pub use x509::{Attribute, Extension, Issued, P256PublicKey, San, Template, Usage};

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The bytes are not the SubjectPublicKeyInfo of a point on P-256.
    #[error("public key is not an ECDSA P-256 SubjectPublicKeyInfo")]
    PublicKey,
    /// The bytes are not an OpenSSH Ed25519 public key.
    #[error("SSH public key is not Ed25519")]
    SshPublicKey,
    /// The certificate would end before it begins, or lies outside the years 1970 to 9999.
    #[error("validity of the certificate is empty or out of range")]
    Validity,
    /// This authority has no SSH key.
    #[error("the {0} authority signs no SSH certificates")]
    NoSshKey(AuthorityKind),
    /// This authority signs for SSH alone.
    #[error("the {0} authority signs no X.509 certificates")]
    NoX509(AuthorityKind),
    /// A certificate for SSH without principals would open every account.
    #[error("SSH certificate without principals")]
    NoPrincipals,
    /// A name that some reader would take for two, or for another.
    #[error("SSH certificate with the principal {0:?}")]
    Principal(String),
    /// The stored form of an authority cannot be read.
    #[error("stored {0} authority is damaged")]
    Damaged(AuthorityKind),
    /// The cryptographic library refused.
    #[error("cryptographic operation failed")]
    Crypto,
    /// The SSH library refused.
    #[error("SSH certificate could not be written")]
    Ssh(#[source] ssh_key::Error),
}

impl From<aws_lc_rs::error::Unspecified> for CaError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self::Crypto
    }
}

#[cfg(test)]
mod tests;
