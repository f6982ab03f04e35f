//! The start-up packet: parsed strictly, kept as bytes and in order.
//!
//! Libraries decode it into a map, which loses order, duplicates and any encoding but UTF-8. What a policy
//! decides about (user and database) must be exactly what the upstream will read, so whatever the upstream
//! might read differently is refused.

use crate::reader::{Reader, Short};
use crate::refusal::{Refusal, RefusalCode};
use crate::{Carried, Login};

/// Bytes of a start-up packet at most, its length included (PostgreSQL's `MAX_STARTUP_PACKET_LENGTH`).
pub(crate) const MAX_LENGTH: u32 = 10_000;
/// The newest minor version of protocol 3 that is spoken here.
pub(crate) const NEWEST_MINOR: u16 = 2;
/// Bytes of a name at most (`NAMEDATALEN` − 1). PostgreSQL cuts longer ones: a policy would decide about
/// another name.
const MAX_NAME: usize = 63;

/// What comes in the place of a start-up packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    SslRequest,
    GssEncRequest,
    /// Bytes of process number and key that follow: 4 and 4 to 256.
    Cancel {
        length: u32,
    },
    /// Protocol 3.`minor`; bytes of parameters that follow.
    Startup {
        minor: u16,
        length: u32,
    },
    /// A major version that nobody here speaks, or no PostgreSQL at all.
    Unknown,
    /// A start-up packet with a length that none may have.
    BadLength,
}

impl Opening {
    /// Decides by the first eight bytes: length and code.
    pub(crate) fn decide(first: [u8; 8]) -> Self {
        const SSL: u32 = 80_877_103;
        const GSS_ENC: u32 = 80_877_104;
        const CANCEL: u32 = 80_877_102;
        let mut reader = Reader::new(&first);
        let (Ok(length), Ok(code)) = (reader.u32(), reader.u32()) else { return Self::Unknown };
        match (code, length) {
            (SSL, 8) => Self::SslRequest,
            (GSS_ENC, 8) => Self::GssEncRequest,
            (CANCEL, 16..=268) => Self::Cancel { length: length - 8 },
            (0x0003_0000..=0x0003_FFFF, 9..=MAX_LENGTH) => {
                Self::Startup { minor: (code & 0xFFFF) as u16, length: length - 8 }
            }
            (SSL | GSS_ENC | CANCEL | 0x0003_0000..=0x0003_FFFF, _) => Self::BadLength,
            _ => Self::Unknown,
        }
    }
}

/// A start-up packet that holds together.
#[derive(Debug)]
pub(crate) struct Startup {
    pub(crate) version: Version,
    pub(crate) login: Login,
}

/// What protocol the client speaks, and what of it we do not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Version {
    /// The minor version that the client asked for.
    pub(crate) minor: u16,
    /// Protocol options (`_pq_.…`) that nobody here knows: they are named in NegotiateProtocolVersion.
    pub(crate) unknown_options: Vec<String>,
}

impl Version {
    /// True when the client must be told what we speak.
    pub(crate) fn needs_negotiation(&self) -> bool {
        self.minor > NEWEST_MINOR || !self.unknown_options.is_empty()
    }

    /// Bytes of a cancel key in the version that both speak.
    pub(crate) fn cancel_key_length(&self) -> usize {
        if self.minor >= 2 { 32 } else { 4 }
    }
}

/// Parses what follows length and version.
///
/// # Errors
/// The refusal to send.
pub(crate) fn parse(minor: u16, content: &[u8]) -> Result<Startup, Refusal> {
    let parameters = split(content)
        .map_err(|Short| violation("invalid startup packet layout: expected terminator as last byte"))?;
    let mut version = Version { minor, unknown_options: Vec::new() };
    let (mut user, mut database, mut carried) = (None, None, Vec::with_capacity(content.len()));
    for (name, value) in parameters {
        match name {
            b"user" => once(&mut user, name, value)?,
            b"database" => once(&mut database, name, value)?,
            b"replication" if !is_off(value) => {
                return Err(Refusal::new(
                    RefusalCode::Unsupported,
                    "replication connections are not allowed here",
                ));
            }
            _ if name.starts_with(b"_pq_.") => {
                version.unknown_options.push(String::from_utf8_lossy(name).into_owned());
            }
            _ => {
                for part in [name, b"\0", value, b"\0"] {
                    carried.extend_from_slice(part);
                }
            }
        }
    }
    let user = match user {
        Some(user) if !user.is_empty() => user,
        _ => return Err(nobody("no PostgreSQL user name specified in startup packet")),
    };
    let database = database.filter(|name| !name.is_empty()).unwrap_or_else(|| user.clone());
    Ok(Startup { version, login: Login { user, database: Some(database), carried: Carried(carried) } })
}

/// The start-up packet for the upstream: protocol 3.0, user and database as decided, everything else as the
/// client sent it.
pub(crate) fn encode(login: &Login) -> Option<Vec<u8>> {
    let database = login.database.as_deref().unwrap_or(&login.user);
    if [login.user.as_str(), database].iter().any(|name| name.is_empty() || name.contains('\0')) {
        return None;
    }
    let mut packet = vec![0, 0, 0, 0, 0, 3, 0, 0];
    for part in ["user", &login.user, "database", database] {
        packet.extend_from_slice(part.as_bytes());
        packet.push(0);
    }
    packet.extend_from_slice(&login.carried.0);
    packet.push(0);
    let length = u32::try_from(packet.len()).ok()?;
    for (to, from) in packet.iter_mut().zip(length.to_be_bytes()) {
        *to = from;
    }
    Some(packet)
}

/// Name and value.
type Parameter<'a> = (&'a [u8], &'a [u8]);

/// Names and values, up to an empty name that must be the last byte.
fn split(content: &[u8]) -> Result<Vec<Parameter<'_>>, Short> {
    let mut reader = Reader::new(content);
    let mut parameters = Vec::new();
    loop {
        let name = reader.text()?;
        if name.is_empty() {
            reader.finish()?;
            return Ok(parameters);
        }
        parameters.push((name, reader.text()?));
    }
}

/// A name that policy decides about: once, in UTF-8, and not so long that PostgreSQL would cut it.
fn once(slot: &mut Option<String>, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
    let name = String::from_utf8_lossy(name);
    if slot.is_some() {
        return Err(violation(&format!("invalid startup packet: \"{name}\" is there twice")));
    }
    if value.len() > MAX_NAME {
        return Err(nobody(&format!("\"{name}\" is longer than {MAX_NAME} bytes")));
    }
    let value = std::str::from_utf8(value).map_err(|_| nobody(&format!("\"{name}\" is not in UTF-8")))?;
    *slot = Some(value.to_owned());
    Ok(())
}

/// Spelled-out ways to say that this is no replication connection.
fn is_off(value: &[u8]) -> bool {
    [&b"false"[..], b"off", b"no", b"0"].iter().any(|off| off.eq_ignore_ascii_case(value))
}

fn violation(message: &str) -> Refusal {
    Refusal::new(RefusalCode::ProtocolViolation, message)
}

fn nobody(message: &str) -> Refusal {
    Refusal::new(RefusalCode::NotAuthenticated, message)
}

#[cfg(test)]
mod tests;
