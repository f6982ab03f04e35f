//! Security keys to plug in.

use anyhow::{Context, Result};
use http::Method;
use serde_json::{Value, json};

use super::Browser;

/// What kind of key.
#[derive(Clone, Copy, Debug)]
pub struct KeyOptions {
    /// Built into the machine, in place of one on USB.
    pub built_in: bool,
    /// Remembers whose credentials it has: what a passkey needs.
    pub remembers: bool,
    /// Asks for a PIN or a fingerprint, and gets the right one.
    pub verifies: bool,
}

impl KeyOptions {
    /// A plain key on USB: one touch, no PIN.
    pub const PLAIN: Self = Self { built_in: false, remembers: false, verifies: false };
    /// A key on USB with a PIN.
    pub const WITH_PIN: Self = Self { remembers: true, verifies: true, ..Self::PLAIN };
    /// The machine's own, with a fingerprint.
    pub const BUILT_IN: Self = Self { built_in: true, ..Self::WITH_PIN };
}

/// A key that is plugged in.
#[derive(Clone, Debug)]
pub struct Key(String);

impl Browser {
    /// Plugs in a new key.
    ///
    /// # Errors
    /// When the browser takes none.
    pub async fn plug_in(&self, options: KeyOptions) -> Result<Key> {
        let body = json!({
            "protocol": "ctap2", "transport": if options.built_in { "internal" } else { "usb" },
            "hasResidentKey": options.remembers, "hasUserVerification": options.verifies,
            "isUserVerified": options.verifies, "isUserConsenting": true,
        });
        let id = self.command(Method::POST, "webauthn/authenticator", Some(body)).await?;
        Ok(Key(id.as_str().context("id of the key")?.to_owned()))
    }

    /// Takes it out again, for good.
    ///
    /// # Errors
    /// When it is not plugged in.
    pub async fn unplug(&self, key: Key) -> Result<()> {
        let path = format!("webauthn/authenticator/{}", key.0);
        self.command(Method::DELETE, &path, None).await.map(drop)
    }

    /// Whether a key is touched whenever a page asks for one; otherwise it waits.
    ///
    /// # Errors
    /// When it is not plugged in.
    pub async fn let_touch(&self, key: &Key, touched: bool) -> Result<()> {
        let params = json!({"authenticatorId": key.0, "enabled": touched});
        self.devtools("WebAuthn.setAutomaticPresenceSimulation", params).await.map(drop)
    }

    /// Whether the PIN or the fingerprint that a key asks for is the right one.
    ///
    /// # Errors
    /// When it is not plugged in.
    pub async fn let_verify(&self, key: &Key, right: bool) -> Result<()> {
        let body = json!({"isUserVerified": right});
        let path = format!("webauthn/authenticator/{}/uv", key.0);
        self.command(Method::POST, &path, Some(body)).await.map(drop)
    }

    /// What a key has registered.
    ///
    /// # Errors
    /// When it is not plugged in.
    pub async fn credentials(&self, key: &Key) -> Result<Vec<Value>> {
        let path = format!("webauthn/authenticator/{}/credentials", key.0);
        Ok(serde_json::from_value(self.command(Method::GET, &path, None).await?)?)
    }
}
