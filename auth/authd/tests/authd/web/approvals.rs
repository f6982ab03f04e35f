//! Approving in a browser what a terminal asks for.

use std::time::Duration;

use auth::proto::{self, await_browser_mfa_response::Outcome};
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::browser::{Answer, Browser};
use crate::{
    key::{TestKey, UP, UV, Words},
    world::*,
};

/// A login that waits for a page.
struct Asked {
    challenge: proto::MfaChallenge,
    mfa: proto::BrowserMfa,
    id: String,
}

async fn open(world: &World, challenge: proto::MfaChallenge) -> Asked {
    let request = proto::BeginBrowserMfaRequest { challenge_id: challenge.challenge_id.clone() };
    let mfa = world.public().await.begin_browser_mfa(request).await.unwrap().into_inner();
    let id = mfa.url.rsplit('/').next().unwrap().to_owned();
    Asked { challenge, mfa, id }
}

async fn asked(world: &World, user: &str) -> Asked {
    open(world, world.begin_login(user, PASSWORD).await.unwrap()).await
}

async fn outcome(world: &World, asked: &Asked) -> Result<Outcome, Status> {
    let request = proto::AwaitBrowserMfaRequest { wait_token: asked.mfa.wait_token.clone() };
    Ok(world.public().await.await_browser_mfa(request).await?.into_inner().outcome.unwrap())
}

fn wrong_number(shown: &Value, right: &str) -> Value {
    shown["numbers"].as_array().unwrap().iter().find(|number| *number != right).unwrap().clone()
}

#[tokio::test]
async fn the_number_and_a_touch_let_the_terminal_go_on() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    let asked = asked(&world, "olga").await;
    let mut browser = Browser::new(&world);
    assert_eq!(asked.mfa.url, format!("{}web/approve/{}", world.origin(), asked.id));
    assert_eq!(browser.get(&format!("/web/approve/{}", asked.id)).await.status, 200);
    let shown = browser.call("approve/show", json!({"id": asked.id})).await.ok();
    assert_eq!((&shown["user"], &shown["purpose"]), (&json!("olga"), &json!("login")));
    assert_eq!((&shown["cluster"], &shown["address"]), (&json!("main"), &json!("127.0.0.1")));
    assert_eq!(shown["same_address"], true);
    assert!(shown["numbers"].as_array().unwrap().contains(&json!(asked.mfa.number)));
    let body = json!({"id": asked.id, "number": asked.mfa.number});
    let pressed = browser.call("approve/number", body).await.ok();
    let assertion = browser.touch(&pressed["webauthn"], &mut olga);
    let body = json!({"id": asked.id, "pass": pressed["pass"], "assertion": assertion});
    browser.call("approve/answer", body.clone()).await.ok();
    let Outcome::Approved(mfa) = outcome(&world, &asked).await.unwrap() else { panic!("not approved") };
    // Asked again, the answer is the same: it is the challenge that is good once.
    assert!(matches!(outcome(&world, &asked).await.unwrap(), Outcome::Approved(_)));
    world.finish_login(&olga.key, &asked.challenge.challenge_id, Some(mfa.clone())).await.unwrap();
    let replay = world.finish_login(&olga.key, &asked.challenge.challenge_id, Some(mfa)).await;
    assert_eq!(refused(replay).0, Code::FailedPrecondition);
    assert_eq!(browser.call("approve/answer", body).await.refused().0, 404);
    assert_eq!(browser.get(&format!("/web/approve/{}", asked.id)).await.status, 404);
    assert_eq!(world.events("mfa_auth_challenge.create").await[0]["code"], "T1015I");
    let validated = &world.events("mfa_auth_challenge.validate").await[0];
    assert_eq!(
        (&validated["code"], &validated["mfa_device"]["mfa_device_name"]),
        (&json!("T1016I"), &json!("key"))
    );
}

#[tokio::test]
async fn a_page_says_whether_the_terminal_is_where_the_browser_is() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    world.login(&mut olga).await;
    let challenge_id = world.begin_login("olga", PASSWORD).await.unwrap().challenge_id;
    let elsewhere = world.channel_from([127, 0, 0, 2].into(), olga.identity()).await;
    let request = proto::BeginBrowserMfaRequest { challenge_id };
    let mfa = proto::public_client::PublicClient::new(elsewhere).begin_browser_mfa(request).await.unwrap();
    let url = mfa.into_inner().url;
    let id = url.rsplit('/').next().unwrap();
    let shown = Browser::new(&world).call("approve/show", json!({"id": id})).await.ok();
    assert_eq!((&shown["address"], &shown["same_address"]), (&json!("127.0.0.2"), &json!(false)));
}

