//! Security keys (WebAuthn Level 2), as a second factor: presence is required, a PIN is the key's affair.
//!
//! The challenge is not random but the hash of what the touch is for. The library makes a random one; it is replaced in both
//! places where it stands, what the key is asked and the state that the answer is compared with.

use auth::{identity::UserName, proto, resource::AuthPreference};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;
use uuid::Uuid;
use webauthn_rs::{
    Webauthn, WebauthnBuilder,
    prelude::{
        AuthenticationResult, PublicKeyCredential, RegisterPublicKeyCredential, SecurityKey, SecurityKeyAuthentication,
        SecurityKeyRegistration,
    },
};

use super::{Device, DeviceSecret, DeviceType, NewDevice};
use crate::{cluster::Cluster, error::Refused, keys};

/// What a key returned, for the receipt.
pub(crate) struct Assertion {
    pub(crate) client_data_json: Vec<u8>,
    pub(crate) authenticator_data: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

/// A challenge for keys: what they are asked, and the state to judge the answer by.
#[derive(Serialize, Deserialize)]
pub(crate) struct Question {
    pub(crate) options_json: String,
    pub(crate) state: Value,
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

    async fn security_keys(&self, devices: &[&Device]) -> Result<Vec<(Device, SecurityKey)>, Refused> {
        let mut found = Vec::new();
        for device in devices.iter().filter(|device| device.kind == DeviceType::Webauthn) {
            let state = self.device_state(&device.user, device.id).await?;
            if let Some(DeviceSecret::Webauthn { key, .. }) = state.map(|state| state.value.secret) {
                found.push(((*device).clone(), *key));
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
        let webauthn = self.webauthn(preference)?;
        let (mut options, state) =
            webauthn.start_securitykey_authentication(&keys).map_err(|_| Refused::NoWebauthn)?;
        let mut state = serde_json::to_value(&state).map_err(|_| Refused::Internal("WebAuthn state"))?;
        options.public_key.challenge = challenge.to_vec();
        let place = state.pointer_mut("/ast/challenge").ok_or(Refused::Internal("WebAuthn state"))?;
        *place = BASE64_URL_SAFE_NO_PAD.encode(challenge).into();
        let options_json =
            serde_json::to_string(&options).map_err(|_| Refused::Internal("WebAuthn options"))?;
        Ok(Some(Question { options_json, state }))
    }

    /// Judges an assertion as far as that changes nothing.
    pub(crate) async fn check_assertion(
        &self,
        preference: &AuthPreference,
        devices: &[&Device],
        state: &Value,
        credential: &PublicKeyCredential,
    ) -> Result<(Device, AuthenticationResult), Refused> {
        let state: SecurityKeyAuthentication =
            serde_json::from_value(state.clone()).map_err(|_| Refused::Internal("WebAuthn state"))?;
        let result = self
            .webauthn(preference)?
            .finish_securitykey_authentication(credential, &state)
            .map_err(|_| Refused::Credentials)?;
        // The device must still be the user's now, not only when it was asked.
        let keys = self.security_keys(devices).await?;
        let (device, _) = keys
            .into_iter()
            .find(|(_, key)| key.cred_id() == result.cred_id())
            .ok_or(Refused::Credentials)?;
        Ok((device, result))
    }

    /// Judges an assertion; on success the key's counter has moved on.
    pub(crate) async fn verify_assertion(
        &self,
        preference: &AuthPreference,
        devices: &[&Device],
        state: &Value,
        credential: &PublicKeyCredential,
    ) -> Result<(Device, Assertion), Refused> {
        let (device, result) = self.check_assertion(preference, devices, state, credential).await?;
        let accept = |secret: &mut DeviceSecret| match secret {
            DeviceSecret::Webauthn { key, counter } => {
                // WebAuthn Level 2, 7.2 step 21: a counter that does not grow is a clone's; 0 means "has none".
                let grows = result.counter() > *counter || (result.counter() == 0 && *counter == 0);
                if grows {
                    *counter = result.counter();
                    key.update_credential(&result);
                }
                grows
            }
            DeviceSecret::Totp { .. } => false,
        };
        self.use_device(&device, accept).await?;
        let response = &credential.response;
        let assertion = Assertion {
            client_data_json: response.client_data_json.to_vec(),
            authenticator_data: response.authenticator_data.to_vec(),
            signature: response.signature.to_vec(),
        };
        Ok((device, assertion))
    }

    /// Begins to register a key.
    pub(crate) async fn begin_key(&self, user: &UserName, handle: Uuid) -> Result<Question, Refused> {
        let preference = self.preference().await?;
        let devices = self.devices(user).await?;
        let devices: Vec<_> = devices.iter().collect();
        let known = self.security_keys(&devices).await?;
        let exclude: Vec<_> = known.into_iter().map(|(_, key)| key.cred_id().clone()).collect();
        let (options, state) = self
            .webauthn(&preference)?
            .start_securitykey_registration(handle, user.as_str(), user.as_str(), Some(exclude), None, None)
            .map_err(|_| Refused::NoWebauthn)?;
        let options_json =
            serde_json::to_string(&options).map_err(|_| Refused::Internal("WebAuthn options"))?;
        let state = serde_json::to_value(&state).map_err(|_| Refused::Internal("WebAuthn state"))?;
        Ok(Question { options_json, state })
    }

    /// Ends it: judges what the key returned.
    pub(crate) async fn finish_key(
        &self,
        name: String,
        state: &Value,
        credential_json: &str,
    ) -> Result<NewDevice, Refused> {
        let credential: RegisterPublicKeyCredential = serde_json::from_str(credential_json)
            .map_err(|_| Refused::field("webauthn_credential_json", "is not a credential"))?;
        let state: SecurityKeyRegistration =
            serde_json::from_value(state.clone()).map_err(|_| Refused::Internal("WebAuthn state"))?;
        let key = self
            .webauthn(&self.preference().await?)?
            .finish_securitykey_registration(&credential, &state)
            .map_err(|_| Refused::Credentials)?;
        // WebAuthn Level 2, 7.1 step 22: whoever has it, a credential is one device of one user.
        if self.store.get(&keys::credential(key.cred_id())).await?.is_some() {
            return Err(Refused::Exists { kind: "security key", name });
        }
        let cose_public_key = cose_key(&key)?;
        let secret = DeviceSecret::Webauthn { key: Box::new(key), counter: 0 };
        Ok(NewDevice { kind: DeviceType::Webauthn, name, secret, cose_public_key })
    }

    pub(crate) fn registration_for_key(id: String, question: &Question) -> proto::DeviceRegistration {
        use proto::device_registration::Kind;
        let kind = Kind::WebauthnCreationOptionsJson(question.options_json.clone());
        proto::DeviceRegistration { registration_id: id, kind: Some(kind) }
    }
}

/// The public part of what the library stores, as far as sidecars can verify with it.
#[derive(Deserialize)]
enum StoredKey {
    #[serde(rename = "EC_EC2")]
    Ec2 { curve: String, x: String, y: String },
    #[serde(rename = "RSA")]
    Rsa { n: String, e: [u8; 3] },
}

/// The key as COSE_Key (RFC 9053 section 7, RFC 8230 section 4), which is what travels to sidecars.
fn cose_key(key: &SecurityKey) -> Result<Vec<u8>, Refused> {
    let unsupported = || Refused::field("webauthn_credential_json", "the key's algorithm is not supported");
    let value = serde_json::to_value(key).map_err(|_| Refused::Internal("WebAuthn key"))?;
    let stored = value.pointer("/cred/cred/key").cloned().ok_or(Refused::Internal("WebAuthn key"))?;
    let stored: StoredKey = serde_json::from_value(stored).map_err(|_| unsupported())?;
    let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| unsupported());
    let mut cbor = Vec::new();
    match stored {
        StoredKey::Ec2 { curve, x, y } => {
            let (algorithm, curve): (&[u8], u8) = match curve.as_str() {
                "SECP256R1" => (&[0x26], 1),       // ES256 is -7
                "SECP384R1" => (&[0x38, 0x22], 2), // ES384 is -35
                _ => return Err(unsupported()),
            };
            cbor.extend([0xa5, 0x01, 0x02, 0x03]);
            cbor.extend(algorithm);
            cbor.extend([0x20, curve, 0x21]);
            byte_string(&mut cbor, &decode(&x)?)?;
            cbor.push(0x22);
            byte_string(&mut cbor, &decode(&y)?)?;
        }
        StoredKey::Rsa { n, e } => {
            cbor.extend([0xa4, 0x01, 0x03, 0x03, 0x39, 0x01, 0x00, 0x20]); // RS256 is -257
            byte_string(&mut cbor, &decode(&n)?)?;
            cbor.push(0x21);
            byte_string(&mut cbor, &e)?;
        }
    }
    auth::receipt::DeviceKey::from_cose(&cbor).map_err(|_| unsupported())?;
    Ok(cbor)
}

/// RFC 8949 section 3.1, major type 2.
fn byte_string(cbor: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Refused> {
    let length = u16::try_from(bytes.len()).map_err(|_| Refused::Internal("WebAuthn key"))?;
    match (length, length.to_be_bytes()) {
        (0..=23, [_, low]) => cbor.push(0x40 | low),
        (24..=255, [_, low]) => cbor.extend([0x58, low]),
        (_, [high, low]) => cbor.extend([0x59, high, low]),
    }
    cbor.extend_from_slice(bytes);
    Ok(())
}
