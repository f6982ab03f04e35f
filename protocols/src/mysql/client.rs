//! A client that waits for its answer: the refusal, or the session.

use std::future::Future;
use std::io;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::relay::{self, Stream};
use crate::{Client, End, Limits, Refusal, RelayError, RelayFault, Tap, Transferred};

use super::capabilities::Capabilities;
use super::connection_id::ConnectionId;
use super::front::ClientStream;
use super::upstream::MysqlUpstream;
use super::{error_packet, packet};

/// AuthMoreData: the scramble was right, no password is needed (`caching_sha2_password`, "fast").
const FAST_AUTHENTICATED: [u8; 2] = [0x01, 0x03];

/// A MySQL client that has said who it wants to be, and has been told nothing yet.
#[derive(Debug)]
pub struct MysqlClient<S = TcpStream> {
    pub(super) stream: Box<ClientStream<S>>,
    /// What was negotiated with it: everything that both legs do alike, and its own compression.
    pub(super) capabilities: Capabilities,
    /// The level of zstd that it asked for, where it did.
    pub(super) zstd_level: u8,
    /// It waits for [`FAST_AUTHENTICATED`] in front of OK.
    pub(super) fast_authenticated: bool,
    /// The number of the next packet to it.
    pub(super) sequence: u8,
    /// Its own, until the session is over.
    pub(super) connection: ConnectionId,
    pub(super) limits: Limits,
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
        upstream: MysqlUpstream,
        _tap: impl Tap,
        _ended: impl Future<Output = Refusal> + Send,
    ) -> Result<Transferred, RelayError> {
        self.welcome(&upstream).await?;
        Ok(Transferred::default())
    }
}

impl<S: Stream> MysqlClient<S> {
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
