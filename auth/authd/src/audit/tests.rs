use std::{io::Write, time::Duration};

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::store::Sqlite;

const DAY: u64 = 1_700_000_000;

struct Trail {
    log: AuditLog,
    directory: TempDir,
}

async fn open_in(directory: TempDir) -> Trail {
    open_for(UnderWay::default(), directory).await
}

async fn open_for(under_way: UnderWay, directory: TempDir) -> Trail {
    let (clock, _handle) = Clock::fixed(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(DAY));
    let store = Arc::new(Sqlite::open(&directory.path().join("store"), clock.clone()).unwrap());
    let log = AuditLog::open(&directory.path().join("log"), store, clock, "main", under_way).await.unwrap();
    Trail { log, directory }
}

async fn open() -> Trail {
    open_in(tempfile::tempdir().unwrap()).await
}

impl Trail {
    async fn send(&self, spool: Uuid, sequences: impl IntoIterator<Item = u64>) {
        let mut lines = Lines::of(SpoolId { sidecar: Uuid::nil(), spool });
        for sequence in sequences {
            let event = json!({"event": "db.session.query", "time": "2023-11-14T22:13:20Z", "n": sequence});
            lines.push(sequence, event.to_string().as_bytes(), None, "main").unwrap();
        }
        self.log.append(lines).await.unwrap();
    }

    async fn numbers(&self) -> Vec<u64> {
        let query = Query { since: None, limit: 1000, event: Some("db.session.query".into()) };
        let lines = self.log.list(query).await.unwrap();
        lines.iter().map(|l| serde_json::from_str::<Value>(l).unwrap()["n"].as_u64().unwrap()).collect()
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("log/2023-11-14.log")
    }
}

#[tokio::test]
async fn an_event_sent_twice_is_there_once() {
    let trail = open().await;
    let spool = Uuid::new_v4();
    trail.send(spool, [1, 2, 3]).await;
    trail.send(spool, [2, 3, 4]).await;
    trail.send(Uuid::new_v4(), [1]).await;
    assert_eq!(trail.numbers().await, [1, 2, 3, 4, 1]);
}

#[tokio::test]
async fn an_event_sent_again_after_a_restart_is_there_once() {
    let trail = open().await;
    let spool = Uuid::new_v4();
    trail.send(spool, [1, 2]).await;
    let trail = open_in(trail.directory).await;
    trail.send(spool, [1, 2, 3]).await;
    assert_eq!(trail.numbers().await, [1, 2, 3]);
}

#[tokio::test]
async fn lines_written_after_the_last_checkpoint_are_recognised() {
    let trail = open().await;
    let spool = Uuid::new_v4();
    trail.send(spool, [1]).await;
    // What a crash after fsync, before the commit, leaves.
    let line = json!({"event": "db.session.query", "time": "2023-11-14T22:13:20Z", "n": 2,
        "server_id": Uuid::nil(), "spool": format!("{spool}/2")});
    let mut file = std::fs::OpenOptions::new().append(true).open(trail.file()).unwrap();
    writeln!(file, "{line}").unwrap();
    let trail = open_in(trail.directory).await;
    trail.send(spool, [2, 3]).await;
    assert_eq!(trail.numbers().await, [1, 2, 3]);
}

/// Pages of a file reach the disk in any order.
#[tokio::test]
async fn what_a_power_cut_took_out_of_the_middle_of_a_write_is_taken_again() {
    let trail = open().await;
    let spool = Uuid::new_v4();
    trail.send(spool, [1]).await;
    // The second line is gone, the third is there.
    let line = json!({"event": "db.session.query", "time": "2023-11-14T22:13:20Z", "n": 3,
        "server_id": Uuid::nil(), "spool": format!("{spool}/3")});
    let mut file = std::fs::OpenOptions::new().append(true).open(trail.file()).unwrap();
    file.write_all(&[0; 100]).unwrap();
    writeln!(file, "\n{line}").unwrap();
    let trail = open_in(trail.directory).await;
    trail.send(spool, [2, 3, 4]).await;
    assert_eq!(trail.numbers().await, [1, 3, 2, 3, 4]);
}

#[tokio::test]
async fn an_unfinished_last_line_is_cut_off() {
    let trail = open().await;
    let spool = Uuid::new_v4();
    trail.send(spool, [1]).await;
    let whole = std::fs::read(trail.file()).unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(trail.file()).unwrap();
    file.write_all(br#"{"event":"db.session.query","n":2,"spo"#).unwrap();
    let trail = open_in(trail.directory).await;
    assert_eq!(std::fs::read(trail.file()).unwrap(), whole);
    trail.send(spool, [2]).await;
    assert_eq!(trail.numbers().await, [1, 2]);
}

#[tokio::test]
async fn a_long_line_and_what_follows_it_are_kept_across_a_restart() {
    let trail = open().await;
    let long = json!({"event": "cert.create", "traits": "x".repeat(3 * MAX_LINE)});
    trail.log.emit(long).await.unwrap();
    trail.log.emit(json!({"event": "user.login"})).await.unwrap();
    let whole = std::fs::read(trail.file()).unwrap();
    let trail = open_in(trail.directory).await;
    assert_eq!(std::fs::read(trail.file()).unwrap(), whole);
}

#[tokio::test]
async fn an_event_whose_name_is_escaped_is_listed_all_the_same() {
    let trail = open().await;
    let event = json!({"event": "db.\"quoted\"", "time": "2023-11-14T22:13:20.001Z"});
    let Value::Object(event) = event else { unreachable!() };
    let mut lines = Lines::own();
    lines.push_own(event);
    trail.log.append(lines).await.unwrap();
    let query = Query { since: None, limit: 10, event: Some("db.\"quoted\"".into()) };
    assert_eq!(trail.log.list(query).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_listing_is_the_newest_oldest_first() {
    let trail = open().await;
    trail.send(Uuid::new_v4(), 1..=10).await;
    let query = Query { since: None, limit: 2, event: None };
    let lines = trail.log.list(query).await.unwrap();
    assert!(lines[0].contains(r#""n":9"#) && lines[1].contains(r#""n":10"#));
    let later = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(DAY + 1);
    let query = Query { since: Some(later), limit: 2, event: None };
    assert!(trail.log.list(query).await.unwrap().is_empty());
}

#[tokio::test]
async fn events_of_calls_under_way_together_wait_for_each_other() {
    // Whatever ends the wait, it is not the time.
    let under_way = UnderWay::waiting_at_most(Duration::from_secs(24 * 60 * 60));
    let trail = open_for(under_way.clone(), tempfile::tempdir().unwrap()).await;
    let event = |name: &str| json!({"event": "user.login", "code": "T1000I", "user": name});
    let written = || std::fs::read_to_string(trail.file()).unwrap_or_default().lines().count();
    let call = under_way.begin().await;
    trail.log.emit(event("alone")).await.unwrap();
    assert_eq!(written(), 1);
    let other = under_way.begin().await;
    let mut first = Box::pin(trail.log.emit_all(vec![event("a"), event("b")]));
    assert!(futures_util::poll!(&mut first).is_pending());
    assert_eq!(written(), 1, "another is on its way");
    trail.log.emit(event("c")).await.unwrap();
    first.await.unwrap();
    let query = Query { since: None, limit: 10, event: None };
    let lines = trail.log.list(query).await.unwrap();
    let users: Vec<_> =
        lines.iter().map(|l| serde_json::from_str::<Value>(l).unwrap()["user"].clone()).collect();
    assert_eq!(users, ["alone", "a", "b", "c"]);
    drop((call, other));
}
