//! What security keys may say, and above all what they may not.

use std::time::Duration;

use auth::proto::{self, create_challenge_request};
use base64::{Engine, prelude::BASE64_STANDARD};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::{
    key::{MODEL, TestKey, UP, UV, Words},
    world::*,
};

/// Olga, whose key says what a test wants.
struct Olga {
    world: World,
    key: TestKey,
    words: Words,
}

impl Olga {
    async fn new() -> Self {
        let world = World::new().await;
        let words = Words::new(&world.origin());
        let token = world.invite("olga", &["access"]).await;
        let begin = world.begin_invitation(&token, proto::DeviceKind::Webauthn).await.unwrap();
        let (key, device) = TestKey::register(&begin, &Words { flags: UP, ..words.clone() }, None);
        world.accept(&token, Some(device)).await.unwrap();
        Self { words: Words { flags: UP, ..words }, world, key }
    }

    async fn challenge(&self) -> proto::MfaChallenge {
        self.world.begin_login("olga", PASSWORD).await.unwrap()
    }

    async fn log_in(&mut self, words: &Words) -> Result<proto::LoginCertificates, Status> {
        let challenge = self.challenge().await;
        let mfa = self.key.answer(&challenge.webauthn_request_options_json, words);
        self.world.finish_login(&Key::new(), &challenge.challenge_id, Some(mfa)).await
    }

    async fn counters_gone_back(&self) -> Vec<serde_json::Value> {
        self.world.events("mfa.counter_went_back").await
    }
}

#[tokio::test]
async fn a_touch_at_the_right_place_logs_in() {
    let mut olga = Olga::new().await;
    let words = olga.words.clone();
    olga.log_in(&words).await.unwrap();
    assert_eq!(olga.world.events("user.login").await.pop().unwrap()["mfa_device"]["mfa_device_name"], "key");
}

#[tokio::test]
async fn an_assertion_of_another_place_or_kind_is_refused() {
    type Change = fn(&mut Words);
    let changes: [(&str, Change); 7] = [
        ("rp id", |words| words.rp_id = "evil.example.com".into()),
        ("origin", |words| words.origin = "https://evil.example.com".into()),
        ("port", |words| words.origin = "https://localhost:1".into()),
        ("scheme", |words| words.origin = words.origin.replace("https", "http")),
        ("kind", |words| words.kind = "webauthn.create"),
        ("frame of another site", |words| words.cross_origin = true),
        ("user presence", |words| words.flags = UV),
    ];
    for (what, change) in changes {
        let mut olga = Olga::new().await;
        let mut words = olga.words.clone();
        change(&mut words);
        let (code, text) = refused(olga.log_in(&words).await);
        assert_eq!((code, text.as_str()), (Code::Unauthenticated, CREDENTIALS), "{what}");
    }
}

#[tokio::test]
async fn an_assertion_is_for_one_challenge() {
    let mut olga = Olga::new().await;
    let (one, other) = (olga.challenge().await, olga.challenge().await);
    let mfa = olga.key.answer(&one.webauthn_request_options_json, &olga.words.clone());
    let finish = |id: &str| {
        let (world, mfa, id) = (&olga.world, Some(mfa.clone()), id.to_owned());
        async move { world.finish_login(&Key::new(), &id, mfa).await }
    };
    assert_eq!(refused(finish(&other.challenge_id).await).1, CREDENTIALS);
    finish(&one.challenge_id).await.unwrap();
    // Said again, to the challenge that it was for.
    assert_eq!(refused(finish(&one.challenge_id).await).0, Code::FailedPrecondition);
}

#[tokio::test]
async fn an_answer_that_takes_five_minutes_is_late() {
    let mut olga = Olga::new().await;
    for (seconds, in_time) in [(299, true), (301, false)] {
        let challenge = olga.challenge().await;
        let mfa = olga.key.answer(&challenge.webauthn_request_options_json, &olga.words.clone());
        olga.world.clock.advance(Duration::from_secs(seconds));
        let result = olga.world.finish_login(&Key::new(), &challenge.challenge_id, Some(mfa)).await;
        assert_eq!(result.is_ok(), in_time, "{seconds} s");
    }
}

#[tokio::test]
async fn the_key_of_somebody_else_proves_nothing() {
    let olga = Olga::new().await;
    let token = olga.world.invite("mallory", &["access"]).await;
    let begin = olga.world.begin_invitation(&token, proto::DeviceKind::Webauthn).await.unwrap();
    let (mut mallorys, device) = TestKey::register(&begin, &olga.words, None);
    olga.world.accept(&token, Some(device)).await.unwrap();
    let challenge = olga.challenge().await;
    let mfa = mallorys.answer(&challenge.webauthn_request_options_json, &olga.words);
    let result = olga.world.finish_login(&Key::new(), &challenge.challenge_id, Some(mfa)).await;
    assert_eq!(refused(result).1, CREDENTIALS);
}

#[tokio::test]
async fn a_counter_that_does_not_grow_is_refused_and_recorded() {
    for (last, presented) in [(7, 6), (7, 7), (7, 0)] {
        let mut olga = Olga::new().await;
        let words = olga.words.clone();
        olga.log_in(&Words { counter: Some(last), ..words.clone() }).await.unwrap();
        let (code, text) = refused(olga.log_in(&Words { counter: Some(presented), ..words.clone() }).await);
        assert_eq!(code, Code::Unauthenticated);
        assert!(text.contains("counter of this security key went back"), "{text}");
        let event = olga.counters_gone_back().await.pop().unwrap();
        assert_eq!((&event["user"], &event["stored_counter"]), (&"olga".into(), &last.into()));
        assert_eq!(event["presented_counter"], presented);
        assert_eq!(event["mfa_device"]["mfa_device_name"], "key");
        // The true key goes on: whether it is to be locked is for people to decide.
        olga.log_in(&Words { counter: Some(last + 1), ..words }).await.unwrap();
    }
}

