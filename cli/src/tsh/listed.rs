//! What listed databases and nodes have in common, in Teleport's shapes.

use std::collections::BTreeMap;

use auth::proto::Target;
use serde::Serialize;

/// The value that stands for every value in what roles allow.
pub(super) const ANY: &str = "*";

/// `metadata` of a resource.
#[derive(Serialize)]
pub(super) struct Metadata<'a> {
    name: &'a str,
    description: &'a str,
    labels: BTreeMap<&'a str, &'a str>,
}

impl<'a> Metadata<'a> {
    pub(super) fn of(target: &'a Target) -> Self {
        Self {
            name: &target.name,
            description: &target.description,
            labels: target.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        }
    }
}

/// Database users or SSH logins that one's roles allow and deny.
#[derive(Serialize)]
pub(super) struct Logins<'a> {
    allowed: &'a [String],
    denied: &'a [String],
}

impl<'a> Logins<'a> {
    pub(super) fn of(target: &'a Target) -> Self {
        Self { allowed: &target.allowed_logins, denied: &target.denied_logins }
    }
}
