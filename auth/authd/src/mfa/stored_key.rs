//! What the library stores of a security key, read for what it does not tell by itself: the public key as sidecars verify
//! with it, whether the key insists on a PIN or a fingerprint, and who made it.
//!
//! One stored form serves second factors and passkeys alike: a [`SecurityKey`]. The library's other types are the same
//! record by other names.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use webauthn_rs::prelude::SecurityKey;

use crate::error::Refused;

/// The record, as far as it is read here.
#[derive(Deserialize)]
struct Record {
    cred: Credential,
}

#[derive(Deserialize)]
struct Credential {
    cred: PublicKey,
    user_verified: bool,
    registration_policy: String,
    attestation: Attestation,
}

#[derive(Deserialize)]
struct PublicKey {
    key: serde_json::Value,
}

#[derive(Deserialize)]
struct Attestation {
    data: AttestationData,
}

/// How a key said who made it (WebAuthn Level 2, 6.5.3).
#[derive(Deserialize)]
enum AttestationData {
    /// Certificates, the key's own first; base64url of DER.
    Basic(Vec<String>),
    AttCa(Vec<String>),
    AnonCa(Vec<String>),
    /// By itself: worth nothing to anybody else.
    #[serde(rename = "Self_")]
    Itself,
    #[serde(rename = "ECDAA")]
    Ecdaa,
    None,
    Uncertain,
}

/// The public part of what the library stores, as far as sidecars can verify with it.
#[derive(Deserialize)]
enum Coordinates {
    #[serde(rename = "EC_EC2")]
    Ec2 { curve: String, x: String, y: String },
    #[serde(rename = "RSA")]
    Rsa { n: String, e: [u8; 3] },
}

fn read(key: &SecurityKey) -> Result<Credential, Refused> {
    let unknown = |_| Refused::Internal("WebAuthn key");
    let value = serde_json::to_value(key).map_err(unknown)?;
    serde_json::from_value::<Record>(value).map(|record| record.cred).map_err(unknown)
}

/// Whether each answer of this key must say that it asked for a PIN or a fingerprint; what the library holds it to.
pub(crate) fn insists_on_verification(key: &SecurityKey) -> Result<bool, Refused> {
    let credential = read(key)?;
    Ok(match credential.registration_policy.as_str() {
        "required" => true,
        // Asked for when it was to be had, and given: from then on it is expected.
        "preferred" => credential.user_verified,
        _ => false,
    })
}

/// The certificates with which the key said who made it, its own first. Empty where it did not.
pub(crate) fn attestation(key: &SecurityKey) -> Result<Vec<CertificateDer<'static>>, Refused> {
    let chain = match read(key)?.attestation.data {
        AttestationData::Basic(chain) | AttestationData::AttCa(chain) | AttestationData::AnonCa(chain) => {
            chain
        }
        AttestationData::Itself
        | AttestationData::Ecdaa
        | AttestationData::None
        | AttestationData::Uncertain => vec![],
    };
    let decode = |text: String| BASE64_URL_SAFE_NO_PAD.decode(text).map(CertificateDer::from);
    chain.into_iter().map(decode).collect::<Result<_, _>>().map_err(|_| Refused::Internal("WebAuthn key"))
}

/// The key as COSE_Key (RFC 9053 section 7, RFC 8230 section 4), which is what travels to sidecars.
pub(crate) fn cose_key(key: &SecurityKey) -> Result<Vec<u8>, Refused> {
    let unsupported = || Refused::field("webauthn_credential_json", "the key's algorithm is not supported");
    let stored: Coordinates = serde_json::from_value(read(key)?.cred.key).map_err(|_| unsupported())?;
    let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| unsupported());
    let mut cbor = Vec::new();
    match stored {
        Coordinates::Ec2 { curve, x, y } => {
            let (algorithm, curve): (&[u8], u8) = match curve.as_str() {
                "SECP256R1" => (&[0x26], 1),       // ES256 is -7
                "SECP384R1" => (&[0x38, 0x22], 2), // ES384 is -35
                _ => return Err(unsupported()),
            };
            cbor.extend([0xa5, 0x01, 0x02, 0x03]);
            cbor.extend(algorithm);
            cbor.extend([0x20, curve, 0x21]);
            byte_string(&mut cbor, &decode(&x)?)?;
            cbor.push(0x22);
            byte_string(&mut cbor, &decode(&y)?)?;
        }
        Coordinates::Rsa { n, e } => {
            cbor.extend([0xa4, 0x01, 0x03, 0x03, 0x39, 0x01, 0x00, 0x20]); // RS256 is -257
            byte_string(&mut cbor, &decode(&n)?)?;
            cbor.push(0x21);
            byte_string(&mut cbor, &e)?;
        }
    }
    auth::receipt::DeviceKey::from_cose(&cbor).map_err(|_| unsupported())?;
    Ok(cbor)
}

/// RFC 8949 section 3.1, major type 2.
fn byte_string(cbor: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Refused> {
    let length = u16::try_from(bytes.len()).map_err(|_| Refused::Internal("WebAuthn key"))?;
    match (length, length.to_be_bytes()) {
        (0..=23, [_, low]) => cbor.push(0x40 | low),
        (24..=255, [_, low]) => cbor.extend([0x58, low]),
        (_, [high, low]) => cbor.extend([0x59, high, low]),
    }
    cbor.extend_from_slice(bytes);
    Ok(())
}
