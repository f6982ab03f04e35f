//! Proving who is there: what a challenge is answered with, and what must hold before anybody touches a key.

mod ceremony;
mod intent;
mod relying_party;
mod security_key;
#[cfg(feature = "danger-software-key")]
mod software_key;

pub use ceremony::{MfaError, Mode, Prompter, Whose};
pub use intent::{Asked, Challenge, IntentError, Reason};
pub use relying_party::{RelyingParty, RelyingPartyError};
pub use security_key::{KeyError, SecurityKey, plugged_in};
