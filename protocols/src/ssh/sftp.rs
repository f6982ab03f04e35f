//! A view of SFTP (draft-ietf-secsh-filexfer-02, version 3, and OpenSSH's extensions): which files are touched, how,
//! and what comes of it. The bytes themselves pass as they are.
//!
//! Requests and answers are followed by their heads. What cannot be followed ends the session: it would be files
//! that nobody is told about.

use std::collections::HashMap;

use crate::event::ssh::{SftpEvent, SftpOperation, SftpOutcome};
use crate::reader::Reader;

mod heads;

use self::heads::{Head, Heads};

/// Requests that may be on their way. OpenSSH's client sends 64, sshfs some hundred.
const PENDING: usize = 8 * 1024;
/// Files that may be open. OpenSSH's server allows a few hundred.
const OPEN: usize = 4 * 1024;
/// Bytes of names, of requests on their way and of open files together, that are remembered. Clients need some kilobytes:
/// who asks for more has all of it unanswered.
const REMEMBERED: usize = 1024 * 1024;
/// Bytes of a path that are kept.
const PATH: usize = 4 * 1024;
/// Bytes of a handle (draft §3: at most 256).
const HANDLE: usize = 256;

mod number {
    pub(super) const INIT: u8 = 1;
    pub(super) const VERSION: u8 = 2;
    pub(super) const OPEN: u8 = 3;
    pub(super) const CLOSE: u8 = 4;
    pub(super) const READ: u8 = 5;
    pub(super) const WRITE: u8 = 6;
    pub(super) const SETSTAT: u8 = 9;
    pub(super) const FSETSTAT: u8 = 10;
    pub(super) const OPENDIR: u8 = 11;
    pub(super) const REMOVE: u8 = 13;
    pub(super) const MKDIR: u8 = 14;
    pub(super) const RMDIR: u8 = 15;
    pub(super) const RENAME: u8 = 18;
    pub(super) const SYMLINK: u8 = 20;
    pub(super) const STATUS: u8 = 101;
    pub(super) const HANDLE: u8 = 102;
    pub(super) const DATA: u8 = 103;
    pub(super) const EXTENDED: u8 = 200;
    pub(super) const EXTENDED_REPLY: u8 = 201;
}

/// What the two sides of a channel say, followed.
#[derive(Debug, Default)]
pub(super) struct View {
    requests: Heads,
    answers: Heads,
    pending: HashMap<u32, Pending>,
    files: HashMap<Vec<u8>, File>,
    /// Bytes of names in both.
    remembered: usize,
}

/// A message that cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost(pub(super) &'static str);

/// An operation that is over: owned, so that it can be told when nothing is locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Done {
    operation: SftpOperation,
    path: Vec<u8>,
    target: Option<Vec<u8>>,
    unknown_handle: Option<Vec<u8>>,
    read: u64,
    written: u64,
    outcome: SftpOutcome,
}

impl Done {
    /// Something that is not a file that was read or written.
    fn change(
        operation: SftpOperation,
        path: Vec<u8>,
        target: Option<Vec<u8>>,
        outcome: SftpOutcome,
    ) -> Self {
        Self { operation, path, target, unknown_handle: None, read: 0, written: 0, outcome }
    }

    pub(super) fn event(&self) -> SftpEvent<'_> {
        SftpEvent {
            operation: self.operation,
            path: &self.path,
            target: self.target.as_deref(),
            unknown_handle: self.unknown_handle.as_deref(),
            read: self.read,
            written: self.written,
            outcome: self.outcome,
        }
    }
}

/// An open file or directory.
#[derive(Debug)]
struct File {
    operation: SftpOperation,
    path: Vec<u8>,
    read: u64,
    written: u64,
    /// The first read or write that failed, end of file not counted.
    failed: Option<u32>,
}

