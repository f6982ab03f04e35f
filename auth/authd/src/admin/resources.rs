//! Putting, reading and deleting resources, with the guards that keep them fitting each other.

use auth::{
    certificate::x509::{AUTH_ORGANISATION, SIDECAR_ORGANISATION},
    identity::{RoleName, UserName},
    proto,
    resource::{AUTH_PREFERENCE_NAME, AuthPreference, Kind, Resource, SecondFactor, Token, TokenName, User},
};
use serde_json::json;

use super::{
    Admin, AdminCaller, Change,
    events::{self, masked_name, shown_name},
};
use crate::{
    access::is_closed,
    cluster::{Cluster, put_op, read_resource},
    ended::EndedLogins,
    error::Refused,
    keys,
    store::{self, Condition, Op},
    users::Account,
};

/// Rewritten with every user, checked when a role is deleted: so that no user can get a role that is just being deleted.
const USERS_GUARD: &str = "guard/users";

impl Cluster {
    /// The resource that a request carries.
    pub(crate) fn resource_of(request: &proto::PutResourceRequest) -> Result<Resource, Refused> {
        let given = request.resource.as_ref().ok_or_else(|| Refused::field("resource", "is missing"))?;
        Ok(Resource::from_json(&given.json)?)
    }

    pub(crate) async fn put_resource(
        &self,
        request: &proto::PutResourceRequest,
        change: &Change,
    ) -> Result<proto::PutResourceResponse, Refused> {
        let resource = without_revision(Self::resource_of(request)?);
        let (kind, name) = (resource.kind(), resource.name().to_owned());
        change.require(kind.as_str(), "create")?;
        let stored = self.store.get(&keys::resource(kind, &name)).await?;
        if stored.is_some() {
            change.require(kind.as_str(), "update")?;
        }
        let condition = match (&stored, request.expected_revision) {
            // There always is a preference; writing one is an update.
            (Some(_), 0) if !request.force && kind != Kind::AuthPreference => {
                return Err(Refused::Exists { kind: kind.as_str(), name: shown_name(&resource) });
            }
            (None, revision) if revision != 0 => return Err(Refused::Changed("the resource")),
            (Some(item), 0) => Condition::Revision(item.revision),
            (Some(_), revision) => Condition::Revision(revision),
            (None, _) => Condition::Absent,
        };
        let mut ops = vec![put_op(&resource, condition)?];
        ops.extend(self.check_resource(&resource, stored.is_none()).await?);
        let events = events::put(&resource, stored.is_none(), change);
        self.commit_on_record(ops, events, Refused::Changed("the resource")).await?;
        Ok(proto::PutResourceResponse { created: stored.is_none() })
    }

    /// Refuses what would not fit the rest; answers with the operations that go along.
    async fn check_resource(&self, resource: &Resource, is_new: bool) -> Result<Vec<Op>, Refused> {
        match resource {
            Resource::Role(role) => {
                let reserved = [SIDECAR_ORGANISATION, AUTH_ORGANISATION];
                if reserved.iter().any(|name| name.eq_ignore_ascii_case(role.name().as_str())) {
                    return Err(Refused::field("metadata.name", "is reserved for machines"));
                }
                Ok(vec![])
            }
            Resource::User(user) => {
                let mut ops = self.check_user(user).await?;
                let name = &user.metadata.name;
                if is_new {
                    let account = Account::new(self.clock.now());
                    ops.extend(self.new_account_ops(name, &account).await?);
                } else if is_closed(user, self.clock.now()) {
                    ops.extend(self.end_logins_ops(name).await?);
                }
                Ok(ops)
            }
            Resource::AuthPreference(preference) => self.check_preference(preference).map(|()| vec![]),
            Resource::Lock(lock) if lock.expires.is_some_and(|end| end <= self.clock.now()) => {
                Err(Refused::field("spec.expires", "lies in the past"))
            }
            Resource::Token(_) | Resource::Lock(_) => Ok(vec![]),
            Resource::Database(_) | Resource::Node(_) => {
                Err(Refused::field("kind", "databases and nodes are announced by their sidecars"))
            }
        }
    }

