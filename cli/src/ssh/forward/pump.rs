//! Bytes between a socket and a channel, both ways, each direction closing by itself.

use std::io;

use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, client::Msg};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};

/// One read of a socket.
const CHUNK_BYTES: usize = 32 * 1024;

/// What is read and written on the way to a channel at once.
const STREAM_BYTES: usize = 1 << 20;

/// A channel as a stream, for protocols that are spoken through one.
pub fn channel_stream(channel: Channel<Msg>) -> DuplexStream {
    let (near, far) = tokio::io::duplex(STREAM_BYTES);
    tokio::spawn(pump(far, channel));
    near
}

/// Pumps until both directions are closed, or the channel is.
pub(super) async fn pump<S: AsyncRead + AsyncWrite>(socket: S, channel: Channel<Msg>) {
    let (read, write) = tokio::io::split(socket);
    let (mut from, to) = channel.split();
    let up = Box::pin(upward(read, &to));
    let down = Box::pin(downward(&mut from, write));
    let ended = either_fails_or_both_end(up, down).await;
    tracing::debug!(?ended, "a forwarded connection ended");
    // Dropping a channel does not close it.
    let _ = to.close().await;
}

/// A closed channel ends both: nothing will make room for what is still to be sent.
async fn either_fails_or_both_end(
    mut up: impl Future<Output = Result<(), russh::Error>> + Unpin,
    mut down: impl Future<Output = io::Result<()>> + Unpin,
) -> Result<(), russh::Error> {
    tokio::select! {
        sent = &mut up => {
            sent?;
            Ok(down.await?)
        }
        received = &mut down => Ok(received?),
    }
}

async fn upward(mut socket: impl AsyncRead + Unpin, to: &ChannelWriteHalf<Msg>) -> Result<(), russh::Error> {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        if socket.read_buf(&mut chunk).await? == 0 {
            return to.eof().await;
        }
        to.data_bytes(chunk).await?;
    }
}

/// Until the channel is closed; its end of file closes this direction alone.
async fn downward(from: &mut ChannelReadHalf, mut socket: impl AsyncWrite + Unpin) -> io::Result<()> {
    loop {
        match from.wait().await {
            Some(ChannelMsg::Data { data }) => socket.write_all(&data).await?,
            Some(ChannelMsg::Eof) => socket.shutdown().await?,
            Some(ChannelMsg::Close) | None => return socket.shutdown().await,
            Some(_) => {}
        }
    }
}
