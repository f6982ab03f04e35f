//! One connection: HTTP over whatever carries it, until it ends, is idle from the start, or we stop.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use auth::api::MAX_FRAME;
use axum::{Router, body::Body};
use http::Request;
use http_body_util::Limited;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::calls::Calls;
use crate::api::caller::{Caller, Connection};

/// What ALPN agreed on. Chosen beforehand, because finding out by reading would wait for a silent client forever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Http1,
    Http2,
}

/// A client that has said nothing by then is not going to.
const FIRST_REQUEST: Duration = Duration::from_secs(20);
/// A peer that answers no ping within two of these is gone.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Streams at a time on one connection, and calls; a sidecar uses a handful.
const MAX_STREAMS: u16 = 64;
/// Bytes of a request from somebody without a certificate, whatever it calls: it is read before the call can refuse it, and
/// what strangers may send on many streams at once must fit into memory. The longest that they have reason to send is the
/// registration of a security key.
const STRANGERS_REQUEST: usize = 64 * 1024;
/// Bytes of a frame from a stranger, which is in memory before anybody looks at it: HTTP/2's least (RFC 9113 section 4.2).
const STRANGERS_FRAME: u32 = 16 * 1024;
/// The longest that a stranger's connection is kept; a login takes five minutes at most. Clients connect again by themselves,
/// and nobody can hold places for ever by answering pings.
const STRANGERS_LIFE: Duration = Duration::from_secs(10 * 60);
/// For what is under way when that life is over.
const STRANGERS_GRACE: Duration = Duration::from_secs(60);
/// Header bytes of one request.
const MAX_HEADERS: u32 = 16 * 1024;

/// Ends when the connection has ended and all that was called on it is done. It is cut off once its client is `distrusted`.
pub(super) async fn serve<S>(
    stream: S,
    connection: Connection,
    wire: Wire,
    router: Router,
    distrusted: impl Future<Output = ()>,
    shutdown: &CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let calls = Calls::new(router, MAX_STREAMS.into());
    tokio::select! {
        () = converse(stream, connection, wire, &calls, shutdown) => {}
        () = distrusted => tracing::info!("a connection is cut off: its client's authority is gone"),
    }
    calls.finished().await;
}

async fn converse<S>(
    stream: S,
    connection: Connection,
    wire: Wire,
    calls: &Calls,
    shutdown: &CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stranger = matches!(connection.caller, Caller::Nobody | Caller::Rejected(_));
    let spoken = Arc::new(AtomicBool::new(false));
    let said = Arc::clone(&spoken);
    let service = service_fn(move |mut request: Request<Incoming>| {
        said.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(connection.clone());
        let body = |body: Incoming| match stranger {
            true => Body::new(Limited::new(body, STRANGERS_REQUEST)),
            false => Body::new(body),
        };
        calls.answer(request.map(body))
    });
    let builder = builder(wire, if stranger { STRANGERS_FRAME } else { MAX_FRAME });
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut silence = pin!(tokio::time::sleep(FIRST_REQUEST));
    let mut life = pin!(tokio::time::sleep(STRANGERS_LIFE));
    let mut grace = pin!(tokio::time::sleep(STRANGERS_LIFE + STRANGERS_GRACE));
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
            () = life.as_mut(), if stranger && !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
            () = grace.as_mut(), if stranger => return,
            () = shutdown.cancelled(), if !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}

fn builder(wire: Wire, max_frame: u32) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(FIRST_REQUEST).max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .max_concurrent_streams(u32::from(MAX_STREAMS))
        .max_frame_size(max_frame)
        .max_header_list_size(MAX_HEADERS);
    match wire {
        Wire::Http1 => builder.http1_only(),
        Wire::Http2 => builder.http2_only(),
    }
}

#[cfg(test)]
mod tests {
    use std::{io, net::Ipv4Addr};

    use auth::certificate::CertificateError;
    use axum::routing::get;
    use http::StatusCode;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
        sync::oneshot,
        time::Instant,
    };
    use tonic::transport::{Channel, Endpoint};
    use tower::ServiceExt as _;

    use super::*;

    /// The client's end of a connection that is served, and when that ends.
    fn served(caller: Caller) -> (DuplexStream, oneshot::Receiver<Instant>) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (ended, end) = oneshot::channel();
        tokio::spawn(async move {
            let connection = Connection { address: Ipv4Addr::LOCALHOST.into(), caller };
            let router = Router::new().route("/", get(|| async { "" }));
            serve(far, connection, Wire::Http2, router, std::future::pending(), &CancellationToken::new())
                .await;
            let _ = ended.send(Instant::now());
        });
        (near, end)
    }

    /// A client that has asked once and answers every ping from then on; and when its connection ends.
    async fn connected(caller: Caller) -> (Channel, oneshot::Receiver<Instant>) {
        let (near, end) = served(caller);
        let mut near = Some(near);
        let connector = tower::service_fn(move |_: http::Uri| {
            let stream = near.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
            async move { stream.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://authd");
        let channel = endpoint.connect_with_connector(connector).await.unwrap();
        let request = Request::builder().uri("/").body(tonic::body::Body::empty()).unwrap();
        let answer = channel.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        (channel, end)
    }

    /// The longest frame that this caller may send: SETTINGS_MAX_FRAME_SIZE (RFC 9113 section 6.5.2).
    async fn longest_frame(caller: Caller) -> u32 {
        let (mut near, _end) = served(caller);
        near.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        let mut head = [0; 9];
        near.read_exact(&mut head).await.unwrap();
        assert_eq!(head[3], 4, "settings come first");
        let mut settings = vec![0; usize::from(head[1]) * 256 + usize::from(head[2])];
        near.read_exact(&mut settings).await.unwrap();
        let found = settings.chunks_exact(6).find(|setting| setting[..2] == [0, 5]);
        found.map_or(16 * 1024, |setting| u32::from_be_bytes(setting[2..].try_into().unwrap()))
    }

    #[tokio::test]
    async fn long_frames_are_for_those_who_are_known() {
        assert_eq!(longest_frame(Caller::Nobody).await, STRANGERS_FRAME);
        assert_eq!(
            longest_frame(Caller::Rejected(CertificateError::Malformed { what: "all" })).await,
            STRANGERS_FRAME
        );
        assert_eq!(longest_frame(Caller::Root).await, MAX_FRAME);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_cannot_keep_a_connection_for_ever() {
        let begun = Instant::now();
        let (_channel, end) = connected(Caller::Nobody).await;
        let lived = end.await.unwrap() - begun;
        assert!(lived >= STRANGERS_LIFE && lived <= STRANGERS_LIFE + STRANGERS_GRACE, "{lived:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_known_keeps_a_connection() {
        let (_channel, mut end) = connected(Caller::Root).await;
        tokio::time::sleep(3 * STRANGERS_LIFE).await;
        assert!(end.try_recv().is_err());
    }
}
