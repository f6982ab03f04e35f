//! HOT: a Unix socket that wakes its session for what there is to read, and for room to write only where a write found none.
//!
//! Each time that a database reads from its Unix socket, the kernel reports the other end as writable, whether or not anybody
//! waits for that (of TCP it does so only after a full buffer). tokio's own stream listens for both at once, so every message
//! to a database on the same host costs its session one more wake-up, just when the database has begun to work.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::relay::Readable;

/// A connected stream.
#[derive(Debug)]
pub(crate) struct UnixSocket {
    io: AsyncFd<UnixStream>,
    /// The same socket once more, while a write waits for room.
    room: Option<AsyncFd<UnixStream>>,
}

impl UnixSocket {
    /// Connects to whoever listens at a path.
    pub(crate) async fn connect(path: &Path) -> io::Result<Self> {
        Self::new(tokio::net::UnixStream::connect(path).await?.into_std()?)
    }

    /// A stream that does not block.
    fn new(stream: UnixStream) -> io::Result<Self> {
        Ok(Self { io: listen(stream, Interest::READABLE)?, room: None })
    }

    fn poll_written(
        &mut self,
        cx: &mut Context<'_>,
        write: impl Fn(&UnixStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let Self { io, room } = self;
        match write(io.get_ref()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => {
                *room = None;
                return Poll::Ready(written);
            }
        }
        let room = match room {
            Some(room) => room,
            none => none.insert(listen(io.get_ref().try_clone()?, Interest::WRITABLE)?),
        };
        loop {
            let mut guard = ready!(room.poll_write_ready(cx))?;
            match write(guard.get_inner()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                written => return Poll::Ready(written),
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "unsound for what does not own its descriptor; a stream of the standard library does"
)]
fn listen(stream: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    AsyncFd::with_interest(stream, interest)
}

impl AsyncRead for UnixSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.io.poll_read_ready(cx))?;
            let space = buf.initialize_unfilled();
            let wanted = space.len();
            match guard.get_inner().read(space) {
                Ok(bytes) => {
                    // Less than was asked for is all there was; what has come since then is reported anew.
                    if 0 < bytes && bytes < wanted {
                        guard.clear_ready();
                    }
                    buf.advance(bytes);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for UnixSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_written(cx, |mut stream| stream.write(buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_written(cx, |mut stream| stream.write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.io.get_ref().shutdown(Shutdown::Write))
    }
}

impl Readable for UnixSocket {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_read_ready(cx).map_ok(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::thread;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// More than any socket buffer holds.
    const MUCH: usize = 4 * 1024 * 1024;

    fn pair() -> (UnixSocket, UnixStream) {
        let (ours, peer) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (UnixSocket::new(ours).unwrap(), peer)
    }

    fn bytes() -> Vec<u8> {
        (0..MUCH).map(|index| u8::try_from(index % 251).unwrap()).collect()
    }

    #[tokio::test]
    async fn what_finds_no_room_is_written_when_there_is_some() {
        let (mut ours, mut peer) = pair();
        let sent = bytes();
        // Nobody reads yet: the socket fills, and the write waits.
        let mut written = 0;
        loop {
            let rest = &sent[written..];
            let poll = poll_fn(|cx| Poll::Ready(Pin::new(&mut ours).poll_write(cx, rest))).await;
            match poll {
                Poll::Ready(bytes) => written += bytes.unwrap(),
                Poll::Pending => break,
            }
        }
        assert!(0 < written && written < sent.len() && ours.room.is_some());
        let reader = thread::spawn(move || {
            let mut read = Vec::new();
            peer.read_to_end(&mut read).unwrap();
            read
        });
        ours.write_all(&sent[written..]).await.unwrap();
        ours.shutdown().await.unwrap();
        assert!(reader.join().unwrap() == sent);
    }

    #[tokio::test]
    async fn a_write_that_finds_room_listens_for_none() {
        let (mut ours, mut peer) = pair();
        ours.write_all(b"question").await.unwrap();
        assert!(ours.room.is_none());
        let mut question = [0; 8];
        peer.read_exact(&mut question).unwrap();
        peer.write_all(b"answer").unwrap();
        poll_fn(|cx| ours.poll_readable(cx)).await.unwrap();
        let mut answer = [0; 6];
        ours.read_exact(&mut answer).await.unwrap();
        assert_eq!((&question, &answer), (b"question", b"answer"));
    }

    #[tokio::test]
    async fn everything_is_read_to_the_end_and_the_end_stays() {
        let (mut ours, mut peer) = pair();
        let sent = bytes();
        let writer = thread::spawn({
            let sent = sent.clone();
            move || peer.write_all(&sent).unwrap()
        });
        let mut read = Vec::new();
        ours.read_to_end(&mut read).await.unwrap();
        assert!(read == sent);
        writer.join().unwrap();
        assert_eq!(ours.read(&mut [0; 8]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn nobody_there_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let missing = UnixSocket::connect(&directory.path().join("none")).await;
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
        let (mut ours, peer) = pair();
        drop(peer);
        assert_eq!(ours.write_all(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
