//! What can go wrong, by boundary; each error says which side it came from and holds the evidence.

use std::io;
use std::time::Duration;

use crate::refusal::{Refusal, SqlState};
use crate::ssh::{SshFault, UnknownHost};
use crate::{Malformed, Transferred};

/// A client did not get as far as asking for a login. It was told so, where its protocol has words for it.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The client kept us waiting.
    #[error("the client did not finish its login request within {0:?}")]
    Deadline(Duration),
    /// The connection failed, or ended in the middle of the login request.
    #[error("the connection to the client failed")]
    Client(#[source] io::Error),
    /// The TLS handshake failed: also what becomes of plaintext stuffed behind an SSLRequest.
    #[error("the TLS handshake with the client failed")]
    Tls(#[source] io::Error),
    /// TLS came up, but not for this protocol.
    #[error("the client negotiated ALPN {0:?}")]
    Alpn(Option<Vec<u8>>),
    /// The client broke the protocol, or asked for something that is not offered; it was told the refusal.
    #[error("the client was refused at start-up: {}", .0.message)]
    Refused(Refusal),
    /// The SSH connection failed before anybody was logged in.
    #[error("the SSH login failed")]
    Ssh(#[source] SshFault),
}

/// The upstream could not be reached, was not what it should be, or said no.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No name, no route, nobody listening, or the connection failed.
    #[error("cannot connect to the upstream")]
    Connect(#[source] io::Error),
    /// The upstream kept us waiting.
    #[error("the upstream was not ready within {0:?}")]
    Deadline(Duration),
    /// The upstream does not offer TLS, and we do not go on without.
    #[error("the upstream refuses TLS")]
    TlsRefused,
    /// Plaintext came where the TLS handshake should start.
    #[error("the upstream, or somebody on the way, sent plaintext in front of TLS")]
    EarlyPlaintext,
    /// The TLS handshake failed: its certificate is not good, or ours is not for it.
    #[error("the TLS handshake with the upstream failed")]
    Tls(#[source] io::Error),
    /// The upstream asks for a password and none is configured.
    #[error("the upstream asks for a password ({method}) and none is configured")]
    NoCredential {
        /// What it asks for.
        method: &'static str,
    },
    /// The upstream asks for an authentication that we do not do.
    #[error("the upstream asks for {method}, which is refused: {reason}")]
    AuthenticationRefused {
        /// What it asks for.
        method: &'static str,
        /// Why we do not.
        reason: &'static str,
    },
    /// The upstream asks for an authentication that is not known here.
    #[error("the upstream asks for {method:?}, which is not spoken here")]
    UnknownMethod {
        /// What it asks for: printable, at most 64 characters.
        method: String,
    },
    /// The upstream is not what the client was greeted with: it was replaced since it was last seen. The next
    /// client is greeted rightly.
    #[error("the upstream cannot do any more what the client was promised")]
    Changed,
    /// The upstream did not prove that it knows the password.
    #[error("SCRAM with the upstream failed")]
    Scram(#[source] io::Error),
    /// The upstream answered with an error of its own.
    #[error("the upstream refused the login: {0}")]
    Rejected(UpstreamReport),
    /// The login asks for replication, and the endpoint does not allow it. Nothing was dialled.
    #[error("the login asks for replication, which is not allowed")]
    ReplicationNotAllowed,
    /// A session setting cannot be said in this protocol: a role names one that cannot be.
    #[error("the session setting {name:?} cannot be applied: {reason}")]
    Setting {
        /// Its name.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// The upstream does not take a session setting: it knows none of this name, or not this value, or the
    /// database user may not change it.
    #[error("the upstream refused the session settings: {0}")]
    SettingsRejected(UpstreamReport),
    /// The upstream broke the protocol.
    #[error("the upstream broke the protocol: {0}")]
    Protocol(&'static str),
    /// The login cannot be said in this protocol: a name that is none, or, together with the session
    /// settings, more than a start-up packet holds.
    #[error("the login cannot be said in this protocol")]
    Login,
    /// The upstream's SSH host key is not the right one.
    #[error("the upstream is not known: {0}")]
    UnknownHost(UnknownHost),
    /// The endpoint does not say how an SSH upstream is known.
    #[error("the endpoint is not one of SSH")]
    NotSsh,
    /// The SSH connection to the upstream failed before we were logged in.
    #[error("the SSH login at the upstream failed")]
    Ssh(#[source] SshFault),
}

/// An upstream's own error, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamReport {
    /// Its SQLSTATE; `None` when it sent none that is one.
    pub sql_state: Option<SqlState>,
    /// Its error number, which MySQL has beside the SQLSTATE.
    pub number: Option<u16>,
    /// Its message, at most 1,000 characters, control characters removed.
    pub message: String,
}

impl std::fmt::Display for UpstreamReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(number) = self.number {
            write!(f, "{number} ")?;
        }
        match self.sql_state {
            Some(state) => write!(f, "{state} {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// A session failed.
#[derive(Debug, thiserror::Error)]
#[error("the session failed")]
pub struct RelayError {
    /// What it had carried until then.
    pub transferred: Transferred,
    /// What failed.
    #[source]
    pub fault: RelayFault,
}

/// What failed in a session, by side.
#[derive(Debug, thiserror::Error)]
pub enum RelayFault {
    /// The connection to the client failed.
    #[error("the connection to the client failed")]
    Client(#[source] io::Error),
    /// The connection to the upstream failed.
    #[error("the connection to the upstream failed")]
    Upstream(#[source] io::Error),
    /// The client kept us waiting in the middle of something; it was told so.
    #[error("the client kept us waiting")]
    ClientOverdue(#[source] io::Error),
    /// The upstream kept us waiting in the middle of something; the client was told so.
    #[error("the upstream kept us waiting")]
    UpstreamOverdue(#[source] io::Error),
    /// The client broke the protocol after login; it was told so.
    #[error("the client broke the protocol: {0}")]
    Malformed(Malformed),
    /// The tap closed; the client was told that the session cannot be recorded.
    #[error("the session can no longer be recorded")]
    TapClosed,
}

impl DialError {
    /// The upstream's words, where the client may read them: they name what the client itself asked for (an
    /// unknown database, too many sessions), not how we authenticate or where the upstream is.
    #[must_use]
    pub fn disclosable(&self) -> Option<&UpstreamReport> {
        match self {
            Self::Rejected(report) => {
                let may_know = match (report.number, report.sql_state) {
                    (Some(number), _) => is_disclosable_number(number),
                    (None, Some(state)) => is_disclosable(state.as_str()),
                    (None, None) => false,
                };
                may_know.then_some(report)
            }
            _ => None,
        }
    }
}

/// Unknown database, a missing CONNECT right, too many sessions, start-up parameters that are wrong, starting
/// up or stopping.
fn is_disclosable(state: &str) -> bool {
    const STATES: [&str; 6] = ["3D000", "42501", "42704", "53300", "57P03", "55000"];
    STATES.contains(&state) || state.starts_with("22")
}

/// MySQL's: no right on a database, an unknown one, too many sessions (of all, of this user, in this hour),
/// stopping.
fn is_disclosable_number(number: u16) -> bool {
    matches!(number, 1040 | 1044 | 1049 | 1053 | 1203 | 1226)
}
