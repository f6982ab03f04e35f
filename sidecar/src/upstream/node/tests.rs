use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::SystemTime,
};

use super::*;
use crate::testing::{MINUTE, in_an_hour};

/// Issues what it is asked for, counts, and does not when it is away.
#[derive(Default)]
struct Authd {
    asked: AtomicUsize,
    away: AtomicBool,
}

impl IssueSsh for Authd {
    fn issue_ssh<'a>(
        &'a self,
        _: &'a TargetName,
        login: &'a str,
        user: &'a UserName,
        _: Vec<u8>,
    ) -> Issuing<'a> {
        Box::pin(async move {
            let number = self.asked.fetch_add(1, Ordering::SeqCst);
            if self.away.load(Ordering::SeqCst) {
                return Err("authd is away".into());
            }
            let certificate = format!("{login} {user} {number}").into_bytes();
            Ok(IssuedSsh { certificate, not_after: in_an_hour() })
        })
    }
}

struct Stage {
    node: Node,
    certificates: Arc<Fresh<SshCertificates>>,
    authd: Arc<Authd>,
}

impl Stage {
    fn new() -> Self {
        let authd = Arc::new(Authd::default());
        let issuer = SshCertificates(Arc::clone(&authd) as Arc<dyn IssueSsh>);
        let certificates = Fresh::new(TargetName::new("prod-web").unwrap(), issuer);
        let credentials = Credentials::Certificates(Arc::clone(&certificates));
        Self { node: Node { host_keys: HostKeys::default(), credentials }, certificates, authd }
    }

    /// The certificate that a session of this person's shows.
    async fn shown(&self, login: &str, user: &str) -> Result<String, CredentialError> {
        let user = UserName::new(user).unwrap();
        match self.node.credential(Whose { login, user: &user }).await? {
            Credential::Ssh { certificate: Some(certificate), .. } => {
                Ok(String::from_utf8(certificate).unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    fn asked(&self) -> usize {
        self.authd.asked.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn each_person_at_each_account_has_a_certificate_and_keeps_it() {
    let stage = Stage::new();
    for (login, user, shown) in [
        ("root", "jerry", "root jerry 0"),
        ("root", "olga", "root olga 1"),
        ("web", "jerry", "web jerry 2"),
        ("root", "jerry", "root jerry 0"),
    ] {
        assert_eq!(stage.shown(login, user).await.unwrap(), shown);
    }
}

#[tokio::test]
async fn a_certificate_that_is_used_is_renewed_before_a_session_needs_it() {
    let stage = Stage::new();
    stage.shown("root", "jerry").await.unwrap();
    stage.certificates.renew_due(SystemTime::now() + 30 * MINUTE).await;
    assert_eq!(stage.asked(), 1, "too early");
    stage.certificates.renew_due(SystemTime::now() + 41 * MINUTE).await;
    assert_eq!(stage.shown("root", "jerry").await.unwrap(), "root jerry 1");
    assert_eq!(stage.asked(), 2, "the session found it ready");
    assert!(stage.node.certificates().is_some(), "somebody keeps it fresh");
}

#[tokio::test]
async fn while_authd_is_away_a_certificate_that_is_kept_opens_and_nobody_new_comes_in() {
    let stage = Stage::new();
    stage.shown("root", "jerry").await.unwrap();
    stage.authd.away.store(true, Ordering::SeqCst);
    stage.certificates.renew_due(SystemTime::now() + 41 * MINUTE).await;
    assert_eq!(stage.shown("root", "jerry").await.unwrap(), "root jerry 0");
    assert!(matches!(stage.shown("root", "olga").await, Err(CredentialError::Issue(_))));
}
