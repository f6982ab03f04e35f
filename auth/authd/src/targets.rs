//! Announced targets: what sidecars say that they guard. Forgotten ten minutes after they said so last.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use auth::{
    clock::unix_millis,
    identity::{MAX_NAME_BYTES, Protocol, TargetName},
    policy::{Target, TargetKind},
    proto,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    access::{Standing, kind_word, parse_kind},
    api::caller::SidecarCaller,
    cluster::Cluster,
    error::Refused,
    keys,
    rotation::Held,
    store::{self, Condition, Op},
};

/// Sidecars announce every five minutes.
const LIFE: Duration = Duration::from_secs(10 * 60);
/// Targets of one sidecar at most.
const MAX_TARGETS: usize = 64;
/// Labels of one target at most.
const MAX_LABELS: usize = 64;
/// A description, an address, a label's value: bytes at most.
const MAX_TEXT: usize = 1024;

/// A target as a sidecar announced it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Announced {
    pub(crate) kind: String,
    pub(crate) name: TargetName,
    description: String,
    labels: BTreeMap<String, String>,
    protocol: Protocol,
    public_addr: String,
    uri: String,
    #[serde(default)]
    hostname: String,
    pub(crate) sidecar: Uuid,
    last_seen: SystemTime,
}

impl Announced {
    fn from_proto(target: proto::Target, sidecar: Uuid, now: SystemTime) -> Result<Self, Refused> {
        let kind = parse_kind(&target.kind)?;
        let protocol = Protocol::parse(&target.protocol)
            .filter(|protocol| (kind == TargetKind::Node) == (*protocol == Protocol::Ssh))
            .ok_or_else(|| Refused::field("targets.protocol", "does not fit the kind of target"))?;
        let texts = [&target.description, &target.public_addr, &target.uri, &target.hostname];
        let labels = target.labels.iter().flat_map(|(name, value)| [name, value]);
        if texts
            .into_iter()
            .chain(labels)
            .any(|text| text.len() > MAX_TEXT || text.chars().any(char::is_control))
        {
            return Err(Refused::field("targets", "a text is too long or has control characters"));
        }
        if target.labels.len() > MAX_LABELS || target.labels.keys().any(|name| name.len() > MAX_NAME_BYTES) {
            return Err(Refused::field("targets.labels", "too many, or too long"));
        }
        Ok(Self {
            kind: kind_word(kind).to_owned(),
            name: TargetName::new(target.name).map_err(|e| Refused::field("targets.name", e))?,
            description: target.description,
            labels: target.labels.into_iter().collect(),
            protocol,
            public_addr: target.public_addr,
            uri: target.uri,
            hostname: target.hostname,
            sidecar,
            last_seen: now,
        })
    }

    /// What policy sees of it.
    pub(crate) fn policy_target(&self) -> Option<Target> {
        Some(Target {
            kind: parse_kind(&self.kind).ok()?,
            name: self.name.clone(),
            protocol: self.protocol,
            labels: self.labels.clone(),
        })
    }

    /// For the API, without what a user may ask for.
    pub(crate) fn to_proto(&self) -> proto::Target {
        proto::Target {
            kind: self.kind.clone(),
            name: self.name.to_string(),
            description: self.description.clone(),
            labels: self.labels.clone().into_iter().collect(),
            protocol: self.protocol.to_string(),
            public_addr: self.public_addr.clone(),
            uri: self.uri.clone(),
            allowed_logins: vec![],
            denied_logins: vec![],
            allowed_db_names: vec![],
            sidecar_id: self.sidecar.to_string(),
            last_seen: unix_millis(self.last_seen),
            hostname: self.hostname.clone(),
        }
    }

    /// For the API, with what this user may ask for.
    pub(crate) fn for_user(&self, standing: &Standing) -> proto::Target {
        let mut target = self.to_proto();
        if let Some(policy) = self.policy_target() {
            let logins = match policy.kind {
                TargetKind::Database => standing.role_set.allowed_db_users(&policy),
                TargetKind::Node => standing.role_set.allowed_logins(&policy),
            };
            target.allowed_logins = logins.allowed;
            target.denied_logins = logins.denied;
            if policy.kind == TargetKind::Database {
                target.allowed_db_names = standing.role_set.allowed_db_names(&policy).allowed;
            }
        }
        target
    }
}

