//! What goes to the service: client data, attestation object, assertion (WebAuthn Level 2, 5.8.1, 6.5, 5.2).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use webauthn_rs_proto::{
    AuthenticationExtensionsClientOutputs, AuthenticatorAssertionResponseRaw,
    AuthenticatorAttestationResponseRaw, AuthenticatorTransport, CredProps, PublicKeyCredential,
    RegisterPublicKeyCredential, RegistrationExtensionsClientOutputs,
};

use super::authenticator::{Made, Signed};
use crate::mfa::{KeyError, RelyingParty};

/// In the order of the limited verification algorithm (5.8.1.1). Nothing in it needs to be escaped: the challenge is
/// base64url, an origin is ASCII.
pub(super) fn client_data(kind: &str, challenge: &[u8], party: &RelyingParty) -> Vec<u8> {
    let challenge = URL_SAFE_NO_PAD.encode(challenge);
    let origin = party.origin().origin().ascii_serialization();
    format!(r#"{{"type":"{kind}","challenge":"{challenge}","origin":"{origin}","crossOrigin":false}}"#)
        .into_bytes()
}

/// Where the model stands in authenticator data, and the credential's length behind it.
const AAGUID: std::ops::Range<usize> = 37..53;
const CREDENTIAL_LENGTH: std::ops::Range<usize> = 53..55;

/// `resident`: what credProps says, where that was asked for.
pub(super) fn registered(
    made: Made,
    client_data_json: Vec<u8>,
    attested: bool,
    resident: Option<bool>,
) -> Result<RegisterPublicKeyCredential, KeyError> {
    let malformed = || KeyError::Failed { what: "its answer cannot be read".to_owned() };
    let mut data = made.authenticator_data.clone();
    let length: [u8; 2] =
        data.get(CREDENTIAL_LENGTH).and_then(|bytes| bytes.try_into().ok()).ok_or_else(malformed)?;
    let end = CREDENTIAL_LENGTH.end + usize::from(u16::from_be_bytes(length));
    let raw_id = data.get(CREDENTIAL_LENGTH.end..end).ok_or_else(malformed)?.to_vec();
    let attestation_object = if attested {
        cbor::attestation_object(&made.format, &cbor::statement(&made), &data)
    } else {
        // Not asked for, so not told (5.1.3): neither maker nor model.
        data.get_mut(AAGUID).ok_or_else(malformed)?.fill(0);
        cbor::attestation_object("none", &[0xa0], &data)
    };
    Ok(RegisterPublicKeyCredential {
        id: URL_SAFE_NO_PAD.encode(&raw_id),
        raw_id,
        response: AuthenticatorAttestationResponseRaw {
            attestation_object,
            client_data_json,
            transports: Some(vec![AuthenticatorTransport::Usb]),
        },
        type_: "public-key".to_owned(),
        extensions: RegistrationExtensionsClientOutputs {
            cred_props: resident.map(|rk| CredProps { rk: Some(rk) }),
            ..RegistrationExtensionsClientOutputs::default()
        },
    })
}

/// `only`: the credential, where one alone was allowed; the key may then leave it out.
pub(super) fn asserted(
    signed: Signed,
    client_data_json: Vec<u8>,
    only: Vec<u8>,
) -> Result<PublicKeyCredential, KeyError> {
    let raw_id = if signed.credential_id.is_empty() { only } else { signed.credential_id };
    if raw_id.is_empty() {
        return Err(KeyError::Failed { what: "it does not say which credential it used".to_owned() });
    }
    Ok(PublicKeyCredential {
        id: URL_SAFE_NO_PAD.encode(&raw_id),
        raw_id,
        response: AuthenticatorAssertionResponseRaw {
            authenticator_data: signed.authenticator_data,
            client_data_json,
            signature: signed.signature,
            user_handle: Some(signed.user_id).filter(|user| !user.is_empty()),
        },
        type_: "public-key".to_owned(),
        extensions: AuthenticationExtensionsClientOutputs::default(),
    })
}

/// As much of RFC 8949 as an attestation object needs.
mod cbor {
    use super::Made;

    const NEGATIVE: u8 = 1;
    const BYTES: u8 = 2;
    const TEXT: u8 = 3;
    const ARRAY: u8 = 4;
    const MAP: u8 = 5;

    fn head(kind: u8, argument: u64) -> Vec<u8> {
        let kind = kind << 5;
        match (u8::try_from(argument), u16::try_from(argument), u32::try_from(argument)) {
            (Ok(small @ 0..=23), ..) => vec![kind | small],
            (Ok(byte), ..) => vec![kind | 24, byte],
            (_, Ok(word), _) => [&[kind | 25][..], &word.to_be_bytes()].concat(),
            (_, _, Ok(long)) => [&[kind | 26][..], &long.to_be_bytes()].concat(),
            _ => [&[kind | 27][..], &argument.to_be_bytes()].concat(),
        }
    }

    fn string(kind: u8, bytes: &[u8]) -> Vec<u8> {
        [head(kind, bytes.len() as u64), bytes.to_vec()].concat()
    }

    fn text(text: &str) -> Vec<u8> {
        string(TEXT, text.as_bytes())
    }

    fn integer(value: i64) -> Vec<u8> {
        match u64::try_from(value) {
            Ok(value) => head(0, value),
            Err(_) => head(NEGATIVE, value.unsigned_abs() - 1),
        }
    }

    /// 8.2 (packed) and 8.6 (fido-u2f): the shorter keys first.
    pub(super) fn statement(made: &Made) -> Vec<u8> {
        let mut fields = Vec::new();
        if made.format == "packed" {
            fields.push([text("alg"), integer(made.algorithm)].concat());
        }
        fields.push([text("sig"), string(BYTES, &made.signature)].concat());
        if !made.certificates.is_empty() {
            let certificates = made.certificates.iter().flat_map(|der| string(BYTES, der));
            let list = [head(ARRAY, made.certificates.len() as u64), certificates.collect()].concat();
            fields.push([text("x5c"), list].concat());
        }
        [head(MAP, fields.len() as u64), fields.concat()].concat()
    }

    pub(super) fn attestation_object(format: &str, statement: &[u8], data: &[u8]) -> Vec<u8> {
        [
            head(MAP, 3),
            text("fmt"),
            text(format),
            text("attStmt"),
            statement.to_vec(),
            text("authData"),
            string(BYTES, data),
        ]
        .concat()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn numbers_and_lengths_are_as_short_as_can_be() {
            assert_eq!(integer(-7), [0x26]);
            assert_eq!(integer(-257), [0x39, 0x01, 0x00]);
            assert_eq!(head(BYTES, 23), [0x57]);
            assert_eq!(head(BYTES, 24), [0x58, 24]);
            assert_eq!(head(BYTES, 256), [0x59, 1, 0]);
            assert_eq!(head(BYTES, 65_536), [0x5a, 0, 1, 0, 0]);
        }
    }
}
