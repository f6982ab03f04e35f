use std::{io::ErrorKind, time::SystemTime};

use ssh_key::certificate::CertType;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::ssh::{
    forward::{Dynamic, Forwarding, Listening, Local},
    testing::{Certified, NO_ENTRY, NODE, Seen, TestHost, key},
};

async fn open(host: &TestHost) -> Result<SshConnection, SshError> {
    SshConnection::open(&host.credential(), &Settings::default()).await
}

/// Why a host with this certificate is not believed.
async fn disbelieved(certified: Option<&Certified<'_>>) -> HostError {
    let host = TestHost::with(certified).await;
    match open(&host).await {
        Err(SshError::Host { address, target, source }) => {
            assert_eq!((address, target.as_str()), (host.address, NODE));
            source
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("believed"),
    }
}

#[tokio::test]
async fn a_host_that_cannot_be_believed_does_not_get_as_far_as_a_login() {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(disbelieved(None).await, HostError::PlainKey);
    let other = Certified { signer: key(9), ..Certified::default() };
    assert_eq!(disbelieved(Some(&other)).await, HostError::Authority);
    let expired = Certified { valid: (0, seconds - 10), ..Certified::default() };
    assert!(matches!(disbelieved(Some(&expired)).await, HostError::Dates { .. }));
    let elsewhere = Certified { principals: &["prod-2"], ..Certified::default() };
    assert!(matches!(disbelieved(Some(&elsewhere)).await, HostError::Principal { .. }));
    let user = Certified { kind: CertType::User, ..Certified::default() };
    assert_eq!(disbelieved(Some(&user)).await, HostError::NotForHosts);
}

#[tokio::test]
async fn a_login_that_is_turned_down_is_told() {
    let host = TestHost::start().await;
    let refused = SshConnection::open(&host.credential_as("nobody"), &Settings::default()).await;
    let error = refused.err().unwrap();
    assert_eq!(error.to_string(), "access denied to nobody connecting to prod-1");
}

#[tokio::test]
async fn a_refusal_comes_in_the_sidecars_own_words() {
    let host = TestHost::start().await;
    let refused = SshConnection::open(&host.credential_as("barred"), &Settings::default()).await;
    assert_eq!(refused.err().unwrap().to_string(), NO_ENTRY);
}

#[tokio::test]
async fn a_sidecar_that_is_away_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut credential = TestHost::start().await.credential();
    credential.target.public_addr = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = SshConnection::open(&credential, &Settings::default()).await.err().unwrap();
    assert_eq!(error.to_string(), format!("cannot reach {}", credential.target.public_addr));
}

async fn through(host: &TestHost, listening: Listening) -> (Arc<SshConnection>, Forwarding, TcpStream) {
    let port = listening.ports()[0];
    let connection = Arc::new(open(host).await.unwrap());
    let forwarding = Forwarding::start(&connection, vec![listening]);
    (connection, forwarding, TcpStream::connect(("127.0.0.1", port)).await.unwrap())
}

async fn echoed(socket: &mut TcpStream) -> Vec<u8> {
    socket.write_all(b"question").await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_local_port_leads_where_the_node_can_reach() {
    let mut host = TestHost::start().await;
    let listening = Listening::local(&"0:db.internal:5432".parse().unwrap()).await.unwrap();
    let (connection, forwarding, mut socket) = through(&host, listening).await;
    assert_eq!(echoed(&mut socket).await, b"question", "and each direction closes by itself");
    assert_eq!(host.seen.recv().await, Some(Seen::Direct("db.internal".to_owned(), 5432)));
    forwarding.finish().await;
    connection.close().await;
}

#[tokio::test]
async fn what_the_host_does_not_allow_is_closed_and_the_rest_goes_on() {
    let host = TestHost::start().await;
    let listening = Listening::local(&"0:forbidden:1".parse().unwrap()).await.unwrap();
    let (connection, _forwarding, mut socket) = through(&host, listening).await;
    let mut nothing = Vec::new();
    let read = socket.read_to_end(&mut nothing).await;
    assert!(read.is_ok() || read.unwrap_err().kind() == ErrorKind::ConnectionReset);
    assert!(nothing.is_empty());
    assert!(connection.session_channel().await.is_ok());
}

#[tokio::test]
async fn a_socks_client_says_where_it_wants_to_go() {
    let mut host = TestHost::start().await;
    let listening = Listening::dynamic(&"0".parse::<Dynamic>().unwrap()).await.unwrap();
    let (_connection, _forwarding, mut socket) = through(&host, listening).await;
    socket.write_all(&[&[5, 1, 0, 5, 1, 0, 3, 2][..], b"db", &[0x15, 0x38]].concat()).await.unwrap();
    let mut heard = [0; 12];
    socket.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard[..4], [5, 0, 5, 0], "connected");
    assert_eq!(echoed(&mut socket).await, b"question");
    assert_eq!(host.seen.recv().await, Some(Seen::Direct("db".to_owned(), 5432)));
}

#[tokio::test]
async fn a_local_port_is_on_the_loopback_interface_unless_another_is_named() {
    let listening = Listening::local(&"0:h:1".parse::<Local>().unwrap()).await.unwrap();
    let port = listening.ports()[0];
    assert!(listening.ports().iter().all(|other| *other == port));
    assert!(TcpListener::bind(("127.0.0.1", port)).await.is_err());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let socket = Listening::local(&format!("{}:h:1", path.display()).parse().unwrap()).await.unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    drop(socket);
    assert!(!path.exists());
}

/// What comes to a port here that a host leads to.
async fn heard_at(listener: &TcpListener) -> String {
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut heard = String::new();
    socket.read_to_string(&mut heard).await.unwrap();
    heard
}

#[tokio::test]
async fn a_remote_port_leads_here_and_no_other_does() {
    for (asked, port) in [(2222, 2222), (0, 40_000)] {
        let mut host = TestHost::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap().port();
        let remote: Remote = format!("{asked}:127.0.0.1:{here}").parse().unwrap();
        let settings = Settings { remote: vec![remote.clone()], ..Settings::default() };
        let connection = SshConnection::open(&host.credential(), &settings).await.unwrap();
        let chosen = connection.listen(&remote).await.unwrap();
        assert_eq!(host.seen.recv().await, Some(Seen::Listen("localhost".to_owned(), asked)));
        assert_eq!(chosen, Some(port).filter(|_| asked == 0));
        if asked != 0 {
            assert_eq!(heard_at(&listener).await, "knock at 2222");
        }
    }
}

#[tokio::test]
async fn a_remote_port_that_is_not_granted_is_told() {
    let host = TestHost::start().await;
    let remote: Remote = "1:127.0.0.1:9".parse().unwrap();
    let error = open(&host).await.unwrap().listen(&remote).await.unwrap_err();
    assert_eq!(error.to_string(), "remote port forwarding was refused by prod-1");
}

#[tokio::test]
async fn a_subsystem_that_the_host_does_not_have_is_refused() {
    let host = TestHost::start().await;
    let connection = open(&host).await.unwrap();
    assert!(connection.subsystem("sftp").await.is_ok());
    let error = connection.subsystem("netconf").await.err().unwrap();
    assert_eq!(error.to_string(), "netconf was refused by prod-1");
}
