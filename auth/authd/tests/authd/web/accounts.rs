//! Invitations, sessions, devices.

use std::{collections::BTreeMap, time::Duration};

use auth::proto;
use serde_json::{Value, json};

use super::browser::{Answer, Browser};
use crate::world::*;

/// The id of no device.
const NOBODYS: &str = "00000000-0000-4000-8000-000000000000";

async fn challenge(browser: &mut Browser<'_>) -> Value {
    browser.call("devices/challenge", json!({})).await.ok()
}

async fn devices(browser: &mut Browser<'_>) -> Vec<Value> {
    let listed = browser.call("devices/list", json!({})).await.ok();
    listed["devices"].as_array().unwrap().clone()
}

/// The ids of one's devices, by name.
async fn device_ids(browser: &mut Browser<'_>) -> BTreeMap<String, Value> {
    let devices = devices(browser).await.into_iter();
    devices.map(|device| (device["name"].as_str().unwrap().to_owned(), device["id"].clone())).collect()
}

/// Begins to add a device with a proof.
async fn begin(browser: &mut Browser<'_>, proof: Value) -> Answer {
    let body = json!({"proof": proof, "password": null, "kind": "webauthn", "passwordless": false});
    browser.call("devices/begin", body).await
}

/// Adds a key of this name, with a touch of the one that is there.
async fn add(browser: &mut Browser<'_>, person: &mut Person, name: &str) {
    let challenged = challenge(browser).await;
    let proof = browser.prove(&challenged, person);
    let registration = begin(browser, proof).await.ok();
    let device = browser.new_key(&registration, &mut Person::new("olga"), name);
    browser.call("devices/finish", json!({"device": device})).await.ok();
}

#[tokio::test]
async fn an_invitation_is_finished_with_a_key_and_leaves_recovery_codes() {
    let world = World::new().await;
    let token = world.invite("olga", &["access"]).await;
    let mut browser = Browser::new(&world);
    let page = format!("/web/invite/{token}");
    assert_eq!(browser.get(&page).await.status, 200);
    let shown = browser.call("invite/show", json!({"token": token})).await.ok();
    assert_eq!((&shown["user"], &shown["device_required"]), (&json!("olga"), &json!(true)));
    let body = json!({"token": token, "kind": "webauthn", "passwordless": false});
    let registration = browser.call("invite/begin", body).await.ok();
    let mut olga = Person::new("olga");
    let device = browser.new_key(&registration, &mut olga, "blue key");
    let body = json!({"token": token, "password": PASSWORD, "device": device});
    let accepted = browser.call("invite/accept", body.clone()).await.ok();
    assert_eq!(accepted["recovery_codes"].as_array().unwrap().len(), 3);
    // Used: told like one that never was.
    let again = browser.call("invite/accept", body).await;
    let unknown = browser.call("invite/show", json!({"token": "0".repeat(32)})).await;
    assert_eq!((again.refused(), &again.body), (unknown.refused(), &unknown.body));
    assert_eq!(browser.get(&page).await.status, 404);
    browser.sign_in(&mut olga).await.ok();
    assert_eq!(world.events("recovery_code.generated").await[0]["code"], "T1008I");
}

#[tokio::test]
async fn an_authenticator_app_gets_its_secret_as_a_drawing_too() {
    let world = World::new().await;
    let token = world.invite("jerry", &["access"]).await;
    let mut browser = Browser::new(&world);
    let body = json!({"token": token, "kind": "totp", "passwordless": false});
    let registration = browser.call("invite/begin", body).await.ok();
    let totp = &registration["totp"];
    assert!(
        totp["qr"]["size"].as_u64().unwrap() > 29
            && totp["qr"]["path"].as_str().unwrap().starts_with("M4 4h7")
    );
    let mut jerry = Person::new("jerry");
    jerry.totp = Some(totp["secret"].as_str().unwrap().to_owned());
    let device = json!({
        "registration_id": registration["registration_id"], "name": "app", "code": jerry.code(world.time.now()),
    });
    let body = json!({"token": token, "password": PASSWORD, "device": device});
    browser.call("invite/accept", body).await.ok();
    world.clock.advance(Duration::from_secs(60));
    browser.sign_in(&mut jerry).await.ok();
}

#[tokio::test]
async fn an_expired_invitation_is_like_one_that_never_was() {
    let world = World::new().await;
    let token = world.invite("olga", &["access"]).await;
    world.clock.advance(Duration::from_secs(3600));
    let mut browser = Browser::new(&world);
    assert_eq!(browser.get(&format!("/web/invite/{token}")).await.status, 404);
    assert_eq!(browser.call("invite/show", json!({"token": token})).await.refused().0, 404);
}

