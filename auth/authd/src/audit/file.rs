//! The files of the audit trail: appending, mending after a crash, reading.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    fs::{DirBuilder, File, OpenOptions},
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use auth::clock::{Clock, parse_rfc3339, rfc3339};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::{runtime::Handle, sync::mpsc};

use super::{
    Append, AuditError, SpoolId,
    lines::{SIDECAR_FIELD, SPOOL_FIELD},
    owed::{Owed, uid_of},
};
use crate::{
    keys,
    store::{self, Change, Condition, Op, Store},
    under_way::UnderWay,
};

/// What there must be room for before a change is made that is recorded after it: a few events of authd's own.
const ROOM: usize = 16 * 1024;
/// Answers of one listing at most, in bytes: well below the 4 MiB that gRPC clients take.
const MAX_LIST_BYTES: usize = 3 * 1024 * 1024;
/// So long and so much is written before the next checkpoint: what the next start reads again, at most.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(1);
const CHECKPOINT_BYTES: usize = 8 * 1024 * 1024;

/// What is surely remembered in the store: everything before this place.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Checkpoint {
    file: String,
    offset: u64,
}

/// What to list.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) since: Option<SystemTime>,
    pub(crate) limit: usize,
    pub(crate) event: Option<String>,
}

type Spools = HashMap<SpoolId, u64>;

pub(super) struct Writer {
    directory: PathBuf,
    store: Arc<dyn Store>,
    clock: Clock,
    /// The last sequence of each spool that is on disk.
    spools: Spools,
    /// Of them, what the store does not know yet.
    news: Spools,
    news_bytes: usize,
    checkpointed: Option<Instant>,
    open: Option<(String, File)>,
    outbox: mpsc::UnboundedReceiver<Change>,
    /// What came out of it and is not in the trail yet, in the order of commits.
    owed: Vec<Owed>,
}

