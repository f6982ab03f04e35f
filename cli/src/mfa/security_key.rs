//! What a security key can do, whatever it is plugged into.

use std::sync::Arc;

use webauthn_rs_proto::{
    CreationChallengeResponse, PublicKeyCredential, RegisterPublicKeyCredential, RequestChallengeResponse,
};
use zeroize::Zeroizing;

use super::RelyingParty;
use crate::terminal::TerminalError;

/// Why a key did not answer.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key knows none of the credentials asked for.
    #[error("this security key is not registered here")]
    NotRegistered,
    /// The key was registered by this user before.
    #[error("this security key is registered already, plug in another one")]
    RegisteredAlready,
    /// There is none any more.
    #[error("no security key is plugged in")]
    NonePluggedIn,
    /// There is one that this user of the machine may not open.
    #[error(
        "a security key is plugged in, but may not be used by you: the rules of udev for FIDO devices are missing"
    )]
    NotAllowed,
    /// Eight wrong PINs, ever.
    #[error(
        "the PIN of this security key is blocked after too many wrong ones; the key must be reset, which erases it"
    )]
    PinBlocked,
    /// Three wrong PINs in a row.
    #[error("three wrong PINs: unplug the security key, plug it in again, and try once more")]
    PinPaused,
    /// A PIN is needed, and the key has none.
    #[error(
        "this needs the PIN of the security key, and it has none yet: set one with its maker's tool or in a browser"
    )]
    NoPin,
    /// The key can ask for neither PIN nor fingerprint.
    #[error("this security key can ask for neither a PIN nor a fingerprint, which is needed here")]
    NoVerification,
    /// It has no room for another passkey.
    #[error("there is no room for another passkey in this security key")]
    Full,
    /// The key makes no key of a kind that the cluster takes.
    #[error("this security key cannot make a key of a kind that is accepted here")]
    NoAlgorithm,
    /// Several are plugged in, of which none can be chosen by a touch.
    #[error("several security keys are plugged in: leave the one that you want")]
    Several,
    /// Nobody touched it in time.
    #[error("nobody touched the security key in time")]
    TimedOut,
    /// The person answered otherwise, or left.
    #[error("the security key is not needed any more")]
    Withdrawn,
    /// The PIN could not be asked for.
    #[error(transparent)]
    Terminal(#[from] TerminalError),
    /// The key, or what carries it, failed.
    #[error("the security key failed: {what}")]
    Failed {
        /// What it said.
        what: String,
    },
    /// Its file cannot be used.
    #[error("the software security key cannot be used")]
    File(#[from] std::io::Error),
}

/// Who uses a key: shown what to do, and asked for what the key wants to know.
pub trait Person: Send + Sync {
    /// Shows one line.
    fn say(&self, line: &str);

    /// Asks for a PIN, without showing it.
    ///
    /// # Errors
    /// Nobody answers.
    fn pin(&self, prompt: &str) -> Result<Zeroizing<String>, TerminalError>;

    /// Asks for a word.
    ///
    /// # Errors
    /// Nobody answers.
    fn ask(&self, prompt: &str) -> Result<String, TerminalError>;

    /// True once nobody waits for the key any more.
    fn has_left(&self) -> bool;
}

/// A security key. Calls block until somebody has touched it; they run off the async threads.
pub trait SecurityKey: Send + Sync {
    /// Makes a new credential (WebAuthn Level 2, 6.3.2).
    ///
    /// # Errors
    /// [`KeyError`].
    fn register(
        &self,
        party: &RelyingParty,
        options: CreationChallengeResponse,
    ) -> Result<RegisterPublicKeyCredential, KeyError>;

    /// Signs a challenge with a credential made before (WebAuthn Level 2, 6.3.3).
    ///
    /// # Errors
    /// [`KeyError`].
    fn assert(
        &self,
        party: &RelyingParty,
        options: RequestChallengeResponse,
    ) -> Result<PublicKeyCredential, KeyError>;

    /// As [`register`](Self::register), with somebody who can be asked for a PIN.
    ///
    /// # Errors
    /// [`KeyError`].
    fn register_with(
        &self,
        _: &dyn Person,
        party: &RelyingParty,
        options: CreationChallengeResponse,
    ) -> Result<RegisterPublicKeyCredential, KeyError> {
        self.register(party, options)
    }

    /// As [`assert`](Self::assert), with somebody who can be asked for a PIN.
    ///
    /// # Errors
    /// [`KeyError`].
    fn assert_with(
        &self,
        _: &dyn Person,
        party: &RelyingParty,
        options: RequestChallengeResponse,
    ) -> Result<PublicKeyCredential, KeyError> {
        self.assert(party, options)
    }

    /// Shown after each use: what a person should know about this kind of key.
    fn warning(&self) -> Option<&str>;
}

/// The security keys that this build can use and that are plugged in now, where there is any. The software key is in builds
/// with `danger-software-key` alone, and comes before all others there.
#[must_use]
pub fn plugged_in() -> Option<Arc<dyn SecurityKey>> {
    #[cfg(feature = "danger-software-key")]
    if let Some(key) = super::software_key::SoftwareKey::from_environment() {
        return Some(Arc::new(key));
    }
    #[cfg(feature = "usb")]
    return super::usb::plugged_in();
    #[cfg(not(feature = "usb"))]
    None
}

/// Why no key is there to be touched, and what to do `instead`. Who has a key plugged in is not told to plug it in.
pub(crate) fn missing(instead: &str) -> String {
    why_missing(cfg!(feature = "usb"), instead)
}

fn why_missing(reads_usb: bool, instead: &str) -> String {
    match reads_usb {
        true => format!("no security key is plugged in; plug it in, or {instead}"),
        false => format!("this tsh was built without USB, so it sees no security key; {instead}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_be_seen_is_not_told_to_plug_a_key_in() {
        let browser = "approve in a browser: --mfa-mode=browser";
        assert_eq!(
            why_missing(true, browser),
            "no security key is plugged in; plug it in, or approve in a browser: --mfa-mode=browser"
        );
        assert_eq!(
            why_missing(false, browser),
            "this tsh was built without USB, so it sees no security key; approve in a browser: --mfa-mode=browser"
        );
    }
}