#[tokio::test]
async fn a_session_is_a_cookie_that_no_script_and_no_other_site_gets() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    let mut browser = Browser::new(&world);
    let answer = browser.sign_in(&mut olga).await;
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-touchstone="), "{cookie}");
    assert!(cookie.ends_with("; Path=/; Secure; HttpOnly; SameSite=Strict"), "{cookie}");
    let listed = browser.call("devices/list", json!({})).await.ok();
    assert_eq!((&listed["user"], &listed["devices"][0]["name"]), (&json!("olga"), &json!("key")));
    assert_eq!(world.events("user.login").await[0]["code"], "T1000I");
    // It is no certificate, and none comes with it.
    assert!(world.events("cert.create").await.is_empty());
}

#[tokio::test]
async fn signing_out_ends_the_session_and_not_only_the_cookie() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    let mut browser = Browser::new(&world);
    browser.sign_in(&mut olga).await.ok();
    let stolen = browser.cookie.clone();
    browser.call("logout", json!({})).await.ok();
    assert_eq!(browser.cookie, None);
    browser.cookie = stolen;
    assert_eq!(browser.call("devices/list", json!({})).await.refused(), (401, "not_signed_in".to_owned()));
}

#[tokio::test]
async fn a_session_is_over_when_it_is_idle_and_lives_on_when_it_is_used() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    let mut browser = Browser::new(&world);
    browser.sign_in(&mut olga).await.ok();
    for _ in 0..3 {
        world.clock.advance(Duration::from_secs(9 * 60));
        browser.call("devices/list", json!({})).await.ok();
    }
    world.clock.advance(Duration::from_secs(10 * 60));
    assert_eq!(browser.call("devices/list", json!({})).await.refused().0, 401);
}

#[tokio::test]
async fn a_session_ends_with_the_account_as_it_was_and_with_a_lock() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    let mut browser = Browser::new(&world);
    browser.sign_in(&mut olga).await.ok();
    world.put("kind: lock\nversion: v2\nmetadata: {name: stop}\nspec: {target: {user: olga}}\n").await;
    assert_eq!(
        browser.call("devices/list", json!({})).await.refused(),
        (403, "permission_denied".to_owned())
    );
    let request = proto::DeleteResourceRequest { kind: "lock".into(), name: "stop".into() };
    world.admin().await.delete_resource(request).await.unwrap();
    browser.call("devices/list", json!({})).await.ok();
    let request = proto::ResetUserRequest { name: "olga".into(), ttl_seconds: 0 };
    world.admin().await.reset_user(request).await.unwrap();
    assert_eq!(browser.call("devices/list", json!({})).await.refused().0, 401);
}

#[tokio::test]
async fn failures_in_a_browser_and_in_a_terminal_are_counted_together() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    let mut browser = Browser::new(&world);
    let wrong = json!({"user": "olga", "password": "wrong password"});
    let told = browser.call("login/begin", wrong.clone()).await;
    let unknown = browser.call("login/begin", json!({"user": "nobody", "password": PASSWORD})).await;
    assert_eq!((told.refused(), &told.body), (unknown.refused(), &unknown.body));
    for _ in 0..2 {
        browser.call("login/begin", wrong.clone()).await.refused();
        world.begin_login("olga", "wrong password").await.unwrap_err();
    }
    let closed = browser.call("login/begin", json!({"user": "olga", "password": PASSWORD})).await;
    assert_eq!(closed.refused(), (429, "resource_exhausted".to_owned()));
    assert_eq!(refused(world.begin_login("olga", PASSWORD).await).0, tonic::Code::ResourceExhausted);
    world.clock.advance(Duration::from_secs(20 * 60));
    browser.sign_in(&mut olga).await.ok();
}

#[tokio::test]
async fn a_login_is_finished_once_and_only_with_its_own_answer() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    let mut other = world.person_with_key("other", &["access"]).await;
    let mut browser = Browser::new(&world);
    let body = json!({"user": "olga", "password": PASSWORD});
    let challenge = browser.call("login/begin", body.clone()).await.ok();
    let proof = browser.prove(&challenge, &mut olga);
    browser.call("login/finish", json!({"proof": proof})).await.ok();
    let replayed = browser.call("login/finish", json!({"proof": proof})).await;
    assert_eq!(replayed.refused(), (409, "failed_precondition".to_owned()));
    let mine = browser.call("login/begin", json!({"user": "other", "password": PASSWORD})).await.ok();
    let hers = browser.call("login/begin", body).await.ok();
    let mut proof = browser.prove(&mine, &mut other);
    proof["challenge_id"] = hers["challenge_id"].clone();
    assert_eq!(browser.call("login/finish", json!({"proof": proof})).await.refused().0, 403);
}

