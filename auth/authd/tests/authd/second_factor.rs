//! `second_factor` in every combination with what a user has: off | optional | otp | webauthn | on.

use std::time::Duration;

use auth::proto::{self, DeviceKind, create_challenge_request};
use tonic::{Code, Status};

use crate::world::*;

/// Protects by MFA whatever is there.
const ROLE: &str = "
kind: role
version: v7
metadata: {name: guarded}
spec:
  options: {require_session_mfa: true}
  allow: {db_labels: {'*': '*'}, db_users: ['*'], db_names: ['*']}
";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Has {
    Nothing,
    Totp,
    Key,
}

/// What a challenge asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks {
    Nothing,
    Code,
    Touch,
    /// There is no challenge: no device counts, and none can be done without.
    Refused,
}

fn asks(challenge: Result<proto::MfaChallenge, Status>) -> Asks {
    let Ok(challenge) = challenge else { return Asks::Refused };
    match (challenge.none_required, challenge.totp, !challenge.webauthn_request_options_json.is_empty()) {
        (true, false, false) => Asks::Nothing,
        (false, true, false) => Asks::Code,
        (false, false, true) => Asks::Touch,
        other => panic!("{other:?}"),
    }
}

/// A person who was logged in under `on` (or, without a device, `optional`), then the preference changes.
async fn person(world: &World, has: Has) -> Person {
    world.put(ROLE).await;
    let mut olga = match has {
        Has::Totp => world.person_with_totp("olga", &["guarded"]).await,
        Has::Key => world.person_with_key("olga", &["guarded"]).await,
        Has::Nothing => {
            world.cap("second_factor: optional").await;
            let token = world.invite("olga", &["guarded"]).await;
            world.accept(&token, None).await.unwrap();
            Person::new("olga")
        }
    };
    let challenge = world.begin_login("olga", PASSWORD).await.unwrap();
    let mfa = (has != Has::Nothing).then(|| olga.answer(&challenge, world));
    olga.certificate =
        world.finish_login(&olga.key, &challenge.challenge_id, mfa).await.unwrap().tls_certificate;
    world.clock.advance(Duration::from_secs(60));
    olga
}

async fn ask(
    world: &World,
    olga: &Person,
    scope: create_challenge_request::Scope,
) -> Result<proto::MfaChallenge, Status> {
    let request = proto::CreateChallengeRequest { scope: Some(scope) };
    Ok(world.users(olga.identity()).await.create_challenge(request).await?.into_inner())
}

fn session() -> create_challenge_request::Scope {
    let (route, public_key) = (Some(route("pg")), Key::new().spki);
    create_challenge_request::Scope::Session(create_challenge_request::Session {
        route,
        public_key,
        ..Default::default()
    })
}

fn devices() -> create_challenge_request::Scope {
    create_challenge_request::Scope::ManageDevices(Default::default())
}

fn command() -> create_challenge_request::Scope {
    let request_sha256 = vec![vec![7; 32]];
    let command = "tctl rm role/x".to_owned();
    create_challenge_request::Scope::AdminAction(create_challenge_request::AdminAction {
        command,
        request_sha256,
    })
}

#[tokio::test]
async fn every_setting_asks_every_user_for_what_it_says() {
    use Asks::{Code, Nothing, Refused, Touch};
    // Login, session, devices, administration.
    let table = [
        ("off", Has::Nothing, [Nothing, Refused, Nothing, Nothing]),
        ("off", Has::Totp, [Nothing, Refused, Code, Nothing]),
        ("off", Has::Key, [Nothing, Refused, Touch, Nothing]),
        ("optional", Has::Nothing, [Nothing, Refused, Nothing, Nothing]),
        ("optional", Has::Totp, [Code; 4]),
        ("optional", Has::Key, [Touch; 4]),
        ("otp", Has::Nothing, [Refused; 4]),
        ("otp", Has::Totp, [Code; 4]),
        ("otp", Has::Key, [Refused; 4]),
        ("webauthn", Has::Nothing, [Refused; 4]),
        ("webauthn", Has::Totp, [Refused; 4]),
        ("webauthn", Has::Key, [Touch; 4]),
        ("on", Has::Nothing, [Refused; 4]),
        ("on", Has::Totp, [Code; 4]),
        ("on", Has::Key, [Touch; 4]),
    ];
    for has in [Has::Nothing, Has::Totp, Has::Key] {
        let world = World::new().await;
        world.guard("pg", &[]).await;
        let olga = person(&world, has).await;
        for (factor, _, expected) in table.iter().filter(|(_, who, _)| *who == has) {
            world.cap(&format!("second_factor: '{factor}'")).await;
            let asked = [
                asks(world.begin_login("olga", PASSWORD).await),
                asks(ask(&world, &olga, session()).await),
                asks(ask(&world, &olga, devices()).await),
                asks(ask(&world, &olga, command()).await),
            ];
            assert_eq!(asked, *expected, "{factor}, {has:?}");
        }
    }
}

