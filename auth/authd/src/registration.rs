//! Registrations: a device on its way, between what it was told and what it proves. One-shot, five minutes.

use auth::{identity::UserName, proto, resource::AuthPreference};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::{
    challenge,
    cluster::Cluster,
    error::Refused,
    keys,
    mfa::{DeviceSecret, DeviceType, NewDevice, totp},
    secret,
    store::{self, Condition, Op, Stored},
    users::Account,
};

/// Registrations that a user may have open.
const MAX_OPEN: usize = 32;

/// A device on its way.
#[derive(Serialize, Deserialize)]
struct Registration {
    /// Hash of the invitation that it is for; `None` where a logged-in user adds a device.
    invitation: Option<String>,
    kind: RegistrationKind,
}

#[derive(Serialize, Deserialize)]
enum RegistrationKind {
    Totp {
        secret: Zeroizing<String>,
    },
    Webauthn {
        state: Value,
        #[serde(default)]
        passwordless: bool,
    },
}

/// What somebody wants to register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Totp,
    /// A second factor.
    SecurityKey,
    /// What can log in by itself.
    Passkey,
}

impl Wish {
    pub(crate) fn from_proto(kind: i32, passwordless: bool) -> Result<Self, Refused> {
        match (DeviceType::from_proto(kind)?, passwordless) {
            (DeviceType::Totp, false) => Ok(Self::Totp),
            (DeviceType::Totp, true) => Err(Refused::field("passwordless", "only WebAuthn devices can be")),
            (DeviceType::Webauthn, false) => Ok(Self::SecurityKey),
            (DeviceType::Webauthn, true) => Ok(Self::Passkey),
        }
    }

    fn kind(self) -> DeviceType {
        match self {
            Self::Totp => DeviceType::Totp,
            Self::SecurityKey | Self::Passkey => DeviceType::Webauthn,
        }
    }
}

impl Cluster {
    /// A logged-in user adds a device.
    pub(crate) async fn begin_add_device(
        &self,
        user: &UserName,
        wish: Wish,
    ) -> Result<proto::DeviceRegistration, Refused> {
        let account = self.account(user).await?.ok_or_else(|| Refused::NoRoles(user.to_string()))?;
        self.begin_registration(user, &account.value, wish, None).await
    }

    pub(crate) async fn finish_add_device(
        &self,
        user: &UserName,
        device: proto::NewDevice,
    ) -> Result<proto::MfaDevice, Refused> {
        let (new, spent) = self.finish_registration(user, device, None).await?;
        self.add_device(user, new, spent).await
    }

    pub(crate) async fn begin_registration(
        &self,
        user: &UserName,
        account: &Account,
        wish: Wish,
        invitation: Option<String>,
    ) -> Result<proto::DeviceRegistration, Refused> {
        let preference = self.preference().await?;
        refuse_kind(wish.kind(), &preference)?;
        if wish == Wish::Passkey && !self.is_passwordless(&preference) {
            return Err(Refused::NoPasswordless);
        }
        if self.store.range(&[keys::registrations(user)]).await?.items.len() >= MAX_OPEN {
            return Err(Refused::TooMany("registrations"));
        }
        let secret = secret::generate()?;
        let id = secret::owned_id(user, &secret);
        let (kind, answer) = match wish {
            Wish::Totp => {
                let shared = totp::new_secret()?;
                let totp = totp::describe(self.name.as_str(), user, &shared)?;
                let kind = proto::device_registration::Kind::Totp(totp);
                let answer = proto::DeviceRegistration { registration_id: id, kind: Some(kind) };
                (RegistrationKind::Totp { secret: shared }, answer)
            }
            Wish::SecurityKey | Wish::Passkey => {
                let passwordless = wish == Wish::Passkey;
                let question = self.begin_key(user, account.handle, passwordless).await?;
                let answer = Self::registration_for_key(id, &question);
                (RegistrationKind::Webauthn { state: question.state, passwordless }, answer)
            }
        };
        let until = Some(self.clock.now() + challenge::LIFE);
        let record = Registration { invitation, kind };
        let key = keys::registration(user, &secret);
        self.store.commit(vec![Op::put_until(key, Condition::Absent, &record, until)?]).await?;
        Ok(answer)
    }

    /// Judges the proof of a new device. The operation returned uses the registration up; the caller commits it together
    /// with the device.
    pub(crate) async fn finish_registration(
        &self,
        user: &UserName,
        device: proto::NewDevice,
        invitation: Option<&String>,
    ) -> Result<(NewDevice, Op), Refused> {
        use proto::new_device::Proof;
        let (owner, secret) =
            secret::parse_owned_id(&device.registration_id).ok_or(Refused::Secret("registration"))?;
        let key = keys::registration(user, secret);
        let stored: Option<Stored<Registration>> = store::read(&*self.store, &key).await?;
        let stored = stored
            .filter(|stored| owner == *user && stored.value.invitation.as_ref() == invitation)
            .ok_or(Refused::Secret("registration"))?;
        let spent = Op::delete(key, stored.unchanged());
        let new = match (stored.value.kind, device.proof) {
            (RegistrationKind::Totp { secret }, Some(Proof::TotpCode(code))) => {
                let step = totp::step_of(&secret, &code, self.clock.now()).ok_or(Refused::Credentials)?;
                // The code that proves the device is used up by it.
                let secret = DeviceSecret::Totp { secret, last_step: Some(step) };
                NewDevice::totp(device.name, secret)
            }
            (
                RegistrationKind::Webauthn { state, passwordless },
                Some(Proof::WebauthnCredentialJson(json)),
            ) => self.finish_key(device.name, &state, passwordless, &json).await?,
            _ => return Err(Refused::field("proof", "does not fit the kind of device")),
        };
        // Asked again: a device that the cluster accepts no longer must not pass for the one that it requires.
        refuse_kind(new.kind, &*self.preference().await?)?;
        Ok((new, spent))
    }
}

fn refuse_kind(kind: DeviceType, preference: &AuthPreference) -> Result<(), Refused> {
    if kind.is_accepted(preference.second_factor) {
        return Ok(());
    }
    Err(Refused::field("kind", format!("the cluster accepts no {} devices", kind.as_str())))
}
