//! A security key in software that also signs what a real one would not.

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use prost::Message;
use uuid::Uuid;

use crate::{
    identity::DeviceId,
    proto::{Receipt, SessionIntent},
    receipt::challenge,
};

pub(crate) const RP_ID: &str = "auth.example.com";
pub(crate) const ORIGIN: &str = "https://auth.example.com:3080";

pub(crate) struct SecurityKey {
    pub(crate) id: DeviceId,
    key: EcdsaKeyPair,
}

/// One assertion before it is signed; tests change what they need.
#[derive(Clone)]
pub(crate) struct Touch {
    pub(crate) intent: SessionIntent,
    pub(crate) kind: &'static str,
    pub(crate) origin: &'static str,
    pub(crate) cross_origin: bool,
    pub(crate) rp_id: &'static str,
    pub(crate) flags: u8,
    /// After flags.
    pub(crate) rest: Vec<u8>,
}

impl Touch {
    pub(crate) fn new(intent: SessionIntent) -> Self {
        Self {
            intent,
            kind: "webauthn.get",
            origin: ORIGIN,
            cross_origin: false,
            rp_id: RP_ID,
            flags: 0x05,
            rest: vec![0, 0, 0, 9],
        }
    }
}

impl SecurityKey {
    pub(crate) fn new() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        Self { id: DeviceId(Uuid::from_u128(rand())), key }
    }

    /// COSE_Key: {1: 2, 3: -7, -1: 1, -2: x, -3: y}.
    pub(crate) fn cose(&self) -> Vec<u8> {
        let point = self.key.public_key().as_ref();
        let mut cose = vec![0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20];
        cose.extend_from_slice(&point[1..33]);
        cose.extend_from_slice(&[0x22, 0x58, 0x20]);
        cose.extend_from_slice(&point[33..]);
        cose
    }

    pub(crate) fn sign(&self, touch: &Touch) -> Receipt {
        let intent = touch.intent.encode_to_vec();
        let client_data_json = format!(
            r#"{{"type":"{}","challenge":"{}","origin":"{}","crossOrigin":{},"other":[1]}}"#,
            touch.kind,
            URL_SAFE_NO_PAD.encode(challenge(&intent)),
            touch.origin,
            touch.cross_origin,
        )
        .into_bytes();
        let mut authenticator_data = digest(&SHA256, touch.rp_id.as_bytes()).as_ref().to_vec();
        authenticator_data.push(touch.flags);
        authenticator_data.extend_from_slice(&touch.rest);
        let (device_id, signature) = (self.id.to_string(), Vec::new());
        self.sign_client_data(Receipt { intent, device_id, client_data_json, authenticator_data, signature })
    }

    /// Signs what stands in a receipt, whatever it is.
    pub(crate) fn sign_client_data(&self, receipt: Receipt) -> Receipt {
        let hash = digest(&SHA256, &receipt.client_data_json);
        let signed = [receipt.authenticator_data.as_slice(), hash.as_ref()].concat();
        let signature = self.key.sign(&SystemRandom::new(), &signed).unwrap().as_ref().to_vec();
        Receipt { signature, ..receipt }
    }
}

fn rand() -> u128 {
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random).unwrap();
    u128::from_be_bytes(random)
}
