use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use auth::{clock::Clock, proto};
use authd::{
    config::Config,
    server::{Server, StartError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

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

#[tokio::test]
async fn a_request_of_more_than_one_mebibyte_is_refused() {
    let world = World::new().await;
    let request = proto::BeginLoginRequest { user: "x".into(), password: "x".repeat(1024 * 1024 + 1) };
    let status = world.public().await.begin_login(request).await.unwrap_err();
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

/// The program itself, up and listening.
fn program(data: &Path) -> Child {
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
    assert_eq!(listening.unwrap()["listener"], "api");
    // Keep the pipe open: the program must not die of writing its log.
    std::thread::spawn(move || log.for_each(drop));
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
    let mut child = program(&data);
    let channel = auth::api::connect_unix(&data.join("admin.sock")).await.unwrap();
    let json = r#"{"kind":"role","version":"v7","metadata":{"name":"new"},"spec":{}}"#.to_owned();
    let resource = Some(proto::Resource { json, ..Default::default() });
    let put = proto::PutResourceRequest { resource, ..Default::default() };
    proto::admin_client::AdminClient::new(channel).put_resource(put).await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();

    let mut child = program(&data);
    assert!(roles(&data).await.contains(&"new".to_owned()));
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(!data.join("admin.sock").exists());
}
