//! What need not be worked out twice: roles compiled for an identity, and judgements made with them. HOT.
//!
//! Both are found by a [`Holdings`] or [`Question`], which say all that they depend on, and by the replica's generation, so that
//! a change of policy is one bump: old entries are never found again and fall out. What is found is no better than when it
//! was made: one of the roles may have expired since, and is looked at; validity, locks, address and MFA are not in here at all.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use moka::sync::Cache;

use crate::{
    authorizer::Session,
    identity::{Identity, RoleName, Traits},
    policy::{self, Access, Decision, PolicyError, RoleSet, SessionOptions},
    replica::Snapshot,
    resource::{AuthPreference, Role},
};

mod question;

pub(crate) use question::{Holdings, Question};

/// Bytes, about, that compiled roles may take.
const MAX_BYTES: u64 = 64 << 20;

/// Judgements that are kept. A client chooses its login, so there is no end to what may be asked; each takes less than half a
/// kilobyte, whatever was asked.
const MAX_JUDGEMENTS: u64 = 64 * 1024;

/// About what compiled roles take besides their strings.
const ENTRY: usize = 512;

/// What nobody asked for in this time makes room; most of it is of an older generation.
pub(crate) const IDLE: Duration = Duration::from_secs(600);

/// What all roles of an identity together say about its sessions.
pub(crate) struct Terms {
    pub(crate) options: SessionOptions,
    /// When the first of them ceases to be.
    expires: Option<SystemTime>,
}

/// What policy answers, and on which terms.
pub(crate) struct Judgement {
    pub(crate) decision: Decision,
    pub(crate) terms: Arc<Terms>,
}

/// The roles of an identity, compiled.
struct CompiledRoles {
    set: RoleSet,
    terms: Arc<Terms>,
}

/// Asks policy, and remembers the answer.
pub(crate) struct Judge {
    roles: Cache<(Holdings, u64), Arc<CompiledRoles>>,
    judgements: Cache<(Question, u64), Arc<Judgement>>,
}

/// A compiled role holds the names in the role a few times over.
const COMPILED_ROLE: usize = 4 * 1024;

impl Judge {
    pub(crate) fn new() -> Self {
        Self::with_room_for(MAX_JUDGEMENTS)
    }

    fn with_room_for(judgements: u64) -> Self {
        let weigher = |_: &(Holdings, u64), compiled: &Arc<CompiledRoles>| {
            let (roles, traits) = (compiled.set.names(), compiled.set.traits());
            weight(ENTRY + COMPILED_ROLE * roles.len() + strings(roles, traits))
        };
        Self {
            roles: Cache::builder().max_capacity(MAX_BYTES).weigher(weigher).time_to_idle(IDLE).build(),
            judgements: Cache::builder().max_capacity(judgements).time_to_idle(IDLE).build(),
        }
    }

    /// What policy answers to a session, by the roles of a snapshot that are live now.
    ///
    /// # Errors
    /// The roles do not make sense. That is not remembered.
    pub(crate) fn judge(
        &self,
        session: &Session,
        snapshot: &Snapshot,
        preference: &AuthPreference,
        now: SystemTime,
    ) -> Result<Arc<Judgement>, PolicyError> {
        let key = (*session.question(), snapshot.generation());
        if let Some(known) = self.judgements.get(&key).filter(|known| known.terms.are_live(now)) {
            return Ok(known);
        }
        let compiled = self.resolve(session, snapshot, preference, now)?;
        let identity = session.identity();
        let access = Access {
            roles: identity.roles.clone(),
            traits: identity.traits.clone(),
            target: Arc::clone(&session.request().target),
            login: session.request().login.clone(),
            mfa: session.mfa().status(),
        };
        let decision = policy::evaluate(&compiled.set, &access);
        let judgement = Arc::new(Judgement { decision, terms: Arc::clone(&compiled.terms) });
        self.judgements.insert(key, Arc::clone(&judgement));
        Ok(judgement)
    }

    fn resolve(
        &self,
        session: &Session,
        snapshot: &Snapshot,
        preference: &AuthPreference,
        now: SystemTime,
    ) -> Result<Arc<CompiledRoles>, PolicyError> {
        let key = (*session.holdings(), snapshot.generation());
        if let Some(known) = self.roles.get(&key).filter(|known| known.terms.are_live(now)) {
            return Ok(known);
        }
        let Identity { roles, traits, .. } = session.identity();
        let live = |name: &RoleName| snapshot.role(name).filter(|role| !role.metadata.is_expired(now));
        let set = RoleSet::resolve(roles, traits, &live, preference)?;
        let expires = roles.iter().filter_map(live).filter_map(expiry).min();
        let terms = Arc::new(Terms { options: set.options().clone(), expires });
        let compiled = Arc::new(CompiledRoles { set, terms });
        self.roles.insert(key, Arc::clone(&compiled));
        Ok(compiled)
    }
}

impl Terms {
    pub(crate) fn expires(&self) -> Option<SystemTime> {
        self.expires
    }

    fn are_live(&self, now: SystemTime) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

fn expiry(role: Arc<Role>) -> Option<SystemTime> {
    role.metadata.expires
}

fn strings(roles: &[RoleName], traits: &Traits) -> usize {
    let roles = roles.iter().map(|role| role.as_str().len());
    let traits = traits.iter().flat_map(|(name, values)| values.iter().chain([name]).map(String::len));
    roles.chain(traits).sum()
}

pub(crate) fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
