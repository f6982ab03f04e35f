//! The client leg up to its handshake response: everything that is decided before anybody is known.
//!
//! ```text
//! a close            nothing: a health probe
//! SSLRequest         TLS; without ALPN, a native client; with the tunnel's, a fresh greeting and no SSLRequest
//! anything else      ERR 3159: TLS is required
//! ```
//! Nothing is read ahead: each read takes what its packet's length says. So bytes stuffed behind an SSLRequest
//! run into the TLS handshake and break it (CVE-2021-3935), and no more than 10,000 bytes are read before a login
//! is known.

use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::Span;
use zeroize::Zeroizing;

use crate::relay::{ReadAhead, Stream, close};
use crate::{AcceptError, Accepted, Limits, Refusal, RefusalCode};

use super::capabilities::Capabilities;
use super::client::MysqlClient;
use super::compression::Algorithm;
use super::connection_id::{ConnectionId, ConnectionIds};
use super::greeting::{self, Greeting, UpstreamFacts};
use super::handshake::{self, HandshakeResponse};
use super::packet::{self, Conversation, PacketError};
use super::proof::{self, Proof, Waiting};
use super::{TUNNEL_ALPN, error_packet, login};

/// Bytes of packets that a client may send before its login is known, headers included.
const ALLOWANCE: usize = 10_000;

/// A client's stream: always TLS.
pub(super) type ClientStream<S> = TlsStream<ReadAhead<S>>;

/// What a connection is greeted with; the scramble is fresh each time.
struct Welcome<'a> {
    version: &'a str,
    facts: &'a UpstreamFacts,
    offered: Capabilities,
    connection: &'a ConnectionId,
}

impl Welcome<'_> {
    async fn say<S: Stream>(
        &self,
        more: Capabilities,
        stream: &mut S,
        talk: &mut Conversation,
    ) -> Result<(), AcceptError> {
        let scramble = greeting::scramble().map_err(AcceptError::Client)?;
        let number = self.connection.number();
        let payload = greeting::encode(self.version, self.facts, self.offered | more, number, &scramble);
        talk.send(stream, &payload).await.map_err(AcceptError::Client)
    }
}

/// Finds out what the client wants. The caller holds the deadline.
pub(super) async fn knock<S: Stream>(
    mut socket: S,
    acceptor: &TlsAcceptor,
    greeting: &Greeting,
    ids: &Arc<ConnectionIds>,
    limits: &Limits,
) -> Result<Option<Accepted<MysqlClient<S>>>, AcceptError> {
    let mut talk = Conversation::new(ALLOWANCE);
    let Some(facts) = greeting.facts() else { return Err(not_yet_seen(&mut socket, limits).await) };
    let connection = ids.next();
    let (version, offered) = (greeting.version(&facts), greeting::offer(&facts));
    let welcome = Welcome { version, facts: &facts, offered, connection: &connection };
    welcome.say(Capabilities::SSL, &mut socket, &mut talk).await?;
    let first = match talk.receive_or_end(&mut socket).await {
        Ok(Some(first)) => first,
        Ok(None) => return Ok(None),
        Err(error) => return Err(broken(error, &mut socket, &talk, limits).await),
    };
    if !handshake::is_ssl_request(&first) {
        return Err(turn_away(&mut socket, &talk, tls_required(), limits).await);
    }
    let mut stream = Box::new(acceptor.accept(ReadAhead::new(socket)).await.map_err(AcceptError::Tls)?);
    match stream.get_ref().1.alpn_protocol() {
        None => {}
        Some(TUNNEL_ALPN) => {
            talk.restart();
            welcome.say(Capabilities::NONE, &mut *stream, &mut talk).await?;
        }
        Some(other) => return Err(AcceptError::Alpn(Some(other.to_vec()))),
    }
    inside(stream, talk, &facts, connection, limits).await
}

