//! Cancel requests: whose key is good for what.

use std::sync::Arc;
use std::time::Duration;

use protocols::postgres::Postgres;
use protocols::{Client, Protocol};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::client::message;
use crate::support::upstream::{let_in, plaintext};
use crate::support::{Memory, RawClient, Sidecar, limits, never};

fn cancel_request(process_and_key: &[u8]) -> Vec<u8> {
    let mut request = (process_and_key.len() as u32 + 8).to_be_bytes().to_vec();
    request.extend_from_slice(&80_877_102_u32.to_be_bytes());
    request.extend_from_slice(process_and_key);
    request
}

/// An upstream with one session; returns what its next connection says.
async fn cancellable() -> (protocols::Endpoint, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = plaintext(listener.local_addr().unwrap().port());
    let task = tokio::spawn(async move {
        let (mut session, _) = listener.accept().await.unwrap();
        let_in(&mut session).await;
        let (mut cancel, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 16];
        cancel.read_exact(&mut request).await.unwrap();
        request
    });
    (endpoint, task)
}

/// Carries the next connection, which must be a cancel, and says when its client saw the close.
async fn carry(postgres: &Arc<Postgres>, sidecar: &Sidecar, mut socket: TcpStream, request: &[u8]) {
    socket.write_all(request).await.unwrap();
    let accepted = sidecar.socket().await;
    let postgres = postgres.clone();
    let carried = tokio::spawn(async move { postgres.accept(accepted).await });
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    assert!(answer.is_empty(), "a cancel is never answered");
    assert!(carried.await.unwrap().unwrap().is_none());
}

#[tokio::test]
async fn our_key_is_carried_as_the_upstreams_own() {
    let sidecar = Sidecar::start().await;
    let (endpoint, upstream) = cancellable().await;
    let (mut client, session) = sidecar.session(sidecar.dial(&endpoint), Memory::default(), never()).await;
    let welcome = client.until_ready().await;
    let (_, key) = welcome.iter().find(|(kind, _)| *kind == b'K').unwrap();

    let mut wrong = key.clone();
    wrong[7] ^= 1;
    for request in [&wrong[..], b"\0\0\0\x07\xaa\xbb\xcc\xdd", &[0; 260]] {
        carry(&sidecar.postgres, &sidecar, sidecar.connect().await, &cancel_request(request)).await;
    }
    assert!(!upstream.is_finished(), "a wrong key reached the upstream");
    carry(&sidecar.postgres, &sidecar, sidecar.connect().await, &cancel_request(key)).await;
    assert_eq!(upstream.await.unwrap(), cancel_request(b"\0\0\0\x07\xaa\xbb\xcc\xdd"));

    client.send(&message(b'X', b"")).await;
    session.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_cancel_may_come_inside_tls() {
    let sidecar = Sidecar::start().await;
    let (endpoint, upstream) = cancellable().await;
    let (mut client, _session) = sidecar.session(sidecar.dial(&endpoint), Memory::default(), never()).await;
    let welcome = client.until_ready().await;
    let (_, key) = welcome.iter().find(|(kind, _)| *kind == b'K').unwrap();
    let (config, socket) = (sidecar.authority.anonymous_config(), sidecar.connect().await);
    let request = cancel_request(key);
    let canceller = tokio::spawn(async move {
        let mut canceller = RawClient::negotiate(socket, config).await.unwrap();
        canceller.send(&request).await;
        assert!(canceller.receive().await.is_none());
    });
    assert!(sidecar.postgres.accept(sidecar.socket().await).await.unwrap().is_none());
    canceller.await.unwrap();
    assert_eq!(upstream.await.unwrap(), cancel_request(b"\0\0\0\x07\xaa\xbb\xcc\xdd"));
}

#[tokio::test]
async fn a_key_is_worthless_when_its_session_is_over() {
    let sidecar = Sidecar::start().await;
    let (endpoint, upstream) = cancellable().await;
    let (mut client, session) = sidecar.session(sidecar.dial(&endpoint), Memory::default(), never()).await;
    let welcome = client.until_ready().await;
    let (_, key) = welcome.iter().find(|(kind, _)| *kind == b'K').unwrap();
    client.send(&message(b'X', b"")).await;
    drop(client);
    session.abort();
    let _ = session.await;
    carry(&sidecar.postgres, &sidecar, sidecar.connect().await, &cancel_request(key)).await;
    assert!(!upstream.is_finished());
}

/// Whether a cancel that comes with this certificate reaches the upstream.
async fn arrives(sidecar: &Sidecar, own: &Arc<ClientConfig>, comes_with: Arc<ClientConfig>) -> bool {
    let (endpoint, upstream) = cancellable().await;
    let client = async { RawClient::log_in(sidecar.connect().await, own.clone(), 0).await };
    let (mut client, accepted) = tokio::join!(client, sidecar.accept());
    let upstream_session = sidecar.dial(&endpoint).await;
    let session = tokio::spawn(accepted.client.relay(upstream_session, Memory::default(), never()));
    let welcome = client.until_ready().await;
    let (_, key) = welcome.iter().find(|(kind, _)| *kind == b'K').unwrap();
    let (socket, request) = (sidecar.connect().await, cancel_request(key));
    let canceller = tokio::spawn(async move {
        let mut canceller = RawClient::negotiate(socket, comes_with).await.unwrap();
        canceller.send(&request).await;
        assert!(canceller.receive().await.is_none());
    });
    assert!(sidecar.postgres.accept(sidecar.socket().await).await.unwrap().is_none());
    canceller.await.unwrap();
    let arrived = timeout(Duration::from_millis(300), upstream).await.is_ok();
    session.abort();
    arrived
}

#[tokio::test]
async fn the_right_key_with_somebody_elses_certificate_cancels_nothing() {
    let sidecar = Sidecar::start().await;
    let own = sidecar.authority.client_config(&[]);
    assert!(arrives(&sidecar, &own, own.clone()).await);
    assert!(!arrives(&sidecar, &own, sidecar.authority.client_config(&[])).await);
    assert!(arrives(&sidecar, &own, sidecar.authority.anonymous_config()).await);
}

#[tokio::test]
async fn who_may_cancel_whom_is_the_sidecars_to_say() {
    for verdict in [true, false] {
        let mut sidecar = Sidecar::start().await;
        let own = sidecar.authority.client_config(&[]);
        let postgres = Postgres::new(sidecar.authority.server_config(), limits());
        sidecar.postgres = Arc::new(postgres.with_may_cancel(move |canceller, owner| {
            assert!(
                !canceller.chain().is_empty()
                    && !owner.chain().is_empty()
                    && canceller.chain() != owner.chain()
            );
            verdict
        }));
        let other = sidecar.authority.client_config(&[]);
        assert_eq!(arrives(&sidecar, &own, other).await, verdict);
    }
}
