use std::{slice, time::Duration};

use super::*;
use crate::{
    identity::{DeviceId, Identity, Login, MfaEvidence, NameError, Protocol, Route},
    testing::{
        Ca, Draft, HOUR, MINUTE, World,
        forge::{CLIENT_AUTH, SERVER_AUTH, attribute},
        now,
        world::route,
    },
};

const CN: &[u64] = &[2, 5, 4, 3];
const O: &[u64] = &[2, 5, 4, 10];
const OU: &[u64] = &[2, 5, 4, 11];
const LOGIN: &[u64] = &[2, 5, 4, 7];
const TRAITS: &[u64] = &[2, 5, 4, 17];
const STREET: &[u64] = &[2, 5, 4, 9];
const CLUSTER: &[u64] = &[1, 3, 9999, 1, 7];
const MFA: &[u64] = &[1, 3, 9999, 1, 8];
const LOGIN_IP: &[u64] = &[1, 3, 9999, 1, 9];
const TARGET: &[u64] = &[1, 3, 9999, 2, 1];
const PROTOCOL: &[u64] = &[1, 3, 9999, 2, 2];
const DB_USER: &[u64] = &[1, 3, 9999, 2, 3];
const DB_NAME: &[u64] = &[1, 3, 9999, 2, 4];
const PREVIOUS_EXPIRY: &[u64] = &[1, 3, 9999, 2, 12];

fn verify(world: &World, draft: &Draft) -> Result<VerifiedCertificate, RejectedCertificate> {
    verify_der(world, &world.user_ca.sign(draft))
}

fn verify_der(
    world: &World,
    certificate: &CertificateDer<'_>,
) -> Result<VerifiedCertificate, RejectedCertificate> {
    let authorities = [world.user_ca.certificate.clone()];
    verify_user(slice::from_ref(certificate), &authorities, &ClusterName::new("example").unwrap(), now())
}

fn error(world: &World, draft: &Draft) -> CertificateError {
    verify(world, draft).unwrap_err().error
}

fn draft(world: &World, identity: &Identity) -> Draft {
    Draft::user(identity, world.spki.clone())
}

#[test]
fn every_kind_of_identity_reads_back() {
    let world = World::new();
    let node = Route {
        protocol: Protocol::Ssh,
        login: Login::Node { login: "root".to_owned() },
        ..route("prod-host")
    };
    let mysql = Route {
        protocol: Protocol::Mysql,
        login: Login::Database { user: "app".to_owned(), name: String::new() },
        ..route("prod-my")
    };
    let identities = [
        world.login(),
        world.routed("dev-pg"),
        world.touched("prod-pg"),
        world.claimed("prod-pg", world.key.id),
        Identity { route: Some(node), ..world.login() },
        Identity { route: Some(mysql), ..world.login() },
        Identity { traits: Default::default(), login_ip: None, logins: vec![], ..world.login() },
    ];
    for identity in identities {
        let verified = verify(&world, &draft(&world, &identity)).unwrap();
        assert_eq!(verified.identity, identity);
        assert_eq!(verified.public_key_sha256, sha256(&world.spki));
        assert_eq!(verified.not_before, now() - MINUTE);
        assert_eq!(verified.serial_hex, "00000000000000000000000000001234");
    }
}

#[test]
fn a_printable_string_is_text_and_an_older_string_type_is_not() {
    let world = World::new();
    let mut draft = draft(&world, &world.login());
    draft.subject.retain(|attribute| attribute.oid != TRAITS);
    draft.text = yasna::tags::TAG_PRINTABLESTRING;
    assert!(verify(&world, &draft).is_ok());
    draft.text = yasna::tags::TAG_IA5STRING;
    assert_eq!(error(&world, &draft), CertificateError::Invalid { attribute: "role name" });
}

