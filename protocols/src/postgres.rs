//! PostgreSQL's frontend/backend protocol, versions 3.0 and 3.2.

use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::net::TcpStream;

use crate::{
    AcceptError, Accepted, Client, DialError, Endpoint, Limits, Login, Protocol, Refusal, RelayError, Tap,
    Transferred,
};

/// ALPN of direct TLS (`sslnegotiation=direct`) and of libpq 17 and newer behind SSLRequest.
pub const ALPN: &[u8] = b"postgresql";
/// ALPN of tsh's tunnel: TLS first, inside it PostgreSQL that believes to be without.
pub const TUNNEL_ALPN: &[u8] = b"touchstone-postgres";

/// The PostgreSQL front of one listener.
#[derive(Debug)]
pub struct Postgres {
    tls: Arc<ServerConfig>,
    limits: Limits,
}

impl Postgres {
    /// `tls` offers [`ALPN`] and [`TUNNEL_ALPN`], asks for a client certificate, and has resumption switched off.
    #[must_use]
    pub fn new(tls: Arc<ServerConfig>, limits: Limits) -> Self {
        Self { tls, limits }
    }
}

/// A PostgreSQL client that waits for its answer.
#[derive(Debug)]
pub struct PostgresClient<S = TcpStream> {
    io: PhantomData<S>,
}

/// A connection to a PostgreSQL upstream that is logged in and ready.
#[derive(Debug)]
pub struct PostgresUpstream {}

impl Protocol for Postgres {
    const NAME: &'static str = "postgres";
    type Client = PostgresClient;
    type Upstream = PostgresUpstream;

    async fn accept(&self, socket: TcpStream) -> Result<Option<Accepted<Self::Client>>, AcceptError> {
        let _ = (&self.tls, self.limits, socket);
        Err(AcceptError::Client(io::ErrorKind::Unsupported.into()))
    }

    async fn dial(&self, _endpoint: &Endpoint, _login: &Login) -> Result<Self::Upstream, DialError> {
        Err(DialError::Login)
    }
}

impl Client for PostgresClient {
    type Upstream = PostgresUpstream;

    async fn refuse(self, _refusal: Refusal) -> io::Result<()> {
        Ok(())
    }

    async fn relay(
        self,
        _upstream: Self::Upstream,
        _tap: impl Tap,
        ended: impl Future<Output = Refusal> + Send,
    ) -> Result<Transferred, RelayError> {
        let _ = ended.await;
        Ok(Transferred::default())
    }
}
