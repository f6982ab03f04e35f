//! A view of SFTP (draft-ietf-secsh-filexfer-02, version 3, and OpenSSH's extensions): which files are touched, how,
//! and what comes of it. The bytes themselves pass as they are.
//!
//! Requests and answers are followed by their heads. What cannot be followed ends the session: it would be files
//! that nobody is told about.

use std::collections::HashMap;

use crate::event::ssh::{SftpAttributes, SftpEvent, SftpOperation, SftpOutcome};
use crate::reader::Reader;

mod heads;
mod messages;

use self::{
    heads::Heads,
    messages::{Kind, answer, attributes, number, request},
};

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

/// What the two sides of a channel say, followed.
#[derive(Debug, Default)]
pub(super) struct View {
    is: Is,
    /// Why it cannot be followed, should it turn out to be SFTP.
    lost: Option<Lost>,
    requests: Heads,
    answers: Heads,
    pending: HashMap<u32, Pending>,
    files: HashMap<Vec<u8>, File>,
    /// Bytes of names in both.
    remembered: usize,
    /// The host speaks a later version, in which flags and attributes have another form, and names have not.
    is_later: bool,
}

/// Whether a channel carries SFTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Is {
    /// It was asked for, or both sides have begun as SFTP begins.
    #[default]
    Sftp,
    /// Nobody has asked for it, and the client has said nothing yet.
    Open,
    /// The client has begun as SFTP begins; the host has said nothing yet.
    Begun,
    /// Something else.
    Other,
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
    wanted: Wanted,
    outcome: SftpOutcome,
}

/// What a request wants beside names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wanted {
    flags: Option<u32>,
    attributes: SftpAttributes,
}

impl Done {
    /// Something that is not a file that was read or written.
    fn change(
        operation: SftpOperation,
        path: Vec<u8>,
        target: Option<Vec<u8>>,
        outcome: SftpOutcome,
    ) -> Self {
        let wanted = Wanted::default();
        Self { operation, path, target, unknown_handle: None, read: 0, written: 0, wanted, outcome }
    }

    /// Bytes of a file that nobody has seen opened.
    fn of_unknown(handle: Vec<u8>, read: u64, written: u64) -> Self {
        let done = Self::change(SftpOperation::File, Vec::new(), None, SftpOutcome::Done);
        Self { unknown_handle: Some(handle), read, written, ..done }
    }

    pub(super) fn event(&self) -> SftpEvent<'_> {
        SftpEvent {
            operation: self.operation,
            path: &self.path,
            target: self.target.as_deref(),
            unknown_handle: self.unknown_handle.as_deref(),
            read: self.read,
            written: self.written,
            flags: self.wanted.flags,
            attributes: self.wanted.attributes,
            outcome: self.outcome,
        }
    }
}

/// An open file or directory.
#[derive(Debug)]
struct File {
    operation: SftpOperation,
    path: Vec<u8>,
    wanted: Wanted,
    read: u64,
    written: u64,
    /// The first read or write that failed, end of file not counted.
    failed: Option<u32>,
}

impl File {
    fn done(self, outcome: SftpOutcome) -> Done {
        let Self { operation, path, wanted, read, written, failed } = self;
        let outcome = match failed {
            Some(code) if outcome == SftpOutcome::Done => SftpOutcome::Failed { code },
            _ => outcome,
        };
        Done { read, written, wanted, ..Done::change(operation, path, None, outcome) }
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
    fn by(handle: Vec<u8>, files: &HashMap<Vec<u8>, File>) -> Self {
        match files.get(&handle) {
            Some(file) => Self::Path(file.path.clone()),
            None => Self::Handle(handle),
        }
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
        wanted: Wanted,
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
        wanted: Wanted,
    },
    /// Only looks.
    Look,
}

impl Pending {
    fn change(operation: SftpOperation, path: Vec<u8>, target: Option<Vec<u8>>) -> Self {
        let (target, wanted) = (target.map(Named::Path), Wanted::default());
        Self::Change { operation, file: Named::Path(path), target, wanted }
    }

    /// A change of, or a new file with, the attributes that follow.
    fn with_attributes(operation: SftpOperation, file: Named, reader: &mut Reader<'_>) -> Self {
        let wanted = Wanted { flags: None, attributes: attributes(reader) };
        Self::Change { operation, file, target: None, wanted }
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
            Self::Open { operation, path, wanted } => {
                Some(Done { wanted, ..Done::change(operation, path, None, outcome) })
            }
            Self::Change { operation, file, target, wanted } => {
                let mut done = Done::change(operation, Vec::new(), None, outcome);
                let mut unknown = |handle| {
                    done.unknown_handle.get_or_insert(handle);
                };
                let path = file.path(files).map_err(&mut unknown).ok();
                let target = target.and_then(|target| target.path(files).map_err(unknown).ok());
                Some(Done { path: path.unwrap_or_default(), target, wanted, ..done })
            }
            Self::Close { .. } | Self::Read { .. } | Self::Write { .. } | Self::Look => None,
        }
    }
}

