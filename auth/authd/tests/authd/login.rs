use std::time::Duration;

use auth::{certificate::openssh, proto};
use tonic::Code;

use crate::world::*;

#[tokio::test]
async fn an_invitation_a_login_and_two_certificates() {
    let world = World::new().await;
    let mut jerry = world.person_with_totp("jerry", &["access"]).await;
    let certificates = world.login(&mut jerry).await;
    assert_eq!(certificates.roles, ["access"]);
    let twelve_hours = auth::clock::unix_millis(world.time.now() + Duration::from_secs(12 * 3600));
    assert!((certificates.not_after - twelve_hours).abs() < 1000);
    let ssh = ssh_key::Certificate::from_openssh(&certificates.ssh_certificate).unwrap();
    let request = proto::ListAuthoritiesRequest { r#type: "user".into() };
    let list = world.admin().await.list_authorities(request).await.unwrap().into_inner().authorities;
    let authority = ssh_key::PublicKey::from_openssh(&list[0].ssh_public_keys[0]).unwrap();
    let client = "127.0.0.1".parse().unwrap();
    let presented = openssh::Presented { certificate: &ssh, login: "root", client };
    let cluster = "main".to_owned().try_into().unwrap();
    let verified = openssh::verify_user(&presented, &[authority], &cluster, world.time.now()).unwrap();
    assert_eq!(
        (verified.identity.user.as_str(), &verified.identity.logins),
        ("jerry", &vec!["root".to_owned()])
    );

    let mut users = world.users(jerry.identity()).await;
    let devices = users.list_mfa_devices(proto::ListMfaDevicesRequest {}).await.unwrap().into_inner().devices;
    assert_eq!((devices.len(), devices[0].name.as_str()), (1, "otp-device"));
    assert!(devices[0].last_used > 0);
    let login = world.events("user.login").await;
    assert_eq!(login[0]["code"], "T1000I");
    assert_eq!(login[0]["mfa_device"]["mfa_device_type"], "TOTP");
    assert_eq!(world.events("cert.create").await[0]["identity"]["user"], "jerry");
}

#[tokio::test]
async fn a_login_with_a_security_key() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    world.login(&mut olga).await;
    world.login(&mut olga).await;
    assert_eq!(world.events("user.login").await[1]["mfa_device"]["mfa_device_type"], "WebAuthn");
}

#[tokio::test]
async fn a_login_certificate_says_what_the_auth_crate_reads_and_claims_no_mfa() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    world.login(&mut olga).await;
    let request = proto::ListAuthoritiesRequest { r#type: "user".into() };
    let authorities = world.admin().await.list_authorities(request).await.unwrap().into_inner().authorities;
    let authorities = [authorities[0].certificates[0].clone().into()];
    let chain = [olga.certificate.clone().into()];
    let cluster = "main".to_owned().try_into().unwrap();
    let verified =
        auth::certificate::x509::verify_user(&chain, &authorities, &cluster, world.time.now()).unwrap();
    assert_eq!(verified.identity.user.as_str(), "olga");
    assert_eq!(verified.identity.mfa, auth::identity::MfaEvidence::None);
    assert_eq!(verified.identity.route, None);
    assert_eq!(verified.identity.login_ip, Some("127.0.0.1".parse().unwrap()));
    assert_eq!(verified.identity.traits["db_users"], ["alice"]);
}

#[tokio::test]
async fn an_unknown_user_and_a_wrong_password_are_told_the_same() {
    let world = World::new().await;
    world.person_with_totp("jerry", &["access"]).await;
    let wrong = refused(world.begin_login("jerry", "wrong password").await);
    let unknown = refused(world.begin_login("nobody", PASSWORD).await);
    let impossible = refused(world.begin_login("a,b", PASSWORD).await);
    assert_eq!(wrong, (Code::Unauthenticated, CREDENTIALS.to_owned()));
    assert_eq!((&unknown, &impossible), (&wrong, &wrong));
    let events = world.events("user.login").await;
    assert_eq!((events[0]["code"].as_str(), events[0]["success"].as_bool()), (Some("T1000W"), Some(false)));
}

#[tokio::test]
async fn five_failures_close_the_account_for_twenty_minutes_whether_it_exists_or_not() {
    let world = World::new().await;
    let mut jerry = world.person_with_totp("jerry", &["access"]).await;
    for user in ["jerry", "nobody"] {
        for _ in 0..5 {
            assert_eq!(refused(world.begin_login(user, "wrong password").await).1, CREDENTIALS);
        }
        // Even the right password.
        let (code, text) = refused(world.begin_login(user, PASSWORD).await);
        assert_eq!(code, Code::ResourceExhausted);
        assert!(text.starts_with("too many incorrect attempts, please try again later"), "{text}");
    }
    assert!(world.events("user.login").await.iter().any(|event| event["code"] == "T1001W"));
    world.clock.advance(Duration::from_secs(20 * 60 - 1));
    assert_eq!(refused(world.begin_login("jerry", PASSWORD).await).0, Code::ResourceExhausted);
    world.clock.advance(Duration::from_secs(1));
    world.login(&mut jerry).await;
}

