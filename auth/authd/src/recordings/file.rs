//! The file of one recording: appended to, cut back to what was acknowledged, read.

use std::{
    io::{self, SeekFrom},
    path::{Path, PathBuf},
};

use tokio::{
    fs::{DirBuilder, File, OpenOptions},
    io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt},
};
use uuid::Uuid;

use crate::error::Refused;

/// What became of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Took {
    /// It is written, as far as it was not there already.
    All,
    /// Something before it is missing; nothing of it is written.
    Gap,
}

/// A recording that is being written.
pub(super) struct RecordingFile {
    file: File,
    /// Bytes written, of which those before the last [`sync`](Self::sync) are on disk.
    length: u64,
}

impl RecordingFile {
    /// Opens the file with as many bytes as were acknowledged; what lies beyond was never promised to be there.
    pub(super) async fn open(directory: &Path, session: Uuid, acknowledged: u64) -> Result<Self, Refused> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(directory).await.map_err(failed)?;
        let path = path(directory, session);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .await
            .map_err(failed)?;
        if file.metadata().await.map_err(failed)?.len() < acknowledged {
            return Err(Refused::Internal("a recording is shorter than what was acknowledged"));
        }
        file.set_len(acknowledged).await.map_err(failed)?;
        file.seek(SeekFrom::Start(acknowledged)).await.map_err(failed)?;
        if acknowledged == 0 {
            // The names themselves must survive a power cut: the file's, and that of its directory.
            for directory in [Some(directory), directory.parent()].into_iter().flatten() {
                File::open(directory).await.map_err(failed)?.sync_all().await.map_err(failed)?;
            }
        }
        Ok(Self { file, length: acknowledged })
    }

    /// Writes a part that belongs at `offset`.
    pub(super) async fn take(&mut self, offset: u64, data: &[u8], limit: u64) -> Result<Took, Refused> {
        let Some(seen) = self.length.checked_sub(offset) else { return Ok(Took::Gap) };
        let new = usize::try_from(seen).ok().and_then(|seen| data.get(seen..)).unwrap_or_default();
        let length = self.length.saturating_add(new.len() as u64);
        if length > limit {
            return Err(Refused::RecordingTooLarge);
        }
        self.file.write_all(new).await.map_err(failed)?;
        self.length = length;
        Ok(Took::All)
    }

    /// Brings everything to disk; answers how much that is.
    pub(super) async fn sync(&mut self) -> Result<u64, Refused> {
        self.file.flush().await.map_err(failed)?;
        self.file.sync_data().await.map_err(failed)?;
        Ok(self.length)
    }
}

/// A recording that is being read, as far as it was acknowledged when that began.
pub(super) struct Reading {
    file: File,
    left: u64,
}

impl Reading {
    pub(super) async fn open(directory: &Path, session: Uuid, acknowledged: u64) -> Result<Self, Refused> {
        let file = File::open(path(directory, session)).await.map_err(failed)?;
        Ok(Self { file, left: acknowledged })
    }

    /// The next bytes, at most so many; none at the end.
    pub(super) async fn next(&mut self, most: usize) -> Result<Vec<u8>, Refused> {
        let wanted = usize::try_from(self.left).unwrap_or(most).min(most);
        let mut data = vec![0; wanted];
        self.file.read_exact(&mut data).await.map_err(failed)?;
        self.left -= wanted as u64;
        Ok(data)
    }
}

fn path(directory: &Path, session: Uuid) -> PathBuf {
    directory.join(format!("{session}.cast"))
}

fn failed(error: io::Error) -> Refused {
    Refused::Recording(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Uuid = Uuid::from_u128(7);
    const LIMIT: u64 = 100;

    async fn content(directory: &Path) -> Vec<u8> {
        tokio::fs::read(path(directory, SESSION)).await.unwrap()
    }

    #[tokio::test]
    async fn parts_that_come_again_are_passed_over_and_a_gap_takes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = RecordingFile::open(directory.path(), SESSION, 0).await.unwrap();
        assert_eq!(file.take(0, b"hello", LIMIT).await.unwrap(), Took::All);
        assert_eq!(file.take(0, b"hello", LIMIT).await.unwrap(), Took::All);
        assert_eq!(file.take(2, b"llo wor", LIMIT).await.unwrap(), Took::All);
        assert_eq!(file.take(10, b"x", LIMIT).await.unwrap(), Took::Gap);
        assert_eq!(file.take(9, b"ld", LIMIT).await.unwrap(), Took::All);
        assert_eq!(file.sync().await.unwrap(), 11);
        assert_eq!(content(directory.path()).await, b"hello world");
    }

    #[tokio::test]
    async fn what_was_not_acknowledged_is_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = RecordingFile::open(directory.path(), SESSION, 0).await.unwrap();
        file.take(0, b"hello torn", LIMIT).await.unwrap();
        file.sync().await.unwrap();
        drop(file);
        let mut file = RecordingFile::open(directory.path(), SESSION, 5).await.unwrap();
        file.take(5, b"!", LIMIT).await.unwrap();
        file.sync().await.unwrap();
        assert_eq!(content(directory.path()).await, b"hello!");
        assert!(RecordingFile::open(directory.path(), SESSION, 7).await.is_err(), "it has only six");
    }

    #[tokio::test]
    async fn a_recording_has_an_end() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = RecordingFile::open(directory.path(), SESSION, 0).await.unwrap();
        assert!(matches!(file.take(0, b"hello", 4).await, Err(Refused::RecordingTooLarge)));
        assert_eq!(file.take(u64::MAX, b"hello", 4).await.unwrap(), Took::Gap);
    }

    #[tokio::test]
    async fn a_reader_sees_what_was_acknowledged_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = RecordingFile::open(directory.path(), SESSION, 0).await.unwrap();
        file.take(0, b"hello torn", LIMIT).await.unwrap();
        file.sync().await.unwrap();
        let mut reading = Reading::open(directory.path(), SESSION, 5).await.unwrap();
        assert_eq!(reading.next(3).await.unwrap(), b"hel");
        assert_eq!(reading.next(3).await.unwrap(), b"lo");
        assert_eq!(reading.next(3).await.unwrap(), b"");
    }
}
