//! Finding out what the upstream is, without logging in: its greeting says it.
//!
//! A client that reads the greeting and closes counts as broken at some upstreams, and after a hundred of those
//! (`max_connect_errors`) MySQL lets nobody in from that address any more. So a probe ends with a login that is
//! turned away, which does not count: no such user is expected to exist, and no password is ever given.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::DialError;
use crate::endpoint::{Endpoint, Socket};

use super::capabilities::Capabilities;
use super::greeting::{HandshakeV10, UpstreamFacts};
use super::handshake::{ClientSettings, HandshakeResponse};
use super::packet::Conversation;
use super::proof::{self, SWITCH};
use super::upstream;

/// Who it says to be; upstreams write it in their logs.
const USER: &[u8] = b"touchstone-probe";
/// Answers that a probe gives at most before it just closes.
const MAX_ROUNDS: usize = 4;

/// What the upstream says of itself, within `deadline`.
pub(super) async fn probe(endpoint: &Endpoint, deadline: Duration) -> Result<UpstreamFacts, DialError> {
    let ask = async {
        let (mut socket, mut talk, hello) = upstream::open(endpoint).await?;
        // How it takes the goodbye changes nothing about what it is.
        let _ = timeout(deadline / 2, leave(&mut socket, &mut talk, &hello)).await;
        let _ = socket.shutdown().await;
        Ok(hello.facts)
    };
    timeout(deadline, ask).await.unwrap_or(Err(DialError::Deadline(deadline)))
}

/// Asks to be let in as nobody, until the upstream says no.
async fn leave(socket: &mut Socket, talk: &mut Conversation, hello: &HandshakeV10) -> std::io::Result<()> {
    let own = Capabilities::NEEDED | Capabilities::PLUGIN_AUTH;
    let settings = ClientSettings {
        capabilities: own.and(hello.facts.capabilities),
        max_packet: 1 << 24,
        charset: hello.facts.charset,
    };
    let response = HandshakeResponse {
        settings,
        user: USER,
        auth: b"",
        database: None,
        plugin: Some(proof::NATIVE),
        attributes: b"",
        zstd_level: 0,
    };
    let mut payload = Vec::new();
    response.write(&mut payload);
    talk.send(socket, &payload).await?;
    for _ in 0..MAX_ROUNDS {
        let answer = talk.receive(socket).await.map_err(std::io::Error::other)?;
        if answer.first() != Some(&SWITCH) {
            break;
        }
        talk.send(socket, b"").await?;
    }
    Ok(())
}