#[test]
fn no_certificate_is_its_own_error() {
    let world = World::new();
    let cluster = ClusterName::new("example").unwrap();
    let refused = verify_user(&[], &[world.user_ca.certificate], &cluster, now()).unwrap_err();
    assert_eq!(refused.error, CertificateError::Absent);
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let world = World::new();
    let other = Ca::new("another authority");
    let refused = verify_der(&world, &other.sign(&draft(&world, &world.login()))).unwrap_err();
    assert_eq!(refused, CertificateError::UnknownAuthority.into());
}

#[test]
fn an_authority_of_the_same_name_with_another_key_is_refused() {
    let world = World::new();
    let forger = Ca::new("user authority");
    let refused = verify_der(&world, &forger.sign(&draft(&world, &world.login()))).unwrap_err();
    assert_eq!(refused, CertificateError::BadSignature.into());
}

#[test]
fn a_certificate_without_any_trusted_authority_is_refused() {
    let world = World::new();
    let certificate = world.certify(&world.login());
    let unreadable = CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]);
    let cluster = ClusterName::new("example").unwrap();
    for authorities in [vec![], vec![unreadable]] {
        let refused = verify_user(slice::from_ref(&certificate), &authorities, &cluster, now()).unwrap_err();
        assert_eq!(refused, CertificateError::UnknownAuthority.into());
    }
}

#[test]
fn an_intermediate_authority_is_not_followed() {
    let world = World::new();
    let intermediate = Ca::new("intermediate");
    let link =
        Draft { authority: true, purposes: vec![], ..Draft::named("intermediate", intermediate.spki()) };
    let chain = [intermediate.sign(&draft(&world, &world.login())), world.user_ca.sign(&link)];
    let cluster = ClusterName::new("example").unwrap();
    let refused = verify_user(&chain, &[world.user_ca.certificate], &cluster, now()).unwrap_err();
    assert_eq!(refused.error, CertificateError::UnknownAuthority);
}

#[test]
fn an_expired_certificate_is_refused_and_still_names_its_user() {
    let world = World::new();
    let identity = Identity { not_after: now() - Duration::from_secs(1), ..world.login() };
    let refused = verify(&world, &draft(&world, &identity)).unwrap_err();
    assert_eq!(refused.error, CertificateError::Expired { not_after: identity.not_after, now: now() });
    assert_eq!(refused.identity.as_deref(), Some(&identity));
}

#[test]
fn an_expired_certificate_of_a_forger_names_nobody() {
    let world = World::new();
    let identity = Identity { not_after: now() - Duration::from_secs(1), ..world.login() };
    let forger = Ca::new("user authority");
    let refused = verify_der(&world, &forger.sign(&draft(&world, &identity))).unwrap_err();
    assert_eq!(refused, CertificateError::BadSignature.into());
}

#[test]
fn a_certificate_from_the_future_is_refused() {
    let world = World::new();
    let not_before = now() + Duration::from_secs(1);
    let refused = verify(&world, &Draft { not_before, ..draft(&world, &world.login()) }).unwrap_err();
    assert_eq!(refused.error, CertificateError::NotYetValid { not_before, now: now() });
}

#[test]
fn the_last_second_of_a_certificate_counts() {
    let world = World::new();
    assert!(verify(&world, &draft(&world, &Identity { not_after: now(), ..world.login() })).is_ok());
}

#[test]
fn a_life_that_ends_before_it_begins_is_refused() {
    let world = World::new();
    let reversed = Draft { not_before: now() + HOUR, not_after: now(), ..draft(&world, &world.login()) };
    assert_eq!(error(&world, &reversed), CertificateError::Invalid { attribute: "validity" });
}

#[test]
fn a_host_certificate_is_not_a_user() {
    let world = World::new();
    let mut host = Draft::named("2a6f3c1e-0000-4000-8000-000000000000.example", world.spki.clone())
        .with(O, SIDECAR_ORGANISATION)
        .with(CLUSTER, "example");
    assert_eq!(error(&world, &host), CertificateError::HostCertificate, "by its organisation");
    host.purposes = vec![SERVER_AUTH, CLIENT_AUTH];
    assert_eq!(error(&world, &host), CertificateError::HostCertificate, "by its usage");
    let from_host_ca = verify_der(&world, &world.host_ca.sign(&host)).unwrap_err();
    assert_eq!(from_host_ca.error, CertificateError::UnknownAuthority, "by its authority");
    let user_named_auth = draft(&world, &world.login()).with(O, AUTH_ORGANISATION);
    assert_eq!(error(&world, &user_named_auth), CertificateError::HostCertificate);
}

