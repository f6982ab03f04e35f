//! A view of SFTP (draft-ietf-secsh-filexfer-02, version 3, and OpenSSH's extensions): which files are touched, how,
//! and what comes of it. The bytes themselves pass as they are.
//!
//! Requests and answers are followed by their heads. What cannot be followed ends the session: it would be files
//! that nobody is told about.

use std::collections::HashMap;

use crate::event::ssh::{SftpEvent, SftpOperation, SftpOutcome};
use crate::reader::Reader;

/// A message may have at most (OpenSSH `SFTP_MAX_MSG_LENGTH`).
const LONGEST: u32 = 256 * 1024;
/// Bytes of a message that are looked at: two paths.
const HEAD: usize = 16 * 1024;
/// Requests that may be on their way. OpenSSH's client sends 64, sshfs some hundred.
const PENDING: usize = 8 * 1024;
/// Files that may be open. OpenSSH's server allows a few hundred.
const OPEN: usize = 4 * 1024;
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
    read: u64,
    written: u64,
    outcome: SftpOutcome,
}

impl Done {
    pub(super) fn event(&self) -> SftpEvent<'_> {
        SftpEvent {
            operation: self.operation,
            path: &self.path,
            target: self.target.as_deref(),
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
        Done { operation, path, target: None, read, written, outcome }
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
        path: Vec<u8>,
        target: Option<Vec<u8>>,
    },
    /// Only looks.
    Look,
}

const OK: u32 = 0;
const END_OF_FILE: u32 = 1;

impl View {
    /// Bytes from the client, before they are forwarded.
    pub(super) fn asked(&mut self, mut bytes: &[u8]) -> Result<(), Lost> {
        let Self { requests, pending, files, .. } = self;
        while let Some(head) = requests.next(&mut bytes)? {
            if head.number == number::INIT {
                continue;
            }
            let (id, asked) = request(head, files).ok_or(Lost("an SFTP request that cannot be read"))?;
            if pending.len() >= PENDING {
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
            if let Some(over) = self.pair(asked, answer.kind)? {
                done.push(over);
            }
        }
    }

    /// The channel ends: what is not over never will be.
    pub(super) fn end(&mut self) -> Vec<Done> {
        let pending = std::mem::take(&mut self.pending).into_values().filter_map(|asked| match asked {
            Pending::Open { operation, path } => Some((operation, path, None)),
            Pending::Change { operation, path, target } => Some((operation, path, target)),
            Pending::Close { .. } | Pending::Read { .. } | Pending::Write { .. } | Pending::Look => None,
        });
        let pending = pending.map(|(operation, path, target)| Done {
            operation,
            path,
            target,
            read: 0,
            written: 0,
            outcome: SftpOutcome::Unfinished,
        });
        let files = std::mem::take(&mut self.files).into_values();
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
                if self.files.len() >= OPEN || handle.len() > HANDLE {
                    return Err(Lost("too many open SFTP files"));
                }
                let file = File { operation, path, read: 0, written: 0, failed: None };
                // A handle that is given out twice: whoever had it has lost it.
                self.files.insert(handle, file).map(|file| file.done(SftpOutcome::Unfinished))
            }
            (Pending::Open { operation, path }, _) => {
                Some(Done { operation, path, target: None, read: 0, written: 0, outcome })
            }
            (Pending::Close { handle }, _) => self.files.remove(&handle).map(|file| file.done(outcome)),
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
            (Pending::Change { operation, path, target }, _) => {
                Some(Done { operation, path, target, read: 0, written: 0, outcome })
            }
            (Pending::Read { .. } | Pending::Write { .. } | Pending::Look, _) => None,
        })
    }
}

/// What a request asks for, by its number and head.
fn request(head: Head<'_>, files: &HashMap<Vec<u8>, File>) -> Option<(u32, Pending)> {
    let mut reader = Reader::new(head.bytes);
    let id = reader.u32().ok()?;
    let mut text =
        || reader.string().ok().map(|text| text.get(..text.len().min(PATH)).unwrap_or(text).to_vec());
    let change = |operation, path, target| Pending::Change { operation, path, target };
    let asked = match head.number {
        number::OPEN => Pending::Open { operation: SftpOperation::File, path: text()? },
        number::OPENDIR => Pending::Open { operation: SftpOperation::List, path: text()? },
        number::CLOSE => Pending::Close { handle: text()? },
        number::READ => Pending::Read { handle: text()? },
        number::WRITE => {
            let handle = text()?;
            reader.take(8).ok()?;
            Pending::Write { handle, length: reader.u32().ok()? }
        }
        number::SETSTAT => change(SftpOperation::SetAttributes, text()?, None),
        number::FSETSTAT => {
            let handle = text()?;
            change(SftpOperation::SetAttributes, path_of(files, handle), None)
        }
        number::REMOVE => change(SftpOperation::Remove, text()?, None),
        number::MKDIR => change(SftpOperation::MakeDirectory, text()?, None),
        number::RMDIR => change(SftpOperation::RemoveDirectory, text()?, None),
        number::RENAME => {
            let from = text()?;
            change(SftpOperation::Rename, from, Some(text()?))
        }
        // OpenSSH's client and server have these two the other way round than the draft (PROTOCOL 4.1).
        number::SYMLINK => {
            let target = text()?;
            change(SftpOperation::Symlink, text()?, Some(target))
        }
        number::EXTENDED => {
            let name = text()?;
            extended(&name, &mut text, files)?
        }
        7 | 8 | 12 | 16 | 17 | 19 => Pending::Look,
        _ => return None,
    };
    Some((id, asked))
}

