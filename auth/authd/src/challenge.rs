//! Challenges: what a user must answer now. One-shot, five minutes, for one user and one purpose.

mod answer;
mod devices;
mod scope;

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use auth::{
    clock::unix_millis,
    identity::UserName,
    proto::{self, account_intent},
    receipt::{self, Purpose},
};
use prost::Message;
use serde::{Deserialize, Serialize};

pub(crate) use scope::Scope;

use crate::{
    cluster::Cluster,
    error::Refused,
    keys,
    mfa::{DeviceType, webauthn::Question},
    secret,
    store::{Condition, Op},
};

/// How long an answer may take.
pub(crate) const LIFE: Duration = Duration::from_secs(5 * 60);
/// Challenges that a user may have open.
const MAX_OPEN: usize = 64;

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
    /// Of a login: since when the account is as it was when its password was verified. The challenge opens that account, and
    /// none that was reset or recovered meanwhile.
    #[serde(default)]
    pub(crate) since: Option<SystemTime>,
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

    /// May this administrator make changes without a touch: where the cluster asks for none, and the user has no device?
    pub(crate) async fn may_change_untouched(&self, user: &UserName) -> Result<bool, Refused> {
        let scope = Scope::AdminAction { intent: vec![] };
        let preference = self.preference().await?;
        let devices = self.devices(user).await?;
        Ok(scope.usable(&preference, &devices).is_empty() && scope.may_do_without(preference.second_factor))
    }

    /// Makes a challenge for the devices that the user has and the cluster accepts.
    pub(crate) async fn create_challenge(
        &self,
        user: &UserName,
        scope: Scope,
    ) -> Result<proto::MfaChallenge, Refused> {
        self.keep_challenge(user, scope, None).await
    }

    /// The second half of a login, whose first was right for the account as it is since then.
    pub(crate) async fn create_login_challenge(
        &self,
        user: &UserName,
        since: SystemTime,
    ) -> Result<proto::MfaChallenge, Refused> {
        self.keep_challenge(user, Scope::Login, Some(since)).await
    }

    async fn keep_challenge(
        &self,
        user: &UserName,
        scope: Scope,
        since: Option<SystemTime>,
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
        let challenge = Challenge { scope, totp, webauthn: question, none_required, since };
        let until = Some(self.clock.now() + LIFE);
        let key = keys::challenge(user, &secret);
        self.store.commit(vec![Op::put_until(key, Condition::Absent, &challenge, until)?]).await?;
        Ok(proto::MfaChallenge {
            challenge_id: secret::owned_id(user, &secret),
            webauthn_request_options_json: options,
            totp,
            none_required,
            intent,
            not_required: false,
        })
    }

    /// A challenge for a code that was given already: not kept anywhere, to be judged at once.
    pub(crate) async fn code_challenge(&self, user: &UserName, scope: Scope) -> Result<Challenge, Refused> {
        let preference = self.preference().await?;
        let devices = self.devices(user).await?;
        if !scope.usable(&preference, &devices).iter().any(|device| device.kind == DeviceType::Totp) {
            return Err(Refused::NoDevices(user.to_string()));
        }
        Ok(Challenge { scope, totp: true, webauthn: None, none_required: false, since: None })
    }

    /// What a touch for this scope is for.
    fn purpose(&self, user: &UserName, scope: &Scope) -> Result<(Purpose, Vec<u8>), Refused> {
        use account_intent::Purpose as Account;
        Ok(match scope {
            Scope::Session { intent } | Scope::SshCode { intent, .. } => (Purpose::Session, intent.clone()),
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
        let webauthn = Some(question);
        Ok((Challenge { scope, totp: false, webauthn, none_required: false, since: None }, intent))
    }
}

pub(crate) fn nonce() -> Result<Vec<u8>, Refused> {
    let mut nonce = vec![0; 16];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| Refused::Internal("no randomness"))?;
    Ok(nonce)
}
