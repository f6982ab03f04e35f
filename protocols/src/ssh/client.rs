//! A client at the door: it can be asked, refused, or let in.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::fault::SshFault;
use super::front::{self, Attempts, Request};
use super::message::{self, reason};
use super::packet::{Incoming, Outgoing};
use super::relay::{self, Renewal, Terms};
use super::transport::Transport;
use super::upstream::SshUpstream;
use super::wire::Put;
use crate::reader::Reader;
use crate::refusal::{Refusal, RefusalCode};
use crate::{Client, Limits, Prompt, RelayError, Reply, Secret, Tap, Transferred};

/// How long somebody may take to answer.
const ANSWER: Duration = Duration::from_secs(120);
const LONGEST_ANSWER: usize = 1_024;
const INTERACTIVE: &str = "keyboard-interactive";
/// Bytes of a client's that are read and thrown away after the last message, so that it reads that.
const HEARD_OUT: usize = 1024 * 1024;

/// A connection as clients make them: plain, or inside TLS.
pub type ClientSocket = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A client that has proved who it is, and waits.
pub struct SshClient<S = ClientSocket> {
    pub(super) transport: Transport<S>,
    pub(super) user: String,
    pub(super) attempts: Attempts,
    pub(super) limits: Limits,
    pub(super) renewal: Renewal,
    pub(super) conversation: Conversation,
}

/// Where we are with questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conversation {
    /// None was asked.
    None,
    /// The last one was answered.
    Answered,
    /// The client does not answer any more, or was left in the middle of a question.
    Over,
}

impl<S> std::fmt::Debug for SshClient<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SshClient").field("conversation", &self.conversation).finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> SshClient<S> {
    /// Has one question answered: as much of keyboard-interactive (RFC 4256) as that takes.
    async fn question(&mut self, prompt: &Prompt) -> Result<Vec<u8>, SshFault> {
        let begun = std::mem::replace(&mut self.conversation, Conversation::Over);
        let question = info_request(prompt);
        match begun {
            Conversation::None => self.transport.outgoing.put(&message::login_failure(INTERACTIVE, true))?,
            Conversation::Answered => self.transport.outgoing.put(&question)?,
            Conversation::Over => return Err(SshFault::Closed),
        }
        self.transport.outgoing.flush().await?;
        let mut asked = begun == Conversation::Answered;
        loop {
            let payload = self.transport.message().await?;
            self.attempts.message()?;
            if let ([message::USERAUTH_INFO_RESPONSE, rest @ ..], true) = (&*payload, asked) {
                let answer = info_response(rest)?;
                self.conversation = Conversation::Answered;
                return Ok(answer);
            }
            if let [message::SERVICE_REQUEST, ..] = &*payload {
                let accepted = front::service(payload)?;
                self.transport.send(&accepted).await?;
                continue;
            }
            let request = Request::parse(payload)?;
            if request.user != self.user {
                return Err(SshFault::Protocol("another user name in the middle of a login"));
            }
            asked = request.method == INTERACTIVE.as_bytes();
            let answer = if asked { question.clone() } else { message::login_failure(INTERACTIVE, false) };
            if !asked {
                self.attempts.failure()?;
            }
            self.transport.send(&answer).await?;
        }
    }
}

fn info_request(prompt: &Prompt) -> Vec<u8> {
    let mut packet = vec![message::USERAUTH_INFO_REQUEST];
    packet.put_string(b"");
    packet.put_string(prompt.instruction.as_bytes());
    packet.put_string(b"");
    packet.put_u32(1);
    packet.put_string(prompt.question.as_bytes());
    packet.put_bool(prompt.echo);
    packet
}

/// The one answer to the one question.
fn info_response(rest: &[u8]) -> Result<Vec<u8>, SshFault> {
    const BAD: SshFault = SshFault::Protocol("an answer that is none");
    let mut reader = Reader::new(rest);
    if reader.u32()? != 1 {
        return Err(BAD);
    }
    let answer = reader.string()?;
    reader.finish()?;
    if answer.len() > LONGEST_ANSWER || std::str::from_utf8(answer).is_err() {
        return Err(BAD);
    }
    Ok(answer.to_vec())
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Client for SshClient<S> {
    type Upstream = SshUpstream;

    async fn ask(&mut self, prompt: &Prompt) -> Reply {
        match timeout(ANSWER, self.question(prompt)).await {
            Ok(Ok(answer)) => Reply::Given(Secret::new(answer)),
            Ok(Err(error)) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "no answer");
                Reply::Gone
            }
            Err(_) => Reply::Gone,
        }
    }

    async fn refuse(self, refusal: Refusal) -> io::Result<()> {
        let Transport { mut incoming, mut outgoing, .. } = self.transport;
        say_goodbye(&mut incoming, &mut outgoing, &refusal, self.limits.close).await
    }

    async fn relay(
        self,
        upstream: SshUpstream,
        tap: impl Tap,
        ended: impl Future<Output = Refusal> + Send,
    ) -> Result<Transferred, RelayError> {
        let terms = Terms { allowed: upstream.allowed, limits: self.limits, renewal: self.renewal };
        relay::run(self.transport, upstream, tap, ended, terms).await
    }
}

/// The last message, and the peer's time to read it.
pub(super) async fn say_goodbye<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    incoming: &mut Incoming<R>,
    outgoing: &mut Outgoing<W>,
    refusal: &Refusal,
    deadline: Duration,
) -> io::Result<()> {
    let text = match &refusal.hint {
        Some(hint) => format!("{} ({hint})", refusal.message),
        None => refusal.message.clone(),
    };
    farewell(incoming, outgoing, code(refusal.code), &text, deadline).await
}

/// SSH_MSG_DISCONNECT, then the end of the connection.
pub(super) async fn farewell<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    incoming: &mut Incoming<R>,
    outgoing: &mut Outgoing<W>,
    reason: u32,
    text: &str,
    deadline: Duration,
) -> io::Result<()> {
    let last = async {
        outgoing.put(&message::disconnect(reason, text))?;
        outgoing.flush().await?;
        outgoing.shutdown().await
    };
    timeout(deadline, last).await.unwrap_or_else(|_| Err(SshFault::Io(io::ErrorKind::TimedOut.into())))?;
    // The message is out; how the peer goes is its own affair.
    let _ = timeout(deadline, incoming.drain(HEARD_OUT)).await;
    Ok(())
}

/// Why, in SSH's own numbers.
fn code(code: RefusalCode) -> u32 {
    match code {
        RefusalCode::NotAuthenticated | RefusalCode::AccessDenied | RefusalCode::MfaRequired => {
            reason::NO_MORE_AUTH_METHODS
        }
        RefusalCode::TlsRequired | RefusalCode::ProtocolViolation => reason::PROTOCOL_ERROR,
        RefusalCode::TooManyConnections => reason::TOO_MANY_CONNECTIONS,
        RefusalCode::UpstreamUnavailable | RefusalCode::UpstreamRejected => reason::SERVICE_NOT_AVAILABLE,
        RefusalCode::SessionExpired
        | RefusalCode::IdleTimeout
        | RefusalCode::Shutdown
        | RefusalCode::Unsupported
        | RefusalCode::Internal => reason::BY_APPLICATION,
    }
}
