//! Making the keys that certificates are issued for. The private half stays in the process that made it.

use aws_lc_rs::{
    encoding::AsDer,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use zeroize::Zeroizing;

/// The system could not make a key (it has no randomness).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot generate a key")]
pub struct KeyError;

/// A new ECDSA P-256 key: its private half as PKCS #8, wiped when dropped, and its SubjectPublicKeyInfo (DER), which is
/// what a certificate is asked for with.
///
/// # Errors
/// [`KeyError`] where the system has no randomness to give.
pub fn generate_p256() -> Result<(Zeroizing<PrivatePkcs8KeyDer<'static>>, Vec<u8>), KeyError> {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| KeyError)?;
    let private = key.to_pkcs8v1().map_err(|_| KeyError)?;
    let public = key.public_key().as_der().map_err(|_| KeyError)?;
    Ok((Zeroizing::new(PrivatePkcs8KeyDer::from(private.as_ref().to_vec())), public.as_ref().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_can_sign_and_its_public_half_is_a_p256_spki() {
        let (private, public) = generate_p256().unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, private.secret_pkcs8_der()).unwrap();
        assert_eq!(pair.public_key().as_der().unwrap().as_ref(), public);
        assert_eq!(public.len(), 91);
    }
}
