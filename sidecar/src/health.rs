//! `/metrics`, `/healthz` and `/readyz` over plain HTTP/1, for monitoring on the same host or network.
//!
//! - `/healthz`: 200 while the process runs.
//! - `/readyz`: 200 while a session could start. 503 and the reason while the replica is not complete, or too old where
//!   locks are strict, our certificate has expired, the audit spool cannot be written, no client could be greeted at any
//!   target (module `probe`), or the sidecar drains.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use auth::repeated::Repeated;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::metrics::Metrics;

/// Whoever takes longer to ask, or to read the answer, is not a monitoring system.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// Monitoring needs one or two.
const MAX_CONNECTIONS: usize = 64;

/// Why no session could start now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotReady {
    /// The replica has no complete snapshot.
    Replica,
    /// Locks are strict, and authd was not heard of for too long.
    Stale,
    /// Our certificate has expired: clients refuse us, and so does authd.
    Certificate,
    /// The audit spool cannot be written, or is full.
    Audit,
    /// No target's database has been seen yet, and none can be served before it was.
    Upstream,
    /// The sidecar is stopping.
    Draining,
}

impl NotReady {
    fn text(self) -> &'static str {
        match self {
            Self::Replica => "not ready: the replica is not complete\n",
            Self::Stale => "not ready: locking is strict, and authd has not been heard of for 5 minutes\n",
            Self::Certificate => "not ready: the certificate of this sidecar has expired\n",
            Self::Audit => "not ready: the audit spool cannot be written\n",
            Self::Upstream => "not ready: no database has been reached yet\n",
            Self::Draining => "not ready: draining\n",
        }
    }
}

/// What the health page needs to know of the process.
pub(crate) trait Watched: Send + Sync + 'static {
    /// Could a session start?
    ///
    /// # Errors
    /// Why not.
    fn readiness(&self) -> Result<(), NotReady>;
    /// Brings the gauges up to date that are read when somebody looks.
    fn refresh(&self, metrics: &Metrics);
}

/// Serves until told to stop.
pub(crate) async fn serve<W: Watched>(
    listener: TcpListener,
    metrics: Metrics,
    watched: Arc<W>,
    stop: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut failure = Repeated::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((socket, client)) => {
                // Over the limit: closed at once.
                let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
                let (metrics, watched) = (metrics.clone(), Arc::clone(&watched));
                tokio::spawn(async move {
                    connection(socket, client, metrics, watched).await;
                    drop(place);
                });
            }
            Err(error) => {
                if failure.is_news(&error) {
                    warn!(%error, "cannot accept a diagnostic connection");
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection<W: Watched>(socket: TcpStream, client: SocketAddr, metrics: Metrics, watched: Arc<W>) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), &metrics, &*watched);
        async { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_DEADLINE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), service);
    match timeout(REQUEST_DEADLINE, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%client, %error, "diagnostic connection failed"),
        Err(_) => debug!(%client, "diagnostic connection took too long"),
    }
}

fn answer(method: &Method, path: &str, metrics: &Metrics, watched: &impl Watched) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
    }
    match path {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => match watched.readiness() {
            Ok(()) => text(StatusCode::OK, "ok\n"),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, why.text()),
        },
        "/metrics" => {
            watched.refresh(metrics);
            let mut response = Response::new(Full::new(Bytes::from(metrics.render())));
            let kind = header::HeaderValue::from_static("text/plain; version=0.0.4");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        _ => text(StatusCode::NOT_FOUND, "/metrics /healthz /readyz\n"),
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}
