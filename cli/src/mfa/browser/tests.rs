use std::{collections::VecDeque, sync::Mutex};

use auth::{
    identity::{ClusterName, UserName},
    proto::{
        AccountIntent, MfaChallenge, account_intent,
        await_browser_mfa_response::{Denied, Outcome as Told, Pending},
    },
    receipt::Purpose,
};
use prost::Message;

use super::*;
use crate::{
    mfa::{Asked, MfaError, Mode, Prompter, Reason, Whose},
    testing::{FakeService, ORIGIN, Screen, assertion, request_options},
};

const LINK: &str = "https://localhost:3080/web/approve/abc-123_";

fn intent() -> Vec<u8> {
    let purpose = account_intent::Purpose::Login.into();
    let (cluster, user) = ("main".to_owned(), "jerry".to_owned());
    AccountIntent { cluster, user, purpose, time: 1, nonce: vec![7; 16] }.encode_to_vec()
}

fn hash() -> [u8; 32] {
    receipt::challenge(Purpose::Login, &intent())
}

fn challenge(rp_id: &str, totp: bool) -> Challenge {
    let challenge = MfaChallenge {
        challenge_id: "jerry.1".to_owned(),
        webauthn_request_options_json: request_options(rp_id, &hash()),
        intent: intent(),
        totp,
        none_required: false,
        not_required: false,
    };
    let (cluster, user) = (ClusterName::new("main").unwrap(), UserName::new("jerry").unwrap());
    Challenge::checked(challenge, &Asked { cluster: &cluster, user: &user, reason: Reason::Login }).unwrap()
}

fn approved(json: String) -> Result<Told, Status> {
    Ok(Told::Approved(MfaResponse { response: Some(Response::WebauthnAssertionJson(json)) }))
}

/// A service with a page at `link`, of which one hears this.
fn page(link: &str, outcomes: impl Into<VecDeque<Result<Told, Status>>>) -> FakeService {
    let page = BrowserMfa {
        url: link.to_owned(),
        number: "42".to_owned(),
        wait_token: "token".to_owned(),
        expires: 0,
    };
    FakeService { page: Some(page), outcomes: Mutex::new(outcomes.into()), ..FakeService::default() }
}

struct Scene {
    mode: Mode,
    typed: &'static str,
    person: bool,
    totp: bool,
    rp_id: &'static str,
}

impl Default for Scene {
    fn default() -> Self {
        Self { mode: Mode::Browser, typed: "", person: true, totp: false, rp_id: "localhost" }
    }
}

impl Scene {
    /// What it comes to, and what the person saw.
    async fn play(self, service: FakeService) -> (Result<MfaResponse, MfaError>, String) {
        let (terminal, screen) = Screen::new(self.typed, self.person);
        let prompter = Prompter {
            terminal,
            key: None,
            mode: self.mode,
            proxy: "localhost:3080".parse().unwrap(),
            channel: service.serve().await,
        };
        let result = prompter.answer(&challenge(self.rp_id, self.totp), Whose::Any).await;
        drop(prompter);
        (result, screen.read())
    }
}

async fn refused(outcome: Result<Told, Status>) -> MfaError {
    Scene::default().play(page(LINK, [outcome])).await.0.unwrap_err()
}

