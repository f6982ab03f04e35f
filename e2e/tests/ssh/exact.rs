//! Ends, signals and back-pressure: what OpenSSH sees through a sidecar is what it sees without one, and what is not read
//! is not kept in memory.

use std::{
    fs,
    io::Read as _,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use e2e::{NodeWorld, OpenSsh, Sidecar, mortal, poll};

use crate::stage::{PATIENCE, key, output, succeeds};

/// Far less than what passes here; a connection's own buffers are some 100 KiB.
const LITTLE: u64 = 24 * 1024;

/// OpenSSH to the host itself, past the sidecar, with a key that the host takes for this test alone.
fn plain(world: &NodeWorld) -> Result<OpenSsh> {
    let (file, known) = (world.path().join("plain_key"), world.path().join("plain_known_hosts"));
    world.sshd.authorize(&key(&file)?)?;
    fs::write(&known, format!("plain {}\n", world.sshd.host_key()))?;
    let port = world.sshd.address().rsplit(':').next().context("no port")?.to_owned();
    Ok(world
        .ssh(&world.dev)?
        .with(format!("Port={port}"))
        .with("HostKeyAlias=plain")
        .with(format!("UserKnownHostsFile={}", known.display()))
        .with(format!("IdentityFile={}", file.display())))
}

/// The most memory that a sidecar has had, in KiB.
fn most_memory(sidecar: &mut Sidecar) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", sidecar.daemon().id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// How ssh ended, what it printed, and of what it said with `-v` all that is not about the way there.
fn told(said: Output) -> (Option<i32>, String, Vec<String>) {
    let about = |line: &&str| {
        let way = ["debug1: ", "OpenSSH_", "Authenticated to ", "Transferred: ", "Bytes per second: "];
        line.contains("rtype exit-") || !way.iter().any(|begin| line.starts_with(begin))
    };
    let errors = String::from_utf8_lossy(&said.stderr);
    let mut lines: Vec<_> = errors.lines().map(str::trim_end).filter(about).map(str::to_owned).collect();
    // Its own words and the host's come by two ways.
    lines.sort_unstable();
    (said.status.code(), String::from_utf8_lossy(&said.stdout).into_owned(), lines)
}

#[test]
fn ends_are_told_as_the_host_itself_tells_them() -> Result<()> {
    let world = NodeWorld::jerry_and_olga()?;
    let (through, direct) = (world.ssh(&world.dev)?, plain(&world)?);
    for command in [
        "exit 0",
        "exit 254",
        "kill -TERM $$",
        "kill -KILL $$",
        "kill -HUP $$",
        "kill -USR1 $$",
        // Output behind its own end of input, and an end before the input's.
        "cat; echo out; echo err >&2; kill -KILL $$",
        "exec >&- 2>&-; cat >/dev/null; exit 3",
        "exec 0<&-; echo out; exit 4",
        // Somebody has the output open when the command ends.
        "(trap '' HUP; sleep 0.3; echo late) & echo early; exit 5",
    ] {
        // At a terminal there is no end of input, and what is written late may be lost with it.
        let terminal = ["exit 254", "kill -KILL $$"].contains(&command);
        for options in [&["-v"][..], &["-v", "-tt"]].into_iter().take(1 + usize::from(terminal)) {
            let input: &[u8] = if options.contains(&"-tt") { b"" } else { b"input\n" };
            assert_eq!(
                told(output(through.ssh(options, &[command])?, input)?),
                told(output(direct.ssh(options, &[command])?, input)?),
                "`{command}` with {options:?}"
            );
        }
    }
    let killed = |event: &serde_json::Value| event["exitSignal"] == "KILL";
    world.tctl.wait_for_audit("session.channel.end", killed)?;
    Ok(())
}

#[test]
fn a_hundred_megabytes_there_and_back_are_the_same_in_little_memory() -> Result<()> {
    let mut world = NodeWorld::jerry_and_olga()?;
    let file = world.path().join("large");
    let mut make = Command::new("sh");
    make.arg("-c").arg(format!("head -c 100000000 /dev/urandom > {}", file.display()));
    succeeds(make)?;
    let ssh = world.ssh(&world.dev)?;
    assert_eq!(ssh.run("echo warm")?.output()?, "warm\n");
    let before = most_memory(&mut world.dev)?;
    let mut both = Command::new("sh");
    ssh.plain(&mut both);
    both.arg("-c").arg(format!(
        "{} {} cat < {file} | sha256sum; sha256sum < {file}",
        ssh.as_shell()?,
        ssh.destination(),
        file = file.display()
    ));
    let said = succeeds(both)?;
    let [came_back, sent] = said.lines().collect::<Vec<_>>()[..] else { anyhow::bail!("{said}") };
    assert_eq!(came_back, sent);
    let after = most_memory(&mut world.dev)?;
    ensure!(after - before < LITTLE, "{before} KiB became {after} KiB");
    Ok(())
}

#[test]
fn a_channel_that_is_not_read_stalls_no_other_and_fills_no_memory() -> Result<()> {
    let mut world = NodeWorld::jerry_and_olga()?;
    let socket = world.path().join("master");
    let ssh = world.ssh(&world.dev)?.with(format!("ControlPath={}", socket.display()));
    let master = ssh.at_terminal(&["-M", "-N"], &[])?;
    poll("the master's socket", PATIENCE, || Ok(socket.exists().then_some(())))?;
    // Nobody opens a connection of its own.
    let joined = ssh.clone().with("ProxyCommand=false").with("ControlMaster=no");
    assert_eq!(joined.run("head -c 20000000 /dev/zero | wc -c")?.output()?, "20000000\n");
    let before = most_memory(&mut world.dev)?;

    let endless = joined.ssh(&[], &["cat /dev/zero"])?;
    let mut stuck = mortal(endless.get_program(), "KILL");
    stuck.args(endless.get_args()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    joined.plain(&mut stuck);
    let mut stuck = stuck.spawn()?;
    let mut unread = stuck.stdout.take().context("no output")?;
    let mut block = vec![1; 1_000_000];
    unread.read_exact(&mut block)?;
    let outcome = (|| {
        for _ in 0..5 {
            // Much output, and much input, of others.
            let said = output(joined.ssh(&[], &["head -c 20000000 /dev/zero"])?, b"")?;
            ensure!(said.stdout.len() == 20_000_000, "{} bytes", said.stdout.len());
            let said = output(joined.ssh(&[], &["wc -c"])?, &vec![0; 5_000_000])?;
            ensure!(said.stdout == b"5000000\n", "{}", String::from_utf8_lossy(&said.stderr));
        }
        // It goes on where it was, and every byte is in its place.
        for _ in 0..20 {
            unread.read_exact(&mut block)?;
            ensure!(block.iter().all(|&byte| byte == 0), "what was not read for a while has changed");
        }
        Ok(())
    })();
    stuck.kill()?;
    stuck.wait()?;
    outcome?;
    let after = most_memory(&mut world.dev)?;
    ensure!(after - before < LITTLE, "{before} KiB became {after} KiB");
    output(ssh.ssh(&["-O", "exit"], &[])?, b"")?;
    master.finish()?;
    assert_eq!(world.tctl.audit("session.start")?.len(), 1, "all of it was one session");
    Ok(())
}
