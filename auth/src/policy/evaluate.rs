//! The judgement. Pure: no clock, no lock, no I/O.

#[cfg(test)]
mod tests;

use super::{
    access::{Access, MfaStatus, Target, TargetKind},
    decision::{Decision, DeniedBy, DenyList, Explanation, MfaRequiredBy},
    labels::Mismatch,
    role_set::{Compiled, CompiledRole, MfaRequirement, RoleSet},
};
use crate::identity::{Login, Protocol};

/// Judges. `roles` must have been resolved for the roles and traits of `access`; otherwise nothing is given.
#[must_use]
pub fn evaluate(roles: &RoleSet, access: &Access) -> Decision {
    const NOTHING: Decision = Decision::Deny { by: DeniedBy::NothingMatched };
    let Some(wanted) = Wanted::of(access) else {
        return NOTHING;
    };
    if roles.names != access.roles || roles.traits != access.traits {
        return NOTHING;
    }
    let touched = access.mfa == MfaStatus::Verified;
    if !touched && let Some(by) = asked_of_every_session(&roles.mfa) {
        return Decision::MfaRequired { by };
    }
    if let Some((role, list)) =
        roles.roles.iter().find_map(|role| Some((role, wanted.denied_by(&role.deny)?)))
    {
        return Decision::Deny { by: DeniedBy::Role { role: role.name.clone(), list } };
    }
    allowing(&roles.roles, &wanted, touched).unwrap_or(NOTHING)
}

fn asked_of_every_session(mfa: &MfaRequirement) -> Option<MfaRequiredBy> {
    match mfa {
        MfaRequirement::Cluster => Some(MfaRequiredBy::Cluster),
        MfaRequirement::EveryRole(first) => Some(MfaRequiredBy::Role(first.clone())),
        MfaRequirement::PerRole | MfaRequirement::Never => None,
    }
}

/// The first role that matches; but without a touch, any matching role that asks for one goes before it.
fn allowing(roles: &[CompiledRole], wanted: &Wanted<'_>, touched: bool) -> Option<Decision> {
    let mut matching = roles.iter().filter(|role| wanted.allowed_by(&role.allow).is_ok());
    let first = matching.next()?;
    if !touched && let Some(asking) = std::iter::once(first).chain(matching).find(|role| role.requires_mfa) {
        return Some(Decision::MfaRequired { by: MfaRequiredBy::Role(asking.name.clone()) });
    }
    Some(Decision::Allow { role: first.name.clone() })
}

/// Bytes of a user or database name: `NAMEDATALEN` − 1. PostgreSQL cuts what is longer, so that a name which no `deny` and no
/// lock knows would arrive as one that they do.
const POSTGRES_NAME: usize = 63;

/// Characters of a user name (`USERNAME_CHAR_LENGTH`), which MySQL cuts in the same way. MariaDB's may be longer: such users
/// cannot be reached, because nobody knows before the decision which of the two it is.
const MYSQL_USER: usize = 32;

/// What is compared with the lists of a role, as the target's protocol has it.
struct Wanted<'a> {
    target: &'a Target,
    login: WantedLogin<'a>,
}

enum WantedLogin<'a> {
    Node { login: &'a str },
    Database { user: &'a str, name: Option<&'a str> },
}

