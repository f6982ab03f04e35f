//! psql as a child: its address, its environment, its signals, its end.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

/// What of psql's environment is the user's taste. Every other `PG…` variable could lead the connection elsewhere, turn
/// on TLS towards the local port, or bring a password or certificate into play, so it is dropped.
const KEPT: &[&str] = &[
    "PGAPPNAME",
    "PGCLIENTENCODING",
    "PGCONNECT_TIMEOUT",
    "PGDATESTYLE",
    "PGGEQO",
    "PGLOCALEDIR",
    "PGOPTIONS",
    "PGTZ",
    "PG_COLOR",
    "PG_COLORS",
];

/// Why psql did not end well.
#[derive(Debug, thiserror::Error)]
pub enum PsqlError {
    /// There is no psql.
    #[error("psql was not found: install the PostgreSQL client (package postgresql-client)")]
    Missing,
    /// It could not be started, or waited for.
    #[error("cannot run psql")]
    Run(#[source] io::Error),
    /// It ended with another status than 0.
    #[error("exit status {0}")]
    Status(i32),
    /// A signal ended it.
    #[error("signal: {0}")]
    Signal(String),
}

/// `postgres://user@localhost:port/database`, user and database percent-encoded.
#[must_use]
pub fn url(user: &str, port: u16, database: &str) -> String {
    format!("postgres://{}@localhost:{port}/{}", percent_encoded(user), percent_encoded(database))
}

/// Everything but RFC 3986's unreserved characters as `%XX`.
#[must_use]
pub fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Runs psql against a local port until it ends. Ctrl-C and Ctrl-\ are psql's own (it cancels the query); SIGTERM and
/// SIGHUP are passed on to it.
///
/// # Errors
/// [`PsqlError`].
pub async fn run(url: &str, arguments: &[OsString]) -> Result<(), PsqlError> {
    // Handlers, not SIG_IGN: the child would inherit the latter.
    let mut ignored = [SignalKind::interrupt(), SignalKind::quit()].into_iter().map(signal);
    let _ignored = (ignored.next(), ignored.next());
    let mut terminate = signal(SignalKind::terminate()).map_err(PsqlError::Run)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(PsqlError::Run)?;
    let mut child =
        command(url, arguments, std::env::vars_os()).spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => PsqlError::Missing,
            _ => PsqlError::Run(error),
        })?;
    loop {
        tokio::select! {
            ended = child.wait() => return outcome(ended.map_err(PsqlError::Run)?),
            _ = terminate.recv() => pass_on(&child, Signal::SIGTERM),
            _ = hang_up.recv() => pass_on(&child, Signal::SIGHUP),
        }
    }
}

fn command(
    url: &str,
    arguments: &[OsString],
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Command {
    let mut command = Command::new("psql");
    command.env_clear().envs(environment.filter(|(name, _)| is_kept(name)));
    // `localhost` in the URL may mean ::1 first, where somebody else may listen on the same port.
    command.env("PGHOSTADDR", "127.0.0.1").env("PGSSLMODE", "disable").env("PGGSSENCMODE", "disable");
    command.args(arguments).arg(url).kill_on_drop(true);
    command
}

fn is_kept(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    !name.starts_with("PG") || KEPT.contains(&&*name)
}

fn pass_on(child: &Child, signal: Signal) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

fn outcome(status: ExitStatus) -> Result<(), PsqlError> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(PsqlError::Status(code)),
        (None, number) => {
            let signal = number.and_then(|number| Signal::try_from(number).ok());
            Err(PsqlError::Signal(signal.map_or_else(|| "unknown".to_owned(), |signal| signal.to_string())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment_of(command: &Command) -> Vec<(String, String)> {
        let text = |value: &OsStr| value.to_string_lossy().into_owned();
        command.as_std().get_envs().filter_map(|(name, value)| Some((text(name), text(value?)))).collect()
    }

    #[test]
    fn the_url_is_teleports_with_names_encoded() {
        assert_eq!(url("alice", 62652, "postgres"), "postgres://alice@localhost:62652/postgres");
        assert_eq!(
            url("a@b/c?d#e%", 1, "söme db&host=evil"),
            "postgres://a%40b%2Fc%3Fd%23e%25@localhost:1/s%C3%B6me%20db%26host%3Devil"
        );
    }

    #[test]
    fn nothing_in_the_environment_leads_psql_elsewhere() {
        let hostile = [
            "PGHOST",
            "PGHOSTADDR",
            "PGSERVICE",
            "PGSERVICEFILE",
            "PGPASSWORD",
            "PGPASSFILE",
            "PGSSLCERT",
            "PGSSLMODE",
            "PGREQUIREAUTH",
            "PGTARGETSESSIONATTRS",
            "PGSYSCONFDIR",
        ];
        let given = hostile.iter().map(|name| ((*name).into(), "evil".into()));
        let environment = environment_of(&command("url", &[], given));
        assert!(environment.iter().all(|(_, value)| value != "evil"), "{environment:?}");
        assert!(environment.contains(&("PGHOSTADDR".into(), "127.0.0.1".into())));
        assert!(environment.contains(&("PGSSLMODE".into(), "disable".into())));
    }

    #[test]
    fn the_users_taste_is_kept() {
        let given = ["PGOPTIONS", "PSQL_PAGER", "PAGER", "PGTZ"].map(|name| (name.into(), "mine".into()));
        let environment = environment_of(&command("url", &[], given.into_iter()));
        assert_eq!(environment.iter().filter(|(_, value)| value == "mine").count(), 4);
    }

    #[test]
    fn arguments_come_before_the_url() {
        let command = command("postgres://x", &["-c".into(), "select 1".into()], std::iter::empty());
        let arguments: Vec<_> = command.as_std().get_args().collect();
        assert_eq!(arguments, ["-c", "select 1", "postgres://x"]);
    }

    #[test]
    fn its_end_is_told_as_teleport_tells_it() {
        assert!(outcome(ExitStatus::from_raw(0)).is_ok());
        assert_eq!(outcome(ExitStatus::from_raw(2 << 8)).unwrap_err().to_string(), "exit status 2");
        assert_eq!(outcome(ExitStatus::from_raw(15)).unwrap_err().to_string(), "signal: SIGTERM");
    }
}
