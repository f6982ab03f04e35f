//! Who is asked, and whose answer counts.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use auth::{
    identity::{ClusterName, UserName},
    proto::{
        AccountIntent, BrowserMfa, MfaChallenge, PingResponse, account_intent, await_browser_mfa_response,
    },
    receipt::{self, Purpose},
};
use prost::Message;
use webauthn_rs_proto::{PublicKeyCredential, RegisterPublicKeyCredential, RequestChallengeResponse};

use super::*;
use crate::{
    mfa::{Asked, Reason},
    testing::{FakeService, ORIGIN, Screen, assertion, request_options},
};

/// What a key does when it is asked.
enum Does {
    /// Signs at once.
    Sign,
    Refuse(fn() -> KeyError),
    /// Waits until nobody waits for it any more.
    Wait,
    /// Asks for its PIN, then signs.
    AskForPin,
}

struct Key {
    does: Does,
    pins: Mutex<Vec<String>>,
    asked: AtomicBool,
    let_go: AtomicBool,
}

impl Key {
    fn that(does: Does) -> Arc<Self> {
        let (asked, let_go) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { does, pins: Mutex::default(), asked, let_go })
    }
}

impl SecurityKey for Key {
    fn register(
        &self,
        _: &RelyingParty,
        _: CreationChallengeResponse,
    ) -> Result<RegisterPublicKeyCredential, KeyError> {
        Err(KeyError::NotRegistered)
    }

    fn assert(&self, _: &RelyingParty, _: RequestChallengeResponse) -> Result<PublicKeyCredential, KeyError> {
        Err(KeyError::NotRegistered)
    }

    fn assert_with(
        &self,
        person: &dyn Person,
        _: &RelyingParty,
        _: RequestChallengeResponse,
    ) -> Result<PublicKeyCredential, KeyError> {
        self.asked.store(true, Ordering::SeqCst);
        match self.does {
            Does::Sign => {}
            Does::Refuse(why) => return Err(why()),
            Does::Wait => {
                while !person.has_left() {
                    thread::sleep(Duration::from_millis(1));
                }
                self.let_go.store(true, Ordering::SeqCst);
                return Err(KeyError::Withdrawn);
            }
            Does::AskForPin => {
                let pin = person.pin("Enter your security key PIN:")?;
                self.pins.lock().unwrap().push(pin.to_string());
            }
        }
        Ok(serde_json::from_str(&assertion(ORIGIN, "localhost", &hash())).unwrap())
    }

    fn warning(&self) -> Option<&str> {
        None
    }
}

fn intent() -> Vec<u8> {
    let purpose = account_intent::Purpose::Login.into();
    let (cluster, user) = ("main".to_owned(), "jerry".to_owned());
    AccountIntent { cluster, user, purpose, time: 1, nonce: vec![7; 16] }.encode_to_vec()
}

fn hash() -> [u8; 32] {
    receipt::challenge(Purpose::Login, &intent())
}

struct Scene {
    key: Arc<Key>,
    mode: Mode,
    typed: &'static str,
    totp: bool,
    rp_id: &'static str,
    service: FakeService,
}

impl Scene {
    fn with(does: Does) -> Self {
        let service = FakeService::default();
        Self { key: Key::that(does), mode: Mode::Auto, typed: "", totp: true, rp_id: "localhost", service }
    }

    async fn play(self) -> (Result<Response, MfaError>, String) {
        let (terminal, screen) = Screen::new(self.typed, true);
        let prompter = Prompter {
            terminal,
            key: Some(self.key),
            mode: self.mode,
            proxy: "localhost:3080".parse().unwrap(),
            channel: self.service.serve().await,
        };
        let challenge = MfaChallenge {
            challenge_id: "jerry.1".to_owned(),
            webauthn_request_options_json: request_options(self.rp_id, &hash()),
            intent: intent(),
            totp: self.totp,
            none_required: false,
            not_required: false,
        };
        let (cluster, user) = (ClusterName::new("main").unwrap(), UserName::new("jerry").unwrap());
        let asked = Asked { cluster: &cluster, user: &user, reason: Reason::Login };
        let challenge = Challenge::checked(challenge, &asked).unwrap();
        let answer = prompter.answer(&challenge, Whose::Any).await;
        drop(prompter);
        // A key that was let go of still holds the terminal for a moment.
        let seen = tokio::task::spawn_blocking(move || screen.read()).await.unwrap();
        (answer.map(|answer| answer.response.unwrap()), seen)
    }
}

