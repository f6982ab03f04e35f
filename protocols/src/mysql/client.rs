//! A client that waits for its answer: the refusal, or the session.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{Instrument as _, Span};

use crate::relay::{self, Outcome, Stream};
use crate::{Answers, Client, End, Limits, Refusal, RelayError, RelayFault, Tap, Transferred};

use super::compression::{Algorithm, Compressed};
use super::connection_id::ConnectionId;
use super::desk::Desk;
use super::follower::Follower;
use super::front::ClientStream;
use super::inspector::{Charter, Inspector};
use super::responses::Terms;
use super::upstream::MysqlUpstream;
use super::{error_packet, packet};

/// AuthMoreData: the scramble was right, no password is needed (`caching_sha2_password`, "fast").
const FAST_AUTHENTICATED: [u8; 2] = [0x01, 0x03];

/// A MySQL client that has said who it wants to be, and has been told nothing yet.
#[derive(Debug)]
pub struct MysqlClient<S = TcpStream> {
    pub(super) stream: Box<ClientStream<S>>,
    /// It waits for [`FAST_AUTHENTICATED`] in front of OK.
    pub(super) fast_authenticated: bool,
    /// The number of the next packet to it.
    pub(super) sequence: u8,
    /// From the first command on; until then nothing is.
    pub(super) compression: Option<Algorithm>,
    /// Its own, until the session is over.
    pub(super) connection: ConnectionId,
    pub(super) limits: Limits,
    /// In which it was accepted, and in which the log speaks of it.
    pub(super) span: Span,
}

impl<S: Stream> Client for MysqlClient<S> {
    type Upstream = MysqlUpstream;

    async fn refuse(mut self, refusal: Refusal) -> io::Result<()> {
        let mut last = Vec::new();
        packet::append(&mut last, &mut self.sequence, &error_packet::refusal(&refusal));
        relay::close(&mut *self.stream, &last, self.limits.close, relay::HEARD_OUT).await
    }

    async fn relay(
        mut self,
        mut upstream: MysqlUpstream,
        mut tap: impl Tap,
        ended: impl Future<Output = Refusal> + Send,
    ) -> Result<Transferred, RelayError> {
        self.welcome(&upstream).await?;
        let close = self.limits.close;
        let desk = Desk::new();
        let halves = self.halves(&desk, &upstream, tap.answers());
        let (outcome, last) = match self.compression {
            None => {
                let mut outcome =
                    relay::run(&mut *self.stream, &mut upstream.stream, halves, tap, ended, close).await;
                let last = outcome.farewell.take().unwrap_or_default();
                (outcome, last)
            }
            Some(algorithm) => {
                let mut client = Compressed::new(&mut *self.stream, algorithm, Arc::clone(&desk));
                let session = relay::run(&mut client, &mut upstream.stream, halves, tap, ended, close);
                let mut outcome = Box::pin(session).await;
                let last = client.last_words(&outcome.farewell.take().unwrap_or_default());
                (outcome, last)
            }
        };
        let stop =
            stop_upstream(&mut upstream, &outcome, desk.is_busy(), close).instrument(self.span.clone());
        // A client that said goodbye has nothing more to say, and one that failed no means to.
        let heard_out = if outcome.transferred.end == End::Client { 0 } else { relay::HEARD_OUT };
        let farewell = relay::close(&mut *self.stream, &last, close, heard_out);
        // Neither side waits for the other's goodbye. A client that went away before ours does not change
        // what happened.
        let _ = tokio::join!(stop, farewell);
        outcome.into_result()
    }
}

impl<S: Stream> MysqlClient<S> {
    /// Both halves of a session that begins now.
    fn halves(
        &self,
        desk: &Arc<Desk>,
        upstream: &MysqlUpstream,
        answers: Option<Box<dyn Answers>>,
    ) -> (Inspector, Follower) {
        let peer = Arc::new(super::peer(&self.stream));
        self.connection.begins(upstream.thread_id, Arc::clone(&peer));
        let terms = Terms::of(upstream.capabilities);
        let charter = Charter {
            terms,
            replication_allowed: upstream.endpoint.replication_allowed,
            settings: upstream.settings.clone(),
            ids: Arc::clone(self.connection.all()),
            peer,
        };
        let files = upstream.endpoint.local_infile_allowed;
        (Inspector::new(Arc::clone(desk), charter), Follower::new(Arc::clone(desk), terms, files, answers))
    }

    /// "You are logged in": the upstream's own OK, under the number that comes next here.
    pub(super) async fn welcome(&mut self, upstream: &MysqlUpstream) -> Result<(), RelayError> {
        let mut welcome = Vec::new();
        if self.fast_authenticated {
            packet::append(&mut welcome, &mut self.sequence, &FAST_AUTHENTICATED);
        }
        packet::append(&mut welcome, &mut self.sequence, &upstream.welcome);
        let send = async {
            self.stream.write_all(&welcome).await?;
            self.stream.flush().await
        };
        let sent = timeout(self.limits.close, send).await;
        sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(|error| RelayError {
            transferred: Transferred { end: End::Client, ..Transferred::default() },
            fault: RelayFault::Client(error),
        })
    }
}

/// Closes the upstream. When we are the ones who end the session, what still runs there is killed first: MySQL
/// notices a closed connection only when it next has something to say. A client that went away by itself kills
/// nothing, as without us.
async fn stop_upstream(upstream: &mut MysqlUpstream, outcome: &Outcome, busy: bool, close: Duration) {
    if let End::Refused(_) = outcome.transferred.end
        && busy
        && let Err(error) = upstream.kill(close).await
    {
        tracing::warn!(error = &error as &dyn std::error::Error, "could not kill what a session was running");
    }
    // It may be gone already.
    let _ = timeout(close, upstream.stream.shutdown()).await;
}
