//! Files at a node: SFTP version 3, as every sshd speaks it (draft-ietf-secsh-filexfer-02).
//!
//! What a host answers is bounded and read without trust: a name in a directory is one name, never a path, so that nothing is
//! written but where the user said.

use std::{
    collections::HashMap,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

mod transfer;
mod wire;

use wire::{Answer, Fields, Request};
pub use wire::{Attributes, FileKind};

use crate::output::printable;

/// Longest packet that is taken: what OpenSSH sends at most.
const MAX_PACKET: usize = 256 * 1024;
/// Answers that came before the one that is waited for: as many as can be asked for at once.
const MAX_EARLY: usize = 128;
/// More names than any directory that is copied by hand; a host that goes on for ever is cut off.
const MAX_NAMES: usize = 1 << 20;

/// Why something could not be done with a file at a node.
#[derive(Debug, thiserror::Error)]
pub enum SftpError {
    /// The host said no.
    #[error("{path}: {reason}")]
    Refused {
        /// Which file.
        path: String,
        /// Why: our words, or the host's.
        reason: String,
    },
    /// It answers with something that cannot be.
    #[error("the host broke the rules of SFTP: {0}")]
    Protocol(&'static str),
    /// A directory holds a name that could lead elsewhere.
    #[error("the host lists {0:?}, which is no file name")]
    Name(String),
    /// The connection is gone.
    #[error("the connection was lost")]
    Connection(#[source] std::io::Error),
    /// A file here could not be read or written.
    #[error("{}", path.display())]
    Here {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl SftpError {
    /// True where nothing more can be done on this connection.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Protocol(_) | Self::Connection(_))
    }

    /// A refusal of ours, about a file at the node.
    #[must_use]
    pub fn of(path: &Path, reason: &str) -> Self {
        Self::Refused { path: printable(&path.to_string_lossy()), reason: reason.to_owned() }
    }

    /// True where there is no such file at the node.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { reason, .. } if reason == wire::NO_SUCH_FILE)
    }
}

/// A file that is open at the node.
#[derive(Debug)]
pub struct Open {
    handle: Vec<u8>,
    path: PathBuf,
}

/// A client of one SFTP server.
pub struct Sftp<S> {
    stream: S,
    next: u32,
    /// Answers that came before they were waited for.
    early: HashMap<u32, Answer>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sftp<S> {
    /// Agrees on the version.
    ///
    /// # Errors
    /// [`SftpError`].
    pub async fn start(stream: S) -> Result<Self, SftpError> {
        let mut sftp = Self { stream, next: 0, early: HashMap::new() };
        sftp.write(&wire::init()).await?;
        let packet = sftp.packet().await?;
        match Fields::new(&packet).version() {
            Some(3..) => Ok(sftp),
            _ => Err(SftpError::Protocol("it does not speak version 3")),
        }
    }

    /// What a path leads to.
    ///
    /// # Errors
    /// [`SftpError`].
    pub async fn stat(&mut self, path: &Path) -> Result<Attributes, SftpError> {
        match self.call(&Request::Stat { path: bytes(path) }).await? {
            Answer::Attributes(attributes) => Ok(attributes),
            answer => Err(answer.refused(path)),
        }
    }

    /// The path itself in full, without links and dots.
    ///
    /// # Errors
    /// [`SftpError`].
    pub async fn real_path(&mut self, path: &Path) -> Result<PathBuf, SftpError> {
        match self.call(&Request::RealPath { path: bytes(path) }).await? {
            Answer::Names(names) => match names.into_iter().next() {
                Some((name, _)) => Ok(PathBuf::from(std::ffi::OsString::from_vec(name))),
                None => Err(SftpError::Protocol("a path without a name")),
            },
            answer => Err(answer.refused(path)),
        }
    }

    /// The names in a directory, `.` and `..` left out.
    ///
    /// # Errors
    /// [`SftpError`]; [`SftpError::Name`] where a name could lead out of the directory.
    pub async fn names(&mut self, path: &Path) -> Result<Vec<PathBuf>, SftpError> {
        let open = match self.call(&Request::OpenDirectory { path: bytes(path) }).await? {
            Answer::Handle(handle) => Open { handle, path: path.to_owned() },
            answer => return Err(answer.refused(path)),
        };
        let names = self.names_of(&open).await;
        let closed = self.close(open).await;
        let names = names?;
        closed?;
        Ok(names)
    }

    async fn names_of(&mut self, open: &Open) -> Result<Vec<PathBuf>, SftpError> {
        let mut names = Vec::new();
        loop {
            match self.call(&Request::ReadDirectory { handle: &open.handle }).await? {
                Answer::Names(some) if some.is_empty() => {
                    return Err(SftpError::Protocol("a list of names without names"));
                }
                Answer::Names(some) => {
                    for (name, _) in some {
                        names.extend(checked(&name)?);
                    }
                    if names.len() > MAX_NAMES {
                        return Err(SftpError::of(&open.path, "too many files in one directory"));
                    }
                }
                Answer::Status { code: wire::EOF, .. } => return Ok(names),
                answer => return Err(answer.refused(&open.path)),
            }
        }
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// [`SftpError`].
    pub async fn make_directory(&mut self, path: &Path, mode: u32) -> Result<(), SftpError> {
        let attributes = Attributes { mode: Some(mode), ..Attributes::default() };
        let answer = self.call(&Request::MakeDirectory { path: bytes(path), attributes }).await?;
        answer.done(path)
    }

    /// Changes mode and times.
    ///
    /// # Errors
    /// [`SftpError`].
    pub async fn set(&mut self, path: &Path, attributes: Attributes) -> Result<(), SftpError> {
        self.call(&Request::Set { path: bytes(path), attributes }).await?.done(path)
    }

    /// Opens a file to be read.
    ///
    /// # Errors
    /// [`SftpError`].
    pub async fn open(&mut self, path: &Path) -> Result<Open, SftpError> {
        self.opened(path, wire::READ, Attributes::default()).await
    }

    /// Opens a file to be written, and makes it where there is none; what it held is gone.
    ///
    /// # Errors
    /// [`SftpError`].
    pub async fn create(&mut self, path: &Path, mode: u32) -> Result<Open, SftpError> {
        let attributes = Attributes { mode: Some(mode), ..Attributes::default() };
        self.opened(path, wire::WRITE | wire::CREATE | wire::TRUNCATE, attributes).await
    }

    async fn opened(&mut self, path: &Path, flags: u32, attributes: Attributes) -> Result<Open, SftpError> {
        match self.call(&Request::Open { path: bytes(path), flags, attributes }).await? {
            Answer::Handle(handle) => Ok(Open { handle, path: path.to_owned() }),
            answer => Err(answer.refused(path)),
        }
    }

    /// Closes what is open: an error may be the first that is heard of a full disk.
    ///
    /// # Errors
    /// [`SftpError`].
    pub async fn close(&mut self, open: Open) -> Result<(), SftpError> {
        self.call(&Request::Close { handle: &open.handle }).await?.done(&open.path)
    }

    async fn call(&mut self, request: &Request<'_>) -> Result<Answer, SftpError> {
        let id = self.ask(request).await?;
        self.answer(id).await
    }

    /// Sends a request; its answer is waited for with [`Sftp::answer`].
    async fn ask(&mut self, request: &Request<'_>) -> Result<u32, SftpError> {
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.write(&request.encode(id)).await?;
        Ok(id)
    }

    /// The answer to one request; what comes before it is kept.
    async fn answer(&mut self, wanted: u32) -> Result<Answer, SftpError> {
        if let Some(answer) = self.early.remove(&wanted) {
            return Ok(answer);
        }
        loop {
            let packet = self.packet().await?;
            let (id, answer) =
                Fields::new(&packet).answer().ok_or(SftpError::Protocol("an answer that cannot be read"))?;
            if id == wanted {
                return Ok(answer);
            }
            if self.early.len() == MAX_EARLY || self.early.insert(id, answer).is_some() {
                return Err(SftpError::Protocol("answers that nobody asked for"));
            }
        }
    }

    async fn write(&mut self, packet: &[u8]) -> Result<(), SftpError> {
        self.stream.write_all(packet).await.map_err(SftpError::Connection)?;
        self.stream.flush().await.map_err(SftpError::Connection)
    }

    async fn packet(&mut self) -> Result<Vec<u8>, SftpError> {
        let length = self.stream.read_u32().await.map_err(SftpError::Connection)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length == 0 || length > MAX_PACKET {
            return Err(SftpError::Protocol("a packet that is too long"));
        }
        let mut packet = vec![0; length];
        self.stream.read_exact(&mut packet).await.map_err(SftpError::Connection)?;
        Ok(packet)
    }
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// A name of a directory as one component of a path; `None` for the directory itself and the one above it.
fn checked(name: &[u8]) -> Result<Option<PathBuf>, SftpError> {
    match name {
        b"." | b".." => Ok(None),
        name if name.is_empty() || name.contains(&b'/') || name.contains(&0) => {
            Err(SftpError::Name(String::from_utf8_lossy(name).into_owned()))
        }
        name => Ok(Some(PathBuf::from(std::ffi::OsStr::from_bytes(name)))),
    }
}

#[cfg(test)]
mod tests;
