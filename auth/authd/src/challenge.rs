//! Challenges: what a user must answer now. One-shot, five minutes, for one user and one purpose.

use std::{net::IpAddr, time::Duration};

use auth::{
    clock::unix_millis,
    identity::UserName,
    proto::{self, account_intent},
    receipt::{self, Purpose},
    resource::SecondFactor,
};
use prost::Message;
use serde::{Deserialize, Serialize};
use webauthn_rs::prelude::PublicKeyCredential;

use crate::{
    cluster::Cluster,
    error::Refused,
    keys,
    mfa::{self, Answer, Device, DeviceType, Proof, webauthn::Question},
    secret,
    store::{self, Condition, Op, StoreError, Stored},
    users::Door,
};

/// How long an answer may take.
pub(crate) const LIFE: Duration = Duration::from_secs(5 * 60);
/// Challenges that a user may have open.
const MAX_OPEN: usize = 64;

/// What a challenge is for. An answer given for one purpose is worth nothing for another.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Scope {
    /// Finishing a login.
    Login,
    /// One session: the exact bytes of its intent.
    Session { intent: Vec<u8> },
    /// Adding or removing a device.
    ManageDevices,
}

/// A challenge as it is stored.
#[derive(Serialize, Deserialize)]
pub(crate) struct Challenge {
    pub(crate) scope: Scope,
    /// A code is accepted.
    totp: bool,
    /// An assertion is accepted: what keys are asked, and the state to judge it by.
    pub(crate) webauthn: Option<Question>,
    /// Nothing is asked for.
    none_required: bool,
}

/// What makes a session's intent.
pub(crate) struct IntentParts {
    pub(crate) route: proto::Route,
    pub(crate) public_key_sha256: [u8; 32],
    pub(crate) client: IpAddr,
}

impl Cluster {
    /// The exact bytes that a security key will sign for.
    pub(crate) fn intent(&self, user: &UserName, parts: IntentParts) -> Result<Vec<u8>, Refused> {
        let intent = proto::SessionIntent {
            cluster: self.name.to_string(),
            user: user.to_string(),
            route: Some(parts.route),
            public_key_sha256: parts.public_key_sha256.to_vec(),
            client_address: parts.client.to_string(),
            time: unix_millis(self.clock.now()),
            nonce: nonce()?,
        };
        Ok(intent.encode_to_vec())
    }

    /// As [`intent`](Self::intent), for a touch that opens no session.
    fn account_intent(&self, user: &UserName, purpose: account_intent::Purpose) -> Result<Vec<u8>, Refused> {
        let intent = proto::AccountIntent {
            cluster: self.name.to_string(),
            user: user.to_string(),
            purpose: purpose.into(),
            time: unix_millis(self.clock.now()),
            nonce: nonce()?,
        };
        Ok(intent.encode_to_vec())
    }

    /// Makes a challenge for the devices that the user has and the cluster accepts.
    pub(crate) async fn create_challenge(
        &self,
        user: &UserName,
        scope: Scope,
    ) -> Result<proto::MfaChallenge, Refused> {
        if self.store.range(&[keys::challenges(user)]).await?.items.len() >= MAX_OPEN {
            return Err(Refused::TooMany("challenges"));
        }
        let preference = self.preference().await?;
        let devices = self.devices(user).await?;
        let usable = match scope {
            // With second factors switched off, whoever has a device must still show it before the set is changed.
            Scope::ManageDevices if preference.second_factor == SecondFactor::Off => devices.iter().collect(),
            _ => mfa::usable(&preference, &devices),
        };
        let none_required = usable.is_empty() && may_do_without(&scope, preference.second_factor);
        if usable.is_empty() && !none_required {
            return Err(Refused::NoDevices(user.to_string()));
        }
        let (purpose, intent) = match &scope {
            Scope::Session { intent } => (Purpose::Session, intent.clone()),
            Scope::Login => (Purpose::Login, self.account_intent(user, account_intent::Purpose::Login)?),
            Scope::ManageDevices => {
                let intent = self.account_intent(user, account_intent::Purpose::ManageDevices)?;
                (Purpose::ManageDevices, intent)
            }
        };
        let totp = usable.iter().any(|device| device.kind == DeviceType::Totp);
        let challenge = receipt::challenge(purpose, &intent);
        let question = match self.ask_keys(&preference, &usable, challenge).await {
            // Keys cannot be asked in this configuration; codes still can.
            Err(Refused::NoWebauthn) if totp => None,
            question => question?,
        };
        let secret = secret::generate()?;
        let options = question.as_ref().map_or(String::new(), |question| question.options_json.clone());
        let challenge = Challenge { scope, totp, webauthn: question, none_required };
        let until = Some(self.clock.now() + LIFE);
        let key = keys::challenge(user, &secret);
        self.store.commit(vec![Op::put_until(key, Condition::Absent, &challenge, until)?]).await?;
        Ok(proto::MfaChallenge {
            challenge_id: secret::owned_id(user, &secret),
            webauthn_request_options_json: options,
            totp,
            none_required,
            intent,
        })
    }

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

