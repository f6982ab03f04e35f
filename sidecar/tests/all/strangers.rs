//! Clients that say nothing, or the wrong thing, cost only their own connection.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{
    PATIENCE,
    authd::{Authd, Jerry},
    client::connect,
    postgresql::Postgresql,
    sidecar::{FEW, Guarded},
};

/// The beginning of a ClientHello.
const HALF_A_CLIENT_HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f];

struct Stage {
    guarded: Guarded,
    jerry: Jerry,
    _postgresql: Postgresql,
    _authd: Authd,
}

async fn stage() -> Stage {
    let mut authd = Authd::start().await;
    let jerry = Jerry::register(&mut authd).await;
    let files = authd.database_certificate(&["localhost"]).await;
    let postgresql = tokio::task::spawn_blocking(move || Postgresql::start(&files)).await.unwrap();
    let upstream = format!("{{uri: \"{}\"}}", postgresql.unix_uri());
    let guarded = Guarded::start_with(&mut authd, "dev-pg", &upstream, |config| config.room = FEW).await;
    Stage { guarded, jerry, _postgresql: postgresql, _authd: authd }
}

async fn log_in(stage: &Stage) -> Duration {
    let began = Instant::now();
    let session = connect(stage.guarded.address, "dev-pg", &stage.jerry.login).await.unwrap();
    assert_eq!(session.one("select 'in'").await, "in");
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_silent_clients_do_not_delay_a_login() {
    let stage = stage().await;
    log_in(&stage).await;
    let alone = log_in(&stage).await;
    let mut silent = Vec::new();
    for number in 0..200 {
        let mut socket = TcpStream::connect(stage.guarded.address).await.unwrap();
        let said: &[u8] = match number % 4 {
            0 => &[],
            1 => &[0],
            2 => HALF_A_CLIENT_HELLO,
            _ => &SSL_REQUEST,
        };
        socket.write_all(said).await.unwrap();
        silent.push(socket);
    }
    let beside = log_in(&stage).await;
    // As fast as without, give or take what a busy machine adds.
    assert!(beside < alone * 3 + Duration::from_millis(200), "alone {alone:?}, beside 200 {beside:?}");
    let (_, metrics) = stage.guarded.get("/metrics").await;
    assert!(metrics.contains("touchstone_unknown_connections_evicted_total"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_client_is_closed_after_its_deadline() {
    let stage = stage().await;
    let mut socket = TcpStream::connect(stage.guarded.address).await.unwrap();
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut rest)).await;
    let _ = closed.expect("a deadline of ten seconds ends it");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_behind_the_ssl_request_are_an_attack() {
    let stage = stage().await;
    let mut socket = TcpStream::connect(stage.guarded.address).await.unwrap();
    let startup = b"\0\0\0\x14\0\x03\0\0user\0postgres\0\0";
    let mut packet = SSL_REQUEST.to_vec();
    packet.extend_from_slice(startup);
    socket.write_all(&packet).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("closed");
    assert!(!answer.contains(&b'R'), "nobody is authenticated: {answer:?}");
    log_in(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plaintext_startup_and_an_oversized_one_are_told_off() {
    let stage = stage().await;
    for packet in [&b"\0\0\0\x14\0\x03\0\0user\0postgres\0\0"[..], &[0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0]] {
        let mut socket = TcpStream::connect(stage.guarded.address).await.unwrap();
        socket.write_all(packet).await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("closed");
        assert!(!answer.contains(&b'R'), "{answer:?}");
    }
    log_in(&stage).await;
}
