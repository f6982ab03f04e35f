//! What the audit trail says of administrators' doings. Secrets never stand in it.

use auth::resource::{Lock, Resource, Token, User};
use serde_json::{Value, json};

use super::Change;

/// What is said of a resource that was put; nothing of targets, which no administrator puts.
pub(super) fn put(resource: &Resource, created: bool, change: &Change) -> Vec<Value> {
    let event = match resource {
        Resource::User(person) if created => user("user.create", "T1002I", person, change),
        Resource::User(person) => user("user.update", "T1003I", person, change),
        Resource::Token(new) => token(new, change),
        Resource::Lock(new) => lock("lock.created", "TLK00I", new, change),
        Resource::Role(_) => named("role.created", "T9000I", resource, change),
        Resource::AuthPreference(_) => named("auth_preference.update", "TCAUTH001I", resource, change),
        Resource::Database(_) | Resource::Node(_) => return vec![],
    };
    vec![event]
}

/// What is said of a resource that was deleted. The preference is put back instead, and targets go by themselves.
pub(super) fn delete(resource: &Resource, change: &Change) -> Vec<Value> {
    let event = match resource {
        Resource::User(person) => user("user.delete", "T1004I", person, change),
        Resource::Lock(gone) => lock("lock.deleted", "TLK01I", gone, change),
        Resource::Role(_) => named("role.deleted", "T9001I", resource, change),
        Resource::Token(_) => named("join_token.delete", "TJT01I", resource, change),
        Resource::AuthPreference(_) | Resource::Database(_) | Resource::Node(_) => return vec![],
    };
    vec![event]
}

fn named(event: &str, code: &str, resource: &Resource, change: &Change) -> Value {
    change.sign(json!({"event": event, "code": code, "name": shown_name(resource)}))
}

fn lock(event: &str, code: &str, lock: &Lock, change: &Change) -> Value {
    let spec = Resource::Lock(lock.clone()).to_value();
    change.sign(json!({
        "event": event, "code": code, "name": lock.metadata.name.as_str(),
        "target": spec.pointer("/spec/target"), "message": lock.message,
        "expires": lock.expires.map(auth::clock::rfc3339),
    }))
}

pub(crate) fn user(event: &str, code: &str, user: &User, change: &Change) -> Value {
    change.sign(json!({
        "event": event, "code": code, "name": user.metadata.name, "roles": user.roles, "connector": "local",
    }))
}

/// The event of a new token never holds the token.
pub(super) fn token(token: &Token, change: &Change) -> Value {
    let roles: Vec<_> = token.roles.iter().map(|role| role.as_str()).collect();
    change.sign(json!({
        "event": "join_token.create", "code": "TJT00I", "roles": roles,
        "join_method": "token", "expires": token.metadata.expires.map(auth::clock::rfc3339),
    }))
}

/// Enough of a token to tell it from others.
pub(super) fn masked_name(name: &str) -> String {
    let shown: String = name.chars().take(if name.chars().count() >= 16 { 4 } else { 0 }).collect();
    format!("{shown}********")
}

/// What may stand in messages and in the audit trail.
pub(super) fn shown_name(resource: &Resource) -> String {
    match resource {
        Resource::Token(token) => masked_name(token.metadata.name.as_str()),
        other => other.name().to_owned(),
    }
}
