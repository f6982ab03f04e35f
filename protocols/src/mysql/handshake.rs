//! The client's handshake response: parsed strictly, because what policy decides about must be exactly what the
//! upstream will read (MySQL `Protocol::HandshakeResponse41`).

use zeroize::Zeroizing;

use crate::reader::{Reader, Short};

use super::capabilities::Capabilities;

/// Bytes in front of the user name: flags, longest packet, charset, and 23 that are reserved, the last four of
/// which are MariaDB's extended flags.
const FIXED: usize = 32;

/// A handshake response, as it came.
#[derive(Debug)]
pub(super) struct HandshakeResponse<'a> {
    pub(super) settings: ClientSettings,
    pub(super) user: &'a [u8],
    pub(super) auth: &'a [u8],
    pub(super) database: Option<&'a [u8]>,
    pub(super) plugin: Option<&'a [u8]>,
    pub(super) attributes: &'a [u8],
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

impl<'a> HandshakeResponse<'a> {
    /// Reads what a client says. `offered` decides what it can have meant: a flag that was not offered is none.
    pub(super) fn parse(payload: &'a [u8], offered: Capabilities) -> Result<Self, Short> {
        let mut reader = Reader::new(payload);
        let mut settings = ClientSettings::read(&mut reader)?;
        settings.capabilities = settings.capabilities.and(offered);
        let can = |flag| settings.capabilities.contains(flag);
        let user = reader.text()?;
        let auth = if can(Capabilities::PLUGIN_AUTH_LENENC) {
            let length = usize::try_from(reader.lenenc()?).map_err(|_| Short)?;
            reader.take(length)?
        } else if can(Capabilities::SECURE_CONNECTION) {
            let length = reader.u8()?;
            reader.take(length.into())?
        } else {
            reader.text()?
        };
        let database = if can(Capabilities::CONNECT_WITH_DB) { Some(reader.text()?) } else { None };
        let plugin = if can(Capabilities::PLUGIN_AUTH) { Some(reader.text()?) } else { None };
        let mut attributes = &[][..];
        if can(Capabilities::CONNECT_ATTRS) {
            let length = usize::try_from(reader.lenenc()?).map_err(|_| Short)?;
            attributes = reader.take(length)?;
        }
        let zstd_level = if can(Capabilities::ZSTD) { reader.u8()? } else { 0 };
        Ok(Self { settings, user, auth, database, plugin, attributes, zstd_level })
    }
}

/// A copy of the response that is wiped: it may hold a password.
pub(super) type Wiped = Zeroizing<Vec<u8>>;
