//! Registering a security key: what it is asked for, and what is taken.
//!
//! A second factor needs no more than a touch. A passkey must live in the key (so that it can be found without a name) and
//! ask for a PIN or a fingerprint each time. Both are stored in one form; the library's registration of a passkey is ended
//! as that of a security key, which knows about attestation.

use auth::{identity::UserName, proto, resource::AuthPreference};
use serde_json::Value;
use uuid::Uuid;
use webauthn_rs::prelude::{CreationChallengeResponse, RegisterPublicKeyCredential, SecurityKeyRegistration};
use webauthn_rs_proto::{AttestationConveyancePreference, ResidentKeyRequirement, UserVerificationPolicy};

use super::{
    DeviceSecret, DeviceType, NewDevice, attestation,
    authenticator_data::{self, Registered},
    stored_key,
    webauthn::{Question, judging, replace},
};
use crate::{cluster::Cluster, error::Refused, keys};

impl Cluster {
    /// Begins to register a key.
    pub(crate) async fn begin_key(
        &self,
        user: &UserName,
        handle: Uuid,
        passwordless: bool,
    ) -> Result<Question, Refused> {
        let preference = self.preference().await?;
        let devices = self.devices(user).await?;
        let devices: Vec<_> = devices.iter().collect();
        let known = self.security_keys(&devices).await?;
        let exclude: Vec<_> = known.into_iter().map(|(_, key)| key.cred_id().clone()).collect();
        let (mut options, mut state) = match passwordless {
            true => self.ask_for_passkey(&preference, user, handle, exclude)?,
            false => self.ask_for_second_factor(&preference, user, handle, exclude)?,
        };
        options.public_key.hints = None;
        if !preference.attestation.is_empty() {
            options.public_key.attestation = Some(AttestationConveyancePreference::Direct);
        }
        // What ends every registration takes the list of makers from here; ours are judged apart.
        if let Some(state) = state.as_object_mut() {
            state.entry("ca_list").or_insert(Value::Null);
        }
        let options_json =
            serde_json::to_string(&options).map_err(|_| Refused::Internal("WebAuthn options"))?;
        Ok(Question { options_json, state })
    }

    fn ask_for_passkey(
        &self,
        preference: &AuthPreference,
        user: &UserName,
        handle: Uuid,
        exclude: Vec<Vec<u8>>,
    ) -> Result<(CreationChallengeResponse, Value), Refused> {
        let (mut options, state) = self
            .webauthn(preference)?
            .start_passkey_registration(handle, user.as_str(), user.as_str(), Some(exclude))
            .map_err(|_| Refused::NoWebauthn)?;
        // That a PIN is asked for is the library's doing, that the key remembers itself is not.
        if let Some(selection) = &mut options.public_key.authenticator_selection {
            selection.resident_key = Some(ResidentKeyRequirement::Required);
            selection.require_resident_key = true;
        }
        let state = serde_json::to_value(&state).map_err(|_| Refused::Internal("WebAuthn state"))?;
        Ok((options, state))
    }

    fn ask_for_second_factor(
        &self,
        preference: &AuthPreference,
        user: &UserName,
        handle: Uuid,
        exclude: Vec<Vec<u8>>,
    ) -> Result<(CreationChallengeResponse, Value), Refused> {
        let (mut options, state) = self
            .webauthn(preference)?
            .start_securitykey_registration(handle, user.as_str(), user.as_str(), Some(exclude), None, None)
            .map_err(|_| Refused::NoWebauthn)?;
        let mut state = serde_json::to_value(&state).map_err(|_| Refused::Internal("WebAuthn state"))?;
        // The library would have the key insist on its PIN ever after. Beside a password, a touch is enough.
        if let Some(selection) = &mut options.public_key.authenticator_selection {
            selection.user_verification = UserVerificationPolicy::Discouraged_DO_NOT_USE;
        }
        if let Some(extensions) = &mut options.public_key.extensions {
            extensions.cred_protect = None;
        }
        replace(&mut state, "/rs/policy", "discouraged")?;
        let extensions = options.public_key.extensions.clone().unwrap_or_default();
        let extensions = serde_json::to_value(extensions).map_err(|_| Refused::Internal("WebAuthn state"))?;
        replace(&mut state, "/rs/extensions", extensions)?;
        Ok((options, state))
    }

    /// Ends it: judges what the key returned.
    pub(crate) async fn finish_key(
        &self,
        name: String,
        state: &Value,
        passwordless: bool,
        credential_json: &str,
    ) -> Result<NewDevice, Refused> {
        let credential: RegisterPublicKeyCredential = serde_json::from_str(credential_json)
            .map_err(|_| Refused::field("webauthn_credential_json", "is not a credential"))?;
        let state: SecurityKeyRegistration =
            serde_json::from_value(state.clone()).map_err(|_| Refused::Internal("WebAuthn state"))?;
        let preference = self.preference().await?;
        let webauthn = self.webauthn(&preference)?;
        let key = judging(|| webauthn.finish_securitykey_registration(&credential, &state))?
            .map_err(|_| Refused::Credentials)?;
        // Nobody signs this, so a yes proves nothing; but a no is worth telling before the first login fails.
        let resident = credential.extensions.cred_props.as_ref().and_then(|props| props.rk);
        if passwordless && resident == Some(false) {
            return Err(Refused::field("webauthn_credential_json", "the key cannot log in by itself"));
        }
        attestation::judge(&stored_key::attestation(&key)?, &preference.attestation, self.clock.now())?;
        // WebAuthn Level 2, 7.1 step 22: whoever has it, a credential is one device of one user.
        if self.store.get(&keys::credential(key.cred_id())).await?.is_some() {
            return Err(Refused::Exists { kind: "security key", name });
        }
        let cose_public_key = stored_key::cose_key(&key)?;
        let Registered { counter, model } =
            authenticator_data::registered(&credential.response.attestation_object).ok_or_else(|| {
                Refused::field("webauthn_credential_json", "has an attestation that cannot be read")
            })?;
        let secret = DeviceSecret::Webauthn { key: Box::new(key), counter };
        let model = Some(model);
        Ok(NewDevice { kind: DeviceType::Webauthn, name, secret, cose_public_key, passwordless, model })
    }

    pub(crate) fn registration_for_key(id: String, question: &Question) -> proto::DeviceRegistration {
        use proto::device_registration::Kind;
        let kind = Kind::WebauthnCreationOptionsJson(question.options_json.clone());
        proto::DeviceRegistration { registration_id: id, kind: Some(kind) }
    }
}
