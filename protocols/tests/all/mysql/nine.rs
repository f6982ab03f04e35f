//! A real MySQL 9, which is in no Debian release yet: `make suites` brings one and runs these.

use std::sync::Arc;

use protocols::mysql::Capabilities;
use protocols::{Credential, DialError, Endpoint, Login, Secret};
use rustls::ClientConfig;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::watch;

use crate::support::mysql::{FLAGS, MysqlSidecar, RawMysql, read_packet, settings};
use crate::support::mysql9::{Mysql9, program};
use crate::support::{Memory, login};

use super::session::serve;

fn as_user(user: &str) -> Login {
    Login { user: user.into(), ..login() }
}

fn with(endpoint: Endpoint, credential: Credential) -> Endpoint {
    Endpoint { credential, ..endpoint }
}

fn secret(password: &str) -> Secret {
    Secret::new(password.as_bytes().to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a MySQL 9: make suites"]
async fn every_way_in_that_mysql_9_has_is_taken() {
    let sidecar = MysqlSidecar::unaware().await;
    let upstream = Mysql9::start(&sidecar.authority);
    let authority = &sidecar.authority;
    let facts = sidecar.mysql.probe(&upstream.tcp()).await.unwrap();
    assert!(facts.version.starts_with("9.") && !facts.is_mariadb(), "{facts:?}");
    assert!(facts.capabilities.contains(Capabilities::QUERY_ATTRIBUTES | Capabilities::DEPRECATE_EOF));

    capture(&upstream).await;

    // By certificate; and by nothing, on the socket.
    for endpoint in [upstream.tls(authority), upstream.unix()] {
        sidecar.dial(&endpoint, &as_user("alice")).await.unwrap();
    }
    let error = sidecar.dial(&upstream.password(authority, ""), &as_user("alice")).await.unwrap_err();
    assert!(matches!(&error, DialError::Rejected(report) if report.number == Some(1045)), "{error:?}");

    // caching_sha2_password: in full through TLS, then fast.
    for user in ["tls", "plain"] {
        upstream.forget();
        for _ in 0..2 {
            sidecar.dial(&upstream.password(authority, "secret"), &as_user(user)).await.unwrap();
        }
        let error = sidecar.dial(&upstream.password(authority, "wrong"), &as_user(user)).await.unwrap_err();
        assert!(matches!(&error, DialError::Rejected(report) if report.number == Some(1045)), "{error:?}");
    }
    // Without TLS: fast, because the password was right before; in full by RSA, where that is allowed by name.
    let plain = |credential| with(upstream.tcp(), credential);
    sidecar.dial(&plain(Credential::Password(secret("secret"))), &as_user("plain")).await.unwrap();
    upstream.forget();
    let error = sidecar.dial(&plain(Credential::Password(secret("secret"))), &as_user("plain")).await;
    assert!(!matches!(error, Ok(_) | Err(DialError::Rejected(_))), "{error:?}");
    let by_rsa = plain(Credential::PasswordEvenByUnknownKey(secret("secret")));
    sidecar.dial(&by_rsa, &as_user("plain")).await.unwrap();
    upstream.forget();
    let wrong = plain(Credential::PasswordEvenByUnknownKey(secret("wrong")));
    let error = sidecar.dial(&wrong, &as_user("plain")).await.unwrap_err();
    assert!(matches!(&error, DialError::Rejected(report) if report.number == Some(1045)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a MySQL 9: make suites"]
async fn mysql_9s_own_programs_see_no_difference() {
    let sidecar = MysqlSidecar::unaware().await;
    let upstream = Mysql9::start(&sidecar.authority);
    sidecar.mysql.probe(&upstream.unix()).await.unwrap();
    let files = TempDir::new().unwrap();
    let file = |name: &str| files.path().join(name).display().to_string();
    sidecar.authority.leaf("alice").write(files.path(), "alice");
    std::fs::write(files.path().join("ca.crt"), sidecar.authority.pem()).unwrap();
    let lines: String = (0..20_000).map(|number| format!("{number}\tline {number}\n")).collect();
    std::fs::write(files.path().join("lines.tsv"), lines).unwrap();
    let (port, tap) = (sidecar.port(), Memory::default());
    let (_end, ended) = watch::channel(false);
    let endpoint = Endpoint { local_infile_allowed: true, ..upstream.tls(&sidecar.authority) };
    let serving = tokio::spawn(serve(sidecar, endpoint, tap.clone(), ended));

    let script = format!(
        "select version(), 'zw\u{f6}lf', null, x'00ff';\nselect nonsense;\nselect 1; select 2;\n\
         drop table if exists t; create table t (i int primary key, t text);\n\
         load data local infile '{}' into table t;\nselect count(*), sum(i) from t;\n\
         select length(repeat('x', 20000000));\nselect repeat('y', 300000);\nselect 1 / 0;\nshow warnings;\n\
         prepare s from 'select ? + 1'; set @a = 41; execute s using @a;\nquery_attributes a b\nselect 3;\n\
         kill query 4294967290;\nuse nowhere\nselect 'still here';\n",
        file("lines.tsv")
    );
    std::fs::write(files.path().join("script.sql"), script).unwrap();
    let run = |mut command: Command| {
        let script = std::fs::File::open(files.path().join("script.sql")).unwrap();
        command
            .args(["--force", "--local-infile=1", "--default-character-set=utf8mb4", "prod"])
            .stdin(script);
        async move {
            let output = command.output().await.unwrap();
            [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
        }
    };
    let expected = run(upstream.client("alice").into()).await;
    assert!(expected.contains("20000\t199990000") && expected.contains("still here"), "{expected:.2000}");
    let there = |path: &str| {
        let mut command = program(path);
        command
            .args(["--host=127.0.0.1", "--user=alice", "--ssl-mode=VERIFY_CA"])
            .arg(format!("--port={port}"));
        command.arg(format!("--ssl-ca={}", file("ca.crt")));
        command
            .args([format!("--ssl-cert={}", file("alice.crt")), format!("--ssl-key={}", file("alice.key"))]);
        command
    };
    for compression in ["uncompressed", "zlib", "zstd"] {
        let mut client = there("usr/bin/mysql");
        client.args(["--batch", "--skip-column-names", &format!("--compression-algorithms={compression}")]);
        let got = run(client.into()).await;
        assert!(
            got == expected,
            "{compression}:\n{got:.3000}\ninstead of\n{expected:.3000}\n{:?}",
            tap.seen().last()
        );
    }
    // Whatever password is typed.
    let mut client = there("usr/bin/mysql");
    client.args(["--batch", "--skip-column-names", "--password=whatever", "-e", "select 'in'"]);
    assert_eq!(String::from_utf8(client.output().unwrap().stdout).unwrap(), "in\n");

    let mut dump = there("usr/bin/mysqldump");
    let dumped = dump
        .args(["--no-tablespaces", "--skip-dump-date", "--compression-algorithms=zstd", "prod"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&dumped.stdout);
    assert!(dumped.status.success() && text.contains("(19999,'line 19999')"), "{dumped:?}");
    serving.abort();
}

/// A client of our own, logged in as alice through the sidecar, with attributes in front of queries.
async fn with_attributes(port: u16, config: Arc<ClientConfig>) -> RawMysql {
    let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut client = RawMysql::connect(socket, config).await.unwrap();
    let flags = FLAGS | Capabilities::QUERY_ATTRIBUTES.flags();
    client.send(2, &[&settings(flags)[..], b"alice\0\0prod\0caching_sha2_password\0"].concat()).await;
    loop {
        match client.read().await.1.as_slice() {
            [0, ..] => return client,
            [0xFE | 0x01, ..] => {}
            other => panic!("{}", other.escape_ascii()),
        }
    }
}

/// The record says what was run: of each type that an attribute can be of, the text is found where MySQL finds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a MySQL 9: make suites"]
async fn mysql_9_runs_the_text_that_is_on_record() {
    let sidecar = MysqlSidecar::unaware().await;
    let upstream = Mysql9::start(&sidecar.authority);
    sidecar.mysql.probe(&upstream.unix()).await.unwrap();
    let (port, tap) = (sidecar.port(), Memory::default());
    let config = sidecar.authority.client_config(&[]);
    let (_end, ended) = watch::channel(false);
    let serving = tokio::spawn(serve(sidecar, upstream.unix(), tap.clone(), ended));

    let (mut client, mut accepted) = (with_attributes(port, config.clone()).await, Vec::new());
    for kind in 0..=u8::MAX {
        for flags in [0, 0x80, 0x01] {
            // To whatever takes one byte, two, four, five or eight, the text begins with another letter.
            let attribute = [3, 1, 1, 0, 1, kind, flags, 0, 4];
            client.send(0, &[&attribute[..], b"abcdefghij"].concat()).await;
            let answer = read_packet(&mut client.stream).await;
            let last = tap.seen().last().cloned().unwrap_or_default();
            // Refused: the session is over, by an error or without a word, and nothing reached MySQL.
            if !last.ends_with("ij +0") || answer.is_err() {
                client = with_attributes(port, config.clone()).await;
                continue;
            }
            let (_, answer) = answer.unwrap();
            assert_eq!(answer.first(), Some(&0xFF), "{kind:#x} {flags:#x}: not SQL");
            let run = upstream.administer(
                "select sql_text from performance_schema.events_statements_history h \
                 join performance_schema.threads t using (thread_id) where t.processlist_user = 'alice' \
                 and h.event_name like 'statement/%' order by h.timer_start desc limit 1",
            );
            let run = String::from_utf8(run.stdout).unwrap();
            assert_eq!(last, format!("Q {} +0", run.trim_end()), "{kind:#x} {flags:#x}");
            accepted.push((kind, flags));
            tap.forget();
        }
    }
    for kind in [0x01, 0x02, 0x03, 0x04, 0x05, 0x08, 0x0A, 0x0C, 0xFD, 0xFE] {
        assert!(
            accepted.contains(&(kind, 0)) && accepted.contains(&(kind, 0x80)),
            "{kind:#x}: {accepted:x?}"
        );
    }
    assert!(accepted.iter().all(|(_, flags)| *flags != 1), "{accepted:x?}");

    // The number of values is there, with the flag that says so and without.
    client.send(0, b"\x16select ? + 1").await;
    let (_, prepared) = client.read().await;
    let number = prepared.get(1..5).unwrap();
    // A parameter, a column, and the end of either.
    for _ in 0..4 {
        client.read().await;
    }
    for flags in [0, 0x08] {
        let execute = [&[0x17][..], number, &[flags, 1, 0, 0, 0, 1, 0, 1, 8, 0, 0, 41], &[0; 7]].concat();
        client.send(0, &execute).await;
        let mut answer = Vec::new();
        for _ in 0..5 {
            answer.push(client.read().await.1);
        }
        assert_eq!(answer[3].get(2), Some(&42), "{answer:x?}");
        assert_eq!(tap.seen().last().unwrap(), "E 41", "{flags}");
    }
    serving.abort();
}

/// Writes what this version says first to `$TOUCHSTONE_VECTORS`, to be kept beside the tests of greetings.
async fn capture(upstream: &Mysql9) {
    let Some(folder) = std::env::var_os("TOUCHSTONE_VECTORS") else { return };
    let protocols::UpstreamAddress::Tcp { host, port } = upstream.tcp().address else { panic!("no port") };
    let mut socket = TcpStream::connect((host.as_str(), port)).await.unwrap();
    let (_, greeting) = read_packet(&mut socket).await.unwrap();
    let version: Vec<u8> = greeting.iter().copied().skip(1).take_while(|byte| *byte != 0).collect();
    let name = format!("mysql-{}.bin", String::from_utf8(version).unwrap());
    std::fs::write(std::path::Path::new(&folder).join(name), &greeting).unwrap();
}
