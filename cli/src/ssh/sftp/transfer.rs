//! The contents of one file, in order, with many requests on their way at once.

use std::{collections::VecDeque, path::Path};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};

use super::{
    Open, Sftp, SftpError,
    wire::{Answer, Attributes, EOF, Request},
};

/// Asked for, or sent, at once: what every server takes.
const CHUNK: u32 = 32 * 1024;
/// Requests on their way.
const IN_FLIGHT: usize = 64;
/// Read from, or written to, the disk at once.
const DISK_BYTES: usize = 1 << 20;

impl<S: AsyncRead + AsyncWrite + Unpin> Sftp<S> {
    /// Copies a file of the node to where it shall go, as long as it was (`size`), or to its end where it says 0, as those of
    /// /proc do; `progress` hears how many bytes have come.
    ///
    /// # Errors
    /// [`SftpError`].
    pub async fn download<W: AsyncWrite + Unpin>(
        &mut self,
        from: &Open,
        size: u64,
        to: W,
        here: &Path,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<W, SftpError> {
        let mut waiting = VecDeque::new();
        let copied = self.take_all(from, size, to, here, &mut waiting, progress).await;
        self.settle(waiting, copied).await
    }

    async fn take_all<W: AsyncWrite + Unpin>(
        &mut self,
        from: &Open,
        size: u64,
        to: W,
        here: &Path,
        waiting: &mut VecDeque<(u32, u64)>,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<W, SftpError> {
        let wrong = |source| SftpError::Here { path: here.to_owned(), source };
        let mut to = BufWriter::with_capacity(DISK_BYTES, to);
        // More at once as more comes: a small file is asked for once.
        let (mut asked, mut come, mut at_once) = (0_u64, 0_u64, 1);
        loop {
            while waiting.is_empty() || (waiting.len() < at_once && asked < size) {
                waiting.push_back((self.ask_for(from, asked, CHUNK).await?, asked));
                asked = asked.saturating_add(CHUNK.into());
            }
            let Some((id, offset)) = waiting.pop_front() else { break };
            let Some(data) = self.data(from, id, offset, size).await? else { break };
            to.write_all(&data).await.map_err(wrong)?;
            come = come.saturating_add(data.len() as u64);
            at_once = IN_FLIGHT.min(at_once + 1);
            progress(come);
            if size > 0 && come >= size {
                break;
            }
        }
        to.flush().await.map_err(wrong)?;
        Ok(to.into_inner())
    }

    /// Waits for the answers that are still on their way: nobody asks for them any more.
    async fn settle<T>(
        &mut self,
        waiting: VecDeque<(u32, u64)>,
        copied: Result<T, SftpError>,
    ) -> Result<T, SftpError> {
        if !copied.as_ref().is_err_and(SftpError::is_final) {
            for (id, _) in waiting {
                self.answer(id).await?;
            }
        }
        copied
    }

    async fn ask_for(&mut self, from: &Open, offset: u64, length: u32) -> Result<u32, SftpError> {
        self.ask(&Request::Read { handle: &from.handle, offset, length }).await
    }

    /// All of one chunk, also where the host sends it in pieces; `None` at the end of the file.
    async fn data(
        &mut self,
        from: &Open,
        id: u32,
        offset: u64,
        size: u64,
    ) -> Result<Option<Vec<u8>>, SftpError> {
        let mut whole = Vec::new();
        let mut id = id;
        loop {
            match self.answer(id).await? {
                Answer::Data(piece) => {
                    let left = (CHUNK as usize).saturating_sub(whole.len());
                    if piece.is_empty() || piece.len() > left {
                        return Err(SftpError::Protocol("more or less than was asked for"));
                    }
                    whole.extend_from_slice(&piece);
                }
                Answer::Status { code: EOF, .. } => {
                    return Ok(Some(whole).filter(|whole| !whole.is_empty()));
                }
                answer => return Err(answer.refused(&from.path)),
            }
            let left = CHUNK.saturating_sub(u32::try_from(whole.len()).unwrap_or(CHUNK));
            let end = offset.saturating_add(whole.len() as u64);
            if left == 0 || (size > 0 && end >= size) {
                return Ok(Some(whole));
            }
            id = self.ask_for(from, end, left).await?;
        }
    }

    /// Copies what comes from here into a file of the node; `progress` hears how many bytes have been taken there.
    ///
    /// # Errors
    /// [`SftpError`].
    pub async fn upload(
        &mut self,
        from: impl AsyncRead + Unpin,
        here: &Path,
        to: &Open,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), SftpError> {
        let mut waiting = VecDeque::new();
        let copied = self.give_all(from, here, to, &mut waiting, progress).await;
        self.settle(waiting, copied).await
    }

    async fn give_all(
        &mut self,
        from: impl AsyncRead + Unpin,
        here: &Path,
        to: &Open,
        waiting: &mut VecDeque<(u32, u64)>,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), SftpError> {
        let wrong = |source| SftpError::Here { path: here.to_owned(), source };
        let mut from = BufReader::with_capacity(DISK_BYTES, from);
        let (mut chunk, mut offset) = (vec![0; CHUNK as usize], 0_u64);
        loop {
            let read = from.read(&mut chunk).await.map_err(wrong)?;
            let Some(data) = chunk.get(..read).filter(|data| !data.is_empty()) else { break };
            let id = self.ask(&Request::Write { handle: &to.handle, offset, data }).await?;
            offset = offset.saturating_add(read as u64);
            waiting.push_back((id, offset));
            if waiting.len() >= IN_FLIGHT {
                self.taken(to, waiting, progress).await?;
            }
        }
        while !waiting.is_empty() {
            self.taken(to, waiting, progress).await?;
        }
        Ok(())
    }

    async fn taken(
        &mut self,
        to: &Open,
        waiting: &mut VecDeque<(u32, u64)>,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), SftpError> {
        if let Some((id, end)) = waiting.pop_front() {
            self.answer(id).await?.done(&to.path)?;
            progress(end);
        }
        Ok(())
    }

    /// Changes mode and times of what is open.
    ///
    /// # Errors
    /// [`SftpError`].
    pub async fn set_open(&mut self, open: &Open, attributes: Attributes) -> Result<(), SftpError> {
        self.call(&Request::SetOpen { handle: &open.handle, attributes }).await?.done(&open.path)
    }
}
