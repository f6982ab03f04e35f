//! The upstream leg: connect, TLS without a way back, log in.

use std::sync::Arc;
use std::time::Duration;

use crate::endpoint::{Endpoint, UpstreamStream};
use crate::{DialError, Login};

use super::capabilities::Capabilities;
use super::greeting::UpstreamFacts;

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
    /// What its greeting said.
    pub(super) facts: Arc<UpstreamFacts>,
    /// The COM_QUERY that sets the session settings again after COM_RESET_CONNECTION: the payload; `None`
    /// when there are none. The answer is one OK, or an ERR.
    pub(super) settings: Option<Vec<u8>>,
    /// What it was dialled with: whether it may replicate or ask for files, and what a KILL on a connection of
    /// its own needs.
    pub(super) endpoint: Endpoint,
    /// What the client asked to be.
    pub(super) login: Login,
}

/// Opens a connection and logs in, within `deadline`.
pub(super) async fn dial(
    _endpoint: &Endpoint,
    _login: &Login,
    _deadline: Duration,
) -> Result<MysqlUpstream, DialError> {
    Err(DialError::Protocol("it is not dialled yet"))
}
