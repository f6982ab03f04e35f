//! The upstream leg: what is proven, what is refused, and what a hostile upstream can cost.

use std::time::Duration;

use protocols::mysql::{Capabilities, Mysql, MysqlUpstream};
use protocols::{Credential, DialError, Endpoint, Limits, Login, Protocol, Secret, Setting, UpstreamTls};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::support::mysql::{
    FLAGS, MysqlSidecar, NATIVE, OK, RawMysql, SCRAMBLE, SHA2, greeting, mysql_facts, packet, read_packet,
    response, send, settings,
};
use crate::support::{Authority, limits, login, scripted};

const SSL: u32 = Capabilities::SSL.flags();
/// An RSA key of 2,048 bits that nobody has the other half of.
const RSA_KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
    MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAwVuaCf0+s8FB12LBa4Eq\n\
    yuU+FVrRqLWlRJ7bjTXMHAVYT8dNGPvnALjh1wiQZBX1nxcNp/tAzu95AgCNOd8s\n\
    M6LfhVQRKbqiREIbLf/0+1hzAA/wbvHHTyDBpjxpr4yHsVTxCgn6hnJqWxosaZVu\n\
    tYs+pjHUVTCfXdTY+cHircTRE0gDpA6fqY28x0aT5X5prpk/Ax8yGT+T29TPYJ2t\n\
    Mc9CLn8qJhnX0RD3pEBUH5IJahu/eF797ew4wU5oWLksBDztVKyTjwRzAnWpCE0K\n\
    zuIGpjYVPULK5F6QFFJiLjDpdnijH0dpe1e7yyGmsKA5BJHPSJcy1LWJR5ThzJC1\n\
    ZwIDAQAB\n\
    -----END PUBLIC KEY-----\n";

fn password() -> Credential {
    Credential::Password(Secret::new(b"secret".to_vec()))
}

fn with_tls(endpoint: Endpoint, authority: &Authority) -> Endpoint {
    let tls =
        UpstreamTls { config: authority.client_config(&[]), server_name: "localhost".try_into().unwrap() };
    Endpoint { tls: Some(tls), ..endpoint }
}

/// An upstream in plaintext.
struct Upstream {
    socket: TcpStream,
    sequence: u8,
}

impl Upstream {
    /// Greets; returns the handshake response.
    async fn greet(&mut self, flags: u32, plugin: &str) -> Vec<u8> {
        self.says(&greeting(flags, plugin)).await;
        self.hears().await
    }

    async fn says(&mut self, payload: &[u8]) {
        send(&mut self.socket, self.sequence, payload).await;
        self.sequence = self.sequence.wrapping_add(1);
    }

    async fn hears(&mut self) -> Vec<u8> {
        let (sequence, payload) = read_packet(&mut self.socket).await.unwrap();
        assert_eq!(sequence, self.sequence);
        self.sequence = self.sequence.wrapping_add(1);
        payload
    }

    /// Switches to `plugin`; returns the answer.
    async fn switches(&mut self, plugin: &str, data: &[u8]) -> Vec<u8> {
        self.says(&[&b"\xfe"[..], plugin.as_bytes(), &[0], data].concat()).await;
        self.hears().await
    }

    /// Waits until the other side is gone; returns what it still said.
    async fn ends(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = self.socket.read_to_end(&mut rest).await;
        rest
    }
}

/// Dials an upstream without TLS that plays `script`: the outcome, and what the script saw.
async fn dial<F, T>(
    change: impl FnOnce(Endpoint) -> Endpoint,
    login: &Login,
    script: impl FnOnce(Upstream) -> F + Send + 'static,
) -> (Result<MysqlUpstream, DialError>, T)
where
    F: Future<Output = T> + Send,
    T: Send + 'static,
{
    let sidecar = MysqlSidecar::start().await;
    let (endpoint, task) = scripted(|socket| script(Upstream { socket, sequence: 0 })).await;
    let result = sidecar.dial(&change(endpoint), login).await;
    (result, task.await.unwrap())
}

/// The same with a password, and an upstream that fails it: the error.
async fn fails<F: Future<Output = ()> + Send>(
    credential: Credential,
    script: impl FnOnce(Upstream) -> F + Send + 'static,
) -> DialError {
    dial(|endpoint| Endpoint { credential, ..endpoint }, &login(), script).await.0.unwrap_err()
}

