//! Why a sidecar does not start.

use std::{io, net::SocketAddr, path::PathBuf};

use auth::identity::TargetName;

use crate::{config::ConfigError, join::JoinError, upstream::UpstreamError};

/// Why a sidecar does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is refused.
    #[error("the configuration is refused")]
    Config(#[from] ConfigError),
    /// The data directory cannot be used.
    #[error("cannot use the data directory {}", path.display())]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another sidecar uses the data directory.
    #[error("another sidecar uses the data directory {}", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// An address is not free, or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The threads that relay cannot be started.
    #[error("cannot start a thread for each processor")]
    Threads(#[source] io::Error),
    /// No identity.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// A node is guarded, and there is no SSH host key.
    #[error("there is no SSH host key")]
    NoHostKey,
    /// The way to an upstream cannot be set up.
    #[error("target {target}")]
    Upstream {
        /// Whose.
        target: TargetName,
        /// Why.
        source: UpstreamError,
    },
    /// rustls refuses our own settings.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// A metric is declared twice.
    #[error("metrics cannot be set up")]
    Metrics(#[source] prometheus::Error),
}
