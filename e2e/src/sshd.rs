//! A real sshd: keys of its own in the world's directory, on a loopback port of its own, for the account that runs the test.
//!
//! It believes the cluster's openssh authority and, where a story puts them there, the keys in its `authorized_keys`; no
//! password. An sshd that is not root lets in its own account alone, so that is the login of every story; where the test
//! runs as root, that is root.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::unistd::{User, geteuid};

use crate::{
    Tctl, binaries,
    process::{self, Daemon, mortal},
};

const STARTING: Duration = Duration::from_secs(30);
/// Where an sshd that is root keeps those who are not logged in yet: empty, and compiled in.
const EMPTY: &str = "/run/sshd";

/// A running sshd. Stopped when dropped.
pub struct Sshd {
    server: Daemon,
    dir: PathBuf,
    port: u16,
    host_key: String,
    account: String,
}

impl Sshd {
    /// Makes host keys below `dir` and starts it.
    ///
    /// # Errors
    /// When OpenSSH is not installed or does not start.
    pub fn start(dir: &Path, tctl: &Tctl) -> Result<Self> {
        Self::start_with(dir, tctl, "")
    }

    /// The same with lines of `sshd_config` more.
    ///
    /// # Errors
    /// When OpenSSH is not installed or does not start.
    pub fn start_with(dir: &Path, tctl: &Tctl, options: &str) -> Result<Self> {
        Self::launch(dir, tctl, options, |_| Ok(()))
    }

    /// The same after something was done with its directory, where its `host_key.pub` lies: a `host_key-cert.pub` beside
    /// it is shown to clients.
    ///
    /// # Errors
    /// As [`Sshd::start`]; what `prepare` says.
    pub fn prepared(dir: &Path, tctl: &Tctl, prepare: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        Self::launch(dir, tctl, "", prepare)
    }

    fn launch(
        dir: &Path,
        tctl: &Tctl,
        options: &str,
        prepare: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Self> {
        fs::create_dir(dir).context("directory of sshd")?;
        trust(dir, tctl)?;
        let key = dir.join("host_key");
        let mut keygen = Command::new(binaries::ssh("ssh-keygen")?);
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(&key);
        process::run(keygen, "", STARTING)?.output()?;
        let host_key = fs::read_to_string(dir.join("host_key.pub"))?.trim().to_owned();
        prepare(dir)?;
        if geteuid().is_root() && !Path::new(EMPTY).exists() {
            fs::create_dir_all(EMPTY).with_context(|| format!("make {EMPTY} for sshd"))?;
        }
        // The port is free until somebody else takes it between our look and the server's start: then another is tried.
        for _ in 0..5 {
            let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
            let file = dir.join("sshd_config");
            fs::write(&file, configuration(dir, port) + options)?;
            // By its full path: it starts itself again for each connection.
            let mut command = mortal(binaries::ssh("sshd")?, "KILL");
            command.args(["-D", "-e", "-f"]).arg(&file);
            let server = Daemon::start("sshd", command)?;
            let ready = |line: &str| {
                let ready = line.contains("Server listening on");
                let failed = line.contains("Cannot bind any address") || line.contains("in use");
                (ready || failed).then_some(ready)
            };
            if server.wait_for("sshd to start", STARTING, ready)? {
                return Ok(Self { server, dir: dir.to_owned(), port, host_key, account: account()? });
            }
        }
        bail!("no free port for sshd")
    }

    /// Trusts what the cluster now says is to be trusted, from the next connection on.
    ///
    /// # Errors
    /// When the cluster does not say.
    pub fn trust(&self, tctl: &Tctl) -> Result<()> {
        trust(&self.dir, tctl)
    }

    /// Where it listens: `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The process id of the server.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.server.id()
    }

    /// Lets this key in, a line of its own form: by the key itself, without any certificate.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn authorize(&self, key: &str) -> Result<()> {
        fs::write(self.dir.join("authorized_keys"), key).context("authorized_keys")
    }

    /// Its host key, as a sidecar pins it.
    #[must_use]
    pub fn host_key(&self) -> &str {
        &self.host_key
    }

    /// The one account that it lets in.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The command line that started it.
    #[must_use]
    pub fn command(&self) -> &str {
        self.server.command()
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.server.log()
    }
}

/// Who runs the test.
///
/// # Errors
/// When the account has no name.
pub fn account() -> Result<String> {
    Ok(User::from_uid(geteuid())?.context("the account that runs this has no name")?.name)
}

fn trust(dir: &Path, tctl: &Tctl) -> Result<()> {
    fs::write(dir.join("authorities.pub"), tctl.export("openssh")?).context("authorities of sshd")
}

fn configuration(dir: &Path, port: u16) -> String {
    let certificate = match dir.join("host_key-cert.pub") {
        file if file.exists() => format!("HostCertificate {}\n", file.display()),
        _ => String::new(),
    };
    let dir = dir.display();
    format!(
        "ListenAddress 127.0.0.1\nPort {port}\nHostKey {dir}/host_key\n{certificate}PidFile none\n\
         TrustedUserCAKeys {dir}/authorities.pub\nAuthorizedKeysFile {dir}/authorized_keys\nPermitRootLogin yes\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\n\
         Subsystem sftp internal-sftp\nAcceptEnv LANG LC_* TOUCHSTONE_*\n\
         AllowAgentForwarding yes\nAllowTcpForwarding yes\nAllowStreamLocalForwarding yes\n\
         StreamLocalBindUnlink yes\nX11Forwarding yes\nSetEnv XAUTHORITY={dir}/xauthority\nMaxSessions 100\nMaxStartups 100\n\
         PrintMotd no\nPrintLastLog no\nLogLevel VERBOSE\n"
    )
}
