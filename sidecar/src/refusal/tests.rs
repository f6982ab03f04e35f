use std::{
    io,
    time::{Duration, SystemTime},
};

use auth::{
    identity::{DeviceId, RoleName, TargetName, UserName},
    lock::LockInForce,
    permit::Ended,
    policy::{DeniedBy, DenyList, MfaRequiredBy},
    receipt::ReceiptError,
    resource::LockTarget,
};
use protocols::{SqlState, UpstreamReport};
use uuid::Uuid;

use super::{closing::duration_text, *};
use crate::testing::{mint, target};

const NOT_ALLOWED: &str =
    "access to db denied. User does not have permissions. Confirm database user and name.";
const PROOF: &str = "the proof of MFA in the certificate was not accepted";
const HINT: &str = "run: tsh db connect prod-pg --db-user=app --db-name=shop";

fn login() -> Login {
    Login::Database { user: "app".to_owned(), name: "shop".to_owned() }
}

fn asked_by(stop: &Stop, login: &Login) -> Answer {
    answer(stop, Asked { target: &target("prod-pg"), login })
}

fn denied(reason: DenyReason, identity: Option<Identity>) -> Stop {
    Stop::Denied(AccessDenied { reason, identity: identity.map(Box::new) })
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn name(name: &str) -> TargetName {
    TargetName::new(name).unwrap()
}

/// Every denial: code, text, hint, reason.
fn denials() -> Vec<(DenyReason, RefusalCode, &'static str, Option<&'static str>, &'static str)> {
    use RefusalCode::{AccessDenied as Access, Internal, MfaRequired as Mfa, NotAuthenticated as Unknown};
    let device = DeviceId(Uuid::nil());
    let secret_role = || RoleName::new("secret-role").unwrap();
    let lock = LockInForce {
        target: LockTarget {
            user: Some(mint::jerry().user),
            role: None,
            login: None,
            mfa_device: None,
            server_id: None,
        },
        message: "Suspicious activity.".to_owned(),
    };
    let locked = r#"lock targeting User:"jerry" is in force: Suspicious activity."#;
    let required = |by| DenyReason::MfaRequired { by };
    let list = DenyList::DbUsers;
    vec![
        (
            DenyReason::NoCertificate,
            Unknown,
            "a client certificate is required",
            Some(HINT),
            "no_certificate_presented",
        ),
        (
            DenyReason::OtherTarget { certificate_for: name("dev-pg"), asked: name("prod-pg") },
            Access,
            "the certificate is for target dev-pg, not prod-pg",
            Some(HINT),
            "other_target",
        ),
        (
            DenyReason::OtherLogin { certificate_for: login(), asked: login() },
            Access,
            r#"the certificate is for database user "app" and database "shop""#,
            Some(HINT),
            "other_login",
        ),
        (required(MfaRequiredBy::Cluster), Mfa, MFA, Some(HINT), "mfa_required"),
        (required(MfaRequiredBy::Role(secret_role())), Mfa, MFA, Some(HINT), "mfa_required"),
        (
            DenyReason::OtpNotAccepted { device },
            Mfa,
            "access to resource requires MFA with a security key: one-time codes are not accepted",
            Some(HINT),
            "otp_not_accepted",
        ),
        (
            DenyReason::MfaTooOld { touched: at(0), now: at(4711), interval: Duration::from_secs(60) },
            Mfa,
            "access to resource requires MFA: the last touch is too long ago",
            Some(HINT),
            "mfa_too_old",
        ),
        (
            DenyReason::SettingConflict {
                setting: "secret-role".to_owned(),
                first: secret_role(),
                second: secret_role(),
            },
            Access,
            SETTINGS,
            None,
            "setting_conflict",
        ),
        (DenyReason::Policy(DeniedBy::NothingMatched), Access, NOT_ALLOWED, None, "policy"),
        (
            DenyReason::Policy(DeniedBy::Role { role: secret_role(), list }),
            Access,
            NOT_ALLOWED,
            None,
            "policy",
        ),
        (DenyReason::UnknownRole(secret_role()), Access, NOT_ALLOWED, None, "unknown_role"),
        (DenyReason::Receipt(ReceiptError::BadSignature), Unknown, PROOF, Some(HINT), "receipt_invalid"),
        (DenyReason::Receipt(ReceiptError::OtherKey), Unknown, PROOF, Some(HINT), "receipt_invalid"),
        (DenyReason::ReceiptMissing { device }, Unknown, PROOF, Some(HINT), "receipt_missing"),
        (DenyReason::ReceiptUnexpected { device }, Unknown, PROOF, Some(HINT), "receipt_unexpected"),
        (DenyReason::UnknownDevice { device }, Unknown, PROOF, Some(HINT), "unknown_device"),
        (DenyReason::DeviceOfAnotherUser { device }, Unknown, PROOF, Some(HINT), "device_of_another_user"),
        (DenyReason::Locked(lock.into()), Access, locked, None, "locked"),
        (
            DenyReason::LoginEnded { user: UserName::new("jerry").unwrap(), at: at(0) },
            Unknown,
            "your logins from before 1970-01-01T00:00:00Z have ended",
            Some("run: tsh login"),
            "login_ended",
        ),
        (
            DenyReason::ReplicaNotReady,
            Internal,
            "the sidecar is not ready to decide: try again in a moment",
            None,
            "replica_not_ready",
        ),
        (
            DenyReason::ReplicaStale { age: Duration::from_secs(301) },
            Access,
            "the sidecar has lost touch with the cluster, whose locks are strict: try again later",
            None,
            "replica_stale",
        ),
        (
            DenyReason::AddressPinned { login: None, client: [192, 0, 2, 1].into() },
            Access,
            "the certificate may not be used from this address",
            Some("run: tsh login"),
            "address_pinned",
        ),
    ]
}

#[test]
fn each_denial_has_its_words_and_its_hint() {
    for (reason, code, message, hint, label) in denials() {
        let answer = asked_by(&denied(reason.clone(), None), &login());
        assert_eq!(answer.refusal.code, code, "{reason:?}");
        assert_eq!(answer.refusal.message, message, "{reason:?}");
        assert_eq!(answer.refusal.hint.as_deref(), hint, "{reason:?}");
        assert_eq!(answer.reason, label, "{reason:?}");
        assert!(answer.outcome.is_some(), "{reason:?}");
    }
}

#[test]
fn no_answer_names_a_role_a_device_or_a_rule_of_the_receipt() {
    for (reason, ..) in denials() {
        let answer = asked_by(&denied(reason.clone(), None), &login());
        let told = format!("{:?}", answer.refusal);
        for inner in ["secret-role", "00000000-0000", "signature", "deny."] {
            assert!(!told.contains(inner), "{inner} is told for {reason:?}: {told}");
        }
    }
}

#[test]
fn an_expired_certificate_is_told_when_and_what_to_run() {
    let expired = || DenyReason::Certificate(CertificateError::Expired { not_after: at(0), now: at(1) });
    let login_certificate = asked_by(&denied(expired(), Some(mint::jerry())), &login());
    assert_eq!(login_certificate.refusal.message, "the certificate expired at 1970-01-01T00:00:00Z");
    let hint = "run: tsh login, then tsh db connect prod-pg --db-user=app --db-name=shop";
    assert_eq!(login_certificate.refusal.hint.as_deref(), Some(hint));
    let session_certificate = asked_by(&denied(expired(), Some(mint::jerry_for("prod-pg"))), &login());
    assert_eq!(session_certificate.refusal.hint.as_deref(), Some(HINT));
}

#[test]
fn a_certificate_that_is_none_of_ours_is_not_told_why_in_detail() {
    for (error, reason) in [
        (CertificateError::BadSignature, "unknown_authority"),
        (CertificateError::UnknownAuthority, "unknown_authority"),
        (CertificateError::HostCertificate, "not_a_user_certificate"),
        (CertificateError::NotForClients, "not_a_user_certificate"),
        (CertificateError::NotYetValid { not_before: at(9), now: at(1) }, "not_yet_valid"),
        (CertificateError::Malformed { what: "inner detail" }, "bad_certificate"),
        (CertificateError::Duplicate { attribute: "inner detail" }, "bad_certificate"),
        (CertificateError::Nested, "bad_certificate"),
    ] {
        let answer = asked_by(&denied(DenyReason::Certificate(error), None), &login());
        assert_eq!((answer.refusal.code, answer.reason), (RefusalCode::NotAuthenticated, reason));
        assert!(!answer.refusal.message.contains("inner detail"));
    }
}

#[test]
fn a_hint_can_be_pasted_whatever_the_client_called_itself() {
    for user in ["app; rm -rf /", "$(id)", "-oops", "", "\u{1b}[2J", "naïve"] {
        let login = Login::Database { user: user.to_owned(), name: "shop".to_owned() };
        let answer = asked_by(&denied(DenyReason::NoCertificate, None), &login);
        assert_eq!(
            answer.refusal.hint.as_deref(),
            Some("run: tsh db connect prod-pg --db-name=shop"),
            "{user}"
        );
    }
}

fn report(state: &[u8], message: &str) -> DialError {
    DialError::Rejected(UpstreamReport {
        sql_state: SqlState::parse(state),
        number: None,
        message: message.to_owned(),
    })
}

#[test]
fn an_upstreams_own_error_is_passed_on_only_where_it_names_what_the_client_asked_for() {
    let unknown_database = Stop::Dial(report(b"3D000", r#"database "shop" does not exist"#));
    let answer = asked_by(&unknown_database, &login());
    assert_eq!(answer.refusal.message, r#"database "shop" does not exist"#);
    assert_eq!(answer.refusal.sql_state, SqlState::parse(b"3D000"));

    let hba = Stop::Dial(report(b"28000", "no pg_hba.conf entry for host 10.0.0.7"));
    let answer = asked_by(&hba, &login());
    assert_eq!(answer.refusal.message, "the sidecar cannot log in to the database");
    assert_eq!(answer.refusal.sql_state, None);
}

#[test]
fn failures_behind_the_sidecar_carry_no_inner_text() {
    let inner = || io::Error::other("inner detail");
    let path = || "/inner detail".into();
    for stop in [
        Stop::Audit(AuditError::NotWritten),
        Stop::Audit(AuditError::Full { bytes: 4711, bound: 42 }),
        Stop::Audit(AuditError::Share { bytes: 4711, left: 42 }),
        Stop::Audit(AuditError::WriterStopped),
        Stop::Credential(CredentialError::Password { path: path(), source: inner() }),
        Stop::Credential(CredentialError::KeyFile { path: path(), source: inner() }),
        Stop::Credential(CredentialError::Deadline),
        Stop::Dial(DialError::Connect(inner())),
        Stop::Dial(DialError::Tls(inner())),
        Stop::Dial(DialError::Scram(inner())),
        Stop::Dial(DialError::TlsRefused),
        Stop::Dial(DialError::EarlyPlaintext),
        Stop::Dial(DialError::Deadline(Duration::from_secs(4711))),
        Stop::Dial(DialError::Protocol("inner detail")),
        Stop::Dial(DialError::NoCredential { method: "inner detail" }),
        Stop::Dial(DialError::Login),
        Stop::Dial(DialError::Setting { name: "inner detail".to_owned(), reason: "inner detail" }),
        Stop::Dial(DialError::SettingsRejected(UpstreamReport {
            sql_state: SqlState::parse(b"42501"),
            number: None,
            message: "inner detail".to_owned(),
        })),
        Stop::Dial(DialError::ReplicationNotAllowed),
    ] {
        let answer = asked_by(&stop, &login());
        let told = format!("{:?}", answer.refusal);
        assert!(!told.contains("inner detail") && !told.contains("4711"), "{told}");
        assert!(answer.outcome.is_none(), "policy was not asked: {stop:?}");
    }
}

#[test]
fn who_is_allowed_but_not_like_this_is_told_what_is_missing_and_no_more() {
    let barred = |bar| Stop::Barred(Barred { bar, user: mint::jerry().user, mfa_device: None });
    for (bar, code, message, reason) in [
        (
            Bar::Replication,
            RefusalCode::AccessDenied,
            "replication connections need a role with the option db_replication",
            "replication_not_allowed",
        ),
        (
            Bar::MaxConnections { limit: 4711 },
            RefusalCode::TooManyConnections,
            "max_connections limit reached",
            "max_connections",
        ),
    ] {
        let answer = asked_by(&barred(bar), &login());
        assert_eq!((answer.refusal.code, answer.refusal.message.as_str()), (code, message));
        assert_eq!((answer.reason, answer.outcome), (reason, Some(Outcome::Denied)));
    }
}

#[test]
fn durations_are_told_as_roles_write_them() {
    for (seconds, text) in [(45, "45s"), (900, "15m"), (5400, "1h30m"), (86_401, "24h1s")] {
        assert_eq!(duration_text(Duration::from_secs(seconds)), text);
    }
    assert_eq!(duration_text(Duration::from_millis(1500)), "1s500ms");
}

#[test]
fn a_live_session_is_told_why_it_ends() {
    for (closed, code, message) in [
        (
            Closed::Permit(Ended::CertificateExpired { at: at(0) }),
            RefusalCode::SessionExpired,
            "the session ended: the certificate expired at 1970-01-01T00:00:00Z",
        ),
        (
            Closed::Permit(Ended::Locked { message: "lock … is in force".to_owned() }),
            RefusalCode::SessionExpired,
            "the session ended: lock … is in force",
        ),
        (
            Closed::Permit(Ended::LoginEnded { at: at(0) }),
            RefusalCode::SessionExpired,
            "the session ended: your logins from before 1970-01-01T00:00:00Z have ended",
        ),
        (
            Closed::Permit(Ended::PolicyChanged),
            RefusalCode::SessionExpired,
            "the session ended: access was withdrawn",
        ),
        (
            Closed::Idle(Duration::from_secs(900)),
            RefusalCode::IdleTimeout,
            "the session ended: it was idle for 15m",
        ),
        (Closed::AuditFailed, RefusalCode::Internal, "the session ended: it can no longer be recorded"),
        (Closed::Shutdown, RefusalCode::Shutdown, "the session ended: the sidecar is stopping"),
    ] {
        let answer = closing(&closed);
        assert_eq!((answer.refusal.code, answer.refusal.message.as_str()), (code, message));
    }
}
