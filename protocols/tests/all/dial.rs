//! The upstream leg: what is proven, what is refused, and what a hostile upstream can cost.

use std::time::Duration;

use protocols::postgres::PostgresUpstream;
use protocols::{Credential, DialError, Endpoint, Limits, Protocol, Secret, UpstreamTls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::client::{SSL_REQUEST, message};
use crate::support::upstream::{let_in, read_startup, welcome};
use crate::support::{Authority, Sidecar, limits, login, scripted};

fn password() -> Credential {
    Credential::Password(Secret::new(b"secret".to_vec()))
}

fn with_tls(endpoint: Endpoint, authority: &Authority) -> Endpoint {
    let tls =
        UpstreamTls { config: authority.client_config(&[]), server_name: "localhost".try_into().unwrap() };
    Endpoint { tls: Some(tls), ..endpoint }
}

/// Dials an upstream that plays this script after the start-up packet.
async fn dial_into(
    credential: Credential,
    script: impl AsyncFnOnceScript,
) -> Result<PostgresUpstream, DialError> {
    let sidecar = Sidecar::start().await;
    let (endpoint, task) = scripted(move |mut socket| async move {
        read_startup(&mut socket).await;
        script.play(socket).await;
    })
    .await;
    let result = sidecar.postgres.dial(&Endpoint { credential, ..endpoint }, &login()).await;
    task.abort();
    result
}

/// A script for one connection.
trait AsyncFnOnceScript: Send + 'static {
    fn play(self, socket: TcpStream) -> impl Future<Output = ()> + Send;
}

impl<F: Future<Output = ()> + Send, T: FnOnce(TcpStream) -> F + Send + 'static> AsyncFnOnceScript for T {
    fn play(self, socket: TcpStream) -> impl Future<Output = ()> + Send {
        self(socket)
    }
}

/// Sends these bytes, then waits for the other side to go.
fn says(bytes: Vec<u8>) -> impl AsyncFnOnceScript {
    |mut socket: TcpStream| async move {
        let _ = socket.write_all(&bytes).await;
        let _ = socket.read_to_end(&mut Vec::new()).await;
    }
}

#[tokio::test]
async fn the_startup_parameters_reach_the_upstream_in_order() {
    let sidecar = Sidecar::start().await;
    let (endpoint, upstream) = scripted(|mut socket| async move { let_in(&mut socket).await }).await;
    sidecar.dial(&endpoint).await;
    assert_eq!(upstream.await.unwrap(), b"\0\x03\0\0user\0alice\0database\0prod\0\0");
}

#[tokio::test]
async fn an_upstream_that_refuses_tls_is_not_spoken_to_in_plaintext() {
    for answer in [&b"N"[..], b"E\0\0\0\x05\0", b"G"] {
        let sidecar = Sidecar::start().await;
        let (endpoint, upstream) = scripted(move |mut socket| async move {
            let mut request = [0; 8];
            socket.read_exact(&mut request).await.unwrap();
            assert_eq!(request, SSL_REQUEST);
            socket.write_all(answer).await.unwrap();
            let mut rest = Vec::new();
            let _ = socket.read_to_end(&mut rest).await;
            rest
        })
        .await;
        let error =
            sidecar.postgres.dial(&with_tls(endpoint, &sidecar.authority), &login()).await.unwrap_err();
        assert!(matches!(error, DialError::TlsRefused), "{error:?}");
        assert!(upstream.await.unwrap().is_empty());
    }
}