    /// Logins from before are over, here and at sidecars, which know of no accounts.
    async fn end_logins_ops(&self, name: &UserName) -> Result<Vec<Op>, Refused> {
        let Some(stored) = self.account(name).await? else { return Ok(vec![]) };
        let (now, condition) = (self.clock.now(), stored.unchanged());
        let account = Account { since: now, ..stored.value };
        Ok(vec![EndedLogins::op(name, now)?, Op::put(keys::account(name), condition, &account)?])
    }

    /// A user has at least one role, and each exists when the user is stored.
    pub(crate) async fn check_user(&self, user: &User) -> Result<Vec<Op>, Refused> {
        if user.roles.is_empty() {
            return Err(Refused::field("roles", "a user needs at least one role"));
        }
        let mut ops = vec![Op::put(USERS_GUARD.to_owned(), Condition::Any, &())?];
        for role in &user.roles {
            let key = keys::resource(Kind::Role, role.as_str());
            if self.store.get(&key).await?.is_none() {
                return Err(Refused::NotFound { kind: "role", name: role.to_string() });
            }
            ops.push(Op::check(key, Condition::Present));
        }
        Ok(ops)
    }

    /// A preference under which nobody could log in is not taken.
    fn check_preference(&self, preference: &AuthPreference) -> Result<(), Refused> {
        let needs_keys = preference.second_factor == SecondFactor::Webauthn;
        if (needs_keys || preference.webauthn_rp_id.is_some()) && self.webauthn(preference).is_err() {
            let problem = format!(
                "must be the host of the public address ({}) or a domain above it",
                self.public_host()
            );
            return Err(Refused::field("spec.webauthn.rp_id", problem));
        }
        Ok(())
    }

    pub(crate) async fn list_resources(
        &self,
        request: &proto::GetResourcesRequest,
        caller: &AdminCaller,
    ) -> Result<Vec<proto::Resource>, Refused> {
        let kind = Self::parse_kind(&request.kind)?;
        caller.require(kind.as_str(), "read")?;
        let name = match (kind, request.name.as_str()) {
            (Kind::AuthPreference, _) => AUTH_PREFERENCE_NAME,
            (_, name) => name,
        };
        if name.is_empty() {
            caller.require(kind.as_str(), "list")?;
        }
        let resources = match kind {
            Kind::Database | Kind::Node => self.target_resources(kind, name).await?,
            _ if name.is_empty() => {
                let items = self.store.range(&[keys::resources(kind)]).await?.items;
                items.iter().map(with_revision).collect::<Result<_, _>>()?
            }
            _ => match self.store.get(&keys::resource(kind, name)).await? {
                Some(item) => vec![with_revision(&item)?],
                None => vec![],
            },
        };
        if resources.is_empty() && !name.is_empty() {
            return Err(Refused::NotFound { kind: kind.as_str(), name: request.name.clone() });
        }
        let masked = resources.into_iter().map(|resource| mask(resource, &caller.admin));
        Ok(masked.map(|resource| crate::watch::resource(&resource)).collect())
    }

    /// Announced targets in the form of resources.
    async fn target_resources(&self, kind: Kind, name: &str) -> Result<Vec<Resource>, Refused> {
        let word = if kind == Kind::Database { "database" } else { "node" };
        let targets = self.list_targets(None, word).await?;
        let wanted = targets.into_iter().filter(|target| name.is_empty() || target.name == name);
        wanted.map(|target| target_resource(kind, &target)).collect()
    }

