use std::time::{Duration, SystemTime};

use auth::{
    certificate::{CertificateError, VerifiedCertificate, x509},
    identity::{Login, MfaEvidence},
    proto::{self, SessionRequester, create_challenge_request},
    receipt::{self, DeviceKey, Expected, RelyingParty},
};
use tonic::{Code, Status, transport::Channel};

use crate::world::*;

type Users = proto::users_client::UsersClient<Channel>;

const ROLES: &str = "
kind: role
version: v7
metadata: {name: access-dev}
spec: {allow: {db_labels: {env: dev}, db_users: [alice], db_names: [app]}}
---
kind: role
version: v7
metadata: {name: access-prod}
spec:
  options: {require_session_mfa: true, mfa_verification_interval: 2h}
  allow: {db_labels: {env: prod}, db_users: [alice], db_names: [app]}
";

async fn world() -> World {
    let world = World::new().await;
    world.put(ROLES).await;
    world.guard("dev-pg", &[("env", "dev")]).await;
    world.guard("prod-pg", &[("env", "prod")]).await;
    world.guard("other-pg", &[("env", "other")]).await;
    world
}

async fn logged_in(world: &World, key: bool) -> (Person, Users) {
    let roles = &["access-dev", "access-prod"];
    let mut person = match key {
        true => world.person_with_key("olga", roles).await,
        false => world.person_with_totp("jerry", roles).await,
    };
    world.login(&mut person).await;
    world.clock.advance(Duration::from_secs(60));
    let users = world.users(person.identity()).await;
    (person, users)
}

async fn ask(users: &mut Users, target: &str, key: &Key) -> Result<proto::MfaChallenge, Status> {
    ask_for(users, target, key, false).await
}

async fn ask_for(
    users: &mut Users,
    target: &str,
    key: &Key,
    if_required: bool,
) -> Result<proto::MfaChallenge, Status> {
    let session = create_challenge_request::Session {
        route: Some(route(target)),
        public_key: key.spki.clone(),
        if_required,
        ..Default::default()
    };
    let scope = Some(create_challenge_request::Scope::Session(session));
    Ok(users.create_challenge(proto::CreateChallengeRequest { scope }).await?.into_inner())
}

fn request(target: &str, key: &Key) -> proto::IssueSessionCertificateRequest {
    let (route, public_key) = (Some(route(target)), key.spki.clone());
    proto::IssueSessionCertificateRequest { route, public_key, ..Default::default() }
}

async fn is_required(users: &mut Users, target: &str) -> Result<bool, Status> {
    let request = proto::IsMfaRequiredRequest { route: Some(route(target)) };
    Ok(users.is_mfa_required(request).await?.into_inner().required)
}

async fn verify(world: &World, certificate: &[u8]) -> VerifiedCertificate {
    verify_at(world, certificate, world.time.now()).await.unwrap()
}

