//! What a client may read when it is turned away: one exhaustive match, so that a new error cannot slip through unread.
//!
//! A text says what the client itself already knows (its certificate, what it asked for) and what to do next. It never
//! carries an inner error, a role's name, or anything about the upstream; those are in the log and in the audit trail.

use auth::{
    certificate::CertificateError,
    clock::rfc3339,
    denied::{AccessDenied, DenyReason},
    identity::{DeviceId, Identity, Login, UserName},
    policy::{Target, TargetKind},
};
use protocols::{AcceptError, DialError, Refusal, RefusalCode};

mod closing;

pub(crate) use self::closing::{Closed, closing};
use crate::{audit::AuditError, metrics::Outcome, upstream::CredentialError};

/// Why a client that asked for a session does not get one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    /// It may not.
    #[error("access denied")]
    Denied(#[source] AccessDenied),
    /// It might, but that cannot be written down.
    #[error("the session cannot be recorded")]
    Audit(#[source] AuditError),
    /// It may, but not like this.
    #[error("not admitted: {0}")]
    Barred(Barred),
    /// There is nothing to prove to the upstream with.
    #[error("no credential for the upstream")]
    Credential(#[source] CredentialError),
    /// The upstream did not let us in.
    #[error("no connection to the upstream")]
    Dial(#[source] DialError),
}

/// What keeps somebody out who is allowed in. Whom, is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bar}")]
pub(crate) struct Barred {
    /// Why.
    pub(crate) bar: Bar,
    /// Whom.
    pub(crate) user: UserName,
    /// With which verified device.
    pub(crate) mfa_device: Option<DeviceId>,
}

/// What an option of the roles says against a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Bar {
    /// It asks for replication, and no role has `db_replication`.
    #[error("no role of the user has the option db_replication")]
    Replication,
    /// `max_connections`.
    #[error("{MAX_CONNECTIONS}: {limit}")]
    MaxConnections {
        /// How many sessions the user may have at this sidecar.
        limit: u32,
    },
}

/// A refusal, and how it is counted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    /// What the client reads.
    pub(crate) refusal: Refusal,
    /// One word, for metrics, log and audit.
    pub(crate) reason: &'static str,
    /// What the decision was, where policy was asked and said no.
    pub(crate) outcome: Option<Outcome>,
}

/// What the client asked for: the only thing, beside the error, that an answer may speak of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// The target.
    pub(crate) target: &'a Target,
    /// The login.
    pub(crate) login: &'a Login,
}

const MFA: &str = "access to resource requires MFA";
const NOT_RECORDED: &str = "the session cannot be recorded, so it was not started";
/// Teleport's words.
pub(crate) const MAX_CONNECTIONS: &str = "max_connections limit reached";
const REPLICATION: &str = "replication connections need a role with the option db_replication";
const SETTINGS: &str = "the session settings of your roles cannot be applied, so the session was not started";

/// The answer to a client that does not get its session.
#[must_use]
pub(crate) fn answer(stop: &Stop, asked: Asked<'_>) -> Answer {
    match stop {
        Stop::Denied(denied) => denied_answer(denied, asked),
        Stop::Audit(error) => {
            let reason = match error {
                AuditError::NotWritten | AuditError::WriterStopped | AuditError::TooLong(_) => "audit_failed",
                AuditError::Full { .. } => "audit_full",
                AuditError::Share { .. } => "audit_share_full",
            };
            plain(RefusalCode::Internal, reason, NOT_RECORDED)
        }
        Stop::Barred(barred) => {
            let (code, reason, message) = match barred.bar {
                Bar::Replication => (RefusalCode::AccessDenied, "replication_not_allowed", REPLICATION),
                Bar::MaxConnections { .. } => {
                    (RefusalCode::TooManyConnections, "max_connections", MAX_CONNECTIONS)
                }
            };
            Answer { outcome: Some(Outcome::Denied), ..plain(code, reason, message) }
        }
        Stop::Credential(error) => {
            let reason = match error {
                CredentialError::Issue(_)
                | CredentialError::Deadline
                | CredentialError::Key(_)
                | CredentialError::SshKey(_) => "no_certificate",
                CredentialError::Tls(_) => "no_tls",
                CredentialError::Password { .. } => "no_password",
                CredentialError::KeyFile { .. } => "no_key",
            };
            plain(RefusalCode::UpstreamUnavailable, reason, &no_login(asked))
        }
        Stop::Dial(error) => dial_answer(error, asked),
    }
}

