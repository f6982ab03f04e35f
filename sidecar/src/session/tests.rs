use std::{io, path::Path, sync::Mutex, time::Duration};

use protocols::{
    Carried, DialError, Endpoint, Event, Refusal, RelayError, RelayFault, Tap, Transferred, UpstreamAddress,
    Verdict,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpListener, time::timeout};
use tracing::Span;

mod ask;

use super::*;
use crate::{
    admission::{Admission, Room},
    config::UpstreamConfig,
    listener,
    testing::{World, chain, mint, target},
    upstream::{Issue, Roots},
};

/// What a fake protocol did, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// How the fake session goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Script {
    /// One query, then the client leaves.
    Query,
    /// The upstream cannot be reached.
    NoUpstream,
    /// The upstream says no with a secret.
    Rejected,
    /// The upstream does not take the session's settings.
    SettingsRejected,
    /// The connection to the upstream breaks.
    Breaks,
    /// The client breaks the protocol.
    Malformed,
    /// Until it is ended from our side.
    UntilEnded,
    Panics,
    /// Neither side ever says anything.
    Hangs,
}

struct Fake {
    log: Log,
    peer: Peer,
    /// What its person answers, one after the other; then nothing.
    replies: Vec<&'static str>,
    user: String,
    replication: Replication,
    script: Script,
    data_dir: std::path::PathBuf,
}

struct FakeClient {
    log: Log,
    script: Script,
    replies: std::vec::IntoIter<&'static str>,
}

impl Protocol for Fake {
    const NAME: &'static str = "fake";
    type Client = FakeClient;
    type Upstream = ();

    async fn accept(&self, _: TcpStream) -> Result<Option<Accepted<FakeClient>>, protocols::AcceptError> {
        self.log.add("accept");
        let login = protocols::Login {
            user: self.user.clone(),
            database: Some(mint::DB_NAME.to_owned()),
            replication: self.replication,
            carried: Carried::default(),
        };
        let replies = self.replies.clone().into_iter();
        let client = FakeClient { log: self.log.clone(), script: self.script, replies };
        Ok(Some(Accepted { peer: self.peer.clone(), login, client }))
    }

    async fn dial(&self, endpoint: &Endpoint, _: &protocols::Login) -> Result<(), DialError> {
        // What is on disk when the upstream is dialled?
        self.log.add(format!("dial after {:?}", names(&on_disk(&self.data_dir))));
        for setting in &endpoint.settings {
            self.log.add(format!("{} = {}", setting.name, setting.value));
        }
        if endpoint.replication_allowed {
            self.log.add("replication is allowed");
        }
        if endpoint.local_infile_allowed {
            self.log.add("files may be asked for");
        }
        match self.script {
            Script::NoUpstream => Err(DialError::Connect(io::Error::other("no route to secret-host"))),
            Script::Rejected => Err(DialError::Rejected(protocols::UpstreamReport {
                sql_state: protocols::SqlState::parse(b"28000"),
                number: None,
                message: "no pg_hba.conf entry for secret-host".to_owned(),
            })),
            Script::SettingsRejected => Err(DialError::SettingsRejected(protocols::UpstreamReport {
                sql_state: protocols::SqlState::parse(b"22023"),
                number: None,
                message: "invalid value for parameter".to_owned(),
            })),
            _ => Ok(()),
        }
    }
}

impl Client for FakeClient {
    type Upstream = ();

    async fn ask(&mut self, prompt: &protocols::Prompt) -> protocols::Reply {
        self.log.add(format!("ask: {} {}", prompt.instruction, prompt.question));
        match self.replies.next() {
            Some(reply) => protocols::Reply::Given(protocols::Secret::new(reply.as_bytes().to_vec())),
            None => protocols::Reply::Gone,
        }
    }

    async fn refuse(self, refusal: Refusal) -> io::Result<()> {
        self.log.add(format!("refuse: {}", refusal.message));
        Ok(())
    }

