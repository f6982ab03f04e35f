//! What a user may do now: the stored roles, the locks, and the evaluator that sidecars use too.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use auth::{
    identity::{DeviceId, Login, MAX_NAME_BYTES, Protocol, RoleName, TargetName, UserName},
    lock::LockInForce,
    policy::{Access, Decision, MfaStatus, RoleSet, Target, TargetKind, evaluate},
    proto,
    resource::{LockTarget, Role, User},
};

use crate::{cluster::Cluster, ended, error::Refused};

/// A user who may use the cluster at all, with the roles that count.
pub(crate) struct Standing {
    pub(crate) user: Arc<User>,
    /// Roles that are the user's now; of a certificate, those that are its own as well.
    pub(crate) roles: Vec<RoleName>,
    pub(crate) role_set: RoleSet,
    /// SSH accounts that the roles name.
    pub(crate) logins: Vec<String>,
    /// Of the account: logins from before are over.
    pub(crate) since: SystemTime,
}

/// What a lock is compared with when a certificate is asked for.
#[derive(Clone, Copy, Default)]
pub(crate) struct LockSubject<'a> {
    pub(crate) device: Option<DeviceId>,
    pub(crate) login: Option<&'a str>,
    pub(crate) target: Option<&'a str>,
}

impl Cluster {
    /// Who this user is now. `certificate_roles`: a certificate never gains roles that it was not issued with, and loses
    /// those that were taken from the user since.
    pub(crate) async fn standing(
        &self,
        name: &UserName,
        certificate_roles: Option<&[RoleName]>,
    ) -> Result<Standing, Refused> {
        let user = self.user(name).await?.ok_or_else(|| Refused::NoRoles(name.to_string()))?;
        self.refuse_closed_account(&user)?;
        let account = self.account(name).await?.ok_or(Refused::EndedLogin)?;
        let mut roles: Vec<RoleName> = Vec::new();
        for role in &user.roles {
            let held = certificate_roles.is_none_or(|held| held.contains(role));
            if held && !roles.contains(role) {
                roles.push(role.clone());
            }
        }
        if roles.is_empty() {
            return Err(Refused::NoRoles(name.to_string()));
        }
        self.refuse_locked(name, &roles, LockSubject::default()).await?;
        let stored = self.roles(&roles).await?;
        let role_set = self.role_set(&roles, &user, &stored).await?;
        let logins = logins(&stored, &user);
        Ok(Standing { user, roles, role_set, logins, since: account.value.since })
    }

    pub(crate) async fn role_set(
        &self,
        names: &[RoleName],
        user: &User,
        stored: &[Arc<Role>],
    ) -> Result<RoleSet, Refused> {
        let preference = self.preference().await?;
        let find = |name: &RoleName| stored.iter().find(|role| role.name() == name).cloned();
        RoleSet::resolve(names, &user.traits, &find, &preference)
            .map_err(|error| Refused::field("roles", error))
    }

    /// An administrator may have closed the account itself.
    fn refuse_closed_account(&self, user: &User) -> Result<(), Refused> {
        if !is_closed(user, self.clock.now()) {
            return Ok(());
        }
        let message = match user.status.locked_message.as_str() {
            "" => format!("user {:?} is locked", user.metadata.name.as_str()),
            message => format!("user {:?} is locked: {message}", user.metadata.name.as_str()),
        };
        Err(Refused::Locked(message))
    }

    /// A lock stops certificates, too. Everything that a lock names must be known to apply.
    pub(crate) async fn refuse_locked(
        &self,
        user: &UserName,
        roles: &[RoleName],
        subject: LockSubject<'_>,
    ) -> Result<(), Refused> {
        let now = self.clock.now();
        let locks = self.locks().await?;
        match locks.iter().find(|lock| lock.is_in_force(now) && applies(&lock.target, user, roles, subject)) {
            None => Ok(()),
            Some(lock) => {
                let lock = LockInForce { target: lock.target.clone(), message: lock.message.clone() };
                Err(Refused::Locked(lock.to_string()))
            }
        }
    }
}

/// Is the account closed by its own `status`?
pub(crate) fn is_closed(user: &User, now: SystemTime) -> bool {
    let over = user.status.lock_expires.is_some_and(|end| end <= now);
    user.status.is_locked && !over
}

fn applies(target: &LockTarget, user: &UserName, roles: &[RoleName], subject: LockSubject<'_>) -> bool {
    let LockTarget { user: who, role, login, mfa_device, server_id } = target;
    who.as_ref().is_none_or(|who| who == user)
        && role.as_ref().is_none_or(|role| roles.contains(role))
        && login.as_deref().is_none_or(|login| subject.login == Some(login))
        && mfa_device.is_none_or(|device| subject.device == Some(device))
        && server_id.as_ref().is_none_or(|id| subject.target == Some(id.as_str()))
}

