//! Key exchange: X25519, alone (RFC 8731) or with ML-KEM-768 (draft-ietf-sshm-mlkem-hybrid-kex), and the keys that
//! come of it (RFC 4253 §7.2). Secrets of our own are made for one exchange, and wiped.

use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::kem::{DecapsulationKey, EncapsulationKey, ML_KEM_768};
use zeroize::Zeroizing;

use super::cipher::{Keys, Opening, Sealing, Suite};
use super::fault::SshFault;
use super::wire::Put;

/// Lengths of ML-KEM-768's public key and ciphertext (FIPS 203 §8), and of X25519's public key.
const ENCAPSULATION_KEY: usize = 1_184;
const CIPHERTEXT: usize = 1_088;
const POINT: usize = 32;

const BAD: SshFault = SshFault::KeyExchange("the other side's share is not good");
const FAILED: SshFault = SshFault::Crypto("a key exchange");

/// What both sides know after an exchange: the shared secret, as the hash takes it.
pub(super) struct Shared(Zeroizing<Vec<u8>>);

/// The client's half, until the server has answered.
pub(super) struct ClientShare {
    private: PrivateKey,
    decapsulation: Option<DecapsulationKey>,
    /// What is sent.
    pub(super) public: Vec<u8>,
}

impl ClientShare {
    pub(super) fn new(hybrid: bool) -> Result<Self, SshFault> {
        let private = PrivateKey::generate(&X25519).map_err(|_| FAILED)?;
        let mut public = Vec::new();
        let decapsulation = match hybrid {
            true => {
                let key = DecapsulationKey::generate(&ML_KEM_768).map_err(|_| FAILED)?;
                let encapsulation = key.encapsulation_key().map_err(|_| FAILED)?;
                public.extend_from_slice(encapsulation.key_bytes().map_err(|_| FAILED)?.as_ref());
                Some(key)
            }
            false => None,
        };
        public.extend_from_slice(private.compute_public_key().map_err(|_| FAILED)?.as_ref());
        Ok(Self { private, decapsulation, public })
    }

    /// With the server's share.
    pub(super) fn finish(self, server: &[u8]) -> Result<Shared, SshFault> {
        let Some(decapsulation) = self.decapsulation else {
            return Ok(Shared::alone(&secret(&self.private, server)?));
        };
        let (ciphertext, point) = server.split_at_checked(CIPHERTEXT).ok_or(BAD)?;
        let quantum = decapsulation.decapsulate(ciphertext.into()).map_err(|_| BAD)?;
        Ok(Shared::hybrid(quantum.as_ref(), &secret(&self.private, point)?))
    }
}

/// The server's half: its share, and the secret.
pub(super) fn answer(hybrid: bool, client: &[u8]) -> Result<(Vec<u8>, Shared), SshFault> {
    let private = PrivateKey::generate(&X25519).map_err(|_| FAILED)?;
    let own = private.compute_public_key().map_err(|_| FAILED)?;
    if !hybrid {
        return Ok((own.as_ref().to_vec(), Shared::alone(&secret(&private, client)?)));
    }
    let (key, point) = client.split_at_checked(ENCAPSULATION_KEY).ok_or(BAD)?;
    let key = EncapsulationKey::new(&ML_KEM_768, key).map_err(|_| BAD)?;
    let (ciphertext, quantum) = key.encapsulate().map_err(|_| BAD)?;
    let mut share = ciphertext.as_ref().to_vec();
    share.extend_from_slice(own.as_ref());
    Ok((share, Shared::hybrid(quantum.as_ref(), &secret(&private, point)?)))
}

/// X25519; a point that would make the secret the same for everybody is an error (RFC 8731 §3).
fn secret(private: &PrivateKey, point: &[u8]) -> Result<Zeroizing<Vec<u8>>, SshFault> {
    if point.len() != POINT {
        return Err(BAD);
    }
    agree(private, UnparsedPublicKey::new(&X25519, point), BAD, |secret| {
        let secret = Zeroizing::new(secret.to_vec());
        if secret.iter().all(|byte| *byte == 0) { Err(BAD) } else { Ok(secret) }
    })
}

impl Shared {
    /// X25519 alone: a number.
    fn alone(secret: &[u8]) -> Self {
        // Room for all of it, so that no copy is left behind.
        let mut encoded = Zeroizing::new(Vec::with_capacity(5 + secret.len()));
        encoded.put_mpint(secret);
        Self(encoded)
    }

    /// Both: the hash of both secrets, as a string.
    fn hybrid(quantum: &[u8], secret: &[u8]) -> Self {
        let mut context = digest::Context::new(&SHA256);
        context.update(quantum);
        context.update(secret);
        let mut encoded = Zeroizing::new(Vec::with_capacity(4 + 32));
        encoded.put_string(context.finish().as_ref());
        Self(encoded)
    }

