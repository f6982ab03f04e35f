//! The client leg before login: what is let in, what is refused, and what it costs others.

use std::time::{Duration, Instant};

use protocols::postgres::{ALPN, TUNNEL_ALPN};
use protocols::{AcceptError, Client, Limits, Protocol, Refusal, RefusalCode, Replication};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::client::{ALICE, GSS_ENC_REQUEST, SSL_REQUEST, error_fields, startup};
use crate::support::{RawClient, Sidecar, limits};

#[tokio::test]
async fn a_client_says_who_it_is_by_certificate_and_who_it_wants_to_be_by_startup() {
    let sidecar = Sidecar::start().await;
    let config = sidecar.authority.client_config(&[]);
    let socket = sidecar.connect().await;
    let client = tokio::spawn(RawClient::log_in(socket, config, 0));
    let accepted = sidecar.accept().await;
    assert_eq!(accepted.peer.chain().len(), 1);
    assert_eq!(accepted.login.user, "alice");
    assert_eq!(accepted.login.database.as_deref(), Some("prod"));
    let refusal = Refusal::new(RefusalCode::MfaRequired, "access to resource requires MFA");
    let (refused, client) = tokio::join!(accepted.client.refuse(refusal), client);
    refused.unwrap();
    let (state, text) = client.unwrap().fatal().await;
    assert_eq!((state.as_str(), text.as_str()), ("28000", "access to resource requires MFA"));
}

#[tokio::test]
async fn a_client_without_a_certificate_can_be_told_so() {
    let sidecar = Sidecar::start().await;
    let config = sidecar.authority.anonymous_config();
    let socket = sidecar.connect().await;
    let client = tokio::spawn(RawClient::log_in(socket, config, 0));
    let accepted = sidecar.accept().await;
    assert!(accepted.peer.chain().is_empty());
    let refusal = Refusal::new(RefusalCode::NotAuthenticated, "no certificate");
    let refused = tokio::spawn(accepted.client.refuse(refusal));
    assert_eq!(client.await.unwrap().fatal().await.0, "28000");
    refused.await.unwrap().unwrap();
}

#[tokio::test]
async fn direct_tls_and_the_tunnel_are_told_apart_by_alpn() {
    let sidecar = Sidecar::start().await;
    for (alpn, in_the_way) in
        [(ALPN, &[][..]), (TUNNEL_ALPN, &[][..]), (TUNNEL_ALPN, &[GSS_ENC_REQUEST, SSL_REQUEST][..])]
    {
        let config = sidecar.authority.client_config(&[alpn]);
        let socket = sidecar.connect().await;
        let client = tokio::spawn(async move {
            let mut client = RawClient::tls(socket, config).await.unwrap();
            for request in in_the_way {
                client.send(request).await;
                assert_eq!(client.stream.read_u8().await.unwrap(), b'N');
            }
            client.send(&startup(0, ALICE)).await;
        });
        assert_eq!(sidecar.accept().await.login.user, "alice");
        client.await.unwrap();
    }
}

#[tokio::test]
async fn direct_tls_without_alpn_is_refused() {
    let sidecar = Sidecar::start().await;
    let config = sidecar.authority.client_config(&[]);
    let client = tokio::spawn(RawClient::tls(sidecar.connect().await, config));
    let error = sidecar.postgres.accept(sidecar.socket().await).await.unwrap_err();
    assert!(matches!(error, AcceptError::Alpn(None)), "{error:?}");
    drop(client.await);
}

#[tokio::test]
async fn the_tunnel_is_not_reached_by_ssl_request() {
    let sidecar = Sidecar::start().await;
    let config = sidecar.authority.client_config(&[TUNNEL_ALPN]);
    let client = tokio::spawn(RawClient::negotiate(sidecar.connect().await, config));
    let error = sidecar.postgres.accept(sidecar.socket().await).await.unwrap_err();
    assert!(matches!(error, AcceptError::Alpn(Some(_))), "{error:?}");
    drop(client.await);
}

#[tokio::test]
async fn encryption_asked_for_twice_is_refused() {
    let sidecar = Sidecar::start().await;
    for (alpn, requests) in [(ALPN, &[SSL_REQUEST][..]), (TUNNEL_ALPN, &[SSL_REQUEST, SSL_REQUEST][..])] {
        let config = sidecar.authority.client_config(&[alpn]);
        let socket = sidecar.connect().await;
        let client = tokio::spawn(async move {
            let mut client = RawClient::tls(socket, config).await.unwrap();
            for request in requests {
                client.send(request).await;
            }
            if requests.len() > 1 {
                assert_eq!(client.stream.read_u8().await.unwrap(), b'N');
            }
            client.fatal().await
        });
        let error = sidecar.postgres.accept(sidecar.socket().await).await.unwrap_err();
        assert!(matches!(error, AcceptError::Refused(_)), "{error:?}");
        assert_eq!(client.await.unwrap().0, "08P01");
    }
}

