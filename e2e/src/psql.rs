//! psql by itself: what a client that is not tsh, or somebody with a stolen certificate, would use.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Result;

use crate::{
    Finished, Terminal, binaries,
    process::{self},
};

/// Longest that one query may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to be made by psql over PostgreSQL's native TLS, checked with `sslmode=verify-full`.
#[derive(Clone, Debug)]
pub struct Psql {
    /// `key=value` words of a connection string.
    words: Vec<(&'static str, String)>,
}

impl Psql {
    /// To `address` (`HOST:PORT`), trusting `authorities` (a PEM file).
    #[must_use]
    pub fn to(address: &str, authorities: &Path) -> Self {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "5432"));
        let words = vec![
            ("host", host.to_owned()),
            ("port", port.to_owned()),
            ("sslmode", "verify-full".to_owned()),
            ("sslrootcert", authorities.display().to_string()),
            ("connect_timeout", "10".to_owned()),
        ];
        Self { words }
            .with("user", "jerry")
            .with("dbname", "app")
            .with("sslcert", "none")
            .with("sslkey", "none")
    }

    /// Through a local tunnel on `port`, without TLS of its own.
    #[must_use]
    pub fn through_tunnel(port: u16) -> Self {
        let words = vec![
            ("host", "127.0.0.1".to_owned()),
            ("port", port.to_string()),
            ("sslmode", "disable".to_owned()),
            ("connect_timeout", "10".to_owned()),
        ];
        Self { words }.with("user", "jerry").with("dbname", "app")
    }

    /// With one word of the connection string set.
    #[must_use]
    pub fn with(mut self, word: &'static str, value: impl Into<String>) -> Self {
        self.words.retain(|(known, _)| *known != word);
        self.words.push((word, value.into()));
        self
    }

    /// With a client certificate and its key, PEM files.
    #[must_use]
    pub fn certificate(self, certificate: &Path, key: &Path) -> Self {
        self.with("sslcert", certificate.display().to_string()).with("sslkey", key.display().to_string())
    }

    /// As this database user.
    #[must_use]
    pub fn user(self, user: &str) -> Self {
        self.with("user", user)
    }

    /// To this database.
    #[must_use]
    pub fn database(self, database: &str) -> Self {
        self.with("dbname", database)
    }

    /// The connection string.
    #[must_use]
    pub fn connection(&self) -> String {
        self.words.iter().map(|(word, value)| format!("{word}={value}")).collect::<Vec<_>>().join(" ")
    }

    /// Runs one query to its end.
    ///
    /// # Errors
    /// When psql cannot be run or hangs. What the database answers is in the result.
    pub fn query(&self, sql: &str) -> Result<Finished> {
        let mut command = self.query_command(sql)?;
        command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]);
        process::run(command, "", PATIENCE)
    }

    /// The command that runs one query, to be shown.
    ///
    /// # Errors
    /// When psql is not installed.
    pub fn query_command(&self, sql: &str) -> Result<Command> {
        let mut command = self.command("psql")?;
        command.arg(self.connection()).args(["--command", sql]);
        Ok(command)
    }

    /// Runs a PostgreSQL program that takes a connection string as its last argument (`pg_dump`, `pgbench`).
    ///
    /// # Errors
    /// When it cannot be run or hangs.
    pub fn program(&self, name: &str, args: &[&str]) -> Result<Finished> {
        let mut command = self.command(name)?;
        command.args(args).arg(self.connection());
        process::run(command, "", PATIENCE)
    }

    /// An interactive session, past its first prompt.
    ///
    /// # Errors
    /// When the prompt does not come.
    pub fn session(&self) -> Result<Terminal> {
        let mut command = self.command("psql")?;
        command.arg("--no-psqlrc").arg(self.connection());
        let mut terminal = Terminal::start(&command, false)?;
        terminal.expect("=> ")?;
        Ok(terminal)
    }

    /// One of PostgreSQL's programs in a plain environment; the connection string is not among its arguments yet.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn command(&self, name: &str) -> Result<Command> {
        let program: PathBuf = binaries::postgres(name)?;
        let mut command = Command::new(program);
        plain_environment(&mut command);
        Ok(command)
    }
}

/// Nothing of the developer's own settings, and nothing that draws: no pager, no history, no colours.
pub(crate) fn plain_environment(command: &mut Command) {
    for name in
        ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD", "PGSSLMODE", "PGSERVICE", "PGOPTIONS"]
    {
        command.env_remove(name);
    }
    command
        .env("PSQLRC", "/dev/null")
        .env("PSQL_HISTORY", "/dev/null")
        .env("PSQL_PAGER", "")
        .env("PAGER", "");
    command.env("TERM", "dumb").env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
}