fn denied_answer(denied: &AccessDenied, asked: Asked<'_>) -> Answer {
    let connect = || connect_hint(asked);
    let no = |code, reason, message: &str, hint: Option<String>, outcome| Answer {
        refusal: Refusal { hint, ..Refusal::new(code, message) },
        reason,
        outcome: Some(outcome),
    };
    let unknown = |reason, message: &str, hint| {
        no(RefusalCode::NotAuthenticated, reason, message, hint, Outcome::NotAuthenticated)
    };
    let proof =
        |reason| unknown(reason, "the proof of MFA in the certificate was not accepted", Some(connect()));
    let policy = |reason| {
        let (kind, confirm) = match asked.target.kind {
            TargetKind::Database => ("db", "Confirm database user and name."),
            TargetKind::Node => ("node", "Confirm SSH login."),
        };
        let text = format!("access to {kind} denied. User does not have permissions. {confirm}");
        no(RefusalCode::AccessDenied, reason, &text, None, Outcome::Denied)
    };
    match &denied.reason {
        DenyReason::NoCertificate => {
            unknown("no_certificate_presented", "a client certificate is required", Some(connect()))
        }
        DenyReason::Certificate(error) => {
            let (reason, message) = certificate_text(error);
            unknown(reason, &message, Some(renew_hint(denied.identity.as_deref(), asked)))
        }
        DenyReason::OtherTarget { certificate_for, asked: target } => {
            let text = format!("the certificate is for target {certificate_for}, not {target}");
            no(RefusalCode::AccessDenied, "other_target", &text, Some(connect()), Outcome::Denied)
        }
        DenyReason::OtherProtocol { certificate_for, asked: protocol } => {
            let text = format!("the certificate is for protocol {certificate_for}, not {protocol}");
            no(RefusalCode::AccessDenied, "other_protocol", &text, Some(connect()), Outcome::Denied)
        }
        DenyReason::OtherLogin { certificate_for, .. } => {
            let text = format!("the certificate is for {}", login_text(certificate_for));
            no(RefusalCode::AccessDenied, "other_login", &text, Some(connect()), Outcome::Denied)
        }
        DenyReason::OtherProtocolOfCredential => {
            unknown("other_credential", "the certificate is not for this protocol", Some(connect()))
        }
        DenyReason::OtherUserInside { .. } => {
            let text = "the certificate of TLS and that of SSH are of two users";
            unknown("other_user_inside", text, Some("run: tsh login".to_owned()))
        }
        DenyReason::SessionCertificateInside => {
            let text = "inside TLS, SSH takes the certificate of a login";
            unknown("session_certificate_inside", text, Some("run: tsh login".to_owned()))
        }
        DenyReason::MfaRequired { .. } => {
            no(RefusalCode::MfaRequired, "mfa_required", MFA, Some(connect()), Outcome::MfaRequired)
        }
        DenyReason::MfaTooOld { .. } => {
            let text = "access to resource requires MFA: the last touch is too long ago";
            no(RefusalCode::MfaRequired, "mfa_too_old", text, Some(connect()), Outcome::MfaRequired)
        }
        DenyReason::OtpNotAccepted { .. } => {
            let text = "access to resource requires MFA with a security key: one-time codes are not accepted";
            no(RefusalCode::MfaRequired, "otp_not_accepted", text, Some(connect()), Outcome::MfaRequired)
        }
        DenyReason::Policy(_) => policy("policy"),
        DenyReason::UnknownRole(_) => policy("unknown_role"),
        // Which setting, and of which roles, is for the administrator: in the audit trail.
        DenyReason::SettingConflict { .. } => {
            no(RefusalCode::AccessDenied, "setting_conflict", SETTINGS, None, Outcome::Denied)
        }
        DenyReason::Receipt(_) => proof("receipt_invalid"),
        DenyReason::ReceiptMissing { .. } => proof("receipt_missing"),
        DenyReason::ReceiptUnexpected { .. } => proof("receipt_unexpected"),
        DenyReason::OtherCode { .. } => proof("other_code"),
        DenyReason::UnknownDevice { .. } => proof("unknown_device"),
        DenyReason::DeviceOfAnotherUser { .. } => proof("device_of_another_user"),
        // Written by the administrator for whom it stops.
        DenyReason::Locked(lock) => {
            no(RefusalCode::AccessDenied, "locked", &lock.to_string(), None, Outcome::Denied)
        }
        DenyReason::LoginEnded { at, .. } => {
            let text = format!("your logins from before {} have ended", rfc3339(*at));
            unknown("login_ended", &text, Some("run: tsh login".to_owned()))
        }
        DenyReason::ReplicaNotReady => {
            let text = "the sidecar is not ready to decide: try again in a moment";
            no(RefusalCode::Internal, "replica_not_ready", text, None, Outcome::Undecided)
        }
        DenyReason::ReplicaStale { .. } => {
            let text = "the sidecar has lost touch with the cluster, whose locks are strict: try again later";
            no(RefusalCode::AccessDenied, "replica_stale", text, None, Outcome::Undecided)
        }
        DenyReason::AddressPinned { .. } => {
            let text = "the certificate may not be used from this address";
            no(
                RefusalCode::AccessDenied,
                "address_pinned",
                text,
                Some("run: tsh login".to_owned()),
                Outcome::Denied,
            )
        }
    }
}

