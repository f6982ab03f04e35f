//! The embedded store: one SQLite file in WAL mode.
//!
//! One thread owns the writing connection. It takes what has queued up, commits it in one transaction (`synchronous =
//! FULL`: the answer means that it is on disk), then tells watchers, so their order is the order of commits. Reads see a
//! consistent moment. Ranges, which may be long, are read by a thread of their own; single items at once, where they are
//! asked for: a session certificate takes some twenty of them, each of a few microseconds, and two changes of threads would
//! cost more.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use auth::clock::Clock;
use futures_util::future::BoxFuture;
use rusqlite::{Connection, OptionalExtension, Row, params};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::{Action, Change, Condition, Item, Op, Range, Store, StoreError};

/// Commits that share one transaction (and one fsync) at most.
const BATCH: usize = 64;
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

enum Command {
    Commit { ops: Vec<Op>, done: oneshot::Sender<Result<u64, StoreError>> },
    Sweep,
}

/// The store in one file.
pub struct Sqlite {
    commands: mpsc::Sender<Command>,
    /// For ranges.
    reader: Arc<Mutex<Connection>>,
    /// For single items: never held for long.
    points: Mutex<Connection>,
    changes: broadcast::Sender<Change>,
    clock: Clock,
}

impl Sqlite {
    /// Opens the file, making it if needed. The caller sees to the permissions of its directory.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn open(path: &Path, clock: Clock) -> Result<Self, StoreError> {
        let writer = connect(path)?;
        writer.execute_batch(SCHEMA)?;
        let (reader, points) = (connect(path)?, connect(path)?);
        let (commands, queue) = mpsc::channel(QUEUE);
        let (changes, _) = broadcast::channel(WATCH_BACKLOG);
        let thread = Writer { connection: writer, changes: changes.clone(), clock: clock.clone() };
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || thread.run(queue))
            .map_err(|_| StoreError::Closed)?;
        Ok(Self {
            commands,
            reader: Arc::new(Mutex::new(reader)),
            points: Mutex::new(points),
            changes,
            clock,
        })
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
            let points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(live_item(&points, key, millis(self.clock.now()))?)
        })
    }

    fn range<'a>(&'a self, prefixes: &'a [String]) -> BoxFuture<'a, Result<Range, StoreError>> {
        let (prefixes, now) = (prefixes.to_vec(), millis(self.clock.now()));
        self.reading(move |connection| {
            let transaction = connection.transaction()?;
            let revision = current_revision(&transaction)?;
            let mut items = Vec::new();
            {
                let mut select = transaction.prepare_cached(
                    "SELECT key, value, expires, revision FROM items
                     WHERE key >= ?1 AND substr(key, 1, length(?1)) = ?1 AND key < ?2
                       AND (expires IS NULL OR expires > ?3) ORDER BY key",
                )?;
                for prefix in &prefixes {
                    // U+10FFFF sorts after every key of the prefix (UTF-8 byte order).
                    let end = format!("{prefix}\u{10FFFF}");
                    for item in select.query_map(params![prefix, end, now], read_item)? {
                        items.push(item?);
                    }
                }
            }
            Ok(Range { items, revision })
        })
    }

    fn commit(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let (done, answer) = oneshot::channel();
            self.commands.send(Command::Commit { ops, done }).await.map_err(|_| StoreError::Closed)?;
            answer.await.map_err(|_| StoreError::Closed)?
        })
    }

    fn watch(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}

struct Writer {
    connection: Connection,
    changes: broadcast::Sender<Change>,
    clock: Clock,
}

