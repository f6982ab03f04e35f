//! A sidecar: the built program in front of one target, on loopback ports of its own.

use std::{
    fs::{self, Permissions},
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{
    Authd, Mariadb, Postgres, Sshd, Tctl,
    authd::{STARTING, listening, logged},
    binaries,
    process::{Daemon, mortal, poll, run},
};

/// What a sidecar is started with.
#[derive(Clone, Debug)]
pub struct SidecarOptions {
    /// What the upstream speaks: `postgres`, `mysql` or `ssh`.
    pub protocol: &'static str,
    /// Name of its target.
    pub name: String,
    /// Labels as on the command line: `env=dev,…`.
    pub labels: String,
    /// The upstream: `HOST:PORT` or `unix:PATH`.
    pub uri: String,
    /// A file with the upstream's password, where it asks for one.
    pub password_file: Option<PathBuf>,
    /// Whether bound values are recorded. Only a configuration file can say that they are not: without them, the sidecar
    /// is started from one.
    pub parameter_values: bool,
    /// The version that MySQL clients are greeted with, in place of the database's own.
    pub mysql_server_version: Option<String>,
    /// The host key of an upstream that speaks SSH.
    pub host_key: Option<String>,
    /// In its place, or beside it: the authority of such an upstream's certificate.
    pub host_authority: Option<String>,
    /// The name that this certificate must be for, where the host in `uri` is not it.
    pub host_name: Option<String>,
    /// A file with a private key for such an upstream, in place of a certificate.
    pub key_file: Option<PathBuf>,
}

impl SidecarOptions {
    fn flags(&self, auth_server: &str, ca_pin: &str, token: Option<&str>, listen: &str) -> Vec<String> {
        let Self { protocol, name, labels, uri, password_file, mysql_server_version, .. } = self;
        let mut flags = vec![
            format!("--auth-server={auth_server}"),
            format!("--ca-pin={ca_pin}"),
            format!("--name={name}"),
            format!("--protocol={protocol}"),
            format!("--labels={labels}"),
            format!("--uri={uri}"),
            format!("--listen={listen}"),
        ];
        flags.extend(token.map(|token| format!("--token={token}")));
        flags.extend(password_file.iter().map(|file| format!("--upstream-password-file={}", file.display())));
        flags.extend(mysql_server_version.iter().map(|version| format!("--mysql-server-version={version}")));
        flags.extend(self.host_key.iter().map(|key| format!("--upstream-host-key={key}")));
        flags.extend(self.host_authority.iter().map(|key| format!("--upstream-host-ca={key}")));
        flags.extend(self.host_name.iter().map(|name| format!("--upstream-host-name={name}")));
        flags.extend(self.key_file.iter().map(|file| format!("--upstream-key-file={}", file.display())));
        flags
    }

    /// The same as a configuration file; the token is in a file beside it.
    fn file(
        &self,
        data_dir: &Path,
        auth_server: &str,
        ca_pin: &str,
        token: Option<&str>,
        listen: &str,
    ) -> Result<String> {
        let Self {
            protocol, name, labels, uri, password_file, parameter_values, mysql_server_version, ..
        } = self;
        let mut text = format!("auth_server: {auth_server}\nca_pins: ['{ca_pin}']\n");
        if let Some(token) = token {
            let file = data_dir.with_extension("token");
            fs::write(&file, token)?;
            fs::set_permissions(&file, Permissions::from_mode(0o600))?;
            text += &format!("token_file: {}\n", file.display());
        }
        let labels = labels.replace('=', ": ");
        text += &format!(
            "targets:\n- name: {name}\n  protocol: {protocol}\n  listen: {listen}\n  labels: {{ {labels} }}\n  \
             audit: {{ parameter_values: {parameter_values} }}\n"
        );
        if let Some(version) = mysql_server_version {
            text += &format!("  mysql: {{ server_version: '{version}' }}\n");
        }
        text += &format!("  upstream:\n    uri: {uri}\n");
        if let Some(file) = password_file {
            text += &format!("    password_file: {}\n", file.display());
        }
        Ok(text)
    }
}

/// A database or host that a sidecar can stand in front of.
pub trait Guarded {
    /// The word for it in a sidecar's configuration.
    const PROTOCOL: &'static str;

    /// Where it listens: `HOST:PORT`, with TLS as its certificate says.
    fn address(&self) -> String;

    /// The host key of one that speaks SSH.
    fn host_key(&self) -> Option<String> {
        None
    }
}

impl Guarded for Sshd {
    const PROTOCOL: &'static str = "ssh";

    fn address(&self) -> String {
        self.address()
    }

    fn host_key(&self) -> Option<String> {
        Some(self.host_key().to_owned())
    }
}

impl Guarded for Postgres {
    const PROTOCOL: &'static str = "postgres";

    fn address(&self) -> String {
        self.address()
    }
}

impl Guarded for Mariadb {
    const PROTOCOL: &'static str = "mysql";

    fn address(&self) -> String {
        self.address()
    }
}

/// Options of a sidecar that logs in to what it guards by certificate.
#[must_use]
pub fn guard<D: Guarded>(name: &str, labels: &str, database: &D) -> SidecarOptions {
    SidecarOptions {
        protocol: D::PROTOCOL,
        name: name.to_owned(),
        labels: labels.to_owned(),
        uri: database.address(),
        password_file: None,
        parameter_values: true,
        mysql_server_version: None,
        host_key: database.host_key(),
        host_authority: None,
        host_name: None,
        key_file: None,
    }
}

/// A running sidecar. Killed when dropped.
pub struct Sidecar {
    daemon: Daemon,
    options: SidecarOptions,
    data_dir: PathBuf,
    auth_server: String,
    ca_pin: String,
    address: SocketAddr,
    diag: SocketAddr,
}

impl Sidecar {
    /// Joins with a new token, starts, is ready (its replica is complete), and has told authd what it guards.
    ///
    /// # Errors
    /// When it does not get there.
    pub fn start(data_dir: &Path, authd: &Authd, tctl: &Tctl, options: SidecarOptions) -> Result<Self> {
        Self::join(data_dir, &authd.public_addr(), tctl, options)
    }

    /// The same with an authd of whatever kind at this address.
    ///
    /// # Errors
    /// When it does not get there.
    pub fn join(data_dir: &Path, auth_server: &str, tctl: &Tctl, options: SidecarOptions) -> Result<Self> {
        let sidecar = Self::join_unready(data_dir, auth_server, tctl, options)?;
        sidecar.wait_until_ready()?;
        Ok(sidecar)
    }

    /// The same without waiting until a session could start: the database may not be there yet.
    ///
    /// # Errors
    /// When it does not join.
    pub fn start_unready(
        data_dir: &Path,
        authd: &Authd,
        tctl: &Tctl,
        options: SidecarOptions,
    ) -> Result<Self> {
        Self::join_unready(data_dir, &authd.public_addr(), tctl, options)
    }

    fn join_unready(
        data_dir: &Path,
        auth_server: &str,
        tctl: &Tctl,
        options: SidecarOptions,
    ) -> Result<Self> {
        let kind = if options.protocol == Sshd::PROTOCOL { "node" } else { "db" };
        let (token, ca_pin) = (tctl.join_token_for(kind)?, tctl.ca_pin()?);
        let sidecar = Self::launch(data_dir, auth_server, &ca_pin, Some(&token), options, "127.0.0.1:0")?;
        sidecar
            .daemon
            .wait_for("the sidecar to announce itself", STARTING, |line| logged(line, "announced"))?;
        Ok(sidecar)
    }

    /// Tries to join with this token, and must not be taken: what it said to that.
    ///
    /// # Errors
    /// When it goes on, or cannot be started.
    pub fn refused(
        data_dir: &Path,
        authd: &Authd,
        tctl: &Tctl,
        token: &str,
        options: SidecarOptions,
    ) -> Result<String> {
        let command = Self::command_of(
            data_dir,
            &authd.public_addr(),
            &tctl.ca_pin()?,
            Some(token),
            &options,
            "127.0.0.1:0",
        )?;
        run(command, "", STARTING)?.error()
    }

    fn wait_until_ready(&self) -> Result<()> {
        poll("the sidecar to be ready", STARTING, || Ok(self.is_ready().then_some(())))
    }

    fn launch(
        data_dir: &Path,
        auth_server: &str,
        ca_pin: &str,
        token: Option<&str>,
        options: SidecarOptions,
        listen: &str,
    ) -> Result<Self> {
        let command = Self::command_of(data_dir, auth_server, ca_pin, token, &options, listen)?;
        let daemon = Daemon::start(format!("sidecar {}", options.name), command)?;
        let address =
            daemon.wait_for("the sidecar to listen", STARTING, |line| listening(line, &options.name))?;
        let diag = daemon.wait_for("its diagnostics to listen", STARTING, |line| listening(line, "diag"))?;
        Ok(Self {
            daemon,
            options,
            data_dir: data_dir.to_owned(),
            auth_server: auth_server.to_owned(),
            ca_pin: ca_pin.to_owned(),
            address,
            diag,
        })
    }

    fn command_of(
        data_dir: &Path,
        auth_server: &str,
        ca_pin: &str,
        token: Option<&str>,
        options: &SidecarOptions,
        listen: &str,
    ) -> Result<Command> {
        let mut command = mortal(binaries::ours("sidecar")?, "KILL");
        command.args(["start", "--log-format=json"]).env("TOUCHSTONE_LOG", "info");
        if options.parameter_values {
            command.args(options.flags(auth_server, ca_pin, token, listen));
        } else {
            let file = data_dir.with_extension("yaml");
            fs::write(&file, options.file(data_dir, auth_server, ca_pin, token, listen)?)?;
            command.arg(format!("--config={}", file.display()));
        }
        command.arg(format!("--data-dir={}", data_dir.display())).arg("--diag-addr=127.0.0.1:0");
        Ok(command)
    }

    /// Starts it again on the same address, with what lies in its data directory: no token is needed.
    ///
    /// # Errors
    /// When it does not start.
    pub fn resume(&mut self) -> Result<()> {
        let listen = self.address.to_string();
        let Self { data_dir, auth_server, ca_pin, options, .. } = self;
        *self = Self::launch(data_dir, auth_server, ca_pin, None, options.clone(), &listen)?;
        self.wait_until_ready()
    }

    /// The command line that started it.
    #[must_use]
    pub fn command(&self) -> &str {
        self.daemon.command()
    }

    /// The name of what it guards.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// What clients dial.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients that check host names dial: `localhost:PORT`.
    #[must_use]
    pub fn public_addr(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    /// Answer of `/readyz`.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.get("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// Waits until `/readyz` says that no session could start.
    ///
    /// # Errors
    /// When it stays ready.
    pub fn wait_until_not_ready(&self) -> Result<()> {
        poll("the sidecar to be not ready", STARTING, || Ok((!self.is_ready()).then_some(())))
    }

    /// What its diagnostics port answers, head and body.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn get(&self, path: &str) -> Result<String> {
        let patience = Duration::from_secs(5);
        let mut stream =
            TcpStream::connect_timeout(&self.diag, patience).context("connect to diagnostics")?;
        stream.set_read_timeout(Some(patience))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// The value of one metric without labels, or the sum over those with.
    ///
    /// # Errors
    /// When it has no such metric.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let answer = self.get("/metrics")?;
        let values = answer.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            (series.split('{').next()? == name).then(|| value.parse::<f64>().ok())?
        });
        values.reduce(|sum, value| sum + value).with_context(|| format!("no metric {name} in:\n{answer}"))
    }

    /// The process.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// Where it keeps its certificate and its audit spool.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }
}
