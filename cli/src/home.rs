//! The directory where tsh keeps what must outlive a command: `$TSH_HOME`, else `$TELEPORT_HOME`, else `~/.tsh`.
//!
//! ```text
//! current-profile                          the proxy that commands without --proxy mean
//! <proxy>.yaml                             a profile: proxy, user, cluster
//! known_hosts                              the cluster's SSH host authorities
//! lock                                     held while files that belong together are changed; empty
//! keys/<proxy>/<user>, <user>.pub          SSH key (OpenSSH form)
//! keys/<proxy>/<user>-ssh/<cluster>-cert.pub
//! keys/<proxy>/<user>-x509.key, <user>-x509.pem    TLS key (PKCS #8) and login certificate
//! keys/<proxy>/<user>-db/<cluster>/<database>-x509.{key,pem}, <database>.yaml      `tsh db login`
//! keys/<proxy>/cas/<cluster>.pem           the host authorities that are trusted
//! ```
//!
//! Directories are 0700, files 0600, written whole or not at all. Session certificates never come here. `<proxy>` is
//! `HOST_PORT`; names pass [`files::file_name`].

use std::{
    env,
    fs::File,
    path::{Path, PathBuf},
};

use auth::identity::{ClusterName, UserName};

use crate::{
    environment,
    files::{self, file_name},
    proxy_address::ProxyAddress,
};

/// Directory of a proxy's authorities, beside the files of its users.
pub const AUTHORITIES: &str = "cas";

/// Why a file of the home could not be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Neither `TSH_HOME` nor its kin nor `HOME` says where.
    #[error("cannot tell where your files are: set TSH_HOME")]
    Unknown,
    /// The operating system refused.
    #[error("cannot use {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of ours that does not hold what we write.
    #[error("{} is damaged ({why}), remove it and log in again", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// The home directory of tsh.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// `$TSH_HOME`, else `$TELEPORT_HOME`, else `~/.tsh`.
    ///
    /// # Errors
    /// [`HomeError::Unknown`].
    pub fn from_environment() -> Result<Self, HomeError> {
        let home = || env::var_os("HOME").filter(|home| !home.is_empty());
        let named = environment::value("TSH_HOME").map(PathBuf::from);
        let root = named.or_else(|| home().map(|home| PathBuf::from(home).join(".tsh")));
        root.map(|root| Self { root }).ok_or(HomeError::Unknown)
    }

    /// A home at a place of the caller's choice.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Waits for other commands that change the home, and keeps them waiting until the result is dropped. It is for the
    /// moments of writing: never held while somebody is asked, and never taken twice by one process, which would wait for
    /// itself.
    ///
    /// # Errors
    /// [`HomeError::Io`].
    pub fn lock(&self) -> Result<File, HomeError> {
        let path = self.lock_file();
        let locked = files::create_private_directory(&self.root).and_then(|()| files::lock(&path));
        locked.map_err(|source| HomeError::Io { path, source })
    }

    /// Waits for commands that change the home: what is read while the result lives belongs together.
    ///
    /// # Errors
    /// [`HomeError::Io`].
    pub fn lock_to_read(&self) -> Result<Option<File>, HomeError> {
        let path = self.lock_file();
        files::lock_to_read(&path).map_err(|source| HomeError::Io { path, source })
    }

    fn lock_file(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// The file that names the current proxy.
    #[must_use]
    pub fn current_profile(&self) -> PathBuf {
        self.root.join("current-profile")
    }

    /// The profile of a proxy.
    #[must_use]
    pub fn profile(&self, proxy: &ProxyAddress) -> PathBuf {
        self.root.join(format!("{}.yaml", directory_name(proxy)))
    }

    /// The cluster's SSH host authorities, in the form of OpenSSH.
    #[must_use]
    pub fn known_hosts(&self) -> PathBuf {
        self.root.join("known_hosts")
    }

    /// Where the keys for all proxies are.
    #[must_use]
    pub fn all_keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// Where the keys for a proxy are.
    #[must_use]
    pub fn keys(&self, proxy: &ProxyAddress) -> PathBuf {
        self.all_keys().join(directory_name(proxy))
    }

    /// The authorities trusted for a proxy: one file a cluster.
    #[must_use]
    pub fn authorities(&self, proxy: &ProxyAddress) -> PathBuf {
        self.keys(proxy).join(AUTHORITIES)
    }

    /// The files of one user at one proxy.
    #[must_use]
    pub fn user(&self, proxy: &ProxyAddress, user: &UserName) -> UserFiles {
        let user = match file_name(user.as_str()) {
            // No other user is written like this.
            name if name == AUTHORITIES => format!("%{name}"),
            name => name,
        };
        UserFiles { directory: self.keys(proxy), user }
    }
}

