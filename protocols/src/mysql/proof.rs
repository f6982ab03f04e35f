//! What a client is asked in the place of a password.
//!
//! The certificate is the proof, and whatever the client answers here is thrown away. But a client waits for OK
//! in the words of the plugin that it is about to use, so each is met in its own:
//!
//! ```text
//! named in its response       asked
//! caching_sha2_password       nothing: the greeting asked already. A scramble is answered "fast" before OK
//! mysql_native_password       AuthSwitchRequest to the same, because the greeting was another plugin's
//! plugins of MariaDB's own    the same: all of its clients know that one
//! any other, clear text too   AuthSwitchRequest to caching_sha2_password: no password is ever asked in clear
//! none (clients before 5.5.7) nothing
//! ```

use super::capabilities::Capabilities;
use super::greeting::{PLUGIN, SCRAMBLE};
use super::handshake::HandshakeResponse;

/// The plugin of clients that know nothing newer.
pub(super) const NATIVE: &[u8] = b"mysql_native_password";

/// Plugins that MariaDB's clients alone have.
const OF_MARIADB: [&[u8]; 4] = [b"client_ed25519", b"dialog", b"auth_gssapi_client", b"parsec"];

/// The first byte of AuthSwitchRequest.
pub(super) const SWITCH: u8 = 0xFE;

/// How a client comes to wait for OK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// It waits already.
    Given(Waiting),
    /// It is asked to answer once more, by this plugin.
    Switch(&'static [u8]),
}

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// OK.
    Ok,
    /// "Your scramble was right", and then OK (`caching_sha2_password`).
    FastThenOk,
}

impl Proof {
    /// What `response` needs.
    pub(super) fn of(response: &HandshakeResponse<'_>) -> Self {
        if !response.settings.capabilities.contains(Capabilities::PLUGIN_AUTH) {
            return Self::Given(Waiting::Ok);
        }
        match response.plugin.unwrap_or_default() {
            PLUGIN => Self::Given(Waiting::after(PLUGIN, response.auth)),
            b"" | NATIVE => Self::Switch(NATIVE),
            plugin if OF_MARIADB.contains(&plugin) => Self::Switch(NATIVE),
            _ => Self::Switch(PLUGIN),
        }
    }
}

impl Waiting {
    /// What a client waits for that answered so. One without a password says so by nothing, or by a NUL.
    pub(super) fn after(plugin: &[u8], answer: &[u8]) -> Self {
        if plugin == PLUGIN && !matches!(answer, [] | [0]) { Self::FastThenOk } else { Self::Ok }
    }
}

/// AuthSwitchRequest: the payload (MySQL `Protocol::AuthSwitchRequest`).
pub(super) fn switch(plugin: &[u8], scramble: &[u8; SCRAMBLE]) -> Vec<u8> {
    [&[SWITCH], plugin, &[0], scramble, &[0]].concat()
}

#[cfg(test)]
mod tests {
    use crate::mysql::handshake::ClientSettings;

    use super::*;

    fn proof(plugin: Option<&[u8]>, auth: &[u8]) -> Proof {
        let capabilities = if plugin.is_some() { Capabilities::PLUGIN_AUTH } else { Capabilities::NONE };
        let settings = ClientSettings { capabilities, ..ClientSettings::default() };
        let (user, database) = (&b"alice"[..], None);
        Proof::of(&HandshakeResponse {
            settings,
            user,
            auth,
            database,
            plugin,
            attributes: b"",
            zstd_level: 0,
        })
    }

    #[test]
    fn every_client_is_met_in_the_words_of_its_own_plugin() {
        let (sha2, native) = (Some(PLUGIN), Some(NATIVE));
        for (plugin, auth, expected) in [
            (sha2, &[7; 32][..], Proof::Given(Waiting::FastThenOk)),
            (sha2, b"", Proof::Given(Waiting::Ok)),
            (sha2, b"\0", Proof::Given(Waiting::Ok)),
            (native, &[7; 20], Proof::Switch(NATIVE)),
            (native, b"", Proof::Switch(NATIVE)),
            (Some(b""), b"", Proof::Switch(NATIVE)),
            (Some(b"client_ed25519"), b"", Proof::Switch(NATIVE)),
            (Some(b"dialog"), b"", Proof::Switch(NATIVE)),
            (Some(b"sha256_password"), b"\x01", Proof::Switch(PLUGIN)),
            (Some(b"\xff unheard of"), b"", Proof::Switch(PLUGIN)),
            (None, &[7; 20], Proof::Given(Waiting::Ok)),
        ] {
            assert_eq!(proof(plugin, auth), expected);
        }
    }

    #[test]
    fn a_client_that_says_its_password_in_clear_is_asked_for_a_scramble() {
        assert_eq!(proof(Some(b"mysql_clear_password"), b"secret\0"), Proof::Switch(PLUGIN));
    }

    #[test]
    fn a_switch_is_answered_as_its_plugin_has_it() {
        assert_eq!(Waiting::after(PLUGIN, &[7; 32]), Waiting::FastThenOk);
        assert_eq!(Waiting::after(PLUGIN, b"\0"), Waiting::Ok);
        assert_eq!(Waiting::after(NATIVE, &[7; 20]), Waiting::Ok);
        assert_eq!(switch(NATIVE, &[b'x'; 20]), b"\xfemysql_native_password\0xxxxxxxxxxxxxxxxxxxx\0");
    }
}
