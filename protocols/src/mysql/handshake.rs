//! The client's handshake response: parsed strictly, because what policy decides about must be exactly what the
//! upstream will read (MySQL `Protocol::HandshakeResponse41`).

use crate::reader::{Reader, Short};

use super::capabilities::Capabilities;

/// Bytes in front of the user name: flags, longest packet, charset, and 23 that are reserved, the last four of
/// which are MariaDB's extended flags.
const FIXED: usize = 32;

/// A handshake response, as it came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct HandshakeResponse<'a> {
    pub(super) settings: ClientSettings,
    pub(super) user: &'a [u8],
    /// A scramble, or, from a client that should not, a password.
    pub(super) auth: &'a [u8],
    pub(super) database: Option<&'a [u8]>,
    pub(super) plugin: Option<&'a [u8]>,
    /// Connection attributes, without the length in front of them.
    pub(super) attributes: &'a [u8],
    /// 0 where it did not ask for zstd.
    pub(super) zstd_level: u8,
}

/// What the client says of itself in front of its name; an SSLRequest is this and nothing more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ClientSettings {
    pub(super) capabilities: Capabilities,
    /// Bytes of the longest packet that it takes.
    pub(super) max_packet: u32,
    /// The low byte of its collation's number.
    pub(super) charset: u8,
}

impl ClientSettings {
    /// What is in front of everything else.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Short> {
        let flags = reader.u32_le()?;
        let max_packet = reader.u32_le()?;
        let charset = reader.u8()?;
        reader.take(19)?;
        let extended = reader.u32_le()?;
        // A client that knows nothing of MariaDB may leave anything in reserved bytes.
        let extended = if flags & Capabilities::LONG_PASSWORD.flags() == 0 { extended } else { 0 };
        Ok(Self { capabilities: Capabilities::new(flags, extended), max_packet, charset })
    }

    /// The same, for the upstream.
    pub(super) fn write(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.capabilities.flags().to_le_bytes());
        into.extend_from_slice(&self.max_packet.to_le_bytes());
        into.push(self.charset);
        into.extend_from_slice(&[0; 19]);
        into.extend_from_slice(&self.capabilities.extended().to_le_bytes());
    }
}

/// True for a payload that is an SSLRequest: a handshake response that ends where the name would begin.
pub(super) fn is_ssl_request(payload: &[u8]) -> bool {
    let settings = ClientSettings::read(&mut Reader::new(payload));
    payload.len() == FIXED && settings.is_ok_and(|said| said.capabilities.contains(Capabilities::SSL))
}

/// True for the handshake response of a client from before 4.1, which is laid out otherwise.
pub(super) fn is_outdated(payload: &[u8]) -> bool {
    Reader::new(payload)
        .u16_le()
        .is_ok_and(|flags| !Capabilities::new(flags.into(), 0).contains(Capabilities::NEEDED))
}

impl<'a> HandshakeResponse<'a> {
    /// Reads what a client says. `offered` decides what it can have meant: a flag that was not offered is none,
    /// because MySQL's own clients set some of them always, and mean them only where they were offered.
    pub(super) fn parse(payload: &'a [u8], offered: Capabilities) -> Result<Self, Short> {
        let mut reader = Reader::new(payload);
        let mut settings = ClientSettings::read(&mut reader)?;
        settings.capabilities = settings.capabilities.and(offered);
        let can = |flag| settings.capabilities.contains(flag);
        if !can(Capabilities::NEEDED) {
            return Err(Short);
        }
        let user = reader.text()?;
        let auth = if can(Capabilities::PLUGIN_AUTH_LENENC) {
            sized(&mut reader)?
        } else {
            let length = reader.u8()?;
            reader.take(length.into())?
        };
        let database = if can(Capabilities::CONNECT_WITH_DB) { Some(reader.text()?) } else { None };
        let plugin = if can(Capabilities::PLUGIN_AUTH) { Some(reader.text()?) } else { None };
        let attributes = if can(Capabilities::CONNECT_ATTRS) { sized(&mut reader)? } else { &[] };
        let zstd_level = if can(Capabilities::ZSTD) { reader.u8()? } else { 0 };
        Ok(Self { settings, user, auth, database, plugin, attributes, zstd_level })
    }

    /// The same, for the upstream; `parse` reads it back.
    pub(super) fn write(&self, into: &mut Vec<u8>) {
        let can = |flag| self.settings.capabilities.contains(flag);
        self.settings.write(into);
        put_text(into, self.user);
        if can(Capabilities::PLUGIN_AUTH_LENENC) {
            put_sized(into, self.auth);
        } else {
            // What we answer with is far below 256 bytes: a hash, a signature, or nothing.
            into.push(self.auth.len().min(255) as u8);
            into.extend(self.auth.iter().take(255));
        }
        if can(Capabilities::CONNECT_WITH_DB) {
            put_text(into, self.database.unwrap_or_default());
        }
        if can(Capabilities::PLUGIN_AUTH) {
            put_text(into, self.plugin.unwrap_or_default());
        }
        if can(Capabilities::CONNECT_ATTRS) {
            put_sized(into, self.attributes);
        }
        if can(Capabilities::ZSTD) {
            into.push(self.zstd_level);
        }
    }
}

/// Bytes with their length in front of them (`string<lenenc>`).
fn sized<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Short> {
    let length = usize::try_from(reader.lenenc()?).map_err(|_| Short)?;
    reader.take(length)
}

fn put_text(into: &mut Vec<u8>, text: &[u8]) {
    into.extend_from_slice(text);
    into.push(0);
}

fn put_sized(into: &mut Vec<u8>, bytes: &[u8]) {
    match u16::try_from(bytes.len()) {
        Ok(length @ ..0xFB) => into.push(length as u8),
        Ok(length) => {
            into.push(0xFC);
            into.extend_from_slice(&length.to_le_bytes());
        }
        Err(_) => {
            into.push(0xFE);
            into.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        }
    }
    into.extend_from_slice(bytes);
}

/// Bytes as a handshake response, to whatever was offered: what is understood is written so that it is
/// understood the same.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(bytes: &[u8], offered: Capabilities) {
    let Ok(response) = HandshakeResponse::parse(bytes, offered) else { return };
    let mut written = Vec::new();
    response.write(&mut written);
    let again = HandshakeResponse::parse(&written, offered);
    assert!(again.is_ok_and(|again| again == response), "the upstream reads something else");
}

#[cfg(test)]
mod tests;