    /// Takes a challenge out of the store, before its answer is looked at: whatever comes of it, it is spent. Somebody
    /// else's, a used and an expired one are the same thing: not there.
    pub(crate) async fn spend_challenge(
        &self,
        user: &UserName,
        challenge_id: &str,
    ) -> Result<Challenge, Refused> {
        let stored = self.peek_challenge(user, challenge_id).await?;
        let (_, secret) = secret::parse_owned_id(challenge_id).ok_or(Refused::Challenge)?;
        let spent = Op::delete(keys::challenge(user, secret), stored.unchanged());
        match self.store.commit(vec![spent]).await {
            Ok(_) => Ok(stored.value),
            // Two answers to one challenge: the other was first.
            Err(StoreError::Conflict { .. }) => Err(Refused::Challenge),
            Err(other) => Err(other.into()),
        }
    }

    /// Judges the answer to a challenge that was spent just now. Failures count towards the lock-out.
    pub(crate) async fn judge_answer(
        &self,
        user: &UserName,
        challenge: &Challenge,
        answer: Answer,
    ) -> Result<Proof, Refused> {
        let door = match challenge.scope {
            Scope::Login => Door::Login,
            Scope::Session { .. } | Scope::ManageDevices => Door::LoggedIn,
        };
        self.count_attempt(user, door).await?;
        let proof = self.prove(user, challenge, answer).await?;
        self.forget_failures(user, &[door]).await?;
        Ok(proof)
    }

    /// Would this assertion be accepted? Nothing moves on: not the challenge, not the key's counter.
    pub(crate) async fn would_prove(
        &self,
        user: &UserName,
        challenge: &Challenge,
        credential: &PublicKeyCredential,
    ) -> Result<Device, Refused> {
        let devices = self.devices(user).await?;
        let devices: Vec<&Device> = devices.iter().collect();
        let state = &challenge.webauthn.as_ref().ok_or(Refused::Credentials)?.state;
        let preference = self.preference().await?;
        let (device, _) = self.check_assertion(&preference, &devices, state, credential).await?;
        Ok(device)
    }

    async fn prove(&self, user: &UserName, challenge: &Challenge, answer: Answer) -> Result<Proof, Refused> {
        let devices = self.devices(user).await?;
        let devices: Vec<&Device> = devices.iter().collect();
        match (answer, &challenge.webauthn) {
            (Answer::Nothing, _) if challenge.none_required => Ok(Proof::NotNeeded),
            (Answer::Totp(code), _) if challenge.totp => {
                Ok(Proof::Totp { device: self.verify_totp(&devices, &code).await? })
            }
            (Answer::Webauthn(credential), Some(question)) => {
                let preference = self.preference().await?;
                let (device, assertion) =
                    self.verify_assertion(&preference, &devices, &question.state, &credential).await?;
                Ok(Proof::Webauthn { device, assertion })
            }
            (Answer::Nothing | Answer::Totp(_) | Answer::Webauthn(_), _) => Err(Refused::Credentials),
        }
    }
}

fn nonce() -> Result<Vec<u8>, Refused> {
    let mut nonce = vec![0; 16];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| Refused::Internal("no randomness"))?;
    Ok(nonce)
}

/// May a user without a device go on?
fn may_do_without(scope: &Scope, factor: SecondFactor) -> bool {
    match scope {
        // A session challenge exists only because MFA is asked for.
        Scope::Session { .. } => false,
        Scope::Login | Scope::ManageDevices => matches!(factor, SecondFactor::Off | SecondFactor::Optional),
    }
}
