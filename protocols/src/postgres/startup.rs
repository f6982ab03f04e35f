//! The start-up packet: parsed strictly, kept as bytes and in order.
//!
//! Libraries decode it into a map, which loses order, duplicates and any encoding but UTF-8. What a policy
//! decides about (user and database) must be exactly what the upstream will read, so whatever the upstream
//! might read differently is refused.
//!
//! Everything else goes on as it came, `options` too: PostgreSQL takes what is set there (`-c role=…`) as it
//! would take a SET by the database user that was decided about, so nothing in it widens an access.

use crate::reader::{Reader, Short};
use crate::refusal::{Refusal, RefusalCode, SqlState};
use crate::text::may_stand;
use crate::{Carried, Login, Replication, Setting};

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
    let (mut user, mut database, mut replication) = (None, None, None);
    let mut carried = Vec::with_capacity(content.len());
    for (name, value) in parameters {
        match name {
            b"user" => once(&mut user, name, value)?,
            b"database" => once(&mut database, name, value)?,
            b"replication" => once(&mut replication, name, value)?,
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
    let replication = self::replication(replication.as_deref())?;
    let database = match replication {
        Replication::Physical => None,
        _ => database.filter(|name| !name.is_empty()).or_else(|| Some(user.clone())),
    };
    Ok(Startup { version, login: Login { user, database, replication, carried: Carried(carried) } })
}

/// The start-up packet for the upstream: protocol 3.0, user and database as decided, everything else as the
/// client sent it, and last the session settings. PostgreSQL takes `options` first and then one parameter
/// after the other, so the last of a name wins; and what RESET and DISCARD return to is ours as well.
pub(crate) fn encode(login: &Login, settings: &[Setting]) -> Option<Vec<u8>> {
    let mut named = vec![("user", login.user.as_str())];
    match login.replication {
        Replication::None => named.push(("database", login.database.as_deref().unwrap_or(&login.user))),
        Replication::Physical => named.push(("replication", "true")),
        Replication::Logical => {
            named.push(("database", login.database.as_deref().unwrap_or(&login.user)));
            named.push(("replication", "database"));
        }
    }
    if named.iter().any(|(_, value)| value.is_empty() || value.contains('\0')) {
        return None;
    }
    let mut packet = vec![0, 0, 0, 0, 0, 3, 0, 0];
    let settings = settings.iter().map(|setting| (setting.name.as_str(), setting.value.as_str()));
    let say = |packet: &mut Vec<u8>, (name, value): (&str, &str)| {
        for part in [name, "\0", value, "\0"] {
            packet.extend_from_slice(part.as_bytes());
        }
    };
    named.into_iter().for_each(|parameter| say(&mut packet, parameter));
    packet.extend_from_slice(&login.carried.0);
    settings.for_each(|setting| say(&mut packet, setting));
    packet.push(0);
    let length = u32::try_from(packet.len()).ok().filter(|length| *length <= MAX_LENGTH)?;
    for (to, from) in packet.iter_mut().zip(length.to_be_bytes()) {
        *to = from;
    }
    Some(packet)
}

/// What the client set at start-up, in order: everything but user, database and replication.
pub(crate) fn parameters(login: &Login) -> Vec<Parameter<'_>> {
    let mut reader = Reader::new(&login.carried.0);
    std::iter::from_fn(|| Some((reader.text().ok()?, reader.text().ok()?))).collect()
}

/// Name and value.
pub(crate) type Parameter<'a> = (&'a [u8], &'a [u8]);

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

/// The value of `replication`, as PostgreSQL reads it: `database` in just these letters, or a boolean, which
/// may be cut short and in any case (`ProcessStartupPacket`, `parse_bool`).
fn replication(value: Option<&str>) -> Result<Replication, Refusal> {
    let Some(value) = value else { return Ok(Replication::None) };
    if value == "database" {
        return Ok(Replication::Logical);
    }
    let lower = value.to_ascii_lowercase();
    let is = |word: &str, least: usize| lower.len() >= least && word.starts_with(&lower);
    if is("true", 1) || is("yes", 1) || is("on", 2) || is("1", 1) {
        Ok(Replication::Physical)
    } else if is("false", 1) || is("no", 1) || is("off", 2) || is("0", 1) {
        Ok(Replication::None)
    } else {
        let value: String = value.chars().filter(|c| may_stand(*c)).collect();
        // invalid_parameter_value
        Err(violation(&format!("invalid value for parameter \"replication\": \"{value}\""))
            .with_hint("Valid values are: \"false\", 0, \"true\", 1, \"database\".")
            .with_sql_state(SqlState::known(b"22023")))
    }
}

fn violation(message: &str) -> Refusal {
    Refusal::new(RefusalCode::ProtocolViolation, message)
}

fn nobody(message: &str) -> Refusal {
    Refusal::new(RefusalCode::NotAuthenticated, message)
}

#[cfg(test)]
mod tests;
