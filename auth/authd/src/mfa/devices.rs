//! The set of a user's devices: listing, adding, renaming, removing, and remembering each use.

use std::{mem, sync::Arc};

use auth::{identity::UserName, proto, resource::SecondFactor};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Device, DeviceSecret, DeviceState, DeviceType, NewDevice, audit_fields, describe,
    webauthn::CounterWentBack,
};
use crate::{
    cluster::Cluster,
    error::Refused,
    keys,
    store::{self, Condition, Op, Stored},
    users::Account,
};

/// What somebody else may have changed meanwhile.
const ACCOUNT: &str = "the account";

/// What stands behind a credential in the store, so that no two devices have the same and a passkey finds its user.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum CredentialOwner {
    Device {
        user: UserName,
        device: Uuid,
    },
    /// Written before there were passkeys: the device alone. None of them is one.
    Before(Uuid),
}

impl Cluster {
    pub(crate) async fn devices(&self, user: &UserName) -> Result<Vec<Device>, Refused> {
        let devices = store::read_all::<Device>(&*self.store, keys::devices(user)).await?;
        Ok(devices.into_iter().map(|stored| stored.value).collect())
    }

    pub(crate) async fn device_state(
        &self,
        user: &UserName,
        id: Uuid,
    ) -> Result<Option<Stored<Arc<DeviceState>>>, Refused> {
        let Some(item) = self.store.get(&keys::device_state(user, id)).await? else { return Ok(None) };
        let state = self.memos.device_states.read(&item)?;
        Ok(state.map(|value| Stored { value, revision: item.revision, expires: item.expires }))
    }

    /// The user's devices as lists show them: oldest first. The store has them by id, which is random, so those of one second
    /// stand by name: two lists never differ in order alone.
    pub(crate) async fn list_devices(&self, user: &UserName) -> Result<Vec<proto::MfaDevice>, Refused> {
        let mut list = Vec::new();
        for device in self.devices(user).await? {
            let state = self.device_state(user, device.id).await?;
            list.push(describe(&device, state.and_then(|state| state.value.last_used)));
        }
        list.sort_by(|a, b| (a.added_at, &a.name).cmp(&(b.added_at, &b.name)));
        Ok(list)
    }

    /// The operations that add a device to an account, and the device. The account is rewritten along with it.
    pub(crate) async fn add_device_ops(
        &self,
        user: &UserName,
        new: NewDevice,
    ) -> Result<(Device, Vec<Op>), Refused> {
        refuse_name(&new.name, &self.devices(user).await?)?;
        let device = Device {
            id: Uuid::new_v4(),
            user: user.clone(),
            name: new.name,
            kind: new.kind,
            added_at: self.clock.now(),
            cose_public_key: BASE64_STANDARD.encode(&new.cose_public_key),
            passwordless: new.passwordless,
            model: new.model,
            first_counter: new.secret.counter().unwrap_or_default(),
        };
        let state = DeviceState { last_used: None, secret: new.secret };
        let mut ops = vec![
            Op::put(keys::device(user, device.id), Condition::Absent, &device)?,
            Op::put(keys::device_state(user, device.id), Condition::Absent, &state)?,
        ];
        // The race: two users register one credential, and both were told that it is free.
        if let Some(credential) = state.secret.credential() {
            let whose = CredentialOwner::Device { user: user.clone(), device: device.id };
            ops.push(Op::put(credential, Condition::Absent, &whose)?);
        }
        Ok((device, ops))
    }

    /// Adds a device to an account that is in use.
    pub(crate) async fn add_device(
        &self,
        user: &UserName,
        new: NewDevice,
        registration: Op,
    ) -> Result<proto::MfaDevice, Refused> {
        let account = self.existing_account(user).await?;
        let (device, mut ops) = self.add_device_ops(user, new).await?;
        ops.push(registration);
        ops.push(Op::put(keys::account(user), account.unchanged(), &account.value)?);
        let events = vec![self.device_event("mfa.add", "T1006I", &device).await?];
        self.commit_on_record(ops, events, Refused::Changed(ACCOUNT)).await?;
        Ok(describe(&device, None))
    }

