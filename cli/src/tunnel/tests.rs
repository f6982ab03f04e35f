use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::mpsc,
};

use super::*;

/// Hands the far end of each connection to the test.
struct ToTest(mpsc::UnboundedSender<DuplexStream>);

impl Upstream for ToTest {
    type Stream = DuplexStream;
    const GIVES_ACCESS: bool = true;

    async fn connect(&self) -> anyhow::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(64);
        self.0.send(far)?;
        Ok(near)
    }

    async fn connect_without_asking(&self) -> Option<DuplexStream> {
        self.connect().await.ok()
    }

    fn protocol(&self) -> DatabaseProtocol {
        DatabaseProtocol::Postgres
    }
}

struct Away(DatabaseProtocol);

impl Upstream for Away {
    type Stream = DuplexStream;
    const GIVES_ACCESS: bool = true;

    async fn connect(&self) -> anyhow::Result<DuplexStream> {
        anyhow::bail!("access to resource requires MFA")
    }

    async fn connect_without_asking(&self) -> Option<DuplexStream> {
        None
    }

    fn protocol(&self) -> DatabaseProtocol {
        self.0
    }
}

async fn serving<U: Upstream>(upstream: U) -> (SocketAddr, CancellationToken) {
    let tunnel = Tunnel::new(LocalPort::bind(0).await.unwrap(), upstream);
    let (address, shutdown) = (tunnel.address(), CancellationToken::new());
    tokio::spawn(tunnel.serve(shutdown.clone()));
    (address, shutdown)
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_direction_closes_by_itself() {
    let (far_ends, mut arrived) = mpsc::unbounded_channel();
    let (address, _shutdown) = serving(ToTest(far_ends)).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"question").await.unwrap();
    let mut far = arrived.recv().await.unwrap();
    client.shutdown().await.unwrap();
    let mut question = Vec::new();
    far.read_to_end(&mut question).await.unwrap();
    assert_eq!(question, b"question");
    far.write_all(b"answer after the question's end").await.unwrap();
    drop(far);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"answer after the question's end");
}

/// What reaches the target of a connection whose client sent this and was gone before anybody looked.
#[cfg(target_os = "linux")]
async fn left_behind_by(bytes: &[u8]) -> Option<Vec<u8>> {
    let (far_ends, mut arrived) = mpsc::unbounded_channel();
    let LocalPort { listener, address } = LocalPort::bind(0).await.unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(bytes).await.unwrap();
    drop(client);
    let (socket, peer) = listener.accept().await.unwrap();
    let upstream = ToTest(far_ends);
    let passed = async {
        let mut far = arrived.recv().await?;
        let mut passed = vec![0; bytes.len()];
        far.read_exact(&mut passed).await.unwrap();
        Some(passed)
    };
    // The upstream, and with it the channel, ends with the connection.
    let serve = async move { serve_one(socket, peer, address, &upstream).await };
    tokio::join!(serve, passed).1
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_cancel_of_a_client_that_hung_up_is_passed_on() {
    let request = [&16_u32.to_be_bytes()[..], &80_877_102_u32.to_be_bytes(), b"pid.key."].concat();
    assert_eq!(left_behind_by(&request).await, Some(request));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn nothing_else_of_a_client_that_hung_up_is_passed_on() {
    let startup = [&16_u32.to_be_bytes()[..], &196_608_u32.to_be_bytes(), b"user\0a\0\0"].concat();
    assert_eq!(left_behind_by(&startup).await, None);
}

#[tokio::test]
async fn a_client_that_cannot_be_served_is_told_why() {
    let (address, _shutdown) = serving(Away(DatabaseProtocol::Postgres)).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"\x00\x00\x00\x08\x00\x03\x00\x00").await.unwrap();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    assert!(String::from_utf8_lossy(&heard).contains("access to resource requires MFA"));
}

#[tokio::test]
async fn a_mysql_client_is_told_before_it_says_anything() {
    let (address, _shutdown) = serving(Away(DatabaseProtocol::Mysql)).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard[3..7], [0, 0xff, 0x51, 0x04], "ERR 1105 where the greeting would be");
    assert!(String::from_utf8_lossy(&heard).contains("access to resource requires MFA"));
}

#[tokio::test]
async fn the_port_is_on_the_loopback_interface_alone() {
    let tunnel = Tunnel::new(LocalPort::bind(0).await.unwrap(), Away(DatabaseProtocol::Postgres));
    assert_eq!(tunnel.address().ip(), Ipv4Addr::LOCALHOST);
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = LocalPort::bind(0).await.unwrap();
    let port = taken.address.port();
    let error = LocalPort::bind(port).await.err().unwrap();
    assert_eq!(error.to_string(), format!("cannot listen on 127.0.0.1:{port}"));
}

#[tokio::test]
async fn shutdown_closes_what_is_open() {
    let (far_ends, mut arrived) = mpsc::unbounded_channel();
    let (address, shutdown) = serving(ToTest(far_ends)).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let _far = arrived.recv().await.unwrap();
    shutdown.cancel();
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest).await;
    assert!(TcpStream::connect(address).await.is_err());
}
