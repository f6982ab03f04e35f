//! The embedded store: one SQLite file in WAL mode.
//!
//! One thread owns the writing connection. It takes what has queued up, and what is on its way ([`UnderWay`]), commits it in one
//! transaction (`synchronous = FULL`: the answer means that it is on disk), then tells watchers, so their order is the order of
//! commits. Reads see a consistent moment. What every call asks for is read from [`Memory`]; other ranges, which may be long, by a thread of their
//! own, and other single items at once, where they are asked for. [`Fleeting`] items never come here: they are in memory alone, and
//! the writing thread sees to commits that hold both.

mod writer;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use auth::clock::Clock;
use futures_util::future::BoxFuture;
use rusqlite::{Connection, OptionalExtension, Row, params};
use tokio::sync::{broadcast, mpsc, oneshot};

use self::writer::{Command, Writer};
use super::{
    Change, Item, Op, Range, Store, StoreError,
    fleeting::Fleeting,
    memory::{AskDatabase, Memory},
    outbox::Outbox,
};
use crate::{keys, under_way::UnderWay};

/// Commits that may wait for the writer; more make their callers wait.
const QUEUE: usize = 256;
/// Changes that a watcher may lag behind before it must read everything again.
const WATCH_BACKLOG: usize = 4096;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS items (
        key      TEXT PRIMARY KEY,
        value    BLOB NOT NULL,
        expires  INTEGER,
        revision INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS items_by_expiry ON items (expires) WHERE expires IS NOT NULL;
    CREATE TABLE IF NOT EXISTS revision (only INTEGER PRIMARY KEY CHECK (only = 1), value INTEGER NOT NULL);
    INSERT OR IGNORE INTO revision VALUES (1, 0);
";

/// The store in one file.
pub struct Sqlite {
    commands: mpsc::Sender<Command>,
    /// For ranges.
    reader: Arc<Mutex<Connection>>,
    /// For single items: never held for long.
    points: Mutex<Connection>,
    memory: Arc<Memory>,
    fleeting: Arc<Fleeting>,
    outbox: Arc<Outbox>,
    changes: broadcast::Sender<Change>,
    clock: Clock,
    under_way: UnderWay,
}

impl Sqlite {
    /// Opens the file, making it if needed. The caller sees to the permissions of its directory.
    ///
    /// # Errors
    /// [`StoreError::NoRoom`], [`StoreError::Database`].
    pub fn open(path: &Path, clock: Clock) -> Result<Self, StoreError> {
        Self::open_for(UnderWay::default(), path, clock)
    }

    /// The same; its writer waits for these calls.
    pub(crate) fn open_for(under_way: UnderWay, path: &Path, clock: Clock) -> Result<Self, StoreError> {
        let made = || {
            let writer = connect(path)?;
            writer.execute_batch(SCHEMA)?;
            Ok((writer, connect(path)?, connect(path)?))
        };
        let (writer, reader, points) = made().map_err(not_opened)?;
        let (commands, queue) = mpsc::channel(QUEUE);
        let (changes, _) = broadcast::channel(WATCH_BACKLOG);
        let memory = Arc::new(Memory::new(&keys::ASKED_OFTEN));
        let fleeting = Arc::new(Fleeting::new(&keys::FLEETING));
        let outbox = Arc::new(Outbox::new(keys::OUTBOX));
        let copies = (Arc::clone(&memory), Arc::clone(&fleeting), Arc::clone(&outbox));
        let thread = Writer::new(writer, changes.clone(), clock.clone(), copies)?;
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn({
                let under_way = under_way.clone();
                move || thread.run(queue, &under_way)
            })
            .map_err(|_| StoreError::Closed)?;
        Ok(Self {
            commands,
            reader: Arc::new(Mutex::new(reader)),
            points: Mutex::new(points),
            memory,
            fleeting,
            outbox,
            changes,
            clock,
            under_way,
        })
    }

    async fn write(&self, ops: Vec<Op>) -> Result<u64, StoreError> {
        if !ops.is_empty() && ops.iter().all(|op| self.fleeting.covers(&op.key)) {
            return match self.fleeting.commit(&ops, self.clock.now()) {
                Ok(replaced) => Ok(replaced.revision),
                Err(op) => Err(StoreError::Conflict { key: op.key.clone() }),
            };
        }
        let (done, answer) = oneshot::channel();
        let place = self.commands.reserve().await.map_err(|_| StoreError::Closed)?;
        self.under_way.waits(|waiting| place.send(Command::Commit { ops, done, waiting }));
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Removes what has expired; called every [`super::SWEEP_INTERVAL`].
    pub async fn sweep(&self) {
        // Nothing to do where the writer is gone: every commit will say so.
        let _ = self.commands.send(Command::Sweep).await;
    }

    fn reading<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let reader = Arc::clone(&self.reader);
        Box::pin(async move {
            let task = tokio::task::spawn_blocking(move || {
                read(&mut reader.lock().unwrap_or_else(PoisonError::into_inner))
            });
            task.await.map_err(|_| StoreError::Closed)?
        })
    }
}

impl Store for Sqlite {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Item>, StoreError>> {
        Box::pin(async move {
            let now = self.clock.now();
            if self.fleeting.covers(key) {
                return Ok(self.fleeting.get(key, now));
            }
            if let Ok(item) = self.memory.get(key, now) {
                return Ok(item);
            }
            let points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(live_item(&points, key, millis(now))?)
        })
    }

    fn range<'a>(&'a self, prefixes: &'a [String]) -> BoxFuture<'a, Result<Range, StoreError>> {
        let now = self.clock.now();
        let (fleeting, lasting): (Vec<_>, Vec<_>) =
            prefixes.iter().cloned().partition(|prefix| self.fleeting.covers(prefix));
        let fleeting = fleeting.iter().flat_map(|prefix| self.fleeting.range(prefix, now)).collect();
        let with_fleeting = |mut range: Range, mut fleeting: Vec<Item>| {
            range.items.append(&mut fleeting);
            range
        };
        match self.memory.range(&lasting, now) {
            Ok(range) => Box::pin(std::future::ready(Ok(with_fleeting(range, fleeting)))),
            Err(AskDatabase) => self.reading(move |connection| {
                Ok(with_fleeting(read_range(connection, &lasting, Some(millis(now)))?, fleeting))
            }),
        }
    }

    fn commit(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.write(ops))
    }

    fn watch(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    fn outbox(&self) -> mpsc::UnboundedReceiver<Change> {
        self.outbox.receiver()
    }

    fn discard(&self, keys: Vec<String>) {
        self.outbox.discard(keys);
    }
}

/// Of a file that has all its tables, opening writes nothing but the index of its journal, which is made anew by whoever comes
/// first (sqlite.org/walformat.html, "The WAL-Index File Format"): on a full disk it cannot be, and SQLite calls that an error of
/// input or output.
fn not_opened(error: rusqlite::Error) -> StoreError {
    let code = error.sqlite_error().map(|error| (error.code, error.extended_code));
    match code {
        Some((rusqlite::ErrorCode::DiskFull, _) | (_, rusqlite::ffi::SQLITE_IOERR_SHMSIZE)) => {
            StoreError::NoRoom(error)
        }
        _ => error.into(),
    }
}

fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

fn current_revision(connection: &Connection) -> Result<u64, rusqlite::Error> {
    let mut select = connection.prepare_cached("SELECT value FROM revision")?;
    let revision: i64 = select.query_row([], |row| row.get(0))?;
    Ok(revision.unsigned_abs())
}

fn live_item(connection: &Connection, key: &str, now: i64) -> Result<Option<Item>, rusqlite::Error> {
    connection
        .prepare_cached(
            "SELECT key, value, expires, revision FROM items
             WHERE key = ?1 AND (expires IS NULL OR expires > ?2)",
        )?
        .query_row(params![key, now], read_item)
        .optional()
}

/// What lies under these at one moment; with a time, what has not expired by then.
fn read_range(
    connection: &mut Connection,
    prefixes: &[String],
    now: Option<i64>,
) -> Result<Range, rusqlite::Error> {
    let transaction = connection.transaction()?;
    let revision = current_revision(&transaction)?;
    let mut items = Vec::new();
    {
        let mut select = transaction.prepare_cached(
            "SELECT key, value, expires, revision FROM items
             WHERE key >= ?1 AND substr(key, 1, length(?1)) = ?1 AND key < ?2
               AND (expires IS NULL OR ?3 IS NULL OR expires > ?3) ORDER BY key",
        )?;
        for prefix in prefixes {
            // U+10FFFF sorts after every key of the prefix (UTF-8 byte order).
            let end = format!("{prefix}\u{10FFFF}");
            for item in select.query_map(params![prefix, end, now], read_item)? {
                items.push(item?);
            }
        }
    }
    Ok(Range { items, revision })
}

fn read_item(row: &Row<'_>) -> Result<Item, rusqlite::Error> {
    let expires: Option<i64> = row.get(2)?;
    let revision: i64 = row.get(3)?;
    Ok(Item {
        key: row.get(0)?,
        value: row.get(1)?,
        expires: expires.map(from_millis),
        revision: revision.unsigned_abs(),
    })
}

/// Milliseconds since 1970: the unit of the file.
fn millis(at: SystemTime) -> i64 {
    auth::clock::unix_millis(at)
}

fn from_millis(at: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(at.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn a_full_disk_is_called_one_when_the_store_is_opened() {
        let opened = |code| not_opened(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        for code in [ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_FULL] {
            assert!(opened(code).to_string().starts_with("the disk is full"), "{code}");
        }
        for code in [ffi::SQLITE_IOERR_READ, ffi::SQLITE_CORRUPT, ffi::SQLITE_CANTOPEN] {
            assert!(matches!(opened(code), StoreError::Database(_)), "{code}");
        }
    }
}