#[tokio::test]
async fn a_device_is_added_and_removed_with_a_touch_each_and_the_last_one_stays() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    let mut browser = Browser::new(&world);
    browser.sign_in(&mut olga).await.ok();
    let challenged = challenge(&mut browser).await;
    let proof = browser.prove(&challenged, &mut olga);
    let registration = begin(&mut browser, proof).await.ok();
    let mut second = Person::new("olga");
    let device = browser.new_key(&registration, &mut second, "second");
    browser.call("devices/finish", json!({"device": device})).await.ok();
    let ids = device_ids(&mut browser).await;
    let challenged = challenge(&mut browser).await;
    let proof = browser.prove(&challenged, &mut second);
    browser.call("devices/remove", json!({"proof": proof, "device_id": ids["key"]})).await.ok();
    let challenged = challenge(&mut browser).await;
    let proof = browser.prove(&challenged, &mut second);
    let last = browser.call("devices/remove", json!({"proof": proof, "device_id": ids["second"]})).await;
    assert_eq!(last.refused(), (409, "failed_precondition".to_owned()));
    assert_eq!(world.events("mfa.delete").await.len(), 1);
}

/// Ids are random, and the clock of these tests stands still: neither may decide what stands first.
#[tokio::test]
async fn devices_of_one_second_are_listed_by_name_and_older_ones_before_them() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    world.clock.advance(Duration::from_secs(1));
    let mut browser = Browser::new(&world);
    browser.sign_in(&mut olga).await.ok();
    for name in ["d", "b", "a", "c"] {
        add(&mut browser, &mut olga, name).await;
    }
    let listed = devices(&mut browser).await;
    let names: Vec<_> = listed.iter().map(|device| device["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["key", "a", "b", "c", "d"]);
}

#[tokio::test]
async fn a_session_alone_changes_no_devices() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    let mut browser = Browser::new(&world);
    browser.sign_in(&mut olga).await.ok();
    let device = browser.call("devices/list", json!({})).await.ok()["devices"][0]["id"].clone();
    let id = challenge(&mut browser).await["challenge_id"].clone();
    assert_eq!(begin(&mut browser, json!({"challenge_id": id})).await.refused().0, 403);
    // A touch to log in is none for devices.
    let body = json!({"user": "olga", "password": PASSWORD});
    let login = browser.call("login/begin", body).await.ok();
    let proof = browser.prove(&login, &mut olga);
    assert_eq!(begin(&mut browser, proof.clone()).await.refused().0, 409);
    for call in ["devices/remove", "devices/codes"] {
        let id = challenge(&mut browser).await["challenge_id"].clone();
        let mut body = json!({"proof": {"challenge_id": id}});
        let field = if call == "devices/remove" { "device_id" } else { "password" };
        body[field] = if call == "devices/remove" { device.clone() } else { json!(PASSWORD) };
        assert_eq!(browser.call(call, body).await.refused().0, 403, "{call}");
    }
    for call in ["devices/list", "devices/challenge"] {
        assert_eq!(Browser::new(&world).call(call, json!({})).await.refused().0, 401, "{call}");
    }
}

#[tokio::test]
async fn nobody_removes_somebody_elses_device_or_answers_their_challenge() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    let mut eve = world.person_with_key("eve", &["access"]).await;
    let (mut hers, mut evil) = (Browser::new(&world), Browser::new(&world));
    hers.sign_in(&mut olga).await.ok();
    evil.sign_in(&mut eve).await.ok();
    let device = hers.call("devices/list", json!({})).await.ok()["devices"][0]["id"].clone();
    let mine = challenge(&mut evil).await;
    let proof = evil.prove(&mine, &mut eve);
    let answer = evil.call("devices/remove", json!({"proof": proof, "device_id": device})).await;
    assert_eq!(answer.refused(), (404, "not_found".to_owned()));
    let challenged = challenge(&mut hers).await;
    let proof = hers.prove(&challenged, &mut olga);
    assert_eq!(begin(&mut evil, proof).await.refused().0, 409);
    assert_eq!(hers.call("devices/list", json!({})).await.ok()["devices"].as_array().unwrap().len(), 1);
}

