//! MySQL's side of the tests: packets by hand, a client and a sidecar.

use std::sync::Arc;

use protocols::mysql::{
    Capabilities, Greeting, Mysql, MysqlClient, MysqlUpstream, TUNNEL_ALPN, UpstreamFacts,
};
use protocols::{AcceptError, Accepted, DialError, Endpoint, Login, Protocol};
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Authority, limits};

pub(crate) const NATIVE: &str = "mysql_native_password";
pub(crate) const SHA2: &str = "caching_sha2_password";

/// What neither leg does without, and what a response with a plugin and a database needs.
pub(crate) const FLAGS: u32 = Capabilities::NEEDED.flags()
    | Capabilities::PLUGIN_AUTH.flags()
    | Capabilities::PLUGIN_AUTH_LENENC.flags()
    | Capabilities::CONNECT_WITH_DB.flags();

/// What a MySQL 8.4 would say of itself.
pub(crate) fn mysql_facts() -> UpstreamFacts {
    UpstreamFacts {
        version: "8.4.6".into(),
        capabilities: Capabilities::new(0xDFFF_FFFF, 0),
        charset: 255,
        status: 2,
    }
}

/// A packet of its own.
pub(crate) fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let [a, b, c, ..] = (payload.len() as u32).to_le_bytes();
    [&[a, b, c, sequence], payload].concat()
}

/// The next packet: its number and its payload.
pub(crate) async fn read_packet<S: AsyncRead + Unpin>(stream: &mut S) -> std::io::Result<(u8, Vec<u8>)> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await?;
    let [a, b, c, sequence] = header;
    let mut payload = vec![0; u32::from_le_bytes([a, b, c, 0]) as usize];
    stream.read_exact(&mut payload).await?;
    Ok((sequence, payload))
}

pub(crate) async fn send<S: AsyncWrite + Unpin>(stream: &mut S, sequence: u8, payload: &[u8]) {
    stream.write_all(&packet(sequence, payload)).await.unwrap();
    stream.flush().await.unwrap();
}

/// What stands in front of a name, and is an SSLRequest alone.
pub(crate) fn settings(flags: u32) -> Vec<u8> {
    [&flags.to_le_bytes()[..], &(1_u32 << 24).to_le_bytes(), &[45], &[0; 23]].concat()
}

/// A handshake response with `FLAGS`.
pub(crate) fn response(user: &str, auth: &[u8], database: &str, plugin: &str) -> Vec<u8> {
    [
        &settings(FLAGS)[..],
        user.as_bytes(),
        &[0, auth.len() as u8],
        auth,
        database.as_bytes(),
        &[0],
        plugin.as_bytes(),
        &[0],
    ]
    .concat()
}

/// A greeting as an upstream sends it: MySQL's where the first flag is there.
pub(crate) fn greeting(flags: u32, plugin: &str) -> Vec<u8> {
    let [a, b, c, d] = flags.to_le_bytes();
    [
        &b"\x0a8.4.6\0\x07\0\0\0ABCDEFGH\0"[..],
        &[a, b, 255, 2, 0, c, d, 21],
        &[0; 10],
        b"IJKLMNOPQRST\0",
        plugin.as_bytes(),
        &[0],
    ]
    .concat()
}

/// The scramble in it.
pub(crate) const SCRAMBLE: &[u8] = b"ABCDEFGHIJKLMNOPQRST";

/// OK with nothing to say.
pub(crate) const OK: &[u8] = b"\0\0\0\x02\0\0\0";

/// An ERR packet's number, SQLSTATE and text.
pub(crate) fn error(payload: &[u8]) -> (u16, String, String) {
    let [0xFF, low, high, b'#', said @ ..] = payload else { panic!("{}", payload.escape_ascii()) };
    let (state, message) = said.split_at(5);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (u16::from_le_bytes([*low, *high]), text(state), text(message))
}

/// A client whose every byte the test decides, inside TLS.
pub(crate) struct RawMysql {
    pub(crate) stream: TlsStream<TcpStream>,
    /// The greeting that counts: in the tunnel, the second one.
    pub(crate) greeting: Vec<u8>,
}

impl RawMysql {
    /// Through TLS; `config` says whether it is tsh's tunnel.
    pub(crate) async fn connect(mut socket: TcpStream, config: Arc<ClientConfig>) -> std::io::Result<Self> {
        let (sequence, mut greeting) = read_packet(&mut socket).await?;
        assert_eq!(sequence, 0);
        send(&mut socket, 1, &settings(FLAGS | Capabilities::SSL.flags())).await;
        let tunnel = config.alpn_protocols.iter().any(|alpn| alpn == TUNNEL_ALPN);
        let mut stream = TlsConnector::from(config).connect("localhost".try_into().unwrap(), socket).await?;
        if tunnel {
            greeting = read_packet(&mut stream).await?.1;
        }
        Ok(Self { stream, greeting })
    }

    pub(crate) async fn send(&mut self, sequence: u8, payload: &[u8]) {
        send(&mut self.stream, sequence, payload).await;
    }

    pub(crate) async fn read(&mut self) -> (u8, Vec<u8>) {
        read_packet(&mut self.stream).await.unwrap()
    }
}

/// A sidecar without policy, for MySQL.
pub(crate) struct MysqlSidecar {
    pub(crate) authority: Authority,
    pub(crate) mysql: Arc<Mysql>,
    listener: TcpListener,
}

impl MysqlSidecar {
    /// Its upstream is not known yet.
    pub(crate) async fn unaware() -> Self {
        let authority = Authority::new();
        let mut tls = ServerConfig::clone(&authority.server_config());
        tls.alpn_protocols = vec![TUNNEL_ALPN.to_vec()];
        let mysql = Arc::new(Mysql::new(Arc::new(tls), Greeting::unknown(), limits()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { authority, mysql, listener }
    }

    /// Its upstream was a MySQL 8.4.
    pub(crate) async fn start() -> Self {
        let sidecar = Self::unaware().await;
        sidecar.mysql.greeting().learn(Arc::new(mysql_facts()));
        sidecar
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port())).await.unwrap()
    }

    /// The next connection, as it came.
    pub(crate) async fn socket(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }

    /// What becomes of the next connection.
    pub(crate) async fn accept(&self) -> Result<Option<Accepted<MysqlClient>>, AcceptError> {
        self.mysql.accept(self.socket().await).await
    }

    pub(crate) async fn dial(&self, endpoint: &Endpoint, login: &Login) -> Result<MysqlUpstream, DialError> {
        self.mysql.dial(endpoint, login).await
    }
}
