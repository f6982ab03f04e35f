//! Every way in which a login is not one. The client is our own transport, whose every message the test decides.

use std::sync::Arc;

use ssh_key::certificate::{Builder, CertType};
use ssh_key::{PrivateKey, PublicKey};
use tokio::io::DuplexStream;

use super::*;
use crate::ssh::{HostIdentity, HostKeys, Ssh, SshKey};
use crate::{AcceptError, Limits, Peer};

type Accepted = Result<Option<crate::Accepted<crate::ssh::SshClient<DuplexStream>>>, AcceptError>;

/// A client whose connection is protected, and the sidecar's side of it.
struct Door {
    client: Transport<DuplexStream>,
    accepted: tokio::task::JoinHandle<Accepted>,
}

fn ssh(identity: HostIdentity) -> Ssh {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
    let limits = Limits { close: std::time::Duration::from_millis(100), ..Limits::default() };
    Ssh::new(identity, Arc::new(tls), limits)
}

/// A public key's line.
fn line(key: &SshKey) -> String {
    PublicKey::from_bytes(key.public()).unwrap().to_openssh().unwrap()
}

impl Door {
    async fn open() -> Self {
        Self::open_for(|ssh| ssh).await
    }

    async fn open_for(change: impl FnOnce(Ssh) -> Ssh) -> Self {
        let host = SshKey::generate().unwrap();
        let known = HostKeys::default().with_pinned(&line(&host)).unwrap();
        let (near, far) = tokio::io::duplex(64 * 1024);
        let ssh = change(ssh(HostIdentity::new(host)));
        let accepted = tokio::spawn(async move { ssh.accept_stream(far).await });
        let mut client = Transport::connect(near, &known).await.unwrap();
        let mut service = vec![message::SERVICE_REQUEST];
        service.put_string(b"ssh-userauth");
        client.send(&service).await.unwrap();
        assert_eq!(client.message().await.unwrap().first(), Some(&message::SERVICE_ACCEPT));
        Self { client, accepted }
    }

    async fn asks(&mut self, request: &[u8]) -> Vec<u8> {
        self.client.send(request).await.unwrap();
        self.client.message().await.unwrap().to_vec()
    }

    async fn is_refused(&mut self, request: &[u8]) {
        let answer = self.asks(request).await;
        assert_eq!(answer, message::login_failure("publickey", false));
        assert!(!self.accepted.is_finished());
    }

    /// What the sidecar made of it all.
    async fn outcome(self) -> Accepted {
        drop(self.client);
        self.accepted.await.unwrap()
    }
}

/// A certificate for a key by an authority of its own.
fn certify(key: &SshKey) -> Vec<u8> {
    certify_by(key, &SshKey::generate().unwrap())
}

fn certify_by(key: &SshKey, authority: &SshKey) -> Vec<u8> {
    let authority = PrivateKey::from_openssh(authority.to_openssh().unwrap().as_bytes()).unwrap();
    let public = PublicKey::from_bytes(key.public()).unwrap();
    let mut builder = Builder::new(vec![7; 32], public, 0, u64::MAX - 1).unwrap();
    builder.cert_type(CertType::User).unwrap();
    builder.valid_principal("alice").unwrap();
    builder.sign(&authority).unwrap().to_bytes().unwrap()
}

/// A request up to its signature.
fn unsigned(user: &str, algorithm: &str, blob: &[u8], signed: bool) -> Vec<u8> {
    let mut request = vec![message::USERAUTH_REQUEST];
    for field in [user.as_bytes(), b"ssh-connection", b"publickey"] {
        request.put_string(field);
    }
    request.put_bool(signed);
    request.put_string(algorithm.as_bytes());
    request.put_string(blob);
    request
}

const CERTIFICATE: &str = "ssh-ed25519-cert-v01@openssh.com";

/// Signed for a session by a key.
fn signed(session: &[u8], user: &str, blob: &[u8], key: &SshKey) -> Vec<u8> {
    let mut request = unsigned(user, CERTIFICATE, blob, true);
    let mut text = Vec::new();
    text.put_string(session);
    text.extend_from_slice(&request);
    request.put_string(&key.sign(&text).unwrap());
    request
}

