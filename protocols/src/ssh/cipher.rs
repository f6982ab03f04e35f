//! How packets are protected (RFC 4253 §6, RFC 5647, OpenSSH PROTOCOL and PROTOCOL.chacha20poly1305). HOT.
//!
//! Only ciphers that authenticate the length before, or together with, what it is the length of. All by
//! aws-lc-rs, in place where it can.

use aws_lc_rs::aead::chacha20_poly1305_openssh::{self as chacha, OpeningKey, SealingKey};
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptionContext, StreamingEncryptingKey, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;

use super::fault::SshFault;

/// A cipher and its message authentication, as negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suite {
    Aes128Gcm,
    Aes256Gcm,
    Chacha20Poly1305,
    Ctr { bits: Bits, mac: Mac },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bits {
    B128,
    B256,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mac {
    Sha256Etm,
    Sha512Etm,
}

/// The keys of one direction.
pub(super) struct Keys<'a> {
    pub(super) iv: &'a [u8],
    pub(super) cipher: &'a [u8],
    pub(super) mac: &'a [u8],
}

const BAD_KEYS: SshFault = SshFault::Crypto("keys of a wrong length");

impl Suite {
    /// Lengths of initialisation vector, cipher key and authentication key.
    pub(super) fn lengths(self) -> (usize, usize, usize) {
        match self {
            Self::Aes128Gcm => (12, 16, 0),
            Self::Aes256Gcm => (12, 32, 0),
            Self::Chacha20Poly1305 => (0, chacha::KEY_LEN, 0),
            Self::Ctr { bits, mac } => {
                let cipher = if bits == Bits::B128 { 16 } else { 32 };
                (16, cipher, if mac == Mac::Sha256Etm { 32 } else { 64 })
            }
        }
    }

    pub(super) fn sealing(self, keys: &Keys<'_>) -> Result<Sealing, SshFault> {
        Ok(match self {
            Self::Aes128Gcm | Self::Aes256Gcm => Sealing::Gcm(Gcm::new(self, keys)?),
            Self::Chacha20Poly1305 => {
                Sealing::Chacha(SealingKey::new(keys.cipher.try_into().map_err(|_| BAD_KEYS)?))
            }
            Self::Ctr { bits, mac } => Sealing::Ctr(Ctr::new(bits, mac, keys)?),
        })
    }

    pub(super) fn opening(self, keys: &Keys<'_>) -> Result<Opening, SshFault> {
        Ok(match self {
            Self::Aes128Gcm | Self::Aes256Gcm => Opening::Gcm(Gcm::new(self, keys)?),
            Self::Chacha20Poly1305 => {
                Opening::Chacha(OpeningKey::new(keys.cipher.try_into().map_err(|_| BAD_KEYS)?))
            }
            Self::Ctr { bits, mac } => Opening::Ctr(Ctr::new(bits, mac, keys)?),
        })
    }
}

/// What protects the packets that we send.
pub(super) enum Sealing {
    /// Before the first key exchange.
    None,
    Gcm(Gcm),
    Chacha(SealingKey),
    Ctr(Ctr),
}

/// What opens the packets that we receive.
pub(super) enum Opening {
    /// Before the first key exchange.
    None,
    Gcm(Gcm),
    Chacha(OpeningKey),
    Ctr(Ctr),
}

impl Sealing {
    /// What the length of a packet's content is a multiple of. Without encryption, the length field counts too.
    pub(super) fn block(&self) -> usize {
        match self {
            Self::None | Self::Chacha(_) => 8,
            Self::Gcm(_) | Self::Ctr(_) => 16,
        }
    }

    /// Bytes of a packet that count towards [`Sealing::block`], beside its content: the length field or nothing.
    pub(super) fn counted(&self) -> usize {
        match self {
            Self::None => 4,
            _ => 0,
        }
    }

