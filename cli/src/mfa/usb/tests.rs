//! Whole ceremonies with keys that are played, judged by the library that judges at authd.

mod played;

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use webauthn_rs::prelude::{SecurityKey as Registered, Url, Uuid, Webauthn, WebauthnBuilder};

use self::played::{Played, Plug};
use super::{authenticator::Abilities, *};

/// Somebody with answers ready, who remembers what was shown.
#[derive(Default)]
struct Somebody {
    pins: Mutex<Vec<&'static str>>,
    words: Mutex<Vec<&'static str>>,
    seen: Mutex<Vec<String>>,
    left: AtomicBool,
}

impl Somebody {
    fn with_pins(pins: &[&'static str]) -> Self {
        Self { pins: Mutex::new(pins.iter().rev().copied().collect()), ..Self::default() }
    }

    fn seen(&self) -> String {
        self.seen.lock().unwrap().join("\n")
    }
}

impl Person for Somebody {
    fn say(&self, line: &str) {
        self.seen.lock().unwrap().push(line.to_owned());
    }

    fn pin(&self, prompt: &str) -> Result<Zeroizing<String>, TerminalError> {
        self.say(prompt);
        let pin = self.pins.lock().unwrap().pop().ok_or(TerminalError::Closed)?;
        Ok(Zeroizing::new(pin.to_owned()))
    }

    fn ask(&self, prompt: &str) -> Result<String, TerminalError> {
        self.say(prompt);
        Ok(self.words.lock().unwrap().pop().ok_or(TerminalError::Closed)?.to_owned())
    }

