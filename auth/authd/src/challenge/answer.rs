//! Answers to challenges: each challenge is spent by its first, whatever comes of that.
//!
//! An answer is judged before anything is written, and nobody hears of the verdict before one commit has written down all that
//! follows from it: the challenge is gone, the attempt counted (or earlier ones forgotten), the code or the key's counter used
//! up. Each of these holds only if it is as it was when the verdict was found; of two answers at the same time that would
//! use up the same, one is judged again by what the other left. That commit is on disk before it counts, or a power cut
//! would bring a spent challenge back.

use auth::identity::UserName;
use serde_json::{Value, json};
use webauthn_rs::prelude::PublicKeyCredential;

use super::{Challenge, Scope};
use crate::{
    access::LockSubject,
    audit,
    cluster::Cluster,
    error::Refused,
    keys,
    mfa::{self, Answer, Device, Proof},
    secret,
    store::{self, Op, RACE_ATTEMPTS, StoreError, Stored},
};

/// A challenge that is still in the store, with the operation that takes it out. To be spent in any case.
#[must_use]
pub(crate) struct Open {
    pub(crate) challenge: Challenge,
    spend: Op,
}

/// An answer, judged, and what it would use up.
struct Judged {
    proof: Result<Proof, Refused>,
    used: Option<Op>,
}

impl Cluster {
    /// A challenge that is open, left where it is. Looking at one proves nothing: only [`spend_challenge`] does.
    ///
    /// [`spend_challenge`]: Self::spend_challenge
    pub(crate) async fn peek_challenge(
        &self,
        user: &UserName,
        challenge_id: &str,
    ) -> Result<Stored<Challenge>, Refused> {
        let (owner, secret) = secret::parse_owned_id(challenge_id).ok_or(Refused::Challenge)?;
        if owner != *user {
            return Err(Refused::Challenge);
        }
        store::read(&*self.store, &keys::challenge(user, secret)).await?.ok_or(Refused::Challenge)
    }

    /// A challenge to be spent with its answer. Somebody else's, a used and an expired one are the same thing: not there.
    pub(crate) async fn open_challenge(&self, user: &UserName, challenge_id: &str) -> Result<Open, Refused> {
        let stored = self.peek_challenge(user, challenge_id).await?;
        let (_, secret) = secret::parse_owned_id(challenge_id).ok_or(Refused::Challenge)?;
        let spend = Op::delete(keys::challenge(user, secret), stored.unchanged());
        Ok(Open { challenge: stored.value, spend })
    }

    /// Spends a challenge that will not be answered, since something else is wrong.
    pub(crate) async fn spend(&self, open: Open) -> Result<Challenge, Refused> {
        match self.store.commit(vec![open.spend]).await {
            Ok(_) => Ok(open.challenge),
            // Two answers to one challenge: the other was first.
            Err(StoreError::Conflict { .. }) => Err(Refused::Challenge),
            Err(other) => Err(other.into()),
        }
    }

    /// Takes a challenge out of the store before its answer is looked at.
    pub(crate) async fn spend_challenge(
        &self,
        user: &UserName,
        challenge_id: &str,
    ) -> Result<Challenge, Refused> {
        let open = self.open_challenge(user, challenge_id).await?;
        self.spend(open).await
    }

    /// Judges the answer to a challenge that was spent just now. Failures count towards the lock-out.
    pub(crate) async fn judge_answer(
        &self,
        user: &UserName,
        challenge: &Challenge,
        answer: &Answer,
    ) -> Result<Proof, Refused> {
        let judged = self.settle(user, challenge, answer, None).await?;
        if let Some(event) = self.event_of(user, challenge, &judged).await? {
            self.audit.emit(event).await?;
        }
        judged
    }

    /// Judges the answer to an open challenge, and spends it. Of a right one the event is handed back, to be put on record
    /// before anything that is given for it.
    pub(crate) async fn judge_open(
        &self,
        user: &UserName,
        open: Open,
        answer: &Answer,
    ) -> Result<(Proof, Option<Value>), Refused> {
        let Open { challenge, spend } = open;
        let judged = self.settle(user, &challenge, answer, Some(spend)).await?;
        let event = self.event_of(user, &challenge, &judged).await?;
        match judged {
            Ok(proof) => Ok((proof, event)),
            Err(refused) => {
                if let Some(event) = event {
                    self.audit.emit(event).await?;
                }
                Err(refused)
            }
        }
    }

    /// The verdict, with all that follows from it written down. An error of its own where there is none: too many failures, or
    /// somebody else spent the challenge first.
    async fn settle(
        &self,
        user: &UserName,
        challenge: &Challenge,
        answer: &Answer,
        spend: Option<Op>,
    ) -> Result<Result<Proof, Refused>, Refused> {
        let settled = self.settle_count(user, challenge, answer, spend.as_ref()).await;
        if let (Err(Refused::LockedOut(_) | Refused::TooMany(_)), Some(spend)) = (&settled, spend) {
            let _ = self.spend(Open { challenge: challenge.clone(), spend }).await?;
        }
        settled
    }

