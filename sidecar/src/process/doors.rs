//! The doors of the targets: made alike, whatever is spoken behind them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use auth::{
    authorizer::Authorizer,
    identity::{Protocol, TargetName},
    policy::{Target, TargetKind},
    replica::Replica,
};
use protocols::{
    Limits, UpstreamAddress,
    mysql::{self, Greeting, Mysql},
    postgres::{self, Postgres},
    ssh::{self, HostIdentity, Ssh},
};
use rustls::ServerConfig;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{Bound, Core, StartError};
use crate::{
    admission::{Admission, Room},
    config::{TargetConfig, TlsMode},
    join::Identity,
    link::Link,
    listener, probe,
    session::{CancelJudge, Door},
    tls::{self, ServerCertificate},
    upstream::{KeepFresh, Roots, Upstream},
};

/// From accept to the whole login request.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// The same for SSH, whose client may have to ask its user for the passphrase of a key, or to unlock an agent. How many
/// may take so long at once is for [`Admission`] to say. Codes have time of their own.
const SSH_HANDSHAKE_DEADLINE: Duration = Duration::from_secs(60);
/// For the login at a host, which may look up names and ask its own directory before it answers.
const SSH_DIAL_DEADLINE: Duration = Duration::from_secs(60);

/// A door, by what is spoken there.
#[derive(Clone)]
pub(super) enum AnyDoor {
    Postgres(Arc<Door<Postgres>>),
    Mysql(Arc<Door<Mysql>>),
    Ssh(Arc<Door<Ssh>>),
}

impl AnyDoor {
    /// Whether a client could be talked to at all.
    pub(super) fn can_greet(&self) -> bool {
        match self {
            Self::Postgres(_) | Self::Ssh(_) => true,
            Self::Mysql(door) => door.protocol.greeting().facts().is_some(),
        }
    }

    fn name(&self) -> &TargetName {
        match self {
            Self::Postgres(door) => &door.target.name,
            Self::Mysql(door) => &door.target.name,
            Self::Ssh(door) => &door.target.name,
        }
    }

    fn certificates(&self) -> Option<Arc<dyn KeepFresh>> {
        match self {
            Self::Postgres(door) => door.upstream.certificates(),
            Self::Mysql(door) => door.upstream.certificates(),
            Self::Ssh(door) => door.upstream.certificates(),
        }
    }
}

/// What every door is made of.
pub(super) struct Doors<'a> {
    core: &'a Core,
    link: &'a Arc<Link>,
    authorizer: Authorizer,
    /// Id of this sidecar.
    server_id: String,
    postgres: Arc<ServerConfig>,
    mysql: Arc<ServerConfig>,
    ssh: Arc<ServerConfig>,
    /// What clients of SSH know us by; there is one where there is a node.
    host: Option<HostIdentity>,
}

impl<'a> Doors<'a> {
    pub(super) fn new(
        core: &'a Core,
        link: &'a Arc<Link>,
        identity: &Identity,
        server: &Arc<ServerCertificate>,
        host: Option<HostIdentity>,
    ) -> Result<Self, StartError> {
        let server_id = identity.sidecar.id.to_string();
        let (replica, clock) = (Arc::clone(&core.replica), core.clock.clone());
        let tls = |alpn: &[&[u8]]| tls::server_config(Arc::clone(server), alpn).map_err(StartError::Tls);
        Ok(Self {
            core,
            link,
            authorizer: Authorizer::for_sidecar(replica, clock, Some(server_id.clone())),
            server_id,
            postgres: tls(&[postgres::ALPN, postgres::TUNNEL_ALPN])?,
            mysql: tls(&[mysql::TUNNEL_ALPN])?,
            ssh: tls(&[ssh::ALPN])?,
            host,
        })
    }

    /// Opens one for each target, once all of them could be made.
    pub(super) fn open(
        &self,
        targets: &[TargetConfig],
        bound: Vec<Bound>,
        room: Room,
    ) -> Result<Vec<(TargetName, SocketAddr)>, StartError> {
        let doors = targets.iter().map(|target| self.make(target)).collect::<Result<Vec<_>, _>>()?;
        let certificates: Vec<_> = doors.iter().filter_map(AnyDoor::certificates).collect();
        for cache in &certificates {
            self.core.tasks.spawn(Arc::clone(cache).keep_fresh(self.core.background.clone()));
        }
        let _ = self.core.status.certificates.set(certificates);
        let _ = self.core.status.doors.set(doors.clone());
        let addresses = doors.iter().zip(&bound).map(|(door, bound)| (door.name().clone(), bound.address));
        let addresses = addresses.collect();
        for (door, bound) in doors.into_iter().zip(bound) {
            info!(addr = %bound.address, listener = %door.name(), "listening");
            self.serve(door, bound, Admission::new(room));
        }
        Ok(addresses)
    }

    fn serve(&self, door: AnyDoor, bound: Bound, admission: Arc<Admission>) {
        match door {
            AnyDoor::Ssh(door) => self.listen(door, bound, admission, async {}),
            AnyDoor::Postgres(door) => self.listen(door, bound, admission, async {}),
            AnyDoor::Mysql(door) => {
                let (first, looked) = oneshot::channel();
                let metrics = self.core.metrics.probes(door.target.name.as_str(), Protocol::Mysql.as_str());
                let stop = self.core.background.clone();
                self.core.tasks.spawn(probe::keep_known(Arc::clone(&door), metrics, first, stop));
                // Ends when the first look is over: whoever connects meanwhile waits in the listener's queue.
                self.listen(door, bound, admission, async { drop(looked.await) });
            }
        }
    }