/// A request of another method.
fn method(user: &str, method: &str, rest: &[u8]) -> Vec<u8> {
    let mut request = vec![message::USERAUTH_REQUEST];
    for field in [user.as_bytes(), b"ssh-connection", method.as_bytes()] {
        request.put_string(field);
    }
    request.extend_from_slice(rest);
    request
}

#[tokio::test]
async fn a_certificate_that_was_signed_with_is_a_login() {
    let mut door = Door::open().await;
    let key = SshKey::generate().unwrap();
    let certificate = certify(&key);
    let answer = door.asks(&unsigned("alice", CERTIFICATE, &certificate, false)).await;
    assert_eq!(answer.first(), Some(&message::USERAUTH_PK_OK));
    assert!(!door.accepted.is_finished(), "an offer is no login");
    let session = door.client.side.session();
    door.client.send(&signed(&session, "alice", &certificate, &key)).await.unwrap();
    let accepted = door.outcome().await.unwrap().unwrap();
    assert_eq!(accepted.login.user, "alice");
    let Peer::Ssh(proof) = accepted.peer else { panic!("{:?}", accepted.peer) };
    assert_eq!((proof.certificate, proof.session_hash), (certificate, session));
}

#[tokio::test]
async fn one_certificate_offered_and_another_signed_with_is_a_login_of_the_other() {
    let mut door = Door::open().await;
    let (first, second) = (SshKey::generate().unwrap(), SshKey::generate().unwrap());
    let (offered, used) = (certify(&first), certify(&second));
    door.asks(&unsigned("alice", CERTIFICATE, &offered, false)).await;
    // The first certificate with the second key's signature proves nothing.
    let session = door.client.side.session();
    door.is_refused(&signed(&session, "alice", &offered, &second)).await;
    door.client.send(&signed(&session, "alice", &used, &second)).await.unwrap();
    let accepted = door.outcome().await.unwrap().unwrap();
    assert_eq!(accepted.peer.ssh().unwrap().certificate, used);
}

#[tokio::test]
async fn an_offer_followed_by_another_method_is_no_login() {
    let mut door = Door::open().await;
    let certificate = certify(&SshKey::generate().unwrap());
    door.asks(&unsigned("alice", CERTIFICATE, &certificate, false)).await;
    door.is_refused(&method("alice", "none", b"")).await;
    door.is_refused(&method("alice", "password", b"\0\0\0\0\x06secret")).await;
    door.is_refused(&method("alice", "keyboard-interactive", &[0; 8])).await;
    door.is_refused(&method("alice", "hostbased", b"")).await;
    assert!(matches!(door.outcome().await, Err(AcceptError::Ssh(_))));
}

#[tokio::test]
async fn a_signature_counts_for_its_user_name_and_its_session_alone() {
    let mut door = Door::open().await;
    let key = SshKey::generate().unwrap();
    let certificate = certify(&key);
    let session = door.client.side.session();
    // Offered as alice, then a signature made for alice and sent as root.
    door.asks(&unsigned("alice", CERTIFICATE, &certificate, false)).await;
    let for_alice = signed(&session, "alice", &certificate, &key);
    let mut as_root = unsigned("root", CERTIFICATE, &certificate, true);
    as_root.extend_from_slice(&for_alice[unsigned("alice", CERTIFICATE, &certificate, true).len()..]);
    door.is_refused(&as_root).await;
    door.is_refused(&signed(&[1; 32], "alice", &certificate, &key)).await;
    // A login as another user is one of that user's, by its own signature.
    door.client.send(&signed(&session, "root", &certificate, &key)).await.unwrap();
    assert_eq!(door.outcome().await.unwrap().unwrap().login.user, "root");
}