    async fn relay(
        self,
        (): (),
        mut tap: impl Tap,
        ended: impl Future<Output = Refusal> + Send,
    ) -> Result<Transferred, RelayError> {
        self.log.add("logged in");
        let transferred = Transferred { from_client: 3, from_upstream: 5, ..Transferred::default() };
        match self.script {
            Script::Query => {
                assert_eq!(
                    tap.observe(Event::Query { text: b"select 1", cut: 0 }).await,
                    Ok(Verdict::Forward)
                );
                Ok(transferred)
            }
            Script::Breaks => {
                let fault = RelayFault::Upstream(io::ErrorKind::BrokenPipe.into());
                Err(RelayError { transferred, fault })
            }
            Script::Malformed => {
                let reason = protocols::Malformed::UnknownType(0xff);
                tap.observe(Event::Malformed { reason }).await.unwrap();
                Err(RelayError { transferred, fault: RelayFault::Malformed(reason) })
            }
            Script::UntilEnded => {
                let refusal = ended.await;
                self.log.add(format!("ended: {}", refusal.message));
                Ok(Transferred { end: protocols::End::Refused(refusal.code), ..transferred })
            }
            Script::Panics => panic!("a bug in the protocol"),
            Script::Hangs => future::pending().await,
            Script::NoUpstream | Script::Rejected | Script::SettingsRejected => {
                unreachable!("there is no upstream")
            }
        }
    }
}

struct Nobody;

impl Issue for Nobody {
    fn issue<'a>(
        &'a self,
        _: &'a auth::identity::TargetName,
        _: &'a str,
        _: Vec<u8>,
    ) -> std::pin::Pin<
        Box<
            dyn Future<Output = Result<crate::upstream::Issued, Box<dyn std::error::Error + Send + Sync>>>
                + Send
                + 'a,
        >,
    > {
        Box::pin(async { Err("no certificates here".into()) })
    }
}

impl VerifyCode for Nobody {
    fn verify(
        &self,
        _: auth::proto::VerifyOtpRequest,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<auth::credential::OtpProof, CodeError>> + Send + '_>>
    {
        Box::pin(async { Err(CodeError::Failed("no codes here".into())) })
    }
}

/// One door with a fake protocol behind it.
struct Stage {
    world: World,
    data: TempDir,
    log: Log,
    door: Arc<Door<Fake>>,
}

impl Stage {
    fn new(world: World, target_name: &str, peer: Option<&mint::Minted>, script: Script) -> Self {
        Self::with_user(world, target_name, peer, script, mint::DB_USER)
    }

    fn with_user(
        world: World,
        target_name: &str,
        peer: Option<&mint::Minted>,
        script: Script,
        user: &str,
    ) -> Self {
        let (data, log) = (tempfile::tempdir().unwrap(), Log::default());
        let metrics = Metrics::new().unwrap();
        let (audit, _spool) =
            Audit::open(data.path(), 16 * 1024 * 1024, metrics.audit_failures.clone()).unwrap();
        let upstream = UpstreamConfig::new(UpstreamAddress::Unix("/nowhere".into()), None, None);
        let roots = Roots::Cluster(Arc::clone(&world.replica));
        let target = target(target_name);
        let protocol = Fake {
            log: log.clone(),
            peer: Peer::from_chain(peer.map(chain).unwrap_or_default()),
            replies: Vec::new(),
            user: user.to_owned(),
            replication: Replication::None,
            script,
            data_dir: data.path().to_owned(),
        };
        let door = Door {
            protocol,
            upstream: Upstream::new(&upstream, &target.name, roots, Arc::new(Nobody)).unwrap(),
            target,
            authorizer: world.authorizer(),
            replica: Arc::clone(&world.replica),
            audit,
            recordings: Recordings::open(data.path(), 16 * 1024 * 1024).unwrap().0,
            codes: Arc::new(Nobody),
            clock: world.clock.clone(),
            metrics: metrics.target(target_name, "postgres"),
            process_metrics: metrics,
            seats: Arc::default(),
            parameters: Parameters::Recorded,
            server_id: "sidecar-id".to_owned(),
            closing: CancellationToken::new(),
        };
        Self { world, data, log, door: Arc::new(door) }
    }

    /// A socket whose other end nobody uses, and a place for it.
    async fn connection() -> (TcpStream, SocketAddr, Place) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, client) = listener.accept().await.unwrap();
        let room = Room { connections: 1, unknown: 1, unknown_per_address: 1 };
        (socket, client, Admission::new(room).admit(client.ip()).unwrap())
    }

    async fn serve(&self) {
        let (socket, client, place) = Self::connection().await;
        timeout(Duration::from_secs(20), self.door.serve(socket, client, &place, Span::none()))
            .await
            .unwrap();
    }

    async fn events(&self) -> Vec<Value> {
        self.door.audit.close().await;
        on_disk(self.data.path())
    }

    fn counted(&self, metric: &str) -> bool {
        String::from_utf8(self.door.process_metrics.render()).unwrap().contains(metric)
    }
}