#[tokio::test]
async fn gss_encryption_is_declined_once() {
    let sidecar = Sidecar::start().await;
    let config = sidecar.authority.client_config(&[]);
    let mut socket = sidecar.connect().await;
    let client = tokio::spawn(async move {
        socket.write_all(&GSS_ENC_REQUEST).await.unwrap();
        assert_eq!(socket.read_u8().await.unwrap(), b'N');
        RawClient::log_in(socket, config, 0).await
    });
    assert_eq!(sidecar.accept().await.login.user, "alice");
    drop(client.await.unwrap());

    let mut socket = sidecar.connect().await;
    socket.write_all(&[GSS_ENC_REQUEST, GSS_ENC_REQUEST].concat()).await.unwrap();
    let accept = tokio::spawn({
        let (postgres, socket) = (sidecar.postgres.clone(), sidecar.socket().await);
        async move { postgres.accept(socket).await.unwrap_err() }
    });
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer[0], b'N');
    assert_eq!(error_fields(&answer[6..]).0, "28000");
    drop(socket);
    assert!(matches!(accept.await.unwrap(), AcceptError::Refused(_)));
}

#[tokio::test]
async fn plaintext_is_told_that_tls_is_required() {
    let sidecar = Sidecar::start().await;
    for bytes in [startup(0, ALICE), b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0; 8]] {
        let mut socket = sidecar.connect().await;
        let accept = tokio::spawn({
            let (postgres, socket) = (sidecar.postgres.clone(), sidecar.socket().await);
            async move { postgres.accept(socket).await.unwrap_err() }
        });
        socket.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        drop(socket);
        let (state, text) = error_fields(&answer[5..]);
        assert_eq!((state.as_str(), text.as_str()), ("28000", "TLS is required"));
        let error = accept.await.unwrap();
        assert!(matches!(error, AcceptError::Refused(refusal) if refusal.code == RefusalCode::TlsRequired));
    }
}

/// CVE-2021-23214.
#[tokio::test]
async fn bytes_stuffed_behind_an_ssl_request_are_never_believed() {
    let sidecar = Sidecar::start().await;
    let config = sidecar.authority.client_config(&[]);
    let mut socket = sidecar.connect().await;
    socket.write_all(&[&SSL_REQUEST[..], &startup(0, b"user\0mallory\0\0")].concat()).await.unwrap();
    let client = tokio::spawn(async move {
        assert_eq!(socket.read_u8().await.unwrap(), b'S');
        RawClient::tls(socket, config).await.map(drop)
    });
    let error = sidecar.postgres.accept(sidecar.socket().await).await.unwrap_err();
    assert!(matches!(error, AcceptError::Tls(_)), "{error:?}");
    assert!(client.await.unwrap().is_err());
}

#[tokio::test]
async fn a_startup_of_10000_bytes_is_read_and_one_of_10001_is_not() {
    let sidecar = Sidecar::start().await;
    for (length, fits) in [(10_000, true), (10_001, false), (0x7fff_ffff, false)] {
        let config = sidecar.authority.client_config(&[]);
        let socket = sidecar.connect().await;
        let client = tokio::spawn(async move {
            let mut client = RawClient::negotiate(socket, config).await.unwrap();
            if fits {
                let mut parameters = b"user\0alice\0options\0".to_vec();
                parameters.resize(length - 8 - 2, b'x');
                parameters.extend([0, 0]);
                client.send(&startup(0, &parameters)).await;
                return None;
            }
            // Eight bytes are enough to be refused: nothing more is waited for.
            client.send(&[(length as u32).to_be_bytes(), [0, 3, 0, 0]].concat()).await;
            Some(client.fatal().await.0)
        });
        let accepted = sidecar.postgres.accept(sidecar.socket().await).await;
        assert_eq!(accepted.is_ok(), fits, "{length}");
        assert_eq!(client.await.unwrap(), (!fits).then(|| "08P01".to_owned()), "{length}");
    }
}

