//! One consistent state of everything that decisions need. Cheap to clone: a change copies one of its maps, not all.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::SystemTime,
};

use rustls_pki_types::CertificateDer;
use ssh_key::PublicKey;
use uuid::Uuid;

use super::ReplicaError;
use crate::{
    certificate::VerifiedCertificate,
    clock::from_unix_millis,
    identity::{ClusterName, DeviceId, RoleName, UserName},
    proto::{self, watch_event},
    receipt::{DeviceKey, RelyingParty},
    resource::{AuthPreference, Lock, Resource, Role},
};

/// An MFA device as the replica knows it.
#[derive(Clone, Debug)]
pub struct KnownDevice {
    /// Whose it is.
    pub user: UserName,
    /// What proof it can give.
    pub kind: DeviceKind,
}

/// What proof a device can give.
#[derive(Clone, Debug)]
pub enum DeviceKind {
    /// None that outlasts its half minute.
    Totp,
    /// A signature that this key verifies.
    Webauthn(DeviceKey),
}

/// Logins of a user that count for nothing any more: of before a reset, a recovery, or the end of the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedLogins {
    /// Certificates that begin before this are from before. `None`: all that there are.
    not_before: Option<SystemTime>,
    at: SystemTime,
}

impl EndedLogins {
    /// When they were ended.
    #[must_use]
    pub fn at(&self) -> SystemTime {
        self.at
    }

    fn cover(&self, not_before: SystemTime) -> bool {
        self.not_before.is_none_or(|first| not_before < first)
    }
}

/// One consistent state, complete or being received.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    generation: u64,
    facts: Option<Arc<Facts>>,
    roles: Arc<HashMap<RoleName, Arc<Role>>>,
    auth_preference: Option<Arc<AuthPreference>>,
    locks: Arc<BTreeMap<String, Lock>>,
    /// Names of locks that nobody can read.
    unreadable_locks: Arc<BTreeSet<String>>,
    authorities: Arc<HashMap<String, Authority>>,
    devices: Arc<HashMap<DeviceId, KnownDevice>>,
    ended_logins: Arc<HashMap<UserName, EndedLogins>>,
}

#[derive(Debug)]
struct Facts {
    cluster: ClusterName,
    relying_party: RelyingParty,
}

#[derive(Clone, Debug, Default)]
struct Authority {
    certificates: Vec<CertificateDer<'static>>,
    ssh_public_keys: Vec<PublicKey>,
}

