//! Recovery codes.

use std::time::Duration;

use auth::proto;
use serde_json::{Value, json};
use tonic::Code;

use super::browser::{Answer, Browser};
use crate::{
    ended::{Door, assert_ended},
    world::*,
};

/// Somebody with a key, and their codes.
async fn person_with_codes(world: &World, name: &str) -> (Person, Vec<String>) {
    let token = world.invite(name, &["access"]).await;
    let mut person = Person::new(name);
    let begin = world.begin_invitation(&token, proto::DeviceKind::Webauthn).await.unwrap();
    let device = Some(person.new_key(&begin, world.origin()));
    let request = proto::AcceptInvitationRequest { token, password: PASSWORD.to_owned(), device };
    let accepted = world.public().await.accept_invitation(request).await.unwrap().into_inner();
    (person, accepted.recovery_codes)
}

async fn recover(browser: &mut Browser<'_>, user: &str, password: &str, code: &str) -> Answer {
    browser.call("recover/begin", json!({"user": user, "password": password, "code": code})).await
}

/// Enrols a new key for a grant.
async fn enrol(browser: &mut Browser<'_>, granted: &Value, person: &mut Person) -> (Value, Answer) {
    let body = json!({"grant": granted["grant"], "kind": "webauthn", "passwordless": false});
    let registration = browser.call("recover/register", body).await.ok();
    let device = browser.new_key(&registration, person, "new key");
    let lost: Vec<_> =
        granted["devices"].as_array().unwrap().iter().map(|device| device["id"].clone()).collect();
    let body = json!({"grant": granted["grant"], "device": device, "lost": lost});
    let answer = browser.call("recover/device", body.clone()).await;
    (body, answer)
}

#[tokio::test]
async fn a_code_brings_a_new_device_in_place_of_the_lost_one_and_ends_what_was() {
    let world = World::new().await;
    let (mut olga, codes) = person_with_codes(&world, "olga").await;
    world.login(&mut olga).await;
    let stolen = olga.identity();
    let mut elsewhere = Browser::new(&world);
    elsewhere.sign_in(&mut olga).await.ok();
    world.clock.advance(Duration::from_secs(60));
    let mut browser = Browser::new(&world);
    // However it is typed.
    let typed = codes[1].to_uppercase().replace('-', " ");
    let granted = recover(&mut browser, "olga", PASSWORD, &typed).await.ok();
    let (body, answer) = enrol(&mut browser, &granted, &mut olga).await;
    let renewed = answer.ok()["recovery_codes"].clone();
    assert_eq!(renewed.as_array().unwrap().len(), 3);
    // The grant was good once.
    assert_eq!(browser.call("recover/device", body).await.refused().0, 404);
    // Logins and sessions from before are over, and so are the codes.
    let old = world.users(stolen).await.list_mfa_devices(proto::ListMfaDevicesRequest {}).await;
    assert_eq!(refused(old).0, Code::Unauthenticated);
    assert_eq!(elsewhere.call("devices/list", json!({})).await.refused().0, 401);
    assert_eq!(recover(&mut browser, "olga", PASSWORD, &codes[0]).await.refused().0, 403);
    world.clock.advance(Duration::from_secs(60));
    browser.sign_in(&mut olga).await.ok();
    let listed = browser.call("devices/list", json!({})).await.ok();
    assert_eq!((&listed["devices"][0]["name"], &listed["recovery_codes"]), (&json!("new key"), &json!(3)));
    assert_eq!(listed["devices"].as_array().unwrap().len(), 1);
    let used = world.events("recovery_code.used").await;
    assert_eq!((&used[0]["code"], &used[1]["code"]), (&json!("T1009I"), &json!("T1009W")));
}

