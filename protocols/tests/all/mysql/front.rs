//! The client leg before login: what is let in, what is refused, and in what words.

use std::sync::Arc;

use protocols::mysql::MysqlClient;
use protocols::mysql::{Capabilities, TUNNEL_ALPN};
use protocols::{AcceptError, Accepted, Client, Refusal, RefusalCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::mysql::{
    FLAGS, MysqlSidecar, NATIVE, RawMysql, SHA2, error, packet, read_packet, response, send, settings,
};

type Outcome = Result<Option<Accepted<MysqlClient>>, AcceptError>;

/// A client in TLS that runs `script`, and what became of it.
async fn play<F, T: Send + 'static>(
    sidecar: &MysqlSidecar,
    alpn: &[&[u8]],
    script: impl FnOnce(RawMysql) -> F + Send + 'static,
) -> (T, Outcome)
where
    F: Future<Output = T> + Send + 'static,
{
    let (socket, config) = (sidecar.connect().await, sidecar.authority.client_config(alpn));
    let client = tokio::spawn(async move { script(RawMysql::connect(socket, config).await.unwrap()).await });
    let outcome = sidecar.accept().await;
    (client.await.unwrap(), outcome)
}

/// A client in TLS whose handshake response is `payload`, and the ERR that it gets.
async fn refused(sidecar: &MysqlSidecar, payload: Vec<u8>) -> (u16, String, String) {
    let (error, outcome) = play(sidecar, &[], |mut client| async move {
        client.send(2, &payload).await;
        let (sequence, payload) = client.read().await;
        assert_eq!(sequence, 3);
        error(&payload)
    })
    .await;
    assert!(matches!(outcome, Err(AcceptError::Refused(_))), "{outcome:?}");
    error
}

#[tokio::test]
async fn a_client_says_who_it_is_by_certificate_and_who_it_wants_to_be_by_response() {
    let sidecar = MysqlSidecar::start().await;
    let (mut client, outcome) = play(&sidecar, &[], |mut client| async move {
        client.send(2, &response("alice", b"", "prod", SHA2)).await;
        client
    })
    .await;
    let accepted = outcome.unwrap().unwrap();
    assert_eq!(accepted.peer.chain().len(), 1);
    assert_eq!((accepted.login.user.as_str(), accepted.login.database.as_deref()), ("alice", Some("prod")));
    let refusal = Refusal::new(RefusalCode::MfaRequired, "access to resource requires MFA");
    let (refused, answer) = tokio::join!(accepted.client.refuse(refusal), async {
        let answer = client.read().await;
        drop(client);
        answer
    });
    refused.unwrap();
    assert_eq!(answer.0, 3);
    let text = "access to resource requires MFA".to_owned();
    assert_eq!(error(&answer.1), (1105, "HY000".into(), text));
}

#[tokio::test]
async fn a_client_without_a_certificate_can_be_told_so() {
    let sidecar = MysqlSidecar::start().await;
    let (socket, config) = (sidecar.connect().await, sidecar.authority.anonymous_config());
    let client = tokio::spawn(async move {
        let mut client = RawMysql::connect(socket, config).await.unwrap();
        client.send(2, &response("alice", b"", "", SHA2)).await;
        error(&client.read().await.1)
    });
    let accepted = sidecar.accept().await.unwrap().unwrap();
    assert!(accepted.peer.chain().is_empty());
    accepted.client.refuse(Refusal::new(RefusalCode::NotAuthenticated, "no certificate")).await.unwrap();
    assert_eq!(client.await.unwrap(), (1045, "28000".into(), "no certificate".into()));
}

#[tokio::test]
async fn the_greeting_is_the_upstreams_with_an_id_and_a_scramble_of_ours() {
    let sidecar = MysqlSidecar::start().await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let mut socket = sidecar.connect().await;
        let accept = tokio::spawn({
            let (mysql, socket) = (sidecar.mysql.clone(), sidecar.socket().await);
            async move { protocols::Protocol::accept(&*mysql, socket).await }
        });
        let (sequence, greeting) = read_packet(&mut socket).await.unwrap();
        assert_eq!(sequence, 0);
        assert!(greeting.starts_with(b"\x0a8.4.6\0") && greeting.ends_with(b"\0caching_sha2_password\0"));
        let id = u32::from_le_bytes(greeting[7..11].try_into().unwrap());
        assert!(id > 1 << 31);
        let offered = u16::from_le_bytes(greeting[20..22].try_into().unwrap());
        assert!(Capabilities::new(offered.into(), 0).contains(Capabilities::SSL));
        seen.push((id, greeting[11..19].to_vec(), accept, socket));
    }
    let [first, second] = &seen[..] else { panic!("two") };
    assert!(first.0 != second.0 && first.1 != second.1);
    for (_, _, accept, socket) in seen {
        drop(socket);
        assert!(accept.await.unwrap().unwrap().is_none(), "a health probe is nothing");
    }
}

