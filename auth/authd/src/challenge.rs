//! Challenges: what a user must answer now. One-shot, five minutes, for one user and one purpose.

use std::{net::IpAddr, time::Duration};

use auth::{
    clock::unix_millis,
    identity::UserName,
    proto::{self, account_intent},
    receipt::{self, Purpose},
    resource::{AuthPreference, SecondFactor},
};
use prost::Message;
use serde::{Deserialize, Serialize};
use webauthn_rs::prelude::PublicKeyCredential;
use zeroize::Zeroizing;

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
    /// A login of whoever has the passkey.
    PasswordlessLogin,
    /// One session: the exact bytes of its intent.
    Session { intent: Vec<u8> },
    /// Adding or removing a device.
    ManageDevices,
    /// One command of an administrator: the exact bytes of its intent.
    AdminAction { intent: Vec<u8> },
}

impl Scope {
    /// The word of audit events.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Login => "LOGIN",
            Self::PasswordlessLogin => "PASSWORDLESS_LOGIN",
            Self::Session { .. } => "USER_SESSION",
            Self::ManageDevices => "MANAGE_DEVICES",
            Self::AdminAction { .. } => "ADMIN_ACTION",
        }
    }

    fn is_passwordless(&self) -> bool {
        matches!(self, Self::PasswordlessLogin)
    }

    fn door(&self) -> Door {
        match self {
            Self::Login => Door::Login,
            Self::PasswordlessLogin => Door::Passkey,
            Self::Session { .. } | Self::ManageDevices | Self::AdminAction { .. } => Door::LoggedIn,
        }
    }

    /// May a user without a device go on?
    fn may_do_without(&self, factor: SecondFactor) -> bool {
        match self {
            // A session challenge exists only because MFA is asked for; a passwordless login is its passkey.
            Self::Session { .. } | Self::PasswordlessLogin => false,
            Self::Login | Self::ManageDevices | Self::AdminAction { .. } => {
                matches!(factor, SecondFactor::Off | SecondFactor::Optional)
            }
        }
    }

    /// The devices that count: what the cluster accepts and the user has.
    fn usable<'a>(&self, preference: &AuthPreference, devices: &'a [Device]) -> Vec<&'a Device> {
        match self {
            // With second factors switched off, whoever has a device must still show it before the set is changed.
            Self::ManageDevices if preference.second_factor == SecondFactor::Off => devices.iter().collect(),
            _ => mfa::usable(preference, devices),
        }
    }
}

