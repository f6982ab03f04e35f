//! What a client asks to be, read so that the upstream reads the same: names that it would cut, unquote or take
//! for another alphabet's are refused, because policy would decide about one user and the upstream log in
//! another.
//!
//! What else the client said of itself rides along ([`Carried`]): flags, charset, longest packet, attributes.

use crate::reader::Reader;
use crate::{Carried, DialError, Login, Refusal, RefusalCode, Replication};

use super::capabilities::Capabilities;
use super::greeting::UpstreamFacts;
use super::handshake::{ClientSettings, HandshakeResponse};

/// Characters of a database's name at most (`NAME_CHAR_LEN`); the upstream cuts longer ones.
const MAX_DATABASE: usize = 64;
/// The collations of the one alphabet in which some ASCII is not ASCII (`swe7`).
const SWE7: [u8; 2] = [10, 82];

/// What `response` asks for.
pub(super) fn asked(response: &HandshakeResponse<'_>, facts: &UpstreamFacts) -> Result<Login, Refusal> {
    let alphabet = Alphabet::of(response.settings.charset, facts);
    let user = name(response.user, "user", facts.max_user(), alphabet)?;
    if user.is_empty() {
        return Err(refused("no database user is named").with_hint("connect with --user=NAME"));
    }
    // The upstream would log in the user between the quotes.
    if user.len() > 1 && user.starts_with('\'') && user.ends_with('\'') {
        return Err(refused("a database user in quotes is not let in"));
    }
    let database = response.database.unwrap_or_default();
    let database = name(database, "database", MAX_DATABASE, alphabet)?;
    Ok(Login {
        user: user.to_owned(),
        database: Some(database.to_owned()).filter(|name| !name.is_empty()),
        replication: Replication::None,
        carried: carry(response),
    })
}

/// What the upstream makes of the bytes of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alphabet {
    Utf8,
    /// One of dozens, all of which have ASCII in common.
    AsciiAtLeast,
    Swe7,
}

impl Alphabet {
    fn of(charset: u8, facts: &UpstreamFacts) -> Self {
        match charset {
            33 | 45 | 46 | 83 | 192..=215 | 224..=247 => Self::Utf8,
            // MySQL 8's own. An upstream that does not know it takes its default in its place.
            255 if matches!(facts.charset, 33 | 45 | 46 | 83 | 192..=215 | 224..=247 | 255) => Self::Utf8,
            charset if SWE7.contains(&charset) => Self::Swe7,
            _ => Self::AsciiAtLeast,
        }
    }

    fn reads_as_is(self, name: &str) -> bool {
        match self {
            Self::Utf8 => true,
            Self::AsciiAtLeast => name.is_ascii(),
            Self::Swe7 => name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)),
        }
    }
}

fn name<'a>(bytes: &'a [u8], kind: &str, longest: usize, alphabet: Alphabet) -> Result<&'a str, Refusal> {
    let read = std::str::from_utf8(bytes).ok().filter(|name| alphabet.reads_as_is(name));
    let Some(name) = read else {
        let text = format!("the name of the {kind} cannot be read in the connection's character set");
        return Err(refused(text).with_hint("connect with --default-character-set=utf8mb4"));
    };
    if name.chars().count() > longest {
        return Err(refused(format!("the name of the {kind} is longer than {longest} characters")));
    }
    Ok(name)
}

fn refused(message: impl Into<String>) -> Refusal {
    Refusal::new(RefusalCode::AccessDenied, message)
}

/// Settings and attributes, for the upstream. Flags of the client's leg alone stay behind.
fn carry(response: &HandshakeResponse<'_>) -> Carried {
    let mut settings = response.settings;
    settings.capabilities = settings.capabilities.and(Capabilities::RELAYED);
    let mut bytes = Vec::new();
    settings.write(&mut bytes);
    bytes.extend_from_slice(response.attributes);
    Carried(bytes)
}

/// What decides how the texts that follow are read: the low byte of the number of the client's collation, which says in
/// which alphabet they are (28 is `gbk`, in which a backslash may be half a letter), and whether a blank may stand
/// between a function's name and its parenthesis.
pub(super) fn parameters(login: &Login) -> Vec<(Vec<u8>, Vec<u8>)> {
    let Ok((settings, _)) = carried(login) else { return Vec::new() };
    let mut set = vec![(b"collation".to_vec(), settings.charset.to_string().into_bytes())];
    if settings.capabilities.contains(Capabilities::IGNORE_SPACE) {
        set.push((b"ignore_space".to_vec(), b"1".to_vec()));
    }
    set
}

/// What [`asked`] let ride along: settings and attributes. A login that nobody asked for with MySQL's words
/// (a test's, a probe's) carries nothing, and speaks the least that there is.
pub(super) fn carried(login: &Login) -> Result<(ClientSettings, &[u8]), DialError> {
    let mut reader = Reader::new(&login.carried.0);
    if reader.rest().is_empty() {
        let settings =
            ClientSettings { capabilities: Capabilities::NEEDED, max_packet: 1 << 24, charset: 45 };
        return Ok((settings, &[]));
    }
    let settings = ClientSettings::read(&mut reader).map_err(|_| DialError::Login)?;
    Ok((settings, reader.rest()))
}