/// OpenSSH's extensions, and those that are not known: by their names.
fn extended(
    name: &[u8],
    text: &mut impl FnMut() -> Option<Vec<u8>>,
    files: &HashMap<Vec<u8>, File>,
) -> Option<Pending> {
    let change = |operation, path, target| Pending::Change { operation, path, target };
    Some(match name {
        b"posix-rename@openssh.com" => {
            let from = text()?;
            change(SftpOperation::Rename, from, Some(text()?))
        }
        b"hardlink@openssh.com" => {
            let from = text()?;
            change(SftpOperation::Hardlink, from, Some(text()?))
        }
        b"lsetstat@openssh.com" => change(SftpOperation::SetAttributes, text()?, None),
        b"statvfs@openssh.com"
        | b"fstatvfs@openssh.com"
        | b"fsync@openssh.com"
        | b"limits@openssh.com"
        | b"expand-path@openssh.com"
        | b"home-directory"
        | b"users-groups-by-id@openssh.com" => Pending::Look,
        b"copy-data" => {
            let from = path_of(files, text()?);
            change(SftpOperation::Copy, from, None)
        }
        name => change(SftpOperation::Extended, name.to_vec(), None),
    })
}

/// The path behind a handle; empty for one that is not open.
fn path_of(files: &HashMap<Vec<u8>, File>, handle: Vec<u8>) -> Vec<u8> {
    files.get(&handle).map(|file| file.path.clone()).unwrap_or_default()
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

/// A message's number, and as much of what follows as is looked at.
struct Head<'a> {
    number: u8,
    bytes: &'a [u8],
}

/// Cuts one direction into messages, whose heads alone are kept.
#[derive(Debug, Default)]
struct Heads {
    /// Length field, number and head of the message that is coming in.
    head: Vec<u8>,
    /// Bytes of the message that are still to come, once its length is known.
    rest: Option<usize>,
    /// The head is complete, and was handed out.
    told: bool,
}

impl Heads {
    /// The next message's head, taken from the front of `bytes`; `None` when it is not complete yet.
    fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Head<'_>>, Lost> {
        loop {
            if self.told {
                let rest = self.rest.unwrap_or_default();
                let skipped = rest.min(bytes.len());
                *bytes = bytes.get(skipped..).unwrap_or_default();
                if skipped < rest {
                    self.rest = Some(rest - skipped);
                    return Ok(None);
                }
                (self.told, self.rest) = (false, None);
                self.head.clear();
            }
            let Some(rest) = self.rest else {
                self.take(4, bytes);
                let Some(field) = self.head.first_chunk::<4>() else { return Ok(None) };
                let length = u32::from_be_bytes(*field);
                if !(5..=LONGEST).contains(&length) {
                    return Err(Lost("an SFTP message of an impossible length"));
                }
                self.rest = Some(length as usize);
                continue;
            };
            let wanted = 4 + rest.min(HEAD);
            self.take(wanted, bytes);
            if self.head.len() < wanted {
                return Ok(None);
            }
            self.told = true;
            self.rest = Some(rest - (wanted - 4));
            let (number, head) =
                self.head.get(4..).and_then(<[u8]>::split_first).ok_or(Lost("an empty SFTP message"))?;
            return Ok(Some(Head { number: *number, bytes: head }));
        }
    }

    /// Fills the head up to so many bytes, as far as there are any.
    fn take(&mut self, wanted: usize, bytes: &mut &[u8]) {
        let missing = wanted.saturating_sub(self.head.len()).min(bytes.len());
        let (now, later) = bytes.split_at(missing);
        self.head.extend_from_slice(now);
        *bytes = later;
    }
}

#[cfg(test)]
mod tests;
