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
        webauthn_request_options_json: options(&receipt::challenge(Purpose::Session, &intent)),
        intent,
        ..MfaChallenge::default()
    }
}

fn checked(challenge: &MfaChallenge) -> Result<(), IntentError> {
    let cluster = ClusterName::new("main").unwrap();
    let user = UserName::new("jerry").unwrap();
    let route = route();
    let reason = Reason::Session { route: &route, public_key: PUBLIC_KEY };
    let asked = Asked { cluster: &cluster, user: &user, reason };
    Challenge::checked(challenge.clone(), &asked).map(drop)
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
        webauthn_request_options_json: options(&receipt::challenge(Purpose::Session, &bytes)),
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

mod account {
    use super::*;

    const REASONS: [(Reason<'_>, Purpose, account_intent::Purpose); 2] = [
        (Reason::Login, Purpose::Login, account_intent::Purpose::Login),
        (Reason::ManageDevices, Purpose::ManageDevices, account_intent::Purpose::ManageDevices),
    ];

    fn account_intent(purpose: account_intent::Purpose) -> AccountIntent {
        AccountIntent {
            cluster: "main".to_owned(),
            user: "jerry".to_owned(),
            purpose: purpose.into(),
            time: 1_700_000_000_000,
            nonce: vec![7; 16],
        }
    }

    /// A challenge whose hash is right, under the domain of a purpose.
    fn hashed(purpose: Purpose, intent: Vec<u8>) -> MfaChallenge {
        MfaChallenge {
            webauthn_request_options_json: options(&receipt::challenge(purpose, &intent)),
            intent,
            ..MfaChallenge::default()
        }
    }

    fn checked(challenge: MfaChallenge, reason: Reason<'_>) -> Result<(), IntentError> {
        let cluster = ClusterName::new("main").unwrap();
        let user = UserName::new("jerry").unwrap();
        Challenge::checked(challenge, &Asked { cluster: &cluster, user: &user, reason }).map(drop)
    }

    #[test]
    fn an_honest_challenge_may_be_answered() {
        for (reason, purpose, named) in REASONS {
            let challenge = hashed(purpose, account_intent(named).encode_to_vec());
            assert_eq!(checked(challenge, reason), Ok(()));
        }
    }

    #[test]
    fn the_challenge_of_a_session_is_never_answered_at_login() {
        for (reason, _, named) in REASONS {
            // The intent of a session, hashed as one.
            let session = hashed(Purpose::Session, intent().encode_to_vec());
            assert!(checked(session.clone(), reason).is_err());
            // An honest intent shown, and the hash of a session put to the key.
            let shown = account_intent(named).encode_to_vec();
            let swapped = MfaChallenge { intent: shown.clone(), ..session };
            assert_eq!(checked(swapped, reason), Err(IntentError::Challenge));
            // Whatever the bytes say: under the domain of sessions they are not signed.
            assert_eq!(checked(hashed(Purpose::Session, shown), reason), Err(IntentError::Challenge));
        }
    }

    #[test]
    fn random_bytes_and_no_intent_are_refused() {
        for (reason, _, named) in REASONS {
            let random = MfaChallenge {
                webauthn_request_options_json: options(&[9; 32]),
                intent: account_intent(named).encode_to_vec(),
                ..MfaChallenge::default()
            };
            assert_eq!(checked(random.clone(), reason), Err(IntentError::Challenge));
            let silent = MfaChallenge { intent: Vec::new(), ..random };
            assert_eq!(checked(silent, reason), Err(IntentError::Missing));
        }
    }

    #[test]
    fn one_purpose_does_not_serve_another() {
        let [(login, login_domain, login_named), (manage, manage_domain, manage_named)] = REASONS;
        let wrong_name = hashed(login_domain, account_intent(manage_named).encode_to_vec());
        assert!(matches!(checked(wrong_name, login), Err(IntentError::Purpose { .. })));
        let wrong_domain = hashed(manage_domain, account_intent(login_named).encode_to_vec());
        assert_eq!(checked(wrong_domain, login), Err(IntentError::Challenge));
        let login_for_manage = hashed(login_domain, account_intent(login_named).encode_to_vec());
        assert!(matches!(checked(login_for_manage, manage), Err(IntentError::Purpose { .. })));
        let unknown = AccountIntent { purpose: 99, ..account_intent(login_named) };
        let refused = checked(hashed(login_domain, unknown.encode_to_vec()), login);
        assert!(matches!(refused, Err(IntentError::Purpose { named: "nothing known", .. })));
    }

    #[test]
    fn another_user_and_another_cluster_are_refused() {
        for (reason, purpose, named) in REASONS {
            let user = AccountIntent { user: "olga".into(), ..account_intent(named) };
            let refused = checked(hashed(purpose, user.encode_to_vec()), reason);
            assert!(matches!(refused, Err(IntentError::User { .. })));
            let cluster = AccountIntent { cluster: "other".into(), ..account_intent(named) };
            let refused = checked(hashed(purpose, cluster.encode_to_vec()), reason);
            assert!(matches!(refused, Err(IntentError::Cluster { .. })));
        }
    }
}

mod passwordless {
    use super::*;

    fn challenge(user: &str, named: account_intent::Purpose, hashed: Purpose) -> MfaChallenge {
        let (cluster, user) = ("main".to_owned(), user.to_owned());
        let intent = AccountIntent { cluster, user, purpose: named.into(), time: 1, nonce: vec![7; 16] }
            .encode_to_vec();
        MfaChallenge {
            webauthn_request_options_json: options(&receipt::challenge(hashed, &intent)),
            intent,
            ..MfaChallenge::default()
        }
    }

    fn checked(challenge: MfaChallenge, cluster: &str) -> Result<(), IntentError> {
        Challenge::checked_passwordless(challenge, &ClusterName::new(cluster).unwrap()).map(drop)
    }

    #[test]
    fn only_a_passwordless_login_of_nobody_yet_is_answered() {
        use account_intent::Purpose as Named;
        let honest = challenge("", Named::PasswordlessLogin, Purpose::PasswordlessLogin);
        assert_eq!(checked(honest.clone(), "main"), Ok(()));
        assert!(matches!(checked(honest, "other"), Err(IntentError::Cluster { .. })));
        let somebody = challenge("olga", Named::PasswordlessLogin, Purpose::PasswordlessLogin);
        assert!(matches!(checked(somebody, "main"), Err(IntentError::User { .. })));
        let login = challenge("", Named::Login, Purpose::PasswordlessLogin);
        assert!(matches!(checked(login, "main"), Err(IntentError::Purpose { .. })));
        for domain in [Purpose::Login, Purpose::Session, Purpose::AdminAction, Purpose::ManageDevices] {
            let swapped = challenge("", Named::PasswordlessLogin, domain);
            assert_eq!(checked(swapped, "main"), Err(IntentError::Challenge), "{domain:?}");
        }
    }
}

mod admin {
    use super::*;

    const COMMAND: &str = "tctl rm role/access-prod";
    const CALLS: [[u8; 32]; 2] = [[1; 32], [2; 32]];

    fn intent() -> AdminIntent {
        AdminIntent {
            cluster: "main".to_owned(),
            user: "jerry".to_owned(),
            command: COMMAND.to_owned(),
            request_sha256: CALLS.map(|call| call.to_vec()).to_vec(),
            time: 1,
            nonce: vec![7; 16],
        }
    }

    fn checked(intent: &AdminIntent, domain: Purpose) -> Result<(), IntentError> {
        let (cluster, user) = (ClusterName::new("main").unwrap(), UserName::new("jerry").unwrap());
        let reason = Reason::AdminAction { command: COMMAND, calls: &CALLS };
        let intent = intent.encode_to_vec();
        let challenge = MfaChallenge {
            webauthn_request_options_json: options(&receipt::challenge(domain, &intent)),
            intent,
            ..MfaChallenge::default()
        };
        Challenge::checked(challenge, &Asked { cluster: &cluster, user: &user, reason }).map(drop)
    }

    fn lie(change: impl FnOnce(&mut AdminIntent)) -> Result<(), IntentError> {
        let mut intent = intent();
        change(&mut intent);
        checked(&intent, Purpose::AdminAction)
    }

    #[test]
    fn exactly_the_calls_of_the_command_are_touched_for() {
        assert_eq!(lie(|_| ()), Ok(()));
        let lies: [fn(&mut AdminIntent); 5] = [
            |intent| intent.request_sha256[1] = vec![3; 32],
            |intent| intent.request_sha256.push(vec![3; 32]),
            |intent| intent.request_sha256.push(vec![2; 32]),
            |intent| drop(intent.request_sha256.pop()),
            |intent| intent.request_sha256.swap(0, 1),
        ];
        for change in lies {
            assert_eq!(lie(change), Err(IntentError::Calls));
        }
    }

    #[test]
    fn another_command_user_or_cluster_is_refused() {
        let refused = lie(|intent| intent.command = "tctl status".into());
        assert!(matches!(refused, Err(IntentError::Command { .. })));
        assert!(matches!(lie(|intent| intent.user = "olga".into()), Err(IntentError::User { .. })));
        assert!(matches!(lie(|intent| intent.cluster = "other".into()), Err(IntentError::Cluster { .. })));
    }

    #[test]
    fn the_hash_of_a_session_or_a_login_is_refused() {
        for domain in [Purpose::Session, Purpose::Login, Purpose::ManageDevices, Purpose::PasswordlessLogin] {
            assert_eq!(checked(&intent(), domain), Err(IntentError::Challenge), "{domain:?}");
        }
    }
}
