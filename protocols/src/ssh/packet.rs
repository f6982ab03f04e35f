//! The binary packet protocol (RFC 4253 §6). HOT.
//!
//! A packet is opened where it was read, and sealed where it is written from: between the two, its content is
//! copied once.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::cipher::{Opening, Sealing};
use super::fault::SshFault;

/// What a packet may have at most: what every implementation must take (RFC 4253 §6.1) is 35,000; OpenSSH takes
/// 256 KiB.
const LONGEST: u32 = 256 * 1024;
/// A buffer of an idle connection.
const SMALL: usize = 4 * 1024;
/// A buffer of a busy one.
const LARGE: usize = 256 * 1024;
/// Content that waits to be written, above which no more is added without writing.
pub(super) const FULL: usize = 128 * 1024;
const LEAST_PADDING: usize = 4;

/// Counts a packet under the same keys. Numbers come round after 2^32 of them (RFC 4344 §3.1), and with them what
/// makes each packet another than all before it. New keys come far earlier, but for a side that never agrees to any.
fn one_more(packets: u32) -> Result<u32, SshFault> {
    packets.checked_add(1).ok_or(SshFault::Protocol("too many packets under the same keys"))
}

/// Packets from the other side.
pub(super) struct Incoming<R> {
    io: R,
    buffer: Vec<u8>,
    /// Where in the buffer the current packet begins, and how much it takes; 0 when there is none.
    start: usize,
    taken: usize,
    /// The current packet's payload, in the buffer.
    payload: std::ops::Range<usize>,
    opening: Opening,
    sequence: u32,
    /// Bytes and packets since the last new keys.
    bytes: u64,
    packets: u32,
    /// Bytes that may still be read, before login.
    budget: Option<usize>,
    /// The buffer's size that recent traffic asks for.
    room: usize,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    /// Nothing is protected yet; at most `budget` bytes are read before [`Incoming::lift_budget`].
    pub(super) fn new(io: R, budget: usize) -> Self {
        Self {
            io,
            buffer: Vec::new(),
            start: 0,
            taken: 0,
            payload: 0..0,
            opening: Opening::None,
            sequence: 0,
            bytes: 0,
            packets: 0,
            budget: Some(budget),
            room: SMALL,
        }
    }

    /// The other side is logged in: it may send as it likes.
    pub(super) fn lift_budget(&mut self) {
        self.budget = None;
    }

    /// Packets so far, in strict mode since the last new keys.
    pub(super) fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Bytes since the last new keys.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// From the next packet on.
    pub(super) fn set_opening(&mut self, opening: Opening, strict: bool) {
        self.opening = opening;
        (self.bytes, self.packets) = (0, 0);
        if strict {
            self.sequence = 0;
        }
    }

    /// A line up to and without its end, of at most `longest` bytes; `None` where the connection closed before
    /// its first byte.
    pub(super) async fn line(&mut self, longest: usize) -> Result<Option<Vec<u8>>, SshFault> {
        loop {
            let waiting = self.buffer.get(self.start..).unwrap_or_default();
            if let Some(end) = waiting.iter().take(longest + 2).position(|byte| *byte == b'\n') {
                let line = waiting.get(..end).unwrap_or_default();
                let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
                self.start += end + 1;
                return Ok(Some(line));
            }
            if waiting.len() > longest + 2 {
                return Err(SshFault::Identification);
            }
            match self.fill().await {
                Err(SshFault::Closed) => return Ok(None),
                other => other?,
            }
        }
    }

    /// Goes on to the next packet; false when it is not here in full, and [`Incoming::fill`] is needed.
    pub(super) fn step(&mut self) -> Result<bool, SshFault> {
        self.start += std::mem::take(&mut self.taken);
        self.payload = 0..0;
        let waiting = self.buffer.get_mut(self.start..).unwrap_or_default();
        let Some(field) = waiting.first_chunk::<4>() else { return Ok(false) };
        let length = self.opening.length(self.sequence, *field);
        let total = self.total(length)?;
        let waiting = self.buffer.get_mut(self.start..).unwrap_or_default();
        let Some(packet) = waiting.get_mut(..total) else {
            self.room = self.room.max(total);
            return Ok(false);
        };
        self.packets = one_more(self.packets)?;
        self.opening.open(self.sequence, packet)?;
        let padding = usize::from(packet.get(4).copied().unwrap_or_default());
        let content = total - 4 - self.opening.tag() - 1;
        let payload = content.checked_sub(padding).filter(|payload| *payload > 0);
        let payload = payload.filter(|_| padding >= LEAST_PADDING).ok_or(SshFault::Length(length))?;
        self.payload = self.start + 5..self.start + 5 + payload;
        self.taken = total;
        self.sequence = self.sequence.wrapping_add(1);
        self.bytes += total as u64;
        Ok(true)
    }

    /// Bytes of a packet of this length from its length field to the end of its authentication code.
    fn total(&self, length: u32) -> Result<usize, SshFault> {
        let counted = if matches!(self.opening, Opening::None) { 4 } else { 0 };
        let is_good = (8..=LONGEST).contains(&length)
            && (length as usize + counted).is_multiple_of(self.opening.block());
        if is_good { Ok(4 + length as usize + self.opening.tag()) } else { Err(SshFault::Length(length)) }
    }

