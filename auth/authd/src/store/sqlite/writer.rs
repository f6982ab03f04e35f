//! The thread that writes: one transaction for whatever has queued up.

use std::{sync::Arc, time::SystemTime};

use auth::clock::Clock;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::{current_revision, from_millis, millis, read_range};
use crate::store::{Action, Change, Condition, Op, StoreError, memory::Memory};

/// Commits that share one transaction (and one fsync) at most.
const BATCH: usize = 64;

pub(super) enum Command {
    Commit { ops: Vec<Op>, endurance: Endurance, done: oneshot::Sender<Result<u64, StoreError>> },
    Sweep,
}

/// What a commit that was answered survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endurance {
    /// The end of this process.
    Crash,
    /// That of the machine.
    PowerCut,
}

impl Endurance {
    /// SQLite's word. In WAL mode `NORMAL` differs from `FULL` in nothing but that a commit does not sync the log; the next
    /// one that does takes it along, and no file is ever damaged.
    pub(super) fn synchronous(self) -> &'static str {
        match self {
            Self::Crash => "NORMAL",
            Self::PowerCut => "FULL",
        }
    }
}

pub(super) struct Writer {
    connection: Connection,
    changes: broadcast::Sender<Change>,
    clock: Clock,
    memory: Arc<Memory>,
    /// What the connection's commits survive now.
    endurance: Endurance,
    /// Changes when another process has written the file.
    seen: Option<i64>,
}

impl Writer {
    /// With a connection that was just opened.
    pub(super) fn new(
        connection: Connection,
        changes: broadcast::Sender<Change>,
        clock: Clock,
        memory: Arc<Memory>,
    ) -> Result<Self, StoreError> {
        let (endurance, seen) = (Endurance::PowerCut, None);
        let mut writer = Self { connection, changes, clock, memory, endurance, seen };
        writer.remember(true)?;
        Ok(writer)
    }

    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let mut batch = Vec::new();
        while queue.blocking_recv_many(&mut batch, BATCH) > 0 {
            self.write(std::mem::take(&mut batch));
        }
    }

    /// All commits of the batch in one transaction. One whose conditions do not hold changes nothing and takes no other along;
    /// where the database itself fails, all of them fail.
    fn write(&mut self, batch: Vec<Command>) {
        let sweeps = batch.iter().any(|command| matches!(command, Command::Sweep));
        if let Err(error) = self.remember(sweeps) {
            self.memory.forget();
            tracing::warn!(error = &error as &dyn std::error::Error, "the store is not in memory");
        }
        let mut changes = Vec::new();
        match self.transact(&batch, &mut changes) {
            Ok(results) => {
                self.memory.follow(&changes);
                // No watcher is fine.
                changes.into_iter().for_each(|change| drop(self.changes.send(change)));
                batch.into_iter().zip(results).for_each(|(command, result)| command.answer(result));
            }
            Err(error) => {
                tracing::error!(%error, "the database did not commit");
                self.memory.forget();
                batch.into_iter().for_each(|command| command.answer(Err(StoreError::NotCommitted)));
            }
        }
    }

    fn transact(
        &mut self,
        batch: &[Command],
        changes: &mut Vec<Change>,
    ) -> Result<Vec<Result<u64, StoreError>>, rusqlite::Error> {
        self.endure(batch)?;
        self.execute("BEGIN IMMEDIATE")?;
        let outcome = self.apply_all(batch, changes).and_then(|results| {
            self.execute("COMMIT")?;
            Ok(results)
        });
        if outcome.is_err() && !self.connection.is_autocommit() {
            // Where even this fails, so does every later transaction.
            let _ = self.execute("ROLLBACK");
        }
        outcome
    }

    fn execute(&self, statement: &str) -> Result<(), rusqlite::Error> {
        self.connection.prepare_cached(statement)?.execute([]).map(drop)
    }

    fn apply_all(
        &self,
        batch: &[Command],
        changes: &mut Vec<Change>,
    ) -> Result<Vec<Result<u64, StoreError>>, rusqlite::Error> {
        let now = millis(self.clock.now());
        let before = current_revision(&self.connection)?;
        let mut revision = before;
        let mut results = Vec::with_capacity(batch.len());
        for command in batch {
            let result = match command {
                Command::Commit { ops, .. } => match conflict(&self.connection, ops, now)? {
                    None => {
                        revision += 1;
                        apply(&self.connection, ops, revision, changes)?;
                        Ok(revision)
                    }
                    Some(op) => Err(StoreError::Conflict { key: op.key.clone() }),
                },
                Command::Sweep => {
                    revision += u64::from(sweep(&self.connection, now, revision + 1, changes)?);
                    Ok(revision)
                }
            };
            results.push(result);
        }
        if revision > before {
            let mut update = self.connection.prepare_cached("UPDATE revision SET value = ?1")?;
            update.execute([revision.cast_signed()])?;
        }
        Ok(results)
    }

    /// Sees to it that the next transaction survives whatever one of its commits must.
    fn endure(&mut self, batch: &[Command]) -> Result<(), rusqlite::Error> {
        let fleeting = |command: &Command| match command {
            Command::Commit { endurance, .. } => *endurance == Endurance::Crash,
            // What has expired is never seen, swept or not.
            Command::Sweep => true,
        };
        let wanted = if batch.iter().all(fleeting) { Endurance::Crash } else { Endurance::PowerCut };
        if wanted != self.endurance {
            self.connection.pragma_update(None, "synchronous", wanted.synchronous())?;
            self.endurance = wanted;
        }
        Ok(())
    }

    /// Reads what is to be in memory, where it is not: at the start, and after a failure. A sweep looks whether somebody else
    /// wrote the file, too, which nobody should.
    fn remember(&mut self, look: bool) -> Result<(), StoreError> {
        if !look && !self.memory.is_forgotten() {
            return Ok(());
        }
        let version =
            self.connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if self.seen.replace(version) != Some(version) || self.memory.is_forgotten() {
            self.memory.forget();
            // Those that have expired too: the sweep will tell when they go.
            self.memory.fill(read_range(&mut self.connection, &self.memory.paths(), None)?);
        }
        Ok(())
    }
}

