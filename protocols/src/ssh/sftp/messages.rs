//! SFTP's messages, by their numbers and heads (draft-ietf-secsh-filexfer-02).

use std::collections::HashMap;

use crate::event::ssh::{SftpAttributes, SftpOperation};
use crate::reader::Reader;

use super::{File, HANDLE, Named, PATH, Pending, Wanted, heads::Head};

/// What messages are told apart by (§3).
pub(super) mod number {
    pub(in crate::ssh::sftp) const INIT: u8 = 1;
    pub(in crate::ssh::sftp) const VERSION: u8 = 2;
    pub(in crate::ssh::sftp) const OPEN: u8 = 3;
    pub(in crate::ssh::sftp) const CLOSE: u8 = 4;
    pub(in crate::ssh::sftp) const READ: u8 = 5;
    pub(in crate::ssh::sftp) const WRITE: u8 = 6;
    pub(in crate::ssh::sftp) const SETSTAT: u8 = 9;
    pub(in crate::ssh::sftp) const FSETSTAT: u8 = 10;
    pub(in crate::ssh::sftp) const OPENDIR: u8 = 11;
    pub(in crate::ssh::sftp) const REMOVE: u8 = 13;
    pub(in crate::ssh::sftp) const MKDIR: u8 = 14;
    pub(in crate::ssh::sftp) const RMDIR: u8 = 15;
    pub(in crate::ssh::sftp) const RENAME: u8 = 18;
    pub(in crate::ssh::sftp) const SYMLINK: u8 = 20;
    pub(in crate::ssh::sftp) const STATUS: u8 = 101;
    pub(in crate::ssh::sftp) const HANDLE: u8 = 102;
    pub(in crate::ssh::sftp) const DATA: u8 = 103;
    pub(in crate::ssh::sftp) const EXTENDED: u8 = 200;
    pub(in crate::ssh::sftp) const EXTENDED_REPLY: u8 = 201;
}

/// What a request asks for, by its number and head.
pub(super) fn request(head: Head<'_>, files: &HashMap<Vec<u8>, File>) -> Option<(u32, Pending)> {
    let mut reader = Reader::new(head.bytes);
    let id = reader.u32().ok()?;
    let asked = match head.number {
        number::OPEN => {
            let path = text(&mut reader)?;
            let wanted = Wanted { flags: reader.u32().ok(), attributes: attributes(&mut reader) };
            Pending::Open { operation: SftpOperation::File, path, wanted }
        }
        number::OPENDIR => {
            let wanted = Wanted::default();
            Pending::Open { operation: SftpOperation::List, path: text(&mut reader)?, wanted }
        }
        number::CLOSE => Pending::Close { handle: handle(&mut reader)? },
        number::READ => Pending::Read { handle: handle(&mut reader)? },
        number::WRITE => {
            let handle = handle(&mut reader)?;
            reader.take(8).ok()?;
            Pending::Write { handle, length: reader.u32().ok()? }
        }
        number::SETSTAT => {
            let file = Named::Path(text(&mut reader)?);
            Pending::with_attributes(SftpOperation::SetAttributes, file, &mut reader)
        }
        number::FSETSTAT => {
            let file = Named::by(handle(&mut reader)?, files);
            Pending::with_attributes(SftpOperation::SetAttributes, file, &mut reader)
        }
        number::REMOVE => Pending::change(SftpOperation::Remove, text(&mut reader)?, None),
        number::MKDIR => {
            let file = Named::Path(text(&mut reader)?);
            Pending::with_attributes(SftpOperation::MakeDirectory, file, &mut reader)
        }
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
        b"lsetstat@openssh.com" => {
            let file = Named::Path(text(reader)?);
            Pending::with_attributes(SftpOperation::SetAttributes, file, reader)
        }
        b"statvfs@openssh.com"
        | b"fstatvfs@openssh.com"
        | b"fsync@openssh.com"
        | b"limits@openssh.com"
        | b"expand-path@openssh.com"
        | b"home-directory"
        | b"users-groups-by-id@openssh.com" => Pending::Look,
        b"copy-data" => {
            // draft-ietf-secsh-filexfer-extensions-00 §7: a handle, where and how much to read; a handle, where to write.
            let file = Named::by(handle(reader)?, files);
            reader.take(16).ok()?;
            let (target, wanted) = (Some(Named::by(handle(reader)?, files)), Wanted::default());
            Pending::Change { operation: SftpOperation::Copy, file, target, wanted }
        }
        name => Pending::change(SftpOperation::Extended, name.to_vec(), None),
    })
}

/// A name, of which so much is kept.
fn text(reader: &mut Reader<'_>) -> Option<Vec<u8>> {
    let text = reader.string().ok()?;
    Some(text.get(..PATH).unwrap_or(text).to_vec())
}

/// A handle; of one that is longer than any that is given out, so much that it still is.
fn handle(reader: &mut Reader<'_>) -> Option<Vec<u8>> {
    let handle = reader.string().ok()?;
    Some(handle.get(..=HANDLE).unwrap_or(handle).to_vec())
}

/// What a file is to have (§5). Of what is cut, or in the form of a later version, as much as can be read.
pub(super) fn attributes(reader: &mut Reader<'_>) -> SftpAttributes {
    let (mut attributes, mut rest) = (SftpAttributes::default(), *reader);
    let Ok(named) = rest.u32() else { return attributes };
    let two = |rest: &mut Reader<'_>| Some((rest.u32().ok()?, rest.u32().ok()?));
    if named & 1 != 0 {
        attributes.size = two(&mut rest).map(|(high, low)| u64::from(high) << 32 | u64::from(low));
    }
    if named & 2 != 0 {
        attributes.owner = two(&mut rest);
    }
    if named & 4 != 0 {
        attributes.permissions = rest.u32().ok();
    }
    if named & 8 != 0 {
        attributes.times = two(&mut rest);
    }
    attributes
}

/// An answer, as far as what comes of a request depends on it.
pub(super) struct Answered {
    /// The request's.
    pub(super) id: u32,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Status(u32),
    Handle(Vec<u8>),
    Data(u32),
    Other,
}

/// Reads one.
pub(super) fn answer(head: Head<'_>) -> Option<Answered> {
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
