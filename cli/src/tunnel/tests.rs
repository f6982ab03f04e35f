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
}

struct Away;

impl Upstream for Away {
    type Stream = DuplexStream;
    const GIVES_ACCESS: bool = true;

    async fn connect(&self) -> anyhow::Result<DuplexStream> {
        anyhow::bail!("access to resource requires MFA")
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

#[tokio::test]
async fn a_client_that_cannot_be_served_is_told_why() {
    let (address, _shutdown) = serving(Away).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"\x00\x00\x00\x08\x00\x03\x00\x00").await.unwrap();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    assert!(String::from_utf8_lossy(&heard).contains("access to resource requires MFA"));
}

#[tokio::test]
async fn the_port_is_on_the_loopback_interface_alone() {
    let tunnel = Tunnel::new(LocalPort::bind(0).await.unwrap(), Away);
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
