//! SFTP's packets.

use std::path::Path;

use super::SftpError;
use crate::output::printable;

/// `SSH_FX_EOF`
pub(super) const EOF: u32 = 1;
/// What is said of `SSH_FX_NO_SUCH_FILE`.
pub(super) const NO_SUCH_FILE: &str = "No such file or directory";

/// `SSH_FXF_READ`, `_WRITE`, `_CREAT`, `_TRUNC`
pub(super) const READ: u32 = 1;
pub(super) const WRITE: u32 = 2;
pub(super) const CREATE: u32 = 8;
pub(super) const TRUNCATE: u32 = 16;

const SIZE: u32 = 1;
const OWNERS: u32 = 2;
const PERMISSIONS: u32 = 4;
const TIMES: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;

/// Type of a file in its mode (stat(2), `S_IFMT`).
const KIND: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;

/// What is known of a file, or shall be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Bytes.
    pub size: Option<u64>,
    /// Type and permissions.
    pub mode: Option<u32>,
    /// Last access and last change, in seconds since 1970.
    pub times: Option<(u32, u32)>,
}

/// What can be copied, and what cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A regular file, or one of which the host does not tell.
    Regular,
    /// A device, a pipe, a socket.
    Other,
}

impl Attributes {
    /// What kind of file it is.
    #[must_use]
    pub fn kind(&self) -> FileKind {
        match self.mode.map(|mode| mode & KIND) {
            Some(DIRECTORY) => FileKind::Directory,
            Some(REGULAR | 0) | None => FileKind::Regular,
            Some(_) => FileKind::Other,
        }
    }

    /// Permissions of owner, group and others: nothing that gives a program somebody else's rights.
    #[must_use]
    pub fn permissions(&self, otherwise: u32) -> u32 {
        self.mode.map_or(otherwise, |mode| mode & 0o777)
    }

    fn encode(&self, packet: &mut Packet) {
        let flag = |is: bool, flag: u32| if is { flag } else { 0 };
        packet.u32(
            flag(self.size.is_some(), SIZE)
                | flag(self.mode.is_some(), PERMISSIONS)
                | flag(self.times.is_some(), TIMES),
        );
        if let Some(size) = self.size {
            packet.u64(size);
        }
        if let Some(mode) = self.mode {
            packet.u32(mode);
        }
        if let Some((accessed, modified)) = self.times {
            packet.u32(accessed);
            packet.u32(modified);
        }
    }
}