impl Command {
    /// Whoever asked may be gone.
    fn answer(self, result: Result<u64, StoreError>) {
        if let Self::Commit { done, .. } = self {
            let _ = done.send(result);
        }
    }
}

/// Does these, whose conditions hold.
fn apply(
    connection: &Connection,
    ops: &[Op],
    revision: u64,
    changes: &mut Vec<Change>,
) -> Result<(), rusqlite::Error> {
    for op in ops {
        match &op.action {
            Action::Check => {}
            Action::Put { value, expires } => {
                connection
                    .prepare_cached("INSERT OR REPLACE INTO items VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![op.key, value, expires.map(millis), revision.cast_signed()])?;
                changes.push(change(&op.key, Some(value), *expires, revision));
            }
            Action::Delete => {
                let gone =
                    connection.prepare_cached("DELETE FROM items WHERE key = ?1")?.execute([&op.key])?;
                if gone > 0 {
                    changes.push(change(&op.key, None, None, revision));
                }
            }
        }
    }
    Ok(())
}

/// The first whose condition does not hold. Nothing was changed by then.
fn conflict<'a>(connection: &Connection, ops: &'a [Op], now: i64) -> Result<Option<&'a Op>, rusqlite::Error> {
    for op in ops.iter().filter(|op| op.condition != Condition::Any) {
        let there = live_revision(connection, &op.key, now)?;
        let holds = match op.condition {
            Condition::Any => true,
            Condition::Absent => there.is_none(),
            Condition::Present => there.is_some(),
            Condition::Revision(wanted) => there == Some(wanted),
        };
        if !holds {
            return Ok(Some(op));
        }
    }
    Ok(None)
}