#[tokio::test]
async fn a_session_is_approved_for_what_the_page_shows_and_its_receipt_is_as_any() {
    let world = World::new().await;
    let _sidecar = world.guard("prod", &[]).await;
    world.cap("type: local, second_factor: webauthn, require_session_mfa: true").await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    world.login(&mut olga).await;
    let mut users = world.users(olga.identity()).await;
    let key = Key::new();
    let scope = proto::create_challenge_request::Session {
        route: Some(route("prod")),
        public_key: key.spki.clone(),
        ..Default::default()
    };
    let scope = Some(proto::create_challenge_request::Scope::Session(scope));
    let request = proto::CreateChallengeRequest { scope };
    let challenge = users.create_challenge(request).await.unwrap().into_inner();
    let asked = open(&world, challenge).await;
    let mut browser = Browser::new(&world);
    let shown = browser.call("approve/show", json!({"id": asked.id})).await.ok();
    let target = json!({
        "kind": "database", "name": "prod", "protocol": "postgres", "login": "alice", "database": "app",
    });
    assert_eq!((&shown["purpose"], &shown["target"]), (&json!("session"), &target));
    let body = json!({"id": asked.id, "number": asked.mfa.number});
    let pressed = browser.call("approve/number", body).await.ok();
    let assertion = browser.touch(&pressed["webauthn"], &mut olga);
    let body = json!({"id": asked.id, "pass": pressed["pass"], "assertion": assertion});
    browser.call("approve/answer", body).await.ok();
    let Outcome::Approved(mfa) = outcome(&world, &asked).await.unwrap() else { panic!("not approved") };
    let request = proto::IssueSessionCertificateRequest {
        route: Some(route("prod")),
        public_key: key.spki.clone(),
        challenge_id: asked.challenge.challenge_id.clone(),
        mfa: Some(mfa),
        ..Default::default()
    };
    let issued = users.issue_session_certificate(request).await.unwrap().into_inner();
    let (_, certificate) = x509_parser::parse_x509_certificate(&issued.certificate).unwrap();
    let intent = asked.challenge.intent;
    assert!(
        certificate.extensions().iter().any(|e| e.value.windows(intent.len()).any(|part| part == intent))
    );
}

#[tokio::test]
async fn a_wrong_number_ends_the_challenge_for_everybody() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    let asked = asked(&world, "olga").await;
    let mut browser = Browser::new(&world);
    let shown = browser.call("approve/show", json!({"id": asked.id})).await.ok();
    let body = json!({"id": asked.id, "number": wrong_number(&shown, &asked.mfa.number)});
    assert_eq!(browser.call("approve/number", body).await.refused(), (403, "permission_denied".to_owned()));
    assert!(matches!(outcome(&world, &asked).await.unwrap(), Outcome::Denied(_)));
    let body = json!({"id": asked.id, "number": asked.mfa.number});
    assert_eq!(browser.call("approve/number", body).await.refused().0, 404);
    // Not in the terminal, either.
    let mfa = olga.touch(&asked.challenge.webauthn_request_options_json, world.origin());
    let late = world.finish_login(&olga.key, &asked.challenge.challenge_id, Some(mfa)).await;
    assert_eq!(refused(late).0, Code::FailedPrecondition);
    let event = &world.events("mfa_auth_challenge.validate").await[0];
    assert_eq!((&event["code"], &event["error"]), (&json!("T1016W"), &json!("a wrong number was pressed")));
}

#[tokio::test]
async fn denying_ends_the_challenge_and_is_recorded() {
    let world = World::new().await;
    world.person_with_key("olga", &["access"]).await;
    let asked = asked(&world, "olga").await;
    let mut browser = Browser::new(&world);
    let waiting = outcome(&world, &asked);
    let denying = browser.call("approve/deny", json!({"id": asked.id}));
    let (waited, denied) = tokio::join!(waiting, denying);
    denied.ok();
    assert!(matches!(waited.unwrap(), Outcome::Denied(_)));
    assert_eq!(browser.call("approve/deny", json!({"id": asked.id})).await.refused().0, 404);
    assert_eq!(world.events("mfa_auth_challenge.validate").await[0]["code"], "T1016W");
}

#[tokio::test]
async fn the_touch_alone_is_not_enough_and_neither_is_somebody_elses_number() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    let asked = asked(&world, "olga").await;
    let mut browser = Browser::new(&world);
    let options: Value = serde_json::from_str(&asked.challenge.webauthn_request_options_json).unwrap();
    let assertion = browser.touch(&options, &mut olga);
    let body = json!({"id": asked.id, "pass": "0".repeat(32), "assertion": assertion});
    assert_eq!(browser.call("approve/answer", body.clone()).await.refused().0, 409);
    // Who asked pressed the number beforehand and sends the link on: the page asks anew.
    let pressed = json!({"id": asked.id, "number": asked.mfa.number});
    browser.call("approve/number", pressed).await.ok();
    let shown = browser.call("approve/show", json!({"id": asked.id})).await.ok();
    assert!(shown.get("webauthn").is_none() && shown.get("pass").is_none());
    assert_eq!(browser.call("approve/answer", body).await.refused().0, 409);
}

