//! A key that is played: it keeps credentials, knows its PIN, and is touched when the test says so.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::{self, SystemRandom},
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};

use super::super::authenticator::{
    Abilities, Authenticator, Bus, CtapError, Made, Make, Sign, Signed, Verification,
};
use crate::mfa::KeyError;

pub(super) const MODEL: &[u8; 16] = b"a played key ...";

/// Longer than any test waits for a touch that does not come.
const NEVER: Duration = Duration::from_secs(30);

/// What is plugged in.
pub(super) struct Plug(pub(super) Vec<Arc<Played>>);

impl Bus for Plug {
    type Key = Played;

    fn keys(&self) -> Result<Vec<Arc<Played>>, KeyError> {
        Ok(self.0.clone())
    }
}

pub(super) struct Credential {
    id: Vec<u8>,
    rp_id: String,
    user_id: Vec<u8>,
    user_name: String,
    resident: bool,
    pair: EcdsaKeyPair,
}

pub(super) struct Played {
    pub(super) abilities: Abilities,
    pub(super) pin: Option<&'static str>,
    /// Wrong PINs that it takes before it is blocked.
    pub(super) attempts: Mutex<u32>,
    pub(super) wrong_in_a_row: AtomicU32,
    /// Does nothing without PIN or finger.
    pub(super) always_verifies: bool,
    pub(super) selects: bool,
    pub(super) touched: AtomicBool,
    /// Gives up waiting once.
    pub(super) impatient: AtomicBool,
    pub(super) cancelled: (Mutex<bool>, Condvar),
    pub(super) credentials: Mutex<Vec<Credential>>,
    pub(super) counter: AtomicU32,
    pub(super) calls: Mutex<Vec<&'static str>>,
}

impl Played {
    /// Somebody's finger lies on it.
    pub(super) fn touched() -> Self {
        Self {
            abilities: Abilities::default(),
            pin: None,
            attempts: Mutex::new(8),
            wrong_in_a_row: AtomicU32::new(0),
            always_verifies: false,
            selects: true,
            touched: AtomicBool::new(true),
            impatient: AtomicBool::new(false),
            cancelled: (Mutex::new(false), Condvar::new()),
            credentials: Mutex::default(),
            counter: AtomicU32::new(0),
            calls: Mutex::default(),
        }
    }

    pub(super) fn untouched() -> Self {
        Self { touched: AtomicBool::new(false), ..Self::touched() }
    }

    pub(super) fn with_pin(pin: &'static str) -> Self {
        let abilities = Abilities { pin_set: Some(true), ..Abilities::default() };
        Self { abilities, pin: Some(pin), ..Self::touched() }
    }

    pub(super) fn with_finger() -> Self {
        let abilities = Abilities { built_in_verification: true, ..Abilities::default() };
        Self { abilities, ..Self::touched() }
    }

    pub(super) fn touch(&self) {
        self.touched.store(true, Ordering::SeqCst);
    }

    pub(super) fn let_go(&self) {
        self.touched.store(false, Ordering::SeqCst);
        self.calls.lock().unwrap().clear();
    }

    pub(super) fn was_cancelled(&self) -> bool {
        *self.cancelled.0.lock().unwrap()
    }

    pub(super) fn calls(&self) -> Vec<&'static str> {
        self.calls.lock().unwrap().clone()
    }

    fn call(&self, name: &'static str) {
        self.calls.lock().unwrap().push(name);
    }

    fn wait_for_touch(&self) -> Result<(), CtapError> {
        if self.impatient.swap(false, Ordering::SeqCst) {
            return Err(CtapError::USER_ACTION_TIMEOUT);
        }
        if self.touched.load(Ordering::SeqCst) {
            return Ok(());
        }
        let (cancelled, told) = &self.cancelled;
        let waiting = cancelled.lock().unwrap();
        drop(told.wait_timeout_while(waiting, NEVER, |cancelled| !*cancelled).unwrap());
        Err(CtapError::Status(0x2d))
    }

    /// True: verified.
    fn verify(&self, verification: &Verification) -> Result<bool, CtapError> {
        match verification {
            Verification::None if self.always_verifies => Err(CtapError::PIN_REQUIRED),
            Verification::None => Ok(false),
            Verification::BuiltIn => Ok(true),
            Verification::Pin(pin) => self.try_pin(pin).map(|()| true),
        }
    }

    fn try_pin(&self, pin: &str) -> Result<(), CtapError> {
        let mut attempts = self.attempts.lock().unwrap();
        if *attempts == 0 {
            return Err(CtapError::PIN_BLOCKED);
        }
        if self.wrong_in_a_row.load(Ordering::SeqCst) == 3 {
            return Err(CtapError::PIN_AUTH_BLOCKED);
        }
        if self.pin == Some(pin) {
            self.wrong_in_a_row.store(0, Ordering::SeqCst);
            return Ok(());
        }
        *attempts -= 1;
        self.wrong_in_a_row.fetch_add(1, Ordering::SeqCst);
        Err(CtapError::PIN_INVALID)
    }

    fn head(&self, rp_id: &str, flags: u8) -> Vec<u8> {
        let counter = self.counter.fetch_add(1, Ordering::SeqCst) + 1;
        let mut data = digest(&SHA256, rp_id.as_bytes()).as_ref().to_vec();
        data.push(flags);
        data.extend(counter.to_be_bytes());
        data
    }
}