    /// Seals `out[start..]`, a packet from its length field on, and appends its authentication code.
    pub(super) fn seal(&mut self, sequence: u32, out: &mut Vec<u8>, start: usize) -> Result<(), SshFault> {
        const FAILED: SshFault = SshFault::Crypto("a packet was not sealed");
        let packet = out.get_mut(start..).ok_or(FAILED)?;
        match self {
            Self::None => {}
            Self::Gcm(gcm) => {
                let (length, content) = packet.split_at_mut_checked(4).ok_or(FAILED)?;
                let nonce = gcm.next_nonce();
                let tag = gcm.key.seal_in_place_separate_tag(nonce, Aad::from(&*length), content);
                out.extend_from_slice(tag.map_err(|_| FAILED)?.as_ref());
            }
            Self::Chacha(key) => {
                let mut tag = [0; chacha::TAG_LEN];
                key.seal_in_place(sequence, packet, &mut tag);
                out.extend_from_slice(&tag);
            }
            Self::Ctr(ctr) => {
                let (_, content) = packet.split_at_mut_checked(4).ok_or(FAILED)?;
                ctr.apply(content)?;
                let tag = ctr.tag(sequence, packet);
                out.extend_from_slice(tag.as_ref());
            }
        }
        Ok(())
    }
}

impl Opening {
    /// Bytes of the authentication code behind a packet.
    pub(super) fn tag(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Gcm(_) | Self::Chacha(_) => 16,
            Self::Ctr(ctr) => ctr.mac.algorithm().digest_algorithm().output_len(),
        }
    }

    /// What the length of a packet's content is a multiple of.
    pub(super) fn block(&self) -> usize {
        match self {
            Self::None | Self::Chacha(_) => 8,
            Self::Gcm(_) | Self::Ctr(_) => 16,
        }
    }

    /// The length field, not authenticated yet.
    pub(super) fn length(&self, sequence: u32, field: [u8; 4]) -> u32 {
        u32::from_be_bytes(match self {
            Self::Chacha(key) => key.decrypt_packet_length(sequence, field),
            _ => field,
        })
    }

    /// Opens a packet, from its length field to the end of its authentication code: the content is plain then.
    pub(super) fn open(&mut self, sequence: u32, packet: &mut [u8]) -> Result<(), SshFault> {
        let sealed = packet.len().checked_sub(self.tag()).ok_or(SshFault::Forged)?;
        let (packet, tag) = packet.split_at_mut(sealed);
        match self {
            Self::None => Ok(()),
            Self::Gcm(gcm) => {
                let (length, content) = packet.split_at_mut_checked(4).ok_or(SshFault::Forged)?;
                let nonce = gcm.next_nonce();
                let opened = gcm.key.open_in_place_separate_tag(nonce, Aad::from(&*length), tag, content);
                opened.map(drop).map_err(|_| SshFault::Forged)
            }
            Self::Chacha(key) => {
                let tag = (&*tag).try_into().map_err(|_| SshFault::Forged)?;
                key.open_in_place(sequence, packet, tag).map(drop).map_err(|_| SshFault::Forged)
            }
            Self::Ctr(ctr) => {
                let right = ctr.tag(sequence, packet);
                verify_slices_are_equal(right.as_ref(), tag).map_err(|_| SshFault::Forged)?;
                let (_, content) = packet.split_at_mut_checked(4).ok_or(SshFault::Forged)?;
                ctr.apply(content)
            }
        }
    }
}

/// AES-GCM: the length is authenticated, not encrypted; the nonce counts packets (RFC 5647 §7.1).
pub(super) struct Gcm {
    key: LessSafeKey,
    fixed: [u8; 4],
    counter: u64,
}

impl Gcm {
    fn new(suite: Suite, keys: &Keys<'_>) -> Result<Self, SshFault> {
        let algorithm = if suite == Suite::Aes128Gcm { &AES_128_GCM } else { &AES_256_GCM };
        let key = UnboundKey::new(algorithm, keys.cipher).map_err(|_| BAD_KEYS)?;
        let (fixed, counter) = keys.iv.split_first_chunk().ok_or(BAD_KEYS)?;
        let counter = u64::from_be_bytes(counter.try_into().map_err(|_| BAD_KEYS)?);
        Ok(Self { key: LessSafeKey::new(key), fixed: *fixed, counter })
    }

    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = [0; 12];
        let (fixed, counter) = nonce.split_at_mut(4);
        fixed.copy_from_slice(&self.fixed);
        counter.copy_from_slice(&self.counter.to_be_bytes());
        // New keys come long before it could come round.
        self.counter = self.counter.wrapping_add(1);
        Nonce::assume_unique_for_key(nonce)
    }
}

