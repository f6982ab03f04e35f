//! Sends the spool to authd: what earlier processes left first, then what is written now, in order, for ever.
//!
//! Events that have just become durable come from memory, older ones from disk.
//!
//! authd answers once events are on its disk and drops what it already has, so sending again is always safe. There is no
//! cursor to keep: what was acknowledged is forgotten with its segment.
//!
//! What the events of a session have in common is sent once with a batch, to an authd that takes it so: one of an earlier version
//! refuses such a batch, and is sent each event in one piece from then on, until the next error.
//!
//! A batch that authd refuses for good is sent in halves until the one event is found that it refuses; that one is set
//! aside (`rejected`), and the rest goes on in order.

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::{
    AuditSpool,
    rejected::{self, SetAsideError},
    spool::{Batch, READ_BYTES, Record, Sessions, SpoolRoot, read_batch, segment_path, segments},
    writer::{Durable, State},
};
use crate::{backoff::Backoff, chain::Chain};

/// Once all is sent, what follows is sent so long after that; what comes after a silence, at once. Where sessions begin by the
/// hundred each second, a call to authd and a sync of its disk for each of them would cost more than their events do.
pub(super) const PACE: Duration = Duration::from_millis(50);
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));

/// Takes batches of events to authd.
pub(crate) trait Uplink: Send + Sync + 'static {
    /// Sends records of a spool, in order. Returns the last sequence that is on authd's disk.
    fn emit(&self, spool: Uuid, records: Vec<Record>) -> impl Future<Output = Result<u64, EmitError>> + Send;
}

/// Why authd did not take a batch.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EmitError {
    /// It never will: something in it is not what an event must be.
    #[error("authd refuses an audit event for good")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It may later.
    #[error("authd does not take audit events")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a shipper has done, for metrics.
#[derive(Debug, Default)]
pub(crate) struct Shipped {
    /// The last sequence of this process that authd has.
    pub(crate) acknowledged: AtomicU64,
    /// Batches that authd did not take; each is sent again.
    pub(crate) failures: AtomicU64,
    /// Bytes of lines that were torn by a crash and skipped.
    pub(crate) damaged: AtomicU64,
    /// Events that authd refuses for good, set aside.
    pub(crate) rejected: AtomicU64,
}

/// Ships one sidecar's spools.
pub(crate) struct Shipper<U> {
    root: SpoolRoot,
    current: Uuid,
    state: Arc<State>,
    durable: watch::Receiver<Durable>,
    uplink: U,
    shipped: Arc<Shipped>,
    /// authd took something since the last failure.
    progress: bool,
    /// authd may be of a version that takes events in one piece only.
    whole: bool,
}

impl<U: Uplink> Shipper<U> {
    pub(crate) fn new(spool: AuditSpool, uplink: U, shipped: Arc<Shipped>) -> Self {
        let durable = spool.state.durable.subscribe();
        Self {
            root: spool.root,
            current: spool.id,
            state: spool.state,
            durable,
            uplink,
            shipped,
            progress: false,
            whole: false,
        }
    }

