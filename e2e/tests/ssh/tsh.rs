//! tsh: a touch for each session, in its own client, and in the path of others.

use std::{fs, process::Command};

use anyhow::{Result, ensure};
use e2e::{NodeWorld, Terminal};
use serde_json::Value;

use crate::stage::{PATIENCE, fails, noise, output, succeeds};

const TAP: &str = "Tap any security key";

/// The key is touched; what is typed from now on goes to the host.
fn touched(shell: &mut Terminal) -> Result<()> {
    shell.expect(TAP)?;
    shell.expect("Detected security key tap").map(drop)
}

/// The same, and a shell waits.
fn at_a_prompt(shell: &mut Terminal) -> Result<()> {
    touched(shell)?;
    shell.expect_any(&["# ", "$ "]).map(drop)
}

fn of_prod(event: &Value) -> bool {
    event["server_hostname"] == "prod-node"
}

#[test]
fn tsh_ssh_asks_for_a_touch_where_the_roles_do_and_nowhere_else() -> Result<()> {
    let world = NodeWorld::jerry_and_olga()?;
    let (dev, prod) = (node(&world, "dev-node"), node(&world, "prod-node"));
    let (text, status) = world.jerry.at_terminal(&["ssh", &dev, "echo in''side; exit 7"])?.finish()?;
    assert_eq!(status.code(), Some(7), "{text}");
    ensure!(text.contains("inside") && !text.contains(TAP), "{text}");

    let mut shell = world.jerry.at_terminal(&["ssh", &prod])?;
    at_a_prompt(&mut shell)?;
    shell.send("stty size; echo in''side")?;
    shell.expect("50 200")?;
    shell.expect("inside")?;
    shell.send("exit 3")?;
    let (text, status) = shell.finish()?;
    assert_eq!(status.code(), Some(3), "{text}");
    let started = world.tctl.wait_for_audit("session.start", of_prod)?;
    ensure!(started["with_mfa"].is_string() && started["receipt"].is_string(), "{started}");
    world.tctl.wait_for_audit("session.end", |event| event["sid"] == started["sid"])?;

    let file = world.jerry.home().join("file");
    fs::write(&file, noise(1_000_000))?;
    let there = world.path().join("by-tsh-scp");
    let target = format!("{prod}:{}", there.display());
    let mut scp = world.jerry.at_terminal(&["scp", "file", &target])?;
    touched(&mut scp)?;
    scp.succeed()?;
    ensure!(fs::read(&there)? == fs::read(&file)?);
    // From one node to another, through here: each asks as its roles say.
    let across = world.path().join("across");
    let (source, target) = (target, format!("{dev}:{}", across.display()));
    let mut scp = world.jerry.at_terminal(&["scp", &source, &target])?;
    touched(&mut scp)?;
    scp.succeed()?;
    ensure!(fs::read(&across)? == fs::read(&file)?);

    let listed = world.jerry.run(&["ls"])?.output()?;
    ensure!(listed.contains("dev-node") && listed.contains("prod-node"), "{listed}");
    Ok(())
}

#[test]
fn openssh_behind_tsh_proxy_ssh_asks_once_for_each_connection() -> Result<()> {
    let world = NodeWorld::jerry_and_olga()?;
    let config = world.jerry.home().join("ssh_config");
    fs::write(&config, world.jerry.run(&["config"])?.output()?)?;
    let ssh = |options: &[&str], words: &[&str]| -> Result<Command> {
        let mut ssh = Command::new("ssh");
        world.ssh(&world.prod)?.plain(&mut ssh);
        ssh.envs(world.jerry.environment()).arg("-F").arg(&config).args(options);
        ssh.arg("-l").arg(world.sshd.account()).args(words);
        Ok(ssh)
    };
    // At a terminal, by the name in the cluster and by the long one.
    for name in ["prod-node", "prod-node.main"] {
        let mut shell = Terminal::start(&ssh(&["-tt"], &[name, "sh"])?, false)?;
        at_a_prompt(&mut shell)?;
        shell.send("echo in''side")?;
        shell.expect("inside")?;
        shell.send("exit")?;
        shell.finish()?;
    }
    let started = world.tctl.wait_for_audit("session.start", of_prod)?;
    ensure!(started["with_mfa"].is_string(), "{started}");

    // What has no terminal of its own finds the one that it was started from; one touch for the whole connection.
    let socket = world.path().join("master");
    let control = format!("ControlPath={}", socket.display());
    let before = world.tctl.audit("session.start")?.len();
    let mut master = Terminal::start(&ssh(&["-M", "-N", "-o", &control], &["prod-node"])?, false)?;
    touched(&mut master)?;
    e2e::poll("the master's socket", PATIENCE, || Ok(socket.exists().then_some(())))?;
    let sent = noise(3_000_000);
    let said = output(ssh(&["-o", &control], &["prod-node", "cat"])?, &sent)?;
    ensure!(said.stdout == sent, "{} bytes came back", said.stdout.len());
    let file = world.path().join("copied");
    let mut scp = Command::new("scp");
    world.ssh(&world.prod)?.plain(&mut scp);
    scp.envs(world.jerry.environment()).arg("-F").arg(&config).args(["-q", "-o", &control]).arg(&config);
    scp.arg(format!("{}@prod-node:{}", world.sshd.account(), file.display()));
    succeeds(scp)?;
    ensure!(fs::read(&file)? == fs::read(&config)?);
    let _ = output(ssh(&["-o", &control, "-O", "exit"], &["prod-node"])?, b"")?;
    world
        .tctl
        .wait_for_audit("session.end", |event| event["bytes_from_client"].as_u64() >= Some(3_000_000))?;
    assert_eq!(
        world.tctl.audit("session.start")?.len(),
        before + 1,
        "two clients, one connection, one touch"
    );

    // A lock ends what came in by TLS too.
    let mut shell = Terminal::start(&ssh(&["-tt"], &["prod-node", "sh"])?, false)?;
    at_a_prompt(&mut shell)?;
    shell.send("echo in''side")?;
    shell.expect("inside")?;
    world.tctl.ok(&["lock", "--user=jerry", "--message=Suspicious activity.", "--ttl=1h"])?;
    shell.expect("Suspicious activity.")?;
    shell.finish()?;
    Ok(())
}

#[test]
fn the_certificates_inside_and_outside_must_be_one_users() -> Result<()> {
    let world = NodeWorld::jerry_and_olga()?;
    let olga = e2e::Tsh::new(world.path(), "olga")?;
    olga.register(&world.tctl.invite("olga", "access-dev,access-prod")?)?;
    olga.login(&world.authd.public_addr())?;
    // Olga's TLS, Jerry's SSH.
    let mut ssh = world.ssh(&world.dev)?.with("BatchMode=yes");
    let tsh = olga.command(&["proxy", "ssh", &node(&world, "dev-node")])?;
    let program = tsh.get_program().to_string_lossy().into_owned();
    let home = olga.home().join(".tsh");
    ssh = ssh.with(format!(
        "ProxyCommand=env TSH_HOME={} {program} proxy ssh {}",
        home.display(),
        node(&world, "dev-node")
    ));
    let said = fails(ssh.ssh(&[], &["true"])?)?;
    ensure!(said.contains("two users"), "{said}");
    let denied = world.tctl.wait_for_audit("auth", |event| event["reason"] == "other_user_inside")?;
    assert_eq!(denied["user"], "olga", "whom TLS names");
    Ok(())
}

fn node(world: &NodeWorld, name: &str) -> String {
    format!("{}@{name}", world.sshd.account())
}
