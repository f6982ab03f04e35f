//! Whose server a database is: PostgreSQL and MariaDB refuse to run as root.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, bail};
use nix::unistd::{User, geteuid};

use crate::process::mortal;

/// Who runs a database.
pub(crate) enum Owner {
    /// Whoever runs the test.
    Ourselves,
    /// An account without privileges, in place of root.
    Account(User),
}

impl Owner {
    /// Ourselves; where we are root, `account`, which the database's package makes, or `nobody`.
    ///
    /// # Errors
    /// When there is no such account.
    pub(crate) fn choose(account: &str) -> Result<Self> {
        if !geteuid().is_root() {
            return Ok(Self::Ourselves);
        }
        for name in [account, "nobody"] {
            if let Some(user) = User::from_name(name)? {
                return Ok(Self::Account(user));
            }
        }
        bail!("running as root, and there is no account `{account}` to run the database as")
    }

    /// Makes a file or directory the owner's, and nobody else's.
    ///
    /// # Errors
    /// When the operating system says no.
    pub(crate) fn give(&self, path: &Path) -> Result<()> {
        if let Self::Account(user) = self {
            chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .with_context(|| format!("give {} to {}", path.display(), user.name))?;
        }
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    /// A command that dies with us, run as the owner.
    pub(crate) fn command(&self, program: &Path, signal: &str) -> Command {
        let Self::Account(user) = self else { return mortal(program, signal) };
        // Losing privileges clears the parent-death signal, so it is set in a second step.
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={}", user.name))
            .arg(format!("--regid={}", user.gid))
            .arg("--clear-groups");
        command.args(["--", "setpriv"]).arg(format!("--pdeathsig={signal}")).arg("--").arg(program);
        command
    }
}
