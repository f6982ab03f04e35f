//! What is negotiated before a key exchange (RFC 4253 §7.1): a short list of today's algorithms, and of these the
//! client's first choice.
//!
//! Not here, on purpose: SHA-1, CBC, Diffie-Hellman over integers, NIST's curves for the exchange, MACs that do
//! not cover the encrypted packet, compression.

use aws_lc_rs::rand;

use super::cipher::{Bits, Mac, Suite};
use super::fault::SshFault;
use super::message;
use super::wire::Put;
use crate::reader::Reader;

pub(super) const MLKEM: &str = "mlkem768x25519-sha256";
const KEX: [&str; 3] = [MLKEM, "curve25519-sha256", "curve25519-sha256@libssh.org"];
const STRICT_CLIENT: &str = "kex-strict-c-v00@openssh.com";
const STRICT_SERVER: &str = "kex-strict-s-v00@openssh.com";
const EXT_INFO_CLIENT: &str = "ext-info-c";

const CIPHERS: [(&str, Cipher); 5] = [
    ("aes128-gcm@openssh.com", Cipher::Whole(Suite::Aes128Gcm)),
    ("aes256-gcm@openssh.com", Cipher::Whole(Suite::Aes256Gcm)),
    ("chacha20-poly1305@openssh.com", Cipher::Whole(Suite::Chacha20Poly1305)),
    ("aes256-ctr", Cipher::Ctr(Bits::B256)),
    ("aes128-ctr", Cipher::Ctr(Bits::B128)),
];
const MACS: [(&str, Mac); 2] =
    [("hmac-sha2-256-etm@openssh.com", Mac::Sha256Etm), ("hmac-sha2-512-etm@openssh.com", Mac::Sha512Etm)];

#[derive(Clone, Copy)]
enum Cipher {
    /// Authenticates by itself.
    Whole(Suite),
    /// Needs a MAC beside it.
    Ctr(Bits),
}

/// Which end of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Towards an upstream.
    Client,
    /// Towards a client.
    Server,
}

/// What both sides agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    /// The post-quantum hybrid, or X25519 alone.
    pub(super) hybrid: bool,
    /// The host key's algorithm.
    pub(super) host_key: String,
    pub(super) to_server: Suite,
    pub(super) to_client: Suite,
    /// The other side has sent a first packet of an exchange that it guessed wrongly: it is to be ignored.
    pub(super) wrong_guess: bool,
    /// Both sides are strict (OpenSSH PROTOCOL 1.10). Only the first exchange says so.
    pub(super) strict: bool,
    /// The client understands EXT_INFO (RFC 8308).
    pub(super) ext_info: bool,
}

/// Our KEXINIT. `first` is the connection's first exchange.
pub(super) fn proposal(role: Role, host_keys: &[&str], first: bool) -> Result<Vec<u8>, SshFault> {
    let mut cookie = [0; 16];
    rand::fill(&mut cookie).map_err(|_| SshFault::Crypto("no randomness"))?;
    let mut kex = KEX.to_vec();
    if first {
        kex.push(if role == Role::Client { STRICT_CLIENT } else { STRICT_SERVER });
    }
    let ciphers = CIPHERS.map(|(name, _)| name).join(",");
    let macs = MACS.map(|(name, _)| name).join(",");
    let mut packet = vec![message::KEXINIT];
    packet.extend_from_slice(&cookie);
    let (kex, host_keys) = (kex.join(","), host_keys.join(","));
    for list in [&kex, &host_keys, &ciphers, &ciphers, &macs, &macs, "none", "none", "", ""] {
        packet.put_string(list.as_bytes());
    }
    packet.put_bool(false);
    packet.put_u32(0);
    Ok(packet)
}

/// The lists of a KEXINIT.
struct Lists<'a> {
    lists: [&'a str; 10],
    guess: bool,
}

impl<'a> Lists<'a> {
    fn parse(packet: &'a [u8]) -> Result<Self, SshFault> {
        let mut reader = Reader::new(packet);
        if reader.u8()? != message::KEXINIT {
            return Err(SshFault::KeyExchange("no KEXINIT"));
        }
        reader.take(16)?;
        let mut lists = [""; 10];
        for list in &mut lists {
            *list = std::str::from_utf8(reader.string()?)
                .map_err(|_| SshFault::KeyExchange("a list of names is no text"))?;
        }
        let guess = reader.bool()?;
        reader.u32()?;
        reader.finish()?;
        Ok(Self { lists, guess })
    }

    fn names(&self, list: usize) -> impl Iterator<Item = &'a str> + use<'a> {
        self.lists.get(list).copied().unwrap_or_default().split(',')
    }

    fn has(&self, list: usize, wanted: &str) -> bool {
        self.names(list).any(|name| name == wanted)
    }
}

const KEX_LIST: usize = 0;
const HOST_KEYS: usize = 1;
const CIPHER_LISTS: [usize; 2] = [2, 3];
const MAC_LISTS: [usize; 2] = [4, 5];
const COMPRESSION: [usize; 2] = [6, 7];

