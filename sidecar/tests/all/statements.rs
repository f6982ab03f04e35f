//! What a real client's statements leave in the trail.

use serde_json::{Value, json};
use tokio_postgres::error::SqlState;

use crate::{
    sessions::{unix, world},
    support::{
        authd::Authd,
        client::{cancel, connect, psql_connection},
        eventually,
        sidecar::Guarded,
    },
};

const RESULT: &str = "db.session.query.result";

/// The result of the statement that is on record as `event`.
async fn result_of(authd: &mut Authd, event: &Value) -> Value {
    let results = authd.audit(RESULT).await;
    let mut own = results
        .into_iter()
        .filter(|result| (&result["sid"], &result["statement_ei"]) == (&event["sid"], &event["ei"]));
    own.next().unwrap_or_else(|| panic!("no result of {event}"))
}

async fn find(authd: &mut Authd, name: &str, field: &str, value: &Value) -> Value {
    let events = authd.audit(name).await;
    events
        .into_iter()
        .find(|event| &event[field] == value)
        .unwrap_or_else(|| panic!("no {name} with {value}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_values_and_outcomes_of_both_protocols_are_on_record() {
    let (mut authd, jerry, postgresql) = world().await;
    let guarded = Guarded::start(&mut authd, "dev-pg", &unix(&postgresql)).await;
    let session = connect(guarded.address, "dev-pg", &jerry.login).await.unwrap();
    let client = &session.client;
    client
        .batch_execute("create temp table t (a int, b text); insert into t values (1, 'x'), (2, 'y')")
        .await
        .unwrap();
    let changed = client.execute("update t set b = $1 where a > $2", &[&"it's", &0_i32]).await.unwrap();
    assert_eq!(changed, 2);
    let absent: Option<&str> = None;
    client.execute("select $1::text", &[&absent]).await.unwrap();
    let error = client.batch_execute("select 1; select 1/0").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::DIVISION_BY_ZERO));
    let error = client.query("selec", &[]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::SYNTAX_ERROR));
    drop(session.client);
    session.end.await.unwrap().unwrap();
    eventually("the end is with authd", async || !authd.audit("db.session.end").await.is_empty()).await;

    let created = find(
        &mut authd,
        "db.session.query",
        "db_query",
        &json!("create temp table t (a int, b text); insert into t values (1, 'x'), (2, 'y')"),
    )
    .await;
    let result = result_of(&mut authd, &created).await;
    assert_eq!((&result["success"], &result["rows"]), (&json!(true), &json!(2)));
    assert_eq!(result["command_tags"], json!(["CREATE TABLE", "INSERT 0 2"]));

    // This driver sends texts as binary too.
    let bind = "db.session.postgres.statements.bind";
    let bound = find(&mut authd, bind, "parameters", &json!(["aXQncw==", "AAAAAA=="])).await;
    assert_eq!(bound["parameters_base64"], json!([0, 1]));
    find(&mut authd, bind, "parameters", &json!([null])).await;
    let execute = "db.session.postgres.statements.execute";
    let executed = find(&mut authd, execute, "ei", &json!(bound["ei"].as_u64().unwrap() + 1)).await;
    let result = result_of(&mut authd, &executed).await;
    assert_eq!((&result["rows"], &result["command_tags"]), (&json!(2), &json!(["UPDATE 2"])));

    let failed = find(&mut authd, "db.session.query", "db_query", &json!("select 1; select 1/0")).await;
    let result = result_of(&mut authd, &failed).await;
    assert_eq!((&result["code"], &result["sql_state"]), (&json!("TTS00W"), &json!("22012")));
    let syntax = find(&mut authd, RESULT, "sql_state", &json!("42601")).await;
    assert!(syntax.get("statement_ei").is_none(), "a parse of its own");
    let mut numbers = Vec::new();
    for name in ["db.session.start", "db.session.query", bind, execute, RESULT, "db.session.end"] {
        numbers.extend(authd.audit(name).await.iter().map(|event| event["ei"].as_u64().unwrap()));
    }
    for name in ["parse", "close"] {
        let events = authd.audit(&format!("db.session.postgres.statements.{name}")).await;
        numbers.extend(events.iter().map(|event| event["ei"].as_u64().unwrap()));
    }
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "no event is missing: {numbers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_of_megabytes_is_cut_on_record_with_the_hash_of_the_whole() {
    let (mut authd, jerry, postgresql) = world().await;
    let guarded = Guarded::start(&mut authd, "dev-pg", &unix(&postgresql)).await;
    let session = connect(guarded.address, "dev-pg", &jerry.login).await.unwrap();
    let text = format!("select length('{}')", "x".repeat(3_000_000));
    session.client.batch_execute(&text).await.unwrap();
    drop(session.client);
    session.end.await.unwrap().unwrap();
    eventually("the end is with authd", async || !authd.audit("db.session.end").await.is_empty()).await;
    let cut = find(&mut authd, "db.session.query", "db_query_cut", &json!(true)).await;
    let digest = find(&mut authd, "db.session.query.digest", "statement_ei", &cut["ei"]).await;
    assert_eq!(digest["db_query_bytes"], json!(text.len()));
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    assert_eq!(digest["db_query_sha256"], json!(hex::encode(hash.as_ref())));
    assert_eq!(result_of(&mut authd, &cut).await["success"], json!(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_not_recorded_where_a_target_withholds_them() {
    let (mut authd, jerry, postgresql) = world().await;
    let guarded = Guarded::start_with(&mut authd, "dev-pg", &unix(&postgresql), |config| {
        config.targets[0].parameters = ::sidecar::config::Parameters::Withheld;
    })
    .await;
    let session = connect(guarded.address, "dev-pg", &jerry.login).await.unwrap();
    session.client.query("select $1::text", &[&"a secret"]).await.unwrap();
    drop(session.client);
    session.end.await.unwrap().unwrap();
    eventually("the end is with authd", async || !authd.audit("db.session.end").await.is_empty()).await;
    let binds = authd.audit("db.session.postgres.statements.bind").await;
    assert!(binds.iter().any(|bind| bind["parameter_count"] == 1 && bind.get("parameters").is_none()));
    assert!(!format!("{binds:?}").contains("a secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_statement_is_cancelled_with_the_sessions_certificate_and_the_outcome_says_so() {
    let (mut authd, jerry, postgresql) = world().await;
    let guarded = Guarded::start(&mut authd, "dev-pg", &unix(&postgresql)).await;
    let session = connect(guarded.address, "dev-pg", &jerry.login).await.unwrap();
    let token = session.client.cancel_token();
    let running = session.client.batch_execute("select pg_sleep(60)");
    let cancelling = async {
        eventually("it runs", async || {
            let sql = "select 'runs' from pg_stat_activity where query = 'select pg_sleep(60)' and state = 'active'";
            String::from_utf8_lossy(&postgresql.psql(sql).stdout).contains("runs")
        })
        .await;
        cancel(guarded.address, "dev-pg", &jerry.login, &token).await;
    };
    let (outcome, ()) = tokio::join!(running, cancelling);
    assert_eq!(outcome.unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
    let (_, metrics) = guarded.get("/metrics").await;
    let line =
        r#"touchstone_certified_cancels_total{outcome="same_key",protocol="postgres",target="dev-pg"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
    eventually("the outcome is with authd", async || {
        authd.audit(RESULT).await.iter().any(|result| result["sql_state"] == "57014")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_sets_at_start_up_is_on_record_for_it_decides_how_its_texts_read() {
    let (mut authd, jerry, postgresql) = world().await;
    let guarded = Guarded::start(&mut authd, "dev-pg", &unix(&postgresql)).await;
    let files = tempfile::tempdir().unwrap();
    let connection = psql_connection(files.path(), guarded.address, &jerry.login);
    // In UTF-8 all of it is one text. In GBK the backslash is half of a character, and the text is over before `as`.
    let text = "select E'\u{8868}\\' as ran --'";
    let mut psql = postgresql.program("psql");
    psql.args([
        "-X",
        "-A",
        &format!("{connection} client_encoding=GBK options='-c search_path=app'"),
        "-c",
        text,
    ]);
    let output = tokio::task::spawn_blocking(move || psql.output().unwrap()).await.unwrap();
    assert!(output.stdout.starts_with(b"ran\n"), "{output:?}");
    eventually("the end is with authd", async || !authd.audit("db.session.end").await.is_empty()).await;
    find(&mut authd, "db.session.query", "db_query", &json!(text)).await;
    let start = &authd.audit("db.session.start").await[0];
    let set = start["startup_parameters"].as_array().unwrap();
    assert!(set.contains(&json!("client_encoding=GBK")), "{start}");
    assert!(set.contains(&json!("options=-c search_path=app")), "{start}");
}
