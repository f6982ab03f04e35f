//! A log that nobody reads: a pager that waits for a key, a log driver that hangs.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::World;

/// Lines of a session that comes and goes are some hundred bytes each, and a pipe takes 64 KiB.
const SESSIONS: usize = 150;

#[test]
fn sessions_go_on_while_nobody_reads_the_logs_and_the_programs_end_when_told_to() -> Result<()> {
    let mut world = World::jerry_and_olga()?;
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
    // authd too: these are written to its log.
    for number in 0..SESSIONS {
        world.tctl.ok(&["lock", &format!("--user=nobody-{number}"), "--ttl=1m"])?;
    }
    live.send("\\q")?;
    live.succeed()?;

    // The end waits for the reader a moment, and not for ever.
    ensure!(world.authd.daemon().stop()?.success());
    let sidecar = world.dev.daemon();
    sidecar.leave_unread(false);
    ensure!(sidecar.stop()?.success());
    let the_end = |line: &str| line.contains("draining").then_some(());
    sidecar.wait_for("all that it had to say", Duration::from_secs(10), the_end)
}