fn code() -> Response {
    Response::TotpCode("123456".to_owned())
}

#[tokio::test]
async fn a_touch_answers_while_a_code_is_asked_for() {
    let (answer, seen) = Scene::with(Does::Sign).play().await;
    assert!(matches!(answer, Ok(Response::WebauthnAssertionJson(_))));
    let expected = "Tap any security key or enter a code from a OTP device:\nDetected security key tap\n";
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_code_that_was_typed_waits_for_no_key_and_the_key_is_let_go() {
    let scene = Scene { typed: "123456\n", ..Scene::with(Does::Wait) };
    let key = Arc::clone(&scene.key);
    let (answer, _) = scene.play().await;
    assert_eq!(answer.unwrap(), code());
    assert!(key.let_go.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_key_that_failed_leaves_the_question_for_a_code() {
    let failed = || KeyError::Failed { what: "unplugged".to_owned() };
    let scene = Scene { typed: "123456\n", ..Scene::with(Does::Refuse(failed)) };
    let (answer, _) = scene.play().await;
    assert_eq!(answer.unwrap(), code());
}

#[tokio::test]
async fn what_is_typed_after_a_key_asked_for_its_pin_is_the_pin() {
    let scene = Scene { mode: Mode::CrossPlatform, typed: "1234\n", ..Scene::with(Does::AskForPin) };
    let key = Arc::clone(&scene.key);
    let (answer, seen) = scene.play().await;
    assert!(matches!(answer, Ok(Response::WebauthnAssertionJson(_))));
    assert_eq!(*key.pins.lock().unwrap(), ["1234"]);
    assert!(seen.contains("Enter your security key PIN:\n"), "{seen}");
}

#[tokio::test]
async fn where_the_key_is_not_the_users_auto_goes_on_in_the_browser() {
    let approved = MfaResponse {
        response: Some(Response::WebauthnAssertionJson(assertion(ORIGIN, "localhost", &hash()))),
    };
    let page = BrowserMfa {
        url: format!("{ORIGIN}/web/approve/abc"),
        number: "42".to_owned(),
        wait_token: "token".to_owned(),
        expires: 0,
    };
    for totp in [false, true] {
        let outcome = await_browser_mfa_response::Outcome::Approved(approved.clone());
        let service = FakeService {
            page: Some(page.clone()),
            outcomes: Mutex::new([Ok(outcome)].into()),
            ..FakeService::default()
        };
        let stranger = Does::Refuse(|| KeyError::NotRegistered);
        let (answer, seen) = Scene { totp, service, ..Scene::with(stranger) }.play().await;
        assert!(matches!(answer, Ok(Response::WebauthnAssertionJson(_))));
        assert!(seen.contains("this security key is not registered here\nOpen this page"), "{seen}");
    }
    // Where a key was asked for, nothing takes its place.
    let scene = Scene { mode: Mode::CrossPlatform, ..Scene::with(Does::Refuse(|| KeyError::NotRegistered)) };
    assert!(matches!(scene.play().await.0, Err(MfaError::Key(KeyError::NotRegistered))));
}

#[tokio::test]
async fn who_speaks_for_somebody_else_gets_no_touch_and_nobody_is_asked() {
    let claims = |rp_id: &str, origin: &str| FakeService {
        ping: Some(PingResponse {
            webauthn_rp_id: rp_id.to_owned(),
            webauthn_origin: origin.to_owned(),
            ..PingResponse::default()
        }),
        ..FakeService::default()
    };
    for (rp_id, service) in [
        ("example.com", FakeService::default()),
        ("example.com", claims("example.com", ORIGIN)),
        ("localhost", claims("localhost", "https://evil.example")),
        ("localhost", claims("localhost", "http://localhost:3080")),
    ] {
        let scene = Scene { rp_id, service, ..Scene::with(Does::Sign) };
        let key = Arc::clone(&scene.key);
        let (answer, seen) = scene.play().await;
        assert!(matches!(answer, Err(MfaError::RelyingParty(_))));
        assert!(!key.asked.load(Ordering::SeqCst));
        assert_eq!(seen, "");
    }
}