#[tokio::test]
async fn wrong_codes_count_and_the_right_password_between_them_forgives_nothing() {
    let world = World::new().await;
    let jerry = world.person_with_totp("jerry", &["access"]).await;
    for _ in 0..5 {
        let challenge = world.begin_login("jerry", PASSWORD).await.unwrap();
        let wrong = Some(code_response("000000"));
        assert_eq!(
            refused(world.finish_login(&jerry.key, &challenge.challenge_id, wrong).await).1,
            CREDENTIALS
        );
    }
    assert_eq!(refused(world.begin_login("jerry", PASSWORD).await).0, Code::ResourceExhausted);
}

#[tokio::test]
async fn guesses_at_the_same_time_do_not_outnumber_the_limit() {
    let world = World::new().await;
    world.person_with_totp("jerry", &["access"]).await;
    let guesses = (0..12).map(|_| world.begin_login("jerry", "wrong password"));
    let answers = futures_util::future::join_all(guesses).await;
    let judged = answers.into_iter().filter(|a| a.as_ref().unwrap_err().code() == Code::Unauthenticated);
    assert_eq!(judged.count(), 5);
}

#[tokio::test]
async fn a_used_code_is_refused() {
    let world = World::new().await;
    let mut jerry = world.person_with_totp("jerry", &["access"]).await;
    world.login(&mut jerry).await;
    let challenge = world.begin_login("jerry", PASSWORD).await.unwrap();
    let again = Some(code_response(&jerry.code(world.time.now())));
    assert_eq!(refused(world.finish_login(&jerry.key, &challenge.challenge_id, again).await).1, CREDENTIALS);
    // So is the one before it, which the skew would allow.
    let challenge = world.begin_login("jerry", PASSWORD).await.unwrap();
    let before = Some(code_response(&jerry.code(world.time.now() - Duration::from_secs(30))));
    assert_eq!(refused(world.finish_login(&jerry.key, &challenge.challenge_id, before).await).1, CREDENTIALS);
}

#[tokio::test]
async fn of_two_uses_of_one_code_at_once_one_succeeds() {
    let world = World::new().await;
    let jerry = world.person_with_totp("jerry", &["access"]).await;
    let one = world.begin_login("jerry", PASSWORD).await.unwrap();
    let two = world.begin_login("jerry", PASSWORD).await.unwrap();
    let code = code_response(&jerry.code(world.time.now()));
    let (one, two) = tokio::join!(
        world.finish_login(&jerry.key, &one.challenge_id, Some(code.clone())),
        world.finish_login(&jerry.key, &two.challenge_id, Some(code.clone())),
    );
    assert!(one.is_ok() != two.is_ok());
}

#[tokio::test]
async fn a_challenge_is_answered_once_by_its_owner_within_five_minutes() {
    let world = World::new().await;
    let jerry = world.person_with_totp("jerry", &["access"]).await;
    let challenge = world.begin_login("jerry", PASSWORD).await.unwrap();
    let wrong = Some(code_response("000000"));
    refused(world.finish_login(&jerry.key, &challenge.challenge_id, wrong).await);
    let right = || Some(code_response(&jerry.code(world.time.now())));
    let (code, text) = refused(world.finish_login(&jerry.key, &challenge.challenge_id, right()).await);
    assert_eq!(
        (code, text.as_str()),
        (Code::FailedPrecondition, "challenge is invalid, expired or used; start again")
    );

    let challenge = world.begin_login("jerry", PASSWORD).await.unwrap();
    world.clock.advance(Duration::from_secs(5 * 60));
    assert_eq!(
        refused(world.finish_login(&jerry.key, &challenge.challenge_id, right()).await).0,
        Code::FailedPrecondition
    );

    // A challenge of jerry's under olga's name is no challenge of hers.
    let olga = world.person_with_totp("olga", &["access"]).await;
    let challenge = world.begin_login("jerry", PASSWORD).await.unwrap();
    let (_, secret) = challenge.challenge_id.split_once('.').unwrap();
    let forged = format!("{}.{secret}", hex::encode("olga"));
    let code = Some(code_response(&olga.code(world.time.now())));
    assert_eq!(refused(world.finish_login(&olga.key, &forged, code).await).0, Code::FailedPrecondition);
}

