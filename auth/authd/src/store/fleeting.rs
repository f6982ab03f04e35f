//! What need not survive this process: items that are in memory alone.
//!
//! They are read, changed and told apart like all others, and share commits with them, but nothing of them reaches a disk. What
//! grants something for some minutes is kept so: with the process it is gone, and asked for again, and no power cut brings
//! back what was used up.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{PoisonError, RwLock},
    time::SystemTime,
};

use super::{Action, Item, Op};

/// The items under some paths.
pub(super) struct Fleeting {
    /// Each ends with a slash.
    paths: &'static [&'static str],
    contents: RwLock<Contents>,
}

#[derive(Default)]
struct Contents {
    items: BTreeMap<String, Item>,
    /// Grows with every commit.
    revision: u64,
}

/// What a commit took the place of.
#[derive(Debug)]
pub(super) struct Replaced {
    /// The commit's, in the count of what is kept here.
    pub(super) revision: u64,
    items: Vec<(String, Option<Item>)>,
}

impl Fleeting {
    /// Nothing is in it yet.
    pub(super) fn new(paths: &'static [&'static str]) -> Self {
        Self { paths, contents: RwLock::default() }
    }

    /// Is this kept here, and nowhere else?
    pub(super) fn covers(&self, key: &str) -> bool {
        self.paths.iter().any(|path| key.starts_with(path))
    }

    pub(super) fn get(&self, key: &str, now: SystemTime) -> Option<Item> {
        let contents = self.contents.read().unwrap_or_else(PoisonError::into_inner);
        contents.live(key, now).cloned()
    }

    pub(super) fn range(&self, prefix: &str, now: SystemTime) -> Vec<Item> {
        let contents = self.contents.read().unwrap_or_else(PoisonError::into_inner);
        let from =
            contents.items.range::<str, _>((Bound::Included(prefix), Bound::Unbounded)).map(|(_, item)| item);
        let under = from.take_while(|item| item.key.starts_with(prefix));
        under.filter(|item| item.is_live(now)).cloned().collect()
    }

    /// The first of what is kept here whose condition does not hold.
    pub(super) fn conflict<'a>(&self, ops: &'a [Op], now: SystemTime) -> Option<&'a Op> {
        let contents = self.contents.read().unwrap_or_else(PoisonError::into_inner);
        self.first_conflict(&contents, ops, now)
    }

    fn first_conflict<'a>(&self, contents: &Contents, ops: &'a [Op], now: SystemTime) -> Option<&'a Op> {
        ops.iter().filter(|op| self.covers(&op.key)).find(|op| {
            let there = contents.live(&op.key, now).map(|item| item.revision);
            !op.condition.holds(there)
        })
    }

    /// Does all of these that are kept here, or none. The first whose condition does not hold is the error.
    pub(super) fn commit<'a>(&self, ops: &'a [Op], now: SystemTime) -> Result<Replaced, &'a Op> {
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(op) = self.first_conflict(&contents, ops, now) {
            return Err(op);
        }
        contents.revision += 1;
        let revision = contents.revision;
        let mut replaced = Vec::new();
        for op in ops.iter().filter(|op| self.covers(&op.key)) {
            let before = match &op.action {
                Action::Check => continue,
                Action::Put { value, expires } => {
                    let (value, expires) = (value.clone(), *expires);
                    let item = Item { key: op.key.clone(), value, expires, revision };
                    contents.items.insert(op.key.clone(), item)
                }
                Action::Delete => contents.items.remove(&op.key),
            };
            replaced.push((op.key.clone(), before));
        }
        Ok(Replaced { revision, items: replaced })
    }

    /// The rest of a commit came to nothing, and so does this. Meanwhile it was there for others: for a moment, who asked for
    /// what was used up was told that it is gone.
    pub(super) fn undo(&self, replaced: Replaced) {
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        for (key, before) in replaced.items.into_iter().rev() {
            match before {
                Some(item) => drop(contents.items.insert(key, item)),
                None => drop(contents.items.remove(&key)),
            }
        }
    }

    /// Removes what has expired.
    pub(super) fn sweep(&self, now: SystemTime) {
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        contents.items.retain(|_, item| item.is_live(now));
    }
}

impl Contents {
    fn live(&self, key: &str, now: SystemTime) -> Option<&Item> {
        self.items.get(key).filter(|item| item.is_live(now))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::Condition;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn fleeting() -> Fleeting {
        Fleeting::new(&["challenge/"])
    }

    fn put(key: &str, condition: Condition) -> Op {
        Op::put_until(key.to_owned(), condition, &1, Some(NOW + Duration::from_secs(10))).unwrap()
    }

    #[test]
    fn of_a_commit_all_is_done_or_nothing() {
        let fleeting = fleeting();
        fleeting.commit(&[put("challenge/a", Condition::Absent)], NOW).unwrap();
        let ops = [put("challenge/b", Condition::Absent), put("challenge/a", Condition::Absent)];
        assert_eq!(fleeting.conflict(&ops, NOW).unwrap().key, "challenge/a");
        assert_eq!(fleeting.commit(&ops, NOW).unwrap_err().key, "challenge/a");
        assert_eq!(fleeting.get("challenge/b", NOW), None);
        let revision = fleeting.get("challenge/a", NOW).unwrap().revision;
        let delete = |revision| [Op::delete("challenge/a".to_owned(), Condition::Revision(revision))];
        assert!(fleeting.commit(&delete(revision + 1), NOW).is_err());
        fleeting.commit(&delete(revision), NOW).unwrap();
        assert!(fleeting.commit(&delete(revision), NOW).is_err(), "once");
    }

    #[test]
    fn what_comes_to_nothing_is_as_it_was() {
        let fleeting = fleeting();
        fleeting.commit(&[put("challenge/a", Condition::Absent)], NOW).unwrap();
        let before = fleeting.range("challenge/", NOW);
        let again = [
            Op::delete("challenge/a".to_owned(), Condition::Present),
            put("challenge/a", Condition::Any),
            put("challenge/b", Condition::Any),
        ];
        let replaced = fleeting.commit(&again, NOW).unwrap();
        assert_eq!(fleeting.range("challenge/", NOW).len(), 2);
        fleeting.undo(replaced);
        assert_eq!(fleeting.range("challenge/", NOW), before);
    }

    #[test]
    fn what_is_kept_elsewhere_is_none_of_its_business() {
        let fleeting = fleeting();
        let elsewhere =
            [put("device/a", Condition::Present), Op::delete("challenge".to_owned(), Condition::Present)];
        assert!(fleeting.conflict(&elsewhere, NOW).is_none());
        fleeting.commit(&elsewhere, NOW).unwrap();
        assert!(fleeting.range("", NOW).is_empty());
    }

    #[test]
    fn what_has_expired_is_not_there_and_takes_no_room() {
        let fleeting = fleeting();
        fleeting.commit(&[put("challenge/a", Condition::Absent)], NOW).unwrap();
        let end = NOW + Duration::from_secs(10);
        assert_eq!((fleeting.get("challenge/a", end), fleeting.range("challenge/", end)), (None, Vec::new()));
        assert!(fleeting.commit(&[put("challenge/a", Condition::Absent)], end).is_ok());
        fleeting.sweep(end);
        assert!(fleeting.contents.read().unwrap().items.is_empty());
    }
}
