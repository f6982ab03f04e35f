//! Session settings: what holds from the first statement on, whatever the client asks for.

use protocols::{DialError, Endpoint, Login, Protocol, Setting};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::real::{House, text};
use crate::support::postgresql::Postgresql;
use crate::support::upstream::let_in;
use crate::support::{Memory, Sidecar, login, message, never, scripted};

fn settings(settings: &[(&str, &str)]) -> Vec<Setting> {
    settings.iter().map(|(name, value)| Setting { name: (*name).into(), value: (*value).into() }).collect()
}

const ENFORCED: [(&str, &str); 5] = [
    ("statement_timeout", "30s"),
    ("default_transaction_read_only", "on"),
    ("application_name", "it's \\ us"),
    ("app.user", "\u{8868}', pg_sleep(600)) -- \n"),
    ("search_path", "pg_catalog, \"a'b\""),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_cannot_start_up_around_the_settings_nor_reset_them() {
    let opened = House::open(|upstream, sidecar| {
        let endpoint = upstream.tls(&sidecar.authority);
        Endpoint { settings: settings(&ENFORCED), replication_allowed: true, ..endpoint }
    });
    let Some(house) = opened.await else { return };
    let show = "show statement_timeout; show default_transaction_read_only; show application_name; show search_path;\n\
                select current_setting('app.user') = E'\\u8868'', pg_sleep(600)) -- \\n';";
    let expected = "30s\non\nit's \\ us\npg_catalog, \"a'b\"\nt";
    let script = format!("{show}\nreset all; {show}\ndiscard all; {show}\ncreate table t ();");
    let file = house.files.path().join("script.sql");
    std::fs::write(&file, script).unwrap();
    for encoding in ["UTF8", "SJIS", "BIG5", "GBK"] {
        let mut psql = house.client("psql");
        psql.env("PGCLIENTENCODING", encoding).env("PGAPPNAME", "mine").env(
            "PGOPTIONS",
            "-c statement_timeout=0 -c STATEMENT_TIMEOUT=1s -c app.user=me -c default_transaction_read_only=off \
             -c standard_conforming_strings=off -c backslash_quote=off",
        );
        let output = psql.args(["-XAtqf"]).arg(&file).output().await.unwrap();
        assert_eq!(text(&output.stdout), [expected; 3].join("\n"), "{encoding}: {output:?}");
        assert!(text(&output.stderr).contains("read-only transaction"), "{output:?}");
    }
    // No SQL there: the start-up packet alone says it.
    let mut walsender = house.client("psql");
    walsender.env("PGOPTIONS", "-c statement_timeout=0").args(["-XAtq", "-d", "replication=true", "-c"]);
    let output = walsender.arg("SHOW statement_timeout").output().await.unwrap();
    assert_eq!(text(&output.stdout), "30s", "{output:?}");
    assert!(!house.tap.seen().iter().any(|event| event.contains("set_config")), "ours are not the client's");
}

#[tokio::test]
async fn what_the_upstream_does_not_take_ends_the_login_and_is_not_the_clients_to_read() {
    let sidecar = Sidecar::start().await;
    let Some(upstream) = Postgresql::start(&sidecar.authority) else { return };
    for (user, name, value) in [
        ("alice", "statement_timeuot", "30s"),
        ("alice", "statement_timeout", "soon"),
        ("scram", "log_statement", "none"),
        ("scram", "role", "postgres"),
        ("scram", "max_connections", "7"),
    ] {
        let endpoint = Endpoint { settings: settings(&[(name, value)]), ..upstream.unix() };
        let login = Login { user: user.into(), ..login() };
        let error = sidecar.postgres.dial(&endpoint, &login).await.unwrap_err();
        assert!(matches!(error, DialError::SettingsRejected(_)), "{name}: {error:?}");
        assert!(error.disclosable().is_none());
    }
    let endpoint = Endpoint { settings: settings(&[("user", "postgres")]), ..upstream.unix() };
    let error = sidecar.postgres.dial(&endpoint, &login()).await.unwrap_err();
    assert!(matches!(error, DialError::Setting { .. }), "{error:?}");
}

/// Reads the query that applies the settings, and answers it.
async fn answers(mut socket: TcpStream, answer: Vec<u8>) -> Vec<u8> {
    let_in(&mut socket).await;
    assert_eq!(socket.read_u8().await.unwrap(), b'Q');
    let length = socket.read_u32().await.unwrap();
    let mut query = vec![0; length as usize - 4];
    socket.read_exact(&mut query).await.unwrap();
    socket.write_all(&answer).await.unwrap();
    // Until the session is over.
    let _ = socket.read_to_end(&mut Vec::new()).await;
    query
}

#[tokio::test]
async fn what_follows_from_the_settings_replaces_what_the_client_is_told() {
    let sidecar = Sidecar::start().await;
    let answer = [
        message(b'T', b"\0\0"),
        message(b'D', b"\0\0"),
        message(b'C', b"SELECT 1\0"),
        message(b'S', b"server_version\x0016.0\0"),
        message(b'N', b"\0"),
        message(b'Z', b"I"),
    ];
    let (mut endpoint, upstream) = scripted(move |socket| answers(socket, answer.concat())).await;
    endpoint.settings = settings(&[("a.b", "c")]);
    let (mut client, session) = sidecar.session(sidecar.dial(&endpoint), Memory::default(), never()).await;
    let kinds: Vec<_> = client.until_ready().await;
    let statuses: Vec<_> = kinds.iter().filter(|(kind, _)| *kind == b'S').collect();
    assert_eq!(statuses, [&(b'S', b"server_version\x0016.0\0".to_vec())]);
    assert_eq!(kinds.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), *b"RSNKZ");
    drop(client);
    session.await.unwrap().unwrap();
    assert_eq!(upstream.await.unwrap(), b"SELECT pg_catalog.set_config(E'a.b', E'c', false)\0");
}

#[tokio::test]
async fn an_upstream_that_does_not_apply_the_settings_has_no_session() {
    let error = message(b'E', b"SERROR\0C42704\0Mno\0\0");
    for (answer, rejected) in [
        ([error.clone(), message(b'Z', b"I")].concat(), true),
        ([message(b'C', b"SELECT 1\0"), error, message(b'Z', b"I")].concat(), true),
        (message(b'Z', b"T"), false),
        (message(b'K', b"\0\0\0\x01\0\0\0\x01"), false),
        (message(b'G', b"\0\0\0"), false),
        (b"Z\0\0\0\x03".to_vec(), false),
    ] {
        let sidecar = Sidecar::start().await;
        let (mut endpoint, _upstream) = scripted(move |socket| answers(socket, answer)).await;
        endpoint.settings = settings(&[("a.b", "c")]);
        let error = sidecar.postgres.dial(&endpoint, &login()).await.unwrap_err();
        assert_eq!(matches!(error, DialError::SettingsRejected(_)), rejected, "{error:?}");
        assert!(rejected || matches!(error, DialError::Protocol(_)), "{error:?}");
    }
}
