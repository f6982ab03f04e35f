//! Message numbers (RFC 4250 §4.1) and a few fixed messages.

use super::wire::Put;

pub(super) const DISCONNECT: u8 = 1;
pub(super) const IGNORE: u8 = 2;
pub(super) const UNIMPLEMENTED: u8 = 3;
pub(super) const DEBUG: u8 = 4;
pub(super) const SERVICE_REQUEST: u8 = 5;
pub(super) const SERVICE_ACCEPT: u8 = 6;
pub(super) const EXT_INFO: u8 = 7;
pub(super) const KEXINIT: u8 = 20;
pub(super) const NEWKEYS: u8 = 21;
pub(super) const KEX_ECDH_INIT: u8 = 30;
pub(super) const KEX_ECDH_REPLY: u8 = 31;
pub(super) const USERAUTH_REQUEST: u8 = 50;
pub(super) const USERAUTH_FAILURE: u8 = 51;
pub(super) const USERAUTH_SUCCESS: u8 = 52;
pub(super) const USERAUTH_BANNER: u8 = 53;
pub(super) const USERAUTH_PK_OK: u8 = 60;
pub(super) const USERAUTH_INFO_REQUEST: u8 = 60;
pub(super) const USERAUTH_INFO_RESPONSE: u8 = 61;
pub(super) const GLOBAL_REQUEST: u8 = 80;
pub(super) const REQUEST_SUCCESS: u8 = 81;
pub(super) const REQUEST_FAILURE: u8 = 82;
pub(super) const CHANNEL_OPEN: u8 = 90;
pub(super) const CHANNEL_OPEN_CONFIRMATION: u8 = 91;
pub(super) const CHANNEL_OPEN_FAILURE: u8 = 92;
pub(super) const CHANNEL_WINDOW_ADJUST: u8 = 93;
pub(super) const CHANNEL_DATA: u8 = 94;
pub(super) const CHANNEL_EXTENDED_DATA: u8 = 95;
pub(super) const CHANNEL_EOF: u8 = 96;
pub(super) const CHANNEL_CLOSE: u8 = 97;
pub(super) const CHANNEL_REQUEST: u8 = 98;
pub(super) const CHANNEL_SUCCESS: u8 = 99;
pub(super) const CHANNEL_FAILURE: u8 = 100;

/// Why a connection is ended (RFC 4253 §11.1).
pub(super) mod reason {
    pub(in crate::ssh) const PROTOCOL_ERROR: u32 = 2;
    pub(in crate::ssh) const SERVICE_NOT_AVAILABLE: u32 = 7;
    pub(in crate::ssh) const BY_APPLICATION: u32 = 11;
    pub(in crate::ssh) const TOO_MANY_CONNECTIONS: u32 = 12;
    pub(in crate::ssh) const NO_MORE_AUTH_METHODS: u32 = 14;
}

/// Why a channel is not opened (RFC 4254 §5.1).
pub(super) mod open {
    pub(in crate::ssh) const PROHIBITED: u32 = 1;
    pub(in crate::ssh) const UNKNOWN_TYPE: u32 = 3;
    pub(in crate::ssh) const RESOURCE_SHORTAGE: u32 = 4;
}

/// The last message.
pub(super) fn disconnect(reason: u32, text: &str) -> Vec<u8> {
    let mut packet = vec![DISCONNECT];
    packet.put_u32(reason);
    packet.put_string(text.as_bytes());
    packet.put_string(b"");
    packet
}

/// "No" to a login attempt; `methods` may go on.
pub(super) fn login_failure(methods: &str, partial: bool) -> Vec<u8> {
    let mut packet = vec![USERAUTH_FAILURE];
    packet.put_string(methods.as_bytes());
    packet.put_bool(partial);
    packet
}

/// "No" to a channel.
pub(super) fn open_failure(recipient: u32, reason: u32, text: &str) -> Vec<u8> {
    let mut packet = vec![CHANNEL_OPEN_FAILURE];
    packet.put_u32(recipient);
    packet.put_u32(reason);
    packet.put_string(text.as_bytes());
    packet.put_string(b"");
    packet
}

/// A message about a channel that says nothing else.
pub(super) fn about(number: u8, recipient: u32) -> [u8; 5] {
    let [a, b, c, d] = recipient.to_be_bytes();
    [number, a, b, c, d]
}
