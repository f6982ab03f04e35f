//! What happens to sessions that are open, and to those that begin while something is broken.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::{ACCESS_DEV, Terminal, World};
use nix::sys::signal::Signal;
use serde_json::Value;

/// psql at Jerry's terminal, logged in to development.
fn session(world: &World) -> Result<Terminal> {
    let mut psql = world.jerry.at_terminal(&["db", "connect", "dev-pg"])?;
    psql.expect("app=> ")?;
    Ok(psql)
}

#[test]
fn a_lock_ends_a_live_session_within_a_second() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let mut psql = session(&world)?;
    psql.send("SELECT pg_sleep(60);")?;
    world.postgres.wait_until_running("pg_sleep(60)")?;

    let said = world.tctl.ok(&["lock", "--user=jerry", "--message=Suspicious activity.", "--ttl=1h"])?;
    let locked = Instant::now();
    ensure!(said.starts_with("Created a lock with name \""), "{said}");
    psql.expect("Suspicious activity.")?;
    let took = locked.elapsed();
    ensure!(took < Duration::from_secs(1), "it took {took:?}");

    let error = world.jerry.at_terminal(&["db", "connect", "dev-pg"])?.fail()?;
    ensure!(error.contains("Suspicious activity."), "{error}");
    Ok(())
}

#[test]
fn a_policy_change_ends_the_sessions_that_it_forbids_within_a_second() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let mut psql = session(&world)?;
    psql.send("SELECT pg_sleep(60);")?;
    world.postgres.wait_until_running("pg_sleep(60)")?;

    world.tctl.create(&ACCESS_DEV.replace("env: dev", "env: other"))?;
    let changed = Instant::now();
    world.postgres.wait_for_sessions("jerry", 0, Duration::from_secs(1))?;
    let took = changed.elapsed();
    psql.expect_any(&["terminating", "access to db denied", "FATAL"])?;
    ensure!(took < Duration::from_secs(1), "it took {took:?}");
    Ok(())
}

#[test]
fn a_change_that_forbids_nothing_leaves_sessions_alone() -> Result<()> {
    let world = World::jerry_and_olga()?;
    let mut psql = session(&world)?;
    world.tctl.create(&ACCESS_DEV.replace("      - app", "      - app\n      - reports"))?;
    psql.send("SELECT 'still ' || 'here';")?;
    psql.expect("still here")?;
    Ok(())
}

#[test]
fn while_authd_is_away_new_sessions_go_on_from_the_replica() -> Result<()> {
    let mut world = World::jerry_and_olga()?;
    let psql = world.psql_with_login(&world.dev)?;
    psql.query("SELECT 1")?.output()?;
    world.authd.stop()?;
    assert_eq!(psql.query("SELECT 'without authd'")?.output()?, "without authd\n");
    // Deciding needs nobody, refusing neither.
    let stolen = world.psql_with_login(&world.prod)?;
    ensure!(stolen.query("SELECT 1")?.error()?.contains("access to resource requires MFA"));

    world.authd.resume()?;
    let sql = "SELECT 'without authd'";
    world.tctl.wait_for_audit("db.session.query", |event| event["db_query"] == sql)?;
    Ok(())
}

/// Of what sessions did, what the sidecar gathers for the next write may be lost with it, ten milliseconds at most. A start is
/// on disk before its session goes on, and everything that came before a start is written before it.
#[test]
fn kill_dash_nine_of_the_sidecar_loses_no_session_and_nothing_from_before_the_last_one_began() -> Result<()> {
    let mut world = World::jerry_and_olga()?;
    let psql = world.psql_with_login(&world.dev)?;
    psql.query("SELECT 'warm'")?.output()?;
    // Nothing can leave the sidecar, so only its own disk can remember.
    world.authd.stop()?;
    const SESSIONS: usize = 20;
    for number in 0..SESSIONS {
        psql.query(&format!("SELECT 'statement {number}'"))?.output()?;
    }
    psql.query("SELECT 'the last one'")?.output()?;
    world.dev.daemon().kill()?;

    world.authd.resume()?;
    world.dev.resume()?;
    // What the killed one left is sent first.
    psql.query("SELECT 'afterwards'")?.output()?;
    let said = |event: &Value, sql: &str| event["event"] == "db.session.query" && event["db_query"] == sql;
    world.tctl.wait_for_audit("db.session.query", |event| said(event, "SELECT 'afterwards'"))?;
    let trail = world.tctl.ok(&["audit", "ls", "--format=json", "--limit=1000"])?;
    let trail: Vec<Value> = trail.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;

    // "warm", the twenty, "the last one", "afterwards": each session once.
    let starts: Vec<&Value> = trail.iter().filter(|event| event["event"] == "db.session.start").collect();
    assert_eq!(starts.len(), SESSIONS + 3, "{starts:#?}");
    for number in 0..SESSIONS {
        let sql = format!("SELECT 'statement {number}'");
        assert_eq!(trail.iter().filter(|event| said(event, &sql)).count(), 1, "{sql} in the trail");
    }
    assert!(trail.iter().filter(|event| said(event, "SELECT 'the last one'")).count() <= 1);
    // Of each session there is a beginning without a gap: nothing is there twice, and nothing is missing in between.
    for start in starts {
        let of_session = trail.iter().filter(|event| event["sid"] == start["sid"]);
        let mut numbers: Vec<u64> = of_session.filter_map(|event| event["ei"].as_u64()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>(), "{start}");
    }
    Ok(())
}

#[test]
fn sigterm_lets_sessions_finish_and_takes_no_new_ones() -> Result<()> {
    let mut world = World::jerry_and_olga()?;
    let mut psql = session(&world)?;
    world.dev.daemon().signal(Signal::SIGTERM)?;
    world.dev.wait_until_not_ready()?;

    let late = world.psql_with_login(&world.dev)?;
    late.query("SELECT 1")?.error()?;
    psql.send("SELECT 'still ' || 'here';")?;
    psql.expect("still here")?;
    psql.expect("app=> ")?;
    psql.send("\\q")?;
    psql.succeed()?;
    let status = world.dev.daemon().wait(Duration::from_secs(10))?;
    ensure!(status.success(), "{status}");
    Ok(())
}
