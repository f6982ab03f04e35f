//! The right to change something as an administrator: a value that every changing function wants to see, and that a user
//! gets only by a touch for that very call.
//!
//! A command names its calls beforehand, each by the hash of its method and its whole request ([`touch::digest`]). The
//! touch is over those names ([`AdminIntent`](proto::AdminIntent)); the first call that carries its answer spends the
//! challenge and leaves an approval, from which each call takes its own name, once. So one touch is one command, and a
//! stolen answer is good for nothing but the same calls, by the same user, within five minutes.

use auth::{
    api::touch,
    clock::unix_millis,
    identity::{DeviceId, UserName},
    proto,
};
use prost::Message;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tonic::metadata::MetadataMap;

use super::{Admin, AdminCaller};
use crate::{
    access::LockSubject,
    audit,
    challenge::{self, Scope},
    cluster::Cluster,
    error::Refused,
    keys,
    mfa::{self, Answer},
    store::{self, Condition, Op, RACE_ATTEMPTS, StoreError, Stored},
};

/// Bytes of a call's name.
const NAME: usize = 32;

/// An administrator who may make one change now. Only [`Cluster::allow_change`] makes one.
pub(crate) struct Change {
    caller: AdminCaller,
    /// The device that was touched for it.
    device: Option<DeviceId>,
}

impl Change {
    /// See [`AdminCaller::require`].
    pub(crate) fn require(&self, resource: &'static str, verb: &'static str) -> Result<(), Refused> {
        self.caller.require(resource, verb)
    }

    /// Says in an event who did it, and with which device: `user`, `with_mfa`.
    pub(crate) fn sign(&self, mut event: Value) -> Value {
        audit::set(&mut event, "user", self.caller.admin.name());
        if let Some(device) = self.device {
            audit::set(&mut event, "with_mfa", device.to_string());
        }
        event
    }
}

/// What is left of a touch.
#[derive(Clone, Serialize, Deserialize)]
struct Approval {
    /// Names of calls that were not made yet, hex.
    left: Vec<String>,
    device: DeviceId,
}

impl Approval {
    /// Takes a call's name out.
    fn use_up(&mut self, name: &str) -> Result<(), Refused> {
        let place = self.left.iter().position(|left| left == name).ok_or(Refused::NotTouchedFor)?;
        self.left.remove(place);
        Ok(())
    }
}

impl Cluster {
    /// The challenge of a command.
    pub(crate) async fn create_admin_challenge(
        &self,
        user: &UserName,
        action: proto::create_challenge_request::AdminAction,
    ) -> Result<proto::MfaChallenge, Refused> {
        let proto::create_challenge_request::AdminAction { command, request_sha256 } = action;
        if command.len() > touch::MAX_COMMAND_BYTES || command.chars().any(char::is_control) {
            return Err(Refused::field("command", "must be at most 1,000 bytes without control characters"));
        }
        if !(1..=touch::MAX_CALLS).contains(&request_sha256.len()) {
            return Err(Refused::field("request_sha256", "must name 1 to 256 calls"));
        }
        if request_sha256.iter().any(|name| name.len() != NAME) {
            return Err(Refused::field("request_sha256", "must be SHA-256 hashes"));
        }
        let intent = proto::AdminIntent {
            cluster: self.name.to_string(),
            user: user.to_string(),
            command,
            request_sha256,
            time: unix_millis(self.clock.now()),
            nonce: challenge::nonce()?,
        };
        self.create_challenge(user, Scope::AdminAction { intent: intent.encode_to_vec() }).await
    }

    /// The one gate of every change: root passes, a user shows a touch for this very call.
    pub(crate) async fn allow_change(
        &self,
        caller: AdminCaller,
        metadata: &MetadataMap,
        name: [u8; NAME],
    ) -> Result<Change, Refused> {
        let device = match &caller.admin {
            Admin::Root => None,
            Admin::User(user) if self.may_change_untouched(user).await? => None,
            Admin::User(user) => {
                let attached = touch::attached(metadata);
                let mfa = attached.map_err(|e| Refused::field("metadata", e))?.ok_or(Refused::TouchNeeded)?;
                let device = self.touched(user, mfa, &hex::encode(name)).await?;
                self.refuse_locked(user, &[], LockSubject { device: Some(device), ..Default::default() })
                    .await?;
                Some(device)
            }
        };
        Ok(Change { caller, device })
    }

    /// The device whose touch was for this call.
    async fn touched(&self, user: &UserName, mfa: proto::AdminMfa, name: &str) -> Result<DeviceId, Refused> {
        let proto::AdminMfa { challenge_id, mfa } = mfa;
        if let Some(device) = self.use_approval(user, &challenge_id, name).await? {
            return Ok(device);
        }
        let challenge = match self.spend_challenge(user, &challenge_id).await {
            // Its approval is over, or it never was this user's.
            Err(Refused::Challenge) => return Err(Refused::TouchNeeded),
            challenge => challenge?,
        };
        let Scope::AdminAction { intent } = &challenge.scope else { return Err(Refused::Challenge) };
        let intent = proto::AdminIntent::decode(intent.as_slice()).map_err(|_| Refused::Challenge)?;
        let proof = self.judge_answer(user, &challenge, &Answer::from_proto(mfa)?).await?;
        // A device was added or asked for since the challenge was made: then it must be shown.
        let device = proof.device().map(mfa::Device::id).ok_or(Refused::TouchNeeded)?;
        let left = intent.request_sha256.iter().map(hex::encode).collect();
        let mut approval = Approval { left, device };
        // The touch may be for other calls than this; then it is left for those.
        let used = approval.use_up(name);
        let until = Some(self.clock.now() + challenge::LIFE);
        let key = keys::approval(user, &challenge_id);
        self.store.commit(vec![Op::put_until(key, Condition::Absent, &approval, until)?]).await?;
        used.map(|()| device)
    }

    /// Takes a call out of an approval. `None`: there is no such approval. Of two calls of one name at the same time, one
    /// finds it taken.
    async fn use_approval(
        &self,
        user: &UserName,
        challenge_id: &str,
        name: &str,
    ) -> Result<Option<DeviceId>, Refused> {
        let key = keys::approval(user, challenge_id);
        for _ in 0..RACE_ATTEMPTS {
            let stored: Option<Stored<Approval>> = store::read(&*self.store, &key).await?;
            let Some(stored) = stored else { return Ok(None) };
            let condition = stored.unchanged();
            let mut approval = stored.value;
            approval.use_up(name)?;
            let op = Op::put_until(key.clone(), condition, &approval, stored.expires)?;
            match self.store.commit(vec![op]).await {
                // Another call of the command took its name meanwhile: judge again by what it left.
                Err(StoreError::Conflict { .. }) => {}
                other => return other.map(|_| Some(approval.device)).map_err(Into::into),
            }
        }
        Err(Refused::TooMany("calls at the same time"))
    }
}