const OK: u32 = 0;
const END_OF_FILE: u32 = 1;

impl View {
    /// Of a channel that may carry SFTP though nobody asks for it by its name: a host runs it whatever it is asked for
    /// (`ForceCommand internal-sftp`), or the client starts a server by its path.
    pub(super) fn guess() -> Self {
        Self { is: Is::Open, ..Self::default() }
    }

    /// There is a terminal in between: what the host is asked is not what the client says, so it cannot be followed.
    pub(super) fn through_terminal(&mut self) {
        (self.is, self.lost) = (Is::Begun, Some(Lost("SFTP through a terminal")));
    }

    /// The host has refused to start it, and has said nothing else. What the client has `begun` to say may go to what is
    /// started in its place.
    pub(super) fn refused(&mut self, begun: bool) {
        if self.lost.is_none() {
            self.is = if begun { Is::Begun } else { Is::Open };
        }
    }

    /// Whether it was asked for, or has turned out to be what it is.
    pub(super) fn is_certain(&self) -> bool {
        self.is == Is::Sftp
    }

    /// Whether it has turned out to be none.
    pub(super) fn is_none(&self) -> bool {
        self.is == Is::Other
    }

    /// Bytes from the client, before they are forwarded.
    pub(super) fn asked(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        if self.lost.is_some() || self.is_none() {
            return Ok(());
        }
        match (self.follow(bytes), self.is) {
            (Err(_), Is::Open) => self.is = Is::Other,
            (Err(lost), Is::Begun) => self.lost = Some(lost),
            (followed, _) => return followed,
        }
        Ok(())
    }

    fn follow(&mut self, mut bytes: &[u8]) -> Result<(), Lost> {
        let Self { is, requests, pending, files, remembered, is_later, .. } = self;
        while let Some(head) = requests.next(&mut bytes)? {
            if head.number == number::INIT {
                if *is == Is::Open {
                    *is = Is::Begun;
                }
                continue;
            }
            if *is == Is::Open {
                return Err(Lost("no SFTP"));
            }
            let (id, mut asked) = request(head, files).ok_or(Lost("an SFTP request that cannot be read"))?;
            if let Pending::Open { wanted, .. } | Pending::Change { wanted, .. } = &mut asked
                && *is_later
            {
                *wanted = Wanted::default();
            }
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
    pub(super) fn answered(&mut self, bytes: &[u8], done: &mut Vec<Done>) -> Result<(), Lost> {
        if self.is_none() {
            return Ok(());
        }
        match (self.pair_all(bytes, done), self.is) {
            (Err(_), Is::Open | Is::Begun) => self.is = Is::Other,
            (followed, _) => return followed,
        }
        Ok(())
    }

    fn pair_all(&mut self, mut bytes: &[u8], done: &mut Vec<Done>) -> Result<(), Lost> {
        loop {
            let Some(head) = self.answers.next(&mut bytes)? else { return Ok(()) };
            if self.is != Is::Sftp {
                if self.is != Is::Begun || head.number != number::VERSION {
                    return Err(Lost("no SFTP"));
                }
                self.is = Is::Sftp;
                if let Some(lost) = self.lost {
                    return Err(lost);
                }
            }
            if head.number == number::VERSION {
                self.is_later = Reader::new(head.bytes).u32().is_ok_and(|version| version > 3);
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
            (Pending::Open { operation, path, wanted }, Kind::Handle(handle)) => {
                // A handle that is given out twice: whoever had it has lost it.
                let before = self.forget(&handle);
                self.remembered += path.len() + handle.len();
                let is_too_long = handle.len() > HANDLE;
                // One too many is the last, and is on record too.
                let file = File { operation, path, wanted, read: 0, written: 0, failed: None };
                self.files.insert(handle, file);
                if self.files.len() > OPEN || self.remembered > REMEMBERED || is_too_long {
                    return Err(Lost("too many open SFTP files"));
                }
                before.map(|file| file.done(SftpOutcome::Unfinished))
            }
            (Pending::Close { handle }, _) => self.forget(&handle).map(|file| file.done(outcome)),
            (Pending::Read { handle }, Kind::Data(length)) => match self.files.get_mut(&handle) {
                Some(file) => {
                    file.read += u64::from(length);
                    None
                }
                None => Some(Done::of_unknown(handle, u64::from(length), 0)),
            },
            (Pending::Write { handle, length }, Kind::Status(OK)) => match self.files.get_mut(&handle) {
                Some(file) => {
                    file.written += u64::from(length);
                    None
                }
                None => Some(Done::of_unknown(handle, 0, u64::from(length))),
            },
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

#[cfg(test)]
mod tests;
