//! Security keys on USB (CTAP2): which of those that are plugged in is asked, and what for.
//!
//! A key signs the hash of client data that are written here, over the very challenge that was checked. What speaks to a
//! key lies behind [`Authenticator`]; the rules of who is asked, when a PIN is, and what is told stand here, so that tests
//! can play them without a key.

mod authenticator;
mod credential;
mod hid;
mod race;

use std::sync::Arc;

use webauthn_rs_proto::{
    AttestationConveyancePreference, CreationChallengeResponse, PublicKeyCredential,
    PublicKeyCredentialCreationOptions, RegisterPublicKeyCredential, RequestChallengeResponse,
    UserVerificationPolicy,
};
use zeroize::Zeroizing;

use self::{
    authenticator::{Authenticator, Bus, CtapError, Make, Sign, Signed, Verification},
    race::{Lost, race},
};
use super::{KeyError, Person, RelyingParty, SecurityKey};
use crate::terminal::TerminalError;

/// The only algorithm that keys are asked for: ES256.
const ES256: i64 = -7;

/// The security keys that are plugged in, if any.
pub(super) fn plugged_in() -> Option<Arc<dyn SecurityKey>> {
    hid::Usb.is_anything_there().then(|| Arc::new(UsbKeys { bus: hid::Usb }) as Arc<dyn SecurityKey>)
}

/// Whatever is plugged in when it is asked.
struct UsbKeys<B> {
    bus: B,
}

/// Nobody: then no PIN is known.
struct Nobody;

impl Person for Nobody {
    fn say(&self, _: &str) {}

    fn pin(&self, _: &str) -> Result<Zeroizing<String>, TerminalError> {
        Err(TerminalError::Closed)
    }

    fn ask(&self, _: &str) -> Result<String, TerminalError> {
        Err(TerminalError::Closed)
    }

    fn has_left(&self) -> bool {
        false
    }
}

impl<B: Bus> SecurityKey for UsbKeys<B> {
    fn register(
        &self,
        party: &RelyingParty,
        options: CreationChallengeResponse,
    ) -> Result<RegisterPublicKeyCredential, KeyError> {
        self.register_with(&Nobody, party, options)
    }

    fn assert(
        &self,
        party: &RelyingParty,
        options: RequestChallengeResponse,
    ) -> Result<PublicKeyCredential, KeyError> {
        self.assert_with(&Nobody, party, options)
    }

    fn register_with(
        &self,
        person: &dyn Person,
        party: &RelyingParty,
        options: CreationChallengeResponse,
    ) -> Result<RegisterPublicKeyCredential, KeyError> {
        let options = options.public_key;
        let make = make(party, &options)?;
        let mut keys = self.keys()?;
        // A key that holds one of the user's credentials is not asked for another.
        keys.retain(|key| make.exclude.is_empty() || !knows(key, party, &make.exclude));
        if keys.is_empty() {
            return Err(KeyError::RegisteredAlready);
        }
        let verified = options
            .authenticator_selection
            .as_ref()
            .is_some_and(|selection| selection.user_verification == UserVerificationPolicy::Required);
        let (client_data, resident) = (make.client_data.clone(), make.resident);
        let made = touched(keys, person, verified, move |key, verification| key.make(&make, verification))?;
        let attested = !matches!(options.attestation, None | Some(AttestationConveyancePreference::None));
        let asked_props = options.extensions.as_ref().is_some_and(|asked| asked.cred_props == Some(true));
        credential::registered(made, client_data, attested, asked_props.then_some(resident))
    }

    fn assert_with(
        &self,
        person: &dyn Person,
        party: &RelyingParty,
        options: RequestChallengeResponse,
    ) -> Result<PublicKeyCredential, KeyError> {
        let options = options.public_key;
        let allow: Vec<Vec<u8>> = options.allow_credentials.into_iter().map(|known| known.id).collect();
        let mut keys = self.keys()?;
        // With an empty list the key itself knows who is there.
        keys.retain(|key| allow.is_empty() || knows(key, party, &allow));
        if keys.is_empty() {
            return Err(KeyError::NotRegistered);
        }
        let client_data = credential::client_data("webauthn.get", &options.challenge, party);
        let only = match allow.as_slice() {
            [only] => only.clone(),
            _ => Vec::new(),
        };
        let sign =
            Sign { rp_id: party.id().to_owned(), client_data: client_data.clone(), allow, touch: true };
        let verified = options.user_verification == UserVerificationPolicy::Required;
        let signed = touched(keys, person, verified, move |key, verification| key.sign(&sign, verification))?;
        credential::asserted(chosen(signed, person)?, client_data, only)
    }

    fn warning(&self) -> Option<&str> {
        None
    }
}

impl<B: Bus> UsbKeys<B> {
    fn keys(&self) -> Result<Vec<Arc<B::Key>>, KeyError> {
        let keys = self.bus.keys()?;
        if keys.is_empty() { Err(KeyError::NonePluggedIn) } else { Ok(keys) }
    }
}

fn make(party: &RelyingParty, options: &PublicKeyCredentialCreationOptions) -> Result<Make, KeyError> {
    if !options.pub_key_cred_params.iter().any(|kind| kind.alg == ES256 && kind.type_ == "public-key") {
        return Err(KeyError::NoAlgorithm);
    }
    Ok(Make {
        rp_id: party.id().to_owned(),
        client_data: credential::client_data("webauthn.create", &options.challenge, party),
        user_id: options.user.id.clone(),
        user_name: options.user.name.clone(),
        user_display_name: options.user.display_name.clone(),
        exclude: options.exclude_credentials.iter().flatten().map(|known| known.id.clone()).collect(),
        resident: options
            .authenticator_selection
            .as_ref()
            .is_some_and(|selection| selection.require_resident_key),
    })
}

