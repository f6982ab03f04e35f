//! The roles of an identity, compiled once for its traits.

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc};

use super::{
    access::{Target, TargetKind},
    labels::{Mismatch, Selector, Side},
    options::SessionOptions,
    template::Template,
};
use crate::{
    identity::{RoleName, Traits},
    resource::{AuthPreference, Conditions, Labels, Role, RoleVersion, Rule, preset},
};

/// Why roles could not be resolved. Nobody is let in then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The identity names a role that does not exist. It may have held denies, so it cannot be passed over.
    #[error("role {0} does not exist")]
    UnknownRole(RoleName),
    /// Two roles of the identity give a setting of the database different values, and neither goes before the other.
    #[error("roles {first} and {second} give {setting} different values in db_session_settings")]
    SettingConflict {
        /// The setting, in lower case.
        setting: String,
        /// The first that sets it, in the order of the identity.
        first: RoleName,
        /// The next that sets it to something else.
        second: RoleName,
    },
}

/// The roles of an identity, with variables expanded and patterns compiled. Built once, asked often.
#[derive(Clone, Debug)]
pub struct RoleSet {
    pub(super) names: Vec<RoleName>,
    pub(super) traits: Traits,
    pub(super) roles: Vec<CompiledRole>,
    pub(super) mfa: MfaRequirement,
    rules: Rules,
    options: SessionOptions,
}

/// When a session needs a touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MfaRequirement {
    /// The cluster asks for it, whatever the roles say.
    Cluster,
    /// Every role asks for it; the first is named.
    EveryRole(RoleName),
    /// Some roles do: it depends on which one matches.
    PerRole,
    /// None does.
    Never,
}

/// One role for one user.
#[derive(Clone, Debug)]
pub(super) struct CompiledRole {
    pub(super) name: RoleName,
    pub(super) requires_mfa: bool,
    pub(super) allow: Compiled,
    pub(super) deny: Compiled,
}

/// `allow` or `deny` for one user.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    pub(super) logins: Vec<String>,
    pub(super) db_users: Vec<String>,
    pub(super) db_names: Vec<String>,
    node_labels: Selector,
    db_labels: Selector,
}

#[derive(Clone, Debug, Default)]
struct Rules {
    allow: Vec<Rule>,
    deny: Vec<Rule>,
}

/// What an identity may ask for at a target, for people to read: `[alice bob], except: [root]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedValues {
    /// What the roles that cover the target give, sorted; `*` is any.
    pub allowed: Vec<String>,
    /// What any role takes away, sorted. It goes before `allowed`.
    pub denied: Vec<String>,
}

impl RoleSet {
    /// Compiles the roles that an identity names.
    ///
    /// # Errors
    /// [`PolicyError::UnknownRole`] when `roles` does not know one of them; [`PolicyError::SettingConflict`] when two of
    /// them cannot both be heeded, whatever is asked for.
    pub fn resolve(
        names: &[RoleName],
        traits: &Traits,
        roles: &dyn Fn(&RoleName) -> Option<Arc<Role>>,
        preference: &AuthPreference,
    ) -> Result<Self, PolicyError> {
        let mut found: Vec<Arc<Role>> = Vec::with_capacity(names.len());
        for name in names {
            if !found.iter().any(|role| role.name() == name) {
                found.push(roles(name).ok_or_else(|| PolicyError::UnknownRole(name.clone()))?);
            }
        }
        let compiled: Vec<CompiledRole> = found.iter().map(|role| CompiledRole::new(role, traits)).collect();
        let all = || found.iter().map(AsRef::as_ref);
        Ok(Self {
            names: names.to_vec(),
            traits: traits.clone(),
            mfa: MfaRequirement::of(&compiled, preference),
            roles: compiled,
            rules: Rules::of(all()),
            options: SessionOptions::merge(all(), preference)?,
        })
    }

    pub(crate) fn names(&self) -> &[RoleName] {
        &self.names
    }

    pub(crate) fn traits(&self) -> &Traits {
        &self.traits
    }

    /// The options of a session, from all roles and the cluster.
    #[must_use]
    pub fn options(&self) -> &SessionOptions {
        &self.options
    }

    /// Whether some role gives a target by its labels, and none takes it away by them. Says nothing about users and
    /// names: it decides who sees the target in a list.
    #[must_use]
    pub fn covers(&self, target: &Target) -> bool {
        let denied = self.roles.iter().any(|role| role.deny.selects(target).is_ok());
        !denied && self.roles.iter().any(|role| role.allow.selects(target).is_ok())
    }

    /// Database users that may be asked for at a target.
    #[must_use]
    pub fn allowed_db_users(&self, target: &Target) -> AllowedValues {
        self.allowed(target, |conditions| &conditions.db_users)
    }