impl Snapshot {
    /// Counts the changes; 0 before the first complete snapshot.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// True when nothing is missing without which no decision can be right.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.generation > 0
            && self.facts.is_some()
            && self.auth_preference.is_some()
            && self.unreadable_locks.is_empty()
    }

    /// Name of the cluster, once known.
    #[must_use]
    pub fn cluster(&self) -> Option<&ClusterName> {
        self.facts.as_deref().map(|facts| &facts.cluster)
    }

    /// Whom security keys answer, once known.
    #[must_use]
    pub fn relying_party(&self) -> Option<&RelyingParty> {
        self.facts.as_deref().map(|facts| &facts.relying_party)
    }

    /// A role; `None` also for one that cannot be read.
    #[must_use]
    pub fn role(&self, name: &RoleName) -> Option<Arc<Role>> {
        self.roles.get(name).cloned()
    }

    /// The auth preference; `None` before there is one, and where it cannot be read.
    #[must_use]
    pub fn auth_preference(&self) -> Option<&AuthPreference> {
        self.auth_preference.as_deref()
    }

    /// All locks, expired ones too.
    pub fn locks(&self) -> impl Iterator<Item = &Lock> {
        self.locks.values()
    }

    /// Is a certificate of a login that was ended, or of a session of one? By when it was issued, which its beginning tells.
    #[must_use]
    pub fn ended_login(&self, certificate: &VerifiedCertificate) -> Option<EndedLogins> {
        let ended = self.ended_logins.get(&certificate.identity.user)?;
        ended.cover(certificate.not_before).then_some(*ended)
    }

    /// What an MFA device is; `None` also for one that cannot be read.
    #[must_use]
    pub fn device(&self, device: DeviceId) -> Option<&KnownDevice> {
        self.devices.get(&device)
    }

    /// Has this user a device that gives one-time codes?
    #[must_use]
    pub fn has_otp_device(&self, user: &UserName) -> bool {
        self.devices.values().any(|device| device.user == *user && matches!(device.kind, DeviceKind::Totp))
    }

    /// Trusted certificates of the authority for users.
    #[must_use]
    pub fn user_authorities(&self) -> &[CertificateDer<'static>] {
        self.certificates("user")
    }

    /// Trusted certificates of the authority for authd and sidecars.
    #[must_use]
    pub fn host_authorities(&self) -> &[CertificateDer<'static>] {
        self.certificates("host")
    }

    /// Trusted certificates of the authority for databases.
    #[must_use]
    pub fn database_authorities(&self) -> &[CertificateDer<'static>] {
        self.certificates("db")
    }

    /// Trusted certificates of the authority for clients of databases.
    #[must_use]
    pub fn database_client_authorities(&self) -> &[CertificateDer<'static>] {
        self.certificates("db_client")
    }

    /// Trusted SSH keys of the authority for users.
    #[must_use]
    pub fn ssh_user_authorities(&self) -> &[PublicKey] {
        self.authorities.get("user").map(|authority| authority.ssh_public_keys.as_slice()).unwrap_or_default()
    }

    fn certificates(&self, kind: &str) -> &[CertificateDer<'static>] {
        self.authorities.get(kind).map(|authority| authority.certificates.as_slice()).unwrap_or_default()
    }

    pub(super) fn set_generation(&mut self, generation: u64) {
        self.generation = generation;
    }

    pub(super) fn take_event(&mut self, event: watch_event::Event) -> Result<(), ReplicaError> {
        use watch_event::{Event, put::Item};
        let unknown = |what: &str| Err(ReplicaError::UnknownEvent { what: what.to_owned() });
        match event {
            Event::Cluster(facts) => self.put_facts(facts),
            Event::Put(put) => match put.item {
                Some(Item::Resource(resource)) => self.put_resource(&resource),
                Some(Item::Authority(authority)) => self.put_authority(authority),
                Some(Item::DeviceKey(device)) => self.put_device(&device),
                Some(Item::EndedLogins(ended)) => self.put_ended_logins(ended),
                None => unknown("a put of nothing"),
            },
            Event::Delete(delete) => self.delete(&delete.kind, &delete.name),
            Event::SnapshotEnd(_) | Event::Heartbeat(_) => Ok(()),
        }
    }

    fn put_facts(&mut self, facts: proto::ClusterFacts) -> Result<(), ReplicaError> {
        // Without a cluster that can be named there is none.
        self.facts = None;
        let cluster = ClusterName::new(facts.cluster_name.clone())
            .map_err(|_| ReplicaError::Name { kind: "cluster".to_owned(), name: facts.cluster_name })?;
        let relying_party = RelyingParty { rp_id: facts.webauthn_rp_id, origins: facts.webauthn_origins };
        self.facts = Some(Arc::new(Facts { cluster, relying_party }));
        Ok(())
    }

    fn put_resource(&mut self, event: &proto::Resource) -> Result<(), ReplicaError> {
        // What was there before under this name is gone, whether or not its successor can be read.
        self.delete(&event.kind, &event.name)?;
        let is_lock = event.kind == "lock";
        if is_lock {
            Arc::make_mut(&mut self.unreadable_locks).insert(event.name.clone());
        }
        let (kind, name) = (event.kind.clone(), event.name.clone());
        let resource = Resource::from_json(&event.json).map_err(|source| ReplicaError::Resource {
            kind: kind.clone(),
            name: name.clone(),
            source: Box::new(source),
        })?;
        if resource.kind().as_str() != kind || resource.name() != name {
            return Err(ReplicaError::Misnamed { kind, name });
        }
        match resource {
            Resource::Role(role) => {
                Arc::make_mut(&mut self.roles).insert(role.metadata.name.clone(), Arc::new(role));
            }
            Resource::AuthPreference(preference) => self.auth_preference = Some(Arc::new(preference)),
            Resource::Lock(lock) => {
                Arc::make_mut(&mut self.unreadable_locks).remove(&name);
                Arc::make_mut(&mut self.locks).insert(name, lock);
            }
            Resource::User(_) | Resource::Token(_) | Resource::Database(_) | Resource::Node(_) => {
                return Err(ReplicaError::UnknownEvent { what: format!("a {kind}") });
            }
        }
        Ok(())
    }

    fn put_authority(&mut self, authority: proto::Authority) -> Result<(), ReplicaError> {
        if !matches!(authority.r#type.as_str(), "user" | "host" | "db" | "db_client" | "openssh") {
            let what = format!("an authority of type {:?}", authority.r#type);
            return Err(ReplicaError::UnknownEvent { what });
        }
        let certificates = authority.certificates.into_iter().map(CertificateDer::from).collect();
        // A key that cannot be read vouches for nobody.
        let ssh_public_keys =
            authority.ssh_public_keys.iter().filter_map(|line| PublicKey::from_openssh(line).ok()).collect();
        let trusted = Authority { certificates, ssh_public_keys };
        Arc::make_mut(&mut self.authorities).insert(authority.r#type, trusted);
        Ok(())
    }

    fn put_device(&mut self, device: &proto::DeviceKey) -> Result<(), ReplicaError> {
        let name =
            |kind: &str, name: &str| ReplicaError::Name { kind: kind.to_owned(), name: name.to_owned() };
        let id = Uuid::try_parse(&device.id).map_err(|_| name("device_key", &device.id))?;
        let devices = Arc::make_mut(&mut self.devices);
        devices.remove(&DeviceId(id));
        let kind = match device.kind() {
            proto::DeviceKind::Totp => DeviceKind::Totp,
            proto::DeviceKind::Webauthn => DeviceKey::from_cose(&device.cose_public_key)
                .map(DeviceKind::Webauthn)
                .map_err(|source| ReplicaError::DeviceKey { device: device.id.clone(), source })?,
            proto::DeviceKind::Unspecified => {
                return Err(ReplicaError::UnknownEvent { what: format!("the kind of device {id}") });
            }
        };
        let user = UserName::new(device.user.clone()).map_err(|_| name("user", &device.user))?;
        devices.insert(DeviceId(id), KnownDevice { user, kind });
        Ok(())
    }

    fn put_ended_logins(&mut self, ended: proto::EndedLogins) -> Result<(), ReplicaError> {
        let user = UserName::new(ended.user.clone())
            .map_err(|_| ReplicaError::Name { kind: "user".to_owned(), name: ended.user })?;
        // No certificate begins in 1970: a moment that was left out is none.
        let not_before = from_unix_millis(ended.not_before).filter(|at| *at > SystemTime::UNIX_EPOCH);
        let at = from_unix_millis(ended.at).unwrap_or(SystemTime::UNIX_EPOCH);
        Arc::make_mut(&mut self.ended_logins).insert(user.clone(), EndedLogins { not_before, at });
        not_before.map(drop).ok_or(ReplicaError::EndedLogins { user })
    }

    fn delete(&mut self, kind: &str, name: &str) -> Result<(), ReplicaError> {
        match kind {
            "role" => drop(Arc::make_mut(&mut self.roles).remove(name)),
            // There is always one: until the next comes, nothing is decided.
            "cluster_auth_preference" => self.auth_preference = None,
            "lock" => {
                Arc::make_mut(&mut self.unreadable_locks).remove(name);
                Arc::make_mut(&mut self.locks).remove(name);
            }
            "authority" => drop(Arc::make_mut(&mut self.authorities).remove(name)),
            "device_key" => {
                let device = Uuid::try_parse(name)
                    .map_err(|_| ReplicaError::Name { kind: kind.to_owned(), name: name.to_owned() })?;
                Arc::make_mut(&mut self.devices).remove(&DeviceId(device));
            }
            "ended_logins" => drop(Arc::make_mut(&mut self.ended_logins).remove(name)),
            _ => return Err(ReplicaError::UnknownEvent { what: format!("a {kind}") }),
        }
        Ok(())
    }
}
