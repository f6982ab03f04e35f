//! `-D`, and `-R` without a destination: a client says where it wants to go, in SOCKS 5 (RFC 1928) or SOCKS 4 and 4a. CONNECT, and no passwords.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A client that has not said where it wants to go after this long does not want to go anywhere.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);
const SOCKS4: u8 = 4;
const SOCKS5: u8 = 5;
const CONNECT: u8 = 1;
/// Longest user or host name of SOCKS 4, which ends with a zero instead of a length.
const MAX_NAME: usize = 255;

/// What a client asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    version: u8,
    /// Name or address.
    pub(super) host: String,
    /// The port.
    pub(super) port: u16,
}

/// Reads what a client wants; what is not understood is answered, where there is an answer.
pub(super) async fn accept(socket: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<Request> {
    match socket.read_u8().await? {
        SOCKS4 => version_4(socket).await,
        SOCKS5 => version_5(socket).await,
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Tells the client whether it is connected.
pub(super) async fn answer(
    socket: &mut (impl AsyncWrite + Unpin),
    request: &Request,
    connected: bool,
) -> io::Result<()> {
    // The address that the node connected from is not known here; clients do not need it.
    let answer: &[u8] = match (request.version, connected) {
        (SOCKS4, true) => &[0, 90, 0, 0, 0, 0, 0, 0],
        (SOCKS4, false) => &[0, 91, 0, 0, 0, 0, 0, 0],
        (_, true) => &[SOCKS5, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        // Connection refused.
        (_, false) => &[SOCKS5, 5, 0, 1, 0, 0, 0, 0, 0, 0],
    };
    socket.write_all(answer).await
}

async fn version_5(socket: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<Request> {
    let mut methods = vec![0; socket.read_u8().await?.into()];
    socket.read_exact(&mut methods).await?;
    if !methods.contains(&0) {
        socket.write_all(&[SOCKS5, 0xff]).await?;
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    socket.write_all(&[SOCKS5, 0]).await?;
    let mut head = [0; 4];
    socket.read_exact(&mut head).await?;
    let [version, command, _, kind] = head;
    if version != SOCKS5 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if command != CONNECT {
        socket.write_all(&[SOCKS5, 7, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
        return Err(io::ErrorKind::Unsupported.into());
    }
    let host = match kind {
        1 => Ipv4Addr::from_bits(socket.read_u32().await?).to_string(),
        3 => {
            let mut name = vec![0; socket.read_u8().await?.into()];
            socket.read_exact(&mut name).await?;
            host_name(name)?
        }
        4 => Ipv6Addr::from_bits(socket.read_u128().await?).to_string(),
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    Ok(Request { version, host, port: socket.read_u16().await? })
}

async fn version_4(socket: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<Request> {
    let command = socket.read_u8().await?;
    let port = socket.read_u16().await?;
    let address = socket.read_u32().await?;
    until_zero(socket).await?;
    // 4a: an address 0.0.0.x, x not zero, stands for the name that follows.
    let host = match address {
        1..=255 => host_name(until_zero(socket).await?)?,
        address => Ipv4Addr::from_bits(address).to_string(),
    };
    let request = Request { version: SOCKS4, host, port };
    if command != CONNECT {
        answer(socket, &request, false).await?;
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(request)
}

async fn until_zero(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    loop {
        match socket.read_u8().await? {
            0 => return Ok(text),
            _ if text.len() == MAX_NAME => return Err(io::ErrorKind::InvalidData.into()),
            byte => text.push(byte),
        }
    }
}

fn host_name(name: Vec<u8>) -> io::Result<String> {
    let name = String::from_utf8(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    if name.is_empty() { Err(io::ErrorKind::InvalidData.into()) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client that says `bytes` asked for, and what it heard.
    async fn asked(bytes: &[u8]) -> (io::Result<Request>, Vec<u8>) {
        let (mut near, mut far) = tokio::io::duplex(1024);
        far.write_all(bytes).await.unwrap();
        far.shutdown().await.unwrap();
        let request = accept(&mut near).await;
        drop(near);
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        (request, heard)
    }

    fn request(version: u8, host: &str, port: u16) -> Request {
        Request { version, host: host.to_owned(), port }
    }

    #[tokio::test]
    async fn names_and_addresses_of_version_5() {
        let greeting = [5, 2, 2, 0];
        let name = [&greeting[..], &[5, 1, 0, 3, 2], b"db", &[0x15, 0x38]].concat();
        assert_eq!(asked(&name).await.0.unwrap(), request(5, "db", 5432));
        let four = [&greeting[..], &[5, 1, 0, 1, 10, 0, 0, 1, 0, 80]].concat();
        assert_eq!(asked(&four).await.0.unwrap(), request(5, "10.0.0.1", 80));
        let mut six = [&greeting[..], &[5, 1, 0, 4], &[0; 15]].concat();
        six.extend([1, 0, 22]);
        assert_eq!(asked(&six).await.0.unwrap(), request(5, "::1", 22));
    }

    #[tokio::test]
    async fn names_and_addresses_of_version_4() {
        assert_eq!(
            asked(b"\x04\x01\x00\x50\x0a\x00\x00\x01me\0").await.0.unwrap(),
            request(4, "10.0.0.1", 80)
        );
        assert_eq!(asked(b"\x04\x01\x00\x50\x00\x00\x00\x01me\0db\0").await.0.unwrap(), request(4, "db", 80));
    }

    #[tokio::test]
    async fn what_is_not_spoken_here_is_answered_and_refused() {
        let (refused, heard) = asked(&[5, 1, 2]).await;
        assert!(refused.is_err());
        assert_eq!(heard, [5, 0xff], "no password is taken");
        let (refused, heard) = asked(&[5, 1, 0, 5, 2, 0, 1, 0, 0, 0, 0, 0, 80]).await;
        assert!(refused.is_err());
        assert_eq!(heard[..4], [5, 0, 5, 7], "nobody listens for others");
        assert!(asked(b"GET / HTTP/1.1\r\n").await.0.is_err());
    }

    #[tokio::test]
    async fn a_request_that_is_cut_off_anywhere_is_none() {
        let whole = [&[5, 1, 0, 5, 1, 0, 3, 2][..], b"db", &[0, 80]].concat();
        for end in 0..whole.len() {
            assert!(asked(&whole[..end]).await.0.is_err(), "{end}");
        }
        assert!(asked(&[&b"\x04\x01\x00\x50\x0a\x00\x00\x01"[..], &[b'x'; 300]].concat()).await.0.is_err());
    }
}
