//! Real keys, on USB HID. The library hashes what it calls the challenge (SHA-256), so it is given the client data, whose
//! hash is what a key signs for. Its errors are texts that begin with the key's status.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use ctap_hid_fido2::{
    FidoKeyHid, FidoKeyHidFactory, HidInfo, LibCfg,
    fidokey::{
        CredentialSupportedKeyType, GetAssertionArgsBuilder, MakeCredentialArgsBuilder,
        get_assertion::get_assertion_params::Assertion, make_credential::Attestation,
    },
    public_key_credential_user_entity::PublicKeyCredentialUserEntity,
};

use super::authenticator::{
    Abilities, Authenticator, Bus, CtapError, Made, Make, Sign, Signed, Verification,
};
use crate::mfa::KeyError;

/// The ports of this machine.
pub(super) struct Usb;

impl Usb {
    pub(super) fn is_anything_there(&self) -> bool {
        !devices().is_empty()
    }
}

/// The library panics where the system lets it look at no device at all.
fn devices() -> Vec<HidInfo> {
    catch_unwind(ctap_hid_fido2::get_fidokey_devices).unwrap_or_default()
}

impl Bus for Usb {
    type Key = HidKey;

    fn keys(&self) -> Result<Vec<Arc<HidKey>>, KeyError> {
        let devices = devices();
        let there = !devices.is_empty();
        let keys: Vec<_> =
            devices.into_iter().filter_map(|device| HidKey::open(&device)).map(Arc::new).collect();
        if keys.is_empty() && there { Err(KeyError::NotAllowed) } else { Ok(keys) }
    }
}

/// One key that is plugged in.
pub(super) struct HidKey {
    device: FidoKeyHid,
    abilities: Abilities,
}

impl HidKey {
    /// `None`: not ours to open, or older than CTAP2.
    fn open(device: &HidInfo) -> Option<Self> {
        // It would print what to do on standard output, where answers go.
        let configuration = LibCfg { enable_keep_alive_msg: false, ..LibCfg::init() };
        let open =
            || FidoKeyHidFactory::create_by_params(std::slice::from_ref(&device.param), &configuration);
        let device =
            guarded(open).inspect_err(|error| tracing::debug!(%error, "a key cannot be opened")).ok()?;
        let info = guarded(|| device.get_info())
            .inspect_err(|error| tracing::debug!(%error, "a key does not say what it can do"))
            .ok()?;
        let option = |name: &str| info.options.iter().find(|(known, _)| known == name).map(|(_, set)| *set);
        let abilities =
            Abilities { built_in_verification: option("uv") == Some(true), pin_set: option("clientPin") };
        let protocols = &info.pin_uv_auth_protocols;
        let device = match protocols.contains(&1) || protocols.is_empty() {
            true => device,
            false => device.with_pin_protocol_version(2),
        };
        Some(Self { device, abilities })
    }
}

impl Authenticator for HidKey {
    fn abilities(&self) -> Abilities {
        self.abilities
    }

    fn make(&self, make: &Make, verification: &Verification) -> Result<Made, CtapError> {
        let user = PublicKeyCredentialUserEntity::new(
            Some(&make.user_id),
            Some(&make.user_name),
            Some(&make.user_display_name),
        );
        let builder = MakeCredentialArgsBuilder::new(&make.rp_id, &make.client_data)
            .key_type(CredentialSupportedKeyType::Ecdsa256)
            .user_entity(&user);
        let builder = make.exclude.iter().fold(builder, |builder, id| builder.exclude_authenticator(id));
        let builder = if make.resident { builder.resident_key() } else { builder };
        let arguments = match verification {
            Verification::None => builder.without_pin_and_uv(),
            Verification::BuiltIn => builder,
            Verification::Pin(pin) => builder.pin(pin),
        };
        guarded(|| self.device.make_credential_with_args(&arguments.build())).map(made)
    }

    fn sign(&self, sign: &Sign, verification: &Verification) -> Result<Vec<Signed>, CtapError> {
        let builder = GetAssertionArgsBuilder::new(&sign.rp_id, &sign.client_data);
        let builder = sign.allow.iter().fold(builder, |builder, id| builder.add_credential_id(id));
        let builder = if sign.touch { builder } else { builder.without_up() };
        let arguments = match verification {
            Verification::None => builder.without_pin_and_uv(),
            Verification::BuiltIn => builder,
            Verification::Pin(pin) => builder.pin(pin),
        };
        let signed = guarded(|| self.device.get_assertion_with_args(&arguments.build()))?;
        Ok(signed.into_iter().map(signed_as).collect())
    }

    fn select(&self) -> Result<(), CtapError> {
        guarded(|| self.device.selection())
    }

    fn pin_attempts_left(&self) -> Option<u32> {
        guarded(|| self.device.get_pin_retries()).ok().and_then(|left| u32::try_from(left).ok())
    }

    fn cancel(&self) {
        // Whatever it waits for, it is to stop; the library has one name for it.
        let _ = guarded(|| self.device.cancel_selection());
    }
}

fn made(attestation: Attestation) -> Made {
    Made {
        authenticator_data: attestation.auth_data,
        format: attestation.fmt,
        algorithm: attestation.attstmt_alg.into(),
        signature: attestation.attstmt_sig,
        certificates: attestation.attstmt_x5c,
    }
}

fn signed_as(assertion: Assertion) -> Signed {
    Signed {
        credential_id: assertion.credential_id,
        authenticator_data: assertion.auth_data,
        signature: assertion.signature,
        user_id: assertion.user.id,
        user_name: assertion.user.name,
    }
}

/// The library indexes into what a device says: a device that says too little must not take us along.
fn guarded<T>(call: impl FnOnce() -> anyhow::Result<T>) -> Result<T, CtapError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(status(&format!("{error:#}"))),
        Err(_) => Err(CtapError::Failed("its answer cannot be read".to_owned())),
    }
}

/// `response_status err = 0x31 CTAP2_ERR_PIN_INVALID …`
fn status(text: &str) -> CtapError {
    let status = text.split("err = 0x").nth(1).and_then(|rest| rest.split_whitespace().next());
    match status.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
        Some(status) => CtapError::Status(status),
        None => CtapError::Failed(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_out_of_the_librarys_words() {
        let said = "response_status err = 0x31 CTAP2_ERR_PIN_INVALID   PIN Invalid.";
        assert_eq!(status(said), CtapError::PIN_INVALID);
        assert_eq!(status("response_status err = 0x2E CTAP2_ERR_NO_CREDENTIALS"), CtapError::NO_CREDENTIALS);
        assert_eq!(status("response_status err = 0x99"), CtapError::Status(0x99));
        assert_eq!(status("write error"), CtapError::Failed("write error".to_owned()));
    }

    #[test]
    fn a_device_that_makes_the_library_panic_is_an_error() {
        let panics = || -> anyhow::Result<()> { panic!("index out of bounds") };
        assert!(matches!(guarded(panics), Err(CtapError::Failed(_))));
    }

    #[test]
    fn looking_for_keys_where_there_are_none_is_no_error() {
        // Whatever this machine has: looking must neither fail nor hang.
        let _ = Usb.is_anything_there();
    }
}
