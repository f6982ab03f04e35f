//! What terminals showed: asciicast v2, on disk before the client sees it, shipped to authd while it grows.
//!
//! ```text
//! session ── Recorder ──▶ DATA_DIR/recordings/<id>.cast ──▶ courier ──▶ authd
//!              waits for the write      fdatasync each 100 ms      from where authd has it on, for ever
//! ```
//!
//! - Every terminal, and every shell without one, has a recording of its own. The first one of a session has the session's id, so that `tsh play SID`
//!   shows what one expects; a connection with several terminals (`ControlMaster`) has one more for each.
//! - The file, its header and what it is of are on disk before the shell starts. Output is written before it is shown: it
//!   survives the death of the process; within 100 ms it survives that of the machine too. Only what is durable is shipped,
//!   so authd never has more of a recording than this disk.
//! - After kill -9 the next start ships what was left, up to the last whole line, and marks it as finished.
//! - The disk space is bounded: beyond the bound no recording begins; live ones go on for a quarter of it, then fail. No user's
//!   may take more of it than is left for all: see `room`.
//! - What becomes of a session that cannot be recorded is for its roles to say (`record_session`).

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};
use uuid::Uuid;

mod cast;
mod courier;
mod room;
mod store;

use self::{
    cast::Cast,
    room::Room,
    store::{Live, Root},
};
pub(crate) use self::{
    cast::Size,
    courier::{Acknowledged, Couriers, RecordingUplink, UploadError},
    store::Of,
};

/// Longest wait for the disk before a recording counts as failed.
const DISK_DEADLINE: Duration = Duration::from_secs(10);
/// One recording, at most: a terminal that shows more in one session is not looked at by anybody.
pub(crate) const MAX_RECORDING_BYTES: u64 = 256 * 1024 * 1024;

/// Why a terminal is not recorded, or not any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// The disk refused it.
    #[error("the recording cannot be written")]
    Write(#[source] io::Error),
    /// The disk took longer than ten seconds.
    #[error("the recording was not written in time")]
    Deadline,
    /// authd has been away for so long that the recordings have reached their bound.
    #[error("the recordings that wait for authd hold {bytes} bytes, their bound is {bound}")]
    Full {
        /// Bytes on disk.
        bytes: u64,
        /// The configured bound.
        bound: u64,
    },
    /// Too much of what waits for authd is this user's own.
    #[error(
        "recordings of the user that wait for authd hold {bytes} bytes, more than the {left} that are left for all"
    )]
    Share {
        /// Bytes on disk, of all recordings of the user.
        bytes: u64,
        /// Bytes that are left for all.
        left: u64,
    },
    /// authd will never have it.
    #[error("authd refuses the recording for good")]
    Refused,
    /// This one is longer than any may be.
    #[error("the recording holds {bytes} bytes, and takes no more")]
    TooLong {
        /// Bytes of it.
        bytes: u64,
    },
}

/// A terminal that is about to show something.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    /// `xterm-256color`
    pub(crate) term: String,
    pub(crate) size: Size,
}

impl Screen {
    /// Of a shell without a terminal: what it writes is for a terminal, if for anybody.
    pub(crate) fn none() -> Self {
        Self { term: "dumb".to_owned(), size: Size::new(80, 24) }
    }
}

/// All recordings of a sidecar.
pub(crate) struct Recordings {
    root: Root,
    bound: u64,
    room: Arc<Room>,
    /// To the couriers.
    begun: mpsc::UnboundedSender<Arc<Live>>,
}

impl Recordings {
    /// Opens the directory below `data_dir`. `bound`: bytes on disk beyond which no recording begins. The couriers, which
    /// somebody must run, take what is there and what will be to authd.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub(crate) fn open(data_dir: &Path, bound: u64) -> io::Result<(Arc<Self>, Couriers)> {
        let root = Root::open(data_dir)?;
        let left = root.left_over()?;
        let room = Arc::new(Room::default());
        for live in &left {
            room.take(&live.of().user, live.progress().durable);
        }
        let (begun, to_come) = mpsc::unbounded_channel();
        let couriers = Couriers::new(root.clone(), left, to_come, Arc::clone(&room));
        Ok((Arc::new(Self { root, bound, room, begun }), couriers))
    }

    /// Begins one; its header is on disk when this returns.
    ///
    /// # Errors
    /// It is not, so nothing must be shown that has to be recorded.
    pub(crate) async fn begin(&self, id: Uuid, of: Of, screen: &Screen) -> Result<Recorder, RecordError> {
        self.room.check(&of.user, self.bound, self.bound)?;
        let title = format!("{}@{}", of.login, of.target_name);
        let header = cast::header(screen.size, &screen.term, &title, of.started / 1000);
        let root = self.root.clone();
        let created = blocking(move || root.create(id, &of, &header)).await?;
        let live = Arc::new(created);
        self.room.take(&live.of().user, live.written());
        // Without couriers the process is about to end, and the next one finds the file.
        let _ = self.begun.send(Arc::clone(&live));
        let cast = Cast::new(Instant::now());
        let room = Arc::clone(&self.room);
        Ok(Recorder { live, cast, room, bound: self.bound, writing: None, settled: true })
    }

    /// Bytes that authd does not have in full.
    pub(crate) fn bytes(&self) -> u64 {
        self.room.all()
    }
}

