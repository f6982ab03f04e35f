//! A client whose every byte the test decides.

use std::sync::Arc;

use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f];
pub(crate) const GSS_ENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x30];

pub(crate) struct RawClient {
    pub(crate) stream: TlsStream<TcpStream>,
}

/// A message with its header.
pub(crate) fn message(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&(content.len() as u32 + 4).to_be_bytes());
    bytes.extend_from_slice(content);
    bytes
}

/// A start-up packet of protocol 3.`minor`.
pub(crate) fn startup(minor: u16, parameters: &[u8]) -> Vec<u8> {
    let mut packet = (parameters.len() as u32 + 8).to_be_bytes().to_vec();
    packet.extend_from_slice(&[0, 3]);
    packet.extend_from_slice(&minor.to_be_bytes());
    packet.extend_from_slice(parameters);
    packet
}

pub(crate) const ALICE: &[u8] = b"user\0alice\0database\0prod\0application_name\0test\0\0";

impl RawClient {
    /// TLS at once.
    pub(crate) async fn tls(socket: TcpStream, config: Arc<ClientConfig>) -> std::io::Result<Self> {
        let name = "localhost".try_into().unwrap();
        Ok(Self { stream: TlsConnector::from(config).connect(name, socket).await? })
    }

    /// TLS by SSLRequest.
    pub(crate) async fn negotiate(mut socket: TcpStream, config: Arc<ClientConfig>) -> std::io::Result<Self> {
        socket.write_all(&SSL_REQUEST).await?;
        assert_eq!(socket.read_u8().await?, b'S');
        Self::tls(socket, config).await
    }

    /// TLS and a start-up packet; the answer is not read.
    pub(crate) async fn log_in(socket: TcpStream, config: Arc<ClientConfig>, minor: u16) -> Self {
        let mut client = Self::negotiate(socket, config).await.unwrap();
        client.send(&startup(minor, ALICE)).await;
        client
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next message; `None` at a clean end.
    pub(crate) async fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let kind = match self.stream.read_u8().await {
            Ok(kind) => kind,
            Err(error) => {
                assert!(!error.to_string().contains("close_notify"), "the end must be clean: {error}");
                return None;
            }
        };
        let length = self.stream.read_u32().await.unwrap();
        let mut content = vec![0; length as usize - 4];
        self.stream.read_exact(&mut content).await.unwrap();
        Some((kind, content))
    }

    /// Everything up to ReadyForQuery.
    pub(crate) async fn until_ready(&mut self) -> Vec<(u8, Vec<u8>)> {
        let mut messages = Vec::new();
        loop {
            let message = self.receive().await.expect("closed before it was ready");
            let ready = message.0 == b'Z';
            messages.push(message);
            if ready {
                return messages;
            }
        }
    }

    /// The next message, which must be a FATAL error: its SQLSTATE and message. After it the connection ends
    /// cleanly.
    pub(crate) async fn fatal(mut self) -> (String, String) {
        let (kind, content) = self.receive().await.expect("closed without a word");
        assert_eq!(kind, b'E');
        assert!(self.receive().await.is_none());
        error_fields(&content)
    }
}

/// SQLSTATE and message of an ErrorResponse.
pub(crate) fn error_fields(content: &[u8]) -> (String, String) {
    let text = String::from_utf8(content.to_vec()).unwrap();
    assert!(text.starts_with("SFATAL\0VFATAL\0"), "{text:?}");
    let field = |code: char| text.split('\0').find_map(|field| field.strip_prefix(code)).unwrap().to_owned();
    (field('C'), field('M'))
}
