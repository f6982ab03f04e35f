//! Could a session start? And what the gauges show.

use std::sync::{Arc, OnceLock, atomic::Ordering};

use auth::{
    clock::{Clock, unix_millis},
    replica::{Replica, STALE_AFTER},
    resource::LockingMode,
};
use tokio_util::sync::CancellationToken;

use super::doors::AnyDoor;
use crate::{
    audit::{Audit, Shipped},
    health::{NotReady, Watched},
    link::Link,
    metrics::Metrics,
    recording::Recordings,
    upstream::KeepFresh,
};

/// What the health page looks at.
pub(super) struct Status {
    pub(super) clock: Clock,
    pub(super) replica: Arc<Replica>,
    pub(super) audit: Audit,
    pub(super) recordings: Arc<Recordings>,
    pub(super) draining: CancellationToken,
    pub(super) shipped: Arc<Shipped>,
    /// Set once there is an identity.
    pub(super) link: OnceLock<Arc<Link>>,
    pub(super) certificates: OnceLock<Vec<Arc<dyn KeepFresh>>>,
    pub(super) doors: OnceLock<Vec<AnyDoor>>,
}

impl Watched for Status {
    fn readiness(&self) -> Result<(), NotReady> {
        if self.draining.is_cancelled() {
            Err(NotReady::Draining)
        } else if !self.replica.is_ready() {
            Err(NotReady::Replica)
        } else if is_too_old(&self.replica) {
            Err(NotReady::Stale)
        } else if self.link.get().is_some_and(|link| link.not_after() <= unix_millis(self.clock.now())) {
            Err(NotReady::Certificate)
        } else if !self.audit.is_writable() {
            Err(NotReady::Audit)
        } else if self.doors.get().is_some_and(|doors| !doors.iter().any(AnyDoor::can_greet)) {
            Err(NotReady::Upstream)
        } else {
            Ok(())
        }
    }

    fn refresh(&self, metrics: &Metrics) {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let process = &metrics.process;
        process.replica_ready.set(i64::from(self.replica.is_ready()));
        process.replica_age.set(self.replica.age().map_or(-1.0, |age| age.as_secs_f64()));
        process.certificate_expiry.set(self.link.get().map_or(0, |link| link.not_after() / 1000));
        process.audit_spool_bytes.set(gauge(self.audit.spool_bytes()));
        process.recordings_bytes.set(gauge(self.recordings.bytes()));
        let acknowledged = self.shipped.acknowledged.load(Ordering::Acquire);
        process.audit_unshipped.set(gauge(self.audit.durable_events().saturating_sub(acknowledged)));
        process.audit_ship_failures.set(gauge(self.shipped.failures.load(Ordering::Relaxed)));
        process.audit_damaged_bytes.set(gauge(self.shipped.damaged.load(Ordering::Relaxed)));
        process.audit_rejected.set(gauge(self.shipped.rejected.load(Ordering::Relaxed)));
        process.log_lost.set(gauge(auth::log::lost()));
        let certificates = self.certificates.get().into_iter().flatten();
        process.upstream_certificates.set(gauge(certificates.map(|cache| cache.len()).sum()));
    }
}

/// Is nobody let in for want of news from authd? Where only some roles are that strict, others still are.
fn is_too_old(replica: &Replica) -> bool {
    // Before the snapshot: see [`Replica::age`].
    let age = replica.age();
    let snapshot = replica.snapshot();
    let mode = snapshot.auth_preference().map(|preference| preference.locking_mode);
    mode == Some(LockingMode::Strict) && age.is_none_or(|age| age >= STALE_AFTER)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use auth::proto::{
        Resource, WatchEvent,
        watch_event::{Event, Put, SnapshotEnd, put::Item},
    };

    use super::*;

    fn replica(clock: Clock, locking_mode: &str) -> Arc<Replica> {
        let json = format!(
            r#"{{"kind": "cluster_auth_preference", "version": "v2", "metadata": {{"name": "cluster-auth-preference"}},
                "spec": {{"second_factor": "otp", "locking_mode": "{locking_mode}"}}}}"#
        );
        let (kind, name) = ("cluster_auth_preference".to_owned(), "cluster-auth-preference".to_owned());
        let preference = Put { item: Some(Item::Resource(Resource { kind, name, json })) };
        let replica = Replica::new(clock);
        for event in [Event::Put(preference), Event::SnapshotEnd(SnapshotEnd {})] {
            replica.apply(WatchEvent { event: Some(event) }).unwrap();
        }
        replica
    }

    #[test]
    fn old_news_keep_everybody_out_where_locks_are_strict_and_nobody_otherwise() {
        for (mode, too_old) in [("strict", true), ("best_effort", false)] {
            let (clock, hand) = Clock::fixed(SystemTime::now());
            let replica = replica(clock, mode);
            hand.advance(STALE_AFTER - Duration::from_secs(1));
            assert!(!is_too_old(&replica), "{mode}");
            hand.advance(Duration::from_secs(1));
            assert_eq!(is_too_old(&replica), too_old, "{mode}");
        }
    }
}
