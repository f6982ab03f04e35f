//! Accepting connections: nothing that a client does, or does not do, holds the next one up.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use auth::repeated::Repeated;
use axum::Router;
use nix::unistd::{Uid, geteuid};
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::connection::{self, Wire};
use crate::{
    api::{
        Api,
        caller::{self, Caller, Connection},
    },
    room::Room,
};

/// TCP accepted to TLS done.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections at a time, in all.
const MAX_CONNECTIONS: usize = 4096;
/// Connections at a time from one address: many users may share one, a flood should not fill the whole room.
const MAX_PER_ADDRESS: usize = 512;
/// When the system has no file descriptors left, accepting at once again would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What serving a connection needs.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) api: Api,
    pub(super) shutdown: CancellationToken,
    pub(super) tasks: TaskTracker,
}

pub(super) async fn tls(listener: TcpListener, config: Arc<ServerConfig>, router: Router, serving: Serving) {
    let acceptor = TlsAcceptor::from(config);
    let room = Room::new(MAX_CONNECTIONS, MAX_PER_ADDRESS);
    let (mut failure, mut full) = (Repeated::default(), Repeated::default());
    while let Some(accepted) = serving.shutdown.run_until_cancelled(listener.accept()).await {
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                pause(&error, &mut failure).await;
                continue;
            }
        };
        let address = peer.ip().to_canonical();
        let Some(place) = room.enter(address) else {
            if full.is_news(&"no room") {
                tracing::warn!(client.addr = %address, "no room for another connection");
            }
            continue;
        };
        let (acceptor, router, serving) = (acceptor.clone(), router.clone(), serving.clone());
        // The handshake is the connection's own affair: a client that is silent keeps nobody waiting.
        serving.tasks.clone().spawn(async move {
            let _place = place;
            match timeout(HANDSHAKE, handshake(&acceptor, socket, &serving.api, address)).await {
                Ok(Ok((stream, connection, wire, chain))) => {
                    let distrusted = caller::distrusted(&serving.api.cluster, &chain, &connection.caller);
                    connection::serve(
                        stream,
                        connection.clone(),
                        wire,
                        router,
                        distrusted,
                        &serving.shutdown,
                    )
                    .await;
                }
                Ok(Err(error)) => tracing::debug!(client.addr = %address, %error, "no TLS"),
                Err(_) => tracing::debug!(client.addr = %address, "TLS took too long"),
            }
        });
    }
}

async fn handshake(
    acceptor: &TlsAcceptor,
    socket: TcpStream,
    api: &Api,
    address: IpAddr,
) -> io::Result<(TlsStream<TcpStream>, Connection, Wire, Vec<CertificateDer<'static>>)> {
    socket.set_nodelay(true)?;
    let stream = acceptor.accept(socket).await?;
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates().unwrap_or_default().to_vec();
    let caller = Caller::of(&api.cluster, &chain);
    let wire = match session.alpn_protocol() {
        Some(b"h2") => Wire::Http2,
        _ => Wire::Http1,
    };
    Ok((stream, Connection { address, caller }, wire, chain))
}

pub(super) async fn admin(listener: UnixListener, router: Router, serving: Serving) {
    let mut failure = Repeated::default();
    while let Some(accepted) = serving.shutdown.run_until_cancelled(listener.accept()).await {
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                pause(&error, &mut failure).await;
                continue;
            }
        };
        if !is_owner(&socket) {
            tracing::warn!("somebody else opened the admin socket");
            continue;
        }
        let (router, serving) = (router.clone(), serving.clone());
        serving.tasks.clone().spawn(async move {
            let connection = Connection { address: Ipv4Addr::LOCALHOST.into(), caller: Caller::Root };
            let distrusted = std::future::pending();
            connection::serve(socket, connection, Wire::Http2, router, distrusted, &serving.shutdown).await;
        });
    }
}

/// Ours, or the superuser's. The file's mode says the same; this holds even where it was changed.
fn is_owner(socket: &UnixStream) -> bool {
    let peer = socket.peer_cred().map(|credentials| Uid::from_raw(credentials.uid()));
    peer.is_ok_and(|uid| uid == geteuid() || uid.is_root())
}

async fn pause(error: &io::Error, failure: &mut Repeated) {
    if failure.is_news(error) {
        tracing::warn!(%error, "cannot accept");
    }
    tokio::time::sleep(ACCEPT_PAUSE).await;
}
