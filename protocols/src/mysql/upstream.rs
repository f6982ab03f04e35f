//! The upstream leg: connect, TLS without a way back, log in, and bring the session settings in force.
//!
//! The upstream's greeting comes in plaintext, so nobody has proved it even where TLS follows. Nothing is staked
//! on it: where it has no TLS and should, that is an error; its flags and its version are what any client would
//! have seen; and an error in its place is not repeated in its own words.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;
use zeroize::Zeroizing;

use crate::endpoint::{Endpoint, Socket, UpstreamStream, UpstreamTls};
use crate::relay::ReadAhead;
use crate::{DialError, Login, UpstreamReport};

use super::auth::{self, Method, Proof};
use super::capabilities::Capabilities;
use super::greeting::{self, Greeting, HandshakeV10, UpstreamFacts};
use super::handshake::{ClientSettings, HandshakeResponse};
use super::packet::{Conversation, PacketError};
use super::{error_packet, login, settings};

/// Bytes that an upstream may send until it is ready, headers included: far more than any does.
const ALLOWANCE: usize = 256 * 1024;

/// ER_CON_COUNT_ERROR, and its text.
const TOO_MANY: (u16, &str) = (1040, "Too many connections");

/// ER_NO_SUCH_THREAD.
const NO_SUCH_THREAD: u16 = 1094;

/// A connection to a MySQL upstream that is logged in: it waits for a command.
#[derive(Debug)]
pub struct MysqlUpstream {
    pub(super) stream: UpstreamStream,
    /// What was negotiated with it. Commands and answers are encoded as on the client's leg.
    pub(super) capabilities: Capabilities,
    /// Its OK: the payload.
    pub(super) welcome: Vec<u8>,
    /// Its own number for this connection.
    pub(super) thread_id: u32,
    /// The COM_QUERY that sets the session settings again after COM_RESET_CONNECTION: the payload; `None`
    /// when there are none. The answer is one OK, or an ERR.
    pub(super) settings: Option<Vec<u8>>,
    /// What it was dialled with: whether it may replicate or ask for files, and what a KILL on a connection of
    /// its own needs.
    pub(super) endpoint: Endpoint,
    /// What the client asked to be.
    pub(super) login: Login,
}

impl MysqlUpstream {
    /// Kills the session at the upstream, on a connection of its own, within `deadline` each way.
    pub(super) async fn kill(&self, deadline: Duration) -> Result<(), DialError> {
        let endpoint = Endpoint { settings: Vec::new(), ..self.endpoint.clone() };
        let mut second = dial(&endpoint, &self.login, &Greeting::unknown(), deadline).await?;
        let query = settings::plain_query(&format!("KILL {}", self.thread_id), second.capabilities);
        let answer = async {
            let mut talk = Conversation::new(ALLOWANCE);
            talk.send(&mut second.stream, &query).await.map_err(DialError::Connect)?;
            receive(&mut second.stream, &mut talk).await
        };
        let answer = timeout(deadline, answer).await.unwrap_or(Err(DialError::Deadline(deadline)))?;
        // It may have ended by itself.
        match rejected(&answer) {
            Ok(report) if report.number != Some(NO_SUCH_THREAD) => Err(DialError::Rejected(report)),
            _ => Ok(()),
        }
    }
}

/// Opens a connection and logs in, within `deadline`. What the upstream says of itself on the way is learned.
pub(super) async fn dial(
    endpoint: &Endpoint,
    login: &Login,
    greeting: &Greeting,
    deadline: Duration,
) -> Result<MysqlUpstream, DialError> {
    let log_in = log_in(endpoint, login, greeting);
    timeout(deadline, log_in).await.unwrap_or(Err(DialError::Deadline(deadline)))
}

