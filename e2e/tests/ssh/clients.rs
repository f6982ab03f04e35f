//! Clients that others wrote: paramiko, asyncssh, libssh, Ansible; and what a scanner says of us.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context, Result, ensure};
use e2e::{NodeWorld, Sidecar};

use crate::stage::{PATIENCE, output, succeeds};

fn python() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/clients/python/bin");
    let folder = folder.canonicalize();
    folder.context("the Python clients are not installed: run `scripts/install.sh clients` first")
}

fn host_key(sidecar: &Sidecar) -> Result<String> {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-y", "-f"]).arg(sidecar.data_dir().join("ssh_host_ed25519_key"));
    succeeds(keygen)
}

/// Puts everything into a client's environment that it needs to reach the development host.
fn introduced(world: &NodeWorld, mut command: Command) -> Result<Command> {
    let scratch = world.path().join("scratch");
    fs::create_dir_all(&scratch)?;
    let (key, certificate) = world.jerry.ssh_login_files(&world.authd.public_addr())?;
    let (port, host_key) = (world.dev.address().port(), host_key(&world.dev)?);
    // For those that know no host certificates.
    let plain = world.path().join("plain_known_hosts");
    fs::write(&plain, format!("[127.0.0.1]:{port} {host_key}"))?;
    world.ssh(&world.dev)?.plain(&mut command);
    command
        .env("SSH_HOST", "127.0.0.1")
        .env("SSH_PORT", port.to_string())
        .env("SSH_LOGIN", world.sshd.account())
        .env("SSH_KEY", key)
        .env("SSH_CERTIFICATE", certificate)
        .env("SSH_HOST_KEY", host_key.trim())
        .env("SSH_PLAIN_KNOWN_HOSTS", plain)
        .env("SSH_KNOWN_HOSTS", world.jerry.known_hosts())
        .env("SSH_HOST_ALIAS", "dev-node.main")
        .env("SSH_SCRATCH", scratch);
    Ok(command)
}

fn script(world: &NodeWorld, name: &str) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let echo = listener.local_addr()?.port();
    thread::spawn(move || {
        if let Ok((mut stream, _)) = listener.accept() {
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes);
            let _ = stream.write_all(&bytes);
        }
    });
    let mut command = Command::new(python()?.join("python"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python").join(name));
    command.env("SSH_ECHO_PORT", echo.to_string());
    succeeds(introduced(world, command)?)
}

#[test]
fn paramiko_asyncssh_and_ansible_work_with_a_login_certificate() -> Result<()> {
    let world = NodeWorld::jerry_and_olga()?;
    let said = script(&world, "with_paramiko.py")?;
    for line in [
        r"command b'out\n' b'err\n' 7",
        "input True",
        "terminal [b'33', b'91', b'xterm']",
        "sftp True 3000000",
        "forwarded b'through'",
    ] {
        ensure!(said.contains(line), "{line:?} is not in:\n{said}");
    }
    let said = script(&world, "with_asyncssh.py")?;
    for line in [
        "command out\n err\n 7",
        "at once [(100000, 0), (100000, 1), (100000, 2), (100000, 3), (100000, 4), (100000, 5)]",
        "signal KILL",
        "sftp True",
        "listed True",
        "forwarded b'through'",
    ] {
        ensure!(said.contains(line), "{line:?} is not in:\n{said}");
    }
    ansible(&world)
}

/// The C library under many a client. Its own program is built here.
#[test]
fn libssh_works_with_a_login_certificate() -> Result<()> {
    let world = NodeWorld::jerry_and_olga()?;
    let program = world.path().join("with_libssh");
    let mut compiler = Command::new("cc");
    compiler.args(["-Wall", "-Wextra", "-Werror", "-o"]).arg(&program);
    compiler.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/c/with_libssh.c")).arg("-lssh");
    succeeds(compiler).context("libssh is not installed: run `scripts/install.sh cc ssh-clients` first")?;
    let said = succeeds(introduced(&world, Command::new(program))?)?;
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        [
            "bare key denied",
            "logged in",
            "command 7 3000000 err",
            "sftp 3000000 same",
            "room known",
            "moved away"
        ]
    );
    let written = world.tctl.wait_for_audit("sftp", |event| {
        event["action"] == "write" && event["path"].as_str().is_some_and(|path| path.ends_with("/libssh"))
    })?;
    assert_eq!(written["bytes_written"], 3_000_000);
    Ok(())
}

