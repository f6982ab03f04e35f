//! One connection, many channels: multiplexing, forwarding in all directions, the agent.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use e2e::{NodeWorld, OpenSsh, Terminal, poll};

use crate::stage::{PATIENCE, noise, output, succeeds};

#[test]
fn many_sessions_share_one_connection_and_forward_in_all_directions() -> Result<()> {
    let world = NodeWorld::with_options("forward_agent: true\nport_forwarding: true", "forward_agent: true")?;
    let ssh = world.ssh(&world.dev)?;
    a_master_carries_many_sessions_at_once(&world, &ssh)?;
    connections_are_forwarded_both_ways(&world, &ssh)?;
    a_host_is_a_stepping_stone(&world, &ssh)?;
    an_agent_can_be_asked_from_there(&ssh)?;
    Ok(())
}

/// Holds a master connection; gone when dropped.
struct Master {
    ssh: OpenSsh,
    _terminal: Terminal,
}

impl Master {
    fn new(world: &NodeWorld, ssh: &OpenSsh, options: &[&str]) -> Result<Self> {
        let socket = world.path().join("master");
        let ssh = ssh.clone().with(format!("ControlPath={}", socket.display()));
        let mut all = vec!["-M", "-N"];
        all.extend(options);
        let terminal = ssh.at_terminal(&all, &[])?;
        poll("the master's socket", PATIENCE, || Ok(socket.exists().then_some(())))?;
        Ok(Self { ssh, _terminal: terminal })
    }

    fn control(&self, command: &str) -> Result<String> {
        let said = output(self.ssh.ssh(&["-O", command], &[])?, b"")?;
        Ok(String::from_utf8_lossy(&said.stderr).into_owned())
    }
}

fn a_master_carries_many_sessions_at_once(world: &NodeWorld, ssh: &OpenSsh) -> Result<()> {
    let before = world.tctl.audit("session.start")?.len();
    let master = Master::new(world, ssh, &[])?;
    let sessions: Vec<_> = (0..8)
        .map(|number| {
            let ssh = master.ssh.clone();
            thread::spawn(move || -> Result<()> {
                let sent = noise(300_000 + number);
                let said = output(ssh.ssh(&[], &[&format!("cat; exit {number}")])?, &sent)?;
                ensure!(said.stdout == sent, "session {number} got {} bytes", said.stdout.len());
                ensure!(
                    said.status.code() == i32::try_from(number).ok(),
                    "session {number}: {}",
                    said.status
                );
                Ok(())
            })
        })
        .collect();
    for session in sessions {
        session.join().ok().context("a session panicked")??;
    }
    master.control("exit")?;
    world
        .tctl
        .wait_for_audit("session.end", |event| event["bytes_from_client"].as_u64() >= Some(2_400_000))?;
    let after = world.tctl.audit("session.start")?.len();
    ensure!(after == before + 1, "eight commands are {} sessions", after - before);
    Ok(())
}

/// Answers each connection with what it sent, until it is closed on that side.
pub(crate) fn echo() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok).take(16) {
            thread::spawn(move || {
                let mut bytes = Vec::new();
                let _ = stream.read_to_end(&mut bytes);
                let _ = stream.write_all(&bytes);
            });
        }
    });
    Ok(port)
}

fn asks(address: (&str, u16)) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let sent = noise(200_000);
    stream.write_all(&sent)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut got = Vec::new();
    stream.read_to_end(&mut got)?;
    ensure!(got == sent, "{} bytes came back", got.len());
    Ok(())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn connections_are_forwarded_both_ways(world: &NodeWorld, ssh: &OpenSsh) -> Result<()> {
    let (echo, local, remote, dynamic) = (echo()?, free_port()?, free_port()?, free_port()?);
    let socket = world.path().join("forwarded.sock");
    let master = Master::new(
        world,
        ssh,
        &[
            "-o",
            "ExitOnForwardFailure=yes",
            &format!("-L127.0.0.1:{local}:127.0.0.1:{echo}"),
            &format!("-R127.0.0.1:{remote}:127.0.0.1:{echo}"),
            &format!("-D127.0.0.1:{dynamic}"),
            &format!("-L{}:127.0.0.1:{echo}", socket.display()),
        ],
    )?;
    for port in [local, remote] {
        poll("the forwarding", PATIENCE, || Ok(TcpStream::connect(("127.0.0.1", port)).ok()))?;
        asks(("127.0.0.1", port))?;
    }
    through_socks(dynamic, echo)?;
    a_port_that_the_host_chooses_comes_and_goes(&master, echo)?;
    let mut unix = UnixStream::connect(&socket)?;
    unix.write_all(b"by a socket file")?;
    unix.shutdown(std::net::Shutdown::Write)?;
    let mut got = String::new();
    unix.read_to_string(&mut got)?;
    assert_eq!(got, "by a socket file");
    // A port that nobody listens on there is refused, and the connection goes on.
    let said = output(master.ssh.ssh(&["-W", &format!("127.0.0.1:{}", free_port()?)], &[])?, b"")?;
    ensure!(!said.status.success());
    master.control("exit")?;

    for (action, port) in [("connect", echo), ("listen", remote), ("accept", remote)] {
        let event = world.tctl.wait_for_audit("port", |event| {
            event["action"] == action && event["addr"] == format!("127.0.0.1:{port}")
        })?;
        assert_eq!((&event["code"], &event["success"]), (&"T3003I".into(), &true.into()));
    }
    Ok(())
}

