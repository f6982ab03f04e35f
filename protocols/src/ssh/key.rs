//! Keys and signatures: ours, which sign, and others', which verify. All by aws-lc-rs.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsBigEndian, Curve25519SeedBin};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P521_SHA512_FIXED, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use ssh_key::private::{EcdsaKeypair, Ed25519Keypair, Ed25519PrivateKey, KeypairData};
use ssh_key::{LineEnding, PrivateKey};
use zeroize::Zeroizing;

use super::fault::SshFault;
use super::wire::Put;
use crate::reader::Reader;

pub(super) const ED25519_NAME: &str = "ssh-ed25519";
pub(super) const P256_NAME: &str = "ecdsa-sha2-nistp256";

/// A key of ours: Ed25519, or ECDSA on P-256. Clones share it.
#[derive(Clone)]
pub struct SshKey {
    pair: Arc<Pair>,
    /// The public key in its wire form.
    public: Arc<[u8]>,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

/// A key, or a line with one, that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadKey {
    /// It cannot be read.
    #[error("it is not in OpenSSH's format")]
    Format(#[source] ssh_key::Error),
    /// It is locked with a passphrase.
    #[error("it is encrypted with a passphrase")]
    Encrypted,
    /// A kind that is not used here.
    #[error("keys of type {0} are not used here: take ssh-ed25519 or ecdsa-sha2-nistp256")]
    Kind(String),
    /// It could not be made or used.
    #[error("cryptography failed")]
    Crypto,
}

impl fmt::Debug for SshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SshKey({})", self.algorithm())
    }
}

impl SshKey {
    /// A new Ed25519 key.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn generate() -> Result<Self, BadKey> {
        Self::ed25519(Ed25519KeyPair::generate().map_err(|_| BadKey::Crypto)?)
    }

    /// Reads a private key file (`-----BEGIN OPENSSH PRIVATE KEY-----`).
    ///
    /// # Errors
    /// It is none, is encrypted, or is of a kind that is not used here.
    pub fn from_openssh(file: &[u8]) -> Result<Self, BadKey> {
        let key = PrivateKey::from_openssh(file).map_err(BadKey::Format)?;
        match key.key_data() {
            KeypairData::Ed25519(pair) => {
                let pair =
                    Ed25519KeyPair::from_seed_and_public_key(pair.private.as_ref(), pair.public.as_ref());
                Self::ed25519(pair.map_err(|_| BadKey::Crypto)?)
            }
            KeypairData::Ecdsa(EcdsaKeypair::NistP256 { public, private }) => {
                let pair = EcdsaKeyPair::from_private_key_and_public_key(
                    &ECDSA_P256_SHA256_FIXED_SIGNING,
                    private.as_slice(),
                    public.as_bytes(),
                );
                Self::p256(pair.map_err(|_| BadKey::Crypto)?)
            }
            KeypairData::Encrypted(_) => Err(BadKey::Encrypted),
            _ => Err(BadKey::Kind(key.algorithm().to_string())),
        }
    }

    /// The private key as a file's content, for a key made by [`SshKey::generate`].
    ///
    /// # Errors
    /// The key is of another kind.
    pub fn to_openssh(&self) -> Result<Zeroizing<String>, BadKey> {
        let Pair::Ed25519(pair) = &*self.pair else { return Err(BadKey::Kind(P256_NAME.to_owned())) };
        let seed = pair.seed().map_err(|_| BadKey::Crypto)?;
        let seed: Curve25519SeedBin<'static> = seed.as_be_bytes().map_err(|_| BadKey::Crypto)?;
        let private = Ed25519PrivateKey::try_from(seed.as_ref()).map_err(BadKey::Format)?;
        let key = PrivateKey::from(Ed25519Keypair::from(private));
        key.to_openssh(LineEnding::LF).map_err(BadKey::Format)
    }

    fn ed25519(pair: Ed25519KeyPair) -> Result<Self, BadKey> {
        let mut public = Vec::new();
        public.put_string(ED25519_NAME.as_bytes());
        public.put_string(pair.public_key().as_ref());
        Ok(Self { pair: Arc::new(Pair::Ed25519(pair)), public: public.into() })
    }

    fn p256(pair: EcdsaKeyPair) -> Result<Self, BadKey> {
        let mut public = Vec::new();
        public.put_string(P256_NAME.as_bytes());
        public.put_string(b"nistp256");
        public.put_string(pair.public_key().as_ref());
        Ok(Self { pair: Arc::new(Pair::P256(pair)), public: public.into() })
    }

    /// The public key in its wire form (RFC 8709 §4, RFC 5656 §3.1).
    #[must_use]
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// The name of the key's type, which is its signature's too: `ssh-ed25519`.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match &*self.pair {
            Pair::Ed25519(_) => ED25519_NAME,
            Pair::P256(_) => P256_NAME,
        }
    }

    /// A signature in its wire form, its algorithm's name included.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SshFault> {
        let mut signature = Vec::new();
        signature.put_string(self.algorithm().as_bytes());
        match &*self.pair {
            Pair::Ed25519(pair) => signature.put_string(pair.sign(message).as_ref()),
            Pair::P256(pair) => {
                let fixed = pair
                    .sign(&SystemRandom::new(), message)
                    .map_err(|_| SshFault::Crypto("a signature was not made"))?;
                let (r, s) = fixed.as_ref().split_at(fixed.as_ref().len() / 2);
                let mut numbers = Vec::new();
                numbers.put_mpint(r);
                numbers.put_mpint(s);
                signature.put_string(&numbers);
            }
        }
        Ok(signature)
    }
}

