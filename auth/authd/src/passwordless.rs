//! Logging in with nothing but a passkey: it says who is there, and it asks for a PIN or a fingerprint.
//!
//! Nobody is named when such a login begins, so its challenge belongs to nobody. It is kept in memory, not in the store:
//! strangers must not be able to fill the disk, and a challenge that is lost when authd stops is asked for again. There is
//! room for so many of one address, and for so many of all.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use auth::{identity::UserName, proto, resource::AuthPreference};
use serde_json::Value;
use webauthn_rs::prelude::{AuthenticationResult, PublicKeyCredential};

use crate::{
    challenge::{self, Challenge},
    cluster::Cluster,
    error::Refused,
    mfa::{Device, Proof, webauthn::Assertion},
    room::neighbourhood,
    secret,
    store::Op,
};

/// Open challenges in all: some ten megabytes.
const ALL: usize = 5000;
/// Those of one address.
const OF_ONE_ADDRESS: usize = 20;
/// Where the id of another challenge names its user.
const NOBODY: &str = "passwordless";

/// Challenges that belong to nobody yet.
#[derive(Clone, Default)]
pub(crate) struct Lobby(Arc<Mutex<HashMap<String, Waiting>>>);

struct Waiting {
    challenge: Challenge,
    address: IpAddr,
    until: SystemTime,
}

impl Lobby {
    fn admit(
        &self,
        secret: &str,
        challenge: Challenge,
        address: IpAddr,
        now: SystemTime,
    ) -> Result<(), Refused> {
        let address = neighbourhood(address);
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, waiting| now < waiting.until);
        let here = waiting.values().filter(|waiting| waiting.address == address).count();
        if waiting.len() >= ALL || here >= OF_ONE_ADDRESS {
            return Err(Refused::TooMany("logins"));
        }
        let until = now + challenge::LIFE;
        waiting.insert(secret.to_owned(), Waiting { challenge, address, until });
        Ok(())
    }

    fn look(&self, secret: &str, now: SystemTime) -> Option<Challenge> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.get(secret).filter(|waiting| now < waiting.until).map(|waiting| waiting.challenge.clone())
    }

    fn take(&self, secret: &str, now: SystemTime) -> Option<Challenge> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.remove(secret).filter(|waiting| now < waiting.until).map(|waiting| waiting.challenge)
    }
}

/// The secret of a challenge that belongs to nobody, from its id; `None`: it is somebody's.
fn secret_of(challenge_id: &str) -> Option<&str> {
    challenge_id.strip_prefix(NOBODY)?.strip_prefix('.')
}

impl Cluster {
    /// Whether one may log in with nothing but a passkey.
    pub(crate) fn is_passwordless(&self, preference: &AuthPreference) -> bool {
        preference.allow_passwordless
            && preference.second_factor.allows_webauthn()
            && self.webauthn(preference).is_ok()
    }

    /// The first step: a challenge for whoever comes.
    pub(crate) async fn begin_passwordless_login(
        &self,
        client: IpAddr,
    ) -> Result<proto::MfaChallenge, Refused> {
        let (challenge, intent) = self.passwordless_challenge().await?;
        let options = challenge.webauthn.as_ref().map(|question| question.options_json.clone());
        let secret = secret::generate()?;
        self.lobby.admit(&secret, challenge, client, self.clock.now())?;
        Ok(proto::MfaChallenge {
            challenge_id: format!("{NOBODY}.{secret}"),
            webauthn_request_options_json: options.unwrap_or_default(),
            totp: false,
            none_required: false,
            intent,
            not_required: false,
        })
    }

    /// As [`peek_challenge`](Cluster::peek_challenge), of a challenge that belongs to nobody. `None`: the id is of another
    /// kind.
    pub(crate) fn peek_passwordless(&self, challenge_id: &str) -> Option<Result<Challenge, Refused>> {
        let secret = secret_of(challenge_id)?;
        Some(self.lobby.look(secret, self.clock.now()).ok_or(Refused::Challenge))
    }

    /// As [`spend_challenge`](Cluster::spend_challenge), of a challenge that belongs to nobody. `None`: the id is of another
    /// kind.
    pub(crate) fn spend_passwordless(&self, challenge_id: &str) -> Option<Result<Challenge, Refused>> {
        let secret = secret_of(challenge_id)?;
        Some(self.lobby.take(secret, self.clock.now()).ok_or(Refused::Challenge))
    }