async fn log_in(endpoint: &Endpoint, login: &Login, greeting: &Greeting) -> Result<MysqlUpstream, DialError> {
    let (mut said, attributes) = login::carried(login)?;
    let query = settings::query(&endpoint.settings, said.capabilities)?;
    let (socket, mut talk, hello) = open(endpoint).await?;
    let facts = Arc::new(hello.facts);
    greeting.learn(Arc::clone(&facts));
    let capabilities = said.capabilities.and(Capabilities::RELAYED) | Capabilities::NEEDED;
    said.capabilities = negotiate(capabilities, &facts, endpoint.tls.is_some(), login.database.is_some())?;
    let mut stream = secure(socket, endpoint.tls.as_ref(), &said, &mut talk).await?;

    let proof = Proof::new(&endpoint.credential, &stream);
    let method = Method::to_begin_with(&hello.plugin);
    let answer = proof.begin(&method, &hello.scramble)?;
    let response = HandshakeResponse {
        settings: said,
        user: login.user.as_bytes(),
        auth: &answer,
        database: login.database.as_deref().map(str::as_bytes),
        plugin: Some(method.name()),
        attributes,
        zstd_level: 0,
    };
    let mut payload = Zeroizing::new(Vec::new());
    response.write(&mut payload);
    talk.send(&mut stream, &payload).await.map_err(DialError::Connect)?;
    let mut welcome = auth::authenticate(&mut stream, &mut talk, &proof, method, &hello.scramble).await?;
    settings::apply(&mut stream, &mut talk, query.as_deref(), &mut welcome).await?;
    Ok(MysqlUpstream {
        stream,
        capabilities,
        welcome,
        thread_id: hello.thread_id,
        settings: query,
        endpoint: endpoint.clone(),
        login: login.clone(),
    })
}

/// Connects, and reads the greeting: all that comes before TLS.
pub(super) async fn open(endpoint: &Endpoint) -> Result<(Socket, Conversation, HandshakeV10), DialError> {
    let mut socket = endpoint.address.connect().await.map_err(DialError::Connect)?;
    let mut talk = Conversation::new(ALLOWANCE);
    let payload = talk.receive(&mut socket).await.map_err(broken)?;
    if payload.first() == Some(&error_packet::ERR) {
        let report = rejected(&payload)?;
        return Err(DialError::Rejected(if endpoint.tls.is_some() { unproven(report) } else { report }));
    }
    let hello = greeting::parse(&payload)
        .map_err(|_| DialError::Protocol("its greeting is not one of protocol version 10"))?;
    Ok((socket, talk, hello))
}

/// The flags to log in with: what the client was promised, and what this leg needs.
fn negotiate(
    relayed: Capabilities,
    facts: &UpstreamFacts,
    tls: bool,
    database: bool,
) -> Result<Capabilities, DialError> {
    if tls && !facts.capabilities.contains(Capabilities::SSL) {
        return Err(DialError::TlsRefused);
    }
    if !facts.capabilities.contains(Capabilities::NEEDED | Capabilities::PLUGIN_AUTH) {
        return Err(DialError::Protocol("it is too old: it knows no authentication plugins"));
    }
    if !facts.capabilities.contains(relayed) {
        return Err(DialError::Changed);
    }
    let lenenc = facts.capabilities.and(Capabilities::PLUGIN_AUTH_LENENC);
    let only = |condition: bool, flag| if condition { flag } else { Capabilities::NONE };
    Ok(relayed
        | Capabilities::PLUGIN_AUTH
        | lenenc
        | only(tls, Capabilities::SSL)
        | only(database, Capabilities::CONNECT_WITH_DB))
}

