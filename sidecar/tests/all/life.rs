//! A sidecar's life: joining, restarting, draining.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    time::Duration,
};

use ::sidecar::{Sidecar, StartError};
use tokio_postgres::error::SqlState;

use crate::support::{
    authd::{Authd, Jerry},
    client::{connect, told},
    eventually,
    postgresql::Postgresql,
    sidecar::{Guarded, config},
};

const NOWHERE: &str = "{uri: \"unix:/nowhere/.s.PGSQL.5432\"}";

#[tokio::test(flavor = "multi_thread")]
async fn the_identity_is_private_and_reused_at_restart_without_a_token() {
    let mut authd = Authd::start().await;
    let mut guarded = Guarded::start(&mut authd, "dev-pg", NOWHERE).await;
    let identity = guarded.data.path().join("identity.json");
    let before = std::fs::read(&identity).unwrap();
    assert_eq!(std::fs::metadata(&identity).unwrap().permissions().mode() & 0o777, 0o600);
    guarded.drain().await;

    let config = config(&authd, guarded.data.path(), "dev-pg", NOWHERE);
    assert!(config.token.is_none());
    let data = std::mem::replace(&mut guarded.data, tempfile::tempdir().unwrap());
    let mut again = Guarded::from_config(config, data).await;
    assert_eq!(std::fs::read(identity).unwrap(), before);
    again.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_with_a_wrong_pin_or_for_other_targets_nobody_joins() {
    let mut authd = Authd::start().await;
    let data = tempfile::tempdir().unwrap();
    let start = async |config| Sidecar::start(config).await.err().expect("it must not start");
    let base = config(&authd, data.path(), "dev-pg", NOWHERE);
    let error = start(base.clone()).await;
    assert!(error.to_string().contains("has not joined a cluster yet"), "{error}");

    let token = authd.token().await;
    let with_token = |pins: Vec<_>, token: &str| {
        let token = ::sidecar::config::Token::Literal(token.to_owned().into());
        ::sidecar::config::Config { ca_pins: pins, token: Some(token), ..base.clone() }
    };
    let wrong_pin = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
    let error = start(with_token(vec![wrong_pin], &token)).await;
    assert!(format!("{:#}", anyhow(error)).contains("does not match the CA pin"));
    let error = start(with_token(vec![], &token)).await;
    assert!(error.to_string().contains("CA pin"), "{error}");
    let error = start(with_token(authd.pins.clone(), "guessed")).await;
    assert!(error.to_string().contains("refused the join token"), "{error}");
}

fn anyhow(error: StartError) -> anyhow::Error {
    error.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_serves_one_sidecar() {
    let mut authd = Authd::start().await;
    let guarded = Guarded::start(&mut authd, "dev-pg", NOWHERE).await;
    let second = config(&authd, guarded.data.path(), "dev-pg", NOWHERE);
    assert!(matches!(Sidecar::start(second).await, Err(StartError::InUse { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_announces_its_target() {
    let mut authd = Authd::start().await;
    let guarded = Guarded::start(&mut authd, "dev-pg", NOWHERE).await;
    let targets = authd.targets().await;
    assert_eq!(targets.len(), 1);
    assert_eq!((targets[0].name.as_str(), targets[0].protocol.as_str()), ("dev-pg", "postgres"));
    assert_eq!(targets[0].public_addr, format!("localhost:{}", guarded.address.port()));
    assert_eq!(targets[0].labels["env"], "dev");
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_lets_a_session_finish_then_ends_it_with_the_reason_and_everything_is_on_record() {
    let mut authd = Authd::start().await;
    let jerry = Jerry::register(&mut authd).await;
    let files = authd.database_certificate(&["localhost"]).await;
    let postgresql = tokio::task::spawn_blocking(move || Postgresql::start(&files)).await.unwrap();
    let upstream = format!("{{uri: \"{}\"}}", postgresql.unix_uri());
    let mut guarded = Guarded::start(&mut authd, "dev-pg", &upstream).await;
    let stays = connect(guarded.address, "dev-pg", &jerry.login).await.unwrap();
    let address = guarded.address;

    let sidecar = guarded.sidecar.take().unwrap();
    let drained = tokio::spawn(sidecar.drain());
    eventually("not ready", async || guarded.get("/readyz").await.0 == 503).await;
    assert_eq!(guarded.get("/healthz").await.0, 200);
    assert_eq!(stays.one("select 'still served'").await, "still served");
    eventually("closed to newcomers", async || tokio::net::TcpStream::connect(address).await.is_err()).await;

    let error = tokio::time::timeout(Duration::from_secs(10), stays.end).await.unwrap().unwrap().unwrap_err();
    let (state, message, _) = told(&error);
    assert_eq!(state, SqlState::ADMIN_SHUTDOWN.code());
    assert_eq!(message, "the session ended: the sidecar is stopping");
    drained.await.unwrap();
    let ends = authd.audit("db.session.end").await;
    assert_eq!(ends.len(), 1, "shipped before it stopped");
    assert_eq!(ends[0]["reason"], "shutdown");
}

/// A line of a spool, as an earlier process left it.
fn spooled(sequence: u64, json: &str) -> String {
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, format!("{sequence} {json}").as_bytes());
    format!("{sequence} {} {json}\n", hex::encode(&sum.as_ref()[..8]))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_a_real_authd_refuses_is_set_aside_and_its_neighbours_arrive() {
    let mut authd = Authd::start().await;
    let data = tempfile::tempdir().unwrap();
    let spool = data.path().join("spool/01900000-0000-7000-8000-000000000000");
    std::fs::create_dir_all(&spool).unwrap();
    let event = |ei| {
        format!(
            r#"{{"event":"db.session.query","code":"TDB02I","ei":{ei},"time":"2026-01-31T12:00:00.000Z"}}"#
        )
    };
    let lines = [spooled(1, &event(0)), spooled(2, r#""no event""#), spooled(3, &event(2))].concat();
    std::fs::write(spool.join(format!("{:020}.log", 1)), lines).unwrap();

    let mut config = config(&authd, data.path(), "dev-pg", NOWHERE);
    config.token = Some(::sidecar::config::Token::Literal(authd.token().await.into()));
    let guarded = Guarded::from_config(config, data).await;
    eventually("both arrive", async || {
        let queries = authd.audit("db.session.query").await;
        queries.iter().map(|query| query["ei"].as_u64().unwrap()).eq([0, 2])
    })
    .await;
    let rejected = guarded.data.path().join("spool/rejected");
    assert!(std::fs::read_to_string(&rejected).unwrap().ends_with("\"no event\"\n"));
    assert_eq!(std::fs::metadata(&rejected).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(guarded.get("/metrics").await.1.contains("touchstone_audit_rejected_events 1"));
    eventually("the rest of it is removed", async || !spool.exists()).await;
}

/// The built program, with one target.
struct Program {
    child: Child,
    address: SocketAddr,
    log: BufReader<ChildStderr>,
}

impl Program {
    fn start(authd: &Authd, data_dir: &Path, uri: &str, token: Option<&str>) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_sidecar")), authd, data_dir, uri, token)
    }

    /// By a command that ends with the program.
    fn start_by(
        mut command: Command,
        authd: &Authd,
        data_dir: &Path,
        uri: &str,
        token: Option<&str>,
    ) -> Self {
        command
            .args(["start", "--log-format", "json", "--name", "dev-pg", "--protocol", "postgres"])
            .args(["--labels", "env=dev", "--listen", "127.0.0.1:0", "--auth-server", &authd.address])
            .args(["--uri", uri, "--ca-pin", &authd.pins[0].to_string(), "--data-dir"])
            .arg(data_dir);
        if let Some(token) = token {
            command.args(["--token", token]);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let address = Self::read_until(&mut log, "listening")["addr"].as_str().unwrap().parse().unwrap();
        Self::read_until(&mut log, "replica is complete");
        Self { child, address, log }
    }

    /// The fields of the next line of the log with this message.
    fn read_until(log: &mut BufReader<ChildStderr>, message: &str) -> serde_json::Value {
        loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "it stopped before it said {message:?}");
            let event: serde_json::Value = serde_json::from_str(&line).unwrap();
            if event["fields"]["message"] == message {
                return event["fields"].clone();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_sidecar_loses_no_event_that_let_a_session_begin_and_a_terminated_one_exits_well() {
    let mut authd = Authd::start().await;
    let jerry = Jerry::register(&mut authd).await;
    let files = authd.database_certificate(&["localhost"]).await;
    let postgresql = tokio::task::spawn_blocking(move || Postgresql::start(&files)).await.unwrap();
    let data = tempfile::tempdir().unwrap();
    let token = authd.token().await;
    let mut program = Program::start(&authd, data.path(), &postgresql.unix_uri(), Some(&token));

    // Nobody takes audit now.
    authd.stop().await;
    let session = connect(program.address, "dev-pg", &jerry.login).await.unwrap();
    assert_eq!(session.one("select 'open'").await, "open");
    program.child.kill().unwrap();
    program.child.wait().unwrap();
    authd.start_again().await;
    assert!(authd.audit("db.session.start").await.is_empty());

    let mut program = Program::start(&authd, data.path(), &postgresql.unix_uri(), None);
    eventually("the event of the killed process arrives", async || {
        authd.audit("db.session.start").await.first().is_some_and(|start| start["user"] == "jerry")
    })
    .await;
    let pid = nix::unistd::Pid::from_raw(program.child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    Program::read_until(&mut program.log, "stopped");
    assert!(program.child.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_take_the_files_that_sessions_need() {
    let mut authd = Authd::start().await;
    let jerry = Jerry::register(&mut authd).await;
    let files = authd.database_certificate(&["localhost"]).await;
    let postgresql = tokio::task::spawn_blocking(move || Postgresql::start(&files)).await.unwrap();
    let data = tempfile::tempdir().unwrap();
    let token = authd.token().await;
    let mut command = Command::new("prlimit");
    command.args(["--nofile=64:200", env!("CARGO_BIN_EXE_sidecar")]);
    let mut program = Program::start_by(command, &authd, data.path(), &postgresql.unix_uri(), Some(&token));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", program.child.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert!(files.split_whitespace().filter(|word| *word == "200").count() == 2, "{files}");

    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(tokio::net::TcpStream::connect(program.address).await.unwrap());
    }
    eventually("they have made room for each other", async || {
        let is_open = |socket: &tokio::net::TcpStream| match socket.try_read(&mut [0]) {
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
            Ok(_) => false,
        };
        // Half of what 200 leave for clients, at two each.
        silent.iter().filter(|socket| is_open(socket)).count() <= 18
    })
    .await;
    let session = connect(program.address, "dev-pg", &jerry.login).await.unwrap();
    assert_eq!(session.one("select 'in'").await, "in");

    program.child.kill().unwrap();
    let log = std::io::read_to_string(program.log).unwrap();
    assert!(!log.contains("os error 24"), "{log}");
}