/// CVE-2021-23222.
#[tokio::test]
async fn plaintext_behind_the_upstreams_s_is_refused() {
    let sidecar = Sidecar::start().await;
    let (endpoint, _upstream) = scripted(|mut socket| async move {
        socket.read_exact(&mut [0; 8]).await.unwrap();
        socket.write_all(&[&b"S"[..], &welcome()].concat()).await.unwrap();
        let _ = socket.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let error = sidecar.postgres.dial(&with_tls(endpoint, &sidecar.authority), &login()).await.unwrap_err();
    assert!(matches!(error, DialError::EarlyPlaintext | DialError::Tls(_)), "{error:?}");
}

#[tokio::test]
async fn an_upstream_of_another_authority_is_refused_and_not_told_who_wants_in() {
    let sidecar = Sidecar::start().await;
    let stranger = tokio_rustls::TlsAcceptor::from(Authority::new().server_config());
    let (endpoint, upstream) = scripted(move |mut socket| async move {
        socket.read_exact(&mut [0; 8]).await.unwrap();
        socket.write_all(b"S").await.unwrap();
        stranger.accept(socket).await.map(drop)
    })
    .await;
    let error = sidecar.postgres.dial(&with_tls(endpoint, &sidecar.authority), &login()).await.unwrap_err();
    assert!(matches!(error, DialError::Tls(_)), "{error:?}");
    upstream.await.unwrap().expect_err("the handshake ends with an alert, before anything can be said");
}

#[tokio::test]
async fn a_password_in_clear_is_not_sent_without_tls() {
    let asks = message(b'R', &[0, 0, 0, 3]);
    let error = dial_into(password(), says(asks)).await.unwrap_err();
    assert!(matches!(error, DialError::AuthenticationRefused { method: "a password in clear", .. }));
}

#[tokio::test]
async fn a_password_in_clear_is_sent_over_tls() {
    let sidecar = Sidecar::start().await;
    let acceptor = tokio_rustls::TlsAcceptor::from(sidecar.authority.server_config());
    let (endpoint, upstream) = scripted(move |mut socket| async move {
        socket.read_exact(&mut [0; 8]).await.unwrap();
        socket.write_all(b"S").await.unwrap();
        let mut stream = acceptor.accept(socket).await.unwrap();
        let length = stream.read_u32().await.unwrap();
        stream.read_exact(&mut vec![0; length as usize - 4]).await.unwrap();
        stream.write_all(&message(b'R', &[0, 0, 0, 3])).await.unwrap();
        let mut password = vec![0; 12];
        stream.read_exact(&mut password).await.unwrap();
        stream.write_all(&welcome()).await.unwrap();
        stream.flush().await.unwrap();
        password
    })
    .await;
    let endpoint = Endpoint { credential: password(), ..with_tls(endpoint, &sidecar.authority) };
    sidecar.dial(&endpoint).await;
    assert_eq!(upstream.await.unwrap(), message(b'p', b"secret\0"));
}

#[tokio::test]
async fn md5_is_done_only_when_asked_for_by_name() {
    let asks = message(b'R', &[0, 0, 0, 5, 1, 2, 3, 4]);
    let error = dial_into(password(), says(asks.clone())).await.unwrap_err();
    assert!(matches!(error, DialError::AuthenticationRefused { method: "a password by MD5", .. }));
    let script = |mut socket: TcpStream| async move {
        socket.write_all(&asks).await.unwrap();
        let mut answer = vec![0; 5 + 35 + 1];
        socket.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer[5..8], b"md5");
        socket.write_all(&welcome()).await.unwrap();
    };
    dial_into(Credential::PasswordEvenByMd5(Secret::new(b"secret".to_vec())), script).await.unwrap();
}

#[tokio::test]
async fn a_password_that_is_asked_for_and_not_there_is_its_own_error() {
    for asks in [message(b'R', &[0, 0, 0, 3]), message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0")] {
        let error = dial_into(Credential::None, says(asks)).await.unwrap_err();
        assert!(matches!(error, DialError::NoCredential { .. }), "{error:?}");
    }
}

/// RUSTSEC-2026-0179.
#[tokio::test]
async fn a_scram_iteration_bomb_is_refused_unexploded() {
    for iterations in ["4294967295", "100001", "0", "99999999999999999999", "-1"] {
        let script = move |mut socket: TcpStream| async move {
            socket.write_all(&message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0")).await.unwrap();
            let mut first = vec![0; 1024];
            let read = socket.read(&mut first).await.unwrap();
            let text = String::from_utf8_lossy(&first[..read]).into_owned();
            let nonce = text.rsplit("r=").next().unwrap();
            let challenge = format!("\0\0\0\x0br={nonce}x,s=c2FsdHNhbHQ=,i={iterations}");
            socket.write_all(&message(b'R', challenge.as_bytes())).await.unwrap();
            let _ = socket.read_to_end(&mut Vec::new()).await;
        };
        let started = std::time::Instant::now();
        let error = dial_into(password(), script).await.unwrap_err();
        assert!(matches!(error, DialError::AuthenticationRefused { method: "SCRAM", .. }), "{error:?}");
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn an_upstream_that_skips_its_proof_in_scram_is_refused() {
    let script = |mut socket: TcpStream| async move {
        socket.write_all(&message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0")).await.unwrap();
        let _ = socket.read(&mut [0; 1024]).await.unwrap();
        socket.write_all(&welcome()).await.unwrap();
        let _ = socket.read_to_end(&mut Vec::new()).await;
    };
    let error = dial_into(password(), script).await.unwrap_err();
    assert!(matches!(error, DialError::Protocol(_)), "{error:?}");
}

/// Warpgate GHSA-qw79: an upstream could fill the proxy's memory with cancel keys.
#[tokio::test]
async fn floods_before_ready_are_bounded() {
    let in_front = message(b'R', &[0, 0, 0, 0]);
    for flood in
        [message(b'K', b"\0\0\0\x07\0\0\0\x08"), message(b'S', b"a\0b\0"), message(b'N', &[b'x'; 60_000])]
    {
        let bytes = [in_front.clone(), flood.repeat(2_000)].concat();
        let error = dial_into(Credential::None, says(bytes)).await.unwrap_err();
        assert!(matches!(error, DialError::Protocol(_)), "{error:?}");
    }
}

#[tokio::test]
async fn impossible_messages_are_refused_before_memory_is_taken() {
    for bytes in [
        b"R\xff\xff\xff\xff".to_vec(),
        b"R\x7f\xff\xff\xff".to_vec(),
        b"R\0\0\0\x03".to_vec(),
        message(b'R', &[0, 0]),
        message(b'R', &[0, 0, 0, 5, 1]),
        message(b'R', b"\0\0\0\x0aSCRAM"),
        message(b'R', &[0, 0, 0, 0, 0]),
        message(b'R', &[0, 0, 0, 11]),
        message(b'E', b"SFATAL"),
        message(b'v', &[0; 8]),
        message(b'Z', b"I"),
        [message(b'R', &[0; 4]), message(b'K', &[0; 4])].concat(),
        [message(b'R', &[0; 4]), message(b'K', &[0; 400])].concat(),
        [message(b'R', &[0; 4]), message(b'T', &[0; 4])].concat(),
    ] {
        let error = dial_into(password(), says(bytes.clone())).await.unwrap_err();
        assert!(matches!(error, DialError::Protocol(_)), "{}: {error:?}", bytes.escape_ascii());
    }
}

#[tokio::test]
async fn an_upstream_welcome_cut_short_at_any_byte_is_an_error() {
    let whole = welcome();
    for end in 0..whole.len() {
        let part = whole[..end].to_vec();
        let script = |mut socket: TcpStream| async move { socket.write_all(&part).await.unwrap() };
        let error = dial_into(Credential::None, script).await.unwrap_err();
        assert!(matches!(error, DialError::Connect(_)), "{end}: {error:?}");
    }
}

#[tokio::test]
async fn the_upstreams_own_error_is_kept_for_the_log() {
    let script = says(message(b'E', b"SFATAL\0C3D000\0Mdatabase \"prod\" does not exist\0\0"));
    let error = dial_into(Credential::None, script).await.unwrap_err();
    assert_eq!(error.to_string(), "the upstream refused the login: 3D000 database \"prod\" does not exist");
    assert!(error.disclosable().is_some());
    let script = says(message(b'E', b"SFATAL\0C28000\0Mno pg_hba.conf entry for host \"10.0.0.7\"\0\0"));
    let error = dial_into(Credential::None, script).await.unwrap_err();
    assert!(error.disclosable().is_none(), "how we authenticate is nobody's business");
}

#[tokio::test]
async fn a_silent_upstream_meets_the_deadline() {
    let dial = Duration::from_millis(200);
    let sidecar = Sidecar::with_limits(Limits { dial, ..limits() }).await;
    let (endpoint, _upstream) = scripted(|socket| async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(socket);
    })
    .await;
    let error = sidecar.postgres.dial(&endpoint, &login()).await.unwrap_err();
    assert!(matches!(error, DialError::Deadline(limit) if limit == dial), "{error:?}");
}

#[tokio::test]
async fn a_missing_upstream_is_a_connect_error() {
    let sidecar = Sidecar::start().await;
    let (endpoint, upstream) = scripted(|socket| async move { drop(socket) }).await;
    upstream.abort();
    let _ = upstream.await;
    let error = sidecar.postgres.dial(&endpoint, &login()).await.unwrap_err();
    assert!(matches!(error, DialError::Connect(_)), "{error:?}");
}