impl File {
    fn done(self, outcome: SftpOutcome) -> Done {
        let Self { operation, path, read, written, failed } = self;
        let outcome = match failed {
            Some(code) if outcome == SftpOutcome::Done => SftpOutcome::Failed { code },
            _ => outcome,
        };
        Done { read, written, ..Done::change(operation, path, None, outcome) }
    }
}

/// A file, by its path or by a handle that it may get until the answer comes: clients need not wait for the handle that
/// they know they will be given.
#[derive(Debug)]
enum Named {
    Path(Vec<u8>),
    Handle(Vec<u8>),
}

impl Named {
    /// By the path where the handle is known already.
    fn by(mut handle: Vec<u8>, files: &HashMap<Vec<u8>, File>) -> Self {
        if let Some(file) = files.get(&handle) {
            return Self::Path(file.path.clone());
        }
        // Still longer than any that is given out.
        handle.truncate(HANDLE + 1);
        Self::Handle(handle)
    }

    /// The path, or the handle that nobody knows.
    fn path(self, files: &HashMap<Vec<u8>, File>) -> Result<Vec<u8>, Vec<u8>> {
        match self {
            Self::Path(path) => Ok(path),
            Self::Handle(handle) => files.get(&handle).map(|file| file.path.clone()).ok_or(handle),
        }
    }

    fn len(&self) -> usize {
        let (Self::Path(name) | Self::Handle(name)) = self;
        name.len()
    }
}

/// What a request asked for.
#[derive(Debug)]
enum Pending {
    Open {
        operation: SftpOperation,
        path: Vec<u8>,
    },
    Close {
        handle: Vec<u8>,
    },
    Read {
        handle: Vec<u8>,
    },
    Write {
        handle: Vec<u8>,
        length: u32,
    },
    Change {
        operation: SftpOperation,
        file: Named,
        target: Option<Named>,
    },
    /// Only looks.
    Look,
}

impl Pending {
    fn change(operation: SftpOperation, path: Vec<u8>, target: Option<Vec<u8>>) -> Self {
        Self::Change { operation, file: Named::Path(path), target: target.map(Named::Path) }
    }

    /// Bytes of names.
    fn len(&self) -> usize {
        match self {
            Self::Open { path: name, .. }
            | Self::Close { handle: name }
            | Self::Read { handle: name }
            | Self::Write { handle: name, .. } => name.len(),
            Self::Change { file, target, .. } => file.len() + target.as_ref().map_or(0, Named::len),
            Self::Look => 0,
        }
    }

    /// What is on record of it when its answer, where there is one, is no handle.
    fn done(self, files: &HashMap<Vec<u8>, File>, outcome: SftpOutcome) -> Option<Done> {
        match self {
            Self::Open { operation, path } => Some(Done::change(operation, path, None, outcome)),
            Self::Change { operation, file, target } => {
                let mut done = Done::change(operation, Vec::new(), None, outcome);
                let mut unknown = |handle| {
                    done.unknown_handle.get_or_insert(handle);
                };
                let path = file.path(files).map_err(&mut unknown).ok();
                let target = target.and_then(|target| target.path(files).map_err(unknown).ok());
                Some(Done { path: path.unwrap_or_default(), target, ..done })
            }
            Self::Close { .. } | Self::Read { .. } | Self::Write { .. } | Self::Look => None,
        }
    }
}

const OK: u32 = 0;
const END_OF_FILE: u32 = 1;

impl View {
    /// Bytes from the client, before they are forwarded.
    pub(super) fn asked(&mut self, mut bytes: &[u8]) -> Result<(), Lost> {
        let Self { requests, pending, files, remembered, .. } = self;
        while let Some(head) = requests.next(&mut bytes)? {
            if head.number == number::INIT {
                continue;
            }
            let (id, asked) = request(head, files).ok_or(Lost("an SFTP request that cannot be read"))?;
            *remembered += asked.len();
            if pending.len() >= PENDING || *remembered > REMEMBERED {
                return Err(Lost("too many SFTP requests at once"));
            }
            if pending.insert(id, asked).is_some() {
                return Err(Lost("two SFTP requests of the same number"));
            }
        }
        Ok(())
    }

