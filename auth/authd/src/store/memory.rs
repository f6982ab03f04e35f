//! What every call asks for, in memory: a copy of the items under some paths.
//!
//! Only one process writes the database (it holds the lock of the data directory), and in it only one thread. That thread
//! changes the copy once a transaction is committed and before it answers: who reads after an acknowledged commit reads what
//! that commit left, a lock for one. Whenever the copy may differ from the database it is forgotten as a whole, and the
//! database is asked until it was read again.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
    time::SystemTime,
};

use super::{Change, Item, Range};

/// The database must be asked: for this path there is no copy, or for now there is none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AskDatabase;

/// The copy.
pub(super) struct Memory {
    /// Each ends with a slash.
    paths: &'static [&'static str],
    copy: RwLock<Option<Contents>>,
}

struct Contents {
    items: BTreeMap<String, Item>,
    /// Of the last commit that is in it.
    revision: u64,
}

impl Memory {
    /// Nothing is in it yet.
    pub(super) fn new(paths: &'static [&'static str]) -> Self {
        Self { paths, copy: RwLock::new(None) }
    }

    /// What is copied.
    pub(super) fn paths(&self) -> Vec<String> {
        self.paths.iter().map(ToString::to_string).collect()
    }

    fn covers(&self, key: &str) -> bool {
        self.paths.iter().any(|path| key.starts_with(path))
    }

    pub(super) fn get(&self, key: &str, now: SystemTime) -> Result<Option<Item>, AskDatabase> {
        let copy = self.copy.read().unwrap_or_else(PoisonError::into_inner);
        let copy = copy.as_ref().filter(|_| self.covers(key)).ok_or(AskDatabase)?;
        Ok(copy.items.get(key).filter(|item| item.is_live(now)).cloned())
    }

    pub(super) fn range(&self, prefixes: &[String], now: SystemTime) -> Result<Range, AskDatabase> {
        let copy = self.copy.read().unwrap_or_else(PoisonError::into_inner);
        let covered = prefixes.iter().all(|prefix| self.covers(prefix));
        let copy = copy.as_ref().filter(|_| covered).ok_or(AskDatabase)?;
        let mut items = Vec::new();
        for prefix in prefixes {
            let from = copy.items.range::<String, _>(prefix..).map(|(_, item)| item);
            let under = from.take_while(|item| item.key.starts_with(prefix));
            items.extend(under.filter(|item| item.is_live(now)).cloned());
        }
        Ok(Range { items, revision: copy.revision })
    }

    /// Takes all of it from the database. By the writing thread alone, as are the next two.
    pub(super) fn fill(&self, range: Range) {
        let items = range.items.into_iter().map(|item| (item.key.clone(), item)).collect();
        *self.copy.write().unwrap_or_else(PoisonError::into_inner) =
            Some(Contents { items, revision: range.revision });
    }

    /// From now on the database is asked.
    pub(super) fn forget(&self) {
        *self.copy.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn is_forgotten(&self) -> bool {
        self.copy.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Follows a transaction: its changes in their order.
    pub(super) fn follow(&self, changes: &[Change]) {
        let mut copy = self.copy.write().unwrap_or_else(PoisonError::into_inner);
        let Some(copy) = copy.as_mut() else { return };
        for Change { key, value, expires, revision } in changes {
            copy.revision = *revision;
            match value {
                _ if !self.covers(key) => {}
                None => drop(copy.items.remove(key)),
                Some(value) => {
                    let (key, value) = (key.clone(), value.to_vec());
                    let item = Item { key: key.clone(), value, expires: *expires, revision: *revision };
                    copy.items.insert(key, item);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn put(key: &str, revision: u64) -> Change {
        Change { key: key.to_owned(), value: Some(b"1".as_slice().into()), expires: None, revision }
    }

    #[test]
    fn what_is_not_copied_is_asked_of_the_database() {
        let memory = Memory::new(&["a/"]);
        assert_eq!(memory.get("a/1", NOW), Err(AskDatabase), "nothing was read yet");
        memory.follow(&[put("a/1", 1)]);
        assert_eq!(memory.get("a/1", NOW), Err(AskDatabase), "a change of what was not read");
        memory.fill(Range { items: vec![], revision: 1 });
        assert_eq!(memory.get("a/1", NOW), Ok(None));
        memory.follow(&[put("a/1", 2), put("b/1", 2)]);
        assert!(memory.get("a/1", NOW).unwrap().is_some());
        assert_eq!(memory.get("b/1", NOW), Err(AskDatabase), "another path");
        assert_eq!(memory.get("a", NOW), Err(AskDatabase), "above the path");
        for prefixes in [vec!["b/".to_owned()], vec!["a/".to_owned(), "b/".to_owned()], vec![String::new()]] {
            assert_eq!(memory.range(&prefixes, NOW).unwrap_err(), AskDatabase, "{prefixes:?}");
        }
        memory.forget();
        assert_eq!(memory.get("a/1", NOW), Err(AskDatabase), "forgotten");
    }
}
