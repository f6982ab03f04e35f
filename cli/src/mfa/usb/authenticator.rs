//! One security key, as CTAP2 has it (CTAP 2.1, 6): what it is asked and what it answers.

use std::{fmt, sync::Arc};

use zeroize::Zeroizing;

use crate::mfa::KeyError;

/// What keys are plugged into.
pub(super) trait Bus: Send + Sync {
    type Key: Authenticator;

    /// The keys that are there now and can be used.
    fn keys(&self) -> Result<Vec<Arc<Self::Key>>, KeyError>;
}

/// A key. Calls block until it has answered, a touch included.
pub(super) trait Authenticator: Send + Sync + 'static {
    /// authenticatorGetInfo.
    fn abilities(&self) -> Abilities;

    /// authenticatorMakeCredential.
    fn make(&self, make: &Make, verification: &Verification) -> Result<Made, CtapError>;

    /// authenticatorGetAssertion, and GetNextAssertion as often as there is another.
    fn sign(&self, sign: &Sign, verification: &Verification) -> Result<Vec<Signed>, CtapError>;

    /// authenticatorSelection: ends with a touch.
    fn select(&self) -> Result<(), CtapError>;

    /// How many wrong PINs it still takes.
    fn pin_attempts_left(&self) -> Option<u32>;

    /// Ends what another thread waits for.
    fn cancel(&self);
}

/// What a key can verify people with.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Abilities {
    /// A fingerprint reader that knows a finger.
    pub(super) built_in_verification: bool,
    /// Whether it has a PIN; `None`: it can have none.
    pub(super) pin_set: Option<bool>,
}

/// How the person is verified, beside the touch.
pub(super) enum Verification {
    None,
    /// By the key itself.
    BuiltIn,
    Pin(Zeroizing<String>),
}

/// What a new credential is for. The key signs for the SHA-256 of the client data.
#[derive(Clone, Debug)]
pub(super) struct Make {
    pub(super) rp_id: String,
    pub(super) client_data: Vec<u8>,
    pub(super) user_id: Vec<u8>,
    pub(super) user_name: String,
    pub(super) user_display_name: String,
    pub(super) exclude: Vec<Vec<u8>>,
    /// It stays in the key, so that the key can say who is there.
    pub(super) resident: bool,
}

/// A new credential.
#[derive(Clone, Debug)]
pub(super) struct Made {
    /// Authenticator data (WebAuthn Level 2, 6.1), the credential in it.
    pub(super) authenticator_data: Vec<u8>,
    /// `packed`, `fido-u2f` or `none`.
    pub(super) format: String,
    pub(super) algorithm: i64,
    pub(super) signature: Vec<u8>,
    /// The maker's certificate and those above it, DER.
    pub(super) certificates: Vec<Vec<u8>>,
}

/// What is to be signed: as for [`Make`], the SHA-256 of the client data.
#[derive(Clone, Debug)]
pub(super) struct Sign {
    pub(super) rp_id: String,
    pub(super) client_data: Vec<u8>,
    pub(super) allow: Vec<Vec<u8>>,
    /// Somebody must touch. Without, nothing is proved: it only says whether the key knows a credential.
    pub(super) touch: bool,
}

/// A signature.
#[derive(Clone, Debug)]
pub(super) struct Signed {
    /// May be empty where only one was allowed.
    pub(super) credential_id: Vec<u8>,
    pub(super) authenticator_data: Vec<u8>,
    pub(super) signature: Vec<u8>,
    /// Of a credential that stays in the key; else empty.
    pub(super) user_id: Vec<u8>,
    pub(super) user_name: String,
}

/// Why a key refused: its status (CTAP 2.1, 8.2), or what failed on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CtapError {
    Status(u8),
    Failed(String),
}

impl CtapError {
    pub(super) const INVALID_COMMAND: Self = Self::Status(0x01);
    pub(super) const TIMEOUT: Self = Self::Status(0x05);
    pub(super) const EXCLUDED: Self = Self::Status(0x19);
    pub(super) const INVALID_CREDENTIAL: Self = Self::Status(0x22);
    pub(super) const UNSUPPORTED_ALGORITHM: Self = Self::Status(0x26);
    pub(super) const KEY_STORE_FULL: Self = Self::Status(0x28);
    pub(super) const NO_CREDENTIALS: Self = Self::Status(0x2e);
    pub(super) const USER_ACTION_TIMEOUT: Self = Self::Status(0x2f);
    pub(super) const PIN_INVALID: Self = Self::Status(0x31);
    pub(super) const PIN_BLOCKED: Self = Self::Status(0x32);
    pub(super) const PIN_AUTH_BLOCKED: Self = Self::Status(0x34);
    pub(super) const PIN_NOT_SET: Self = Self::Status(0x35);
    pub(super) const PIN_REQUIRED: Self = Self::Status(0x36);
    pub(super) const ACTION_TIMEOUT: Self = Self::Status(0x3a);
    pub(super) const UV_BLOCKED: Self = Self::Status(0x3c);
    pub(super) const UV_INVALID: Self = Self::Status(0x3f);

    /// Nobody touched it as long as it waits by itself, some 30 seconds.
    pub(super) fn is_impatience(&self) -> bool {
        [Self::TIMEOUT, Self::USER_ACTION_TIMEOUT, Self::ACTION_TIMEOUT].contains(self)
    }
}

impl fmt::Display for CtapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status 0x{status:02x}"),
            Self::Failed(what) => f.write_str(what),
        }
    }
}
