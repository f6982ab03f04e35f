//! How a channel gets its connections: TCP and TLS, or a Unix socket, each within a deadline.

use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::codegen::http::Uri;

use super::{AUTHD_SERVER_NAME, ApiError, CONNECT_DEADLINE, MAX_FRAME, verifier};

/// Bytes that go to the socket in one write: a frame of the greatest length, and its header.
const WRITTEN_AT_ONCE: usize = MAX_FRAME as usize + 1024;

/// Makes one connection after another to the same place.
pub(super) trait Dial: Clone + Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    fn dial(&self) -> impl Future<Output = Result<Self::Stream, ApiError>> + Send;
}

#[derive(Clone)]
pub(super) struct Tls {
    address: Arc<str>,
    config: Arc<ClientConfig>,
}

impl Tls {
    pub(super) fn new(address: &str, config: ClientConfig) -> Result<Self, ApiError> {
        let wrong = || ApiError::Address { address: address.to_owned() };
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(wrong());
        }
        Ok(Self { address: address.into(), config: Arc::new(config) })
    }

    async fn handshake(&self) -> Result<TlsStream<TcpStream>, ApiError> {
        let unreachable = |source| ApiError::Unreachable { address: self.address.to_string(), source };
        let socket = TcpStream::connect(&*self.address).await.map_err(unreachable)?;
        socket.set_nodelay(true).map_err(unreachable)?;
        let name = ServerName::try_from(AUTHD_SERVER_NAME).map_err(|_| ApiError::NoAuthorities)?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let dialled = connector.connect_with(name, socket, |tls| tls.set_buffer_limit(Some(WRITTEN_AT_ONCE)));
        dialled.await.map_err(|error| self.explain(error))
    }

    fn explain(&self, error: io::Error) -> ApiError {
        let address = self.address.to_string();
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(found) if verifier::is_pin_mismatch(found) => ApiError::PinMismatch { address },
            Some(found @ rustls::Error::InvalidCertificate(_)) => {
                ApiError::Untrusted { address, source: found.clone() }
            }
            _ => ApiError::Tls { address, source: error },
        }
    }
}

impl Dial for Tls {
    type Stream = TlsStream<TcpStream>;

    async fn dial(&self) -> Result<Self::Stream, ApiError> {
        timeout(CONNECT_DEADLINE, self.handshake())
            .await
            .map_err(|_| ApiError::TimedOut { address: self.address.to_string() })?
    }
}

#[derive(Clone)]
pub(super) struct Unix(PathBuf);

impl Unix {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

impl Dial for Unix {
    type Stream = UnixStream;

    async fn dial(&self) -> Result<Self::Stream, ApiError> {
        let connected = timeout(CONNECT_DEADLINE, UnixStream::connect(&self.0)).await;
        connected
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|source| ApiError::Socket { path: self.0.clone(), source })
    }
}

/// What tonic asks for a connection whenever it has none. The first one was made beforehand, so that its failure is an
/// [`ApiError`] and not a chain of boxes.
#[derive(Clone)]
pub(super) struct Connector<D: Dial> {
    dialer: D,
    first: Arc<Mutex<Option<D::Stream>>>,
}

impl<D: Dial> Connector<D> {
    pub(super) fn new(dialer: D, first: D::Stream) -> Self {
        Self { dialer, first: Arc::new(Mutex::new(Some(first))) }
    }
}

impl<D: Dial> tower::Service<Uri> for Connector<D> {
    type Response = TokioIo<D::Stream>;
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ApiError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ApiError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let dialer = self.dialer.clone();
        Box::pin(async move {
            match first {
                Some(stream) => Ok(TokioIo::new(stream)),
                None => dialer.dial().await.map(TokioIo::new),
            }
        })
    }
}
