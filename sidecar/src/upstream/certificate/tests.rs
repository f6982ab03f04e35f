use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use tokio::time::sleep;

use super::*;
use crate::{
    config::TlsMode,
    testing::{MINUTE, World, in_an_hour, mint},
    upstream::Roots,
};

/// Issues certificates as authd does, counts, and refuses when told to.
struct Issuer {
    world: World,
    issued: AtomicUsize,
    away: AtomicBool,
    not_after: SystemTime,
}

impl Issue for Issuer {
    fn issue<'a>(&'a self, _: &'a TargetName, db_user: &'a str, public_key: Vec<u8>) -> Issuing<'a> {
        use authd::ca::{Attribute, Usage};
        Box::pin(async move {
            // Long enough for sessions to meet here.
            sleep(Duration::from_millis(20)).await;
            self.issued.fetch_add(1, Ordering::SeqCst);
            if self.away.load(Ordering::SeqCst) {
                return Err("authd is away".into());
            }
            let subject = vec![Attribute::common_name(db_user)];
            let mut template = mint::template(subject, &public_key, Usage::Client, vec![]);
            template.not_after = self.not_after;
            let certificate = self.world.authorities.db_client.sign(&template)?.der;
            Ok(Issued { certificate, not_after: self.not_after })
        })
    }
}

fn cache(not_after: SystemTime) -> (Arc<CertificateCache>, Arc<Issuer>) {
    let world = World::new();
    let tls = TlsFactory::new(TlsMode::VerifyFull, Roots::Cluster(Arc::clone(&world.replica)));
    let (issued, away) = (AtomicUsize::new(0), AtomicBool::new(false));
    let issuer = Arc::new(Issuer { world, issued, away, not_after });
    let target = TargetName::new("prod-pg").unwrap();
    let certificates = TlsCertificates::new(Arc::clone(&issuer) as Arc<dyn Issue>, tls);
    (CertificateCache::new(target, certificates), issuer)
}

fn count(issuer: &Issuer) -> usize {
    issuer.issued.load(Ordering::SeqCst)
}

#[tokio::test]
async fn sessions_of_one_user_share_one_certificate() {
    let (cache, issuer) = cache(in_an_hour());
    let sessions: Vec<_> = (0..50)
        .map(|_| {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move { cache.one(&"app".to_owned()).await.unwrap() })
        })
        .collect();
    for session in sessions {
        session.await.unwrap();
    }
    cache.one(&"app".to_owned()).await.unwrap();
    assert_eq!(count(&issuer), 1);
    cache.one(&"other".to_owned()).await.unwrap();
    assert_eq!(count(&issuer), 2, "another user has another certificate");
}

#[tokio::test]
async fn a_used_certificate_is_renewed_in_its_last_third_and_no_session_waits() {
    let (cache, issuer) = cache(in_an_hour());
    let first = cache.one(&"app".to_owned()).await.unwrap();
    cache.renew_due(SystemTime::now() + 30 * MINUTE).await;
    assert_eq!(count(&issuer), 1, "too early");
    cache.renew_due(SystemTime::now() + 41 * MINUTE).await;
    assert_eq!(count(&issuer), 2);
    let second = cache.one(&"app".to_owned()).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    assert_eq!(count(&issuer), 2, "the session found it ready");
}

#[tokio::test]
async fn a_certificate_that_nobody_used_since_is_left_to_expire() {
    let (cache, issuer) = cache(in_an_hour());
    cache.one(&"app".to_owned()).await.unwrap();
    cache.renew_due(SystemTime::now() + 41 * MINUTE).await;
    cache.renew_due(SystemTime::now() + 50 * MINUTE).await;
    assert_eq!(count(&issuer), 2);
}

#[tokio::test]
async fn an_almost_expired_certificate_is_never_used() {
    let (cache, issuer) = cache(SystemTime::now() + MINUTE / 2);
    cache.one(&"app".to_owned()).await.unwrap();
    cache.one(&"app".to_owned()).await.unwrap();
    assert_eq!(count(&issuer), 2);
}

#[tokio::test]
async fn when_authd_is_away_the_cached_certificate_still_opens_and_a_new_user_is_refused() {
    let (cache, issuer) = cache(in_an_hour());
    cache.one(&"app".to_owned()).await.unwrap();
    issuer.away.store(true, Ordering::SeqCst);
    cache.renew_due(SystemTime::now() + 41 * MINUTE).await;
    cache.one(&"app".to_owned()).await.unwrap();
    assert!(matches!(cache.one(&"other".to_owned()).await, Err(CredentialError::Issue(_))));
    // An error is not remembered.
    issuer.away.store(false, Ordering::SeqCst);
    cache.one(&"other".to_owned()).await.unwrap();
}
