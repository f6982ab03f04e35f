//! The password, encrypted with the upstream's RSA key (`caching_sha2_password` without TLS).
//!
//! Not by mysql_common, whose reader of keys panics on a key that is none.

use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

use crate::DialError;

/// `password`, its NUL included, mixed with `scramble` and encrypted with the `key` (PEM).
pub(super) fn encrypt(password: &[u8], scramble: &[u8], key: &[u8]) -> Result<Zeroizing<Vec<u8>>, DialError> {
    let key = SubjectPublicKeyInfoDer::from_pem_slice(key).ok();
    let key = key.and_then(|key| PublicEncryptingKey::from_der(&key).ok());
    let key = key.and_then(|key| OaepPublicEncryptingKey::new(key).ok());
    let key = key.ok_or(DialError::Protocol("its RSA key is none, or has not 2,048 to 8,192 bits"))?;
    let mixed: Zeroizing<Vec<u8>> = Zeroizing::new(
        password.iter().zip(scramble.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect(),
    );
    if mixed.len() != password.len() || mixed.len() > key.max_plaintext_size(&OAEP_SHA1_MGF1SHA1) {
        return Err(DialError::AuthenticationRefused {
            method: "caching_sha2_password",
            reason: "the password is too long for the upstream's RSA key",
        });
    }
    let mut encrypted = Zeroizing::new(vec![0; key.ciphertext_size()]);
    let length = key
        .encrypt(&OAEP_SHA1_MGF1SHA1, &mixed, &mut encrypted, None)
        .map_err(|_| DialError::Protocol("its RSA key encrypts nothing"))?
        .len();
    encrypted.truncate(length);
    Ok(encrypted)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rsa::{KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey};

    use super::*;

    fn pem(key: &PrivateDecryptingKey) -> String {
        let der = key.public_key().as_der().unwrap();
        pem_of(der.as_ref())
    }

    fn pem_of(der: &[u8]) -> String {
        let encoded = base64(der);
        format!("-----BEGIN PUBLIC KEY-----\n{encoded}\n-----END PUBLIC KEY-----\n")
    }

    /// Base64 (RFC 4648 §4), which nothing else here needs.
    fn base64(bytes: &[u8]) -> String {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let value = chunk.iter().fold(0_u32, |value, byte| value << 8 | u32::from(*byte))
                << (8 * (3 - chunk.len()));
            for index in 0..4 {
                let letter = LETTERS[(value >> (18 - 6 * index) & 63) as usize] as char;
                text.push(if index <= chunk.len() { letter } else { '=' });
            }
        }
        text
    }

    #[test]
    fn the_upstream_decrypts_the_password_mixed_with_its_scramble() {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let password = b"a password that is longer than its scramble\0";
        let encrypted = encrypt(password, &[0x5A; 20], pem(&key).as_bytes()).unwrap();
        let key = OaepPrivateDecryptingKey::new(key).unwrap();
        let mut decrypted = vec![0; key.min_output_size()];
        let mixed = key.decrypt(&OAEP_SHA1_MGF1SHA1, &encrypted, &mut decrypted, None).unwrap();
        assert_eq!(mixed.iter().map(|byte| byte ^ 0x5A).collect::<Vec<_>>(), password);
    }

    #[test]
    fn a_key_that_is_none_or_too_small_is_refused_and_never_panics() {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let whole = pem(&key);
        for end in (0..whole.len() - 30).step_by(7) {
            assert!(encrypt(b"secret\0", &[1; 20], &whole.as_bytes()[..end]).is_err(), "{end}");
        }
        for damaged in
            ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", &pem_of(&[0x30; 40])]
        {
            assert!(matches!(
                encrypt(b"secret\0", &[1; 20], damaged.as_bytes()),
                Err(DialError::Protocol(_))
            ));
        }
        let long = [b'x'; 300];
        let error = encrypt(&long, &[1; 20], whole.as_bytes()).unwrap_err();
        assert!(matches!(error, DialError::AuthenticationRefused { .. }), "{error:?}");
        assert!(encrypt(b"secret\0", &[], whole.as_bytes()).is_err());
    }
}
