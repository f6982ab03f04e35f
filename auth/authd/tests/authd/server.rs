use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use auth::{clock::Clock, proto};
use authd::{
    config::Config,
    server::{Server, StartError},
};
use rustls::{
    ClientConfig, DigitallySignedStruct, HandshakeKind, SignatureScheme, SupportedProtocolVersion,
    client::{
        Resumption, Tls12Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::world::*;

#[tokio::test]
async fn silent_and_half_clients_hold_nobody_up() {
    let world = World::new().await;
    let mut silent = Vec::new();
    for n in 0..200 {
        let mut socket = TcpStream::connect(world.server.address()).await.unwrap();
        // Nothing; one byte; the head of a ClientHello.
        let bytes: &[u8] = [&b""[..], &[0x16], &[0x16, 3, 1, 2, 0, 1, 0]][n % 3];
        socket.write_all(bytes).await.unwrap();
        silent.push(socket);
    }
    let ping = async { world.public().await.ping(proto::PingRequest {}).await.unwrap().into_inner() };
    let ping = tokio::time::timeout(Duration::from_secs(2), ping).await.unwrap();
    assert_eq!(ping.cluster_name, "main");
}

#[tokio::test]
async fn what_is_no_tls_is_closed() {
    let world = World::new().await;
    let mut socket = TcpStream::connect(world.server.address()).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut answer)).await.unwrap();
    assert!(read.is_err() || !answer.starts_with(b"HTTP"));
}

/// Takes any certificate: these tests are about what authd does.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A TLS client that would resume if it could.
pub(crate) fn tls_client(version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption =
        Resumption::in_memory_sessions(8).tls12_resumption(Tls12Resumption::SessionIdOrTickets);
    Arc::new(config)
}

#[tokio::test]
async fn no_tls_session_is_resumed() {
    let world = World::new().await;
    for version in [&TLS13, &TLS12] {
        let client = tls_client(version);
        for _ in 0..3 {
            let socket = TcpStream::connect(world.server.address()).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let mut tls = TlsConnector::from(Arc::clone(&client)).connect(name, socket).await.unwrap();
            tls.write_all(b"GET /webapi/ping HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                .await
                .unwrap();
            // What a server has to say about resuming comes before its first answer.
            let mut answer = Vec::new();
            tls.read_to_end(&mut answer).await.unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 200"));
            let (_, session) = tls.get_ref();
            assert_eq!(session.tls13_tickets_received(), 0);
            // Full, or with a HelloRetryRequest; never resumed.
            assert_ne!(session.handshake_kind(), Some(HandshakeKind::Resumed), "{:?}", version.version);
        }
    }
}

#[tokio::test]
async fn a_stranger_is_given_less_room_for_a_request() {
    let world = World::new().await;
    let long = || "x".repeat(65 * 1024);
    let request = proto::BeginLoginRequest { user: "x".into(), password: long() };
    assert_ne!(refused(world.public().await.begin_login(request).await).0, tonic::Code::Unauthenticated);
    // Before it is read whose call it is, the message is: of other services no more is read, either.
    let mut admin = proto::admin_client::AdminClient::new(world.channel(None).await);
    let request = proto::GetResourcesRequest { kind: long(), ..Default::default() };
    assert_ne!(refused(admin.get_resources(request).await).0, tonic::Code::Unauthenticated);
    let request = proto::GetResourcesRequest { kind: long(), ..Default::default() };
    assert_eq!(refused(world.admin().await.get_resources(request).await).0, tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn a_request_of_more_than_one_mebibyte_is_refused() {
    let world = World::new().await;
    let request = proto::BeginLoginRequest { user: "x".into(), password: "x".repeat(1024 * 1024 + 1) };
    let status = world.public().await.begin_login(request).await.unwrap_err();
    assert_ne!(status.code(), tonic::Code::Unauthenticated, "{status:?}");
    let request = proto::GetResourcesRequest { kind: "x".repeat(1024 * 1024 + 1), ..Default::default() };
    let status = world.admin().await.get_resources(request).await.unwrap_err();
    assert!(matches!(status.code(), tonic::Code::OutOfRange | tonic::Code::ResourceExhausted), "{status:?}");
}

#[tokio::test]
async fn the_data_directory_is_one_authds_and_one_clusters() {
    let world = World::new().await;
    let config = Config {
        data_dir: world.directory.path().join("data"),
        listen: "127.0.0.1:0".parse().unwrap(),
        ..Config::default()
    };
    let second = Server::start(&config, Clock::system()).await;
    assert!(matches!(second, Err(StartError::DataDir(_))));
    for file in ["store.sqlite", "store.sqlite-wal", "admin.sock", "authd.lock", "log"] {
        let mode = std::fs::metadata(config.data_dir.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file}");
    }
    world.server.stop().await;
    let other = Config { cluster_name: Some("other".to_owned().try_into().unwrap()), ..config.clone() };
    let refused = Server::start(&other, Clock::system()).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("belongs to cluster")));
    // Without a name it is what it was.
    Server::start(&config, Clock::system()).await.unwrap().stop().await;
}

/// The program itself, up and listening, and what it says of that.
pub(crate) fn program(data: &Path) -> (Child, serde_json::Value) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_authd"))
        .args(["start", "--listen=127.0.0.1:0", "--log-format=json", "--cluster-name=main", "--data-dir"])
        .arg(data)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let listening = log.find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        (line["fields"]["message"] == "listening").then(|| line["fields"].clone())
    });
    let listening = listening.unwrap();
    assert_eq!(listening["listener"], "api");
    // Keep the pipe open: the program must not die of writing its log.
    std::thread::spawn(move || log.for_each(drop));
    (child, listening)
}

