use auth::{
    proto::{self, Receipt, SessionIntent},
    receipt::{Purpose, challenge},
};
use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use prost::Message;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;

const RP_ID: &str = "auth.example.com";
const ORIGIN: &str = "https://auth.example.com:3080";
/// 2026-01-01T12:00:00Z, in milliseconds.
const NOON: i64 = 1_767_268_800_000;

/// A security key, and what it signs for.
struct Key {
    id: Uuid,
    pair: EcdsaKeyPair,
}

impl Key {
    fn new(n: u128) -> Self {
        Self {
            id: Uuid::from_u128(n),
            pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap(),
        }
    }

    fn added(&self, user: &str) -> Value {
        let point = self.pair.public_key().as_ref();
        let mut cose = vec![0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20];
        cose.extend_from_slice(&point[1..33]);
        cose.extend_from_slice(&[0x22, 0x58, 0x20]);
        cose.extend_from_slice(&point[33..]);
        json!({
            "event": "mfa.add", "time": "2026-01-01T08:00:00.000Z", "user": user,
            "mfa_device_uuid": self.id, "mfa_device_name": "yubikey", "mfa_device_type": "WebAuthn",
            "mfa_device_public_key": STANDARD.encode(cose),
            "webauthn_rp_id": RP_ID, "webauthn_origin": ORIGIN,
        })
    }

    fn sign(&self, touch: &Touch) -> Receipt {
        let intent = touch.intent.encode_to_vec();
        let client_data = format!(
            r#"{{"type":"webauthn.get","challenge":"{}","origin":"{}","crossOrigin":false}}"#,
            URL_SAFE_NO_PAD.encode(challenge(touch.purpose, &intent)),
            touch.origin,
        );
        let mut data = digest(&SHA256, touch.rp_id.as_bytes()).as_ref().to_vec();
        data.extend([touch.flags, 0, 0, 0, 9]);
        let signed = [data.as_slice(), digest(&SHA256, client_data.as_bytes()).as_ref()].concat();
        Receipt {
            intent,
            device_id: self.id.to_string(),
            client_data_json: client_data.into_bytes(),
            authenticator_data: data,
            signature: self.pair.sign(&SystemRandom::new(), &signed).unwrap().as_ref().to_vec(),
        }
    }
}

/// What is touched for, and on which occasion.
struct Touch {
    intent: SessionIntent,
    purpose: Purpose,
    origin: &'static str,
    rp_id: &'static str,
    flags: u8,
}

impl Touch {
    fn at_noon() -> Self {
        let route = proto::Route {
            target_kind: "database".to_owned(),
            target_name: "prod-pg".to_owned(),
            protocol: "postgres".to_owned(),
            login: "alice".to_owned(),
            db_name: "shop".to_owned(),
        };
        let intent = SessionIntent {
            cluster: "main".to_owned(),
            user: "jerry".to_owned(),
            route: Some(route),
            public_key_sha256: vec![3; 32],
            client_address: "192.0.2.7".to_owned(),
            time: NOON,
            nonce: vec![7; 16],
        };
        Self { intent, purpose: Purpose::Session, origin: ORIGIN, rp_id: RP_ID, flags: 0x05 }
    }
}

/// The session that follows, as the sidecar records it.
fn started(key: &Key, receipt: &[u8]) -> Value {
    json!({
        "event": "db.session.start", "code": "TDB00I", "time": "2026-01-01T12:00:03.250Z", "success": true,
        "sid": Uuid::from_u128(9), "cluster_name": "main", "user": "jerry", "db_service": "prod-pg",
        "db_protocol": "postgres", "db_user": "alice", "db_name": "shop", "with_mfa": key.id,
        "receipt": STANDARD.encode(receipt),
    })
}

/// What the last event, a session, comes to in a trail of these.
fn judged(events: &[Value]) -> Result<Proof, Unproved> {
    let lines: Vec<String> = events.iter().map(Value::to_string).collect();
    let trail = Trail::read(lines.iter().map(String::as_str)).unwrap();
    judge(trail.sessions.last().unwrap(), &trail)
}

/// A trail of one key and one session, of which something is changed.
fn trail(
    change: impl FnOnce(&mut Touch),
    tamper: impl FnOnce(&mut Value, &mut Value),
) -> Result<Proof, Unproved> {
    let key = Key::new(1);
    let mut touch = Touch::at_noon();
    change(&mut touch);
    let mut added = key.added("jerry");
    let mut start = started(&key, &key.sign(&touch).encode_to_vec());
    tamper(&mut added, &mut start);
    judged(&[added, start])
}

fn touched(change: impl FnOnce(&mut Touch)) -> Result<Proof, Unproved> {
    trail(change, |_, _| ())
}

fn tampered(tamper: impl FnOnce(&mut Value)) -> Result<Proof, Unproved> {
    trail(|_| (), |_, start| tamper(start))
}

