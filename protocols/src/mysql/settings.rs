//! Session settings: in force before the client hears OK, whatever it asked for, and again whenever it resets
//! its session.
//!
//! A client that may use SET can change them later: the tap sees it.

use crate::DialError;
use crate::endpoint::{Setting, UpstreamStream};
use crate::reader::{Reader, Short};

use super::capabilities::Capabilities;
use super::error_packet::ERR;
use super::packet::Conversation;
use super::upstream::{receive, rejected};

/// Bytes of a name's parts at most (`NAME_CHAR_LEN`), and of a value.
const MAX_NAME: usize = 64;
const MAX_VALUE: usize = 1_000;
/// Settings of one session at most.
const MAX_SETTINGS: usize = 100;

const COM_QUERY: u8 = 0x03;
/// No attributes in front of the text, in one set of none.
const NO_ATTRIBUTES: [u8; 2] = [0, 1];

/// The COM_QUERY that brings these in force, in a session with these flags; `None` for none.
pub(super) fn query(settings: &[Setting], capabilities: Capabilities) -> Result<Option<Vec<u8>>, DialError> {
    check(settings)?;
    if settings.is_empty() {
        return Ok(None);
    }
    let assignments: Vec<_> = settings.iter().map(assignment).collect();
    Ok(Some(plain_query(&format!("SET {}", assignments.join(", ")), capabilities)))
}

/// A COM_QUERY without attributes, in a session with these flags: the payload.
pub(super) fn plain_query(text: &str, capabilities: Capabilities) -> Vec<u8> {
    let mut payload = vec![COM_QUERY];
    if capabilities.contains(Capabilities::QUERY_ATTRIBUTES) {
        payload.extend_from_slice(&NO_ATTRIBUTES);
    }
    payload.extend_from_slice(text.as_bytes());
    payload
}

/// Whether these can be said at all.
fn check(settings: &[Setting]) -> Result<(), DialError> {
    for (index, setting) in settings.iter().enumerate() {
        let reason = if index >= MAX_SETTINGS {
            "there are too many"
        } else if !is_name(&setting.name) {
            "this is no name of a setting"
        } else if setting.value.contains('\0') || setting.value.len() > MAX_VALUE {
            "its value is too long, or holds a NUL"
        } else {
            continue;
        };
        return Err(DialError::Setting { name: setting.name.clone(), reason });
    }
    Ok(())
}

/// A system variable's: an identifier, or a component's and its own.
fn is_name(name: &str) -> bool {
    let is_identifier = |part: &str| {
        let follows = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        part.len() <= MAX_NAME
            && part.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && part.bytes().all(follows)
    };
    name.split('.').count() <= 2 && name.split('.').all(is_identifier)
}

/// In ASCII whatever the value holds, because the client may have asked for an alphabet in which a byte behind a
/// letter is half of another one; and so that `sql_mode` does not change how it reads.
fn assignment(setting: &Setting) -> String {
    let name = setting.name.split('.').collect::<Vec<_>>().join("`.`");
    format!("SESSION `{name}` = {}", literal(&setting.value))
}

/// Numbers as they are: MySQL takes no text for a numeric variable.
fn literal(value: &str) -> String {
    let unsigned = value.strip_prefix('-').unwrap_or(value);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let is_number =
        [whole, fraction].iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    let plain = |character: char| matches!(character, ' '..='~') && !"'\\".contains(character);
    if is_number {
        value.to_owned()
    } else if value.chars().all(plain) {
        format!("'{value}'")
    } else {
        let digits: String = value.bytes().map(|byte| format!("{byte:02X}")).collect();
        format!("_utf8mb4 X'{digits}'")
    }
}