    /// Runs until told to stop. Then what is durable is still sent, as long as authd takes it at the first attempt.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut backoff = BACKOFF;
        loop {
            match self.ship(&stop).await {
                Ok(()) => return,
                Err(error) => {
                    self.shipped.failures.fetch_add(1, Ordering::Relaxed);
                    self.whole = false;
                    if std::mem::take(&mut self.progress) {
                        backoff = BACKOFF;
                    }
                    let wait = backoff.next();
                    warn!(error = %Chain(&error), retry_in = ?wait, "audit events wait in the spool");
                    tokio::select! {
                        () = sleep(wait) => {}
                        () = stop.cancelled() => return,
                    }
                }
            }
        }
    }

    async fn ship(&mut self, stop: &CancellationToken) -> Result<(), ShipError> {
        for spool in blocking({
            let root = self.root.clone();
            move || root.list()
        })
        .await?
        {
            if spool != self.current {
                self.ship_left_over(spool).await?;
                info!(spool = %spool, "audit events of an earlier process are with authd");
            }
        }
        self.ship_current(stop).await
    }

    /// A spool that nobody writes any more: all of it, then it is removed.
    async fn ship_left_over(&mut self, id: Uuid) -> Result<(), ShipError> {
        let spool = self.root.spool(id);
        for first in list_segments(&spool).await? {
            let (path, mut offset, mut sessions) = (segment_path(&spool, first), 0, Sessions::default());
            loop {
                let batch = self.read(&path, offset, None, &mut sessions).await?;
                offset = batch.next;
                let end = batch.end;
                self.emit(id, batch).await?;
                if end {
                    break;
                }
            }
            self.remove_segment(path).await?;
        }
        // With what else is in it: nothing of ours but an interrupted probe.
        blocking(move || fs::remove_dir_all(spool)).await
    }

    /// The spool being written: as far as it is durable, then wait for more.
    async fn ship_current(&mut self, stop: &CancellationToken) -> Result<(), ShipError> {
        let spool = self.root.spool(self.current);
        let Some(mut first) = self.first_segment(&spool, stop).await? else { return Ok(()) };
        let (mut offset, mut sessions) = (0, Sessions::default());
        // Those behind it, as they were when it was last looked: newer ones come after them.
        let mut behind = VecDeque::new();
        loop {
            let began = Instant::now();
            let durable = *self.durable.borrow_and_update();
            // A segment can be on disk before anything in it is durable.
            let growing = first >= durable.segment;
            let limit = if first > durable.segment { 0 } else { durable.bytes };
            let path = segment_path(&spool, first);
            let batch = match self.state.fresh.take(first, offset) {
                // Of a segment that grows no more, the file says where it ends.
                Some(fresh) => Batch { end: growing && fresh.next >= limit, ..fresh },
                None => self.read(&path, offset, growing.then_some(limit), &mut sessions).await?,
            };
            offset = batch.next;
            let end = batch.end;
            self.emit(self.current, batch).await?;
            if !end {
                continue;
            }
            if growing {
                tokio::select! {
                    // What is durable is sent before this stops.
                    biased;
                    changed = self.durable.changed() => if changed.is_err() { return Ok(()) },
                    () = stop.cancelled() => return Ok(()),
                }
                tokio::select! {
                    () = sleep_until(began + PACE) => {}
                    () = stop.cancelled() => {}
                }
            } else {
                self.remove_segment(path).await?;
                if behind.is_empty() {
                    behind = list_segments(&spool).await?.into_iter().filter(|&next| next > first).collect();
                }
                (first, offset) = (behind.pop_front().unwrap_or(durable.segment), 0);
                sessions = Sessions::default();
            }
        }
    }

    /// The oldest segment of the current spool that is not yet removed, once there is one.
    async fn first_segment(
        &mut self,
        spool: &Path,
        stop: &CancellationToken,
    ) -> Result<Option<u64>, ShipError> {
        loop {
            let durable = *self.durable.borrow_and_update();
            if durable.segment != 0 {
                // Where none is left on disk, reading the current one says so.
                return Ok(Some(list_segments(spool).await?.first().copied().unwrap_or(durable.segment)));
            }
            tokio::select! {
                biased;
                changed = self.durable.changed() => if changed.is_err() { return Ok(None) },
                () = stop.cancelled() => return Ok(None),
            }
        }
    }

    async fn read(
        &self,
        path: &Path,
        offset: u64,
        limit: Option<u64>,
        sessions: &mut Sessions,
    ) -> Result<Batch, ShipError> {
        let path = path.to_owned();
        // After an error the segment is read from its start again.
        let mut known = std::mem::take(sessions);
        let read = move || read_batch(&path, offset, limit, &mut known).map(|batch| (batch, known));
        let (batch, known) = blocking(read).await?;
        *sessions = known;
        if batch.damaged > 0 {
            self.shipped.damaged.fetch_add(batch.damaged, Ordering::Relaxed);
            warn!(bytes = batch.damaged, "lines of the audit spool were torn by a crash and are skipped");
        }
        Ok(batch)
    }

    /// Until authd has all of the batch but what it refuses for good, or an error.
    async fn emit(&mut self, spool: Uuid, batch: Batch) -> Result<(), ShipError> {
        let mut records = batch.records;
        // How many are sent at once: halved while authd refuses, and doubled while it does not, so that an event that is
        // refused costs its neighbours some twenty requests, and they go on in order.
        let mut size = records.len();
        while let Some(last) = records.last().map(|record| record.sequence) {
            size = size.min(records.len());
            let mut sent = records.get(..size).unwrap_or(&records).to_vec();
            let in_parts = !self.whole && sent.iter().any(|record| record.session.is_some());
            if self.whole {
                sent = whole(sent);
                size = sent.len();
            }
            let acknowledged = match self.uplink.emit(spool, sent).await {
                Ok(acknowledged) => acknowledged,
                Err(EmitError::Refused(_)) if in_parts => {
                    self.whole = true;
                    continue;
                }
                Err(EmitError::Refused(error)) if size <= 1 => self.set_aside(spool, &records, error).await?,
                Err(EmitError::Refused(_)) => {
                    size /= 2;
                    continue;
                }
                Err(error @ EmitError::Failed(_)) => return Err(ShipError::Uplink(error)),
            };
            if spool == self.current {
                self.shipped.acknowledged.fetch_max(acknowledged.min(last), Ordering::AcqRel);
            }
            let before = records.len();
            records.retain(|record| record.sequence > acknowledged);
            if records.len() == before {
                return Err(ShipError::NotAcknowledged { sent: last, acknowledged });
            }
            self.progress = true;
            size = size.saturating_mul(2);
        }
        Ok(())
    }

    /// Sets the first record aside. Returns its sequence: it is dealt with.
    async fn set_aside(
        &self,
        spool: Uuid,
        records: &[Record],
        error: Box<dyn std::error::Error + Send + Sync>,
    ) -> Result<u64, ShipError> {
        let Some(record) = records.first().cloned().map(Record::whole) else { return Ok(0) };
        let (sequence, root) = (record.sequence, self.root.path().to_owned());
        let set_aside = spawn_blocking(move || rejected::set_aside(&root, spool, &record)).await;
        match set_aside.map_err(io::Error::other).map_err(SetAsideError::Write).flatten() {
            Ok(()) => {
                self.shipped.rejected.fetch_add(1, Ordering::Relaxed);
                let path = rejected::path(self.root.path());
                error!(
                    error = %Chain(&*error), %spool, sequence, path = %path.display(),
                    "authd refuses an audit event for good; it is set aside, and the rest goes on"
                );
                Ok(sequence)
            }
            Err(cause) => {
                error!(
                    error = %Chain(&cause), refused = %Chain(&*error), %spool, sequence,
                    "authd refuses an audit event for good, and it cannot be set aside: no more events are sent"
                );
                Err(ShipError::Refused(cause))
            }
        }
    }

    async fn remove_segment(&self, path: PathBuf) -> Result<(), ShipError> {
        let freed = blocking(move || {
            let length = fs::metadata(&path)?.len();
            fs::remove_file(&path).map(|()| length)
        })
        .await?;
        let bytes = &self.state.bytes;
        let _ = bytes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |bytes| Some(bytes.saturating_sub(freed)));
        Ok(())
    }
}

/// The same, each in one piece; of them as many as are together no longer than a batch in parts may be, and one at least.
fn whole(records: Vec<Record>) -> Vec<Record> {
    let mut bytes = 0;
    let fits = |record: &Record| {
        let is_first = bytes == 0;
        bytes += record.json.len();
        is_first || bytes <= READ_BYTES
    };
    records.into_iter().map(Record::whole).take_while(fits).collect()
}

/// Why events stay in the spool for now.
#[derive(Debug, thiserror::Error)]
enum ShipError {
    #[error(transparent)]
    Uplink(EmitError),
    #[error("an audit event that authd refuses stays in the way")]
    Refused(#[source] SetAsideError),
    #[error("authd acknowledged nothing new: {acknowledged} of {sent}")]
    NotAcknowledged { sent: u64, acknowledged: u64 },
    #[error("the spool cannot be read")]
    Read(#[source] io::Error),
}

async fn list_segments(spool: &Path) -> Result<Vec<u64>, ShipError> {
    let spool = spool.to_owned();
    blocking(move || segments(&spool)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ShipError> {
    spawn_blocking(work).await.map_err(io::Error::other).flatten().map_err(ShipError::Read)
}
