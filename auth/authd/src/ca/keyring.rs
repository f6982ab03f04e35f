//! One kind of authority, while it has one key and while it has two: who signs, and who is trusted.
//!
//! A key is replaced in Teleport's phases. Two keys are trusted in all of them but `standby`; which one signs depends on whom
//! the authority signs for, so that nobody meets a certificate before having heard of its authority:
//!
//! | phase | `user`, `db_client`, `openssh` sign with | `host` signs with | `db` signs with |
//! |---|---|---|---|
//! | `standby` | the only one | the only one | the only one |
//! | `init` | old | old | **new** |
//! | `update_clients` | **new** | old | new |
//! | `update_servers` | new | **new** | new |
//! | `rollback` | old | old | old |
//!
//! Databases get their certificates by hand, and sidecars trust the new authority from `init` on, so theirs come first.
//! From `update_servers` the way leads to `standby`, where the old key is gone; from `rollback` too, where the new one is.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use auth::clock::{from_unix_millis, unix_millis};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::{Authority, AuthorityKind, AuthorityRecord, CaError};

/// How far the replacement of a key is. The words are Teleport's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// One key.
    Standby,
    /// The new key is there to be trusted.
    Init,
    /// The new key signs for clients.
    UpdateClients,
    /// The new key signs for servers too, and they get new certificates at once.
    UpdateServers,
    /// Back to the old key; what the new one signed is still trusted.
    Rollback,
}