/// What a commit of the batch came to, before the transaction as a whole is on disk.
struct Applied {
    done: oneshot::Sender<Result<u64, StoreError>>,
    result: Result<u64, StoreError>,
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        while let Some(first) = queue.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH {
                match queue.try_recv() {
                    Ok(next) => batch.push(next),
                    Err(_) => break,
                }
            }
            self.write(batch);
        }
    }

    /// All commits of the batch in one transaction; each in a savepoint, so that one that fails takes no other along.
    fn write(&mut self, batch: Vec<Command>) {
        let now = millis(self.clock.now());
        let mut applied = Vec::with_capacity(batch.len());
        let mut changes = Vec::new();
        let outcome = self.connection.transaction().and_then(|mut transaction| {
            for command in batch {
                match command {
                    Command::Commit { ops, done } => {
                        let result = apply(&mut transaction, &ops, now, &mut changes);
                        applied.push(Applied { done, result });
                    }
                    Command::Sweep => sweep(&transaction, now, &mut changes)?,
                }
            }
            transaction.commit()
        });
        match outcome {
            Ok(()) => {
                // No watcher is fine.
                changes.into_iter().for_each(|change| drop(self.changes.send(change)));
                applied.into_iter().for_each(|commit| drop(commit.done.send(commit.result)));
            }
            Err(error) => {
                tracing::error!(%error, "the database did not commit");
                for commit in applied {
                    let told = commit.result.and(Err(StoreError::NotCommitted));
                    drop(commit.done.send(told));
                }
            }
        }
    }
}

fn apply(
    transaction: &mut rusqlite::Transaction<'_>,
    ops: &[Op],
    now: i64,
    changes: &mut Vec<Change>,
) -> Result<u64, StoreError> {
    let savepoint = transaction.savepoint()?;
    for op in ops {
        check(&savepoint, op, now)?;
    }
    let revision = next_revision(&savepoint)?;
    let mut mine = Vec::new();
    for op in ops {
        match &op.action {
            Action::Check => continue,
            Action::Put { value, expires } => {
                savepoint
                    .prepare_cached("INSERT OR REPLACE INTO items VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![op.key, value, expires.map(millis), revision])?;
                mine.push(change(&op.key, Some(value), revision));
            }
            Action::Delete => {
                let gone =
                    savepoint.prepare_cached("DELETE FROM items WHERE key = ?1")?.execute([&op.key])?;
                if gone > 0 {
                    mine.push(change(&op.key, None, revision));
                }
            }
        }
    }
    savepoint.commit()?;
    changes.append(&mut mine);
    Ok(revision.unsigned_abs())
}

fn check(connection: &Connection, op: &Op, now: i64) -> Result<(), StoreError> {
    if op.condition == Condition::Any {
        return Ok(());
    }
    let there = live_item(connection, &op.key, now)?;
    let holds = match (op.condition, &there) {
        (Condition::Any, _) | (Condition::Absent, None) | (Condition::Present, Some(_)) => true,
        (Condition::Revision(wanted), Some(item)) => item.revision == wanted,
        (Condition::Absent, Some(_)) | (Condition::Present | Condition::Revision(_), None) => false,
    };
    if holds { Ok(()) } else { Err(StoreError::Conflict { key: op.key.clone() }) }
}

fn sweep(connection: &Connection, now: i64, changes: &mut Vec<Change>) -> Result<(), rusqlite::Error> {
    let mut delete = connection.prepare_cached("DELETE FROM items WHERE expires <= ?1 RETURNING key")?;
    let gone: Vec<String> = delete.query_map([now], |row| row.get(0))?.collect::<Result<_, _>>()?;
    if !gone.is_empty() {
        let revision = next_revision(connection)?;
        changes.extend(gone.iter().map(|key| change(key, None, revision)));
    }
    Ok(())
}

fn change(key: &str, value: Option<&Vec<u8>>, revision: i64) -> Change {
    Change {
        key: key.to_owned(),
        value: value.map(|value| Arc::from(value.as_slice())),
        revision: revision.unsigned_abs(),
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
    let revision: i64 = connection.query_row("SELECT value FROM revision", [], |row| row.get(0))?;
    Ok(revision.unsigned_abs())
}

fn next_revision(connection: &Connection) -> Result<i64, rusqlite::Error> {
    connection
        .prepare_cached("UPDATE revision SET value = value + 1 RETURNING value")?
        .query_row([], |row| row.get(0))
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

fn read_item(row: &Row<'_>) -> Result<Item, rusqlite::Error> {
    let expires: Option<i64> = row.get(2)?;
    let revision: i64 = row.get(3)?;
    Ok(Item {
        key: row.get(0)?,
        value: row.get(1)?,
        expires: expires.map(|at| SystemTime::UNIX_EPOCH + Duration::from_millis(at.unsigned_abs())),
        revision: revision.unsigned_abs(),
    })
}

/// Milliseconds since 1970: the unit of the file.
fn millis(at: SystemTime) -> i64 {
    auth::clock::unix_millis(at)
}