/// Whether `signature`, in its wire form and by `algorithm`, was made by the owner of `key`, in its wire form,
/// for `message`. The algorithm must be the key's own; SHA-1 is no algorithm (RFC 8332).
pub(super) fn verify(key: &[u8], algorithm: &[u8], message: &[u8], signature: &[u8]) -> Result<(), SshFault> {
    const BAD: SshFault = SshFault::Protocol("a signature cannot be read");
    let mut signature = Reader::new(signature);
    if signature.string()? != algorithm {
        return Err(SshFault::Protocol("a signature is of another algorithm than its request"));
    }
    let value = signature.string()?;
    signature.finish()?;
    let mut key = Reader::new(key);
    let kind = key.string()?;
    match (kind, algorithm) {
        (b"ssh-ed25519", b"ssh-ed25519") => {
            let point = key.string()?;
            key.finish()?;
            check(&ED25519, point, message, value)
        }
        (b"ecdsa-sha2-nistp256", b"ecdsa-sha2-nistp256") => {
            check(&ECDSA_P256_SHA256_FIXED, curve(key, b"nistp256")?, message, &fixed(value, 32).ok_or(BAD)?)
        }
        (b"ecdsa-sha2-nistp384", b"ecdsa-sha2-nistp384") => {
            check(&ECDSA_P384_SHA384_FIXED, curve(key, b"nistp384")?, message, &fixed(value, 48).ok_or(BAD)?)
        }
        (b"ecdsa-sha2-nistp521", b"ecdsa-sha2-nistp521") => {
            check(&ECDSA_P521_SHA512_FIXED, curve(key, b"nistp521")?, message, &fixed(value, 66).ok_or(BAD)?)
        }
        (b"ssh-rsa", b"rsa-sha2-256" | b"rsa-sha2-512") => {
            let (e, n) = (key.mpint()?, key.mpint()?);
            key.finish()?;
            let components = RsaPublicKeyComponents { n, e };
            let algorithm = match algorithm {
                b"rsa-sha2-512" => &RSA_PKCS1_2048_8192_SHA512,
                _ => &RSA_PKCS1_2048_8192_SHA256,
            };
            components.verify(algorithm, message, value).map_err(|_| WRONG)
        }
        _ => Err(SshFault::Protocol("a key of this type does not sign by this algorithm")),
    }
}

const WRONG: SshFault = SshFault::Protocol("a signature is wrong");

fn check(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), SshFault> {
    UnparsedPublicKey::new(algorithm, key).verify(message, signature).map_err(|_| WRONG)
}

/// The point of an ECDSA key on this curve.
fn curve<'a>(mut key: Reader<'a>, curve: &[u8]) -> Result<&'a [u8], SshFault> {
    let (name, point) = (key.string()?, key.string()?);
    key.finish()?;
    if name == curve {
        Ok(point)
    } else {
        Err(SshFault::Protocol("an ECDSA key of another curve than its name"))
    }
}

/// `r` and `s`, each of so many bytes, from the wire form of an ECDSA signature (RFC 5656 §3.1.2).
fn fixed(value: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut reader = Reader::new(value);
    let mut fixed = Vec::with_capacity(2 * size);
    for _ in 0..2 {
        let number = reader.mpint().ok()?;
        fixed.resize(fixed.len() + size.checked_sub(number.len())?, 0);
        fixed.extend_from_slice(number);
    }
    reader.finish().ok()?;
    Some(fixed)
}
