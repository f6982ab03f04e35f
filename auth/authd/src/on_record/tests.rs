use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use auth::{
    clock::{Clock, ClockHandle, rfc3339_millis, unix_millis},
    proto,
};
use futures_util::future::{BoxFuture, join_all};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::{broadcast, mpsc};
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use super::*;
use crate::{
    admin::AdminCaller,
    audit::{Lines, Query, SpoolId},
    keys,
    store::{self, Change, Condition, Item, Range, Sqlite, Store},
};

/// 2023-11-14 22:13:20.
const BEGIN: u64 = 1_700_000_000;
const NEXT_DAY: &str = "2023-11-15.log";

/// Where a process ends, for the change that it makes.
#[derive(Clone, Copy, PartialEq)]
enum Ends {
    /// The change is committed, and nothing comes after that.
    BeforeTheTrail,
    /// The events are in the trail, and the store does not hear of it.
    BeforeTheStore,
    Nowhere,
}

type Hook = Box<dyn Fn() + Send>;

/// The store of a process that ends somewhere. What it has told and removed up to there is as on the disk.
struct Ending {
    store: Arc<Sqlite>,
    ends: Ends,
    is_up: AtomicBool,
    /// Nothing more gets into the store.
    is_over: AtomicBool,
    /// What happens just after the next commit.
    then: Mutex<Option<Hook>>,
}

impl Store for Ending {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Item>, StoreError>> {
        self.store.get(key)
    }

    fn range<'a>(&'a self, prefixes: &'a [String]) -> BoxFuture<'a, Result<Range, StoreError>> {
        self.store.range(prefixes)
    }

    fn commit(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async {
            if self.is_over.load(Relaxed) {
                return Err(StoreError::Closed);
            }
            let revision = self.store.commit(ops).await?;
            if let Some(then) = self.then.lock().unwrap().take() {
                then();
            }
            Ok(revision)
        })
    }

    fn watch(&self) -> broadcast::Receiver<Change> {
        self.store.watch()
    }

    fn outbox(&self) -> mpsc::UnboundedReceiver<Change> {
        match self.ends {
            Ends::BeforeTheTrail => mpsc::unbounded_channel().1,
            Ends::BeforeTheStore | Ends::Nowhere => self.store.outbox(),
        }
    }

    fn discard(&self, keys: Vec<String>) {
        match self.ends {
            Ends::BeforeTheTrail | Ends::Nowhere => self.store.discard(keys),
            Ends::BeforeTheStore => drop(self.is_over.fetch_or(self.is_up.load(Relaxed), Relaxed)),
        }
    }
}

/// A data directory, and a clock.
struct Scene {
    directory: TempDir,
    time: Clock,
    clock: ClockHandle,
}

struct Process {
    cluster: Cluster,
    store: Arc<Ending>,
}

impl Scene {
    fn new() -> Self {
        let (time, clock) = Clock::fixed(SystemTime::UNIX_EPOCH + Duration::from_secs(BEGIN));
        Self { directory: tempfile::tempdir().unwrap(), time, clock }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    async fn start(&self, ends: Ends) -> Process {
        let store = Arc::new(Sqlite::open(&self.path().join("store"), self.time.clone()).unwrap());
        let store = Arc::new(Ending {
            store,
            ends,
            is_up: AtomicBool::default(),
            is_over: AtomicBool::default(),
            then: Mutex::default(),
        });
        let cluster = Cluster::unserved_on(store.clone(), self.path(), self.time.clone()).await;
        store.is_up.store(true, Relaxed);
        Process { cluster, store }
    }
}

impl Process {
    /// Makes a change with so many events, `<name>0`, `<name>1`, ….
    async fn change(&self, name: &str, events: usize) -> Result<(), Refused> {
        let op = Op::put(format!("changed/{name}"), Condition::Absent, &name).unwrap();
        let event = |n| json!({"event": "role.created", "code": "T9000I", "name": format!("{name}{n}")});
        let events = (0..events).map(event).collect();
        self.cluster.commit_on_record(vec![op], events, Refused::Changed("it")).await
    }

