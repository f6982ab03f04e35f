//! The story around a real sshd: the same people and roles.

use std::path::Path;

use anyhow::Result;
use tempfile::TempDir;

use crate::{
    ACCESS_DEV, ACCESS_PROD, Authd, OpenSsh, Sidecar, Sshd, Tctl, Tsh, guard,
    world::{cluster, directory},
};

/// authd, a real sshd behind two sidecars, Olga's `tctl` and Jerry's `tsh`.
///
/// Fields are stopped in this order when the world ends; the directory goes last.
pub struct NodeWorld {
    /// `dev-node`: in front of the host, with `env: dev`.
    pub dev: Sidecar,
    /// `prod-node`: in front of the same host, with `env: prod`.
    pub prod: Sidecar,
    /// The host.
    pub sshd: Sshd,
    /// The auth service.
    pub authd: Authd,
    /// Olga, on the auth host.
    pub tctl: Tctl,
    /// Jerry, at his own machine.
    pub jerry: Tsh,
    dir: TempDir,
}

impl NodeWorld {
    /// Jerry and Olga's world: roles loaded, Jerry invited with both, registered with a security key, and logged in.
    ///
    /// # Errors
    /// When something in it does not start.
    pub fn jerry_and_olga() -> Result<Self> {
        Self::with_options("", "")
    }

    /// The same with options in the two roles, in YAML, one a line: `forward_agent: true`.
    ///
    /// # Errors
    /// When something in it does not start.
    pub fn with_options(dev: &str, prod: &str) -> Result<Self> {
        let dir = directory()?;
        let path = dir.path();
        let (authd, tctl) = cluster(path)?;
        let sshd = Sshd::start(&path.join("sshd"), &tctl)?;
        for (role, options) in [(ACCESS_DEV, dev), (ACCESS_PROD, prod)] {
            tctl.create(&role_for(role, sshd.account(), options))?;
        }
        let sidecar = |name: &str, labels: &str| {
            Sidecar::start(&path.join(name), &authd, &tctl, guard(name, labels, &sshd))
        };
        let (dev, prod) = (sidecar("dev-node", "env=dev")?, sidecar("prod-node", "env=prod")?);
        let jerry = Tsh::new(path, "jerry")?;
        jerry.register(&tctl.invite("jerry", "access-dev,access-prod")?)?;
        jerry.login(&authd.public_addr())?;
        Ok(Self { dev, prod, sshd, authd, tctl, jerry, dir })
    }

    /// The directory that holds it all.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// OpenSSH to a sidecar with Jerry's login.
    ///
    /// # Errors
    /// When he is not logged in.
    pub fn ssh(&self, sidecar: &Sidecar) -> Result<OpenSsh> {
        OpenSsh::to(sidecar, &self.jerry, &self.authd.public_addr(), self.sshd.account())
    }
}

/// One of the story's roles, for the account that the host has, with more options.
#[must_use]
pub fn role_for(role: &str, account: &str, options: &str) -> String {
    let role = role.replacen("    logins:\n      - jerry\n", &format!("    logins:\n      - {account}\n"), 1);
    let options: String = options.lines().map(|option| format!("    {option}\n")).collect();
    if options.is_empty() {
        role
    } else if role.contains("  options:\n") {
        role.replacen("  options:\n", &format!("  options:\n{options}"), 1)
    } else {
        role.replacen("spec:\n", &format!("spec:\n  options:\n{options}"), 1)
    }
}
