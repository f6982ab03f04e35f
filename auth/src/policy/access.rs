//! Everything that a decision may depend on.

use std::{collections::BTreeMap, sync::Arc};

use crate::identity::{Login, Protocol, RoleName, TargetName, Traits};

/// Which labels of a role select a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TargetKind {
    /// Selected by `db_labels`.
    Database,
    /// Selected by `node_labels`.
    Node,
}

/// What somebody wants to reach.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Database or SSH host.
    pub kind: TargetKind,
    /// Its name.
    pub name: TargetName,
    /// What it speaks.
    pub protocol: Protocol,
    /// What roles select by.
    pub labels: BTreeMap<String, String>,
}

/// Whether the person touched a security key (or gave a code) for this very session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MfaStatus {
    /// Proven, and checked.
    Verified,
    /// Not proven. A login certificate never proves it.
    NotVerified,
}

/// A question to the policy. Two equal questions have the same answer as long as no role changes, so that answers can be
/// remembered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// The roles of the identity.
    pub roles: Vec<RoleName>,
    /// The traits of the identity.
    pub traits: Traits,
    /// What it wants to reach.
    pub target: Arc<Target>,
    /// As whom.
    pub login: Login,
    /// With or without a touch.
    pub mfa: MfaStatus,
}