#[tokio::test]
async fn every_setting_takes_the_devices_that_it_says() {
    for (factor, totp, key, may_do_without) in [
        ("off", false, false, true),
        ("optional", true, true, true),
        ("otp", true, false, false),
        ("webauthn", false, true, false),
        ("on", true, true, false),
    ] {
        let world = World::new().await;
        world.cap(&format!("second_factor: '{factor}'")).await;
        let token = world.invite("olga", &["access"]).await;
        let request = proto::GetInvitationRequest { token: token.clone() };
        let told = world.public().await.get_invitation(request).await.unwrap().into_inner();
        assert_eq!(
            (told.accepts_totp, told.accepts_webauthn, told.device_required),
            (totp, key, !may_do_without),
            "{factor}"
        );
        assert_eq!(world.begin_invitation(&token, DeviceKind::Totp).await.is_ok(), totp, "{factor}");
        assert_eq!(world.begin_invitation(&token, DeviceKind::Webauthn).await.is_ok(), key, "{factor}");
        assert_eq!(world.accept(&token, None).await.is_ok(), may_do_without, "{factor}");
    }
}

#[tokio::test]
async fn an_answer_of_a_kind_that_is_accepted_no_longer_proves_nothing() {
    let world = World::new().await;
    let mut jerry = world.person_with_totp("jerry", &["access"]).await;
    let challenge = world.begin_login("jerry", PASSWORD).await.unwrap();
    let mfa = jerry.answer(&challenge, &world);
    world.cap("second_factor: webauthn").await;
    let result = world.finish_login(&jerry.key, &challenge.challenge_id, Some(mfa)).await;
    assert_eq!(refused(result).1, CREDENTIALS);
}

#[tokio::test]
async fn a_device_whose_kind_is_accepted_no_longer_is_not_registered() {
    let world = World::new().await;
    let token = world.invite("olga", &["access"]).await;
    let begin = world.begin_invitation(&token, DeviceKind::Totp).await.unwrap();
    let device = Person::new("olga").new_totp(&begin, world.time.now());
    world.cap("second_factor: webauthn").await;
    assert_eq!(refused(world.accept(&token, Some(device)).await).0, Code::InvalidArgument);
}

#[tokio::test]
async fn a_challenge_that_asks_for_nothing_is_over_when_there_is_something_to_ask_for() {
    let world = World::new().await;
    let olga = person(&world, Has::Nothing).await;
    let challenge = world.begin_login("olga", PASSWORD).await.unwrap();
    assert!(challenge.none_required);
    world.cap("second_factor: 'on'").await;
    let result = world.finish_login(&olga.key, &challenge.challenge_id, None).await;
    assert_eq!(refused(result).1, CREDENTIALS);
}

/// As the holder of the login certificate, who knows the password or does not.
async fn add_first_device(world: &World, olga: &Person, password: &str) -> Result<(), Status> {
    let challenge = ask(world, olga, devices()).await.unwrap();
    assert!(challenge.none_required);
    let request = proto::BeginAddMfaDeviceRequest {
        kind: DeviceKind::Totp as i32,
        challenge_id: challenge.challenge_id,
        password: password.to_owned(),
        ..Default::default()
    };
    world.users(olga.identity()).await.begin_add_mfa_device(request).await.map(drop)
}

#[tokio::test]
async fn a_stolen_login_certificate_alone_adds_no_first_device() {
    let world = World::new().await;
    let olga = person(&world, Has::Nothing).await;
    let (code, text) = refused(add_first_device(&world, &olga, "").await);
    assert_eq!((code, text.as_str()), (Code::FailedPrecondition, "the first MFA device needs your password"));
    assert_eq!(refused(add_first_device(&world, &olga, "wrong password").await).1, CREDENTIALS);
    let event = world.events("user.login").await.pop().unwrap();
    assert_eq!((&event["code"], &event["user"]), (&"T1000W".into(), &"olga".into()));
    add_first_device(&world, &olga, PASSWORD).await.unwrap();
}

#[tokio::test]
async fn guesses_of_the_password_for_a_first_device_are_bounded() {
    let world = World::new().await;
    let olga = person(&world, Has::Nothing).await;
    for _ in 0..5 {
        assert_eq!(refused(add_first_device(&world, &olga, "wrong password").await).1, CREDENTIALS);
    }
    let (code, _) = refused(add_first_device(&world, &olga, PASSWORD).await);
    assert_eq!(code, Code::ResourceExhausted);
}

#[tokio::test]
async fn who_has_a_device_adds_another_by_it_and_not_by_the_password() {
    let world = World::new().await;
    let olga = person(&world, Has::Totp).await;
    let challenge = ask(&world, &olga, devices()).await.unwrap();
    let request = proto::BeginAddMfaDeviceRequest {
        kind: DeviceKind::Totp as i32,
        challenge_id: challenge.challenge_id,
        password: PASSWORD.to_owned(),
        ..Default::default()
    };
    let result = world.users(olga.identity()).await.begin_add_mfa_device(request).await;
    assert_eq!(refused(result).1, CREDENTIALS);
}
