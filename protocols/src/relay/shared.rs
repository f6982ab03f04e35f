//! HOT: one stream, read by one pump and written by the other.
//!
//! Both pumps belong to one task, so the lock below is never contended and never held across an `.await`: it
//! only proves to the compiler what the task's structure already guarantees.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

use super::buffer::Buffer;

/// A stream that can say that bytes are waiting, before anybody has a buffer for them.
pub trait Readable {
    /// Ready when a read is worth trying: bytes, end of stream or an error. May be ready too often, never too
    /// rarely.
    ///
    /// # Errors
    /// The connection failed.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// From now on as much may be read from the connection as there is, in advance of what is asked for.
    fn read_ahead(&mut self) {}

    /// Whether bytes have been read from the connection that a read would not have to wait for: whole records, or
    /// a part of one.
    fn has_more(&self) -> bool {
        false
    }
}

impl Readable for TcpStream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }
}

/// In memory there is no readiness to ask for: a read is always worth trying.
impl Readable for tokio::io::DuplexStream {
    fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Readable + Unpin> Readable for server::TlsStream<S> {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_fill_buf(cx).map_ok(|_| ())
    }

    fn read_ahead(&mut self) {
        self.get_mut().0.read_ahead();
    }

    fn has_more(&self) -> bool {
        self.get_ref().0.has_more()
    }
}

impl<S: AsyncRead + AsyncWrite + Readable + Unpin> Readable for client::TlsStream<S> {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_fill_buf(cx).map_ok(|_| ())
    }

    fn read_ahead(&mut self) {
        self.get_mut().0.read_ahead();
    }

    fn has_more(&self) -> bool {
        self.get_ref().0.has_more()
    }
}

/// What a relay needs of a stream.
pub trait Stream: AsyncRead + AsyncWrite + Readable + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Readable + Unpin + Send> Stream for S {}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// More bytes.
    More,
    /// The peer says nothing any more.
    End,
}

#[derive(Debug)]
pub(super) struct Shared<'a, S>(Mutex<&'a mut S>);

impl<'a, S: Stream> Shared<'a, S> {
    /// A stream whose session has begun: whatever it holds may be read.
    pub(super) fn new(stream: &'a mut S) -> Self {
        stream.read_ahead();
        Self(Mutex::new(stream))
    }

    /// Reads into `buffer`, which is taken from the pool only when bytes are there: once from the connection, and
    /// all that this brought.
    /// A connection that ends without TLS's goodbye (`close_notify`) just ends.
    ///
    /// # Cancel safety
    /// Cancel safe: bytes are in `buffer`, or were not read.
    pub(super) async fn fill(&self, buffer: &mut Option<Buffer>) -> io::Result<Filled> {
        let result = poll_fn(|cx| self.with(|stream| poll_fill(stream, buffer, cx))).await;
        match result {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Filled::End),
            result => result,
        }
    }

    /// Writes some of `bytes`: at least one.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing was written if it did not return.
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let written = poll_fn(|cx| self.with(|stream| Pin::new(stream).poll_write(cx, bytes))).await?;
        if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) }
    }

    /// Brings what was written on its way.
    ///
    /// # Cancel safety
    /// Cancel safe: can be called again.
    pub(super) async fn flush(&self) -> io::Result<()> {
        poll_fn(|cx| self.with(|stream| Pin::new(stream).poll_flush(cx))).await
    }

    /// Says that nothing more will be written.
    ///
    /// # Cancel safety
    /// Cancel safe: can be called again.
    pub(super) async fn shutdown(&self) -> io::Result<()> {
        poll_fn(|cx| self.with(|stream| Pin::new(stream).poll_shutdown(cx))).await
    }

    fn with<R>(&self, work: impl FnOnce(&mut S) -> R) -> R {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn poll_fill<S: Stream>(
    stream: &mut S,
    buffer: &mut Option<Buffer>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Filled>> {
    if buffer.is_none() {
        ready!(stream.poll_readable(cx))?;
    }
    let space = buffer.get_or_insert_with(Buffer::take);
    let (mut bytes, mut result) = read(stream, space, cx);
    if bytes > 0 {
        // One write for many records.
        while bytes > 0 && stream.has_more() && !space.free().is_empty() {
            (bytes, result) = read(stream, space, cx);
        }
        return match result {
            // That it is over will be said again; that it is broken may not be.
            Poll::Ready(Err(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Err(error))
            }
            _ => Poll::Ready(Ok(Filled::More)),
        };
    }
    // Readable was said too early, or this is the end: an empty buffer does not wait with the session.
    if space.is_empty() {
        *buffer = None;
    }
    ready!(result)?;
    Poll::Ready(Ok(Filled::End))
}

/// One read into the free space; how many bytes it brought.
fn read<S: Stream>(
    stream: &mut S,
    space: &mut Buffer,
    cx: &mut Context<'_>,
) -> (usize, Poll<io::Result<()>>) {
    let mut read = ReadBuf::new(space.free());
    let result = Pin::new(stream).poll_read(cx, &mut read);
    let bytes = read.filled().len();
    space.fill(bytes);
    (bytes, result)
}

#[cfg(test)]
mod tests;
