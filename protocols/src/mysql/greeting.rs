//! What the upstream is, as its own greeting says it, and what of that clients are greeted with
//! (MySQL `Protocol::HandshakeV10`).

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::rand;

use crate::reader::{Reader, Short};
use crate::text::may_stand;

use super::capabilities::Capabilities;

/// Bytes of a version at most: far more than any has.
const MAX_VERSION: usize = 100;
/// Bytes of a scramble, without the NUL behind it.
pub(super) const SCRAMBLE: usize = 20;
/// The plugin that clients are greeted with.
pub(super) const PLUGIN: &[u8] = b"caching_sha2_password";

/// What an upstream says of itself in its greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamFacts {
    /// Its version: `8.4.6`, `5.5.5-10.11.14-MariaDB-0+deb12u2`.
    pub version: String,
    /// What it can.
    pub capabilities: Capabilities,
    /// The low byte of its default collation's number.
    pub charset: u8,
    /// Status flags at login: `SERVER_STATUS_AUTOCOMMIT`, as a rule.
    pub status: u16,
}

impl UpstreamFacts {
    /// True for MariaDB, which is known by what it does not say.
    #[must_use]
    pub fn is_mariadb(&self) -> bool {
        !self.capabilities.contains(Capabilities::LONG_PASSWORD)
    }

    /// Characters of a user name at most; the upstream cuts longer ones.
    pub(super) fn max_user(&self) -> usize {
        if self.is_mariadb() { 128 } else { 32 }
    }
}

/// What clients are greeted with: shared between those who greet and those who know.
///
/// Every session that [`super::Mysql`] dials refreshes it.
#[derive(Clone, Debug, Default)]
pub struct Greeting {
    known: Arc<RwLock<Option<Arc<UpstreamFacts>>>>,
    /// A version to be shown in place of the upstream's own.
    version: Option<Arc<str>>,
}

impl Greeting {
    /// Of an upstream of which nothing is known: its clients are refused until somebody calls
    /// [`Greeting::learn`].
    #[must_use]
    pub fn unknown() -> Self {
        Self::default()
    }

    /// The same, and this version is shown whatever the upstream says: configuration's `mysql.server_version`.
    /// Control characters are left out, and whatever is beyond 100 bytes; nothing at all is no version.
    #[must_use]
    pub fn with_version(mut self, version: &str) -> Self {
        let shown: String = version.chars().filter(|c| may_stand(*c)).collect();
        let shown = shown.get(..shown.floor_char_boundary(MAX_VERSION)).unwrap_or_default();
        self.version = Some(shown.into()).filter(|shown: &Arc<str>| !shown.is_empty());
        self
    }

    /// From now on, this is what the upstream is.
    pub fn learn(&self, facts: Arc<UpstreamFacts>) {
        let known = self.facts();
        if known.as_ref() != Some(&facts) {
            *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(facts);
        }
    }

    /// What is known of the upstream.
    #[must_use]
    pub fn facts(&self) -> Option<Arc<UpstreamFacts>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The version that clients are shown.
    pub(super) fn version<'a>(&'a self, facts: &'a UpstreamFacts) -> &'a str {
        self.version.as_deref().unwrap_or(&facts.version)
    }
}

/// A greeting that came: what it says of the upstream, and what it says of the connection.
#[derive(Debug)]
pub(super) struct HandshakeV10 {
    pub(super) facts: UpstreamFacts,
    /// The upstream's own number for this connection.
    pub(super) thread_id: u32,
    /// What passwords are mixed with.
    pub(super) scramble: Vec<u8>,
    /// The plugin that it would like.
    pub(super) plugin: Vec<u8>,
}