#[tokio::test]
async fn bare_keys_are_refused_offered_and_signed() {
    let mut door = Door::open().await;
    let key = SshKey::generate().unwrap();
    door.is_refused(&unsigned("alice", "ssh-ed25519", key.public(), false)).await;
    let mut request = unsigned("alice", "ssh-ed25519", key.public(), true);
    let mut text = Vec::new();
    text.put_string(&door.client.side.session());
    text.extend_from_slice(&request);
    request.put_string(&key.sign(&text).unwrap());
    door.is_refused(&request).await;
    // A bare key under a certificate's name, and a certificate under a bare key's.
    door.is_refused(&unsigned("alice", CERTIFICATE, key.public(), false)).await;
    door.is_refused(&unsigned("alice", "ssh-ed25519", &certify(&key), false)).await;
}

#[tokio::test]
async fn user_names_that_nobody_has_are_refused() {
    let key = SshKey::generate().unwrap();
    let certificate = certify(&key);
    for name in ["", "a\0b", "a\nb", "toor\u{202e}", &"x".repeat(256)] {
        let mut door = Door::open().await;
        let session = door.client.side.session();
        door.is_refused(&signed(&session, name, &certificate, &key)).await;
    }
}

#[tokio::test]
async fn certificates_of_other_houses_are_passed_over() {
    let (ours, theirs) = (SshKey::generate().unwrap(), SshKey::generate().unwrap());
    let authority = ours.public().to_vec();
    let mut door = Door::open_for(|ssh| ssh.with_known_authorities(move |key| key == authority)).await;
    let key = SshKey::generate().unwrap();
    let (good, bad) = (certify_by(&key, &ours), certify_by(&key, &theirs));
    let session = door.client.side.session();
    door.is_refused(&unsigned("alice", CERTIFICATE, &bad, false)).await;
    door.is_refused(&signed(&session, "alice", &bad, &key)).await;
    door.client.send(&signed(&session, "alice", &good, &key)).await.unwrap();
    assert!(door.outcome().await.unwrap().is_some());
}

#[tokio::test]
async fn six_failures_are_enough() {
    let mut door = Door::open().await;
    let password = method("alice", "password", b"\0\0\0\0\x06secret");
    for _ in 0..5 {
        door.is_refused(&password).await;
    }
    door.client.send(&password).await.unwrap();
    let last = door.client.message().await.unwrap_err();
    assert!(matches!(last, SshFault::Disconnected { reason: 14, ref text } if text == TOO_MANY), "{last:?}");
    assert!(matches!(door.outcome().await, Err(AcceptError::Refused(_))));
}

/// A request for a service.
fn service_of(name: &[u8]) -> Vec<u8> {
    let mut request = vec![message::SERVICE_REQUEST];
    request.put_string(name);
    request
}

#[tokio::test]
async fn a_client_may_ask_for_the_service_before_each_attempt_as_paramiko_does() {
    let mut door = Door::open().await;
    let key = SshKey::generate().unwrap();
    door.is_refused(&unsigned("alice", "ssh-ed25519", key.public(), false)).await;
    let answer = door.asks(&service_of(b"ssh-userauth")).await;
    assert_eq!(answer.first(), Some(&message::SERVICE_ACCEPT));
    let session = door.client.side.session();
    door.client.send(&signed(&session, "alice", &certify(&key), &key)).await.unwrap();
    // So it does before it answers a question.
    let mut client = (&mut door.accepted).await.unwrap().unwrap().unwrap().client;
    let prompt = crate::Prompt { instruction: String::new(), question: "Code: ".into(), echo: false };
    let asking = tokio::spawn(async move { crate::Client::ask(&mut client, &prompt).await });
    assert_eq!(door.client.message().await.unwrap().first(), Some(&message::USERAUTH_FAILURE));
    let answer = door.asks(&service_of(b"ssh-userauth")).await;
    assert_eq!(answer.first(), Some(&message::SERVICE_ACCEPT));
    let answer = door.asks(&method("alice", "keyboard-interactive", &[0; 8])).await;
    assert_eq!(answer.first(), Some(&message::USERAUTH_INFO_REQUEST));
    let mut code = vec![message::USERAUTH_INFO_RESPONSE, 0, 0, 0, 1];
    code.put_string(b"123456");
    door.client.send(&code).await.unwrap();
    assert!(matches!(asking.await.unwrap(), crate::Reply::Given(_)));
}

