//! Why somebody may not: the evidence of a denial, one variant a rule.
//!
//! For log, audit and the choice of what the client may read. What the client does read is decided elsewhere, once.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use crate::{
    certificate::CertificateError,
    clock::rfc3339,
    identity::{DeviceId, Identity, Login, Protocol, RoleName, TargetName, UserName},
    lock::LockInForce,
    policy::{DeniedBy, MfaRequiredBy, PolicyError},
    receipt::ReceiptError,
};

/// A session that may not begin.
#[derive(Debug, thiserror::Error)]
#[error("access denied")]
pub struct AccessDenied {
    /// Why.
    #[source]
    pub reason: DenyReason,
    /// Who asked, where the certificate's signature was genuine; else nobody knows.
    pub identity: Option<Box<Identity>>,
}

/// Why a session may not begin.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DenyReason {
    /// The client presented no certificate.
    #[error("no certificate was presented")]
    NoCertificate,
    /// The certificate broke one of its own rules.
    #[error("the certificate was refused")]
    Certificate(#[source] CertificateError),
    /// The session certificate is for another target.
    #[error("the certificate is for target {certificate_for}, not {asked}")]
    OtherTarget {
        /// In the certificate.
        certificate_for: TargetName,
        /// In the request.
        asked: TargetName,
    },
    /// The session certificate is for another protocol.
    #[error("the certificate is for {certificate_for}, not {asked}")]
    OtherProtocol {
        /// In the certificate.
        certificate_for: Protocol,
        /// Of the target.
        asked: Protocol,
    },
    /// The session certificate is for another login.
    #[error("the certificate is for {certificate_for:?}, not {asked:?}")]
    OtherLogin {
        /// In the certificate.
        certificate_for: Login,
        /// In the request.
        asked: Login,
    },
    /// A certificate of TLS alone for a host, or one of SSH for a database.
    #[error("a certificate of another protocol was presented")]
    OtherProtocolOfCredential,
    /// SSH inside TLS, and the two certificates name two users.
    #[error("the certificate inside is of user {inside}")]
    OtherUserInside {
        /// Whom the inner one names.
        inside: UserName,
    },
    /// SSH inside TLS, and the certificate inside is no login certificate.
    #[error("the certificate inside is for a session of its own")]
    SessionCertificateInside,
    /// Nothing but the touch is missing.
    #[error("access to resource requires MFA")]
    MfaRequired {
        /// Who asks for it.
        by: MfaRequiredBy,
    },
    /// The roles do not allow it, or one forbids it.
    #[error("the roles do not allow it")]
    Policy(DeniedBy),
    /// The certificate names a role that does not exist, or that cannot be read.
    #[error("role {0} is not known")]
    UnknownRole(RoleName),
    /// Two roles of the identity give a setting of the database different values.
    #[error("roles {first} and {second} give {setting} different values in db_session_settings")]
    SettingConflict {
        /// The setting.
        setting: String,
        /// One role.
        first: RoleName,
        /// The other.
        second: RoleName,
    },
    /// The proof of the touch is none.
    #[error("the receipt was refused")]
    Receipt(#[source] ReceiptError),
    /// The certificate names a security key without the proof that it was touched.
    #[error("the certificate names security key {device} without its receipt")]
    ReceiptMissing {
        /// The device.
        device: DeviceId,
    },
    /// A receipt of a device that cannot give one.
    #[error("the certificate holds a receipt, but device {device} is no security key")]
    ReceiptUnexpected {
        /// The device.
        device: DeviceId,
    },
    /// The certificate names a device that is not registered (any more).
    #[error("MFA device {device} is not known")]
    UnknownDevice {
        /// The device.
        device: DeviceId,
    },
    /// The certificate names somebody else's device.
    #[error("MFA device {device} belongs to another user")]
    DeviceOfAnotherUser {
        /// The device.
        device: DeviceId,
    },
    /// A one-time code, where the cluster takes none.
    #[error("one-time codes are not accepted")]
    OtpNotAccepted {
        /// The device.
        device: DeviceId,
    },
    /// authd has judged a one-time code, but for another session, or beside evidence that the certificate has itself.
    #[error("the one-time code of device {device} was not for this session")]
    OtherCode {
        /// The device.
        device: DeviceId,
    },
    /// The proof is good, but from longer ago than the roles accept (`mfa_verification_interval`).
    #[error(
        "MFA was at {}, more than {} s ago (now: {})",
        rfc3339(*touched), interval.as_secs_f64(), rfc3339(*now)
    )]
    MfaTooOld {
        /// When the device answered: what the security key signed; for a one-time code, the beginning of
        /// the certificate, or when authd judged it.
        touched: SystemTime,
        /// When it was judged.
        now: SystemTime,
        /// How long it counts, clock skew not included.
        interval: Duration,
    },
    /// An administrator's stop.
    #[error("{0}")]
    Locked(Box<LockInForce>),
    /// The certificate is of a login, or of a session of one, from before the user was reset, recovered or deleted.
    #[error("logins of {user} from before {} have ended", rfc3339(*at))]
    LoginEnded {
        /// Whose.
        user: UserName,
        /// When they were ended.
        at: SystemTime,
    },
    /// The replica was never complete, or holds something that it cannot read.
    #[error("the replica is not ready")]
    ReplicaNotReady,
    /// `locking_mode: strict`, and nothing was heard for too long.
    #[error("the replica is stale: nothing heard for {} s", age.as_secs())]
    ReplicaStale {
        /// How long.
        age: Duration,
    },
    /// A role pins the certificate to the address that logged in.
    #[error("the certificate is pinned to another address")]
    AddressPinned {
        /// That logged in; `None` where the certificate does not say.
        login: Option<IpAddr>,
        /// That is asking.
        client: IpAddr,
    },
}

impl From<PolicyError> for DenyReason {
    fn from(error: PolicyError) -> Self {
        match error {
            PolicyError::UnknownRole(role) => Self::UnknownRole(role),
            PolicyError::SettingConflict { setting, first, second } => {
                Self::SettingConflict { setting, first, second }
            }
        }
    }
}
