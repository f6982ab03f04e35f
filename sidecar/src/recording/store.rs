//! Recordings on disk: two files each, what it is of and what was shown.
//!
//! ```text
//! DATA_DIR/recordings/<id>.json     {"user":"jerry","login":"root","target_name":"prod-web","started":…}
//! DATA_DIR/recordings/<id>.cast
//! ```
//!
//! The first is on disk before the second is made, and removed after it. What authd refuses for good is moved to
//! `DATA_DIR/recordings/rejected/`, where somebody must look at it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::warn;
use uuid::Uuid;

const REJECTED: &str = "rejected";
/// How much is read at once in search of the last line's end.
const TAIL_BYTES: u64 = 64 * 1024;

/// Whose session is recorded, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Of {
    pub(crate) user: String,
    pub(crate) login: String,
    pub(crate) target_name: String,
    /// Unix milliseconds.
    pub(crate) started: i64,
}

/// How far a recording has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Bytes of whole lines in the file.
    pub(super) written: u64,
    /// Of these, on disk.
    pub(super) durable: u64,
    /// Nothing follows.
    pub(super) finished: bool,
    /// authd will never have it: nothing more is worth writing.
    pub(super) refused: bool,
}

/// A recording: one that is being made, or one that is left to ship.
#[derive(Debug)]
pub(super) struct Live {
    id: Uuid,
    of: Of,
    path: PathBuf,
    file: Mutex<File>,
    progress: watch::Sender<Progress>,
}

impl Live {
    fn new(id: Uuid, of: Of, path: PathBuf, file: File, progress: Progress) -> Self {
        Self { id, of, path, file: Mutex::new(file), progress: watch::Sender::new(progress) }
    }

    pub(super) fn id(&self) -> Uuid {
        self.id
    }

    pub(super) fn of(&self) -> &Of {
        &self.of
    }

    pub(super) fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    pub(super) fn written(&self) -> u64 {
        self.progress.borrow().written
    }

    pub(super) fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Writes a line, unless it is finished. Blocks.
    pub(super) fn append(&self, line: &[u8]) -> io::Result<()> {
        let mut file = self.file();
        let Progress { written: before, finished, .. } = self.progress();
        if finished {
            return Err(io::Error::other("the recording is finished"));
        }
        if let Err(error) = file.write_all(line) {
            // A line is there or it is not: what was shipped ends with one.
            let _ = file.set_len(before);
            return Err(error);
        }
        self.progress.send_modify(|progress| progress.written = before + line.len() as u64);
        Ok(())
    }

    /// Puts on disk what is written. Blocks.
    pub(super) fn sync(&self) -> io::Result<()> {
        // Taken out of the lock, so that who writes does not wait for the disk.
        let (file, written) = {
            let file = self.file();
            (file.try_clone()?, self.written())
        };
        file.sync_data()?;
        self.progress.send_modify(|progress| progress.durable = progress.durable.max(written));
        Ok(())
    }

    /// Nothing follows. Waits for a line that is being written: blocks as that does.
    pub(super) fn finish(&self) {
        let _file = self.file();
        self.progress.send_modify(|progress| progress.finished = true);
    }

    /// authd will never have it.
    pub(super) fn refuse(&self) {
        self.progress.send_modify(|progress| progress.refused = true);
    }

    /// For reading what is on disk, beside whoever appends.
    pub(super) fn reader(&self) -> Reader {
        Reader(self.path.clone())
    }

    /// Held while a line is written.
    pub(super) fn file(&self) -> MutexGuard<'_, File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a recording by a handle of its own: the other one's position is where lines are appended.
pub(super) struct Reader(PathBuf);

impl Reader {
    /// From `offset` on, not beyond `end`, at most `most` bytes. Blocks.
    pub(super) fn read(&self, offset: u64, end: u64, most: usize) -> io::Result<Vec<u8>> {
        let left = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut data = vec![0; left.min(most)];
        let mut file = File::open(&self.0)?;
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut data)?;
        Ok(data)
    }
}

/// The directory of all recordings.
#[derive(Clone, Debug)]
pub(super) struct Root(PathBuf);

impl Root {
    /// Makes it, readable by its owner alone.
    pub(super) fn open(data_dir: &Path) -> io::Result<Self> {
        let root = data_dir.join("recordings");
        DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
        File::open(data_dir)?.sync_all()?;
        Ok(Self(root))
    }

    fn cast(&self, id: Uuid) -> PathBuf {
        self.0.join(format!("{id}.cast"))
    }

    fn of(&self, id: Uuid) -> PathBuf {
        self.0.join(format!("{id}.json"))
    }

    /// Makes a new recording that has a header, on disk with its name. Blocks.
    pub(super) fn create(&self, id: Uuid, of: &Of, header: &[u8]) -> io::Result<Live> {
        let mut options = OpenOptions::new();
        options.append(true).create_new(true).mode(0o600);
        let mut description = options.open(self.of(id))?;
        description.write_all(&serde_json::to_vec(of)?)?;
        description.sync_all()?;
        let path = self.cast(id);
        let mut file = options.open(&path)?;
        file.write_all(header)?;
        file.sync_all()?;
        File::open(&self.0)?.sync_all()?;
        let length = header.len() as u64;
        let progress = Progress { written: length, durable: length, ..Progress::default() };
        Ok(Live::new(id, of.clone(), path, file, progress))
    }

    /// What earlier processes left: nobody writes to it any more. A line that was torn by a crash is cut off. Blocks.
    pub(super) fn left_over(&self) -> io::Result<Vec<Live>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.strip_suffix(".json")) else { continue };
            let Ok(id) = id.parse() else { continue };
            match self.recover(id) {
                Ok(Some(live)) => found.push(live),
                // The process died between the two files.
                Ok(None) => fs::remove_file(self.of(id))?,
                Err(error) => warn!(%id, %error, "a recording cannot be read and is left where it is"),
            }
        }
        found.sort_unstable_by_key(|live| live.of.started);
        Ok(found)
    }

    fn recover(&self, id: Uuid) -> io::Result<Option<Live>> {
        let path = self.cast(id);
        let file = match OpenOptions::new().read(true).append(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let of = serde_json::from_slice(&fs::read(self.of(id))?)?;
        let whole = whole_lines(&file)?;
        file.set_len(whole)?;
        file.sync_all()?;
        let progress = Progress { written: whole, durable: whole, finished: true, refused: false };
        Ok(Some(Live::new(id, of, path, file, progress)))
    }

    /// authd has all of it. Blocks.
    pub(super) fn remove(&self, id: Uuid) -> io::Result<()> {
        fs::remove_file(self.cast(id))?;
        fs::remove_file(self.of(id))
    }

    /// authd will never take it: out of the way, for somebody to look at. Blocks.
    pub(super) fn set_aside(&self, id: Uuid) -> io::Result<PathBuf> {
        let rejected = self.0.join(REJECTED);
        DirBuilder::new().recursive(true).mode(0o700).create(&rejected)?;
        for path in [self.cast(id), self.of(id)] {
            if let Some(name) = path.file_name() {
                fs::rename(&path, rejected.join(name))?;
            }
        }
        File::open(&rejected)?.sync_all()?;
        Ok(rejected)
    }
}

/// Bytes up to and including the last line's end.
fn whole_lines(mut file: &File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    while end > 0 {
        let start = end.saturating_sub(TAIL_BYTES);
        let mut tail = vec![0; usize::try_from(end - start).unwrap_or_default()];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut tail)?;
        if let Some(last) = tail.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
