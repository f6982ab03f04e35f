//! Logging in with nothing but a passkey.

use auth::{
    proto::{self, account_intent},
    receipt::{self, Purpose},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use prost::Message;
use serde_json::Value;
use tonic::{Code, Status};

use crate::{
    key::{TestKey, UP, UV, Words, creation_options},
    world::*,
};

struct Olga {
    world: World,
    key: TestKey,
    words: Words,
}

async fn begin(world: &World, token: &str, passwordless: bool) -> Result<proto::DeviceRegistration, Status> {
    let kind = proto::DeviceKind::Webauthn as i32;
    let request = proto::BeginInvitationRequest { token: token.to_owned(), kind, passwordless };
    Ok(world.public().await.begin_invitation(request).await?.into_inner())
}

/// Somebody whose first device is a passkey, or no more than a security key.
async fn person(world: &World, name: &str, passwordless: bool) -> TestKey {
    let token = world.invite(name, &["access"]).await;
    let begin = begin(world, &token, passwordless).await.unwrap();
    let (key, device) = TestKey::register(&begin, &Words::new(&world.origin()), None);
    world.accept(&token, Some(device)).await.unwrap();
    key
}

impl Olga {
    async fn new() -> Self {
        let world = World::new().await;
        let key = person(&world, "olga", true).await;
        Self { words: Words::new(&world.origin()), world, key }
    }

    async fn challenge(&self) -> Result<proto::MfaChallenge, Status> {
        let request = proto::BeginPasswordlessLoginRequest {};
        Ok(self.world.public().await.begin_passwordless_login(request).await?.into_inner())
    }

    async fn log_in(&mut self, words: &Words) -> Result<proto::LoginCertificates, Status> {
        let challenge = self.challenge().await?;
        let mfa = self.key.answer(&challenge.webauthn_request_options_json, words);
        self.world.finish_login(&Key::new(), &challenge.challenge_id, Some(mfa)).await
    }
}

#[tokio::test]
async fn a_passkey_says_who_is_there_and_logs_in() {
    let mut olga = Olga::new().await;
    assert!(olga.world.public().await.ping(proto::PingRequest {}).await.unwrap().into_inner().passwordless);
    let words = olga.words.clone();
    let certificates = olga.log_in(&words).await.unwrap();
    assert_eq!((certificates.user.as_str(), certificates.roles), ("olga", vec!["access".to_owned()]));
    let event = olga.world.events("user.login").await.pop().unwrap();
    assert_eq!((&event["user"], &event["passwordless"]), (&"olga".into(), &true.into()));
    // And it is a second factor beside the password too.
    let challenge = olga.world.begin_login("olga", PASSWORD).await.unwrap();
    let mfa = olga.key.answer(&challenge.webauthn_request_options_json, &words);
    olga.world.finish_login(&Key::new(), &challenge.challenge_id, Some(mfa)).await.unwrap();
}

#[tokio::test]
async fn it_asks_nobody_by_name_and_for_a_pin_or_a_fingerprint() {
    let olga = Olga::new().await;
    let challenge = olga.challenge().await.unwrap();
    assert!(!challenge.totp && !challenge.none_required);
    let intent = proto::AccountIntent::decode(challenge.intent.as_slice()).unwrap();
    assert_eq!((intent.user.as_str(), intent.purpose()), ("", account_intent::Purpose::PasswordlessLogin));
    let options: Value = serde_json::from_str(&challenge.webauthn_request_options_json).unwrap();
    let asked = &options["publicKey"];
    let expected = receipt::challenge(Purpose::PasswordlessLogin, &challenge.intent);
    assert_eq!(asked["challenge"], BASE64_URL_SAFE_NO_PAD.encode(expected));
    assert_eq!(asked["userVerification"], "required");
    assert!(asked["allowCredentials"].as_array().is_none_or(Vec::is_empty));
}

#[tokio::test]
async fn a_passkey_is_asked_to_live_in_the_key_and_to_ask_for_a_pin() {
    let world = World::new().await;
    let token = world.invite("olga", &["access"]).await;
    let selection = async |passwordless| {
        let begin = begin(&world, &token, passwordless).await.unwrap();
        creation_options(&begin)["publicKey"]["authenticatorSelection"].clone()
    };
    let passkey = selection(true).await;
    assert_eq!(
        (&passkey["residentKey"], &passkey["userVerification"]),
        (&"required".into(), &"required".into())
    );
    assert_eq!(passkey["requireResidentKey"], true);
    let second_factor = selection(false).await;
    assert_eq!(second_factor["userVerification"], "discouraged");
    assert_ne!(second_factor["residentKey"], "required");
}

#[tokio::test]
async fn a_passkey_without_pin_or_fingerprint_is_neither_registered_nor_let_in() {
    let mut olga = Olga::new().await;
    let words = Words { flags: UP, ..olga.words.clone() };
    assert_eq!(refused(olga.log_in(&words).await).1, CREDENTIALS);
    // Nor as a second factor: it promised to ask always.
    let challenge = olga.world.begin_login("olga", PASSWORD).await.unwrap();
    let mfa = olga.key.answer(&challenge.webauthn_request_options_json, &words);
    let result = olga.world.finish_login(&Key::new(), &challenge.challenge_id, Some(mfa)).await;
    assert_eq!(refused(result).1, CREDENTIALS);

    let token = olga.world.invite("jerry", &["access"]).await;
    let begin = begin(&olga.world, &token, true).await.unwrap();
    let (_, device) = TestKey::register(&begin, &words, None);
    assert_eq!(refused(olga.world.accept(&token, Some(device)).await).1, CREDENTIALS);
}

#[tokio::test]
async fn an_assertion_of_another_place_logs_nobody_in() {
    type Change = fn(&mut Words);
    let changes: [(&str, Change); 6] = [
        ("rp id", |words| words.rp_id = "evil.example.com".into()),
        ("origin", |words| words.origin = "https://evil.example.com".into()),
        ("kind", |words| words.kind = "webauthn.create"),
        ("frame of another site", |words| words.cross_origin = true),
        ("user presence", |words| words.flags = UV),
        ("user handle", |words| words.user_handle = false),
    ];
    let mut olga = Olga::new().await;
    for (what, change) in changes {
        // A login that works, so that the failures before do not close the door.
        let mut words = olga.words.clone();
        olga.log_in(&words).await.unwrap();
        change(&mut words);
        assert_eq!(refused(olga.log_in(&words).await).1, CREDENTIALS, "{what}");
    }
}

#[tokio::test]
async fn a_key_that_was_registered_as_a_second_factor_does_not_log_in_by_itself() {
    let mut olga = Olga::new().await;
    olga.key = person(&olga.world, "jerry", false).await;
    let words = olga.words.clone();
    assert_eq!(refused(olga.log_in(&words).await).1, CREDENTIALS);
}

#[tokio::test]
async fn a_passkey_answers_one_challenge_once_and_in_time() {
    let mut olga = Olga::new().await;
    let words = olga.words.clone();
    let (one, other) = (olga.challenge().await.unwrap(), olga.challenge().await.unwrap());
    let mfa = olga.key.answer(&one.webauthn_request_options_json, &words);
    let finish = |id: &str| {
        let (world, mfa, id) = (&olga.world, Some(mfa.clone()), id.to_owned());
        async move { world.finish_login(&Key::new(), &id, mfa).await }
    };
    assert_eq!(refused(finish(&other.challenge_id).await).1, CREDENTIALS);
    finish(&one.challenge_id).await.unwrap();
    assert_eq!(refused(finish(&one.challenge_id).await).0, Code::FailedPrecondition);

    let late = olga.challenge().await.unwrap();
    let mfa = olga.key.answer(&late.webauthn_request_options_json, &words);
    olga.world.clock.advance(std::time::Duration::from_secs(301));
    let result = olga.world.finish_login(&Key::new(), &late.challenge_id, Some(mfa)).await;
    assert_eq!(refused(result).0, Code::FailedPrecondition);
}

#[tokio::test]
async fn the_answer_to_a_login_with_password_is_none_to_one_without() {
    let mut olga = Olga::new().await;
    let words = olga.words.clone();
    let with_password = olga.world.begin_login("olga", PASSWORD).await.unwrap();
    let mfa = olga.key.answer(&with_password.webauthn_request_options_json, &words);
    let without = olga.challenge().await.unwrap();
    let result = olga.world.finish_login(&Key::new(), &without.challenge_id, Some(mfa)).await;
    assert_eq!(refused(result).1, CREDENTIALS);
    // Nor is a code.
    let without = olga.challenge().await.unwrap();
    let result =
        olga.world.finish_login(&Key::new(), &without.challenge_id, Some(code_response("000000"))).await;
    assert_eq!(refused(result).1, CREDENTIALS);
}

#[tokio::test]
async fn the_passkey_of_somebody_who_is_gone_or_locked_opens_nothing() {
    let mut olga = Olga::new().await;
    let words = olga.words.clone();
    olga.world.put("kind: lock\nversion: v2\nmetadata: {name: l}\nspec: {target: {user: olga}}\n").await;
    assert_eq!(refused(olga.log_in(&words).await).0, Code::PermissionDenied);
    let mut admin = olga.world.admin().await;
    for (kind, name) in [("lock", "l"), ("user", "olga")] {
        let request = proto::DeleteResourceRequest { kind: kind.into(), name: name.into() };
        admin.delete_resource(request).await.unwrap();
    }
    assert_eq!(refused(olga.log_in(&words).await).1, CREDENTIALS);
}

#[tokio::test]
async fn passwordless_is_closed_where_the_cluster_says_so() {
    let mut olga = Olga::new().await;
    let words = olga.words.clone();
    let token = olga.world.invite("jerry", &["access"]).await;
    for spec in ["allow_passwordless: false", "second_factor: otp", "second_factor: 'off'"] {
        olga.world.cap("").await;
        // Begun while it was open, answered when it was closed.
        let challenge = olga.challenge().await.unwrap();
        let mfa = olga.key.answer(&challenge.webauthn_request_options_json, &words);
        olga.world.cap(spec).await;
        let finished = olga.world.finish_login(&Key::new(), &challenge.challenge_id, Some(mfa)).await;
        assert_eq!(refused(finished).0, Code::FailedPrecondition, "{spec}");
        assert_eq!(refused(olga.challenge().await).0, Code::FailedPrecondition, "{spec}");
        assert!(begin(&olga.world, &token, true).await.is_err(), "{spec}");
        let ping = olga.world.public().await.ping(proto::PingRequest {}).await.unwrap().into_inner();
        assert!(!ping.passwordless, "{spec}");
    }
}

#[tokio::test]
async fn only_a_security_key_can_be_a_passkey() {
    let world = World::new().await;
    let token = world.invite("olga", &["access"]).await;
    let kind = proto::DeviceKind::Totp as i32;
    let request = proto::BeginInvitationRequest { token, kind, passwordless: true };
    assert_eq!(refused(world.public().await.begin_invitation(request).await).0, Code::InvalidArgument);
}

#[tokio::test]
async fn a_passkey_is_added_later_and_listed_as_one() {
    let world = World::new().await;
    let mut jerry = world.person_with_totp("jerry", &["access"]).await;
    world.login(&mut jerry).await;
    world.clock.advance(std::time::Duration::from_secs(60));
    let mut users = world.users(jerry.identity()).await;
    let scope = Some(proto::create_challenge_request::Scope::ManageDevices(Default::default()));
    let challenge =
        users.create_challenge(proto::CreateChallengeRequest { scope }).await.unwrap().into_inner();
    let request = proto::BeginAddMfaDeviceRequest {
        kind: proto::DeviceKind::Webauthn as i32,
        mfa: Some(jerry.answer(&challenge, &world)),
        challenge_id: challenge.challenge_id,
        passwordless: true,
        ..Default::default()
    };
    let begin = users.begin_add_mfa_device(request).await.unwrap().into_inner();
    let words = Words::new(&world.origin());
    let (key, device) = TestKey::register(&begin, &words, None);
    let added = users
        .finish_add_mfa_device(proto::FinishAddMfaDeviceRequest { device: Some(device) })
        .await
        .unwrap()
        .into_inner();
    assert!(added.passwordless);
    let listed = users.list_mfa_devices(proto::ListMfaDevicesRequest {}).await.unwrap().into_inner().devices;
    assert_eq!(listed.iter().map(|device| device.passwordless).collect::<Vec<_>>(), [false, true]);
    let mut jerry = Olga { world, key, words: words.clone() };
    assert_eq!(jerry.log_in(&words).await.unwrap().user, "jerry");
}
