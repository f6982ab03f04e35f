//! Events of changes that were made, until they are on disk in the trail.

use std::{collections::HashSet, time::SystemTime};

use auth::clock::parse_rfc3339;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Lines;
use crate::{
    keys,
    store::{Condition, Op, StoreError},
};

/// The events of one change, as its commit has put them into the outbox.
pub(super) struct Owed {
    pub(super) key: String,
    events: Vec<Map<String, Value>>,
}

impl Owed {
    /// The operation that a change takes along.
    pub(super) fn op(events: &[Map<String, Value>]) -> Result<Op, StoreError> {
        Op::put(keys::outbox(Uuid::new_v4()), Condition::Absent, &events)
    }

    /// Reads an item of the outbox.
    pub(super) fn read(key: String, value: &[u8]) -> Result<Self, StoreError> {
        match serde_json::from_slice(value) {
            Ok(events) => Ok(Self { key, events }),
            Err(source) => Err(StoreError::Damaged { key, source }),
        }
    }

    /// What tells its events apart from all others.
    pub(super) fn uids(&self) -> impl Iterator<Item = &str> {
        self.events.iter().filter_map(uid_of)
    }

    /// When they were made.
    pub(super) fn times(&self) -> impl Iterator<Item = SystemTime> {
        self.events
            .iter()
            .filter_map(|event| event.get("time").and_then(Value::as_str).and_then(parse_rfc3339))
    }

    /// Leaves those out that are in the trail already. Is any left?
    pub(super) fn leave_out(&mut self, there: &HashSet<String>) -> bool {
        self.events.retain(|event| uid_of(event).is_none_or(|uid| !there.contains(uid)));
        !self.events.is_empty()
    }

    pub(super) fn write_to(&self, text: &mut Vec<u8>) {
        let mut lines = Lines::own();
        self.events.iter().for_each(|event| lines.push_own(event.clone()));
        text.extend_from_slice(lines.after(0));
    }
}

/// What tells an event of authd's own apart from all others.
pub(super) fn uid_of(event: &Map<String, Value>) -> Option<&str> {
    event.get("uid").and_then(Value::as_str)
}
