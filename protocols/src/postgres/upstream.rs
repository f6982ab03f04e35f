//! The upstream leg: connect, TLS without a way back, log in, and wait until it is ready.

use std::io::Write as _;
use std::time::Duration;

use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::startup::{SecretKey, SslRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;
use zeroize::Zeroizing;

use crate::endpoint::{Endpoint, Socket, UpstreamAddress, UpstreamStream, UpstreamTls};
use crate::relay::ReadAhead;
use crate::{DialError, Login, Replication};

use super::cancel::Route;
use super::wire::{self, Allowance, Received};
use super::{auth, error_response, settings, startup};

/// A connection to a PostgreSQL upstream that is logged in and ready.
#[derive(Debug)]
pub struct PostgresUpstream {
    pub(super) stream: UpstreamStream,
    /// ParameterStatus and NoticeResponse messages, as they came.
    pub(super) greeting: Vec<u8>,
    /// ReadyForQuery, as it came.
    pub(super) ready: Vec<u8>,
    /// How to cancel what runs here; `None` when the upstream gave no key.
    pub(super) route: Option<Route>,
}

/// Opens a connection and logs in, within `deadline`.
pub(super) async fn dial(
    endpoint: &Endpoint,
    login: &Login,
    deadline: Duration,
) -> Result<PostgresUpstream, DialError> {
    timeout(deadline, log_in(endpoint, login)).await.unwrap_or(Err(DialError::Deadline(deadline)))
}

async fn log_in(endpoint: &Endpoint, login: &Login) -> Result<PostgresUpstream, DialError> {
    if login.replication != Replication::None && !endpoint.replication_allowed {
        return Err(DialError::ReplicationNotAllowed);
    }
    settings::check(&endpoint.settings)?;
    let packet = startup::encode(login, &endpoint.settings).ok_or(DialError::Login)?;
    let mut stream = open(&endpoint.address, endpoint.tls.as_ref(), &packet).await?;
    let mut allowance = Allowance::new();
    auth::authenticate(&mut stream, &mut allowance, &endpoint.credential, login).await?;
    settle(stream, &mut allowance, endpoint, login).await.map_err(|error| match error {
        DialError::Rejected(report) => settings::blame(report, &endpoint.settings),
        error => error,
    })
}

/// Connects, brings TLS up where it is asked for, and says the first message.
///
/// Through TLS, that goes with the last of the handshake: it is encrypted once the upstream has proved itself, and not
/// before, and takes no write and no packet of its own.
async fn open(
    address: &UpstreamAddress,
    tls: Option<&UpstreamTls>,
    first: &[u8],
) -> Result<UpstreamStream, DialError> {
    let mut socket = address.connect().await.map_err(DialError::Connect)?;
    let Some(tls) = tls else {
        socket.write_all(first).await.map_err(DialError::Connect)?;
        return Ok(Either::Left(socket));
    };
    request_tls(&mut socket).await?;
    let connector = TlsConnector::from(tls.config.clone());
    let mut said = Ok(());
    let handshake = connector.connect_with(tls.server_name.clone(), ReadAhead::new(socket), |connection| {
        said = connection.writer().write_all(first);
    });
    let mut stream = handshake.await.map_err(DialError::Tls)?;
    said.map_err(DialError::Connect)?;
    stream.flush().await.map_err(DialError::Connect)?;
    Ok(Either::Right(Box::new(stream)))
}

/// SSLRequest, to which only `S` will do. A second byte that comes with it is plaintext that wants to pass
/// for encrypted (CVE-2021-23222); one that comes later breaks the handshake.
async fn request_tls(socket: &mut Socket) -> Result<(), DialError> {
    let mut request = Vec::new();
    wire::encode(&SslRequest::new(), &mut request).map_err(DialError::Connect)?;
    socket.write_all(&request).await.map_err(DialError::Connect)?;
    let mut answer = [0; 2];
    match (socket.read(&mut answer).await.map_err(DialError::Connect)?, answer) {
        (1, [b'S', _]) => Ok(()),
        (2, [b'S', _]) => Err(DialError::EarlyPlaintext),
        (0, _) => Err(DialError::Connect(std::io::ErrorKind::UnexpectedEof.into())),
        // `N`, or an ErrorResponse that nothing has authenticated and nobody should read.
        _ => Err(DialError::TlsRefused),
    }
}

/// Collects what the upstream says between AuthenticationOk and ReadyForQuery, and brings the session settings
/// in force.
async fn settle(
    mut stream: UpstreamStream,
    allowance: &mut Allowance,
    endpoint: &Endpoint,
    login: &Login,
) -> Result<PostgresUpstream, DialError> {
    let mut greeting = Vec::new();
    let mut route = None;
    loop {
        let message = wire::receive(&mut stream, allowance).await?;
        match message.kind() {
            b'S' | b'N' => greeting.push(message.bytes().to_vec()),
            b'K' if route.is_none() => route = Some(key_route(endpoint, &message)?),
            b'K' => return Err(DialError::Protocol("it sends two cancel keys")),
            b'E' => return Err(rejected(&message)),
            b'Z' => {
                let ready = message.bytes().to_vec();
                settings::apply(&mut stream, allowance, endpoint, login, &mut greeting).await?;
                return Ok(PostgresUpstream { stream, greeting: greeting.concat(), ready, route });
            }
            _ => return Err(DialError::Protocol("it sends something else between login and ready")),
        }
    }
}

fn rejected(message: &Received) -> DialError {
    match error_response::parse(message.content()) {
        Ok(report) => DialError::Rejected(report),
        Err(_) => DialError::Protocol("an error message does not hold together"),
    }
}

/// The upstream's own process number and key, 8 to 260 bytes.
fn key_route(endpoint: &Endpoint, message: &Received) -> Result<Route, DialError> {
    let key = message.content();
    if !(8..=260).contains(&key.len()) {
        return Err(DialError::Protocol("a cancel key has an impossible length"));
    }
    Ok(Route {
        address: endpoint.address.clone(),
        tls: endpoint.tls.clone(),
        key: Zeroizing::new(key.to_vec()),
    })
}

/// Asks the upstream to stop what the session runs: a new connection, over TLS when the session has TLS, and
/// no answer. Returns when the upstream has acted on it and closed.
pub(super) async fn cancel(route: &Route, deadline: Duration) -> Result<(), DialError> {
    let send = async {
        let request = cancel_request(&route.key).map_err(DialError::Connect)?;
        let mut stream = open(&route.address, route.tls.as_ref(), &request).await?;
        // It says nothing; a reset or a missing goodbye is as good as a close.
        let _ = stream.read(&mut [0]).await;
        Ok(())
    };
    timeout(deadline, send).await.unwrap_or(Err(DialError::Deadline(deadline)))
}

fn cancel_request(key: &[u8]) -> std::io::Result<Vec<u8>> {
    let (process, key) = key.split_first_chunk().ok_or(std::io::ErrorKind::InvalidInput)?;
    let key = SecretKey::Bytes(bytes::Bytes::copy_from_slice(key));
    let mut request = Vec::new();
    wire::encode(&CancelRequest::new(i32::from_be_bytes(*process), key), &mut request)?;
    Ok(request)
}
