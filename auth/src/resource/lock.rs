//! An administrator's immediate stop.

use std::time::SystemTime;

use super::{
    Kind,
    error::{Problem, ResourceError},
    fields::{Field, Fields},
    metadata::{self, Kept, Metadata, ResourceName},
    scalar,
    write::Object,
};
use crate::identity::{DeviceId, RoleName, UserName};

/// A lock.
#[derive(Clone, Debug, PartialEq)]
pub struct Lock {
    /// Its name, a UUID where we made it up.
    pub metadata: Metadata<ResourceName>,
    /// Whom or what it stops.
    pub target: LockTarget,
    /// Why, for those whom it stops.
    pub message: String,
    /// When it ceases to hold.
    pub expires: Option<SystemTime>,
    /// Who made it and when: for people, nothing depends on them.
    pub kept: Kept,
}

/// Whom or what a lock stops: a session to which all of what is named here applies. At least one is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockTarget {
    /// Everything of a user.
    pub user: Option<UserName>,
    /// Everyone who has a role.
    pub role: Option<RoleName>,
    /// An operating system account or database user.
    pub login: Option<String>,
    /// Whatever was opened with a device.
    pub mfa_device: Option<DeviceId>,
    /// A target, or the sidecar in front of it. Also read from `node`, its old name.
    pub server_id: Option<ResourceName>,
}

/// Targets that no session of ours has: such a lock would stop nobody.
const REFUSED: &[(&str, &str)] = &[
    ("windows_desktop", "there are no desktops, so the lock would stop nothing"),
    ("access_request", "there are no access requests, so the lock would stop nothing"),
    ("device", "there are no trusted devices, so the lock would stop nothing"),
    ("bot_instance_id", "there are no bots, so the lock would stop nothing"),
    ("join_token", "sessions do not know by which token a sidecar joined"),
];

impl Lock {
    /// Whether it still holds.
    #[must_use]
    pub fn is_in_force(&self, now: SystemTime) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    pub(super) fn from_fields(mut fields: Fields<'_>) -> Result<Self, ResourceError> {
        let metadata = metadata::header(&mut fields, "v2")?;
        let spec_field = fields.required("spec")?;
        let mut spec = spec_field.fields()?;
        let lock = Self {
            metadata,
            target: LockTarget::from_field(&spec.required("target")?)?,
            message: spec.optional("message", |f| f.text().map(str::to_owned))?.unwrap_or_default(),
            expires: spec.optional("expires", Field::time)?,
            kept: spec.keep_silently(&["created_at", "created_by"]),
        };
        spec.finish()?;
        fields.finish()?;
        Ok(lock)
    }

    pub(super) fn to_value(&self) -> serde_json::Value {
        let spec = Object::new()
            .put("target", self.target.to_value())
            .put_unless_empty("message", &self.message)
            .put_some("expires", self.expires.map(scalar::write_time))
            .put_kept(&self.kept);
        Object::new()
            .put("kind", Kind::Lock.as_str())
            .put("version", "v2")
            .put("metadata", self.metadata.to_value())
            .put("spec", spec.into_value())
            .into_value()
    }
}

impl LockTarget {
    fn from_field(field: &Field<'_>) -> Result<Self, ResourceError> {
        let mut fields = field.fields()?;
        let mut ignored = Kept::new();
        fields.refuse(&mut ignored, REFUSED)?;
        let server_id = fields.optional("server_id", Field::name)?;
        let node = fields.optional("node", |f| match &server_id {
            Some(_) => {
                Err(f.error(Problem::Unsupported("node is the old name of server_id; write one of them")))
            }
            None => f.name(),
        })?;
        let target = Self {
            user: fields.optional("user", Field::name)?,
            role: fields.optional("role", Field::name)?,
            login: fields.optional("login", text)?,
            mfa_device: fields.optional("mfa_device", |f| {
                f.text()?.parse().map(DeviceId).map_err(|_| f.invalid("the UUID of an MFA device"))
            })?,
            server_id: server_id.or(node),
        };
        fields.finish()?;
        if target == Self::default() {
            let expected = "one of user, role, login, mfa_device, server_id";
            return Err(field.error(Problem::Type { expected, found: "none of them" }));
        }
        Ok(target)
    }

    fn to_value(&self) -> serde_json::Value {
        Object::new()
            .put_some("user", self.user.as_ref().map(UserName::as_str))
            .put_some("role", self.role.as_ref().map(RoleName::as_str))
            .put_some("login", self.login.as_deref())
            .put_some("mfa_device", self.mfa_device.map(|device| device.to_string()))
            .put_some("server_id", self.server_id.as_ref().map(ResourceName::as_str))
            .into_value()
    }
}

/// A login that is not empty: an empty one would match no session.
fn text(field: &Field<'_>) -> Result<String, ResourceError> {
    match field.text()? {
        "" => Err(field.invalid("a login")),
        text => Ok(text.to_owned()),
    }
}
