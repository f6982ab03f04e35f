//! Security keys (WebAuthn Level 2): as a second factor, where a touch is enough, and as passkeys, which log in by themselves
//! and therefore ask for a PIN or a fingerprint too.
//!
//! The challenge is not random but the hash of what the touch is for. The library makes a random one; it is replaced in both
//! places where it stands, what the key is asked and the state that the answer is compared with.

use std::panic::{self, AssertUnwindSafe};

use auth::{receipt::RelyingParty, resource::AuthPreference};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;
use webauthn_rs::{
    Webauthn, WebauthnBuilder,
    prelude::{
        AuthenticationResult, DiscoverableAuthentication, PublicKeyCredential, RequestChallengeResponse,
        SecurityKey, SecurityKeyAuthentication, WebauthnError, WebauthnResult,
    },
};
use webauthn_rs_proto::UserVerificationPolicy;

use super::{Device, DeviceSecret, DeviceType, authenticator_data, stored_key};
use crate::{cluster::Cluster, error::Refused, store::Op};

/// Where the library's state has the challenge.
const CHALLENGE: &str = "/ast/challenge";

/// What a key returned, for the receipt.
pub(crate) struct Assertion {
    pub(crate) client_data_json: Vec<u8>,
    pub(crate) authenticator_data: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

/// A challenge for keys: what they are asked, and the state to judge the answer by.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Question {
    pub(crate) options_json: String,
    pub(crate) state: Value,
}

/// A key whose counter did not grow: the same key may exist twice (WebAuthn Level 2, 6.1.1).
#[derive(Debug)]
pub(crate) struct CounterWentBack {
    pub(crate) device: Device,
    pub(crate) stored: u32,
    pub(crate) presented: u32,
}

impl Question {
    /// What the library asks, with our challenge in place of its own.
    fn new(
        mut options: RequestChallengeResponse,
        state: &impl Serialize,
        challenge: [u8; 32],
        verification: UserVerificationPolicy,
    ) -> Result<Self, Refused> {
        let mut state = serde_json::to_value(state).map_err(|_| Refused::Internal("WebAuthn state"))?;
        let asked = &mut options.public_key;
        asked.challenge = challenge.to_vec();
        asked.user_verification = verification;
        // Phones and what is built into a laptop are as welcome as keys.
        asked.hints = None;
        // Nothing that only some keys know, `appid` for one: a key that does not know it need not refuse.
        asked.extensions = None;
        // A button was pressed for it; this is no suggestion in a text field.
        options.mediation = None;
        replace(&mut state, CHALLENGE, BASE64_URL_SAFE_NO_PAD.encode(challenge))?;
        let verification =
            serde_json::to_value(verification).map_err(|_| Refused::Internal("WebAuthn state"))?;
        replace(&mut state, "/ast/policy", verification)?;
        let options_json =
            serde_json::to_string(&options).map_err(|_| Refused::Internal("WebAuthn options"))?;
        Ok(Self { options_json, state })
    }
}

/// What the library makes of an answer. One that makes it panic is a wrong one like others: it is counted, and its challenge is
/// spent.
pub(super) fn judging<T>(judge: impl FnOnce() -> WebauthnResult<T>) -> Result<WebauthnResult<T>, Refused> {
    // It only looks at what it was given, and nothing of that is looked at again.
    panic::catch_unwind(AssertUnwindSafe(judge)).map_err(|_| Refused::Credentials)
}

/// Puts something else in a place of the library's state that must be there.
pub(super) fn replace(state: &mut Value, pointer: &str, value: impl Into<Value>) -> Result<(), Refused> {
    *state.pointer_mut(pointer).ok_or(Refused::Internal("WebAuthn state"))? = value.into();
    Ok(())
}

impl Cluster {
    /// The relying party id: the preference's, else the public host if that is a name. `None`: no WebAuthn.
    pub(crate) fn rp_id(&self, preference: &AuthPreference) -> Option<String> {
        let host = self.public_host();
        let named = host.parse::<std::net::IpAddr>().is_err();
        preference.webauthn_rp_id.clone().or_else(|| named.then(|| host.to_owned()))
    }

    /// The one origin that answers are accepted from.
    pub(crate) fn origin(&self) -> Option<Url> {
        Url::parse(&format!("https://{}", self.public_addr)).ok()
    }

    /// The origin as client data spell it.
    pub(crate) fn origin_text(&self) -> String {
        self.origin().map(|url| url.origin().ascii_serialization()).unwrap_or_default()
    }