#[tokio::test]
async fn a_recovery_ends_logins_from_before_at_every_sidecar() {
    let world = World::new().await;
    let (mut olga, codes) = person_with_codes(&world, "olga").await;
    world.login(&mut olga).await;
    world.clock.advance(Duration::from_secs(1));
    let mut door = Door::of(&world).await;
    assert!(door.open(&olga.certificate).is_ok());
    let mut browser = Browser::new(&world);
    let granted = recover(&mut browser, "olga", PASSWORD, &codes[0]).await.ok();
    enrol(&mut browser, &granted, &mut olga).await.1.ok();
    assert_eq!(door.hears_of_ended_logins().await, "olga");
    assert_ended(door.open(&olga.certificate));
    world.login(&mut olga).await;
    assert!(door.open(&olga.certificate).is_ok());
}

#[tokio::test]
async fn a_login_that_began_before_a_recovery_comes_to_nothing() {
    let world = World::new().await;
    let (mut olga, codes) = person_with_codes(&world, "olga").await;
    // Whoever stole laptop and key has got as far as the touch; the key is not among what is marked as lost.
    let challenge = world.begin_login("olga", PASSWORD).await.unwrap();
    let mfa = olga.answer(&challenge, &world);
    let mut thief = Browser::new(&world);
    let page = thief.call("login/begin", json!({"user": "olga", "password": PASSWORD})).await.ok();
    let proof = thief.prove(&page, &mut olga);
    world.clock.advance(Duration::from_secs(1));
    let mut browser = Browser::new(&world);
    let mut granted = recover(&mut browser, "olga", PASSWORD, &codes[0]).await.ok();
    granted["devices"] = json!([]);
    let mut other = Person::new("olga");
    enrol(&mut browser, &granted, &mut other).await.1.ok();

    let finished = world.finish_login(&olga.key, &challenge.challenge_id, Some(mfa)).await;
    assert_eq!(refused(finished).0, Code::FailedPrecondition);
    assert_eq!(thief.call("login/finish", json!({"proof": proof})).await.refused().0, 409);
    assert_eq!(thief.cookie, None);
    // One that begins now is another login.
    world.login(&mut other).await;
}

#[tokio::test]
async fn a_code_is_used_up_even_when_nothing_comes_of_it() {
    let world = World::new().await;
    let (_, codes) = person_with_codes(&world, "olga").await;
    let mut browser = Browser::new(&world);
    recover(&mut browser, "olga", PASSWORD, &codes[0]).await.ok();
    assert_eq!(recover(&mut browser, "olga", PASSWORD, &codes[0]).await.refused().0, 403);
    recover(&mut browser, "olga", PASSWORD, &codes[1]).await.ok();
}

#[tokio::test]
async fn a_wrong_password_a_wrong_code_and_an_unknown_user_are_told_alike_and_counted() {
    let world = World::new().await;
    let (_, codes) = person_with_codes(&world, "olga").await;
    let (_, others) = person_with_codes(&world, "other").await;
    let mut browser = Browser::new(&world);
    let answers = [
        recover(&mut browser, "olga", "wrong password", &codes[0]).await,
        recover(&mut browser, "olga", PASSWORD, "1-aaaa-aaaa-aaaa-aaaa").await,
        recover(&mut browser, "olga", PASSWORD, "").await,
        recover(&mut browser, "olga", PASSWORD, &others[0]).await,
        recover(&mut browser, "nobody", PASSWORD, &codes[0]).await,
        recover(&mut browser, "a,b", PASSWORD, &codes[0]).await,
    ];
    for answer in &answers {
        assert_eq!((answer.refused().0, &answer.body), (403, &answers[0].body));
    }
    recover(&mut browser, "olga", PASSWORD, "2-aaaa-aaaa-aaaa-aaaa").await.refused();
    // The right ones come too late, here and at the login.
    assert_eq!(recover(&mut browser, "olga", PASSWORD, &codes[0]).await.refused().0, 429);
    assert_eq!(refused(world.begin_login("olga", PASSWORD).await).0, Code::ResourceExhausted);
    world.clock.advance(Duration::from_secs(20 * 60));
    recover(&mut browser, "olga", PASSWORD, &codes[0]).await.ok();
}