    /// Database names that may be asked for at a target.
    #[must_use]
    pub fn allowed_db_names(&self, target: &Target) -> AllowedValues {
        self.allowed(target, |conditions| &conditions.db_names)
    }

    /// SSH logins that may be asked for at a target.
    #[must_use]
    pub fn allowed_logins(&self, target: &Target) -> AllowedValues {
        self.allowed(target, |conditions| &conditions.logins)
    }

    /// Whether an administrator may do `verb` to resources of a kind. Deny goes first; a rule with a `where` that we
    /// cannot judge never grants and always denies.
    #[must_use]
    pub fn allows_rule(&self, resource: &str, verb: &str) -> bool {
        let matches = |rule: &Rule| {
            rule.resources.iter().any(|r| r == resource || r == "*")
                && rule
                    .verbs
                    .iter()
                    .any(|v| v == verb || v == "*" || (v == "read" && verb == "readnosecrets"))
        };
        !self.rules.deny.iter().any(matches)
            && self.rules.allow.iter().any(|rule| rule.condition.is_none() && matches(rule))
    }

    fn allowed(&self, target: &Target, of: fn(&Compiled) -> &Vec<String>) -> AllowedValues {
        if !self.covers(target) {
            return AllowedValues::default();
        }
        let covering = self.roles.iter().filter(|role| role.allow.selects(target).is_ok());
        AllowedValues {
            allowed: sorted(covering.flat_map(|role| of(&role.allow))),
            denied: sorted(self.roles.iter().flat_map(|role| of(&role.deny))),
        }
    }
}

fn sorted<'v>(values: impl Iterator<Item = &'v String>) -> Vec<String> {
    values.collect::<BTreeSet<_>>().into_iter().cloned().collect()
}

impl MfaRequirement {
    fn of(roles: &[CompiledRole], preference: &AuthPreference) -> Self {
        if preference.require_session_mfa {
            return Self::Cluster;
        }
        let mut asking = roles.iter().filter(|role| role.requires_mfa);
        match asking.next() {
            None => Self::Never,
            Some(first) if asking.count() + 1 == roles.len() => Self::EveryRole(first.name.clone()),
            Some(_) => Self::PerRole,
        }
    }
}

impl Rules {
    /// The implicit role is part of every set: it lets everybody read what everybody must know.
    fn of<'r>(roles: impl Iterator<Item = &'r Role>) -> Self {
        let mut rules = Self { allow: preset::implicit_rules(), deny: Vec::new() };
        for role in roles {
            rules.allow.extend(role.spec.allow.rules.iter().cloned());
            rules.deny.extend(role.spec.deny.rules.iter().cloned());
        }
        rules
    }
}

impl CompiledRole {
    fn new(role: &Role, traits: &Traits) -> Self {
        Self {
            name: role.name().clone(),
            requires_mfa: role.spec.options.require_session_mfa.unwrap_or(false),
            allow: Compiled::allow(role, traits),
            deny: Compiled::new(&role.spec.deny, traits, Side::Deny),
        }
    }
}

impl Compiled {
    fn allow(role: &Role, traits: &Traits) -> Self {
        let conditions = &role.spec.allow;
        let mut compiled = Self::new(conditions, traits, Side::Allow);
        if role.version == RoleVersion::V3 {
            if conditions.db_labels.is_none() {
                compiled.db_labels = Selector::everything(Side::Allow);
            }
            if conditions.node_labels.is_none() && !conditions.logins.is_empty() {
                compiled.node_labels = Selector::everything(Side::Allow);
            }
        }
        compiled
    }

    fn new(conditions: &Conditions, traits: &Traits, side: Side) -> Self {
        let values = |templates: &[Template]| -> Vec<String> {
            templates.iter().flat_map(|template| template.expand(traits)).collect()
        };
        let selector = |labels: &Option<Labels>| match labels {
            Some(labels) => Selector::compile(labels, traits, side),
            None => Selector::nothing(side),
        };
        let mut logins = values(&conditions.logins);
        logins.retain(|login| is_login(login));
        Self {
            logins,
            db_users: values(&conditions.db_users),
            db_names: values(&conditions.db_names),
            node_labels: selector(&conditions.node_labels),
            db_labels: selector(&conditions.db_labels),
        }
    }

    /// Whether the labels select a target, and if not, why.
    pub(super) fn selects<'s>(&'s self, target: &'s Target) -> Result<(), Mismatch<'s>> {
        match target.kind {
            TargetKind::Database => self.db_labels.matches(&target.labels),
            TargetKind::Node => self.node_labels.matches(&target.labels),
        }
    }
}

/// Whether a text can be an operating system account. Traits come from outside: one with a comma would become two SSH
/// principals, one with a leading hyphen an option of some command.
fn is_login(text: &str) -> bool {
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | ':' | '/');
    !text.is_empty() && text.len() <= 255 && !text.starts_with('-') && !text.contains(forbidden)
}