/// Inside TLS: the handshake response, and whatever its plugin needs before it waits for OK.
async fn inside<S: Stream>(
    mut stream: Box<ClientStream<S>>,
    mut talk: Conversation,
    facts: &UpstreamFacts,
    connection: ConnectionId,
    limits: &Limits,
) -> Result<Option<Accepted<MysqlClient<S>>>, AcceptError> {
    let payload = match talk.receive_or_end(&mut *stream).await {
        Ok(Some(payload)) => payload,
        Ok(None) => return Ok(None),
        Err(error) => return Err(broken(error, &mut *stream, &talk, limits).await),
    };
    let response = match read(&payload, greeting::offer(facts)) {
        Ok(response) => response,
        Err(refusal) => return Err(turn_away(&mut *stream, &talk, refusal, limits).await),
    };
    let login = match login::asked(&response, facts) {
        Ok(login) => login,
        Err(refusal) => return Err(turn_away(&mut *stream, &talk, refusal, limits).await),
    };
    let waiting = match Proof::of(&response) {
        Proof::Given(waiting) => waiting,
        Proof::Switch(plugin) => switch(&mut *stream, &mut talk, plugin, limits).await?,
    };
    let client = MysqlClient {
        fast_authenticated: waiting == Waiting::FastThenOk,
        sequence: talk.sequence,
        compression: Algorithm::asked(response.settings.capabilities, response.zstd_level),
        stream,
        connection,
        limits: *limits,
        span: Span::current(),
    };
    Ok(Some(Accepted { peer: super::peer(&client.stream), login, client }))
}

/// Asks the client to answer once more, by another plugin, and throws the answer away.
async fn switch<S: Stream>(
    stream: &mut S,
    talk: &mut Conversation,
    plugin: &[u8],
    limits: &Limits,
) -> Result<Waiting, AcceptError> {
    let scramble = greeting::scramble().map_err(AcceptError::Client)?;
    talk.send(stream, &proof::switch(plugin, &scramble)).await.map_err(AcceptError::Client)?;
    let answer: Zeroizing<Vec<u8>> = match talk.receive(stream).await {
        Ok(answer) => answer,
        Err(error) => return Err(broken(error, stream, talk, limits).await),
    };
    Ok(Waiting::after(plugin, &answer))
}

fn read(payload: &[u8], offered: Capabilities) -> Result<HandshakeResponse<'_>, Refusal> {
    if handshake::is_ssl_request(payload) {
        // Only in the tunnel can a client mean this: it believes to be without TLS.
        let refusal = Refusal::new(RefusalCode::ProtocolViolation, "the tunnel is encrypted already");
        return Err(refusal.with_hint("connect with --ssl-mode=DISABLED (mysql) or --skip-ssl (mariadb)"));
    }
    if handshake::is_outdated(payload) {
        let refusal =
            Refusal::new(RefusalCode::Unsupported, "the protocol from before MySQL 4.1 is not spoken");
        return Err(refusal.with_hint("use a newer client"));
    }
    HandshakeResponse::parse(payload, offered)
        .map_err(|_| Refusal::new(RefusalCode::ProtocolViolation, "bad handshake"))
}

fn tls_required() -> Refusal {
    Refusal::new(RefusalCode::TlsRequired, "TLS is required").with_hint(
        "connect with --ssl-mode=VERIFY_IDENTITY (mysql) or --ssl-verify-server-cert (mariadb), or through tsh",
    )
}

/// Turns a client away in the place of the greeting: a version must not be made up.
async fn not_yet_seen<S: Stream>(stream: &mut S, limits: &Limits) -> AcceptError {
    let text = "the database has not been reached yet, so its version is not known";
    let refusal = Refusal::new(RefusalCode::UpstreamUnavailable, text).with_hint("try again in a minute");
    let mut last = Vec::new();
    packet::append(&mut last, &mut 0, &error_packet::before_greeting(&refusal));
    // It was told, or it is gone: the refusal is what matters to the log.
    let _ = close(stream, &last, limits.close, ALLOWANCE as u64).await;
    AcceptError::Refused(refusal)
}

/// A packet that could not be had. Where the connection still works, the client is told.
async fn broken<S: Stream>(
    error: PacketError,
    stream: &mut S,
    talk: &Conversation,
    limits: &Limits,
) -> AcceptError {
    let text = match error {
        PacketError::Io(error) => return AcceptError::Client(error),
        PacketError::OutOfOrder { .. } => "packets out of order",
        PacketError::TooLong => "more than a login can hold",
    };
    turn_away(stream, talk, Refusal::new(RefusalCode::ProtocolViolation, text), limits).await
}

/// Tells the client why, and makes the error for the log. The client's 10,000 bytes before login include
/// those that are heard out.
async fn turn_away<S: Stream>(
    stream: &mut S,
    talk: &Conversation,
    refusal: Refusal,
    limits: &Limits,
) -> AcceptError {
    let mut last = Vec::new();
    packet::append(&mut last, &mut { talk.sequence }, &error_packet::refusal(&refusal));
    // It was told, or it is gone: the refusal is what matters to the log.
    let _ = close(stream, &last, limits.close, talk.left() as u64).await;
    AcceptError::Refused(refusal)
}