#[test]
fn an_authoritys_certificate_is_not_a_user() {
    let world = World::new();
    let authority = Draft { authority: true, ..draft(&world, &world.login()) };
    assert_eq!(error(&world, &authority), CertificateError::IsAuthority);
    let refused = verify_der(&world, &world.user_ca.certificate).unwrap_err();
    assert_eq!(refused.error, CertificateError::IsAuthority);
}

#[test]
fn client_authentication_must_be_said_out_loud() {
    let world = World::new();
    let silent = Draft { purposes: vec![], ..draft(&world, &world.login()) };
    assert_eq!(error(&world, &silent), CertificateError::NotForClients);
    let server = Draft { purposes: vec![SERVER_AUTH], ..draft(&world, &world.login()) };
    assert_eq!(error(&world, &server), CertificateError::NotForClients);
}

#[test]
fn a_database_client_certificate_is_not_a_user() {
    let world = World::new();
    let database = Draft::named("app", world.spki.clone());
    assert_eq!(error(&world, &database), CertificateError::Missing { attribute: "cluster name" });
}

#[test]
fn a_certificate_of_another_cluster_is_refused() {
    let world = World::new();
    let identity = Identity { cluster: ClusterName::new("elsewhere").unwrap(), ..world.login() };
    let refused = verify(&world, &draft(&world, &identity)).unwrap_err();
    assert_eq!(refused.error, CertificateError::OtherCluster { certificate_for: identity.cluster.clone() });
    let two = draft(&world, &world.login()).without(STREET).with(STREET, "elsewhere");
    assert_eq!(error(&world, &two), CertificateError::Invalid { attribute: "route to cluster" });
}

#[test]
fn what_must_be_there_once_is_refused_when_missing_and_when_repeated() {
    let world = World::new();
    let good = draft(&world, &world.login());
    for (oid, attribute, value) in [
        (CN, "user name", "root"),
        (CLUSTER, "cluster name", "example"),
        (STREET, "route to cluster", "example"),
    ] {
        assert_eq!(error(&world, &good.clone().without(oid)), CertificateError::Missing { attribute });
        assert_eq!(error(&world, &good.clone().with(oid, value)), CertificateError::Duplicate { attribute });
    }
    assert_eq!(error(&world, &good.clone().without(O)), CertificateError::Missing { attribute: "role name" });
    assert_eq!(
        error(&world, &good.clone().with(O, "access-dev")),
        CertificateError::Duplicate { attribute: "role name" }
    );
    assert_eq!(error(&world, &good.with(LOGIN, "jerry")), CertificateError::Duplicate { attribute: "login" });
}

#[test]
fn what_may_be_there_once_is_refused_when_repeated() {
    let world = World::new();
    let good = draft(&world, &world.claimed("prod-pg", world.key.id));
    let device = world.key.id.to_string();
    for (oid, attribute, value) in [
        (OU, "usage", "usage:db"),
        (TRAITS, "traits", "{}"),
        (MFA, "MFA device", device.as_str()),
        (LOGIN_IP, "login address", "192.0.2.7"),
        (TARGET, "target name", "prod-pg"),
        (PROTOCOL, "protocol", "postgres"),
        (DB_USER, "database user or login", "app"),
        (DB_NAME, "database name", "shop"),
        (PREVIOUS_EXPIRY, "previous expiry", "2026-01-01T00:00:00Z"),
    ] {
        assert_eq!(error(&world, &good.clone().with(oid, value)), CertificateError::Duplicate { attribute });
    }
}

#[test]
fn an_attribute_that_is_not_known_is_refused() {
    let world = World::new();
    let pinned = draft(&world, &world.login()).with(&[1, 3, 9999, 2, 15], "192.0.2.7");
    assert_eq!(error(&world, &pinned), CertificateError::Unknown { name: "1.3.9999.2.15".to_owned() });
}

