//! Forwarding: ports and socket files both ways, the agent, the display.

use std::path::Path;
use std::process::Stdio;

use protocols::Allowed;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::process::{Child, Command};

use super::house::{House, Plan, login};

/// A server that sends back what it gets, in capitals.
async fn shouting() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(shout(socket));
        }
    });
    port
}

async fn shout(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.unwrap();
    text.make_ascii_uppercase();
    stream.write_all(&text).await.unwrap();
}

async fn ask(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) -> String {
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Runs `ssh` with these options until it is there, which a command of its own says.
async fn ready(house: &House, options: &[&str]) -> Child {
    let options: Vec<&str> = options.iter().copied().chain(["-o", "ExitOnForwardFailure=yes"]).collect();
    let mut child = house.ssh(&options).arg("echo ready; cat").stdin(Stdio::piped()).spawn().unwrap();
    let mut line = [0; 6];
    let read = child.stdout.as_mut().unwrap().read_exact(&mut line).await;
    assert!(read.is_ok() && line == *b"ready\n", "{:?} {}", house.log.seen(), house.sshd_log());
    child
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn local_forwards_reach_ports_and_socket_files_of_the_host() {
    let Some(house) = House::open().await else { return };
    let target = shouting().await;
    let socket = house.path("service.sock");
    let service = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move { shout(service.accept().await.unwrap().0).await });
    let (port, file) = (free_port(), house.path("local.sock"));
    let tcp = format!("{port}:127.0.0.1:{target}");
    let unix = format!("{}:{}", file.display(), socket.display());
    let _child = ready(&house, &["-L", &tcp, "-L", &unix]).await;
    assert_eq!(ask(TcpStream::connect(("127.0.0.1", port)).await.unwrap()).await, "HELLO");
    assert_eq!(ask(UnixStream::connect(&file).await.unwrap()).await, "HELLO");
    let seen = house.log.seen().join("\n");
    assert!(
        seen.contains("Open(DirectTcpip(TcpForward {") && seen.contains(&format!("port: {target},")),
        "{seen}"
    );
    assert!(seen.contains("Open(DirectStreamlocal {"), "{seen}");
}

#[tokio::test]
async fn a_forward_to_nobody_fails_as_the_host_says() {
    let Some(house) = House::open().await else { return };
    let closed = free_port();
    let output = house.ssh(&["-W", &format!("127.0.0.1:{closed}"), "-v"]).output().await.unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("connect failed: Connection refused"), "{error}");
}

#[tokio::test]
async fn early_data_of_a_forwarded_connection_is_not_lost() {
    let Some(house) = House::open().await else { return };
    // The service speaks before it is asked, and as soon as it is there.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.write_all(b"220 welcome\n").await.unwrap();
        }
    });
    for _ in 0..5 {
        let output = house.ssh(&["-W", &format!("127.0.0.1:{target}")]).output().await.unwrap();
        assert_eq!(output.stdout, b"220 welcome\n", "{output:?}");
    }
}

#[tokio::test]
async fn remote_forwards_listen_at_the_host_and_come_back() {
    let Some(house) = House::open().await else { return };
    let target = shouting().await;
    let (port, file) = (free_port(), house.path("remote.sock"));
    let tcp = format!("127.0.0.1:{port}:127.0.0.1:{target}");
    let unix = format!("{}:127.0.0.1:{target}", file.display());
    let mut child = ready(&house, &["-R", &tcp, "-R", &unix]).await;
    assert_eq!(ask(TcpStream::connect(("127.0.0.1", port)).await.unwrap()).await, "HELLO");
    assert_eq!(ask(UnixStream::connect(&file).await.unwrap()).await, "HELLO");
    drop(child.stdin.take());
    child.wait().await.unwrap();
    let seen = house.log.seen().join("\n");
    for wanted in ["Listen(Tcp", "Listen(Unix", "Open(ForwardedTcpip", "Open(ForwardedStreamlocal"] {
        assert!(seen.contains(wanted), "{wanted}: {seen}");
    }
}

#[tokio::test]
async fn a_port_that_the_host_chooses_is_told() {
    let Some(house) = House::open().await else { return };
    let output = house
        .ssh(&["-v", "-R", "127.0.0.1:0:127.0.0.1:9", "-o", "ExitOnForwardFailure=yes"])
        .arg("true")
        .output()
        .await
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("Allocated port "), "{error}");
}

