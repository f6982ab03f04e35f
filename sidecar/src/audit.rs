//! The audit trail: nothing happens in a session that was not written down first.
//!
//! ```text
//! session ── Trail ──▶ queue, bounded in bytes ──▶ writer thread ──▶ spool on disk ──▶ shipper ──▶ authd
//!              waits here while it is full      gathers, fdatasync    survives kill -9    retries for ever
//!                                                     └── what is on disk since a moment ago ──▶┘
//! ```
//!
//! - `db.session.start` is on disk before the upstream is dialled; when it cannot be written there is no session.
//! - A query is in the queue before it is forwarded. A full queue slows the client; a dead writer ends the session.
//! - How it came out is an event of its own, which follows: see `event` for all of them, and `event/outcome.rs` for examples.
//! - authd takes events in order. One that it refuses for good (no known version of it would) is set aside in
//!   `DATA_DIR/spool/rejected`, up to 16 MiB of them, and an error is logged; the rest goes on.
//! - Of SSH sessions, what terminals show is recorded besides: see `channels`, and `recording`.
//! - `db.session.end` is written on every way out, a panic and a cancelled task included ([`Trail`] sees to it).
//! - The disk space is bounded: beyond the bound no session starts; live ones go on for a quarter of it, then end. Who is
//!   turned away has no part in that quarter, and is on record so many times in a while: see `denials`. No user may have more
//!   waiting for authd than there is room left for all: see `shares`.

use std::{
    io,
    path::Path,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use prometheus::IntCounter;
use tokio::{
    sync::{Semaphore, SemaphorePermit, oneshot, watch},
    time::timeout,
};
use uuid::Uuid;

mod channels;
mod denials;
mod draft;
mod event;
mod fresh;
mod gathered;
mod queue;
mod rejected;
mod shares;
mod shipper;
mod spool;
mod statements;
mod trail;
mod writer;

pub use self::event::Parameters;
pub(crate) use self::{
    channels::Recorded,
    event::{Denied, Ending, Rejected, Started, Subject, SubjectTarget},
    shipper::{EmitError, Shipped, Shipper, Uplink},
    spool::Record,
    trail::Trail,
};
use self::{
    denials::Denials,
    draft::{Came, Draft},
    event::Renderer,
    shares::{Share, Shares},
    spool::SpoolRoot,
    writer::{Command, Item, State, WriteFailed, Writer},
};

/// Bytes of events that may wait for the writer. A client that sends more is slowed to the speed of the disk.
const QUEUE_BYTES: u32 = 8 * 1024 * 1024;
/// Longest wait for the disk before a session is refused, or ended.
const DISK_DEADLINE: Duration = Duration::from_secs(10);
/// Why an event could not be recorded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditError {
    /// The disk refused it, or took longer than ten seconds.
    #[error("the audit spool does not take events")]
    NotWritten,
    /// The writer thread is gone.
    #[error("the audit writer has stopped")]
    WriterStopped,
    /// authd has been away for so long that the spool has reached its bound.
    #[error("the audit spool holds {bytes} bytes, its bound is {bound}")]
    Full {
        /// Bytes on disk.
        bytes: u64,
        /// The configured bound.
        bound: u64,
    },
    /// Too much of what waits for authd is this user's own.
    #[error(
        "{bytes} bytes of the user's events wait for authd, more than the {left} that are left in the audit spool"
    )]
    Share {
        /// Bytes that wait, of all sessions of the user.
        bytes: u64,
        /// Bytes that are left for all.
        left: u64,
    },
    /// An event longer than 240 KiB. Events are cut long before that.
    #[error("an audit event of {0} bytes")]
    TooLong(usize),
}

impl From<WriteFailed> for AuditError {
    fn from(_: WriteFailed) -> Self {
        Self::NotWritten
    }
}

/// The way into the audit trail. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Audit {
    queue: queue::Sender<Command>,
    space: Arc<Semaphore>,
    state: Arc<State>,
    bound: u64,
    shares: Arc<Shares>,
    denials: Arc<Denials>,
    /// Events that could not be recorded.
    failed: IntCounter,
}

/// What became of an event that was not to wait.
enum Offer {
    Taken,
    /// Here it is again.
    NoRoom(Came),
    /// The writer is gone; it is counted as failed.
    Stopped,
}

