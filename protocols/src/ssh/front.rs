//! The client's login (RFC 4252), up to the moment when everything is proved and nothing is decided.
//!
//! One message proves a login: a certificate, a user name, and a signature by the certificate's key over both
//! and over this very session. Nothing is kept from one message to the next but how many there were, so a key
//! that was offered and not signed with, or a user name that changes on the way, proves nothing.

use ssh_key::Certificate;
use ssh_key::encoding::Encode;
use tokio::io::{AsyncRead, AsyncWrite};

use super::fault::SshFault;
use super::key::verify;
use super::message;
use super::transport::Transport;
use super::wire::Put;
use super::{Knows, SshProof};
use crate::reader::Reader;
use crate::text::may_stand;

/// Attempts that may fail, as with OpenSSH.
const FAILURES: u32 = 6;
/// Messages before login: a client may ask about every key that its agent holds.
const MESSAGES: u32 = 64;
/// Bytes of a user name.
const LONGEST_NAME: usize = 255;
const METHODS: &str = "publickey";
const CERTIFIED: &[u8] = b"-cert-v01@openssh.com";

/// A login that is proved, and not judged.
pub(super) struct Proved {
    pub(super) user: String,
    pub(super) proof: SshProof,
    pub(super) attempts: Attempts,
}

/// How much of our patience a client has used up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempts {
    failures: u32,
    messages: u32,
}

impl Attempts {
    /// One more message.
    pub(super) fn message(&mut self) -> Result<(), SshFault> {
        self.messages += 1;
        if self.messages > MESSAGES { Err(SshFault::Protocol(TOO_MANY)) } else { Ok(()) }
    }

    /// One more failure.
    pub(super) fn failure(&mut self) -> Result<(), SshFault> {
        self.failures += 1;
        if self.failures >= FAILURES { Err(SshFault::Protocol(TOO_MANY)) } else { Ok(()) }
    }
}

/// What a client reads that tries too often.
pub(super) const TOO_MANY: &str = "too many authentication failures";

/// A login request, up to what its method says.
pub(super) struct Request<'a> {
    pub(super) user: &'a str,
    pub(super) method: &'a [u8],
    pub(super) rest: Reader<'a>,
}

impl<'a> Request<'a> {
    /// Reads a message, which must be one.
    pub(super) fn parse(payload: &'a [u8]) -> Result<Self, SshFault> {
        let mut reader = Reader::new(payload);
        if reader.u8()? != message::USERAUTH_REQUEST {
            return Err(SshFault::Protocol("a message that has no place before login"));
        }
        let user = std::str::from_utf8(reader.string()?);
        let user = user.map_err(|_| SshFault::Protocol("a user name that is no text"))?;
        if reader.string()? != b"ssh-connection" {
            return Err(SshFault::Protocol("a login for an unknown service"));
        }
        Ok(Self { user, method: reader.string()?, rest: reader })
    }

    /// Whether the name may be anybody's.
    fn has_name(&self) -> bool {
        (1..=LONGEST_NAME).contains(&self.user.len()) && self.user.chars().all(may_stand)
    }
}

/// Waits until a client has proved a login. The caller holds the deadline.
pub(super) async fn login<S: AsyncRead + AsyncWrite + Unpin>(
    transport: &mut Transport<S>,
    knows: &Knows,
) -> Result<Proved, SshFault> {
    let accepted = service(transport.message().await?)?;
    transport.send(&accepted).await?;
    let session = transport.side.session();
    let mut attempts = Attempts::default();
    loop {
        let payload = transport.message().await?;
        attempts.message()?;
        if let [message::SERVICE_REQUEST, ..] = &*payload {
            let accepted = service(payload)?;
            transport.send(&accepted).await?;
            continue;
        }
        let outcome = judge(payload, &session, knows)?;
        match outcome {
            Outcome::Proved { user, certificate } => {
                let proof = SshProof { certificate, session_hash: session };
                return Ok(Proved { user, proof, attempts });
            }
            Outcome::Offered(answer) => transport.send(&answer).await?,
            Outcome::Failed { counts } => {
                if counts {
                    attempts.failure()?;
                }
                transport.send(&message::login_failure(METHODS, false)).await?;
            }
        }
    }
}

/// The only service that there is before login: the yes to whoever asks for it. Some clients (paramiko) do so again
/// before each attempt.
pub(super) fn service(payload: &[u8]) -> Result<Vec<u8>, SshFault> {
    let mut reader = Reader::new(payload);
    let is_login = reader.u8()? == message::SERVICE_REQUEST && reader.string()? == b"ssh-userauth";
    if !is_login || reader.finish().is_err() {
        return Err(SshFault::Protocol("a message that has no place before login"));
    }
    let mut accept = vec![message::SERVICE_ACCEPT];
    accept.put_string(b"ssh-userauth");
    Ok(accept)
}

/// What a login request comes to.
#[derive(Debug)]
enum Outcome {
    /// Its sender owns this certificate.
    Proved { user: String, certificate: Vec<u8> },
    /// Its sender could prove it: the answer that says so.
    Offered(Vec<u8>),
    /// Nothing. `none` is asked by everybody, to hear which methods there are, and does not count.
    Failed { counts: bool },
}

/// What a login request comes to: one message is all that is looked at.
fn judge(payload: &[u8], session: &[u8; 32], knows: &Knows) -> Result<Outcome, SshFault> {
    let mut request = Request::parse(payload)?;
    if request.method != b"publickey" {
        return Ok(Outcome::Failed { counts: request.method != b"none" });
    }
    let is_signed = request.rest.bool()?;
    let (algorithm, blob) = (request.rest.string()?, request.rest.string()?);
    // Bare keys prove nothing here.
    let Some(signature_algorithm) = algorithm.strip_suffix(CERTIFIED) else {
        return Ok(Outcome::Failed { counts: is_signed });
    };
    let Some(key) = certified_key(blob, knows).filter(|_| request.has_name()) else {
        return Ok(Outcome::Failed { counts: is_signed });
    };
    if !is_signed {
        request.rest.finish()?;
        let mut answer = vec![message::USERAUTH_PK_OK];
        answer.put_string(algorithm);
        answer.put_string(blob);
        return Ok(Outcome::Offered(answer));
    }
    let unsigned = payload.len() - request.rest.rest().len();
    let signature = request.rest.string()?;
    request.rest.finish()?;
    let mut signed = Vec::with_capacity(36 + unsigned);
    signed.put_string(session);
    signed.extend_from_slice(payload.get(..unsigned).unwrap_or_default());
    match verify(&key, signature_algorithm, &signed, signature) {
        Ok(()) => Ok(Outcome::Proved { user: request.user.to_owned(), certificate: blob.to_vec() }),
        Err(_) => Ok(Outcome::Failed { counts: true }),
    }
}

/// The key, in its wire form, that a certificate of a known authority is for.
fn certified_key(blob: &[u8], knows: &Knows) -> Option<Vec<u8>> {
    let certificate = Certificate::from_bytes(blob).ok()?;
    let wire = |key: &ssh_key::public::KeyData| {
        let mut wire = Vec::new();
        key.encode(&mut wire).ok()?;
        Some(wire)
    };
    if !knows(&wire(certificate.signature_key())?) {
        return None;
    }
    wire(certificate.public_key())
}

/// Whether a message is a login for a session that nobody has signed for.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(bytes: &[u8]) -> bool {
    matches!(judge(bytes, &[0; 32], &|_| true), Ok(Outcome::Proved { .. }))
}

#[cfg(test)]
mod tests;
