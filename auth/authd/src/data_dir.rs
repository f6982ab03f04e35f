//! The data directory: its owner's alone, and one authd's alone.

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It cannot be made, or is not ours.
    #[error("cannot use data directory {}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is another user's, who could do in it what they like.
    #[error("data directory {} belongs to user id {owner}, not to this one", path.display())]
    NotOurs {
        /// Which.
        path: PathBuf,
        /// Whose.
        owner: u32,
    },
    /// Another authd runs on it.
    #[error("another authd is running on data directory {}", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
}

/// A data directory that is ours for as long as this lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// The operating system frees the lock when the file is closed, kill -9 included.
    _lock: File,
}

impl DataDir {
    pub(crate) fn open(path: &Path) -> Result<Self, DataDirError> {
        let unusable = |source| DataDirError::Unusable { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        // The superuser may open, and close to others, what is not its own; its owner could open it again.
        let owner = std::fs::metadata(path).map_err(unusable)?.uid();
        if owner != geteuid().as_raw() {
            return Err(DataDirError::NotOurs { path: path.to_owned(), owner });
        }
        // It may have been made beforehand, with more permissions than private keys should have.
        std::fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(unusable)?;
        let lock = open_private(&path.join("authd.lock")).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }

    /// The store's file, made with the right permissions before SQLite sees it; its journal inherits them.
    pub(crate) fn store(&self) -> Result<PathBuf, DataDirError> {
        let path = self.path.join("store.sqlite");
        open_private(&path).map_err(|source| DataDirError::Unusable { path: path.clone(), source })?;
        Ok(path)
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    pub(crate) fn recordings(&self) -> PathBuf {
        self.path.join("recordings")
    }

    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.path.join("admin.sock")
    }
}

fn open_private(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_authd_on_the_same_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let first = DataDir::open(&path).unwrap();
        assert!(matches!(DataDir::open(&path), Err(DataDirError::InUse { .. })));
        drop(first);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn another_users_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let foreign = if geteuid().is_root() {
            std::os::unix::fs::chown(directory.path(), Some(1), None).unwrap();
            directory.path()
        } else {
            Path::new("/")
        };
        assert!(matches!(DataDir::open(foreign), Err(DataDirError::NotOurs { .. })));
    }

    #[test]
    fn the_directory_and_its_files_are_the_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/data");
        let data = DataDir::open(&path).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&data.store().unwrap()), 0o600);
        assert_eq!(mode(&path.join("authd.lock")), 0o600);
    }
}