    pub(crate) async fn delete_resource(
        &self,
        request: &proto::DeleteResourceRequest,
        change: &Change,
    ) -> Result<(), Refused> {
        let kind = Self::parse_kind(&request.kind)?;
        change.require(kind.as_str(), "delete")?;
        if kind == Kind::AuthPreference {
            let preference = Resource::AuthPreference(AuthPreference::default());
            let ops = vec![put_op(&preference, Condition::Any)?];
            let events = events::put(&preference, false, change);
            return self.commit_on_record(ops, events, Refused::Changed("the resource")).await;
        }
        if matches!(kind, Kind::Database | Kind::Node) {
            return Err(Refused::field("kind", "databases and nodes are forgotten when their sidecars stop"));
        }
        let missing = || Refused::NotFound { kind: kind.as_str(), name: request.name.clone() };
        let (resource, revision) = self.resource(kind, &request.name).await?.ok_or_else(missing)?;
        let key = keys::resource(kind, &request.name);
        let mut ops = vec![Op::delete(key, Condition::Revision(revision))];
        match &resource {
            Resource::Role(role) => ops.push(self.refuse_role_in_use(role.name()).await?),
            Resource::User(user) => {
                let name = &user.metadata.name;
                ops.push(Op::delete(keys::account(name), Condition::Any));
                ops.push(EndedLogins::op(name, self.clock.now())?);
                ops.extend(self.belongings(name).await?);
            }
            _ => {}
        }
        let events = events::delete(&resource, change);
        self.commit_on_record(ops, events, Refused::Changed("the resource")).await
    }

    /// The race: a user gets the role after we looked at all users and before the role is gone. The guard's revision has
    /// moved on then, and the deletion fails.
    async fn refuse_role_in_use(&self, role: &RoleName) -> Result<Op, Refused> {
        let guard = self.store.get(USERS_GUARD).await?;
        let condition = guard.map_or(Condition::Absent, |item| Condition::Revision(item.revision));
        for resource in self.resources(Kind::User).await? {
            if let Resource::User(user) = resource
                && user.roles.contains(role)
            {
                let user = user.metadata.name.to_string();
                return Err(Refused::RoleInUse { role: role.to_string(), user });
            }
        }
        Ok(Op::check(USERS_GUARD.to_owned(), condition))
    }
}

/// The revision is the store's to say.
fn without_revision(mut resource: Resource) -> Resource {
    set_revision(&mut resource, None);
    resource
}

fn with_revision(item: &store::Item) -> Result<Resource, Refused> {
    let mut resource = read_resource(item)?;
    set_revision(&mut resource, Some(item.revision.to_string()));
    Ok(resource)
}

fn set_revision(resource: &mut Resource, revision: Option<String>) {
    match resource {
        Resource::Role(role) => role.metadata.revision = revision,
        Resource::User(user) => user.metadata.revision = revision,
        Resource::AuthPreference(preference) => preference.metadata.revision = revision,
        Resource::Token(token) => token.metadata.revision = revision,
        Resource::Lock(lock) => lock.metadata.revision = revision,
        Resource::Database(database) => database.metadata.revision = revision,
        Resource::Node(node) => node.metadata.revision = revision,
    }
}

/// A token's name is its secret: only root reads it in full.
fn mask(resource: Resource, admin: &Admin) -> Resource {
    match (resource, admin) {
        (Resource::Token(token), Admin::User(_)) => Resource::Token(masked(token)),
        (resource, _) => resource,
    }
}

fn masked(mut token: Token) -> Token {
    if let Ok(name) = TokenName::new(masked_name(token.metadata.name.as_str())) {
        token.metadata.name = name;
    }
    token
}

fn target_resource(kind: Kind, target: &proto::Target) -> Result<Resource, Refused> {
    let labels: std::collections::BTreeMap<_, _> = target.labels.iter().collect();
    let metadata = json!({"name": target.name, "description": target.description, "labels": labels});
    let hostname = if target.hostname.is_empty() { &target.name } else { &target.hostname };
    let json = match kind {
        Kind::Database => json!({
            "kind": "db", "version": "v3", "metadata": metadata,
            "spec": {"protocol": target.protocol, "uri": target.uri},
        }),
        _ => json!({
            "kind": "node", "version": "v2", "metadata": metadata,
            "spec": {"hostname": hostname, "addr": target.uri, "public_addrs": [target.public_addr]},
        }),
    };
    Ok(Resource::from_json(&json.to_string())?)
}
