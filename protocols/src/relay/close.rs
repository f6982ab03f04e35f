//! The end of a connection, so that the peer reads the last message and not a reset.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Bytes of a peer's that are read and thrown away after the last message. A close with unread bytes is a
/// reset, which can overtake the message; but a peer that sends on and on is not listened to for ever.
pub(crate) const HEARD_OUT: u64 = 1024 * 1024;

/// Sends `last`, says goodbye, and waits for the peer's goodbye: at most `deadline` for each of the two, and
/// at most `heard_out` bytes of whatever the peer still sends.
pub(crate) async fn close<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    last: &[u8],
    deadline: Duration,
    heard_out: u64,
) -> io::Result<()> {
    let farewell = async {
        stream.write_all(last).await?;
        stream.flush().await?;
        stream.shutdown().await
    };
    timeout(deadline, farewell).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    let linger = async { tokio::io::copy(&mut stream.take(heard_out), &mut tokio::io::sink()).await };
    // The message is out; how the peer goes is its own affair.
    let _ = timeout(deadline, linger).await;
    Ok(())
}