/// What is asked.
#[derive(Debug)]
pub(super) enum Request<'a> {
    Open { path: &'a [u8], flags: u32, attributes: Attributes },
    Close { handle: &'a [u8] },
    Read { handle: &'a [u8], offset: u64, length: u32 },
    Write { handle: &'a [u8], offset: u64, data: &'a [u8] },
    Set { path: &'a [u8], attributes: Attributes },
    SetOpen { handle: &'a [u8], attributes: Attributes },
    OpenDirectory { path: &'a [u8] },
    ReadDirectory { handle: &'a [u8] },
    MakeDirectory { path: &'a [u8], attributes: Attributes },
    RealPath { path: &'a [u8] },
    Stat { path: &'a [u8] },
}

impl Request<'_> {
    pub(super) fn encode(&self, id: u32) -> Vec<u8> {
        let kind = match self {
            Self::Open { .. } => 3,
            Self::Close { .. } => 4,
            Self::Read { .. } => 5,
            Self::Write { .. } => 6,
            Self::Set { .. } => 9,
            Self::SetOpen { .. } => 10,
            Self::OpenDirectory { .. } => 11,
            Self::ReadDirectory { .. } => 12,
            Self::MakeDirectory { .. } => 14,
            Self::RealPath { .. } => 16,
            Self::Stat { .. } => 17,
        };
        let mut packet = Packet::new(kind);
        packet.u32(id);
        match self {
            Self::Open { path, flags, attributes } => {
                packet.string(path);
                packet.u32(*flags);
                attributes.encode(&mut packet);
            }
            Self::Read { handle, offset, length } => {
                packet.string(handle);
                packet.u64(*offset);
                packet.u32(*length);
            }
            Self::Write { handle, offset, data } => {
                packet.string(handle);
                packet.u64(*offset);
                packet.string(data);
            }
            Self::Set { path: what, attributes }
            | Self::SetOpen { handle: what, attributes }
            | Self::MakeDirectory { path: what, attributes } => {
                packet.string(what);
                attributes.encode(&mut packet);
            }
            Self::Close { handle: what }
            | Self::ReadDirectory { handle: what }
            | Self::OpenDirectory { path: what }
            | Self::RealPath { path: what }
            | Self::Stat { path: what } => packet.string(what),
        }
        packet.finish()
    }
}

/// `SSH_FXP_INIT` for version 3.
pub(super) fn init() -> Vec<u8> {
    let mut packet = Packet::new(1);
    packet.u32(3);
    packet.finish()
}

/// A packet that grows: four bytes for its length, then its type.
struct Packet(Vec<u8>);

impl Packet {
    fn new(kind: u8) -> Self {
        Self(vec![0, 0, 0, 0, kind])
    }

    fn u32(&mut self, value: u32) {
        self.0.extend(value.to_be_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend(value.to_be_bytes());
    }

    fn string(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(bytes);
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len().saturating_sub(4)).unwrap_or(u32::MAX).to_be_bytes();
        if let Some(place) = self.0.first_chunk_mut() {
            *place = length;
        }
        self.0
    }
}

/// What is answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Status { code: u32, message: String },
    Handle(Vec<u8>),
    Data(Vec<u8>),
    Names(Vec<(Vec<u8>, Attributes)>),
    Attributes(Attributes),
}

impl Answer {
    /// Where only a status can be good.
    pub(super) fn done(self, path: &Path) -> Result<(), SftpError> {
        if matches!(self, Self::Status { code: 0, .. }) { Ok(()) } else { Err(self.refused(path)) }
    }

    /// Where something else was waited for.
    pub(super) fn refused(self, path: &Path) -> SftpError {
        let Self::Status { code, message } = self else {
            return SftpError::Protocol("an answer to something else");
        };
        let reason = match code {
            0 => return SftpError::Protocol("success without what was asked for"),
            EOF => "unexpected end of file",
            2 => NO_SUCH_FILE,
            3 => "Permission denied",
            8 => "Operation unsupported",
            _ if message.is_empty() => "Failure",
            _ => &message,
        };
        SftpError::of(path, reason)
    }
}

/// A packet as it came, read from the front. Nothing is taken that is not there.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn new(packet: &'a [u8]) -> Self {
        Self(packet)
    }

    /// `SSH_FXP_VERSION`
    pub(super) fn version(mut self) -> Option<u32> {
        if self.u8()? == 2 { self.u32() } else { None }
    }

    /// Any answer, and to what.
    pub(super) fn answer(mut self) -> Option<(u32, Answer)> {
        let kind = self.u8()?;
        let id = self.u32()?;
        let answer = match kind {
            101 => {
                let code = self.u32()?;
                // Old servers leave the message out.
                let message = self.string().map(|message| printable(&String::from_utf8_lossy(message)));
                Answer::Status { code, message: message.unwrap_or_default() }
            }
            102 => Answer::Handle(self.string()?.to_vec()),
            103 => Answer::Data(self.string()?.to_vec()),
            104 => Answer::Names(self.names()?),
            105 => Answer::Attributes(self.attributes()?),
            _ => return None,
        };
        Some((id, answer))
    }

    fn names(&mut self) -> Option<Vec<(Vec<u8>, Attributes)>> {
        let count = self.u32()?;
        let mut names = Vec::new();
        for _ in 0..count {
            let name = self.string()?.to_vec();
            self.string()?;
            names.push((name, self.attributes()?));
        }
        Some(names)
    }

    fn attributes(&mut self) -> Option<Attributes> {
        let flags = self.u32()?;
        let has = |flag| flags & flag != 0;
        let mut attributes = Attributes::default();
        if has(SIZE) {
            attributes.size = Some(self.u64()?);
        }
        if has(OWNERS) {
            self.u64()?;
        }
        if has(PERMISSIONS) {
            attributes.mode = Some(self.u32()?);
        }
        if has(TIMES) {
            attributes.times = Some((self.u32()?, self.u32()?));
        }
        if has(EXTENDED) {
            for _ in 0..self.u32()? {
                self.string()?;
                self.string()?;
            }
        }
        Some(attributes)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(packet: &[u8]) -> Option<(u32, Answer)> {
        Fields::new(packet).answer()
    }

    /// One name with all that attributes can hold.
    fn names() -> Vec<u8> {
        let mut packet = Packet::new(104);
        packet.u32(7);
        packet.u32(1);
        packet.string(b"a b");
        packet.string(b"-rw-r--r-- a b");
        packet.u32(SIZE | OWNERS | PERMISSIONS | TIMES | EXTENDED);
        packet.u64(5);
        packet.u64(0);
        packet.u32(0o100_644);
        packet.u32(1);
        packet.u32(2);
        packet.u32(1);
        packet.string(b"acl");
        packet.string(b"");
        packet.finish()[4..].to_vec()
    }

    #[test]
    fn an_answer_is_read_whole() {
        let attributes = Attributes { size: Some(5), mode: Some(0o100_644), times: Some((1, 2)) };
        assert_eq!(answer(&names()), Some((7, Answer::Names(vec![(b"a b".to_vec(), attributes)]))));
    }

    #[test]
    fn an_answer_that_is_cut_off_anywhere_is_none() {
        let whole = names();
        for end in 0..whole.len() {
            assert_eq!(answer(&whole[..end]), None, "{end}");
        }
    }

    #[test]
    fn counts_and_lengths_that_are_lies_take_no_memory() {
        let lies: [&[u8]; 3] = [
            b"\x68\0\0\0\x01\xff\xff\xff\xff",
            b"\x67\0\0\0\x01\xff\xff\xff\xffx",
            b"\x69\0\0\0\x01\x80\0\0\0\xff\xff\xff\xff",
        ];
        for lie in lies {
            assert_eq!(answer(lie), None);
        }
    }

    #[test]
    fn kinds_are_told_apart_and_set_id_bits_are_nobodys() {
        let of = |mode| Attributes { mode, ..Attributes::default() };
        assert_eq!(of(Some(0o040_755)).kind(), FileKind::Directory);
        assert_eq!(of(Some(0o020_666)).kind(), FileKind::Other);
        assert_eq!(of(None).kind(), FileKind::Regular);
        assert_eq!(of(Some(0o106_755)).permissions(0), 0o755);
    }
}
