//! The one thread that writes the spool: events from all sessions, in groups, each group made durable by one `fdatasync`.
//!
//! Whoever waits for durability is answered after the sync that covers its event. Events that nobody waits for are
//! gathered for [`GATHER`](super::queue::GATHER) and written (so they survive the death of the process), and synced within
//! [`SYNC_WITHIN`] (so they survive the death of the machine). When the disk fails, everybody who waits is told, every live session is ended through
//! [`State::failures`]. Until the disk takes data again, which is tried each second, nothing is written and everybody who
//! waits is told at once; then a fresh segment is begun.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::RecvTimeoutError,
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, oneshot, watch};
use tracing::{error, info};

use super::{
    draft::Draft,
    fresh::{Fresh, Group},
    gathered::Gathered,
    queue::{Receiver, Urgent},
    spool::segment_path,
};

/// A segment is closed once it is this long; the group that fills it may make it [`GROUP_BYTES`] longer, and a record.
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// A group is closed once it is this long: it is written at once, and sent to authd at once.
const GROUP_BYTES: usize = 256 * 1024;
/// Longest time that an event nobody waits for stays without a sync.
const SYNC_WITHIN: Duration = Duration::from_millis(100);
/// How often a broken spool is tried again.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// What sessions hand to the writer.
pub(super) enum Command {
    Record(Item),
    /// Sync, answer, and stop.
    Close(oneshot::Sender<()>),
}

impl Urgent for Command {
    fn is_urgent(&self) -> bool {
        match self {
            Self::Record(item) => item.hurry,
            Self::Close(_) => true,
        }
    }
}

pub(super) struct Item {
    pub(super) event: Draft,
    /// The event's share of the queue, given back when it is written.
    pub(super) space: u32,
    /// Hears when it is on disk, or that it will not be.
    pub(super) done: Option<Done>,
    /// Whoever waits for it holds something up: it is written and synced at once.
    pub(super) hurry: bool,
}

pub(super) type Done = oneshot::Sender<Result<(), WriteFailed>>;

/// The disk did not take an event. The cause is in the log.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the audit spool cannot be written")]
pub(crate) struct WriteFailed;

/// How far the spool is on disk: the shipper reads up to here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Durable {
    /// First sequence of the segment being written; 0 before there is one.
    pub(crate) segment: u64,
    /// Bytes of it that are on disk.
    pub(crate) bytes: u64,
    /// The last sequence on disk.
    pub(crate) sequence: u64,
}

/// What the writer lets others see.
pub(crate) struct State {
    /// Set while the disk refuses.
    pub(crate) broken: AtomicBool,
    /// Bytes on disk, all spools together.
    pub(crate) bytes: AtomicU64,
    /// Counts failures: a live session whose events may be lost in one must end.
    pub(crate) failures: watch::Sender<u64>,
    pub(crate) durable: watch::Sender<Durable>,
    /// The end of what is durable, still in memory.
    pub(super) fresh: Fresh,
}

impl State {
    pub(super) fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            broken: AtomicBool::new(false),
            bytes: AtomicU64::new(bytes),
            failures: watch::Sender::new(0),
            durable: watch::Sender::new(Durable::default()),
            fresh: Fresh::default(),
        })
    }
}

struct Segment {
    file: File,
    first: u64,
    bytes: u64,
}

pub(super) struct Writer {
    directory: PathBuf,
    segment: Option<Segment>,
    next_sequence: u64,
    /// Numbers of sessions in the spool: none is used twice, and one session has many.
    next_session: u64,
    /// Since when something is written but not synced.
    dirty_since: Option<Instant>,
    /// Who is answered after the next sync.
    waiting: Vec<Done>,
    /// Not before this is a broken disk looked at again.
    next_probe: Instant,
    /// Bytes of the last group: the next one is much like it.
    last_group: usize,
    /// Written but not synced.
    unsynced: Vec<Group>,
    /// The queue's room, of which events took their shares.
    space: Arc<Semaphore>,
    state: Arc<State>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Nobody gives room back any more: whoever waits for it hears so.
        self.space.close();
        // Nor does anybody write: nothing may begin, and who says nothing must hear of it too.
        if thread::panicking() {
            error!("the audit writer has died: no sessions");
        }
        self.state.broken.store(true, Ordering::Release);
        self.state.failures.send_modify(|failures| *failures += 1);
    }
}

impl Writer {
    pub(super) fn new(directory: PathBuf, space: Arc<Semaphore>, state: Arc<State>) -> Self {
        Self {
            directory,
            segment: None,
            next_sequence: 1,
            next_session: 1,
            dirty_since: None,
            waiting: Vec::new(),
            next_probe: Instant::now(),
            last_group: 0,
            unsynced: Vec::new(),
            space,
            state,
        }
    }

    /// Writes until told to close, or until nobody is left to send.
    pub(super) fn run(mut self, mut queue: Receiver<Command>) {
        loop {
            let closing = match self.wait(&mut queue) {
                Ok(Command::Record(first)) => self.write_group(first, &mut queue),
                Ok(Command::Close(done)) => Some(done),
                Err(RecvTimeoutError::Timeout) => {
                    self.idle();
                    None
                }
                Err(RecvTimeoutError::Disconnected) => return self.idle(),
            };
            if let Some(done) = closing {
                self.idle();
                let _ = done.send(());
                return;
            }
        }
    }

    fn wait(&self, queue: &mut Receiver<Command>) -> Result<Command, RecvTimeoutError> {
        let within = match self.dirty_since {
            _ if self.state.broken.load(Ordering::Acquire) => {
                Some(self.next_probe.saturating_duration_since(Instant::now()))
            }
            Some(since) => Some(SYNC_WITHIN.saturating_sub(since.elapsed())),
            None => None,
        };
        queue.next_within(within)
    }

