//! What authd must remember: small items under keys like paths, changed by all-or-nothing commits.
//!
//! Everything that must happen once (a challenge is spent, an invitation is used, a code is remembered) is a commit
//! whose conditions name the revision that was read: of two racing commits one gets [`StoreError::Conflict`].

mod fleeting;
mod memory;
mod outbox;
mod sqlite;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{broadcast, mpsc};

pub use sqlite::Sqlite;

/// Why the store did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A condition of the commit did not hold; nothing was changed.
    #[error("{key} was changed meanwhile")]
    Conflict {
        /// The first item whose condition failed.
        key: String,
    },
    /// An item is not what this program writes.
    #[error("{key} is damaged")]
    Damaged {
        /// Which item.
        key: String,
        /// How it is damaged.
        #[source]
        source: serde_json::Error,
    },
    /// The disk has no room for what the store needs to be opened.
    #[error("the disk is full: the store needs some MiB of room to be opened")]
    NoRoom(#[source] rusqlite::Error),
    /// The database failed.
    #[error("database failed")]
    Database(#[from] rusqlite::Error),
    /// The transaction that this commit shared did not reach the disk; nothing was changed.
    #[error("the database did not commit")]
    NotCommitted,
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

/// One item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its key; see [`key`].
    pub key: String,
    /// Its value.
    pub value: Vec<u8>,
    /// When it stops being there.
    pub expires: Option<SystemTime>,
    /// Grows with every commit, across all items.
    pub revision: u64,
}

impl Item {
    fn is_live(&self, now: SystemTime) -> bool {
        self.expires.is_none_or(|end| end > now)
    }
}

/// What must hold for an operation. An expired item counts as absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Any,
    /// No such item is there.
    Absent,
    /// The item is there.
    Present,
    /// The item is there, unchanged since it was read.
    Revision(u64),
}

impl Condition {
    /// With an item of this revision there, or none.
    fn holds(self, there: Option<u64>) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => there.is_none(),
            Self::Present => there.is_some(),
            Self::Revision(wanted) => there == Some(wanted),
        }
    }
}

/// What to do with an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Only check the condition.
    Check,
    /// Put this in its place.
    Put {
        /// The value.
        value: Vec<u8>,
        /// When it shall stop being there.
        expires: Option<SystemTime>,
    },
    /// Remove it; fine if it is not there.
    Delete,
}

/// One operation of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// On which item.
    pub key: String,
    /// What must hold.
    pub condition: Condition,
    /// What to do.
    pub action: Action,
}

impl Op {
    /// Puts a value, as JSON.
    pub fn put<T: Serialize>(key: String, condition: Condition, value: &T) -> Result<Self, StoreError> {
        Self::put_until(key, condition, value, None)
    }

    /// Puts a value that stops being there, as JSON.
    pub fn put_until<T: Serialize>(
        key: String,
        condition: Condition,
        value: &T,
        expires: Option<SystemTime>,
    ) -> Result<Self, StoreError> {
        match serde_json::to_vec(value) {
            Ok(value) => Ok(Self { key, condition, action: Action::Put { value, expires } }),
            Err(source) => Err(StoreError::Damaged { key, source }),
        }
    }

    /// Removes an item.
    #[must_use]
    pub fn delete(key: String, condition: Condition) -> Self {
        Self { key, condition, action: Action::Delete }
    }

    /// Checks that an item is as it was read.
    #[must_use]
    pub fn check(key: String, condition: Condition) -> Self {
        Self { key, condition, action: Action::Check }
    }
}

/// A change, told to whoever watches, in the order of commits.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which item.
    pub key: String,
    /// What it is now; `None`: gone.
    pub value: Option<Arc<[u8]>>,
    /// See [`Item::expires`].
    pub expires: Option<SystemTime>,
    /// The commit's revision.
    pub revision: u64,
}

/// Items read at one moment.
#[derive(Clone, Debug)]
pub struct Range {
    /// In the order of their keys.
    pub items: Vec<Item>,
    /// The revision of the last commit that this reading has seen.
    pub revision: u64,
}

