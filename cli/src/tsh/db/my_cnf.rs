//! Groups of options in MySQL's option file, `~/.my.cnf`. Everything else in it stays as it is, byte for byte.
//!
//! A client reads the group `[client_SUFFIX]` where `MYSQL_GROUP_SUFFIX` (or `--defaults-group-suffix`) says `_SUFFIX`. All
//! MySQL programs read it, and stop at an option that they do not know; so the database, which only the interactive client
//! knows, is in `[mysql_SUFFIX]`.

use std::{env, path::PathBuf};

use anyhow::{Context as _, ensure};

use crate::files;

/// The options of one database.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Groups {
    /// `<cluster>-<database>`
    pub(super) suffix: String,
    /// For every program.
    pub(super) client: Vec<(&'static str, String)>,
    /// For the interactive client alone.
    pub(super) mysql: Vec<(&'static str, String)>,
}

/// Puts the groups into the file, in place of those of the same suffix.
pub(super) fn add(groups: &Groups) -> anyhow::Result<()> {
    ensure!(
        !groups.options().any(|(_, value)| value.chars().any(char::is_control)),
        "a value for the option file holds control characters"
    );
    change(|before| with_groups(&without_groups(before, &groups.suffix), groups))
}

/// Takes the groups of a suffix out of the file.
pub(super) fn remove(suffix: &str) -> anyhow::Result<()> {
    change(|before| without_groups(before, suffix))
}

impl Groups {
    fn options(&self) -> impl Iterator<Item = &(&'static str, String)> {
        self.client.iter().chain(&self.mysql)
    }
}

fn change(edit: impl FnOnce(&[u8]) -> Vec<u8>) -> anyhow::Result<()> {
    let Some(path) = path() else { return Ok(()) };
    let shown = path.display().to_string();
    let before = files::read_optional(&path).with_context(|| format!("cannot read {shown}"))?;
    let after = edit(before.as_deref().unwrap_or_default());
    if before.is_none() && after.is_empty() || before.as_ref() == Some(&after) {
        return Ok(());
    }
    files::write_private(&path, &after).with_context(|| format!("cannot write {shown}"))
}

/// The file itself, where its name is a link.
fn path() -> Option<PathBuf> {
    let home = env::var_os("HOME").filter(|home| !home.is_empty())?;
    let path = PathBuf::from(home).join(".my.cnf");
    Some(path.canonicalize().unwrap_or(path))
}

/// A group ends where the next one begins, or an `!include`. Empty lines and comments before that are not the group's: they
/// stay.
fn without_groups(before: &[u8], suffix: &str) -> Vec<u8> {
    let headers = [format!("[client_{suffix}]"), format!("[mysql_{suffix}]")];
    let (mut kept, mut aside, mut inside) = (Vec::with_capacity(before.len()), Vec::new(), false);
    for line in before.split_inclusive(|&byte| byte == b'\n') {
        let text = line.trim_ascii();
        match text.first() {
            Some(b'[') => inside = headers.iter().any(|header| text == header.as_bytes()),
            Some(b'!') => inside = false,
            None | Some(b'#' | b';') if inside => {
                aside.extend_from_slice(line);
                continue;
            }
            // An option of the group: what stands between two of them goes with them.
            Some(_) if inside => aside.clear(),
            _ => {}
        }
        kept.append(&mut aside);
        if !inside {
            kept.extend_from_slice(line);
        }
    }
    kept.append(&mut aside);
    kept
}

fn with_groups(before: &[u8], Groups { suffix, client, mysql }: &Groups) -> Vec<u8> {
    let mut after = before.to_owned();
    if !after.is_empty() && !after.ends_with(b"\n") {
        after.push(b'\n');
    }
    for (name, options) in [("client", client), ("mysql", mysql)] {
        if options.is_empty() {
            continue;
        }
        after.extend_from_slice(format!("[{name}_{suffix}]\n").as_bytes());
        for (name, value) in options {
            after.extend_from_slice(format!("{name}={}\n", quoted(value)).as_bytes());
        }
    }
    after
}

/// Quotes keep blanks and `#`; within them a backslash begins an escape (MySQL manual, "Using Option Files").
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHERS: &[u8] = b"# mine, in Latin-1: \xe4\r\n[client]\nuser = me \n\n\n[mysql]\nprompt='\\u> '\n!includedir /etc/mine";

    fn groups() -> Groups {
        Groups {
            suffix: "main-prod".to_owned(),
            client: vec![("host", "localhost".to_owned()), ("user", "a b#c".to_owned())],
            mysql: vec![("database", "shop".to_owned())],
        }
    }

    #[test]
    fn groups_are_added_after_what_is_there() {
        let added =
            b"\n[client_main-prod]\nhost=localhost\nuser=\"a b#c\"\n[mysql_main-prod]\ndatabase=shop\n";
        assert_eq!(with_groups(OTHERS, &groups()), [OTHERS, added].concat());
    }

    #[test]
    fn what_was_there_before_is_there_afterwards_byte_for_byte() {
        for before in [OTHERS, b"", b"\n\n# nothing\n", b"[client_main-prod2]\nhost=x\n"] {
            let once = with_groups(before, &groups());
            let twice = with_groups(&without_groups(&once, "main-prod"), &groups());
            assert_eq!(once, twice);
            let after = without_groups(&once, "main-prod");
            // Our groups begin on a line of their own: that line break is all that may be new.
            assert_eq!(
                after.strip_prefix(before).unwrap_or(&after),
                if before == OTHERS { &b"\n"[..] } else { b"" }
            );
        }
    }

    #[test]
    fn what_somebody_wrote_after_a_group_stays() {
        let own = b"\n# my other server\n[client_mine]\nhost=h\n!include /etc/x\nuser=y\n";
        let file = [&with_groups(b"[client]\n", &groups()), &own[..]].concat();
        assert_eq!(without_groups(&file, "main-prod"), [&b"[client]\n"[..], own].concat());
        let end = [&with_groups(b"", &groups()), &b"# the end\n"[..]].concat();
        assert_eq!(without_groups(&end, "main-prod"), b"# the end\n");
    }

    #[test]
    fn a_groups_own_comments_go_with_it_and_do_not_become_another_groups_options() {
        let file =
            b"[mysqld]\nport=1\n[client_main-prod]\nhost=x\n# between\nprompt=mine\n[mysqldump]\nquick\n";
        assert_eq!(without_groups(file, "main-prod"), b"[mysqld]\nport=1\n[mysqldump]\nquick\n");
    }

    #[test]
    fn a_value_cannot_end_its_quotes_or_its_line() {
        assert_eq!(quoted("a\\\"b # c"), "\"a\\\\\\\"b # c\"");
        assert_eq!(quoted(""), "\"\"");
        let evil = Groups { client: vec![("user", "a\nplugin-dir=/tmp".to_owned())], ..groups() };
        assert!(add(&evil).is_err());
    }
}
