//! The thread that writes: one transaction for whatever has queued up or is on its way.

use std::{sync::Arc, time::SystemTime};

use auth::clock::Clock;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::{current_revision, from_millis, millis, read_range};
use crate::{
    store::{
        Action, Change, Condition, Op, StoreError,
        fleeting::{Fleeting, Replaced},
        memory::Memory,
        outbox::Outbox,
    },
    under_way::{UnderWay, Waiting},
};

pub(super) enum Command {
    Commit { ops: Vec<Op>, done: oneshot::Sender<Result<u64, StoreError>>, waiting: Waiting },
    Sweep,
}

pub(super) struct Writer {
    connection: Connection,
    changes: broadcast::Sender<Change>,
    clock: Clock,
    memory: Arc<Memory>,
    fleeting: Arc<Fleeting>,
    outbox: Arc<Outbox>,
    /// Changes when another process has written the file.
    seen: Option<i64>,
}

impl Writer {
    /// With a connection that was just opened.
    pub(super) fn new(
        connection: Connection,
        changes: broadcast::Sender<Change>,
        clock: Clock,
        (memory, fleeting, outbox): (Arc<Memory>, Arc<Fleeting>, Arc<Outbox>),
    ) -> Result<Self, StoreError> {
        let mut writer = Self { connection, changes, clock, memory, fleeting, outbox, seen: None };
        writer.remember(true)?;
        Ok(writer)
    }

    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Command>, under_way: &UnderWay) {
        loop {
            let batch = under_way.take(&mut queue);
            if batch.is_empty() {
                return;
            }
            self.write(batch);
        }
    }

    /// All commits of the batch in one transaction. One whose conditions do not hold changes nothing and takes no other along;
    /// where the database itself fails, all of them fail, and what they hold of fleeting items is undone.
    fn write(&mut self, batch: Vec<Command>) {
        let sweeps = batch.iter().any(|command| matches!(command, Command::Sweep));
        if let Err(error) = self.remember(sweeps) {
            self.memory.forget();
            tracing::warn!(error = &error as &dyn std::error::Error, "the store is not in memory");
        }
        let (mut changes, mut replaced, told) = (Vec::new(), Vec::new(), self.outbox.to_remove());
        match self.transact(&batch, &mut changes, &mut replaced, &told) {
            Ok((results, removed)) => {
                self.outbox.removed(removed);
                // First: whoever reads the change and puts something on record of it comes after what tells of the change.
                let (to_tell, changes): (Vec<_>, Vec<_>) =
                    changes.into_iter().partition(|change| self.outbox.covers(&change.key));
                self.outbox.tell(to_tell);
                self.memory.follow(&changes);
                // No watcher is fine.
                changes.into_iter().for_each(|change| drop(self.changes.send(change)));
                batch.into_iter().zip(results).for_each(|(command, result)| command.answer(result));
            }
            Err(error) => {
                tracing::error!(%error, "the database did not commit");
                self.memory.forget();
                replaced.into_iter().rev().for_each(|replaced| self.fleeting.undo(replaced));
                batch.into_iter().for_each(|command| command.answer(Err(StoreError::NotCommitted)));
            }
        }
    }

    fn transact(
        &mut self,
        batch: &[Command],
        changes: &mut Vec<Change>,
        replaced: &mut Vec<Replaced>,
        told: &[String],
    ) -> Result<(Vec<Result<u64, StoreError>>, usize), rusqlite::Error> {
        self.execute("BEGIN IMMEDIATE")?;
        let outcome = self.apply_all(batch, changes, replaced, told).and_then(|done| {
            self.execute("COMMIT")?;
            Ok(done)
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

    /// Answers also with how many of what was told are removed.
    fn apply_all(
        &self,
        batch: &[Command],
        changes: &mut Vec<Change>,
        replaced: &mut Vec<Replaced>,
        told: &[String],
    ) -> Result<(Vec<Result<u64, StoreError>>, usize), rusqlite::Error> {
        let now = self.clock.now();
        let before = current_revision(&self.connection)?;
        let mut revision = before;
        let mut results = Vec::with_capacity(batch.len());
        for command in batch {
            let result = match command {
                Command::Commit { ops, .. } => match self.take(ops, now)? {
                    Ok(taken) => {
                        replaced.push(taken);
                        revision += 1;
                        self.apply(ops, revision, changes)?;
                        Ok(revision)
                    }
                    Err(op) => Err(StoreError::Conflict { key: op.key.clone() }),
                },
                Command::Sweep => {
                    self.fleeting.sweep(now);
                    revision += u64::from(sweep(&self.connection, millis(now), revision + 1, changes)?);
                    Ok(revision)
                }
            };
            results.push(result);
        }
        if revision > before {
            let mut update = self.connection.prepare_cached("UPDATE revision SET value = ?1")?;
            update.execute([revision.cast_signed()])?;
        }
        // Nobody who waits for a commit waits for a sync that is for this alone.
        if revision == before && !batch.iter().any(|command| matches!(command, Command::Sweep)) {
            return Ok((results, 0));
        }
        let mut delete = self.connection.prepare_cached("DELETE FROM items WHERE key = ?1")?;
        for key in told {
            delete.execute([key])?;
        }
        Ok((results, told.len()))
    }

    /// Does what these hold of fleeting items, if all conditions hold, of whatever items; else the first that does not.
    fn take<'a>(&self, ops: &'a [Op], now: SystemTime) -> Result<Result<Replaced, &'a Op>, rusqlite::Error> {
        let conflict = match self.fleeting.conflict(ops, now) {
            Some(op) => Some(op),
            None => self.conflict(ops, millis(now))?,
        };
        // Between the two somebody else may have been first.
        Ok(conflict.map_or_else(|| self.fleeting.commit(ops, now), Err))
    }

    /// Does what these hold of lasting items. Their conditions hold.
    fn apply(&self, ops: &[Op], revision: u64, changes: &mut Vec<Change>) -> Result<(), rusqlite::Error> {
        for op in ops.iter().filter(|op| !self.fleeting.covers(&op.key)) {
            match &op.action {
                Action::Check => {}
                Action::Put { value, expires } => {
                    self.connection
                        .prepare_cached("INSERT OR REPLACE INTO items VALUES (?1, ?2, ?3, ?4)")?
                        .execute(params![op.key, value, expires.map(millis), revision.cast_signed()])?;
                    changes.push(change(&op.key, Some(value), *expires, revision));
                }
                Action::Delete => {
                    let mut delete = self.connection.prepare_cached("DELETE FROM items WHERE key = ?1")?;
                    if delete.execute([&op.key])? > 0 {
                        changes.push(change(&op.key, None, None, revision));
                    }
                }
            }
        }
        Ok(())
    }

    /// The first lasting item whose condition does not hold. Nothing was changed by then.
    fn conflict<'a>(&self, ops: &'a [Op], now: i64) -> Result<Option<&'a Op>, rusqlite::Error> {
        let asked = |op: &&Op| op.condition != Condition::Any && !self.fleeting.covers(&op.key);
        for op in ops.iter().filter(asked) {
            if !op.condition.holds(live_revision(&self.connection, &op.key, now)?) {
                return Ok(Some(op));
            }
        }
        Ok(None)
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
        if let Self::Commit { done, waiting, .. } = self {
            // First: it may go on to the audit trail, whose writer is to count on it.
            drop(waiting);
            let _ = done.send(result);
        }
    }
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
    use super::*;
    use crate::store::Sqlite;

    /// A writer whose connection the test can ask, beside a store that made the file.
    fn writer() -> (Writer, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let (clock, _) = Clock::fixed(NOW);
        drop(Sqlite::open(&path, clock.clone()).unwrap());
        let connection = super::super::connect(&path).unwrap();
        let (changes, _) = broadcast::channel(8);
        let copies = (
            Arc::new(Memory::new(&["a/"])),
            Arc::new(Fleeting::new(&["fleeting/"])),
            Arc::new(Outbox::new("outbox/")),
        );
        (Writer::new(connection, changes, clock, copies).unwrap(), directory)
    }

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn put(key: &str, condition: Condition) -> Op {
        Op::put(key.to_owned(), condition, &1).unwrap()
    }

    fn delete(key: &str) -> Op {
        Op::delete(key.to_owned(), Condition::Present)
    }

    /// What became of commits that share a transaction; `Err`: the key that stood in the way, or nothing was committed.
    fn together<const N: usize>(
        writer: &mut Writer,
        commits: [Vec<Op>; N],
    ) -> [Result<u64, Option<String>>; N] {
        let (mut answers, under_way) = (Vec::new(), UnderWay::default());
        let commands = commits.map(|ops| {
            let (done, answer) = oneshot::channel();
            answers.push(answer);
            Command::Commit { ops, done, waiting: under_way.waits(|waiting| waiting) }
        });
        writer.write(commands.into());
        let mut answers = answers.into_iter();
        [(); N].map(|()| match answers.next().unwrap().try_recv().unwrap() {
            Ok(revision) => Ok(revision),
            Err(StoreError::Conflict { key }) => Err(Some(key)),
            Err(StoreError::NotCommitted) => Err(None),
            Err(other) => panic!("{other}"),
        })
    }

    #[test]
    fn where_the_database_fails_nobody_is_told_otherwise_and_memory_is_not_trusted() {
        let (mut writer, _directory) = writer();
        writer.fleeting.commit(&[put("fleeting/1", Condition::Any)], NOW).unwrap();
        writer.connection.pragma_update(None, "query_only", true).unwrap();
        let both = || vec![delete("fleeting/1"), put("a/1", Condition::Any)];
        assert_eq!(together(&mut writer, [both()]), [Err(None)]);
        assert!(writer.memory.is_forgotten());
        assert!(writer.connection.is_autocommit(), "rolled back");
        assert!(writer.fleeting.get("fleeting/1", NOW).is_some(), "it was not used up");
        writer.connection.pragma_update(None, "query_only", false).unwrap();
        assert!(together(&mut writer, [both()])[0].is_ok());
        assert!(writer.memory.get("a/1", NOW).unwrap().is_some());
        assert!(writer.fleeting.get("fleeting/1", NOW).is_none());
    }

    #[test]
    fn where_the_database_fails_nothing_is_told_and_what_was_told_is_removed_later() {
        let (mut writer, _directory) = writer();
        let mut receiver = writer.outbox.receiver();
        let change = |key| vec![put("a/1", Condition::Any), put(key, Condition::Any)];
        assert!(together(&mut writer, [change("outbox/1")])[0].is_ok());
        assert_eq!(receiver.try_recv().unwrap().key, "outbox/1");
        writer.outbox.discard(vec!["outbox/1".to_owned()]);
        writer.connection.pragma_update(None, "query_only", true).unwrap();
        assert_eq!(together(&mut writer, [change("outbox/2")]), [Err(None)]);
        assert!(receiver.try_recv().is_err());
        writer.connection.pragma_update(None, "query_only", false).unwrap();
        assert!(together(&mut writer, [change("outbox/3")])[0].is_ok());
        let left = read_range(&mut writer.connection, &["outbox/".to_owned()], None).unwrap().items;
        assert_eq!(left.iter().map(|item| item.key.as_str()).collect::<Vec<_>>(), ["outbox/3"]);
    }

    #[test]
    fn what_lasts_and_what_does_not_are_changed_together_or_not_at_all() {
        let (mut writer, _directory) = writer();
        writer.fleeting.commit(&[put("fleeting/1", Condition::Any)], NOW).unwrap();
        let refused = vec![delete("fleeting/1"), put("a/1", Condition::Present)];
        assert_eq!(together(&mut writer, [refused]), [Err(Some("a/1".to_owned()))]);
        assert!(writer.fleeting.get("fleeting/1", NOW).is_some());
        let twice = [(); 2].map(|()| vec![delete("fleeting/1"), put("a/1", Condition::Any)]);
        let [first, second] = together(&mut writer, twice);
        assert_eq!((first.is_ok(), second), (true, Err(Some("fleeting/1".to_owned()))), "used up once");
        let missing = vec![put("a/2", Condition::Any), put("fleeting/2", Condition::Present)];
        assert_eq!(together(&mut writer, [missing]), [Err(Some("fleeting/2".to_owned()))]);
        assert!(writer.memory.get("a/2", NOW).unwrap().is_none());
    }

    #[test]
    fn nothing_of_what_does_not_last_is_in_the_file() {
        let (mut writer, _directory) = writer();
        let both = vec![put("fleeting/1", Condition::Any), put("a/1", Condition::Any)];
        assert!(together(&mut writer, [both])[0].is_ok());
        let all = read_range(&mut writer.connection, &[String::new()], None).unwrap();
        assert_eq!(all.items.iter().map(|item| item.key.as_str()).collect::<Vec<_>>(), ["a/1"]);
    }
}