/// Reads both proposals: the client's first name that the server knows too, of each list. `strict` is what the
/// connection's first exchange agreed on, if this is a later one.
pub(super) fn negotiate(client: &[u8], server: &[u8], strict: Option<bool>) -> Result<Agreed, SshFault> {
    let (client, server) = (Lists::parse(client)?, Lists::parse(server)?);
    let strict =
        strict.unwrap_or_else(|| client.has(KEX_LIST, STRICT_CLIENT) && server.has(KEX_LIST, STRICT_SERVER));
    let choose = |list: usize, what: &'static str, good: &dyn Fn(&str) -> bool| {
        let common = client.names(list).find(|name| server.has(list, name) && good(name));
        common.ok_or(SshFault::NoCommonAlgorithm(what))
    };
    let kex = choose(KEX_LIST, "the key exchange", &|name| KEX.contains(&name))?;
    let host_key = choose(HOST_KEYS, "the host key", &|name| !name.is_empty())?;
    for list in COMPRESSION {
        choose(list, "compression", &|name| name == "none")?;
    }
    let suite = |direction: usize| -> Result<Suite, SshFault> {
        let at = |lists: [usize; 2]| lists.get(direction).copied().unwrap_or_default();
        let name = choose(at(CIPHER_LISTS), "encryption", &|name| cipher(name, strict).is_some())?;
        match cipher(name, strict).ok_or(SshFault::NoCommonAlgorithm("encryption"))? {
            Cipher::Whole(suite) => Ok(suite),
            Cipher::Ctr(bits) => {
                let name = choose(at(MAC_LISTS), "authentication", &|name| mac(name).is_some())?;
                let mac = mac(name).ok_or(SshFault::NoCommonAlgorithm("authentication"))?;
                Ok(Suite::Ctr { bits, mac })
            }
        }
    };
    let first = |lists: &Lists<'_>, list| lists.names(list).next().unwrap_or_default().to_owned();
    let same_guess = [KEX_LIST, HOST_KEYS].iter().all(|list| first(&client, *list) == first(&server, *list));
    Ok(Agreed {
        hybrid: kex == MLKEM,
        host_key: host_key.to_owned(),
        to_server: suite(0)?,
        to_client: suite(1)?,
        wrong_guess: !same_guess && (client.guess || server.guess),
        strict,
        ext_info: client.has(KEX_LIST, EXT_INFO_CLIENT),
    })
}

/// Without strict key exchange, a man in the middle can cut messages off the beginning of what these protect
/// (Terrapin, CVE-2023-48795), and AES-GCM alone is left.
fn cipher(name: &str, strict: bool) -> Option<Cipher> {
    let (_, cipher) = CIPHERS.into_iter().find(|(known, _)| *known == name)?;
    (strict || matches!(cipher, Cipher::Whole(Suite::Aes128Gcm | Suite::Aes256Gcm))).then_some(cipher)
}

fn mac(name: &str) -> Option<Mac> {
    MACS.into_iter().find(|(known, _)| *known == name).map(|(_, mac)| mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A KEXINIT with these lists for key exchange and both ciphers.
    fn init(kex: &str, ciphers: &str) -> Vec<u8> {
        let mut packet = vec![message::KEXINIT];
        packet.extend_from_slice(&[0; 16]);
        let macs = "hmac-sha1,hmac-sha2-512-etm@openssh.com";
        for list in [kex, "ssh-ed25519", ciphers, ciphers, macs, macs, "zlib,none", "none", "", ""] {
            packet.put_string(list.as_bytes());
        }
        packet.put_bool(false);
        packet.put_u32(0);
        packet
    }

    fn server() -> Vec<u8> {
        proposal(Role::Server, &["ssh-ed25519"], true).unwrap()
    }

    #[test]
    fn the_clients_first_choice_that_both_know_is_taken() {
        let client = init(
            "diffie-hellman-group14-sha1,curve25519-sha256,kex-strict-c-v00@openssh.com",
            "aes128-cbc,aes256-ctr,aes128-gcm@openssh.com",
        );
        let agreed = negotiate(&client, &server(), None).unwrap();
        assert!(!agreed.hybrid && agreed.strict && !agreed.ext_info);
        assert_eq!(agreed.to_client, Suite::Ctr { bits: Bits::B256, mac: Mac::Sha512Etm });
    }

    #[test]
    fn without_strict_exchange_only_gcm_is_left() {
        let ciphers = "chacha20-poly1305@openssh.com,aes256-ctr,aes256-gcm@openssh.com";
        let agreed = negotiate(&init("curve25519-sha256", ciphers), &server(), None).unwrap();
        assert_eq!((agreed.strict, agreed.to_server), (false, Suite::Aes256Gcm));
        let only = init("curve25519-sha256", "chacha20-poly1305@openssh.com,aes256-ctr");
        let none = negotiate(&only, &server(), None).unwrap_err();
        assert!(matches!(none, SshFault::NoCommonAlgorithm("encryption")));
    }

    #[test]
    fn only_the_first_exchange_decides_about_strictness() {
        let plain = init("curve25519-sha256", "chacha20-poly1305@openssh.com");
        assert!(negotiate(&plain, &server(), Some(true)).unwrap().strict);
        let late = init("curve25519-sha256,kex-strict-c-v00@openssh.com", "aes128-gcm@openssh.com");
        assert!(!negotiate(&late, &server(), Some(false)).unwrap().strict);
    }

    #[test]
    fn marks_are_no_algorithms_and_old_ones_are_not_taken() {
        for kex in [
            "kex-strict-c-v00@openssh.com",
            "ext-info-c",
            "",
            "ecdh-sha2-nistp256",
            "diffie-hellman-group14-sha256",
        ] {
            let refused = negotiate(&init(kex, "aes128-gcm@openssh.com"), &server(), None);
            assert!(matches!(refused, Err(SshFault::NoCommonAlgorithm("the key exchange"))), "{kex}");
        }
    }

    #[test]
    fn a_proposal_cut_anywhere_is_refused() {
        let whole = init("curve25519-sha256", "aes128-gcm@openssh.com");
        for length in 0..whole.len() {
            assert!(negotiate(&whole[..length], &server(), None).is_err(), "{length}");
        }
    }
}
