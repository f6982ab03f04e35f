//! Replication, with PostgreSQL's own programs, where the endpoint allows it.

use protocols::{DialError, Login, Protocol, Replication};

use crate::real::{House, text};
use crate::support::postgresql::Postgresql;
use crate::support::{Sidecar, login};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_and_streams_of_changes_pass() {
    let opened = House::open(|upstream, sidecar| {
        let mut endpoint = upstream.tls(&sidecar.authority);
        endpoint.replication_allowed = true;
        endpoint
    });
    let Some(house) = opened.await else { return };
    let directory = |name: &str| house.files.path().join(name);
    let run = async |program: &str, arguments: &[&str], files: &str| {
        let output = house.client(program).args(arguments).arg(directory(files)).output().await.unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {}", text(&output.stderr));
    };

    // A base backup on one connection, and the write-ahead log both ways on another.
    run("pg_basebackup", &["-X", "stream", "-c", "fast", "-D"], "backup").await;
    assert!(directory("backup").join("PG_VERSION").exists());
    std::fs::create_dir(directory("wal")).unwrap();
    let end = house.says(
        "create table t (a int); insert into t select generate_series(1, 10000); select pg_current_wal_lsn()",
    );
    let end = end.await;
    run("pg_receivewal", &["--no-loop", "--endpos", &end, "-D"], "wal").await;
    assert!(std::fs::read_dir(directory("wal")).unwrap().next().is_some());

    run("pg_recvlogical", &["-d", "prod", "-S", "s", "--create-slot", "-P", "test_decoding", "-f"], "none")
        .await;
    let end = house.says("insert into t values (42424242); select pg_current_wal_insert_lsn()").await;
    run(
        "pg_recvlogical",
        &["-d", "prod", "-S", "s", "--start", "--no-loop", "--endpos", &end, "-f"],
        "changes",
    )
    .await;
    let changes = std::fs::read_to_string(directory("changes")).unwrap();
    assert!(changes.contains("a[integer]:42424242"), "{changes}");

    let seen = house.tap.seen();
    for command in ["BASE_BACKUP", "START_REPLICATION", "START_REPLICATION SLOT \\\"s\\\" LOGICAL"] {
        assert!(seen.iter().any(|event| event.contains(command)), "{command}: {seen:?}");
    }
    assert!(house.tap.heard().contains(&"CopyBoth".to_owned()));
    assert_eq!(house.tap.stray(), 0, "every answer has its question");
}

#[tokio::test]
async fn replication_is_not_dialled_unless_the_endpoint_allows_it() {
    let sidecar = Sidecar::start().await;
    let Some(upstream) = Postgresql::start(&sidecar.authority) else { return };
    let mut endpoint = upstream.tls(&sidecar.authority);
    for replication in [Replication::Physical, Replication::Logical] {
        let asks = Login { replication, database: None, ..login() };
        let error = sidecar.postgres.dial(&endpoint, &asks).await.unwrap_err();
        assert!(matches!(error, DialError::ReplicationNotAllowed), "{error:?}");
    }
    endpoint.replication_allowed = true;
    let asks = Login { replication: Replication::Physical, database: None, ..login() };
    sidecar.postgres.dial(&endpoint, &asks).await.unwrap();
}