    async fn settle_count(
        &self,
        user: &UserName,
        challenge: &Challenge,
        answer: &Answer,
        spend: Option<&Op>,
    ) -> Result<Result<Proof, Refused>, Refused> {
        for _ in 0..RACE_ATTEMPTS {
            let attempt = self.attempt(user, challenge.scope.door()).await?;
            let Judged { proof, used } = self.prove(user, challenge, answer).await;
            let counted = if proof.is_ok() { attempt.forgotten() } else { attempt.failed()? };
            // The challenge first: where that is gone, nothing else matters.
            let ops = spend.cloned().into_iter().chain(used).chain([counted]).collect();
            match self.store.commit(ops).await {
                Ok(_) => return Ok(proof),
                Err(StoreError::Conflict { key }) if spend.is_some_and(|spend| spend.key == key) => {
                    return Err(Refused::Challenge);
                }
                // Another attempt on the account was counted, or the device used, between our reading and writing.
                Err(StoreError::Conflict { .. }) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Err(Refused::TooMany("attempts at the same time"))
    }

    /// The event `mfa_auth_challenge.validate` (T1016I, T1016W) of an answer. A login tells of itself in `user.login`. That a
    /// counter went back is told first, and here.
    async fn event_of(
        &self,
        user: &UserName,
        challenge: &Challenge,
        judged: &Result<Proof, Refused>,
    ) -> Result<Option<Value>, Refused> {
        if let Err(Refused::CounterWentBack(found)) = judged {
            self.emit_counter_went_back(found).await?;
        }
        if matches!(challenge.scope, Scope::Login | Scope::PasswordlessLogin) {
            return Ok(None);
        }
        let mut event = json!({
            "event": "mfa_auth_challenge.validate", "user": user, "challenge_scope": challenge.scope.as_str(),
            "success": judged.is_ok(), "code": if judged.is_ok() { "T1016I" } else { "T1016W" },
        });
        match judged {
            Ok(proof) => match proof.device() {
                Some(device) => audit::set(&mut event, "mfa_device", mfa::audit_fields(device)),
                // Nothing was asked for, so nothing was judged.
                None => return Ok(None),
            },
            Err(refused) => audit::set(&mut event, "error", refused.to_string()),
        }
        challenge.scope.describe(&mut event);
        Ok(Some(event))
    }

    /// Would this assertion be accepted? Nothing moves on: not the challenge, not the key's counter.
    pub(crate) async fn would_prove(
        &self,
        user: &UserName,
        challenge: &Challenge,
        credential: &PublicKeyCredential,
    ) -> Result<Device, Refused> {
        let devices = self.devices(user).await?;
        let state = &challenge.webauthn.as_ref().ok_or(Refused::Credentials)?.state;
        let preference = self.preference().await?;
        if challenge.scope.is_passwordless() {
            return self.would_prove_passkey(&preference, user, state, credential).await;
        }
        let devices = challenge.scope.usable(&preference, &devices);
        let (device, _) = self.check_assertion(&preference, &devices, state, credential).await?;
        Ok(device)
    }

    /// Changes nothing: of an answer that is right, but refused for a lock, it says what is used up all the same.
    async fn prove(&self, user: &UserName, challenge: &Challenge, answer: &Answer) -> Judged {
        let (proof, used) = match self.prove_answer(user, challenge, answer).await {
            Ok(proved) => proved,
            Err(refused) => return Judged { proof: Err(refused), used: None },
        };
        // Asked for here for every purpose; what is issued on it asks again, by roles and target too.
        let device = proof.device().map(Device::id);
        let locked = self.refuse_locked(user, &[], LockSubject { device, ..LockSubject::default() }).await;
        Judged { proof: locked.map(|()| proof), used }
    }

    async fn prove_answer(
        &self,
        user: &UserName,
        challenge: &Challenge,
        answer: &Answer,
    ) -> Result<(Proof, Option<Op>), Refused> {
        let devices = self.devices(user).await?;
        let preference = self.preference().await?;
        // Asked again now: a challenge that wants nothing is over as soon as there is a first device, and a kind of device
        // that the cluster accepts no longer proves nothing.
        let devices = challenge.scope.usable(&preference, &devices);
        let none_required = challenge.none_required
            && devices.is_empty()
            && challenge.scope.may_do_without(preference.second_factor);
        match (answer, &challenge.webauthn) {
            (Answer::Nothing, _) if none_required => Ok((Proof::NotNeeded, None)),
            (Answer::Webauthn(credential), Some(question)) if challenge.scope.is_passwordless() => {
                let proved = self.prove_passkey(&preference, user, &question.state, credential).await;
                proved.map(|(proof, used)| (proof, Some(used)))
            }
            (Answer::Totp(code), _) if challenge.totp => {
                let (device, used) = self.verify_totp(&devices, code).await?;
                Ok((Proof::Totp { device }, Some(used)))
            }
            (Answer::Webauthn(credential), Some(question)) => {
                let (device, assertion, used) =
                    self.verify_assertion(&preference, &devices, &question.state, credential).await?;
                Ok((Proof::Webauthn { device, assertion }, Some(used)))
            }
            (Answer::Nothing | Answer::Totp(_) | Answer::Webauthn(_), _) => Err(Refused::Credentials),
        }
    }
}
