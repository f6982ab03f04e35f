//! Step 2: the certificate that is judged, of those that were presented.

use std::sync::Arc;

use super::{Evidence, SessionRequest, View, check_ended, denied};
use crate::{
    certificate::{CertificateError, RejectedCertificate, VerifiedCertificate, openssh, x509},
    credential::Credential,
    denied::{AccessDenied, DenyReason},
    identity::{ClusterName, Identity, Login, MfaEvidence},
};

/// The certificate that says who is there and what for, every check of its own passed.
pub(super) enum Presented {
    New(Box<VerifiedCertificate>),
    /// By the same replica it was verified before, together with its evidence of MFA.
    Known(Arc<Evidence>),
}

impl Presented {
    fn new(certificate: VerifiedCertificate) -> Self {
        Self::New(Box::new(certificate))
    }

    pub(super) fn identity(&self) -> &Identity {
        match self {
            Self::New(certificate) => &certificate.identity,
            Self::Known(evidence) => &evidence.certificate().identity,
        }
    }
}

pub(super) fn certificate(
    credential: &Credential<'_>,
    known: Option<Arc<Evidence>>,
    request: &SessionRequest,
    view: &View,
) -> Result<Presented, AccessDenied> {
    let anonymous = |reason| AccessDenied { reason, identity: None };
    let cluster = view.snapshot.cluster().filter(|_| view.snapshot.is_ready());
    let cluster = cluster.ok_or_else(|| anonymous(DenyReason::ReplicaNotReady))?;
    let outer = |chain| match known {
        Some(evidence) => {
            x509::check_life(evidence.certificate(), view.now).map(|()| Presented::Known(evidence))
        }
        None => {
            x509::verify_user(chain, view.snapshot.user_authorities(), cluster, view.now).map(Presented::new)
        }
    };
    let presented = match credential {
        Credential::X509(chain) => outer(chain).map_err(refused)?,
        Credential::Ssh { certificate } | Credential::SshWithOtp { certificate, .. } => {
            Presented::new(openssh(certificate, request, cluster, view)?)
        }
        Credential::SshInTls { chain, certificate } => {
            let outer = outer(chain).map_err(refused)?;
            let inner = openssh(certificate, request, cluster, view)?;
            check_inner(outer.identity(), &inner, view)?;
            outer
        }
    };
    if !credential.fits(request.target.kind) {
        return Err(denied(presented.identity(), DenyReason::OtherProtocolOfCredential));
    }
    Ok(presented)
}

fn openssh(
    bytes: &[u8],
    request: &SessionRequest,
    cluster: &ClusterName,
    view: &View,
) -> Result<VerifiedCertificate, AccessDenied> {
    let Login::Node { login } = &request.login else {
        return Err(AccessDenied { reason: DenyReason::OtherProtocolOfCredential, identity: None });
    };
    let parsed = openssh::parse(bytes).map_err(|error| refused(error.into()))?;
    let presented = openssh::Presented { certificate: &parsed, login, client: request.client };
    openssh::verify_user(&presented, view.snapshot.ssh_user_authorities(), cluster, view.now).map_err(refused)
}

/// The inner certificate is the login of whom the outer one names. One that is for a session, or claims a touch, would be
/// evidence that nobody judges.
fn check_inner(outer: &Identity, inner: &VerifiedCertificate, view: &View) -> Result<(), AccessDenied> {
    check_ended(inner, &view.snapshot).map_err(|reason| denied(outer, reason))?;
    let inner = &inner.identity;
    if inner.user != outer.user {
        return Err(denied(outer, DenyReason::OtherUserInside { inside: inner.user.clone() }));
    }
    if inner.route.is_some() || inner.mfa != MfaEvidence::None {
        return Err(denied(outer, DenyReason::SessionCertificateInside));
    }
    Ok(())
}

fn refused(RejectedCertificate { error, identity }: RejectedCertificate) -> AccessDenied {
    match error {
        CertificateError::Absent => AccessDenied { reason: DenyReason::NoCertificate, identity: None },
        error => AccessDenied { reason: DenyReason::Certificate(error), identity },
    }
}
