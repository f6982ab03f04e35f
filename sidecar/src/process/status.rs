//! Could a session start? And what the gauges show.

use std::sync::{Arc, OnceLock, atomic::Ordering};

use auth::replica::Replica;
use tokio_util::sync::CancellationToken;

use super::doors::AnyDoor;
use crate::{
    audit::{Audit, Shipped},
    health::{NotReady, Watched},
    metrics::Metrics,
    recording::Recordings,
    upstream::KeepFresh,
};

/// What the health page looks at.
pub(super) struct Status {
    pub(super) replica: Arc<Replica>,
    pub(super) audit: Audit,
    pub(super) recordings: Arc<Recordings>,
    pub(super) draining: CancellationToken,
    pub(super) shipped: Arc<Shipped>,
    pub(super) certificates: OnceLock<Vec<Arc<dyn KeepFresh>>>,
    pub(super) doors: OnceLock<Vec<AnyDoor>>,
}

impl Watched for Status {
    fn readiness(&self) -> Result<(), NotReady> {
        if self.draining.is_cancelled() {
            Err(NotReady::Draining)
        } else if !self.replica.is_ready() {
            Err(NotReady::Replica)
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
        process.audit_spool_bytes.set(gauge(self.audit.spool_bytes()));
        process.recordings_bytes.set(gauge(self.recordings.bytes()));
        let acknowledged = self.shipped.acknowledged.load(Ordering::Acquire);
        process.audit_unshipped.set(gauge(self.audit.durable_events().saturating_sub(acknowledged)));
        process.audit_ship_failures.set(gauge(self.shipped.failures.load(Ordering::Relaxed)));
        process.audit_damaged_bytes.set(gauge(self.shipped.damaged.load(Ordering::Relaxed)));
        process.audit_rejected.set(gauge(self.shipped.rejected.load(Ordering::Relaxed)));
        let certificates = self.certificates.get().into_iter().flatten();
        process.upstream_certificates.set(gauge(certificates.map(|cache| cache.len()).sum()));
    }
}
