//! What the roles say about a session is what can be done in it.

use std::process::Command;

use anyhow::{Result, ensure};
use e2e::NodeWorld;
use serde_json::Value;

use crate::stage::{fails, succeeds};

#[test]
fn what_the_roles_forbid_cannot_be_done_and_is_on_record() -> Result<()> {
    let dev = "port_forwarding: false\nssh_file_copy: false\nforward_agent: false\npermit_x11_forwarding: false\nmax_sessions: 1";
    let world = NodeWorld::with_options(dev, "port_forwarding: false")?;
    let ssh = world.ssh(&world.dev)?;

    // Commands still run.
    assert_eq!(ssh.run("echo fine")?.output()?, "fine\n");

    fails(ssh.ssh(&["-o", "ExitOnForwardFailure=yes", "-R127.0.0.1:0:127.0.0.1:1", "-N"], &[])?)?;
    let said = fails(ssh.ssh(&["-W", "127.0.0.1:1"], &[])?)?;
    ensure!(said.contains("prohibited") || said.contains("not allowed"), "{said}");
    for action in ["connect", "listen"] {
        refused(&world, "port", "T3003E", |event| event["action"] == action)?;
    }

    for options in [&[][..], &["-O"]] {
        let mut scp = ssh.program("scp")?;
        let file = ssh.home().join("file");
        std::fs::write(&file, b"secret")?;
        scp.args(options).arg("-q").arg(&file);
        scp.arg(format!("{}:{}", ssh.destination(), ssh.home().join("copied").display()));
        fails(scp)?;
        ensure!(!ssh.home().join("copied").exists());
    }
    refused(&world, "subsystem", "T3001E", |event| event["name"] == "sftp")?;
    refused(&world, "exec", "T3002E", |event| event["file_copy"] == true)?;

    // ssh goes on without what it was refused.
    let socket = ssh.home().join("agent");
    let mut command = Command::new("ssh-agent");
    command.args(["-D", "-a"]).arg(&socket).stdout(std::process::Stdio::null());
    let mut agent = command.spawn()?;
    let with_agent = ssh.clone().with(format!("IdentityAgent={}", socket.display()));
    let mut with_agent = with_agent.ssh(&["-A"], &["echo agent=$SSH_AUTH_SOCK"])?;
    with_agent.env("SSH_AUTH_SOCK", &socket);
    let told = e2e::poll("the agent", crate::stage::PATIENCE, || Ok(socket.exists().then_some(())))
        .and_then(|()| succeeds(with_agent));
    agent.kill()?;
    agent.wait()?;
    assert_eq!(told?, "agent=\n");
    refused(&world, "session.agent", "TTS22W", |_| true)?;

    let mut with_x11 = ssh.ssh(&["-Y"], &["echo display=$DISPLAY"])?;
    with_x11.env("DISPLAY", "127.0.0.1:99");
    assert_eq!(succeeds(with_x11)?, "display=\n");
    refused(&world, "x11-forward", "T3008W", |_| true)
}

#[test]
fn one_connection_has_no_more_sessions_than_the_roles_give() -> Result<()> {
    let world = NodeWorld::with_options("max_sessions: 1", "")?;
    let socket = world.path().join("master");
    let ssh = world.ssh(&world.dev)?.with(format!("ControlPath={}", socket.display()));
    let mut first = ssh.at_terminal(&["-M", "-tt"], &["sh"])?;
    first.send("echo read''y")?;
    first.expect("ready")?;
    // It would open a connection of its own otherwise.
    let second = ssh.clone().with("ProxyCommand=false").with("ControlMaster=no");
    fails(second.ssh(&[], &["echo second"])?)?;
    let rejected = world.tctl.wait_for_audit("session.rejected", |_| true)?;
    assert_eq!(
        (&rejected["code"], &rejected["reason"]),
        (&"T1006W".into(), &"max_sessions limit reached".into())
    );
    first.send("exit")?;
    first.finish()?;
    Ok(())
}

fn refused(world: &NodeWorld, event: &str, code: &str, which: impl Fn(&Value) -> bool) -> Result<()> {
    let refused = world.tctl.wait_for_audit(event, |event| event["success"] == false && which(event))?;
    ensure!(refused["code"] == code && refused["error"] == "not allowed by your roles", "{refused}");
    Ok(())
}