#[tokio::test]
async fn a_key_without_a_counter_works() {
    let mut olga = Olga::new().await;
    let words = Words { counter: Some(0), ..olga.words.clone() };
    olga.log_in(&words).await.unwrap();
    olga.log_in(&words).await.unwrap();
    assert!(olga.counters_gone_back().await.is_empty());
}

#[tokio::test]
async fn an_assertion_that_is_refused_moves_no_counter() {
    let mut olga = Olga::new().await;
    let words = olga.words.clone();
    let elsewhere = Words { counter: Some(1000), origin: "https://evil.example.com".into(), ..words.clone() };
    refused(olga.log_in(&elsewhere).await);
    olga.log_in(&Words { counter: Some(2), ..words }).await.unwrap();
}

#[tokio::test]
async fn a_session_challenge_is_not_answered_by_a_login_and_the_other_way_round() {
    let mut olga = Olga::new().await;
    olga.world.guard("pg", &[]).await;
    let words = olga.words.clone();
    let key = Key::new();
    let login = olga.challenge().await;
    let mfa = olga.key.answer(&login.webauthn_request_options_json, &words);
    let certificates = olga.world.finish_login(&key, &login.challenge_id, Some(mfa.clone())).await.unwrap();
    let mut users = olga.world.users(key.with(certificates.tls_certificate)).await;

    let session_key = Key::new();
    let session = create_challenge_request::Session {
        route: Some(route("pg")),
        public_key: session_key.spki.clone(),
        ..Default::default()
    };
    let scope = Some(create_challenge_request::Scope::Session(session));
    let mut ask = async || {
        let request = proto::CreateChallengeRequest { scope: scope.clone() };
        users.create_challenge(request).await.unwrap().into_inner()
    };
    let (one, two) = (ask().await, ask().await);
    // The login's answer, said for a session.
    let issue = proto::IssueSessionCertificateRequest {
        route: Some(route("pg")),
        public_key: session_key.spki.clone(),
        challenge_id: one.challenge_id,
        mfa: Some(mfa),
        ..Default::default()
    };
    assert_eq!(refused(users.issue_session_certificate(issue).await).1, CREDENTIALS);
    // The session's challenge, spent for a login.
    let mfa = olga.key.answer(&two.webauthn_request_options_json, &words);
    let result = olga.world.finish_login(&Key::new(), &two.challenge_id, Some(mfa)).await;
    assert_eq!(refused(result).0, Code::FailedPrecondition);
}

#[tokio::test]
async fn what_verifies_receipts_later_stands_in_the_event_of_the_device() {
    let olga = Olga::new().await;
    let event = olga.world.events("mfa.add").await.remove(0);
    assert_eq!((&event["user"], &event["mfa_device_type"]), (&"olga".into(), &"WebAuthn".into()));
    Uuid::try_parse(event["mfa_device_uuid"].as_str().unwrap()).unwrap();
    assert_eq!(event["mfa_device_public_key"], BASE64_STANDARD.encode(olga.key.cose()));
    assert_eq!(event["mfa_device_aaguid"], Uuid::from_bytes(MODEL).to_string());
    assert_eq!(event["mfa_device_sign_count"], 0);
    assert_eq!(event["mfa_device_passwordless"], false);
    assert_eq!(event["webauthn_rp_id"], "localhost");
    assert_eq!(event["webauthn_origin"], olga.words.origin);
}

#[tokio::test]
async fn a_locked_device_proves_nothing_whatever_it_is_for() {
    let mut olga = Olga::new().await;
    let id = olga.world.events("mfa.add").await[0]["mfa_device_uuid"].as_str().unwrap().to_owned();
    let words = olga.words.clone();
    let key = Key::new();
    let challenge = olga.challenge().await;
    let mfa = olga.key.answer(&challenge.webauthn_request_options_json, &words);
    let login = olga.world.finish_login(&key, &challenge.challenge_id, Some(mfa)).await.unwrap();
    let lock =
        format!("kind: lock\nversion: v2\nmetadata: {{name: l}}\nspec: {{target: {{mfa_device: {id}}}}}\n");
    olga.world.put(&lock).await;
    let (code, text) = refused(olga.log_in(&words).await);
    assert_eq!(code, Code::PermissionDenied, "{text}");

    let mut users = olga.world.users(key.with(login.tls_certificate)).await;
    let scope = Some(create_challenge_request::Scope::ManageDevices(Default::default()));
    let request = proto::CreateChallengeRequest { scope };
    let challenge = users.create_challenge(request).await.unwrap().into_inner();
    let add = proto::BeginAddMfaDeviceRequest {
        kind: proto::DeviceKind::Totp as i32,
        mfa: Some(olga.key.answer(&challenge.webauthn_request_options_json, &words)),
        challenge_id: challenge.challenge_id,
        ..Default::default()
    };
    assert_eq!(refused(users.begin_add_mfa_device(add).await).0, Code::PermissionDenied);
    let judged = olga.world.events("mfa_auth_challenge.validate").await.pop().unwrap();
    assert_eq!((&judged["code"], &judged["challenge_scope"]), (&"T1016W".into(), &"MANAGE_DEVICES".into()));
}
