//! Takes recordings to authd: one courier for each, while it grows and after.
//!
//! authd answers once bytes are on its disk, and says up to where it has them; that is asked first, so there is no cursor to
//! keep and a restart costs one question. A recording is removed here once authd has all of it and knows that it is all.

use std::{
    error::Error,
    future::pending,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use auth::repeated::Repeated;
use tokio::{
    sync::{Semaphore, mpsc},
    task::{JoinSet, spawn_blocking},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};
use uuid::Uuid;

use super::{
    room::Room,
    store::{Live, Of, Progress, Root},
};
use crate::{backoff::Backoff, chain::Chain};

/// What is written is on disk this much later, at most.
const SYNC_WITHIN: Duration = Duration::from_millis(100);
/// A recording that grows is shipped this often, at most.
const SHIP_EVERY: Duration = Duration::from_secs(1);
/// What is sent at once: a message to authd is at most 1 MiB.
const PART_BYTES: usize = 512 * 1024;
/// Recordings that are sent at the same time.
const AT_ONCE: usize = 4;
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));

/// Takes parts of recordings to authd.
pub(crate) trait RecordingUplink: Send + Sync + 'static {
    /// Sends a part, which may be empty. `finished`: nothing follows. Returns how much authd has on disk.
    fn upload(
        &self,
        id: Uuid,
        of: &Of,
        offset: u64,
        data: Vec<u8>,
        finished: bool,
    ) -> impl Future<Output = Result<Acknowledged, UploadError>> + Send;
}

/// What authd has of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    /// Everything before.
    pub(crate) offset: u64,
    /// And knows that there is no more.
    pub(crate) finished: bool,
}

/// Why authd did not take a part.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// It never will.
    #[error("authd refuses the recording for good")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
    /// It may later.
    #[error("authd does not take the recording")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

/// The couriers of all recordings.
pub(crate) struct Couriers {
    root: Root,
    left: Vec<Live>,
    to_come: mpsc::UnboundedReceiver<Arc<Live>>,
    room: Arc<Room>,
}

impl Couriers {
    pub(super) fn new(
        root: Root,
        left: Vec<Live>,
        to_come: mpsc::UnboundedReceiver<Arc<Live>>,
        room: Arc<Room>,
    ) -> Self {
        Self { root, left, to_come, room }
    }

    /// Runs until told to stop. Then what is finished is still sent, as long as authd takes it at the first attempt.
    pub(crate) async fn run<U: RecordingUplink>(mut self, uplink: U, stop: CancellationToken) {
        let desk = Arc::new(Desk {
            root: self.root,
            uplink,
            room: self.room,
            turns: Semaphore::new(AT_ONCE),
            failure: Mutex::default(),
            stop: stop.clone(),
        });
        let mut couriers = JoinSet::new();
        for live in self.left {
            couriers.spawn(Arc::clone(&desk).deliver(Arc::new(live)));
        }
        loop {
            tokio::select! {
                begun = self.to_come.recv() => match begun {
                    Some(live) => drop(couriers.spawn(Arc::clone(&desk).deliver(live))),
                    None => break,
                },
                Some(_) = couriers.join_next() => {}
                () = stop.cancelled() => break,
            }
        }
        // What began in the last moment is with the next start.
        while couriers.join_next().await.is_some() {}
    }
}

struct Desk<U> {
    root: Root,
    uplink: U,
    room: Arc<Room>,
    turns: Semaphore,
    /// Why recordings wait: the same for all of them, most likely, however many there are.
    failure: Mutex<Repeated>,
    stop: CancellationToken,
}

/// What became of an attempt to ship.
enum Step {
    /// authd has what is durable; more may come.
    Waiting,
    /// authd has all of it.
    Done,
}

