//! An invitation with which a sidecar joins the cluster.

use std::fmt;

use super::{
    Kind,
    error::{Problem, ResourceError},
    fields::Fields,
    metadata::{self, Kept, Metadata, Name},
    write::Object,
};
use crate::identity::NameError;

/// The name of a token is its secret, so `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenName(String);

impl TokenName {
    /// Checks a name from outside.
    ///
    /// # Errors
    /// [`NameError`] says what is wrong with it.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        metadata::check("token name", name.into()).map(Self)
    }

    /// The secret.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenName(…)")
    }
}

impl TryFrom<String> for TokenName {
    type Error = NameError;
    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl AsRef<str> for TokenName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Name for TokenName {}

/// What one who joins by a token may guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TokenRole {
    /// SSH hosts.
    Node,
    /// Databases.
    Db,
}

impl TokenRole {
    /// The word in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::Db => "Db",
        }
    }

    /// Reads the word as files and command lines write it, whatever the case.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Node, Self::Db].into_iter().find(|role| role.as_str().eq_ignore_ascii_case(word))
    }
}

/// An invitation for a sidecar.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// The secret and its expiry.
    pub metadata: Metadata<TokenName>,
    /// What the joiner may guard; never empty.
    pub roles: Vec<TokenRole>,
    /// Suggestions for the joiner's configuration.
    pub kept: Kept,
}

const KEPT: &[&str] = &["suggested_agent_matcher_labels", "suggested_labels"];

impl Token {
    pub(super) fn from_fields(mut fields: Fields<'_>) -> Result<Self, ResourceError> {
        let metadata = metadata::header(&mut fields, "v2")?;
        let spec_field = fields.required("spec")?;
        let mut spec = spec_field.fields()?;
        let mut kept = spec.keep(KEPT);
        spec.optional("join_method", |f| match f.text()? {
            "" | "token" => Ok(()),
            _ => Err(f.error(Problem::Unsupported("the only join_method is token"))),
        })?;
        spec.refuse(&mut kept, &[("allow", "the rules of a join_method other than token")])?;
        let roles_field = spec.required("roles")?;
        let roles = roles_field.list(|item| {
            TokenRole::parse(item.text()?).ok_or_else(|| item.invalid("what a sidecar can be: Db or Node"))
        })?;
        if roles.is_empty() {
            return Err(
                roles_field.error(Problem::Type { expected: "at least one of Db, Node", found: "none" })
            );
        }
        spec.finish()?;
        fields.finish()?;
        Ok(Self { metadata, roles, kept })
    }

    pub(super) fn to_value(&self) -> serde_json::Value {
        let spec = Object::new()
            .put("join_method", "token")
            .put("roles", self.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>())
            .put_kept(&self.kept);
        Object::new()
            .put("kind", Kind::Token.as_str())
            .put("version", "v2")
            .put("metadata", self.metadata.to_value())
            .put("spec", spec.into_value())
            .into_value()
    }
}
