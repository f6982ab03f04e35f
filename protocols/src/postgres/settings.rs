//! Session settings: in force before the client's first statement, whatever the client asked for.
//!
//! They go to the upstream twice. In the start-up packet, behind everything of the client's: so they are also
//! what RESET and DISCARD ALL return to, which drivers' pools send as a matter of course. And then by
//! `set_config`, before the client is told that it is logged in: so they hold even where something at login
//! (a trigger, a pooler) changed them. In physical replication there is no SQL, and no SET either: there the
//! start-up packet alone does it.
//!
//! A client that may use SET can change them later: the tap sees it. `options=-c role=…` and its like give a
//! client nothing more: PostgreSQL checks them as it checks SET by the database user that logged in.

use tokio::io::AsyncWriteExt;

use crate::endpoint::{Endpoint, Setting, UpstreamStream};
use crate::error::UpstreamReport;
use crate::{DialError, Login, Replication};

use super::error_response;
use super::wire::{self, Allowance};

/// Bytes of a name at most (`NAMEDATALEN` − 1), and of a value.
const MAX_NAME: usize = 63;
const MAX_VALUE: usize = 1_000;
/// Settings of one session at most; what they hold together is bounded by the start-up packet.
const MAX_SETTINGS: usize = 100;
/// What names something else in a start-up packet.
const NOT_SETTINGS: [&str; 4] = ["user", "database", "options", "replication"];

