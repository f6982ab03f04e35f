//! A role: what the people who have it may do, what they may not, and under which conditions.
//!
//! Each field that Teleport knows is one of three:
//!
//! - *acted on*: a field of [`RoleOptions`], [`Conditions`] or [`Rule`];
//! - *kept*: about access of a kind that does not exist here (Kubernetes, applications, desktops, host users). It gives
//!   nobody anything, is written out again, and is reported when the role is created;
//! - *refused*: it narrows access that does exist here, and we cannot enforce it: label expressions, moderated
//!   sessions, `device_trust_mode: required`, `require_session_mfa: hardware_key*`, `ssh_port_forwarding`, namespaces
//!   other than `default`, and `*` among logins, where it would match nobody.
//!
//! One thing is between: a rule with a `where` is kept, never grants, and always denies.
//!
//! Three options are ours and not Teleport's: `db_session_settings`, `db_replication` and `db_local_infile`.

mod conditions;
mod db_settings;
mod options;

pub use conditions::{Conditions, Labels, Rule};
pub use options::{LockingMode, RecordingMode, RoleOptions, SessionRecording};
pub(super) use options::{device_trust, session_mfa};

use super::{Kind, error::ResourceError, fields::Fields, metadata::Metadata, write::Object};
use crate::identity::RoleName;

/// The version of a role's format. What a role means when it leaves labels out depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RoleVersion {
    /// Labels left out mean every target: all databases, and all nodes if the role has logins.
    V3,
    /// From here on, labels left out mean no target.
    V4,
    /// As [`RoleVersion::V4`] for all that we act on.
    V5,
    /// As [`RoleVersion::V4`] for all that we act on.
    V6,
    /// As [`RoleVersion::V4`] for all that we act on.
    V7,
}

impl RoleVersion {
    const ALL: [Self; 5] = [Self::V3, Self::V4, Self::V5, Self::V6, Self::V7];

    /// The word in the `version` field.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V3 => "v3",
            Self::V4 => "v4",
            Self::V5 => "v5",
            Self::V6 => "v6",
            Self::V7 => "v7",
        }
    }
}

/// A role.
#[derive(Clone, Debug, PartialEq)]
pub struct Role {
    /// Name, description, expiry.
    pub metadata: Metadata<RoleName>,
    /// Version of the format it was written in.
    pub version: RoleVersion,
    /// What it says.
    pub spec: RoleSpec,
}

/// What a role says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoleSpec {
    /// Limits and switches for sessions.
    pub options: RoleOptions,
    /// What the role gives.
    pub allow: Conditions,
    /// What the role takes away, from whatever other roles give.
    pub deny: Conditions,
}

impl Role {
    /// A role of the newest format that gives nothing.
    #[must_use]
    pub fn new(name: RoleName) -> Self {
        Self { metadata: Metadata::named(name), version: RoleVersion::V7, spec: RoleSpec::default() }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &RoleName {
        &self.metadata.name
    }

    pub(super) fn from_fields(mut fields: Fields<'_>) -> Result<Self, ResourceError> {
        let word = fields.required("version")?;
        let text = word.text()?;
        let version = RoleVersion::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| word.invalid("a version of role: v3, v4, v5, v6 or v7"))?;
        let metadata = Metadata::from_field(&fields.required("metadata")?)?;
        let spec = fields.optional("spec", |field| {
            let mut spec = field.fields()?;
            let options = spec.optional("options", |f| RoleOptions::from_field(f))?.unwrap_or_default();
            let allow = spec.optional("allow", |f| Conditions::from_field(f))?.unwrap_or_default();
            let deny = spec.optional("deny", |f| Conditions::from_field(f))?.unwrap_or_default();
            spec.finish()?;
            Ok(RoleSpec { options, allow, deny })
        })?;
        fields.finish()?;
        Ok(Self { metadata, version, spec: spec.unwrap_or_default() })
    }

    pub(super) fn to_value(&self) -> serde_json::Value {
        let spec = Object::new()
            .put("options", self.spec.options.to_value())
            .put("allow", self.spec.allow.to_value())
            .put("deny", self.spec.deny.to_value());
        Object::new()
            .put("kind", Kind::Role.as_str())
            .put("version", self.version.as_str())
            .put("metadata", self.metadata.to_value())
            .put("spec", spec.into_value())
            .into_value()
    }
}
