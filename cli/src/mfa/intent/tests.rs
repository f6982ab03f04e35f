use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::*;

const PUBLIC_KEY: &[u8] = b"SubjectPublicKeyInfo of this session";

fn route() -> Route {
    Route {
        target_kind: "database".to_owned(),
        target_name: "prod-pg".to_owned(),
        protocol: "postgres".to_owned(),
        login: "alice".to_owned(),
        db_name: "shop".to_owned(),
    }
}

fn intent() -> SessionIntent {
    SessionIntent {
        cluster: "main".to_owned(),
        user: "jerry".to_owned(),
        route: Some(route()),
        public_key_sha256: digest(&SHA256, PUBLIC_KEY).as_ref().to_vec(),
        client_address: "192.0.2.7".to_owned(),
        time: 1_700_000_000_000,
        nonce: vec![7; 16],
    }
}

fn options(challenge: &[u8]) -> String {
    let challenge = URL_SAFE_NO_PAD.encode(challenge);
    format!(
        r#"{{"publicKey":{{"challenge":"{challenge}","rpId":"h","allowCredentials":[],"userVerification":"discouraged"}}}}"#
    )
}

fn honest(intent: &SessionIntent) -> MfaChallenge {
    let intent = intent.encode_to_vec();
    MfaChallenge {
        webauthn_request_options_json: options(&receipt::challenge(&intent)),
        intent,
        ..MfaChallenge::default()
    }
}

fn checked(challenge: &MfaChallenge) -> Result<(), IntentError> {
    let cluster = ClusterName::new("main").unwrap();
    let user = UserName::new("jerry").unwrap();
    let route = route();
    check(challenge, &Asked { cluster: &cluster, user: &user, route: &route, public_key: PUBLIC_KEY })
}

fn lie(change: impl FnOnce(&mut SessionIntent)) -> Result<(), IntentError> {
    let mut intent = intent();
    change(&mut intent);
    checked(&honest(&intent))
}

fn lie_about_route(change: impl FnOnce(&mut Route)) -> Result<(), IntentError> {
    lie(|intent| change(intent.route.as_mut().unwrap()))
}

#[test]
fn an_honest_challenge_may_be_answered() {
    assert_eq!(checked(&honest(&intent())), Ok(()));
}

#[test]
fn an_honest_challenge_for_a_code_alone_may_be_answered() {
    let challenge = MfaChallenge { webauthn_request_options_json: String::new(), ..honest(&intent()) };
    assert_eq!(checked(&challenge), Ok(()));
}

#[test]
fn a_challenge_without_an_intent_is_refused() {
    let challenge = MfaChallenge { intent: Vec::new(), ..honest(&intent()) };
    assert_eq!(checked(&challenge), Err(IntentError::Missing));
}

#[test]
fn another_cluster_is_refused() {
    assert!(matches!(lie(|intent| intent.cluster = "other".into()), Err(IntentError::Cluster { .. })));
}

#[test]
fn another_user_is_refused() {
    assert!(matches!(lie(|intent| intent.user = "olga".into()), Err(IntentError::User { .. })));
}

#[test]
fn another_route_is_refused_whatever_part_differs() {
    let lies: [fn(&mut Route); 5] = [
        |route| route.target_name = "payroll".into(),
        |route| route.target_kind = "node".into(),
        |route| route.protocol = "mysql".into(),
        |route| route.login = "postgres".into(),
        |route| route.db_name = "secrets".into(),
    ];
    for change in lies {
        assert!(matches!(lie_about_route(change), Err(IntentError::Route { .. })));
    }
    assert!(matches!(lie(|intent| intent.route = None), Err(IntentError::Route { .. })));
}

#[test]
fn another_key_is_refused() {
    assert_eq!(lie(|intent| intent.public_key_sha256 = vec![0; 32]), Err(IntentError::Key));
    assert_eq!(lie(|intent| intent.public_key_sha256.clear()), Err(IntentError::Key));
}

#[test]
fn a_challenge_that_is_not_the_hash_of_the_intent_is_refused() {
    let challenge = MfaChallenge { webauthn_request_options_json: options(&[0; 32]), ..honest(&intent()) };
    assert_eq!(checked(&challenge), Err(IntentError::Challenge));
    let other = SessionIntent { nonce: vec![8; 16], ..intent() };
    let swapped = MfaChallenge { intent: intent().encode_to_vec(), ..honest(&other) };
    assert_eq!(checked(&swapped), Err(IntentError::Challenge));
}

#[test]
fn an_intent_that_says_more_than_we_understand_is_refused() {
    let mut bytes = intent().encode_to_vec();
    bytes.extend([0x98, 0x06, 0x01]); // field 99 = 1
    let challenge = MfaChallenge {
        webauthn_request_options_json: options(&receipt::challenge(&bytes)),
        intent: bytes,
        ..MfaChallenge::default()
    };
    assert_eq!(checked(&challenge), Err(IntentError::Unreadable));
}

#[test]
fn an_intent_that_says_something_twice_is_refused() {
    let mut bytes = SessionIntent { user: "olga".into(), ..SessionIntent::default() }.encode_to_vec();
    bytes.extend(intent().encode_to_vec());
    let challenge = MfaChallenge { intent: bytes, ..MfaChallenge::default() };
    assert_eq!(checked(&challenge), Err(IntentError::Unreadable));
}

#[test]
fn garbage_is_refused() {
    let challenge = MfaChallenge { intent: vec![0xff; 9], ..MfaChallenge::default() };
    assert_eq!(checked(&challenge), Err(IntentError::Unreadable));
    let challenge = MfaChallenge { webauthn_request_options_json: "{".into(), ..honest(&intent()) };
    assert_eq!(checked(&challenge), Err(IntentError::Options));
}
