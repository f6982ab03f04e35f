//! What every part of authd works with: the store, the clock, the authorities, the audit trail, and who we are.

use std::sync::Arc;

use arc_swap::ArcSwap;
use auth::{
    api::CaPin,
    clock::Clock,
    identity::{ClusterName, RoleName, UserName},
    resource::{AUTH_PREFERENCE_NAME, AuthPreference, Kind, Lock, Resource, Role, User, preset},
};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, watch};

use crate::{
    audit::AuditLog,
    browser_mfa::Pages,
    ca::{Authority, AuthorityKind, CaError, Keyring, KeyringRecord},
    error::Refused,
    keys,
    memo::{Memo, Memos},
    password::Passwords,
    passwordless::Lobby,
    recordings::Recordings,
    store::{self, Condition, Op, Store, StoreError},
    under_way::UnderWay,
    users::MadeUp,
};

/// Everything shared. One per process; behind an `Arc`.
pub(crate) struct Cluster {
    pub(crate) name: ClusterName,
    /// Where users reach us: HOST:PORT.
    pub(crate) public_addr: String,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Clock,
    pub(crate) authorities: Authorities,
    pub(crate) passwords: Passwords,
    /// Failures of names that are nobody's.
    pub(crate) made_up: MadeUp,
    pub(crate) lobby: Lobby,
    pub(crate) pages: Pages,
    pub(crate) audit: AuditLog,
    /// Where calls are announced whose writes may share a sync.
    pub(crate) under_way: UnderWay,
    pub(crate) memos: Memos,
    pub(crate) recordings: Recordings,
}

/// What a cluster is made of; the rest of it begins empty.
pub(crate) struct Foundation {
    pub(crate) name: ClusterName,
    pub(crate) public_addr: String,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Clock,
    pub(crate) authorities: Authorities,
    pub(crate) audit: AuditLog,
    pub(crate) under_way: UnderWay,
    pub(crate) recordings: Recordings,
}

impl Cluster {
    pub(crate) fn new(foundation: Foundation) -> Self {
        let Foundation { name, public_addr, store, clock, authorities, audit, under_way, recordings } =
            foundation;
        Self {
            name,
            public_addr,
            store,
            clock,
            authorities,
            passwords: Passwords::default(),
            made_up: MadeUp::default(),
            lobby: Lobby::default(),
            pages: Pages::default(),
            audit,
            under_way,
            memos: Memos::default(),
            recordings,
        }
    }
}

/// The five authorities. A rotation puts another in the place of one while authd runs.
pub(crate) struct Authorities {
    user: ArcSwap<Keyring>,
    host: ArcSwap<Keyring>,
    db: ArcSwap<Keyring>,
    db_client: ArcSwap<Keyring>,
    openssh: ArcSwap<Keyring>,
    /// Counts what was put in another's place.
    changes: watch::Sender<u64>,
    rotating: RwLock<()>,
}

impl Authorities {
    async fn load(store: &dyn Store) -> Result<Self, FoundingError> {
        let load = async |kind| {
            let record = store::read::<KeyringRecord>(store, &keys::authority(kind)).await?;
            let record = record.ok_or(CaError::Damaged(kind))?;
            Ok::<_, FoundingError>(ArcSwap::from_pointee(Keyring::from_record(kind, &record.value)?))
        };
        Ok(Self {
            user: load(AuthorityKind::User).await?,
            host: load(AuthorityKind::Host).await?,
            db: load(AuthorityKind::Db).await?,
            db_client: load(AuthorityKind::DbClient).await?,
            openssh: load(AuthorityKind::Openssh).await?,
            changes: watch::Sender::new(0),
            rotating: RwLock::new(()),
        })
    }

    fn slot(&self, kind: AuthorityKind) -> &ArcSwap<Keyring> {
        match kind {
            AuthorityKind::User => &self.user,
            AuthorityKind::Host => &self.host,
            AuthorityKind::Db => &self.db,
            AuthorityKind::DbClient => &self.db_client,
            AuthorityKind::Openssh => &self.openssh,
        }
    }

    /// As it is now.
    pub(crate) fn of(&self, kind: AuthorityKind) -> Arc<Keyring> {
        self.slot(kind).load_full()
    }

    /// Who signs now.
    pub(crate) fn signer(&self, kind: AuthorityKind) -> Arc<Authority> {
        Arc::clone(self.of(kind).signer())
    }