/// Removes what has expired; answers with whether there was anything.
fn sweep(
    connection: &Connection,
    now: i64,
    revision: u64,
    changes: &mut Vec<Change>,
) -> Result<bool, rusqlite::Error> {
    let mut delete = connection.prepare_cached("DELETE FROM items WHERE expires <= ?1 RETURNING key")?;
    let gone: Vec<String> = delete.query_map([now], |row| row.get(0))?.collect::<Result<_, _>>()?;
    changes.extend(gone.iter().map(|key| change(key, None, None, revision)));
    Ok(!gone.is_empty())
}

fn change(key: &str, value: Option<&Vec<u8>>, expires: Option<SystemTime>, revision: u64) -> Change {
    Change {
        key: key.to_owned(),
        value: value.map(|value| Arc::from(value.as_slice())),
        // To the millisecond, as it is stored.
        expires: expires.map(|at| from_millis(millis(at))),
        revision,
    }
}

fn live_revision(connection: &Connection, key: &str, now: i64) -> Result<Option<u64>, rusqlite::Error> {
    let mut select = connection
        .prepare_cached("SELECT revision FROM items WHERE key = ?1 AND (expires IS NULL OR expires > ?2)")?;
    let revision: Option<i64> = select.query_row(params![key, now], |row| row.get(0)).optional()?;
    Ok(revision.map(i64::unsigned_abs))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::Sqlite;

    /// A writer whose connection the test can ask, beside a store that made the file.
    fn writer() -> (Writer, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let (clock, _) = Clock::fixed(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
        drop(Sqlite::open(&path, clock.clone()).unwrap());
        let connection = super::super::connect(&path).unwrap();
        let (changes, _) = broadcast::channel(8);
        (Writer::new(connection, changes, clock, Arc::new(Memory::new(&["a/"]))).unwrap(), directory)
    }

    fn commit(endurance: Endurance) -> (Command, oneshot::Receiver<Result<u64, StoreError>>) {
        let (done, answer) = oneshot::channel();
        let op = Op::put("a/1".to_owned(), Condition::Any, &1).unwrap();
        (Command::Commit { ops: vec![op], endurance, done }, answer)
    }

    fn synchronous(writer: &Writer) -> i64 {
        writer.connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap()
    }

    const NORMAL: i64 = 1;
    const FULL: i64 = 2;

    #[test]
    fn whatever_shares_a_transaction_with_a_commit_that_must_endure_is_synced() {
        let (mut writer, _directory) = writer();
        use Endurance::{Crash, PowerCut};
        for (batch, expected) in [
            (vec![PowerCut], FULL),
            (vec![Crash], NORMAL),
            (vec![Crash, PowerCut, Crash], FULL),
            (vec![Crash, Crash], NORMAL),
            (vec![PowerCut], FULL),
        ] {
            let (commands, answers): (Vec<_>, Vec<_>) = batch.iter().map(|each| commit(*each)).unzip();
            writer.write(commands);
            assert_eq!(synchronous(&writer), expected, "{batch:?}");
            for mut answer in answers {
                answer.try_recv().unwrap().unwrap();
            }
        }
    }

    #[test]
    fn where_the_database_fails_nobody_is_told_otherwise_and_memory_is_not_trusted() {
        let (mut writer, _directory) = writer();
        writer.connection.pragma_update(None, "query_only", true).unwrap();
        let (command, mut answer) = commit(Endurance::PowerCut);
        writer.write(vec![command]);
        assert!(matches!(answer.try_recv().unwrap(), Err(StoreError::NotCommitted)));
        assert!(writer.memory.is_forgotten());
        assert!(writer.connection.is_autocommit(), "rolled back");
        writer.connection.pragma_update(None, "query_only", false).unwrap();
        let (command, mut answer) = commit(Endurance::PowerCut);
        writer.write(vec![command]);
        answer.try_recv().unwrap().unwrap();
        assert!(writer.memory.get("a/1", SystemTime::UNIX_EPOCH).unwrap().is_some());
    }
}
