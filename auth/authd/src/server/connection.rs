//! One connection: HTTP over whatever carries it, until it ends, is idle from the start, or we stop.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body};
use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::api::caller::Connection;

/// What ALPN agreed on. Chosen beforehand, because finding out by reading would wait for a silent client forever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Http1,
    Http2,
}

/// A client that has said nothing by then is not going to.
const FIRST_REQUEST: Duration = Duration::from_secs(20);
/// Until the answer to a request begins. The slowest hashes a password, in a queue.
const RESPONSE: Duration = Duration::from_secs(30);
/// A peer that answers no ping within two of these is gone.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Streams at a time on one connection; a sidecar uses a handful.
const MAX_STREAMS: u32 = 64;
/// Header bytes of one request.
const MAX_HEADERS: u32 = 16 * 1024;

pub(super) async fn serve<S>(
    stream: S,
    connection: Connection,
    wire: Wire,
    router: Router,
    shutdown: &CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let spoken = Arc::new(AtomicBool::new(false));
    let said = Arc::clone(&spoken);
    let service = service_fn(move |mut request: Request<Incoming>| {
        said.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(connection.clone());
        answer(router.clone(), request)
    });
    let builder = builder(wire);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut silence = pin!(tokio::time::sleep(FIRST_REQUEST));
    let (mut waiting, mut stopping) = (true, false);
    loop {
        tokio::select! {
            result = serving.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "connection ended");
                }
                return;
            }
            () = silence.as_mut(), if waiting => {
                waiting = false;
                if !spoken.load(Ordering::Relaxed) {
                    return;
                }
            }
            () = shutdown.cancelled(), if !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}

fn builder(wire: Wire) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(FIRST_REQUEST).max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS);
    match wire {
        Wire::Http1 => builder.http1_only(),
        Wire::Http2 => builder.http2_only(),
    }
}

/// The body of an answer may take its time (Watch), its head may not.
async fn answer(router: Router, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    match tokio::time::timeout(RESPONSE, router.oneshot(request.map(Body::new))).await {
        Ok(response) => response,
        Err(_) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::REQUEST_TIMEOUT;
            Ok(response)
        }
    }
}