#[tokio::test]
async fn challenges_that_nobody_answers_are_bounded() {
    let world = World::new().await;
    world.person_with_totp("jerry", &["access"]).await;
    let mut last = Ok(());
    for _ in 0..65 {
        last = world.begin_login("jerry", PASSWORD).await.map(drop);
    }
    assert_eq!(refused(last).0, Code::ResourceExhausted);
    world.clock.advance(Duration::from_secs(5 * 60));
    world.begin_login("jerry", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn an_assertion_from_another_origin_is_refused() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    let challenge = world.begin_login("olga", PASSWORD).await.unwrap();
    let elsewhere = "https://localhost:1".parse().unwrap();
    let mfa = olga.touch(&challenge.webauthn_request_options_json, elsewhere);
    assert_eq!(
        refused(world.finish_login(&olga.key, &challenge.challenge_id, Some(mfa)).await).1,
        CREDENTIALS
    );
}

#[tokio::test]
async fn second_factor_off_and_optional_ask_nothing_of_those_without() {
    let world = World::new().await;
    for factor in ["'off'", "optional"] {
        world.cap(&format!("second_factor: {factor}")).await;
        let name = format!("jerry-{}", factor.trim_matches('\''));
        let token = world.invite(&name, &["access"]).await;
        world.accept(&token, None).await.unwrap();
        let challenge = world.begin_login(&name, PASSWORD).await.unwrap();
        assert!(challenge.none_required && !challenge.totp);
        world.finish_login(&Key::new(), &challenge.challenge_id, None).await.unwrap();
    }
    // Switched on afterwards, whoever has no device cannot log in.
    world.cap("second_factor: 'on'").await;
    let (code, text) = refused(world.begin_login("jerry-off", PASSWORD).await);
    assert_eq!(
        (code, text.as_str()),
        (Code::FailedPrecondition, r#"no MFA devices registered for "jerry-off""#)
    );
}

#[tokio::test]
async fn optional_asks_those_who_have_a_device() {
    let world = World::new().await;
    world.cap("second_factor: optional").await;
    let mut jerry = world.person_with_totp("jerry", &["access"]).await;
    let challenge = world.begin_login("jerry", PASSWORD).await.unwrap();
    assert!(!challenge.none_required);
    assert_eq!(refused(world.finish_login(&jerry.key, &challenge.challenge_id, None).await).1, CREDENTIALS);
    world.login(&mut jerry).await;
}

#[tokio::test]
async fn with_second_factor_webauthn_a_code_counts_nothing() {
    let world = World::new().await;
    world.person_with_totp("jerry", &["access"]).await;
    world.cap("second_factor: webauthn").await;
    assert_eq!(refused(world.begin_login("jerry", PASSWORD).await).0, Code::FailedPrecondition);
}

#[tokio::test]
async fn an_invitation_opens_one_account_once_for_one_hour() {
    let world = World::new().await;
    let token = world.invite("jerry", &["access"]).await;
    let mut jerry = Person::new("jerry");
    assert_eq!(refused(world.accept(&token, None).await).0, Code::InvalidArgument);
    let begin = world.begin_invitation(&token, proto::DeviceKind::Totp).await.unwrap();
    let device = jerry.new_totp(&begin, world.time.now());
    world.accept(&token, Some(device.clone())).await.unwrap();
    assert_eq!(refused(world.accept(&token, Some(device)).await).0, Code::NotFound);
    assert_eq!(refused(world.begin_invitation(&token, proto::DeviceKind::Totp).await).0, Code::NotFound);

    let token = world.invite("olga", &["access"]).await;
    world.clock.advance(Duration::from_secs(3600));
    assert_eq!(refused(world.begin_invitation(&token, proto::DeviceKind::Totp).await).0, Code::NotFound);
    assert_eq!(refused(world.begin_invitation("made up", proto::DeviceKind::Totp).await).0, Code::NotFound);
}

#[tokio::test]
async fn a_registration_of_one_invitation_is_worth_nothing_for_another() {
    let world = World::new().await;
    let (one, two) = (world.invite("jerry", &["access"]).await, world.invite("olga", &["access"]).await);
    let begin = world.begin_invitation(&one, proto::DeviceKind::Totp).await.unwrap();
    let device = Person::new("olga").new_totp(&begin, world.time.now());
    assert_eq!(refused(world.accept(&two, Some(device)).await).0, Code::NotFound);
}

#[tokio::test]
async fn a_reset_takes_password_and_devices_and_the_older_invitation() {
    let world = World::new().await;
    let mut jerry = world.person_with_totp("jerry", &["access"]).await;
    let reset = || async {
        let request = proto::ResetUserRequest { name: "jerry".into(), ttl_seconds: 0 };
        token_of(&world.admin().await.reset_user(request).await.unwrap().into_inner().url)
    };
    let (older, newer) = (reset().await, reset().await);
    assert_eq!(refused(world.begin_login("jerry", PASSWORD).await).1, CREDENTIALS);
    assert_eq!(refused(world.begin_invitation(&older, proto::DeviceKind::Totp).await).0, Code::NotFound);
    let begin = world.begin_invitation(&newer, proto::DeviceKind::Totp).await.unwrap();
    let device = jerry.new_totp(&begin, world.time.now());
    world.accept(&newer, Some(device)).await.unwrap();
    world.clock.advance(Duration::from_secs(60));
    world.login(&mut jerry).await;
}

#[tokio::test]
async fn a_reset_and_a_new_account_of_the_same_name_end_earlier_logins() {
    let world = World::new().await;
    let mut jerry = world.person_with_totp("jerry", &["access"]).await;
    world.login(&mut jerry).await;
    let mut users = world.users(jerry.identity()).await;
    users.list_mfa_devices(proto::ListMfaDevicesRequest {}).await.unwrap();
    world.clock.advance(Duration::from_secs(60));
    let request = proto::DeleteResourceRequest { kind: "user".into(), name: "jerry".into() };
    world.admin().await.delete_resource(request).await.unwrap();
    world.invite("jerry", &["access"]).await;
    let (code, text) = refused(users.list_mfa_devices(proto::ListMfaDevicesRequest {}).await);
    assert_eq!(code, Code::Unauthenticated);
    assert!(text.contains("log in again"), "{text}");
}

#[tokio::test]
async fn what_an_expired_user_leaves_behind_does_not_come_back_with_the_name() {
    let world = World::new().await;
    for name in ["jerry", "olga"] {
        let mut person = world.person_with_totp(name, &["access"]).await;
        world.login(&mut person).await;
        let expires = auth::clock::rfc3339(world.time.now() + Duration::from_secs(60));
        world.put(&user_resource(name, &format!(", expires: \"{expires}\""))).await;
        world.clock.advance(Duration::from_secs(61));
        let token = match name {
            "jerry" => Some(world.invite(name, &["access"]).await),
            _ => {
                world.put(&user_resource(name, "")).await;
                None
            }
        };
        assert_eq!(refused(world.begin_login(name, PASSWORD).await).1, CREDENTIALS);
        let mut users = world.users(person.identity()).await;
        let listed = users.list_mfa_devices(proto::ListMfaDevicesRequest {}).await;
        assert_eq!(refused(listed).0, Code::Unauthenticated);
        let Some(token) = token else { continue };
        // The old device would be in the way of one of the same name.
        let begin = world.begin_invitation(&token, proto::DeviceKind::Totp).await.unwrap();
        world.accept(&token, Some(person.new_totp(&begin, world.time.now()))).await.unwrap();
    }
}

fn user_resource(name: &str, expires: &str) -> String {
    format!("kind: user\nversion: v2\nmetadata: {{name: {name}{expires}}}\nspec: {{roles: [access]}}\n")
}

#[tokio::test]
async fn a_login_lives_no_longer_than_asked_and_allowed() {
    let world = World::new().await;
    world
        .put("kind: role\nversion: v7\nmetadata: {name: brief}\nspec: {options: {max_session_ttl: 1h}, allow: {logins: [root]}}\n")
        .await;
    let mut jerry = world.person_with_totp("jerry", &["brief"]).await;
    let certificates = world.login(&mut jerry).await;
    let hour = auth::clock::unix_millis(world.time.now() + Duration::from_secs(3600));
    assert!((certificates.not_after - hour).abs() < 1000);
}

#[tokio::test]
async fn a_locked_user_cannot_log_in_and_the_lock_is_named() {
    let world = World::new().await;
    world.person_with_totp("jerry", &["access"]).await;
    world
        .put("kind: lock\nversion: v2\nmetadata: {name: l1}\nspec: {target: {user: jerry}, message: Suspicious activity.}\n")
        .await;
    let (code, text) = refused(world.begin_login("jerry", PASSWORD).await);
    assert_eq!(code, Code::PermissionDenied);
    assert_eq!(text, r#"lock targeting User:"jerry" is in force: Suspicious activity."#);
    // Who does not know the password learns nothing of it.
    assert_eq!(refused(world.begin_login("jerry", "wrong password").await).1, CREDENTIALS);
}
