//! The public key of a security key: COSE_Key (RFC 9052 §7, RFC 9053 §2 and §7, RFC 8230 §4) to something that verifies.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents,
};

use super::cbor::{self, Value};

/// Larger than any COSE key of the supported algorithms.
const MAX_COSE_KEY_BYTES: usize = 2 * 1024;

/// Not a public key that we can verify with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceKeyError {
    /// Not a COSE_Key in CBOR.
    #[error("the device key is not a COSE key")]
    Malformed,
    /// Another algorithm than ES256, ES384 and RS256.
    #[error("the device key is of an unsupported algorithm")]
    Unsupported,
    /// The point is not on its curve, the modulus is too short, or the exponent is not 65537.
    #[error("the device key is not valid")]
    Invalid,
}

/// The public key of a WebAuthn device.
#[derive(Clone)]
pub struct DeviceKey(ParsedPublicKey);

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceKey").finish_non_exhaustive()
    }
}

// Labels of a COSE_Key and what they may say.
const KTY: i64 = 1;
const ALG: i64 = 3;
const FIRST: i64 = -1; // crv, or n
const SECOND: i64 = -2; // x, or e
const THIRD: i64 = -3; // y
const KTY_EC2: i64 = 2;
const KTY_RSA: i64 = 3;
const ES256: i64 = -7;
const ES384: i64 = -35;
const RS256: i64 = -257;
const P256: i64 = 1;
const P384: i64 = 2;

/// 65537: what every authenticator uses. With 1, whatever says the right thing would be its own signature.
const EXPONENT: &[u8] = &[1, 0, 1];

impl DeviceKey {
    /// Reads a COSE_Key. Members that the algorithm does not know are refused.
    ///
    /// # Errors
    /// [`DeviceKeyError`].
    pub fn from_cose(cose: &[u8]) -> Result<Self, DeviceKeyError> {
        if cose.len() > MAX_COSE_KEY_BYTES {
            return Err(DeviceKeyError::Malformed);
        }
        let mut entries = cbor::map(cose).ok_or(DeviceKeyError::Malformed)?;
        // In the order of the labels, whatever the order of writing.
        entries.sort_by_key(|(label, _)| *label);
        match entries.as_slice() {
            [
                (THIRD, Value::Bytes(y)),
                (SECOND, Value::Bytes(x)),
                (FIRST, Value::Integer(curve)),
                (KTY, Value::Integer(KTY_EC2)),
                (ALG, Value::Integer(algorithm)),
            ] => elliptic(*algorithm, *curve, x, y),
            [
                (SECOND, Value::Bytes(exponent)),
                (FIRST, Value::Bytes(modulus)),
                (KTY, Value::Integer(KTY_RSA)),
                (ALG, Value::Integer(RS256)),
            ] => rsa(modulus, exponent),
            _ => Err(DeviceKeyError::Unsupported),
        }
    }

    /// True where `signature` is this device's over `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verify_sig(message, signature).is_ok()
    }
}

