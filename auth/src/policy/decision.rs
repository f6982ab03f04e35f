//! The three answers, and who gave them.

use std::fmt;

use super::access::TargetKind;
use crate::identity::RoleName;

/// The answer to an [`Access`](super::Access).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// They may.
    Allow {
        /// The role that gives it: the first that matches.
        role: RoleName,
    },
    /// They may, once they have touched a security key for this session. Teleport's `access to resource requires MFA`.
    MfaRequired {
        /// Who asks for it.
        by: MfaRequiredBy,
    },
    /// They may not.
    Deny {
        /// Why.
        by: DeniedBy,
    },
}

/// Who asks for a touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MfaRequiredBy {
    /// `cluster_auth_preference`.
    Cluster,
    /// A role.
    Role(RoleName),
}

/// Why access is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeniedBy {
    /// A role forbids it.
    Role {
        /// The role.
        role: RoleName,
        /// What of its `deny` matched.
        list: DenyList,
    },
    /// No role gives it.
    NothingMatched,
}

/// What of a role's `deny` matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DenyList {
    /// The target's labels.
    Labels,
    /// The SSH login.
    Logins,
    /// The database user.
    DbUsers,
    /// The database name.
    DbNames,
}

impl DenyList {
    /// The field in the role.
    pub(super) fn field(self, of: TargetKind) -> &'static str {
        match (self, of) {
            (Self::Labels, TargetKind::Database) => "db_labels",
            (Self::Labels, TargetKind::Node) => "node_labels",
            (list, _) => list.as_str(),
        }
    }

    /// A word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Labels => "labels",
            Self::Logins => "logins",
            Self::DbUsers => "db_users",
            Self::DbNames => "db_names",
        }
    }
}

/// A decision and how it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What [`evaluate()`](super::evaluate()) answers.
    pub decision: Decision,
    /// One line a role, in the order of the identity: what its deny and its allow have to say.
    pub reasons: Vec<String>,
}

impl Decision {
    /// The role that decided, if one did.
    #[must_use]
    pub fn role(&self) -> Option<&RoleName> {
        match self {
            Self::Allow { role }
            | Self::MfaRequired { by: MfaRequiredBy::Role(role) }
            | Self::Deny { by: DeniedBy::Role { role, .. } } => Some(role),
            Self::MfaRequired { by: MfaRequiredBy::Cluster }
            | Self::Deny { by: DeniedBy::NothingMatched } => None,
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow { role } => write!(f, "allowed by role {role}"),
            Self::MfaRequired { by } => write!(f, "MFA required by {by}"),
            Self::Deny { by } => write!(f, "denied: {by}"),
        }
    }
}

impl fmt::Display for MfaRequiredBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("cluster_auth_preference"),
            Self::Role(role) => write!(f, "role {role}"),
        }
    }
}

impl fmt::Display for DeniedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role { role, list } => write!(f, "role {role} forbids it in deny.{}", list.as_str()),
            Self::NothingMatched => f.write_str("no role gives it"),
        }
    }
}