#[test]
fn a_receipt_names_the_key_that_approved() {
    let Ok(Proof::Proved { device, name, touched, user_verified }) = touched(|_| ()) else { panic!() };
    assert_eq!((device.0, name.as_str()), (Uuid::from_u128(1), "yubikey"));
    assert_eq!(rfc3339(touched), "2026-01-01T12:00:00Z");
    assert!(user_verified);
}

#[test]
fn a_session_that_says_something_else_than_was_touched_for_is_found_out() {
    use ReceiptError::{OtherCluster, OtherLogin, OtherTarget};
    for (field, other, why) in [
        ("cluster_name", "other", OtherCluster),
        ("db_service", "payroll", OtherTarget),
        ("db_protocol", "mysql", OtherTarget),
        ("db_user", "postgres", OtherLogin),
        ("db_name", "secrets", OtherLogin),
    ] {
        let refused = tampered(|start| start[field] = other.into());
        assert_eq!(refused, Err(why.into()), "{field}");
    }
}

#[test]
fn a_changed_user_is_found_out_whoever_owns_the_key() {
    let refused = tampered(|start| start["user"] = "olga".into());
    assert_eq!(refused, Err(Unproved::OtherOwner("jerry".to_owned())));
    let refused = trail(
        |_| (),
        |added, start| {
            added["user"] = "olga".into();
            start["user"] = "olga".into();
        },
    );
    assert_eq!(refused, Err(ReceiptError::OtherUser.into()));
}

#[test]
fn an_intent_that_was_changed_afterwards_is_not_what_was_signed() {
    let key = Key::new(1);
    let mut receipt = key.sign(&Touch::at_noon());
    let mut touch = Touch::at_noon();
    touch.intent.route.as_mut().unwrap().target_name = "payroll".to_owned();
    receipt.intent = touch.intent.encode_to_vec();
    let mut start = started(&key, &receipt.encode_to_vec());
    start["db_service"] = "payroll".into();
    assert_eq!(judged(&[key.added("jerry"), start]), Err(ReceiptError::ChallengeMismatch.into()));
}

#[test]
fn another_devices_key_does_not_verify() {
    let (own, other) = (Key::new(1), Key::new(2));
    let mut receipt = other.sign(&Touch::at_noon());
    let events = |receipt: &Receipt| {
        judged(&[own.added("jerry"), other.added("jerry"), started(&own, &receipt.encode_to_vec())])
    };
    assert_eq!(events(&receipt), Err(ReceiptError::OtherDevice.into()));
    receipt.device_id = own.id.to_string();
    assert_eq!(events(&receipt), Err(ReceiptError::BadSignature.into()));
}

#[test]
fn a_device_that_the_trail_does_not_know_proves_nothing() {
    let key = Key::new(1);
    let start = started(&key, &key.sign(&Touch::at_noon()).encode_to_vec());
    assert_eq!(judged(&[start]), Err(Unproved::UnknownDevice(DeviceId(key.id))));
}

#[test]
fn a_device_that_the_trail_registers_twice_with_other_keys_proves_nothing() {
    let (key, forged) = (Key::new(1), Key::new(1));
    let start = started(&forged, &forged.sign(&Touch::at_noon()).encode_to_vec());
    let events = [key.added("jerry"), forged.added("jerry"), start];
    assert_eq!(judged(&events), Err(Unproved::Contradicted(DeviceId(key.id))));
    // The same event twice, from files that overlap, is none.
    let start = started(&key, &key.sign(&Touch::at_noon()).encode_to_vec());
    assert!(judged(&[key.added("jerry"), key.added("jerry"), start]).is_ok());
}

#[test]
fn a_receipt_cut_short_anywhere_proves_nothing() {
    let key = Key::new(1);
    let whole = key.sign(&Touch::at_noon()).encode_to_vec();
    for end in 0..whole.len() {
        let refused = judged(&[key.added("jerry"), started(&key, &whole[..end])]);
        assert!(matches!(refused, Err(Unproved::Receipt(_))), "cut at {end}: {refused:?}");
    }
}

#[test]
fn a_touch_on_another_occasion_proves_nothing() {
    let refused = touched(|touch| touch.rp_id = "evil.example");
    assert_eq!(refused, Err(ReceiptError::WrongRelyingParty.into()));
    let refused = touched(|touch| touch.origin = "https://evil.example");
    assert!(matches!(refused, Err(Unproved::Receipt(ReceiptError::WrongOrigin { .. }))));
    assert_eq!(touched(|touch| touch.flags = 0x04), Err(ReceiptError::UserNotPresent.into()));
    let refused = touched(|touch| touch.purpose = Purpose::Login);
    assert_eq!(refused, Err(ReceiptError::ChallengeMismatch.into()));
}