/// An expired certificate is told so, with the time; all else that is wrong with one is the same to its holder.
fn certificate_text(error: &CertificateError) -> (&'static str, String) {
    match error {
        CertificateError::Expired { not_after, .. } => {
            ("expired", format!("the certificate expired at {}", rfc3339(*not_after)))
        }
        CertificateError::NotYetValid { not_before, .. } => {
            ("not_yet_valid", format!("the certificate is not valid before {}", rfc3339(*not_before)))
        }
        CertificateError::Absent => {
            ("no_certificate_presented", "a client certificate is required".to_owned())
        }
        CertificateError::UnknownAuthority
        | CertificateError::BadSignature
        | CertificateError::OtherCluster { .. } => {
            ("unknown_authority", "the certificate was not issued by this cluster".to_owned())
        }
        CertificateError::HostCertificate
        | CertificateError::IsAuthority
        | CertificateError::NotForClients => {
            ("not_a_user_certificate", "the certificate is not a user's".to_owned())
        }
        CertificateError::OtherAddress => {
            ("other_address", "the certificate may not be used from this address".to_owned())
        }
        CertificateError::OtherPrincipal { .. } => {
            ("other_login", "the certificate is not for this login".to_owned())
        }
        CertificateError::TooLarge { .. }
        | CertificateError::Malformed { .. }
        | CertificateError::NotSidecar
        | CertificateError::Missing { .. }
        | CertificateError::Duplicate { .. }
        | CertificateError::Unknown { .. }
        | CertificateError::Invalid { .. }
        | CertificateError::Name { .. }
        | CertificateError::IncompleteRoute
        | CertificateError::UsageMismatch
        | CertificateError::IncompleteMfa
        | CertificateError::NoPrincipals
        | CertificateError::UnknownCriticalOption { .. }
        | CertificateError::Nested => ("bad_certificate", "the certificate cannot be used".to_owned()),
    }
}