async fn rename(browser: &mut Browser<'_>, id: &Value, name: &str) -> Answer {
    browser.call("devices/rename", json!({"device_id": id, "name": name})).await
}

#[tokio::test]
async fn a_device_gets_another_name_and_stays_the_device_that_it_was() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    let mut browser = Browser::new(&world);
    browser.sign_in(&mut olga).await.ok();
    let before = devices(&mut browser).await;
    let id = &before[0]["id"];
    let longest = "é".repeat(64);
    rename(&mut browser, id, &longest).await.ok();
    // Its own name is not taken by itself. Nothing changes, and nothing is recorded.
    rename(&mut browser, id, &longest).await.ok();
    let mut wanted = before.clone();
    wanted[0]["name"] = json!(longest);
    assert_eq!(devices(&mut browser).await, wanted);
    let [event] = &world.events("mfa.rename").await[..] else { panic!("one change, one event") };
    assert_eq!((&event["code"], &event["user"]), (&json!("TS0002I"), &json!("olga")));
    assert_eq!((&event["mfa_device_uuid"], &event["mfa_device_name"]), (id, &json!(longest)));
    assert_eq!(event["mfa_device_old_name"], "key");
    // It still proves who she is, and its old name is free.
    Browser::new(&world).sign_in(&mut olga).await.ok();
    add(&mut browser, &mut olga, "key").await;
}

#[tokio::test]
async fn a_new_name_is_checked_as_the_first_one_was() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    let mut browser = Browser::new(&world);
    browser.sign_in(&mut olga).await.ok();
    add(&mut browser, &mut olga, "second").await;
    let ids = device_ids(&mut browser).await;
    for bad in ["", &"x".repeat(65), "two\nlines"] {
        let answer = rename(&mut browser, &ids["key"], bad).await;
        assert_eq!(answer.refused(), (400, "invalid_argument".to_owned()), "{bad:?}");
    }
    // A name that is another's, or could be taken for another's id.
    for bad in ["second", ids["second"].as_str().unwrap()] {
        let answer = rename(&mut browser, &ids["key"], bad).await;
        assert_eq!(answer.refused(), (409, "already_exists".to_owned()), "{bad:?}");
    }
    // A device is named by its id alone.
    assert_eq!(rename(&mut browser, &json!("key"), "blue").await.refused().0, 400);
    assert_eq!(device_ids(&mut browser).await, ids);
    assert!(world.events("mfa.rename").await.is_empty());
}

#[tokio::test]
async fn nobody_renames_somebody_elses_device_or_any_without_a_session() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    let mut eve = world.person_with_key("eve", &["access"]).await;
    let (mut hers, mut evil) = (Browser::new(&world), Browser::new(&world));
    hers.sign_in(&mut olga).await.ok();
    evil.sign_in(&mut eve).await.ok();
    let ids = device_ids(&mut hers).await;
    let theirs = rename(&mut evil, &ids["key"], "mine").await;
    assert_eq!(theirs.refused(), (404, "not_found".to_owned()));
    // Told as one that is nobody's.
    let nobodys = rename(&mut evil, &json!(NOBODYS), "mine").await;
    assert_eq!(nobodys.body.replace(NOBODYS, ids["key"].as_str().unwrap()), theirs.body);
    let without = rename(&mut Browser::new(&world), &ids["key"], "mine").await;
    assert_eq!(without.refused(), (401, "not_signed_in".to_owned()));
    // Nor does another site have her browser do it.
    let mut headers = hers.own_headers();
    headers.retain(|(name, _)| name != "origin");
    headers.push(("origin".to_owned(), "https://evil.example".to_owned()));
    let body = json!({"device_id": ids["key"], "name": "mine"}).to_string();
    let elsewhere = hers.send("POST", "/web/api/devices/rename", &headers, body.as_bytes()).await;
    assert_eq!(elsewhere.refused(), (403, "permission_denied".to_owned()));
    assert_eq!(device_ids(&mut hers).await, ids);
    assert!(world.events("mfa.rename").await.is_empty());
}

#[tokio::test]
async fn two_cookies_of_the_name_are_none() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    let mut browser = Browser::new(&world);
    browser.sign_in(&mut olga).await.ok();
    let own = browser.cookie.clone().unwrap();
    browser.cookie = Some(format!("{own}; {own}"));
    assert_eq!(browser.call("devices/list", json!({})).await.refused().0, 401);
}
