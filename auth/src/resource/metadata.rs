//! What every resource has: a name, a description, labels, an expiry.

use std::{collections::BTreeMap, fmt, time::SystemTime};

use super::{
    error::ResourceError,
    fields::{Field, Fields},
    scalar,
    write::Object,
};
use crate::identity::{MAX_NAME_BYTES, NameError, RoleName, TargetName, UserName};

/// Fields that are known, not acted on, and written out again as they were read.
pub type Kept = BTreeMap<String, serde_json::Value>;

/// The `metadata` of a resource whose name is an `N`.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata<N> {
    /// Unique within the kind.
    pub name: N,
    /// Free text for people.
    pub description: String,
    /// For targets, what roles select by.
    pub labels: BTreeMap<String, String>,
    /// When the resource ceases to be.
    pub expires: Option<SystemTime>,
    /// The storage's version of it: shown by `get`, accepted and not compared on `create`.
    pub revision: Option<String>,
    /// `id`, `namespace`.
    pub kept: Kept,
}

impl<N> Metadata<N> {
    /// Metadata with nothing but a name.
    pub fn named(name: N) -> Self {
        Self {
            name,
            description: String::new(),
            labels: BTreeMap::new(),
            expires: None,
            revision: None,
            kept: Kept::new(),
        }
    }

    /// Whether the resource has ceased to be.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// What can be the name of a resource.
pub(super) trait Name: TryFrom<String, Error = NameError> + AsRef<str> {}
impl Name for RoleName {}
impl Name for UserName {}
impl Name for TargetName {}
impl Name for ResourceName {}

impl<N> Metadata<N> {
    pub(super) fn from_field(field: &Field<'_>) -> Result<Self, ResourceError>
    where
        N: Name,
    {
        let mut fields = field.fields()?;
        let metadata = Self {
            name: fields.required("name")?.name()?,
            description: fields.optional("description", |f| f.text().map(str::to_owned))?.unwrap_or_default(),
            labels: fields
                .optional("labels", |f| f.map(|_, value| value.text().map(str::to_owned)))?
                .unwrap_or_default(),
            expires: fields.optional("expires", |f| f.time())?,
            revision: fields.optional("revision", |f| f.text().map(str::to_owned))?,
            kept: fields.keep_silently(&["id", "namespace"]),
        };
        fields.finish()?;
        Ok(metadata)
    }

    pub(super) fn to_value(&self) -> serde_json::Value
    where
        N: Name,
    {
        Object::new()
            .put("name", self.name.as_ref())
            .put_unless_empty("description", &self.description)
            .put_map("labels", self.labels.iter().map(|(k, v)| (k.clone(), v.as_str().into())))
            .put_some("expires", self.expires.map(scalar::write_time))
            .put_some("revision", self.revision.as_deref())
            .put_kept(&self.kept)
            .into_value()
    }
}

/// Reads `version` and `metadata`, which every kind has.
pub(super) fn header<N: Name>(
    fields: &mut Fields<'_>,
    expected: &'static str,
) -> Result<Metadata<N>, ResourceError> {
    version(fields, expected)?;
    Metadata::from_field(&fields.required("metadata")?)
}

/// Reads `version`, of a kind that has but one.
pub(super) fn version(fields: &mut Fields<'_>, expected: &'static str) -> Result<(), ResourceError> {
    let field = fields.required("version")?;
    if field.text()? == expected { Ok(()) } else { Err(field.invalid(expected)) }
}

/// The name of a resource that is nobody's name: a lock's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceName(String);

impl ResourceName {
    /// Checks a name from outside: printable, without white space, comma or slash (`kind/name` is how people type it).
    ///
    /// # Errors
    /// [`NameError`] says what is wrong with it.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        check("resource name", name.into()).map(Self)
    }

    /// A name that this crate gives.
    pub(super) fn constant(name: &'static str) -> Self {
        Self(name.to_owned())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The check behind [`ResourceName`] and token names.
pub(super) fn check(what: &'static str, name: String) -> Result<String, NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong { what, length: name.len() });
    }
    match name.chars().find(|&c| c.is_control() || c.is_whitespace() || c == ',' || c == '/') {
        Some(character) => Err(NameError::Character { what, character }),
        None => Ok(name),
    }
}

impl TryFrom<String> for ResourceName {
    type Error = NameError;
    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl AsRef<str> for ResourceName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