#[tokio::test]
async fn an_upstream_that_was_not_seen_yet_is_not_made_up() {
    let sidecar = MysqlSidecar::unaware().await;
    let mut socket = sidecar.connect().await;
    let accept = tokio::spawn({
        let (mysql, socket) = (sidecar.mysql.clone(), sidecar.socket().await);
        async move { protocols::Protocol::accept(&*mysql, socket).await }
    });
    let (sequence, payload) = read_packet(&mut socket).await.unwrap();
    drop(socket);
    let text = "the database has not been reached yet, so its version is not known; try again in a minute";
    assert_eq!((sequence, payload), (0, [b"\xff\x51\x04", text.as_bytes()].concat()));
    let outcome = accept.await.unwrap();
    assert!(matches!(outcome, Err(AcceptError::Refused(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_login_in_plaintext_is_refused_and_told_why() {
    let sidecar = MysqlSidecar::start().await;
    let mut socket = sidecar.connect().await;
    let client = tokio::spawn(async move {
        read_packet(&mut socket).await.unwrap();
        send(&mut socket, 1, &response("alice", &[7; 20], "prod", NATIVE)).await;
        let (sequence, payload) = read_packet(&mut socket).await.unwrap();
        assert_eq!(sequence, 2);
        error(&payload)
    });
    let outcome = sidecar.accept().await;
    assert!(
        matches!(&outcome, Err(AcceptError::Refused(refusal)) if refusal.code == RefusalCode::TlsRequired)
    );
    let (number, state, text) = client.await.unwrap();
    assert_eq!((number, state.as_str()), (3159, "HY000"));
    assert!(text.starts_with("TLS is required; connect with --ssl-mode="), "{text}");
}

/// CVE-2021-3935 and its like: whatever follows an SSLRequest is TLS, or the connection is over.
#[tokio::test]
async fn plaintext_stuffed_behind_an_ssl_request_ends_the_connection() {
    for stuffed in
        [&packet(2, &response("root", b"", "", NATIVE))[..], b"\0", &packet(2, b"\x03DROP DATABASE prod")]
    {
        let sidecar = MysqlSidecar::start().await;
        let mut socket = sidecar.connect().await;
        let request = packet(1, &settings(FLAGS | Capabilities::SSL.flags()));
        let bytes = [&request[..], stuffed].concat();
        let config = sidecar.authority.client_config(&[]);
        let client = tokio::spawn(async move {
            read_packet(&mut socket).await.unwrap();
            socket.write_all(&bytes).await.unwrap();
            // The honest client behind it goes on as if nothing had happened.
            let connector = tokio_rustls::TlsConnector::from(config);
            connector.connect("localhost".try_into().unwrap(), socket).await.is_ok()
        });
        let outcome = sidecar.accept().await;
        assert!(matches!(outcome, Err(AcceptError::Tls(_))), "{outcome:?}");
        assert!(!client.await.unwrap());
    }
}

#[tokio::test]
async fn in_the_tunnel_a_whole_connection_follows_without_tls() {
    let sidecar = MysqlSidecar::start().await;
    let (greeting, outcome) = play(&sidecar, &[TUNNEL_ALPN], |mut client| async move {
        client.send(1, &response("alice", b"", "", SHA2)).await;
        client.greeting
    })
    .await;
    let offered = u16::from_le_bytes(greeting[20..22].try_into().unwrap());
    assert!(!Capabilities::new(offered.into(), 0).contains(Capabilities::SSL));
    assert_eq!(outcome.unwrap().unwrap().login.user, "alice");
}

#[tokio::test]
async fn a_client_in_the_tunnel_that_wants_tls_is_told_that_it_has_it() {
    let sidecar = MysqlSidecar::start().await;
    let (told, outcome) = play(&sidecar, &[TUNNEL_ALPN], |mut client| async move {
        client.send(1, &settings(FLAGS | Capabilities::SSL.flags())).await;
        error(&client.read().await.1)
    })
    .await;
    assert!(told.2.contains("--skip-ssl"), "{told:?}");
    assert!(matches!(outcome, Err(AcceptError::Refused(_))));
}

#[tokio::test]
async fn another_alpn_is_not_let_in() {
    let sidecar = MysqlSidecar::start().await;
    let (socket, config) = (sidecar.connect().await, sidecar.authority.client_config(&[b"postgresql"]));
    let client = tokio::spawn(RawMysql::connect(socket, config));
    assert!(matches!(sidecar.accept().await, Err(AcceptError::Tls(_))));
    assert!(client.await.unwrap().is_err());
}

#[tokio::test]
async fn each_plugin_is_met_in_its_own_words_and_its_answer_thrown_away() {
    let sidecar = MysqlSidecar::start().await;
    for (plugin, switched_to) in [
        (NATIVE, NATIVE),
        ("client_ed25519", NATIVE),
        ("mysql_clear_password", SHA2),
        ("sha256_password", SHA2),
        ("no_such_plugin", SHA2),
    ] {
        for answer in [&b""[..], &[9; 20], &[9; 32], b"a password in clear\0"] {
            let (user, outcome) = play(&sidecar, &[], move |mut client| async move {
                client.send(2, &response("alice", &[7; 20], "prod", plugin)).await;
                let (sequence, payload) = client.read().await;
                assert_eq!(sequence, 3);
                let rest = payload.strip_prefix(&[0xFE]).unwrap();
                let mut parts = rest.split(|byte| *byte == 0);
                assert_eq!(parts.next().unwrap(), switched_to.as_bytes());
                assert_eq!(parts.next().unwrap().len(), 20);
                client.send(4, answer).await;
                client
            })
            .await;
            assert_eq!(outcome.unwrap().unwrap().login.user, "alice");
            drop(user);
        }
    }
}

#[tokio::test]
async fn what_is_no_response_is_refused_in_mysqls_words() {
    let sidecar = MysqlSidecar::start().await;
    let whole = response("alice", &[7; 32], "prod", SHA2);
    for end in [0, 4, 31, 32, 33, 37, 40, 70, 75, whole.len() - 1] {
        let (number, ..) = refused(&sidecar, whole[..end].to_vec()).await;
        assert!([1835, 1235].contains(&number), "{end}: {number}");
    }
    let old = [&[0x85, 0x24, 0, 0, 0][..], b"old\0"].concat();
    assert_eq!(refused(&sidecar, old).await.0, 1235);
}

#[tokio::test]
async fn a_user_that_the_upstream_would_take_for_another_is_refused() {
    let sidecar = MysqlSidecar::start().await;
    for user in ["", "'root'", "a name that is longer than thirty-two"] {
        let (number, state, _) = refused(&sidecar, response(user, b"", "", SHA2)).await;
        assert_eq!((number, state.as_str()), (1045, "28000"), "{user}");
    }
    assert_eq!(refused(&sidecar, response("alice", b"", &"d".repeat(65), SHA2)).await.0, 1045);
}

#[tokio::test]
async fn packets_out_of_order_and_endless_ones_are_refused() {
    let sidecar = MysqlSidecar::start().await;
    let whole = response("alice", b"", "", SHA2);
    for bytes in [packet(1, &whole), packet(3, &whole), b"\xff\xff\xff\x02".to_vec(), packet(2, &[0; 10_000])]
    {
        let (told, outcome) = play(&sidecar, &[], |mut client| async move {
            client.stream.write_all(&bytes).await.unwrap();
            client.stream.flush().await.unwrap();
            error(&client.read().await.1)
        })
        .await;
        assert_eq!((told.0, told.1.as_str()), (1835, "HY000"));
        assert!(matches!(outcome, Err(AcceptError::Refused(_))), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_login_that_ends_early_costs_its_own_connection_alone() {
    let sidecar = MysqlSidecar::start().await;
    let whole = packet(2, &response("alice", b"", "", SHA2));
    for end in [1, 3, 4, 20, whole.len() - 1] {
        let bytes = whole[..end].to_vec();
        let ((), outcome) = play(&sidecar, &[], |mut client| async move {
            client.stream.write_all(&bytes).await.unwrap();
            client.stream.shutdown().await.unwrap();
            let _ = client.stream.read_to_end(&mut Vec::new()).await;
        })
        .await;
        assert!(matches!(outcome, Err(AcceptError::Client(_))), "{end}: {outcome:?}");
    }
    let ((), outcome) = play(&sidecar, &[], |mut client| async move {
        client.stream.shutdown().await.unwrap();
    })
    .await;
    assert!(outcome.unwrap().is_none());
}

#[tokio::test]
async fn a_silent_client_is_given_up() {
    let mut sidecar = MysqlSidecar::start().await;
    let limits = protocols::Limits { handshake: std::time::Duration::from_millis(200), ..Default::default() };
    let greeting = sidecar.mysql.greeting().clone();
    sidecar.mysql =
        Arc::new(protocols::mysql::Mysql::new(sidecar.authority.server_config(), greeting, limits));
    let socket = sidecar.connect().await;
    let outcome = sidecar.accept().await;
    assert!(matches!(outcome, Err(AcceptError::Deadline(_))), "{outcome:?}");
    drop(socket);
}