#[test]
fn who_claims_mfa_must_have_a_proof_and_who_has_one_must_claim_it() {
    let without =
        |field: &'static str| tampered(move |start| drop(start.as_object_mut().unwrap().remove(field)));
    assert_eq!(without("receipt"), Err(Unproved::NoReceipt));
    assert_eq!(without("with_mfa"), Err(Unproved::NoClaim));
    for field in ["receipt", "with_mfa", "db_name"] {
        let refused = tampered(|start| start[field] = Value::Null);
        assert_eq!(refused, Err(Unproved::Field(field)), "null is not nothing");
    }
}

#[test]
fn a_session_without_mfa_says_so() {
    let plain = tampered(|start| {
        let start = start.as_object_mut().unwrap();
        start.remove("receipt");
        start.remove("with_mfa");
    });
    assert_eq!(plain, Ok(Proof::NotClaimed));
}

#[test]
fn a_code_leaves_no_proof_and_is_told_apart() {
    let id = Uuid::from_u128(5);
    let added = json!({
        "event": "mfa.add", "time": "2026-01-01T08:00:00Z", "user": "jerry", "mfa_device_uuid": id,
        "mfa_device_name": "phone", "mfa_device_type": "TOTP",
    });
    let key = Key::new(1);
    let mut start = started(&key, &key.sign(&Touch::at_noon()).encode_to_vec());
    start["with_mfa"] = json!(id);
    assert_eq!(judged(&[added.clone(), start.clone()]), Err(Unproved::NoKey));
    start.as_object_mut().unwrap().remove("receipt");
    let otp = Proof::Otp { device: DeviceId(id), name: "phone".to_owned() };
    assert_eq!(judged(&[added, start]), Ok(otp));
}

#[test]
fn a_device_counts_from_its_registration_to_its_end() {
    let at = |event: Value| {
        let key = Key::new(1);
        let start = started(&key, &key.sign(&Touch::at_noon()).encode_to_vec());
        let mut event = event;
        if event["event"] == "mfa.delete" {
            event["mfa_device_uuid"] = json!(key.id);
        }
        judged(&[key.added("jerry"), event, start])
    };
    let removed = |time: &str| at(json!({ "event": "mfa.delete", "time": time }));
    assert!(matches!(removed("2026-01-01T11:00:00Z"), Err(Unproved::Gone(_))));
    assert!(removed("2026-01-01T13:00:00Z").is_ok());
    for event in ["user.delete", "reset_password_token.create"] {
        let ended = |name: &str| at(json!({ "event": event, "time": "2026-01-01T11:00:00Z", "name": name }));
        assert!(matches!(ended("jerry"), Err(Unproved::Gone(_))), "{event}");
        assert!(ended("olga").is_ok(), "{event}");
    }
    let late = trail(|_| (), |added, _| added["time"] = "2026-01-01T12:05:00Z".into());
    assert!(matches!(late, Err(Unproved::NotYet(_))));
}

#[test]
fn a_session_begins_after_its_touch_and_within_a_certificates_life() {
    let begun = |time: &str| tampered(|start| start["time"] = time.into());
    assert!(matches!(begun("2026-01-01T11:50:00Z"), Err(Unproved::After(_))));
    assert!(begun("2026-01-01T23:00:00Z").is_ok());
    assert!(matches!(begun("2026-01-03T12:00:00Z"), Err(Unproved::LongBefore(_))));
}

#[test]
fn at_mysql_a_session_may_begin_in_no_database_and_in_no_other() {
    let mysql = |name: Option<&str>| {
        trail(
            |touch| touch.intent.route.as_mut().unwrap().protocol = "mysql".to_owned(),
            |_, start| {
                start["db_protocol"] = "mysql".into();
                match name {
                    Some(name) => start["db_name"] = name.into(),
                    None => drop(start.as_object_mut().unwrap().remove("db_name")),
                }
            },
        )
    };
    assert!(mysql(None).is_ok());
    assert!(mysql(Some("shop")).is_ok());
    assert_eq!(mysql(Some("secrets")), Err(ReceiptError::OtherLogin.into()));
}

#[test]
fn one_that_was_denied_is_no_session_and_one_that_does_not_say_is() {
    let key = Key::new(1);
    let mut start = started(&key, &[]);
    let sessions = |start: &Value| Trail::read([start.to_string().as_str()]).unwrap().sessions.len();
    start["success"] = false.into();
    assert_eq!(sessions(&start), 0);
    start.as_object_mut().unwrap().remove("success");
    assert_eq!(sessions(&start), 1);
}

#[test]
fn a_line_that_is_no_event_is_an_error_with_its_number() {
    let error = Trail::read(["{}", "", "{\"event\":"]).unwrap_err();
    assert!(error.to_string().starts_with("line 3 is no event"), "{error}");
    let error = Trail::read([r#"{"event":"mfa.add"}"#]).unwrap_err();
    assert_eq!(error.to_string(), "line 1: mfa_device_uuid of mfa.add cannot be read");
}
