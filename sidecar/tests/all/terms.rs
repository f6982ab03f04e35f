//! What the options of roles say about a session: settings, replication, idle time, the number of sessions.

use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::{
    sessions::{unix, world},
    support::{
        client::{connect, psql_connection, refused, told},
        eventually,
        sidecar::Guarded,
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn session_settings_hold_from_the_first_statement_and_changing_them_is_on_record() {
    let (mut authd, jerry, postgresql) = world().await;
    let settings =
        r#""db_session_settings":{"statement_timeout":"30s","default_transaction_read_only":"on"}"#;
    authd.dev_options(settings).await;
    let guarded = Guarded::start(&mut authd, "dev-pg", &unix(&postgresql)).await;
    let session = connect(guarded.address, "dev-pg", &jerry.login).await.unwrap();
    let timeout = "select current_setting('statement_timeout')";
    assert_eq!(session.one(timeout).await, "30s");
    let error = session.client.batch_execute("create table t ()").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::READ_ONLY_SQL_TRANSACTION));
    session.client.batch_execute("set statement_timeout = 0").await.unwrap();
    session.client.batch_execute("reset all").await.unwrap();
    assert_eq!(session.one(timeout).await, "30s");
    drop(session);
    eventually("the attempt is on record", async || {
        let queries = authd.audit("db.session.query").await;
        queries.iter().any(|query| query["db_query"] == "set statement_timeout = 0")
    })
    .await;
    let start = &authd.audit("db.session.start").await[0];
    assert_eq!(start["db_session_settings"]["statement_timeout"], "30s");

    authd.dev_options(r#""db_session_settings":{"no_such_setting":"on"}"#).await;
    eventually("a setting that cannot be applied refuses the session", async || {
        match connect(guarded.address, "dev-pg", &jerry.login).await {
            Ok(_) => false,
            Err(error) => told(&error).1.starts_with("the session settings of your roles cannot be applied"),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_session_is_told_why_it_ends_and_a_long_query_is_not_ended() {
    let (mut authd, jerry, postgresql) = world().await;
    authd.dev_options(r#""client_idle_timeout":"1s""#).await;
    let guarded = Guarded::start(&mut authd, "dev-pg", &unix(&postgresql)).await;
    let session = connect(guarded.address, "dev-pg", &jerry.login).await.unwrap();
    assert_eq!(session.one("select 'slept' from pg_sleep(2.5)").await, "slept");
    let error =
        tokio::time::timeout(Duration::from_secs(10), session.end).await.unwrap().unwrap().unwrap_err();
    let (state, message, _) = told(&error);
    assert_eq!((state.as_str(), message.as_str()), ("57P05", "the session ended: it was idle for 1s"));
    eventually("its end is on record", async || {
        authd.audit("db.session.end").await.first().is_some_and(|end| end["reason"] == "idle_timeout")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_no_more_sessions_than_max_connections() {
    let (mut authd, jerry, postgresql) = world().await;
    authd.dev_options(r#""max_connections":2"#).await;
    let guarded = Guarded::start(&mut authd, "dev-pg", &unix(&postgresql)).await;
    let first = connect(guarded.address, "dev-pg", &jerry.login).await.unwrap();
    let _second = connect(guarded.address, "dev-pg", &jerry.login).await.unwrap();
    let (state, message, _) = refused(connect(guarded.address, "dev-pg", &jerry.login).await);
    assert_eq!((state.as_str(), message.as_str()), ("53300", "max_connections limit reached"));
    drop(first);
    eventually("there is room again", async || {
        connect(guarded.address, "dev-pg", &jerry.login).await.is_ok()
    })
    .await;
    let rejected = &authd.audit("session.rejected").await[0];
    assert_eq!((&rejected["code"], &rejected["user"]), (&"T1006W".into(), &"jerry".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn replication_needs_the_role_option() {
    let (mut authd, jerry, postgresql) = world().await;
    assert!(postgresql.psql("alter role app replication").status.success());
    authd.dev_options("").await;
    let guarded = Guarded::start(&mut authd, "dev-pg", &unix(&postgresql)).await;
    let files = tempfile::tempdir().unwrap();
    let connection = psql_connection(files.path(), guarded.address, &jerry.login);
    let identify = async |mode: &str| {
        let mut psql = postgresql.program("psql");
        psql.args(["-X", "-A", "-t", &format!("{connection} replication={mode}"), "-c", "IDENTIFY_SYSTEM"]);
        let output = tokio::task::spawn_blocking(move || psql.output().unwrap()).await.unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for mode in ["database", "true"] {
        let (success, error) = identify(mode).await;
        assert!(!success);
        assert!(
            error.contains("replication connections need a role with the option db_replication"),
            "{error}"
        );
    }
    eventually("the denials are on record", async || {
        let starts = authd.audit("db.session.start").await;
        starts.iter().filter(|start| start["reason"] == "replication_not_allowed").count() == 2
    })
    .await;
    authd.dev_options(r#""db_replication":true"#).await;
    for mode in ["database", "true"] {
        eventually("replication is allowed", async || identify(mode).await.0).await;
    }
}
