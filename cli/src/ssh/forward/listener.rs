//! Local ports and sockets that lead through a connection.

use std::{fs, io, net::IpAddr, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;

use super::{Dynamic, Listen, Local, Target, Way, pump::pump, socks};
use crate::{report::eprint_line, ssh::SshConnection};

/// Connections at the same time; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 1000;
/// A pause after a failed accept (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {listen}")]
pub struct ListenError {
    listen: String,
    source: io::Error,
}

/// A port or socket that is taken; nothing comes through yet.
pub struct Listening {
    sockets: Vec<Socket>,
    way: Way,
}

enum Socket {
    Tcp(TcpListener),
    Unix(
        UnixListener,
        #[expect(dead_code, reason = "takes the file away when it is dropped")] RemoveAtTheEnd,
    ),
}

struct RemoveAtTheEnd(PathBuf);

impl Drop for RemoveAtTheEnd {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Listening {
    /// Takes the port of `-L`.
    ///
    /// # Errors
    /// It is taken.
    pub async fn local(local: &Local) -> Result<Self, ListenError> {
        Ok(Self { sockets: bind(&local.listen).await?, way: Way::To(local.to.clone()) })
    }

    /// Takes the port of `-D`.
    ///
    /// # Errors
    /// It is taken.
    pub async fn dynamic(dynamic: &Dynamic) -> Result<Self, ListenError> {
        Ok(Self { sockets: bind(&dynamic.listen).await?, way: Way::AsTheyAsk })
    }

    /// The ports, in the order of the addresses.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        let port = |socket: &Socket| match socket {
            Socket::Tcp(listener) => listener.local_addr().ok().map(|address| address.port()),
            Socket::Unix(..) => None,
        };
        self.sockets.iter().filter_map(port).collect()
    }
}

async fn bind(listen: &Listen) -> Result<Vec<Socket>, ListenError> {
    let failed = |source| ListenError { listen: listen.to_string(), source };
    match listen {
        Listen::Unix(path) => {
            let listener = UnixListener::bind(path).map_err(failed)?;
            let socket = Socket::Unix(listener, RemoveAtTheEnd(path.clone()));
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
            Ok(vec![socket])
        }
        Listen::Tcp { address: Some(address), port } => {
            let address = match address.as_str() {
                "" | "*" => "0.0.0.0",
                address => address,
            };
            Ok(vec![Socket::Tcp(TcpListener::bind((address, *port)).await.map_err(failed)?)])
        }
        Listen::Tcp { address: None, port } => {
            let first = TcpListener::bind((IpAddr::from([127, 0, 0, 1]), *port)).await.map_err(failed)?;
            let port = first.local_addr().map_err(failed)?.port();
            // A machine without IPv6 has no such port.
            let second = TcpListener::bind((std::net::Ipv6Addr::LOCALHOST, port)).await.ok();
            Ok([Some(first), second].into_iter().flatten().map(Socket::Tcp).collect())
        }
    }
}

/// All that is forwarded through one connection.
pub struct Forwarding {
    connections: TaskTracker,
    listeners: Vec<tokio::task::AbortHandle>,
}

impl Forwarding {
    /// Lets connections through.
    #[must_use]
    pub fn start(connection: &Arc<SshConnection>, listening: Vec<Listening>) -> Self {
        let connections = TaskTracker::new();
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut listeners = Vec::new();
        for Listening { sockets, way } in listening {
            for socket in sockets {
                let serving = Serving {
                    connection: Arc::clone(connection),
                    connections: connections.clone(),
                    slots: Arc::clone(&slots),
                    way: way.clone(),
                };
                listeners.push(tokio::spawn(serving.serve(socket)).abort_handle());
            }
        }
        Self { connections, listeners }
    }

    /// Takes no new connections, and waits until those that are open have ended: what ssh does after the shell.
    pub async fn finish(mut self) {
        self.listeners.drain(..).for_each(|listener| listener.abort());
        self.connections.close();
        self.connections.wait().await;
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.listeners.drain(..).for_each(|listener| listener.abort());
    }
}

struct Serving {
    connection: Arc<SshConnection>,
    connections: TaskTracker,
    slots: Arc<Semaphore>,
    way: Way,
}

impl Serving {
    async fn serve(self, socket: Socket) {
        loop {
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return };
            let (connection, way) = (Arc::clone(&self.connection), self.way.clone());
            match &socket {
                Socket::Tcp(listener) => match listener.accept().await {
                    Ok((client, peer)) => {
                        let _ = client.set_nodelay(true);
                        let origin = (peer.ip().to_string(), peer.port());
                        self.connections.spawn(async move {
                            one(&connection, &way, client, origin).await;
                            drop(slot);
                        });
                    }
                    Err(error) => pause(&error).await,
                },
                Socket::Unix(listener, _) => match listener.accept().await {
                    Ok((client, _)) => {
                        self.connections.spawn(async move {
                            one(&connection, &way, client, ("localhost".to_owned(), 0)).await;
                            drop(slot);
                        });
                    }
                    Err(error) => pause(&error).await,
                },
            }
        }
    }
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "cannot accept");
    sleep(ACCEPT_PAUSE).await;
}

async fn one<S>(connection: &SshConnection, way: &Way, mut client: S, origin: (String, u16))
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let opened = match way {
        Way::To(Target::Tcp { host, port }) => connection.direct_tcpip(host, *port, origin).await,
        Way::To(Target::Unix(path)) => connection.direct_streamlocal(&path.to_string_lossy()).await,
        Way::AsTheyAsk => {
            let Ok(Ok(request)) = timeout(socks::DEADLINE, socks::accept(&mut client)).await else { return };
            let opened = connection.direct_tcpip(&request.host, request.port, origin).await;
            if socks::answer(&mut client, &request, opened.is_ok()).await.is_err() {
                return;
            }
            opened
        }
    };
    match opened {
        Ok(channel) => pump(client, channel).await,
        // Said by the handler already, with the reason that the host gave.
        Err(russh::Error::ChannelOpenFailure(_)) => {}
        Err(error) => eprint_line(&format!("channel: open failed: {error}")),
    }
}
