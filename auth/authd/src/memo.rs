//! Items as they were read last.
//!
//! Every call asks for the caller's user, roles and locks and for the preference, and each touch for the state of a security
//! key, certificates of its maker included; reading one costs more than fetching it. What is remembered is the reading
//! alone: the item itself comes from the store each time, and counts only under the revision that it has there. So nothing
//! here can be out of date, whatever the store, and an item that has expired or is gone is not asked for here at all.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use auth::resource::{AuthPreference, Lock, Resource, Role, User};

use crate::{
    cluster::read_resource,
    error::Refused,
    mfa::DeviceState,
    store::{self, Item},
};

/// Readings of one kind that are kept at most; then all of them are forgotten. More than a cluster has people.
const MOST: usize = 16_384;

/// Readings of one kind: by key, with the revision that was read.
pub(crate) struct Memo<T> {
    known: Mutex<HashMap<String, (u64, Arc<T>)>>,
    /// `None`: it is of another kind.
    read: fn(&Item) -> Result<Option<T>, Refused>,
}

/// The kinds that every call asks for.
pub(crate) struct Memos {
    pub(crate) users: Memo<User>,
    pub(crate) roles: Memo<Role>,
    pub(crate) preference: Memo<AuthPreference>,
    pub(crate) locks: Memo<Lock>,
    pub(crate) device_states: Memo<DeviceState>,
}

impl Default for Memos {
    fn default() -> Self {
        macro_rules! memo {
            ($kind:ident) => {
                Memo::new(|item| match read_resource(item)? {
                    Resource::$kind(resource) => Ok(Some(resource)),
                    _ => Ok(None),
                })
            };
        }
        Self {
            users: memo!(User),
            roles: memo!(Role),
            preference: memo!(AuthPreference),
            locks: memo!(Lock),
            device_states: Memo::new(|item| Ok(Some(store::decode(item)?.value))),
        }
    }
}

impl<T> Memo<T> {
    fn new(read: fn(&Item) -> Result<Option<T>, Refused>) -> Self {
        Self { known: Mutex::default(), read }
    }

    /// What the item says; `None`: it is of another kind.
    pub(crate) fn read(&self, item: &Item) -> Result<Option<Arc<T>>, Refused> {
        if let Some((revision, known)) = self.known().get(&item.key)
            && *revision == item.revision
        {
            return Ok(Some(Arc::clone(known)));
        }
        // Outside of the lock: two may read the same at the same time, which does no harm.
        let Some(read) = (self.read)(item)? else { return Ok(None) };
        let read = Arc::new(read);
        let mut known = self.known();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(item.key.clone(), (item.revision, Arc::clone(&read)));
        Ok(Some(read))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, (u64, Arc<T>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::put_op,
        store::{Action, Condition},
    };

    fn lock(message: &str, revision: u64) -> Item {
        let yaml = format!(
            "kind: lock\nversion: v2\nmetadata: {{name: l}}\nspec: {{target: {{user: olga}}, message: {message}}}\n"
        );
        let parsed = auth::resource::parse_documents(&yaml).unwrap();
        let op = put_op(&parsed[0].resource, Condition::Any).unwrap();
        let Action::Put { value, expires } = op.action else { panic!("no put") };
        Item { key: op.key, value, expires, revision }
    }

    #[test]
    fn a_reading_counts_under_its_revision_alone() {
        let memos = Memos::default();
        let read = |item: &Item| memos.locks.read(item).unwrap().unwrap();
        let first = read(&lock("one", 1));
        assert!(Arc::ptr_eq(&first, &read(&lock("one", 1))));
        assert_eq!(read(&lock("two", 2)).message, "two");
        // Taken away, and given again as it was: another revision.
        assert_eq!(read(&lock("three", 1)).message, "three");
    }

    #[test]
    fn what_cannot_be_read_is_an_error_whatever_was_read_before() {
        let memos = Memos::default();
        assert!(memos.locks.read(&lock("one", 1)).is_ok());
        for damaged in [&b"{"[..], b"{}", b"\xff\xff"] {
            let item = Item { value: damaged.to_vec(), ..lock("one", 2) };
            assert!(memos.locks.read(&item).is_err());
        }
        assert!(memos.users.read(&lock("one", 1)).unwrap().is_none(), "no user");
    }
}