/// Runs `query` at an upstream that said OK. Where it changes the session's status, the `welcome` that the client
/// is shown says so.
pub(super) async fn apply(
    stream: &mut UpstreamStream,
    talk: &mut Conversation,
    query: Option<&[u8]>,
    welcome: &mut [u8],
) -> Result<(), DialError> {
    let Some(query) = query else { return Ok(()) };
    talk.restart();
    talk.send(stream, query).await.map_err(DialError::Connect)?;
    let answer = receive(stream, talk).await?;
    match answer.first() {
        Some(0x00) => {
            let status = status(&answer).and_then(|place| answer.get(place)).map(<[u8]>::to_vec);
            let place = status.as_ref().and(self::status(welcome)).and_then(|place| welcome.get_mut(place));
            if let (Some(place), Some(status)) = (place, status) {
                place.copy_from_slice(&status);
            }
            Ok(())
        }
        Some(&ERR) => Err(DialError::SettingsRejected(rejected(&answer)?)),
        _ => Err(DialError::Protocol("it answers the session settings with something else")),
    }
}

/// Where the two bytes of status are in an OK packet.
fn status(ok: &[u8]) -> Option<std::ops::Range<usize>> {
    let mut reader = Reader::new(ok);
    let mut skip = || {
        reader.u8()?;
        reader.lenenc()?;
        reader.lenenc()?;
        let start = ok.len() - reader.rest().len();
        reader.u16_le()?;
        Ok::<_, Short>(start..start + 2)
    };
    skip().ok()
}

/// Bytes as an OK packet.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(bytes: &[u8]) {
    let place = status(bytes);
    assert!(place.is_none_or(|place| place.end <= bytes.len()), "the status is within the packet");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(name: &str, value: &str) -> Setting {
        Setting { name: name.into(), value: value.into() }
    }

    fn said(settings: &[Setting]) -> String {
        let payload = query(settings, Capabilities::NONE).unwrap().unwrap();
        assert_eq!(payload[0], COM_QUERY);
        String::from_utf8(payload[1..].to_vec()).unwrap()
    }

    #[test]
    fn values_are_said_so_that_they_cannot_end_early() {
        let settings =
            [setting("time_zone", "+00:00"), setting("sql_mode", r"a'b\"), setting("a.b", "caf\u{e9}")];
        assert_eq!(
            said(&settings),
            "SET SESSION `time_zone` = '+00:00', SESSION `sql_mode` = _utf8mb4 X'6127625C', \
             SESSION `a`.`b` = _utf8mb4 X'636166C3A9'"
        );
    }

    #[test]
    fn numbers_are_numbers_and_everything_else_is_text() {
        for (value, literal) in [
            ("30", "30"),
            ("-1", "-1"),
            ("0.5", "0.5"),
            ("", "''"),
            ("-", "'-'"),
            ("1.", "'1.'"),
            (".5", "'.5'"),
            ("1.2.3", "'1.2.3'"),
            ("0x10", "'0x10'"),
            ("1e9", "'1e9'"),
            ("1; drop", "'1; drop'"),
            ("ON", "'ON'"),
        ] {
            assert_eq!(super::literal(value), literal);
        }
    }

    #[test]
    fn a_setting_that_would_be_something_else_is_refused() {
        for name in
            ["", ".", "a.", "a.b.c", "1a", "a b", "a`b", "@a", "@@global.a", "caf\u{e9}", &"a".repeat(65)]
        {
            assert!(query(&[setting(name, "x")], Capabilities::NONE).is_err(), "{name}");
        }
        assert!(check(&[setting("a", "x\0y")]).is_err());
        assert!(check(&[setting("a", &"x".repeat(MAX_VALUE + 1))]).is_err());
        assert!(check(&vec![setting("a", ""); MAX_SETTINGS + 1]).is_err());
        assert_eq!(query(&[], Capabilities::NONE).unwrap(), None);
    }

    #[test]
    fn the_text_stands_behind_its_attributes_where_the_session_has_them() {
        let payload = query(&[setting("a", "1")], Capabilities::QUERY_ATTRIBUTES).unwrap().unwrap();
        assert_eq!(payload, b"\x03\0\x01SET SESSION `a` = 1");
    }

    #[test]
    fn the_status_is_found_behind_two_numbers_of_any_length() {
        assert_eq!(status(b"\0\0\0\x02\0\0\0"), Some(3..5));
        assert_eq!(status(b"\0\xfc\x01\x02\0\x02\0"), Some(5..7));
        assert_eq!(status(b"\0\0\0\x02"), None);
    }
}