/// By a clock of the sidecar's own.
async fn verify_at(
    world: &World,
    certificate: &[u8],
    now: SystemTime,
) -> Result<VerifiedCertificate, CertificateError> {
    let request = proto::ListAuthoritiesRequest { r#type: "user".into() };
    let list = world.admin().await.list_authorities(request).await.unwrap().into_inner().authorities;
    let authorities = [list[0].certificates[0].clone().into()];
    let cluster = "main".to_owned().try_into().unwrap();
    x509::verify_user(&[certificate.to_vec().into()], &authorities, &cluster, now).map_err(Into::into)
}

fn life(world: &World, not_after: i64) -> Duration {
    let end = auth::clock::from_unix_millis(not_after).unwrap();
    // Certificates count whole seconds.
    end.duration_since(world.time.now() - Duration::from_secs(1)).unwrap()
}

#[tokio::test]
async fn a_touch_gives_a_certificate_of_one_minute_with_a_receipt_that_verifies() {
    let world = world().await;
    let (mut olga, mut users) = logged_in(&world, true).await;
    assert!(is_required(&mut users, "prod-pg").await.unwrap());

    let key = Key::new();
    let challenge = ask(&mut users, "prod-pg", &key).await.unwrap();
    let options: serde_json::Value = serde_json::from_str(&challenge.webauthn_request_options_json).unwrap();
    let expected = receipt::challenge(receipt::Purpose::Session, &challenge.intent);
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    assert_eq!(options["publicKey"]["challenge"], BASE64_URL_SAFE_NO_PAD.encode(expected));

    let mfa = Some(olga.answer(&challenge, &world));
    let issue = proto::IssueSessionCertificateRequest {
        challenge_id: challenge.challenge_id,
        mfa,
        ..request("prod-pg", &key)
    };
    let issued = users.issue_session_certificate(issue).await.unwrap().into_inner();
    assert!(life(&world, issued.not_after) <= Duration::from_secs(61));
    assert_eq!(issued.target.unwrap().public_addr, "localhost:5433");

    let verified = verify(&world, &issued.certificate).await;
    let identity = &verified.identity;
    let route = identity.route.clone().unwrap();
    assert_eq!(route.login, Login::Database { user: "alice".into(), name: "app".into() });
    let login = verify(&world, &olga.certificate).await.identity;
    assert_eq!(identity.previous_expiry, Some(login.not_after));
    let MfaEvidence::Receipt { device, receipt } = &identity.mfa else { panic!("no receipt") };

    let key = device_key(&world, &device.to_string()).await;
    let expected = Expected {
        cluster: &identity.cluster,
        user: &identity.user,
        device: *device,
        route: &route,
        public_key_sha256: &verified.public_key_sha256,
        not_before: verified.not_before,
    };
    let party = RelyingParty {
        rp_id: "localhost".into(),
        origins: vec![format!("https://{}", world.server.public_addr())],
    };
    receipt::verify(receipt, &expected, &key, &party).unwrap();
}

#[tokio::test]
async fn a_challenge_can_be_asked_for_together_with_whether_one_is_needed() {
    let world = world().await;
    let (mut olga, mut users) = logged_in(&world, true).await;
    let key = Key::new();
    let challenge = ask_for(&mut users, "dev-pg", &key, true).await.unwrap();
    assert_eq!(challenge, proto::MfaChallenge { not_required: true, ..Default::default() });
    let issued = users.issue_session_certificate(request("dev-pg", &key)).await.unwrap().into_inner();
    assert_eq!(verify(&world, &issued.certificate).await.identity.mfa, MfaEvidence::None);

    let challenge = ask_for(&mut users, "prod-pg", &key, true).await.unwrap();
    assert!(!challenge.not_required && !challenge.challenge_id.is_empty());
    let refused = users.issue_session_certificate(request("prod-pg", &key)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "the touch is not optional");
    let mfa = Some(olga.answer(&challenge, &world));
    let challenge_id = challenge.challenge_id;
    let issue = proto::IssueSessionCertificateRequest { challenge_id, mfa, ..request("prod-pg", &key) };
    users.issue_session_certificate(issue).await.unwrap();

    // What may not be opened is hidden, as from whoever asks for one thing at a time.
    for target in ["other-pg", "nothing"] {
        let status = ask_for(&mut users, target, &key, true).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{target}");
    }
}

/// As a sidecar hears of it.
async fn device_key(world: &World, id: &str) -> DeviceKey {
    let sidecar = world.sidecar(&["watcher"]).await;
    let mut stream = crate::watch::snapshot(world, &sidecar).await.0;
    let item = stream.drain(..).find_map(|event| match event {
        proto::watch_event::Event::Put(proto::watch_event::Put {
            item: Some(proto::watch_event::put::Item::DeviceKey(key)),
        }) if key.id == id => Some(key),
        _ => None,
    });
    DeviceKey::from_cose(&item.unwrap().cose_public_key).unwrap()
}

#[tokio::test]
async fn no_touch_where_policy_asks_for_none_and_not_found_where_it_denies() {
    let world = world().await;
    let (_, mut users) = logged_in(&world, true).await;
    assert!(!is_required(&mut users, "dev-pg").await.unwrap());
    let (denied, unknown) =
        (refused(is_required(&mut users, "other-pg").await), refused(is_required(&mut users, "none").await));
    assert_eq!(denied, (Code::NotFound, r#"target "other-pg" not found"#.to_owned()));
    assert_eq!(unknown.0, denied.0);
    let key = Key::new();
    assert_eq!(refused(users.issue_session_certificate(request("other-pg", &key)).await), denied);
    assert_eq!(refused(ask(&mut users, "other-pg", &key).await), denied);
    let issued = users.issue_session_certificate(request("dev-pg", &key)).await.unwrap().into_inner();
    assert_eq!(verify(&world, &issued.certificate).await.identity.mfa, MfaEvidence::None);
    assert!(life(&world, issued.not_after) <= Duration::from_secs(61));
}

#[tokio::test]
async fn the_clock_of_a_sidecar_may_be_half_a_minute_behind_or_nearly_one_ahead() {
    let world = world().await;
    let (_, mut users) = logged_in(&world, true).await;
    let issued = users.issue_session_certificate(request("dev-pg", &Key::new())).await.unwrap().into_inner();
    let (now, second) = (world.time.now(), Duration::from_secs(1));
    let by = async |clock| verify_at(&world, &issued.certificate, clock).await;
    assert!(by(now - second * 30).await.is_ok());
    assert!(matches!(by(now - second * 31).await, Err(CertificateError::NotYetValid { .. })));
    assert!(by(now + second * 59).await.is_ok());
    assert!(matches!(by(now + second * 61).await, Err(CertificateError::Expired { .. })));
}

#[tokio::test]
async fn without_a_touch_there_is_no_certificate_where_policy_asks_for_one() {
    let world = world().await;
    let (_, mut users) = logged_in(&world, true).await;
    let (code, text) = refused(users.issue_session_certificate(request("prod-pg", &Key::new())).await);
    assert_eq!((code, text.as_str()), (Code::PermissionDenied, "access to resource requires MFA"));
    let disk = proto::IssueSessionCertificateRequest {
        requester: SessionRequester::Disk as i32,
        ..request("prod-pg", &Key::new())
    };
    assert_eq!(refused(users.issue_session_certificate(disk).await).0, Code::PermissionDenied);
}

#[tokio::test]
async fn a_code_gives_a_claim_and_a_local_proxy_a_longer_life() {
    let world = world().await;
    let (mut jerry, mut users) = logged_in(&world, false).await;
    let key = Key::new();
    let challenge = ask(&mut users, "prod-pg", &key).await.unwrap();
    // The interval begins with the question, not with the certificate.
    world.clock.advance(Duration::from_secs(100));
    let issue = proto::IssueSessionCertificateRequest {
        mfa: Some(jerry.answer(&challenge, &world)),
        challenge_id: challenge.challenge_id,
        requester: SessionRequester::LocalProxy as i32,
        ..request("prod-pg", &key)
    };
    let issued = users.issue_session_certificate(issue).await.unwrap().into_inner();
    let two_hours = Duration::from_secs(2 * 3600 - 100);
    let life = life(&world, issued.not_after);
    assert!(
        life > two_hours - Duration::from_secs(5) && life <= two_hours + Duration::from_secs(1),
        "{life:?}"
    );
    let mfa = verify(&world, &issued.certificate).await.identity.mfa;
    assert!(matches!(mfa, MfaEvidence::Claimed { .. }));
}

#[tokio::test]
async fn on_disk_and_in_memory_no_session_outlives_the_login() {
    let world = world().await;
    let (person, mut users) = logged_in(&world, true).await;
    world.clock.advance(Duration::from_secs(11 * 3600));
    world.guard("dev-pg", &[("env", "dev")]).await;
    let login = verify(&world, &person.certificate).await.identity.not_after;
    for requester in [SessionRequester::Disk, SessionRequester::LocalProxy] {
        let issue = proto::IssueSessionCertificateRequest {
            requester: requester as i32,
            ..request("dev-pg", &Key::new())
        };
        let issued = users.issue_session_certificate(issue).await.unwrap().into_inner();
        assert_eq!(auth::clock::from_unix_millis(issued.not_after).unwrap(), login);
    }
    world.clock.set(login + Duration::from_secs(1));
    let (code, text) = refused(is_required(&mut users, "dev-pg").await);
    assert_eq!(code, Code::Unauthenticated);
    assert!(text.contains("expired"), "{text}");
}

#[tokio::test]
async fn a_challenge_is_spent_whatever_comes_of_it() {
    let world = world().await;
    let (mut olga, mut users) = logged_in(&world, true).await;
    let key = Key::new();
    let challenge = ask(&mut users, "prod-pg", &key).await.unwrap();
    let mfa = Some(olga.answer(&challenge, &world));
    let bad = proto::IssueSessionCertificateRequest {
        challenge_id: challenge.challenge_id.clone(),
        mfa: mfa.clone(),
        route: None,
        ..request("prod-pg", &key)
    };
    assert_eq!(refused(users.issue_session_certificate(bad).await).0, Code::InvalidArgument);
    let good = proto::IssueSessionCertificateRequest {
        challenge_id: challenge.challenge_id,
        mfa,
        ..request("prod-pg", &key)
    };
    assert_eq!(refused(users.issue_session_certificate(good).await).0, Code::FailedPrecondition);
}

#[tokio::test]
async fn a_touch_for_one_session_is_worth_nothing_for_another() {
    let world = world().await;
    let (mut olga, mut users) = logged_in(&world, true).await;
    let key = Key::new();

    // Another key.
    let challenge = ask(&mut users, "prod-pg", &key).await.unwrap();
    let mfa = Some(olga.answer(&challenge, &world));
    let challenge_id = challenge.challenge_id;
    let other =
        proto::IssueSessionCertificateRequest { challenge_id, mfa, ..request("prod-pg", &Key::new()) };
    assert_eq!(refused(users.issue_session_certificate(other).await).0, Code::FailedPrecondition);

    // Another target.
    let challenge = ask(&mut users, "dev-pg", &key).await.unwrap();
    let mfa = Some(olga.answer(&challenge, &world));
    let challenge_id = challenge.challenge_id;
    let other = proto::IssueSessionCertificateRequest { challenge_id, mfa, ..request("prod-pg", &key) };
    assert_eq!(refused(users.issue_session_certificate(other).await).0, Code::FailedPrecondition);

    // The assertion of one intent for the challenge of another.
    let one = ask(&mut users, "prod-pg", &key).await.unwrap();
    let two = ask(&mut users, "prod-pg", &key).await.unwrap();
    let mfa = Some(olga.answer(&one, &world));
    let other = proto::IssueSessionCertificateRequest {
        challenge_id: two.challenge_id,
        mfa,
        ..request("prod-pg", &key)
    };
    assert_eq!(refused(users.issue_session_certificate(other).await).1, CREDENTIALS);

    // A login's challenge.
    let login = world.begin_login("olga", PASSWORD).await.unwrap();
    let mfa = Some(olga.answer(&login, &world));
    let other = proto::IssueSessionCertificateRequest {
        challenge_id: login.challenge_id,
        mfa,
        ..request("prod-pg", &key)
    };
    assert_eq!(refused(users.issue_session_certificate(other).await).0, Code::FailedPrecondition);
}

#[tokio::test]
async fn a_challenge_of_another_user_is_none() {
    let world = world().await;
    let (mut olga, mut users) = logged_in(&world, true).await;
    let (_, mut others) = logged_in(&world, false).await;
    let key = Key::new();
    let challenge = ask(&mut users, "prod-pg", &key).await.unwrap();
    let stolen = proto::IssueSessionCertificateRequest {
        mfa: Some(olga.answer(&challenge, &world)),
        challenge_id: challenge.challenge_id,
        ..request("prod-pg", &key)
    };
    assert_eq!(refused(others.issue_session_certificate(stolen.clone()).await).0, Code::FailedPrecondition);
    // Nor has it been spent by the attempt.
    users.issue_session_certificate(stolen).await.unwrap();
}

#[tokio::test]
async fn a_session_certificate_gets_no_further_certificates() {
    let world = world().await;
    let (_, mut users) = logged_in(&world, true).await;
    let key = Key::new();
    let issued = users.issue_session_certificate(request("dev-pg", &key)).await.unwrap().into_inner();
    let mut session = world.users(key.with(issued.certificate)).await;
    let (code, text) = refused(session.issue_session_certificate(request("dev-pg", &key)).await);
    assert_eq!(code, Code::PermissionDenied);
    assert!(text.contains("session certificate"), "{text}");
}

#[tokio::test]
async fn a_session_certificate_keeps_saying_where_the_login_came_from() {
    let world = world().await;
    let (olga, _) = logged_in(&world, true).await;
    let elsewhere = world.channel_from("127.0.0.2".parse().unwrap(), olga.identity()).await;
    let issue = request("dev-pg", &Key::new());
    let issued = Users::new(elsewhere).issue_session_certificate(issue).await.unwrap().into_inner();
    let identity = verify(&world, &issued.certificate).await.identity;
    assert_eq!(identity.login_ip, Some("127.0.0.1".parse().unwrap()));
}

#[tokio::test]
async fn a_login_that_is_pinned_to_its_address_is_worth_nothing_elsewhere() {
    let world = world().await;
    let (olga, mut users) = logged_in(&world, true).await;
    world.put(&ROLES.replace("require_session_mfa: true", "pin_source_ip: true")).await;
    assert!(!is_required(&mut users, "dev-pg").await.unwrap());
    let elsewhere = world.channel_from("127.0.0.2".parse().unwrap(), olga.identity()).await;
    let (code, text) = refused(is_required(&mut Users::new(elsewhere), "dev-pg").await);
    assert_eq!(code, Code::PermissionDenied);
    assert!(text.contains("another address"), "{text}");
}

#[tokio::test]
async fn roles_taken_away_are_gone_at_once_and_roles_given_need_a_new_login() {
    let world = world().await;
    let (_, mut users) = logged_in(&world, true).await;
    let user = |roles: &str| {
        format!(
            "kind: user\nversion: v2\nmetadata: {{name: olga}}\nspec: {{roles: [{roles}], traits: {{db_users: [alice], db_names: [app]}}}}\n"
        )
    };
    world.put(&user("access-dev, access")).await;
    assert_eq!(refused(is_required(&mut users, "prod-pg").await).0, Code::NotFound);
    assert!(!is_required(&mut users, "dev-pg").await.unwrap());
    world.put(&user("access")).await;
    assert_eq!(refused(is_required(&mut users, "dev-pg").await).0, Code::PermissionDenied);
    let request = proto::DeleteResourceRequest { kind: "user".into(), name: "olga".into() };
    world.admin().await.delete_resource(request).await.unwrap();
    assert_eq!(refused(is_required(&mut users, "dev-pg").await).0, Code::PermissionDenied);
}

#[tokio::test]
async fn a_lock_on_the_device_stops_the_certificate() {
    let world = world().await;
    let (mut olga, mut users) = logged_in(&world, true).await;
    let devices = users.list_mfa_devices(proto::ListMfaDevicesRequest {}).await.unwrap().into_inner().devices;
    world
        .put(&format!(
            "kind: lock\nversion: v2\nmetadata: {{name: l}}\nspec: {{target: {{mfa_device: {}}}}}\n",
            devices[0].id
        ))
        .await;
    let key = Key::new();
    let challenge = ask(&mut users, "prod-pg", &key).await.unwrap();
    let issue = proto::IssueSessionCertificateRequest {
        mfa: Some(olga.answer(&challenge, &world)),
        challenge_id: challenge.challenge_id,
        ..request("prod-pg", &key)
    };
    let (code, text) = refused(users.issue_session_certificate(issue).await);
    assert_eq!(code, Code::PermissionDenied);
    assert!(text.starts_with("lock targeting MFADevice:"), "{text}");
}

#[tokio::test]
async fn a_target_is_forgotten_ten_minutes_after_its_announcement() {
    let world = world().await;
    let (_, mut users) = logged_in(&world, true).await;
    let listed = |answer: tonic::Response<proto::ListTargetsResponse>| {
        answer.into_inner().targets.into_iter().map(|target| target.name).collect::<Vec<_>>()
    };
    let all = users.list_targets(proto::ListTargetsRequest::default()).await.unwrap();
    assert_eq!(listed(all), ["dev-pg", "prod-pg"]);
    world.clock.advance(Duration::from_secs(10 * 60));
    assert!(listed(users.list_targets(proto::ListTargetsRequest::default()).await.unwrap()).is_empty());
    assert_eq!(refused(is_required(&mut users, "dev-pg").await).0, Code::NotFound);
}

#[tokio::test]
async fn strangers_who_lock_a_login_out_do_not_stop_those_who_are_logged_in() {
    let world = world().await;
    let (mut olga, mut users) = logged_in(&world, true).await;
    for _ in 0..5 {
        assert_eq!(refused(world.begin_login("olga", "wrong password").await).1, CREDENTIALS);
    }
    assert_eq!(refused(world.begin_login("olga", PASSWORD).await).0, Code::ResourceExhausted);
    let key = Key::new();
    let challenge = ask(&mut users, "prod-pg", &key).await.unwrap();
    let issue = proto::IssueSessionCertificateRequest {
        mfa: Some(olga.answer(&challenge, &world)),
        challenge_id: challenge.challenge_id,
        ..request("prod-pg", &key)
    };
    users.issue_session_certificate(issue).await.unwrap();
    // Nor does her touch open the login to more guesses.
    assert_eq!(refused(world.begin_login("olga", PASSWORD).await).0, Code::ResourceExhausted);
}

#[tokio::test]
async fn five_wrong_assertions_close_sessions_even_for_the_right_one() {
    let world = world().await;
    let (mut olga, mut users) = logged_in(&world, true).await;
    let key = Key::new();
    for _ in 0..5 {
        let challenge = ask(&mut users, "prod-pg", &key).await.unwrap();
        let elsewhere = "https://localhost:1".parse().unwrap();
        let issue = proto::IssueSessionCertificateRequest {
            mfa: Some(olga.touch(&challenge.webauthn_request_options_json, elsewhere)),
            challenge_id: challenge.challenge_id,
            ..request("prod-pg", &key)
        };
        assert_eq!(refused(users.issue_session_certificate(issue).await).1, CREDENTIALS);
    }
    let challenge = ask(&mut users, "prod-pg", &key).await.unwrap();
    let issue = proto::IssueSessionCertificateRequest {
        mfa: Some(olga.answer(&challenge, &world)),
        challenge_id: challenge.challenge_id,
        ..request("prod-pg", &key)
    };
    assert_eq!(refused(users.issue_session_certificate(issue).await).0, Code::ResourceExhausted);
}