    /// Whether security keys can work with this preference at all.
    pub(crate) fn webauthn(&self, preference: &AuthPreference) -> Result<Webauthn, Refused> {
        let rp_id = self.rp_id(preference).ok_or(Refused::NoWebauthn)?;
        let origin = self.origin().ok_or(Refused::NoWebauthn)?;
        WebauthnBuilder::new(&rp_id, &origin)
            .and_then(|builder| builder.rp_name(self.name.as_str()).build())
            .map_err(|_| Refused::NoWebauthn)
    }

    pub(super) async fn security_keys(
        &self,
        devices: &[&Device],
    ) -> Result<Vec<(Device, SecurityKey)>, Refused> {
        let mut found = Vec::new();
        for device in devices.iter().filter(|device| device.kind == DeviceType::Webauthn) {
            let state = self.device_state(&device.user, device.id).await?;
            if let Some(DeviceSecret::Webauthn { key, .. }) = state.as_ref().map(|state| &state.value.secret)
            {
                found.push(((*device).clone(), SecurityKey::clone(key)));
            }
        }
        Ok(found)
    }

    /// Asks the keys among these devices to sign `challenge`. `None` where there is none.
    pub(crate) async fn ask_keys(
        &self,
        preference: &AuthPreference,
        devices: &[&Device],
        challenge: [u8; 32],
    ) -> Result<Option<Question>, Refused> {
        let keys: Vec<_> = self.security_keys(devices).await?.into_iter().map(|(_, key)| key).collect();
        if keys.is_empty() {
            return Ok(None);
        }
        let mut insisting = 0;
        for key in &keys {
            insisting += usize::from(stored_key::insists_on_verification(key)?);
        }
        // A touch is enough for a second factor; but a key that insists on more must be told to ask for it.
        let verification = match insisting {
            0 => UserVerificationPolicy::Discouraged_DO_NOT_USE,
            all if all == keys.len() => UserVerificationPolicy::Required,
            _ => UserVerificationPolicy::Preferred,
        };
        let (options, state) = self
            .webauthn(preference)?
            .start_securitykey_authentication(&keys)
            .map_err(|_| Refused::NoWebauthn)?;
        Question::new(options, &state, challenge, verification).map(Some)
    }

    /// Asks whatever passkey there is to sign `challenge`, and to ask for a PIN or a fingerprint before.
    pub(crate) fn ask_passkeys(
        &self,
        preference: &AuthPreference,
        challenge: [u8; 32],
    ) -> Result<Question, Refused> {
        let (options, state) = self
            .webauthn(preference)?
            .start_discoverable_authentication()
            .map_err(|_| Refused::NoWebauthn)?;
        Question::new(options, &state, challenge, UserVerificationPolicy::Required)
    }

    /// Judges an assertion as far as that changes nothing.
    pub(crate) async fn check_assertion(
        &self,
        preference: &AuthPreference,
        devices: &[&Device],
        state: &Value,
        credential: &PublicKeyCredential,
    ) -> Result<(Device, AuthenticationResult), Refused> {
        self.check_occasion(preference, state, credential)?;
        let library: SecurityKeyAuthentication =
            serde_json::from_value(state.clone()).map_err(|_| Refused::Internal("WebAuthn state"))?;
        let webauthn = self.webauthn(preference)?;
        let result = judging(|| webauthn.finish_securitykey_authentication(credential, &library))?;
        // The device must still be the user's now, not only when it was asked.
        let keys = self.security_keys(devices).await?;
        let (device, _) = keys
            .into_iter()
            .find(|(_, key)| key.cred_id() == &credential.raw_id)
            .ok_or(Refused::Credentials)?;
        let result = self.judged(&device, result, credential).await?;
        Ok((device, result))
    }

    /// As [`check_assertion`](Self::check_assertion), of a passkey that nobody was asked for by name: `device` is whose it is
    /// said to be.
    pub(crate) async fn check_passkey(
        &self,
        preference: &AuthPreference,
        device: &Device,
        state: &Value,
        credential: &PublicKeyCredential,
    ) -> Result<AuthenticationResult, Refused> {
        self.check_occasion(preference, state, credential)?;
        let library: DiscoverableAuthentication =
            serde_json::from_value(state.clone()).map_err(|_| Refused::Internal("WebAuthn state"))?;
        let keys = self.security_keys(&[device]).await?;
        let (_, key) = keys.first().ok_or(Refused::Credentials)?;
        let webauthn = self.webauthn(preference)?;
        let result = judging(|| webauthn.finish_discoverable_authentication_v2(credential, library, key))?;
        let result = self.judged(device, result, credential).await?;
        // The state says so too; this login has no other second factor.
        if !result.user_verified() {
            return Err(Refused::Credentials);
        }
        Ok(result)
    }