#[tokio::test]
async fn another_users_key_approves_nothing_and_five_attempts_end_it() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    let mut eve = world.person_with_key("eve", &["access"]).await;
    let mut browser = Browser::new(&world);
    let (hers, evil) = (asked(&world, "olga").await, asked(&world, "eve").await);
    let body = json!({"id": hers.id, "number": hers.mfa.number});
    let pressed = browser.call("approve/number", body).await.ok();
    let options: Value = serde_json::from_str(&evil.challenge.webauthn_request_options_json).unwrap();
    let assertion = browser.touch(&options, &mut eve);
    let body = json!({"id": hers.id, "pass": pressed["pass"], "assertion": assertion});
    for _ in 0..5 {
        assert_eq!(browser.call("approve/answer", body.clone()).await.refused().0, 403);
    }
    assert_eq!(browser.call("approve/answer", body).await.refused().0, 404);
    assert!(matches!(outcome(&world, &hers).await.unwrap(), Outcome::Denied(_)));
    let mfa = olga.touch(&hers.challenge.webauthn_request_options_json, world.origin());
    let late = world.finish_login(&olga.key, &hers.challenge.challenge_id, Some(mfa)).await;
    assert_eq!(refused(late).0, Code::FailedPrecondition);
}

/// Somebody whose key says what a test wants.
async fn person(world: &World, name: &str) -> TestKey {
    let token = world.invite(name, &["access"]).await;
    let begin = world.begin_invitation(&token, proto::DeviceKind::Webauthn).await.unwrap();
    let (key, device) = TestKey::register(&begin, &Words::new(&world.origin()), None);
    world.accept(&token, Some(device)).await.unwrap();
    key
}

/// Presses the number and sends what the key says to these options.
async fn answer(world: &World, asked: &Asked, key: &mut TestKey, options: &str, words: &Words) -> Answer {
    let mut browser = Browser::new(world);
    let body = json!({"id": asked.id, "number": asked.mfa.number});
    let pressed = browser.call("approve/number", body).await.ok();
    let said = key.answer(options, words).response.unwrap();
    let proto::mfa_response::Response::WebauthnAssertionJson(json) = said else { panic!("no assertion") };
    let assertion: Value = serde_json::from_str(&json).unwrap();
    let body = json!({"id": asked.id, "pass": pressed["pass"], "assertion": assertion});
    browser.call("approve/answer", body).await
}

#[tokio::test]
async fn what_a_key_may_not_say_anywhere_approves_nothing_either() {
    type Change = fn(&mut Words);
    let changes: [(&str, Change); 8] = [
        ("rp id", |words| words.rp_id = "evil.example.com".into()),
        ("origin", |words| words.origin = "https://evil.example.com".into()),
        ("port", |words| words.origin = "https://localhost:1".into()),
        ("kind", |words| words.kind = "webauthn.create"),
        ("frame of another site", |words| words.cross_origin = true),
        ("user presence", |words| words.flags = UV),
        ("challenge", |words| words.challenge = Some("AAAA".into())),
        ("counter", |words| words.counter = Some(1)),
    ];
    let world = World::new().await;
    let mut key = person(&world, "olga").await;
    let good = Words { flags: UP, ..Words::new(&world.origin()) };
    for (what, change) in changes {
        // It works as it is, and its counter moves when its answer is spent.
        let asked = asked(&world, "olga").await;
        let options = asked.challenge.webauthn_request_options_json.clone();
        answer(&world, &asked, &mut key, &options, &good).await.ok();
        let Outcome::Approved(mfa) = outcome(&world, &asked).await.unwrap() else { panic!("not approved") };
        world.finish_login(&Key::new(), &asked.challenge.challenge_id, Some(mfa)).await.unwrap();
        let asked = self::asked(&world, "olga").await;
        let options = asked.challenge.webauthn_request_options_json.clone();
        let mut words = good.clone();
        change(&mut words);
        let refused = answer(&world, &asked, &mut key, &options, &words).await.refused();
        assert_eq!(refused, (403, "unauthenticated".to_owned()), "{what}");
    }
    assert_eq!(world.events("mfa.counter_went_back").await.len(), 1);
}