/// What a client of these flags asked for.
async fn asked(flags: u32) -> Login {
    let sidecar = MysqlSidecar::start().await;
    let (socket, config) = (sidecar.connect().await, sidecar.authority.client_config(&[]));
    let client = tokio::spawn(async move {
        let mut client = RawMysql::connect(socket, config).await.unwrap();
        let mut payload = response("alice", b"", "prod", SHA2);
        payload.splice(..4, (FLAGS | flags).to_le_bytes());
        payload.extend_from_slice(b"\x04\x01a\x01b");
        client.send(2, &payload).await;
        client
    });
    let login = sidecar.accept().await.unwrap().unwrap().login;
    drop(client.await);
    login
}

#[tokio::test]
async fn the_upstream_hears_what_the_client_said_and_never_its_password() {
    let tracks = Capabilities::SESSION_TRACK.flags() | Capabilities::CONNECT_ATTRS.flags();
    let login = asked(tracks).await;
    let (result, heard) = dial(
        |endpoint| endpoint,
        &login,
        |mut upstream| async move {
            let heard = upstream.greet(u32::MAX ^ SSL, SHA2).await;
            upstream.says(OK).await;
            heard
        },
    )
    .await;
    result.unwrap();
    let mut expected = response("alice", b"\0", "prod", SHA2);
    expected[..4].copy_from_slice(&(FLAGS | tracks).to_le_bytes());
    expected.extend_from_slice(b"\x04\x01a\x01b");
    assert_eq!(heard, expected);
}

