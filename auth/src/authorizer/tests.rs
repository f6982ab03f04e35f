use std::time::Duration;

use rustls_pki_types::CertificateDer;
use uuid::Uuid;

use super::*;
use crate::{
    certificate::CertificateError,
    identity::{DeviceId, Protocol, TargetName, UserName},
    policy::{DeniedBy, MfaRequiredBy},
    receipt::ReceiptError,
    testing::{
        Draft, HOUR, MINUTE, SecurityKey, World,
        forge::SERVER_AUTH,
        now,
        world::{SIDECAR_ID, client, delete, device, lock, preference, request, resource, totp},
    },
};

mod again;
mod ended;
mod ssh;

fn role(name: &str) -> RoleName {
    RoleName::new(name).unwrap()
}

// Who is let in

#[test]
fn a_login_certificate_opens_what_needs_no_touch() {
    let world = World::new();
    let permit = world.authorize(&world.login(), "dev-pg").unwrap();
    assert_eq!(permit.decided_by(), &role("access-dev"));
    assert_eq!(permit.identity(), &world.login());
    assert_eq!(permit.mfa_device(), None);
    assert_eq!(permit.receipt(), None);
}

#[test]
fn a_touch_for_this_session_opens_what_needs_one() {
    let world = World::new();
    let permit = world.authorize(&world.touched("prod-pg"), "prod-pg").unwrap();
    assert_eq!(permit.decided_by(), &role("access-prod"));
    assert_eq!(permit.mfa_device(), Some(world.key.id));
    assert!(permit.receipt().is_some());
    assert_eq!(permit.request().target.name.as_str(), "prod-pg");
}

#[test]
fn a_code_opens_what_needs_mfa_where_codes_are_accepted() {
    let world = World::new();
    let device = DeviceId(Uuid::from_u128(7));
    world.apply(totp(device, "jerry")).unwrap();
    let permit = world.authorize(&world.claimed("prod-pg", device), "prod-pg").unwrap();
    assert_eq!(permit.mfa_device(), Some(device));
    assert_eq!(permit.receipt(), None);
}

// The certificate

#[test]
fn nobody_is_let_in_without_a_certificate() {
    let world = World::new();
    let denied = world.authorizer.authorize(&Credential::X509(&[]), &request("dev-pg")).unwrap_err();
    assert_eq!((denied.reason, denied.identity), (DenyReason::NoCertificate, None));
}

#[test]
fn an_expired_certificate_is_refused_and_audit_learns_whose() {
    let world = World::new();
    world.clock.set(now() + HOUR * 2);
    let denied = world.authorize(&world.login(), "dev-pg").unwrap_err();
    let expired = CertificateError::Expired { not_after: now() + HOUR, now: now() + HOUR * 2 };
    assert_eq!(denied.reason, DenyReason::Certificate(expired));
    assert_eq!(denied.identity.unwrap().user, UserName::new("jerry").unwrap());
}

#[test]
fn a_certificate_from_the_future_is_refused() {
    let world = World::new();
    world.clock.set(now() - HOUR);
    let not_before = now() - MINUTE;
    assert_eq!(
        world.refusal(&world.login(), "dev-pg"),
        DenyReason::Certificate(CertificateError::NotYetValid { not_before, now: now() - HOUR })
    );
}

#[test]
fn a_certificate_of_the_wrong_authority_is_refused_and_names_nobody() {
    let world = World::new();
    let forged = world.host_ca.sign(&Draft::user(&world.login(), world.spki.clone()));
    let denied = world.authorizer.authorize(&Credential::X509(&[forged]), &request("dev-pg")).unwrap_err();
    assert_eq!(denied.reason, DenyReason::Certificate(CertificateError::UnknownAuthority));
    assert_eq!(denied.identity, None);
}

#[test]
fn a_host_certificate_is_refused_as_a_user() {
    let world = World::new();
    let mut host = Draft::user(&world.login(), world.spki.clone());
    host.purposes.push(SERVER_AUTH);
    let denied = world
        .authorizer
        .authorize(&Credential::X509(&[world.user_ca.sign(&host)]), &request("dev-pg"))
        .unwrap_err();
    assert_eq!(denied.reason, DenyReason::Certificate(CertificateError::HostCertificate));
}