impl Phase {
    /// The word of the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standby => "standby",
            Self::Init => "init",
            Self::UpdateClients => "update_clients",
            Self::UpdateServers => "update_servers",
            Self::Rollback => "rollback",
        }
    }

    /// Reads the word of the API.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let all = [Self::Standby, Self::Init, Self::UpdateClients, Self::UpdateServers, Self::Rollback];
        all.into_iter().find(|phase| phase.as_str() == word)
    }

    /// What comes next by itself; `None` where nothing does.
    fn next(self) -> Option<Self> {
        match self {
            Self::Init => Some(Self::UpdateClients),
            Self::UpdateClients => Some(Self::UpdateServers),
            Self::UpdateServers => Some(Self::Standby),
            Self::Standby | Self::Rollback => None,
        }
    }

    /// May this one follow? Of a replacement under way, each phase is gone through in turn, and each but `standby` can be rolled
    /// back.
    fn may_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::Standby, Self::Init) | (Self::Rollback, Self::Standby) => true,
            (Self::Init | Self::UpdateClients | Self::UpdateServers, Self::Rollback) => true,
            (from, to) => from.next() == Some(to),
        }
    }

    /// Does the new key sign, for this kind?
    fn signs_with_new(self, kind: AuthorityKind) -> bool {
        let first = match kind {
            AuthorityKind::Db => Self::Init,
            AuthorityKind::User | AuthorityKind::DbClient | AuthorityKind::Openssh => Self::UpdateClients,
            AuthorityKind::Host => Self::UpdateServers,
        };
        let order = |phase| match phase {
            Self::Standby | Self::Rollback => 0,
            Self::Init => 1,
            Self::UpdateClients => 2,
            Self::UpdateServers => 3,
        };
        order(self) >= order(first)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why there is no such step.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// One at a time.
    #[error("can not initiate rotation while another is in progress")]
    InProgress,
    /// A step that does not follow.
    #[error("can not switch to phase {to} from {from}")]
    NoSuchStep {
        /// Where it is.
        from: Phase,
        /// Where it was to go.
        to: Phase,
    },
    /// No key could be made.
    #[error(transparent)]
    Ca(#[from] CaError),
}

/// A replacement under way, as it is stored.
#[derive(Serialize, Deserialize)]
struct RotationRecord {
    phase: Phase,
    /// When it began, Unix milliseconds.
    started: i64,
    /// When this phase of it began; left out where that is when all of it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    phase_began: Option<i64>,
    /// All phases together, in seconds, where authd goes from one to the next by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grace_seconds: Option<u64>,
    /// The new key.
    new: AuthorityRecord,
}

/// A kind of authority as it is stored. Holds private keys: no `Debug`. Without a rotation it is what the first versions wrote.
#[derive(Serialize, Deserialize)]
pub struct KeyringRecord {
    #[serde(flatten)]
    old: AuthorityRecord,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rotation: Option<RotationRecord>,
    /// When a rotation was last completed, Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_rotated: Option<i64>,
}

/// A replacement under way.
struct Rotation {
    phase: Phase,
    started: SystemTime,
    /// When it came to this phase.
    phase_began: SystemTime,
    grace: Option<Duration>,
    new: Arc<Authority>,
}

/// One kind of authority. Holds private keys: no `Debug`.
pub struct Keyring {
    kind: AuthorityKind,
    /// The only one, or the one to be replaced.
    old: Arc<Authority>,
    rotation: Option<Rotation>,
    last_rotated: Option<SystemTime>,
}

impl Keyring {
    /// One key, made now.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn generate(kind: AuthorityKind, cluster: &str, now: SystemTime) -> Result<Self, CaError> {
        let old = Arc::new(Authority::generate(kind, cluster, now)?);
        Ok(Self { kind, old, rotation: None, last_rotated: None })
    }

    /// Reads what [`Keyring::to_record`] wrote.
    ///
    /// # Errors
    /// [`CaError::Damaged`].
    pub fn from_record(kind: AuthorityKind, record: &KeyringRecord) -> Result<Self, CaError> {
        let damaged = || CaError::Damaged(kind);
        let time = |millis| from_unix_millis(millis).ok_or_else(damaged);
        let rotation = match &record.rotation {
            None => None,
            Some(RotationRecord { phase: Phase::Standby, .. }) => return Err(damaged()),
            Some(stored) => Some(Rotation {
                phase: stored.phase,
                started: time(stored.started)?,
                phase_began: time(stored.phase_began.unwrap_or(stored.started))?,
                grace: stored.grace_seconds.map(Duration::from_secs),
                new: Arc::new(Authority::from_record(kind, &stored.new)?),
            }),
        };
        let old = Arc::new(Authority::from_record(kind, &record.old)?);
        Ok(Self { kind, old, rotation, last_rotated: record.last_rotated.map(time).transpose()? })
    }

    /// The form to store, private keys included.
    #[must_use]
    pub fn to_record(&self) -> KeyringRecord {
        let rotation = self.rotation.as_ref().map(|rotation| RotationRecord {
            phase: rotation.phase,
            started: unix_millis(rotation.started),
            phase_began: Some(unix_millis(rotation.phase_began))
                .filter(|_| rotation.phase_began != rotation.started),
            grace_seconds: rotation.grace.map(|grace| grace.as_secs()),
            new: rotation.new.to_record(),
        });
        KeyringRecord {
            old: self.old.to_record(),
            rotation,
            last_rotated: self.last_rotated.map(unix_millis),
        }
    }

    /// How far it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.rotation.as_ref().map_or(Phase::Standby, |rotation| rotation.phase)
    }

    /// When the rotation began, and how long all of it takes where authd leads it; `None` where there is none.
    #[must_use]
    pub fn under_way(&self) -> Option<(SystemTime, Option<Duration>)> {
        self.rotation.as_ref().map(|rotation| (rotation.started, rotation.grace))
    }

    /// When a rotation was last completed.
    #[must_use]
    pub fn last_rotated(&self) -> Option<SystemTime> {
        self.last_rotated
    }

    /// Who signs.
    #[must_use]
    pub fn signer(&self) -> &Arc<Authority> {
        match &self.rotation {
            Some(rotation) if rotation.phase.signs_with_new(self.kind) => &rotation.new,
            _ => &self.old,
        }
    }

    /// Who is trusted: the one who signs first, then the other if there is one.
    pub fn trusted(&self) -> impl Iterator<Item = &Arc<Authority>> {
        let signer = self.signer();
        let both = std::iter::once(&self.old).chain(self.rotation.as_ref().map(|rotation| &rotation.new));
        std::iter::once(signer).chain(both.filter(move |authority| !Arc::ptr_eq(authority, signer)))
    }

    /// Their certificates, to be told to others; none of a kind that signs no X.509.
    #[must_use]
    pub fn certificates(&self) -> Vec<CertificateDer<'static>> {
        if !self.kind.signs_x509() {
            return vec![];
        }
        self.trusted().map(|authority| authority.certificate().clone()).collect()
    }

    /// Their SSH public keys, each as an authorized_keys line.
    #[must_use]
    pub fn ssh_public_keys(&self) -> Vec<String> {
        self.trusted().filter_map(|authority| authority.ssh_public_key()).collect()
    }

    /// The next phase. `grace`: at `init`, how long all phases together take where authd leads.
    ///
    /// # Errors
    /// [`RotationError`]: it does not follow, or no key could be made.
    pub fn step(
        &self,
        to: Phase,
        grace: Option<Duration>,
        cluster: &str,
        now: SystemTime,
    ) -> Result<Self, RotationError> {
        let from = self.phase();
        if to == Phase::Init && from != Phase::Standby {
            return Err(RotationError::InProgress);
        }
        if !from.may_become(to) {
            return Err(RotationError::NoSuchStep { from, to });
        }
        let (kind, old, last_rotated) = (self.kind, Arc::clone(&self.old), self.last_rotated);
        let Some(rotation) = &self.rotation else {
            let new = Arc::new(Authority::generate(kind, cluster, now)?);
            let rotation = Some(Rotation { phase: to, started: now, phase_began: now, grace, new });
            return Ok(Self { kind, old, rotation, last_rotated });
        };
        let new = Arc::clone(&rotation.new);
        Ok(match (from, to) {
            (Phase::Rollback, Phase::Standby) => Self { kind, old, rotation: None, last_rotated },
            (_, Phase::Standby) => Self { kind, old: new, rotation: None, last_rotated: Some(now) },
            // Whoever rolls back decides about the end by hand.
            (_, to) => {
                let grace = rotation.grace.filter(|_| to != Phase::Rollback);
                let started = rotation.started;
                let rotation = Some(Rotation { phase: to, started, phase_began: now, grace, new });
                Self { kind, old, rotation, last_rotated }
            }
        })
    }

    /// What comes after this phase; `None` in `standby`.
    #[must_use]
    pub fn next_phase(&self) -> Option<Phase> {
        match self.phase() {
            Phase::Rollback => Some(Phase::Standby),
            phase => phase.next(),
        }
    }

    /// The phase that has come by the clock, one after this, where authd leads. The three waits are of equal length, each from
    /// when its phase began: an authd that was down leaves everybody as much time in the phases that are left.
    #[must_use]
    pub fn due(&self, now: SystemTime) -> Option<Phase> {
        let rotation = self.rotation.as_ref()?;
        let at = rotation.phase_began + rotation.grace? / 3;
        rotation.phase.next().filter(|_| at <= now)
    }

    /// When the last wait is over, where authd leads.
    #[must_use]
    pub fn ends(&self) -> Option<SystemTime> {
        let rotation = self.rotation.as_ref()?;
        let waits = match rotation.phase {
            Phase::Init => 3,
            Phase::UpdateClients => 2,
            Phase::UpdateServers => 1,
            Phase::Standby | Phase::Rollback => return None,
        };
        Some(rotation.phase_began + rotation.grace? / 3 * waits)
    }
}

#[cfg(test)]
mod tests;
