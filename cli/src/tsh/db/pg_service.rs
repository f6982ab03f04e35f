//! Sections of libpq's service file (`$PGSERVICEFILE`, else `~/.pg_service.conf`).

use std::path::PathBuf;

use super::option_file::{self, Section, named_by};

/// Puts a section into the file, in place of one of the same name.
pub(super) fn add(section: &str, settings: &[(&str, String)]) -> anyhow::Result<()> {
    let lines = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let section = Section { name: section.to_owned(), lines };
    path().map_or(Ok(()), |path| option_file::put(&path, &[section]))
}

/// Takes a section out of the file.
pub(super) fn remove(section: &str) -> anyhow::Result<()> {
    path().map_or(Ok(()), |path| option_file::remove(&path, &[section.to_owned()]))
}

fn path() -> Option<PathBuf> {
    named_by("PGSERVICEFILE").or_else(|| named_by("HOME").map(|home| home.join(".pg_service.conf")))
}
