//! Many channels in one connection, as ControlMaster and editors use it.

use std::process::Stdio;

use protocols::Allowed;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use super::house::{House, Plan};

/// A connection that others join.
struct Master {
    child: Child,
    socket: String,
}

impl Master {
    async fn start(house: &House) -> Self {
        let socket = house.path("master.sock").display().to_string();
        let mut child =
            house.ssh(&["-M", "-S", &socket]).arg("echo ready; cat").stdin(Stdio::piped()).spawn().unwrap();
        let mut line = [0; 6];
        let read = child.stdout.as_mut().unwrap().read_exact(&mut line).await;
        assert!(read.is_ok(), "{:?} {}", house.log.seen(), house.sshd_log());
        Self { child, socket }
    }

    fn join(&self, house: &House, command: &str) -> Command {
        let mut joined =
            house.ssh(&["-S", &self.socket, "-o", "ControlMaster=no", "-o", "ProxyCommand=false"]);
        joined.arg(command);
        joined
    }
}

#[tokio::test]
async fn many_sessions_share_a_connection_and_keep_their_outputs_apart() {
    let Some(mut house) = House::open().await else { return };
    let mut master = Master::start(&house).await;
    let mut running = Vec::new();
    for number in 0..20 {
        let command = format!("seq -f {number}:%.0f 1 2000; exit {number}");
        let child = master.join(&house, &command).spawn().unwrap();
        running.push((number, child));
    }
    for (number, child) in running {
        let output = child.wait_with_output().await.unwrap();
        assert_eq!(output.status.code(), Some(number), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let expected: String = (1..=2000).map(|line| format!("{number}:{line}\n")).collect();
        assert_eq!(text, expected);
    }
    drop(master.child.stdin.take());
    assert!(master.child.wait().await.unwrap().success());
    house.ended_by_client().await;
    let opened = house.log.seen().iter().filter(|line| line.contains("Open(Session)")).count();
    let closed = house.log.seen().iter().filter(|line| line.contains("Close {")).count();
    assert_eq!((opened, closed), (21, 21));
    assert_eq!(house.log.seen().iter().filter(|line| line.starts_with("login")).count(), 1);
}

#[tokio::test]
async fn a_channel_that_is_not_read_stops_itself_alone() {
    let Some(house) = House::open().await else { return };
    let master = Master::start(&house).await;
    // Endless, and read no further than its first bytes.
    let mut stuck = master.join(&house, "cat /dev/zero").spawn().unwrap();
    let mut first = vec![0; 1 << 20];
    stuck.stdout.as_mut().unwrap().read_exact(&mut first).await.unwrap();
    for _ in 0..5 {
        let output = master.join(&house, "head -c 1000000 /dev/zero | wc -c").output().await.unwrap();
        assert_eq!(output.stdout, b"1000000\n", "{output:?}");
    }
    // It goes on where it was.
    stuck.stdout.as_mut().unwrap().read_exact(&mut first).await.unwrap();
    stuck.kill().await.unwrap();
}

#[tokio::test]
async fn sessions_beyond_max_channels_are_refused_and_those_before_go_on() {
    let allowed = Allowed { max_channels: 2, ..Allowed::everything() };
    let Some(house) = House::with(Plan { allowed, ..Plan::default() }).await else { return };
    let master = Master::start(&house).await;
    let mut second = master.join(&house, "echo ready; cat").stdin(Stdio::piped()).spawn().unwrap();
    let mut line = [0; 6];
    second.stdout.as_mut().unwrap().read_exact(&mut line).await.unwrap();
    let third = master.join(&house, "echo no").output().await.unwrap();
    let error = String::from_utf8_lossy(&third.stderr);
    assert!(error.contains("Session open refused by peer") && third.stdout.is_empty(), "{third:?}");
    assert!(house.log.has("NOT ALLOWED 2 Open(Session)"), "{:?}", house.log.seen());
    drop(second.stdin.take());
    assert!(second.wait().await.unwrap().success());
    let fourth = master.join(&house, "echo yes").output().await.unwrap();
    assert_eq!(fourth.stdout, b"yes\n", "a seat is free again: {fourth:?}");
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_waited_for_in_little_memory() {
    let Some(house) = House::open().await else { return };
    let before = resident();
    let mut child = house.ssh(&[]).arg("head -c 100000000 /dev/zero").spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut block = vec![0; 1_000_000];
    output.read_exact(&mut block).await.unwrap();
    // While it waits, much else goes through: time enough for the rest to pile up, if it did.
    let other = house.says(&[], "head -c 50000000 /dev/zero | tail -c 5").await;
    assert_eq!(other.len(), 5);
    let after = resident();
    assert!(after.saturating_sub(before) < 16 * 1024, "{before} KiB became {after} KiB");
    for _ in 0..99 {
        output.read_exact(&mut block).await.unwrap();
    }
    assert!(child.wait().await.unwrap().success());
}

/// Memory of this very process, in KiB: the sidecar's share of it is all that grows.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
