//! A log that nobody reads: a pager that waits for a key, a log driver that hangs.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::{Daemon, World, poll};

/// Bytes that a pipe takes.
const PIPE: usize = 64 * 1024;
/// Lines of a session that comes and goes are some hundred bytes each.
const SESSIONS: usize = 150;
/// Calls to authd are some kilobytes each, as it logs here.
const CALLS: usize = 40;
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn sessions_go_on_while_nobody_reads_the_logs_and_the_programs_end_when_told_to() -> Result<()> {
    let mut world = World::jerry_and_olga()?;
    // By itself authd has little to say.
    world.authd.stop()?;
    world.authd.resume_logging("info,h2=trace")?;
    let psql = world.psql_with_login(&world.dev)?;
    psql.query("SELECT 'before'")?.output()?;
    let mut live = world.jerry.at_terminal(&["db", "connect", "dev-pg"])?;
    live.expect("app=> ")?;

    world.dev.daemon().leave_unread(true);
    world.authd.daemon().leave_unread(true);
    for number in 0..SESSIONS {
        assert_eq!(psql.query(&format!("SELECT {number}"))?.output()?, format!("{number}\n"));
    }
    live.send("SELECT 'still ' || 'alive';")?;
    live.expect("still alive")?;
    ensure!(world.dev.is_ready());
    for number in 0..CALLS {
        world.tctl.ok(&["lock", &format!("--user=nobody-{number}"), "--ttl=1m"])?;
    }
    live.send("\\q")?;
    live.succeed()?;

    // The end waits for the reader a moment, and not for ever.
    let authd = world.authd.daemon();
    ensure!(authd.stop()?.success());
    authd.leave_unread(false);
    filled_a_pipe(authd)?;
    let sidecar = world.dev.daemon();
    sidecar.leave_unread(false);
    ensure!(sidecar.stop()?.success());
    filled_a_pipe(sidecar)?;
    let the_end = |line: &str| line.contains("draining").then_some(());
    sidecar.wait_for("all that it had to say", PATIENCE, the_end)
}

/// Or nothing was held up that could have been.
fn filled_a_pipe(daemon: &Daemon) -> Result<()> {
    poll("more in the log than a pipe takes", PATIENCE, || {
        let written: usize = daemon.log().iter().map(|line| line.len() + 1).sum();
        Ok((written >= PIPE).then_some(()))
    })
}
