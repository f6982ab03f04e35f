//! One connection as editors use it: a shell that is fed a script, a dynamic forward beside it (`ssh -T -D PORT HOST sh`),
//! and at the same time commands and copies through the same connection.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::Path,
    process::Stdio,
    thread,
};

use anyhow::{Context, Result, ensure};
use e2e::{NodeWorld, OpenSsh, mortal};

use crate::{
    forwards::{echo, socks},
    stage::{PATIENCE, noise, output, succeeds},
};

/// Of each kind, all at once.
const FORWARDED: usize = 16;
const COMMANDS: usize = 8;
const COPIES: usize = 4;

#[test]
fn one_connection_carries_a_shell_forwards_commands_and_copies_all_at_once() -> Result<()> {
    let world = NodeWorld::jerry_and_olga()?;
    let (echo, dynamic) = (echo()?, TcpListener::bind("127.0.0.1:0")?.local_addr()?.port());
    let master = world.ssh(&world.dev)?.with(format!("ControlPath={}", world.path().join("m").display()));
    let line = master.ssh(
        &[
            "-T",
            "-o",
            "ControlMaster=yes",
            "-o",
            "ExitOnForwardFailure=yes",
            "-D",
            &format!("127.0.0.1:{dynamic}"),
        ],
        &["sh"],
    )?;
    let mut editor = mortal(line.get_program(), "KILL");
    master.plain(&mut editor);
    editor.args(line.get_args()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut editor = editor.spawn()?;
    let mut script = editor.stdin.take().context("no input")?;
    let mut answers = BufReader::new(editor.stdout.take().context("no output")?).lines();
    let mut ask = |what: &str| -> Result<String> {
        script.write_all(format!("{what}\n").as_bytes())?;
        Ok(answers.next().context("the shell has ended")??)
    };
    let worked = (|| {
        assert_eq!(ask("echo read''y")?, "ready");
        let joined = master.clone().with("ProxyCommand=false").with("ControlMaster=no");
        all_at_once(&world, &joined, dynamic, echo)?;
        assert_eq!(ask("echo still he''re")?, "still here");
        Ok::<_, anyhow::Error>(())
    })();
    drop(script);
    let ended = e2e::poll("the editor to end", PATIENCE, || Ok(editor.try_wait()?));
    let _ = editor.kill();
    editor.wait()?;
    worked?;
    ensure!(ended?.success());

    let ended = world.tctl.wait_for_audit("session.end", |_| true)?;
    assert_eq!(ended["reason"], "client_closed");
    assert_eq!(world.tctl.audit("session.start")?.len(), 1, "all of it was one session");
    let connected = world.tctl.audit("port")?.iter().filter(|event| event["action"] == "connect").count();
    assert_eq!(connected, FORWARDED);
    let channels = world.tctl.audit("session.channel.end")?.len();
    assert_eq!(channels, 1 + FORWARDED + COMMANDS + COPIES);
    assert_eq!(world.tctl.audit("exec")?.len(), 1 + COMMANDS);
    Ok(())
}

fn all_at_once(world: &NodeWorld, joined: &OpenSsh, dynamic: u16, echo: u16) -> Result<()> {
    thread::scope(|scope| {
        let forwarded = (0..FORWARDED).map(|number| scope.spawn(move || forwarded(dynamic, echo, number)));
        let commands = (0..COMMANDS).map(|number| scope.spawn(move || command(joined, number)));
        let copies = (0..COPIES).map(|number| scope.spawn(move || copy(world.path(), joined, number)));
        let all: Vec<_> = forwarded.chain(commands).chain(copies).collect();
        all.into_iter().try_for_each(|one| one.join().ok().context("a thread panicked")?)
    })
}

fn forwarded(dynamic: u16, echo: u16, number: usize) -> Result<()> {
    let mut stream: TcpStream = socks(dynamic, echo)?;
    let sent = noise(300_000 + number);
    stream.write_all(&sent)?;
    stream.shutdown(Shutdown::Write)?;
    let mut got = Vec::new();
    stream.read_to_end(&mut got)?;
    ensure!(got == sent, "forward {number}: {} bytes came back", got.len());
    Ok(())
}

fn command(joined: &OpenSsh, number: usize) -> Result<()> {
    let sent = noise(1_000_000 + number);
    let said = output(joined.ssh(&[], &[&format!("cat; exit {number}")])?, &sent)?;
    let errors = String::from_utf8_lossy(&said.stderr).into_owned();
    ensure!(said.stdout == sent, "command {number}: {} bytes: {errors}", said.stdout.len());
    ensure!(said.status.code() == i32::try_from(number).ok(), "command {number}: {errors}");
    Ok(())
}

fn copy(folder: &Path, joined: &OpenSsh, number: usize) -> Result<()> {
    let (here, there) = (folder.join(format!("here-{number}")), folder.join(format!("there-{number}")));
    fs::write(&here, noise(2_000_000 + number))?;
    let mut scp = joined.program("scp")?;
    scp.arg("-q").arg(&here).arg(format!("{}:{}", joined.destination(), there.display()));
    succeeds(scp)?;
    ensure!(fs::read(&there)? == fs::read(&here)?, "copy {number} differs");
    Ok(())
}