/// Whether these can be said at all.
pub(super) fn check(settings: &[Setting]) -> Result<(), DialError> {
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

/// Identifiers with dots between them, as `valid_custom_variable_name` has it, ASCII alone.
fn is_name(name: &str) -> bool {
    let is_identifier = |part: &str| {
        let follows = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$';
        part.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && part.bytes().all(follows)
    };
    name.len() <= MAX_NAME
        && name.split('.').all(is_identifier)
        && !NOT_SETTINGS.iter().any(|other| other.eq_ignore_ascii_case(name))
        && !name.starts_with("_pq_.")
}

/// Applies the settings at an upstream that is ready. ParameterStatus messages that follow from them take the
/// place of the earlier ones in `greeting`.
pub(super) async fn apply(
    stream: &mut UpstreamStream,
    allowance: &mut Allowance,
    endpoint: &Endpoint,
    login: &Login,
    greeting: &mut Vec<Vec<u8>>,
) -> Result<(), DialError> {
    if endpoint.settings.is_empty() || login.replication == Replication::Physical {
        return Ok(());
    }
    stream.write_all(&query(&endpoint.settings)).await.map_err(DialError::Connect)?;
    stream.flush().await.map_err(DialError::Connect)?;
    let mut refused = None;
    loop {
        let message = wire::receive(stream, allowance).await?;
        match (message.kind(), message.content()) {
            (b'S', _) => replace(greeting, message.bytes()),
            (b'N', _) => greeting.push(message.bytes().to_vec()),
            (b'T' | b'D' | b'C' | b'A', _) => {}
            (b'E', content) if refused.is_none() => {
                let report = error_response::parse(content);
                refused = Some(report.map_err(|_| DialError::Protocol("an error does not hold together"))?);
            }
            (b'Z', b"I") => return refused.map_or(Ok(()), |report| Err(DialError::SettingsRejected(report))),
            _ => return Err(DialError::Protocol("it answers the session settings with something else")),
        }
    }
}

/// A login that was refused because of one of these settings: PostgreSQL names it, or its value, in double
/// quotes. The client is not to be told what it did not ask for.
pub(super) fn blame(report: UpstreamReport, settings: &[Setting]) -> DialError {
    let message = report.message.to_ascii_lowercase();
    let is_named = |word: &str| message.contains(&format!("\"{}\"", word.to_ascii_lowercase()));
    if settings.iter().any(|setting| is_named(&setting.name) || is_named(&setting.value)) {
        DialError::SettingsRejected(report)
    } else {
        DialError::Rejected(report)
    }
}

/// One simple query, in ASCII whatever the values hold, because a client may have asked for an encoding in
/// which a byte behind a letter is half of another one (SJIS, BIG5, GBK).
fn query(settings: &[Setting]) -> Vec<u8> {
    let mut content = b"SELECT ".to_vec();
    for (index, setting) in settings.iter().enumerate() {
        content.extend_from_slice(if index > 0 { b", " } else { b"" });
        content.extend_from_slice(b"pg_catalog.set_config(");
        quote(&setting.name, &mut content);
        content.extend_from_slice(b", ");
        quote(&setting.value, &mut content);
        content.extend_from_slice(b", false)");
    }
    content.push(0);
    let length = u32::try_from(content.len() + 4).unwrap_or(u32::MAX);
    [&b"Q"[..], &length.to_be_bytes(), &content].concat()
}

/// As a literal that reads the same whatever `standard_conforming_strings` and `backslash_quote` say.
fn quote(text: &str, into: &mut Vec<u8>) {
    into.extend_from_slice(b"E'");
    for character in text.chars() {
        match character {
            '\'' => into.extend_from_slice(b"''"),
            '\\' => into.extend_from_slice(b"\\\\"),
            ' '..='~' => into.extend(character.to_string().bytes()),
            _ => into.extend(format!("\\U{:08x}", u32::from(character)).bytes()),
        }
    }
    into.push(b'\'');
}

/// ParameterStatus in the place of the one that has the same name.
fn replace(greeting: &mut Vec<Vec<u8>>, status: &[u8]) {
    match greeting.iter_mut().find(|message| message.starts_with(b"S") && name(message) == name(status)) {
        Some(earlier) => *earlier = status.to_vec(),
        None => greeting.push(status.to_vec()),
    }
}

/// The name in a ParameterStatus message.
fn name(status: &[u8]) -> Option<&[u8]> {
    status.get(5..)?.split(|byte| *byte == 0).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(name: &str, value: &str) -> Setting {
        Setting { name: name.into(), value: value.into() }
    }

    #[test]
    fn values_are_said_so_that_they_cannot_end_early() {
        let said = query(&[setting("search_path", r"a'b\"), setting("app.user", "caf\u{e9}\n表")]);
        assert_eq!(
            said[5..],
            *br"SELECT pg_catalog.set_config(E'search_path', E'a''b\\', false), pg_catalog.set_config(E'app.user', E'caf\U000000e9\U0000000a\U00008868', false)"
                .iter()
                .chain(b"\0")
                .copied()
                .collect::<Vec<_>>()
        );
        assert_eq!(said[1..5], (said.len() as u32 - 1).to_be_bytes());
    }

    #[test]
    fn a_setting_that_would_be_something_else_is_refused() {
        for name in [
            "",
            ".",
            "a.",
            "1a",
            "a b",
            "a'b",
            "caf\u{e9}",
            "user",
            "Database",
            "OPTIONS",
            "_pq_.x",
            "replication",
        ] {
            assert!(matches!(check(&[setting(name, "x")]), Err(DialError::Setting { .. })), "{name}");
        }
        assert!(check(&[setting("a", "x\0y")]).is_err());
        assert!(check(&[setting("a", &"x".repeat(MAX_VALUE + 1))]).is_err());
        assert!(check(&vec![setting("a", ""); MAX_SETTINGS + 1]).is_err());
        assert!(check(&[setting("statement_timeout", "30s"), setting("_app.user$1", "")]).is_ok());
    }

    #[test]
    fn a_new_status_replaces_the_earlier_one_of_its_name() {
        let mut greeting =
            vec![b"S____a\x001\0".to_vec(), b"N____a\x001\0".to_vec(), b"S____ab\x001\0".to_vec()];
        replace(&mut greeting, b"S____a\x002\0");
        replace(&mut greeting, b"S____c\x003\0");
        assert_eq!(greeting.concat(), b"S____a\x002\0N____a\x001\0S____ab\x001\0S____c\x003\0");
    }
}