fn dial_answer(error: &DialError, asked: Asked<'_>) -> Answer {
    let unavailable = |reason| {
        let text = format!("the {} cannot be reached", upstream(asked));
        plain(RefusalCode::UpstreamUnavailable, reason, &text)
    };
    let rejected = |reason| plain(RefusalCode::UpstreamRejected, reason, &no_login(asked));
    match error {
        DialError::Connect(_) => unavailable("upstream_unreachable"),
        DialError::Deadline(_) => unavailable("upstream_deadline"),
        DialError::TlsRefused | DialError::EarlyPlaintext | DialError::Tls(_) => unavailable("upstream_tls"),
        DialError::Protocol(_) | DialError::Ssh(_) => unavailable("upstream_protocol"),
        DialError::Changed => plain(
            RefusalCode::UpstreamUnavailable,
            "upstream_changed",
            "the database has changed since it was last seen: connect again",
        ),
        // One says what it is; whether it is the right one is for the administrator to see.
        DialError::UnknownHost(_) => plain(
            RefusalCode::UpstreamUnavailable,
            "upstream_host_key",
            "the host's key is not the one that the sidecar knows",
        ),
        DialError::NoCredential { .. }
        | DialError::AuthenticationRefused { .. }
        | DialError::UnknownMethod { .. }
        | DialError::Scram(_) => rejected("upstream_authentication"),
        DialError::Login | DialError::NotSsh => rejected("upstream_login"),
        // Refused before, with the user's name on record: the endpoint allows what the roles allow.
        DialError::ReplicationNotAllowed => {
            plain(RefusalCode::AccessDenied, "replication_not_allowed", REPLICATION)
        }
        DialError::Setting { .. } | DialError::SettingsRejected(_) => {
            plain(RefusalCode::UpstreamRejected, "settings_rejected", SETTINGS)
        }
        DialError::Rejected(_) => match error.disclosable() {
            Some(report) => {
                let refusal = Refusal::new(RefusalCode::UpstreamRejected, report.message.clone());
                let refusal = Refusal { sql_state: report.sql_state, number: report.number, ..refusal };
                Answer { refusal, reason: "upstream_rejected", outcome: None }
            }
            None => rejected("upstream_rejected"),
        },
    }
}

/// How a client is counted that did not get as far as asking; its protocol has told it why, where it has words for that.
pub(crate) fn accept_reason(error: &AcceptError) -> &'static str {
    match error {
        AcceptError::Deadline(_) => "login_deadline",
        AcceptError::Client(_) => "login_broken_off",
        AcceptError::Tls(_) | AcceptError::Alpn(_) => "client_tls",
        AcceptError::Refused(_) => "login_malformed",
        AcceptError::Ssh(_) => "client_ssh",
    }
}

/// What a person reads above the question for a code.
pub(crate) fn ask_text(asked: Asked<'_>) -> String {
    let hint = connect_hint(asked);
    let command = hint.trim_start_matches("run: ");
    format!("{MFA}. With a security key: {command}")
}

/// The word for what a target is.
fn upstream(asked: Asked<'_>) -> &'static str {
    match asked.target.kind {
        TargetKind::Database => "database",
        TargetKind::Node => "host",
    }
}

fn no_login(asked: Asked<'_>) -> String {
    format!("the sidecar cannot log in to the {}", upstream(asked))
}

fn plain(code: RefusalCode, reason: &'static str, message: &str) -> Answer {
    Answer { refusal: Refusal::new(code, message), reason, outcome: None }
}

fn login_text(login: &Login) -> String {
    match login {
        Login::Database { user, name } => format!("database user {user:?} and database {name:?}"),
        Login::Node { login } => format!("login {login:?}"),
    }
}

/// A command that can be pasted. Names that a shell would read otherwise are left out.
fn connect_hint(asked: Asked<'_>) -> String {
    let target = &asked.target.name;
    match asked.login {
        Login::Database { user, name } => {
            let flag = |flag: &str, value: &str| match is_plain(value) {
                true => format!(" {flag}={value}"),
                false => String::new(),
            };
            format!("run: tsh db connect {target}{}{}", flag("--db-user", user), flag("--db-name", name))
        }
        Login::Node { login } if is_plain(login) => format!("run: tsh ssh {login}@{target}"),
        Login::Node { .. } => format!("run: tsh ssh {target}"),
    }
}

fn is_plain(value: &str) -> bool {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    !value.is_empty() && value.len() <= 64 && !value.starts_with('-') && value.chars().all(safe)
}

/// A session certificate is asked for again by connecting; a login certificate by logging in.
fn renew_hint(identity: Option<&Identity>, asked: Asked<'_>) -> String {
    match identity {
        Some(identity) if identity.route.is_some() => connect_hint(asked),
        _ => format!("run: tsh login, then {}", connect_hint(asked).trim_start_matches("run: ")),
    }
}

#[cfg(test)]
mod tests;
