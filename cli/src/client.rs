//! A database's own client as a child: its signals, its end.

use std::{ffi::OsString, io, os::unix::process::ExitStatusExt, process::ExitStatus};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

use crate::database::DatabaseProtocol;

pub mod mysql;
pub mod psql;

/// Why a client did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It is not installed.
    #[error("{0}")]
    Missing(&'static str),
    /// It could not be started, or waited for.
    #[error("cannot run {program}")]
    Run {
        /// What was run.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// It ended with another status than 0.
    #[error("exit status {0}")]
    Status(i32),
    /// A signal ended it.
    #[error("signal: {0}")]
    Signal(String),
}

/// What a client is told about a tunnel: where it is, and as whom to log in.
#[derive(Clone, Copy, Debug)]
pub struct Local<'a> {
    /// The tunnel's port on 127.0.0.1.
    pub port: u16,
    /// Database user.
    pub user: &'a str,
    /// Database name; for MySQL it may be empty.
    pub database: &'a str,
}

/// Runs the client of a protocol through a tunnel until it ends; `arguments` are the user's own.
///
/// # Errors
/// [`ClientError`].
pub async fn connect(
    protocol: DatabaseProtocol,
    local: Local<'_>,
    arguments: &[OsString],
) -> Result<(), ClientError> {
    let environment = std::env::vars_os();
    match protocol {
        DatabaseProtocol::Postgres => {
            let url = psql::url(local.user, local.port, local.database);
            run(psql::command(&url, arguments, environment), psql::MISSING).await
        }
        DatabaseProtocol::Mysql => {
            let installed = mysql::installed().await.ok_or(ClientError::Missing(mysql::MISSING))?;
            run(mysql::command(installed, local, arguments, environment), mysql::MISSING).await
        }
    }
}

/// The command line of the same, for people to copy.
pub async fn shown(protocol: DatabaseProtocol, local: Local<'_>) -> String {
    match protocol {
        DatabaseProtocol::Mysql => mysql::shown(mysql::installed().await.unwrap_or_default(), local),
        DatabaseProtocol::Postgres => {
            format!("psql {}", psql::url(local.user, local.port, local.database))
        }
    }
}

/// Runs a client until it ends. Ctrl-C and Ctrl-\ are the client's own (it cancels the statement); SIGTERM and SIGHUP are
/// passed on to it.
///
/// # Errors
/// [`ClientError`].
pub(crate) async fn run(mut command: Command, missing: &'static str) -> Result<(), ClientError> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let failed = |source| ClientError::Run { program: program.clone(), source };
    // Handlers, not SIG_IGN: the child would inherit the latter.
    let mut ignored = [SignalKind::interrupt(), SignalKind::quit()].into_iter().map(signal);
    let _ignored = (ignored.next(), ignored.next());
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(failed)?;
    let mut child = command.kill_on_drop(true).spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ClientError::Missing(missing),
        _ => failed(error),
    })?;
    loop {
        tokio::select! {
            ended = child.wait() => return outcome(ended.map_err(failed)?),
            _ = terminate.recv() => pass_on(&child, Signal::SIGTERM),
            _ = hang_up.recv() => pass_on(&child, Signal::SIGHUP),
        }
    }
}

fn pass_on(child: &Child, signal: Signal) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

fn outcome(status: ExitStatus) -> Result<(), ClientError> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(ClientError::Status(code)),
        (None, number) => {
            let signal = number.and_then(|number| Signal::try_from(number).ok());
            Err(ClientError::Signal(signal.map_or_else(|| "unknown".to_owned(), |signal| signal.to_string())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_end_is_told_as_teleport_tells_it() {
        assert!(outcome(ExitStatus::from_raw(0)).is_ok());
        assert_eq!(outcome(ExitStatus::from_raw(2 << 8)).unwrap_err().to_string(), "exit status 2");
        assert_eq!(outcome(ExitStatus::from_raw(15)).unwrap_err().to_string(), "signal: SIGTERM");
    }
}