/// AES in counter mode; the encrypted packet is authenticated (`-etm@openssh.com`).
pub(super) struct Ctr {
    /// Encryption and decryption are the same.
    cipher: StreamingEncryptingKey,
    mac: hmac::Key,
    /// The cipher writes elsewhere.
    scratch: Vec<u8>,
}

impl Ctr {
    fn new(bits: Bits, mac: Mac, keys: &Keys<'_>) -> Result<Self, SshFault> {
        let algorithm = if bits == Bits::B128 { &AES_128 } else { &AES_256 };
        let key = UnboundCipherKey::new(algorithm, keys.cipher).map_err(|_| BAD_KEYS)?;
        let iv: [u8; 16] = keys.iv.try_into().map_err(|_| BAD_KEYS)?;
        let context = EncryptionContext::Iv128(FixedLength::from(iv));
        let cipher = StreamingEncryptingKey::less_safe_ctr(key, context).map_err(|_| BAD_KEYS)?;
        let hash = if mac == Mac::Sha256Etm { hmac::HMAC_SHA256 } else { hmac::HMAC_SHA512 };
        Ok(Self { cipher, mac: hmac::Key::new(hash, keys.mac), scratch: Vec::new() })
    }

    fn apply(&mut self, content: &mut [u8]) -> Result<(), SshFault> {
        const FAILED: SshFault = SshFault::Crypto("a packet was not encrypted");
        self.scratch.resize(content.len() + 16, 0);
        let update = self.cipher.update(content, &mut self.scratch).map_err(|_| FAILED)?;
        if update.written().len() != content.len() {
            return Err(FAILED);
        }
        content.copy_from_slice(update.written());
        Ok(())
    }

    fn tag(&self, sequence: u32, packet: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.mac);
        context.update(&sequence.to_be_bytes());
        context.update(packet);
        context.sign()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suites() -> Vec<Suite> {
        let mut suites = vec![Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::Chacha20Poly1305];
        for bits in [Bits::B128, Bits::B256] {
            suites.extend([Mac::Sha256Etm, Mac::Sha512Etm].map(|mac| Suite::Ctr { bits, mac }));
        }
        suites
    }

    fn pair(suite: Suite) -> (Sealing, Opening) {
        let (iv, cipher, mac) = suite.lengths();
        let keys = Keys { iv: &vec![1; iv], cipher: &vec![2; cipher], mac: &vec![3; mac] };
        (suite.sealing(&keys).unwrap(), suite.opening(&keys).unwrap())
    }

    /// A packet of 32 bytes of content.
    fn packet() -> Vec<u8> {
        let mut packet = vec![0, 0, 0, 32];
        packet.extend(0..32);
        packet
    }

    #[test]
    fn what_is_sealed_is_opened_packet_after_packet() {
        for suite in suites() {
            let (mut sealing, mut opening) = pair(suite);
            for sequence in 0..3 {
                let mut sealed = packet();
                sealing.seal(sequence, &mut sealed, 0).unwrap();
                assert_eq!(sealed.len(), 36 + opening.tag());
                assert_ne!(sealed[4..36], packet()[4..], "{suite:?}");
                assert_eq!(opening.length(sequence, sealed[..4].try_into().unwrap()), 32);
                opening.open(sequence, &mut sealed).unwrap();
                assert_eq!(sealed[4..36], packet()[4..], "{suite:?}");
            }
        }
    }

    #[test]
    fn a_changed_bit_anywhere_is_noticed() {
        for suite in suites() {
            let mut sealed = packet();
            pair(suite).0.seal(7, &mut sealed, 0).unwrap();
            for position in 0..sealed.len() {
                let mut forged = sealed.clone();
                forged[position] ^= 1;
                let opened = pair(suite).1.open(7, &mut forged);
                assert!(matches!(opened, Err(SshFault::Forged)), "{suite:?} at {position}");
            }
        }
    }

    #[test]
    fn a_packet_in_another_place_is_noticed() {
        for suite in suites() {
            let (mut sealing, mut opening) = pair(suite);
            let mut first = packet();
            sealing.seal(0, &mut first, 0).unwrap();
            let mut second = packet();
            sealing.seal(1, &mut second, 0).unwrap();
            assert!(matches!(opening.open(0, &mut second), Err(SshFault::Forged)), "{suite:?}");
        }
    }
}
