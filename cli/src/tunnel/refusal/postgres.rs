//! PostgreSQL: an ErrorResponse where the client will read one.
//!
//! A client first asks for encryption (SSLRequest, GSSENCRequest), each answered `N`, or sends its StartupMessage at once.
//! An error is understood only after the StartupMessage (PostgreSQL documentation, 55.2 Message Flow).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// PostgreSQL's own limit (`MAX_STARTUP_PACKET_LENGTH`).
const MAX_STARTUP_BYTES: u32 = 10_000;

/// Encryption requests answered before giving up: one of each kind.
const MAX_ENCRYPTION_REQUESTS: usize = 2;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_ENCRYPTION_REQUEST: u32 = 80_877_104;

/// Reads up to the StartupMessage and answers with a fatal error, SQLSTATE 08001
/// (`sqlclient_unable_to_establish_sqlconnection`).
///
/// # Errors
/// The client went away, or does not speak PostgreSQL.
pub(super) async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut S,
    reason: &str,
) -> io::Result<()> {
    read_startup(client).await?;
    client.write_all(&error_response(reason)).await
}

async fn read_startup<S: AsyncRead + AsyncWrite + Unpin>(client: &mut S) -> io::Result<()> {
    for _ in 0..=MAX_ENCRYPTION_REQUESTS {
        let length = client.read_u32().await?;
        let code = client.read_u32().await?;
        if length == 8 && (code == SSL_REQUEST || code == GSS_ENCRYPTION_REQUEST) {
            client.write_all(b"N").await?;
            continue;
        }
        if !(8..=MAX_STARTUP_BYTES).contains(&length) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut rest = client.take(u64::from(length - 8));
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
        return Ok(());
    }
    Err(io::ErrorKind::InvalidData.into())
}

fn error_response(reason: &str) -> Vec<u8> {
    let mut fields = Vec::new();
    for (kind, value) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', "08001"), (b'M', reason)] {
        fields.push(kind);
        fields.extend(value.bytes().filter(|&byte| byte != 0));
        fields.push(0);
    }
    fields.push(0);
    let length = u32::try_from(fields.len() + 4).unwrap_or(u32::MAX);
    [&b"E"[..], &length.to_be_bytes(), &fields].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn startup() -> Vec<u8> {
        let body = b"\x00\x03\x00\x00user\0alice\0\0";
        [&(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
    }

    async fn refused(sent: &[u8]) -> (io::Result<()>, Vec<u8>) {
        let (mut client, mut server) = tokio::io::duplex(1024);
        client.write_all(sent).await.unwrap();
        let result = refuse(&mut server, "no\0way").await;
        drop(server);
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        (result, heard)
    }

    #[tokio::test]
    async fn the_reason_follows_the_startup_message() {
        let (result, heard) = refused(&startup()).await;
        result.unwrap();
        assert_eq!(heard, b"E\x00\x00\x00\x21SFATAL\0VFATAL\0C08001\0Mnoway\0\0");
    }

    #[tokio::test]
    async fn encryption_requests_are_answered_first() {
        let requests = [
            &8u32.to_be_bytes()[..],
            &SSL_REQUEST.to_be_bytes(),
            &8u32.to_be_bytes(),
            &GSS_ENCRYPTION_REQUEST.to_be_bytes(),
        ]
        .concat();
        let (result, heard) = refused(&[&requests[..], &startup()].concat()).await;
        result.unwrap();
        assert!(heard.starts_with(b"NNE"), "{heard:?}");
    }

    #[tokio::test]
    async fn endless_encryption_requests_and_oversized_packets_are_cut_off() {
        let request = [&8u32.to_be_bytes()[..], &SSL_REQUEST.to_be_bytes()].concat();
        assert!(refused(&request.repeat(4)).await.0.is_err());
        let oversized = [&100_000u32.to_be_bytes()[..], &196_608u32.to_be_bytes()].concat();
        assert!(refused(&oversized).await.0.is_err());
        assert!(refused(&[0; 8]).await.0.is_err());
    }
}
