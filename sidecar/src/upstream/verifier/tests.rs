use authd::ca::{Attribute, San, Usage};

use super::*;
use crate::testing::{
    World,
    mint::{self, Minted},
};

const NAME: &str = "db.example.com";
const HOUR: Duration = Duration::from_secs(3600);

fn upstream(world: &World, name: &str) -> Minted {
    let names = vec![San::Dns(name.to_owned())];
    mint::sign(&world.authorities.db, vec![Attribute::common_name(name)], Usage::Server, names, vec![])
}

fn verifier(world: &World, mode: TlsMode) -> Arc<UpstreamVerifier> {
    let roots = Roots::Cluster(Arc::clone(&world.replica));
    Arc::new(UpstreamVerifier { mode, roots, provider: provider(), good: ArcSwapOption::empty() })
}

fn verify_at(
    verifier: &UpstreamVerifier,
    certificate: &CertificateDer<'_>,
    at: SystemTime,
) -> Result<(), Error> {
    let name = ServerName::try_from(NAME).unwrap();
    let now = UnixTime::since_unix_epoch(at.duration_since(SystemTime::UNIX_EPOCH).unwrap());
    verifier.verify_server_cert(certificate, &[], &name, &[], now).map(drop)
}

fn verify(verifier: &UpstreamVerifier, certificate: &CertificateDer<'_>) -> Result<(), Error> {
    verify_at(verifier, certificate, SystemTime::now())
}

fn is_remembered(verifier: &UpstreamVerifier) -> bool {
    verifier.good.load().is_some()
}

/// A verifier that has just found this upstream to be good.
fn known() -> (World, Arc<UpstreamVerifier>, Minted) {
    let world = World::new();
    let (verifier, minted) = (verifier(&world, TlsMode::VerifyFull), upstream(&world, NAME));
    verify(&verifier, &minted.certificate).unwrap();
    assert!(is_remembered(&verifier));
    verify(&verifier, &minted.certificate).unwrap();
    (world, verifier, minted)
}

#[test]
fn a_chain_that_was_good_is_not_good_before_and_after_its_time() {
    let (_world, verifier, minted) = known();
    let now = SystemTime::now();
    assert!(verify_at(&verifier, &minted.certificate, now + HOUR - Duration::from_secs(30)).is_ok());
    let expired = verify_at(&verifier, &minted.certificate, now + HOUR + Duration::from_secs(30));
    assert!(matches!(expired, Err(Error::InvalidCertificate(_))), "{expired:?}");
    let early = verify_at(&verifier, &minted.certificate, now - HOUR);
    assert!(matches!(early, Err(Error::InvalidCertificate(_))), "{early:?}");
}

#[test]
fn a_chain_that_was_good_is_not_good_for_another_authority() {
    let (world, verifier, minted) = known();
    for event in mint::Authorities::new().snapshot() {
        // Deltas: the authorities are others from now on.
        world.replica.apply(event).ok();
    }
    let refused = verify(&verifier, &minted.certificate);
    assert!(matches!(refused, Err(Error::InvalidCertificate(_))), "{refused:?}");
}

#[test]
fn a_chain_that_was_good_lets_no_other_in() {
    let (world, verifier, minted) = known();
    let mut forged = minted.certificate.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert!(verify(&verifier, &CertificateDer::from(forged)).is_err());
    let stranger = upstream(&World::new(), NAME);
    assert!(verify(&verifier, &stranger.certificate).is_err());
    let other_name = upstream(&world, "other.example.com");
    assert!(verify(&verifier, &other_name.certificate).is_err());
    let other_name = verify(&verifier, &other_name.certificate);
    assert!(other_name.is_err(), "its chain is good and its name is not, also the second time");
}

#[test]
fn what_was_refused_is_not_remembered() {
    let world = World::new();
    let verifier = verifier(&world, TlsMode::VerifyFull);
    let stranger = upstream(&World::new(), NAME);
    for _ in 0..2 {
        assert!(verify(&verifier, &stranger.certificate).is_err());
        assert!(!is_remembered(&verifier));
    }
}

#[test]
fn a_chain_with_other_intermediates_is_another_chain() {
    let world = World::new();
    let (leaf, other) = (upstream(&world, NAME).certificate, upstream(&world, NAME).certificate);
    let sha256 = |intermediates: &[CertificateDer<'_>]| {
        Chain { end_entity: &leaf, intermediates }.sha256().as_ref().to_vec()
    };
    let all =
        [vec![], vec![other.clone()], vec![other.clone(), other], vec![leaf.clone()]].map(|i| sha256(&i));
    for (n, one) in all.iter().enumerate() {
        assert!(!all[n + 1..].contains(one), "{n}");
    }
}

#[test]
fn the_time_of_a_chain_is_what_all_of_its_certificates_have_in_common() {
    let world = World::new();
    let long = world.authorities.db.certificate().clone();
    let short = upstream(&world, NAME).certificate;
    let intermediates = [long];
    let together = Chain { end_entity: &short, intermediates: &intermediates }.validity().unwrap();
    assert_eq!(together, x509::validity(&short).unwrap());
    let intermediates = [CertificateDer::from(vec![0x30, 0])];
    assert_eq!(Chain { end_entity: &short, intermediates: &intermediates }.validity(), None);
}
