//! Files: scp in both its protocols, sftp, rsync, git.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use anyhow::{Result, ensure};
use e2e::{NodeWorld, OpenSsh};

use crate::stage::{fails, noise, output, succeeds};

#[test]
fn files_are_copied_by_scp_sftp_rsync_and_git_and_come_out_the_same() -> Result<()> {
    let world = NodeWorld::jerry_and_olga()?;
    let ssh = world.ssh(&world.dev)?;
    let (here, there) = (world.path().join("here"), world.path().join("there"));
    for dir in [&here, &there] {
        fs::create_dir(dir)?;
    }
    fs::create_dir(here.join("tree"))?;
    fs::write(here.join("tree/large"), noise(5_000_000))?;
    fs::write(here.join("tree/empty"), b"")?;
    fs::write(here.join("tree/a name with blanks"), b"text\n")?;
    fs::set_permissions(here.join("tree/empty"), fs::Permissions::from_mode(0o751))?;

    by_scp(&ssh, &here, &there, &[])?;
    by_scp(&ssh, &here, &there, &["-O"])?;
    by_sftp(&ssh, &here, &there)?;
    by_rsync(&ssh, &here, &there)?;
    by_git(&ssh, &here, &there)?;
    not_by_sftp_through_a_terminal(&ssh)?;
    by_a_server_of_a_path(&ssh, &there)?;
    every_file_of_sftp_is_in_the_trail(&world)
}

/// The terminal could make other names of those that the sidecar has seen.
fn not_by_sftp_through_a_terminal(ssh: &OpenSsh) -> Result<()> {
    let mut client = ssh.program("ssh")?;
    client.args(["-tt", "-s"]).arg(ssh.destination()).arg("sftp");
    let said = fails(client)?;
    ensure!(said.contains("subsystem request failed"), "{said}");
    Ok(())
}

/// There and back.
fn by_scp(ssh: &OpenSsh, here: &Path, there: &Path, options: &[&str]) -> Result<()> {
    let name = format!("scp{}", options.join(""));
    let copy = |from: &str, to: &str| -> Result<()> {
        let mut scp = ssh.program("scp")?;
        scp.args(options).args(["-r", "-p", "-q", from, to]);
        succeeds(scp).map(drop)
    };
    let remote = |path: &str| format!("{}:{}/{path}", ssh.destination(), there.display());
    copy(&here.join("tree").display().to_string(), &remote(&name))?;
    same(&here.join("tree"), &there.join(&name))?;
    copy(&remote(&name), &here.join(&name).display().to_string())?;
    same(&here.join("tree"), &here.join(&name))
}

fn by_sftp(ssh: &OpenSsh, here: &Path, there: &Path) -> Result<()> {
    let mut sftp = ssh.program("sftp")?;
    sftp.args(["-q", "-b", "-"]).arg(ssh.destination());
    let (here, there) = (here.display(), there.display());
    let script = format!(
        "cd {there}\nmkdir sftp\nput -p {here}/tree/large sftp/put\nget sftp/put {here}/got\nrename sftp/put sftp/moved\n\
         symlink sftp/moved sftp/link\nchmod 600 sftp/moved\nls -l sftp\nrm sftp/link\n-get sftp/nothing {here}/nothing\n"
    );
    let said = output(sftp, script.as_bytes())?;
    let errors = String::from_utf8_lossy(&said.stderr).into_owned();
    ensure!(said.status.success(), "{errors}");
    ensure!(errors.contains("not found"), "{errors}");
    ensure!(String::from_utf8_lossy(&said.stdout).contains("moved"));
    ensure!(fs::read(format!("{here}/got"))? == noise(5_000_000));
    ensure!(fs::read(format!("{there}/sftp/moved"))? == noise(5_000_000));
    Ok(())
}

/// The command that the client asks for, and what it does to files.
fn by_a_server_of_a_path(ssh: &OpenSsh, there: &Path) -> Result<()> {
    let mut sftp = ssh.program("sftp")?;
    sftp.args(["-q", "-b", "-", "-s", "/usr/lib/openssh/sftp-server"]).arg(ssh.destination());
    let said = output(
        sftp,
        format!(
            "mkdir {}/by-path
",
            there.display()
        )
        .as_bytes(),
    )?;
    ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    Ok(())
}