impl Standing {
    /// A login certificate of an account that was reset or recovered since, or of an earlier account of the same name, is
    /// over.
    pub(crate) fn refuse_ended_login(&self, not_before: SystemTime) -> Result<(), Refused> {
        ended::refuse_ended(self.since, not_before)
    }

    /// A login that began before the account was reset or recovered comes to nothing: what was right then is no longer.
    pub(crate) fn refuse_begun_before(&self, login: &crate::login::Login) -> Result<(), Refused> {
        if login.since == self.since { Ok(()) } else { Err(Refused::Challenge) }
    }

    /// Nothing that is given to a user outlives the user.
    pub(crate) fn at_most(&self, not_after: SystemTime) -> SystemTime {
        self.user.metadata.expires.map_or(not_after, |end| not_after.min(end))
    }

    /// What the sidecar would decide.
    pub(crate) fn decide(&self, target: &Arc<Target>, login: &Login, mfa: MfaStatus) -> Decision {
        let access = Access {
            roles: self.roles.clone(),
            traits: self.user.traits.clone(),
            target: Arc::clone(target),
            login: login.clone(),
            mfa,
        };
        evaluate(&self.role_set, &access)
    }
}

/// Accounts that the roles allow and none denies, variables expanded: the principals of an SSH certificate.
fn logins(roles: &[Arc<Role>], user: &User) -> Vec<String> {
    let expand = |templates: &[auth::policy::Template]| -> Vec<String> {
        templates.iter().flat_map(|template| template.expand(&user.traits)).collect()
    };
    let denied: Vec<String> = roles.iter().flat_map(|role| expand(&role.spec.deny.logins)).collect();
    let mut allowed: Vec<String> = roles.iter().flat_map(|role| expand(&role.spec.allow.logins)).collect();
    allowed.retain(|login| is_account(login) && !denied.contains(login) && !denied.iter().any(|d| d == "*"));
    allowed.sort();
    allowed.dedup();
    allowed
}

/// A comma would make two principals of one, a hyphen an option of some command; a star is no account.
pub(crate) fn is_account(login: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | ':' | '/' | '*');
    !login.is_empty() && login.len() <= MAX_NAME_BYTES && !login.starts_with('-') && !login.contains(bad)
}

/// A route from outside, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) kind: TargetKind,
    pub(crate) route: auth::identity::Route,
}

impl Wanted {
    pub(crate) fn from_proto(route: Option<&proto::Route>) -> Result<Self, Refused> {
        let route = route.ok_or_else(|| Refused::field("route", "is missing"))?;
        let target =
            TargetName::new(&*route.target_name).map_err(|e| Refused::field("route.target_name", e))?;
        let protocol = Protocol::parse(&route.protocol)
            .ok_or_else(|| Refused::field("route.protocol", "must be postgres, mysql or ssh"))?;
        let kind = parse_kind(&route.target_kind)?;
        for (field, text) in [("route.login", &route.login), ("route.db_name", &route.db_name)] {
            if text.len() > MAX_NAME_BYTES || text.chars().any(char::is_control) {
                return Err(Refused::field(field, "must be at most 255 bytes without control characters"));
            }
        }
        if route.login.is_empty() {
            return Err(Refused::field("route.login", "is empty"));
        }
        let login = match (kind, protocol) {
            (TargetKind::Database, Protocol::Postgres | Protocol::Mysql) => {
                if protocol == Protocol::Postgres && route.db_name.is_empty() {
                    return Err(Refused::field("route.db_name", "is empty"));
                }
                Login::Database { user: route.login.clone(), name: route.db_name.clone() }
            }
            (TargetKind::Node, Protocol::Ssh) if route.db_name.is_empty() => {
                Login::Node { login: route.login.clone() }
            }
            _ => return Err(Refused::field("route", "protocol and kind of target do not fit")),
        };
        Ok(Self { kind, route: auth::identity::Route { target, protocol, login } })
    }

    pub(crate) fn account(&self) -> &str {
        match &self.route.login {
            Login::Database { user, .. } => user,
            Login::Node { login } => login,
        }
    }
}

pub(crate) fn kind_word(kind: TargetKind) -> &'static str {
    match kind {
        TargetKind::Database => "database",
        TargetKind::Node => "node",
    }
}

pub(crate) fn parse_kind(word: &str) -> Result<TargetKind, Refused> {
    match word {
        "database" => Ok(TargetKind::Database),
        "node" => Ok(TargetKind::Node),
        _ => Err(Refused::field("kind", "must be database or node")),
    }
}

/// Traits as the API carries them.
pub(crate) fn traits_from_proto(
    traits: BTreeMap<String, proto::StringList>,
) -> BTreeMap<String, Vec<String>> {
    traits.into_iter().map(|(name, list)| (name, list.values)).collect()
}