#[tokio::test]
async fn the_link_and_the_number_are_shown_and_the_touch_is_taken() {
    let answer = assertion(ORIGIN, "localhost", &hash());
    let outcomes = [Ok(Told::Pending(Pending {})), approved(answer.clone())];
    let (result, seen) = Scene::default().play(page(LINK, outcomes)).await;
    assert_eq!(result.unwrap().response, Some(Response::WebauthnAssertionJson(answer)));
    let expected = format!(
        "Open this page in a browser:\n\n  {LINK}\n\n\
         Check that the page says what you are doing here, and press 42 on it.\n"
    );
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_touch_for_something_else_is_not_used() {
    let other = receipt::challenge(Purpose::Session, &intent());
    for wrong in [
        assertion(ORIGIN, "localhost", &other),
        assertion(ORIGIN, "evil.example", &hash()),
        assertion("https://localhost:3081", "localhost", &hash()),
    ] {
        let error = refused(approved(wrong)).await;
        assert!(matches!(error, MfaError::Page(PageError::OtherTouch(_))), "{error}");
    }
    let error = refused(approved("{}".to_owned())).await;
    assert!(matches!(error, MfaError::Page(PageError::Unreadable(_))), "{error}");
}

#[tokio::test]
async fn a_code_cannot_come_from_a_page() {
    let code = MfaResponse { response: Some(Response::TotpCode("123456".to_owned())) };
    let error = refused(Ok(Told::Approved(code))).await;
    assert!(matches!(error, MfaError::Page(PageError::Service(_))), "{error}");
}

#[tokio::test]
async fn denied_and_expired_are_told_apart() {
    let error = refused(Ok(Told::Denied(Denied {}))).await;
    assert!(error.to_string().starts_with("denied in the browser"), "{error}");
    let error = refused(Err(Status::failed_precondition("the challenge is not there"))).await;
    assert!(error.to_string().starts_with("the page has expired"), "{error}");
}

#[tokio::test]
async fn a_service_that_is_away_for_a_moment_is_asked_again() {
    let answer = assertion(ORIGIN, "localhost", &hash());
    let away = || Err(Status::unavailable("away"));
    let (result, _) = Scene::default().play(page(LINK, [away(), away(), approved(answer)])).await;
    result.unwrap();
    let always = VecDeque::from_iter((0..20).map(|_| away()));
    let error = Scene::default().play(page(LINK, always)).await.0.unwrap_err();
    assert!(matches!(error, MfaError::Page(PageError::Service(_))), "{error}");
}

#[tokio::test]
async fn a_link_that_leads_elsewhere_is_not_shown() {
    for link in [
        "https://evil.example/web/approve/abc",
        "https://localhost:3081/web/approve/abc",
        "http://localhost:3080/web/approve/abc",
        "https://localhost:3080/web/login",
        "https://localhost:3080/web/approve/",
        "https://localhost:3080/web/approve/../../x",
        "https://localhost:3080/web/approve/abc?next=x",
        "https://localhost:3080/web/approve/abc#x",
        "https://u@localhost:3080/web/approve/abc",
        "javascript:alert(1)",
        "",
    ] {
        let (result, seen) = Scene::default().play(page(link, [])).await;
        assert!(matches!(result, Err(MfaError::Page(PageError::Elsewhere { .. }))), "{link}");
        assert_eq!(seen, "", "{link}");
    }
}

#[tokio::test]
async fn a_challenge_for_another_party_is_put_on_no_page() {
    let scene = Scene { rp_id: "example.com", ..Scene::default() };
    let (result, seen) = scene.play(page(LINK, [])).await;
    assert!(matches!(result, Err(MfaError::RelyingParty(_))));
    assert_eq!(seen, "");
}

#[tokio::test]
async fn a_number_that_is_none_is_refused() {
    let mut service = page(LINK, []);
    service.page.as_mut().unwrap().number = "\u{1b}[2J".to_owned();
    let (result, seen) = Scene::default().play(service).await;
    assert!(matches!(result, Err(MfaError::Page(PageError::Number))));
    assert_eq!(seen, "");
}

#[tokio::test]
async fn a_code_may_be_typed_while_the_page_is_open() {
    // An empty line is no code: it would be counted as a wrong one.
    let scene = Scene { mode: Mode::Auto, typed: "\n123456\n", totp: true, ..Scene::default() };
    let (result, seen) = scene.play(page(LINK, [])).await;
    assert_eq!(result.unwrap().response, Some(Response::TotpCode("123456".to_owned())));
    assert!(seen.ends_with("press 42 on it.\nOr enter a code from a OTP device:\n"), "{seen}");
}

#[tokio::test]
async fn the_touch_on_the_page_withdraws_the_question_for_a_code() {
    let answer = assertion(ORIGIN, "localhost", &hash());
    let scene = Scene { mode: Mode::Auto, totp: true, ..Scene::default() };
    let (result, _) = scene.play(page(LINK, [approved(answer.clone())])).await;
    assert_eq!(result.unwrap().response, Some(Response::WebauthnAssertionJson(answer)));
}

#[tokio::test]
async fn a_no_on_the_page_ends_the_question_for_a_code_too() {
    let scene = Scene { mode: Mode::Auto, totp: true, ..Scene::default() };
    let (result, _) = scene.play(page(LINK, [Ok(Told::Denied(Denied {}))])).await;
    assert!(matches!(result, Err(MfaError::Page(PageError::Denied))));
}

#[tokio::test]
async fn without_a_person_at_the_terminal_standard_input_is_left_alone() {
    let answer = assertion(ORIGIN, "localhost", &hash());
    let scene = Scene { mode: Mode::Auto, typed: "123456\n", person: false, totp: true, ..Scene::default() };
    let (result, seen) = scene.play(page(LINK, [approved(answer.clone())])).await;
    assert_eq!(result.unwrap().response, Some(Response::WebauthnAssertionJson(answer)));
    assert!(!seen.contains("code"), "{seen}");
}

#[tokio::test]
async fn a_page_for_this_machines_own_authenticator_says_so() {
    let answer = assertion(ORIGIN, "localhost", &hash());
    let scene = Scene { mode: Mode::Platform, ..Scene::default() };
    let (result, seen) = scene.play(page(LINK, [approved(answer)])).await;
    result.unwrap();
    assert!(seen.starts_with("Using platform authenticator, follow the OS prompt"), "{seen}");
    assert!(seen.contains(&format!("{LINK}#this-machine\n")), "{seen}");
}
