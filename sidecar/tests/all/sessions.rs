//! Sessions that open, and those that do not.

use tokio_postgres::error::SqlState;

use crate::support::{
    authd::{Authd, Certificate, DB_NAME, DB_USER, Jerry},
    client::{connect, connect_as, psql_connection, refused, told},
    eventually,
    postgresql::Postgresql,
    sidecar::Guarded,
};

pub(crate) async fn world() -> (Authd, Jerry, Postgresql) {
    let mut authd = Authd::start().await;
    let jerry = Jerry::register(&mut authd).await;
    let files = authd.database_certificate(&["localhost", "127.0.0.1"]).await;
    let postgresql = tokio::task::spawn_blocking(move || Postgresql::start(&files)).await.unwrap();
    (authd, jerry, postgresql)
}

pub(crate) fn unix(postgresql: &Postgresql) -> String {
    format!("{{uri: \"{}\"}}", postgresql.unix_uri())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_touch_opens_a_session_by_client_certificate_and_the_receipt_is_on_record() {
    let (mut authd, mut jerry, postgresql) = world().await;
    let upstream = format!("{{uri: \"{}\"}}", postgresql.tcp_uri());
    let guarded = Guarded::start(&mut authd, "prod-pg", &upstream).await;

    let certificate = jerry.touch("prod-pg").await;
    let session = connect(guarded.address, "prod-pg", &certificate).await.unwrap();
    assert_eq!(session.one("select current_user::text").await, DB_USER);
    assert_eq!(session.one("select current_database()::text").await, DB_NAME);
    let by_certificate = "select client_dn from pg_stat_ssl where pid = pg_backend_pid()";
    assert_eq!(session.one(by_certificate).await, format!("/CN={DB_USER}"));
    session.client.batch_execute("select 1 as simple").await.unwrap();
    drop(session.client);
    session.end.await.unwrap().unwrap();

    eventually("the end is with authd", async || !authd.audit("db.session.end").await.is_empty()).await;
    let starts = authd.audit("db.session.start").await;
    let start = &starts[0];
    assert_eq!((&start["code"], &start["success"]), (&"TDB00I".into(), &true.into()));
    assert_eq!((&start["user"], &start["decided_by"]), (&"jerry".into(), &"access-prod".into()));
    assert!(start["with_mfa"].is_string() && start["receipt"].as_str().unwrap().len() > 200);
    let queries = authd.audit("db.session.query").await;
    assert!(queries.iter().any(|query| query["db_query"] == "select 1 as simple"), "{queries:?}");
    let parsed = authd.audit("db.session.postgres.statements.parse").await;
    assert!(parsed.iter().any(|event| event["db_query"] == by_certificate), "{parsed:?}");
    let end = &authd.audit("db.session.end").await[0];
    assert_eq!((&end["sid"], &end["reason"]), (&start["sid"], &"client_closed".into()));
    assert!(end["bytes_from_upstream"].as_u64().unwrap() > 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_session_waits_for_no_certificate_and_authd_may_be_away() {
    let (mut authd, mut jerry, postgresql) = world().await;
    let upstream = format!("{{uri: \"{}\"}}", postgresql.tcp_uri());
    let guarded = Guarded::start(&mut authd, "dev-pg", &upstream).await;
    let certificate = jerry.without_touch("dev-pg").await;
    connect(guarded.address, "dev-pg", &certificate).await.unwrap();
    authd.stop().await;

    let session = connect(guarded.address, "dev-pg", &certificate).await.unwrap();
    assert_eq!(session.one("select 'still open'").await, "still open");
    drop(session);

    authd.start_again().await;
    eventually("audit of the time without authd arrives", async || {
        authd.audit("db.session.end").await.len() == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_from_a_file_and_a_unix_socket_open_the_upstream_too() {
    let (mut authd, jerry, postgresql) = world().await;
    let socket = Guarded::start(&mut authd, "dev-socket", &unix(&postgresql)).await;
    let session = connect(socket.address, "dev-socket", &jerry.login).await.unwrap();
    assert_eq!(session.one("select current_user::text").await, DB_USER);

    let directory = tempfile::tempdir().unwrap();
    let password = directory.path().join("password");
    std::fs::write(&password, "secret\n").unwrap();
    let upstream = format!(
        "{{uri: \"{}\", credential: password, password_file: {}}}",
        postgresql.tcp_uri(),
        password.display()
    );
    let role = r#"{"kind":"role","version":"v6","metadata":{"name":"access-dev"},"spec":{"allow":{"db_labels":{"env":"dev"},"db_users":["scram"],"db_names":["*"]}}}"#;
    authd.put("role", "access-dev", role.to_owned()).await;
    let scram = Guarded::start(&mut authd, "dev-scram", &upstream).await;
    let session = connect_as(scram.address, "dev-scram", &jerry.login, "scram", DB_NAME).await.unwrap();
    assert_eq!(session.one("select current_user::text").await, "scram");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_in_postgresqls_words_and_say_what_to_do() {
    let (mut authd, mut jerry, postgresql) = world().await;
    let guarded = Guarded::start(&mut authd, "prod-pg", &unix(&postgresql)).await;
    let dev = Guarded::start(&mut authd, "dev-pg", &unix(&postgresql)).await;

    let stolen = refused(connect(guarded.address, "prod-pg", &jerry.login).await);
    assert_eq!(stolen.1, "access to resource requires MFA");
    let hint = format!("run: tsh db connect prod-pg --db-user={DB_USER} --db-name={DB_NAME}");
    assert_eq!(stolen.2.as_deref(), Some(hint.as_str()));

    let prod = jerry.touch("prod-pg").await;
    let elsewhere = refused(connect(dev.address, "dev-pg", &prod).await);
    assert_eq!(elsewhere.1, "the certificate is for target prod-pg, not dev-pg");

    let other_user = refused(connect_as(guarded.address, "prod-pg", &prod, "postgres", DB_NAME).await);
    assert!(other_user.1.starts_with("the certificate is for database user"), "{other_user:?}");

    let denied = refused(connect_as(dev.address, "dev-pg", &jerry.login, "postgres", DB_NAME).await);
    assert_eq!(denied.0, SqlState::INVALID_AUTHORIZATION_SPECIFICATION.code());
    assert!(denied.1.starts_with("access to db denied."), "{denied:?}");

    // The receipt is for the key that was touched for: with another key there is no handshake.
    let other_key = Certificate { key: jerry.login.key.clone_key(), ..jerry.touch("prod-pg").await };
    let mismatched = std::panic::AssertUnwindSafe(connect(guarded.address, "prod-pg", &other_key));
    assert!(futures_util::FutureExt::catch_unwind(mismatched).await.is_err());

    eventually("denials are with authd", async || {
        let starts = authd.audit("db.session.start").await;
        starts.iter().filter(|start| start["code"] == "TDB00W").count() == 4
    })
    .await;
    for start in authd.audit("db.session.start").await {
        assert_eq!((&start["success"], &start["user"]), (&false.into(), &"jerry".into()));
    }
    assert_eq!(postgresql.sessions(), 0, "nobody got as far as the database");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_exist_is_named_by_the_upstream_after_the_start_is_on_record() {
    let (mut authd, jerry, postgresql) = world().await;
    let role = r#"{"kind":"role","version":"v6","metadata":{"name":"access-dev"},"spec":{"allow":{"db_labels":{"env":"dev"},"db_users":["*"],"db_names":["*"]}}}"#;
    authd.put("role", "access-dev", role.to_owned()).await;
    let guarded = Guarded::start(&mut authd, "dev-pg", &unix(&postgresql)).await;
    let outcome = connect_as(guarded.address, "dev-pg", &jerry.login, DB_USER, "nowhere").await;
    let (state, message, _) = refused(outcome);
    assert_eq!((state.as_str(), message.as_str()), ("3D000", r#"database "nowhere" does not exist"#));
    eventually("start and end are on record", async || {
        let ends = authd.audit("db.session.end").await;
        ends.first().is_some_and(|end| end["reason"] == "upstream_rejected")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_with_the_wrong_name_or_authority_is_not_used() {
    let (mut authd, jerry, postgresql) = world().await;
    let wrong_name = format!("{{uri: \"{}\", server_name: db.example.com}}", postgresql.tcp_uri());
    let guarded = Guarded::start(&mut authd, "dev-pg", &wrong_name).await;
    let (_, message, _) = refused(connect(guarded.address, "dev-pg", &jerry.login).await);
    assert_eq!(message, "the database cannot be reached");
    for mode in ["verify-ca", "insecure"] {
        let upstream =
            format!("{{uri: \"{}\", server_name: db.example.com, tls: {mode}}}", postgresql.tcp_uri());
        let guarded = Guarded::start(&mut authd, "dev-pg", &upstream).await;
        connect(guarded.address, "dev-pg", &jerry.login).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_ends_a_live_session_within_a_second_and_says_why() {
    let (mut authd, jerry, postgresql) = world().await;
    let guarded = Guarded::start(&mut authd, "dev-pg", &unix(&postgresql)).await;
    let session = connect(guarded.address, "dev-pg", &jerry.login).await.unwrap();
    assert_eq!(session.one("select 'open'").await, "open");
    let locked = std::time::Instant::now();
    authd.lock_jerry().await;
    let error = session.end.await.unwrap().unwrap_err();
    assert!(locked.elapsed() < std::time::Duration::from_secs(1), "{:?}", locked.elapsed());
    let (_, message, _) = told(&error);
    assert_eq!(
        message,
        r#"the session ended: lock targeting User:"jerry" is in force: Suspicious activity."#
    );
    let (_, message, _) = refused(connect(guarded.address, "dev-pg", &jerry.login).await);
    assert_eq!(message, r#"lock targeting User:"jerry" is in force: Suspicious activity."#);
    eventually("the upstream session is gone", async || postgresql.sessions() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_alone_with_a_certificate_in_files_gets_in_and_verifies_the_sidecar() {
    let (mut authd, jerry, postgresql) = world().await;
    let guarded = Guarded::start(&mut authd, "dev-pg", &unix(&postgresql)).await;
    let files = tempfile::tempdir().unwrap();
    let connection = psql_connection(files.path(), guarded.address, &jerry.login);
    let mut psql = postgresql.program("psql");
    psql.args(["-X", "-A", "-t", &connection, "-c", "select current_user || ' by psql'"]);
    let output = tokio::task::spawn_blocking(move || psql.output().unwrap()).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{DB_USER} by psql\n"), "{output:?}");

    let mut denied = postgresql.program("psql");
    denied.args(["-X", &connection.replace(&format!("user={DB_USER}"), "user=postgres"), "-c", "select 1"]);
    let output = tokio::task::spawn_blocking(move || denied.output().unwrap()).await.unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("access to db denied. User does not have permissions."), "{error}");
}
