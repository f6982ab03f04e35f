//! The client's leg, compressed, where the client asks for it (MySQL "Compressed Packet"). The upstream's never is: what
//! is taken out here is what any client says, and goes the same way.
//!
//! A compressed packet is three bytes of its length, one of its own number, three of the length that it has unpacked (0: it
//! is not packed), and the content: any piece of the stream of ordinary packets. The outer packets have numbers of their own;
//! module `numbers` keeps them, and makes the inner ones what an upstream without compression wants to read.
//!
//! Nothing is held for a session that is silent. What packs is shared by a thread's sessions; what unpacks lives for one
//! packet, and yields no more than the packet's header says, a buffer of the relay's at a time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::frame::SHOWN;
use crate::relay::{Buffer, Readable, Stream};

use super::capabilities::Capabilities;
use super::desk::Desk;

mod leaving;
mod numbers;
mod packing;
mod unpacking;

use leaving::Leaving;
use numbers::Numbers;
use unpacking::{Unpacked, Unpacking};

/// Bytes of header of a compressed packet.
const HEADER: usize = 7;

/// The highest level of zstd that is done. What a client asks for is a wish, and what is packed harder is unpacked the same:
/// above this, one client's wish would keep the other sessions of a thread waiting.
const MAX_ZSTD_LEVEL: u8 = 9;

/// How both sides pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Zlib,
    /// With a level from 1 to [`MAX_ZSTD_LEVEL`].
    Zstd(u8),
}

impl Algorithm {
    /// What a client asked for; of the two, zlib, as MySQL itself chooses.
    pub(super) fn asked(capabilities: Capabilities, zstd_level: u8) -> Option<Self> {
        if capabilities.contains(Capabilities::COMPRESS) {
            Some(Self::Zlib)
        } else if capabilities.contains(Capabilities::ZSTD) {
            Some(Self::Zstd(zstd_level.clamp(1, MAX_ZSTD_LEVEL)))
        } else {
            None
        }
    }
}

/// A client's stream as the relay knows it: ordinary packets, both ways.
#[derive(Debug)]
pub(super) struct Compressed<'a, S> {
    stream: &'a mut S,
    algorithm: Algorithm,
    numbers: Numbers,
    unpacking: Unpacking,
    /// Read, and not unpacked yet.
    arrived: Option<Buffer>,
    leaving: Leaving,
    /// Packed, and not written yet: so much of it is.
    packed: Vec<u8>,
    written: usize,
}

impl<'a, S: Stream> Compressed<'a, S> {
    pub(super) fn new(stream: &'a mut S, algorithm: Algorithm, desk: Arc<Desk>) -> Self {
        Self {
            stream,
            algorithm,
            numbers: Numbers::new(desk),
            unpacking: Unpacking::new(algorithm),
            arrived: None,
            leaving: Leaving::default(),
            packed: Vec::new(),
            written: 0,
        }
    }

    /// What is left to be written to the stream itself, in the end: what was packed before, and these packets.
    pub(super) fn last_words(mut self, packets: &[u8]) -> Vec<u8> {
        let mut words = self.packed.split_off(self.written.min(self.packed.len()));
        self.leaving.push(&mut words, self.algorithm, &mut self.numbers, packets);
        words
    }

    /// Writes what is packed.
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.packed.get(self.written..).filter(|rest| !rest.is_empty()) {
            let written = ready!(Pin::new(&mut *self.stream).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
        (self.packed, self.written) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    /// Reads more; true at the end of the stream.
    fn poll_arrive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.arrived.is_none() {
            ready!(self.stream.poll_readable(cx))?;
        }
        let buffer = self.arrived.get_or_insert_with(Buffer::take);
        let mut read = ReadBuf::new(buffer.free());
        let result = Pin::new(&mut *self.stream).poll_read(cx, &mut read);
        let bytes = read.filled().len();
        buffer.fill(bytes);
        if buffer.is_empty() {
            self.arrived = None;
        }
        ready!(result)?;
        Poll::Ready(Ok(bytes == 0))
    }
}

impl<S: Stream> AsyncRead for Compressed<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            // What came before may yield more than there was space for.
            let bytes = this.arrived.as_ref().map(Buffer::filled).unwrap_or_default();
            let unpacked = this.unpacking.unpack(bytes, buf.initialize_unfilled(), &mut this.numbers);
            let Unpacked { taken, given } =
                unpacked.map_err(|malformed| io::Error::new(io::ErrorKind::InvalidData, malformed))?;
            if let Some(arrived) = &mut this.arrived {
                arrived.consume(taken);
            }
            this.arrived.take_if(|arrived| arrived.is_empty());
            if given > 0 {
                buf.advance(given);
                return Poll::Ready(Ok(()));
            }
            // In the middle of a packet too: a client that goes away just goes away.
            if ready!(this.poll_arrive(cx))? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: Stream> Readable for Compressed<'_, S> {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let may_yield = self.arrived.is_some() || self.unpacking.is_inside();
        if may_yield { Poll::Ready(Ok(())) } else { self.stream.poll_readable(cx) }
    }
}

impl<S: Stream> AsyncWrite for Compressed<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.poll_leave(cx))?;
        let (now, _) = buf.split_at(buf.len().min(SHOWN));
        this.leaving.push(&mut this.packed, this.algorithm, &mut this.numbers, now);
        // It is taken, whether it is written now or with what follows.
        match this.poll_leave(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(now.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_leave(cx))?;
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_leave(cx))?;
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

/// Bytes as a compressed client sends them, in steps: what comes out, and how it ended.
#[cfg(any(test, fuzzing))]
pub(super) fn unpack_all(
    algorithm: Algorithm,
    bytes: &[u8],
    step: usize,
    space: usize,
) -> (Vec<u8>, Option<crate::Malformed>) {
    let mut numbers = Numbers::new(Desk::new());
    let (mut unpacking, mut space) = (Unpacking::new(algorithm), vec![0; space]);
    let (mut out, mut at, mut there) = (Vec::new(), 0, 0);
    while there < bytes.len() {
        there = bytes.len().min(there + step);
        loop {
            let rest = bytes.get(at..there).unwrap_or_default();
            match unpacking.unpack(rest, &mut space, &mut numbers) {
                Ok(unpacked) => {
                    out.extend_from_slice(space.get(..unpacked.given).unwrap_or_default());
                    at += unpacked.taken;
                    if unpacked.given == 0 {
                        break;
                    }
                }
                Err(malformed) => return (out, Some(malformed)),
            }
        }
    }
    (out, None)
}

/// Do these bytes end in the middle of a packet's content?
#[cfg(any(test, fuzzing))]
pub(super) fn ends_inside(mut bytes: &[u8]) -> bool {
    while let Some((&[a, b, c, ..], content)) = bytes.split_first_chunk::<HEADER>() {
        let Some(next) = content.get(u32::from_le_bytes([a, b, c, 0]) as usize..) else { return true };
        bytes = next;
    }
    false
}

#[cfg(test)]
mod tests;
