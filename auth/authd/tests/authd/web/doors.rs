//! What holds for every page and every call: headers, origins, sizes.

use serde_json::json;

use super::browser::Browser;
use crate::world::*;

const PAGES: [&str; 6] =
    ["/web/login", "/web/devices", "/web/recover", "/web/logout", "/web/invite/x", "/web/approve/x"];
const SCRIPTS: [&str; 12] = [
    "call", "codes", "enroll", "key", "page", "prove", "approve", "devices", "invite", "login", "logout",
    "recover",
];
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'none'; frame-ancestors 'none'; base-uri 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

#[tokio::test]
async fn every_answer_has_the_headers_whatever_it_is() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let mut answers = vec![
        (404, browser.call("nothing", json!({})).await),
        (401, browser.call("devices/list", json!({})).await),
        (400, browser.call("login/begin", json!({"who": 1})).await),
        (200, browser.call("logout", json!({})).await),
        (200, browser.get("/webapi/ping").await),
        (303, browser.get("/").await),
        (404, browser.get("/nothing").await),
        (404, browser.get("/web/assets/nothing").await),
        (405, browser.send("POST", "/web/login", &browser.own_headers(), b"").await),
        (403, browser.get("/web/api/logout").await),
        (421, browser.send("GET", "/web/login", &[("host".into(), "evil.example".into())], b"").await),
        (403, browser.send("POST", "/web/api/logout", &browser.own_headers()[..1], b"{}").await),
    ];
    for page in PAGES {
        let found = if page.ends_with("/x") { 404 } else { 200 };
        answers.push((found, browser.get(page).await));
    }
    for script in SCRIPTS {
        answers.push((200, browser.get(&format!("/web/assets/{script}.js")).await));
    }
    for (status, answer) in answers {
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.header("content-security-policy"), Some(POLICY));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        assert_eq!(answer.header("cross-origin-opener-policy"), Some("same-origin"));
        assert!(matches!(answer.header("cache-control"), Some("no-store" | "no-cache")), "{answer:?}");
        // Browsers would remember it for every port of this host.
        assert_eq!(answer.header("strict-transport-security"), None);
    }
}

#[tokio::test]
async fn pages_hold_nothing_inline_and_load_nothing_from_elsewhere() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    for page in PAGES {
        let text = browser.get(page).await.body;
        assert!(text.starts_with("<!doctype html>") && text.contains("<html lang=\"en\">"), "{page}");
        for bad in ["<style", " style=", "javascript:", "http:", "https:", " onclick", " onload", " onsubmit"]
        {
            assert!(!text.contains(bad), "{page}: {bad}");
        }
        assert_eq!(
            text.matches("<script").count(),
            text.matches("<script type=\"module\" src=\"/web/assets/").count()
        );
    }
    for script in SCRIPTS {
        let text = browser.get(&format!("/web/assets/{script}.js")).await.body;
        for bad in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http:", "https:"]
        {
            assert!(!text.contains(bad), "{script}: {bad}");
        }
    }
}

#[tokio::test]
async fn an_asset_that_did_not_change_is_not_sent_again() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    let first = browser.get("/web/assets/style.css").await;
    let tag = first.header("etag").unwrap().to_owned();
    let headers =
        [("host".to_owned(), world.server.public_addr().to_owned()), ("if-none-match".to_owned(), tag)];
    let again = browser.send("GET", "/web/assets/style.css", &headers, b"").await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
}

/// The headers of our scripts, but for one.
fn with(browser: &Browser<'_>, name: &str, value: Option<&str>) -> Vec<(String, String)> {
    let mut headers = browser.own_headers();
    headers.retain(|(known, _)| known != name);
    headers.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    headers
}

#[tokio::test]
async fn another_site_cannot_have_a_browser_make_a_call() {
    let world = World::new().await;
    let mut olga = world.person_with_key("olga", &["access"]).await;
    let mut browser = Browser::new(&world);
    browser.sign_in(&mut olga).await.ok();
    let plain = world.origin().origin().ascii_serialization().replace("https", "http");
    let attempts = [
        ("origin", Some("https://evil.example")),
        ("origin", Some("null")),
        ("origin", Some(plain.as_str())),
        ("origin", Some("https://localhost")),
        ("origin", None),
        ("sec-fetch-site", Some("cross-site")),
        ("sec-fetch-site", Some("same-site")),
        ("sec-fetch-site", Some("none")),
        ("content-type", Some("text/plain")),
        ("content-type", Some("application/x-www-form-urlencoded")),
        ("content-type", None),
    ];
    for (name, value) in attempts {
        let headers = with(&browser, name, value);
        let answer = browser.send("POST", "/web/api/logout", &headers, b"{}").await;
        assert_eq!(answer.refused(), (403, "permission_denied".to_owned()), "{name}: {value:?}");
        assert_eq!(answer.header("set-cookie"), None);
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    // It is signed in still.
    browser.call("devices/list", json!({})).await.ok();
}

#[tokio::test]
async fn pages_answer_under_their_own_name_alone() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    let port = world.server.address().port();
    for host in
        ["evil.example".to_owned(), format!("127.0.0.1:{port}"), "localhost".to_owned(), String::new()]
    {
        let headers = with(&browser, "host", Some(&host));
        assert_eq!(browser.send("POST", "/web/api/logout", &headers, b"{}").await.status, 421, "{host}");
    }
    let mut doubled = browser.own_headers();
    doubled.push(("host".to_owned(), "evil.example".to_owned()));
    assert!(matches!(browser.send("POST", "/web/api/logout", &doubled, b"{}").await.status, 400 | 421));
}

#[tokio::test]
async fn long_and_misshapen_bodies_are_refused_without_being_quoted() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let long = json!({"user": "x", "password": "x".repeat(65 * 1024)});
    assert_eq!(browser.call("login/begin", long).await.status, 400);
    let bad = [
        &b""[..],
        b"{",
        b"[]",
        b"null",
        b"{\"user\":\"jerry\"}",
        b"{\"user\":\"jerry\",\"password\":\"sesame-sesame\",\"more\":1}",
        b"\xff\xfe",
    ];
    for body in bad {
        let answer = browser.send("POST", "/web/api/login/begin", &browser.own_headers(), body).await;
        assert_eq!(answer.refused(), (400, "invalid_argument".to_owned()));
        assert!(!answer.body.contains("jerry") && !answer.body.contains("sesame"), "{answer:?}");
    }
    let deep = "[".repeat(60_000);
    let answer = browser.send("POST", "/web/api/login/begin", &browser.own_headers(), deep.as_bytes()).await;
    assert_eq!(answer.status, 400);
}
