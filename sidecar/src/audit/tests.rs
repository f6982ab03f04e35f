use std::{
    fs,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Instant,
};

use auth::clock::Clock;
use protocols::{Answer, Event, SqlState, Tap as _, Verdict};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::*;

const BOUND: u64 = 16 * 1024 * 1024;

fn subject() -> Subject {
    Subject {
        sid: Uuid::new_v4(),
        cluster_name: "example".to_owned(),
        server_id: "sidecar".to_owned(),
        user: Some("jerry".to_owned()),
        target: SubjectTarget::Database {
            db_service: "prod-pg".to_owned(),
            db_protocol: "postgres",
            db_uri: "localhost:5432".to_owned(),
            db_user: "app".to_owned(),
            db_name: Some("shop".to_owned()),
        },
        remote: "127.0.0.1:1".parse().unwrap(),
        with_mfa: None,
    }
}

fn open(data: &tempfile::TempDir, bound: u64) -> io::Result<(Audit, AuditSpool)> {
    Audit::open(data.path(), bound, IntCounter::new("failed", "failed").unwrap())
}

async fn begin(audit: &Audit) -> Result<Trail, AuditError> {
    let started = Started::new("access-prod".to_owned(), None);
    Trail::begin(audit, &Clock::system(), &subject(), &started, Parameters::Recorded).await
}

fn ending(reason: &'static str) -> Ending {
    Ending { reason, by_itself: true, bytes_from_client: 1, bytes_from_upstream: 2 }
}

fn on_disk(data_dir: &Path) -> Vec<Value> {
    super::on_disk(data_dir).iter().map(|json| serde_json::from_str(json).unwrap()).collect()
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_start_is_on_disk_before_the_session_may_begin() {
    let data = tempfile::tempdir().unwrap();
    let (audit, _spool) = open(&data, BOUND).unwrap();
    let trail = begin(&audit).await.unwrap();
    // As after kill -9: nothing is flushed, closed, or dropped.
    assert_eq!(names(&on_disk(data.path())), ["db.session.start"]);
    trail.end(&ending("client_closed")).await;
    assert_eq!(names(&on_disk(data.path())), ["db.session.start", "db.session.end"]);
}

#[tokio::test]
async fn queries_are_on_disk_before_the_end_and_numbered() {
    let data = tempfile::tempdir().unwrap();
    let (audit, _spool) = open(&data, BOUND).unwrap();
    let trail = begin(&audit).await.unwrap();
    let mut tap = trail.tap(None);
    for _ in 0..100 {
        tap.observe(Event::Query { text: b"select 1", cut: 0 }).await.unwrap();
    }
    drop(tap);
    trail.end(&ending("client_closed")).await;
    let events = on_disk(data.path());
    assert_eq!(events.len(), 102);
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["ei"], index);
    }
    assert_eq!(events[101]["reason"], "client_closed");
}

#[tokio::test]
async fn a_trail_that_is_dropped_ends_as_aborted() {
    let data = tempfile::tempdir().unwrap();
    let (audit, _spool) = open(&data, BOUND).unwrap();
    drop(begin(&audit).await.unwrap());
    audit.close().await;
    let events = on_disk(data.path());
    assert_eq!(names(&events), ["db.session.start", "db.session.end"]);
    assert_eq!(events[1]["reason"], "aborted");
}

#[tokio::test]
async fn a_panicking_session_ends_in_the_trail() {
    let data = tempfile::tempdir().unwrap();
    let (audit, _spool) = open(&data, BOUND).unwrap();
    let trail = begin(&audit).await.unwrap();
    let panicked = tokio::spawn(async move {
        let _trail = trail;
        panic!("a bug");
    });
    assert!(panicked.await.is_err());
    audit.close().await;
    assert_eq!(names(&on_disk(data.path())), ["db.session.start", "db.session.end"]);
}