/// Reads a greeting. Not by mysql_common: it drops flags that it does not know, and computes with the length
/// of the scramble so that some lengths are a panic.
pub(super) fn parse(payload: &[u8]) -> Result<HandshakeV10, Short> {
    let mut reader = Reader::new(payload);
    if reader.u8()? != 10 {
        return Err(Short);
    }
    let version = reader.text()?;
    let version = std::str::from_utf8(version).map_err(|_| Short)?;
    if version.is_empty() || version.len() > MAX_VERSION || version.chars().any(char::is_control) {
        return Err(Short);
    }
    let thread_id = reader.u32_le()?;
    let mut scramble = reader.take(8)?.to_vec();
    reader.u8()?;
    let low = reader.u16_le()?;
    let charset = reader.u8()?;
    let status = reader.u16_le()?;
    let high = reader.u16_le()?;
    let scramble_length = reader.u8()?;
    reader.take(6)?;
    let extended = reader.u32_le()?;
    let flags = u32::from(low) | u32::from(high) << 16;
    // MySQL's ten reserved bytes are zero; where the first flag is missing, MariaDB's flags are in four of them.
    let extended = if flags & Capabilities::LONG_PASSWORD.flags() == 0 { extended } else { 0 };
    let capabilities = Capabilities::new(flags, extended);
    if capabilities.contains(Capabilities::SECURE_CONNECTION) {
        let rest = usize::from(scramble_length).saturating_sub(8).max(13);
        let rest = reader.take(rest)?;
        scramble.extend_from_slice(rest.strip_suffix(&[0]).unwrap_or(rest));
    }
    let mut plugin = Vec::new();
    if capabilities.contains(Capabilities::PLUGIN_AUTH) {
        // MySQL 5.5.7 to 5.5.9 sent no NUL behind it.
        let rest = reader.rest();
        plugin = rest.split(|byte| *byte == 0).next().unwrap_or(rest).to_vec();
    }
    let facts = UpstreamFacts { version: version.to_owned(), capabilities, charset, status };
    Ok(HandshakeV10 { facts, thread_id, scramble, plugin })
}

/// What clients of such an upstream are offered, beside TLS.
pub(super) fn offer(facts: &UpstreamFacts) -> Capabilities {
    facts.capabilities.and(Capabilities::RELAYED) | Capabilities::NEEDED | Capabilities::OURS
}

/// Fresh random bytes for a scramble: seven bits each, and neither NUL, which ends it, nor `$`, which separates
/// the fields of a stored password (as MySQL's `generate_user_salt`).
pub(super) fn scramble() -> io::Result<[u8; SCRAMBLE]> {
    let mut bytes = [0; SCRAMBLE];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("no random bytes"))?;
    Ok(bytes.map(|byte| match byte & 0x7F {
        taken @ (0 | b'$') => taken + 1,
        byte => byte,
    }))
}

/// A greeting of ours.
pub(super) fn encode(
    version: &str,
    facts: &UpstreamFacts,
    offered: Capabilities,
    connection: u32,
    scramble: &[u8; SCRAMBLE],
) -> Vec<u8> {
    let (first, second) = scramble.split_at(8);
    let [a, b, c, d] = offered.flags().to_le_bytes();
    let mut payload = vec![10];
    payload.extend_from_slice(version.as_bytes());
    payload.push(0);
    payload.extend_from_slice(&connection.to_le_bytes());
    payload.extend_from_slice(first);
    payload.push(0);
    payload.extend_from_slice(&[a, b]);
    payload.push(facts.charset);
    payload.extend_from_slice(&facts.status.to_le_bytes());
    payload.extend_from_slice(&[c, d]);
    // The scramble with its NUL.
    payload.push(SCRAMBLE as u8 + 1);
    payload.extend_from_slice(&[0; 6]);
    payload.extend_from_slice(&offered.extended().to_le_bytes());
    payload.extend_from_slice(second);
    payload.push(0);
    payload.extend_from_slice(PLUGIN);
    payload.push(0);
    payload
}

/// Bytes as a greeting: what clients are shown of it can be shown.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(bytes: &[u8]) {
    let Ok(greeting) = parse(bytes) else { return };
    let facts = greeting.facts;
    let ours = encode(&facts.version, &facts, offer(&facts), 1 << 31, &[b'x'; SCRAMBLE]);
    let read = parse(&ours).map(|read| read.facts);
    assert!(read.is_ok_and(|read| read == UpstreamFacts { capabilities: offer(&facts), ..facts }));
}

#[cfg(test)]
mod tests;
