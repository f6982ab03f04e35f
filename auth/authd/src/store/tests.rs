use std::{sync::Arc, time::Duration};

use auth::clock::{Clock, ClockHandle};
use tempfile::TempDir;

use super::*;

fn open() -> (Arc<Sqlite>, ClockHandle, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let (clock, handle) = Clock::fixed(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
    (Arc::new(Sqlite::open(&directory.path().join("store"), clock).unwrap()), handle, directory)
}

fn put(key: &str, condition: Condition, value: &str) -> Op {
    Op::put(key.to_owned(), condition, &value).unwrap()
}

#[tokio::test]
async fn of_two_commits_on_one_revision_one_wins() {
    let (store, ..) = open();
    let revision = store.commit(vec![put("a", Condition::Absent, "0")]).await.unwrap();
    let (one, two) = tokio::join!(
        store.commit(vec![put("a", Condition::Revision(revision), "1")]),
        store.commit(vec![put("a", Condition::Revision(revision), "2")]),
    );
    assert!(one.is_ok() != two.is_ok());
}

#[tokio::test]
async fn a_commit_happens_whole_or_not_at_all() {
    let (store, ..) = open();
    store.commit(vec![put("there", Condition::Any, "x")]).await.unwrap();
    let refused =
        store.commit(vec![put("new", Condition::Any, "y"), put("there", Condition::Absent, "z")]).await;
    assert!(matches!(refused, Err(StoreError::Conflict { key }) if key == "there"));
    assert_eq!(store.get("new").await.unwrap(), None);
}

#[tokio::test]
async fn an_expired_item_is_absent_before_it_is_swept() {
    let (store, clock, _directory) = open();
    let until = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_010);
    store.commit(vec![Op::put_until("a".into(), Condition::Any, &1, Some(until)).unwrap()]).await.unwrap();
    assert!(store.get("a").await.unwrap().is_some());
    clock.set(until);
    assert!(store.get("a").await.unwrap().is_none());
    assert!(store.range(&["a".into()]).await.unwrap().items.is_empty());
    let mut watch = store.watch();
    store.sweep().await;
    let change = watch.recv().await.unwrap();
    assert_eq!((change.key.as_str(), change.value), ("a", None));
}

#[tokio::test]
async fn a_range_keeps_to_its_path() {
    let (store, ..) = open();
    for name in ["ab", "a/b", "a%"] {
        store.commit(vec![put(&key(&["x", name, "1"]), Condition::Absent, name)]).await.unwrap();
    }
    store.commit(vec![put(&key(&["x", "a", "b"]), Condition::Absent, "other")]).await.unwrap();
    let found: Vec<Stored<String>> = read_all(&*store, below(&["x", "a"])).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].value, "other");
    assert_eq!(last_part(&key(&["x", "a/%2F"])), "a/%2F");
}

#[tokio::test]
async fn watchers_hear_changes_in_the_order_of_commits() {
    let (store, ..) = open();
    let mut watch = store.watch();
    let writers = (0..50).map(|n| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.commit(vec![put(&format!("k{n}"), Condition::Any, "v")]).await })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap().unwrap();
    }
    let mut last = 0;
    for _ in 0..50 {
        let change = watch.recv().await.unwrap();
        assert!(change.revision > last);
        last = change.revision;
    }
}

#[tokio::test]
async fn what_was_committed_is_there_after_reopening_and_revisions_go_on() {
    let (store, _clock, directory) = open();
    let before = store.commit(vec![put("a", Condition::Absent, "1")]).await.unwrap();
    store.commit(vec![Op::delete("a".into(), Condition::Any), put("b", Condition::Any, "2")]).await.unwrap();
    drop(store);
    let store = Sqlite::open(&directory.path().join("store"), Clock::system()).unwrap();
    assert!(store.get("a").await.unwrap().is_none());
    assert_eq!(read::<String>(&store, "b").await.unwrap().unwrap().value, "2");
    assert!(store.commit(vec![put("a", Condition::Absent, "3")]).await.unwrap() > before + 1);
}
