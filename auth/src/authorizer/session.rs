//! A session as it was let in: what stays true of it. Nothing in here can be changed, so neither does what was worked out of it.

use std::sync::Arc;

use super::{Mfa, SessionRequest};
use crate::{
    cache::{Holdings, Question},
    certificate::VerifiedCertificate,
    identity::Identity,
};

/// What a certificate says and proves, all of it verified.
pub(crate) struct Evidence {
    certificate: VerifiedCertificate,
    mfa: Mfa,
    holdings: Holdings,
}

/// Who asked for what, with what evidence.
pub(crate) struct Session {
    evidence: Arc<Evidence>,
    request: SessionRequest,
    question: Question,
}

impl Evidence {
    pub(crate) fn new(certificate: VerifiedCertificate, mfa: Mfa) -> Self {
        let holdings = Holdings::of(&certificate.identity.roles, &certificate.identity.traits);
        Self { certificate, mfa, holdings }
    }

    pub(crate) fn certificate(&self) -> &VerifiedCertificate {
        &self.certificate
    }
}

impl Session {
    pub(crate) fn new(evidence: Arc<Evidence>, request: SessionRequest) -> Self {
        let (holdings, mfa) = (&evidence.holdings, evidence.mfa.status());
        let question = Question::of(holdings, &request.target, &request.login, mfa);
        Self { evidence, request, question }
    }

    pub(crate) fn certificate(&self) -> &VerifiedCertificate {
        &self.evidence.certificate
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.evidence.certificate.identity
    }

    pub(crate) fn mfa(&self) -> Mfa {
        self.evidence.mfa
    }

    pub(crate) fn request(&self) -> &SessionRequest {
        &self.request
    }

    /// What policy looks at of the identity.
    pub(crate) fn holdings(&self) -> &Holdings {
        &self.evidence.holdings
    }

    /// What policy is asked.
    pub(crate) fn question(&self) -> &Question {
        &self.question
    }
}
