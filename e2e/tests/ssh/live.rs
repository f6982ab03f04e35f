//! Live sessions end when their right does, and say why.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::{ACCESS_DEV, NodeWorld, OpenSsh, Terminal, role_for};
use serde_json::Value;

fn shell(ssh: &OpenSsh) -> Result<Terminal> {
    let mut shell = ssh.at_terminal(&["-tt"], &["sh"])?;
    shell.send("echo read''y")?;
    shell.expect("ready")?;
    Ok(shell)
}

/// What a session reads, and what the trail says, once it has been ended from here.
fn ended(world: &NodeWorld, mut shell: Terminal, told: &str, reason: &str) -> Result<()> {
    shell.expect(told)?;
    let (text, status) = shell.finish()?;
    assert_eq!(status.code(), Some(255), "{text}");
    let of = |event: &Value| event["reason"] == reason;
    let disconnected = world.tctl.wait_for_audit("client.disconnect", of)?;
    assert_eq!(disconnected["code"], "T3006I");
    let ended = world.tctl.wait_for_audit("session.end", of)?;
    assert_eq!(ended["sid"], disconnected["sid"]);
    Ok(())
}

#[test]
fn a_lock_ends_a_live_session_with_all_its_channels_and_says_why() -> Result<()> {
    let world = NodeWorld::jerry_and_olga()?;
    let ssh = world.ssh(&world.dev)?;
    let shell = shell(&ssh)?;
    let marker = world.path().join("still-running");
    let mut command =
        ssh.at_terminal(&[], &[&format!("while sleep 0.1; do touch {}; done", marker.display())])?;
    e2e::poll("the command to run", Duration::from_secs(20), || Ok(marker.exists().then_some(())))?;
    world.tctl.ok(&["lock", "--user=jerry", "--message=Suspicious activity.", "--ttl=1h"])?;
    ended(&world, shell, "Suspicious activity.", "locked")?;
    command.expect("Suspicious activity.")?;
    command.finish()?;
    let said = crate::stage::fails(ssh.ssh(&["-o", "BatchMode=yes"], &["true"])?)?;
    ensure!(said.contains("Suspicious activity."), "{said}");
    Ok(())
}

#[test]
fn a_right_that_is_taken_away_or_never_used_ends_a_live_session() -> Result<()> {
    let world = NodeWorld::with_options("client_idle_timeout: 3s", "")?;
    let ssh = world.ssh(&world.dev)?;
    // Work without a terminal is no idleness.
    let mut busy = ssh.at_terminal(&[], &["sleep 6; echo do''ne"])?;
    ended(&world, shell(&ssh)?, "it was idle for 3s", "idle_timeout")?;
    busy.expect("done")?;
    busy.finish()?;

    world.tctl.create(&role_for(ACCESS_DEV, world.sshd.account(), ""))?;
    let ssh = world.ssh(&world.dev)?;
    let shell = shell(&ssh)?;
    let elsewhere = role_for(ACCESS_DEV, world.sshd.account(), "").replace("env: dev", "env: other");
    world.tctl.create(&elsewhere)?;
    ended(&world, shell, "access was withdrawn", "policy_changed")
}
