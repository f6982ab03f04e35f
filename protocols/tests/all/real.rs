//! A real PostgreSQL and its own clients. Without one installed, these tests pass without a word to say.

use std::process::{Output, Stdio};
use std::time::Duration;

use protocols::{Client, Credential, DialError, End, Endpoint, Login, Protocol, Refusal, RefusalCode};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::postgresql::Postgresql;
use crate::support::{Memory, Sidecar, login, message, never};

/// A sidecar that serves everybody, and the files that its clients need.
pub(crate) struct House {
    upstream: Postgresql,
    pub(crate) files: TempDir,
    port: u16,
    pub(crate) tap: Memory,
    end: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl House {
    /// With the upstream reached by `endpoint`.
    pub(crate) async fn open(endpoint: impl FnOnce(&Postgresql, &Sidecar) -> Endpoint) -> Option<Self> {
        let sidecar = Sidecar::start().await;
        let upstream = Postgresql::start(&sidecar.authority)?;
        let endpoint = endpoint(&upstream, &sidecar);
        let files = TempDir::new().unwrap();
        sidecar.authority.leaf("alice").write(files.path(), "alice");
        std::fs::write(files.path().join("ca.crt"), sidecar.authority.pem()).unwrap();
        let (tap, port) = (Memory::default(), sidecar.port());
        let (end, ended) = watch::channel(false);
        let serving = tokio::spawn(serve(sidecar, endpoint, tap.clone(), ended));
        Some(Self { upstream, files, port, tap, end, serving })
    }

    /// A program of PostgreSQL's, told by environment variables alone how to come in.
    pub(crate) fn client(&self, name: &str) -> Command {
        let mut command = Command::from(self.upstream.program(name));
        command
            .env("PGHOST", "localhost")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "alice")
            .env("PGDATABASE", "prod")
            .env("PGSSLMODE", "verify-full")
            .env("PGSSLROOTCERT", self.files.path().join("ca.crt"))
            .env("PGSSLCERT", self.files.path().join("alice.crt"))
            .env("PGSSLKEY", self.files.path().join("alice.key"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn psql(&self, script: &str) -> Output {
        let file = self.files.path().join("script.sql");
        std::fs::write(&file, script).unwrap();
        self.client("psql").args(["-X", "-A", "-t", "-q", "-f"]).arg(&file).output().await.unwrap()
    }

    /// What psql prints; it must succeed.
    pub(crate) async fn says(&self, script: &str) -> String {
        let output = self.psql(script).await;
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

async fn serve(sidecar: Sidecar, endpoint: Endpoint, tap: Memory, ended: watch::Receiver<bool>) {
    loop {
        let socket = sidecar.socket().await;
        let (postgres, endpoint, tap) = (sidecar.postgres.clone(), endpoint.clone(), tap.clone());
        let mut ended = ended.clone();
        tokio::spawn(async move {
            let Some(accepted) = postgres.accept(socket).await.unwrap() else { return };
            match postgres.dial(&endpoint, &accepted.login).await {
                Ok(upstream) => {
                    let ended = async move {
                        let _ = ended.wait_for(|ended| *ended).await;
                        Refusal::new(RefusalCode::SessionExpired, "the session's certificate has expired")
                    };
                    let _ = accepted.client.relay(upstream, tap, ended).await;
                }
                Err(error) => {
                    let mut refusal = Refusal::new(RefusalCode::UpstreamRejected, "refused");
                    if let Some(report) = error.disclosable() {
                        refusal.message.clone_from(&report.message);
                        refusal.sql_state = report.sql_state;
                    }
                    accepted.client.refuse(refusal).await.unwrap();
                }
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_and_its_friends_notice_no_difference() {
    let Some(house) = House::open(|upstream, _| upstream.unix()).await else { return };
    assert_eq!(house.says("select current_user, current_database()").await, "alice|prod");
    assert!(house.tap.seen().contains(&"Q select current_user, current_database() +0".to_owned()));

    let mut options = house.client("psql");
    options.env("PGOPTIONS", "-c statement_timeout=1234").env("PGAPPNAME", "the test");
    options.args(["-XAtq", "-c", "show statement_timeout", "-c", "show application_name"]);
    assert_eq!(text(&options.output().await.unwrap().stdout), "1234ms\nthe test");

    let script = "create table t (a int, b text); \\copy t from program 'seq 100000 | sed s/$/\\\\tx/'\n\
                  select count(*), sum(a) from t; listen c; notify c, 'hello';\n\
                  \\copy (select a from t where a = 7) to stdout\n\
                  \\set FETCH_COUNT 10\n select a from t order by a limit 25 \\g /dev/null\n\
                  do $$ begin raise notice 'first'; raise warning 'second'; end $$;\n\
                  select 1/0;\n select 'after the error';\n select a, b from t \\gdesc\n";
    let output = house.psql(script).await;
    let printed = text(&output.stdout);
    assert!(printed.starts_with("100000|5000050000"), "{printed}");
    assert!(printed.contains("\"hello\" received") && printed.contains("\n7\n"), "{printed}");
    assert!(printed.contains("after the error") && printed.contains("a|integer"), "{printed}");
    let complained = text(&output.stderr);
    let order = ["first", "second", "division by zero"].map(|word| complained.find(word).unwrap());
    assert!(order.is_sorted(), "{complained}");

    let heard = house.tap.heard();
    for outcome in ["CopyIn", "CopyOut", "COPY 100000", "LISTEN", "DO", "22012", "SELECT 1", "Ready"] {
        assert!(heard.iter().any(|answer| answer == outcome), "{outcome}: {heard:?}");
    }

    let row = house.says("select repeat('x', 100000000)").await;
    assert_eq!(row.len(), 100_000_000);

    let latin1 = house.files.path().join("latin1.sql");
    std::fs::write(&latin1, b"set client_encoding to latin1; select length('caf\xe9'), 'caf\xe9'").unwrap();
    let output = house.client("psql").args(["-XAtq", "-f"]).arg(&latin1).output().await.unwrap();
    assert_eq!(output.stdout, b"4|caf\xe9\n");

    for arguments in [
        &["-i", "-q"][..],
        &["-n", "-c", "4", "-t", "50"],
        &["-n", "-M", "prepared", "-C", "-c", "4", "-t", "10"],
    ] {
        let output = house.client("pgbench").args(arguments).output().await.unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    }
    let mut dump = house.client("pg_dump");
    let dump =
        dump.args(["-j", "2", "-Fd", "-f"]).arg(house.files.path().join("dump")).output().await.unwrap();
    assert!(dump.status.success(), "{}", text(&dump.stderr));
    assert!(house.tap.seen().iter().any(|event| event.starts_with("Bind")));

    let mut stranger = house.client("psql");
    let output = stranger.env("PGDATABASE", "nowhere").args(["-c", "select 1"]).output().await.unwrap();
    assert!(text(&output.stderr).ends_with("FATAL:  database \"nowhere\" does not exist"), "{output:?}");

    let mut replica = house.client("psql");
    let output = replica.args(["replication=database", "-c", "select 1"]).output().await.unwrap();
    assert!(text(&output.stderr).contains("FATAL:  refused"), "{output:?}");
    assert_eq!(house.tap.stray(), 0, "every answer has its question");
}

/// Waits until the upstream runs `count` statements like this.
async fn running(upstream: &Postgresql, count: &str) {
    let query =
        "select count(*) from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'";
    for _ in 0..600 {
        if text(&upstream.administer(query).stdout) == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{}", text(&upstream.administer("table pg_stat_activity").stdout));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_stops_the_query_and_the_end_of_the_permit_the_session() {
    let Some(house) = House::open(|upstream, sidecar| upstream.tls(&sidecar.authority)).await else { return };
    let sleep = ["-X", "-c", "select pg_sleep(600)"];
    let psql = house.client("psql").args(sleep).spawn().unwrap();
    running(&house.upstream, "1").await;
    let pid = psql.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    let output = psql.wait_with_output().await.unwrap();
    assert!(text(&output.stderr).contains("canceling statement due to user request"), "{output:?}");

    let psql = house.client("psql").args(sleep).spawn().unwrap();
    running(&house.upstream, "1").await;
    house.end.send(true).unwrap();
    let output = psql.wait_with_output().await.unwrap();
    assert!(text(&output.stderr).contains("FATAL:  the session's certificate has expired"), "{output:?}");
    // Not only is the client gone: what it ran does not go on without it.
    running(&house.upstream, "0").await;
}

#[tokio::test]
async fn the_upstream_is_logged_into_by_certificate_scram_and_md5() {
    let sidecar = Sidecar::start().await;
    let Some(upstream) = Postgresql::start(&sidecar.authority) else { return };
    let dial = async |endpoint: &Endpoint, user: &str| {
        let login = Login { user: user.into(), ..login() };
        sidecar.postgres.dial(endpoint, &login).await
    };
    dial(&upstream.unix(), "alice").await.unwrap();
    dial(&upstream.tls(&sidecar.authority), "alice").await.unwrap();
    dial(&upstream.password(&sidecar.authority, "secret"), "scram").await.unwrap();

    let error = dial(&upstream.password(&sidecar.authority, "wrong"), "scram").await.unwrap_err();
    assert!(
        matches!(&error, DialError::Rejected(report) if report.to_string().starts_with("28P01")),
        "{error:?}"
    );
    let error = dial(&upstream.tls(&sidecar.authority), "bob").await.unwrap_err();
    assert!(matches!(&error, DialError::Rejected(_)), "{error:?}");
    assert!(error.disclosable().is_none());
    let error = dial(&upstream.tls(&sidecar.authority), "scram").await.unwrap_err();
    assert!(matches!(error, DialError::NoCredential { .. }), "{error:?}");

    let mut md5 = upstream.password(&sidecar.authority, "secret");
    let error = dial(&md5, "md5").await.unwrap_err();
    assert!(matches!(error, DialError::AuthenticationRefused { .. }), "{error:?}");
    let Credential::Password(password) = md5.credential else { unreachable!() };
    md5.credential = Credential::PasswordEvenByMd5(password);
    dial(&md5, "md5").await.unwrap();
}

#[tokio::test]
async fn an_administrators_termination_is_told_as_it_is() {
    let sidecar = Sidecar::start().await;
    let Some(upstream) = Postgresql::start(&sidecar.authority) else { return };
    let endpoint = upstream.tls(&sidecar.authority);
    let (mut client, session) = sidecar.session(sidecar.dial(&endpoint), Memory::default(), never()).await;
    client.until_ready().await;
    let terminate = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'alice'";
    assert_eq!(text(&upstream.administer(terminate).stdout), "t");
    assert_eq!(client.fatal().await.0, "57P01");
    assert_eq!(session.await.unwrap().unwrap().end, End::Upstream);
}

#[tokio::test]
async fn a_pipeline_behind_a_huge_result_is_answered() {
    let sidecar = Sidecar::start().await;
    let Some(upstream) = Postgresql::start(&sidecar.authority) else { return };
    let endpoint = upstream.tls(&sidecar.authority);
    let (mut client, session) = sidecar.session(sidecar.dial(&endpoint), Memory::default(), never()).await;
    client.until_ready().await;
    let query = message(b'Q', b"select repeat('x', 1000000) from generate_series(1, 64)\0");
    client.send(&[query, message(b'Q', b"select 1\0"), message(b'X', b"")].concat()).await;
    let mut rows = 0;
    while let Some((kind, _)) = client.receive().await {
        rows += usize::from(kind == b'D');
    }
    assert_eq!(rows, 65);
    assert_eq!(session.await.unwrap().unwrap().end, End::Client);
}

#[tokio::test]
async fn each_outcome_in_a_pipeline_comes_to_its_statement() {
    let sidecar = Sidecar::start().await;
    let Some(upstream) = Postgresql::start(&sidecar.authority) else { return };
    let tap = Memory::default();
    let (mut client, session) =
        sidecar.session(sidecar.dial(&upstream.tls(&sidecar.authority)), tap.clone(), never()).await;
    client.until_ready().await;
    let prepared = |statement: &str| {
        let parse = message(b'P', format!("\0{statement}\0\0\0").as_bytes());
        [parse, message(b'B', &[0; 8]), message(b'E', &[0; 5])].concat()
    };
    let sync = message(b'S', b"");
    let all = [
        message(b'Q', b"create table t (a int)\0"),
        [prepared("select 1"), prepared("select 1/0"), prepared("select 2"), sync.clone()].concat(),
        message(b'Q', b"select 3; select 4\0"),
        // libpq syncs before it knows that the statement takes data.
        [prepared("copy t from stdin"), sync.clone()].concat(),
        [message(b'd', b"1\n"), message(b'c', b""), sync].concat(),
        message(b'Q', b"\0"),
    ];
    client.send(&all.concat()).await;
    for _ in 0..5 {
        client.until_ready().await;
    }
    let paired = [
        (0, "CREATE TABLE"),
        (1, "SELECT 1"),
        (2, "22012"),
        (4, "SELECT 1"),
        (4, "SELECT 1"),
        (5, "CopyIn"),
        (5, "COPY 1"),
        (6, "Empty"),
    ];
    assert_eq!(tap.paired(), paired.map(|(number, outcome)| (number, outcome.to_owned())));
    assert!(!tap.is_busy());
    client.send(&message(b'X', b"")).await;
    session.await.unwrap().unwrap();
}