/// Why a recording stays here for now.
#[derive(Debug, thiserror::Error)]
enum ShipError {
    #[error(transparent)]
    Upload(#[from] UploadError),
    #[error("the recording cannot be read")]
    Read(#[source] io::Error),
    #[error("authd acknowledged {acknowledged} of {sent} bytes, or not that they are all")]
    Acknowledged { sent: u64, acknowledged: u64 },
}

impl<U: RecordingUplink> Desk<U> {
    async fn deliver(self: Arc<Self>, live: Arc<Live>) {
        tokio::select! {
            () = self.ship(&live) => {}
            () = keep_durable(&live) => {}
        }
    }

    async fn ship(&self, live: &Live) {
        let mut progress = live.watch();
        let (mut backoff, mut shipped) = (BACKOFF, None);
        loop {
            progress.mark_unchanged();
            let wait = match self.attempt(live, &mut shipped).await {
                Ok(Step::Done) => return self.forget(live).await,
                Ok(Step::Waiting) => {
                    backoff = BACKOFF;
                    let grown = progress.wait_for(|now| {
                        Some(now.durable) > shipped || (now.finished && now.durable == now.written)
                    });
                    tokio::select! {
                        // First, so that what was finished before the stop is still sent.
                        biased;
                        _ = grown => {}
                        () = self.stop.cancelled() => return,
                    }
                    if progress.borrow().finished { Duration::ZERO } else { SHIP_EVERY }
                }
                Err(ShipError::Upload(UploadError::Refused(refused))) => {
                    return self.refused(live, &*refused).await;
                }
                Err(error) => {
                    let wait = backoff.next();
                    if self.is_news(&error) {
                        warn!(recording = %live.id(), error = %Chain(&error), retry_in = ?wait, "a recording waits on disk");
                    }
                    // Where it goes on is asked again.
                    shipped = None;
                    if self.stop.is_cancelled() {
                        return;
                    }
                    wait
                }
            };
            tokio::select! {
                () = sleep(wait) => {}
                // Once more, at once.
                () = self.stop.cancelled() => {}
            }
        }
    }

    fn is_news(&self, error: &ShipError) -> bool {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_news(&Chain(error))
    }

    /// Sends all that is durable.
    async fn attempt(&self, live: &Live, shipped: &mut Option<u64>) -> Result<Step, ShipError> {
        let _turn = self.turns.acquire().await;
        let mut has = match *shipped {
            Some(offset) => offset,
            None => {
                let has = self.uplink.upload(live.id(), live.of(), 0, Vec::new(), false).await?;
                if has.finished {
                    return Ok(Step::Done);
                }
                has.offset
            }
        };
        loop {
            let Progress { written, durable, finished, .. } = live.progress();
            // Whatever authd has, this disk has too.
            let offset = has.min(durable);
            let data = self.read(live, offset).await?;
            let sent = offset + data.len() as u64;
            let last = finished && sent == written;
            if data.is_empty() && !last {
                *shipped = Some(offset);
                return Ok(Step::Waiting);
            }
            let answer = self.uplink.upload(live.id(), live.of(), offset, data, last).await?;
            if last && answer.finished {
                return Ok(Step::Done);
            }
            if last || answer.offset < sent {
                return Err(ShipError::Acknowledged { sent, acknowledged: answer.offset });
            }
            has = answer.offset;
            *shipped = Some(has);
        }
    }

    async fn read(&self, live: &Live, offset: u64) -> Result<Vec<u8>, ShipError> {
        let (reader, durable) = (live.reader(), live.progress().durable);
        let read = spawn_blocking(move || reader.read(offset, durable, PART_BYTES)).await;
        read.map_err(io::Error::other).flatten().map_err(ShipError::Read)
    }

    async fn forget(&self, live: &Live) {
        let (root, id) = (self.root.clone(), live.id());
        let removed = spawn_blocking(move || root.remove(id)).await.map_err(io::Error::other).flatten();
        if let Err(error) = removed {
            warn!(recording = %id, %error, "a recording that authd has cannot be removed");
        }
        self.freed(live);
        debug!(recording = %id, "a recording is with authd");
    }

    /// authd will never have it. Who is still being recorded hears so with what is shown next, and until then all that is
    /// recorded is kept, put on disk, and counted.
    async fn refused(&self, live: &Live, refused: &(dyn Error + Send + Sync + 'static)) {
        live.refuse();
        if !live.progress().finished {
            error!(recording = %live.id(), error = %Chain(refused), "authd refuses a recording for good that goes on");
        }
        let mut progress = live.watch();
        let over = progress.wait_for(|now| now.finished && now.durable == now.written);
        tokio::select! {
            biased;
            _ = over => {}
            // The next start offers it again.
            () = self.stop.cancelled() => return,
        }
        self.set_aside(live, refused).await;
    }

    async fn set_aside(&self, live: &Live, refused: &(dyn Error + Send + Sync + 'static)) {
        let (root, id) = (self.root.clone(), live.id());
        let moved = spawn_blocking(move || root.set_aside(id)).await.map_err(io::Error::other).flatten();
        match moved {
            Ok(path) => {
                error!(recording = %id, error = %Chain(refused), path = %path.display(), "authd refuses a recording for good; it is set aside");
            }
            Err(cause) => {
                error!(recording = %id, error = %Chain(refused), %cause, "authd refuses a recording for good, and it cannot be set aside");
            }
        }
        self.freed(live);
    }

    fn freed(&self, live: &Live) {
        self.room.give_back(&live.of().user, live.written());
    }
}

/// Puts on disk what is written, soon after; never ends before the recording is shipped.
async fn keep_durable(live: &Arc<Live>) {
    let mut progress = live.watch();
    loop {
        // What `wait_for` returns keeps others from writing, so it is dropped at once.
        if progress.wait_for(|now| now.written > now.durable).await.is_err() {
            return pending().await;
        }
        tokio::select! {
            () = sleep(SYNC_WITHIN) => {}
            _ = progress.wait_for(|now| now.finished) => {}
        }
        let syncing = Arc::clone(live);
        let synced = spawn_blocking(move || syncing.sync()).await.map_err(io::Error::other).flatten();
        if let Err(error) = synced {
            warn!(recording = %live.id(), %error, "a recording cannot be put on disk");
            sleep(SHIP_EVERY).await;
        }
    }
}
