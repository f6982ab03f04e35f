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
    identity::{Identity, Login, RoleName, Traits},
    policy::{self, Access, Decision, PolicyError, RoleSet},
    replica::Snapshot,
    resource::{AuthPreference, Role},
};

/// Bytes, about, that either cache may take: a client chooses its login, so entries are weighed, not counted.
const MAX_BYTES: u64 = 64 << 20;

/// About what an entry takes besides its strings.
const ENTRY: usize = 512;

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

/// A compiled role holds the names in the role a few times over.
const COMPILED_ROLE: usize = 4 * 1024;

impl RoleSetCache {
    pub(crate) fn new() -> Self {
        let weigher = |(roles, traits, _): &(Vec<RoleName>, Traits, u64), _: &Arc<CompiledRoles>| {
            weight(ENTRY + COMPILED_ROLE * roles.len() + strings(roles, traits))
        };
        Self(Cache::builder().max_capacity(MAX_BYTES).weigher(weigher).time_to_idle(IDLE).build())
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
        let weigher = |(access, _): &(Access, u64), _: &Decision| {
            let login = match &access.login {
                Login::Database { user, name } => user.len() + name.len(),
                Login::Node { login } => login.len(),
            };
            weight(ENTRY + login + strings(&access.roles, &access.traits))
        };
        Self(Cache::builder().max_capacity(MAX_BYTES).weigher(weigher).time_to_idle(IDLE).build())
    }

    pub(crate) fn decide(&self, roles: &RoleSet, access: Access, generation: u64) -> Decision {
        let key = (access, generation);
        self.0.get_with_by_ref(&key, || policy::evaluate(roles, &key.0))
    }
}

fn strings(roles: &[RoleName], traits: &Traits) -> usize {
    let roles = roles.iter().map(|role| role.as_str().len());
    let traits = traits.iter().flat_map(|(name, values)| values.iter().chain([name]).map(String::len));
    roles.chain(traits).sum()
}

fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, world::request};

    #[test]
    fn a_client_that_asks_for_ever_new_logins_does_not_fill_the_memory() {
        let world = World::new();
        let (snapshot, now) = (world.replica.snapshot(), crate::testing::now());
        let preference = snapshot.auth_preference().unwrap();
        let roles = RoleSetCache::new().resolve(&world.login(), &snapshot, preference, now).unwrap();
        let decisions = DecisionCache::new();
        for n in 0..10_000 {
            let access = Access {
                roles: world.login().roles,
                traits: Traits::new(),
                target: request("dev-pg").target,
                login: Login::Database { user: format!("{n}{}", "x".repeat(10_000)), name: String::new() },
                mfa: policy::MfaStatus::NotVerified,
            };
            decisions.decide(&roles.set, access, 1);
        }
        decisions.0.run_pending_tasks();
        assert!(decisions.0.weighted_size() <= MAX_BYTES);
        assert!(decisions.0.entry_count() < 7_000);
    }
}