    fn has_left(&self) -> bool {
        self.left.load(Ordering::SeqCst)
    }
}

fn party() -> RelyingParty {
    RelyingParty::claimed(&"localhost:3080".parse().unwrap(), "localhost", "https://localhost:3080").unwrap()
}

fn judge() -> Webauthn {
    let origin = Url::parse("https://localhost:3080").unwrap();
    WebauthnBuilder::new("localhost", &origin).unwrap().build().unwrap()
}

fn keys<const N: usize>(keys: [Played; N]) -> UsbKeys<Plug> {
    UsbKeys { bus: Plug(keys.into_iter().map(Arc::new).collect()) }
}

/// Registers a second factor as authd does.
fn registered(keys: &UsbKeys<Plug>, person: &dyn Person) -> Result<Registered, KeyError> {
    let judge = judge();
    let begun = judge.start_securitykey_registration(Uuid::nil(), "jerry", "jerry", None, None, None);
    let (mut options, state) = begun.unwrap();
    if let Some(selection) = &mut options.public_key.authenticator_selection {
        selection.user_verification = UserVerificationPolicy::Discouraged_DO_NOT_USE;
    }
    let made = keys.register_with(person, &party(), options)?;
    Ok(judge.finish_securitykey_registration(&made, &state).unwrap())
}

/// Has it sign as a second factor; `verified`: with a PIN. True: authd's library takes it.
fn signs(
    keys: &UsbKeys<Plug>,
    registered: &Registered,
    verified: bool,
    person: &dyn Person,
) -> Result<bool, KeyError> {
    let judge = judge();
    let (mut options, state) =
        judge.start_securitykey_authentication(std::slice::from_ref(registered)).unwrap();
    options.public_key.user_verification = match verified {
        true => UserVerificationPolicy::Required,
        false => UserVerificationPolicy::Discouraged_DO_NOT_USE,
    };
    let signed = keys.assert_with(person, &party(), options)?;
    let judged = judge.finish_securitykey_authentication(&signed, &state);
    Ok(judged.is_ok_and(|result| result.user_verified() == verified))
}

#[test]
fn a_second_factor_is_registered_and_signs_for_the_challenge_it_was_given() {
    let keys = keys([Played::touched()]);
    let person = Somebody::default();
    let key = registered(&keys, &person).unwrap();
    assert!(signs(&keys, &key, false, &person).unwrap());
    assert_eq!(person.seen(), "", "one key and no PIN: nothing to say");
}

#[test]
fn a_pin_is_asked_for_where_the_person_must_be_verified_and_again_when_it_is_wrong() {
    let keys = keys([Played::with_pin("1234")]);
    let person = Somebody::with_pins(&["0000", "1234"]);
    let key = registered(&keys, &Somebody::default()).unwrap();
    assert!(signs(&keys, &key, true, &person).unwrap());
    let expected = "Enter your security key PIN:\nNow tap your security key\n\
        Wrong PIN; 7 attempts are left\n\
        Enter your security key PIN:\nNow tap your security key";
    assert_eq!(person.seen(), expected);
}

#[test]
fn a_key_that_insists_on_its_pin_gets_it_though_nobody_else_asked() {
    let keys = keys([Played { always_verifies: true, ..Played::with_pin("1234") }]);
    let key = registered(&keys, &Somebody::with_pins(&["1234"])).unwrap();
    let person = Somebody::with_pins(&["1234"]);
    assert!(signs(&keys, &key, true, &person).unwrap());
}

#[test]
fn a_fingerprint_needs_no_pin() {
    let keys = keys([Played::with_finger()]);
    let person = Somebody::default();
    let key = registered(&keys, &person).unwrap();
    assert!(signs(&keys, &key, true, &person).unwrap());
}

#[test]
fn what_stands_in_the_way_of_a_pin_is_told() {
    let refusal = |key: Played, pins: &[&'static str]| {
        let keys = keys([key]);
        let key = registered(&keys, &Somebody::default()).unwrap();
        signs(&keys, &key, true, &Somebody::with_pins(pins)).unwrap_err()
    };
    let without =
        Played { abilities: Abilities { pin_set: Some(false), ..Abilities::default() }, ..Played::touched() };
    assert!(matches!(refusal(without, &[]), KeyError::NoPin));
    assert!(matches!(refusal(Played::touched(), &[]), KeyError::NoVerification));
    let pause = ["1", "2", "3", "4"];
    assert!(matches!(refusal(Played::with_pin("1234"), &pause), KeyError::PinPaused));
    let last = Played { attempts: Mutex::new(1), ..Played::with_pin("1234") };
    assert!(matches!(refusal(last, &["1", "2"]), KeyError::PinBlocked));
}

#[test]
fn without_a_key_or_with_a_strangers_one_is_told_so() {
    let owner = keys([Played::touched()]);
    let person = Somebody::default();
    let key = registered(&owner, &person).unwrap();
    assert!(matches!(signs(&keys([]), &key, false, &person), Err(KeyError::NonePluggedIn)));
    let stranger = keys([Played::untouched()]);
    assert!(matches!(signs(&stranger, &key, false, &person), Err(KeyError::NotRegistered)));
    assert_eq!(stranger.bus.0[0].calls(), ["look"], "it never blinks");
}

#[test]
fn a_key_is_registered_once() {
    let keys = keys([Played::touched()]);
    let person = Somebody::default();
    let key = registered(&keys, &person).unwrap();
    let exclude = Some(vec![key.cred_id().clone()]);
    let (options, _) =
        judge().start_securitykey_registration(Uuid::nil(), "jerry", "jerry", exclude, None, None).unwrap();
    let again = keys.register_with(&person, &party(), options);
    assert!(matches!(again, Err(KeyError::RegisteredAlready)));
}

#[test]
fn of_several_keys_those_that_know_the_user_blink_and_the_first_touched_wins() {
    let keys = keys([Played::untouched(), Played::untouched(), Played::untouched()]);
    let [first, second, stranger] = [0, 1, 2].map(|n| Arc::clone(&keys.bus.0[n]));
    let own = |key: &Arc<Played>| {
        key.touch();
        let alone = UsbKeys { bus: Plug(vec![Arc::clone(key)]) };
        let made = registered(&alone, &Somebody::default()).unwrap();
        key.let_go();
        made
    };
    let (one, other) = (own(&first), own(&second));
    let (options, state) = judge().start_securitykey_authentication(&[one, other]).unwrap();
    second.touch();
    let person = Somebody::default();
    let mut options = options;
    options.public_key.user_verification = UserVerificationPolicy::Discouraged_DO_NOT_USE;
    let signed = keys.assert_with(&person, &party(), options).unwrap();
    assert!(judge().finish_securitykey_authentication(&signed, &state).is_ok());
    assert_eq!(person.seen(), "Several security keys are plugged in: touch the one that you want to use");
    assert!(first.was_cancelled() && !stranger.was_cancelled());
    assert_eq!(stranger.calls(), ["look"]);
}

#[test]
fn of_several_keys_the_one_that_is_touched_is_asked_for_its_pin() {
    let keys =
        keys([Played { touched: AtomicBool::new(false), ..Played::with_pin("1") }, Played::with_pin("1234")]);
    let (options, state) = judge().start_passkey_registration(Uuid::nil(), "jerry", "jerry", None).unwrap();
    let person = Somebody::with_pins(&["1234"]);
    let made = keys.register_with(&person, &party(), options).unwrap();
    assert!(judge().finish_passkey_registration(&made, &state).is_ok());
    assert!(keys.bus.0[0].was_cancelled());
    assert_eq!(keys.bus.0[1].calls(), ["select", "make"]);
}

#[test]
fn keys_that_cannot_be_chosen_by_a_touch_are_to_be_unplugged() {
    let old = || Played { selects: false, ..Played::with_pin("1234") };
    let keys = keys([old(), old()]);
    let (options, _) = judge().start_passkey_registration(Uuid::nil(), "jerry", "jerry", None).unwrap();
    let refused = keys.register_with(&Somebody::with_pins(&["1234"]), &party(), options);
    assert!(matches!(refused, Err(KeyError::Several)));
}

#[test]
fn a_passkey_says_who_is_there_and_of_several_accounts_the_person_says_which() {
    let keys = keys([Played::with_pin("1234")]);
    let judge = judge();
    let resident = |id: u128, name: &str| {
        let (mut options, state) =
            judge.start_passkey_registration(Uuid::from_u128(id), name, name, None).unwrap();
        options.public_key.authenticator_selection.as_mut().unwrap().require_resident_key = true;
        let made = keys.register_with(&Somebody::with_pins(&["1234"]), &party(), options).unwrap();
        judge.finish_passkey_registration(&made, &state).unwrap()
    };
    let jerry = resident(1, "jerry");
    let login = |person: &Somebody| {
        let (options, state) = judge.start_discoverable_authentication().unwrap();
        let signed = keys.assert_with(person, &party(), options)?;
        Ok::<_, KeyError>((signed, state))
    };
    let (signed, state) = login(&Somebody::with_pins(&["1234"])).unwrap();
    let (user, _) = judge.identify_discoverable_authentication(&signed).unwrap();
    assert_eq!(user, Uuid::from_u128(1));
    assert!(judge.finish_discoverable_authentication_v2(&signed, state, &jerry).is_ok());

    resident(2, "olga");
    let person = Somebody { words: Mutex::new(vec!["olga"]), ..Somebody::with_pins(&["1234"]) };
    let (signed, _) = login(&person).unwrap();
    assert_eq!(judge.identify_discoverable_authentication(&signed).unwrap().0, Uuid::from_u128(2));
    assert!(person.seen().ends_with("Choose an account [jerry, olga]: "), "{}", person.seen());
    let person = Somebody { words: Mutex::new(vec!["tom"]), ..Somebody::with_pins(&["1234"]) };
    assert!(matches!(login(&person), Err(KeyError::NotRegistered)));
}

#[test]
fn a_key_that_nobody_waits_for_is_told_to_stop() {
    let keys = keys([Played::touched()]);
    let key = registered(&keys, &Somebody::default()).unwrap();
    keys.bus.0[0].let_go();
    let gone = Somebody { left: AtomicBool::new(true), ..Somebody::default() };
    assert!(matches!(signs(&keys, &key, false, &gone), Err(KeyError::Withdrawn)));
    assert!(keys.bus.0[0].was_cancelled());
}

#[test]
fn a_key_that_loses_patience_is_asked_again() {
    let keys = keys([Played::touched()]);
    let key = registered(&keys, &Somebody::default()).unwrap();
    keys.bus.0[0].impatient.store(true, Ordering::SeqCst);
    assert!(signs(&keys, &key, false, &Somebody::default()).unwrap());
}

#[test]
fn neither_maker_nor_model_is_told_unless_they_are_asked_for() {
    let keys = keys([Played::touched()]);
    let model = |attestation: Option<AttestationConveyancePreference>| {
        let begun = judge().start_securitykey_registration(Uuid::nil(), "j", "j", None, None, None);
        let (mut options, _) = begun.unwrap();
        options.public_key.attestation = attestation;
        options.public_key.authenticator_selection = None;
        let made = keys.register_with(&Somebody::default(), &party(), options).unwrap();
        let object = made.response.attestation_object;
        object.windows(16).any(|window| window == played::MODEL)
    };
    assert!(!model(None));
    assert!(!model(Some(AttestationConveyancePreference::None)));
    assert!(model(Some(AttestationConveyancePreference::Direct)));
}

#[test]
fn a_cluster_that_takes_no_algorithm_of_ours_is_told_so_before_any_touch() {
    let keys = keys([Played::untouched()]);
    let begun = judge().start_securitykey_registration(Uuid::nil(), "j", "j", None, None, None);
    let (mut options, _) = begun.unwrap();
    options.public_key.pub_key_cred_params.retain(|kind| kind.alg != ES256);
    let refused = keys.register_with(&Somebody::default(), &party(), options);
    assert!(matches!(refused, Err(KeyError::NoAlgorithm)));
}