/// `HOST_PORT`: unlike `HOST:PORT` it can stand in a path that libpq is given.
fn directory_name(proxy: &ProxyAddress) -> String {
    format!("{}_{}", file_name(proxy.host()), proxy.port())
}

/// Names of the files of one user at one proxy.
#[derive(Clone, Debug)]
pub struct UserFiles {
    directory: PathBuf,
    user: String,
}

impl UserFiles {
    fn named(&self, suffix: &str) -> PathBuf {
        self.directory.join(format!("{}{suffix}", self.user))
    }

    /// SSH private key.
    #[must_use]
    pub fn ssh_key(&self) -> PathBuf {
        self.named("")
    }

    /// SSH public key.
    #[must_use]
    pub fn ssh_public_key(&self) -> PathBuf {
        self.named(".pub")
    }

    /// SSH login certificate.
    #[must_use]
    pub fn ssh_certificate(&self, cluster: &ClusterName) -> PathBuf {
        self.ssh_directory().join(format!("{}-cert.pub", file_name(cluster.as_str())))
    }

    /// Directory of the SSH certificates.
    #[must_use]
    pub fn ssh_directory(&self) -> PathBuf {
        self.named("-ssh")
    }

    /// TLS private key of the login certificate.
    #[must_use]
    pub fn tls_key(&self) -> PathBuf {
        self.named("-x509.key")
    }

    /// Login certificate.
    #[must_use]
    pub fn tls_certificate(&self) -> PathBuf {
        self.named("-x509.pem")
    }

    /// Directory of the certificates of `tsh db login`, for all clusters.
    #[must_use]
    pub fn databases(&self) -> PathBuf {
        self.named("-db")
    }
}

/// Reads a file of the home; `None` where there is none.
///
/// # Errors
/// [`HomeError::Io`].
pub fn read(path: &Path) -> Result<Option<String>, HomeError> {
    files::read_optional_text(path).map_err(|source| HomeError::Io { path: path.to_owned(), source })
}

/// Writes a file of the home, with its directory.
///
/// # Errors
/// [`HomeError::Io`].
pub fn write(path: &Path, contents: &[u8]) -> Result<(), HomeError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    files::create_private_directory(directory)
        .and_then(|()| files::write_private(path, contents))
        .map_err(|source| HomeError::Io { path: path.to_owned(), source })
}

/// Removes a file of the home; true where there was one.
///
/// # Errors
/// [`HomeError::Io`].
pub fn remove(path: &Path) -> Result<bool, HomeError> {
    files::remove_if_present(path).map_err(|source| HomeError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_teleports() {
        let home = Home::at("/h");
        let proxy = "auth.example.com:3080".parse().unwrap();
        let user = UserName::new("alice").unwrap();
        let cluster = ClusterName::new("main").unwrap();
        let files = home.user(&proxy, &user);
        let keys = Path::new("/h/keys/auth.example.com_3080");
        assert_eq!(home.profile(&proxy), Path::new("/h/auth.example.com_3080.yaml"));
        assert_eq!(files.ssh_key(), keys.join("alice"));
        assert_eq!(files.ssh_public_key(), keys.join("alice.pub"));
        assert_eq!(files.tls_certificate(), keys.join("alice-x509.pem"));
        assert_eq!(files.ssh_certificate(&cluster), keys.join("alice-ssh/main-cert.pub"));
        assert_eq!(files.databases(), keys.join("alice-db"));
        assert_eq!(home.authorities(&proxy), keys.join("cas"));
    }

    #[test]
    fn no_name_brings_a_colon_into_a_path() {
        let user = UserName::new("DOMAIN:alice").unwrap();
        let key = Home::at("/h").user(&"[::1]:3080".parse().unwrap(), &user).tls_key();
        assert_eq!(key, Path::new("/h/keys/%3A%3A1_3080/DOMAIN%3Aalice-x509.key"));
    }

    #[test]
    fn no_users_key_lies_where_the_authorities_are() {
        let (home, proxy) = (Home::at("/h"), "h:1".parse().unwrap());
        let key = home.user(&proxy, &UserName::new("cas").unwrap()).ssh_key();
        assert_ne!(key, home.authorities(&proxy));
        assert_ne!(key, home.user(&proxy, &UserName::new("%cas").unwrap()).ssh_key());
    }

    #[test]
    fn a_user_name_cannot_leave_the_home() {
        let home = Home::at("/h");
        let proxy = "auth.example.com:3080".parse().unwrap();
        let user = UserName::new("../../../etc/cron.d/x").unwrap();
        let key = home.user(&proxy, &user).ssh_key();
        assert_eq!(key.parent(), Some(home.keys(&proxy).as_path()));
    }
}
