//! Where a forwarded connection leads.

use std::{fmt, path::PathBuf};

use russh::{
    Channel, ChannelOpenFailure,
    client::{ChannelOpenHandle, Msg},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use super::{
    pump::{channel_stream, pump},
    socks,
};

/// A port, or a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A port.
    Tcp {
        /// Name or address.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl Target {
    /// Connects here for a channel that the host opens; the host hears that it is open once we are connected.
    pub(in crate::ssh) async fn serve(self, channel: Channel<Msg>, reply: ChannelOpenHandle) {
        let refused = |error: &std::io::Error| {
            tracing::debug!(target = %self, %error, "a forwarded connection leads nowhere");
            ChannelOpenFailure::ConnectFailed
        };
        match &self {
            Self::Tcp { host, port } => match TcpStream::connect((host.as_str(), *port)).await {
                Ok(socket) => {
                    let _ = socket.set_nodelay(true);
                    reply.accept().await;
                    pump(socket, channel).await;
                }
                Err(error) => reply.reject(refused(&error)).await,
            },
            Self::Unix(path) => match UnixStream::connect(path).await {
                Ok(socket) => {
                    reply.accept().await;
                    pump(socket, channel).await;
                }
                Err(error) => reply.reject(refused(&error)).await,
            },
        }
    }
}

/// Where the connections of one listener lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// All to the same.
    To(Target),
    /// Where each says that it wants to go (SOCKS).
    AsTheyAsk,
}

impl Way {
    /// As [`Target::serve`]; who says where it wants to go is heard first, and so through an open channel.
    pub(in crate::ssh) async fn serve(self, channel: Channel<Msg>, reply: ChannelOpenHandle) {
        match self {
            Self::To(target) => target.serve(channel, reply).await,
            Self::AsTheyAsk => {
                reply.accept().await;
                as_it_asks(channel_stream(channel)).await;
            }
        }
    }
}

/// Connects a SOCKS client from here.
async fn as_it_asks(mut client: impl AsyncRead + AsyncWrite + Unpin) {
    let Ok(Ok(request)) = timeout(socks::DEADLINE, socks::accept(&mut client)).await else { return };
    let connected = TcpStream::connect((request.host.as_str(), request.port)).await;
    if socks::answer(&mut client, &request, connected.is_ok()).await.is_err() {
        return;
    }
    match connected {
        Ok(mut socket) => {
            let _ = socket.set_nodelay(true);
            // However it ends, both are closed.
            let _ = copy_bidirectional(&mut client, &mut socket).await;
        }
        Err(error) => {
            tracing::debug!(host = request.host, %error, "a forwarded connection leads nowhere");
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::To(target) => target.fmt(f),
            Self::AsTheyAsk => f.write_str("wherever SOCKS clients ask"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn a_socks_client_at_the_node_is_connected_from_here_where_it_asks() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mut there, here) = duplex(1024);
        let served = tokio::spawn(as_it_asks(here));
        there.write_all(&[5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1]).await.unwrap();
        there.write_u16(port).await.unwrap();
        there.write_all(b"hello").await.unwrap();
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut heard = [0; 5];
        socket.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
        drop(socket);
        let mut answer = Vec::new();
        there.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, [5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        drop(there);
        served.await.unwrap();
    }

    #[tokio::test]
    async fn a_socks_client_at_the_node_hears_that_nobody_is_there() {
        // Nobody listens on port 1 of this address.
        let (mut there, here) = duplex(1024);
        let served = tokio::spawn(as_it_asks(here));
        there.write_all(&[4, 1, 0, 1, 127, 9, 9, 9, 0]).await.unwrap();
        let mut answer = Vec::new();
        there.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.get(..2), Some(&[0, 91][..]));
        served.await.unwrap();
    }
}
