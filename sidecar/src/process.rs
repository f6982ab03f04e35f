//! One sidecar, from its configuration to its end: what is started in which order, and stopped in which order.
//!
//! Start: data directory, audit spool, diagnostics, listeners bound, identity, replica, doors opened. Readiness follows the
//! replica. Stop: no new clients, live sessions end by themselves or are ended, audit on disk, then the rest.

use std::{
    fs::{self, File, TryLockError},
    io,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, atomic::Ordering},
    time::Duration,
};

use auth::{
    authorizer::Authorizer,
    clock::Clock,
    identity::TargetName,
    policy::{Target, TargetKind},
    proto,
    replica::{self, Replica},
};
use protocols::{Limits, postgres::Postgres};
use rustls::ServerConfig;
use tokio::{net::TcpListener, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::{
    admission::Admission,
    announce,
    audit::{Audit, AuditSpool, Shipped, Shipper},
    backoff::Backoff,
    chain::Chain,
    config::{Config, ConfigError, TargetConfig, TlsMode, Token, read_secret},
    health::{self, NotReady, Watched},
    join::{self, Identity, Invitation, JoinError, Names},
    link::Link,
    listener::{self, Stops},
    metrics::Metrics,
    session::Door,
    tls::{self, ServerCertificate},
    upstream::{CertificateCache, Roots, Upstream, UpstreamError},
};

/// From accept to the whole login request.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// After the drain timeout: for sessions to say goodbye, and for audit to reach authd.
const LAST_DEADLINE: Duration = Duration::from_secs(10);
const SHIP_DEADLINE: Duration = Duration::from_secs(5);

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
    /// The join token cannot be read.
    #[error("cannot read the join token from {}", path.display())]
    Token {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No identity.
    #[error(transparent)]
    Join(#[from] JoinError),
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

/// A sidecar that serves.
pub struct Sidecar {
    /// Where each target's clients are awaited.
    pub addresses: Vec<(TargetName, SocketAddr)>,
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub diag: Option<SocketAddr>,
    core: Core,
    drain_timeout: Duration,
}

/// What everything else hangs on.
struct Core {
    clock: Clock,
    replica: Arc<Replica>,
    audit: Audit,
    metrics: Metrics,
    status: Arc<Status>,
    stops: Stops,
    /// Cancelled when live sessions must end.
    closing: CancellationToken,
    /// Cancelled last: health page, renewal, shipper.
    background: CancellationToken,
    sessions: TaskTracker,
    tasks: TaskTracker,
    shipper: TaskTracker,
    /// Held as long as the process lives.
    _lock: File,
}

impl Sidecar {
    /// Starts. Waits for authd where there is no identity yet.
    ///
    /// # Errors
    /// What is wrong with the configuration, the host, or the join token.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let config = config.checked()?;
        let (core, spool) = Core::new(&config)?;
        let diag = match config.diag_addr {
            Some(address) => Some(core.serve_health(address).await?),
            None => None,
        };
        let mut bound = Vec::new();
        for target in &config.targets {
            bound.push(Bound::new(target).await?);
        }
        let identity = Arc::new(core.identity(&config, &bound).await?);
        let server = Arc::new(
            ServerCertificate::new(identity.chain(), identity.private_key()).map_err(StartError::Tls)?,
        );
        let link = Link::new(config.auth_server.clone(), Arc::clone(&identity));
        core.follow(&config, &link, &identity, &server, &bound, spool);
        let tls = tls::server_config(server).map_err(StartError::Tls)?;
        let addresses = core.open_doors(&config, bound, &link, &identity, &tls)?;
        Ok(Self { addresses, diag, core, drain_timeout: config.drain_timeout })
    }

    /// Stops: no new clients; live sessions may go on for the drain timeout, then they are ended and told why; audit is
    /// flushed to disk, and to authd if it answers.
    pub async fn drain(self) {
        let Self { core, drain_timeout, .. } = self;
        info!(sessions = core.sessions.len(), timeout = ?drain_timeout, "draining");
        core.stops.accepting.cancel();
        core.sessions.close();
        if !within(drain_timeout, core.sessions.wait()).await {
            core.closing.cancel();
            if !within(LAST_DEADLINE, core.sessions.wait()).await {
                core.stops.abort.cancel();
                let _ = within(LAST_DEADLINE, core.sessions.wait()).await;
            }
        }
        core.audit.close().await;
        core.background.cancel();
        for tasks in [&core.shipper, &core.tasks] {
            tasks.close();
            if !within(SHIP_DEADLINE, tasks.wait()).await {
                warn!("some background work was not finished; audit that authd has not stays on disk");
            }
        }
        info!("stopped");
    }
}

async fn within(time: Duration, work: impl Future<Output = ()>) -> bool {
    tokio::time::timeout(time, work).await.is_ok()
}

impl Core {
    fn new(config: &Config) -> Result<(Self, AuditSpool), StartError> {
        let data_dir = |source| StartError::DataDir { path: config.data_dir.clone(), source };
        let lock = lock(&config.data_dir)?;
        let (audit, spool) = Audit::open(&config.data_dir, config.spool_bound).map_err(data_dir)?;
        let clock = Clock::system();
        let replica = Replica::new(clock.clone());
        let metrics = Metrics::new().map_err(StartError::Metrics)?;
        let stops = Stops { accepting: CancellationToken::new(), abort: CancellationToken::new() };
        let status = Arc::new(Status {
            replica: Arc::clone(&replica),
            audit: audit.clone(),
            draining: stops.accepting.clone(),
            shipped: Arc::default(),
            certificates: OnceLock::new(),
        });
        let core = Self {
            clock,
            replica,
            audit,
            metrics,
            status,
            stops,
            closing: CancellationToken::new(),
            background: CancellationToken::new(),
            sessions: TaskTracker::new(),
            tasks: TaskTracker::new(),
            shipper: TaskTracker::new(),
            _lock: lock,
        };
        Ok((core, spool))
    }

    async fn serve_health(&self, address: SocketAddr) -> Result<SocketAddr, StartError> {
        let (listener, address) = bind(address).await?;
        let (metrics, status) = (self.metrics.clone(), Arc::clone(&self.status));
        self.tasks.spawn(health::serve(listener, metrics, status, self.background.clone()));
        info!(addr = %address, listener = "diag", "listening");
        Ok(address)
    }

    async fn identity(&self, config: &Config, bound: &[Bound]) -> Result<Identity, StartError> {
        let names = Names {
            targets: config.targets.iter().map(|target| target.name.clone()).collect(),
            hosts: hosts(bound),
        };
        let token = config.token.as_ref().map(read_token).transpose()?;
        let invitation = Invitation { auth_server: &config.auth_server, pins: &config.ca_pins, token };
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        loop {
            match join::identity(&config.data_dir, &invitation, &names, self.clock.now()).await {
                Err(error) if error.is_passing() => {
                    let wait = backoff.next();
                    warn!(error = %Chain(&error), retry_in = ?wait, "not joined yet");
                    sleep(wait).await;
                }
                joined => return Ok(joined?),
            }
        }
    }

    /// Everything that keeps up with authd.
    fn follow(
        &self,
        config: &Config,
        link: &Arc<Link>,
        identity: &Arc<Identity>,
        server: &Arc<ServerCertificate>,
        bound: &[Bound],
        spool: AuditSpool,
    ) {
        let stop = || self.background.clone();
        let channel = {
            let link = Arc::clone(link);
            move || {
                let link = Arc::clone(&link);
                async move { link.channel().await }
            }
        };
        self.tasks.spawn(replica::follow(Arc::clone(&self.replica), channel, stop()));
        let targets =
            config.targets.iter().zip(bound).map(|(target, bound)| announcement(target, bound)).collect();
        self.tasks.spawn(announce::keep_announced(Arc::clone(link), targets, stop()));
        let (identity, link_, server) = (Arc::clone(identity), Arc::clone(link), Arc::clone(server));
        let (data_dir, stop_) = (config.data_dir.clone(), stop());
        self.tasks.spawn(async move { join::keep_fresh(identity, &data_dir, &link_, &server, stop_).await });
        let shipper = Shipper::new(spool, Arc::clone(link), Arc::clone(&self.status.shipped));
        self.shipper.spawn(shipper.run(stop()));
    }

    fn open_doors(
        &self,
        config: &Config,
        bound: Vec<Bound>,
        link: &Arc<Link>,
        identity: &Identity,
        tls: &Arc<ServerConfig>,
    ) -> Result<Vec<(TargetName, SocketAddr)>, StartError> {
        let server_id = identity.sidecar.id.to_string();
        let authorizer =
            Authorizer::for_sidecar(Arc::clone(&self.replica), self.clock.clone(), Some(server_id.clone()));
        let (mut addresses, mut certificates, mut doors) = (Vec::new(), Vec::new(), Vec::new());
        for (target, bound) in config.targets.iter().zip(bound) {
            let door = self.door(target, link, &authorizer, &server_id, tls)?;
            certificates.extend(door.upstream.certificates());
            addresses.push((target.name.clone(), bound.address));
            doors.push((bound, Arc::new(door)));
        }
        for cache in &certificates {
            let (cache, stop) = (Arc::clone(cache), self.background.clone());
            self.tasks.spawn(async move { cache.keep_fresh(stop).await });
        }
        let _ = self.status.certificates.set(certificates);
        for (bound, door) in doors {
            info!(addr = %bound.address, listener = %door.target.name, "listening");
            let admission = Admission::new(config.room);
            let (tasks, stops) = (self.sessions.clone(), self.stops.clone());
            self.tasks.spawn(listener::serve(bound.listener, door, admission, tasks, stops));
        }
        Ok(addresses)
    }

    fn door(
        &self,
        target: &TargetConfig,
        link: &Arc<Link>,
        authorizer: &Authorizer,
        server_id: &str,
        tls: &Arc<ServerConfig>,
    ) -> Result<Door<Postgres>, StartError> {
        if matches!(target.upstream.tls, TlsMode::Insecure | TlsMode::VerifyCa) {
            warn!(target = %target.name, tls = ?target.upstream.tls, "the upstream's name is not verified");
        }
        let roots = Roots::Cluster(Arc::clone(&self.replica));
        let upstream = Upstream::new(&target.upstream, &target.name, roots, Arc::new(Arc::clone(link)))
            .map_err(|source| StartError::Upstream { target: target.name.clone(), source })?;
        let limits = Limits { handshake: HANDSHAKE_DEADLINE, ..Limits::default() };
        Ok(Door {
            protocol: Postgres::new(Arc::clone(tls), limits),
            target: Arc::new(Target {
                kind: TargetKind::Database,
                name: target.name.clone(),
                protocol: target.protocol,
                labels: target.labels.clone(),
            }),
            authorizer: authorizer.clone(),
            replica: Arc::clone(&self.replica),
            upstream,
            audit: self.audit.clone(),
            clock: self.clock.clone(),
            metrics: self.metrics.target(target.name.as_str(), target.protocol.as_str()),
            process_metrics: self.metrics.clone(),
            server_id: server_id.to_owned(),
            closing: self.closing.clone(),
        })
    }
}

/// A listener that nobody is served on yet.
struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    /// Where clients are told to go, HOST:PORT.
    public_addr: String,
}

impl Bound {
    async fn new(target: &TargetConfig) -> Result<Self, StartError> {
        let (listener, address) = bind(target.listen).await?;
        let public_addr = target.public_addr.clone().unwrap_or_else(|| match address.ip() {
            ip if ip.is_loopback() || ip.is_unspecified() => format!("localhost:{}", address.port()),
            _ => address.to_string(),
        });
        Ok(Self { listener, address, public_addr })
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let listener = TcpListener::bind(address).await;
    let bound = listener.and_then(|listener| listener.local_addr().map(|address| (listener, address)));
    bound.map_err(|source| StartError::Listen { address, source })
}

/// What native clients may verify: the hosts that they are told, and for `localhost` its addresses.
fn hosts(bound: &[Bound]) -> Vec<String> {
    let mut hosts = Vec::new();
    for bound in bound {
        let host = bound.public_addr.rsplit_once(':').map_or(bound.public_addr.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        hosts.push(host.to_owned());
        if host == "localhost" {
            hosts.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
        }
    }
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

fn announcement(target: &TargetConfig, bound: &Bound) -> proto::Target {
    proto::Target {
        kind: "database".to_owned(),
        name: target.name.to_string(),
        description: target.description.clone(),
        labels: target.labels.clone().into_iter().collect(),
        protocol: target.protocol.to_string(),
        public_addr: bound.public_addr.clone(),
        uri: target.upstream.address.to_string(),
        ..proto::Target::default()
    }
}

fn read_token(token: &Token) -> Result<Zeroizing<String>, StartError> {
    match token {
        Token::Literal(token) => Ok(token.clone()),
        Token::File(path) => {
            let token = |source| StartError::Token { path: path.clone(), source };
            let bytes = read_secret(path).map_err(token)?;
            let text = std::str::from_utf8(&bytes).map_err(|error| token(io::Error::other(error)))?;
            Ok(Zeroizing::new(text.trim().to_owned()))
        }
    }
}

/// Makes the data directory, readable by its owner alone, and takes it for this process.
fn lock(data_dir: &Path) -> Result<File, StartError> {
    let failed = |source| StartError::DataDir { path: data_dir.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(failed)?;
    let lock = File::create(data_dir.join("lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StartError::InUse { path: data_dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// What the health page looks at.
struct Status {
    replica: Arc<Replica>,
    audit: Audit,
    draining: CancellationToken,
    shipped: Arc<Shipped>,
    certificates: OnceLock<Vec<Arc<CertificateCache>>>,
}

impl Watched for Status {
    fn readiness(&self) -> Result<(), NotReady> {
        if self.draining.is_cancelled() {
            Err(NotReady::Draining)
        } else if !self.replica.is_ready() {
            Err(NotReady::Replica)
        } else if !self.audit.is_writable() {
            Err(NotReady::Audit)
        } else {
            Ok(())
        }
    }

    fn refresh(&self, metrics: &Metrics) {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let process = &metrics.process;
        process.replica_ready.set(i64::from(self.replica.is_ready()));
        process.replica_age.set(self.replica.age().map_or(-1.0, |age| age.as_secs_f64()));
        process.audit_spool_bytes.set(gauge(self.audit.spool_bytes()));
        let acknowledged = self.shipped.acknowledged.load(Ordering::Acquire);
        process.audit_unshipped.set(gauge(self.audit.durable_events().saturating_sub(acknowledged)));
        process.audit_ship_failures.set(gauge(self.shipped.failures.load(Ordering::Relaxed)));
        process.audit_damaged_bytes.set(gauge(self.shipped.damaged.load(Ordering::Relaxed)));
        let certificates = self.certificates.get().into_iter().flatten();
        process.upstream_certificates.set(gauge(certificates.map(|cache| cache.len()).sum()));
    }
}
