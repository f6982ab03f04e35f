//! Whole sessions with a real MariaDB: its own client, and a driver that speaks the binary protocol. Without
//! one installed, these tests pass without a word to say.

use std::process::{Output, Stdio};

use mysql_async::prelude::Queryable;
use mysql_async::{ClientIdentity, Conn, OptsBuilder, Params, SslOpts, Value};
use protocols::{Client, Endpoint, Protocol, Refusal, RefusalCode};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::Memory;
use crate::support::mariadb::Mariadb;
use crate::support::mysql::MysqlSidecar;

/// A sidecar that serves everybody, and the files that its clients need.
struct House {
    upstream: Mariadb,
    files: TempDir,
    port: u16,
    tap: Memory,
    end: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl House {
    async fn open(endpoint: impl FnOnce(Endpoint) -> Endpoint) -> Option<Self> {
        let sidecar = MysqlSidecar::unaware().await;
        let upstream = Mariadb::start_with(&sidecar.authority, &["--local-infile=1"])?;
        sidecar.mysql.probe(&upstream.unix()).await.unwrap();
        let endpoint = endpoint(upstream.unix());
        let files = TempDir::new().unwrap();
        sidecar.authority.leaf("alice").write(files.path(), "alice");
        std::fs::write(files.path().join("ca.crt"), sidecar.authority.pem()).unwrap();
        let (tap, port) = (Memory::default(), sidecar.port());
        let (end, ended) = watch::channel(false);
        let serving = tokio::spawn(serve(sidecar, endpoint, tap.clone(), ended));
        Some(Self { upstream, files, port, tap, end, serving })
    }

    /// MariaDB's own client.
    fn client(&self) -> Command {
        let file =
            |option: &str, name: &str| format!("--{option}={}", self.files.path().join(name).display());
        let mut command = Command::new("mariadb");
        command
            .args(["--no-defaults", "--host=127.0.0.1", "--user=alice", "--batch", "--skip-column-names"])
            .arg(format!("--port={}", self.port))
            .args([file("ssl-ca", "ca.crt"), file("ssl-cert", "alice.crt"), file("ssl-key", "alice.key")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, options: &[&str], sql: &str) -> Output {
        self.client().args(["-e", sql]).args(options).arg("prod").output().await.unwrap()
    }

    /// What the client prints.
    async fn says(&self, options: &[&str], sql: &str) -> String {
        let output = self.run(options, sql).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{sql}: {error} {:?}", self.tap.seen());
        String::from_utf8(output.stdout).unwrap()
    }

    /// A driver.
    async fn driver(&self) -> Conn {
        self.driver_with(None).await
    }

    async fn driver_with(&self, compression: Option<mysql_async::Compression>) -> Conn {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let file = |name: &str| self.files.path().join(name);
        let identity = ClientIdentity::new(file("alice.crt").into(), file("alice.key").into());
        let ssl = SslOpts::default()
            .with_root_certs(vec![file("ca.crt").into()])
            .with_client_identity(Some(identity));
        let options = OptsBuilder::default()
            .ip_or_hostname("localhost")
            .tcp_port(self.port)
            .user(Some("alice"))
            .db_name(Some("prod"))
            .prefer_socket(false)
            .max_allowed_packet(Some(64 * 1024 * 1024))
            .compression(compression)
            .ssl_opts(ssl);
        Conn::new(options).await.unwrap()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(super) async fn serve(
    sidecar: MysqlSidecar,
    endpoint: Endpoint,
    tap: Memory,
    ended: watch::Receiver<bool>,
) {
    loop {
        let socket = sidecar.socket().await;
        let (mysql, endpoint, tap) = (sidecar.mysql.clone(), endpoint.clone(), tap.clone());
        let mut ended = ended.clone();
        tokio::spawn(async move {
            let Ok(Some(accepted)) = mysql.accept(socket).await else { return };
            match mysql.dial(&endpoint, &accepted.login).await {
                Ok(upstream) => {
                    let over = async move {
                        let _ = ended.wait_for(|ended| *ended).await;
                        Refusal::new(RefusalCode::SessionExpired, "the permit is over")
                            .with_hint("run: tsh login")
                    };
                    drop(accepted.client.relay(upstream, tap, over).await);
                }
                Err(error) => panic!("{error:?}"),
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_text_protocol_flows() {
    let Some(house) = House::open(|endpoint| endpoint).await else { return };
    assert_eq!(house.says(&[], "select 1; select 'a' union select 'b'").await, "1\na\nb\n");
    house.says(&[], "create table t (id int primary key auto_increment, name text)").await;
    house.says(&[], "insert into t (name) values ('x'), ('y'), (null)").await;
    assert_eq!(house.says(&[], "select count(*), max(name) from t").await, "3\ty\n");
    let failed = house.run(&[], "select * from nothing").await;
    assert!(String::from_utf8_lossy(&failed.stderr).contains("ERROR 1146 (42S02)"), "{failed:?}");
    assert!(
        house.tap.seen().iter().any(|seen| seen == "Q select * from nothing +0"),
        "{:?}",
        house.tap.seen()
    );
    assert!(house.tap.heard().contains(&"42S02".to_owned()));
    assert_eq!(house.tap.stray(), 0, "{:?}", house.tap.heard());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn procedures_with_several_results_flow() {
    let Some(house) = House::open(|endpoint| endpoint).await else { return };
    let file = house.files.path().join("procedure.sql");
    std::fs::write(&file, "delimiter //\ncreate procedure p() begin select 1; select 2, 3; select * from information_schema.engines where 0; end//\n").unwrap();
    house.says(&[], &format!("source {}", file.display())).await;
    assert_eq!(house.says(&[], "call p(); select 4").await, "1\n2\t3\n4\n");
    let mut driver = house.driver().await;
    let mut result = driver.query_iter("call p(); select 5").await.unwrap();
    let mut sets = Vec::new();
    while !result.is_empty() {
        sets.push(result.collect::<mysql_async::Row>().await.unwrap().len());
    }
    result.drop_result().await.unwrap();
    assert_eq!(sets, [1, 1, 0, 0, 1]);
    assert_eq!(house.tap.stray(), 0, "{:?}", house.tap.heard());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_binary_protocol_flows_and_its_values_are_seen() {
    let Some(house) = House::open(|endpoint| endpoint).await else { return };
    let mut driver = house.driver().await;
    driver.query_drop("create table t (id int, name text, data blob)").await.unwrap();
    let rows = (0..100_i32).map(|id| (id, format!("name {id}"), vec![0xFF_u8; 3]));
    driver.exec_batch("insert into t values (?, ?, ?)", rows).await.unwrap();
    let found: Vec<(i32, String)> =
        driver.exec("select id, name from t where id > ? order by id", (97,)).await.unwrap();
    assert_eq!(found, [(98, "name 98".to_owned()), (99, "name 99".to_owned())]);
    let error = driver.prep("select * from nothing").await.unwrap_err();
    assert!(error.to_string().contains("1146"), "{error}");
    let statement = driver.prep("select 1 where ?").await.unwrap();
    let null: Option<i32> = driver.exec_first(&statement, (Value::NULL,)).await.unwrap();
    assert_eq!(null, None);
    driver.close(statement).await.unwrap();
    let none: Option<i32> = driver.exec_first("select 7", Params::Empty).await.unwrap();
    assert_eq!(none, Some(7));
    driver.disconnect().await.unwrap();
    assert_eq!(house.tap.stray(), 0, "{:?}", house.tap.heard());
    let seen = house.tap.seen();
    assert!(
        seen.iter().any(|seen| seen.starts_with("E ") && seen.contains(r"42 name 42 \xff\xff\xff 43 ")),
        "{seen:?}"
    );
    assert!(seen.contains(&"E 97".to_owned()) && seen.contains(&"E Null".to_owned()), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_of_sixteen_mebibytes_and_more_flow_both_ways() {
    let Some(house) = House::open(|endpoint| endpoint).await else { return };
    house.upstream.administer("set global max_allowed_packet = 67108864");
    let mut driver = house.driver().await;
    driver.query_drop("create table t (data longblob)").await.unwrap();
    // With the command byte and the quotes around: just below, at, and above a full packet; and two of them.
    let full = 0xFF_FFFF;
    for length in [full - 10, full - 9, full, 2 * full + 5] {
        let text = "x".repeat(length - "select length('')".len());
        let counted: Option<usize> = driver.query_first(format!("select length('{text}')")).await.unwrap();
        assert_eq!(counted, Some(text.len()));
    }
    let data = vec![b'y'; 2 * full];
    driver.exec_drop("insert into t values (?)", (&data,)).await.unwrap();
    let back: Option<Vec<u8>> = driver.query_first("select data from t").await.unwrap();
    assert!(back.is_some_and(|back| back == data));
    assert_eq!(house.tap.stray(), 0, "{:?}", house.tap.heard());
    let ends = house.tap.seen().iter().filter(|seen| seen.contains("TextEnd")).count();
    assert_eq!(ends, 4, "one for each long text");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_loaded_where_that_is_allowed_and_only_there() {
    for allowed in [true, false] {
        let open = House::open(|endpoint| Endpoint { local_infile_allowed: allowed, ..endpoint });
        let Some(house) = open.await else { return };
        house.says(&[], "create table t (name text)").await;
        let file = house.files.path().join("it's.csv");
        std::fs::write(&file, "a\nb\nc\n".repeat(100_000)).unwrap();
        let name = file.display().to_string().replace('\'', "''");
        let load = format!("load data local infile '{name}' into table t; select count(*) from t");
        let output = house.run(&["--local-infile=1", "--force"], &load).await;
        let (said, error) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let seen = house.tap.seen();
        if allowed {
            assert_eq!(said, "300000\n", "{error}");
            assert!(seen.iter().any(|seen| seen.contains("LocalInfileEnd { bytes: 600000 }")), "{seen:?}");
        } else {
            assert!(error.contains("ERROR 3948 (42000)"), "{error}");
            assert_eq!(said, "0\n", "the session goes on: {error} {:?}", house.tap.heard());
            assert!(seen.iter().any(|seen| seen.contains("fate: NotAllowed")), "{seen:?}");
        }
        assert_eq!(house.tap.stray(), 0, "{:?}", house.tap.heard());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_by_our_number_reaches_the_right_thread() {
    let Some(house) = House::open(|endpoint| endpoint).await else { return };
    let (mut first, mut second) = (house.driver().await, house.driver().await);
    let ours = first.id();
    assert!(ours >= 1 << 31);
    let running = tokio::spawn(async move { first.query_first::<i32, _>("select sleep(60)").await });
    loop {
        let busy = house.upstream.administer(
            "select count(*) from information_schema.processlist where info = 'select sleep(60)'",
        );
        if busy.stdout.starts_with(b"1") {
            break;
        }
        tokio::task::yield_now().await;
    }
    second.query_drop(format!("KILL QUERY {ours}")).await.unwrap();
    let stopped = running.await.unwrap();
    assert!(!matches!(stopped, Ok(Some(0))), "it was interrupted: {stopped:?}");
    let error = second.query_drop("KILL 4000000000").await.unwrap_err();
    assert!(error.to_string().contains("1094"), "{error}");
    second.query_drop("select 1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_session_says_why_and_leaves_nothing_running() {
    let Some(house) = House::open(|endpoint| endpoint).await else { return };
    let (mut idle, mut busy) = (house.driver().await, house.driver().await);
    // This driver checks the numbers of packed packets, so a farewell under a wrong one would not be read.
    let mut packed = house.driver_with(Some(mysql_async::Compression::fast())).await;
    let packed = tokio::spawn(async move { packed.query_drop("select sleep(61)").await });
    let running = tokio::spawn(async move { busy.query_drop("select sleep(60)").await });
    let count = "select count(*) from information_schema.processlist where info in ('select sleep(60)', 'select sleep(61)')";
    while !house.upstream.administer(count).stdout.starts_with(b"2") {
        tokio::task::yield_now().await;
    }
    house.end.send(true).unwrap();
    let told = running.await.unwrap().unwrap_err().to_string();
    assert!(told.contains("ERROR 1053 (08S01): the permit is over; run: tsh login"), "{told}");
    let told = packed.await.unwrap().unwrap_err().to_string();
    assert!(told.contains("ERROR 1053 (08S01): the permit is over; run: tsh login"), "{told}");
    let told = idle.query_drop("select 1").await.unwrap_err().to_string();
    assert!(told.contains("1053") || told.contains("closed"), "{told}");
    while !house.upstream.administer(count).stdout.starts_with(b"0") {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_leaves_the_settings_in_force() {
    let setting = protocols::Setting { name: "lock_wait_timeout".into(), value: "7".into() };
    let open = House::open(|endpoint| Endpoint { settings: vec![setting], ..endpoint });
    let Some(house) = open.await else { return };
    let mut driver = house.driver().await;
    let shown = "select @@lock_wait_timeout";
    for _ in 0..3 {
        assert_eq!(driver.query_first(shown).await.unwrap(), Some(7));
        driver.query_drop("set lock_wait_timeout = 9, @a = 1").await.unwrap();
        assert!(driver.reset().await.unwrap());
        assert_eq!(driver.query_first::<Option<i32>, _>("select @a").await.unwrap(), Some(None));
    }
    assert_eq!(house.tap.stray(), 0, "{:?}", house.tap.heard());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_user_is_refused_and_the_session_goes_on() {
    let Some(house) = House::open(|endpoint| endpoint).await else { return };
    let mut driver = house.driver().await;
    let options = mysql_async::ChangeUserOpts::default().with_user(Some("native".into()));
    let error = driver.change_user(options).await.unwrap_err();
    assert!(error.to_string().contains("1045"), "{error}");
    assert!(house.tap.seen().iter().any(|seen| seen.contains("ChangeUser")), "{:?}", house.tap.seen());
    assert_eq!(house.says(&[], "select 1").await, "1\n");
}
