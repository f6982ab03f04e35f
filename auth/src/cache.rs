//! What need not be worked out twice: roles compiled for an identity, and decisions made with them. HOT.
//!
//! Both are keyed by the replica's generation, so a change of policy is one bump: old entries are never found again and fall
//! out. Nothing that time can change is kept here; validity, locks, address and MFA are looked at each time.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use moka::sync::Cache;

use crate::{
    identity::{Identity, RoleName, Traits},
    policy::{self, Access, Decision, PolicyError, RoleSet},
    replica::Snapshot,
    resource::{AuthPreference, Role},
};

/// Identities with different roles or traits that are remembered at a time.
const MAX_ROLE_SETS: u64 = 10_000;

/// Accesses that are remembered at a time.
const MAX_DECISIONS: u64 = 100_000;

/// What nobody asked for in this time makes room; most of it is of an older generation.
const IDLE: Duration = Duration::from_secs(600);

/// The roles of an identity, compiled.
pub(crate) struct CompiledRoles {
    pub(crate) set: RoleSet,
    /// When the first of them ceases to be.
    expires: Option<SystemTime>,
}

/// Compiled roles by (names, traits, generation).
pub(crate) struct RoleSetCache(Cache<(Vec<RoleName>, Traits, u64), Arc<CompiledRoles>>);

impl RoleSetCache {
    pub(crate) fn new() -> Self {
        Self(Cache::builder().max_capacity(MAX_ROLE_SETS).time_to_idle(IDLE).build())
    }

    pub(crate) fn resolve(
        &self,
        identity: &Identity,
        snapshot: &Snapshot,
        preference: &AuthPreference,
        now: SystemTime,
    ) -> Result<Arc<CompiledRoles>, PolicyError> {
        let key = (identity.roles.clone(), identity.traits.clone(), snapshot.generation());
        if let Some(known) =
            self.0.get(&key).filter(|roles| roles.expires.is_none_or(|expires| now < expires))
        {
            return Ok(known);
        }
        let live = |name: &RoleName| snapshot.role(name).filter(|role| !role.metadata.is_expired(now));
        let compiled = Arc::new(CompiledRoles {
            set: RoleSet::resolve(&identity.roles, &identity.traits, &live, preference)?,
            expires: identity.roles.iter().filter_map(live).filter_map(expiry).min(),
        });
        self.0.insert(key, Arc::clone(&compiled));
        Ok(compiled)
    }
}

impl CompiledRoles {
    pub(crate) fn expires(&self) -> Option<SystemTime> {
        self.expires
    }
}

fn expiry(role: Arc<Role>) -> Option<SystemTime> {
    role.metadata.expires
}

/// Decisions by (access, generation).
pub(crate) struct DecisionCache(Cache<(Access, u64), Decision>);

impl DecisionCache {
    pub(crate) fn new() -> Self {
        Self(Cache::builder().max_capacity(MAX_DECISIONS).time_to_idle(IDLE).build())
    }

    pub(crate) fn decide(&self, roles: &RoleSet, access: Access, generation: u64) -> Decision {
        let key = (access, generation);
        self.0.get_with_by_ref(&key, || policy::evaluate(roles, &key.0))
    }
}
