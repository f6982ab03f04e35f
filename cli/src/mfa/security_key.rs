//! What a security key can do, whatever it is plugged into.

use std::sync::Arc;

use webauthn_rs_proto::{
    CreationChallengeResponse, PublicKeyCredential, RegisterPublicKeyCredential, RequestChallengeResponse,
};

use super::RelyingParty;

/// Why a key did not answer.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key knows none of the credentials asked for.
    #[error("this security key is not registered here")]
    NotRegistered,
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

    /// Shown after each use: what a person should know about this kind of key.
    fn warning(&self) -> Option<&str>;
}

/// The security key that this build can use on this machine, where there is one. The software key is in builds with
/// `danger-software-key` alone.
#[must_use]
pub fn plugged_in() -> Option<Arc<dyn SecurityKey>> {
    #[cfg(feature = "danger-software-key")]
    {
        super::software_key::SoftwareKey::from_environment().map(|key| Arc::new(key) as Arc<dyn SecurityKey>)
    }
    #[cfg(not(feature = "danger-software-key"))]
    {
        None
    }
}
