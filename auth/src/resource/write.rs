//! Writing a map field by field, in alphabetical order, without what says nothing.

use std::collections::BTreeMap;

use serde_json::Value;

use super::metadata::Kept;

/// A map under construction.
pub(super) struct Object(BTreeMap<String, Value>);

impl Object {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn put(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    pub(super) fn put_some<V: Into<Value>>(self, name: &str, value: Option<V>) -> Self {
        match value {
            Some(value) => self.put(name, value),
            None => self,
        }
    }

    pub(super) fn put_unless_empty(self, name: &str, text: &str) -> Self {
        self.put_some(name, (!text.is_empty()).then_some(text))
    }

    pub(super) fn put_list<V: Into<Value>>(self, name: &str, items: impl IntoIterator<Item = V>) -> Self {
        let items: Vec<Value> = items.into_iter().map(Into::into).collect();
        self.put_some(name, (!items.is_empty()).then_some(items))
    }

    pub(super) fn put_map(self, name: &str, entries: impl IntoIterator<Item = (String, Value)>) -> Self {
        let entries: serde_json::Map<String, Value> = entries.into_iter().collect();
        self.put_some(name, (!entries.is_empty()).then_some(entries))
    }

    pub(super) fn put_kept(mut self, kept: &Kept) -> Self {
        self.0.extend(kept.iter().map(|(name, value)| (name.clone(), value.clone())));
        self
    }

    pub(super) fn into_value(self) -> Value {
        Value::Object(self.0.into_iter().collect())
    }
}