    /// Who is trusted now, the one who signs first.
    pub(crate) fn certificates(&self, kind: AuthorityKind) -> Vec<CertificateDer<'static>> {
        self.of(kind).certificates()
    }

    pub(crate) fn certificate_bytes(&self, kind: AuthorityKind) -> Vec<Vec<u8>> {
        self.certificates(kind).iter().map(|certificate| certificate.to_vec()).collect()
    }

    pub(crate) fn ssh_public_keys(&self, kind: AuthorityKind) -> Vec<String> {
        self.of(kind).ssh_public_keys()
    }

    /// From now on, this one, which is in the store.
    pub(crate) fn replace(&self, kind: AuthorityKind, keyring: Keyring) {
        self.slot(kind).store(Arc::new(keyring));
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Held by whoever steps one.
    pub(crate) async fn rotating(&self) -> RwLockWriteGuard<'_, ()> {
        self.rotating.write().await
    }

    /// Held by whoever signs what a step has to know of, until that is stored.
    pub(crate) async fn standing_still(&self) -> RwLockReadGuard<'_, ()> {
        self.rotating.read().await
    }

    /// Hears of each that is put in another's place.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FoundingError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Keys cannot be made or read.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The directory is another cluster's.
    #[error("this data directory belongs to cluster {found:?}, not {asked:?}")]
    OtherCluster {
        /// Whose it is.
        found: ClusterName,
        /// Whose it should be.
        asked: ClusterName,
    },
}

/// A resource as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct ResourceRecord(serde_json::Value);

/// What a new cluster begins with: its name, its authorities, the preset roles, the preference. Does nothing that is done
/// already; whole or not at all, so that a crash in between leaves nothing half made.
pub(crate) async fn found(
    store: &dyn Store,
    clock: &Clock,
    asked: Option<ClusterName>,
    default: impl FnOnce() -> ClusterName,
) -> Result<(ClusterName, Authorities), FoundingError> {
    let key = store::key(&["cluster"]);
    let name = match (store::read::<ClusterName>(store, &key).await?, asked) {
        (Some(found), Some(asked)) if found.value != asked => {
            return Err(FoundingError::OtherCluster { found: found.value, asked });
        }
        (Some(found), _) => found.value,
        (None, asked) => {
            let name = asked.unwrap_or_else(default);
            let mut ops = vec![Op::put(key, Condition::Absent, &name)?];
            for kind in AuthorityKind::ALL {
                let keyring = Keyring::generate(kind, name.as_str(), clock.now())?;
                ops.push(Op::put(keys::authority(kind), Condition::Absent, &keyring.to_record())?);
            }
            let preference = Resource::AuthPreference(AuthPreference::default());
            let presets = [preset::access(), preset::editor(), preset::auditor()].map(Resource::Role);
            for resource in presets.iter().chain([&preference]) {
                ops.push(put_op(resource, Condition::Absent)?);
            }
            store.commit(ops).await?;
            tracing::info!(cluster = %name, "a new cluster");
            name
        }
    };
    complete(store, clock, &name).await?;
    Ok((name, Authorities::load(store).await?))
}

/// Authorities that clusters founded by earlier versions do not have. One that every cluster had from its first day is not
/// made anew when it is missing: that would be another cluster under the same name.
const ADDED: [AuthorityKind; 1] = [AuthorityKind::Openssh];

async fn complete(store: &dyn Store, clock: &Clock, name: &ClusterName) -> Result<(), FoundingError> {
    for kind in ADDED {
        let key = keys::authority(kind);
        if store.get(&key).await?.is_none() {
            let keyring = Keyring::generate(kind, name.as_str(), clock.now())?;
            store.commit(vec![Op::put(key, Condition::Absent, &keyring.to_record())?]).await?;
            tracing::info!(cluster = %name, authority = %kind, "a new authority");
        }
    }
    Ok(())
}

/// The operation that stores a resource, with its own expiry.
pub(crate) fn put_op(resource: &Resource, condition: Condition) -> Result<Op, StoreError> {
    let expires = match resource {
        Resource::Role(role) => role.metadata.expires,
        Resource::User(user) => user.metadata.expires,
        Resource::Token(token) => token.metadata.expires,
        // A lock is over at the earlier of its two ends.
        Resource::Lock(lock) => match (lock.metadata.expires, lock.expires) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        },
        Resource::AuthPreference(_) | Resource::Database(_) | Resource::Node(_) => None,
    };
    let key = keys::resource(resource.kind(), resource.name());
    Op::put_until(key, condition, &ResourceRecord(resource.to_value()), expires)
}

