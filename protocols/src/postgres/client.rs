//! A client that waits for its answer: the refusal, or the session.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use pgwire::messages::startup::{Authentication, BackendKeyData, NegotiateProtocolVersion, SecretKey};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{Instrument as _, Span};

use crate::frame::{Boundaries, Splitter};
use crate::relay::{self, Outcome, Stream};
use crate::{Client, End, Limits, Refusal, RelayError, RelayFault, Tap, Transferred};

use super::cancel::{Registration, Registry, Route};
use super::front::ClientStream;
use super::messages::{self, Messages};
use super::startup::{NEWEST_MINOR, Version};
use super::upstream::{self, PostgresUpstream};
use super::{error_response, wire};

/// A PostgreSQL client that has said who it wants to be, and has been told nothing yet.
#[derive(Debug)]
pub struct PostgresClient<S = TcpStream> {
    pub(super) stream: Box<ClientStream<S>>,
    pub(super) version: Version,
    pub(super) registry: Arc<Registry>,
    pub(super) limits: Limits,
    /// In which it was accepted, and in which the log speaks of it.
    pub(super) span: Span,
}

impl<S: Stream> Client for PostgresClient<S> {
    type Upstream = PostgresUpstream;

    async fn refuse(mut self, refusal: Refusal) -> io::Result<()> {
        let last = error_response::fatal(&refusal);
        relay::close(&mut *self.stream, &last, self.limits.close, relay::HEARD_OUT).await
    }

    async fn relay(
        mut self,
        mut upstream: PostgresUpstream,
        mut tap: impl Tap,
        ended: impl Future<Output = Refusal> + Send,
    ) -> Result<Transferred, RelayError> {
        // Held until the session is over: dropping it makes the client's cancel key worthless.
        let span = self.span.clone();
        let mut answers = tap.answers();
        if let Some(answers) = &mut answers {
            messages::encodings(&upstream.greeting).for_each(|encoding| answers.answered(encoding));
        }
        let _registration = self.welcome(&upstream).instrument(span.clone()).await?;
        let close = self.limits.close;
        let halves = (Splitter::new(Messages), Boundaries::<Messages>::new(answers));
        let outcome = relay::run(&mut *self.stream, &mut upstream.stream, halves, tap, ended, close).await;
        let stop = stop_upstream(&mut upstream, &outcome, close).instrument(span);
        let last = outcome.farewell.as_deref().unwrap_or_default();
        // A client that said goodbye has nothing more to say, and one that failed no means to.
        let heard_out = if outcome.transferred.end == End::Client { 0 } else { relay::HEARD_OUT };
        let farewell = relay::close(&mut *self.stream, last, close, heard_out);
        // Neither side waits for the other's goodbye. A client that went away before ours does not change
        // what happened.
        let _ = tokio::join!(stop, farewell);
        outcome.into_result()
    }
}

impl<S: Stream> PostgresClient<S> {
    /// "You are logged in": what the upstream said, with a cancel key of ours in the place of its own.
    async fn welcome(&mut self, upstream: &PostgresUpstream) -> Result<Option<Registration>, RelayError> {
        let failed = |error| RelayError {
            transferred: Transferred { end: End::Client, ..Transferred::default() },
            fault: RelayFault::Client(error),
        };
        let registered = upstream.route.clone().and_then(|route| self.register(route));
        let (registration, key) = registered.unzip();
        let mut welcome = Vec::new();
        compose(&mut welcome, &self.version, upstream, key.as_ref()).map_err(failed)?;
        let send = async {
            self.stream.write_all(&welcome).await?;
            self.stream.flush().await
        };
        timeout(self.limits.close, send)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(failed)?;
        Ok(registration)
    }

    fn register(&self, route: Route) -> Option<(Registration, BackendKeyData)> {
        let peer = super::peer(&self.stream);
        let key_length = self.version.cancel_key_length();
        let registered = self.registry.register(route, peer, key_length, Instant::now());
        let Some((registration, key)) = registered else {
            tracing::warn!("the table of cancel keys is full: this session cannot be cancelled");
            return None;
        };
        let key = SecretKey::Bytes(Bytes::copy_from_slice(&key));
        // At most 2³¹ − 1, so the cast keeps the value.
        let data = BackendKeyData::new(registration.process().cast_signed(), key);
        Some((registration, data))
    }
}

/// The answer to the start-up packet, in the order in which PostgreSQL sends it.
fn compose(
    into: &mut Vec<u8>,
    version: &Version,
    upstream: &PostgresUpstream,
    key: Option<&BackendKeyData>,
) -> io::Result<()> {
    if version.needs_negotiation() {
        // The version that will be spoken, in full: what the client asked for, or our newest.
        let spoken = (3 << 16) | i32::from(version.minor.min(NEWEST_MINOR));
        wire::encode(&NegotiateProtocolVersion::new(spoken, version.unknown_options.clone()), into)?;
    }
    wire::encode(&Authentication::Ok, into)?;
    into.extend_from_slice(&upstream.greeting);
    if let Some(key) = key {
        wire::encode(key, into)?;
    }
    into.extend_from_slice(&upstream.ready);
    Ok(())
}

/// Closes the upstream. When we are the ones who end the session, what still runs there is cancelled first:
/// PostgreSQL notices a closed connection only when it next has something to say. A client that went away by
/// itself cancels nothing, as without us.
async fn stop_upstream(upstream: &mut PostgresUpstream, outcome: &Outcome, close: std::time::Duration) {
    if let End::Refused(_) = outcome.transferred.end
        && let Some(route) = &upstream.route
        && let Err(error) = upstream::cancel(route, close).await
    {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "could not cancel what a session was running"
        );
    }
    // It may be gone already.
    let _ = timeout(close, upstream.stream.shutdown()).await;
}
