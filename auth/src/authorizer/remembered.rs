//! Certificates that were verified before, with their evidence of MFA. HOT.
//!
//! A pool, a GUI or a warm tunnel opens each connection with the same session certificate. Two signatures are verified for it,
//! the authority's and the security key's, and whether they are right depends on nothing but the certificate's bytes and
//! what the replica says of authorities, devices, relying party and second factors. So they are verified once for each
//! certificate and generation of the replica: SHA-256 over the bytes and the generation are what it is found by, and any change
//! of anything in the replica makes all of it unknown again.
//!
//! What time, the request or the place can change is judged each time, known or not: dates, the age of the touch, route,
//! kind of the target, locks, roles, address. So is the handshake, whose signature is the only proof that the certificate is
//! the client's. What was refused is not remembered, so that nobody but those whom authd knows can fill the memory.

use std::sync::Arc;

use moka::sync::Cache;

use super::Evidence;
use crate::{
    cache::{IDLE, weight},
    certificate::MAX_CERTIFICATE_BYTES,
    credential::{Credential, sha256},
    replica::Snapshot,
};

/// Bytes, about, that all of them may take.
const MAX_BYTES: u64 = 16 << 20;

/// About what one takes besides what its certificate says, which is less than its bytes.
const ENTRY: usize = 1024;

/// What evidence is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    certificate_sha256: [u8; 32],
    certificate_bytes: usize,
    generation: u64,
}

pub(super) struct Remembered(Cache<Key, Arc<Evidence>>);

impl Key {
    /// `None`: evidence of this kind is not remembered. An OpenSSH certificate is judged together with the login and the
    /// address, and a one-time code is good for one connection.
    pub(super) fn of(credential: &Credential<'_>, snapshot: &Snapshot) -> Option<Self> {
        let certificate = match credential {
            Credential::X509(chain) | Credential::SshInTls { chain, .. } => chain.first()?,
            Credential::Ssh { .. } | Credential::SshWithOtp { .. } => return None,
        };
        let certificate_bytes = certificate.len();
        if certificate_bytes > MAX_CERTIFICATE_BYTES {
            return None;
        }
        let certificate_sha256 = sha256(certificate);
        Some(Self { certificate_sha256, certificate_bytes, generation: snapshot.generation() })
    }
}

impl Remembered {
    pub(super) fn new() -> Self {
        let weigher = |key: &Key, _: &Arc<Evidence>| weight(ENTRY + key.certificate_bytes);
        Self(Cache::builder().max_capacity(MAX_BYTES).weigher(weigher).time_to_idle(IDLE).build())
    }

    pub(super) fn find(&self, key: &Key) -> Option<Arc<Evidence>> {
        self.0.get(key)
    }

    /// Everything about the evidence that the snapshot of the key's generation has a say in is verified.
    pub(super) fn keep(&self, key: Key, evidence: &Arc<Evidence>) {
        self.0.insert(key, Arc::clone(evidence));
    }

    #[cfg(feature = "testing")]
    pub(super) fn forget(&self) {
        self.0.invalidate_all();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> u64 {
        self.0.run_pending_tasks();
        self.0.entry_count()
    }
}