#[tokio::test]
async fn the_agent_answers_questions_of_the_host_when_it_is_lent() {
    let Some(house) = House::open().await else { return };
    let agent = house.path("agent.sock");
    let mut running =
        Command::new("ssh-agent").args(["-D", "-a"]).arg(&agent).kill_on_drop(true).spawn().unwrap();
    wait_for(&agent).await;
    let mut add = Command::new("ssh-add");
    let added = add.arg("-q").arg(house.path("other")).env("SSH_AUTH_SOCK", &agent).status();
    assert!(added.await.unwrap().success());
    let listed = |option: &'static str| {
        let mut command = house.ssh(&[option]);
        command.arg("ssh-add -l").env("SSH_AUTH_SOCK", &agent);
        async move { command.output().await.unwrap() }
    };
    let with = listed("-A").await;
    assert!(String::from_utf8_lossy(&with.stdout).contains("other"), "{with:?} {:?}", house.log.seen());
    assert!(house.log.has("0 Agent") && house.log.has("1 Open(Agent)"), "{:?}", house.log.seen());
    let without = listed("-a").await;
    assert!(!without.status.success() && without.stdout.is_empty(), "{without:?}");
    running.kill().await.unwrap();
}

/// Until a program has made its socket: it says so in no other way.
async fn wait_for(path: &Path) {
    for _ in 0..500 {
        if UnixStream::connect(path).await.is_ok() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{} did not come", path.display());
}

#[tokio::test]
async fn the_display_is_reached_from_the_host_when_it_is_lent() {
    let Some(house) = House::open().await else { return };
    if !Path::new("/usr/bin/xauth").exists() {
        return;
    }
    // A display that says one word; its number is the port above 6000.
    let (listener, display) = loop {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        if let Some(display) = port.checked_sub(6000) {
            break (listener, display);
        }
    };
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut hello = [0; 12];
        socket.read_exact(&mut hello).await.unwrap();
        socket.write_all(b"a window").await.unwrap();
    });
    // What a client of X says first: byte order, version, and no authentication that the display knows.
    let say = "exec 3<>/dev/tcp/127.0.0.1/$((6000 + $(echo $DISPLAY | sed 's/.*:\\([0-9]*\\).*/\\1/'))); \
               cookie=$(xauth list $DISPLAY | sed 's/.* //'); \
               { printf 'l\\0\\013\\0\\0\\0\\022\\0\\020\\0\\0\\0MIT-MAGIC-COOKIE-1\\0\\0'; \
               echo $cookie | xxd -r -p; } >&3; head -c 8 <&3";
    if !Path::new("/usr/bin/xxd").exists() {
        return;
    }
    let output = house
        .ssh(&["-Y"])
        .arg(format!("bash -c \"{}\"", say.replace('\\', "\\\\").replace('$', "\\$").replace('"', "\\\"")))
        .env("DISPLAY", format!("127.0.0.1:{display}"))
        .env("XAUTHORITY", house.path("xauthority"))
        .output()
        .await
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a window", "{output:?} {:#?}", house.log.seen());
    assert!(house.log.has("X11 { single: false }") && house.log.has("Open(X11)"), "{:?}", house.log.seen());
}

#[tokio::test]
async fn forwarding_that_is_not_allowed_is_refused_both_ways() {
    let allowed = Allowed { port_forwarding: false, agent: false, x11: false, ..Allowed::everything() };
    let Some(house) = House::with(Plan { allowed, ..Plan::default() }).await else { return };
    let target = shouting().await;
    let local = house.ssh(&["-v", "-W", &format!("127.0.0.1:{target}")]).output().await.unwrap();
    let error = String::from_utf8_lossy(&local.stderr);
    assert!(error.contains("administratively prohibited: not allowed"), "{error}");
    let options = ["-R", "127.0.0.1:0:127.0.0.1:9", "-o", "ExitOnForwardFailure=yes"];
    let remote = house.ssh(&options).arg("true").output().await.unwrap();
    assert!(!remote.status.success(), "{remote:?}");
    // Nobody answers to this request, so the command runs; but there is no agent.
    let agent = house.path("agent.sock");
    let mut running =
        Command::new("ssh-agent").args(["-D", "-a"]).arg(&agent).kill_on_drop(true).spawn().unwrap();
    wait_for(&agent).await;
    let output = house
        .ssh(&["-A"])
        .arg("echo \"[$SSH_AUTH_SOCK]\"")
        .env("SSH_AUTH_SOCK", &agent)
        .output()
        .await
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "[]\n");
    running.kill().await.unwrap();
    let seen = house.log.seen().join("\n");
    for wanted in ["NOT ALLOWED 0 Open(DirectTcpip", "NOT ALLOWED  Listen(Tcp", "NOT ALLOWED 0 Agent"] {
        assert!(seen.contains(wanted), "{wanted} for {}: {seen}", login());
    }
}