/// The program, whose log nobody reads any more.
fn unread_program(data: &Path) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_authd"))
        .args(["start", "--listen=127.0.0.1:0", "--cluster-name=main", "--data-dir"])
        .arg(data)
        .env("TOUCHSTONE_LOG", "debug")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("listening")));
    child
}

async fn roles(data: &Path) -> Vec<String> {
    let channel = auth::api::connect_unix(&data.join("admin.sock")).await.unwrap();
    let request = proto::GetResourcesRequest { kind: "role".into(), ..Default::default() };
    let mut admin = proto::admin_client::AdminClient::new(channel);
    let resources = admin.get_resources(request).await.unwrap().into_inner().resources;
    resources.into_iter().map(|role| role.name).collect()
}

#[tokio::test]
async fn what_was_answered_survives_kill_9_and_sigterm_ends_it_well() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (mut child, _) = program(&data);
    let channel = auth::api::connect_unix(&data.join("admin.sock")).await.unwrap();
    let json = r#"{"kind":"role","version":"v7","metadata":{"name":"new"},"spec":{}}"#.to_owned();
    let resource = Some(proto::Resource { json, ..Default::default() });
    let put = proto::PutResourceRequest { resource, ..Default::default() };
    proto::admin_client::AdminClient::new(channel).put_resource(put).await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();

    let (mut child, _) = program(&data);
    assert!(roles(&data).await.contains(&"new".to_owned()));
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(!data.join("admin.sock").exists());
}

#[test]
fn its_log_has_no_colours_in_a_file_and_its_limit_of_files_is_raised() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new("prlimit")
        .args(["--nofile=64:200", env!("CARGO_BIN_EXE_authd"), "start", "--listen=127.0.0.1:0", "--data-dir"])
        .arg(directory.path().join("data"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let line = log.find(|line| line.contains("listening")).unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.contains("INFO authd::server: listening") && !line.contains('\x1b'), "{line:?}");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().filter(|word| *word == "200").count(), 2, "{files}");
}

#[tokio::test]
async fn a_log_that_cannot_be_written_keeps_nobody_from_anything() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut child = unread_program(&data);
    for _ in 0..3 {
        assert!(!roles(&data).await.is_empty());
    }
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}
