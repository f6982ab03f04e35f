//! What roles say about a session holds: settings, idle time, the number of connections.

use anyhow::{Context, Result, ensure};
use e2e::{ACCESS_PROD, Psql, poll, run};
use tokio::time::timeout;
use tokio_postgres::error::SqlState;

use crate::{
    scene::{Scene, connect, development},
    stage::PATIENCE,
};

/// As docs/postgresql.md has it.
const SETTINGS: [&str; 3] =
    ["db_session_settings:", "  statement_timeout: 30s", "  default_transaction_read_only: on"];

const IN_FORCE: &str =
    "SELECT current_setting('statement_timeout') || ' ' || current_setting('default_transaction_read_only')";

#[test]
fn session_settings_are_in_force_in_the_first_statement_and_pgoptions_cannot_beat_them() -> Result<()> {
    let scene = Scene::new(&[development(&SETTINGS)])?;
    let psql = scene.psql()?;
    assert_eq!(psql.query(IN_FORCE)?.output()?, "30s on\n");
    let error = psql.query("INSERT INTO orders VALUES (4, 'ladder')")?.error()?;
    ensure!(error.contains("cannot execute INSERT in a read-only transaction"), "{error}");

    let mut cunning = psql.query_command(IN_FORCE)?;
    cunning.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]);
    cunning.env("PGOPTIONS", "-c statement_timeout=0 -c default_transaction_read_only=off -c work_mem=5MB");
    cunning.args(["--command", "SHOW work_mem"]);
    // The rest of PGOPTIONS is the client's to say.
    assert_eq!(run(cunning, "", PATIENCE)?.output()?, "30s on\n5MB\n");

    let start = scene.world.tctl.wait_for_audit("db.session.start", |event| {
        event["db_service"] == "late-pg" && event["db_session_settings"]["statement_timeout"] == "30s"
    })?;
    assert_eq!(start["db_session_settings"]["default_transaction_read_only"], "on");
    Ok(())
}

#[test]
fn a_session_setting_that_the_client_changes_is_in_the_audit_trail_and_reset_all_brings_it_back() -> Result<()>
{
    let scene = Scene::new(&[development(&SETTINGS)])?;
    let psql = scene.psql()?;
    let set = "SET statement_timeout = '77s'";
    let mut command = psql.query_command(set)?;
    command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]);
    command.args(["--command", "SHOW statement_timeout", "--command", "RESET ALL", "--command", IN_FORCE]);
    assert_eq!(run(command, "", PATIENCE)?.output()?, "77s\n30s on\n");
    scene.world.tctl.wait_for_audit("db.session.query", |event| event["db_query"] == set)?;
    Ok(())
}

#[test]
fn roles_that_differ_about_a_setting_let_nobody_in_until_that_is_resolved() -> Result<()> {
    let mfa = "    require_session_mfa: true\n";
    let settings = "    db_session_settings:\n      statement_timeout: 60s\n";
    let other = ACCESS_PROD.replace(mfa, &format!("{mfa}{settings}"));
    let scene = Scene::new(&[development(&SETTINGS), other])?;
    let psql = scene.psql()?;
    let error = psql.query("SELECT 1")?.error()?;
    ensure!(error.contains("FATAL:  the session settings of your roles cannot be applied"), "{error}");
    // Which ones is for the auditor.
    ensure!(!error.contains("statement_timeout") && !error.contains("access-prod"), "{error}");
    let denied = scene.world.tctl.wait_for_audit("db.session.start", |event| event["success"] == false)?;
    assert_eq!((&denied["code"], &denied["reason"]), (&"TDB00W".into(), &"setting_conflict".into()));
    let detail = denied["detail"].as_str().context("detail")?;
    for part in ["statement_timeout", "access-dev", "access-prod"] {
        ensure!(detail.contains(part), "{part} is not in {detail}");
    }

    scene.world.tctl.create(ACCESS_PROD)?;
    let_in(&psql)
}

#[test]
fn an_idle_session_ends_with_57p05_and_a_long_statement_does_not() -> Result<()> {
    let scene = Scene::new(&[development(&["client_idle_timeout: 3s"])])?;
    let psql = scene.psql()?;
    assert_eq!(psql.query("SELECT 'slept' || pg_sleep(5)")?.output()?, "slept\n");

    let mut idle = psql.session()?;
    idle.send("\\set VERBOSITY verbose")?;
    idle.expect("=> ")?;
    scene.world.postgres.wait_for_sessions("jerry", 0, PATIENCE)?;
    idle.send("SELECT 1;")?;
    idle.expect("FATAL:  57P05: the session ended: it was idle for 3s")?;
    scene.world.tctl.wait_for_audit("db.session.end", |event| event["reason"] == "idle_timeout")?;
    Ok(())
}

#[test]
fn max_connections_bounds_one_users_sessions_and_nobody_elses() -> Result<()> {
    let scene = Scene::new(&[development(&["max_connections: 1"])])?;
    let olga = scene.world.psql_of(&scene.olga()?, &scene.sidecar)?;
    let psql = scene.psql()?;
    let mut first = psql.session()?;

    let error = psql.query("SELECT 1")?.error()?;
    ensure!(error.contains("FATAL:  max_connections limit reached"), "{error}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let error = runtime.block_on(async { timeout(PATIENCE, connect(&psql)).await })?;
    let error = error.err().context("a second session")?.downcast::<tokio_postgres::Error>()?;
    assert_eq!(error.code(), Some(&SqlState::TOO_MANY_CONNECTIONS), "{error}");
    assert_eq!(olga.query("SELECT 'Olga'")?.output()?, "Olga\n");

    let rejected = scene.world.tctl.wait_for_audit("session.rejected", |event| event["user"] == "jerry")?;
    assert_eq!((&rejected["code"], &rejected["maximum"]), (&"T1006W".into(), &1.into()), "{rejected}");
    first.send("\\q")?;
    first.succeed()?;
    let_in(&psql)
}

/// What changes what is allowed takes a moment to arrive.
fn let_in(psql: &Psql) -> Result<()> {
    poll("a session", PATIENCE, || Ok(psql.query("SELECT 1")?.success.then_some(())))
}