#[test]
fn values_that_cannot_be_are_refused() {
    let world = World::new();
    let good = draft(&world, &world.claimed("prod-pg", world.key.id));
    for (oid, attribute, value) in [
        (OU, "usage", "usage:kube"),
        (TRAITS, "traits", "[]"),
        (TRAITS, "traits", r#"{"a":["b"],"a":["c"]}"#),
        (MFA, "MFA device", "key"),
        (MFA, "MFA device", "{5e1c4a51-9d1f-4f0b-8a39-b6a0d1d9a001}"),
        (LOGIN_IP, "login address", "localhost"),
        (PROTOCOL, "protocol", "telnet"),
        (DB_USER, "database user or login", ""),
        (DB_USER, "database user or login", "app\0root"),
        (PREVIOUS_EXPIRY, "previous expiry", "tomorrow"),
        (LOGIN, "login", "a,root"),
        (LOGIN, "login", "a\nroot"),
        (LOGIN, "login", ""),
    ] {
        let wrong = good.clone().without(oid).with(oid, value);
        assert_eq!(error(&world, &wrong), CertificateError::Invalid { attribute }, "{value:?}");
    }
    let comma = good.without(CN).with(CN, "jerry,root");
    let source = NameError::Character { what: "user name", character: ',' };
    assert_eq!(error(&world, &comma), CertificateError::Name { attribute: "user name", source });
}

#[test]
fn a_route_is_complete_or_absent() {
    let world = World::new();
    let good = draft(&world, &world.routed("prod-pg"));
    for oid in [TARGET, PROTOCOL, DB_USER, DB_NAME] {
        assert_eq!(error(&world, &good.clone().without(oid)), CertificateError::IncompleteRoute);
    }
}

#[test]
fn usage_and_route_must_agree() {
    let world = World::new();
    let without = draft(&world, &world.routed("prod-pg")).without(OU);
    assert_eq!(error(&world, &without), CertificateError::UsageMismatch, "a database route without usage:db");
    let usage_alone = draft(&world, &world.login()).with(OU, USAGE_DATABASE);
    assert_eq!(error(&world, &usage_alone), CertificateError::UsageMismatch, "usage:db without a route");
    let ssh =
        draft(&world, &world.routed("prod-pg")).without(PROTOCOL).with(PROTOCOL, "ssh").without(DB_NAME);
    assert_eq!(error(&world, &ssh), CertificateError::UsageMismatch, "usage:db with a route to a host");
}

#[test]
fn a_claim_of_mfa_is_for_one_session_or_refused() {
    let world = World::new();
    let roaming = Identity { mfa: MfaEvidence::Claimed { device: world.key.id }, ..world.login() };
    assert_eq!(error(&world, &draft(&world, &roaming)), CertificateError::IncompleteMfa);
    let receipt_alone = draft(&world, &world.touched("prod-pg")).without(MFA);
    assert_eq!(error(&world, &receipt_alone), CertificateError::IncompleteMfa);
}

#[test]
fn a_receipt_is_one_octet_string_once() {
    let world = World::new();
    let good = draft(&world, &world.touched("prod-pg"));
    let mut bare = good.clone();
    bare.extensions[0].2 = vec![1, 2, 3];
    assert_eq!(error(&world, &bare), CertificateError::Invalid { attribute: "receipt" });
    let mut twice = good.clone();
    twice.extensions.push(good.extensions[0].clone());
    assert!(verify(&world, &twice).is_err());
}

#[test]
fn an_unknown_critical_extension_is_refused() {
    let world = World::new();
    let mut draft = draft(&world, &world.login());
    draft.extensions.push((vec![0x06, 0x03, 0x2a, 0x03, 0x04], true, vec![0x05, 0x00]));
    let malformed = CertificateError::Malformed { what: "unknown critical extension" };
    assert_eq!(error(&world, &draft), malformed);
}

#[test]
fn an_oversize_certificate_is_not_read() {
    let world = World::new();
    let mut draft = draft(&world, &world.login());
    let roles = (0..2_000).map(|n| attribute(O, &format!("role-{n}-{}", "x".repeat(20))));
    draft.subject.extend(roles);
    assert!(
        matches!(error(&world, &draft), CertificateError::TooLarge { bytes } if bytes > MAX_CERTIFICATE_BYTES)
    );
}

#[test]
fn a_certificate_cut_short_anywhere_or_followed_by_anything_is_refused() {
    let world = World::new();
    let whole = world.certify(&world.touched("prod-pg"));
    for end in 0..whole.len() {
        assert!(verify_der(&world, &CertificateDer::from(&whole[..end])).is_err(), "cut at {end}");
    }
    let longer = CertificateDer::from([&whole[..], &[0]].concat());
    assert!(verify_der(&world, &longer).is_err());
}

#[test]
fn a_certificate_with_any_one_byte_changed_is_refused() {
    let world = World::new();
    let whole = world.certify(&world.login());
    for at in 0..whole.len() {
        let mut changed = whole.to_vec();
        changed[at] ^= 0x01;
        assert!(verify_der(&world, &CertificateDer::from(changed)).is_err(), "byte {at}");
    }
}

fn sidecar(world: &World) -> Draft {
    let mut draft = Draft::named("5e1c4a51-9d1f-4f0b-8a39-b6a0d1d9a001.example", world.spki.clone())
        .with(O, SIDECAR_ORGANISATION);
    draft.purposes = vec![SERVER_AUTH, CLIENT_AUTH];
    draft.dns_names =
        ["prod-pg.target.touchstone.internal", "prod-pg", "db.example.com"].map(str::to_owned).into();
    draft
}

#[test]
fn a_sidecar_is_known_with_its_targets() {
    let world = World::new();
    let certificate = world.host_ca.sign(&sidecar(&world));
    let known = verify_sidecar(&[certificate], slice::from_ref(&world.host_ca.certificate), now()).unwrap();
    assert_eq!(known.id.to_string(), "5e1c4a51-9d1f-4f0b-8a39-b6a0d1d9a001");
    assert_eq!(known.cluster.as_str(), "example");
    assert_eq!(known.target_names, [TargetName::new("prod-pg").unwrap()]);
}

#[test]
fn what_is_not_a_sidecar_is_refused_as_one() {
    let world = World::new();
    let error = |ca: &Ca, draft: &Draft, now| {
        verify_sidecar(&[ca.sign(draft)], slice::from_ref(&world.host_ca.certificate), now).unwrap_err()
    };
    let good = sidecar(&world);
    assert_eq!(error(&world.user_ca, &good, now()), CertificateError::UnknownAuthority);
    assert_eq!(error(&world.host_ca, &good.clone().without(O), now()), CertificateError::NotSidecar);
    let both = good.clone().with(O, AUTH_ORGANISATION);
    assert_eq!(error(&world.host_ca, &both, now()), CertificateError::NotSidecar);
    let nameless = good.clone().without(CN).with(CN, "prod.example");
    assert_eq!(error(&world.host_ca, &nameless, now()), CertificateError::NotSidecar);
    let server_alone = Draft { purposes: vec![SERVER_AUTH], ..good.clone() };
    assert_eq!(error(&world.host_ca, &server_alone, now()), CertificateError::NotForClients);
    let silent = Draft { purposes: vec![], ..good.clone() };
    assert_eq!(error(&world.host_ca, &silent, now()), CertificateError::NotForClients);
    let expired = error(&world.host_ca, &good, now() + HOUR * 2);
    assert!(matches!(expired, CertificateError::Expired { .. }));
}

#[test]
fn device_ids_in_subjects_are_canonical() {
    let world = World::new();
    let device = DeviceId(Uuid::from_u128(7));
    let subject = subject(&world.claimed("prod-pg", device));
    assert!(subject.contains(&attribute(MFA, "00000000-0000-0000-0000-000000000007")));
}
