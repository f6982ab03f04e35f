//! Groups of options in MySQL's option file, `~/.my.cnf`.
//!
//! A client reads the group `[client_SUFFIX]` where `MYSQL_GROUP_SUFFIX` (or `--defaults-group-suffix`) says `_SUFFIX`. All
//! MySQL programs read it, and stop at an option that they do not know; so the database, which only the interactive client
//! knows, is in `[mysql_SUFFIX]`.

use std::path::PathBuf;

use super::option_file::{self, Section, named_by};

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
    path().map_or(Ok(()), |path| option_file::put(&path, &groups.sections()))
}

/// Takes the groups of a suffix out of the file.
pub(super) fn remove(suffix: &str) -> anyhow::Result<()> {
    path().map_or(Ok(()), |path| option_file::remove(&path, &names(suffix)))
}

/// What the groups of a suffix are called: for every program, and for the interactive client.
fn names(suffix: &str) -> [String; 2] {
    ["client", "mysql"].map(|program| format!("{program}_{suffix}"))
}

impl Groups {
    fn sections(&self) -> [Section; 2] {
        let lines = |options: &[(&str, String)]| {
            options.iter().map(|(name, value)| format!("{name}={}", quoted(value))).collect()
        };
        let [client, mysql] = names(&self.suffix);
        [
            Section { name: client, lines: lines(&self.client) },
            Section { name: mysql, lines: lines(&self.mysql) },
        ]
    }
}

fn path() -> Option<PathBuf> {
    named_by("HOME").map(|home| home.join(".my.cnf"))
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

    #[test]
    fn each_program_gets_the_options_that_it_knows() {
        let groups = Groups {
            suffix: "main-prod".to_owned(),
            client: vec![("host", "localhost".to_owned()), ("user", "a b#c".to_owned())],
            mysql: vec![("database", "shop".to_owned())],
        };
        let section = |name: &str, lines: &[&str]| Section {
            name: name.to_owned(),
            lines: lines.iter().map(|&line| line.to_owned()).collect(),
        };
        assert_eq!(
            groups.sections(),
            [
                section("client_main-prod", &["host=localhost", "user=\"a b#c\""]),
                section("mysql_main-prod", &["database=shop"])
            ]
        );
    }

    #[test]
    fn a_value_cannot_end_its_quotes() {
        assert_eq!(quoted("a\\\"b # c"), "\"a\\\\\\\"b # c\"");
        assert_eq!(quoted(""), "\"\"");
    }
}
