//! Proving who is there: what a challenge is answered with, and what must hold before anybody touches a key.

mod browser;
mod ceremony;
mod intent;
mod opener;
mod relying_party;
mod security_key;
#[cfg(feature = "danger-software-key")]
mod software_key;
#[cfg(feature = "usb")]
mod usb;
mod way;

pub use browser::PageError;
pub use ceremony::{MfaError, Prompter};
pub use intent::{Asked, Challenge, IntentError, Reason};
pub use relying_party::{RelyingParty, RelyingPartyError};
pub(crate) use security_key::missing;
pub use security_key::{KeyError, Person, SecurityKey, plugged_in};
pub use way::{Mode, Whose};
