//! What the audit trail says of administrators' doings. Secrets never stand in it.

use auth::{
    identity::UserName,
    resource::{Lock, Resource, User},
};
use serde_json::json;

use super::Change;
use crate::{cluster::Cluster, error::Refused};

impl Cluster {
    pub(super) async fn emit_put(
        &self,
        resource: &Resource,
        created: bool,
        change: &Change,
    ) -> Result<(), Refused> {
        match resource {
            Resource::User(user) if created => self.emit_user("user.create", "T1002I", user, change).await,
            Resource::User(user) => self.emit_user("user.update", "T1003I", user, change).await,
            Resource::Token(token) => self.emit_token(token, change).await,
            Resource::Lock(lock) => self.emit_lock("lock.created", "TLK00I", lock, change).await,
            Resource::Role(_) => self.emit_named("role.created", "T9000I", resource, change).await,
            Resource::AuthPreference(_) => {
                self.emit_named("auth_preference.update", "TCAUTH001I", resource, change).await
            }
            Resource::Database(_) | Resource::Node(_) => Ok(()),
        }
    }

    pub(super) async fn emit_delete(&self, resource: &Resource, change: &Change) -> Result<(), Refused> {
        match resource {
            Resource::User(user) => self.emit_user("user.delete", "T1004I", user, change).await,
            Resource::Lock(lock) => self.emit_lock("lock.deleted", "TLK01I", lock, change).await,
            Resource::Role(_) => self.emit_named("role.deleted", "T9001I", resource, change).await,
            Resource::Token(_) => self.emit_named("join_token.delete", "TJT01I", resource, change).await,
            Resource::AuthPreference(_) | Resource::Database(_) | Resource::Node(_) => Ok(()),
        }
    }

    async fn emit_named(
        &self,
        event: &str,
        code: &str,
        resource: &Resource,
        change: &Change,
    ) -> Result<(), Refused> {
        let event = json!({"event": event, "code": code, "name": shown_name(resource)});
        Ok(self.audit.emit(change.sign(event)).await?)
    }

    async fn emit_lock(&self, event: &str, code: &str, lock: &Lock, change: &Change) -> Result<(), Refused> {
        let spec = Resource::Lock(lock.clone()).to_value();
        let event = json!({
            "event": event, "code": code, "name": lock.metadata.name.as_str(),
            "target": spec.pointer("/spec/target"), "message": lock.message,
            "expires": lock.expires.map(auth::clock::rfc3339),
        });
        Ok(self.audit.emit(change.sign(event)).await?)
    }

    pub(crate) async fn emit_user(
        &self,
        event: &str,
        code: &str,
        user: &User,
        change: &Change,
    ) -> Result<(), Refused> {
        let name: &UserName = &user.metadata.name;
        let event = json!({
            "event": event, "code": code, "name": name, "roles": user.roles, "connector": "local",
        });
        Ok(self.audit.emit(change.sign(event)).await?)
    }
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
