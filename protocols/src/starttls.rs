//! From plaintext to TLS. Whatever a peer sends in plaintext behind its request for TLS is an attack
//! (CVE-2021-23214): nothing here reads further than it must, so such bytes break the handshake instead of
//! being believed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::relay::Readable;

/// A stream whose first bytes were read to decide what it is, and are read again by whoever takes it over.
#[derive(Debug)]
pub(crate) struct Prefixed<S> {
    prefix: [u8; 8],
    /// Bytes of the prefix that were read again.
    taken: usize,
    inner: S,
}

impl<S> Prefixed<S> {
    /// A stream that starts with these bytes.
    pub(crate) fn with_prefix(prefix: [u8; 8], inner: S) -> Self {
        Self { prefix, taken: 0, inner }
    }

    /// A stream of which nothing has to be read again.
    pub(crate) fn bare(inner: S) -> Self {
        Self { prefix: [0; 8], taken: 8, inner }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let waiting = self.prefix.get(self.taken..).unwrap_or_default();
        if waiting.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let (now, _) = waiting.split_at(waiting.len().min(buf.remaining()));
        buf.put_slice(now);
        self.taken += now.len();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

impl<S: Readable + Unpin> Readable for Prefixed<S> {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.taken < self.prefix.len() { Poll::Ready(Ok(())) } else { self.inner.poll_readable(cx) }
    }

    fn has_more(&self) -> bool {
        self.taken < self.prefix.len() || self.inner.has_more()
    }
}
