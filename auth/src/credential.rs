//! What a client proved to hold, in each form that a sidecar takes.
//!
//! | form | the client comes with | who judges its MFA |
//! |---|---|---|
//! | [`X509`](Credential::X509) | TLS, for a database | the receipt or code in the certificate |
//! | [`Ssh`](Credential::Ssh) | SSH, a login certificate or one for this session | the receipt or code in the certificate |
//! | [`SshWithOtp`](Credential::SshWithOtp) | SSH, a login certificate, and a code that authd has judged since | the [`OtpProof`] |
//! | [`SshInTls`](Credential::SshInTls) | TLS, and SSH inside it | the receipt or code in the *outer* certificate |
//!
//! In each the caller has verified that the client signed with the certified key, and nothing else.

use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use uuid::Uuid;

use crate::{
    clock::from_unix_millis,
    identity::{DeviceId, Login, TargetName, UserName},
    policy::TargetKind,
    proto,
};

/// A certificate, or two, whose key signed the handshake.
#[derive(Clone, Copy, Debug)]
pub enum Credential<'a> {
    /// The chain of TLS, the client's own certificate first. Empty where it presented none.
    X509(&'a [CertificateDer<'a>]),
    /// An OpenSSH certificate in its wire form.
    Ssh {
        /// The certificate with whose key the client signed.
        certificate: &'a [u8],
    },
    /// An OpenSSH login certificate, and a one-time code for this very connection.
    SshWithOtp {
        /// The certificate with whose key the client signed.
        certificate: &'a [u8],
        /// The session identifier of the connection (RFC 4253 §7.2).
        session_hash: &'a [u8],
        /// What authd said about the code.
        proof: &'a OtpProof,
    },
    /// SSH inside TLS. The outer certificate says what for, and proves the touch; the inner one is a login of the same user
    /// with the account asked for.
    SshInTls {
        /// The chain of TLS, the client's own certificate first.
        chain: &'a [CertificateDer<'a>],
        /// The OpenSSH certificate with whose key the client signed inside.
        certificate: &'a [u8],
    },
}

impl Credential<'_> {
    /// Databases speak TLS, hosts speak SSH; what came by the other way was judged by rules that were not meant for it.
    pub(crate) fn fits(&self, kind: TargetKind) -> bool {
        match self {
            Self::X509(_) => kind == TargetKind::Database,
            Self::Ssh { .. } | Self::SshWithOtp { .. } | Self::SshInTls { .. } => kind == TargetKind::Node,
        }
    }
}

/// authd's word that a one-time code was right: for one user, one certificate, one login at one node, one connection.
///
/// Comes from an answer of `Sidecars.VerifyOtp` and from nowhere else. It is worth nothing for another connection, because
/// the session hash is another there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtpProof {
    user: UserName,
    device: DeviceId,
    at: SystemTime,
    certificate_sha256: [u8; 32],
    target: TargetName,
    login: Login,
    session_hash: Vec<u8>,
}

/// An answer about a code that cannot be read, or answers nothing that was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer about the one-time code cannot be read: {what}")]
pub struct OtpAnswerError {
    what: &'static str,
}

impl OtpProof {
    /// Reads authd's answer to what was asked.
    ///
    /// # Errors
    /// [`OtpAnswerError`] where a part of either is missing or is not what it should be.
    pub fn from_answer(
        asked: &proto::VerifyOtpRequest,
        answer: &proto::VerifyOtpResponse,
    ) -> Result<Self, OtpAnswerError> {
        let bad = |what| OtpAnswerError { what };
        let route = asked.route.as_ref().filter(|route| route.target_kind == "node");
        let route = route.ok_or_else(|| bad("it is for no node"))?;
        if asked.ssh_certificate.is_empty() || asked.session_hash.is_empty() {
            return Err(bad("it is for no connection"));
        }
        let device = Uuid::try_parse(&answer.device_id).map_err(|_| bad("its device"))?;
        Ok(Self {
            user: UserName::new(answer.user.as_str()).map_err(|_| bad("its user"))?,
            device: DeviceId(device),
            at: from_unix_millis(answer.time).ok_or_else(|| bad("its time"))?,
            certificate_sha256: sha256(&asked.ssh_certificate),
            target: TargetName::new(route.target_name.as_str()).map_err(|_| bad("its target"))?,
            login: Login::Node { login: route.login.clone() },
            session_hash: asked.session_hash.clone(),
        })
    }

    /// The device that the code was of.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// When authd judged it.
    #[must_use]
    pub fn at(&self) -> SystemTime {
        self.at
    }

    /// Is it for this user, who came with this certificate over this connection and asks for this?
    pub(crate) fn is_for(
        &self,
        user: &UserName,
        certificate: &[u8],
        session_hash: &[u8],
        (target, login): (&TargetName, &Login),
    ) -> bool {
        self.user == *user
            && self.certificate_sha256 == sha256(certificate)
            && self.session_hash == session_hash
            && self.target == *target
            && self.login == *login
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}