impl Writer {
    /// What a crash has left owed is in the trail then, or, where that cannot be written, goes before all else.
    pub(super) async fn open(
        directory: &Path,
        store: Arc<dyn Store>,
        clock: Clock,
    ) -> Result<Self, AuditError> {
        make_directory(directory).map_err(AuditError::File)?;
        let checkpoint: Option<store::Stored<Checkpoint>> =
            store::read(&*store, &checkpoint_key()).await.map_err(AuditError::Store)?;
        let mut spools = Spools::new();
        let kept = store.range(&[store::below(&["audit-spool"])]).await.map_err(AuditError::Store)?;
        for item in &kept.items {
            let sequence = store::decode::<u64>(item).map_err(AuditError::Store)?.value;
            if let Some(spool) = parse_spool_key(&item.key) {
                spools.insert(spool, sequence);
            }
        }
        let outbox = store.outbox();
        let mut owed = left_owed(&*store).await.map_err(AuditError::Store)?;
        let wanted = Wanted {
            uids: owed.iter().flat_map(Owed::uids).collect(),
            since: owed.iter().flat_map(Owed::times).min(),
        };
        let checkpoint = checkpoint.map(|stored| stored.value).unwrap_or_default();
        let there = recover(directory, &checkpoint, &mut spools, &wanted).map_err(AuditError::File)?;
        let told = owed.extract_if(.., |owed| !owed.leave_out(&there)).map(|owed| owed.key).collect();
        store.discard(told);
        let mut writer = Self {
            directory: directory.to_owned(),
            store,
            clock,
            spools,
            news: Spools::new(),
            news_bytes: 0,
            checkpointed: None,
            open: None,
            outbox,
            owed,
        };
        writer.settle();
        Ok(writer)
    }

    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Append>, runtime: &Handle, under_way: &UnderWay) {
        loop {
            let batch = under_way.take(&mut queue);
            if batch.is_empty() {
                return;
            }
            self.append(batch, runtime);
        }
    }

    /// Writes what a crash has left owed.
    fn settle(&mut self) {
        let text = self.owed_text();
        if text.is_empty() {
            return;
        }
        match self.write(&text) {
            Ok(_) => {
                tracing::info!(
                    changes = self.owed.len(),
                    "told the audit trail of changes before the last stop"
                );
                self.settled();
            }
            Err(error) => not_written(&AuditError::File(error)),
        }
    }

    /// Takes over what was committed since, and answers with the lines of all that is owed.
    fn owed_text(&mut self) -> Vec<u8> {
        while let Ok(Change { key, value, .. }) = self.outbox.try_recv() {
            let Some(value) = value else { continue };
            match Owed::read(key, &value) {
                Ok(owed) => self.owed.push(owed),
                Err(error) => not_written(&AuditError::Store(error)),
            }
        }
        let mut text = Vec::new();
        self.owed.iter().for_each(|owed| owed.write_to(&mut text));
        text
    }

    /// All that is owed is on disk. The store hears of it before the next checkpoint, which lies behind it.
    fn settled(&mut self) {
        if !self.owed.is_empty() {
            self.store.discard(self.owed.drain(..).map(|owed| owed.key).collect());
        }
    }

    fn append(&mut self, batch: Vec<Append>, runtime: &Handle) {
        let mut text = self.owed_text();
        let mut seen = Spools::new();
        for lines in batch.iter().map(|append| &append.lines) {
            let last = match lines.spool() {
                Some(spool) => {
                    let last =
                        seen.entry(spool).or_insert_with(|| self.spools.get(&spool).copied().unwrap_or(0));
                    std::mem::replace(last, lines.last().max(*last))
                }
                None => 0,
            };
            text.extend_from_slice(lines.after(last));
        }
        let written =
            if text.is_empty() { self.try_out().map(|()| None) } else { self.write(&text).map(Some) };
        match written {
            Ok(place) => {
                self.settled();
                batch.into_iter().for_each(|append| drop(append.done.send(Ok(()))));
                if let Some(place) = place {
                    self.remember(seen, text.len(), place, runtime);
                }
            }
            Err(error) => {
                not_written(&AuditError::File(error));
                // What reached the file is found again by position, should the sender repeat it.
                batch.into_iter().for_each(|append| drop(append.done.send(Err(AuditError::Closed))));
            }
        }
    }

    fn write(&mut self, text: &[u8]) -> Result<Checkpoint, io::Error> {
        let (name, mut file) = self.today()?;
        let before = file.seek(SeekFrom::End(0))?;
        let result = file.write_all(text).and_then(|()| file.sync_data());
        if let Err(error) = result {
            // Half a line must not be glued to the next one. The file is opened anew by the next batch.
            let _ = file.set_len(before);
            return Err(error);
        }
        self.open = Some((name.clone(), file));
        Ok(Checkpoint { file: name, offset: before + text.len() as u64 })
    }

    /// Finds out whether a line could be written, by writing and taking back what is none: no other answer counts for a full
    /// disk. A crash in between leaves spaces, which the next start cuts off as it does half a line.
    fn try_out(&mut self) -> Result<(), io::Error> {
        let (name, mut file) = self.today()?;
        let before = file.seek(SeekFrom::End(0))?;
        let result = file.write_all(&[b' '; ROOM]);
        file.set_len(before)?;
        result?;
        self.open = Some((name, file));
        Ok(())
    }

    /// The file of today. Whoever has written to it puts it back.
    fn today(&mut self) -> Result<(String, File), io::Error> {
        let name = file_name(self.clock.now());
        let file = match self.open.take() {
            Some((open, file)) if open == name => file,
            _ => open_append(&self.directory, &name)?,
        };
        Ok((name, file))
    }

    /// Sequences move once their lines are on disk. The store hears of it now and then: what it does not know, the next start
    /// reads from the file.
    fn remember(&mut self, seen: Spools, bytes: usize, place: Checkpoint, runtime: &Handle) {
        self.spools.extend(seen.iter().map(|(spool, sequence)| (*spool, *sequence)));
        self.news.extend(seen);
        self.news_bytes += bytes;
        let due = self.checkpointed.is_none_or(|at| at.elapsed() >= CHECKPOINT_AFTER);
        if !(due && !self.news.is_empty() || self.news_bytes >= CHECKPOINT_BYTES) {
            return;
        }
        match self.checkpoint(&place, runtime) {
            Ok(()) => {
                self.news.clear();
                (self.news_bytes, self.checkpointed) = (0, Some(Instant::now()));
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    error,
                    "how far the audit trail has come is not in the store; it is tried again"
                );
            }
        }
    }

    fn checkpoint(&self, place: &Checkpoint, runtime: &Handle) -> Result<(), AuditError> {
        let mut ops = vec![Op::put(checkpoint_key(), Condition::Any, place).map_err(AuditError::Store)?];
        for (SpoolId { sidecar, spool }, sequence) in &self.news {
            let key = store::key(&["audit-spool", &sidecar.to_string(), &spool.to_string()]);
            ops.push(Op::put(key, Condition::Any, sequence).map_err(AuditError::Store)?);
        }
        runtime.block_on(self.store.commit(ops)).map_err(AuditError::Store)?;
        Ok(())
    }
}

