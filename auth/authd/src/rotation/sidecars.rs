//! Whom a step of the host authority would lock out.
//!
//! A sidecar that hears of other authorities gets a new certificate, and has their certificates along with it; that takes
//! seconds, where it is connected. So authd knows from a step on who has yet to: with each announcement, which follows a new
//! certificate at once, a sidecar shows the certificate that it has on disk and says whom it trusts. A step that would leave it
//! without anybody who believes it, or with an authd that it does not believe, waits for it, until its certificate has
//! expired and it needs a token anyway. Whoever is locked out by an administrator is not waited for: there are no certificates
//! for it.

use std::time::SystemTime;

use auth::{
    api::CaPin,
    clock::{from_unix_millis, unix_millis},
    proto,
};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    api::caller::SidecarCaller,
    ca::{AuthorityKind, Keyring},
    cluster::Cluster,
    error::Refused,
    keys,
    store::{self, Condition, Op, StoreError},
};

/// Pins of one announcement that are looked at.
const MAX_PINS: usize = 8;

/// The certificate that a sidecar has, as far as is known.
#[derive(Serialize, Deserialize)]
pub(crate) struct Held {
    sidecar: Uuid,
    /// Who signed it.
    authority: Option<CaPin>,
    /// Under whom it takes an authd for one.
    trusts: Vec<CaPin>,
    not_after: SystemTime,
    /// `None`: it has only just joined.
    last_seen: Option<SystemTime>,
}

impl Held {
    /// As a sidecar announces itself. One of an earlier version does not say whom it trusts: whoever signed its own certificate,
    /// at least.
    pub(crate) fn shown(caller: &SidecarCaller, pins: &[String], now: SystemTime) -> Self {
        let said = pins.iter().take(MAX_PINS).filter_map(|pin| pin.parse().ok());
        Self {
            sidecar: caller.id,
            authority: caller.authority,
            trusts: said.chain(caller.authority).collect(),
            not_after: caller.not_after,
            last_seen: Some(now),
        }
    }

    /// The operation that remembers it.
    pub(crate) fn op(&self) -> Result<Op, StoreError> {
        let key = keys::held_certificate(self.sidecar);
        Op::put_until(key, Condition::Any, self, Some(self.not_after))
    }

    /// Would it be locked out?
    fn is_behind(&self, after: &Keyring) -> bool {
        let is_believed =
            after.trusted().any(|authority| self.authority == CaPin::of(authority.certificate()));
        let believes = CaPin::of(after.signer().certificate()).is_some_and(|pin| self.trusts.contains(&pin));
        !(is_believed && believes)
    }
}

impl Cluster {
    /// The first certificate of a sidecar, as it was answered.
    pub(crate) fn held_by_new(&self, sidecar: Uuid, answer: &proto::SidecarCertificate) -> Held {
        let told = answer.host_authorities.iter().map(|der| CertificateDer::from(der.as_slice()));
        let trusts: Vec<_> = told.filter_map(|authority| CaPin::of(&authority)).collect();
        Held {
            sidecar,
            // Who signs comes first.
            authority: trusts.first().copied(),
            trusts,
            not_after: from_unix_millis(answer.not_after).unwrap_or(SystemTime::UNIX_EPOCH),
            last_seen: None,
        }
    }

    /// The sidecars with a certificate in date whom it would lock out that an authority is like this.
    pub(crate) async fn left_behind_by(
        &self,
        kind: AuthorityKind,
        after: &Keyring,
    ) -> Result<Vec<proto::SidecarBehind>, Refused> {
        if kind != AuthorityKind::Host {
            return Ok(vec![]);
        }
        let mut behind = Vec::new();
        for stored in store::read_all::<Held>(&*self.store, keys::held_certificates()).await? {
            let held = stored.value;
            if !held.is_behind(after) {
                continue;
            }
            let record = match self.sidecar(held.sidecar).await {
                Err(Refused::Locked(_) | Refused::NotFound { .. }) => continue,
                record => record?.value,
            };
            behind.push(proto::SidecarBehind {
                sidecar_id: held.sidecar.to_string(),
                target_names: record.targets.iter().map(ToString::to_string).collect(),
                last_seen: held.last_seen.map(unix_millis).unwrap_or_default(),
                not_after: unix_millis(held.not_after),
            });
        }
        Ok(behind)
    }
}
