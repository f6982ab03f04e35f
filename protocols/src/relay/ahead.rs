//! HOT: beneath TLS, one read for as many records as the socket holds.
//!
//! rustls asks for 4 KiB at a time: a record of 16 KiB costs it five system calls, and a result of a gigabyte a third of a
//! million. Here one read takes up to 64 KiB into a pooled buffer, and rustls is served from that. The buffer goes back as
//! soon as it is empty, so an idle session holds none.
//!
//! Before a session is logged in nothing is read ahead: what a stranger may send is bounded by what it was asked for.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffer::Buffer;
use super::shared::Readable;

/// A stream that can read ahead, and does so when it is told to.
#[derive(Debug)]
pub(crate) struct ReadAhead<S> {
    inner: S,
    held: Option<Buffer>,
    ahead: bool,
}

impl<S> ReadAhead<S> {
    /// Reads what it is asked for and no more, until [`Readable::read_ahead`].
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, held: None, ahead: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { inner, held, ahead } = &mut *self;
        if held.is_none() {
            if !*ahead {
                return Pin::new(inner).poll_read(cx, buf);
            }
            let mut space = Buffer::take();
            let mut read = ReadBuf::new(space.free());
            ready!(Pin::new(inner).poll_read(cx, &mut read))?;
            let bytes = read.filled().len();
            space.fill(bytes);
            *held = Some(space);
        }
        let Some(buffer) = held else { return Poll::Ready(Ok(())) };
        let (now, _) = buffer.filled().split_at(buffer.filled().len().min(buf.remaining()));
        buf.put_slice(now);
        let now = now.len();
        buffer.consume(now);
        if buffer.is_empty() {
            *held = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
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

impl<S: Readable> Readable for ReadAhead<S> {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.is_some() { Poll::Ready(Ok(())) } else { self.inner.poll_readable(cx) }
    }

    fn read_ahead(&mut self) {
        self.ahead = true;
    }

    fn has_more(&self) -> bool {
        self.held.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::poll_fn;

    use super::*;

    /// Gives one of these for each read, then nothing yet, and counts.
    struct Script(VecDeque<&'static [u8]>, usize);

    impl AsyncRead for Script {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.1 += 1;
            let Some(next) = self.0.pop_front() else { return Poll::Pending };
            let (now, later) = next.split_at(next.len().min(buf.remaining()));
            buf.put_slice(now);
            if !later.is_empty() {
                self.0.push_front(later);
            }
            Poll::Ready(Ok(()))
        }
    }

    impl Readable for Script {
        fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn read(stream: &mut ReadAhead<Script>, bytes: usize) -> Option<Vec<u8>> {
        let mut space = vec![0; bytes];
        poll_fn(|cx| {
            let mut buf = ReadBuf::new(&mut space);
            Poll::Ready(match Pin::new(&mut *stream).poll_read(cx, &mut buf) {
                Poll::Ready(result) => result.ok().map(|()| buf.filled().to_vec()),
                Poll::Pending => None,
            })
        })
        .await
    }

    #[tokio::test]
    async fn one_read_serves_many_and_the_buffer_goes_back() {
        let mut stream = ReadAhead::new(Script(VecDeque::from([&b"abcdefgh"[..], b"ij"]), 0));
        stream.read_ahead();
        assert_eq!(read(&mut stream, 5).await.unwrap(), b"abcde");
        assert!(stream.has_more());
        assert_eq!(read(&mut stream, 5).await.unwrap(), b"fgh");
        assert_eq!(stream.inner.1, 1);
        assert!(!stream.has_more() && stream.held.is_none());
        assert_eq!(read(&mut stream, 5).await.unwrap(), b"ij");
        assert_eq!(read(&mut stream, 5).await, None);
        assert!(stream.held.is_none(), "a stream that waits holds no buffer");
    }

    #[tokio::test]
    async fn before_it_is_told_to_not_a_byte_too_many_is_read() {
        let mut stream = ReadAhead::new(Script(VecDeque::from([&b"abcdefgh"[..]]), 0));
        assert_eq!(read(&mut stream, 5).await.unwrap(), b"abcde");
        assert_eq!(stream.inner.0, [b"fgh"]);
    }

    #[tokio::test]
    async fn the_end_is_the_end() {
        let mut stream = ReadAhead::new(Script(VecDeque::from([&b""[..], b""]), 0));
        stream.read_ahead();
        assert_eq!(read(&mut stream, 5).await.unwrap(), b"");
        assert_eq!(read(&mut stream, 5).await.unwrap(), b"");
    }
}
