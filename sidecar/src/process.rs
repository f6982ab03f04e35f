//! One sidecar, from its configuration to its end: what is started in which order, and stopped in which order.
//!
//! Start: data directory, audit spool, diagnostics, listeners bound, identity, replica, doors opened. Readiness follows the
//! replica. Stop: no new clients, live sessions end by themselves or are ended, audit on disk, then the rest.

use std::{
    fs::File,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use auth::{
    clock::Clock,
    identity::{Protocol, TargetName},
    replica::{self, Replica},
};
use protocols::ssh::{HostIdentity, SshKey};
use tokio::time::sleep;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tracing::{info, warn};

mod address;
mod descriptors;
mod doors;
mod error;
mod files;
mod status;

pub use self::error::StartError;
use self::{
    address::{Bound, announcement, bind, hosts},
    doors::Doors,
    files::lock,
    status::Status,
};
use crate::{
    announce,
    audit::{Audit, AuditSpool, Shipper},
    backoff::Backoff,
    chain::Chain,
    config::Config,
    health,
    join::{self, Identity, Invitation, JoinError, Names},
    link::Link,
    listener::Stops,
    metrics::Metrics,
    recording::{Couriers, Recordings},
    seats::Seats,
    tls::ServerCertificate,
    workers::Workers,
};

/// After the drain timeout: for sessions to say goodbye, and for audit to reach authd.
const LAST_DEADLINE: Duration = Duration::from_secs(10);
const SHIP_DEADLINE: Duration = Duration::from_secs(5);
/// How long [`Sidecar::drain`] may take beyond the drain timeout, on a disk that answers.
pub const LONGEST_GOODBYE: Duration = LAST_DEADLINE.saturating_add(SHIP_DEADLINE).saturating_mul(2);

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
    recordings: Arc<Recordings>,
    metrics: Metrics,
    seats: Arc<Seats>,
    status: Arc<Status>,
    stops: Stops,
    /// Cancelled when live sessions must end.
    closing: CancellationToken,
    /// Cancelled when nothing but joining again will do.
    expired: CancellationToken,
    /// Cancelled last: health page, renewal, shipper.
    background: CancellationToken,
    sessions: TaskTracker,
    tasks: TaskTracker,
    shipper: TaskTracker,
    workers: Workers,
    _working: DropGuard,
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
        let room = descriptors::room(config.room, &config.targets);
        let (core, spool) = Core::new(&config)?;
        let diag = match config.diag_addr {
            Some(address) => Some(core.serve_health(address).await?),
            None => None,
        };
        let mut bound = Vec::new();
        for target in &config.targets {
            bound.push(Bound::new(target).await?);
        }
        let host_key = host_key(&config)?;
        let identity = core.identity(&config, &bound, host_key.as_ref()).await?;
        let host = host_key.map(|key| join::host_identity(key, identity.host_certificate.as_deref()));
        let host = host.transpose()?;
        let identity = Arc::new(identity);
        let server = Arc::new(
            ServerCertificate::new(identity.chain(), identity.private_key()).map_err(StartError::Tls)?,
        );
        let link = Link::new(config.auth_server.clone(), Arc::clone(&identity));
        let _ = core.status.link.set(Arc::clone(&link));
        core.follow(&config, &link, &identity, &server, host.as_ref(), &bound, spool);
        let addresses =
            Doors::new(&core, &link, &identity, &server, host)?.open(&config.targets, bound, room)?;
        Ok(Self { addresses, diag, core, drain_timeout: config.drain_timeout })
    }

    /// Completes when the certificate has expired, authd refuses it, and a token is there to join with again: by a new start.
    pub async fn expired(&self) {
        self.core.expired.cancelled().await;
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

/// The key that clients of SSH know this sidecar by, where it guards a node.
fn host_key(config: &Config) -> Result<Option<SshKey>, StartError> {
    if config.targets.iter().all(|target| target.protocol != Protocol::Ssh) {
        return Ok(None);
    }
    let key = join::host_key(&config.data_dir).map_err(JoinError::Stored)?;
    Ok(Some(key))
}

async fn within(time: Duration, work: impl Future<Output = ()>) -> bool {
    tokio::time::timeout(time, work).await.is_ok()
}

impl Core {
    fn new(config: &Config) -> Result<(Self, (AuditSpool, Couriers)), StartError> {
        let data_dir = |source| StartError::DataDir { path: config.data_dir.clone(), source };
        let lock = lock(&config.data_dir)?;
        let metrics = Metrics::new().map_err(StartError::Metrics)?;
        let (audit, spool) =
            Audit::open(&config.data_dir, config.spool_bound, metrics.audit_failures.clone())
                .map_err(data_dir)?;
        let (recordings, couriers) =
            Recordings::open(&config.data_dir, config.recordings_bound).map_err(data_dir)?;
        let (workers, working) = Workers::start().map_err(StartError::Threads)?;
        let clock = Clock::system();
        let replica = Replica::new(clock.clone());
        let stops = Stops { accepting: CancellationToken::new(), abort: CancellationToken::new() };
        let status = Arc::new(Status {
            clock: clock.clone(),
            replica: Arc::clone(&replica),
            audit: audit.clone(),
            recordings: Arc::clone(&recordings),
            draining: stops.accepting.clone(),
            shipped: Arc::default(),
            link: OnceLock::new(),
            certificates: OnceLock::new(),
            doors: OnceLock::new(),
        });
        let core = Self {
            clock,
            replica,
            audit,
            recordings,
            metrics,
            seats: Arc::default(),
            status,
            stops,
            closing: CancellationToken::new(),
            expired: CancellationToken::new(),
            background: CancellationToken::new(),
            sessions: TaskTracker::new(),
            tasks: TaskTracker::new(),
            shipper: TaskTracker::new(),
            workers,
            _working: working,
            _lock: lock,
        };
        Ok((core, (spool, couriers)))
    }

    async fn serve_health(&self, address: SocketAddr) -> Result<SocketAddr, StartError> {
        let (listener, address) = bind(address).await?;
        let (metrics, status) = (self.metrics.clone(), Arc::clone(&self.status));
        self.tasks.spawn(health::serve(listener, metrics, status, self.background.clone()));
        info!(addr = %address, listener = "diag", "listening");
        Ok(address)
    }

    async fn identity(
        &self,
        config: &Config,
        bound: &[Bound],
        host_key: Option<&SshKey>,
    ) -> Result<Identity, StartError> {
        let names = Names {
            targets: config.targets.iter().map(|target| target.name.clone()).collect(),
            hosts: hosts(bound),
            host_key: host_key.map(|key| key.public().to_vec()),
        };
        let Config { auth_server, ca_pins, token, .. } = config;
        let invitation = Invitation { auth_server, pins: ca_pins, token: token.as_ref() };
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
    #[expect(clippy::too_many_arguments, reason = "what is kept up with")]
    fn follow(
        &self,
        config: &Config,
        link: &Arc<Link>,
        identity: &Arc<Identity>,
        server: &Arc<ServerCertificate>,
        host: Option<&HostIdentity>,
        bound: &[Bound],
        (spool, couriers): (AuditSpool, Couriers),
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
        let (data_dir, stop_, host) = (config.data_dir.clone(), stop(), host.cloned());
        let (stopping, expired, replica) = (stop_.clone(), self.expired.clone(), Arc::clone(&self.replica));
        // Started again without a token, we would be no better off.
        let may_join_again = config.token.is_some() && !config.ca_pins.is_empty();
        self.tasks.spawn(async move {
            join::keep_fresh(identity, &replica, &data_dir, &link_, &server, host.as_ref(), stop_).await;
            if may_join_again && !stopping.is_cancelled() {
                expired.cancel();
            }
        });
        let shipper = Shipper::new(spool, Arc::clone(link), Arc::clone(&self.status.shipped));
        self.shipper.spawn(shipper.run(stop()));
        self.shipper.spawn(couriers.run(Arc::clone(link), stop()));
    }
}