fn sign(pair: &EcdsaKeyPair, data: &[u8], client_data: &[u8]) -> Vec<u8> {
    let signed = [data, digest(&SHA256, client_data).as_ref()].concat();
    pair.sign(&SystemRandom::new(), &signed).unwrap().as_ref().to_vec()
}

impl Authenticator for Played {
    fn abilities(&self) -> Abilities {
        self.abilities
    }

    fn make(&self, make: &Make, verification: &Verification) -> Result<Made, CtapError> {
        self.call("make");
        let verified = self.verify(verification)?;
        self.wait_for_touch()?;
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let mut id = vec![0; 32];
        rand::fill(&mut id).unwrap();
        let mut data = self.head(&make.rp_id, 0x41 | if verified { 0x04 } else { 0 });
        data.extend(MODEL);
        data.extend([0, 32]);
        data.extend(&id);
        let point = pair.public_key().as_ref();
        data.extend([0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20]);
        data.extend(&point[1..33]);
        data.extend([0x22, 0x58, 0x20]);
        data.extend(&point[33..]);
        let signature = sign(&pair, &data, &make.client_data);
        let (rp_id, user_id, user_name) = (make.rp_id.clone(), make.user_id.clone(), make.user_name.clone());
        let resident = make.resident;
        self.credentials.lock().unwrap().push(Credential { id, rp_id, user_id, user_name, resident, pair });
        let format = "packed".to_owned();
        Ok(Made { authenticator_data: data, format, algorithm: -7, signature, certificates: Vec::new() })
    }

    fn sign(&self, ask: &Sign, verification: &Verification) -> Result<Vec<Signed>, CtapError> {
        self.call(if ask.touch { "sign" } else { "look" });
        let credentials = self.credentials.lock().unwrap();
        let known: Vec<&Credential> = credentials
            .iter()
            .filter(|known| known.rp_id == ask.rp_id)
            .filter(|known| if ask.allow.is_empty() { known.resident } else { ask.allow.contains(&known.id) })
            .collect();
        if known.is_empty() {
            return Err(CtapError::NO_CREDENTIALS);
        }
        let verified = ask.touch && self.verify(verification)?;
        if ask.touch {
            self.wait_for_touch()?;
        }
        let flags = u8::from(ask.touch) | if verified { 0x04 } else { 0 };
        let signed = known.into_iter().map(|known| {
            let data = self.head(&ask.rp_id, flags);
            Signed {
                // As keys may where there is no doubt.
                credential_id: if ask.allow.len() == 1 { Vec::new() } else { known.id.clone() },
                signature: sign(&known.pair, &data, &ask.client_data),
                authenticator_data: data,
                user_id: if known.resident { known.user_id.clone() } else { Vec::new() },
                user_name: known.user_name.clone(),
            }
        });
        Ok(signed.collect())
    }

    fn select(&self) -> Result<(), CtapError> {
        self.call("select");
        if !self.selects {
            return Err(CtapError::INVALID_COMMAND);
        }
        self.wait_for_touch()
    }

    fn pin_attempts_left(&self) -> Option<u32> {
        Some(*self.attempts.lock().unwrap())
    }

    fn cancel(&self) {
        *self.cancelled.0.lock().unwrap() = true;
        self.cancelled.1.notify_all();
    }
}
