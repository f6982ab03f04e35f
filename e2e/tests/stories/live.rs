//! What happens to sessions that are open, and to those that begin while something is broken.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::{ACCESS_DEV, Terminal, World};
use nix::sys::signal::Signal;

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

#[test]
fn kill_dash_nine_of_the_sidecar_loses_no_event_of_what_was_answered() -> Result<()> {
    let mut world = World::jerry_and_olga()?;
    let psql = world.psql_with_login(&world.dev)?;
    psql.query("SELECT 'warm'")?.output()?;
    // Nothing can leave the sidecar, so only its own disk can remember.
    world.authd.stop()?;
    for number in 0..20 {
        psql.query(&format!("SELECT 'statement {number}'"))?.output()?;
    }
    world.dev.daemon().kill()?;

    world.authd.resume()?;
    world.dev.resume()?;
    for number in 0..20 {
        let query = format!("SELECT 'statement {number}'");
        world.tctl.wait_for_audit("db.session.query", |event| event["db_query"] == query.as_str())?;
        let events = world.tctl.audit("db.session.query")?;
        let times = events.iter().filter(|event| event["db_query"] == query.as_str()).count();
        assert_eq!(times, 1, "{query} in the trail");
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
