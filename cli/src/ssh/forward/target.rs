//! Where a forwarded connection leads.

use std::{fmt, path::PathBuf};

use russh::{
    Channel, ChannelOpenFailure,
    client::{ChannelOpenHandle, Msg},
};
use tokio::net::{TcpStream, UnixStream};

use super::pump::pump;

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

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}