fn by_rsync(ssh: &OpenSsh, here: &Path, there: &Path) -> Result<()> {
    let sync = || -> Result<String> {
        let mut rsync = Command::new("rsync");
        ssh.plain(&mut rsync);
        rsync.args(["--archive", "--checksum", "--itemize-changes", "--rsh"]).arg(ssh.as_shell()?);
        rsync.arg(format!("{}/tree/", here.display()));
        rsync.arg(format!("{}:{}/rsync/", ssh.destination(), there.display()));
        succeeds(rsync)
    };
    ensure!(sync()?.contains("large"));
    same(&here.join("tree"), &there.join("rsync"))?;
    assert_eq!(sync()?, "", "nothing is left to do");
    // Only what has changed goes over the wire: rsync talks both ways at once.
    let mut changed = noise(5_000_000);
    changed[2_500_000..2_500_100].fill(0);
    fs::write(there.join("rsync/large"), changed)?;
    ensure!(sync()?.contains("large"));
    same(&here.join("tree"), &there.join("rsync"))
}

fn by_git(ssh: &OpenSsh, here: &Path, there: &Path) -> Result<()> {
    let git = |folder: &Path, args: &[&str]| -> Result<String> {
        let mut git = Command::new("git");
        ssh.plain(&mut git);
        git.env("GIT_SSH_COMMAND", ssh.as_shell()?).env("GIT_CONFIG_GLOBAL", "/dev/null");
        git.args(["-c", "user.name=jerry", "-c", "user.email=jerry@example.com", "-c", "safe.directory=*"]);
        git.arg("-C").arg(folder).args(args);
        succeeds(git)
    };
    let bare = there.join("repository.git");
    fs::create_dir(&bare)?;
    git(&bare, &["init", "--quiet", "--bare", "--initial-branch=main"])?;
    let remote = format!("{}:{}", ssh.destination(), bare.display());
    let work = here.join("tree");
    git(&work, &["init", "--quiet", "--initial-branch=main"])?;
    git(&work, &["add", "."])?;
    git(&work, &["commit", "--quiet", "--message=all"])?;
    git(&work, &["push", "--quiet", &remote, "main"])?;
    git(here, &["clone", "--quiet", "--branch=main", &remote, "cloned"])?;
    for name in ["large", "empty", "a name with blanks"] {
        ensure!(fs::read(work.join(name))? == fs::read(here.join("cloned").join(name))?, "{name}");
    }
    fs::remove_dir_all(work.join(".git"))?;
    Ok(())
}

fn same(one: &Path, other: &Path) -> Result<()> {
    for name in ["large", "empty", "a name with blanks"] {
        let (one, other) = (one.join(name), other.join(name));
        ensure!(fs::read(&one)? == fs::read(&other)?, "{} differs", other.display());
        let mode = |path: &Path| fs::metadata(path).map(|it| it.permissions().mode() & 0o777);
        ensure!(mode(&one)? == mode(&other)?, "the mode of {} differs", other.display());
    }
    Ok(())
}

fn every_file_of_sftp_is_in_the_trail(world: &NodeWorld) -> Result<()> {
    let of = |action: &'static str, end: &'static str| {
        move |event: &serde_json::Value| {
            event["action"] == action && event["path"].as_str().is_some_and(|path| path.ends_with(end))
        }
    };
    let written = world.tctl.wait_for_audit("sftp", of("write", "/there/sftp/put"))?;
    assert_eq!((&written["code"], &written["bytes_written"]), (&"TS004I".into(), &5_000_000.into()));
    assert_eq!(written["flags"], serde_json::json!(["write", "create", "truncate"]));
    let read = world.tctl.wait_for_audit("sftp", of("read", "/there/sftp/put"))?;
    assert_eq!((&read["code"], &read["bytes_read"]), (&"TS003I".into(), &5_000_000.into()));
    let moved = world.tctl.wait_for_audit("sftp", of("rename", "/there/sftp/put"))?;
    ensure!(moved["target_path"].as_str().is_some_and(|path| path.ends_with("/there/sftp/moved")), "{moved}");
    let changed = world.tctl.wait_for_audit("sftp", of("setstat", "/sftp/moved"))?;
    let permissions = changed["attributes"]["permissions"].as_str();
    ensure!(permissions.is_some_and(|permissions| permissions.ends_with("0600")), "{changed}");
    for (action, path) in
        [("mkdir", "/sftp"), ("mkdir", "/by-path"), ("remove", "/sftp/link"), ("readdir", "/sftp/")]
    {
        world.tctl.wait_for_audit("sftp", of(action, path))?;
    }
    // scp -O is a command, and says so.
    let scp = world.tctl.wait_for_audit("exec", |event| {
        event["file_copy"] == true
            && event["command"].as_str().is_some_and(|command| command.starts_with("scp "))
    })?;
    assert_eq!(scp["code"], "T3002I");
    Ok(())
}