    /// Awaits clients once `ready`.
    fn listen<P: protocols::Protocol>(
        &self,
        door: Arc<Door<P>>,
        bound: Bound,
        admission: Arc<Admission>,
        ready: impl Future<Output = ()> + Send + 'static,
    ) {
        let Core { workers, sessions, stops, .. } = self.core;
        let (giving, sessions, stops) = (workers.clone(), sessions.clone(), stops.clone());
        workers.listen(&self.core.tasks, bound.listener, |listener| async move {
            ready.await;
            listener::serve(listener, door, admission, giving, sessions, stops).await;
        });
    }

    fn make(&self, target: &TargetConfig) -> Result<AnyDoor, StartError> {
        let limits = limits(target.protocol);
        Ok(match target.protocol {
            Protocol::Postgres => {
                let judge = self.judge(target);
                let protocol = Postgres::new(Arc::clone(&self.postgres), limits)
                    .with_may_cancel(move |canceller, owner| judge.may_cancel(canceller, owner));
                AnyDoor::Postgres(Arc::new(self.door(target, protocol)?))
            }
            Protocol::Mysql => {
                let greeting = match &target.mysql_version {
                    Some(version) => Greeting::unknown().with_version(version),
                    None => Greeting::unknown(),
                };
                let judge = self.judge(target);
                let protocol = Mysql::new(Arc::clone(&self.mysql), greeting, limits)
                    .with_may_kill(move |killer, owner| judge.may_cancel(killer, owner));
                AnyDoor::Mysql(Arc::new(self.door(target, protocol)?))
            }
            Protocol::Ssh => {
                let host = self.host.clone().ok_or(StartError::NoHostKey)?;
                let replica = Arc::clone(&self.core.replica);
                let protocol = Ssh::new(host, Arc::clone(&self.ssh), limits)
                    .with_known_authorities(move |authority| is_ours(&replica, authority));
                AnyDoor::Ssh(Arc::new(self.door(target, protocol)?))
            }
        })
    }

    fn judge(&self, target: &TargetConfig) -> CancelJudge {
        CancelJudge {
            replica: Arc::clone(&self.core.replica),
            clock: self.core.clock.clone(),
            metrics: self.core.metrics.cancels(target.name.as_str(), target.protocol.as_str()),
        }
    }

    fn door<P>(&self, target: &TargetConfig, protocol: P) -> Result<Door<P>, StartError> {
        match (target.upstream.tls, &target.upstream.address) {
            (TlsMode::VerifyFull, _) | (TlsMode::Plaintext, UpstreamAddress::Unix(_)) => {}
            // Its host key is verified.
            _ if target.protocol == Protocol::Ssh => {}
            (tls, _) => {
                warn!(target = %target.name, ?tls, "nobody verifies that the upstream is the one that was meant")
            }
        }
        let core = self.core;
        let issuer = Arc::new(Arc::clone(self.link));
        let (kind, upstream) = match target.protocol {
            Protocol::Ssh => (TargetKind::Node, Upstream::node(&target.upstream, &target.name, issuer)),
            Protocol::Postgres | Protocol::Mysql => {
                let roots = Roots::Cluster(Arc::clone(&core.replica));
                (TargetKind::Database, Upstream::new(&target.upstream, &target.name, roots, issuer))
            }
        };
        let upstream =
            upstream.map_err(|source| StartError::Upstream { target: target.name.clone(), source })?;
        Ok(Door {
            protocol,
            target: Arc::new(Target {
                kind,
                name: target.name.clone(),
                protocol: target.protocol,
                labels: target.labels.clone(),
            }),
            authorizer: self.authorizer.clone(),
            replica: Arc::clone(&core.replica),
            upstream,
            audit: core.audit.clone(),
            recordings: Arc::clone(&core.recordings),
            codes: Arc::new(Arc::clone(self.link)),
            clock: core.clock.clone(),
            metrics: core.metrics.target(target.name.as_str(), target.protocol.as_str()),
            process_metrics: core.metrics.clone(),
            seats: Arc::clone(&core.seats),
            parameters: target.parameters,
            server_id: self.server_id.clone(),
            closing: core.closing.clone(),
        })
    }
}

/// How long peers may keep us waiting.
fn limits(protocol: Protocol) -> Limits {
    let limits = Limits { handshake: HANDSHAKE_DEADLINE, ..Limits::default() };
    match protocol {
        Protocol::Postgres | Protocol::Mysql => limits,
        Protocol::Ssh => Limits { handshake: SSH_HANDSHAKE_DEADLINE, dial: SSH_DIAL_DEADLINE, ..limits },
    }
}

/// Does this authority, in its wire form, vouch for users of this cluster?
fn is_ours(replica: &Replica, authority: &[u8]) -> bool {
    let snapshot = replica.snapshot();
    let mut known = snapshot.ssh_user_authorities().iter();
    // Before the replica is complete nobody is known, and whoever comes is told so rather than passed over.
    !snapshot.is_ready() || known.any(|key| key.to_bytes().is_ok_and(|key| key == authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_and_hosts_of_ssh_have_a_minute_and_programs_do_not() {
        let minute = Duration::from_secs(60);
        let ssh = limits(Protocol::Ssh);
        assert_eq!((ssh.handshake, ssh.dial), (minute, minute));
        for protocol in [Protocol::Postgres, Protocol::Mysql] {
            assert!(limits(protocol).handshake < minute && limits(protocol).dial < minute);
        }
    }
}
