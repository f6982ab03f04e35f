use std::{
    fs,
    sync::{Mutex, atomic::AtomicBool},
};

use auth::clock::Clock;
use protocols::{Event, Tap as _};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::*;

const BOUND: u64 = 16 * 1024 * 1024;

fn subject() -> Subject {
    Subject {
        sid: Uuid::nil(),
        cluster_name: "example".to_owned(),
        server_id: "sidecar".to_owned(),
        user: Some("jerry".to_owned()),
        db_service: "prod-pg".to_owned(),
        db_protocol: "postgres",
        db_uri: "localhost:5432".to_owned(),
        db_user: "app".to_owned(),
        db_name: Some("shop".to_owned()),
        remote: "127.0.0.1:1".parse().unwrap(),
        with_mfa: None,
    }
}

async fn begin(audit: &Audit) -> Result<Trail, AuditError> {
    Trail::begin(audit, &Clock::system(), &subject(), "access-prod".to_owned(), None).await
}

fn ending(reason: &'static str) -> Ending {
    Ending { reason, bytes_from_client: 1, bytes_from_upstream: 2 }
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
    let (audit, _spool) = Audit::open(data.path(), BOUND).unwrap();
    let trail = begin(&audit).await.unwrap();
    // As after kill -9: nothing is flushed, closed, or dropped.
    assert_eq!(names(&on_disk(data.path())), ["db.session.start"]);
    trail.end(&ending("client_closed")).await;
    assert_eq!(names(&on_disk(data.path())), ["db.session.start", "db.session.end"]);
}

#[tokio::test]
async fn queries_are_on_disk_before_the_end_and_numbered() {
    let data = tempfile::tempdir().unwrap();
    let (audit, _spool) = Audit::open(data.path(), BOUND).unwrap();
    let trail = begin(&audit).await.unwrap();
    let mut tap = trail.tap();
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
    let (audit, _spool) = Audit::open(data.path(), BOUND).unwrap();
    drop(begin(&audit).await.unwrap());
    audit.close().await;
    let events = on_disk(data.path());
    assert_eq!(names(&events), ["db.session.start", "db.session.end"]);
    assert_eq!(events[1]["reason"], "aborted");
}

#[tokio::test]
async fn a_panicking_session_ends_in_the_trail() {
    let data = tempfile::tempdir().unwrap();
    let (audit, _spool) = Audit::open(data.path(), BOUND).unwrap();
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
    let (audit, _spool) = Audit::open(data.path(), BOUND).unwrap();
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
    let (audit, _spool) = Audit::open(data.path(), BOUND).unwrap();
    let live = begin(&audit).await.unwrap();
    let failed = live.failed();
    // The segment is open and goes on to take data; only a new one fails.
    audit.state.failures.send_modify(|failures| *failures += 1);
    timeout(Duration::from_secs(5), failed).await.expect("the session is told");
}

#[tokio::test]
async fn beyond_the_bound_no_session_starts_and_live_ones_go_on_for_a_while() {
    let data = tempfile::tempdir().unwrap();
    let (audit, _spool) = Audit::open(data.path(), 2000).unwrap();
    let trail = begin(&audit).await.unwrap();
    let mut tap = trail.tap();
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
    trail.end(&ending("audit_failed")).await;
    assert_eq!(names(&on_disk(data.path())).last(), Some(&"db.session.end"));
}

#[tokio::test]
async fn a_stopped_writer_closes_the_tap() {
    let data = tempfile::tempdir().unwrap();
    let (audit, _spool) = Audit::open(data.path(), BOUND).unwrap();
    let trail = begin(&audit).await.unwrap();
    audit.close().await;
    // The writer's thread has answered and is about to be gone.
    let mut tap = trail.tap();
    while tap.observe(Event::Query { text: b"select 1", cut: 0 }).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn denials_of_strangers_are_bounded_in_rate() {
    let bucket = Bucket::new();
    let taken = (0..1000).filter(|_| bucket.take()).count() as u64;
    assert!((UNKNOWN_BURST..UNKNOWN_BURST + 20).contains(&taken), "{taken}");
}

/// An authd that remembers, and refuses when told to.
#[derive(Clone, Default)]
struct Remembering {
    taken: Arc<Mutex<Vec<(Uuid, u64, String)>>>,
    away: Arc<AtomicBool>,
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

impl Uplink for Remembering {
    async fn emit(
        &self,
        spool: Uuid,
        records: Vec<Record>,
    ) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
        if self.away.load(Ordering::Acquire) {
            return Err("away".into());
        }
        let mut taken = self.taken.lock().unwrap();
        // As the real one: what it has, it drops.
        for record in &records {
            let known = taken.iter().any(|(id, sequence, _)| (*id, *sequence) == (spool, record.sequence));
            if !known {
                taken.push((spool, record.sequence, record.json.clone()));
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
    let (killed, spool_of_killed) = Audit::open(data.path(), BOUND).unwrap();
    std::mem::forget(begin(&killed).await.unwrap());
    drop(spool_of_killed);

    let (audit, spool) = Audit::open(data.path(), BOUND).unwrap();
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
    let (audit, spool) = Audit::open(data.path(), BOUND).unwrap();
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
async fn full_segments_are_removed_once_authd_has_them() {
    let data = tempfile::tempdir().unwrap();
    let (audit, spool) = Audit::open(data.path(), 64 * 1024 * 1024).unwrap();
    let uplink = Remembering::default();
    let (stop, shipper) = ship(spool, &uplink);
    let trail = begin(&audit).await.unwrap();
    let mut tap = trail.tap();
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
    let (audit, _spool) = Audit::open(data.path(), BOUND).unwrap();
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
