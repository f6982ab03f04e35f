//! A world: one temporary directory, and in it everything a story needs.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{Authd, Postgres, Psql, Sidecar, Tctl, Tsh, guard};

/// The role for development databases: no touch.
pub const ACCESS_DEV: &str = include_str!("../story/access-dev.yaml");
/// The role for production databases: a touch for each session.
pub const ACCESS_PROD: &str = include_str!("../story/access-prod.yaml");
/// The cluster's authentication preference: either kind of second factor.
pub const PREFERENCE: &str = include_str!("../story/cap.yaml");

/// authd, a real PostgreSQL behind two sidecars, Olga's `tctl` and Jerry's `tsh`.
///
/// Fields are stopped in this order when the world ends; the directory goes last.
pub struct World {
    /// In front of the database, with `env: dev`.
    pub dev: Sidecar,
    /// In front of the same database, with `env: prod`.
    pub prod: Sidecar,
    /// The database.
    pub postgres: Postgres,
    /// The auth service.
    pub authd: Authd,
    /// Olga, on the auth host.
    pub tctl: Tctl,
    /// Jerry, at his own machine.
    pub jerry: Tsh,
    dir: TempDir,
}

impl World {
    /// Jerry and Olga's world: roles loaded, Jerry invited with both, registered with a security key, and logged in.
    ///
    /// # Errors
    /// When something in it does not start.
    pub fn jerry_and_olga() -> Result<Self> {
        let world = Self::before_jerry()?;
        let url = world.invite("jerry", "access-dev,access-prod")?;
        world.jerry.register(&url)?;
        world.jerry.login(&world.authd.public_addr())?;
        Ok(world)
    }

    /// The same before Jerry was invited.
    ///
    /// # Errors
    /// When something in it does not start.
    pub fn before_jerry() -> Result<Self> {
        let dir = directory()?;
        let path = dir.path();
        let (authd, tctl) = cluster(path)?;
        let postgres = Postgres::start(&path.join("postgres"), &tctl)?;
        let dev = Sidecar::start(&path.join("dev-pg"), &authd, &tctl, guard("dev-pg", "env=dev", &postgres))?;
        let prod =
            Sidecar::start(&path.join("prod-pg"), &authd, &tctl, guard("prod-pg", "env=prod", &postgres))?;
        let jerry = Tsh::new(path, "jerry")?;
        Ok(Self { dev, prod, postgres, authd, tctl, jerry, dir })
    }

    /// `tctl users add`: the invitation's URL.
    ///
    /// # Errors
    /// When the user cannot be added.
    pub fn invite(&self, user: &str, roles: &str) -> Result<String> {
        self.tctl.invite(user, roles)
    }

    /// Somebody else, with a home of their own.
    ///
    /// # Errors
    /// When the home cannot be made.
    pub fn person(&self, name: &str) -> Result<Tsh> {
        Tsh::new(self.path(), name)
    }

    /// The directory that holds it all.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Jerry's login certificate as it lies on his disk.
    ///
    /// # Errors
    /// Never, for a world that was made.
    pub fn login_certificate(&self) -> Result<PathBuf> {
        Ok(self.jerry.login_files(&self.authd.public_addr())?.0)
    }

    /// A file with the host authorities, as a native client needs it to check a sidecar.
    ///
    /// # Errors
    /// When authd does not tell them.
    pub fn host_authorities(&self) -> Result<PathBuf> {
        host_authorities(self.path(), &self.tctl)
    }

    /// psql to a sidecar over native TLS with Jerry's login: what somebody has who copied his disk.
    ///
    /// # Errors
    /// When the host authorities cannot be had.
    pub fn psql_with_login(&self, sidecar: &Sidecar) -> Result<Psql> {
        self.psql_of(&self.jerry, sidecar)
    }

    /// The same with the login of somebody else.
    ///
    /// # Errors
    /// When the host authorities cannot be had.
    pub fn psql_of(&self, person: &Tsh, sidecar: &Sidecar) -> Result<Psql> {
        let (certificate, key) = person.login_files(&self.authd.public_addr())?;
        Ok(self.psql(sidecar)?.certificate(&certificate, &key))
    }

    /// psql to a sidecar over native TLS, without any certificate yet.
    ///
    /// # Errors
    /// When the host authorities cannot be had.
    pub fn psql(&self, sidecar: &Sidecar) -> Result<Psql> {
        Ok(Psql::to(&sidecar.public_addr(), &self.host_authorities()?))
    }
}

/// Olga's cluster below `path`, with her roles.
pub(crate) fn cluster(path: &Path) -> Result<(Authd, Tctl)> {
    let authd = Authd::start(&path.join("authd"))?;
    let tctl = Tctl::new(authd.data_dir());
    for resource in [PREFERENCE, ACCESS_DEV, ACCESS_PROD] {
        tctl.create(resource)?;
    }
    Ok((authd, tctl))
}

/// The host authorities in a file below `path`, as a native client needs them to check a sidecar.
pub(crate) fn host_authorities(path: &Path, tctl: &Tctl) -> Result<PathBuf> {
    let file = path.join("host-authorities.pem");
    if !file.exists() {
        std::fs::write(&file, tctl.export("tls-host")?)?;
    }
    Ok(file)
}

/// A directory whose parts belong to different accounts: each part is closed, the directory itself can be passed through.
///
/// # Errors
/// When it cannot be made.
pub fn directory() -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix("touchstone-")
        .permissions(Permissions::from_mode(0o711))
        .tempdir()
        .context("temporary directory")
}
