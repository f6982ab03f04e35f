//! From a node to here.

use std::{
    fs::{self, DirBuilder, FileTimes, Permissions},
    future::Future,
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Component, Path, PathBuf},
    pin::Pin,
    time::{Duration, UNIX_EPOCH},
};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Copying, DIRECTORY, FILE, glob};
use crate::ssh::sftp::{Attributes, SftpError};

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Copying<S> {
    /// Copies paths of the node, which may be patterns. Answers with how many files could not be copied.
    pub(super) async fn down(mut self, paths: &[PathBuf], to: &Path) -> Result<usize, SftpError> {
        for path in paths {
            match glob::expand(&mut self.sftp, path).await {
                Ok(found) => {
                    let several = found.len() > 1;
                    for path in found {
                        let copied = self.place(&path, to, several).await;
                        self.passed(copied)?;
                    }
                }
                Err(error) => self.passed(Err(error))?,
            }
        }
        Ok(self.failed)
    }

    async fn place(&mut self, path: &Path, to: &Path, several: bool) -> Result<(), SftpError> {
        if !to.is_dir() {
            let not_there = || io::Error::from(io::ErrorKind::NotADirectory);
            if several || ends_with_slash(to) {
                return Err(SftpError::Here { path: to.to_owned(), source: not_there() });
            }
            return self.get(path.to_owned(), to.to_owned(), 0).await;
        }
        match path.components().next_back() {
            Some(Component::Normal(name)) => self.get(path.to_owned(), to.join(name), 0).await,
            // The contents of the directory, as scp has it.
            Some(Component::CurDir) | None => self.get(path.to_owned(), to.to_owned(), 0).await,
            Some(_) => Err(SftpError::of(path, "has no name of its own: say what it shall be called here")),
        }
    }

    /// What is at `from`, links followed. Boxed: a tree is as deep as it is.
    fn get(
        &mut self,
        from: PathBuf,
        to: PathBuf,
        depth: usize,
    ) -> Pin<Box<dyn Future<Output = Result<(), SftpError>> + Send + '_>> {
        Box::pin(async move {
            let attributes = self.sftp.stat(&from).await?;
            if self.is_directory(&from, attributes.kind(), depth)? {
                self.get_directory(&from, &to, attributes, depth).await
            } else {
                self.get_file(&from, &to, attributes).await
            }
        })
    }

    async fn get_directory(
        &mut self,
        from: &Path,
        to: &Path,
        attributes: Attributes,
        depth: usize,
    ) -> Result<(), SftpError> {
        let here = |source| SftpError::Here { path: to.to_owned(), source };
        let mode = attributes.permissions(DIRECTORY);
        let made = match DirBuilder::new().mode(mode | 0o700).create(to) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && to.is_dir() => false,
            Err(error) => return Err(here(error)),
        };
        for name in self.sftp.names(from).await? {
            let copied = self.get(from.join(&name), to.join(&name), depth + 1).await;
            self.passed(copied)?;
        }
        if self.preserve {
            // Times first: afterwards it may be closed to us.
            fs::File::open(to).and_then(|directory| set_times(&directory, attributes)).map_err(here)?;
            fs::set_permissions(to, Permissions::from_mode(mode)).map_err(here)?;
        } else if made && mode & 0o700 != 0o700 {
            // It had to be entered until now; what the umask took stays taken.
            let now = fs::metadata(to).map_err(here)?.permissions().mode();
            fs::set_permissions(to, Permissions::from_mode(now & mode)).map_err(here)?;
        }
        Ok(())
    }

    async fn get_file(&mut self, from: &Path, to: &Path, attributes: Attributes) -> Result<(), SftpError> {
        let here = |source| SftpError::Here { path: to.to_owned(), source };
        let size = attributes.size.unwrap_or(0);
        let open = self.sftp.open(from).await?;
        let mode = attributes.permissions(FILE);
        let created = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(to);
        let file = match created {
            Ok(file) => tokio::fs::File::from_std(file),
            Err(error) => {
                self.sftp.close(open).await?;
                return Err(here(error));
            }
        };
        let mut progress = self.progress(from, size);
        let mut come = 0;
        let copied = self
            .sftp
            .download(&open, size, file, to, &mut |bytes| {
                come = bytes;
                progress.at(bytes);
            })
            .await;
        self.sftp.close(open).await?;
        let file = copied?.into_std().await;
        progress.done(come);
        if self.preserve {
            file.set_permissions(Permissions::from_mode(mode)).map_err(here)?;
            set_times(&file, attributes).map_err(here)?;
        }
        Ok(())
    }
}

fn ends_with_slash(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

fn set_times(file: &fs::File, attributes: Attributes) -> io::Result<()> {
    let Some((accessed, modified)) = attributes.times else { return Ok(()) };
    let at = |seconds: u32| UNIX_EPOCH + Duration::from_secs(seconds.into());
    let times = FileTimes::new().set_accessed(at(accessed)).set_modified(at(modified));
    file.set_times(times)
}
