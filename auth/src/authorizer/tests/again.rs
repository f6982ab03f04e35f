//! A certificate that was let in before is judged again in everything that bytes and replica alone do not decide.

use super::*;
use crate::{
    identity::Traits,
    testing::world::{ACCESS_PROD, authority},
};

/// jerry, let in at prod-pg, and the certificate that he comes back with.
fn let_in() -> (World, [CertificateDer<'static>; 1]) {
    let world = World::new();
    let chain = [world.certify(&world.touched("prod-pg"))];
    let permit = again(&world, &chain, &request("prod-pg")).unwrap();
    assert_eq!(remembered(&world), 1);
    assert_eq!(permit.mfa_device(), Some(world.key.id));
    (world, chain)
}

fn again(
    world: &World,
    chain: &[CertificateDer<'_>],
    request: &SessionRequest,
) -> Result<Permit, AccessDenied> {
    world.authorizer.authorize(&Credential::X509(chain), request)
}

fn refused(world: &World, chain: &[CertificateDer<'_>]) -> DenyReason {
    again(world, chain, &request("prod-pg")).unwrap_err().reason
}

fn remembered(world: &World) -> u64 {
    world.authorizer.0.remembered.len()
}

#[test]
fn who_comes_back_is_the_same_with_the_same_touch() {
    let (world, chain) = let_in();
    let (first, second) = (
        again(&world, &chain, &request("prod-pg")).unwrap(),
        again(&world, &chain, &request("prod-pg")).unwrap(),
    );
    assert_eq!(remembered(&world), 1);
    assert_eq!(first.identity().user.as_str(), "jerry");
    assert_eq!(first.identity(), second.identity());
    assert_eq!(first.receipt(), second.receipt());
    assert!(second.receipt().is_some(), "on record each time");
    assert_eq!(second.mfa_device(), Some(world.key.id));
    assert_eq!(first.certificate().serial_hex, second.certificate().serial_hex);
}

#[test]
fn dates_are_looked_at_again() {
    let (world, chain) = let_in();
    world.clock.set(now() + MINUTE + Duration::from_secs(1));
    let denied = again(&world, &chain, &request("prod-pg")).unwrap_err();
    let (not_after, late) = (now() + MINUTE, now() + MINUTE + Duration::from_secs(1));
    assert_eq!(denied.reason, DenyReason::Certificate(CertificateError::Expired { not_after, now: late }));
    assert_eq!(denied.identity.unwrap().user, UserName::new("jerry").unwrap());
    world.clock.set(now() - HOUR);
    let (not_before, early) = (now() - MINUTE, now() - HOUR);
    assert_eq!(
        refused(&world, &chain),
        DenyReason::Certificate(CertificateError::NotYetValid { not_before, now: early })
    );
}

#[test]
fn the_age_of_the_touch_is_looked_at_again() {
    let world = World::new();
    verification_interval(&world, "30m");
    let chain = [long_lived(&world, &world.touched("prod-pg"))];
    assert!(again(&world, &chain, &request("prod-pg")).is_ok());
    world.clock.set(now() + HOUR);
    assert!(matches!(refused(&world, &chain), DenyReason::MfaTooOld { .. }));
}

#[test]
fn another_target_and_another_login_are_refused_again() {
    let (world, chain) = let_in();
    let elsewhere = again(&world, &chain, &request("dev-pg")).unwrap_err();
    assert!(matches!(elsewhere.reason, DenyReason::OtherTarget { .. }));
    let login = Login::Database { user: "root".to_owned(), name: "shop".to_owned() };
    let other = again(&world, &chain, &SessionRequest { login, ..request("prod-pg") }).unwrap_err();
    assert!(matches!(other.reason, DenyReason::OtherLogin { .. }));
}

#[test]
fn an_authority_that_goes_takes_those_along_whom_it_vouched_for() {
    let (world, chain) = let_in();
    world.apply(authority("user", &world.host_ca)).unwrap();
    assert_eq!(refused(&world, &chain), DenyReason::Certificate(CertificateError::UnknownAuthority));
    world.apply(delete("authority", "user")).unwrap();
    assert_eq!(refused(&world, &chain), DenyReason::Certificate(CertificateError::UnknownAuthority));
}

#[test]
fn a_security_key_that_goes_or_changes_takes_its_touches_along() {
    let (world, chain) = let_in();
    let device_id = world.key.id;
    let mut other = SecurityKey::new();
    other.id = device_id;
    world.apply(device(&other, "jerry")).unwrap();
    assert_eq!(refused(&world, &chain), DenyReason::Receipt(ReceiptError::BadSignature));
    world.apply(device(&world.key, "olga")).unwrap();
    assert_eq!(refused(&world, &chain), DenyReason::DeviceOfAnotherUser { device: device_id });
    world.apply(delete("device_key", &device_id.to_string())).unwrap();
    assert_eq!(refused(&world, &chain), DenyReason::UnknownDevice { device: device_id });
}

#[test]
fn codes_that_do_not_count_any_more_do_not_count_for_who_comes_back() {
    let world = World::new();
    let device = DeviceId(Uuid::from_u128(7));
    world.apply(totp(device, "jerry")).unwrap();
    let chain = [world.certify(&world.claimed("prod-pg", device))];
    assert!(again(&world, &chain, &request("prod-pg")).is_ok());
    world.apply(preference(r#""second_factor":"webauthn""#)).unwrap();
    assert_eq!(refused(&world, &chain), DenyReason::OtpNotAccepted { device });
}

#[test]
fn locks_roles_and_addresses_are_asked_again() {
    let (world, chain) = let_in();
    world.apply(lock(r#""user":"jerry""#)).unwrap();
    assert!(matches!(refused(&world, &chain), DenyReason::Locked(_)));
    world.apply(delete("lock", "stop")).unwrap();
    assert!(again(&world, &chain, &request("prod-pg")).is_ok());

    let pinned = ACCESS_PROD.replace(r#""options":{"#, r#""options":{"pin_source_ip":true,"#);
    world.apply(resource("role", "access-prod", &pinned)).unwrap();
    assert!(again(&world, &chain, &request("prod-pg")).is_ok());
    let client = IpAddr::from([192, 0, 2, 8]);
    let elsewhere = again(&world, &chain, &SessionRequest { client, ..request("prod-pg") }).unwrap_err();
    assert!(matches!(elsewhere.reason, DenyReason::AddressPinned { .. }));

    world.apply(delete("role", "access-prod")).unwrap();
    assert_eq!(refused(&world, &chain), DenyReason::UnknownRole(role("access-prod")));
}

#[test]
fn a_certificate_that_differs_in_one_bit_is_another() {
    let (world, chain) = let_in();
    for place in [chain[0].len() / 2, chain[0].len() - 1] {
        let mut forged = chain[0].to_vec();
        forged[place] ^= 1;
        let reason = refused(&world, &[CertificateDer::from(forged)]);
        assert!(matches!(reason, DenyReason::Certificate(_)), "{place}: {reason:?}");
    }
    assert_eq!(remembered(&world), 1);
}

#[test]
fn what_was_refused_is_not_remembered() {
    let world = World::new();
    let forged = [world.host_ca.sign(&Draft::user(&world.login(), world.spki.clone()))];
    let untouched = [world.certify(&world.claimed("prod-pg", world.key.id))];
    for _ in 0..2 {
        assert_eq!(refused(&world, &forged), DenyReason::Certificate(CertificateError::UnknownAuthority));
        assert_eq!(refused(&world, &untouched), DenyReason::ReceiptMissing { device: world.key.id });
    }
    assert_eq!(remembered(&world), 0);
}

#[test]
fn an_empty_replica_knows_nobody_again() {
    let (world, chain) = let_in();
    world.apply(resource("lock", "stop", r#"{"kind":"lock","version":"v9"}"#)).unwrap_err();
    assert_eq!(refused(&world, &chain), DenyReason::ReplicaNotReady);
}

#[test]
fn certificates_that_are_remembered_are_bounded_in_number() {
    let world = World::new();
    // As long as a certificate may be, nearly, so that it takes few of them.
    let traits = Traits::from([("words".to_owned(), vec!["x".repeat(30 * 1024)])]);
    let identity = Identity { traits, ..world.login() };
    for _ in 0..600 {
        assert!(world.authorize(&identity, "dev-pg").is_ok());
    }
    assert!(remembered(&world) <= 550, "{}", remembered(&world));
    assert!(remembered(&world) > 0);
}