#[test]
fn an_authority_that_was_rotated_out_lets_nobody_in() {
    let world = World::new();
    world.apply(delete("authority", "user")).unwrap();
    assert_eq!(
        world.refusal(&world.login(), "dev-pg"),
        DenyReason::Certificate(CertificateError::UnknownAuthority)
    );
}

// The route

#[test]
fn a_session_certificate_opens_no_other_target() {
    let world = World::new();
    assert_eq!(
        world.refusal(&world.touched("prod-pg"), "dev-pg"),
        DenyReason::OtherTarget {
            certificate_for: TargetName::new("prod-pg").unwrap(),
            asked: TargetName::new("dev-pg").unwrap(),
        }
    );
}

#[test]
fn a_session_certificate_opens_no_other_protocol() {
    let world = World::new();
    let mut request = request("prod-pg");
    request.target = Arc::new(Target { protocol: Protocol::Mysql, ..Target::clone(&request.target) });
    let chain = [world.certify(&world.touched("prod-pg"))];
    let denied = world.authorizer.authorize(&Credential::X509(&chain), &request).unwrap_err();
    let (certificate_for, asked) = (Protocol::Postgres, Protocol::Mysql);
    assert_eq!(denied.reason, DenyReason::OtherProtocol { certificate_for, asked });
}

#[test]
fn a_session_certificate_opens_no_other_login() {
    let world = World::new();
    let chain = [world.certify(&world.touched("prod-pg"))];
    for (user, name) in [("postgres", "shop"), ("app", "payroll"), ("APP", "shop"), ("app", "")] {
        let asked = Login::Database { user: user.to_owned(), name: name.to_owned() };
        let request = SessionRequest { login: asked.clone(), ..request("prod-pg") };
        let denied = world.authorizer.authorize(&Credential::X509(&chain), &request).unwrap_err();
        let certificate_for = crate::testing::world::login();
        assert_eq!(denied.reason, DenyReason::OtherLogin { certificate_for, asked });
    }
}

#[test]
fn a_mysql_session_may_begin_in_no_database_and_in_none_but_its_own() {
    let world = World::new();
    let mysql = |route: &mut Route, name: &str| {
        route.protocol = Protocol::Mysql;
        route.login = Login::Database { user: "app".to_owned(), name: name.to_owned() };
    };
    let authorize = |bound: &str, asked: &str| {
        let mut identity = world.routed("dev-pg");
        mysql(identity.route.as_mut().unwrap(), bound);
        let mut request = request("dev-pg");
        request.target = Arc::new(Target { protocol: Protocol::Mysql, ..Target::clone(&request.target) });
        request.login = Login::Database { user: "app".to_owned(), name: asked.to_owned() };
        world.authorizer.authorize(&Credential::X509(&[world.certify(&identity)]), &request)
    };
    for (bound, asked) in [("shop", "shop"), ("shop", ""), ("", "shop"), ("", "")] {
        assert!(authorize(bound, asked).is_ok(), "{bound:?} {asked:?}");
    }
    let denied = authorize("shop", "payroll").unwrap_err();
    assert!(matches!(denied.reason, DenyReason::OtherLogin { .. }), "{:?}", denied.reason);
}

// MFA

#[test]
fn a_stolen_login_certificate_does_not_open_what_needs_a_touch() {
    let world = World::new();
    let by = MfaRequiredBy::Role(role("access-prod"));
    assert_eq!(world.refusal(&world.login(), "prod-pg"), DenyReason::MfaRequired { by });
}

