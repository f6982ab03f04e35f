//! `tctl lock`: an immediate stop.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use auth::{
    proto::{self, PutResourceRequest},
    resource::{Kind, Resource},
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Admin, moment, ttl};
use crate::{output, times};

/// Stop a user, role, login, MFA device, sidecar or target at once.
#[derive(Debug, clap::Args)]
pub(super) struct Lock {
    #[command(flatten)]
    target: Target,
    /// What those who are stopped are told
    #[arg(long)]
    message: Option<String>,
    /// How long the lock is in force [default: until it is removed]
    #[arg(long, value_parser = ttl::parse)]
    ttl: Option<Duration>,
    /// When the lock ends, in place of --ttl: 2026-01-31T12:00:00Z, or 2026-01-31 for the beginning of that day, UTC
    #[arg(long, value_name = "TIME", value_parser = moment::parse, conflicts_with = "ttl")]
    expires: Option<SystemTime>,
}

/// Who or what is stopped.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// Everything this user does
    #[arg(long)]
    user: Option<String>,
    /// Everybody with this role
    #[arg(long)]
    role: Option<String>,
    /// Every session under this login or database user
    #[arg(long)]
    login: Option<String>,
    /// Every session that this MFA device (UUID) was touched for
    #[arg(long)]
    mfa_device: Option<String>,
    /// Everything through this sidecar (its UUID), or at this target (its name)
    #[arg(long, visible_alias = "target", value_name = "UUID|TARGET")]
    server_id: Option<String>,
}

impl Lock {
    pub(super) async fn run(self, admin: &mut Admin) -> Result<()> {
        let name = Uuid::new_v4().to_string();
        let lock = self.resource(&name, SystemTime::now())?;
        let resource = proto::Resource {
            kind: Kind::Lock.as_str().to_owned(),
            name: name.clone(),
            json: lock.to_json(),
        };
        let request = PutResourceRequest { resource: Some(resource), force: false, expected_revision: 0 };
        admin.change(request).await?;
        output::print_text(&created_text(&name))?;
        Ok(())
    }

    fn resource(&self, name: &str, now: SystemTime) -> Result<Resource> {
        let after = self.ttl.map(|ttl| now.checked_add(ttl).context("that is too long")).transpose()?;
        let expires = self.expires.or(after);
        ensure!(expires.is_none_or(|at| at > now), "a lock that ends in the past stops nobody");
        let target = fields([
            ("user", self.target.user.clone()),
            ("role", self.target.role.clone()),
            ("login", self.target.login.clone()),
            ("mfa_device", self.target.mfa_device.clone()),
            ("server_id", self.target.server_id.clone()),
        ]);
        let mut spec = fields([("message", self.message.clone()), ("expires", expires.map(times::rfc3339))]);
        spec.insert("target".to_owned(), Value::Object(target));
        let lock = json!({ "kind": "lock", "version": "v2", "metadata": { "name": name }, "spec": spec });
        Ok(Resource::from_json(&lock.to_string())?)
    }
}

fn created_text(name: &str) -> String {
    format!("Created a lock with name \"{name}\".\nRemove it with: tctl rm lock/{name}")
}

/// The fields that have a value.
fn fields<const N: usize>(fields: [(&str, Option<String>); N]) -> Map<String, Value> {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::String(value?)))).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        lock: Lock,
    }

    const NAME: &str = "dc7cee9d-fe5e-4534-a90d-db770f0234a1";

    fn typed(flags: &[&str]) -> Result<Lock, clap::Error> {
        Typed::try_parse_from(["lock"].iter().chain(flags)).map(|typed| typed.lock)
    }

    /// What is stored of it, where it is made at the beginning of 1970.
    fn lock(flags: &[&str]) -> Result<Value> {
        let lock = typed(flags)?.resource(NAME, SystemTime::UNIX_EPOCH)?;
        Ok(serde_json::from_str(&lock.to_json())?)
    }

    #[test]
    fn a_lock_holds_target_message_and_end() {
        let json = lock(&["--user=jerry", "--message=Suspicious", "--ttl=1h"]).unwrap();
        assert_eq!(json["metadata"]["name"], NAME);
        assert_eq!(json["spec"]["target"], json!({ "user": "jerry" }));
        assert_eq!(json["spec"]["message"], "Suspicious");
        assert_eq!(json["spec"]["expires"], "1970-01-01T01:00:00Z");
    }

    #[test]
    fn a_lock_ends_at_a_time_that_is_to_come() {
        let json = lock(&["--user=jerry", "--expires=2026-01-31T12:00:00Z"]).unwrap();
        assert_eq!(json["spec"]["expires"], "2026-01-31T12:00:00Z");
        let error = lock(&["--user=jerry", "--expires=1969-12-31"]).unwrap_err();
        assert_eq!(error.to_string(), "a lock that ends in the past stops nobody");
        assert!(typed(&["--user=jerry", "--expires=2026-01-31", "--ttl=1h"]).is_err(), "one of the two");
    }

    #[test]
    fn a_target_is_locked_by_its_name() {
        for flag in ["--target=prod-pg", "--server-id=prod-pg"] {
            assert_eq!(lock(&[flag]).unwrap()["spec"]["target"], json!({ "server_id": "prod-pg" }));
        }
    }

    #[test]
    fn who_makes_a_lock_is_told_how_to_remove_it() {
        assert_eq!(
            created_text(NAME),
            format!("Created a lock with name \"{NAME}\".\nRemove it with: tctl rm lock/{NAME}")
        );
    }

    #[test]
    fn a_lock_on_something_that_is_no_device_is_refused_before_it_is_sent() {
        assert!(lock(&["--mfa-device=yubikey"]).is_err());
    }
}