/// A challenge as it is stored.
#[derive(Clone, Serialize, Deserialize)]
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
    fn account_intent(&self, user: &str, purpose: account_intent::Purpose) -> Result<Vec<u8>, Refused> {
        let intent = proto::AccountIntent {
            cluster: self.name.to_string(),
            user: user.to_owned(),
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
        let usable = scope.usable(&preference, &devices);
        let none_required = usable.is_empty() && scope.may_do_without(preference.second_factor);
        if usable.is_empty() && !none_required {
            return Err(Refused::NoDevices(user.to_string()));
        }
        let (purpose, intent) = self.purpose(user, &scope)?;
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

    /// What a touch for this scope is for.
    fn purpose(&self, user: &UserName, scope: &Scope) -> Result<(Purpose, Vec<u8>), Refused> {
        use account_intent::Purpose as Account;
        Ok(match scope {
            Scope::Session { intent } => (Purpose::Session, intent.clone()),
            Scope::AdminAction { intent } => (Purpose::AdminAction, intent.clone()),
            Scope::Login => (Purpose::Login, self.account_intent(user.as_str(), Account::Login)?),
            Scope::ManageDevices => {
                (Purpose::ManageDevices, self.account_intent(user.as_str(), Account::ManageDevices)?)
            }
            Scope::PasswordlessLogin => {
                (Purpose::PasswordlessLogin, self.account_intent("", Account::PasswordlessLogin)?)
            }
        })
    }

    /// A challenge for whoever has a passkey, not kept anywhere yet; and its intent.
    pub(crate) async fn passwordless_challenge(&self) -> Result<(Challenge, Vec<u8>), Refused> {
        let preference = self.preference().await?;
        if !self.is_passwordless(&preference) {
            return Err(Refused::NoPasswordless);
        }
        let intent = self.account_intent("", account_intent::Purpose::PasswordlessLogin)?;
        let question =
            self.ask_passkeys(&preference, receipt::challenge(Purpose::PasswordlessLogin, &intent))?;
        let scope = Scope::PasswordlessLogin;
        Ok((Challenge { scope, totp: false, webauthn: Some(question), none_required: false }, intent))
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
        let door = challenge.scope.door();
        self.count_attempt(user, door).await?;
        let proof = match self.prove(user, challenge, answer).await {
            Err(Refused::CounterWentBack(found)) => {
                self.emit_counter_went_back(&found).await?;
                return Err(Refused::CounterWentBack(found));
            }
            proof => proof?,
        };
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
        let preference = self.preference().await?;
        let devices = challenge.scope.usable(&preference, &devices);
        let state = &challenge.webauthn.as_ref().ok_or(Refused::Credentials)?.state;
        let (device, _) = self.check_assertion(&preference, &devices, state, credential).await?;
        Ok(device)
    }

    /// Spends a challenge for a change of devices, and judges its answer: a login or a session alone changes none, since it
    /// may be stolen.
    pub(crate) async fn prove_for_devices(
        &self,
        user: &UserName,
        challenge_id: &str,
        response: Option<proto::MfaResponse>,
    ) -> Result<Proof, Refused> {
        let challenge = self.spend_challenge(user, challenge_id).await?;
        if !matches!(challenge.scope, Scope::ManageDevices) {
            return Err(Refused::Challenge);
        }
        let answer = Answer::from_proto(response)?;
        self.judge_answer(user, &challenge, answer).await
    }

    /// As [`prove_for_devices`](Self::prove_for_devices), where something is gained by it: who has no device yet proves
    /// that it is they by the password.
    pub(crate) async fn prove_to_add(
        &self,
        user: &UserName,
        challenge_id: &str,
        response: Option<proto::MfaResponse>,
        password: Zeroizing<String>,
        client: IpAddr,
    ) -> Result<(), Refused> {
        let proof = self.prove_for_devices(user, challenge_id, response).await?;
        if proof.device().is_none() {
            self.prove_by_password(user, password, client).await?;
        }
        Ok(())
    }

    async fn prove(&self, user: &UserName, challenge: &Challenge, answer: Answer) -> Result<Proof, Refused> {
        let devices = self.devices(user).await?;
        let preference = self.preference().await?;
        // Asked again now: a challenge that wants nothing is over as soon as there is a first device, and a kind of device
        // that the cluster accepts no longer proves nothing.
        let devices = challenge.scope.usable(&preference, &devices);
        let none_required = challenge.none_required
            && devices.is_empty()
            && challenge.scope.may_do_without(preference.second_factor);
        match (answer, &challenge.webauthn) {
            (Answer::Nothing, _) if none_required => Ok(Proof::NotNeeded),
            (Answer::Webauthn(credential), Some(question)) if challenge.scope.is_passwordless() => {
                self.prove_passkey(&preference, user, &devices, question, &credential).await
            }
            (Answer::Totp(code), _) if challenge.totp => {
                Ok(Proof::Totp { device: self.verify_totp(&devices, &code).await? })
            }
            (Answer::Webauthn(credential), Some(question)) => {
                let (device, assertion) =
                    self.verify_assertion(&preference, &devices, &question.state, &credential).await?;
                Ok(Proof::Webauthn { device, assertion })
            }
            (Answer::Nothing | Answer::Totp(_) | Answer::Webauthn(_), _) => Err(Refused::Credentials),
        }
    }
}

pub(crate) fn nonce() -> Result<Vec<u8>, Refused> {
    let mut nonce = vec![0; 16];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| Refused::Internal("no randomness"))?;
    Ok(nonce)
}