#[tokio::test]
async fn services_are_asked_for_neither_without_end_nor_by_another_name() {
    let mut door = Door::open().await;
    for _ in 0..MESSAGES {
        door.asks(&service_of(b"ssh-userauth")).await;
    }
    door.client.send(&service_of(b"ssh-userauth")).await.unwrap();
    assert!(matches!(door.client.message().await, Err(SshFault::Disconnected { .. })));
    let mut door = Door::open().await;
    door.client.send(&service_of(b"ssh-connection")).await.unwrap();
    assert!(matches!(door.client.message().await, Err(SshFault::Disconnected { .. })));
}

#[tokio::test]
async fn endless_questions_about_keys_are_not_answered() {
    let mut door = Door::open().await;
    let certificate = certify(&SshKey::generate().unwrap());
    let offer = unsigned("alice", CERTIFICATE, &certificate, false);
    for _ in 0..MESSAGES {
        door.asks(&offer).await;
    }
    door.client.send(&offer).await.unwrap();
    assert!(matches!(door.client.message().await, Err(SshFault::Disconnected { .. })));
    assert!(door.outcome().await.is_err());
}

#[tokio::test]
async fn a_client_that_says_it_is_logged_in_is_not() {
    for lie in [
        &[message::USERAUTH_SUCCESS][..],
        &[message::CHANNEL_OPEN, 0, 0, 0, 7, b's', b'e', b's', b's', b'i', b'o', b'n'],
        &[message::GLOBAL_REQUEST, 0, 0, 0, 1, b'x', 1],
        &[message::USERAUTH_INFO_RESPONSE, 0, 0, 0, 0],
        &[message::NEWKEYS],
        &[200],
    ] {
        let mut door = Door::open().await;
        door.client.send(lie).await.unwrap();
        assert!(matches!(door.client.message().await, Err(SshFault::Disconnected { .. })), "{lie:?}");
        assert!(matches!(door.outcome().await, Err(AcceptError::Refused(_))), "{lie:?}");
    }
}

#[tokio::test]
async fn requests_cut_anywhere_are_no_login() {
    let key = SshKey::generate().unwrap();
    let session = [3; 32];
    let whole = signed(&session, "alice", &certify(&key), &key);
    assert!(matches!(judge(&whole, &session, &|_| true), Ok(Outcome::Proved { .. })));
    for length in 0..whole.len() {
        let cut = judge(&whole[..length], &session, &|_| true);
        assert!(!matches!(cut, Ok(Outcome::Proved { .. } | Outcome::Offered(_))), "{length}");
    }
    for position in 0..whole.len() {
        let mut changed = whole.clone();
        changed[position] ^= 0x80;
        let judged = judge(&changed, &session, &|_| true);
        assert!(!matches!(judged, Ok(Outcome::Proved { .. })), "{position}");
    }
    let with_more = [&whole[..], &[0]].concat();
    assert!(judge(&with_more, &session, &|_| true).is_err());
}

#[tokio::test]
async fn lengths_of_four_gigabytes_take_no_memory() {
    let mut request = vec![message::USERAUTH_REQUEST];
    request.put_u32(u32::MAX);
    assert!(judge(&request, &[0; 32], &|_| true).is_err());
    let mut certificate = Vec::new();
    certificate.put_string(CERTIFICATE.as_bytes());
    certificate.put_u32(u32::MAX);
    let offered = judge(&unsigned("alice", CERTIFICATE, &certificate, false), &[0; 32], &|_| true);
    assert!(matches!(offered, Ok(Outcome::Failed { .. })));
}

#[tokio::test]
async fn a_host_whose_key_is_another_is_not_logged_in_at() {
    let (host, other) = (SshKey::generate().unwrap(), SshKey::generate().unwrap());
    let (near, far) = tokio::io::duplex(64 * 1024);
    let ssh = ssh(HostIdentity::new(host));
    let accepted = tokio::spawn(async move { ssh.accept_stream(far).await });
    let known = HostKeys::default().with_pinned(&line(&other)).unwrap();
    assert!(matches!(Transport::connect(near, &known).await, Err(SshFault::Host(_))));
    assert!(accepted.await.unwrap().is_err());
}
