//! OpenSSH's own programs, with nothing but their own options: as whoever has no tsh on that machine.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{Finished, Sidecar, Terminal, Tsh, authd::CLUSTER, binaries, process, psql::plain_environment};

/// Longest that one command may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A person's `ssh`, `scp` and `sftp` to one sidecar, with the login that tsh keeps on disk.
///
/// The host is called by its name in the cluster, so that its certificate is verified as it would be anywhere.
#[derive(Clone, Debug)]
pub struct OpenSsh {
    home: PathBuf,
    account: String,
    /// `NAME.CLUSTER`, under which the host's certificate is verified.
    host: String,
    options: Vec<String>,
}

impl OpenSsh {
    /// To a sidecar, with the login of `person`, as `account`.
    ///
    /// # Errors
    /// When the person is not logged in.
    pub fn to(sidecar: &Sidecar, person: &Tsh, proxy: &str, account: &str) -> Result<Self> {
        let (key, certificate) = person.ssh_login_files(proxy)?;
        let host = format!("{}.{CLUSTER}", sidecar.name());
        let mut options = vec![
            "HostName=127.0.0.1".to_owned(),
            format!("Port={}", sidecar.address().port()),
            format!("HostKeyAlias={host}"),
            format!("UserKnownHostsFile={}", person.known_hosts().display()),
            format!("IdentityFile={}", key.display()),
            format!("CertificateFile={}", certificate.display()),
        ];
        options.extend(
            [
                "GlobalKnownHostsFile=/dev/null",
                "StrictHostKeyChecking=yes",
                "IdentitiesOnly=yes",
                "IdentityAgent=none",
                "UpdateHostKeys=no",
                "ConnectTimeout=30",
            ]
            .map(str::to_owned),
        );
        Ok(Self { home: person.home().to_owned(), account: account.to_owned(), host, options })
    }

    /// The same with one option more, which goes before the others: `BatchMode=yes`.
    #[must_use]
    pub fn with(mut self, option: impl Into<String>) -> Self {
        self.options.insert(0, option.into());
        self
    }

    /// The same as another account.
    #[must_use]
    pub fn as_account(mut self, account: &str) -> Self {
        account.clone_into(&mut self.account);
        self
    }

    /// `ACCOUNT@HOST`
    #[must_use]
    pub fn destination(&self) -> String {
        format!("{}@{}", self.account, self.host)
    }

    /// Where the person's files are.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// All of it as an ssh_config for programs that take one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn config_file(&self, name: &str) -> Result<PathBuf> {
        let mut text = format!("Host *\n  User {}\n", self.account);
        for option in &self.options {
            let (key, value) = option.split_once('=').context("an option is KEY=VALUE")?;
            text += &format!("  {key} {value}\n");
        }
        let file = self.home.join(name);
        std::fs::write(&file, text)?;
        Ok(file)
    }

    /// One of OpenSSH's programs (`ssh`, `scp`, `sftp`) with these options; arguments follow.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn program(&self, name: &str) -> Result<Command> {
        let mut command = Command::new(binaries::ssh(name)?);
        command.args(["-F", "none"]);
        for option in &self.options {
            command.arg("-o").arg(option);
        }
        self.plain(&mut command);
        Ok(command)
    }

    /// The line that rsync and git take as their way to run ssh.
    ///
    /// # Errors
    /// When ssh is not installed, or a name in it needs quotes.
    pub fn as_shell(&self) -> Result<String> {
        let ssh = self.program("ssh")?;
        let words = std::iter::once(ssh.get_program()).chain(ssh.get_args());
        let words: Option<Vec<&str>> = words.map(std::ffi::OsStr::to_str).collect();
        Ok(words.context("a path is no UTF-8")?.join(" "))
    }

    /// The environment that every program gets.
    pub fn plain(&self, command: &mut Command) {
        plain_environment(command);
        command.env("HOME", &self.home).env_remove("SSH_AUTH_SOCK").env_remove("DISPLAY");
        command.current_dir(&self.home);
    }

    /// `ssh [words of options] ACCOUNT@HOST [command]`
    ///
    /// # Errors
    /// When ssh is not installed.
    pub fn ssh(&self, options: &[&str], command: &[&str]) -> Result<Command> {
        let mut ssh = self.program("ssh")?;
        ssh.args(options).arg(self.destination()).args(command);
        Ok(ssh)
    }

    /// Runs a command at the host, to its end, without any terminal.
    ///
    /// # Errors
    /// When ssh cannot be run or hangs.
    pub fn run(&self, command: &str) -> Result<Finished> {
        self.run_with(&[], command, "")
    }

    /// The same with options of ssh's and an input.
    ///
    /// # Errors
    /// When ssh cannot be run or hangs.
    pub fn run_with(&self, options: &[&str], command: &str, input: &str) -> Result<Finished> {
        // Nobody to ask: who wants a terminal finds none.
        let mut alone = Command::new("setsid");
        let ssh = self.ssh(options, &[command])?;
        alone.args(["--wait", "--"]).arg(ssh.get_program()).args(ssh.get_args());
        self.plain(&mut alone);
        process::run(alone, input, PATIENCE)
    }

    /// ssh at a terminal.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn at_terminal(&self, options: &[&str], command: &[&str]) -> Result<Terminal> {
        Terminal::start(&self.ssh(options, command)?, false)
    }
}