impl Cluster {
    /// Takes an announcement, of targets that the sidecar joined with; notes what certificate it has.
    pub(crate) async fn announce(
        &self,
        caller: &SidecarCaller,
        request: proto::AnnounceRequest,
    ) -> Result<(), Refused> {
        let (sidecar, targets) = (caller.id, request.targets);
        let record = self.sidecar(sidecar).await?;
        if targets.len() > MAX_TARGETS {
            return Err(Refused::field("targets", "too many"));
        }
        let now = self.clock.now();
        let mut ops = vec![Held::shown(caller, &request.trusted_ca_pins, now).op()?];
        for target in targets {
            let announced = Announced::from_proto(target, sidecar, now)?;
            let kind = parse_kind(&announced.kind)?;
            if !record.value.targets.contains(&announced.name) || !record.value.may_guard(kind) {
                let problem =
                    format!("this sidecar did not join for {} {:?}", announced.kind, announced.name.as_str());
                return Err(Refused::field("targets", problem));
            }
            let key = keys::target(&announced.kind, announced.name.as_str(), sidecar);
            ops.push(Op::put_until(key, Condition::Any, &announced, Some(now + LIFE))?);
        }
        // What it guarded before and does not name any more is gone now, not in ten minutes.
        // By the keys alone: when the host authority changes, all sidecars come at once.
        let own = sidecar.to_string();
        let known = self.store.range(&[keys::targets()]).await?.items.into_iter().map(|item| item.key);
        for key in known.filter(|key| store::last_part(key) == own) {
            if !ops.iter().any(|op| op.key == key) {
                ops.push(Op::delete(key, Condition::Any));
            }
        }
        self.store.commit(ops).await?;
        Ok(())
    }

    pub(crate) async fn all_targets(&self) -> Result<Vec<Announced>, Refused> {
        let targets = store::read_all::<Announced>(&*self.store, keys::targets()).await?;
        Ok(targets.into_iter().map(|stored| stored.value).collect())
    }

    /// The target of this name; of several sidecars in front of it, the one heard last.
    pub(crate) async fn announced(
        &self,
        kind: TargetKind,
        name: &TargetName,
    ) -> Result<Option<Announced>, Refused> {
        let prefix = keys::targets_named(kind_word(kind), name.as_str());
        let targets = store::read_all::<Announced>(&*self.store, prefix).await?;
        Ok(targets.into_iter().map(|stored| stored.value).max_by_key(|target| target.last_seen))
    }

    /// What sidecars announce: each target as often as there are sidecars that guard it.
    pub(crate) async fn list_announced(&self, kind: &str) -> Result<Vec<proto::Target>, Refused> {
        if !kind.is_empty() {
            parse_kind(kind)?;
        }
        let announced = self.all_targets().await?.into_iter();
        Ok(announced.filter(|t| kind.is_empty() || t.kind == kind).map(|target| target.to_proto()).collect())
    }

    /// What a user sees: one entry a name.
    pub(crate) async fn list_targets(
        &self,
        standing: Option<&Standing>,
        kind: &str,
    ) -> Result<Vec<proto::Target>, Refused> {
        if !kind.is_empty() {
            parse_kind(kind)?;
        }
        let mut newest: BTreeMap<(String, TargetName), Announced> = BTreeMap::new();
        for target in self.all_targets().await?.into_iter().filter(|t| kind.is_empty() || t.kind == kind) {
            let key = (target.kind.clone(), target.name.clone());
            if newest.get(&key).is_none_or(|known| known.last_seen < target.last_seen) {
                newest.insert(key, target);
            }
        }
        let visible = newest.into_values().filter_map(|target| match standing {
            None => Some(target.to_proto()),
            Some(standing) => {
                let covered = target.policy_target().is_some_and(|t| standing.role_set.covers(&t));
                covered.then(|| target.for_user(standing))
            }
        });
        Ok(visible.collect())
    }

    /// Does this sidecar guard this target, by its own word of the last ten minutes?
    pub(crate) async fn guards(&self, sidecar: Uuid, kind: TargetKind, name: &str) -> Result<bool, Refused> {
        Ok(self.store.get(&keys::target(kind_word(kind), name, sidecar)).await?.is_some())
    }
}