/// Under all three names that OpenSSH has for where to listen.
fn a_port_that_the_host_chooses_comes_and_goes(master: &Master, echo: u16) -> Result<()> {
    for address in ["localhost", "*", "127.0.0.1"] {
        let forward = |command, port| {
            let named = format!("-R{address}:{port}:127.0.0.1:{echo}");
            output(master.ssh.ssh(&["-O", command, &named], &[])?, b"")
        };
        let said = forward("forward", 0)?;
        let chosen: u16 = String::from_utf8_lossy(&said.stdout)
            .trim()
            .parse()
            .with_context(|| format!("no port for {address}: {}", String::from_utf8_lossy(&said.stderr)))?;
        asks(("127.0.0.1", chosen))?;
        ensure!(forward("cancel", 0)?.status.success(), "{address}:{chosen} cannot be cancelled");
        poll("the end of it", PATIENCE, || Ok(TcpStream::connect(("127.0.0.1", chosen)).err().map(|_| ())))?;
    }
    Ok(())
}

/// A connection by SOCKS 5, without a name or password (RFC 1928).
pub(crate) fn socks(port: u16, target: u16) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[5, 1, 0])?;
    let mut method = [0; 2];
    stream.read_exact(&mut method)?;
    ensure!(method == [5, 0], "SOCKS offers {method:?}");
    let [high, low] = target.to_be_bytes();
    stream.write_all(&[5, 1, 0, 1, 127, 0, 0, 1, high, low])?;
    let mut connected = [0; 10];
    stream.read_exact(&mut connected)?;
    ensure!(connected[1] == 0, "SOCKS says {}", connected[1]);
    Ok(stream)
}

fn through_socks(port: u16, target: u16) -> Result<()> {
    let mut stream = socks(port, target)?;
    stream.write_all(b"by socks")?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut got = String::new();
    stream.read_to_string(&mut got)?;
    assert_eq!(got, "by socks");
    Ok(())
}

/// `-J` and `-W`: through the development host to the sidecar of it again.
fn a_host_is_a_stepping_stone(world: &NodeWorld, ssh: &OpenSsh) -> Result<()> {
    let config = ssh.config_file("ssh_config")?;
    let mut jump = Command::new("ssh");
    ssh.plain(&mut jump);
    jump.arg("-F").arg(&config).args(["-J", "first.main", "second.main", "echo", "through"]);
    assert_eq!(succeeds(jump)?, "through\n");
    let start = |event: &serde_json::Value| {
        event["action"] == "connect" && event["addr"] == format!("127.0.0.1:{}", world.dev.address().port())
    };
    world.tctl.wait_for_audit("port", start)?;
    Ok(())
}

fn an_agent_can_be_asked_from_there(ssh: &OpenSsh) -> Result<()> {
    let socket = ssh.home().join("agent");
    let mut command = Command::new("ssh-agent");
    command.args(["-D", "-a"]).arg(&socket);
    let mut agent = command.stdout(std::process::Stdio::null()).spawn()?;
    let asked = (|| {
        poll("the agent", Duration::from_secs(10), || Ok(socket.exists().then_some(())))?;
        let mut add = Command::new("ssh-add");
        let key = ssh.home().join("another-key");
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "in the agent", "-f"]).arg(&key);
        succeeds(keygen)?;
        add.env("SSH_AUTH_SOCK", &socket).args(["-q"]).arg(&key);
        succeeds(add)?;
        let with_agent = ssh.clone().with(format!("IdentityAgent={}", socket.display()));
        let mut there = with_agent.ssh(&["-A"], &["ssh-add -l"])?;
        there.env("SSH_AUTH_SOCK", &socket);
        let said = succeeds(there)?;
        ensure!(said.contains("in the agent"), "{said}");
        Ok(())
    })();
    agent.kill()?;
    agent.wait()?;
    asked
}
