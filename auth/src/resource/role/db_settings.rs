//! `db_session_settings`: what the database is told before a session's first statement.
//!
//! Names and values go to PostgreSQL or MySQL, where a name in the wrong place means something else: `user` among
//! start-up parameters, `password` after `SET`, `global.` before a variable. So names are checked here, once, against
//! both; what is read is safe to hand on as a name, and a value still has to be quoted.

use std::collections::BTreeMap;

use crate::resource::{
    error::{Problem, ResourceError},
    fields::Field,
};

/// Settings of one role. Sessions need a handful.
const MAX_SETTINGS: usize = 64;
/// Bytes of each part of a name: PostgreSQL's `NAMEDATALEN - 1`.
const MAX_PART_BYTES: usize = 63;
/// Bytes of one value.
const MAX_VALUE_BYTES: usize = 1024;

/// Reads a map of settings. A value is the text as it is written: `on` stays `on`, `1.10` stays `1.10`.
///
/// Both databases compare names without regard to ASCII case. So do we, by keeping them in lower case; else `ROLE` would
/// pass, and two roles could differ about one setting unnoticed.
pub(super) fn read(field: &Field<'_>) -> Result<BTreeMap<String, String>, ResourceError> {
    let mut settings = BTreeMap::new();
    let _: Vec<(String, ())> = field.map(|written, value| {
        let name = name(written, value)?;
        let text = text(value)?;
        if settings.len() == MAX_SETTINGS {
            return Err(value.error(Problem::TooLarge { what: "settings", limit: MAX_SETTINGS }));
        }
        match settings.insert(name, text) {
            None => Ok(()),
            Some(_) => Err(value.error(Problem::DuplicateField(written.to_owned()))),
        }
    })?;
    Ok(settings)
}

fn name(written: &str, value: &Field<'_>) -> Result<String, ResourceError> {
    let name = written.to_ascii_lowercase();
    let well_formed = match name.split_once('.') {
        None => is_word(&name),
        Some((class, rest)) => is_word(class) && is_word(rest),
    };
    if !well_formed {
        let expected = "the name of a setting, such as statement_timeout or app.user: letters, digits and \
                        underscores, at most 63 in a part";
        return Err(value.error(Problem::Value { value: written.to_owned(), expected }));
    }
    match refusal(&name) {
        Some(why) => Err(value.error(Problem::Unsupported(why))),
        None => Ok(name),
    }
}

fn is_word(part: &str) -> bool {
    part.len() <= MAX_PART_BYTES
        && part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Why a role may not set this, if it may not: it would decide who somebody is or what they reach, which is what `allow`
/// and `deny` are for, or it would outlive the session.
fn refusal(name: &str) -> Option<&'static str> {
    const STARTUP: &str = "a start-up parameter and no setting; the session's own login decides it";
    match name.split_once('.') {
        None => match name {
            "role" | "session_authorization" => {
                Some("it would make the session somebody else's; use db_users")
            }
            "password" => Some("no setting: MySQL would change the user's password"),
            "session_preload_libraries" | "local_preload_libraries" => {
                Some("it would load code into the session")
            }
            "user" | "database" | "options" => Some(STARTUP),
            "replication" => Some("a start-up parameter and no setting; use db_replication"),
            _ => None,
        },
        Some(("_pq_", _)) => Some(STARTUP),
        Some(("global" | "persist" | "persist_only", _)) => Some("it would reach beyond the session"),
        Some(("session" | "local", _)) => Some("every setting is the session's; write the name alone"),
        Some(_) => None,
    }
}

fn text(value: &Field<'_>) -> Result<String, ResourceError> {
    let text = value.text()?;
    if text.len() > MAX_VALUE_BYTES {
        return Err(value.error(Problem::TooLarge { what: "bytes", limit: MAX_VALUE_BYTES }));
    }
    if text.contains(char::is_control) {
        return Err(value.invalid("a value of a setting: control characters are not allowed"));
    }
    if text.contains("{{") {
        return Err(value.error(Problem::Unsupported("variables are not expanded in the value of a setting")));
    }
    Ok(text.to_owned())
}