    /// Gives a device another name. That proves nothing and takes nothing away: the session alone suffices, no touch is asked
    /// for. Whoever has no more than a session could at worst swap names; what removes a device asks for a touch as ever,
    /// and the audit trail knows devices by their ids.
    pub(crate) async fn rename_device(&self, user: &UserName, id: Uuid, name: String) -> Result<(), Refused> {
        let account = self.existing_account(user).await?;
        let mut devices = store::read_all::<Device>(&*self.store, keys::devices(user)).await?;
        let found = devices.iter().position(|device| device.value.id == id);
        let found = found.ok_or_else(|| Refused::NotFound { kind: "MFA device", name: id.to_string() })?;
        let mut device = devices.swap_remove(found);
        let others: Vec<_> = devices.into_iter().map(|other| other.value).collect();
        refuse_name(&name, &others)?;
        let unchanged = device.unchanged();
        let old_name = mem::replace(&mut device.value.name, name);
        if device.value.name == old_name {
            return Ok(());
        }
        let ops = vec![
            Op::put(keys::device(user, id), unchanged, &device.value)?,
            // The race: another device gets the name, by being added or renamed. Whatever does that rewrites the account.
            Op::put(keys::account(user), account.unchanged(), &account.value)?,
        ];
        let events = vec![renamed(&device.value, &old_name)];
        self.commit_on_record(ops, events, Refused::Changed(ACCOUNT)).await
    }

    /// Removes a device, unless the cluster needs one and none that it accepts would be left.
    pub(crate) async fn delete_device(
        &self,
        user: &UserName,
        name_or_id: &str,
    ) -> Result<proto::MfaDevice, Refused> {
        let account = self.existing_account(user).await?;
        let factor = self.preference().await?.second_factor;
        let devices = self.devices(user).await?;
        let device = devices
            .iter()
            .find(|device| device.name == name_or_id || device.id.to_string() == name_or_id)
            .ok_or_else(|| Refused::NotFound { kind: "MFA device", name: name_or_id.to_owned() })?;
        let needed = !matches!(factor, SecondFactor::Off | SecondFactor::Optional);
        let left =
            devices.iter().filter(|other| other.id != device.id && other.kind.is_accepted(factor)).count();
        if needed && device.kind.is_accepted(factor) && left == 0 {
            return Err(Refused::LastDevice);
        }
        let mut ops = self.remove_device_ops(device).await?;
        ops.push(Op::put(keys::account(user), account.unchanged(), &account.value)?);
        let events = vec![self.device_event("mfa.delete", "T1007I", device).await?];
        self.commit_on_record(ops, events, Refused::Changed(ACCOUNT)).await?;
        Ok(describe(device, None))
    }

    /// The operations that take a device away. The account is rewritten along with it.
    pub(crate) async fn remove_device_ops(&self, device: &Device) -> Result<Vec<Op>, Refused> {
        let Device { user, id, .. } = device;
        let state = self.device_state(user, *id).await?;
        let mut ops = vec![
            Op::delete(keys::device(user, *id), Condition::Present),
            Op::delete(keys::device_state(user, *id), Condition::Any),
        ];
        let credential = state.and_then(|state| state.value.secret.credential());
        ops.extend(credential.map(|credential| Op::delete(credential, Condition::Any)));
        Ok(ops)
    }

    pub(crate) async fn existing_account(&self, user: &UserName) -> Result<Stored<Account>, Refused> {
        let account = self.account(user).await?;
        account.ok_or_else(|| Refused::NotFound { kind: "user", name: user.to_string() })
    }

    /// The operation that rewrites a device's state after a use, unless the use is refused on what is stored. Nothing was
    /// proved before it is committed. It conflicts when the device was used meanwhile: then all is to be judged again on
    /// what is stored by then, so that of two uses of one code (or of one counter) the second is refused.
    pub(crate) async fn use_device(
        &self,
        device: &Device,
        accept: impl Fn(&mut DeviceSecret) -> Result<(), Refused>,
    ) -> Result<Op, Refused> {
        let stored = self.device_state(&device.user, device.id).await?.ok_or(Refused::Credentials)?;
        let mut state = DeviceState::clone(&stored.value);
        accept(&mut state.secret)?;
        state.last_used = Some(self.clock.now());
        Ok(Op::put(keys::device_state(&device.user, device.id), stored.unchanged(), &state)?)
    }

