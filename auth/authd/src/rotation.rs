//! Replacing an authority's keys, phase by phase: by hand, or led by authd over a grace period.
//!
//! What a phase means is in [`Keyring`], and whom one waits for in [`sidecars`]. Here is how one becomes the next: read, stepped, stored on record, and only then in
//! force, under one lock, so that what signs is never ahead of what is stored and told to sidecars.

mod sidecars;

use std::{collections::HashMap, sync::Arc, time::Duration};

use auth::{
    clock::{rfc3339, unix_millis},
    proto,
    repeated::Repeated,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::Change,
    audit,
    ca::{AuthorityKind, CaError, Keyring, KeyringRecord, Phase},
    cluster::Cluster,
    error::Refused,
    keys,
    store::{self, Op},
};

pub(crate) use self::sidecars::Held;

/// Where nothing else is asked for: Teleport's default.
const GRACE: Duration = Duration::from_secs(48 * 3600);
/// Sidecars need a moment in each phase.
const SHORTEST_GRACE: Duration = Duration::from_secs(3 * 60);
/// How often authd looks whether a phase is over.
const LOOK_EVERY: Duration = Duration::from_secs(10);

impl Cluster {
    /// One step, for an administrator.
    pub(crate) async fn rotate(
        &self,
        request: &proto::RotateAuthorityRequest,
        change: &Change,
    ) -> Result<proto::RotateAuthorityResponse, Refused> {
        let kind = AuthorityKind::parse(&request.r#type)
            .ok_or_else(|| Refused::field("type", "must be user, host, db, db_client or openssh"))?;
        let (to, grace) = match (request.phase.as_str(), request.grace_seconds) {
            ("", 0) => (Phase::Init, Some(GRACE)),
            ("", seconds) => {
                let grace = Duration::from_secs(seconds.into());
                if grace < SHORTEST_GRACE {
                    return Err(Refused::field("grace_seconds", "must be at least 180"));
                }
                (Phase::Init, Some(grace))
            }
            (_, 1..) => {
                return Err(Refused::field("grace_seconds", "stands beside phase; send one of them"));
            }
            (word, 0) => {
                let phase = Phase::parse(word).ok_or_else(|| {
                    Refused::field(
                        "phase",
                        "must be init, update_clients, update_servers, standby or rollback",
                    )
                })?;
                (phase, None)
            }
        };
        if request.force && request.phase.is_empty() {
            return Err(Refused::field("force", "stands beside phase alone"));
        }
        let step = |_: &Keyring| Some(Step { to, grace, force: request.force });
        let phase = self.step_authority(kind, step, |event| change.sign(event)).await?;
        Ok(proto::RotateAuthorityResponse { phase: phase.to_string() })
    }

    /// Goes on with what is due, one step at most of each kind. Answers with why one of a kind does not, for each.
    pub(crate) async fn lead_rotations(&self) -> Vec<(AuthorityKind, Result<(), Refused>)> {
        let mut led = Vec::new();
        for kind in AuthorityKind::ALL {
            let now = self.clock.now();
            if self.authorities.of(kind).due(now).is_some() {
                let due =
                    |keyring: &Keyring| keyring.due(now).map(|to| Step { to, grace: None, force: false });
                led.push((kind, self.step_authority(kind, due, |event| event).await.map(drop)));
            }
        }
        led
    }

    /// The phase after it. `next` says which, of what is stored; `None`: it stays as it is.
    async fn step_authority(
        &self,
        kind: AuthorityKind,
        next: impl FnOnce(&Keyring) -> Option<Step> + Send,
        sign: impl FnOnce(Value) -> Value + Send,
    ) -> Result<Phase, Refused> {
        // Held until what was stored is in force: of two steps the later one stays.
        let _one_at_a_time = self.authorities.rotating().await;
        let key = keys::authority(kind);
        let stored = store::read::<KeyringRecord>(&*self.store, &key).await?.ok_or(CaError::Damaged(kind))?;
        let before = Keyring::from_record(kind, &stored.value)?;
        let Some(Step { to, grace, force }) = next(&before) else { return Ok(before.phase()) };
        let after = before.step(to, grace, self.name.as_str(), self.clock.now())?;
        // The way back is open to whoever needs it.
        let behind = match to {
            Phase::Rollback => vec![],
            _ => self.left_behind_by(kind, &after).await?,
        };
        if !force && !behind.is_empty() {
            return Err(Refused::LeftBehind { to, sidecars: behind });
        }
        let op = Op::put(key, stored.unchanged(), &after.to_record())?;
        let mut event = sign(event(kind, &before, &after));
        if !behind.is_empty() {
            let left: Vec<_> = behind.iter().map(|sidecar| sidecar.sidecar_id.as_str()).collect();
            audit::set(&mut event, "left_behind", left);
        }
        self.commit_on_record(vec![op], vec![event], Refused::Changed("the authority")).await?;
        self.authorities.replace(kind, after);
        tracing::info!(authority = %kind, from = %before.phase(), phase = %to, "an authority is rotated");
        Ok(to)
    }

    /// How far each authority is.
    pub(crate) async fn authority_status(
        &self,
        kind: AuthorityKind,
    ) -> Result<proto::AuthorityStatus, Refused> {
        let keyring = self.authorities.of(kind);
        let (started, grace) = keyring.under_way().unzip();
        let grace = grace.flatten().map(|grace| u32::try_from(grace.as_secs()).unwrap_or(u32::MAX));
        let behind = match keyring.next_phase() {
            None => vec![],
            Some(next) => {
                let after = keyring.step(next, None, self.name.as_str(), self.clock.now())?;
                self.left_behind_by(kind, &after).await?
            }
        };
        Ok(proto::AuthorityStatus {
            r#type: kind.as_str().to_owned(),
            rotation: keyring.phase().to_string(),
            not_after: unix_millis(keyring.signer().not_after()),
            started: started.map(unix_millis).unwrap_or_default(),
            grace_seconds: grace.unwrap_or_default(),
            last_rotated: keyring.last_rotated().map(unix_millis).unwrap_or_default(),
            ends: keyring.ends().map(unix_millis).unwrap_or_default(),
            behind,
        })
    }
}

/// What is to be done to an authority.
struct Step {
    to: Phase,
    /// At `init`.
    grace: Option<Duration>,
    /// Whoever is left behind.
    force: bool,
}

/// Says from where to where, and which keys are trusted from now on, the one that signs first.
fn event(kind: AuthorityKind, before: &Keyring, after: &Keyring) -> Value {
    let trusted = after.trusted().map(|authority| hex::encode(authority.spki_sha256()));
    let mut event = json!({
        "event": "cert_authority.rotate", "code": "TTS30I", "type": kind.as_str(),
        "from": before.phase().as_str(), "phase": after.phase().as_str(),
        "spki_sha256": trusted.collect::<Vec<_>>(),
    });
    audit::set(&mut event, "ends", after.ends().map(rfc3339));
    event
}

/// Goes on with rotations that authd leads, until told to stop. What fails is tried again.
pub(crate) async fn lead(cluster: Arc<Cluster>, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failures: HashMap<&'static str, Repeated> = HashMap::new();
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        for (kind, led) in cluster.lead_rotations().await {
            let failure = failures.entry(kind.as_str()).or_default();
            match led {
                Ok(()) => failure.is_over(),
                Err(error) if failure.is_news(&error) => tracing::error!(
                    authority = %kind, error = &error as &dyn std::error::Error,
                    "the rotation of an authority does not go on"
                ),
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
