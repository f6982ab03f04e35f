//! The client leg up to its handshake response: everything that is decided before anybody is known.

use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::relay::{Stream, close};
use crate::{AcceptError, Accepted, Limits, Login, Refusal, RefusalCode, Replication};

use super::capabilities::Capabilities;
use super::client::MysqlClient;
use super::connection_id::ConnectionIds;
use super::greeting::{self, Greeting, SCRAMBLE};
use super::handshake::{self, HandshakeResponse};
use super::packet::{self, Conversation, PacketError};
use super::{TUNNEL_ALPN, error_packet};

/// Bytes of packets that a client may send before its login is known, headers included.
const ALLOWANCE: usize = 10_000;

/// A client's stream: always TLS.
pub(super) type ClientStream<S> = TlsStream<S>;

/// Finds out what the client wants. The caller holds the deadline.
pub(super) async fn knock<S: Stream>(
    mut socket: S,
    acceptor: &TlsAcceptor,
    greeting: &Greeting,
    ids: &Arc<ConnectionIds>,
    limits: &Limits,
) -> Result<Option<Accepted<MysqlClient<S>>>, AcceptError> {
    let mut talk = Conversation::new(ALLOWANCE);
    let connection = ids.next();
    let Some(facts) = greeting.facts() else {
        let refusal = Refusal::new(RefusalCode::UpstreamUnavailable, "the database has not been seen yet");
        return Err(turn_away(&mut socket, talk.sequence, refusal, limits).await);
    };
    let offered = facts.capabilities.and(Capabilities::RELAYED) | Capabilities::OURS;
    let say = |offered| {
        let version = greeting.version(&facts);
        greeting::encode(version, &facts, offered, connection.number(), &[b'x'; SCRAMBLE])
    };
    talk.send(&mut socket, &say(offered | Capabilities::SSL)).await.map_err(AcceptError::Client)?;
    let Some(first) = talk.receive_or_end(&mut socket).await.map_err(broken)? else { return Ok(None) };
    if !handshake::is_ssl_request(&first) {
        let refusal = Refusal::new(RefusalCode::TlsRequired, "TLS is required");
        return Err(turn_away(&mut socket, talk.sequence, refusal, limits).await);
    }
    let mut stream = Box::new(acceptor.accept(socket).await.map_err(AcceptError::Tls)?);
    match stream.get_ref().1.alpn_protocol() {
        None => {}
        Some(TUNNEL_ALPN) => {
            talk.restart();
            talk.send(&mut *stream, &say(offered)).await.map_err(AcceptError::Client)?;
        }
        Some(other) => return Err(AcceptError::Alpn(Some(other.to_vec()))),
    }
    let Some(payload) = talk.receive_or_end(&mut *stream).await.map_err(broken)? else { return Ok(None) };
    let Ok(response) = HandshakeResponse::parse(&payload, offered) else {
        let refusal = Refusal::new(RefusalCode::ProtocolViolation, "bad handshake");
        return Err(turn_away(&mut *stream, talk.sequence, refusal, limits).await);
    };
    let login = Login {
        user: String::from_utf8_lossy(response.user).into_owned(),
        database: response.database.map(|name| String::from_utf8_lossy(name).into_owned()),
        replication: Replication::None,
        carried: Default::default(),
    };
    let client = MysqlClient {
        capabilities: response.settings.capabilities,
        zstd_level: response.zstd_level,
        fast_authenticated: false,
        sequence: talk.sequence,
        stream,
        connection,
        limits: *limits,
    };
    Ok(Some(Accepted { peer: super::peer(&client.stream), login, client }))
}

fn broken(error: PacketError) -> AcceptError {
    AcceptError::Client(std::io::Error::other(error))
}

/// Tells the client why, and makes the error for the log.
async fn turn_away<S: Stream>(
    stream: &mut S,
    sequence: u8,
    refusal: Refusal,
    limits: &Limits,
) -> AcceptError {
    let mut last = Vec::new();
    packet::append(&mut last, &mut { sequence }, &error_packet::refusal(&refusal));
    // It was told, or it is gone: the refusal is what matters to the log.
    let _ = close(stream, &last, limits.close, ALLOWANCE as u64).await;
    AcceptError::Refused(refusal)
}
