//! Why a call was refused, and what its caller may read about it: one exhaustive match.

use std::time::SystemTime;

use auth::{api::touch, certificate::CertificateError, clock::rfc3339};
use tonic::{Code, Status};

use crate::{
    audit::AuditError,
    ca::{CaError, Phase, RotationError},
    mfa::{AttestationError, CounterWentBack},
    password::PasswordError,
    store::StoreError,
};

/// Why a call was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// Wrong password, code or assertion; or no such user.
    #[error("invalid username, password or second factor")]
    Credentials,
    /// The client certificate is not one that we take.
    #[error("client certificate refused: {0}{advice}", advice = advice(.0))]
    Certificate(CertificateError),
    /// The call needs a certificate.
    #[error("not logged in: this call needs the certificate of a {0}")]
    NotLoggedIn(&'static str),
    /// The caller is known, but of another kind.
    #[error("this call is for a {0}")]
    OtherCaller(&'static str),
    /// A browser without a session, or whose session is over.
    #[error("not signed in, or no longer; sign in again")]
    SignedOut,
    /// A call that no script of our own pages made.
    #[error("this call is for the pages of this service")]
    OtherOrigin,
    /// The page of an approval: its challenge is over with it.
    #[error("that is not the number in the terminal; nothing was approved, start again there")]
    WrongNumber,
    /// The touch without the number before it.
    #[error("press the number that stands in the terminal first")]
    NumberFirst,
    /// A session certificate can get no further certificates.
    #[error("a session certificate opens its own session and nothing else")]
    SessionCertificate,
    /// A role pins certificates to the address that logged in.
    #[error("this login was made from another address; log in again from here")]
    OtherAddress,
    /// The account was reset, recovered or made anew since this login.
    #[error("this login has ended: the account was reset or recovered since; log in again")]
    EndedLogin,
    /// An administrator's lock.
    #[error("{0}")]
    Locked(String),
    /// No rule of the user's roles allows it.
    #[error("access denied to perform action {verb:?} on {resource:?}")]
    Rule {
        /// Kind of resource.
        resource: &'static str,
        /// What was asked.
        verb: &'static str,
    },
    /// None of the certificate's roles is still the user's.
    #[error("user {0:?} no longer has any of the roles of this certificate; log in again")]
    NoRoles(String),
    /// Policy asks for MFA and none was shown.
    #[error("access to resource requires MFA")]
    MfaRequired,
    /// A certificate on disk cannot serve a session that needs MFA.
    #[error(
        "per-session MFA is required, but a certificate on disk cannot carry it; use tsh db connect or tsh proxy db --tunnel"
    )]
    MfaOnDisk,
    /// The person that a sidecar names may not be what it asks for.
    #[error("this user may not have this login at this node")]
    NoAccess,
    /// A key of an SSH host, from a sidecar that may guard none.
    #[error("this sidecar did not join for nodes: it needs a token of type node")]
    NoNodes,
    /// There is none, or none that this caller may know of.
    #[error("{kind} {name:?} not found")]
    NotFound {
        /// Kind of thing.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// Wrong, used or expired; never said which.
    #[error("{0} is invalid, expired or used")]
    Secret(&'static str),
    /// The name is taken.
    #[error("{kind} {name:?} already exists")]
    Exists {
        /// Kind of thing.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A field of the request.
    #[error("{field}: {problem}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A resource that cannot be read.
    #[error("{0}")]
    Resource(#[from] auth::resource::ResourceError),
    /// Somebody else changed it first.
    #[error("{0} was changed meanwhile; try again")]
    Changed(&'static str),
    /// Another call is at it.
    #[error("{0} is being written by another call; try again")]
    Busy(&'static str),
    /// Used, expired, somebody else's, or for something else.
    #[error("challenge is invalid, expired or used; start again")]
    Challenge,
    /// The user has no device of a kind that the cluster accepts.
    #[error("no MFA devices registered for {0:?}")]
    NoDevices(String),
    /// WebAuthn needs a host name.
    #[error("WebAuthn is not configured: the cluster has no relying party id")]
    NoWebauthn,
    /// The cluster asks for a second factor and this is the last.
    #[error("cannot delete the last MFA device for this user; add a replacement device first")]
    LastDevice,
    /// Users would be left without.
    #[error("role {role:?} is used by user {user:?}")]
    RoleInUse {
        /// The role.
        role: String,
        /// One of its users.
        user: String,
    },
    /// After five failures.
    #[error("too many incorrect attempts, please try again later (locked until {})", rfc3339(*.0))]
    LockedOut(SystemTime),
    /// Somebody begins and never finishes.
    #[error("too many unfinished {0}, try again in five minutes")]
    TooMany(&'static str),
    /// A security key that is not of a make that the cluster takes.
    #[error(transparent)]
    Attestation(#[from] AttestationError),
    /// A security key that may exist twice.
    #[error("the counter of this security key went back; it may have been copied: tell your administrator")]
    CounterWentBack(Box<CounterWentBack>),
    /// Without name and password.
    #[error("passwordless login is not allowed by the cluster")]
    NoPasswordless,
    /// Someone with a login certificate and no device: the password says that it is they.
    #[error("the first MFA device needs your password")]
    PasswordNeeded,
    /// An administrator's change without a touch.
    #[error("this command needs a touch of your security key or a code")]
    TouchNeeded,
    /// An administrator's change that no touch was for.
    #[error("this call is not what the touch was for, or was made already")]
    NotTouchedFor,
    /// Passwords.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The store failed.
    #[error("storage is not available")]
    Store(#[from] StoreError),
    /// The audit trail cannot be written; nothing happens unrecorded.
    #[error("the audit trail cannot be written")]
    Audit(#[from] AuditError),
    /// A recording's file failed.
    #[error("the recording is not available")]
    Recording(#[source] std::io::Error),
    /// A recording beyond every bound.
    #[error("the recording is too large")]
    RecordingTooLarge,
    /// A step that an authority's rotation does not take.
    #[error("{0}")]
    Rotation(RotationError),
    /// A step of the host authority that would lock sidecars out.
    #[error("phase {to} would lock out {}: {}", counted(sidecars.len()), named(sidecars))]
    LeftBehind {
        /// Where it was to go.
        to: Phase,
        /// Whom.
        sidecars: Vec<auth::proto::SidecarBehind>,
    },
    /// Signing failed.
    #[error("certificate could not be issued")]
    Ca(#[source] CaError),
    /// A bug, or the system is out of randomness.
    #[error("internal error")]
    Internal(&'static str),
}

/// Behind what is wrong with a certificate: what may help.
fn advice(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::UnknownAuthority => "; where its authority was replaced, log in again",
        _ => "",
    }
}

fn counted(sidecars: usize) -> String {
    if sidecars == 1 { "a sidecar".to_owned() } else { format!("{sidecars} sidecars") }
}

/// As many as one reads, and what to do.
fn named(sidecars: &[auth::proto::SidecarBehind]) -> String {
    const SHOWN: usize = 3;
    let one = |sidecar: &auth::proto::SidecarBehind| {
        format!("{} ({})", sidecar.sidecar_id, sidecar.target_names.join(", "))
    };
    let mut names: Vec<_> = sidecars.iter().take(SHOWN).map(one).collect();
    if sidecars.len() > SHOWN {
        names.push("…".to_owned());
    }
    format!(
        "{}. One that is connected gets its new certificate in a moment; see tctl status. With --force they have to join anew",
        names.join(", ")
    )
}

impl Refused {
    pub(crate) fn field(field: &'static str, problem: impl ToString) -> Self {
        Self::Field { field, problem: problem.to_string() }
    }

    /// Refused before anything was judged, because there was no room or the account is closed: that costs nothing, so that
    /// strangers can have it as often as they like, and recording it would let them fill the audit trail.
    pub(crate) fn is_unjudged(&self) -> bool {
        matches!(self, Self::LockedOut(_) | Self::TooMany(_) | Self::Password(PasswordError::Busy))
    }

    fn code(&self) -> Code {
        match self {
            Self::Credentials
            | Self::CounterWentBack(_)
            | Self::Certificate(_)
            | Self::NotLoggedIn(_)
            | Self::EndedLogin
            | Self::SignedOut => Code::Unauthenticated,
            Self::OtherCaller(_)
            | Self::OtherOrigin
            | Self::WrongNumber
            | Self::SessionCertificate
            | Self::OtherAddress
            | Self::Locked(_)
            | Self::Rule { .. }
            | Self::NoNodes
            | Self::NoAccess
            | Self::Attestation(_)
            | Self::NoRoles(_)
            | Self::MfaRequired
            | Self::MfaOnDisk => Code::PermissionDenied,
            Self::NotFound { .. } | Self::Secret(_) => Code::NotFound,
            Self::Exists { .. } => Code::AlreadyExists,
            Self::Field { .. } | Self::Resource(_) | Self::Password(PasswordError::Length) => {
                Code::InvalidArgument
            }
            Self::Changed(_)
            | Self::Challenge
            | Self::NumberFirst
            | Self::NoDevices(_)
            | Self::NoWebauthn
            | Self::NoPasswordless
            | Self::PasswordNeeded
            | Self::TouchNeeded
            | Self::NotTouchedFor
            | Self::Rotation(_)
            | Self::LeftBehind { .. }
            | Self::LastDevice
            | Self::RoleInUse { .. } => Code::FailedPrecondition,
            Self::LockedOut(_) | Self::TooMany(_) | Self::Password(PasswordError::Busy) => {
                Code::ResourceExhausted
            }
            Self::RecordingTooLarge => Code::OutOfRange,
            Self::Busy(_) => Code::Aborted,
            Self::Store(StoreError::Conflict { .. }) => Code::FailedPrecondition,
            Self::Store(_) | Self::Audit(_) | Self::Recording(_) => Code::Unavailable,
            Self::Ca(_) | Self::Internal(_) | Self::Password(PasswordError::Failed) => Code::Internal,
        }
    }
}

impl From<CaError> for Refused {
    fn from(error: CaError) -> Self {
        match error {
            CaError::PublicKey => Self::field("public_key", error),
            CaError::SshPublicKey => Self::field("ssh_public_key", error),
            other => Self::Ca(other),
        }
    }
}

impl From<RotationError> for Refused {
    fn from(error: RotationError) -> Self {
        match error {
            RotationError::Ca(error) => error.into(),
            other => Self::Rotation(other),
        }
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let code = refused.code();
        if matches!(code, Code::Internal | Code::Unavailable) {
            // The chain is for us alone; the caller reads the outermost sentence.
            tracing::error!(error = &refused as &dyn std::error::Error, "a call failed");
        }
        match refused {
            Refused::TouchNeeded | Refused::NotTouchedFor => touch::needed(&refused.to_string()),
            _ => Self::new(code, refused.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sidecar_can_tell_what_to_send_again_from_what_to_give_up() {
        assert_eq!(Status::from(Refused::Busy("the recording")).code(), Code::Aborted);
        assert_eq!(Status::from(Refused::RecordingTooLarge).code(), Code::OutOfRange);
    }
}