fn on_disk(data_dir: &Path) -> Vec<Value> {
    crate::audit::on_disk(data_dir).iter().map(|json| serde_json::from_str(json).unwrap()).collect()
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_session_goes_in_order_and_is_on_record_before_the_upstream_is_dialled() {
    let world = World::new();
    let login = world.login();
    let stage = Stage::new(world, "dev-pg", Some(&login), Script::Query);
    stage.serve().await;
    assert_eq!(stage.log.all(), ["accept", r#"dial after ["db.session.start"]"#, "logged in"]);
    let events = stage.events().await;
    assert_eq!(names(&events), ["db.session.start", "db.session.query", "db.session.end"]);
    assert_eq!((&events[0]["code"], &events[0]["decided_by"]), (&"TDB00I".into(), &"access-dev".into()));
    assert_eq!((&events[2]["code"], &events[2]["reason"]), (&"TDB01I".into(), &"client_closed".into()));
    assert_eq!((&events[2]["bytes_from_client"], &events[2]["bytes_from_upstream"]), (&3.into(), &5.into()));
    for event in &events {
        assert_eq!(event["sid"], events[0]["sid"]);
        assert_eq!((&event["user"], &event["server_id"]), (&"jerry".into(), &"sidecar-id".into()));
    }
    assert!(stage.counted(r#"touchstone_sessions_started_total{protocol="postgres",target="dev-pg"} 1"#));
    assert!(stage.counted(r#"touchstone_sessions_active{protocol="postgres",target="dev-pg"} 0"#));
}

#[tokio::test]
async fn the_mfa_device_is_on_record() {
    let world = World::new();
    let minted = world.authorities.user(&mint::jerry_with_otp("prod-pg"));
    let stage = Stage::new(world, "prod-pg", Some(&minted), Script::Query);
    stage.serve().await;
    for event in stage.events().await {
        assert_eq!(event["with_mfa"], mint::OTP_DEVICE.to_string());
    }
    assert!(stage.counted(r#"outcome="allowed_with_mfa",protocol="postgres",target="prod-pg"} 1"#));
}

/// Who is refused is told, is on record with the name that the certificate proves, and never reaches the upstream.
async fn assert_denied(stage: &Stage, message: &str, reason: &str, user: Option<&str>) {
    stage.serve().await;
    let log = stage.log.all();
    assert_eq!(log.len(), 2, "{log:?}");
    assert_eq!(log[1], format!("refuse: {message}"));
    let events = stage.events().await;
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!((&event["event"], &event["code"]), (&"db.session.start".into(), &"TDB00W".into()));
    assert_eq!((&event["success"], &event["error"]), (&false.into(), &message.into()));
    assert_eq!(event["reason"], reason);
    assert_eq!(event.get("user").and_then(Value::as_str), user);
    assert!(stage.counted(&format!(r#"reason="{reason}""#)));
}

#[tokio::test]
async fn the_stolen_login_certificate_is_refused_where_mfa_is_required() {
    let world = World::new();
    let login = world.login();
    let stage = Stage::new(world, "prod-pg", Some(&login), Script::Query);
    assert_denied(&stage, "access to resource requires MFA", "mfa_required", Some("jerry")).await;
    assert!(stage.counted(r#"outcome="mfa_required",protocol="postgres",target="prod-pg"} 1"#));
}

#[tokio::test]
async fn a_session_certificate_is_refused_at_another_target() {
    let world = World::new();
    let minted = world.authorities.user(&mint::jerry_with_otp("prod-pg"));
    let stage = Stage::new(world, "dev-pg", Some(&minted), Script::Query);
    let message = "the certificate is for target prod-pg, not dev-pg";
    assert_denied(&stage, message, "other_target", Some("jerry")).await;
}

#[tokio::test]
async fn a_session_certificate_is_refused_for_another_database_user() {
    let world = World::new();
    let minted = world.authorities.user(&mint::jerry_with_otp("prod-pg"));
    let stage = Stage::with_user(world, "prod-pg", Some(&minted), Script::Query, "postgres");
    let message = r#"the certificate is for database user "app" and database "shop""#;
    assert_denied(&stage, message, "other_login", Some("jerry")).await;
}

#[tokio::test]
async fn a_database_user_that_no_role_gives_is_denied() {
    let world = World::new();
    let login = world.login();
    let stage = Stage::with_user(world, "dev-pg", Some(&login), Script::Query, "postgres");
    let message = "access to db denied. User does not have permissions. Confirm database user and name.";
    assert_denied(&stage, message, "policy", Some("jerry")).await;
}

#[tokio::test]
async fn a_foreign_certificate_names_nobody() {
    let foreign = mint::Authorities::new().user(&mint::jerry());
    let stage = Stage::new(World::new(), "dev-pg", Some(&foreign), Script::Query);
    assert_denied(&stage, "the certificate was not issued by this cluster", "unknown_authority", None).await;
}

#[tokio::test]
async fn a_host_certificate_is_not_a_users() {
    let world = World::new();
    let host = mint::user_by(&world.authorities.host, &mint::jerry());
    let stage = Stage::new(world, "dev-pg", Some(&host), Script::Query);
    assert_denied(&stage, "the certificate was not issued by this cluster", "unknown_authority", None).await;
}

#[tokio::test]
async fn no_certificate_is_told_so() {
    let stage = Stage::new(World::new(), "dev-pg", None, Script::Query);
    assert_denied(&stage, "a client certificate is required", "no_certificate_presented", None).await;
}

#[tokio::test]
async fn a_locked_user_is_told_by_what() {
    let world = World::new();
    let login = world.login();
    world.lock_jerry();
    let stage = Stage::new(world, "dev-pg", Some(&login), Script::Query);
    let message = r#"lock targeting User:"jerry" is in force: Suspicious activity."#;
    assert_denied(&stage, message, "locked", Some("jerry")).await;
}

#[tokio::test]
async fn a_stolen_certificate_that_has_expired_does_not_fill_the_trail() {
    const BOUND: u64 = 200_000;
    let world = World::new();
    let not_after = std::time::SystemTime::now() - Duration::from_secs(60);
    let expired = world.authorities.user(&auth::identity::Identity { not_after, ..mint::jerry() });
    let mut stage = Stage::new(world, "dev-pg", Some(&expired), Script::Query);
    let failures = stage.door.process_metrics.audit_failures.clone();
    let audit = Audit::open(stage.data.path(), BOUND, failures).unwrap().0;
    Arc::get_mut(&mut stage.door).unwrap().audit = audit;
    for _ in 0..1000 {
        stage.serve().await;
    }
    assert_eq!(stage.log.all().len(), 2000, "each is refused");
    let metrics = &stage.door.process_metrics;
    assert_eq!(metrics.audit_failures.get(), 0);
    let suppressed = metrics.audit_suppressed.get();
    let events = stage.events().await;
    assert_eq!((events.len() as u64) + suppressed, 1000, "each is on record or counted");
    assert!((100..200).contains(&events.len()), "{}", events.len());
    assert_eq!((&events[99]["user"], &events[99]["reason"]), (&"jerry".into(), &events[0]["reason"]));
    assert!(stage.door.audit.spool_bytes() < BOUND);
}

#[tokio::test]
async fn before_the_replica_is_complete_nobody_gets_in() {
    let world = World::not_ready();
    let login = world.login();
    let stage = Stage::new(world, "dev-pg", Some(&login), Script::Query);
    stage.serve().await;
    assert_eq!(stage.log.all()[1], "refuse: the sidecar is not ready to decide: try again in a moment");
    assert!(stage.counted(r#"outcome="undecided",protocol="postgres",target="dev-pg"} 1"#));
}

#[tokio::test]
async fn what_cannot_be_recorded_does_not_begin() {
    let world = World::new();
    let login = world.login();
    let stage = Stage::new(world, "dev-pg", Some(&login), Script::Query);
    let spool = stage.data.path().join("spool");
    std::fs::remove_dir_all(&spool).unwrap();
    std::fs::write(&spool, b"in the way").unwrap();
    stage.serve().await;
    assert_eq!(stage.log.all(), ["accept", "refuse: the session cannot be recorded, so it was not started"]);
    assert!(!stage.door.audit.is_writable());
    assert!(stage.counted("touchstone_audit_failed_events_total 1"));
}

#[tokio::test]
async fn an_upstream_that_fails_is_told_without_its_secrets_and_nobody_is_logged_in() {
    for (script, message, reason) in [
        (Script::NoUpstream, "the database cannot be reached", "upstream_unreachable"),
        (Script::Rejected, "the sidecar cannot log in to the database", "upstream_rejected"),
    ] {
        let world = World::new();
        let login = world.login();
        let stage = Stage::new(world, "dev-pg", Some(&login), script);
        stage.serve().await;
        let log = stage.log.all();
        assert_eq!(log.last().unwrap(), &format!("refuse: {message}"));
        assert!(!log.iter().any(|line| line == "logged in"));
        let events = stage.events().await;
        assert_eq!(names(&events), ["db.session.start", "db.session.end"]);
        assert_eq!(events[1]["reason"], reason);
    }
}

/// A world where the role for `dev-pg` has these options.
fn world_with(options: &str) -> World {
    let world = World::new();
    let role = format!(
        r#"{{"kind":"role","version":"v6","metadata":{{"name":"access-dev"}},"spec":{{"options":{{{options}}},"allow":{{"db_labels":{{"env":"dev"}},"db_users":["*"],"db_names":["*"]}}}}}}"#
    );
    world.replica.apply(mint::resource("role", "access-dev", &role)).unwrap();
    world
}

const SETTINGS: &str =
    r#""db_session_settings":{"statement_timeout":"30s","default_transaction_read_only":"on"}"#;

#[tokio::test]
async fn the_roles_session_settings_go_to_the_upstream_before_logged_in_and_are_on_record() {
    let world = world_with(SETTINGS);
    let login = world.login();
    let stage = Stage::new(world, "dev-pg", Some(&login), Script::Query);
    stage.serve().await;
    let settings = ["default_transaction_read_only = on", "statement_timeout = 30s"];
    assert_eq!(stage.log.all()[2..4], settings);
    assert_eq!(stage.log.all()[4], "logged in");
    let start = &stage.events().await[0];
    assert_eq!(start["db_session_settings"]["statement_timeout"], "30s");
}

#[tokio::test]
async fn the_upstream_may_ask_the_client_for_a_file_only_where_a_role_says_so() {
    for (options, asked) in
        [(r#""db_local_infile":true"#, true), (r#""db_local_infile":false"#, false), ("", false)]
    {
        let world = world_with(options);
        let login = world.login();
        let stage = Stage::new(world, "dev-pg", Some(&login), Script::Query);
        stage.serve().await;
        assert_eq!(stage.log.all().contains(&"files may be asked for".to_owned()), asked, "{options}");
        assert!(stage.log.all().contains(&"logged in".to_owned()));
    }
}

#[tokio::test]
async fn settings_that_the_upstream_does_not_take_are_a_refusal_and_never_left_out() {
    let world = world_with(SETTINGS);
    let login = world.login();
    let stage = Stage::new(world, "dev-pg", Some(&login), Script::SettingsRejected);
    stage.serve().await;
    let told = "refuse: the session settings of your roles cannot be applied, so the session was not started";
    assert_eq!(stage.log.all().last().unwrap(), told);
    assert!(!stage.log.all().iter().any(|line| line == "logged in"));
    assert_eq!(stage.events().await[1]["reason"], "settings_rejected");
}

fn replicating(world: World, login: &mint::Minted, replication: Replication) -> Stage {
    let mut stage = Stage::new(world, "dev-pg", Some(login), Script::Query);
    Arc::get_mut(&mut stage.door).unwrap().protocol.replication = replication;
    stage
}

#[tokio::test]
async fn replication_without_the_role_option_is_denied_by_name_and_on_record() {
    let world = World::new();
    let login = world.login();
    let stage = replicating(world, &login, Replication::Logical);
    let message = "replication connections need a role with the option db_replication";
    assert_denied(&stage, message, "replication_not_allowed", Some("jerry")).await;
}

#[tokio::test]
async fn replication_with_the_role_option_is_allowed_and_said_in_the_start() {
    let world = world_with(r#""db_replication":true"#);
    let login = world.login();
    let stage = replicating(world, &login, Replication::Logical);
    stage.serve().await;
    assert_eq!(stage.log.all()[2..], ["replication is allowed", "logged in"]);
    assert_eq!(stage.events().await[0]["replication"], "logical");
}

#[tokio::test]
async fn physical_replication_is_no_right_to_one_database() {
    let world = World::new();
    let login = world.login();
    let stage = replicating(world, &login, Replication::Physical);
    let message = "access to db denied. User does not have permissions. Confirm database user and name.";
    assert_denied(&stage, message, "policy", Some("jerry")).await;

    let world = world_with(r#""db_replication":true"#);
    let login = world.login();
    let stage = replicating(world, &login, Replication::Physical);
    stage.serve().await;
    assert_eq!(stage.log.all().last().unwrap(), "logged in", "the role gives all databases");
    let start = &stage.events().await[0];
    assert_eq!((&start["replication"], &start["db_name"]), (&"physical".into(), &"replication".into()));
}

#[tokio::test]
async fn one_session_more_than_max_connections_is_rejected_and_on_record_until_one_ends() {
    let world = world_with(r#""max_connections":1"#);
    let login = world.login();
    let stage = Stage::new(world, "dev-pg", Some(&login), Script::UntilEnded);
    let session = live(&stage).await;
    stage.serve().await;
    assert_eq!(stage.log.all().last().unwrap(), "refuse: max_connections limit reached");
    stage.door.closing.cancel();
    session.await.unwrap();
    stage.serve().await;
    let events = stage.events().await;
    let sessions = ["db.session.start", "session.rejected", "db.session.end"];
    assert_eq!(names(&events)[..3], sessions);
    assert_eq!(names(&events)[3..], ["db.session.start", "db.session.end"], "there is room again");
    let rejected = &events[1];
    assert_eq!((&rejected["code"], &rejected["user"]), (&"T1006W".into(), &"jerry".into()));
    assert_eq!(
        (&rejected["reason"], &rejected["maximum"]),
        (&"max_connections limit reached".into(), &1.into())
    );
    assert!(stage.counted(r#"reason="max_connections",target="dev-pg"} 1"#));
}

#[tokio::test]
async fn of_two_connections_at_the_limit_at_once_one_gets_in() {
    let world = world_with(r#""max_connections":1"#);
    let login = world.login();
    let stage = Stage::new(world, "dev-pg", Some(&login), Script::UntilEnded);
    let connections: Vec<_> = (0..2)
        .map(|_| {
            let door = Arc::clone(&stage.door);
            tokio::spawn(async move {
                let (socket, client, place) = Stage::connection().await;
                door.serve(socket, client, &place, Span::none()).await;
            })
        })
        .collect();
    let count = |what: &str| stage.log.all().iter().filter(|line| *line == what).count();
    let both = || (count("logged in"), count("refuse: max_connections limit reached"));
    timeout(Duration::from_secs(20), async {
        while both() != (1, 1) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{:?}", stage.log.all()));
    stage.door.closing.cancel();
    for connection in connections {
        connection.await.unwrap();
    }
}

#[tokio::test]
async fn an_idle_session_ends_and_is_told_for_how_long_it_was_idle() {
    let world = world_with(r#""client_idle_timeout":"1s""#);
    let login = world.login();
    let stage = Stage::new(world, "dev-pg", Some(&login), Script::UntilEnded);
    stage.serve().await;
    assert_eq!(stage.log.all().last().unwrap(), "ended: the session ended: it was idle for 1s");
    assert_eq!(stage.events().await[1]["reason"], "idle_timeout");
}

#[tokio::test]
async fn a_session_ends_with_its_certificate_where_that_is_asked_for() {
    let world = world_with(r#""disconnect_expired_cert":true"#);
    let not_after = std::time::SystemTime::now() + Duration::from_secs(2);
    let identity = auth::identity::Identity { not_after, ..mint::jerry() };
    let login = world.authorities.user(&identity);
    let stage = Stage::new(world, "dev-pg", Some(&login), Script::UntilEnded);
    stage.serve().await;
    let log = stage.log.all();
    let told = log.last().unwrap();
    assert!(told.starts_with("ended: the session ended: the certificate expired at "), "{told}");
    assert_eq!(stage.events().await[1]["reason"], "certificate_expired");
}

#[tokio::test]
async fn a_broken_relay_ends_on_record() {
    let world = World::new();
    let login = world.login();
    let stage = Stage::new(world, "dev-pg", Some(&login), Script::Breaks);
    stage.serve().await;
    let events = stage.events().await;
    assert_eq!(events[1]["reason"], "upstream_failed");
    assert_eq!(events[1]["bytes_from_upstream"], 5);
}

#[tokio::test]
async fn a_client_that_breaks_the_protocol_is_on_record_by_how() {
    let world = World::new();
    let login = world.login();
    let stage = Stage::new(world, "dev-pg", Some(&login), Script::Malformed);
    stage.serve().await;
    let events = stage.events().await;
    assert_eq!(names(&events), ["db.session.start", "db.session.malformed_packet", "db.session.end"]);
    assert_eq!((&events[1]["code"], &events[1]["ei"]), (&"TDB06I".into(), &1.into()));
    assert_eq!(events[1]["error"], "unknown message type 0xff");
    assert_eq!(events[2]["reason"], "malformed");
}

/// A live session of the stage, once the client was told that it is logged in.
async fn live(stage: &Stage) -> tokio::task::JoinHandle<()> {
    let door = Arc::clone(&stage.door);
    let session = tokio::spawn(async move {
        let (socket, client, place) = Stage::connection().await;
        door.serve(socket, client, &place, Span::none()).await;
    });
    timeout(Duration::from_secs(20), async {
        while !stage.log.all().iter().any(|line| line == "logged in") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    session
}

#[tokio::test]
async fn a_lock_ends_a_live_session_and_says_why() {
    let world = World::new();
    let login = world.login();
    let stage = Stage::new(world, "dev-pg", Some(&login), Script::UntilEnded);
    let session = live(&stage).await;
    stage.world.lock_jerry();
    timeout(Duration::from_secs(5), session).await.unwrap().unwrap();
    let told = r#"ended: the session ended: lock targeting User:"jerry" is in force: Suspicious activity."#;
    assert_eq!(stage.log.all().last().unwrap(), told);
    assert_eq!(stage.events().await[1]["reason"], "locked");
}

#[tokio::test]
async fn a_right_that_is_taken_away_ends_a_live_session() {
    let world = World::new();
    let login = world.login();
    let stage = Stage::new(world, "dev-pg", Some(&login), Script::UntilEnded);
    let session = live(&stage).await;
    stage.world.replica.apply(mint::role("access-dev", "elsewhere", "false")).unwrap();
    timeout(Duration::from_secs(5), session).await.unwrap().unwrap();
    assert_eq!(stage.events().await[1]["reason"], "policy_changed");
}

#[tokio::test]
async fn a_stopping_sidecar_ends_live_sessions() {
    let world = World::new();
    let login = world.login();
    let stage = Stage::new(world, "dev-pg", Some(&login), Script::UntilEnded);
    let session = live(&stage).await;
    stage.door.closing.cancel();
    session.await.unwrap();
    assert_eq!(stage.log.all().last().unwrap(), "ended: the session ended: the sidecar is stopping");
    assert_eq!(stage.events().await[1]["reason"], "shutdown");
}

#[tokio::test]
async fn a_panic_ends_its_own_session_on_record() {
    let world = World::new();
    let login = world.login();
    let stage = Stage::new(world, "dev-pg", Some(&login), Script::Panics);
    let session = live(&stage).await;
    assert!(session.await.unwrap_err().is_panic());
    let events = stage.events().await;
    assert_eq!(names(&events), ["db.session.start", "db.session.end"]);
    assert_eq!(events[1]["reason"], "aborted");
    assert!(stage.counted(r#"touchstone_sessions_active{protocol="postgres",target="dev-pg"} 0"#));
}

#[tokio::test]
async fn a_cancelled_session_ends_on_record() {
    let world = World::new();
    let login = world.login();
    let stage = Stage::new(world, "dev-pg", Some(&login), Script::Hangs);
    let session = live(&stage).await;
    session.abort();
    assert!(session.await.unwrap_err().is_cancelled());
    assert_eq!(stage.events().await[1]["reason"], "aborted");
}

#[tokio::test]
async fn the_listener_outlives_a_panic() {
    let world = World::new();
    let login = world.login();
    let stage = Stage::new(world, "dev-pg", Some(&login), Script::Panics);
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let stops = listener::Stops { accepting: CancellationToken::new(), abort: CancellationToken::new() };
    let tasks = tokio_util::task::TaskTracker::new();
    let admission = Admission::new(crate::config::DEFAULT_ROOM);
    let (workers, _working) = crate::workers::Workers::of(1).unwrap();
    let serving = tokio::spawn(listener::serve(
        socket,
        Arc::clone(&stage.door),
        admission,
        workers,
        tasks.clone(),
        stops.clone(),
    ));
    for _ in 0..3 {
        let mut client = TcpStream::connect(address).await.unwrap();
        // Closed by the sidecar.
        let mut rest = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut client, &mut rest).await;
    }
    assert!(!serving.is_finished());
    stops.accepting.cancel();
    serving.await.unwrap();
    tasks.close();
    tasks.wait().await;
}
