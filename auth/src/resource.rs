//! What administrators write: roles, users, the cluster's authentication preference, tokens, locks, databases, nodes.
//!
//! The shapes are Teleport's (`kind`, `version`, `metadata`, `spec`), so that its users' files load. Reading is strict:
//! a field that we do not know is an error that names the field and the line. A field that Teleport knows and we do
//! not act on is kept, reported as a notice, and written out again; unless leaving it unheeded would widen
//! somebody's rights, in which case the file is refused. Three options of a role are ours and not
//! Teleport's: `db_session_settings`, `db_replication` and `db_local_infile`.
//!
//! ```
//! let parsed = auth::resource::parse_documents(
//!     "kind: role\nversion: v6\nmetadata:\n  name: access-dev\nspec:\n  allow:\n    node_labels: {env: dev}\n    logins: [jerry]\n",
//! )?;
//! assert_eq!(parsed[0].resource.name(), "access-dev");
//! # Ok::<(), auth::resource::ResourceError>(())
//! ```

mod auth_preference;
mod database;
mod error;
mod fields;
mod lock;
mod metadata;
mod node;
pub mod preset;
mod role;
mod scalar;
mod token;
mod tree;
mod user;
mod write;
mod yaml;

#[cfg(test)]
mod tests;

use std::{cell::RefCell, fmt};

pub use auth_preference::{AUTH_PREFERENCE_NAME, AttestationAuthorities, AuthPreference, SecondFactor};
pub use database::Database;
pub use error::{Problem, ResourceError};
pub use lock::{Lock, LockTarget};
pub use metadata::{Kept, Metadata, ResourceName};
pub use node::Node;
pub use role::{
    Conditions, Labels, LockingMode, RecordingMode, Role, RoleOptions, RoleSpec, RoleVersion, Rule,
    SessionRecording,
};
pub use token::{Token, TokenName, TokenRole};
pub use user::{User, UserStatus};

use fields::Field;

/// The kinds of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// What people with a role may do.
    Role,
    /// A local user.
    User,
    /// The one `cluster_auth_preference`.
    AuthPreference,
    /// An invitation for a sidecar.
    Token,
    /// An immediate stop.
    Lock,
    /// A database target.
    Database,
    /// An SSH target.
    Node,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Role, Self::User, Self::AuthPreference, Self::Token, Self::Lock, Self::Database, Self::Node];

    /// The word in the `kind` field.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::User => "user",
            Self::AuthPreference => "cluster_auth_preference",
            Self::Token => "token",
            Self::Lock => "lock",
            Self::Database => "db",
            Self::Node => "node",
        }
    }

    /// Reads a kind as people type it: singular, plural, or the alias (`cap`, `database`).
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "role" | "roles" => Self::Role,
            "user" | "users" => Self::User,
            "cap" | "cluster_auth_preference" => Self::AuthPreference,
            "token" | "tokens" => Self::Token,
            "lock" | "locks" => Self::Lock,
            "db" | "dbs" | "database" | "databases" => Self::Database,
            "node" | "nodes" => Self::Node,
            _ => return None,
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One resource of any kind.
#[expect(
    clippy::large_enum_variant,
    reason = "resources are read and written one at a time, never kept in numbers"
)]
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    /// See [`Role`].
    Role(Role),
    /// See [`User`].
    User(User),
    /// See [`AuthPreference`].
    AuthPreference(AuthPreference),
    /// See [`Token`].
    Token(Token),
    /// See [`Lock`].
    Lock(Lock),
    /// See [`Database`].
    Database(Database),
    /// See [`Node`].
    Node(Node),
}

macro_rules! resource_from {
    ($($kind:ident),*) => {
        $(impl From<$kind> for Resource {
            fn from(resource: $kind) -> Self {
                Self::$kind(resource)
            }
        })*
    };
}
resource_from!(Role, User, AuthPreference, Token, Lock, Database, Node);

/// A resource as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// The resource.
    pub resource: Resource,
    /// Fields that are known, kept, and not acted on; one sentence each, with the line where known.
    pub notices: Vec<String>,
}

/// Reads one or more YAML documents (or JSON, which YAML includes). Empty documents are skipped.
///
/// # Errors
/// [`ResourceError`] with field and line, for the first thing that is wrong; then nothing of the file is returned.
pub fn parse_documents(yaml: &str) -> Result<Vec<Parsed>, ResourceError> {
    yaml::documents(yaml)?.iter().map(Parsed::from_tree).collect()
}

impl Parsed {
    fn from_tree(document: &tree::Tree) -> Result<Self, ResourceError> {
        let notices = RefCell::new(Vec::new());
        let resource = Resource::from_field(&Field::root(document, &notices))?;
        Ok(Self { resource, notices: notices.into_inner() })
    }
}

impl Resource {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Role(_) => Kind::Role,
            Self::User(_) => Kind::User,
            Self::AuthPreference(_) => Kind::AuthPreference,
            Self::Token(_) => Kind::Token,
            Self::Lock(_) => Kind::Lock,
            Self::Database(_) => Kind::Database,
            Self::Node(_) => Kind::Node,
        }
    }

    /// Its name, unique within its kind.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Role(role) => role.metadata.name.as_str(),
            Self::User(user) => user.metadata.name.as_str(),
            Self::AuthPreference(_) => AUTH_PREFERENCE_NAME,
            Self::Token(token) => token.metadata.name.as_str(),
            Self::Lock(lock) => lock.metadata.name.as_str(),
            Self::Database(database) => database.metadata.name.as_str(),
            Self::Node(node) => node.metadata.name.as_str(),
        }
    }

    /// Reads one resource from JSON, as strictly as from YAML.
    ///
    /// # Errors
    /// [`ResourceError`] names the field; there are no lines.
    pub fn from_json(json: &str) -> Result<Self, ResourceError> {
        let tree = tree::Tree::from_json(json)?;
        Parsed::from_tree(&tree).map(|parsed| parsed.resource)
    }

    /// One line of JSON. [`Resource::from_json`] reads it back to an equal value.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }

    /// A YAML document, fields in alphabetical order. [`parse_documents`] reads it back to an equal value.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        yaml::write(&self.to_value())
    }

    /// The resource as a JSON value, for lists and for `--format=json`.
    #[must_use]
    pub fn to_value(&self) -> serde_json::Value {
        match self {
            Self::Role(role) => role.to_value(),
            Self::User(user) => user.to_value(),
            Self::AuthPreference(preference) => preference.to_value(),
            Self::Token(token) => token.to_value(),
            Self::Lock(lock) => lock.to_value(),
            Self::Database(database) => database.to_value(),
            Self::Node(node) => node.to_value(),
        }
    }

    fn from_field(document: &Field<'_>) -> Result<Self, ResourceError> {
        let mut fields = document.fields()?;
        let kind_field = fields.required("kind")?;
        let Some(kind) = Kind::parse(kind_field.text()?) else {
            return Err(
                kind_field.invalid("a kind: role, user, cluster_auth_preference, token, lock, db or node")
            );
        };
        Ok(match kind {
            Kind::Role => Self::Role(Role::from_fields(fields)?),
            Kind::User => Self::User(User::from_fields(fields)?),
            Kind::AuthPreference => Self::AuthPreference(AuthPreference::from_fields(fields)?),
            Kind::Token => Self::Token(Token::from_fields(fields)?),
            Kind::Lock => Self::Lock(Lock::from_fields(fields)?),
            Kind::Database => Self::Database(Database::from_fields(fields)?),
            Kind::Node => Self::Node(Node::from_fields(fields)?),
        })
    }
}
