//! For the tests alone: an authority that signs anything, a security key that says anything, and a small world to try them in.

#[cfg(feature = "testing")]
pub mod bench;
pub(crate) mod forge;
pub(crate) mod security_key;
pub(crate) mod ssh;
pub(crate) mod world;

use std::time::{Duration, SystemTime};

pub(crate) use forge::{Ca, Draft};
pub(crate) use security_key::SecurityKey;
#[cfg(test)]
pub(crate) use ssh::SshDraft;
pub(crate) use world::World;

/// 2026-01-01T00:00:00Z: when everything happens.
pub(crate) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600)
}

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
