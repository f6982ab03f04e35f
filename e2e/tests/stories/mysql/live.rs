//! What happens to MySQL sessions that are open.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::{ACCESS_DEV, MariadbWorld, Terminal};
use nix::sys::signal::Signal;

/// The client at Jerry's terminal, logged in to development, where a statement runs.
fn sleeper(world: &MariadbWorld) -> Result<Terminal> {
    let mut mysql = world.jerry.at_terminal(&["db", "connect", "dev-mysql-instance"])?;
    mysql.expect("[(none)]> ")?;
    mysql.send("SELECT SLEEP(60);")?;
    world.mariadb.wait_until_running("SLEEP(60)")?;
    Ok(mysql)
}

#[test]
fn a_lock_ends_a_live_session_within_a_second() -> Result<()> {
    let world = MariadbWorld::jerry_and_olga()?;
    let mut mysql = sleeper(&world)?;
    world.tctl.ok(&["lock", "--user=jerry", "--message=Suspicious activity.", "--ttl=1h"])?;
    let locked = Instant::now();
    mysql.expect("Suspicious activity.")?;
    let took = locked.elapsed();
    ensure!(took < Duration::from_secs(1), "it took {took:?}");

    let error = world.jerry.at_terminal(&["db", "connect", "dev-mysql-instance"])?.fail()?;
    ensure!(error.contains("Suspicious activity."), "{error}");
    Ok(())
}

#[test]
fn ctrl_c_stops_the_statement_and_not_the_session() -> Result<()> {
    let world = MariadbWorld::jerry_and_olga()?;
    let mut mysql = sleeper(&world)?;
    let began = Instant::now();
    mysql.interrupt()?;
    mysql.expect("query killed")?;
    mysql.expect("[(none)]> ")?;
    ensure!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    mysql.send("SELECT CONCAT('still ', 'here');")?;
    mysql.expect("still here")?;
    Ok(())
}

#[test]
fn a_policy_change_ends_the_sessions_that_it_forbids() -> Result<()> {
    let world = MariadbWorld::jerry_and_olga()?;
    let mut mysql = sleeper(&world)?;
    world.tctl.create(&ACCESS_DEV.replace("env: dev", "env: other"))?;
    world.mariadb.wait_for_sessions("jerry", 0, Duration::from_secs(5))?;
    mysql.expect("ERROR 1053 (08S01)")?;
    Ok(())
}

#[test]
fn sigterm_lets_sessions_finish_and_takes_no_new_ones() -> Result<()> {
    let mut world = MariadbWorld::jerry_and_olga()?;
    let mut mysql = world.jerry.at_terminal(&["db", "connect", "dev-mysql-instance"])?;
    mysql.expect("[(none)]> ")?;
    world.dev.daemon().signal(Signal::SIGTERM)?;
    world.dev.wait_until_not_ready()?;

    let late = world.client_with_login(&world.dev)?;
    late.query("SELECT 1")?.error()?;
    mysql.send("SELECT CONCAT('still ', 'here');")?;
    mysql.expect("still here")?;
    mysql.expect("[(none)]> ")?;
    mysql.send("\\q")?;
    mysql.succeed()?;
    let status = world.dev.daemon().wait(Duration::from_secs(10))?;
    ensure!(status.success(), "{status}");
    Ok(())
}
