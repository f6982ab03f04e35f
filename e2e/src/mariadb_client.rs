//! The `mariadb` client by itself: what a client that is not tsh, or somebody with a stolen certificate, would use.

use std::{path::Path, process::Command, time::Duration};

use anyhow::Result;

use crate::{
    Finished, Terminal, binaries,
    process::{self},
    psql::plain_environment,
};

/// Longest that one query may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to be made by a program of MariaDB's: by default over native TLS, with the sidecar's certificate verified.
#[derive(Clone, Debug)]
pub struct MariadbClient {
    /// `--name=value`, in order.
    options: Vec<(&'static str, String)>,
}

impl MariadbClient {
    /// To `address` (`HOST:PORT`), trusting `authorities` (a PEM file), as jerry in `app`.
    #[must_use]
    pub fn to(address: &str, authorities: &Path) -> Self {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "3306"));
        Self::new(&[("protocol", "TCP"), ("host", host), ("port", port)])
            .with("ssl-ca", authorities.display().to_string())
            .with("ssl-verify-server-cert", "1")
    }

    /// Through a local tunnel on `port`, without TLS of its own.
    #[must_use]
    pub fn through_tunnel(port: u16) -> Self {
        Self::new(&[("protocol", "TCP"), ("host", "127.0.0.1"), ("port", &port.to_string()), ("ssl", "0")])
    }

    /// At the database's own Unix socket.
    #[must_use]
    pub fn at_socket(socket: &Path) -> Self {
        Self::new(&[("socket", &socket.display().to_string())])
    }

    fn new(options: &[(&'static str, &str)]) -> Self {
        let options = options.iter().map(|&(name, value)| (name, value.to_owned())).collect();
        Self { options }.with("connect-timeout", "10").user("jerry").database("app")
    }

    /// With one option set, in place of what was said before.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.options.retain(|(known, _)| *known != name);
        self.options.push((name, value.into()));
        self
    }

    /// Without an option.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.options.retain(|(known, _)| *known != name);
        self
    }

    /// With a client certificate and its key, PEM files.
    #[must_use]
    pub fn certificate(self, certificate: &Path, key: &Path) -> Self {
        self.with("ssl-cert", certificate.display().to_string()).with("ssl-key", key.display().to_string())
    }

    /// As this database user.
    #[must_use]
    pub fn user(self, user: &str) -> Self {
        self.with("user", user)
    }

    /// In this database.
    #[must_use]
    pub fn database(self, database: &str) -> Self {
        self.with("database", database)
    }

    /// The value of an option.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// What goes on a command line, each as one word.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        self.options.iter().map(|(name, value)| format!("--{name}={value}")).collect()
    }

    /// Runs one or more statements to their end; rows as lines with tabs.
    ///
    /// # Errors
    /// When the client cannot be run or hangs. What the database answers is in the result.
    pub fn query(&self, sql: &str) -> Result<Finished> {
        let mut command = self.query_command(sql)?;
        command.args(["--batch", "--skip-column-names"]);
        process::run(command, "", PATIENCE)
    }

    /// The command that runs one query, to be shown.
    ///
    /// # Errors
    /// When the client is not installed.
    pub fn query_command(&self, sql: &str) -> Result<Command> {
        let mut command = self.command("mariadb")?;
        command.arg(format!("--execute={sql}"));
        Ok(command)
    }

    /// Runs one of MariaDB's programs (`mariadb-admin`, `mariadb-slap`). Those that take their database as an argument
    /// are run [`MariadbClient::without`] the option.
    ///
    /// # Errors
    /// When it cannot be run or hangs.
    pub fn program(&self, name: &str, args: &[&str]) -> Result<Finished> {
        let mut command = self.command(name)?;
        command.args(args);
        process::run(command, "", PATIENCE)
    }

    /// An interactive session, past its first prompt.
    ///
    /// # Errors
    /// When the prompt does not come.
    pub fn session(&self) -> Result<Terminal> {
        let mut terminal = Terminal::start(&self.command("mariadb")?, false)?;
        terminal.expect("]> ")?;
        Ok(terminal)
    }

    /// One of MariaDB's programs in a plain environment, with its options.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn command(&self, name: &str) -> Result<Command> {
        let mut command = Command::new(binaries::mariadb(name)?);
        plain_environment(&mut command);
        command.arg("--no-defaults").args(self.arguments());
        Ok(command)
    }
}
