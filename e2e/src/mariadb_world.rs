//! The story around a real MariaDB: the same people and roles, and the page's `prod-mysql-instance`.

use std::path::Path;

use anyhow::Result;
use tempfile::TempDir;

use crate::{
    Authd, Mariadb, MariadbClient, Sidecar, Tctl, Tsh, guard,
    world::{cluster, directory, host_authorities},
};

/// authd, a real MariaDB behind two sidecars, Olga's `tctl` and Jerry's `tsh`.
///
/// Fields are stopped in this order when the world ends; the directory goes last.
pub struct MariadbWorld {
    /// `dev-mysql-instance`: in front of the database, with `env: dev`.
    pub dev: Sidecar,
    /// `prod-mysql-instance`: in front of the same database, with `env: prod`.
    pub prod: Sidecar,
    /// The database.
    pub mariadb: Mariadb,
    /// The auth service.
    pub authd: Authd,
    /// Olga, on the auth host.
    pub tctl: Tctl,
    /// Jerry, at his own machine.
    pub jerry: Tsh,
    dir: TempDir,
}

impl MariadbWorld {
    /// Jerry and Olga's world: roles loaded, Jerry invited with both, registered with a security key, and logged in.
    ///
    /// # Errors
    /// When something in it does not start.
    pub fn jerry_and_olga() -> Result<Self> {
        Self::with(&[], &[])
    }

    /// The same with these roles in place of those of the same names, and with options for the database server:
    /// `--max-allowed-packet=64M`.
    ///
    /// # Errors
    /// When something in it does not start.
    pub fn with(roles: &[&str], options: &[&str]) -> Result<Self> {
        let dir = directory()?;
        let path = dir.path();
        let (authd, tctl) = cluster(path)?;
        for role in roles {
            tctl.create(role)?;
        }
        let mariadb = Mariadb::start_with(&path.join("mariadb"), &tctl, options)?;
        let sidecar = |name: &str, labels: &str| {
            Sidecar::start(&path.join(name), &authd, &tctl, guard(name, labels, &mariadb))
        };
        let dev = sidecar("dev-mysql-instance", "env=dev")?;
        let prod = sidecar("prod-mysql-instance", "env=prod")?;
        let jerry = Tsh::new(path, "jerry")?;
        jerry.register(&tctl.invite("jerry", "access-dev,access-prod")?)?;
        jerry.login(&authd.public_addr())?;
        Ok(Self { dev, prod, mariadb, authd, tctl, jerry, dir })
    }

    /// The directory that holds it all.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The `mariadb` client to a sidecar over native TLS, without any certificate yet.
    ///
    /// # Errors
    /// When the host authorities cannot be had.
    pub fn client(&self, sidecar: &Sidecar) -> Result<MariadbClient> {
        Ok(MariadbClient::to(&sidecar.public_addr(), &host_authorities(self.path(), &self.tctl)?))
    }

    /// The same with Jerry's login: what somebody has who copied his disk.
    ///
    /// # Errors
    /// When the host authorities cannot be had.
    pub fn client_with_login(&self, sidecar: &Sidecar) -> Result<MariadbClient> {
        let (certificate, key) = self.jerry.login_files(&self.authd.public_addr())?;
        Ok(self.client(sidecar)?.certificate(&certificate, &key))
    }
}