/// Records one terminal. Dropped, the recording is finished.
pub(crate) struct Recorder {
    live: Arc<Live>,
    cast: Cast,
    room: Arc<Room>,
    /// Beyond which none begins.
    bound: u64,
    /// A line on its way to the disk: who waited for it may be gone, and what follows comes behind it.
    writing: Option<JoinHandle<io::Result<()>>>,
    /// Nothing is being written, and nothing has failed to be: the disk does not stall.
    settled: bool,
}

impl Recorder {
    /// What authd will know it by.
    pub(crate) fn id(&self) -> Uuid {
        self.live.id()
    }

    /// Writes what the terminal is about to show; returns once it is written.
    ///
    /// # Errors
    /// It is not.
    ///
    /// # Cancel safety
    /// It is written all the same, whole or not at all, and in order.
    pub(crate) async fn output(&mut self, shown: &[u8]) -> Result<(), RecordError> {
        let line = self.cast.output(Instant::now(), shown);
        self.append(line).await
    }

    /// The terminal has another size.
    ///
    /// # Errors
    /// That is not written.
    pub(crate) async fn resize(&mut self, size: Size) -> Result<(), RecordError> {
        let line = self.cast.resize(Instant::now(), size);
        self.append(line).await
    }

    async fn append(&mut self, line: Vec<u8>) -> Result<(), RecordError> {
        if line.is_empty() {
            return Ok(());
        }
        self.written().await?;
        let store::Progress { written: recorded, refused, .. } = self.live.progress();
        if refused {
            return Err(RecordError::Refused);
        }
        let length = line.len() as u64;
        if recorded.saturating_add(length) > MAX_RECORDING_BYTES {
            return Err(RecordError::TooLong { bytes: recorded });
        }
        self.room.check(&self.live.of().user, self.bound, self.bound.saturating_add(self.bound / 4))?;
        let (live, room) = (Arc::clone(&self.live), Arc::clone(&self.room));
        self.settled = false;
        self.writing = Some(spawn_blocking(move || append(&live, &room, &line)));
        self.written().await?;
        self.settled = true;
        Ok(())
    }

    /// Waits for the line that is being written, if there is one.
    async fn written(&mut self) -> Result<(), RecordError> {
        let Some(writing) = &mut self.writing else { return Ok(()) };
        let done = timeout(DISK_DEADLINE, writing).await.map_err(|_| RecordError::Deadline)?;
        self.writing = None;
        done.map_err(io::Error::other).flatten().map_err(RecordError::Write)
    }
}

/// Blocks. It is counted first: a recording that is done with is taken off by what it holds.
fn append(live: &Live, room: &Room, line: &[u8]) -> io::Result<()> {
    let (user, length) = (&live.of().user, line.len() as u64);
    room.take(user, length);
    live.append(line).inspect_err(|_| room.give_back(user, length))
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let line = self.cast.finish(Instant::now());
        if self.settled && line.is_empty() {
            return self.live.finish();
        }
        // Not on this thread, which may be a relay's: other sessions would wait for a disk that stalls. What is still being
        // written goes first. What fails here is half a character.
        let (live, room) = (Arc::clone(&self.live), Arc::clone(&self.room));
        let finish = move || {
            if !line.is_empty() {
                let _ = append(&live, &room, &line);
            }
            live.finish();
        };
        match (Handle::try_current(), self.writing.take()) {
            (Ok(runtime), Some(writing)) => {
                // Threads of the pool take the lock in any order.
                drop(runtime.spawn(async move {
                    let _ = writing.await;
                    let _ = spawn_blocking(finish).await;
                }));
            }
            (Ok(runtime), None) => drop(runtime.spawn_blocking(finish)),
            (Err(_), _) => finish(),
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, RecordError> {
    let done = timeout(DISK_DEADLINE, spawn_blocking(work)).await.map_err(|_| RecordError::Deadline)?;
    done.map_err(io::Error::other).flatten().map_err(RecordError::Write)
}

#[cfg(test)]
mod tests;
