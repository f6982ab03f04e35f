//! Where the programs are: ours beside the running test, the databases' where Debian or the search path has them; OpenSSH's likewise.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// One of our own programs (`authd`, `sidecar`, `tsh`, `tctl`), as built by the same `cargo build`.
///
/// # Errors
/// When it was not built: the harness never builds and never falls back to an installed one.
pub(crate) fn ours(name: &str) -> Result<PathBuf> {
    let running = env::current_exe().context("the path of the running program")?;
    // Tests lie in target/<profile>/deps, the demo in target/<profile>.
    let found =
        running.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    match found {
        Some(path) => Ok(path),
        None => bail!("{name} is not built beside {}: run `make build` first", running.display()),
    }
}

/// One of PostgreSQL's programs. The server's own are off the search path on Debian: the newest version counts.
///
/// # Errors
/// When there is none.
pub fn postgres(name: &str) -> Result<PathBuf> {
    if let Some(path) = on_search_path(name) {
        return Ok(path);
    }
    let versions = Path::new("/usr/lib/postgresql");
    let newest = fs::read_dir(versions)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str().and_then(|version| version.parse::<u32>().ok()))
        .filter(|version| versions.join(version.to_string()).join("bin").join(name).is_file())
        .max();
    match newest {
        Some(version) => Ok(versions.join(version.to_string()).join("bin").join(name)),
        None => bail!("{name} is not installed: install PostgreSQL (on Debian: apt-get install postgresql)"),
    }
}

/// One of MariaDB's programs. The server itself may be off an ordinary user's search path.
///
/// # Errors
/// When there is none.
pub(crate) fn mariadb(name: &str) -> Result<PathBuf> {
    let system = Path::new("/usr/sbin").join(name);
    on_search_path(name).or_else(|| system.is_file().then_some(system)).with_context(|| {
        format!("{name} is not installed: install MariaDB (on Debian: apt-get install mariadb-server)")
    })
}

/// Chromium or its driver.
///
/// # Errors
/// When it is not installed.
pub(crate) fn browser(name: &str) -> Result<PathBuf> {
    on_search_path(name).with_context(|| {
        format!(
            "{name} is not installed: install Chromium (on Debian: apt-get install chromium chromium-driver)"
        )
    })
}

/// One of OpenSSH's programs. The server itself may be off an ordinary user's search path.
///
/// # Errors
/// When there is none.
pub(crate) fn ssh(name: &str) -> Result<PathBuf> {
    let system = Path::new("/usr/sbin").join(name);
    on_search_path(name).or_else(|| system.is_file().then_some(system)).with_context(|| {
        format!("{name} is not installed: install OpenSSH (on Debian: apt-get install openssh-server)")
    })
}

fn on_search_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
}