    /// The current packet's message: its number and what follows.
    pub(super) fn payload(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.payload.clone()).unwrap_or_default()
    }

    /// Reads more.
    ///
    /// # Cancel safety
    /// Cancel safe: what was read is kept.
    pub(super) async fn fill(&mut self) -> Result<(), SshFault> {
        let used = self.start + self.taken;
        self.taken = 0;
        self.payload = 0..0;
        self.buffer.drain(..used.min(self.buffer.len()));
        self.start = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > self.room {
            self.buffer.shrink_to(self.room);
        }
        self.buffer.reserve(self.room.saturating_sub(self.buffer.len()).max(SMALL / 2));
        let before = self.buffer.len();
        let spare = self.buffer.capacity() - before;
        let read = self.io.read_buf(&mut self.buffer).await?;
        if read == 0 {
            let cut = before > 0;
            return Err(if cut {
                SshFault::Io(std::io::ErrorKind::UnexpectedEof.into())
            } else {
                SshFault::Closed
            });
        }
        if let Some(budget) = &mut self.budget {
            *budget = budget.checked_sub(read).ok_or(SshFault::Protocol("too much was sent before login"))?;
        }
        if read == spare {
            self.room = (self.room * 2).min(LARGE);
        } else if before == 0 && read < self.room / 8 {
            self.room = (self.room / 2).max(SMALL);
        }
        Ok(())
    }

    /// Reads and throws away, at most so many bytes, until the other side closes.
    pub(super) async fn drain(&mut self, longest: usize) -> Result<(), SshFault> {
        let mut heard = 0;
        self.buffer = vec![0; SMALL];
        while heard < longest {
            match self.io.read(&mut self.buffer).await? {
                0 => break,
                read => heard += read,
            }
        }
        Ok(())
    }

    /// The next packet, whatever it is.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn receive(&mut self) -> Result<(), SshFault> {
        while !self.step()? {
            self.fill().await?;
        }
        Ok(())
    }
}

/// Packets to the other side.
pub(super) struct Outgoing<W> {
    io: W,
    out: Vec<u8>,
    /// Bytes of `out` that are written.
    written: usize,
    sealing: Sealing,
    sequence: u32,
    /// Bytes and packets since the last new keys.
    bytes: u64,
    packets: u32,
}

impl<W: AsyncWrite + Unpin> Outgoing<W> {
    /// Nothing is protected yet.
    pub(super) fn new(io: W) -> Self {
        Self { io, out: Vec::new(), written: 0, sealing: Sealing::None, sequence: 0, bytes: 0, packets: 0 }
    }

    /// Bytes since the last new keys.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// From the next packet on.
    pub(super) fn set_sealing(&mut self, sealing: Sealing, strict: bool) {
        self.sealing = sealing;
        (self.bytes, self.packets) = (0, 0);
        if strict {
            self.sequence = 0;
        }
    }

    /// Adds bytes that are no packet: the identification line.
    pub(super) fn put_raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Adds a packet; [`Outgoing::flush`] sends it.
    pub(super) fn put(&mut self, payload: &[u8]) -> Result<(), SshFault> {
        let block = self.sealing.block();
        let unpadded = self.sealing.counted() + 1 + payload.len();
        let mut padding = block - unpadded % block;
        if padding < LEAST_PADDING {
            padding += block;
        }
        let length = 1 + payload.len() + padding;
        let start = self.out.len();
        self.out.reserve(4 + length + 64);
        let field = u32::try_from(length).map_err(|_| SshFault::Crypto("a packet is too long"))?;
        self.out.extend_from_slice(&field.to_be_bytes());
        self.out.push(u8::try_from(padding).map_err(|_| SshFault::Crypto("too much padding"))?);
        self.out.extend_from_slice(payload);
        self.out.resize(start + 4 + length, 0);
        self.packets = one_more(self.packets)?;
        self.sealing.seal(self.sequence, &mut self.out, start)?;
        self.sequence = self.sequence.wrapping_add(1);
        self.bytes += length as u64;
        Ok(())
    }

    /// Whether so much waits to be sent that it should go first.
    pub(super) fn is_full(&self) -> bool {
        self.out.len() > FULL
    }

    /// Whether anything waits to be sent.
    pub(super) fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Sends what was added.
    ///
    /// # Cancel safety
    /// Cancel safe: the next flush goes on where this one was dropped.
    pub(super) async fn flush(&mut self) -> Result<(), SshFault> {
        while let Some(rest @ [_, ..]) = self.out.get(self.written..) {
            let wrote = self.io.write(rest).await?;
            if wrote == 0 {
                return Err(SshFault::Io(std::io::ErrorKind::WriteZero.into()));
            }
            self.written += wrote;
        }
        self.io.flush().await?;
        let sent = self.out.len();
        self.written = 0;
        self.out.clear();
        if sent < self.out.capacity() / 8 {
            self.out.shrink_to(SMALL.max(sent));
        }
        Ok(())
    }

    /// Says goodbye to the connection itself.
    pub(super) async fn shutdown(&mut self) -> Result<(), SshFault> {
        Ok(self.io.shutdown().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_packet_number_is_used_twice_under_the_same_keys() {
        let mut outgoing = Outgoing::new(Vec::new());
        outgoing.packets = u32::MAX - 1;
        outgoing.put(b"the last").unwrap();
        assert!(outgoing.put(b"one too many").is_err());
        outgoing.set_sealing(Sealing::None, true);
        outgoing.put(b"under new keys").unwrap();
        let bytes = outgoing.out.clone();
        let mut incoming = Incoming::new(&*bytes, bytes.len());
        incoming.packets = u32::MAX - 1;
        incoming.receive().await.unwrap();
        assert_eq!(incoming.payload(), b"the last");
        assert!(incoming.receive().await.is_err());
    }
}