fn elliptic(algorithm: i64, curve: i64, x: &[u8], y: &[u8]) -> Result<DeviceKey, DeviceKeyError> {
    let (algorithm, coordinate) = match (algorithm, curve) {
        (ES256, P256) => (&ECDSA_P256_SHA256_ASN1, 32),
        (ES384, P384) => (&ECDSA_P384_SHA384_ASN1, 48),
        _ => return Err(DeviceKeyError::Unsupported),
    };
    if x.len() != coordinate || y.len() != coordinate {
        return Err(DeviceKeyError::Malformed);
    }
    // SEC 1 §2.3.3: 4 and both coordinates.
    let key = ParsedPublicKey::new(algorithm, [&[4], x, y].concat());
    key.map(DeviceKey).map_err(|_| DeviceKeyError::Invalid)
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<DeviceKey, DeviceKeyError> {
    // 2048 to 8192 bits: what the algorithm takes. It would also take 1 as the exponent.
    if !(256..=1024).contains(&modulus.len()) || exponent != EXPONENT {
        return Err(DeviceKeyError::Invalid);
    }
    let key =
        RsaPublicKeyComponents { n: modulus, e: exponent }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256);
    key.map(DeviceKey).map_err(|_| DeviceKeyError::Invalid)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        rand::SystemRandom,
        rsa::KeySize,
        signature::{ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
    };

    use super::*;
    use crate::testing::SecurityKey;

    /// COSE_Key of an elliptic curve.
    fn ec2(algorithm: &[u8], curve: u8, x: &[u8], y: &[u8]) -> Vec<u8> {
        let length = |bytes: &[u8]| [0x58, u8::try_from(bytes.len()).unwrap()];
        [&[0xa5, 0x01, 0x02, 0x03], algorithm, &[0x20, curve, 0x21], &length(x), x, &[0x22], &length(y), y]
            .concat()
    }

    #[test]
    fn es384_verifies_and_only_its_own() {
        let key = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap();
        let (x, y) = key.public_key().as_ref()[1..].split_at(48);
        let device = DeviceKey::from_cose(&ec2(&[0x38, 0x22], 2, x, y)).unwrap();
        let signature = key.sign(&SystemRandom::new(), b"message").unwrap();
        assert!(device.verifies(b"message", signature.as_ref()));
        assert!(!device.verifies(b"another", signature.as_ref()));
    }

    #[test]
    fn rs256_verifies_and_only_its_own() {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        // RSAPublicKey (RFC 8017, A.1.1): the head of the sequence, then the modulus after its zero.
        let modulus = &key.public_key().as_ref()[9..265];
        let cose = [
            &[0xa4, 0x01, 0x03, 0x03, 0x39, 0x01, 0x00, 0x20, 0x59, 0x01, 0x00],
            modulus,
            &[0x21, 0x43, 0x01, 0x00, 0x01],
        ]
        .concat();
        let device = DeviceKey::from_cose(&cose).unwrap();
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), b"message", &mut signature).unwrap();
        assert!(device.verifies(b"message", &signature));
        assert!(!device.verifies(b"another", &signature));
    }

    #[test]
    fn a_key_cut_short_anywhere_or_followed_by_anything_is_refused() {
        let whole = SecurityKey::new().cose();
        assert!(DeviceKey::from_cose(&whole).is_ok());
        for end in 0..whole.len() {
            assert_eq!(
                DeviceKey::from_cose(&whole[..end]).unwrap_err(),
                DeviceKeyError::Malformed,
                "cut at {end}"
            );
        }
        let longer = [whole.as_slice(), &[0]].concat();
        assert_eq!(DeviceKey::from_cose(&longer).unwrap_err(), DeviceKeyError::Malformed);
    }

    #[test]
    fn a_point_off_its_curve_is_refused() {
        let refused = DeviceKey::from_cose(&ec2(&[0x26], 1, &[1; 32], &[1; 32])).unwrap_err();
        assert_eq!(refused, DeviceKeyError::Invalid);
    }

    #[test]
    fn other_algorithms_and_curves_are_refused() {
        let coordinate = [1; 32];
        for (algorithm, curve, why) in [
            (&[0x27][..], 6, "EdDSA"),
            (&[0x26], 2, "ES256 on P-384"),
            (&[0x38, 0x22], 1, "ES384 on P-256"),
            (&[0x38, 0x23], 3, "ES512"),
        ] {
            let refused = DeviceKey::from_cose(&ec2(algorithm, curve, &coordinate, &coordinate)).unwrap_err();
            assert_eq!(refused, DeviceKeyError::Unsupported, "{why}");
        }
    }

    #[test]
    fn a_coordinate_of_another_length_is_refused() {
        let refused = DeviceKey::from_cose(&ec2(&[0x26], 1, &[1; 31], &[1; 32])).unwrap_err();
        assert_eq!(refused, DeviceKeyError::Malformed);
    }

    /// With the exponent 1 a signature is its own message, and anybody can write it.
    #[test]
    fn an_rsa_key_whose_exponent_makes_forgery_easy_is_refused() {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let modulus = &key.public_key().as_ref()[9..265];
        for exponent in [&[0x40][..], &[0x41, 0], &[0x41, 1], &[0x41, 2], &[0x43, 1, 0, 0]] {
            let head = [0xa4, 0x01, 0x03, 0x03, 0x39, 0x01, 0x00, 0x20, 0x59, 0x01, 0x00];
            let cose = [&head, modulus, &[0x21], exponent].concat();
            let refused = DeviceKey::from_cose(&cose).map(drop);
            assert_eq!(refused, Err(DeviceKeyError::Invalid), "{exponent:?}");
        }
    }

    #[test]
    fn an_rsa_key_that_is_too_short_is_refused() {
        let cose = [
            &[0xa4, 0x01, 0x03, 0x03, 0x39, 0x01, 0x00, 0x20, 0x58, 0x80][..],
            &[0xc5; 128],
            &[0x21, 0x43, 0x01, 0x00, 0x01],
        ]
        .concat();
        assert_eq!(DeviceKey::from_cose(&cose).unwrap_err(), DeviceKeyError::Invalid);
    }
}