/// Where items are kept. The only implementation is [`Sqlite`]; others (etcd, PostgreSQL) must keep its promises.
pub trait Store: Send + Sync + 'static {
    /// One item, unless it has expired.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Item>, StoreError>>;

    /// All live items whose key begins with one of these, as of one moment.
    fn range<'a>(&'a self, prefixes: &'a [String]) -> BoxFuture<'a, Result<Range, StoreError>>;

    /// Does all of these or none; answers with the new revision once they would survive a power cut.
    ///
    /// Of items under [`FLEETING`](crate::keys::FLEETING) nothing survives this process: they are seen at once, and no watcher
    /// hears of them. A commit of them alone counts by itself, in a count of their own.
    fn commit(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Every change from now on. A receiver that falls behind is told so ([`broadcast::error::RecvError::Lagged`]) and
    /// must read again.
    fn watch(&self) -> broadcast::Receiver<Change>;

    /// What is put under [`OUTBOX`](crate::keys::OUTBOX) from now on, in the order of commits: it can be received before
    /// its commit is answered or told to anybody. No watcher hears of it. There is one receiver, the last that was asked for.
    fn outbox(&self) -> mpsc::UnboundedReceiver<Change>;

    /// Removes items under [`OUTBOX`](crate::keys::OUTBOX) with whatever is committed next, whole or not at all, or else with
    /// the next sweep. Until then they are there, and after a crash they are again.
    fn discard(&self, keys: Vec<String>);
}

/// A value with what is needed to replace it.
#[derive(Clone, Debug)]
pub struct Stored<T> {
    /// The value.
    pub value: T,
    /// See [`Item::revision`].
    pub revision: u64,
    /// See [`Item::expires`].
    pub expires: Option<SystemTime>,
}

impl<T> Stored<T> {
    /// The condition that nobody changed it meanwhile.
    pub fn unchanged(&self) -> Condition {
        Condition::Revision(self.revision)
    }
}

/// Reads JSON from an item.
pub fn decode<T: DeserializeOwned>(item: &Item) -> Result<Stored<T>, StoreError> {
    match serde_json::from_slice(&item.value) {
        Ok(value) => Ok(Stored { value, revision: item.revision, expires: item.expires }),
        Err(source) => Err(StoreError::Damaged { key: item.key.clone(), source }),
    }
}

/// One item read as JSON.
pub async fn read<T: DeserializeOwned>(
    store: &dyn Store,
    key: &str,
) -> Result<Option<Stored<T>>, StoreError> {
    store.get(key).await?.as_ref().map(decode).transpose()
}

/// All items under a path, read as JSON.
pub async fn read_all<T: DeserializeOwned>(
    store: &dyn Store,
    prefix: String,
) -> Result<Vec<Stored<T>>, StoreError> {
    store.range(&[prefix]).await?.items.iter().map(decode).collect()
}

/// Tries a read-and-commit again while others win the race. Bounded, so that a bug cannot spin: each try that fails
/// means that somebody else's succeeded.
pub const RACE_ATTEMPTS: usize = 16;

/// How long the sweeper waits between removals of expired items. Expired items are never seen anyway; this frees space
/// and tells watchers.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The key of an item: parts joined by `/`, with `/` and `%` inside of a part escaped, so that no name can reach into
/// another's path.
#[must_use]
pub fn key(parts: &[&str]) -> String {
    let escaped: Vec<_> = parts.iter().map(|part| part.replace('%', "%25").replace('/', "%2F")).collect();
    escaped.join("/")
}

/// The prefix of everything below a path.
#[must_use]
pub fn below(parts: &[&str]) -> String {
    format!("{}/", key(parts))
}

/// The last part of a key, as it was given to [`key`].
#[must_use]
pub fn last_part(key: &str) -> String {
    let last = key.rsplit('/').next().unwrap_or_default();
    last.replace("%2F", "/").replace("%25", "%")
}

#[cfg(test)]
mod tests;