fn not_written(error: &AuditError) {
    tracing::error!(error = error as &dyn std::error::Error, "the audit trail is not written");
}

/// What the last process made and has not told the store that it told, in the order of commits.
async fn left_owed(store: &dyn Store) -> Result<Vec<Owed>, store::StoreError> {
    let mut items = store.range(&[keys::OUTBOX.to_owned()]).await?.items;
    items.sort_by_key(|item| item.revision);
    items.into_iter().map(|item| Owed::read(item.key, &item.value)).collect()
}

/// Events of authd's own that may be in the trail.
struct Wanted<'a> {
    uids: HashSet<&'a str>,
    /// When the first of them was made.
    since: Option<SystemTime>,
}

/// Reads what was written after the checkpoint, and cuts off a last line that a crash left unfinished. Nobody was told
/// that such a line is there. Answers with those of the wanted events of authd's own that are there. All of it is on disk
/// then: a process that was killed may have left lines that a power cut would still take, and both sidecars and the store
/// let go of what is here.
fn recover(
    directory: &Path,
    checkpoint: &Checkpoint,
    spools: &mut Spools,
    wanted: &Wanted<'_>,
) -> Result<HashSet<String>, io::Error> {
    let mut there = HashSet::new();
    // A clock that has gone back over midnight has had them written to the file of a day before the checkpoint's.
    let first =
        wanted.since.map(file_name).map_or(checkpoint.file.clone(), |day| day.min(checkpoint.file.clone()));
    for name in file_names(directory)?.into_iter().filter(|name| *name >= first) {
        let path = directory.join(&name);
        let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
        let start = if name == checkpoint.file { checkpoint.offset } else { 0 };
        file.seek(SeekFrom::Start(start))?;
        let mut reader = BufReader::new(&file);
        let mut good_until = start;
        let mut is_whole = true;
        let mut line = Vec::new();
        loop {
            line.clear();
            // However long it is: it is a line that we wrote, and nothing may be cut off that somebody was told is there.
            let length = reader.read_until(b'\n', &mut line)?;
            let event = line.strip_suffix(b"\n").map(serde_json::from_slice::<Map<String, Value>>);
            match event {
                Some(Ok(event)) => {
                    if is_whole {
                        recover_position(&event, spools);
                    }
                    // A sidecar may say what it likes in the fields of its own.
                    let uid = uid_of(&event)
                        .filter(|uid| !event.contains_key(SPOOL_FIELD) && wanted.uids.contains(uid));
                    there.extend(uid.map(str::to_owned));
                }
                // A whole line that is no event: left by hand, by a damaged disk, or by a power cut that took what lay before
                // others of one write. Kept, and skipped in listings. The last may have been lines that their sidecar will
                // send again, with those that follow here: those are then there twice, rather than these not at all.
                Some(Err(_)) => {
                    is_whole = false;
                    tracing::warn!(file = %path.display(), "a line of the audit trail is damaged")
                }
                None => break,
            }
            good_until += length as u64;
        }
        if !line.is_empty() {
            tracing::warn!(file = %path.display(), bytes = line.len(), "cut off an unfinished line");
            file.set_len(good_until)?;
        }
        file.sync_all()?;
    }
    File::open(directory)?.sync_all()?;
    Ok(there)
}