    /// By the rules of the sidecars, before the library's own: that one, for example, takes assertions from a page within
    /// another site's.
    fn check_occasion(
        &self,
        preference: &AuthPreference,
        state: &Value,
        credential: &PublicKeyCredential,
    ) -> Result<(), Refused> {
        let challenge = state.pointer(CHALLENGE).and_then(Value::as_str).unwrap_or_default();
        let challenge = BASE64_URL_SAFE_NO_PAD.decode(challenge).ok().and_then(|bytes| bytes.try_into().ok());
        let challenge: [u8; 32] = challenge.ok_or(Refused::Internal("WebAuthn state"))?;
        let rp_id = self.rp_id(preference).ok_or(Refused::NoWebauthn)?;
        let relying_party = RelyingParty { rp_id, origins: vec![self.origin_text()] };
        let response = &credential.response;
        relying_party
            .check_occasion(&response.client_data_json, &response.authenticator_data, &challenge)
            .map_err(|_| Refused::Credentials)
    }

    /// The library compares counters as well, after everything else: with what was stored when the challenge was made.
    async fn judged(
        &self,
        device: &Device,
        result: WebauthnResult<AuthenticationResult>,
        credential: &PublicKeyCredential,
    ) -> Result<AuthenticationResult, Refused> {
        match result {
            Ok(result) => Ok(result),
            Err(WebauthnError::CredentialPossibleCompromise) => {
                let presented = authenticator_data::counter(&credential.response.authenticator_data);
                let stored = match self.device_state(&device.user, device.id).await? {
                    Some(state) => state.value.secret.counter(),
                    None => None,
                };
                match (stored, presented) {
                    (Some(stored), Some(presented)) => Err(went_back(device, stored, presented)),
                    _ => Err(Refused::Credentials),
                }
            }
            Err(_) => Err(Refused::Credentials),
        }
    }

    /// Judges an assertion; the operation moves the key's counter on.
    pub(crate) async fn verify_assertion(
        &self,
        preference: &AuthPreference,
        devices: &[&Device],
        state: &Value,
        credential: &PublicKeyCredential,
    ) -> Result<(Device, Assertion, Op), Refused> {
        let (device, result) = self.check_assertion(preference, devices, state, credential).await?;
        let used = self.move_counter(&device, &result).await?;
        Ok((device, Assertion::of(credential), used))
    }

    /// The operation that remembers the counter of an assertion that was judged right. WebAuthn Level 2, 7.2 step 21: one that does not grow is
    /// a clone's; 0 both times means that the key has none. Two assertions with one counter at the same time: the second
    /// is judged by what the first left.
    pub(crate) async fn move_counter(
        &self,
        device: &Device,
        result: &AuthenticationResult,
    ) -> Result<Op, Refused> {
        let presented = result.counter();
        let accept = |secret: &mut DeviceSecret| match secret {
            DeviceSecret::Webauthn { key, counter } => {
                if presented <= *counter && (presented, *counter) != (0, 0) {
                    return Err(went_back(device, *counter, presented));
                }
                *counter = presented;
                key.update_credential(result);
                Ok(())
            }
            DeviceSecret::Totp { .. } => Err(Refused::Credentials),
        };
        self.use_device(device, accept).await
    }
}

impl Assertion {
    pub(crate) fn of(credential: &PublicKeyCredential) -> Self {
        let response = &credential.response;
        Self {
            client_data_json: response.client_data_json.clone(),
            authenticator_data: response.authenticator_data.clone(),
            signature: response.signature.clone(),
        }
    }
}

fn went_back(device: &Device, stored: u32, presented: u32) -> Refused {
    Refused::CounterWentBack(Box::new(CounterWentBack { device: device.clone(), stored, presented }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_makes_the_library_panic_is_a_wrong_one() {
        let verdict = judging(|| -> WebauthnResult<()> { panic!("a slice of an answer that is not there") });
        assert!(matches!(verdict, Err(Refused::Credentials)));
        assert!(matches!(judging(|| Ok(1)), Ok(Ok(1))));
    }
}