    /// Whose passkey this says it is: by its credential and by the user handle that lies beside it in the key, which must
    /// agree. Nothing is proved by that.
    pub(crate) async fn passkey_owner(
        &self,
        credential: &PublicKeyCredential,
    ) -> Result<(UserName, Device), Refused> {
        let handle = credential.response.user_handle.as_deref().ok_or(Refused::Credentials)?;
        let owner = self.credential_owner(&credential.raw_id).await?;
        let (user, id) = owner.ok_or(Refused::Credentials)?;
        let account = self.account(&user).await?.ok_or(Refused::Credentials)?;
        if account.value.handle.as_bytes() != handle {
            return Err(Refused::Credentials);
        }
        let devices = self.devices(&user).await?;
        let device = devices.into_iter().find(|device| device.id == id && device.passwordless);
        Ok((user, device.ok_or(Refused::Credentials)?))
    }

    /// The answer to a passwordless challenge: of that very passkey, with a PIN or a fingerprint. The operation moves its
    /// counter on.
    pub(crate) async fn prove_passkey(
        &self,
        preference: &AuthPreference,
        user: &UserName,
        state: &Value,
        credential: &PublicKeyCredential,
    ) -> Result<(Proof, Op), Refused> {
        let (device, result) = self.judge_passkey(preference, user, state, credential).await?;
        let used = self.move_counter(&device, &result).await?;
        Ok((Proof::Webauthn { device, assertion: Assertion::of(credential) }, used))
    }

    /// See [`would_prove`](Cluster::would_prove).
    pub(crate) async fn would_prove_passkey(
        &self,
        preference: &AuthPreference,
        user: &UserName,
        state: &Value,
        credential: &PublicKeyCredential,
    ) -> Result<Device, Refused> {
        self.judge_passkey(preference, user, state, credential).await.map(|(device, _)| device)
    }

    async fn judge_passkey(
        &self,
        preference: &AuthPreference,
        user: &UserName,
        state: &Value,
        credential: &PublicKeyCredential,
    ) -> Result<(Device, AuthenticationResult), Refused> {
        // Asked again: it may have been switched off since.
        if !self.is_passwordless(preference) {
            return Err(Refused::NoPasswordless);
        }
        let (owner, device) = self.passkey_owner(credential).await?;
        if owner != *user {
            return Err(Refused::Credentials);
        }
        let result = self.check_passkey(preference, &device, state, credential).await?;
        Ok((device, result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge() -> Challenge {
        let json = r#"{"scope":"PasswordlessLogin","totp":false,"webauthn":null,"none_required":false}"#;
        serde_json::from_str(json).unwrap()
    }

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn address(n: u8) -> IpAddr {
        [192, 0, 2, n].into()
    }

    #[test]
    fn one_address_does_not_fill_the_lobby() {
        let lobby = Lobby::default();
        for n in 0..OF_ONE_ADDRESS {
            lobby.admit(&n.to_string(), challenge(), address(1), NOW).unwrap();
        }
        assert!(matches!(lobby.admit("more", challenge(), address(1), NOW), Err(Refused::TooMany(_))));
        lobby.admit("other", challenge(), address(2), NOW).unwrap();
        // What is over makes room.
        lobby.admit("later", challenge(), address(1), NOW + challenge::LIFE).unwrap();
    }

    #[test]
    fn a_challenge_is_taken_once_and_in_time() {
        let lobby = Lobby::default();
        lobby.admit("one", challenge(), address(1), NOW).unwrap();
        assert!(lobby.look("one", NOW).is_some());
        assert!(lobby.take("one", NOW).is_some());
        assert!(lobby.take("one", NOW).is_none());
        lobby.admit("two", challenge(), address(1), NOW).unwrap();
        assert!(lobby.look("two", NOW + challenge::LIFE).is_none());
        assert!(lobby.take("two", NOW + challenge::LIFE).is_none());
    }

    #[test]
    fn all_addresses_together_do_not_fill_the_memory() {
        let lobby = Lobby::default();
        for n in 0..ALL {
            let address = IpAddr::from([10, 0, (n >> 8) as u8, n as u8]);
            lobby.admit(&n.to_string(), challenge(), address, NOW).unwrap();
        }
        assert!(matches!(lobby.admit("more", challenge(), address(1), NOW), Err(Refused::TooMany(_))));
    }
}