#[tokio::test]
async fn a_touch_for_one_page_approves_no_other_of_the_same_person() {
    let world = World::new().await;
    let mut key = person(&world, "olga").await;
    let words = Words::new(&world.origin());
    let (one, other) = (asked(&world, "olga").await, asked(&world, "olga").await);
    let options = &one.challenge.webauthn_request_options_json;
    assert_eq!(answer(&world, &other, &mut key, options, &words).await.refused().0, 403);
    answer(&world, &one, &mut key, options, &words).await.ok();
}

#[tokio::test]
async fn unknown_spent_and_expired_ids_are_told_alike() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    let mut browser = Browser::new(&world);
    let unknown = browser.call("approve/show", json!({"id": "0".repeat(32)})).await;
    let spent = asked(&world, "olga").await;
    let mfa = olga.touch(&spent.challenge.webauthn_request_options_json, world.origin());
    world.finish_login(&olga.key, &spent.challenge.challenge_id, Some(mfa)).await.unwrap();
    let expired = asked(&world, "olga").await;
    let spent_body = browser.call("approve/show", json!({"id": spent.id})).await;
    world.clock.advance(Duration::from_secs(5 * 60));
    for answer in [spent_body, browser.call("approve/show", json!({"id": expired.id})).await] {
        assert_eq!((answer.status, &answer.body), (404, &unknown.body));
    }
    assert_eq!(refused(outcome(&world, &expired).await).0, Code::FailedPrecondition);
}

#[tokio::test]
async fn a_page_is_for_an_open_challenge_that_a_key_can_answer() {
    let world = World::new().await;
    world.person_with_totp("jerry", &["access"]).await;
    let code_only = world.begin_login("jerry", PASSWORD).await.unwrap().challenge_id;
    let begin = async |id: String| {
        world.public().await.begin_browser_mfa(proto::BeginBrowserMfaRequest { challenge_id: id }).await
    };
    assert_eq!(refused(begin(code_only).await).0, Code::InvalidArgument);
    for id in [
        "",
        "x",
        "passwordless.00000000000000000000000000000000",
        "6a65727279.00000000000000000000000000000000",
    ] {
        assert_eq!(refused(begin(id.to_owned()).await).0, Code::FailedPrecondition, "{id}");
    }
    for token in ["", "x", "x.y", "0.0"] {
        let request = proto::AwaitBrowserMfaRequest { wait_token: token.to_owned() };
        let answer = world.public().await.await_browser_mfa(request).await;
        assert_eq!(refused(answer).0, Code::FailedPrecondition, "{token}");
    }
}

#[tokio::test]
async fn pages_asked_for_again_and_again_do_not_fill_the_audit_trail() {
    let world = World::new().await;
    world.person_with_key("olga", &["access"]).await;
    let hers = world.begin_login("olga", PASSWORD).await.unwrap();
    for _ in 0..5 {
        open(&world, hers.clone()).await;
    }
    let request = proto::BeginBrowserMfaRequest { challenge_id: hers.challenge_id };
    let more = world.public().await.begin_browser_mfa(request).await;
    assert_eq!(refused(more).0, Code::ResourceExhausted);
    // Of what is nobody's, and anybody's to have, nothing is recorded at all.
    let mut browser = Browser::new(&world);
    for answer in ["approve/number", "approve/deny"] {
        let request = proto::BeginPasswordlessLoginRequest {};
        let nobodys = world.public().await.begin_passwordless_login(request).await.unwrap().into_inner();
        let asked = open(&world, nobodys.clone()).await;
        let body = match answer {
            "approve/deny" => json!({"id": asked.id}),
            _ => json!({"id": asked.id, "number": "no number"}),
        };
        browser.call(answer, body).await;
        assert!(matches!(outcome(&world, &asked).await.unwrap(), Outcome::Denied(_)), "{answer}");
        let request = proto::BeginBrowserMfaRequest { challenge_id: nobodys.challenge_id };
        let over = world.public().await.begin_browser_mfa(request).await;
        assert_eq!(refused(over).0, Code::FailedPrecondition, "{answer}");
    }
    let created = world.events("mfa_auth_challenge.create").await;
    assert_eq!(created.iter().filter(|event| event["user"] == "olga").count(), 5);
    assert_eq!((created.len(), world.events("mfa_auth_challenge.validate").await.len()), (5, 0));
}

#[tokio::test]
async fn the_link_does_not_tell_what_the_terminal_waits_with_nor_the_other_way_round() {
    let world = World::new().await;
    world.person_with_key("olga", &["access"]).await;
    let first = asked(&world, "olga").await;
    assert!(!first.mfa.wait_token.contains(&first.id));
    // A second page for one challenge takes the place of the first.
    let second = open(&world, first.challenge.clone()).await;
    let mut browser = Browser::new(&world);
    assert_eq!(browser.call("approve/show", json!({"id": first.id})).await.refused().0, 404);
    browser.call("approve/show", json!({"id": second.id})).await.ok();
}