/// Whether a key holds one of these credentials: asked without a touch (CTAP 2.1, 6.2.2, "pre-flight"). One that cannot say
/// may.
fn knows(key: &Arc<impl Authenticator>, party: &RelyingParty, credentials: &[Vec<u8>]) -> bool {
    let ask = Sign {
        rp_id: party.id().to_owned(),
        client_data: b"{}".to_vec(),
        allow: credentials.to_vec(),
        touch: false,
    };
    key.sign(&ask, &Verification::None).err() != Some(CtapError::NO_CREDENTIALS)
}

/// Has one of the keys do something that needs a touch, and the PIN where that is asked for or where the key insists.
fn touched<K: Authenticator, T: Send + 'static>(
    mut keys: Vec<Arc<K>>,
    person: &dyn Person,
    verified: bool,
    act: impl Fn(&K, &Verification) -> Result<T, CtapError> + Send + Sync + 'static,
) -> Result<T, KeyError> {
    let act = Arc::new(act);
    if keys.len() > 1 {
        person.say("Several security keys are plugged in: touch the one that you want to use");
    }
    if !verified {
        let plain = Arc::clone(&act);
        match race(&keys, person, move |key| plain(key, &Verification::None)) {
            Err(Lost::Refused(CtapError::PIN_REQUIRED)) => {}
            other => return other.map(|(_, done)| done).map_err(explained),
        }
    }
    if keys.len() > 1 {
        let (touched, ()) = race(&keys, person, |key| key.select()).map_err(|lost| match lost {
            // Keys of CTAP 2.0 cannot be chosen by a touch.
            Lost::Refused(CtapError::INVALID_COMMAND) => KeyError::Several,
            lost => explained(lost),
        })?;
        keys = vec![touched];
    }
    let key = keys.pop().ok_or(KeyError::NonePluggedIn)?;
    with_verification(&key, person, act)
}

/// Asks until the PIN is right, or the key has had enough.
fn with_verification<K: Authenticator, T: Send + 'static>(
    key: &Arc<K>,
    person: &dyn Person,
    act: Arc<impl Fn(&K, &Verification) -> Result<T, CtapError> + Send + Sync + 'static>,
) -> Result<T, KeyError> {
    let mut built_in = key.abilities().built_in_verification;
    loop {
        let verification = match (built_in, key.abilities().pin_set) {
            (true, _) => Verification::BuiltIn,
            (false, Some(true)) => Verification::Pin(person.pin("Enter your security key PIN:")?),
            (false, Some(false)) => return Err(KeyError::NoPin),
            (false, None) => return Err(KeyError::NoVerification),
        };
        if let Verification::Pin(_) = verification {
            person.say("Now tap your security key");
        }
        let act = Arc::clone(&act);
        match race(std::slice::from_ref(key), person, move |key| act(key, &verification)) {
            Ok((_, done)) => return Ok(done),
            Err(Lost::Refused(CtapError::PIN_INVALID)) => person.say(&wrong_pin(key.pin_attempts_left())),
            Err(Lost::Refused(CtapError::UV_INVALID)) => {
                person.say("The fingerprint was not recognised, try again")
            }
            Err(Lost::Refused(CtapError::UV_BLOCKED)) if built_in => {
                person.say("The fingerprint was not recognised too often, the PIN is needed");
                built_in = false;
            }
            Err(lost) => return Err(explained(lost)),
        }
    }
}

fn wrong_pin(left: Option<u32>) -> String {
    match left {
        Some(1) => "Wrong PIN; one attempt is left before the key is blocked for good".to_owned(),
        Some(left) => format!("Wrong PIN; {left} attempts are left"),
        None => "Wrong PIN".to_owned(),
    }
}

/// A passkey of several accounts here: the person says which.
fn chosen(mut signed: Vec<Signed>, person: &dyn Person) -> Result<Signed, KeyError> {
    if signed.len() > 1 {
        let names: Vec<&str> = signed.iter().map(|signed| signed.user_name.as_str()).collect();
        let answer = person.ask(&format!("Choose an account [{}]: ", names.join(", ")))?;
        signed.retain(|signed| signed.user_name == answer.trim());
    }
    signed.into_iter().next().ok_or(KeyError::NotRegistered)
}

/// What a key's refusal means to people.
fn explained(lost: Lost) -> KeyError {
    let error = match lost {
        Lost::Withdrawn => return KeyError::Withdrawn,
        Lost::Refused(error) => error,
    };
    match error {
        CtapError::NO_CREDENTIALS | CtapError::INVALID_CREDENTIAL => KeyError::NotRegistered,
        CtapError::EXCLUDED => KeyError::RegisteredAlready,
        CtapError::PIN_BLOCKED => KeyError::PinBlocked,
        CtapError::PIN_AUTH_BLOCKED => KeyError::PinPaused,
        CtapError::PIN_NOT_SET => KeyError::NoPin,
        CtapError::KEY_STORE_FULL => KeyError::Full,
        CtapError::UNSUPPORTED_ALGORITHM => KeyError::NoAlgorithm,
        CtapError::TIMEOUT | CtapError::ACTION_TIMEOUT | CtapError::USER_ACTION_TIMEOUT => KeyError::TimedOut,
        error => KeyError::Failed { what: error.to_string() },
    }
}

#[cfg(test)]
mod tests;