/// With its ControlMaster, SFTP for files, and many commands over one connection: one session for the whole play.
fn ansible(world: &NodeWorld) -> Result<()> {
    let ssh = world.ssh(&world.dev)?;
    let config = ssh.config_file("ansible_ssh_config")?;
    let before = world.tctl.audit("session.start")?.len();
    let there = world.path().join("by-ansible");
    let playbook = world.path().join("play.yaml");
    fs::write(
        &playbook,
        format!(
            "- hosts: all\n  gather_facts: true\n  tasks:\n  - copy: {{ content: 'by ansible', dest: {there} }}\n  \
             - command: cat {there}\n    register: said\n  - assert: {{ that: said.stdout == 'by ansible' }}\n  \
             - fetch: {{ src: {there}, dest: {there}-fetched, flat: true }}\n",
            there = there.display()
        ),
    )?;
    let mut command = Command::new(python()?.join("ansible-playbook"));
    ssh.plain(&mut command);
    // Its control socket's path must be short.
    let sockets = world.path().join("cp");
    command
        .env("PATH", std::env::join_paths([python()?, "/usr/bin".into(), "/bin".into()])?)
        .env("ANSIBLE_LOCALHOST_WARNING", "False")
        .env("ANSIBLE_NOCOLOR", "1")
        .env(
            "ANSIBLE_SSH_ARGS",
            format!("-F {} -o ControlMaster=auto -o ControlPersist=15s", config.display()),
        )
        .env("ANSIBLE_SSH_CONTROL_PATH_DIR", &sockets)
        .args(["-i", "dev-node.main,", "-e", "ansible_python_interpreter=/usr/bin/python3"])
        .arg(&playbook);
    // The master that stays behind holds on to ssh's standard error.
    let log = world.path().join("ansible.log");
    let file = fs::File::create(&log)?;
    command.stdin(std::process::Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let mut play = command.spawn()?;
    let ended = e2e::poll("the play to end", 2 * PATIENCE, || Ok(play.try_wait()?));
    let _ = play.kill();
    play.wait()?;
    let said = fs::read_to_string(&log)?;
    ensure!(ended.with_context(|| said.clone())?.success(), "{said}");
    ensure!(said.contains("failed=0") && said.contains("unreachable=0"), "{said}");
    assert_eq!(fs::read_to_string(&there)?, "by ansible");
    assert_eq!(fs::read_to_string(there.with_file_name("by-ansible-fetched"))?, "by ansible");
    for socket in fs::read_dir(&sockets)?.flatten() {
        let mut exit = ssh.program("ssh")?;
        exit.arg("-S").arg(socket.path()).args(["-O", "exit", "dev-node.main"]);
        let _ = output(exit, b"")?;
    }
    let started = world.tctl.audit("session.start")?.len() - before;
    ensure!(started == 1, "one play is {started} sessions");
    Ok(())
}

#[test]
fn a_scanner_finds_nothing_of_weight() -> Result<()> {
    let world = NodeWorld::jerry_and_olga()?;
    let mut audit = Command::new(python()?.join("ssh-audit"));
    audit.args([
        "--no-colors",
        "--json",
        "--skip-rate-test",
        "-p",
        &world.dev.address().port().to_string(),
        "127.0.0.1",
    ]);
    world.ssh(&world.dev)?.plain(&mut audit);
    let said = output(audit, b"")?;
    let report: serde_json::Value = serde_json::from_slice(&said.stdout)
        .with_context(|| String::from_utf8_lossy(&said.stdout).into_owned())?;
    // Clients that are older than the hybrid exchange need one of these.
    let classical = |algorithm: &serde_json::Value| {
        algorithm["algorithm"].as_str().is_some_and(|name| name.starts_with("curve25519-sha256"))
            && algorithm["notes"]["warn"]
                == serde_json::json!(["does not provide protection against post-quantum attacks"])
    };
    let mut failures = Vec::new();
    for kind in ["kex", "key", "enc", "mac"] {
        for algorithm in report[kind].as_array().with_context(|| format!("no {kind} in {report}"))? {
            for weight in ["fail", "warn"] {
                if algorithm["notes"].get(weight).is_some() && !(weight == "warn" && classical(algorithm)) {
                    failures.push(format!(
                        "{weight}: {kind} {}: {}",
                        algorithm["algorithm"], algorithm["notes"][weight]
                    ));
                }
            }
        }
    }
    ensure!(failures.is_empty(), "{failures:#?}");
    assert_eq!(report["kex"][0]["algorithm"], "mlkem768x25519-sha256", "first choice");
    ensure!(report["cves"].as_array().is_none_or(Vec::is_empty), "{}", report["cves"]);
    Ok(())
}
