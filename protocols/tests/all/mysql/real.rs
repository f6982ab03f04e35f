//! A real MariaDB. Without one installed, these tests pass without a word to say.

use protocols::mysql::Capabilities;
use protocols::{Client, Credential, DialError, Endpoint, Login, Secret, Setting};

use crate::support::mariadb::Mariadb;
use crate::support::mysql::{MysqlSidecar, NATIVE, RawMysql, SHA2, response};
use crate::support::{Memory, login, never};

fn as_user(user: &str) -> Login {
    Login { user: user.into(), ..login() }
}

fn with_password(endpoint: Endpoint, password: &str) -> Endpoint {
    Endpoint { credential: Credential::Password(Secret::new(password.as_bytes().to_vec())), ..endpoint }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_in_that_mariadb_has_is_taken() {
    let sidecar = MysqlSidecar::unaware().await;
    let Some(upstream) = Mariadb::start(&sidecar.authority) else { return };
    let authority = &sidecar.authority;

    let facts = sidecar.mysql.probe(&upstream.tcp()).await.unwrap();
    assert!(facts.version.contains("MariaDB") && facts.is_mariadb(), "{facts:?}");
    assert!(facts.capabilities.contains(Capabilities::MARIADB_BULK | Capabilities::SSL));

    for (endpoint, user) in [
        (upstream.unix(), "alice"),
        (upstream.tls(authority), "alice"),
        (with_password(upstream.tcp(), "secret"), "native"),
        (with_password(upstream.tcp(), "secret"), "ed"),
        (upstream.password(authority, "secret"), "native"),
        (upstream.password(authority, "secret"), "ed"),
        (upstream.password(authority, "secret"), "tls"),
    ] {
        let dialled = sidecar.dial(&endpoint, &as_user(user)).await;
        dialled.unwrap_or_else(|error| panic!("{user} at {:?}: {error:?}", endpoint.address));
    }

    for (endpoint, user) in [
        (upstream.tcp(), "alice"),
        (upstream.tls(authority), "nobody"),
        (with_password(upstream.tcp(), "wrong"), "native"),
        (with_password(upstream.tcp(), "wrong"), "ed"),
        (with_password(upstream.tcp(), "secret"), "tls"),
        (upstream.tcp(), "native"),
    ] {
        let error = sidecar.dial(&endpoint, &as_user(user)).await.unwrap_err();
        let DialError::Rejected(report) = &error else { panic!("{user}: {error:?}") };
        assert_eq!(report.number, Some(1045), "{user}: {report}");
        assert!(error.disclosable().is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_not_there_is_an_error_of_login_in_mariadbs_words() {
    let sidecar = MysqlSidecar::unaware().await;
    let Some(upstream) = Mariadb::start(&sidecar.authority) else { return };
    for (database, number) in [("nowhere", 1044), ("other", 1044)] {
        let login = Login { database: Some(database.into()), ..login() };
        let error = sidecar.dial(&upstream.unix(), &login).await.unwrap_err();
        assert_eq!(error.disclosable().unwrap().number, Some(number), "{error}");
    }
    let setting = |name: &str| Setting { name: name.into(), value: "7".into() };
    for (name, takes) in [("lock_wait_timeout", true), ("no_such_setting", false), ("max_connections", false)]
    {
        let endpoint = Endpoint { settings: vec![setting(name)], ..upstream.unix() };
        match sidecar.dial(&endpoint, &login()).await {
            Ok(_) => assert!(takes, "{name}"),
            Err(DialError::SettingsRejected(_)) => assert!(!takes, "{name}"),
            Err(error) => panic!("{name}: {error:?}"),
        }
    }
}

/// After a hundred connections that broke off, MariaDB and MySQL let nobody in from an address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_does_not_count_as_a_connection_that_broke_off() {
    let sidecar = MysqlSidecar::unaware().await;
    let Some(upstream) = Mariadb::start_with(&sidecar.authority, &["--max-connect-errors=1"]) else { return };
    for endpoint in [upstream.tcp(), upstream.unix(), upstream.tls(&sidecar.authority)] {
        for _ in 0..3 {
            sidecar.mysql.probe(&endpoint).await.unwrap();
        }
    }
    let broken = upstream.administer("show global status like 'Aborted_connects_preauth'");
    let broken = String::from_utf8(broken.stdout).unwrap();
    assert_eq!(broken.trim(), "Aborted_connects_preauth\t0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_hears_mariadbs_own_ok_under_the_number_that_comes_next() {
    let sidecar = MysqlSidecar::unaware().await;
    let Some(upstream) = Mariadb::start(&sidecar.authority) else { return };
    sidecar.mysql.probe(&upstream.unix()).await.unwrap();
    for (plugin, auth) in [(SHA2, &b""[..]), (SHA2, &[7; 32]), (NATIVE, &[7; 20])] {
        let (socket, config) = (sidecar.connect().await, sidecar.authority.client_config(&[]));
        let client = tokio::spawn(async move {
            let mut client = RawMysql::connect(socket, config).await.unwrap();
            client.send(2, &response("alice", auth, "prod", plugin)).await;
            let mut next = 3;
            if plugin == NATIVE {
                assert_eq!(client.read().await.0, 3);
                client.send(4, &[9; 20]).await;
                next = 5;
            } else if !auth.is_empty() {
                assert_eq!(client.read().await, (3, vec![1, 3]));
                next = 4;
            }
            let (sequence, payload) = client.read().await;
            assert_eq!((sequence, payload[0]), (next, 0), "{}", payload.escape_ascii());
        });
        let accepted = sidecar.accept().await.unwrap().unwrap();
        let session = sidecar.dial(&upstream.unix(), &accepted.login).await.unwrap();
        let _ = accepted.client.relay(session, Memory::default(), never()).await;
        client.await.unwrap();
    }
}
