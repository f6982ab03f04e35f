use prost::Message;

use super::*;
use crate::testing::{
    HOUR, MINUTE, SecurityKey, World, now,
    security_key::{ORIGIN, RP_ID, Touch},
    world::{login, route},
};

struct Case {
    world: World,
    route: Route,
    user: UserName,
    cluster: ClusterName,
    hash: [u8; 32],
}

impl Case {
    fn new() -> Self {
        let world = World::new();
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &world.spki).as_ref());
        Self {
            route: route("prod-pg"),
            user: UserName::new("jerry").unwrap(),
            cluster: ClusterName::new("example").unwrap(),
            hash,
            world,
        }
    }

    fn touch(&self) -> Touch {
        self.world.touch("prod-pg")
    }

    fn expected(&self) -> Expected<'_> {
        Expected {
            cluster: &self.cluster,
            user: &self.user,
            device: self.world.key.id,
            route: &self.route,
            public_key_sha256: &self.hash,
            not_before: now(),
        }
    }

    fn verify(&self, receipt: &proto::Receipt) -> Result<VerifiedReceipt, ReceiptError> {
        self.verify_bytes(&receipt.encode_to_vec())
    }

    fn verify_bytes(&self, receipt: &[u8]) -> Result<VerifiedReceipt, ReceiptError> {
        let key = DeviceKey::from_cose(&self.world.key.cose()).unwrap();
        let relying_party = RelyingParty { rp_id: RP_ID.to_owned(), origins: vec![ORIGIN.to_owned()] };
        verify(receipt, &self.expected(), &key, &relying_party)
    }

    fn error(&self, touch: &Touch) -> ReceiptError {
        self.verify(&self.world.key.sign(touch)).unwrap_err()
    }

    /// A touch for an intent that differs in one thing.
    fn error_for(&self, change: impl Fn(&mut SessionIntent)) -> ReceiptError {
        let mut touch = self.touch();
        change(&mut touch.intent);
        self.error(&touch)
    }

    fn error_for_route(&self, change: impl Fn(&mut proto::Route)) -> ReceiptError {
        self.error_for(|intent| change(intent.route.as_mut().unwrap()))
    }
}

#[test]
fn a_touch_for_this_session_is_proof() {
    let case = Case::new();
    let verified = case.verify(&case.world.key.sign(&case.touch())).unwrap();
    assert_eq!(verified.device, case.world.key.id);
    assert_eq!(verified.intent, case.touch().intent);
    assert!(verified.user_verified);
}

#[test]
fn the_challenge_is_the_hash_of_domain_and_intent() {
    assert_eq!(challenge(b"x").as_slice(), digest(&SHA256, b"touchstone-session-v1x").as_ref());
}

#[test]
fn a_touch_without_pin_is_proof_too() {
    let case = Case::new();
    let verified = case.verify(&case.world.key.sign(&Touch { flags: 0x01, ..case.touch() })).unwrap();
    assert!(!verified.user_verified);
}

#[test]
fn an_origin_with_an_empty_path_is_the_same_origin() {
    let case = Case::new();
    let touch = Touch { origin: "https://auth.example.com:3080/", ..case.touch() };
    assert!(case.verify(&case.world.key.sign(&touch)).is_ok());
}

#[test]
fn a_tampered_intent_is_refused() {
    let case = Case::new();
    let mut receipt = case.world.key.sign(&case.touch());
    receipt.intent = {
        let mut intent = case.touch().intent;
        intent.nonce = vec![8; 16];
        intent.encode_to_vec()
    };
    assert_eq!(case.verify(&receipt).unwrap_err(), ReceiptError::ChallengeMismatch);
}

#[test]
fn an_intent_with_unknown_fields_added_is_refused() {
    let case = Case::new();
    let mut receipt = case.world.key.sign(&case.touch());
    receipt.intent.extend_from_slice(&[0xf8, 0x01, 0x01]);
    assert_eq!(case.verify(&receipt).unwrap_err(), ReceiptError::ChallengeMismatch);
}

#[test]
fn a_touch_of_another_key_is_refused() {
    let case = Case::new();
    let mut receipt = SecurityKey::new().sign(&case.touch());
    assert_eq!(case.verify(&receipt).unwrap_err(), ReceiptError::OtherDevice);
    receipt.device_id = case.world.key.id.to_string();
    assert_eq!(case.verify(&receipt).unwrap_err(), ReceiptError::BadSignature);
}

#[test]
fn any_changed_byte_under_the_signature_is_refused() {
    let case = Case::new();
    let good = case.world.key.sign(&case.touch());
    for at in 0..good.authenticator_data.len() {
        let mut receipt = good.clone();
        receipt.authenticator_data[at] ^= 0x04;
        assert!(case.verify(&receipt).is_err(), "authenticator data, byte {at}");
    }
    for at in 0..good.client_data_json.len() {
        let mut receipt = good.clone();
        receipt.client_data_json[at] ^= 0x04;
        assert!(case.verify(&receipt).is_err(), "client data, byte {at}");
    }
    for at in 0..good.signature.len() {
        let mut receipt = good.clone();
        receipt.signature[at] ^= 0x04;
        assert!(case.verify(&receipt).is_err(), "signature, byte {at}");
    }
}

