//! How a command ends: exit status 0, or 1 with one `ERROR: …` line on standard error.

use std::{
    env,
    ffi::OsStr,
    io::{self, Write},
    process::ExitCode,
};

use clap::{
    builder::StyledStr,
    error::{ContextKind, ContextValue, ErrorKind},
};
use rustls::CertificateError;

use crate::{
    environment,
    output::{OutputError, printable, printable_lines},
};

/// The exit status of a command that ran elsewhere: it becomes ours, and nothing more is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("exit status {0}")]
pub struct RemoteStatus(pub u8);

/// Ends a program with what its command came to.
#[must_use]
pub fn exit(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // `tsh status | head -1`: who reads has read enough, which is worth no words.
        Err(error) if reader_is_gone(&error) => ExitCode::FAILURE,
        // The command at the node said what there was to say.
        Err(error) if error.is::<RemoteStatus>() => {
            error.downcast_ref().map_or(ExitCode::FAILURE, |RemoteStatus(status)| ExitCode::from(*status))
        }
        Err(error) => {
            let _ = writeln!(io::stderr().lock(), "ERROR: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// Says one line on standard error, whoever reads it.
pub fn eprint_line(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

fn reader_is_gone(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(OutputError::Write(cause)) if cause.kind() == io::ErrorKind::BrokenPipe)
}

/// Parses the command line. Help and version go to standard output with status 0; a mistake is an `ERROR: …` with
/// status 1, followed by the usage. Half a command is answered with its help, on standard error and with status 1.
///
/// # Errors
/// The exit code to end with.
pub fn parse<P: clap::Parser>() -> Result<P, ExitCode> {
    let command = from_environment(P::command(), &environment::is_set);
    let parsed =
        command.try_get_matches_from(env::args_os()).and_then(|matches| P::from_arg_matches(&matches));
    parsed.map_err(|error| {
        if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            let _ = error.print();
            ExitCode::FAILURE
        } else if let Some(help) = help_of_half(&error, P::command()) {
            let _ = write!(io::stderr().lock(), "{help}");
            ExitCode::FAILURE
        } else if error.use_stderr() {
            let text = error.to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            let _ = writeln!(io::stderr().lock(), "ERROR: {}", text.trim_end());
            ExitCode::FAILURE
        } else {
            let _ = error.print();
            ExitCode::SUCCESS
        }
    })
}

/// The help of half a command. Where a variable of the environment stands for a flag, clap takes it for an argument that is
/// there, and complains instead.
fn help_of_half(error: &clap::Error, mut command: clap::Command) -> Option<StyledStr> {
    let half = match (error.kind(), error.get(ContextKind::InvalidSubcommand)?) {
        (ErrorKind::MissingSubcommand, ContextValue::String(half)) => half.clone(),
        _ => return None,
    };
    command.build();
    let mut found = &mut command;
    for word in half.split(' ').skip(1) {
        found = found.find_subcommand_mut(word)?;
    }
    Some(found.render_help())
}

/// A flag whose variable is not set takes Teleport's, and a variable that is set to nothing says nothing.
fn from_environment(command: clap::Command, is_set: &impl Fn(&str) -> bool) -> clap::Command {
    command
        .mut_args(|argument| {
            let Some(ours) = argument.get_env().and_then(OsStr::to_str) else { return argument };
            if is_set(ours) {
                return argument;
            }
            match environment::teleports(ours).filter(|name| is_set(name)) {
                Some(teleports) => argument.env(teleports),
                None if env::var_os(ours).is_some() => argument.env(None::<&'static str>),
                None => argument,
            }
        })
        .mut_subcommands(|subcommand| from_environment(subcommand, is_set))
}

/// The chain of an error on one line: `what failed: because: because`. Of a gRPC status only the message is shown,
/// which the API's contract allows to be read by the caller; its causes are left to `--debug`. Texts that callers
/// compose themselves may hold line breaks; a status cannot; and nothing in them drives the terminal.
#[must_use]
pub fn one_line(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let status = cause.downcast_ref::<tonic::Status>();
        let text = status.map_or_else(|| printable_lines(&cause.to_string()), status_text);
        if parts.last().is_none_or(|last| !last.ends_with(&text)) {
            parts.push(text);
        }
        if status.is_some() {
            break;
        }
    }
    if error.chain().any(is_about_time) {
        parts.push("is the clock of this machine right?".to_owned());
    }
    parts.join(": ")
}

/// A certificate that is not valid yet or no more is seldom what is wrong.
fn is_about_time(cause: &(dyn std::error::Error + 'static)) -> bool {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    let Some(rustls::Error::InvalidCertificate(certificate)) = cause.downcast_ref() else { return false };
    matches!(certificate, Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. })
}

fn status_text(status: &tonic::Status) -> String {
    match (status.message(), status.code()) {
        ("", tonic::Code::Unavailable) => "the auth service cannot be reached, try again".to_owned(),
        ("", code) => code.description().to_owned(),
        (message, _) => printable(message),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn a_reader_that_has_read_enough_is_told_nothing() {
        let write =
            |kind: io::ErrorKind| anyhow::Error::from(OutputError::Write(kind.into())).context("status");
        assert!(reader_is_gone(&write(io::ErrorKind::BrokenPipe)));
        assert!(!reader_is_gone(&write(io::ErrorKind::StorageFull)));
        assert!(!reader_is_gone(&anyhow!("broken pipe")));
    }

    #[test]
    fn the_status_of_a_command_elsewhere_becomes_ours() {
        assert_eq!(exit(Err(RemoteStatus(7).into())), ExitCode::from(7));
        assert_eq!(exit(Err(anyhow!("exit status 7"))), ExitCode::FAILURE);
    }

    #[test]
    fn of_a_status_only_its_message_is_shown() {
        let error = anyhow::Error::from(tonic::Status::permission_denied("access denied"));
        assert_eq!(one_line(&error), "access denied");
    }

    #[test]
    fn causes_follow_on_the_same_line() {
        let error = Err::<(), _>(anyhow!("no such file")).context("cannot read the profile").unwrap_err();
        assert_eq!(one_line(&error), "cannot read the profile: no such file");
    }

    #[test]
    fn a_cause_that_was_already_told_is_not_repeated() {
        let error = Err::<(), _>(anyhow!("gone")).context("read: gone").unwrap_err();
        assert_eq!(one_line(&error), "read: gone");
    }

    #[test]
    fn whoever_meets_a_certificate_out_of_date_is_asked_for_the_time() {
        let told = |certificate: CertificateError| {
            let error = anyhow::Error::from(rustls::Error::InvalidCertificate(certificate));
            one_line(&error.context("the certificate of h:1 is not trusted"))
        };
        for certificate in [CertificateError::NotValidYet, CertificateError::Expired] {
            let text = told(certificate);
            assert!(text.ends_with(": is the clock of this machine right?"), "{text}");
        }
        assert!(!told(CertificateError::UnknownIssuer).contains("clock"));
    }

    #[test]
    fn an_address_from_the_service_cannot_drive_the_terminal() {
        let error = anyhow!("cannot reach h\x1b[2J:1\nplease");
        assert_eq!(one_line(&error), "cannot reach h\u{fffd}[2J:1\nplease");
    }

    #[test]
    fn a_message_from_the_service_cannot_drive_the_terminal() {
        let error = anyhow::Error::from(tonic::Status::internal("a\x1b[2J\nb"));
        assert_eq!(one_line(&error), "a\u{fffd}[2J\u{fffd}b");
    }
}