    /// Bytes from the upstream: what is over now is added to `done`.
    pub(super) fn answered(&mut self, mut bytes: &[u8], done: &mut Vec<Done>) -> Result<(), Lost> {
        loop {
            let Some(head) = self.answers.next(&mut bytes)? else { return Ok(()) };
            if head.number == number::VERSION {
                continue;
            }
            let answer = answer(head).ok_or(Lost("an SFTP answer that cannot be read"))?;
            let asked = self.pending.remove(&answer.id).ok_or(Lost("an SFTP answer to no request"))?;
            self.remembered -= asked.len();
            if let Some(over) = self.pair(asked, answer.kind)? {
                done.push(over);
            }
        }
    }

    /// The channel ends: what is not over never will be.
    pub(super) fn end(&mut self) -> Vec<Done> {
        let files = std::mem::take(&mut self.files);
        let pending = std::mem::take(&mut self.pending).into_values();
        let pending: Vec<_> =
            pending.filter_map(|asked| asked.done(&files, SftpOutcome::Unfinished)).collect();
        self.remembered = 0;
        let files = files.into_values();
        files.map(|file| file.done(SftpOutcome::Unfinished)).chain(pending).collect()
    }

    /// What a request and its answer come to.
    fn pair(&mut self, asked: Pending, answer: Kind) -> Result<Option<Done>, Lost> {
        let outcome = match answer {
            Kind::Status(OK) | Kind::Handle(_) | Kind::Data(_) | Kind::Other => SftpOutcome::Done,
            Kind::Status(code) => SftpOutcome::Failed { code },
        };
        Ok(match (asked, answer) {
            (Pending::Open { operation, path }, Kind::Handle(handle)) => {
                // A handle that is given out twice: whoever had it has lost it.
                let before = self.forget(&handle);
                self.remembered += path.len() + handle.len();
                let is_too_long = handle.len() > HANDLE;
                // One too many is the last, and is on record too.
                self.files.insert(handle, File { operation, path, read: 0, written: 0, failed: None });
                if self.files.len() > OPEN || self.remembered > REMEMBERED || is_too_long {
                    return Err(Lost("too many open SFTP files"));
                }
                before.map(|file| file.done(SftpOutcome::Unfinished))
            }
            (Pending::Close { handle }, _) => self.forget(&handle).map(|file| file.done(outcome)),
            (Pending::Read { handle }, Kind::Data(length)) => {
                if let Some(file) = self.files.get_mut(&handle) {
                    file.read += u64::from(length);
                }
                None
            }
            (Pending::Write { handle, length }, Kind::Status(OK)) => {
                if let Some(file) = self.files.get_mut(&handle) {
                    file.written += u64::from(length);
                }
                None
            }
            (Pending::Read { handle } | Pending::Write { handle, .. }, Kind::Status(code)) => {
                let file = self.files.get_mut(&handle).filter(|_| code != END_OF_FILE);
                if let Some(file) = file {
                    file.failed.get_or_insert(code);
                }
                None
            }
            (asked, _) => asked.done(&self.files, outcome),
        })
    }

    /// A file is closed.
    fn forget(&mut self, handle: &[u8]) -> Option<File> {
        let file = self.files.remove(handle)?;
        self.remembered -= file.path.len() + handle.len();
        Some(file)
    }
}