#[test]
fn a_touch_that_was_no_touch_is_refused() {
    let case = Case::new();
    assert_eq!(case.error(&Touch { flags: 0x04, ..case.touch() }), ReceiptError::UserNotPresent);
}

#[test]
fn a_touch_for_another_relying_party_is_refused() {
    let case = Case::new();
    let error = case.error(&Touch { rp_id: "evil.example", ..case.touch() });
    assert_eq!(error, ReceiptError::WrongRelyingParty);
}

#[test]
fn a_touch_asked_for_by_another_site_is_refused() {
    let case = Case::new();
    for origin in ["https://evil.example", "http://auth.example.com:3080", "https://auth.example.com"] {
        let error = case.error(&Touch { origin, ..case.touch() });
        assert_eq!(error, ReceiptError::WrongOrigin { origin: origin.to_owned() });
    }
}

#[test]
fn a_registration_is_no_touch() {
    let case = Case::new();
    assert_eq!(case.error(&Touch { kind: "webauthn.create", ..case.touch() }), ReceiptError::WrongType);
}

#[test]
fn a_touch_across_origins_is_refused() {
    let case = Case::new();
    assert_eq!(case.error(&Touch { cross_origin: true, ..case.touch() }), ReceiptError::CrossOrigin);
}

#[test]
fn a_touch_that_names_a_page_around_is_refused_whatever_else_it_says() {
    let case = Case::new();
    let receipt =
        signed_again(&case, |json| json.replacen('{', r#"{"topOrigin":"https://elsewhere.example.org","#, 1));
    assert_eq!(case.verify(&receipt).unwrap_err(), ReceiptError::CrossOrigin);
}

#[test]
fn client_data_that_is_no_object_is_refused() {
    let case = Case::new();
    let receipt = signed_again(&case, |json| {
        let data: serde_json::Value = serde_json::from_str(json).unwrap();
        serde_json::json!([data["type"], data["challenge"], data["origin"], false, null]).to_string()
    });
    assert_eq!(case.verify(&receipt).unwrap_err(), ReceiptError::Malformed { what: "its client data" });
}

/// A touch whose client data was changed before the key signed it.
fn signed_again(case: &Case, change: impl Fn(&str) -> String) -> proto::Receipt {
    let receipt = case.world.key.sign(&case.touch());
    let json = change(std::str::from_utf8(&receipt.client_data_json).unwrap());
    case.world.key.sign_client_data(proto::Receipt { client_data_json: json.into_bytes(), ..receipt })
}

#[test]
fn a_cluster_without_a_relying_party_takes_no_touch() {
    let case = Case::new();
    let key = DeviceKey::from_cose(&case.world.key.cose()).unwrap();
    let nobody = RelyingParty { rp_id: String::new(), origins: vec![ORIGIN.to_owned()] };
    let receipt = case.world.key.sign(&Touch { rp_id: "", ..case.touch() }).encode_to_vec();
    let refused = verify(&receipt, &case.expected(), &key, &nobody).unwrap_err();
    assert_eq!(refused, ReceiptError::WrongRelyingParty);
}

#[test]
fn client_data_that_says_a_thing_twice_is_refused() {
    let case = Case::new();
    let mut receipt = case.world.key.sign(&case.touch());
    let json = String::from_utf8(receipt.client_data_json).unwrap();
    receipt.client_data_json = json.replacen('{', r#"{"type":"webauthn.get","#, 1).into_bytes();
    assert_eq!(case.verify(&receipt).unwrap_err(), ReceiptError::Malformed { what: "its client data" });
}

#[test]
fn authenticator_data_of_another_shape_is_refused() {
    let case = Case::new();
    let malformed = ReceiptError::Malformed { what: "its authenticator data" };
    for (flags, rest, why) in [
        (0x01, vec![0, 0, 0], "too short"),
        (0x01, vec![0, 0, 0, 9, 0], "too long"),
        (0x41, vec![0, 0, 0, 9], "an attested credential"),
        (0x81, vec![0, 0, 0, 9], "extensions announced and absent"),
    ] {
        assert_eq!(case.error(&Touch { flags, rest, ..case.touch() }), malformed, "{why}");
    }
    let extended = Touch { flags: 0x81, rest: vec![0, 0, 0, 9, 0xa0], ..case.touch() };
    assert!(case.verify(&case.world.key.sign(&extended)).is_ok());
}

#[test]
fn a_touch_in_another_cluster_is_refused() {
    let case = Case::new();
    assert_eq!(case.error_for(|intent| intent.cluster = "elsewhere".to_owned()), ReceiptError::OtherCluster);
}

#[test]
fn a_touch_of_another_user_is_refused() {
    let case = Case::new();
    assert_eq!(case.error_for(|intent| intent.user = "olga".to_owned()), ReceiptError::OtherUser);
}

#[test]
fn a_touch_for_another_target_is_refused() {
    let case = Case::new();
    assert_eq!(case.error_for_route(|r| r.target_name = "dev-pg".to_owned()), ReceiptError::OtherTarget);
    assert_eq!(case.error_for_route(|r| r.target_kind = "node".to_owned()), ReceiptError::OtherTarget);
    assert_eq!(case.error_for_route(|r| r.protocol = "mysql".to_owned()), ReceiptError::OtherTarget);
}

#[test]
fn a_touch_for_another_login_is_refused() {
    let case = Case::new();
    assert_eq!(case.error_for_route(|r| r.login = "postgres".to_owned()), ReceiptError::OtherLogin);
    assert_eq!(case.error_for_route(|r| r.login = "App".to_owned()), ReceiptError::OtherLogin);
    assert_eq!(case.error_for_route(|r| r.db_name = "payroll".to_owned()), ReceiptError::OtherLogin);
}

#[test]
fn a_touch_for_another_session_key_is_refused() {
    let case = Case::new();
    assert_eq!(case.error_for(|intent| intent.public_key_sha256 = vec![0; 32]), ReceiptError::OtherKey);
    assert_eq!(case.error_for(|intent| intent.public_key_sha256.clear()), ReceiptError::OtherKey);
}

#[test]
fn an_intent_without_nonce_or_route_is_refused() {
    let case = Case::new();
    assert_eq!(case.error_for(|intent| intent.nonce.clear()), ReceiptError::NoNonce);
    let routeless = case.error_for(|intent| intent.route = None);
    assert_eq!(routeless, ReceiptError::Malformed { what: "its intent has no route" });
}

#[test]
fn the_time_of_the_touch_fits_the_certificate() {
    let case = Case::new();
    let at = |time: SystemTime| {
        let mut touch = case.touch();
        touch.intent.time = crate::clock::unix_millis(time);
        case.verify(&case.world.key.sign(&touch)).map(drop)
    };
    assert_eq!(at(now() - MINUTE * 6), Ok(()));
    let old = now() - MINUTE * 6 - Duration::from_millis(1);
    assert_eq!(at(old), Err(ReceiptError::TooOld { time: old }));
    assert_eq!(at(now() + MINUTE), Ok(()));
    let future = now() + MINUTE + Duration::from_millis(1);
    assert_eq!(at(future), Err(ReceiptError::FromTheFuture { time: future }));
    assert_eq!(at(now() - HOUR), Err(ReceiptError::TooOld { time: now() - HOUR }));
    let absurd = case.error_for(|intent| intent.time = i64::MIN);
    assert_eq!(absurd, ReceiptError::Malformed { what: "its intent's time" });
    assert!(matches!(case.error_for(|intent| intent.time = i64::MAX), ReceiptError::FromTheFuture { .. }));
}

#[test]
fn a_time_that_no_calendar_has_is_refused_in_words() {
    let error = Case::new().error_for(|intent| intent.time = i64::MAX);
    assert!(matches!(error, ReceiptError::FromTheFuture { .. }));
    assert!(error.to_string().contains("9999-12-31T23:59:59Z"), "{error}");
}

#[test]
fn a_receipt_cut_short_anywhere_is_refused() {
    let case = Case::new();
    let whole = case.world.key.sign(&case.touch()).encode_to_vec();
    assert!(case.verify_bytes(&whole).is_ok());
    for end in 0..whole.len() {
        assert!(case.verify_bytes(&whole[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn an_oversize_receipt_is_not_read() {
    let case = Case::new();
    let bytes = MAX_RECEIPT_BYTES + 1;
    assert_eq!(case.verify_bytes(&vec![0; bytes]).unwrap_err(), ReceiptError::TooLarge { bytes });
}

#[test]
fn a_receipt_for_a_host_has_no_database_name() {
    let mut case = Case::new();
    case.route = Route {
        protocol: crate::identity::Protocol::Ssh,
        login: Login::Node { login: "app".to_owned() },
        ..route("prod-host")
    };
    let mut touch = case.world.touch("prod-host");
    let said = touch.intent.route.as_mut().unwrap();
    (said.target_kind, said.protocol) = ("node".to_owned(), "ssh".to_owned());
    assert_eq!(case.error(&touch), ReceiptError::OtherLogin);
    touch.intent.route.as_mut().unwrap().db_name.clear();
    assert!(case.verify(&case.world.key.sign(&touch)).is_ok());
    assert_ne!(login(), case.route.login);
}