fn recover_position(event: &Map<String, Value>, spools: &mut Spools) {
    let text = |field: &str| event.get(field).and_then(Value::as_str);
    let position = text(SPOOL_FIELD).and_then(|place| {
        let (spool, sequence) = place.split_once('/')?;
        let sidecar = text(SIDECAR_FIELD)?;
        let spool = SpoolId { sidecar: sidecar.parse().ok()?, spool: spool.parse().ok()? };
        Some((spool, sequence.parse::<u64>().ok()?))
    });
    if let Some((spool, sequence)) = position {
        let last = spools.entry(spool).or_default();
        *last = sequence.max(*last);
    }
}

pub(super) fn list(directory: &Path, query: &Query) -> Result<Vec<String>, io::Error> {
    let first = query.since.map(file_name).unwrap_or_default();
    let mut found = VecDeque::new();
    let mut bytes = 0;
    for name in file_names(directory)?.into_iter().filter(|name| *name >= first) {
        for line in BufReader::new(File::open(directory.join(name))?).split(b'\n') {
            let Some(line) = matching(line?, query) else { continue };
            bytes += line.len();
            found.push_back(line);
            while found.len() > query.limit || bytes > MAX_LIST_BYTES {
                bytes -= found.pop_front().map_or(bytes, |gone: String| gone.len());
            }
        }
    }
    Ok(found.into())
}

fn matching(line: Vec<u8>, query: &Query) -> Option<String> {
    #[derive(Deserialize)]
    struct Head<'a> {
        // A text with an escape in it cannot be borrowed; its event must be found all the same.
        #[serde(borrow)]
        event: Cow<'a, str>,
        #[serde(borrow)]
        time: Cow<'a, str>,
    }
    let line = String::from_utf8(line).ok()?;
    let head: Head<'_> = serde_json::from_str(&line).ok()?;
    let named = query.event.as_ref().is_none_or(|event| *event == head.event);
    let recent = query.since.is_none_or(|since| parse_rfc3339(&head.time).is_some_and(|at| at >= since));
    (named && recent).then_some(line)
}

fn checkpoint_key() -> String {
    store::key(&["audit-checkpoint"])
}

fn parse_spool_key(key: &str) -> Option<SpoolId> {
    let (sidecar, spool) = key.strip_prefix("audit-spool/")?.split_once('/')?;
    Some(SpoolId { sidecar: sidecar.parse().ok()?, spool: spool.parse().ok()? })
}

/// `<YYYY-MM-DD>.log`, UTC.
fn file_name(at: SystemTime) -> String {
    let day: String = rfc3339(at).chars().take(10).collect();
    format!("{day}.log")
}

/// In the order of days.
fn file_names(directory: &Path) -> Result<BTreeSet<String>, io::Error> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        if let Some(name) = name.to_str().filter(|name| name.ends_with(".log")) {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

/// In the data directory, in which its own name must survive a power cut, too.
fn make_directory(directory: &Path) -> Result<(), io::Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    directory.parent().map_or(Ok(()), |data| File::open(data)?.sync_all())
}

fn open_append(directory: &Path, name: &str) -> Result<File, io::Error> {
    let path = directory.join(name);
    let is_new = !path.exists();
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    if is_new {
        // The new name itself must survive a power cut.
        File::open(directory)?.sync_all()?;
    }
    Ok(file)
}
