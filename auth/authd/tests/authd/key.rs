//! A security key whose every word a test chooses, for what real keys and browsers would not say.

use auth::proto;
use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use url::Url;

pub(crate) const UP: u8 = 0x01;
pub(crate) const UV: u8 = 0x04;
const ATTESTED: u8 = 0x40;
/// What the key says of its model.
pub(crate) const MODEL: [u8; 16] = *b"touchstone-model";

/// One credential.
pub(crate) struct TestKey {
    key: EcdsaKeyPair,
    id: Vec<u8>,
    user_handle: Vec<u8>,
    pub(crate) counter: u32,
}

/// Who signs for the maker: certificates, the key's own first, and the key of that one.
pub(crate) struct Maker {
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) key: EcdsaKeyPair,
}

/// What a key says once; tests change what they need.
#[derive(Clone)]
pub(crate) struct Words {
    pub(crate) rp_id: String,
    pub(crate) origin: String,
    pub(crate) kind: &'static str,
    pub(crate) cross_origin: bool,
    pub(crate) flags: u8,
    /// In place of the one that was asked.
    pub(crate) challenge: Option<String>,
    /// In place of one more than the last.
    pub(crate) counter: Option<u32>,
    pub(crate) user_handle: bool,
}

impl Words {
    pub(crate) fn new(origin: &Url) -> Self {
        Self {
            rp_id: origin.host_str().unwrap().to_owned(),
            origin: origin.origin().ascii_serialization(),
            kind: "webauthn.get",
            cross_origin: false,
            flags: UP | UV,
            challenge: None,
            counter: None,
            user_handle: true,
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn decoded(value: &Value) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(value.as_str().unwrap()).unwrap()
}

/// CBOR byte string.
fn bytes(bytes: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    [&[0x59, high, low], bytes].concat()
}

fn client_data(words: &Words, asked: &Value) -> Vec<u8> {
    let challenge = words.challenge.as_deref().unwrap_or_else(|| asked["challenge"].as_str().unwrap());
    let data = json!({
        "type": words.kind, "challenge": challenge, "origin": words.origin, "crossOrigin": words.cross_origin,
    });
    data.to_string().into_bytes()
}

fn authenticator_data(words: &Words, flags: u8, counter: u32) -> Vec<u8> {
    let rp = digest(&SHA256, words.rp_id.as_bytes());
    [rp.as_ref(), &[flags], &counter.to_be_bytes()].concat()
}

fn sign(key: &EcdsaKeyPair, authenticator_data: &[u8], client_data: &[u8]) -> Vec<u8> {
    let hash = digest(&SHA256, client_data);
    let signed = [authenticator_data, hash.as_ref()].concat();
    key.sign(&SystemRandom::new(), &signed).unwrap().as_ref().to_vec()
}

/// What a registration asks of the key.
pub(crate) fn creation_options(begin: &proto::DeviceRegistration) -> Value {
    let Some(proto::device_registration::Kind::WebauthnCreationOptionsJson(json)) = &begin.kind else {
        panic!("not WebAuthn")
    };
    serde_json::from_str(json).unwrap()
}

impl TestKey {
    /// A new credential, and what finishes its registration.
    pub(crate) fn register(
        begin: &proto::DeviceRegistration,
        words: &Words,
        maker: Option<&Maker>,
    ) -> (Self, proto::NewDevice) {
        let options = creation_options(begin);
        let asked = &options["publicKey"];
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let mut id = vec![0; 20];
        aws_lc_rs::rand::fill(&mut id).unwrap();
        let this = Self { key, id, user_handle: decoded(&asked["user"]["id"]), counter: 0 };
        let words = Words { kind: "webauthn.create", ..words.clone() };
        let client_data = client_data(&words, asked);
        let mut data = authenticator_data(&words, words.flags | ATTESTED, 0);
        data.extend(MODEL);
        data.extend([0, u8::try_from(this.id.len()).unwrap()]);
        data.extend_from_slice(&this.id);
        data.extend(this.cose());
        let statement = match maker {
            None => b"\x63fmt\x64none\x67attStmt\xa0".to_vec(),
            Some(maker) => {
                let signature = bytes(&sign(&maker.key, &data, &client_data));
                let count = u8::try_from(maker.chain.len()).unwrap();
                let chain: Vec<u8> = maker.chain.iter().flat_map(|certificate| bytes(certificate)).collect();
                [
                    b"\x63fmt\x66packed\x67attStmt\xa3\x63alg\x26\x63sig".as_slice(),
                    &signature,
                    b"\x63x5c",
                    &[0x80 | count],
                    &chain,
                ]
                .concat()
            }
        };
        let object = [b"\xa3".as_slice(), &statement, b"\x68authData", &bytes(&data)].concat();
        let credential = json!({
            "id": base64(&this.id), "rawId": base64(&this.id), "type": "public-key", "extensions": {},
            "response": {"attestationObject": base64(&object), "clientDataJSON": base64(&client_data)},
        });
        let device = proto::NewDevice {
            registration_id: begin.registration_id.clone(),
            name: "key".to_owned(),
            proof: Some(proto::new_device::Proof::WebauthnCredentialJson(credential.to_string())),
        };
        (this, device)
    }

    /// COSE_Key: {1: 2, 3: -7, -1: 1, -2: x, -3: y}.
    pub(crate) fn cose(&self) -> Vec<u8> {
        let point = self.key.public_key().as_ref();
        let head = [0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20];
        [&head, &point[1..33], &[0x22, 0x58, 0x20], &point[33..]].concat()
    }

    /// Answers a challenge.
    pub(crate) fn answer(&mut self, options_json: &str, words: &Words) -> proto::MfaResponse {
        let options: Value = serde_json::from_str(options_json).unwrap();
        self.counter += 1;
        let data = authenticator_data(words, words.flags, words.counter.unwrap_or(self.counter));
        let client_data = client_data(words, &options["publicKey"]);
        let mut response = json!({
            "authenticatorData": base64(&data), "clientDataJSON": base64(&client_data),
            "signature": base64(&sign(&self.key, &data, &client_data)),
        });
        if words.user_handle {
            response["userHandle"] = base64(&self.user_handle).into();
        }
        let credential = json!({
            "id": base64(&self.id), "rawId": base64(&self.id), "type": "public-key", "extensions": {},
            "response": response,
        });
        let json = credential.to_string();
        proto::MfaResponse { response: Some(proto::mfa_response::Response::WebauthnAssertionJson(json)) }
    }
}
