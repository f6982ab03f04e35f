//! What we prove to the upstream, and what we refuse to tell it.
//!
//! ```text
//! mysql_native_password    a scramble (SHA-1)
//! caching_sha2_password    a scramble (SHA-256); where the upstream remembers none to compare with, the password
//!                          itself: through TLS or a Unix socket, else encrypted with the upstream's RSA key, if
//!                          the configuration asks for that by name
//! client_ed25519           a signature (MariaDB)
//! sha256_password,         the password itself: through TLS or a Unix socket alone
//! mysql_clear_password
//! ```
//! Without a password, which is how accounts are set up that a client certificate or a Unix socket opens
//! (`REQUIRE SUBJECT`, `auth_socket`), each is answered with an empty one. (MySQL "Authentication Methods".)

use mysql_common::scramble::{create_response_for_ed25519, scramble_native, scramble_sha256};
use tokio_util::either::Either;
use zeroize::Zeroizing;

use crate::DialError;
use crate::endpoint::{Credential, UpstreamStream};
use crate::reader::{Reader, Short};
use crate::secret::Secret;
use crate::text::one_line;

use super::error_packet::ERR;
use super::greeting::SCRAMBLE;
use super::packet::Conversation;
use super::upstream::{receive, rejected};

mod rsa;

/// Packets that an upstream may ask an answer to: MariaDB tries each plugin of an account in turn.
const MAX_ROUNDS: usize = 10;
/// Characters of an unknown plugin's name that are kept for the log.
const KEPT: usize = 64;
/// Bytes of what `client_ed25519` signs.
const ED25519_NONCE: usize = 32;

const OK: u8 = 0x00;
const MORE_DATA: u8 = 0x01;
const NEXT_FACTOR: u8 = 0x02;
const SWITCH: u8 = 0xFE;
/// AuthMoreData of `caching_sha2_password`: the scramble was right; the password is needed.
const FAST: [u8; 2] = [MORE_DATA, 0x03];
const FULL: [u8; 2] = [MORE_DATA, 0x04];
/// Our request for the upstream's RSA key.
const PUBLIC_KEY: [u8; 1] = [0x02];

/// An authentication plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Native,
    CachingSha2,
    Ed25519,
    Sha256,
    Clear,
}

/// What we have to prove ourselves with, and on what connection.
#[derive(Debug)]
pub(super) struct Proof<'a> {
    credential: &'a Credential,
    /// Nobody on the way can read along: TLS, or a Unix socket.
    private: bool,
}

/// The password itself, in clear or encrypted.
type Answer = Zeroizing<Vec<u8>>;

impl Method {
    /// Every one.
    const ALL: [Self; 5] = [Self::Native, Self::CachingSha2, Self::Ed25519, Self::Sha256, Self::Clear];

    /// What goes into the handshake response: by the greeting's plugin, or else by the one that every upstream
    /// knows; the upstream switches to what the account needs.
    pub(super) fn to_begin_with(greeted: &[u8]) -> Self {
        if greeted == Self::CachingSha2.name() { Self::CachingSha2 } else { Self::Native }
    }

    pub(super) fn name(&self) -> &'static [u8] {
        match self {
            Self::Native => b"mysql_native_password",
            Self::CachingSha2 => b"caching_sha2_password",
            Self::Ed25519 => b"client_ed25519",
            Self::Sha256 => b"sha256_password",
            Self::Clear => b"mysql_clear_password",
        }
    }

    /// As errors name it.
    fn text(&self) -> &'static str {
        std::str::from_utf8(self.name()).unwrap_or_default()
    }

    fn named(name: &[u8]) -> Result<Self, DialError> {
        let known = Self::ALL.into_iter().find(|method| method.name() == name);
        known.ok_or_else(|| DialError::UnknownMethod { method: one_line(name, KEPT) })
    }
}

impl<'a> Proof<'a> {
    pub(super) fn new(credential: &'a Credential, stream: &UpstreamStream) -> Self {
        let private = !matches!(stream, Either::Left(Either::Left(_)));
        Self { credential, private }
    }

