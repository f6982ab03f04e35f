//! Awaits clients of one target. A client costs only its own connection: nothing in the accept loop waits for one.

use std::{io, net::SocketAddr, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use auth::repeated::Repeated;
use futures_util::FutureExt as _;
use protocols::Protocol;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument as _, Span, debug, error, warn};

use crate::{
    admission::{Admission, Place},
    backoff::Backoff,
    session::{self, Door},
    woken::when_woken,
    workers::Workers,
};

/// Wait after an accept that failed (out of file descriptors, most likely): others must finish first.
const ACCEPT_BACKOFF: Backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
/// A peer that vanished is noticed after 60 + 3 × 10 s.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// When to stop what.
#[derive(Clone, Debug)]
pub(crate) struct Stops {
    /// Stop accepting.
    pub(crate) accepting: CancellationToken,
    /// Drop what is still there.
    pub(crate) abort: CancellationToken,
}

/// Serves until told to stop accepting. Connections live on, tracked by `tasks`.
pub(crate) async fn serve<P: Protocol>(
    listener: TcpListener,
    door: Arc<Door<P>>,
    admission: Arc<Admission>,
    workers: Workers,
    tasks: TaskTracker,
    stops: Stops,
) {
    let mut backoff = ACCEPT_BACKOFF;
    let mut failure = Repeated::default();
    let mut number = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stops.accepting.cancelled() => return,
        };
        match accepted {
            Ok((socket, client)) => {
                backoff = ACCEPT_BACKOFF;
                number += 1;
                // An IPv4 client of a dual-stack socket is the same client.
                let client = SocketAddr::new(client.ip().to_canonical(), client.port());
                door.metrics.connections.inc();
                let Some(place) = admission.admit(client.ip()) else {
                    door.metrics.over_limit.inc();
                    debug!(client.addr = %client, "closed: the listener has all the connections it may have");
                    continue;
                };
                let span = session::span(number, &door.target, client);
                let (name, door, abort) = (&door.target.name, Arc::clone(&door), stops.abort.clone());
                let serve = move |socket| connection((socket, client), door, place, abort, span);
                if let Err(error) = workers.give(&tasks, socket, serve) {
                    warn!(%error, target = %name, "a client's connection cannot be served");
                }
            }
            Err(error) => {
                let wait = backoff.next();
                if failure.is_news(&error) {
                    warn!(%error, retry_in = ?wait, target = %door.target.name, "cannot accept a connection");
                }
                sleep(wait).await;
            }
        }
    }
}

/// One connection, until it ends, has to make room, or is dropped.
async fn connection<P: Protocol>(
    (socket, client): (TcpStream, SocketAddr),
    door: Arc<Door<P>>,
    place: Place,
    abort: CancellationToken,
    span: Span,
) {
    if let Err(error) = prepare(&socket) {
        span.in_scope(|| debug!(%error, "the client is gone"));
        return;
    }
    let serve = AssertUnwindSafe(door.serve(socket, client, &place, span.clone())).catch_unwind();
    let stopped = async {
        tokio::select! {
            // Asked of unknown clients alone. The race between this and becoming known costs the session, which then ends on
            // record.
            () = place.evicted() => {
                door.metrics.unknown_evicted.inc();
                debug!("closed before login to make room");
            }
            () = abort.cancelled() => warn!("dropped: the sidecar stops"),
        }
    };
    tokio::select! {
        served = serve => if served.is_err() {
            span.in_scope(|| error!("a connection panicked; the others go on"));
        },
        () = when_woken(stopped.instrument(span.clone())) => {}
    }
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    SockRef::from(socket).set_tcp_keepalive(&KEEPALIVE)
}