#[test]
fn where_every_session_needs_a_touch_no_login_certificate_opens_anything() {
    let world = World::new();
    world.apply(preference(r#""require_session_mfa":true"#)).unwrap();
    let by = MfaRequiredBy::Cluster;
    assert_eq!(world.refusal(&world.login(), "dev-pg"), DenyReason::MfaRequired { by });
}

#[test]
fn a_session_certificate_without_a_touch_does_not_open_what_needs_one() {
    let world = World::new();
    let by = MfaRequiredBy::Role(role("access-prod"));
    assert_eq!(world.refusal(&world.routed("prod-pg"), "prod-pg"), DenyReason::MfaRequired { by });
}

#[test]
fn a_bare_claim_that_a_security_key_was_touched_is_refused() {
    let world = World::new();
    let device = world.key.id;
    assert_eq!(
        world.refusal(&world.claimed("prod-pg", device), "prod-pg"),
        DenyReason::ReceiptMissing { device }
    );
}

#[test]
fn a_false_claim_is_refused_even_where_no_touch_is_needed() {
    let world = World::new();
    let device = world.key.id;
    assert_eq!(
        world.refusal(&world.claimed("dev-pg", device), "dev-pg"),
        DenyReason::ReceiptMissing { device }
    );
}

#[test]
fn a_device_that_nobody_registered_is_refused() {
    let world = World::new();
    let device = DeviceId(Uuid::from_u128(7));
    assert_eq!(
        world.refusal(&world.claimed("prod-pg", device), "prod-pg"),
        DenyReason::UnknownDevice { device }
    );
}

#[test]
fn a_device_that_was_removed_is_refused() {
    let world = World::new();
    world.apply(delete("device_key", &world.key.id.to_string())).unwrap();
    let device = world.key.id;
    assert_eq!(world.refusal(&world.touched("prod-pg"), "prod-pg"), DenyReason::UnknownDevice { device });
}

#[test]
fn the_device_of_another_user_is_refused() {
    let world = World::new();
    let olgas = SecurityKey::new();
    world.apply(device(&olgas, "olga")).unwrap();
    let identity = world.touched_with(&olgas, olgas.id, &world.touch("prod-pg"));
    assert_eq!(world.refusal(&identity, "prod-pg"), DenyReason::DeviceOfAnotherUser { device: olgas.id });
}

#[test]
fn a_touch_by_another_user_is_refused() {
    let world = World::new();
    let mut touch = world.touch("prod-pg");
    touch.intent.user = "olga".to_owned();
    let identity = world.touched_with(&world.key, world.key.id, &touch);
    assert_eq!(world.refusal(&identity, "prod-pg"), DenyReason::Receipt(ReceiptError::OtherUser));
}

#[test]
fn a_receipt_signed_by_another_key_is_refused() {
    let world = World::new();
    let identity = world.touched_with(&SecurityKey::new(), world.key.id, &world.touch("prod-pg"));
    assert_eq!(world.refusal(&identity, "prod-pg"), DenyReason::Receipt(ReceiptError::BadSignature));
}

#[test]
fn a_receipt_for_another_session_key_is_refused() {
    let world = World::new();
    let identity = world.touched("prod-pg");
    let other = crate::key::generate_p256().unwrap().1;
    let chain = [world.user_ca.sign(&Draft::user(&identity, other))];
    let denied = world.authorizer.authorize(&Credential::X509(&chain), &request("prod-pg")).unwrap_err();
    assert_eq!(denied.reason, DenyReason::Receipt(ReceiptError::OtherKey));
}

#[test]
fn a_receipt_for_another_target_is_refused() {
    let world = World::new();
    let elsewhere = world.touched("dev-pg");
    let identity = Identity { route: Some(crate::testing::world::route("prod-pg")), ..elsewhere };
    assert_eq!(world.refusal(&identity, "prod-pg"), DenyReason::Receipt(ReceiptError::OtherTarget));
}

#[test]
fn a_tampered_receipt_is_refused() {
    let world = World::new();
    let mut identity = world.touched("prod-pg");
    let MfaEvidence::Receipt { receipt, .. } = &mut identity.mfa else { unreachable!() };
    let last = receipt.len() - 1;
    receipt[last] ^= 1;
    assert_eq!(world.refusal(&identity, "prod-pg"), DenyReason::Receipt(ReceiptError::BadSignature));
}

#[test]
fn an_old_touch_does_not_make_a_new_certificate() {
    let world = World::new();
    let identity = world.touched("prod-pg");
    let mut draft = Draft::user(&identity, world.spki.clone());
    draft.not_before = now() + HOUR;
    draft.not_after = now() + HOUR + MINUTE;
    world.clock.set(now() + HOUR);
    let denied = world
        .authorizer
        .authorize(&Credential::X509(&[world.user_ca.sign(&draft)]), &request("prod-pg"))
        .unwrap_err();
    let time = now() - MINUTE;
    assert_eq!(denied.reason, DenyReason::Receipt(ReceiptError::TooOld { time }));
}

/// Lets jerry use what he touched for as long as the roles say.
fn verification_interval(world: &World, interval: &str) {
    let options = format!(r#""options":{{"mfa_verification_interval":"{interval}","#);
    let json = crate::testing::world::ACCESS_PROD.replace(r#""options":{"#, &options);
    world.apply(resource("role", "access-prod", &json)).unwrap();
}

/// A session certificate of an authd that gives out long ones.
fn long_lived(world: &World, identity: &Identity) -> CertificateDer<'static> {
    let mut draft = Draft::user(identity, world.spki.clone());
    draft.not_after = now() + HOUR * 10;
    world.user_ca.sign(&draft)
}

#[test]
fn a_touch_older_than_the_roles_accept_is_refused_however_long_the_certificate_lives() {
    let world = World::new();
    let chain = [long_lived(&world, &world.touched("prod-pg"))];
    let authorize = || world.authorizer.authorize(&Credential::X509(&chain), &request("prod-pg"));
    let interval = MINUTE * 30;
    let touched = now() - MINUTE;

    world.clock.set(touched + interval + MINUTE + Duration::from_millis(1));
    assert!(authorize().is_ok(), "without the option the certificate's life is the bound");
    verification_interval(&world, "30m");
    let now = touched + interval + MINUTE + Duration::from_millis(1);
    let denied = authorize().unwrap_err();
    assert_eq!(denied.reason, DenyReason::MfaTooOld { touched, now, interval });
    assert_eq!(denied.identity.unwrap().user, UserName::new("jerry").unwrap());

    world.clock.set(touched + interval + MINUTE);
    assert!(authorize().is_ok(), "two clocks may differ by a minute");
}

#[test]
fn an_old_touch_in_a_new_certificate_is_as_old_as_it_was() {
    let world = World::new();
    verification_interval(&world, "1m");
    let mut touch = world.touch("prod-pg");
    touch.intent.time = crate::clock::unix_millis(now() - MINUTE * 4);
    let identity = world.touched_with(&world.key, world.key.id, &touch);
    assert_eq!(
        world.refusal(&identity, "prod-pg"),
        DenyReason::MfaTooOld { touched: now() - MINUTE * 4, now: now(), interval: MINUTE }
    );
}

#[test]
fn the_shortest_interval_of_all_roles_bounds_the_touch_and_never_sets_none() {
    let world = World::new();
    let chain = [long_lived(&world, &world.touched("prod-pg"))];
    verification_interval(&world, "never");
    world.clock.set(now() + HOUR * 5);
    assert!(world.authorizer.authorize(&Credential::X509(&chain), &request("prod-pg")).is_ok());
    let dev = crate::testing::world::ACCESS_DEV
        .replace(r#""spec":{"#, r#""spec":{"options":{"mfa_verification_interval":"1h"},"#);
    world.apply(resource("role", "access-dev", &dev)).unwrap();
    let denied = world.authorizer.authorize(&Credential::X509(&chain), &request("prod-pg")).unwrap_err();
    assert!(matches!(denied.reason, DenyReason::MfaTooOld { interval: HOUR, .. }));
}

#[test]
fn an_old_touch_is_refused_even_where_none_is_needed() {
    let world = World::new();
    verification_interval(&world, "30m");
    world.clock.set(now() + HOUR / 2 + MINUTE);
    let chain = [long_lived(&world, &world.touched("dev-pg"))];
    let denied = world.authorizer.authorize(&Credential::X509(&chain), &request("dev-pg")).unwrap_err();
    assert!(matches!(denied.reason, DenyReason::MfaTooOld { .. }));
    assert!(world.authorize(&world.login(), "dev-pg").is_ok(), "a login certificate claims no touch");
}

#[test]
fn a_code_older_than_the_roles_accept_is_refused_from_the_beginning_of_the_certificate() {
    let world = World::new();
    verification_interval(&world, "30m");
    let device = DeviceId(Uuid::from_u128(7));
    world.apply(totp(device, "jerry")).unwrap();
    let chain = [long_lived(&world, &world.claimed("prod-pg", device))];
    let authorize = || world.authorizer.authorize(&Credential::X509(&chain), &request("prod-pg"));
    let (touched, interval) = (now() - MINUTE, MINUTE * 30);

    world.clock.set(touched + interval + MINUTE);
    assert!(authorize().is_ok());
    world.clock.advance(Duration::from_secs(1));
    let now = touched + interval + MINUTE + Duration::from_secs(1);
    assert_eq!(authorize().unwrap_err().reason, DenyReason::MfaTooOld { touched, now, interval });
}

#[test]
fn an_interval_longer_than_any_clock_reaches_refuses_nobody() {
    assert_eq!(
        mfa::check_age(
            Mfa::Verified { device: DeviceId(Uuid::nil()), at: now() },
            Some(Duration::MAX),
            now() + HOUR
        ),
        Ok(())
    );
}

#[test]
fn codes_are_refused_where_only_security_keys_are_accepted() {
    let world = World::new();
    let device = DeviceId(Uuid::from_u128(7));
    world.apply(totp(device, "jerry")).unwrap();
    for factors in ["webauthn", "off"] {
        world.apply(preference(&format!(r#""second_factor":"{factors}""#))).unwrap();
        assert_eq!(
            world.refusal(&world.claimed("prod-pg", device), "prod-pg"),
            DenyReason::OtpNotAccepted { device }
        );
    }
}

#[test]
fn a_receipt_of_a_device_that_gives_codes_is_refused() {
    let world = World::new();
    world.apply(totp(world.key.id, "jerry")).unwrap();
    let device = world.key.id;
    assert_eq!(world.refusal(&world.touched("prod-pg"), "prod-pg"), DenyReason::ReceiptUnexpected { device });
}

// What may also change while the session lives

#[test]
fn a_lock_by_each_target_stops_new_sessions() {
    let world = World::new();
    let device = format!(r#""mfa_device":"{}""#, world.key.id);
    let sidecar = format!(r#""server_id":"{SIDECAR_ID}""#);
    let shouted = format!(r#""server_id":"{}""#, SIDECAR_ID.to_ascii_uppercase());
    for (target, words) in [
        (r#""user":"jerry""#, r#"User:"jerry""#),
        (r#""role":"access-prod""#, r#"Role:"access-prod""#),
        (r#""login":"app""#, r#"Login:"app""#),
        (device.as_str(), "MFADevice:"),
        (r#""server_id":"prod-pg""#, r#"ServerID:"prod-pg""#),
        (r#""node":"prod-pg""#, r#"ServerID:"prod-pg""#),
        (sidecar.as_str(), "ServerID:"),
        (shouted.as_str(), "ServerID:"),
    ] {
        world.apply(lock(target)).unwrap();
        let DenyReason::Locked(lock) = world.refusal(&world.touched("prod-pg"), "prod-pg") else {
            panic!("{target} did not stop the session");
        };
        let message = lock.to_string();
        assert!(message.starts_with(&format!("lock targeting {words}")), "{message}");
        assert!(message.ends_with("is in force: Suspicious activity."), "{message}");
    }
    world.apply(delete("lock", "stop")).unwrap();
    assert!(world.authorize(&world.touched("prod-pg"), "prod-pg").is_ok());
}

#[test]
fn a_lock_on_something_else_stops_nobody() {
    let world = World::new();
    for target in [
        r#""user":"olga""#,
        r#""role":"editor""#,
        r#""login":"postgres""#,
        r#""mfa_device":"00000000-0000-0000-0000-000000000007""#,
        r#""server_id":"dev-pg""#,
        r#""user":"jerry","login":"postgres""#,
    ] {
        world.apply(lock(target)).unwrap();
        assert!(world.authorize(&world.touched("prod-pg"), "prod-pg").is_ok(), "{target}");
    }
}

#[test]
fn a_lock_holds_until_it_expires() {
    let world = World::new();
    let json = r#"{"kind":"lock","version":"v2","metadata":{"name":"stop"},
        "spec":{"target":{"user":"jerry"},"expires":"2026-01-01T00:10:00Z"}}"#;
    world.apply(resource("lock", "stop", json)).unwrap();
    assert!(matches!(world.refusal(&world.login(), "dev-pg"), DenyReason::Locked(_)));
    world.clock.advance(MINUTE * 10);
    assert!(world.authorize(&world.login(), "dev-pg").is_ok());
}

#[test]
fn a_role_that_is_gone_is_refused() {
    let world = World::new();
    world.apply(delete("role", "access-prod")).unwrap();
    let unknown = DenyReason::UnknownRole(role("access-prod"));
    assert_eq!(world.refusal(&world.login(), "dev-pg"), unknown);
}

#[test]
fn a_role_that_cannot_be_read_is_unknown() {
    let world = World::new();
    world.apply(resource("role", "access-prod", r#"{"kind":"role","surprise":true}"#)).unwrap_err();
    let unknown = DenyReason::UnknownRole(role("access-prod"));
    assert_eq!(world.refusal(&world.login(), "dev-pg"), unknown);
}

#[test]
fn a_role_counts_until_it_expires() {
    let world = World::new();
    let json = crate::testing::world::ACCESS_DEV
        .replace(r#"{"name":"access-dev"}"#, r#"{"name":"access-dev","expires":"2026-01-01T00:10:00Z"}"#);
    world.apply(resource("role", "access-dev", &json)).unwrap();
    assert!(world.authorize(&world.login(), "dev-pg").is_ok());
    world.clock.advance(MINUTE * 10);
    let unknown = DenyReason::UnknownRole(role("access-dev"));
    assert_eq!(world.refusal(&world.login(), "dev-pg"), unknown);
}

#[test]
fn what_no_role_allows_is_refused() {
    let world = World::new();
    let denied = DenyReason::Policy(DeniedBy::NothingMatched);
    assert_eq!(world.refusal(&world.login(), "stage-pg"), denied);
}

#[test]
fn roles_that_contradict_each_other_about_the_database_let_nobody_in() {
    let world = World::new();
    for (name, json, value) in [
        ("access-dev", crate::testing::world::ACCESS_DEV, "30s"),
        ("access-prod", crate::testing::world::ACCESS_PROD, "60s"),
    ] {
        let settings =
            format!(r#""spec":{{"options":{{"db_session_settings":{{"statement_timeout":"{value}"}}}},"#);
        let bare = json.replace(r#""options":{"require_session_mfa":true},"#, "");
        world.apply(resource("role", name, &bare.replacen(r#""spec":{"#, &settings, 1))).unwrap();
    }
    let conflict = DenyReason::SettingConflict {
        setting: "statement_timeout".to_owned(),
        first: role("access-dev"),
        second: role("access-prod"),
    };
    assert_eq!(world.refusal(&world.login(), "dev-pg"), conflict);
}

#[test]
fn a_change_of_a_role_is_in_force_at_once() {
    let world = World::new();
    assert!(world.authorize(&world.login(), "dev-pg").is_ok());
    let json = crate::testing::world::ACCESS_DEV.replace(r#"["app"]"#, r#"["other"]"#);
    world.apply(resource("role", "access-dev", &json)).unwrap();
    let denied = DenyReason::Policy(DeniedBy::NothingMatched);
    assert_eq!(world.refusal(&world.login(), "dev-pg"), denied);
}

#[test]
fn a_stale_replica_lets_nobody_in_where_locking_is_strict() {
    let world = World::new();
    let age = STALE_AFTER;
    world.clock.advance(age);
    assert!(world.authorize(&world.login(), "dev-pg").is_ok(), "best effort");
    world.clock.set(now());
    world.apply(preference(r#""locking_mode":"strict""#)).unwrap();
    world.clock.advance(age - Duration::from_secs(1));
    assert!(world.authorize(&world.login(), "dev-pg").is_ok(), "not stale yet");
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.refusal(&world.login(), "dev-pg"), DenyReason::ReplicaStale { age });
}

#[test]
fn one_role_that_is_strict_about_locks_is_enough() {
    let world = World::new();
    let json =
        crate::testing::world::ACCESS_DEV.replace(r#""spec":{"#, r#""spec":{"options":{"lock":"strict"},"#);
    world.apply(resource("role", "access-dev", &json)).unwrap();
    world.clock.advance(STALE_AFTER);
    assert!(matches!(world.refusal(&world.login(), "dev-pg"), DenyReason::ReplicaStale { .. }));
}

#[test]
fn a_clock_set_back_does_not_make_a_stale_replica_young() {
    let world = World::new();
    world.apply(preference(r#""locking_mode":"strict""#)).unwrap();
    world.clock.set(now() - STALE_AFTER);
    let identity = world.login();
    let mut draft = Draft::user(&identity, world.spki.clone());
    draft.not_before = now() - HOUR;
    let denied = world
        .authorizer
        .authorize(&Credential::X509(&[world.user_ca.sign(&draft)]), &request("dev-pg"))
        .unwrap_err();
    assert!(matches!(denied.reason, DenyReason::ReplicaStale { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_again_and_again_does_not_keep_a_stale_replica_in_use() {
    let world = World::new();
    world.apply(preference(r#""locking_mode":"strict""#)).unwrap();
    tokio::time::advance(STALE_AFTER).await;
    assert!(matches!(world.refusal(&world.login(), "dev-pg"), DenyReason::ReplicaStale { .. }));
}

#[test]
fn an_empty_replica_lets_nobody_in() {
    let world = World::empty();
    assert_eq!(world.refusal(&world.login(), "dev-pg"), DenyReason::ReplicaNotReady);
}

#[test]
fn a_lock_or_preference_that_cannot_be_read_lets_nobody_in() {
    let world = World::new();
    world.apply(resource("lock", "stop", r#"{"kind":"lock","version":"v9"}"#)).unwrap_err();
    assert_eq!(world.refusal(&world.login(), "dev-pg"), DenyReason::ReplicaNotReady);
    world.apply(delete("lock", "stop")).unwrap();
    assert!(world.authorize(&world.login(), "dev-pg").is_ok());
    world.apply(preference(r#""surprise":true"#)).unwrap_err();
    assert_eq!(world.refusal(&world.login(), "dev-pg"), DenyReason::ReplicaNotReady);
}

#[test]
fn a_role_that_pins_the_address_takes_the_one_that_logged_in_alone() {
    let world = World::new();
    let options = r#""spec":{"options":{"pin_source_ip":true},"#;
    let json = crate::testing::world::ACCESS_DEV.replace(r#""spec":{"#, options);
    world.apply(resource("role", "access-dev", &json)).unwrap();
    assert!(world.authorize(&world.login(), "dev-pg").is_ok());

    let mapped: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
    let elsewhere = IpAddr::from([192, 0, 2, 8]);
    let from = |client| {
        let request = SessionRequest { client, ..request("dev-pg") };
        world.authorizer.authorize(&Credential::X509(&[world.certify(&world.login())]), &request)
    };
    assert!(from(mapped).is_ok());
    let pinned = DenyReason::AddressPinned { login: Some(client()), client: elsewhere };
    assert_eq!(from(elsewhere).unwrap_err().reason, pinned);

    let silent = Identity { login_ip: None, ..world.login() };
    let pinned = DenyReason::AddressPinned { login: None, client: client() };
    assert_eq!(world.refusal(&silent, "dev-pg"), pinned);
}
