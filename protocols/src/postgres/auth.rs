//! What we prove to the upstream, and what we refuse to tell it.
//!
//! SCRAM-SHA-256, bound to the TLS channel where the upstream can (RFC 5802, RFC 5929
//! `tls-server-end-point`). A password in clear goes through TLS alone; MD5 is done only where the
//! configuration names it.

use std::io;

use aws_lc_rs::digest;
use bytes::Bytes;
use pgwire::messages::startup::{SASLInitialResponse, SASLResponse};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use rustls_pki_types::CertificateDer;
use tokio::io::AsyncWriteExt;
use tokio_util::either::Either;
use x509_parser::oid_registry as oid;
use x509_parser::parse_x509_certificate;
use zeroize::Zeroizing;

use crate::endpoint::{Credential, UpstreamStream};
use crate::reader::{Reader, Short};
use crate::secret::Secret;
use crate::{DialError, Login};

use super::error_response;
use super::wire::{self, Allowance};

/// PBKDF2 rounds that an upstream may ask of us: 24 times PostgreSQL's default, some 50 ms (RUSTSEC-2026-0179).
const MAX_ITERATIONS: u32 = 100_000;

const IN_CLEAR: &str = "a password in clear";
const BY_MD5: &str = "a password by MD5";

/// AuthenticationOk and its siblings (PostgreSQL documentation, "Message Formats").
#[derive(Debug)]
enum Asked<'a> {
    Ok,
    CleartextPassword,
    Md5Password([u8; 4]),
    Sasl(Vec<&'a [u8]>),
    SaslContinue(&'a [u8]),
    SaslFinal(&'a [u8]),
    Other,
}

/// Answers the upstream until it says AuthenticationOk.
///
/// # Cancel safety
/// Not cancel safe: the connection is of no use afterwards.
pub(super) async fn authenticate(
    stream: &mut UpstreamStream,
    allowance: &mut Allowance,
    credential: &Credential,
    login: &Login,
) -> Result<(), DialError> {
    let message = wire::receive(stream, allowance).await?;
    match asked(message.kind(), message.content())? {
        // Nothing asked (trust, peer), or our client certificate was enough.
        Asked::Ok => return Ok(()),
        Asked::CleartextPassword => in_clear(stream, credential).await?,
        Asked::Md5Password(salt) => by_md5(stream, credential, login, salt).await?,
        Asked::Sasl(mechanisms) => {
            let plus = mechanisms.contains(&SCRAM_SHA_256_PLUS.as_bytes());
            if !plus && !mechanisms.contains(&SCRAM_SHA_256.as_bytes()) {
                return Err(refused("SASL", "none of its mechanisms is SCRAM-SHA-256"));
            }
            scram(stream, allowance, password(credential, "SCRAM")?, plus).await?;
        }
        Asked::SaslContinue(_) | Asked::SaslFinal(_) => {
            return Err(DialError::Protocol("it answers SASL that nobody started"));
        }
        Asked::Other => {
            return Err(refused(
                "another authentication",
                "only SCRAM, client certificates and peer are done",
            ));
        }
    }
    let message = wire::receive(stream, allowance).await?;
    match asked(message.kind(), message.content())? {
        Asked::Ok => Ok(()),
        _ => Err(DialError::Protocol("it asks for two authentications")),
    }
}

async fn in_clear(stream: &mut UpstreamStream, credential: &Credential) -> Result<(), DialError> {
    let password = password(credential, IN_CLEAR)?;
    if matches!(stream, Either::Left(_)) {
        return Err(refused(IN_CLEAR, "the connection has no TLS"));
    }
    send_password(stream, password.expose()).await
}

async fn by_md5(
    stream: &mut UpstreamStream,
    credential: &Credential,
    login: &Login,
    salt: [u8; 4],
) -> Result<(), DialError> {
    let Credential::PasswordEvenByMd5(password) = credential else {
        return Err(refused(BY_MD5, "the configuration does not ask for MD5 by name"));
    };
    let hash = Zeroizing::new(md5_hash(login.user.as_bytes(), password.expose(), salt));
    send_password(stream, hash.as_bytes()).await
}

/// PasswordMessage, in memory that is wiped.
async fn send_password(stream: &mut UpstreamStream, password: &[u8]) -> Result<(), DialError> {
    let length = u32::try_from(password.len() + 5).map_err(|_| DialError::Login)?;
    let mut message = Zeroizing::new(Vec::with_capacity(password.len() + 6));
    message.push(b'p');
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(password);
    message.push(0);
    send(stream, &message).await
}

/// The whole exchange; at its end the upstream has proven that it knows the password too.
async fn scram(
    stream: &mut UpstreamStream,
    allowance: &mut Allowance,
    password: &Secret,
    plus: bool,
) -> Result<(), DialError> {
    let (mechanism, binding) = binding(stream, plus);
    let mut scram = ScramSha256::new(password.expose(), binding);
    let first = SASLInitialResponse::new(mechanism.to_owned(), Some(Bytes::copy_from_slice(scram.message())));
    send_message(stream, &first).await?;

    let message = wire::receive(stream, allowance).await?;
    let Asked::SaslContinue(challenge) = asked(message.kind(), message.content())? else {
        return Err(DialError::Protocol("it breaks off SCRAM"));
    };
    limit_iterations(challenge)?;
    let challenge = challenge.to_vec();
    // Thousands of HMACs: not on a thread that carries sessions.
    let update = tokio::task::spawn_blocking(move || scram.update(&challenge).map(|()| scram));
    let mut scram = update.await.map_err(io::Error::other).flatten().map_err(DialError::Scram)?;
    let proof = SASLResponse::new(Bytes::copy_from_slice(scram.message()));
    send_message(stream, &proof).await?;

    let message = wire::receive(stream, allowance).await?;
    let Asked::SaslFinal(verifier) = asked(message.kind(), message.content())? else {
        return Err(DialError::Protocol("it does not prove that it knows the password"));
    };
    scram.finish(verifier).map_err(DialError::Scram)
}

/// The mechanism, and what binds it to this TLS connection.
fn binding(stream: &UpstreamStream, plus: bool) -> (&'static str, ChannelBinding) {
    let Either::Right(tls) = stream else { return (SCRAM_SHA_256, ChannelBinding::unsupported()) };
    let leaf = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
    match leaf.and_then(end_point) {
        Some(hash) if plus => (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(hash)),
        // We could bind and it did not offer: an upstream that did offer then knows that somebody took the
        // offer out.
        Some(_) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
        None => (SCRAM_SHA_256, ChannelBinding::unsupported()),
    }
}

/// The hash of the certificate by the hash of its signature, SHA-256 in place of the broken ones (RFC 5929
/// §4.1). `None` for signatures that have no single hash (Ed25519, RSA-PSS).
fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let signature = &parsed.signature_algorithm.algorithm;
    let algorithm = if *signature == oid::OID_PKCS1_SHA256WITHRSA
        || *signature == oid::OID_PKCS1_SHA1WITHRSA
        || *signature == oid::OID_SIG_ECDSA_WITH_SHA256
    {
        &digest::SHA256
    } else if *signature == oid::OID_PKCS1_SHA384WITHRSA || *signature == oid::OID_SIG_ECDSA_WITH_SHA384 {
        &digest::SHA384
    } else if *signature == oid::OID_PKCS1_SHA512WITHRSA || *signature == oid::OID_SIG_ECDSA_WITH_SHA512 {
        &digest::SHA512
    } else {
        return None;
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

/// `r=…,s=…,i=…` (RFC 5802 §7, server-first-message).
fn limit_iterations(challenge: &[u8]) -> Result<(), DialError> {
    let iterations = challenge
        .split(|byte| *byte == b',')
        .find_map(|field| field.strip_prefix(b"i="))
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u32>().ok());
    match iterations {
        Some(1..=MAX_ITERATIONS) => Ok(()),
        _ => Err(refused("SCRAM", "it asks for too many iterations")),
    }
}

fn password<'a>(credential: &'a Credential, method: &'static str) -> Result<&'a Secret, DialError> {
    match credential {
        Credential::None | Credential::Ssh { .. } => Err(DialError::NoCredential { method }),
        Credential::Password(secret)
        | Credential::PasswordEvenByMd5(secret)
        | Credential::PasswordEvenByUnknownKey(secret) => Ok(secret),
    }
}

/// The authentication message, or the upstream's own error.
fn asked(kind: u8, content: &[u8]) -> Result<Asked<'_>, DialError> {
    let broken = |Short| DialError::Protocol("an authentication message does not hold together");
    match kind {
        b'R' => request(content).map_err(broken),
        b'E' => Err(DialError::Rejected(error_response::parse(content).map_err(broken)?)),
        b'v' => Err(DialError::Protocol("it does not speak protocol 3.0")),
        _ => Err(DialError::Protocol("it sends something else in place of an authentication message")),
    }
}

fn request(content: &[u8]) -> Result<Asked<'_>, Short> {
    let mut reader = Reader::new(content);
    let asked = match reader.u32()? {
        0 => Asked::Ok,
        3 => Asked::CleartextPassword,
        5 => Asked::Md5Password(reader.u32()?.to_be_bytes()),
        10 => {
            let mut mechanisms = Vec::new();
            loop {
                match reader.text()? {
                    b"" => break,
                    mechanism => mechanisms.push(mechanism),
                }
            }
            Asked::Sasl(mechanisms)
        }
        11 => Asked::SaslContinue(reader.take(reader.rest().len())?),
        12 => Asked::SaslFinal(reader.take(reader.rest().len())?),
        _ => return Ok(Asked::Other),
    };
    reader.finish()?;
    Ok(asked)
}

