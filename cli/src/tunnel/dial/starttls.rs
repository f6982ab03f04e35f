//! MySQL's way to TLS. The server speaks first, so a sidecar cannot wait to see whether a client begins with TLS; a tunnel
//! begins as any MySQL client does: the greeting is read and thrown away, SSLRequest asks for TLS, and what follows TLS is a
//! whole connection with a greeting of its own (`protocols::mysql`).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of a greeting or an error at most; real ones are below 200, and a message has at most 512.
const MAX_PACKET_BYTES: usize = 4096;

/// `CLIENT_PROTOCOL_41 | CLIENT_SSL | CLIENT_SECURE_CONNECTION` (MySQL, "Capabilities Flags").
const FLAGS: u32 = 0x0200 | 0x0800 | 0x8000;

/// What stood before TLS. Nobody has proved anything yet, so it may be shown and must not be believed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// TLS can begin.
    Tls,
    /// The other end said this in place of a greeting.
    Refused(String),
}

/// Carries a fresh connection to where TLS begins. Not a byte of what comes after is read.
///
/// # Errors
/// The other end does not speak MySQL, or went away.
pub(super) async fn open<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<Opened> {
    let [a, b, c, _sequence] = stream.read_u32().await?.to_be_bytes();
    let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
    if !(1..=MAX_PACKET_BYTES).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut packet = vec![0; length];
    stream.read_exact(&mut packet).await?;
    match packet.as_slice() {
        [10, ..] => {}
        [0xff, _, _, message @ ..] => return Ok(Opened::Refused(message_of(message))),
        _ => return Err(io::ErrorKind::InvalidData.into()),
    }
    let mut request = vec![32, 0, 0, 1];
    request.extend_from_slice(&FLAGS.to_le_bytes());
    // The largest packet (which only says what a client would like), the character set, and 23 reserved bytes.
    request.extend_from_slice(&0x0100_0000_u32.to_le_bytes());
    request.push(45);
    request.extend_from_slice(&[0; 23]);
    stream.write_all(&request).await?;
    stream.flush().await?;
    Ok(Opened::Tls)
}

/// An error's message, without the SQLSTATE that may stand before it.
fn message_of(bytes: &[u8]) -> String {
    let message = match bytes {
        [b'#', _, _, _, _, _, message @ ..] => message,
        message => message,
    };
    String::from_utf8_lossy(message).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn opened(said: &[u8]) -> (io::Result<Opened>, Vec<u8>, Vec<u8>) {
        let (mut near, mut far) = tokio::io::duplex(65_536);
        far.write_all(said).await.unwrap();
        far.shutdown().await.unwrap();
        let result = open(&mut near).await;
        let mut left = Vec::new();
        near.read_to_end(&mut left).await.unwrap();
        drop(near);
        let mut asked = Vec::new();
        far.read_to_end(&mut asked).await.unwrap();
        (result, asked, left)
    }

    fn packet(payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
        [&length[..3], &[0], payload].concat()
    }

    #[tokio::test]
    async fn a_greeting_is_answered_with_a_request_for_tls_and_nothing_after_it_is_read() {
        let greeting = packet(b"\x0a8.4.6\0the rest of it");
        let (result, asked, left) = opened(&[&greeting[..], b"what follows"].concat()).await;
        assert_eq!(result.unwrap(), Opened::Tls);
        assert_eq!(asked.len(), 36);
        assert_eq!(asked[..8], [32, 0, 0, 1, 0x00, 0x8a, 0, 0]);
        assert_eq!(left, b"what follows");
    }

    #[tokio::test]
    async fn an_error_in_place_of_the_greeting_is_told_and_answered_with_nothing() {
        for said in [&b"\xff\x10\x04Too many connections"[..], b"\xff\x10\x04#08004Too many connections"] {
            let (result, asked, _) = opened(&packet(said)).await;
            assert_eq!(result.unwrap(), Opened::Refused("Too many connections".to_owned()));
            assert_eq!(asked, b"");
        }
    }

    #[tokio::test]
    async fn what_is_no_greeting_is_an_error() {
        let huge = [&[0xff, 0xff, 0xff, 0][..], &[10; 5000]].concat();
        for said in [&b""[..], b"\x05\0\0", &packet(b"\x09old"), &packet(b""), b"HTTP/1.1 400", &huge] {
            let (result, asked, _) = opened(said).await;
            assert!(result.is_err(), "{said:?}");
            assert_eq!(asked, b"");
        }
    }
}
