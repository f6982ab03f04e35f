//! `tctl lock`: an immediate stop.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use auth::{
    proto::{self, PutResourceRequest},
    resource::{Kind, Resource},
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Admin, ttl};
use crate::{output, times};

/// Stop a user, role, login, MFA device or sidecar at once.
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
    /// Everything through this sidecar (UUID)
    #[arg(long)]
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
        output::print_text(&format!("Created a lock with name \"{name}\"."))?;
        Ok(())
    }

    fn resource(&self, name: &str, now: SystemTime) -> Result<Resource> {
        let expires = self.ttl.map(|ttl| now.checked_add(ttl).context("that is too long")).transpose()?;
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

/// The fields that have a value.
fn fields<const N: usize>(fields: [(&str, Option<String>); N]) -> Map<String, Value> {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::String(value?)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_holds_target_message_and_end() {
        let target = Target {
            user: Some("jerry".to_owned()),
            role: None,
            login: None,
            mfa_device: None,
            server_id: None,
        };
        let lock =
            Lock { target, message: Some("Suspicious".to_owned()), ttl: Some(Duration::from_secs(3600)) };
        let name = "dc7cee9d-fe5e-4534-a90d-db770f0234a1";
        let json: Value =
            serde_json::from_str(&lock.resource(name, SystemTime::UNIX_EPOCH).unwrap().to_json()).unwrap();
        assert_eq!(json["metadata"]["name"], name);
        assert_eq!(json["spec"]["target"], json!({ "user": "jerry" }));
        assert_eq!(json["spec"]["message"], "Suspicious");
        assert_eq!(json["spec"]["expires"], "1970-01-01T01:00:00Z");
    }

    #[test]
    fn a_lock_on_something_that_is_no_device_is_refused_before_it_is_sent() {
        let target = Target {
            user: None,
            role: None,
            login: None,
            mfa_device: Some("yubikey".to_owned()),
            server_id: None,
        };
        assert!(Lock { target, message: None, ttl: None }.resource("x", SystemTime::UNIX_EPOCH).is_err());
    }
}