    /// Writes `first` and what else is waiting; returns a request to close that was found among it.
    fn write_group(&mut self, first: Item, queue: &mut Receiver<Command>) -> Option<oneshot::Sender<()>> {
        let (mut hurry, mut space, mut closing) = (false, 0, None);
        let mut gathered = Gathered::new(self.last_group + self.last_group / 8, self.next_session);
        let mut next = Some(Command::Record(first));
        while let Some(command) = next {
            match command {
                Command::Record(item) => {
                    gathered.push(self.next_sequence, &item.event);
                    self.next_sequence += 1;
                    hurry |= item.hurry;
                    self.waiting.extend(item.done);
                    space += item.space as usize;
                }
                Command::Close(done) => {
                    closing = Some(done);
                    break;
                }
            }
            next = if gathered.lines().len() < GROUP_BYTES { queue.next_gathered() } else { None };
        }
        self.last_group = gathered.lines().len();
        self.next_session = gathered.next_session();
        if self.is_broken() {
            self.answer(Err(WriteFailed));
            self.space.add_permits(space);
            return closing;
        }
        let outcome = self.append(gathered).and_then(|()| {
            let due = self.dirty_since.is_some_and(|since| since.elapsed() >= SYNC_WITHIN);
            // Only a sync closes a segment, so a full one must not wait for the clock: writes can be far ahead of it.
            let full = self.segment.as_ref().is_some_and(|segment| segment.bytes >= SEGMENT_BYTES);
            if due || full || hurry { self.sync() } else { Ok(()) }
        });
        if let Err(error) = &outcome {
            self.fail(error);
        }
        self.space.add_permits(space);
        closing
    }

    fn append(&mut self, gathered: Gathered) -> io::Result<()> {
        let Some(first_sequence) = gathered.first() else { return Ok(()) };
        let segment = match &mut self.segment {
            Some(segment) => segment,
            empty @ None => empty.insert(create(&self.directory, first_sequence)?),
        };
        segment.file.write_all(gathered.lines())?;
        let written = gathered.finish();
        let start = segment.bytes;
        segment.bytes += written.len() as u64;
        self.state.bytes.fetch_add(written.len() as u64, Ordering::AcqRel);
        self.unsynced.push(Group::new(segment.first, start, written));
        self.dirty_since.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let Some(segment) = &self.segment else { return Ok(()) };
        if self.dirty_since.is_some() {
            segment.file.sync_data()?;
        }
        let sequence = self.next_sequence - 1;
        self.state.fresh.add(self.unsynced.drain(..));
        self.state.durable.send_replace(Durable { segment: segment.first, bytes: segment.bytes, sequence });
        if segment.bytes >= SEGMENT_BYTES {
            self.segment = None;
        }
        self.dirty_since = None;
        self.recovered();
        self.answer(Ok(()));
        Ok(())
    }

    /// Nothing came in time: sync what is written, or see whether a broken disk has recovered.
    fn idle(&mut self) {
        if !self.state.broken.load(Ordering::Acquire) {
            if let Err(error) = self.sync() {
                self.fail(&error);
            }
        } else {
            self.is_broken();
        }
    }

    /// Does the disk refuse? Looked at once in a while, and not at each event: each look at a full disk could leave another
    /// segment there.
    fn is_broken(&mut self) -> bool {
        let broken = self.state.broken.load(Ordering::Acquire);
        if !broken || Instant::now() < self.next_probe {
            return broken;
        }
        let recovers = probe(&self.directory).is_ok();
        self.next_probe = Instant::now() + PROBE_EVERY;
        if recovers {
            self.recovered();
        }
        !recovers
    }

    fn answer(&mut self, outcome: Result<(), WriteFailed>) {
        for done in self.waiting.drain(..) {
            // Gone is who gave up waiting; the event is on disk all the same.
            let _ = done.send(outcome);
        }
    }

    fn recovered(&self) {
        if self.state.broken.swap(false, Ordering::AcqRel) {
            info!("the audit spool can be written again");
        }
    }

    /// After a failed write or sync nothing is known about the segment's tail: it is left as it is, for the shipper to
    /// read what verifies, and a new one is begun. Its sequences are never used again.
    fn fail(&mut self, error: &io::Error) {
        if let Some(segment) = self.segment.take() {
            // A part of the group may be there, and takes room until the segment is removed.
            let length = segment.file.metadata().map_or(segment.bytes, |file| file.len());
            self.state.bytes.fetch_add(length.saturating_sub(segment.bytes), Ordering::AcqRel);
        }
        self.dirty_since = None;
        self.unsynced.clear();
        self.next_probe = Instant::now() + PROBE_EVERY;
        if !self.state.broken.swap(true, Ordering::AcqRel) {
            error!(%error, directory = %self.directory.display(), "the audit spool cannot be written: no sessions");
        }
        self.state.failures.send_modify(|failures| *failures += 1);
        // Last: who hears of it finds the rest said.
        self.answer(Err(WriteFailed));
    }
}

/// A new segment whose name is on disk too.
fn create(directory: &Path, first: u64) -> io::Result<Segment> {
    let path = segment_path(directory, first);
    let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
    File::open(directory)?.sync_all()?;
    Ok(Segment { file, first, bytes: 0 })
}

/// Does the disk take data? More than a segment's name, because a full disk often still takes names.
fn probe(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let path = directory.join("probe");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    file.write_all(&[0; 64 * 1024])?;
    file.sync_data()?;
    fs::remove_file(path)
}

/// Makes the directory of a new spool, readable by its owner alone, and puts its name on disk.
pub(super) fn create_directory(spool: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(spool)?;
    for ancestor in spool.ancestors().skip(1).take(2) {
        File::open(ancestor)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
