//! Clients in other languages, and the one thing that is asked of what they print: that it is the same every way.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail, ensure};

/// How a client reaches a database. It must not be able to tell one from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The database's own Unix socket, past everything: the baseline.
    Plain,
    /// The sidecar, with TLS and a client certificate of the client's own making.
    Native,
    /// The sidecar, through `tsh proxy db --tunnel`.
    Tunnel,
}

impl Way {
    /// All of them, the baseline first.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Native, Self::Tunnel];
    /// Those that lead through a sidecar.
    pub const PROXIED: [Self; 2] = [Self::Native, Self::Tunnel];
}

/// The command that runs a script of `e2e/clients` with the pinned versions of its libraries.
///
/// # Errors
/// When the clients are not installed.
pub fn interpreted(script: &str) -> Result<Command> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let installed = root.join("../target/clients");
    ensure!(
        installed.join("stamp").is_file(),
        "the clients are not installed: run `scripts/install.sh clients`, as `make test` does"
    );
    let (language, program): (_, PathBuf) = match Path::new(script).extension() {
        Some(extension) if extension == "js" => ("node", "node".into()),
        _ => ("python", installed.join("python/bin/python")),
    };
    let mut command = Command::new(program);
    // Neither leaves anything beside the sources, nor looks for more than is pinned.
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("NODE_PATH", installed.join("node/node_modules"));
    command.arg(root.join("clients").join(language).join(script));
    Ok(command)
}

/// Compares what was said by some other `way` with what was said to the database itself.
///
/// # Errors
/// When they differ: with the first line that does. When nothing was said at all.
pub fn same_transcript(way: &str, expected: &str, got: &str) -> Result<()> {
    let (mut left, mut right) = (expected.lines(), got.lines());
    for number in 1.. {
        match (left.next(), right.next()) {
            (None, None) => break,
            (left, right) if left == right => {}
            (left, right) => bail!(
                "line {number} is {right:?} by way of {way}, where the database itself says {left:?}; all of it:\n{got}"
            ),
        }
    }
    ensure!(!expected.is_empty(), "nothing was said at all");
    Ok(())
}