    /// Names and times of all events of changes, in the order of the trail.
    async fn told(&self) -> Vec<(String, String)> {
        let query = Query { since: None, limit: 10_000, event: Some("role.created".into()) };
        let lines = self.cluster.audit.list(query).await.unwrap();
        let events = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let text = |event: &Value, field: &str| event[field].as_str().unwrap().to_owned();
        events.map(|event| (text(&event, "name"), text(&event, "time"))).collect()
    }

    async fn names(&self) -> Vec<String> {
        self.told().await.into_iter().map(|(name, _)| name).collect()
    }

    async fn left_in_outbox(&self) -> usize {
        self.store.range(&[keys::OUTBOX.to_owned()]).await.unwrap().items.len()
    }

    /// Anything else that is committed.
    async fn commit(&self) {
        self.store.commit(vec![Op::put("other".into(), Condition::Any, &0).unwrap()]).await.unwrap();
    }

    async fn send(&self, spool: Uuid, sequence: u64) {
        let mut lines = Lines::of(SpoolId { sidecar: Uuid::nil(), spool });
        let event = json!({"event": "db.session.query", "time": "2023-11-14T22:13:20Z"});
        lines.push(sequence, event.to_string().as_bytes(), None, "main").unwrap();
        self.cluster.audit.append(lines).await.unwrap();
    }
}

#[tokio::test]
async fn changes_cut_off_from_their_events_are_told_at_the_next_start_once_in_order_with_their_times() {
    let scene = Scene::new();
    let process = scene.start(Ends::BeforeTheTrail).await;
    let mut expected = Vec::new();
    // More than a dozen, so that an order by id would show.
    for name in "abcdefghijklmnop".chars().map(String::from) {
        scene.clock.advance(Duration::from_millis(1500));
        process.change(&name, 2).await.unwrap();
        let time = rfc3339_millis(scene.time.now());
        expected.extend([(format!("{name}0"), time.clone()), (format!("{name}1"), time)]);
    }
    assert_eq!(process.told().await, []);
    drop(process);
    scene.clock.advance(Duration::from_secs(36 * 3600));

    for ends in [Ends::BeforeTheStore, Ends::Nowhere, Ends::Nowhere] {
        let process = scene.start(ends).await;
        assert_eq!(process.told().await, expected);
        process.commit().await;
        assert_eq!(process.left_in_outbox().await, if ends == Ends::Nowhere { 0 } else { 16 });
    }
}

#[tokio::test]
async fn events_that_a_crash_left_in_both_are_told_once_however_often_it_crashes() {
    let scene = Scene::new();
    for (n, name) in ["a", "b", "c"].into_iter().enumerate() {
        let process = scene.start(Ends::BeforeTheStore).await;
        process.change(name, 2).await.unwrap();
        assert_eq!(process.left_in_outbox().await, n + 1);
        scene.clock.advance(Duration::from_secs(12 * 3600));
    }
    let process = scene.start(Ends::Nowhere).await;
    assert_eq!(process.names().await, ["a0", "a1", "b0", "b1", "c0", "c1"]);
    process.change("d", 1).await.unwrap();
    process.commit().await;
    assert_eq!(process.left_in_outbox().await, 0);
    drop(process);
    assert_eq!(scene.start(Ends::Nowhere).await.names().await, ["a0", "a1", "b0", "b1", "c0", "c1", "d0"]);
}

#[tokio::test]
async fn of_events_that_were_half_written_the_rest_is_told() {
    let scene = Scene::new();
    let process = scene.start(Ends::BeforeTheStore).await;
    process.change("a", 3).await.unwrap();
    drop(process);
    let file = scene.path().join("log/2023-11-14.log");
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for kept in (0..text.len()).step_by(13) {
        std::fs::write(&file, &text[..kept]).unwrap();
        drop(scene.start(Ends::BeforeTheStore).await);
        let mended = std::fs::read_to_string(&file).unwrap();
        assert_eq!(mended.split_inclusive('\n').collect::<Vec<_>>(), lines, "{kept}");
    }
}

#[tokio::test]
async fn checkpoints_of_sidecars_events_let_nothing_be_told_twice() {
    let scene = Scene::new();
    let spool = Uuid::new_v4();
    let mut expected = Vec::new();
    for n in 0..12_u64 {
        let process = scene.start(if n % 3 == 0 { Ends::BeforeTheTrail } else { Ends::Nowhere }).await;
        // The first of a process is a checkpoint.
        let before = n % 2 == 0;
        if before {
            process.send(spool, 2 * n + 1).await;
        }
        process.change(&format!("{n}-"), 1).await.unwrap();
        process.send(spool, 2 * n + 2).await;
        expected.push(format!("{n}-0"));
    }
    let process = scene.start(Ends::Nowhere).await;
    assert_eq!(process.names().await, expected);
}

#[tokio::test]
async fn a_clock_that_went_back_over_midnight_lets_nothing_be_told_twice() {
    let scene = Scene::new();
    let day = Duration::from_secs(24 * 3600);
    scene.clock.advance(day);
    let process = scene.start(Ends::Nowhere).await;
    process.send(Uuid::new_v4(), 1).await;
    process.change("a", 1).await.unwrap();
    process.commit().await;
    drop(process);
    scene.clock.set(scene.time.now() - day);
    let process = scene.start(Ends::BeforeTheStore).await;
    process.change("b", 1).await.unwrap();
    drop(process);
    let mut names = scene.start(Ends::Nowhere).await.names().await;
    names.sort();
    assert_eq!(names, ["a0", "b0"]);
}

#[tokio::test]
async fn where_the_trail_fails_just_after_a_change_its_events_stay_owed_and_nothing_is_written_before_them() {
    let scene = Scene::new();
    let process = scene.start(Ends::Nowhere).await;
    let time = rfc3339_millis(scene.time.now());
    // The file of the next day cannot be written, and that day begins just after the commit.
    let obstacle = scene.path().join("log").join(NEXT_DAY);
    let (clock, tomorrow) = (scene.clock.clone(), scene.time.now() + Duration::from_secs(24 * 3600));
    let taken = obstacle.clone();
    *process.store.then.lock().unwrap() = Some(Box::new(move || {
        std::fs::create_dir(&taken).unwrap();
        clock.set(tomorrow);
    }));
    process.change("a", 1).await.unwrap();
    assert_eq!(process.left_in_outbox().await, 1);
    let refused = |result| assert!(matches!(result, Err(Refused::Audit(_))), "{result:?}");
    refused(process.change("b", 1).await);
    std::fs::remove_dir(&obstacle).unwrap();
    process.change("b", 1).await.unwrap();
    let later = rfc3339_millis(scene.time.now());
    let expected = [("a0".to_owned(), time), ("b0".to_owned(), later)];
    assert_eq!(process.told().await, expected);
    assert_eq!(scene.start(Ends::Nowhere).await.told().await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_trail_has_changes_in_the_order_of_their_commits() {
    let scene = Scene::new();
    let process = Arc::new(scene.start(Ends::Nowhere).await);
    let changes = (0..300).map(|n| {
        let process = Arc::clone(&process);
        tokio::spawn(async move { process.change(&format!("{n}-"), 1).await })
    });
    for change in join_all(changes).await {
        change.unwrap().unwrap();
    }
    let mut items = process.store.range(&["changed/".to_owned()]).await.unwrap().items;
    items.sort_by_key(|item| item.revision);
    let committed: Vec<_> = items.iter().map(|item| format!("{}0", store::last_part(&item.key))).collect();
    assert_eq!(process.names().await, committed);
}

#[tokio::test]
async fn a_conflict_is_told_of_nobody() {
    let scene = Scene::new();
    let process = scene.start(Ends::Nowhere).await;
    process.change("a", 1).await.unwrap();
    assert!(matches!(process.change("a", 1).await, Err(Refused::Changed(_))));
    drop(process);
    assert_eq!(scene.start(Ends::Nowhere).await.names().await, ["a0"]);
}

/// What an authd without an outbox leaves: no item of one, and events that were told after their changes.
#[tokio::test]
async fn the_store_of_an_earlier_version_is_taken_as_it_is() {
    let scene = Scene::new();
    drop(scene.start(Ends::Nowhere).await);
    let database = rusqlite::Connection::open(scene.path().join("store")).unwrap();
    let insert =
        "INSERT INTO items VALUES ('changed/old', '\"old\"', NULL, 9); UPDATE revision SET value = 9;";
    database.execute_batch(insert).unwrap();
    drop(database);
    let line = json!({"event": "role.created", "time": "2023-11-14T22:13:20.000Z", "name": "old0",
        "uid": Uuid::new_v4()});
    std::fs::write(scene.path().join("log/2023-11-14.log"), format!("{line}\n")).unwrap();
    for _ in 0..2 {
        assert_eq!(scene.start(Ends::Nowhere).await.names().await, ["old0"]);
    }
    let process = scene.start(Ends::BeforeTheTrail).await;
    process.change("new", 1).await.unwrap();
    drop(process);
    assert_eq!(scene.start(Ends::Nowhere).await.names().await, ["old0", "new0"]);
}

/// A sidecar of a node, and one of its sessions.
struct Recorded {
    sidecar: Uuid,
    session: Uuid,
}

impl Recorded {
    async fn by(process: &Process) -> Self {
        let cluster = &process.cluster;
        let root = cluster.allow_change(AdminCaller::root(), &MetadataMap::new(), [0; 32]).await.unwrap();
        let token = proto::AddTokenRequest { types: vec!["node".into()], ttl_seconds: 24 * 3600 };
        let token = cluster.add_token(token, &root).await.unwrap().token;
        let (_, public_key) = auth::key::generate_p256().unwrap();
        let target_names = vec!["host".to_owned()];
        let certificate = proto::SidecarCertificateRequest { public_key, target_names, ..Default::default() };
        let join = proto::JoinRequest { token, certificate: Some(certificate) };
        let joined = cluster.join(join, [127, 0, 0, 1].into()).await.unwrap();
        Self { sidecar: joined.sidecar_id.parse().unwrap(), session: Uuid::new_v4() }
    }

    /// Is it finished?
    async fn upload(&self, process: &Process, data: &[u8], finished: bool) -> Option<bool> {
        let of = proto::RecordingOf {
            user: "jerry".to_owned(),
            login: "root".to_owned(),
            target_name: "host".to_owned(),
            started: unix_millis(SystemTime::UNIX_EPOCH + Duration::from_secs(BEGIN)),
        };
        let (session_id, data) = (self.session.to_string(), data.to_vec());
        let part = proto::RecordingPart { session_id, of: Some(of), offset: 0, data, finished };
        let answer = process.cluster.take_recording(self.sidecar, futures_util::stream::iter([Ok(part)]));
        answer.await.ok().map(|answer| answer.finished)
    }

    async fn times_told(&self, process: &Process) -> usize {
        let query = Query { since: None, limit: 10, event: Some("session.upload".into()) };
        process.cluster.audit.list(query).await.unwrap().len()
    }
}

#[tokio::test]
async fn the_end_of_a_recording_is_told_once_wherever_a_crash_interrupts_it() {
    let scene = Scene::new();
    let process = scene.start(Ends::Nowhere).await;
    let recorded = Recorded::by(&process).await;
    assert_eq!(recorded.upload(&process, b"begun", false).await, Some(false));
    // The store takes nothing more.
    process.store.is_over.store(true, Relaxed);
    assert_eq!(recorded.upload(&process, b"begun, ended", true).await, None);
    drop(process);

    let process = scene.start(Ends::BeforeTheTrail).await;
    assert_eq!(recorded.times_told(&process).await, 0);
    assert_eq!(recorded.upload(&process, b"begun, ended", true).await, Some(true));
    drop(process);
    for _ in 0..2 {
        let process = scene.start(Ends::Nowhere).await;
        assert_eq!(recorded.upload(&process, b"begun, ended", true).await, Some(true));
        assert_eq!(recorded.times_told(&process).await, 1);
    }
}