/// SSLRequest and TLS, where it is asked for. Plaintext that came behind the greeting breaks the handshake
/// (CVE-2021-23222).
async fn secure(
    mut socket: Socket,
    tls: Option<&UpstreamTls>,
    said: &ClientSettings,
    talk: &mut Conversation,
) -> Result<UpstreamStream, DialError> {
    let Some(tls) = tls else { return Ok(Either::Left(socket)) };
    let mut request = Vec::new();
    said.write(&mut request);
    talk.send(&mut socket, &request).await.map_err(DialError::Connect)?;
    let connector = TlsConnector::from(tls.config.clone());
    let stream = connector.connect(tls.server_name.clone(), ReadAhead::new(socket)).await;
    let stream = stream.map_err(DialError::Tls)?;
    Ok(Either::Right(Box::new(stream)))
}

/// The upstream's next packet, while it is one of a login.
pub(super) async fn receive(
    stream: &mut UpstreamStream,
    talk: &mut Conversation,
) -> Result<Zeroizing<Vec<u8>>, DialError> {
    talk.receive(stream).await.map_err(broken)
}

/// An ERR packet's report.
pub(super) fn rejected(payload: &[u8]) -> Result<UpstreamReport, DialError> {
    error_packet::parse(payload).map_err(|_| DialError::Protocol("an error does not hold together"))
}

/// An error that anybody on the way can have said: of what a client may read, only "too many connections" is
/// likely here, and that is repeated in our words.
fn unproven(report: UpstreamReport) -> UpstreamReport {
    match report.number {
        Some(number) if number == TOO_MANY.0 => UpstreamReport { message: TOO_MANY.1.to_owned(), ..report },
        _ => UpstreamReport { number: None, sql_state: None, ..report },
    }
}

fn broken(error: PacketError) -> DialError {
    match error {
        PacketError::Io(error) => DialError::Connect(error),
        PacketError::OutOfOrder { .. } => DialError::Protocol("its packets are out of order"),
        PacketError::TooLong => DialError::Protocol("it sends more than a login can hold"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(capabilities: Capabilities) -> UpstreamFacts {
        UpstreamFacts { version: "8.4.6".into(), capabilities, charset: 255, status: 2 }
    }

    const LEAST: Capabilities = Capabilities::NEEDED;

    #[test]
    fn the_upstream_is_told_no_more_than_the_client_can_and_what_its_own_leg_needs() {
        let all = facts(Capabilities::new(u32::MAX, 0));
        let said = negotiate(LEAST | Capabilities::SESSION_TRACK, &all, true, true).unwrap();
        let own = Capabilities::PLUGIN_AUTH | Capabilities::PLUGIN_AUTH_LENENC | Capabilities::SSL;
        assert_eq!(said, LEAST | Capabilities::SESSION_TRACK | own | Capabilities::CONNECT_WITH_DB);
        let least = facts(LEAST | Capabilities::PLUGIN_AUTH);
        assert_eq!(negotiate(LEAST, &least, false, false).unwrap(), least.capabilities);
    }

    #[test]
    fn an_upstream_that_cannot_what_it_must_is_not_logged_in_to() {
        let without = |flag| facts(Capabilities::new(u32::MAX, 0).without(flag));
        let promised = LEAST | Capabilities::DEPRECATE_EOF;
        let dialled = |facts: &UpstreamFacts| negotiate(promised, facts, true, false).unwrap_err();
        assert!(matches!(dialled(&without(Capabilities::SSL)), DialError::TlsRefused));
        assert!(matches!(dialled(&without(Capabilities::PLUGIN_AUTH)), DialError::Protocol(_)));
        assert!(matches!(dialled(&without(Capabilities::PROTOCOL_41)), DialError::Protocol(_)));
        assert!(matches!(dialled(&without(Capabilities::DEPRECATE_EOF)), DialError::Changed));
    }

    #[test]
    fn an_error_that_nobody_proved_is_not_repeated() {
        let report = |number| UpstreamReport {
            number: Some(number),
            sql_state: None,
            message: "call 555-0100 and read out your password".into(),
        };
        assert_eq!(unproven(report(1040)).to_string(), "1040 Too many connections");
        assert_eq!(DialError::Rejected(unproven(report(1049))).disclosable(), None);
    }
}
