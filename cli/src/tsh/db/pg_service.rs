//! Sections of libpq's service file (`$PGSERVICEFILE`, else `~/.pg_service.conf`). Everything else in it is left as it is.

use std::{env, path::PathBuf};

use anyhow::{Context as _, ensure};

use crate::files;

/// Puts a section into the file, in place of one of the same name.
pub(super) fn add(section: &str, settings: &[(&str, String)]) -> anyhow::Result<()> {
    ensure!(
        settings.iter().all(|(_, value)| !value.chars().any(char::is_control)),
        "a value for the service file holds control characters"
    );
    change(|before| with_section(&without_section(before, section), section, settings))
}

/// Takes a section out of the file.
pub(super) fn remove(section: &str) -> anyhow::Result<()> {
    change(|before| without_section(before, section))
}

fn change(edit: impl FnOnce(&str) -> String) -> anyhow::Result<()> {
    let Some(path) = path() else { return Ok(()) };
    let shown = path.display().to_string();
    let before = files::read_optional_text(&path).with_context(|| format!("cannot read {shown}"))?;
    let after = edit(before.as_deref().unwrap_or_default());
    if before.is_none() && after.is_empty() || before.as_ref() == Some(&after) {
        return Ok(());
    }
    files::write_private(&path, after.as_bytes()).with_context(|| format!("cannot write {shown}"))
}

/// The file itself, where its name is a link.
fn path() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let path = set("PGSERVICEFILE").or_else(|| set("HOME").map(|home| home.join(".pg_service.conf")))?;
    Some(path.canonicalize().unwrap_or(path))
}

fn without_section(before: &str, section: &str) -> String {
    let header = format!("[{section}]");
    let mut inside = false;
    let mut kept = String::new();
    for line in before.lines() {
        if line.trim_start().starts_with('[') {
            inside = line.trim() == header;
        }
        if !inside {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    let end = kept.trim_end().len();
    kept.truncate(end);
    if !kept.is_empty() {
        kept.push('\n');
    }
    kept
}

fn with_section(before: &str, section: &str, settings: &[(&str, String)]) -> String {
    let mut after = before.to_owned();
    if !after.is_empty() {
        after.push('\n');
    }
    after.push_str(&format!("[{section}]\n"));
    for (name, value) in settings {
        after.push_str(&format!("{name}={value}\n"));
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHERS: &str = "# mine\n[work]\nhost=db.example.com\n\n[other]\nhost=o\n";

    fn settings() -> Vec<(&'static str, String)> {
        vec![("host", "localhost".to_owned()), ("port", "5432".to_owned())]
    }

    #[test]
    fn a_section_is_added_after_what_is_there() {
        let after = with_section(&without_section(OTHERS, "main-pg"), "main-pg", &settings());
        assert_eq!(after, format!("{OTHERS}\n[main-pg]\nhost=localhost\nport=5432\n"));
    }

    #[test]
    fn a_section_is_replaced_and_removed_alone() {
        let once = with_section(OTHERS, "main-pg", &settings());
        let twice = with_section(&without_section(&once, "main-pg"), "main-pg", &settings());
        assert_eq!(once, twice);
        assert_eq!(without_section(&once, "main-pg"), OTHERS);
        assert_eq!(without_section(OTHERS, "work"), "# mine\n[other]\nhost=o\n");
    }

    #[test]
    fn an_empty_file_gets_no_leading_blank_line() {
        assert_eq!(with_section("", "s", &[]), "[s]\n");
        assert_eq!(without_section("[s]\nhost=x\n", "s"), "");
    }

    #[test]
    fn a_value_cannot_add_lines() {
        assert!(add("s", &[("user", "a\nsslmode=disable".to_owned())]).is_err());
    }
}
