use rustls_pki_types::CertificateDer;

use super::*;
use crate::{
    metrics::Metrics,
    testing::{World, chain, mint},
};

fn judge(world: &World) -> (CancelJudge, Metrics) {
    let metrics = Metrics::new().unwrap();
    let judge = CancelJudge {
        replica: Arc::clone(&world.replica),
        clock: world.clock.clone(),
        metrics: metrics.cancels("dev-pg", "postgres"),
    };
    (judge, metrics)
}

fn peer(minted: &mint::Minted) -> Peer {
    Peer::from_chain(chain(minted))
}

fn other(name: &str) -> auth::identity::Identity {
    auth::identity::Identity { user: UserName::new(name).unwrap(), ..mint::jerry() }
}

fn expired(identity: auth::identity::Identity) -> auth::identity::Identity {
    let not_after = SystemTime::now() - std::time::Duration::from_secs(600);
    auth::identity::Identity { not_after, ..identity }
}

#[test]
fn the_sessions_own_key_may_cancel_it_even_when_its_certificate_has_expired() {
    let world = World::new();
    let (judge, metrics) = judge(&world);
    let session = world.authorities.user(&expired(mint::jerry_for("prod-pg")));
    assert!(judge.may_cancel(&peer(&session), &peer(&session)));
    let text = String::from_utf8(metrics.render()).unwrap();
    let line =
        r#"touchstone_certified_cancels_total{outcome="same_key",protocol="postgres",target="dev-pg"} 1"#;
    assert!(text.contains(line), "{text}");
}

#[test]
fn another_certificate_of_the_same_user_may_cancel() {
    let world = World::new();
    let (judge, _) = judge(&world);
    let session = world.authorities.user(&expired(mint::jerry_for("prod-pg")));
    let login = world.login();
    assert!(judge.may_cancel(&peer(&login), &peer(&session)));
}

#[test]
fn nobody_else_may() {
    let world = World::new();
    let (judge, metrics) = judge(&world);
    let session = peer(&world.login());
    let foreign = mint::Authorities::new().user(&mint::jerry());
    for (who, canceller) in [
        ("another user", world.authorities.user(&other("tom"))),
        ("the same name from a foreign authority", foreign),
        ("the same name from the host authority", mint::user_by(&world.authorities.host, &mint::jerry())),
        ("an expired certificate", world.authorities.user(&expired(mint::jerry()))),
    ] {
        assert!(!judge.may_cancel(&peer(&canceller), &session), "{who}");
    }
    let garbage = Peer::X509(vec![CertificateDer::from(vec![0x30, 0x82])]);
    assert!(!judge.may_cancel(&garbage, &session));
    assert!(!judge.may_cancel(&garbage, &garbage), "what cannot be read has no key");
    assert!(!judge.may_cancel(&Peer::default(), &Peer::default()));
    let text = String::from_utf8(metrics.render()).unwrap();
    assert!(text.contains(r#"outcome="refused",protocol="postgres",target="dev-pg"} 7"#), "{text}");
}
