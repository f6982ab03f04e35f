//! A local user: roles and traits. Passwords and devices are kept elsewhere and never travel as a resource.

use std::time::SystemTime;

use super::{
    Kind,
    error::{Problem, ResourceError},
    fields::{Field, Fields},
    metadata::{self, Kept, Metadata},
    scalar,
    write::Object,
};
use crate::identity::{RoleName, Traits, UserName};

/// A local user.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// Name, description, expiry.
    pub metadata: Metadata<UserName>,
    /// What the user may do.
    pub roles: Vec<RoleName>,
    /// What roles refer to by `{{internal.…}}` and `{{external.…}}`.
    pub traits: Traits,
    /// Whether the user may log in at all.
    pub status: UserStatus,
    /// `created_by`, identities at connectors.
    pub kept: Kept,
}

/// Whether a user may log in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserStatus {
    /// Locked by an administrator, or after failed attempts.
    pub is_locked: bool,
    /// When the lock ends by itself.
    pub lock_expires: Option<SystemTime>,
    /// Why.
    pub locked_message: String,
    /// When the lock began, attempts at recovery.
    pub kept: Kept,
}

const KEPT: &[&str] =
    &["created_by", "github_identities", "oidc_identities", "saml_identities", "trusted_device_ids"];
const REFUSED: &[(&str, &str)] =
    &[("local_auth", "passwords and devices cannot be given in a file; invite the user instead")];

impl User {
    /// A user with roles and nothing else.
    #[must_use]
    pub fn new(name: UserName, roles: Vec<RoleName>) -> Self {
        Self {
            metadata: Metadata::named(name),
            roles,
            traits: Traits::new(),
            status: UserStatus::default(),
            kept: Kept::new(),
        }
    }

    pub(super) fn from_fields(mut fields: Fields<'_>) -> Result<Self, ResourceError> {
        let metadata = metadata::header(&mut fields, "v2")?;
        let spec_field = fields.required("spec")?;
        let mut spec = spec_field.fields()?;
        let mut kept = spec.keep_silently(KEPT);
        spec.refuse(&mut kept, REFUSED)?;
        expires(&mut spec, &mut kept)?;
        let user = Self {
            metadata,
            roles: spec.optional("roles", |f| f.list(Field::name))?.unwrap_or_default(),
            traits: spec.optional("traits", |f| f.map(|_, values| values.texts()))?.unwrap_or_default(),
            status: spec.optional("status", UserStatus::from_field)?.unwrap_or_default(),
            kept,
        };
        spec.finish()?;
        fields.finish()?;
        Ok(user)
    }

    pub(super) fn to_value(&self) -> serde_json::Value {
        let spec = Object::new()
            .put("roles", self.roles.iter().map(RoleName::as_str).collect::<Vec<_>>())
            .put_map(
                "traits",
                self.traits.iter().map(|(name, values)| (name.clone(), values.as_slice().into())),
            )
            .put("status", self.status.to_value())
            .put_kept(&self.kept);
        Object::new()
            .put("kind", Kind::User.as_str())
            .put("version", "v2")
            .put("metadata", self.metadata.to_value())
            .put("spec", spec.into_value())
            .into_value()
    }
}

/// A second place for the expiry. Go's zero time, which exports carry, says nothing; a time that we would not heed is
/// refused.
fn expires(spec: &mut Fields<'_>, kept: &mut Kept) -> Result<(), ResourceError> {
    const ZERO: &str = "0001-01-01T00:00:00Z";
    let zero = spec.optional("expires", |field| match field.text()? {
        ZERO => Ok(ZERO),
        _ => Err(field.error(Problem::Unsupported("write metadata.expires"))),
    })?;
    if let Some(zero) = zero {
        kept.insert("expires".to_owned(), zero.into());
    }
    Ok(())
}

impl UserStatus {
    fn from_field(field: &Field<'_>) -> Result<Self, ResourceError> {
        let mut fields = field.fields()?;
        let status = Self {
            is_locked: fields.optional("is_locked", Field::truth)?.unwrap_or_default(),
            lock_expires: fields.optional("lock_expires", Field::time)?,
            locked_message: fields
                .optional("locked_message", |f| f.text().map(str::to_owned))?
                .unwrap_or_default(),
            kept: fields.keep_silently(&["locked_time", "recovery_attempt_lock_expires"]),
        };
        fields.finish()?;
        Ok(status)
    }

    fn to_value(&self) -> serde_json::Value {
        Object::new()
            .put("is_locked", self.is_locked)
            .put_some("lock_expires", self.lock_expires.map(scalar::write_time))
            .put_unless_empty("locked_message", &self.locked_message)
            .put_kept(&self.kept)
            .into_value()
    }
}