#[tokio::test]
async fn a_grant_is_for_a_quarter_of_an_hour_and_ends_with_a_reset_or_a_lock() {
    let world = World::new().await;
    let (_, codes) = person_with_codes(&world, "olga").await;
    let mut browser = Browser::new(&world);
    let register = |grant: &Value| json!({"grant": grant, "kind": "webauthn", "passwordless": false});
    let first = recover(&mut browser, "olga", PASSWORD, &codes[0]).await.ok()["grant"].clone();
    browser.call("recover/register", register(&first)).await.ok();
    world.clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(browser.call("recover/register", register(&first)).await.refused().0, 404);
    let second = recover(&mut browser, "olga", PASSWORD, &codes[1]).await.ok()["grant"].clone();
    world.put("kind: lock\nversion: v2\nmetadata: {name: stop}\nspec: {target: {user: olga}}\n").await;
    assert_eq!(browser.call("recover/register", register(&second)).await.refused().0, 403);
    let request = proto::DeleteResourceRequest { kind: "lock".into(), name: "stop".into() };
    world.admin().await.delete_resource(request).await.unwrap();
    let request = proto::ResetUserRequest { name: "olga".into(), ttl_seconds: 0 };
    world.admin().await.reset_user(request).await.unwrap();
    assert_eq!(browser.call("recover/register", register(&second)).await.refused().0, 404);
    assert_eq!(recover(&mut browser, "olga", PASSWORD, &codes[2]).await.refused().0, 403);
}

#[tokio::test]
async fn a_registration_of_a_grant_adds_a_device_to_nothing_else() {
    let world = World::new().await;
    let (mut olga, codes) = person_with_codes(&world, "olga").await;
    let mut browser = Browser::new(&world);
    browser.sign_in(&mut olga).await.ok();
    let granted = recover(&mut browser, "olga", PASSWORD, &codes[0]).await.ok();
    let other = recover(&mut browser, "olga", PASSWORD, &codes[1]).await.ok();
    let body = json!({"grant": granted["grant"], "kind": "webauthn", "passwordless": false});
    let registration = browser.call("recover/register", body).await.ok();
    let device = browser.new_key(&registration, &mut Person::new("olga"), "new key");
    assert_eq!(browser.call("devices/finish", json!({"device": device})).await.refused().0, 404);
    let body = json!({"grant": other["grant"], "device": device, "lost": []});
    assert_eq!(browser.call("recover/device", body).await.refused().0, 404);
}

#[tokio::test]
async fn a_new_set_needs_a_touch_and_makes_the_old_one_worthless() {
    let world = World::new().await;
    let (mut olga, codes) = person_with_codes(&world, "olga").await;
    let mut browser = Browser::new(&world);
    browser.sign_in(&mut olga).await.ok();
    let challenge = browser.call("devices/challenge", json!({})).await.ok();
    let proof = browser.prove(&challenge, &mut olga);
    let body = json!({"proof": proof, "password": null});
    let renewed = browser.call("devices/codes", body.clone()).await.ok()["recovery_codes"].clone();
    assert_eq!(browser.call("devices/codes", body).await.refused().0, 409);
    assert_eq!(recover(&mut browser, "olga", PASSWORD, &codes[0]).await.refused().0, 403);
    recover(&mut browser, "olga", PASSWORD, renewed[0].as_str().unwrap()).await.ok();
}

#[tokio::test]
async fn codes_are_kept_as_hashes() {
    let world = World::new().await;
    let (_, codes) = person_with_codes(&world, "olga").await;
    let data = world.directory.path().join("data");
    world.server.stop().await;
    for file in
        std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file())
    {
        let bytes = std::fs::read(&file).unwrap();
        for code in &codes {
            let bare: String = code[1..].chars().filter(|c| *c != '-').collect();
            for needle in [code.as_bytes(), bare.as_bytes()] {
                assert!(!bytes.windows(needle.len()).any(|part| part == needle), "{}", file.display());
            }
        }
    }
}
