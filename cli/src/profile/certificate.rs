//! What our own certificate says, read for display and defaults alone: nothing is decided by it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

/// Teleport's attribute for the name of the cluster.
const CLUSTER: &str = "1.3.9999.1.7";

/// What a user certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// CN.
    pub user: String,
    /// The cluster that issued it.
    pub cluster: Option<String>,
    /// O, repeated.
    pub roles: Vec<String>,
    /// L, repeated.
    pub logins: Vec<String>,
    /// Traits as the certificate carries them: JSON.
    pub traits_json: Option<String>,
    /// End of its life.
    pub not_after: SystemTime,
}

impl CertificateFacts {
    /// Reads a certificate; `None` where it is none.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let subject = certificate.subject();
        let not_after = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
        Some(Self {
            user: first(subject, "2.5.4.3")?,
            cluster: first(subject, CLUSTER),
            roles: attributes(subject, "2.5.4.10"),
            logins: attributes(subject, "2.5.4.7"),
            traits_json: first(subject, "2.5.4.17"),
            not_after: UNIX_EPOCH.checked_add(Duration::from_secs(not_after))?,
        })
    }
}

fn first(subject: &X509Name<'_>, oid: &str) -> Option<String> {
    attributes(subject, oid).into_iter().next()
}

fn attributes(subject: &X509Name<'_>, oid: &str) -> Vec<String> {
    let wanted = subject.iter_attributes().filter(|attribute| attribute.attr_type().to_id_string() == oid);
    wanted.filter_map(|attribute| attribute.as_str().ok().map(str::to_owned)).collect()
}
