//! A person with tsh: a home, a security key and a one-time password device of their own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use auth::identity::{ClusterName, UserName};
use cli::home::Home;

use crate::{
    Finished, OtpDevice, Terminal,
    authd::CLUSTER,
    binaries,
    process::{self},
    psql::plain_environment,
};

/// Longest that a command without a person may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everybody's password in a world.
pub const PASSWORD: &str = "correct horse battery staple";

/// A person. Commands run with that person's own `TSH_HOME` and security key.
pub struct Tsh {
    user: String,
    home: PathBuf,
    /// Set when the device is registered.
    pub otp: Option<OtpDevice>,
    /// Whether what their terminals show is copied to our standard output.
    pub echo: bool,
}

impl Tsh {
    /// A person who has never used tsh, with a home in `dir`.
    ///
    /// # Errors
    /// When the home cannot be made.
    pub fn new(dir: &Path, user: &str) -> Result<Self> {
        let home = dir.join(user);
        fs::create_dir(&home).with_context(|| format!("home of {user}"))?;
        Ok(Self { user: user.to_owned(), home, otp: None, echo: false })
    }

    /// The home directory; tsh keeps its files in `.tsh` below it.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// What to put into the environment to act as this person.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("HOME", self.home.clone()),
            ("TSH_HOME", self.home.join(".tsh")),
            ("TSH_SOFTWARE_KEY", self.home.join("security-key")),
        ]
    }

    /// The command, to be run or shown.
    ///
    /// # Errors
    /// When tsh is not built.
    pub fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(binaries::ours("tsh")?);
        plain_environment(&mut command);
        command.envs(self.environment()).current_dir(&self.home).args(args);
        Ok(command)
    }

    /// Runs tsh at a terminal.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn at_terminal(&self, args: &[&str]) -> Result<Terminal> {
        Terminal::start(&self.command(args)?, self.echo)
    }

    /// Runs `tsh proxy db --tunnel` for a database that asks for no touch, and waits until it listens: answers with its port.
    /// It runs for as long as the terminal is there.
    ///
    /// # Errors
    /// When it does not come to listen.
    pub fn tunnel(&self, database: &str) -> Result<(Terminal, u16)> {
        let mut tunnel = self.at_terminal(&["proxy", "db", "--tunnel", database])?;
        tunnel.expect("on 127.0.0.1:")?;
        let port = tunnel.expect(".\n")?.trim().parse().context("port of the tunnel")?;
        Ok((tunnel, port))
    }

    /// Runs tsh to its end without any terminal, as a script would.
    ///
    /// # Errors
    /// When it cannot be run or hangs.
    pub fn run(&self, args: &[&str]) -> Result<Finished> {
        let tsh = self.command(args)?;
        let mut command = Command::new("setsid");
        command.args(["--wait", "--"]).arg(tsh.get_program()).args(tsh.get_args()).current_dir(&self.home);
        plain_environment(&mut command);
        command.envs(self.environment());
        process::run(command, "", PATIENCE)
    }

    /// tctl as this person, with the login that tsh made: an administrator at another machine than authd's.
    ///
    /// # Errors
    /// When tctl is not built.
    pub fn tctl(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(binaries::ours("tctl")?);
        plain_environment(&mut command);
        command.envs(self.environment()).current_dir(&self.home).args(args);
        Ok(command)
    }

    /// Runs tctl at a terminal, as this person.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn tctl_at_terminal(&self, args: &[&str]) -> Result<Terminal> {
        Terminal::start(&self.tctl(args)?, self.echo)
    }

    /// Finishes an invitation with a password and the security key.
    ///
    /// # Errors
    /// When it is refused.
    pub fn register(&self, url: &str) -> Result<String> {
        let mut terminal = self.at_terminal(&["register", url])?;
        self.choose_password(&mut terminal)?;
        choose_device(&mut terminal, "WEBAUTHN", "security-key")?;
        terminal.expect("Allow passwordless logins [YES, NO]: ")?;
        terminal.send("NO")?;
        terminal.succeed()
    }

    /// Types the new password twice, as asked.
    ///
    /// # Errors
    /// When it is not asked for.
    pub fn choose_password(&self, terminal: &mut Terminal) -> Result<()> {
        terminal.expect("assword")?;
        terminal.expect(":")?;
        terminal.send(PASSWORD)?;
        terminal.expect("assword")?;
        terminal.expect(":")?;
        terminal.send(PASSWORD)
    }

    /// Logs in with password and security key.
    ///
    /// # Errors
    /// When that is refused.
    pub fn login(&self, proxy: &str) -> Result<String> {
        let mut terminal = self.at_terminal(&[
            "login",
            "--proxy",
            proxy,
            "--user",
            &self.user,
            "--mfa-mode=cross-platform",
        ])?;
        terminal.expect("Enter password")?;
        terminal.expect(":")?;
        terminal.send(PASSWORD)?;
        terminal.expect("Tap any security key")?;
        terminal.succeed()
    }

    /// The login on disk: certificate and key.
    ///
    /// # Errors
    /// When the address or the user's name is none.
    pub fn login_files(&self, proxy: &str) -> Result<(PathBuf, PathBuf)> {
        let home = Home::at(self.home.join(".tsh"));
        let files = home.user(&proxy.parse()?, &UserName::new(self.user.clone())?);
        Ok((files.tls_certificate(), files.tls_key()))
    }

    /// The login on disk in OpenSSH's form: private key and certificate.
    ///
    /// # Errors
    /// When the address or the user's name is none.
    pub fn ssh_login_files(&self, proxy: &str) -> Result<(PathBuf, PathBuf)> {
        let home = Home::at(self.home.join(".tsh"));
        let files = home.user(&proxy.parse()?, &UserName::new(self.user.clone())?);
        Ok((files.ssh_key(), files.ssh_certificate(&ClusterName::new(CLUSTER)?)))
    }

    /// Whom tsh believes about hosts: a known_hosts file.
    #[must_use]
    pub fn known_hosts(&self) -> PathBuf {
        Home::at(self.home.join(".tsh")).known_hosts()
    }

    /// Adds an OTP device, proved with the security key.
    ///
    /// # Errors
    /// When that is refused.
    pub fn add_otp_device(&mut self, name: &str) -> Result<String> {
        let mut terminal =
            self.at_terminal(&["mfa", "add", "--type=TOTP", "--name", name, "--mfa-mode=cross-platform"])?;
        terminal.expect("Secret key:")?;
        let secret = terminal.expect("\n")?;
        let mut device = OtpDevice::new(&secret)?;
        terminal.expect("enter an OTP code generated by the app")?;
        terminal.send(&device.code()?)?;
        self.otp = Some(device);
        terminal.succeed()
    }

    /// Takes a session certificate and its key, as a thief does who is there when the key is touched: the files are
    /// `stolen.crt` and `stolen.key` in the home. What the thief's program said.
    ///
    /// # Errors
    /// When authd gives none.
    pub fn steal_session(&self, target: &str) -> Result<String> {
        let mut command = Command::new(binaries::ours("session-thief")?);
        command.envs(self.environment()).current_dir(&self.home).args([target, "jerry", "app", "stolen"]);
        process::run(command, "", PATIENCE)?.output()
    }

    /// The files of [`Tsh::steal_session`], taken for `target`.
    ///
    /// # Errors
    /// When authd gives none.
    pub fn stolen_session(&self, target: &str) -> Result<(PathBuf, PathBuf)> {
        self.steal_session(target)?;
        Ok((self.home.join("stolen.crt"), self.home.join("stolen.key")))
    }

    /// A new code of the OTP device.
    ///
    /// # Errors
    /// When there is no device.
    pub fn otp_code(&mut self) -> Result<String> {
        self.otp.as_mut().context("no OTP device is registered")?.code()
    }
}

/// Answers the questions for a device's type and name.
///
/// # Errors
/// When they are not asked.
fn choose_device(terminal: &mut Terminal, kind: &str, name: &str) -> Result<()> {
    terminal.expect("Choose device type")?;
    terminal.expect(":")?;
    terminal.send(kind)?;
    terminal.expect("Enter device name")?;
    terminal.expect(":")?;
    terminal.send(name)
}