    fn password(&self) -> Option<&'a Secret> {
        match self.credential {
            Credential::None | Credential::Ssh { .. } => None,
            Credential::Password(secret)
            | Credential::PasswordEvenByMd5(secret)
            | Credential::PasswordEvenByUnknownKey(secret) => Some(secret),
        }
    }

    /// The answer that the handshake response carries.
    pub(super) fn begin(&self, method: &Method, scramble: &[u8]) -> Result<Answer, DialError> {
        self.answer(method, scramble)
    }

    /// What a plugin is answered first.
    fn answer(&self, method: &Method, scramble: &[u8]) -> Result<Answer, DialError> {
        let password = self.password().map(Secret::expose).unwrap_or_default();
        let nonce = || scramble.get(..SCRAMBLE).ok_or(DialError::Protocol("its scramble is too short"));
        let bytes = match method {
            Method::Native => {
                scramble_native(nonce()?, password).map(|hash| hash.to_vec()).unwrap_or_default()
            }
            // An empty password is said by a NUL.
            Method::CachingSha2 => scramble_sha256(nonce()?, password).map_or(vec![0], |hash| hash.to_vec()),
            Method::Ed25519 => {
                let nonce = scramble.get(..ED25519_NONCE);
                let nonce = nonce.ok_or(DialError::Protocol("its scramble is too short"))?;
                create_response_for_ed25519(self.needed(method)?.expose(), nonce).to_vec()
            }
            Method::Sha256 if password.is_empty() => vec![0],
            Method::Sha256 | Method::Clear => return self.in_clear(method),
        };
        Ok(Zeroizing::new(bytes))
    }

    fn needed(&self, method: &Method) -> Result<&'a Secret, DialError> {
        self.password().ok_or(DialError::NoCredential { method: method.text() })
    }

    /// The password with the NUL that ends it.
    fn in_clear(&self, method: &Method) -> Result<Answer, DialError> {
        let password = self.needed(method)?;
        if !self.private {
            return Err(refused(
                method.text(),
                "a password in clear goes through TLS or a Unix socket alone",
            ));
        }
        Ok(terminated(password))
    }
}

/// Answers the upstream, which was sent `method`'s answer to `scramble`, until it says OK; returns the OK.
///
/// # Cancel safety
/// Not cancel safe: the connection is of no use afterwards.
pub(super) async fn authenticate(
    stream: &mut UpstreamStream,
    talk: &mut Conversation,
    proof: &Proof<'_>,
    mut method: Method,
    scramble: &[u8],
) -> Result<Vec<u8>, DialError> {
    let mut scramble = scramble.to_vec();
    for _ in 0..MAX_ROUNDS {
        let payload = receive(stream, talk).await?;
        let answer = match payload.first() {
            Some(&OK) => return Ok(payload.to_vec()),
            Some(&ERR) => return Err(DialError::Rejected(rejected(&payload)?)),
            Some(&SWITCH) => {
                let (name, data) = read_switch(&payload)?;
                method = Method::named(name)?;
                scramble = data.to_vec();
                proof.answer(&method, &scramble)?
            }
            Some(&NEXT_FACTOR) => return Err(refused("a second factor", "there is one proof at most")),
            _ if method == Method::CachingSha2 && payload[..] == FAST => continue,
            _ if method == Method::CachingSha2 && payload[..] == FULL => {
                whole_password(stream, talk, proof, &scramble).await?
            }
            _ => return Err(DialError::Protocol("it sends something else in place of an authentication")),
        };
        talk.send(stream, &answer).await.map_err(DialError::Connect)?;
    }
    Err(DialError::Protocol("it asks for one authentication after the other"))
}

/// AuthSwitchRequest: the plugin, and what it mixes passwords with. One byte alone stands for the plugin from
/// before 4.1, which proves next to nothing.
fn read_switch(payload: &[u8]) -> Result<(&[u8], &[u8]), DialError> {
    if payload.len() == 1 {
        return Err(refused("mysql_old_password", "whoever listens can log in with what it says"));
    }
    let mut reader = Reader::new(payload);
    let mut read = || {
        reader.u8()?;
        Ok((reader.text()?, reader.rest()))
    };
    read().map_err(|Short| DialError::Protocol("a switch of authentication does not hold together"))
}

/// `caching_sha2_password`, "full": the upstream wants the password itself.
async fn whole_password(
    stream: &mut UpstreamStream,
    talk: &mut Conversation,
    proof: &Proof<'_>,
    scramble: &[u8],
) -> Result<Answer, DialError> {
    let method = Method::CachingSha2;
    let password = proof.needed(&method)?;
    if proof.private {
        return proof.in_clear(&method);
    }
    let Credential::PasswordEvenByUnknownKey(_) = proof.credential else {
        let reason = "there is no TLS, and the configuration does not ask for the upstream's RSA key by name";
        return Err(refused(method.text(), reason));
    };
    talk.send(stream, &PUBLIC_KEY).await.map_err(DialError::Connect)?;
    let payload = receive(stream, talk).await?;
    match payload.split_first() {
        Some((&MORE_DATA, key)) => rsa::encrypt(&terminated(password), scramble, key),
        Some((&ERR, _)) => Err(DialError::Rejected(rejected(&payload)?)),
        _ => Err(DialError::Protocol("it sends something else in place of its RSA key")),
    }
}

fn terminated(password: &Secret) -> Answer {
    let mut bytes = Zeroizing::new(Vec::with_capacity(password.expose().len() + 1));
    bytes.extend_from_slice(password.expose());
    bytes.push(0);
    bytes
}

fn refused(method: &'static str, reason: &'static str) -> DialError {
    DialError::AuthenticationRefused { method, reason }
}

/// Reads bytes as a switch and as an RSA key.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(bytes: &[u8]) {
    let _ = read_switch(bytes);
    let _ = rsa::encrypt(b"secret\0", &[b'x'; SCRAMBLE], bytes);
}

#[cfg(test)]
mod tests;
