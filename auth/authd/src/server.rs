//! The process: opens what is kept, listens, and serves until told to stop.

mod accept;
mod calls;
mod connection;

use std::{net::SocketAddr, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc, time::Duration};

use auth::{clock::Clock, identity::ClusterName};
use tokio::{
    net::{TcpListener, UnixListener},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    api::Api,
    audit::{AuditError, AuditLog},
    ca::AuthorityKind,
    cluster::{self, Cluster, Foundation, FoundingError},
    config::Config,
    data_dir::{DataDir, DataDirError},
    issue::OwnCertificate,
    recordings::Recordings,
    rotation,
    store::{SWEEP_INTERVAL, Sqlite, StoreError},
    tls::{self, OwnKey},
    under_way::UnderWay,
};

/// Requests under way when we are told to stop may take this long.
const DRAIN: Duration = Duration::from_secs(10);

/// When our own certificate could not be made, until the next try.
const RENEW_AGAIN: Duration = Duration::from_secs(60);

/// Why authd does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The store.
    #[error("cannot open the store")]
    Store(#[from] StoreError),
    /// The cluster's name and keys.
    #[error(transparent)]
    Founding(#[from] FoundingError),
    /// The audit trail.
    #[error("cannot open the audit trail")]
    Audit(#[from] AuditError),
    /// The port.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The admin socket.
    #[error("cannot open {}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Our own certificate.
    #[error("cannot issue our own certificate")]
    OwnCertificate(#[from] crate::ca::CaError),
    /// TLS does not take it.
    #[error("cannot set TLS up")]
    Tls(#[from] rustls::Error),
}

/// A running authd.
pub struct Server {
    address: SocketAddr,
    public_addr: String,
    cluster: Arc<Cluster>,
    admin_socket: PathBuf,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    _data: DataDir,
}

impl Server {
    /// Opens the data directory and begins to serve.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: &Config, clock: Clock) -> Result<Self, StartError> {
        let data = DataDir::open(&config.data_dir)?;
        let under_way = UnderWay::default();
        let sqlite = Arc::new(Sqlite::open_for(under_way.clone(), &data.store()?, clock.clone())?);
        let (name, authorities) =
            cluster::found(&*sqlite, &clock, config.cluster_name.clone(), host_name).await?;
        let audit =
            AuditLog::open(&data.log(), sqlite.clone(), clock.clone(), name.as_str(), under_way.clone())
                .await?;
        let listener = listen(config.listen).await?;
        let address = listener.local_addr().map_err(|source| failed(config.listen, source))?;
        let public_addr = match &config.public_addr {
            Some(public) => public.as_str().to_owned(),
            None => default_public_addr(address),
        };
        let cluster = Arc::new(Cluster::new(Foundation {
            name,
            public_addr: public_addr.clone(),
            store: sqlite.clone(),
            clock,
            authorities,
            audit,
            under_way,
            recordings: Recordings::new(data.recordings()),
        }));
        let signed_by = host_signer(&cluster);
        let own = OwnKey::new(own_certificate(&cluster)?)?;
        let tls = tls::server_config(Arc::clone(&own))?;
        let admin_socket = data.admin_socket();
        let admin = bind_admin(&admin_socket)
            .map_err(|source| StartError::Socket { path: admin_socket.clone(), source })?;

        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        let api = Api { cluster: Arc::clone(&cluster), shutdown: shutdown.clone() };
        let (router, admin_router) = (api.router(), api.admin_router());
        let serving = accept::Serving { api, shutdown: shutdown.clone(), tasks: tasks.clone() };
        tasks.spawn(accept::tls(listener, tls, router, serving.clone()));
        tasks.spawn(accept::admin(admin, admin_router, serving));
        tasks.spawn(sweep(sqlite, shutdown.clone()));
        tasks.spawn(rotation::lead(Arc::clone(&cluster), shutdown.clone()));
        tasks.spawn(renew_own(Arc::clone(&cluster), own, signed_by, shutdown.clone()));
        tasks.close();
        tracing::info!(
            listener = "api", addr = %address, public_addr = %public_addr, cluster = %cluster.name,
            ca_pin = cluster.ca_pins().first(), "listening"
        );
        Ok(Self { address, public_addr, cluster, admin_socket, shutdown, tasks, _data: data })
    }

    /// Where it listens; the actual port where 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// HOST:PORT for users.
    #[must_use]
    pub fn public_addr(&self) -> &str {
        &self.public_addr
    }

    /// The pins of the host authority; while its keys are replaced, of both, the one that signs first.
    #[must_use]
    pub fn ca_pins(&self) -> Vec<String> {
        self.cluster.ca_pins()
    }

    /// The socket of the local administrator.
    #[must_use]
    pub fn admin_socket(&self) -> &std::path::Path {
        &self.admin_socket
    }

    /// Takes no more connections, lets requests under way finish, and returns when all is closed or ten seconds are over.
    pub async fn stop(self) {
        self.shutdown.cancel();
        if tokio::time::timeout(DRAIN, self.tasks.wait()).await.is_err() {
            tracing::warn!(left = self.tasks.len(), "connections were cut off");
        }
        // The next authd makes its own.
        let _ = std::fs::remove_file(&self.admin_socket);
    }
}

fn own_certificate(cluster: &Cluster) -> Result<OwnCertificate, crate::ca::CaError> {
    OwnCertificate::issue(&cluster.authorities, cluster.public_host(), cluster.clock.now())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| failed(address, source))
}

fn failed(address: SocketAddr, source: std::io::Error) -> StartError {
    StartError::Listen { address, source }
}

/// The directory is ours alone, so that nobody gets at the socket between `bind` and `chmod`. A socket that is there was left
/// by an authd that was killed: we hold the directory's lock.
fn bind_admin(path: &std::path::Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// The name of this host, where it can be a cluster's name.
fn host_name() -> ClusterName {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    #[expect(clippy::expect_used, reason = "the constant is a valid name")]
    name.and_then(|name| ClusterName::new(name).ok())
        .unwrap_or_else(|| ClusterName::new("touchstone").expect("a valid constant"))
}

fn default_public_addr(address: SocketAddr) -> String {
    let port = address.port();
    match address.ip() {
        ip if ip.is_loopback() => format!("localhost:{port}"),
        ip if ip.is_unspecified() => format!("{}:{port}", host_name().as_str().to_ascii_lowercase()),
        ip => SocketAddr::new(ip, port).to_string(),
    }
}

async fn sweep(store: Arc<Sqlite>, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        store.sweep().await;
    }
}

/// Makes our own certificate anew when its time has come, and when another authority signs for hosts than `signed_by`.
async fn renew_own(
    cluster: Arc<Cluster>,
    own: Arc<OwnKey>,
    mut signed_by: [u8; 32],
    shutdown: CancellationToken,
) {
    let mut changes = cluster.authorities.changes();
    // What came before we listened is looked at too.
    changes.mark_changed();
    let mut renew_at = Instant::now() + OwnCertificate::RENEW_AFTER;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(renew_at) => {}
            // The sender lives in the cluster, which we hold.
            _ = changes.changed() => if host_signer(&cluster) == signed_by {
                continue;
            },
            () = shutdown.cancelled() => return,
        }
        let signer = host_signer(&cluster);
        let renewed = own_certificate(&cluster).map_err(StartError::from);
        match renewed.and_then(|certificate| own.replace(certificate).map_err(StartError::from)) {
            Ok(()) => {
                (signed_by, renew_at) = (signer, Instant::now() + OwnCertificate::RENEW_AFTER);
                tracing::info!("renewed our own certificate");
            }
            Err(error) => {
                renew_at = Instant::now() + RENEW_AGAIN;
                tracing::error!(error = &error as &dyn std::error::Error, "cannot renew our own certificate");
            }
        }
    }
}

fn host_signer(cluster: &Cluster) -> [u8; 32] {
    cluster.authorities.signer(AuthorityKind::Host).spki_sha256()
}