/// Why an allow does not match.
enum NoMatch<'a> {
    Labels(Mismatch<'a>),
    Value { list: DenyList, wanted: &'a str },
}

impl<'a> Wanted<'a> {
    /// `None`: the login is not of the kind that the target has, or a name that the target would read as another. Nothing can allow it.
    fn of(access: &'a Access) -> Option<Self> {
        let target = access.target.as_ref();
        let login = match (target.kind, target.protocol, &access.login) {
            (TargetKind::Node, Protocol::Ssh, Login::Node { login }) => WantedLogin::Node { login },
            (TargetKind::Database, Protocol::Postgres, Login::Database { user, name })
                if user.len() <= POSTGRES_NAME && name.len() <= POSTGRES_NAME =>
            {
                WantedLogin::Database { user, name: Some(name) }
            }
            // Queries across databases cannot be prevented, so a check of the name would be a promise not kept.
            (TargetKind::Database, Protocol::Mysql, Login::Database { user, .. })
                if user.chars().count() <= MYSQL_USER && !is_quoted(user) =>
            {
                WantedLogin::Database { user, name: None }
            }
            _ => return None,
        };
        Some(Self { target, login })
    }

    /// Deny is greedy: labels, or any one of login, user and name, suffice.
    fn denied_by(&self, deny: &Compiled) -> Option<DenyList> {
        if deny.selects(self.target).is_ok() {
            return Some(DenyList::Labels);
        }
        self.values(deny).into_iter().flatten().find(|value| value.matches()).map(|value| value.list)
    }

    /// Allow needs labels and every one of login, user and name.
    fn allowed_by<'s>(&'s self, allow: &'s Compiled) -> Result<(), NoMatch<'s>> {
        allow.selects(self.target).map_err(NoMatch::Labels)?;
        match self.values(allow).into_iter().flatten().find(|value| !value.matches()) {
            None => Ok(()),
            Some(value) => Err(NoMatch::Value { list: value.list, wanted: value.wanted }),
        }
    }

    /// What is wanted beside the lists that must name it. A login is one or two values, never none.
    fn values<'s>(&'s self, of: &'s Compiled) -> [Option<Value<'s>>; 2] {
        match &self.login {
            WantedLogin::Node { login } => [
                Some(Value { list: DenyList::Logins, wanted: login, among: &of.logins, wildcard: false }),
                None,
            ],
            WantedLogin::Database { user, name } => [
                Some(Value { list: DenyList::DbUsers, wanted: user, among: &of.db_users, wildcard: true }),
                name.map(|name| Value {
                    list: DenyList::DbNames,
                    wanted: name,
                    among: &of.db_names,
                    wildcard: true,
                }),
            ],
        }
    }
}

/// Whether MySQL and MariaDB would take the quotes off a user's name at login, and let `root` in as `'root'`.
fn is_quoted(user: &str) -> bool {
    user.len() > 1 && user.starts_with('\'') && user.ends_with('\'')
}

struct Value<'s> {
    list: DenyList,
    wanted: &'s str,
    among: &'s [String],
    wildcard: bool,
}

impl Value<'_> {
    /// Byte for byte. The empty text is nobody's name, not even for `*`.
    fn matches(&self) -> bool {
        !self.wanted.is_empty() && self.among.iter().any(|v| v == self.wanted || (self.wildcard && v == "*"))
    }
}

/// Judges, and says of each role why it matched or did not.
#[must_use]
pub fn explain(roles: &RoleSet, access: &Access) -> Explanation {
    let decision = evaluate(roles, access);
    let reasons = match Wanted::of(access) {
        None => vec![format!("{} does not take such a login", access.target.protocol)],
        Some(wanted) => roles.roles.iter().map(|role| explain_role(role, &wanted)).collect(),
    };
    Explanation { decision, reasons }
}

fn explain_role(role: &CompiledRole, wanted: &Wanted<'_>) -> String {
    let name = &role.name;
    if let Some(list) = wanted.denied_by(&role.deny) {
        return format!("role {name}: deny matches by {}", list.field(wanted.target.kind));
    }
    match wanted.allowed_by(&role.allow) {
        Ok(()) if role.requires_mfa => format!("role {name}: allow matches, and asks for MFA"),
        Ok(()) => format!("role {name}: allow matches"),
        Err(NoMatch::Labels(mismatch)) => {
            format!("role {name}: {}: {mismatch}", DenyList::Labels.field(wanted.target.kind))
        }
        Err(NoMatch::Value { list, wanted: value }) => {
            format!(
                "role {name}: {}: no value match: '{value}' is not listed",
                list.field(wanted.target.kind)
            )
        }
    }
}