/// What a request asks for, by its number and head.
fn request(head: Head<'_>, files: &HashMap<Vec<u8>, File>) -> Option<(u32, Pending)> {
    let mut reader = Reader::new(head.bytes);
    let id = reader.u32().ok()?;
    let asked = match head.number {
        number::OPEN => Pending::Open { operation: SftpOperation::File, path: text(&mut reader)? },
        number::OPENDIR => Pending::Open { operation: SftpOperation::List, path: text(&mut reader)? },
        number::CLOSE => Pending::Close { handle: text(&mut reader)? },
        number::READ => Pending::Read { handle: text(&mut reader)? },
        number::WRITE => {
            let handle = text(&mut reader)?;
            reader.take(8).ok()?;
            Pending::Write { handle, length: reader.u32().ok()? }
        }
        number::SETSTAT => Pending::change(SftpOperation::SetAttributes, text(&mut reader)?, None),
        number::FSETSTAT => {
            let file = Named::by(text(&mut reader)?, files);
            Pending::Change { operation: SftpOperation::SetAttributes, file, target: None }
        }
        number::REMOVE => Pending::change(SftpOperation::Remove, text(&mut reader)?, None),
        number::MKDIR => Pending::change(SftpOperation::MakeDirectory, text(&mut reader)?, None),
        number::RMDIR => Pending::change(SftpOperation::RemoveDirectory, text(&mut reader)?, None),
        number::RENAME => {
            let from = text(&mut reader)?;
            Pending::change(SftpOperation::Rename, from, Some(text(&mut reader)?))
        }
        // OpenSSH's client and server have these two the other way round than the draft (PROTOCOL 4.1).
        number::SYMLINK => {
            let target = text(&mut reader)?;
            Pending::change(SftpOperation::Symlink, text(&mut reader)?, Some(target))
        }
        number::EXTENDED => {
            let name = text(&mut reader)?;
            extended(&name, &mut reader, files)?
        }
        7 | 8 | 12 | 16 | 17 | 19 => Pending::Look,
        _ => return None,
    };
    Some((id, asked))
}

/// OpenSSH's extensions, and those that are not known: by their names.
fn extended(name: &[u8], reader: &mut Reader<'_>, files: &HashMap<Vec<u8>, File>) -> Option<Pending> {
    Some(match name {
        b"posix-rename@openssh.com" => {
            let from = text(reader)?;
            Pending::change(SftpOperation::Rename, from, Some(text(reader)?))
        }
        b"hardlink@openssh.com" => {
            let from = text(reader)?;
            Pending::change(SftpOperation::Hardlink, from, Some(text(reader)?))
        }
        b"lsetstat@openssh.com" => Pending::change(SftpOperation::SetAttributes, text(reader)?, None),
        b"statvfs@openssh.com"
        | b"fstatvfs@openssh.com"
        | b"fsync@openssh.com"
        | b"limits@openssh.com"
        | b"expand-path@openssh.com"
        | b"home-directory"
        | b"users-groups-by-id@openssh.com" => Pending::Look,
        b"copy-data" => {
            // draft-ietf-secsh-filexfer-extensions-00 §7: a handle, where and how much to read; a handle, where to write.
            let file = Named::by(text(reader)?, files);
            reader.take(16).ok()?;
            let target = Some(Named::by(text(reader)?, files));
            Pending::Change { operation: SftpOperation::Copy, file, target }
        }
        name => Pending::change(SftpOperation::Extended, name.to_vec(), None),
    })
}

/// A name, of which so much is kept.
fn text(reader: &mut Reader<'_>) -> Option<Vec<u8>> {
    let text = reader.string().ok()?;
    Some(text.get(..PATH).unwrap_or(text).to_vec())
}

struct Answered {
    id: u32,
    kind: Kind,
}

enum Kind {
    Status(u32),
    Handle(Vec<u8>),
    Data(u32),
    Other,
}

fn answer(head: Head<'_>) -> Option<Answered> {
    let mut reader = Reader::new(head.bytes);
    let id = reader.u32().ok()?;
    let kind = match head.number {
        number::STATUS => Kind::Status(reader.u32().ok()?),
        number::HANDLE => Kind::Handle(reader.string().ok()?.to_vec()),
        number::DATA => Kind::Data(reader.u32().ok()?),
        104 | 105 | number::EXTENDED_REPLY => Kind::Other,
        _ => return None,
    };
    Some(Answered { id, kind })
}

#[cfg(test)]
mod tests;