#[tokio::test]
async fn a_disk_that_refuses_refuses_the_session_and_says_not_writable_until_it_recovers() {
    let data = tempfile::tempdir().unwrap();
    let (audit, _spool) = open(&data, BOUND).unwrap();
    let blocked = data.path().join("spool");
    fs::remove_dir_all(&blocked).unwrap();
    fs::write(&blocked, b"a file where the directory was").unwrap();
    assert!(matches!(begin(&audit).await, Err(AuditError::NotWritten)));
    assert!(!audit.is_writable());

    fs::remove_file(&blocked).unwrap();
    timeout(Duration::from_secs(10), async {
        while !audit.is_writable() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the writer tries again by itself");
    begin(&audit).await.unwrap();
}

#[tokio::test]
async fn live_sessions_hear_of_a_failed_disk() {
    let data = tempfile::tempdir().unwrap();
    let (audit, _spool) = open(&data, BOUND).unwrap();
    let live = begin(&audit).await.unwrap();
    let failed = live.failed();
    // The segment is open and goes on to take data; only a new one fails.
    audit.state.failures.send_modify(|failures| *failures += 1);
    timeout(Duration::from_secs(5), failed).await.expect("the session is told");
}

#[tokio::test]
async fn beyond_the_bound_no_session_starts_and_live_ones_go_on_for_a_while() {
    let data = tempfile::tempdir().unwrap();
    let (audit, _spool) = open(&data, 2000).unwrap();
    let trail = begin(&audit).await.unwrap();
    let mut tap = trail.tap(None);
    let text = [b'x'; 500];
    while audit.spool_bytes() <= 2000 {
        tap.observe(Event::Query { text: &text, cut: 0 }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(matches!(begin(&audit).await, Err(AuditError::Full { .. })));
    assert!(!audit.is_writable());
    loop {
        match tap.observe(Event::Query { text: &text, cut: 0 }).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(protocols::TapClosed) => break,
        }
        assert!(audit.spool_bytes() < 10_000, "a live session is bounded too");
    }
    assert_eq!(audit.failed.get(), 2, "the session that could not begin, and the statement");
    trail.end(&ending("audit_failed")).await;
    assert_eq!(names(&on_disk(data.path())).last(), Some(&"db.session.end"));
}

#[tokio::test]
async fn denials_have_no_part_in_what_is_kept_for_live_sessions() {
    let data = tempfile::tempdir().unwrap();
    let (audit, _spool) = open(&data, 20_000).unwrap();
    let trail = begin(&audit).await.unwrap();
    let denied = Denied::new("the certificate has expired", "expired", "x".repeat(500));
    let rejected = Rejected { reason: "max_connections limit reached", maximum: 2 };
    let clock = Clock::system();
    loop {
        match Trail::denied(&audit, &clock, &subject(), &denied).await {
            // What is queued is not on disk yet, and counts when it is.
            Ok(()) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => break assert!(matches!(error, AuditError::Full { bound: 20_000, .. }), "{error}"),
        }
    }
    assert!(Trail::rejected(&audit, &clock, &subject(), &rejected).await.is_err());
    assert!(audit.spool_bytes() < 25_000);
    let mut tap = trail.tap(None);
    assert_eq!(tap.observe(Event::Query { text: b"select 1", cut: 0 }).await, Ok(Verdict::Forward));
}

#[tokio::test]
async fn a_stopped_writer_closes_the_tap() {
    let data = tempfile::tempdir().unwrap();
    let (audit, _spool) = open(&data, BOUND).unwrap();
    let trail = begin(&audit).await.unwrap();
    audit.close().await;
    // The writer's thread has answered and is about to be gone.
    let mut tap = trail.tap(None);
    while tap.observe(Event::Query { text: b"select 1", cut: 0 }).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_session_that_says_nothing_hears_of_a_writer_that_is_gone_and_so_does_who_asks() {
    let data = tempfile::tempdir().unwrap();
    let (audit, _spool) = open(&data, BOUND).unwrap();
    let live = begin(&audit).await.unwrap();
    assert!(audit.is_writable());
    audit.close().await;
    timeout(Duration::from_secs(5), live.failed()).await.expect("the session is told");
    assert!(!audit.is_writable());
}

const READY: Answer<'static> = Answer::Ready { transaction: None };

#[tokio::test]
async fn a_statement_is_on_its_way_before_it_is_forwarded_and_its_result_names_it() {
    let data = tempfile::tempdir().unwrap();
    let (audit, _spool) = open(&data, BOUND).unwrap();
    let trail = begin(&audit).await.unwrap();
    let mut tap = trail.tap(None);
    let mut answers = tap.answers().unwrap();
    tap.observe(Event::Query { text: b"delete from t", cut: 0 }).await.unwrap();
    answers.answered(Answer::Completed { tag: b"DELETE 7" });
    answers.answered(READY);
    tap.observe(Event::Query { text: b"select 1/0", cut: 0 }).await.unwrap();
    answers.answered(Answer::Failed { sql_state: SqlState::parse(b"22012"), number: None });
    answers.answered(READY);
    trail.end(&ending("client_closed")).await;
    let events = on_disk(data.path());
    let (query, result) = ("db.session.query", "db.session.query.result");
    assert_eq!(names(&events)[1..], [query, result, query, result, "db.session.end"]);
    let deleted = &events[2];
    assert_eq!((&deleted["statement_ei"], &deleted["code"]), (&events[1]["ei"], &"TTS00I".into()));
    assert_eq!((&deleted["rows"], &deleted["command_tags"][0]), (&7.into(), &"DELETE 7".into()));
    assert_eq!(deleted["success"], true);
    assert!(deleted["duration_ms"].is_f64());
    let failed = &events[4];
    assert_eq!((&failed["statement_ei"], &failed["code"]), (&events[3]["ei"], &"TTS00W".into()));
    assert_eq!((&failed["success"], &failed["sql_state"]), (&false.into(), &"22012".into()));
}

#[tokio::test]
async fn a_result_that_finds_the_queue_full_is_owed_and_neither_waits_nor_is_lost() {
    let data = tempfile::tempdir().unwrap();
    let (audit, _spool) = open(&data, BOUND).unwrap();
    let trail = begin(&audit).await.unwrap();
    let mut tap = trail.tap(None);
    let mut answers = tap.answers().unwrap();
    let full = async || Arc::clone(&audit.space).acquire_many_owned(QUEUE_BYTES).await.unwrap();
    for _ in 0..2 {
        tap.observe(Event::Query { text: b"select 1", cut: 0 }).await.unwrap();
        let full = full().await;
        answers.answered(Answer::Completed { tag: b"SELECT 1" });
        answers.answered(READY);
        drop(full);
    }
    let _full = full().await;
    trail.end(&ending("client_closed")).await;
    let events = on_disk(data.path());
    let (query, result) = ("db.session.query", "db.session.query.result");
    assert_eq!(names(&events)[1..], [query, result, query, result, "db.session.end"]);
}

#[tokio::test]
async fn the_whole_of_a_text_that_was_cut_is_hashed_in_an_event_that_names_it() {
    let data = tempfile::tempdir().unwrap();
    let (audit, _spool) = open(&data, BOUND).unwrap();
    let trail = begin(&audit).await.unwrap();
    let mut tap = trail.tap(None);
    tap.observe(Event::Query { text: b"select 1", cut: 0 }).await.unwrap();
    tap.observe(Event::Parse { statement: b"s", text: b"select ", cut: 90 }).await.unwrap();
    tap.observe(Event::TextEnd { sha256: [0xab; 32], length: 90 }).await.unwrap();
    tap.observe(Event::Sync).await.unwrap();
    trail.end(&ending("client_closed")).await;
    let events = on_disk(data.path());
    assert_eq!(events[2]["db_query_cut"], true);
    let digest = &events[3];
    assert_eq!((&digest["event"], &digest["code"]), (&"db.session.query.digest".into(), &"TTS01I".into()));
    assert_eq!((&digest["statement_ei"], &digest["db_query_bytes"]), (&2.into(), &90.into()));
    assert_eq!(digest["db_query_sha256"], "ab".repeat(32));
    assert_eq!(events[4]["ei"], 4, "what is not recorded leaves no gap");
}

#[tokio::test]
async fn an_idle_session_ends_and_one_whose_statement_runs_does_not() {
    const LIMIT: Duration = Duration::from_millis(60);
    let data = tempfile::tempdir().unwrap();
    let (audit, _spool) = open(&data, BOUND).unwrap();
    let trail = begin(&audit).await.unwrap();
    let mut tap = trail.tap(None);
    let mut answers = tap.answers().unwrap();
    tap.observe(Event::Query { text: b"select pg_sleep(60)", cut: 0 }).await.unwrap();
    assert!(timeout(5 * LIMIT, trail.idle(LIMIT)).await.is_err(), "a statement runs");
    answers.answered(Answer::Completed { tag: b"SELECT 1" });
    assert!(timeout(5 * LIMIT, trail.idle(LIMIT)).await.is_err(), "its result is not complete");
    answers.answered(READY);
    let ready = Instant::now();
    timeout(Duration::from_secs(10), trail.idle(LIMIT)).await.unwrap();
    assert!(ready.elapsed() >= LIMIT);
}

#[tokio::test]
async fn a_session_in_the_middle_of_a_long_message_is_not_idle() {
    const LIMIT: Duration = Duration::from_millis(200);
    let data = tempfile::tempdir().unwrap();
    let (audit, _spool) = open(&data, BOUND).unwrap();
    let trail = begin(&audit).await.unwrap();
    let mut tap = trail.tap(None);
    // Of which no answer comes before its round ends.
    tap.observe(Event::Parse { statement: b"s", text: b"select ", cut: 900_000 }).await.unwrap();
    let idle = trail.idle(LIMIT);
    let sends = async {
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            tap.heard();
        }
    };
    tokio::select! {
        () = idle => panic!("it is ended while it sends"),
        () = sends => {}
    }
    timeout(Duration::from_secs(10), trail.idle(LIMIT)).await.unwrap();
}

/// An authd that remembers, and refuses when told to.
#[derive(Clone, Default)]
struct Remembering {
    taken: Arc<Mutex<Vec<(Uuid, u64, String)>>>,
    /// When it was called.
    calls: Arc<Mutex<Vec<Instant>>>,
    away: Arc<AtomicBool>,
    /// Refuses for good whatever holds one of these texts.
    poison: Arc<Mutex<Vec<&'static str>>>,
    /// Takes events in one piece only.
    old: Arc<AtomicBool>,
    /// How many came in two parts.
    in_parts: Arc<AtomicU64>,
}

impl Remembering {
    fn events(&self) -> Vec<String> {
        let taken = self.taken.lock().unwrap();
        let name =
            |json: &str| serde_json::from_str::<Value>(json).unwrap()["event"].as_str().unwrap().to_owned();
        taken.iter().map(|(_, _, json)| name(json)).collect()
    }

    async fn has(&self, count: usize) {
        timeout(Duration::from_secs(20), async {
            while self.taken.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("authd has only {:?}", self.events()));
    }
}

fn json(record: &Record) -> String {
    String::from_utf8(record.clone().whole().json.to_vec()).unwrap()
}

impl Uplink for Remembering {
    async fn emit(&self, spool: Uuid, records: Vec<Record>) -> Result<u64, EmitError> {
        self.calls.lock().unwrap().push(Instant::now());
        if self.away.load(Ordering::Acquire) {
            return Err(EmitError::Failed("away".into()));
        }
        let in_parts = records.iter().filter(|record| record.session.is_some()).count() as u64;
        if in_parts > 0 && self.old.load(Ordering::Acquire) {
            return Err(EmitError::Refused("an event is not an object, or too long".into()));
        }
        self.in_parts.fetch_add(in_parts, Ordering::AcqRel);
        // What the API takes at once.
        if records.iter().map(|record| record.json.len()).sum::<usize>() > 1024 * 1024 {
            return Err(EmitError::Failed("message length too large".into()));
        }
        let poison = self.poison.lock().unwrap().clone();
        if records.iter().any(|record| poison.iter().any(|text| json(record).contains(text))) {
            return Err(EmitError::Refused("not an event".into()));
        }
        let mut taken = self.taken.lock().unwrap();
        // As the real one: what it has, it drops.
        for record in &records {
            let known = taken.iter().any(|(id, sequence, _)| (*id, *sequence) == (spool, record.sequence));
            if !known {
                taken.push((spool, record.sequence, json(record)));
            }
        }
        Ok(records.last().unwrap().sequence)
    }
}

fn ship(spool: AuditSpool, uplink: &Remembering) -> (CancellationToken, tokio::task::JoinHandle<()>) {
    let stop = CancellationToken::new();
    let shipper = Shipper::new(spool, uplink.clone(), Arc::default());
    (stop.clone(), tokio::spawn(shipper.run(stop)))
}

#[tokio::test]
async fn what_a_killed_process_left_is_shipped_first_and_then_removed() {
    let data = tempfile::tempdir().unwrap();
    let (killed, spool_of_killed) = open(&data, BOUND).unwrap();
    std::mem::forget(begin(&killed).await.unwrap());
    drop(spool_of_killed);

    let (audit, spool) = open(&data, BOUND).unwrap();
    let uplink = Remembering::default();
    let (stop, shipper) = ship(spool, &uplink);
    begin(&audit).await.unwrap().end(&ending("client_closed")).await;
    uplink.has(3).await;
    assert_eq!(uplink.events(), ["db.session.start", "db.session.start", "db.session.end"]);
    assert_eq!(SpoolRoot::new(data.path()).list().unwrap().len(), 1, "the old spool is gone");
    stop.cancel();
    shipper.await.unwrap();
}

#[tokio::test]
async fn authd_may_be_away_and_nothing_is_lost_or_reordered() {
    let data = tempfile::tempdir().unwrap();
    let (audit, spool) = open(&data, BOUND).unwrap();
    let uplink = Remembering::default();
    uplink.away.store(true, Ordering::Release);
    let (stop, shipper) = ship(spool, &uplink);
    let trail = begin(&audit).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    uplink.away.store(false, Ordering::Release);
    trail.end(&ending("client_closed")).await;
    uplink.has(2).await;
    assert_eq!(uplink.events(), ["db.session.start", "db.session.end"]);
    stop.cancel();
    shipper.await.unwrap();
}

#[tokio::test]
async fn sessions_that_begin_in_quick_succession_are_no_call_each() {
    let data = tempfile::tempdir().unwrap();
    let (audit, spool) = open(&data, BOUND).unwrap();
    let uplink = Remembering::default();
    let (stop, shipper) = ship(spool, &uplink);
    let mut trails = Vec::new();
    for _ in 0..30 {
        trails.push(begin(&audit).await.unwrap());
    }
    uplink.has(30).await;
    stop.cancel();
    shipper.await.unwrap();
    let calls = uplink.calls.lock().unwrap().clone();
    for (earlier, later) in calls.iter().zip(&calls[1..]) {
        assert!(later.duration_since(*earlier) >= shipper::PACE, "{calls:?}");
    }
}

#[tokio::test]
async fn what_waits_for_its_turn_is_sent_when_the_shipper_stops() {
    let data = tempfile::tempdir().unwrap();
    let (audit, spool) = open(&data, BOUND).unwrap();
    let uplink = Remembering::default();
    let (stop, shipper) = ship(spool, &uplink);
    let trail = begin(&audit).await.unwrap();
    uplink.has(1).await;
    trail.end(&ending("client_closed")).await;
    stop.cancel();
    shipper.await.unwrap();
    assert_eq!(uplink.events(), ["db.session.start", "db.session.end"]);
}

/// The queries that authd has, in its order.
fn queries(uplink: &Remembering) -> Vec<String> {
    let taken = uplink.taken.lock().unwrap();
    let events = taken.iter().map(|(_, _, json)| serde_json::from_str::<Value>(json).unwrap());
    events.filter_map(|event| Some(event["db_query"].as_str()?.to_owned())).collect()
}

#[tokio::test]
async fn events_that_authd_refuses_for_good_are_set_aside_and_the_rest_goes_on_in_order() {
    let data = tempfile::tempdir().unwrap();
    let (audit, spool) = open(&data, BOUND).unwrap();
    let uplink = Remembering::default();
    *uplink.poison.lock().unwrap() = vec!["query 7\"", "query 8\"", "query 39\""];
    let trail = begin(&audit).await.unwrap();
    let mut tap = trail.tap(None);
    for number in 0..40 {
        let text = format!("query {number}");
        tap.observe(Event::Query { text: text.as_bytes(), cut: 0 }).await.unwrap();
    }
    trail.end(&ending("client_closed")).await;
    let rejected = rejected::path(SpoolRoot::new(data.path()).path());
    let shipped: Arc<Shipped> = Arc::default();
    let stop = CancellationToken::new();
    let shipper = Shipper::new(spool, uplink.clone(), Arc::clone(&shipped));
    let shipper = tokio::spawn(shipper.run(stop.clone()));
    uplink.has(39).await;
    let expected: Vec<_> = (0..40)
        .filter(|number| ![7, 8, 39].contains(number))
        .map(|number| format!("query {number}"))
        .collect();
    assert_eq!(queries(&uplink), expected);
    let aside = fs::read_to_string(rejected).unwrap();
    let lines: Vec<_> = aside.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].contains("query 7") && lines[1].contains("query 8") && lines[2].contains("query 39"));
    assert_eq!((shipped.rejected.load(Ordering::Acquire), shipped.failures.load(Ordering::Acquire)), (3, 0));
    stop.cancel();
    shipper.await.unwrap();
}

/// Forty queries of two sessions, to an authd of either kind.
async fn two_sessions_to(uplink: &Remembering) {
    let data = tempfile::tempdir().unwrap();
    let (audit, spool) = open(&data, BOUND).unwrap();
    let olga = Subject { user: Some("olga".to_owned()), ..subject() };
    let started = Started::new("access-prod".to_owned(), None);
    let trails = [
        begin(&audit).await.unwrap(),
        Trail::begin(&audit, &Clock::system(), &olga, &started, Parameters::Recorded).await.unwrap(),
    ];
    let mut taps = [trails[0].tap(None), trails[1].tap(None)];
    for number in 0..20 {
        for (tap, user) in taps.iter_mut().zip(["jerry", "olga"]) {
            let text = format!("{user} {number}");
            tap.observe(Event::Query { text: text.as_bytes(), cut: 0 }).await.unwrap();
        }
    }
    drop(taps);
    let (stop, shipper) = ship(spool, uplink);
    for trail in trails {
        trail.end(&ending("client_closed")).await;
    }
    uplink.has(44).await;
    stop.cancel();
    shipper.await.unwrap();
    let mut seen = 0;
    for (_, _, json) in &*uplink.taken.lock().unwrap() {
        let event: Value = serde_json::from_str(json).unwrap();
        assert_eq!(
            (event["db_service"].as_str(), event["sid"].is_string()),
            (Some("prod-pg"), true),
            "{event}"
        );
        if let Some(text) = event["db_query"].as_str() {
            assert_eq!(text.split(' ').next(), event["user"].as_str());
            seen += 1;
        }
    }
    assert_eq!(seen, 40);
}

#[tokio::test]
async fn each_event_is_its_own_session_s_with_what_they_have_in_common_sent_apart() {
    let uplink = Remembering::default();
    two_sessions_to(&uplink).await;
    assert_eq!(uplink.in_parts.load(Ordering::Acquire), 40);
}

#[tokio::test]
async fn an_authd_that_takes_events_in_one_piece_only_is_sent_them_so() {
    let uplink = Remembering::default();
    uplink.old.store(true, Ordering::Release);
    two_sessions_to(&uplink).await;
    assert_eq!(uplink.in_parts.load(Ordering::Acquire), 0);
}

#[tokio::test]
async fn in_one_piece_a_batch_is_no_longer_than_a_request_may_be() {
    let data = tempfile::tempdir().unwrap();
    let (audit, spool) = open(&data, BOUND).unwrap();
    let trail = begin(&audit).await.unwrap();
    let mut tap = trail.tap(None);
    for _ in 0..4_000 {
        tap.observe(Event::Query { text: b"select 1", cut: 0 }).await.unwrap();
    }
    drop(tap);
    trail.end(&ending("client_closed")).await;
    let uplink = Remembering::default();
    uplink.old.store(true, Ordering::Release);
    let (stop, shipper) = ship(spool, &uplink);
    uplink.has(4_002).await;
    let taken = uplink.taken.lock().unwrap().iter().map(|(_, _, json)| json.len()).sum::<usize>();
    assert!(taken > 1024 * 1024, "{taken}: no batch was too long");
    stop.cancel();
    shipper.await.unwrap();
}

#[tokio::test]
async fn when_no_more_can_be_set_aside_nothing_is_skipped() {
    let data = tempfile::tempdir().unwrap();
    let (audit, spool) = open(&data, BOUND).unwrap();
    let rejected = rejected::path(SpoolRoot::new(data.path()).path());
    fs::File::create(&rejected).unwrap().set_len(rejected::MAX_REJECTED_BYTES).unwrap();
    let uplink = Remembering::default();
    uplink.poison.lock().unwrap().push("the bad one");
    let trail = begin(&audit).await.unwrap();
    trail.tap(None).observe(Event::Query { text: b"the bad one", cut: 0 }).await.unwrap();
    trail.end(&ending("client_closed")).await;
    let (stop, shipper) = ship(spool, &uplink);
    uplink.has(1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(uplink.events(), ["db.session.start"]);
    // authd has been mended.
    uplink.poison.lock().unwrap().clear();
    uplink.has(3).await;
    assert_eq!(uplink.events(), ["db.session.start", "db.session.query", "db.session.end"]);
    stop.cancel();
    shipper.await.unwrap();
}

#[tokio::test]
async fn full_segments_are_removed_once_authd_has_them() {
    let data = tempfile::tempdir().unwrap();
    let (audit, spool) = open(&data, 64 * 1024 * 1024).unwrap();
    let uplink = Remembering::default();
    let (stop, shipper) = ship(spool, &uplink);
    let trail = begin(&audit).await.unwrap();
    let mut tap = trail.tap(None);
    let text = vec![b'x'; 64 * 1024];
    for _ in 0..200 {
        tap.observe(Event::Query { text: &text, cut: 0 }).await.unwrap();
    }
    drop(tap);
    trail.end(&ending("client_closed")).await;
    uplink.has(202).await;
    timeout(Duration::from_secs(10), async {
        while audit.spool_bytes() > 6 * 1024 * 1024 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("13 MB were written, at most the last segments stay");
    stop.cancel();
    shipper.await.unwrap();
}

#[tokio::test]
async fn many_sessions_share_their_syncs() {
    let data = tempfile::tempdir().unwrap();
    let (audit, _spool) = open(&data, BOUND).unwrap();
    let sessions: Vec<_> = (0..200)
        .map(|_| {
            let audit = audit.clone();
            tokio::spawn(async move { begin(&audit).await.unwrap().end(&ending("client_closed")).await })
        })
        .collect();
    for session in sessions {
        session.await.unwrap();
    }
    assert_eq!(on_disk(data.path()).len(), 400);
}

#[tokio::test]
async fn a_user_who_fills_the_spool_is_held_up_and_others_are_not() {
    let data = tempfile::tempdir().unwrap();
    let (audit, _spool) = open(&data, BOUND).unwrap();
    let trail = begin(&audit).await.unwrap();
    let mut tap = trail.tap(None);
    let text = [b'x'; 60_000];
    let query = || Event::Query { text: &text, cut: 0 };
    // Authd is away: nothing is shipped. What is on its way to the disk counts for more than it will take there, and for a
    // moment twice: that is over in less than a second.
    while timeout(Duration::from_secs(1), tap.observe(query())).await.is_ok() {
        assert!(audit.spool_bytes() < BOUND);
    }
    assert!(matches!(begin(&audit).await, Err(AuditError::Share { .. })));
    assert!(audit.is_writable());
    let started = Started::new("access-prod".to_owned(), None);
    let olga = Subject { user: Some("olga".to_owned()), ..subject() };
    let other = Trail::begin(&audit, &Clock::system(), &olga, &started, Parameters::Recorded).await.unwrap();
    assert_eq!(other.tap(None).observe(query()).await, Ok(Verdict::Forward));

    let held = timeout(Duration::from_millis(100), tap.observe(query())).await;
    assert!(held.is_err(), "it waits");
    audit.state.bytes.fetch_sub(2 * 1024 * 1024, Ordering::AcqRel);
    assert_eq!(tap.observe(query()).await, Ok(Verdict::Forward));
}
