//! Certificate bytes ↔ [`Identity`], and every check that a certificate must pass before anything it says is believed.
//!
//! A certificate is judged in this order: may it be read at all, is its signature that of an authority we trust, is it of
//! the right kind, does it name exactly one identity, and is it in date. What was signed but is refused (expired, say) still
//! tells who it was for: [`RejectedCertificate::identity`], for the audit trail and nothing else.

use std::time::SystemTime;

use uuid::Uuid;

use crate::{
    clock::rfc3339,
    identity::{ClusterName, Identity, NameError, TargetName},
};

pub mod openssh;
mod traits;
pub mod x509;

/// More than a certificate with a receipt and generous traits needs; what is larger is not read.
pub const MAX_CERTIFICATE_BYTES: usize = 32 * 1024;

/// A user certificate that passed every check. Whether it opens anything is the authorizer's to say.
#[derive(Clone, Debug)]
pub struct VerifiedCertificate {
    /// Who is there.
    pub identity: Identity,
    /// SHA-256 of the certified SubjectPublicKeyInfo (X.509) or of the public key's wire form (SSH).
    pub public_key_sha256: [u8; 32],
    /// Beginning of the certificate's life.
    pub not_before: SystemTime,
    /// Serial number, lower-case hexadecimal: 32 digits in X.509, 16 in SSH.
    pub serial_hex: String,
}

/// Whom a sidecar certificate names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SidecarIdentity {
    /// Given at join, kept by renewals.
    pub id: Uuid,
    /// The cluster that issued the certificate.
    pub cluster: ClusterName,
    /// The targets that the sidecar may guard.
    pub target_names: Vec<TargetName>,
    /// SHA-256 of the certified SubjectPublicKeyInfo.
    pub public_key_sha256: [u8; 32],
    /// End of the certificate's life.
    pub not_after: SystemTime,
}

/// A certificate that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct RejectedCertificate {
    /// The rule that it broke.
    pub error: CertificateError,
    /// Whom it names, where its signature is genuine and its contents can be read. For audit alone.
    pub identity: Option<Box<Identity>>,
}

impl From<CertificateError> for RejectedCertificate {
    fn from(error: CertificateError) -> Self {
        Self { error, identity: None }
    }
}

impl From<RejectedCertificate> for CertificateError {
    fn from(rejected: RejectedCertificate) -> Self {
        rejected.error
    }
}

/// Why a certificate is refused: one variant a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No certificate was presented.
    #[error("no certificate was presented")]
    Absent,
    /// Larger than [`MAX_CERTIFICATE_BYTES`].
    #[error("the certificate is {bytes} bytes long, more than {MAX_CERTIFICATE_BYTES}")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// Not a certificate, or not one in the form that we write.
    #[error("the certificate cannot be read: {what}")]
    Malformed {
        /// Which part.
        what: &'static str,
    },
    /// Signed by nobody that we trust for this kind of certificate.
    #[error("the certificate was not issued by an authority of this cluster")]
    UnknownAuthority,
    /// Names a trusted authority, but the signature is not the authority's.
    #[error("the certificate's signature is wrong")]
    BadSignature,
    /// An authority's own certificate.
    #[error("an authority's certificate was presented as a user's or a sidecar's")]
    IsAuthority,
    /// A certificate of a sidecar, of authd, or of any server.
    #[error("a host certificate was presented as a user's")]
    HostCertificate,
    /// A user's certificate where a sidecar's is needed.
    #[error("the certificate is not a sidecar's")]
    NotSidecar,
    /// Extended key usage clientAuth is missing: a database client certificate, for one.
    #[error("the certificate is not meant for clients of this service")]
    NotForClients,
    /// Issued for another cluster.
    #[error("the certificate is for cluster {certificate_for}")]
    OtherCluster {
        /// The cluster that it names.
        certificate_for: ClusterName,
    },
    /// Its life is over.
    #[error("the certificate expired at {} (now: {})", rfc3339(*not_after), rfc3339(*now))]
    Expired {
        /// End of its life.
        not_after: SystemTime,
        /// When it was judged.
        now: SystemTime,
    },
    /// Its life has not begun.
    #[error("the certificate is not valid before {} (now: {})", rfc3339(*not_before), rfc3339(*now))]
    NotYetValid {
        /// Beginning of its life.
        not_before: SystemTime,
        /// When it was judged.
        now: SystemTime,
    },
    /// Something that must be there is not.
    #[error("the certificate has no {attribute}")]
    Missing {
        /// What.
        attribute: &'static str,
    },
    /// Something that must be there once is there twice.
    #[error("the certificate has more than one {attribute}")]
    Duplicate {
        /// What.
        attribute: &'static str,
    },
    /// Something that we do not know, and that might be a restriction.
    #[error("the certificate has an unknown part: {name}")]
    Unknown {
        /// Its object identifier or name.
        name: String,
    },
    /// A value that cannot be.
    #[error("the certificate's {attribute} is invalid")]
    Invalid {
        /// Of what.
        attribute: &'static str,
    },
    /// A name that cannot be.
    #[error("the certificate's {attribute} is not a name")]
    Name {
        /// Of what.
        attribute: &'static str,
        /// Why not.
        source: NameError,
    },
    /// Some parts of a route without the others.
    #[error("the certificate's route is incomplete")]
    IncompleteRoute,
    /// The usage (OU) and the route do not agree.
    #[error("the certificate's usage does not agree with its route")]
    UsageMismatch,
    /// A receipt without a device, or a route-less certificate that claims MFA for a session.
    #[error("the certificate's MFA claim is incomplete")]
    IncompleteMfa,
    /// An SSH certificate for nobody in particular, which OpenSSH reads as "for everybody".
    #[error("the certificate has no principals")]
    NoPrincipals,
    /// An SSH certificate that does not name the login asked for among its principals.
    #[error("the certificate is not for login {login:?}")]
    OtherPrincipal {
        /// The login asked for.
        login: String,
    },
    /// A critical option that we do not implement.
    #[error("the certificate has the unknown critical option {name:?}")]
    UnknownCriticalOption {
        /// Its name.
        name: String,
    },
    /// The certificate is bound to other addresses.
    #[error("the certificate may not be used from this address")]
    OtherAddress,
    /// The certified key, or the authority's key, is itself a certificate (CVE-2025-49825).
    #[error("the certificate is nested in another")]
    Nested,
}