    /// The exchange hash.
    pub(super) fn hash(&self, exchange: &Exchange<'_>) -> [u8; 32] {
        let mut text = Vec::new();
        for part in [
            exchange.client_id,
            exchange.server_id,
            exchange.client_init,
            exchange.server_init,
            exchange.host_key,
            exchange.client_share,
            exchange.server_share,
        ] {
            text.put_string(part);
        }
        let mut context = digest::Context::new(&SHA256);
        context.update(&text);
        context.update(&self.0);
        sized(context.finish().as_ref())
    }

    /// Key material of so many bytes; `letter` says what it is for.
    fn derive(&self, letter: u8, hash: &[u8], session: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
        let mut material = Zeroizing::new(Vec::with_capacity(length + 32));
        while material.len() < length {
            let mut context = digest::Context::new(&SHA256);
            context.update(&self.0);
            context.update(hash);
            if material.is_empty() {
                context.update(&[letter]);
                context.update(session);
            } else {
                context.update(&material);
            }
            material.extend_from_slice(context.finish().as_ref());
        }
        material.truncate(length);
        material
    }

    /// What protects one direction.
    fn keys<T>(
        &self,
        letters: [u8; 3],
        suite: Suite,
        (hash, session): (&[u8], &[u8]),
        make: impl FnOnce(Suite, &Keys<'_>) -> Result<T, SshFault>,
    ) -> Result<T, SshFault> {
        let [iv, cipher, mac] = letters;
        let (iv_length, cipher_length, mac_length) = suite.lengths();
        let derive = |letter, length| self.derive(letter, hash, session, length);
        let (iv, cipher, mac) =
            (derive(iv, iv_length), derive(cipher, cipher_length), derive(mac, mac_length));
        make(suite, &Keys { iv: &iv, cipher: &cipher, mac: &mac })
    }

    /// What protects both directions: ours first.
    pub(super) fn protection(
        &self,
        is_server: bool,
        (to_server, to_client): (Suite, Suite),
        hash: &[u8],
        session: &[u8],
    ) -> Result<(Sealing, Opening), SshFault> {
        const TO_SERVER: [u8; 3] = *b"ACE";
        const TO_CLIENT: [u8; 3] = *b"BDF";
        let context = (hash, session);
        Ok(match is_server {
            true => (
                self.keys(TO_CLIENT, to_client, context, Suite::sealing)?,
                self.keys(TO_SERVER, to_server, context, Suite::opening)?,
            ),
            false => (
                self.keys(TO_SERVER, to_server, context, Suite::sealing)?,
                self.keys(TO_CLIENT, to_client, context, Suite::opening)?,
            ),
        })
    }
}

/// Everything that the exchange hash covers, beside the secret.
pub(super) struct Exchange<'a> {
    pub(super) client_id: &'a [u8],
    pub(super) server_id: &'a [u8],
    pub(super) client_init: &'a [u8],
    pub(super) server_init: &'a [u8],
    pub(super) host_key: &'a [u8],
    pub(super) client_share: &'a [u8],
    pub(super) server_share: &'a [u8],
}

/// A SHA-256.
fn sized(hash: &[u8]) -> [u8; 32] {
    let mut sized = [0; 32];
    sized.copy_from_slice(hash);
    sized
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(shared: &Shared) -> &[u8] {
        &shared.0
    }

    #[test]
    fn both_sides_come_to_the_same_secret() {
        for hybrid in [false, true] {
            let client = ClientShare::new(hybrid).unwrap();
            let (share, server) = answer(hybrid, &client.public).unwrap();
            let client = client.finish(&share).unwrap();
            assert_eq!(encoded(&client), encoded(&server));
        }
    }

    #[test]
    fn shares_of_a_wrong_length_are_refused() {
        for hybrid in [false, true] {
            let share = ClientShare::new(hybrid).unwrap().public;
            for length in [0, 1, 31, 33, 1_183, 1_184, 1_215, 1_217] {
                let mut wrong = share.clone();
                wrong.resize(length, 7);
                assert!(length == share.len() || answer(hybrid, &wrong).is_err(), "{hybrid} {length}");
            }
            let client = ClientShare::new(hybrid).unwrap();
            assert!(client.finish(&[1; 100]).is_err());
        }
    }

    #[test]
    fn a_point_of_low_order_is_refused() {
        let mut one = [0; 32];
        one[0] = 1;
        for point in [[0; 32], one] {
            assert!(answer(false, &point).is_err());
            assert!(ClientShare::new(false).unwrap().finish(&point).is_err());
        }
    }
}