#[tokio::test]
async fn an_upstream_that_lost_what_the_client_was_promised_is_not_used_and_the_next_client_knows() {
    let tracks = Capabilities::SESSION_TRACK.flags();
    let login = asked(tracks | Capabilities::CONNECT_ATTRS.flags()).await;
    let sidecar = MysqlSidecar::start().await;
    let (endpoint, _task) = scripted(move |mut socket| async move {
        send(&mut socket, 0, &greeting(u32::MAX ^ tracks, SHA2)).await;
        let _ = socket.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let error = sidecar.dial(&endpoint, &login).await.unwrap_err();
    assert!(matches!(error, DialError::Changed), "{error:?}");
    let known = sidecar.mysql.greeting().facts().unwrap();
    assert!(!known.capabilities.contains(Capabilities::SESSION_TRACK));
}

#[tokio::test]
async fn an_upstream_without_tls_is_not_spoken_to_where_tls_is_demanded() {
    let sidecar = MysqlSidecar::start().await;
    let (endpoint, task) = scripted(|mut socket| async move {
        send(&mut socket, 0, &greeting(u32::MAX ^ SSL, SHA2)).await;
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest).await;
        rest
    })
    .await;
    let error = sidecar.dial(&with_tls(endpoint, &sidecar.authority), &login()).await.unwrap_err();
    assert!(matches!(error, DialError::TlsRefused), "{error:?}");
    assert!(task.await.unwrap().is_empty());
}

/// CVE-2021-23222's like.
#[tokio::test]
async fn plaintext_behind_the_greeting_breaks_the_tls_handshake() {
    let sidecar = MysqlSidecar::start().await;
    let (endpoint, _task) = scripted(|mut socket| async move {
        send(&mut socket, 0, &greeting(u32::MAX, SHA2)).await;
        send(&mut socket, 2, OK).await;
        let _ = socket.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let error = sidecar.dial(&with_tls(endpoint, &sidecar.authority), &login()).await.unwrap_err();
    assert!(matches!(error, DialError::Tls(_)), "{error:?}");
}

#[tokio::test]
async fn an_upstream_of_another_authority_is_refused_before_anybody_is_named() {
    let sidecar = MysqlSidecar::start().await;
    let stranger = TlsAcceptor::from(Authority::new().server_config());
    let (endpoint, task) = scripted(move |mut socket| async move {
        send(&mut socket, 0, &greeting(u32::MAX, SHA2)).await;
        let (_, request) = read_packet(&mut socket).await.unwrap();
        drop(stranger.accept(socket).await);
        request
    })
    .await;
    let error = sidecar.dial(&with_tls(endpoint, &sidecar.authority), &login()).await.unwrap_err();
    assert!(matches!(error, DialError::Tls(_)), "{error:?}");
    assert_eq!(task.await.unwrap(), settings(FLAGS | SSL));
}

#[tokio::test]
async fn native_and_fast_logins_say_a_scramble() {
    for (plugin, length) in [(NATIVE, 20), (SHA2, 32)] {
        let (result, (at_once, switched)) = dial(
            |endpoint| Endpoint { credential: password(), ..endpoint },
            &login(),
            move |mut upstream| async move {
                let response = upstream.greet(u32::MAX, plugin).await;
                let auth = 32 + b"alice\0".len();
                let at_once = response[auth] as usize;
                let switched = upstream.switches(plugin, &[SCRAMBLE, &[0]].concat()).await;
                // The same scramble, so the same answer.
                assert_eq!(response[auth + 1..][..at_once], switched[..]);
                if plugin == SHA2 {
                    upstream.says(b"\x01\x03").await;
                }
                upstream.says(OK).await;
                (at_once, switched.len())
            },
        )
        .await;
        result.unwrap();
        assert_eq!((at_once, switched), (length, length));
    }
}

#[tokio::test]
async fn a_full_login_says_the_password_through_tls() {
    let sidecar = MysqlSidecar::start().await;
    let acceptor = TlsAcceptor::from(sidecar.authority.server_config());
    let (endpoint, task) = scripted(move |mut socket| async move {
        send(&mut socket, 0, &greeting(u32::MAX, SHA2)).await;
        assert_eq!(read_packet(&mut socket).await.unwrap().1.len(), 32);
        let mut stream = acceptor.accept(socket).await.unwrap();
        assert_eq!(read_packet(&mut stream).await.unwrap().0, 2);
        send(&mut stream, 3, b"\x01\x04").await;
        let (sequence, said) = read_packet(&mut stream).await.unwrap();
        send(&mut stream, sequence + 1, OK).await;
        said
    })
    .await;
    let endpoint = Endpoint { credential: password(), ..with_tls(endpoint, &sidecar.authority) };
    sidecar.dial(&endpoint, &login()).await.unwrap();
    assert_eq!(task.await.unwrap(), b"secret\0");
}

#[tokio::test]
async fn a_full_login_without_tls_says_nothing_unless_an_unknown_key_is_good_enough() {
    let error = fails(password(), |mut upstream| async move {
        upstream.greet(u32::MAX, SHA2).await;
        upstream.says(b"\x01\x04").await;
        assert!(upstream.ends().await.is_empty());
    });
    let error = error.await;
    assert!(matches!(error, DialError::AuthenticationRefused { method: "caching_sha2_password", .. }));

    let credential = Credential::PasswordEvenByUnknownKey(Secret::new(b"secret".to_vec()));
    let (result, said) = dial(
        |endpoint| Endpoint { credential, ..endpoint },
        &login(),
        |mut upstream| async move {
            upstream.greet(u32::MAX, SHA2).await;
            upstream.says(b"\x01\x04").await;
            assert_eq!(upstream.hears().await, b"\x02");
            upstream.says(&[b"\x01", RSA_KEY.as_bytes()].concat()).await;
            let said = upstream.hears().await;
            upstream.says(OK).await;
            said
        },
    )
    .await;
    result.unwrap();
    assert_eq!(said.len(), 256);
}

#[tokio::test]
async fn a_key_that_is_none_encrypts_nothing() {
    let credential = Credential::PasswordEvenByUnknownKey(Secret::new(b"secret".to_vec()));
    let error = fails(credential, |mut upstream| async move {
        upstream.greet(u32::MAX, SHA2).await;
        upstream.says(b"\x01\x04").await;
        upstream.hears().await;
        upstream.says(b"\x01-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n").await;
        assert!(upstream.ends().await.is_empty());
    });
    assert!(matches!(error.await, DialError::Protocol(_)));
}

#[tokio::test]
async fn mariadb_may_try_one_plugin_after_the_other_but_not_for_ever() {
    let (result, lengths) = dial(
        |endpoint| Endpoint { credential: password(), ..endpoint },
        &login(),
        |mut upstream| async move {
            upstream.greet(u32::MAX, NATIVE).await;
            let signed = upstream.switches("client_ed25519", &[b'n'; 32]).await.len();
            let hashed = upstream.switches(NATIVE, SCRAMBLE).await.len();
            upstream.says(OK).await;
            (signed, hashed)
        },
    )
    .await;
    result.unwrap();
    assert_eq!(lengths, (64, 20));
    let error = fails(password(), |mut upstream| async move {
        upstream.greet(u32::MAX, NATIVE).await;
        for _ in 0..9 {
            upstream.switches(NATIVE, SCRAMBLE).await;
        }
        upstream.says(&[&b"\xfemysql_native_password\0"[..], SCRAMBLE].concat()).await;
        let _ = upstream.ends().await;
    });
    assert!(matches!(error.await, DialError::Protocol("it asks for one authentication after the other")));
}

#[tokio::test]
async fn a_password_is_not_said_in_clear_nor_by_what_is_worth_nothing() {
    for plugin in ["mysql_clear_password", "sha256_password"] {
        let error = fails(password(), move |mut upstream| async move {
            upstream.greet(u32::MAX, NATIVE).await;
            upstream.says(&[&b"\xfe"[..], plugin.as_bytes(), b"\0"].concat()).await;
            assert!(upstream.ends().await.is_empty());
        })
        .await;
        assert!(matches!(error, DialError::AuthenticationRefused { .. }), "{error:?}");
    }
    for (asks, is_expected) in [
        (
            &b"\xfe"[..],
            (|error| matches!(error, DialError::AuthenticationRefused { .. })) as fn(&DialError) -> bool,
        ),
        (b"\x02plugin\0", |error| matches!(error, DialError::AuthenticationRefused { .. })),
        (
            b"\xfedialog\0\x04Password: ",
            |error| matches!(error, DialError::UnknownMethod { method } if method == "dialog"),
        ),
        (b"\xfedialog", |error| matches!(error, DialError::Protocol(_))),
        (b"\xfemysql_native_password\0short", |error| matches!(error, DialError::Protocol(_))),
        (b"\x01\x03", |error| matches!(error, DialError::Protocol(_))),
        (b"\xfb/etc/passwd", |error| matches!(error, DialError::Protocol(_))),
        (b"", |error| matches!(error, DialError::Protocol(_))),
    ] {
        let error = fails(password(), move |mut upstream| async move {
            upstream.greet(u32::MAX, NATIVE).await;
            upstream.says(asks).await;
            assert!(upstream.ends().await.is_empty());
        })
        .await;
        assert!(is_expected(&error), "{}: {error:?}", asks.escape_ascii());
    }
}

#[tokio::test]
async fn a_password_that_is_asked_for_and_not_configured_is_named() {
    for (plugin, data) in [("client_ed25519", &[1; 32][..]), ("mysql_clear_password", b"")] {
        let error = fails(Credential::None, move |mut upstream| async move {
            upstream.greet(u32::MAX, NATIVE).await;
            upstream.says(&[&b"\xfe"[..], plugin.as_bytes(), b"\0", data].concat()).await;
            let _ = upstream.ends().await;
        })
        .await;
        assert!(matches!(error, DialError::NoCredential { method } if method == plugin), "{error:?}");
    }
}

#[tokio::test]
async fn the_upstreams_own_error_is_kept_for_the_log_and_shown_where_it_tells_nothing() {
    let says = |payload: &'static [u8]| {
        fails(Credential::None, move |mut upstream| async move {
            upstream.greet(u32::MAX, NATIVE).await;
            upstream.says(payload).await;
        })
    };
    let error = says(b"\xff\x19\x04#42000Unknown database 'prod'").await;
    assert_eq!(error.to_string(), "the upstream refused the login: 1049 42000 Unknown database 'prod'");
    assert_eq!(error.disclosable().unwrap().number, Some(1049));
    let error =
        says(b"\xff\x15\x04#28000Access denied for user 'alice'@'10.0.0.7' (using password: YES)").await;
    assert!(error.disclosable().is_none(), "how we authenticate is nobody's business");
    assert!(matches!(says(b"\xff\x15").await, DialError::Protocol(_)));
}

#[tokio::test]
async fn an_error_in_place_of_the_greeting_is_repeated_only_where_it_was_proved() {
    let sidecar = MysqlSidecar::start().await;
    let unproven = |payload: &'static [u8], tls: bool| {
        let authority = &sidecar.authority;
        let mysql = &sidecar.mysql;
        async move {
            let (endpoint, _task) =
                scripted(move |mut socket| async move { send(&mut socket, 0, payload).await }).await;
            let endpoint = if tls { with_tls(endpoint, authority) } else { endpoint };
            mysql.dial(&endpoint, &login()).await.unwrap_err()
        }
    };
    for (tls, text) in [(false, "too many, ask at http://evil"), (true, "Too many connections")] {
        let error = unproven(b"\xff\x10\x04too many, ask at http://evil", tls).await;
        assert_eq!(error.disclosable().unwrap().message, text);
    }
    assert!(unproven(b"\xff\x19\x04#42000ask at http://evil", true).await.disclosable().is_none());
}

#[tokio::test]
async fn session_settings_are_in_force_before_the_client_hears_ok() {
    let set = |endpoint| Endpoint {
        settings: vec![
            Setting { name: "sql_mode".into(), value: "ANSI".into() },
            Setting { name: "lock_wait_timeout".into(), value: "5".into() },
        ],
        ..endpoint
    };
    let (result, query) = dial(set, &login(), |mut upstream| async move {
        upstream.greet(u32::MAX, NATIVE).await;
        upstream.says(OK).await;
        upstream.sequence = 0;
        let query = upstream.hears().await;
        upstream.says(OK).await;
        query
    })
    .await;
    result.unwrap();
    assert_eq!(query, b"\x03SET SESSION `sql_mode` = 'ANSI', SESSION `lock_wait_timeout` = 5");

    let (result, ()) = dial(set, &login(), |mut upstream| async move {
        upstream.greet(u32::MAX, NATIVE).await;
        upstream.says(OK).await;
        upstream.sequence = 0;
        upstream.hears().await;
        upstream.says(b"\xff\xa9\x04#HY000Unknown system variable 'sql_mode'").await;
    })
    .await;
    assert!(matches!(result, Err(DialError::SettingsRejected(_))), "{result:?}");
}

#[tokio::test]
async fn what_is_no_mysql_is_not_logged_in_to() {
    let flags = |flags: u32| packet(0, &greeting(flags, SHA2));
    for said in [
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        packet(0, b"\x09very old\0"),
        packet(0, b""),
        packet(1, &greeting(u32::MAX, SHA2)),
        flags(u32::MAX ^ Capabilities::PLUGIN_AUTH.flags()),
        flags(u32::MAX ^ Capabilities::PROTOCOL_41.flags()),
        b"\xff\xff\xff\0".to_vec(),
        packet(0, &[0x0A; 300_000]),
    ] {
        let error = fails(password(), move |mut upstream| async move {
            use tokio::io::AsyncWriteExt;
            let _ = upstream.socket.write_all(&said).await;
            assert!(upstream.ends().await.is_empty());
        })
        .await;
        assert!(matches!(error, DialError::Protocol(_)), "{error:?}");
    }
}

#[tokio::test]
async fn an_upstream_that_goes_away_is_a_connect_error_wherever_it_stops() {
    let whole = [packet(0, &greeting(u32::MAX, NATIVE)), packet(2, OK)].concat();
    for end in 0..whole.len() {
        let part = whole[..end].to_vec();
        let error = fails(Credential::None, |mut upstream| async move {
            use tokio::io::AsyncWriteExt;
            upstream.socket.write_all(&part).await.unwrap();
            upstream.socket.shutdown().await.unwrap();
            let _ = upstream.ends().await;
        })
        .await;
        assert!(matches!(error, DialError::Connect(_)), "{end}: {error:?}");
    }
}

#[tokio::test]
async fn a_silent_upstream_meets_the_deadline() {
    let dial = Duration::from_millis(200);
    let sidecar = MysqlSidecar::start().await;
    let greeting = sidecar.mysql.greeting().clone();
    let mysql = Mysql::new(sidecar.authority.server_config(), greeting, Limits { dial, ..limits() });
    for greets in [false, true] {
        let (endpoint, _task) = scripted(move |mut socket| async move {
            if greets {
                send(&mut socket, 0, &crate::support::mysql::greeting(u32::MAX, NATIVE)).await;
            }
            std::future::pending::<()>().await;
            drop(socket);
        })
        .await;
        let error = mysql.dial(&endpoint, &login()).await.unwrap_err();
        assert!(matches!(error, DialError::Deadline(limit) if limit == dial), "{error:?}");
    }
}

#[tokio::test]
async fn a_probe_learns_what_the_upstream_is_and_lets_itself_be_turned_away() {
    let sidecar = MysqlSidecar::unaware().await;
    let (endpoint, task) = scripted(|socket| async move {
        let mut upstream = Upstream { socket, sequence: 0 };
        let said = upstream.greet(mysql_facts().capabilities.flags(), SHA2).await;
        assert!(upstream.switches(SHA2, SCRAMBLE).await.is_empty());
        upstream.says(b"\xff\x15\x04#28000Access denied").await;
        assert!(upstream.ends().await.is_empty());
        said
    })
    .await;
    let facts = sidecar.mysql.probe(&endpoint).await.unwrap();
    assert_eq!(*facts, mysql_facts());
    assert_eq!(sidecar.mysql.greeting().facts(), Some(facts));
    let said = task.await.unwrap();
    assert!(said[32..].starts_with(b"touchstone-probe\0\0"), "{}", said.escape_ascii());
}

#[tokio::test]
async fn a_probe_that_fails_forgets_nothing() {
    let sidecar = MysqlSidecar::start().await;
    let (endpoint, _task) =
        scripted(|mut socket| async move { send(&mut socket, 0, b"\x09old\0").await }).await;
    assert!(matches!(sidecar.mysql.probe(&endpoint).await, Err(DialError::Protocol(_))));
    assert_eq!(sidecar.mysql.greeting().facts().as_deref(), Some(&mysql_facts()));
}
