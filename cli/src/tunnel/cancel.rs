//! What a client that has hung up already may still ask for: to cancel a statement.
//!
//! Some drivers (tokio-postgres) send a CancelRequest and close at once. By the time we look, the operating system does not
//! tell any more whose connection it was. Such a request is passed on all the same, and nothing else is: its cancel key is
//! a secret of the session that it is for, and the sidecar judges it, as PostgreSQL itself would. Nobody is asked for a touch.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// `CancelRequest`: 1234 in the most significant 16 bits, 5678 in the least.
const CODE: [u8; 4] = 80_877_102_u32.to_be_bytes();
/// Length, code, process id, and a key of 4 to 256 bytes (PostgreSQL 18, `CancelRequest`).
const BYTES: std::ops::RangeInclusive<usize> = 16..=268;
/// It was sent before the client hung up, so it is here already.
const DEADLINE: Duration = Duration::from_secs(1);

/// The CancelRequest that a client sent, where it sent that and nothing more before it closed.
pub(super) async fn left_behind(socket: impl AsyncRead + Unpin) -> Option<Vec<u8>> {
    let mut request = Vec::with_capacity(*BYTES.end());
    let limit = u64::try_from(*BYTES.end()).ok()?.saturating_add(1);
    timeout(DEADLINE, socket.take(limit).read_to_end(&mut request)).await.ok()?.ok()?;
    let length = u32::try_from(request.len()).ok()?.to_be_bytes();
    let is_cancel = BYTES.contains(&request.len())
        && request.get(..4) == Some(&length)
        && request.get(4..8) == Some(&CODE);
    is_cancel.then_some(request)
}

/// Passes it on. There is no answer to a CancelRequest but the end of the connection.
pub(super) async fn pass_on(request: &[u8], mut target: impl AsyncRead + AsyncWrite + Unpin) {
    let sent = async {
        target.write_all(request).await?;
        target.flush().await?;
        let mut end = [0; 64];
        while target.read(&mut end).await? > 0 {}
        target.shutdown().await
    };
    match timeout(Duration::from_secs(10), sent).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a cancel was cut off"),
        Err(_) => tracing::debug!("a cancel was not taken in time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(key: usize) -> Vec<u8> {
        let length = u32::try_from(12 + key).unwrap().to_be_bytes();
        [&length[..], &CODE, &[0, 0, 0, 7], &vec![9; key]].concat()
    }

    #[tokio::test]
    async fn a_cancel_request_alone_is_found() {
        for key in [4, 32, 256] {
            assert_eq!(left_behind(&request(key)[..]).await, Some(request(key)));
        }
    }

    #[tokio::test]
    async fn anything_else_is_nothing() {
        let with_more = [request(4), b"Q".to_vec()].concat();
        let startup = [&16_u32.to_be_bytes()[..], &196_608_u32.to_be_bytes(), b"user\0a\0\0"].concat();
        for bytes in [&b""[..], &request(4)[..15], &request(3), &request(257), &with_more, &startup] {
            assert_eq!(left_behind(bytes).await, None, "{bytes:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_close_is_not_waited_for() {
        let (near, mut far) = tokio::io::duplex(64);
        far.write_all(&request(4)).await.unwrap();
        assert_eq!(left_behind(near).await, None);
    }
}