/// Bytes as a handshake response: what is asked is what the upstream will read.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(bytes: &[u8]) {
    let offered = Capabilities::new(u32::MAX, u32::MAX);
    let Ok(response) = HandshakeResponse::parse(bytes, offered) else { return };
    let facts = UpstreamFacts { version: "8.4.6".into(), capabilities: offered, charset: 255, status: 2 };
    let Ok(login) = asked(&response, &facts) else { return };
    assert_eq!(login.user.as_bytes(), response.user, "policy decides about another user");
    let (settings, attributes) = carried(&login).unwrap_or_default();
    assert_eq!(settings.capabilities, response.settings.capabilities.and(Capabilities::RELAYED));
    assert_eq!(attributes, response.attributes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(mariadb: bool, charset: u8) -> UpstreamFacts {
        let capabilities = if mariadb { Capabilities::NONE } else { Capabilities::LONG_PASSWORD };
        UpstreamFacts { version: "8".into(), capabilities, charset, status: 2 }
    }

    fn response<'a>(user: &'a [u8], database: Option<&'a [u8]>, charset: u8) -> HandshakeResponse<'a> {
        let settings = ClientSettings { capabilities: Capabilities::NEEDED, max_packet: 1, charset };
        HandshakeResponse {
            settings,
            user,
            auth: b"",
            database,
            plugin: None,
            attributes: b"",
            zstd_level: 0,
        }
    }

    fn user(name: &[u8], charset: u8, facts: &UpstreamFacts) -> Option<String> {
        asked(&response(name, None, charset), facts).ok().map(|login| login.user)
    }

    #[test]
    fn names_that_the_upstream_would_read_otherwise_are_refused() {
        let mysql = facts(false, 255);
        for name in [&b""[..], b"'root'", b"''", b"caf\xe9", b"a\xff", &[b'a'; 33]] {
            assert_eq!(user(name, 45, &mysql), None, "{}", name.escape_ascii());
        }
        for name in ["alice", "'", "o'brien", "'a", "caf\u{e9}", &"\u{e9}".repeat(32)] {
            assert_eq!(user(name.as_bytes(), 45, &mysql).as_deref(), Some(name));
        }
        let mariadb = facts(true, 45);
        assert!(user(&[b'a'; 128], 45, &mariadb).is_some());
        assert!(user(&[b'a'; 129], 45, &mariadb).is_none());
    }

    #[test]
    fn letters_beyond_ascii_are_read_where_the_connection_speaks_utf8() {
        let name = "caf\u{e9}".as_bytes();
        for (charset, upstream, read) in
            [(45, 8, true), (33, 8, true), (246, 8, true), (255, 255, true), (255, 45, true)]
                .into_iter()
                .chain([(255, 8, false), (8, 45, false), (28, 45, false), (1, 45, false), (0, 45, false)])
        {
            assert_eq!(user(name, charset, &facts(false, upstream)).is_some(), read, "{charset} {upstream}");
            assert!(user(b"alice[1]", charset, &facts(false, upstream)).is_some());
        }
    }

    #[test]
    fn swedish_seven_bits_are_no_ascii() {
        for charset in SWE7 {
            assert_eq!(user(b"a{b", charset, &facts(false, 45)), None);
            assert!(user(b"app_1", charset, &facts(false, 45)).is_some());
        }
    }

    #[test]
    fn a_database_is_named_or_it_is_none() {
        let facts = facts(false, 255);
        let database = |name| asked(&response(b"alice", name, 45), &facts).map(|login| login.database);
        assert_eq!(database(None), Ok(None));
        assert_eq!(database(Some(b"")), Ok(None));
        assert_eq!(database(Some(b"prod")), Ok(Some("prod".into())));
        assert!(database(Some(&[b'd'; 64])).is_ok());
        assert!(database(Some(&[b'd'; 65])).is_err());
        assert!(database(Some(b"\xff")).is_err());
    }

    #[test]
    fn what_decides_how_texts_are_read_can_be_recorded() {
        let set = |capabilities, charset| {
            let mut said = response(b"alice", None, charset);
            said.settings.capabilities = said.settings.capabilities | capabilities;
            let set = parameters(&asked(&said, &facts(false, 255)).unwrap());
            let text = |bytes| String::from_utf8(bytes).unwrap();
            set.into_iter().map(|(name, value)| (text(name), text(value))).collect::<Vec<_>>()
        };
        let said = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(set(Capabilities::default(), 28), [said("collation", "28")]);
        let both = [said("collation", "45"), said("ignore_space", "1")];
        assert_eq!(set(Capabilities::IGNORE_SPACE, 45), both);
    }

    #[test]
    fn settings_and_attributes_ride_along_and_the_clients_own_flags_stay_behind() {
        let mut said = response(b"alice", None, 45);
        said.settings.capabilities = Capabilities::NEEDED
            | Capabilities::SESSION_TRACK
            | Capabilities::COMPRESS
            | Capabilities::SSL
            | Capabilities::MARIADB_BULK;
        said.attributes = b"\x01a\x01b";
        let login = asked(&said, &facts(true, 45)).unwrap();
        let (settings, attributes) = carried(&login).unwrap();
        let expected = Capabilities::NEEDED | Capabilities::SESSION_TRACK | Capabilities::MARIADB_BULK;
        assert_eq!(settings, ClientSettings { capabilities: expected, max_packet: 1, charset: 45 });
        assert_eq!(attributes, b"\x01a\x01b");
        let cut = Login { carried: Carried(login.carried.0[..31].to_vec()), ..login };
        assert!(matches!(carried(&cut), Err(DialError::Login)));
    }
}
