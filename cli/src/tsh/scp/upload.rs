//! From here to a node.

use std::{
    fs::{self, Metadata},
    future::Future,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Component, Path, PathBuf},
    pin::Pin,
};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Copying, MAX_DEPTH};
use crate::ssh::sftp::{Attributes, FileKind, SftpError};

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Copying<S> {
    /// Copies files of ours. Answers with how many could not be copied.
    pub(super) async fn up(mut self, paths: &[PathBuf], to: &Path) -> Result<usize, SftpError> {
        let there = match self.sftp.stat(to).await {
            Ok(attributes) => Some(attributes.kind()),
            Err(error) if error.is_missing() => None,
            Err(error) => return Err(error),
        };
        let into = there == Some(FileKind::Directory);
        if !into && (paths.len() > 1 || to.as_os_str().as_encoded_bytes().ends_with(b"/")) {
            return Err(SftpError::of(to, "not a directory, or not there"));
        }
        for path in paths {
            let copied = match (into, path.components().next_back()) {
                (false, _) => self.put(path.clone(), to.to_owned(), 0).await,
                (true, Some(Component::Normal(name))) => self.put(path.clone(), to.join(name), 0).await,
                (true, Some(Component::CurDir)) => self.put(path.clone(), to.to_owned(), 0).await,
                (true, _) => {
                    Err(SftpError::of(path, "has no name of its own: say what it shall be called there"))
                }
            };
            self.passed(copied)?;
        }
        Ok(self.failed)
    }

    /// What is at `from`, links followed. Boxed: a tree is as deep as it is.
    fn put(
        &mut self,
        from: PathBuf,
        to: PathBuf,
        depth: usize,
    ) -> Pin<Box<dyn Future<Output = Result<(), SftpError>> + Send + '_>> {
        Box::pin(async move {
            let metadata =
                fs::metadata(&from).map_err(|source| SftpError::Here { path: from.clone(), source })?;
            if metadata.is_dir() {
                if !self.recursive {
                    return Err(SftpError::of(&from, "not a regular file"));
                }
                if depth == MAX_DEPTH {
                    return Err(SftpError::of(&from, "too deep"));
                }
                return self.put_directory(&from, &to, &metadata, depth).await;
            }
            if !metadata.is_file() {
                return Err(SftpError::of(&from, "not a regular file"));
            }
            self.put_file(&from, &to, &metadata).await
        })
    }

    async fn put_directory(
        &mut self,
        from: &Path,
        to: &Path,
        metadata: &Metadata,
        depth: usize,
    ) -> Result<(), SftpError> {
        let here = |source| SftpError::Here { path: from.to_owned(), source };
        let made = self.enter(to, permissions(metadata)).await?;
        let mut entries = fs::read_dir(from).map_err(here)?.collect::<Result<Vec<_>, _>>().map_err(here)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let copied = self.put(entry.path(), to.join(entry.file_name()), depth + 1).await;
            self.passed(copied)?;
        }
        self.leave(to, made, kept(metadata)).await
    }

    /// Makes a directory of the node that can be written to for now. Whether it was not there before.
    pub(super) async fn enter(&mut self, to: &Path, mode: u32) -> Result<bool, SftpError> {
        match self.sftp.make_directory(to, mode | 0o700).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_final() => Err(error),
            // Servers do not say why: it is there already, or it cannot be made.
            Err(error) => match self.sftp.stat(to).await {
                Ok(attributes) if attributes.kind() == FileKind::Directory => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// Nothing more goes into it: from now on it is as it shall be.
    pub(super) async fn leave(&mut self, to: &Path, made: bool, kept: Attributes) -> Result<(), SftpError> {
        if self.preserve {
            self.sftp.set(to, kept).await?;
        } else if made && kept.mode.is_some_and(|mode| mode & 0o700 != 0o700) {
            self.sftp.set(to, Attributes { mode: kept.mode, ..Attributes::default() }).await?;
        }
        Ok(())
    }

    async fn put_file(&mut self, from: &Path, to: &Path, metadata: &Metadata) -> Result<(), SftpError> {
        let file = tokio::fs::File::open(from).await;
        let file = file.map_err(|source| SftpError::Here { path: from.to_owned(), source })?;
        let open = self.sftp.create(to, permissions(metadata)).await?;
        let mut progress = self.progress(from, metadata.len());
        let mut gone = 0;
        let mut copied = self
            .sftp
            .upload(file, from, &open, &mut |bytes| {
                gone = bytes;
                progress.at(bytes);
            })
            .await;
        if copied.is_ok() && self.preserve {
            copied = self.sftp.set_open(&open, kept(metadata)).await;
        }
        let closed = self.sftp.close(open).await;
        copied?;
        closed?;
        progress.done(gone);
        Ok(())
    }
}

fn permissions(metadata: &Metadata) -> u32 {
    metadata.permissions().mode() & 0o777
}

/// What `-p` keeps. SFTP 3 counts seconds in 32 bits, without a sign.
fn kept(metadata: &Metadata) -> Attributes {
    let seconds = |seconds: i64| u32::try_from(seconds.max(0)).unwrap_or(u32::MAX);
    let times = (seconds(metadata.atime()), seconds(metadata.mtime()));
    Attributes { mode: Some(permissions(metadata)), times: Some(times), size: None }
}