async fn send_message(
    stream: &mut UpstreamStream,
    message: &impl pgwire::messages::Message,
) -> Result<(), DialError> {
    let mut bytes = Vec::new();
    wire::encode(message, &mut bytes).map_err(DialError::Scram)?;
    send(stream, &bytes).await
}

async fn send(stream: &mut UpstreamStream, bytes: &[u8]) -> Result<(), DialError> {
    stream.write_all(bytes).await.map_err(DialError::Connect)?;
    stream.flush().await.map_err(DialError::Connect)
}

fn refused(method: &'static str, reason: &'static str) -> DialError {
    DialError::AuthenticationRefused { method, reason }
}

/// Reads bytes as an authentication message and as a challenge; true when they are one.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(bytes: &[u8]) -> bool {
    request(bytes).is_ok() | limit_iterations(bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    use super::*;

    #[test]
    fn the_channel_is_bound_by_the_hash_of_the_certificates_signature() {
        for (algorithm, hash) in [
            (&PKCS_ECDSA_P256_SHA256, Some(&digest::SHA256)),
            (&PKCS_ECDSA_P384_SHA384, Some(&digest::SHA384)),
            (&PKCS_ED25519, None),
        ] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let certificate = CertificateParams::default().self_signed(&key).unwrap();
            let expected = hash.map(|hash| digest::digest(hash, certificate.der()).as_ref().to_vec());
            assert_eq!(end_point(certificate.der()), expected);
        }
        assert_eq!(end_point(&CertificateDer::from(&b"no certificate"[..])), None);
    }

    #[test]
    fn an_authentication_message_cut_short_at_any_byte_is_refused_and_never_panics() {
        let whole = [
            &b"\0\0\0\0"[..],
            b"\0\0\0\x03",
            b"\0\0\0\x05salt",
            b"\0\0\0\x0aSCRAM-SHA-256\0SCRAM-SHA-256-PLUS\0\0",
        ];
        for message in whole {
            assert!(request(message).is_ok());
            for end in 0..message.len() {
                assert!(request(&message[..end]).is_err(), "{end}");
            }
        }
    }

    #[test]
    fn iterations_are_bounded_on_both_sides() {
        assert!(limit_iterations(b"r=x,s=eA==,i=4096").is_ok());
        assert!(limit_iterations(b"r=x,s=eA==,i=100000").is_ok());
        for challenge in [&b"r=x,s=eA==,i=100001"[..], b"r=x,s=eA==,i=0", b"r=x,s=eA==,i=", b"r=x,s=eA=="] {
            assert!(limit_iterations(challenge).is_err());
        }
    }
}
