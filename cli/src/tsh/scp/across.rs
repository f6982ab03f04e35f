//! From one node to another, through this machine: neither need reach, or know, the other.

use std::{
    future::Future,
    path::{Component, Path, PathBuf},
    pin::Pin,
};

use tokio::io::{AsyncRead, AsyncWrite, duplex};

use super::{Copying, DIRECTORY, FILE, glob};
use crate::ssh::sftp::{Attributes, FileKind, Sftp, SftpError};

/// Bytes on their way from one node to the other.
const BETWEEN: usize = 1 << 20;

/// Files on their way from a node to that of a [`Copying`].
pub(super) struct Across<S> {
    pub(super) from: Sftp<S>,
    pub(super) to: Copying<S>,
    /// Both are one host: a file that is copied onto itself would be emptied.
    pub(super) same_host: bool,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Across<S> {
    /// Copies paths of the one node, which may be patterns. Answers with how many files could not be copied.
    pub(super) async fn copy(mut self, paths: &[PathBuf], to: &Path) -> Result<usize, SftpError> {
        let into = match self.to.sftp.stat(to).await {
            Ok(attributes) => attributes.kind() == FileKind::Directory,
            Err(error) if error.is_missing() => false,
            Err(error) => return Err(error),
        };
        for path in paths {
            let found = match glob::expand(&mut self.from, path).await {
                Ok(found) => found,
                Err(error) => {
                    self.to.passed(Err(error))?;
                    continue;
                }
            };
            let several = paths.len() > 1 || found.len() > 1;
            if !into && (several || to.as_os_str().as_encoded_bytes().ends_with(b"/")) {
                return Err(SftpError::of(to, "not a directory, or not there"));
            }
            for path in found {
                let copied = match (into, path.components().next_back()) {
                    (true, Some(Component::Normal(name))) => {
                        let to = to.join(name);
                        self.put(path, to, 0).await
                    }
                    // The contents of the directory, as scp has it.
                    (false, _) | (true, Some(Component::CurDir) | None) => {
                        self.put(path, to.to_owned(), 0).await
                    }
                    (true, Some(_)) => {
                        Err(SftpError::of(&path, "has no name of its own: say what it shall be called there"))
                    }
                };
                self.to.passed(copied)?;
            }
        }
        Ok(self.to.failed)
    }

    /// What is at `from`, links followed. Boxed: a tree is as deep as it is.
    fn put(
        &mut self,
        from: PathBuf,
        to: PathBuf,
        depth: usize,
    ) -> Pin<Box<dyn Future<Output = Result<(), SftpError>> + Send + '_>> {
        Box::pin(async move {
            let attributes = self.from.stat(&from).await?;
            if self.to.is_directory(&from, attributes.kind(), depth)? {
                self.put_directory(&from, &to, attributes, depth).await
            } else {
                self.put_file(&from, &to, attributes).await
            }
        })
    }

    async fn put_directory(
        &mut self,
        from: &Path,
        to: &Path,
        attributes: Attributes,
        depth: usize,
    ) -> Result<(), SftpError> {
        let mode = attributes.permissions(DIRECTORY);
        let made = self.to.enter(to, mode).await?;
        for name in self.from.names(from).await? {
            let copied = self.put(from.join(&name), to.join(&name), depth + 1).await;
            self.to.passed(copied)?;
        }
        self.to.leave(to, made, kept(attributes, mode)).await
    }

    async fn put_file(&mut self, from: &Path, to: &Path, attributes: Attributes) -> Result<(), SftpError> {
        if self.same_host && self.is_same_file(from, to).await? {
            return Err(SftpError::of(from, "would be copied onto itself"));
        }
        let mode = attributes.permissions(FILE);
        let size = attributes.size.unwrap_or(0);
        let read = self.from.open(from).await?;
        let written = match self.to.sftp.create(to, mode).await {
            Ok(written) => written,
            Err(error) => {
                self.from.close(read).await?;
                return Err(error);
            }
        };
        let mut progress = self.to.progress(from, size);
        let mut gone = 0;
        let (sink, source) = duplex(BETWEEN);
        let mut unheard = |_: u64| {};
        let taking = async {
            // What it was written to is let go of at once: that is the end of the file for the other half.
            self.from.download(&read, size, sink, from, &mut unheard).await.map(drop)
        };
        let mut heard = |bytes: u64| {
            gone = bytes;
            progress.at(bytes);
        };
        let giving = self.to.sftp.upload(source, from, &written, &mut heard);
        let (taken, given) = tokio::join!(taking, giving);
        // Where the far end fails, the near one cannot go on: the far end's word is the reason.
        let mut copied = given.and(taken);
        if copied.is_ok() && self.to.preserve {
            copied = self.to.sftp.set_open(&written, kept(attributes, mode)).await;
        }
        if copied.as_ref().is_err_and(SftpError::is_final) {
            return copied;
        }
        let closed = (self.from.close(read).await, self.to.sftp.close(written).await);
        copied?;
        closed.0?;
        closed.1?;
        progress.done(gone);
        Ok(())
    }

    async fn is_same_file(&mut self, from: &Path, to: &Path) -> Result<bool, SftpError> {
        let from = self.from.real_path(from).await?;
        match self.to.sftp.real_path(to).await {
            Ok(to) => Ok(from == to),
            Err(error) if error.is_final() => Err(error),
            // There is none yet.
            Err(_) => Ok(false),
        }
    }
}

/// What `-p` keeps.
fn kept(attributes: Attributes, mode: u32) -> Attributes {
    Attributes { mode: Some(mode), times: attributes.times, size: None }
}