/// Reads a resource from a stored item.
pub(crate) fn read_resource(item: &store::Item) -> Result<Resource, Refused> {
    // The text as it was stored: reading it is strict, and says itself what is wrong with it.
    let text = str::from_utf8(&item.value).map_err(|_| Refused::Internal("a resource that is no text"))?;
    Ok(Resource::from_json(text)?)
}

impl Cluster {
    /// What `--ca-pin` is compared with.
    pub(crate) fn ca_pins(&self) -> Vec<String> {
        let host = self.authorities.certificates(AuthorityKind::Host);
        host.iter().filter_map(CaPin::of).map(|pin| pin.to_string()).collect()
    }

    /// The host of the public address, without its port.
    pub(crate) fn public_host(&self) -> &str {
        let host = self.public_addr.rsplit_once(':').map_or(self.public_addr.as_str(), |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    pub(crate) async fn resource(&self, kind: Kind, name: &str) -> Result<Option<(Resource, u64)>, Refused> {
        let item = self.store.get(&keys::resource(kind, name)).await?;
        item.map(|item| Ok((read_resource(&item)?, item.revision))).transpose()
    }

    pub(crate) async fn resources(&self, kind: Kind) -> Result<Vec<Resource>, Refused> {
        self.store.range(&[keys::resources(kind)]).await?.items.iter().map(read_resource).collect()
    }

    /// One of the kinds that every call asks for.
    async fn known<T>(&self, memo: &Memo<T>, kind: Kind, name: &str) -> Result<Option<Arc<T>>, Refused> {
        match self.store.get(&keys::resource(kind, name)).await? {
            Some(item) => memo.read(&item),
            None => Ok(None),
        }
    }

    pub(crate) async fn user(&self, name: &UserName) -> Result<Option<Arc<User>>, Refused> {
        self.known(&self.memos.users, Kind::User, name.as_str()).await
    }

    pub(crate) async fn roles(&self, names: &[RoleName]) -> Result<Vec<Arc<Role>>, Refused> {
        let mut roles = Vec::new();
        for name in names {
            roles.extend(self.known(&self.memos.roles, Kind::Role, name.as_str()).await?);
        }
        Ok(roles)
    }

    /// The preference in force. There always is one.
    pub(crate) async fn preference(&self) -> Result<Arc<AuthPreference>, Refused> {
        let memo = &self.memos.preference;
        Ok(self.known(memo, Kind::AuthPreference, AUTH_PREFERENCE_NAME).await?.unwrap_or_default())
    }

    pub(crate) async fn locks(&self) -> Result<Vec<Arc<Lock>>, Refused> {
        let items = self.store.range(&[keys::resources(Kind::Lock)]).await?.items;
        items.iter().filter_map(|item| self.memos.locks.read(item).transpose()).collect()
    }
}

#[cfg(test)]
impl Cluster {
    /// A new one in this directory, which nobody serves.
    pub(crate) async fn unserved(directory: &std::path::Path) -> Self {
        Self::unserved_at(directory, Clock::system()).await
    }

    /// The same, by this clock.
    pub(crate) async fn unserved_at(directory: &std::path::Path, clock: Clock) -> Self {
        let store = Arc::new(store::Sqlite::open(&directory.join("store"), clock.clone()).unwrap());
        Self::unserved_on(store, directory, clock).await
    }

    /// The one that this store has, or a new one.
    pub(crate) async fn unserved_on(
        store: Arc<dyn Store>,
        directory: &std::path::Path,
        clock: Clock,
    ) -> Self {
        let under_way = UnderWay::default();
        let name = || "main".to_owned().try_into().unwrap();
        let (name, authorities) = found(&*store, &clock, None, name).await.unwrap();
        let audit =
            AuditLog::open(&directory.join("log"), store.clone(), clock.clone(), "main", under_way.clone())
                .await
                .unwrap();
        let public_addr = "localhost:1".to_owned();
        let recordings = Recordings::new(directory.join("recordings"));
        Self::new(Foundation { name, public_addr, store, clock, authorities, audit, under_way, recordings })
    }
}