    /// The event `mfa.add` (T1006I) or `mfa.delete` (T1007I). `tctl audit verify` checks receipts, years later and without
    /// us, by what `mfa.add` says, so these fields stay as they are:
    ///
    /// | field | |
    /// |---|---|
    /// | `user` | whose device it is |
    /// | `mfa_device_uuid` | what `with_mfa` of a session and `device_id` of its receipt name |
    /// | `mfa_device_name`, `mfa_device_type` | as lists show it; `WebAuthn` or `TOTP` |
    /// | `mfa_device_public_key` | WebAuthn: COSE_Key (RFC 9052) in CBOR, in base64 (standard, padded); absent for TOTP |
    /// | `mfa_device_aaguid` | WebAuthn: the model as a UUID, as the key says; nil where it does not say; proved only by attestation |
    /// | `mfa_device_sign_count` | WebAuthn: the signature counter that it was registered with |
    /// | `mfa_device_passwordless` | true where it can log in by itself |
    /// | `webauthn_rp_id`, `webauthn_origin` | WebAuthn: what assertions of the device must name (rp id hash, origin) |
    ///
    /// A device is in use from the `time` of its `mfa.add` to that of its `mfa.delete`. Where the user is deleted or
    /// reset (`user.delete`, `reset_password_token.create`), all devices of the user end there.
    pub(crate) async fn device_event(
        &self,
        event: &str,
        code: &str,
        device: &Device,
    ) -> Result<Value, Refused> {
        let mut fields = serde_json::json!({"event": event, "code": code, "user": device.user});
        if let Some(fields) = fields.as_object_mut() {
            fields.extend(audit_fields(device));
            fields.insert("mfa_device_passwordless".to_owned(), device.passwordless.into());
            if device.kind == DeviceType::Webauthn {
                let preference = self.preference().await?;
                let model = device.model.unwrap_or_default().to_string();
                let rp_id = self.rp_id(&preference).unwrap_or_default();
                fields.insert("mfa_device_public_key".to_owned(), device.cose_public_key.as_str().into());
                fields.insert("mfa_device_aaguid".to_owned(), model.into());
                fields.insert("mfa_device_sign_count".to_owned(), device.first_counter.into());
                fields.insert("webauthn_rp_id".to_owned(), rp_id.into());
                fields.insert("webauthn_origin".to_owned(), self.origin_text().into());
            }
        }
        Ok(fields)
    }

    /// A security key whose counter went back may exist twice. The assertion is refused; whether the device is to be locked
    /// is for people to decide.
    pub(crate) async fn emit_counter_went_back(&self, found: &CounterWentBack) -> Result<(), Refused> {
        let CounterWentBack { device, stored, presented } = found;
        let event = serde_json::json!({
            "event": "mfa.counter_went_back", "code": "TS0001W", "user": device.user, "success": false,
            "mfa_device": audit_fields(device), "stored_counter": stored, "presented_counter": presented,
        });
        Ok(self.audit.emit(event).await?)
    }

    /// Whose credential this is. `None` also for one that was registered before a credential could say.
    pub(crate) async fn credential_owner(&self, id: &[u8]) -> Result<Option<(UserName, Uuid)>, Refused> {
        let stored = store::read::<CredentialOwner>(&*self.store, &keys::credential(id)).await?;
        Ok(match stored.map(|stored| stored.value) {
            Some(CredentialOwner::Device { user, device }) => Some((user, device)),
            Some(CredentialOwner::Before(_)) | None => None,
        })
    }
}

/// The event `mfa.rename` (TS0002I). Events from before have the device under `mfa_device_old_name`; its id is the same.
fn renamed(device: &Device, old_name: &str) -> Value {
    let mut event = serde_json::json!({
        "event": "mfa.rename", "code": "TS0002I", "user": device.user, "mfa_device_old_name": old_name,
    });
    if let Some(event) = event.as_object_mut() {
        event.extend(audit_fields(device));
    }
    event
}

/// Whether a device can have this name beside the others of its user.
fn refuse_name(name: &str, others: &[Device]) -> Result<(), Refused> {
    if name.is_empty() || name.chars().count() > 64 || name.chars().any(char::is_control) {
        return Err(Refused::field("name", "a device's name has 1 to 64 printable characters"));
    }
    // A name in the form of a UUID could shadow another device's id.
    if others.iter().any(|device| device.name == name) || Uuid::try_parse(name).is_ok() {
        return Err(Refused::Exists { kind: "MFA device", name: name.to_owned() });
    }
    Ok(())
}
