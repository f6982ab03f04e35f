//! Cancelling: the query ends at once, and nothing else does.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::{Daemon, Terminal, Way};
use nix::sys::signal::Signal;

use crate::stage::Stage;

/// A person who pressed Ctrl-C should not have to wonder.
const QUICKLY: Duration = Duration::from_secs(1);

#[test]
fn ctrl_c_ends_a_running_query_within_a_second_and_the_session_goes_on() -> Result<()> {
    let stage = Stage::new()?;
    for way in Way::ALL {
        interrupt(&stage, stage.psql(way)?.session()?)?;
    }
    let mut connected = stage.world.jerry.at_terminal(&["db", "connect", "dev-pg"])?;
    connected.expect("=> ")?;
    interrupt(&stage, connected)
}

/// Twice, as the second would find a key that was used up.
fn interrupt(stage: &Stage, mut psql: Terminal) -> Result<()> {
    for sleep in ["pg_sleep(61)", "pg_sleep(62)"] {
        psql.send(&format!("SELECT {sleep};"))?;
        stage.world.postgres.wait_until_running(sleep)?;
        let pressed = Instant::now();
        psql.interrupt()?;
        psql.expect("ERROR:  canceling statement due to user request")?;
        let took = pressed.elapsed();
        ensure!(took < QUICKLY, "it took {took:?}");
        psql.expect("=> ")?;
        psql.send("SELECT 'still ' || 'here';")?;
        psql.expect("still here")?;
        psql.expect("=> ")?;
    }
    psql.send("\\q")?;
    psql.succeed()?;
    Ok(())
}

#[test]
fn sigint_ends_one_sessions_query_within_a_second_and_not_its_neighbours() -> Result<()> {
    let stage = Stage::new()?;
    for way in Way::ALL {
        let psql = stage.psql(way)?;
        let start = |name: &str, sql: &str| Daemon::start(name, psql.query_command(sql)?);
        let mut neighbour = start("neighbour", "SELECT pg_sleep(63)")?;
        let mut interrupted = start("interrupted", "SELECT pg_sleep(64)")?;
        stage.world.postgres.wait_until_running("pg_sleep(63)")?;
        stage.world.postgres.wait_until_running("pg_sleep(64)")?;
        interrupted.signal(Signal::SIGINT)?;
        let status = interrupted.wait(QUICKLY)?;
        ensure!(!status.success(), "{way:?}: {status}");
        let cancelled = |line: &str| line.contains("canceling statement due to user request").then_some(());
        interrupted.wait_for("the error", QUICKLY, cancelled)?;

        stage.world.postgres.wait_until_running("pg_sleep(63)")?;
        neighbour.signal(Signal::SIGINT)?;
        neighbour.wait(QUICKLY)?;
        neighbour.wait_for("the error", QUICKLY, cancelled)?;
    }
    Ok(())
}