impl Audit {
    /// Opens a new spool under `data_dir` and starts its writer. `bound`: bytes on disk beyond which no session starts.
    /// `failed` counts the events that could not be recorded, whoever wanted them to be.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub(crate) fn open(data_dir: &Path, bound: u64, failed: IntCounter) -> io::Result<(Self, AuditSpool)> {
        let root = SpoolRoot::new(data_dir);
        let id = Uuid::now_v7();
        writer::create_directory(&root.spool(id))?;
        let state = State::new(root.size()?);
        let (queue, commands) = queue::queue();
        let space = Arc::new(Semaphore::new(QUEUE_BYTES as usize));
        let writer = Writer::new(root.spool(id), Arc::clone(&space), Arc::clone(&state));
        thread::Builder::new().name("audit-writer".to_owned()).spawn(move || writer.run(commands))?;
        let audit = Self {
            queue,
            state: Arc::clone(&state),
            bound,
            shares: Shares::new(Arc::clone(&state), Arc::clone(&space), bound),
            space,
            denials: Arc::new(Denials::new()),
            failed,
        };
        Ok((audit, AuditSpool { root, id, state }))
    }

    /// The share of a user's sessions in what may wait for authd.
    fn share(&self, user: Option<&str>) -> Share {
        self.shares.of(user.unwrap_or_default())
    }

    /// Writes an event that begins something; returns once it is on disk.
    async fn begin(&self, share: &Share, json: String) -> Result<(), AuditError> {
        let written = async {
            self.check_bound(self.bound)?;
            share.check()?;
            self.durable(share, json).await
        };
        self.counted(written.await)
    }

    async fn durable(&self, share: &Share, json: String) -> Result<(), AuditError> {
        let event = Draft::Rendered(json);
        let written = async {
            let space = event.bytes()?;
            self.reserve(space).await?;
            // Its end, which is as long, asks for no room.
            share.take(space.saturating_mul(2));
            let (done, written) = oneshot::channel();
            self.send(Item { event, space, done: Some(done), hurry: true })?;
            written.await.map_err(|_| AuditError::WriterStopped)?.map_err(AuditError::from)
        };
        timeout(DISK_DEADLINE, written).await.map_err(|_| AuditError::NotWritten)?
    }

    /// Queues an event of a live session; returns once there is room for it, and for this user.
    ///
    /// # Cancel safety
    /// The event is queued or it is not; nothing is half done.
    async fn queued(&self, share: &Share, event: Draft) -> Result<(), AuditError> {
        self.counted(share.room(DISK_DEADLINE).await)?;
        self.queued_within(self.bound.saturating_add(self.bound / 4), Some(share), event).await
    }

    /// Queues an event about a client that is turned away: it has no part in what is kept for live sessions.
    ///
    /// # Cancel safety
    /// As of [`Self::queued`].
    async fn denied(&self, event: Draft) -> Result<(), AuditError> {
        self.queued_within(self.bound, None, event).await
    }

    async fn queued_within(&self, bound: u64, share: Option<&Share>, event: Draft) -> Result<(), AuditError> {
        let queued = async {
            self.check_bound(bound)?;
            let space = event.bytes()?;
            if !self.try_reserve(space) {
                timeout(DISK_DEADLINE, self.reserve(space)).await.map_err(|_| AuditError::NotWritten)??;
            }
            if let Some(share) = share {
                share.take(space);
            }
            self.send(Item { event, space, done: None, hurry: false })
        };
        self.counted(queued.await)
    }

    /// Queues a result if there is room for it now. The bound on disk does not count: what it belongs to is on disk already.
    fn offer(&self, share: &Share, renderer: &Arc<Renderer>, result: Came) -> Offer {
        let space = Draft::RESULT_BYTES;
        if !self.try_reserve(space) {
            return Offer::NoRoom(result);
        }
        share.take(space);
        let event = Draft::Result { renderer: Arc::clone(renderer), result };
        match self.counted(self.send(Item { event, space, done: None, hurry: false })) {
            Ok(()) => Offer::Taken,
            Err(_) => Offer::Stopped,
        }
    }

    /// Sends one of a session's last events, without waiting for room: their number is bounded for each session, so the queue
    /// stays bounded. The future, which need not be awaited, completes once it is on disk. Nothing is held up by it, so it goes
    /// with the next sync; a machine that dies before that leaves a session without an end, as one that dies within it does.
    fn last_words(&self, event: Draft) -> impl Future<Output = Result<(), AuditError>> + Send + use<> {
        let (done, written) = oneshot::channel();
        let sent = self.counted(self.send(Item { event, space: 0, done: Some(done), hurry: false }));
        let failed = self.failed.clone();
        async move {
            sent?;
            let written = match timeout(DISK_DEADLINE, written).await {
                Ok(Ok(written)) => written.map_err(AuditError::from),
                Ok(Err(_)) => Err(AuditError::WriterStopped),
                Err(_) => Err(AuditError::NotWritten),
            };
            written.inspect_err(|_| failed.inc())
        }
    }

    fn counted<T>(&self, outcome: Result<T, AuditError>) -> Result<T, AuditError> {
        outcome.inspect_err(|_| self.failed.inc())
    }

    /// Takes room if there is any now.
    fn try_reserve(&self, space: u32) -> bool {
        self.space.try_acquire_many(space).map(SemaphorePermit::forget).is_ok()
    }

    /// Takes room, which the writer gives back with the group that it writes.
    async fn reserve(&self, space: u32) -> Result<(), AuditError> {
        let permit = self.space.acquire_many(space).await.map_err(|_| AuditError::WriterStopped)?;
        permit.forget();
        Ok(())
    }

    fn send(&self, item: Item) -> Result<(), AuditError> {
        self.queue.send(Command::Record(item)).map_err(|_| AuditError::WriterStopped)
    }

    fn check_bound(&self, bound: u64) -> Result<(), AuditError> {
        let bytes = self.state.bytes.load(Ordering::Acquire);
        if bytes > bound { Err(AuditError::Full { bytes, bound }) } else { Ok(()) }
    }

    /// Can a session start, as far as audit is concerned?
    #[must_use]
    pub(crate) fn is_writable(&self) -> bool {
        !self.state.broken.load(Ordering::Acquire) && self.check_bound(self.bound).is_ok()
    }

    /// Changes when the disk has failed: events of live sessions may be lost, so they must end.
    pub(crate) fn failures(&self) -> watch::Receiver<u64> {
        self.state.failures.subscribe()
    }

    /// Bytes on disk that authd has not acknowledged, up to a segment of 4 MiB too many.
    #[must_use]
    pub(crate) fn spool_bytes(&self) -> u64 {
        self.state.bytes.load(Ordering::Acquire)
    }

    /// Denied events are bounded in rate, for each user and for all strangers: true where there is room for one.
    pub(crate) fn has_room_for_denied(&self, user: Option<&str>) -> bool {
        self.denials.take(user)
    }

    /// Events of this process that are on disk.
    pub(crate) fn durable_events(&self) -> u64 {
        self.state.durable.borrow().sequence
    }

    /// Makes everything sent so far durable and stops the writer. Events sent later are refused.
    pub(crate) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.queue.send(Command::Close(done)).is_ok() {
            let _ = timeout(DISK_DEADLINE, closed).await;
        }
    }
}

/// The spool as the shipper sees it.
pub(crate) struct AuditSpool {
    root: SpoolRoot,
    id: Uuid,
    state: Arc<State>,
}

/// Every event on disk, of all spools, in order: what would be left after kill -9 now.
#[cfg(test)]
pub(crate) fn on_disk(data_dir: &Path) -> Vec<String> {
    let root = SpoolRoot::new(data_dir);
    let mut events = Vec::new();
    for id in root.list().unwrap() {
        let spool = root.spool(id);
        for first in spool::segments(&spool).unwrap() {
            let segment = spool::segment_path(&spool, first);
            let batch = spool::read_batch(&segment, 0, None, &mut spool::Sessions::default()).unwrap();
            let text = |record: Record| String::from_utf8(record.whole().json.to_vec()).unwrap();
            let json = batch.records.into_iter().map(text);
            events.extend(json);
        }
    }
    events
}

#[cfg(test)]
mod tests;