#[tokio::test]
async fn a_replication_startup_says_so_to_whoever_decides() {
    let sidecar = Sidecar::start().await;
    for (value, replication, database) in
        [("database", Replication::Logical, Some("alice")), ("on", Replication::Physical, None)]
    {
        let config = sidecar.authority.client_config(&[]);
        let parameters = format!("user\0alice\0replication\0{value}\0\0");
        let socket = sidecar.connect().await;
        let client = tokio::spawn(async move {
            let mut client = RawClient::negotiate(socket, config).await.unwrap();
            client.send(&startup(0, parameters.as_bytes())).await;
            client.receive().await
        });
        let login = sidecar.accept().await.login;
        assert_eq!((login.replication, login.database.as_deref()), (replication, database));
        client.abort();
    }
}

#[tokio::test]
async fn a_replication_startup_that_makes_no_sense_is_refused_in_postgresqls_words() {
    let sidecar = Sidecar::start().await;
    let config = sidecar.authority.client_config(&[]);
    let socket = sidecar.connect().await;
    let client = tokio::spawn(async move {
        let mut client = RawClient::negotiate(socket, config).await.unwrap();
        client.send(&startup(0, b"user\0alice\0replication\0maybe\0\0")).await;
        client.fatal().await
    });
    let error = sidecar.postgres.accept(sidecar.socket().await).await.unwrap_err();
    assert!(matches!(error, AcceptError::Refused(refusal) if refusal.code == RefusalCode::ProtocolViolation));
    let words = "invalid value for parameter \"replication\": \"maybe\"";
    assert_eq!(client.await.unwrap(), ("22023".to_owned(), words.to_owned()));
}

#[tokio::test]
async fn a_startup_cut_short_at_any_byte_ends_only_that_connection() {
    let sidecar = Sidecar::start().await;
    let whole = startup(0, ALICE);
    for end in 0..whole.len() {
        let config = sidecar.authority.client_config(&[]);
        let (socket, part) = (sidecar.connect().await, whole[..end].to_vec());
        let client = tokio::spawn(async move {
            let mut client = RawClient::negotiate(socket, config).await.unwrap();
            client.send(&part).await;
            client.stream.shutdown().await.unwrap();
        });
        let accepted = sidecar.postgres.accept(sidecar.socket().await).await;
        match accepted {
            Ok(None) => assert_eq!(end, 0),
            Err(AcceptError::Client(_)) => assert!(end > 0),
            other => panic!("{end}: {other:?}"),
        }
        client.await.unwrap();
    }
}

#[tokio::test]
async fn a_port_probe_is_no_error() {
    let sidecar = Sidecar::start().await;
    drop(sidecar.connect().await);
    assert!(sidecar.postgres.accept(sidecar.socket().await).await.unwrap().is_none());
}

#[tokio::test]
async fn silent_clients_and_half_client_hellos_meet_the_deadline_and_delay_nobody() {
    let handshake = Duration::from_millis(1_500);
    let sidecar = Sidecar::with_limits(Limits { handshake, ..limits() }).await;
    let mut silent = Vec::new();
    let mut accepts = Vec::new();
    let half_hello = [&SSL_REQUEST[..], &[0x16, 3, 1, 2, 0, 1, 0]].concat();
    for number in 0..60 {
        let mut socket = sidecar.connect().await;
        let bytes: &[u8] = match number % 5 {
            0 => &[],
            1 => &[0],
            2 => &SSL_REQUEST,
            3 => &half_hello,
            _ => &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc],
        };
        socket.write_all(bytes).await.unwrap();
        silent.push(socket);
        let (postgres, socket) = (sidecar.postgres.clone(), sidecar.socket().await);
        accepts.push(tokio::spawn(async move { postgres.accept(socket).await.map(drop) }));
    }
    let started = Instant::now();
    let config = sidecar.authority.client_config(&[]);
    let client = tokio::spawn(RawClient::log_in(sidecar.connect().await, config, 0));
    assert_eq!(sidecar.accept().await.login.user, "alice");
    assert!(started.elapsed() < handshake, "a login waited for the silent ones: {:?}", started.elapsed());
    drop(client.await.unwrap());
    for accept in accepts {
        let error = accept.await.unwrap().unwrap_err();
        assert!(matches!(error, AcceptError::Deadline(limit) if limit == handshake), "{error:?}");
    }
}

#[tokio::test]
async fn a_login_works_one_byte_at_a_time() {
    let sidecar = Sidecar::start().await;
    let config = sidecar.authority.client_config(&[]);
    let socket = sidecar.connect().await;
    let client = tokio::spawn(async move {
        let mut client = RawClient::negotiate(socket, config).await.unwrap();
        for byte in startup(0, ALICE) {
            client.send(&[byte]).await;
        }
        client
    });
    assert_eq!(sidecar.accept().await.login.user, "alice");
    drop(client.await.unwrap());
}
