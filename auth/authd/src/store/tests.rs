use std::{sync::Arc, time::Duration};

use auth::clock::{Clock, ClockHandle};
use tempfile::TempDir;

use super::*;
use crate::under_way::UnderWay;

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

/// A path that is kept in memory, and one that is not.
const PATHS: [&str; 2] = ["device/", "elsewhere/"];

#[tokio::test]
async fn what_is_in_memory_is_what_is_in_the_file() {
    let (store, clock, directory) = open();
    let until = SystemTime::UNIX_EPOCH + Duration::new(1_000_010, 123_456_789);
    for path in PATHS {
        let at = |name: &str| format!("{path}{name}");
        let expiring = Op::put_until(at("expiring"), Condition::Any, &1, Some(until)).unwrap();
        store.commit(vec![put(&at("a"), Condition::Absent, "1"), expiring]).await.unwrap();
        store.commit(vec![put(&at("b"), Condition::Absent, "2")]).await.unwrap();
        store.commit(vec![put(&at("a"), Condition::Present, "3")]).await.unwrap();
        store.commit(vec![Op::delete(at("b"), Condition::Present)]).await.unwrap();
    }
    let all = async |store: &Sqlite, path: &str| store.range(&[path.to_owned()]).await.unwrap().items;
    for path in PATHS {
        let items = all(&store, path).await;
        let keys: Vec<_> = items.iter().map(|item| item.key.strip_prefix(path).unwrap()).collect();
        assert_eq!(keys, ["a", "expiring"]);
        for item in &items {
            assert_eq!(store.get(&item.key).await.unwrap().as_ref(), Some(item));
        }
        let (fixed, _) = Clock::fixed(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
        let again = Sqlite::open(&directory.path().join("store"), fixed).unwrap();
        assert_eq!(all(&again, path).await, items);
        clock.set(until);
        assert_eq!(all(&store, path).await.len(), 1);
        clock.set(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
    }
}

#[tokio::test]
async fn a_commit_that_conflicts_changes_nothing_in_memory_and_is_told_to_nobody() {
    let (store, ..) = open();
    store.commit(vec![put("device/a", Condition::Any, "1")]).await.unwrap();
    let before = store.get("device/a").await.unwrap();
    let mut watch = store.watch();
    let refused = store
        .commit(vec![put("device/a", Condition::Any, "2"), put("device/b", Condition::Present, "2")])
        .await;
    assert!(matches!(refused, Err(StoreError::Conflict { key }) if key == "device/b"));
    assert_eq!(store.get("device/a").await.unwrap(), before);
    assert_eq!(store.get("device/b").await.unwrap(), None);
    assert!(watch.try_recv().is_err());
}

#[tokio::test]
async fn commits_of_one_transaction_see_each_other() {
    let (store, ..) = open();
    // Of the file, of memory alone, and of both.
    let ops = |n: u64| match n % 3 {
        0 => vec![Op::delete("device/a".into(), Condition::Present)],
        1 => vec![Op::delete("challenge/a".into(), Condition::Present)],
        _ => ["device/a", "challenge/a"].map(|key| Op::delete(key.into(), Condition::Present)).into(),
    };
    let spend = |n: u64| {
        let store = Arc::clone(&store);
        let ops = ops(n);
        tokio::spawn(async move { store.commit(ops).await })
    };
    for key in ["device/a", "challenge/a"] {
        store.commit(vec![put(key, Condition::Absent, "1")]).await.unwrap();
    }
    let mut spent = 0;
    for task in (0..40).map(spend).collect::<Vec<_>>() {
        spent += usize::from(task.await.unwrap().is_ok());
    }
    // One of both, or one of each.
    assert!((1..=2).contains(&spent), "{spent}");
    assert!(
        store.get("device/a").await.unwrap().is_none() && store.get("challenge/a").await.unwrap().is_none()
    );
}

#[tokio::test]
async fn what_does_not_last_is_read_like_the_rest_and_gone_with_the_process() {
    let (store, clock, directory) = open();
    let mut watch = store.watch();
    let until = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_010);
    let challenge = Op::put_until("challenge/jerry/1".into(), Condition::Absent, &1, Some(until)).unwrap();
    store.commit(vec![challenge]).await.unwrap();
    assert!(watch.try_recv().is_err(), "told to nobody");
    store.commit(vec![put("device/jerry/1", Condition::Absent, "1")]).await.unwrap();
    let prefixes = ["device/jerry/", "challenge/jerry/"].map(str::to_owned);
    let there = async |store: &Sqlite| -> Vec<_> {
        let range = store.range(&prefixes).await.unwrap();
        range.items.into_iter().map(|item| item.key).collect()
    };
    assert_eq!(there(&store).await, ["device/jerry/1", "challenge/jerry/1"]);
    assert!(store.get("challenge/jerry/1").await.unwrap().is_some());
    let again = Sqlite::open(&directory.path().join("store"), Clock::system()).unwrap();
    assert_eq!(there(&again).await, ["device/jerry/1"]);
    clock.set(until);
    assert_eq!(there(&store).await, ["device/jerry/1"]);
}

#[tokio::test]
async fn what_somebody_else_wrote_is_seen_after_a_sweep() {
    let (store, _clock, directory) = open();
    store.commit(vec![put("resource/lock/l", Condition::Any, "old")]).await.unwrap();
    let other = Sqlite::open(&directory.path().join("store"), Clock::system()).unwrap();
    let theirs = other.commit(vec![put("resource/lock/l", Condition::Any, "new")]).await.unwrap();
    store.sweep().await;
    // The thread that sweeps answers in the order of what it was asked.
    let mine = store.commit(vec![put("device/a", Condition::Any, "1")]).await.unwrap();
    assert!(mine > theirs);
    assert_eq!(read::<String>(&*store, "resource/lock/l").await.unwrap().unwrap().value, "new");
}

/// Which of these keys are in the store.
async fn there(store: &dyn Store, keys: &[&str]) -> Vec<bool> {
    let mut there = Vec::new();
    for key in keys {
        there.push(store.get(key).await.unwrap().is_some());
    }
    there
}

#[tokio::test]
async fn what_is_to_be_told_is_heard_of_in_the_order_of_commits_and_by_no_watcher() {
    let (store, ..) = open();
    let (mut outbox, mut watcher) = (store.outbox(), store.watch());
    for (n, item) in ["outbox/b", "outbox/c", "outbox/a"].into_iter().enumerate() {
        let change = vec![put(&format!("x{n}"), Condition::Absent, "1"), put(item, Condition::Absent, "2")];
        store.commit(change).await.unwrap();
        // At once: whoever knows of the commit finds it there.
        assert_eq!(outbox.try_recv().unwrap().key, item);
        assert_eq!(watcher.try_recv().unwrap().key, format!("x{n}"));
    }
    let conflict = vec![put("x0", Condition::Absent, "1"), put("outbox/d", Condition::Absent, "2")];
    store.commit(conflict).await.unwrap_err();
    assert!(outbox.try_recv().is_err() && watcher.try_recv().is_err());
    let items = store.range(&["outbox/".to_owned()]).await.unwrap().items;
    assert_eq!(items.len(), 3);
}

#[tokio::test]
async fn what_was_told_goes_with_the_next_commit_or_the_next_sweep() {
    let (store, ..) = open();
    let keys = ["outbox/a", "outbox/b", "outbox/c"];
    let all = keys.map(|key| put(key, Condition::Absent, "1"));
    let revision = store.commit(all.into()).await.unwrap();
    let mut watcher = store.watch();
    store.discard(vec![keys[0].to_owned()]);
    store.commit(vec![put(keys[1], Condition::Absent, "2")]).await.unwrap_err();
    assert_eq!(there(&*store, &keys).await, [true; 3], "a conflict commits nothing");
    assert_eq!(store.commit(vec![put("x", Condition::Any, "1")]).await.unwrap(), revision + 1);
    assert_eq!(there(&*store, &keys).await, [false, true, true]);
    store.discard(vec![keys[2].to_owned()]);
    store.sweep().await;
    // Behind the sweep in the queue.
    store.commit(vec![put("x", Condition::Absent, "1")]).await.unwrap_err();
    assert_eq!(there(&*store, &keys).await, [false, true, false]);
    assert_eq!(watcher.try_recv().unwrap().key, "x");
    assert!(watcher.try_recv().is_err());
}

/// Transactions in the log beside the file: the last frame of each tells the size of the file, no other does
/// (sqlite.org/fileformat2.html, "WAL File Format").
fn transactions(directory: &TempDir) -> usize {
    let log = std::fs::read(directory.path().join("store-wal")).unwrap();
    let page = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    log[32..].chunks_exact(24 + page).filter(|frame| frame[4..8] != [0; 4]).count()
}

#[tokio::test]
async fn commits_of_calls_under_way_together_are_one_transaction_and_answered_after_it() {
    let directory = tempfile::tempdir().unwrap();
    // Whatever ends the wait, it is not the time.
    let under_way = UnderWay::waiting_at_most(Duration::from_secs(24 * 60 * 60));
    let path = directory.path().join("store");
    let store = Sqlite::open_for(under_way.clone(), &path, Clock::system()).unwrap();
    let first = under_way.begin().await;
    let before = transactions(&directory);
    store.commit(vec![put("alone", Condition::Absent, "1")]).await.unwrap();
    assert_eq!(transactions(&directory), before + 1);
    let others = (under_way.begin().await, under_way.begin().await);
    let mut commits = ["a", "b", "c"].map(|key| Some(store.commit(vec![put(key, Condition::Absent, "1")])));
    for commit in &mut commits[..2] {
        assert!(futures_util::poll!(commit.as_mut().unwrap()).is_pending());
    }
    assert_eq!(transactions(&directory), before + 1, "one is on its way");
    for commit in commits.iter_mut().rev() {
        commit.take().unwrap().await.unwrap();
    }
    assert_eq!(transactions(&directory), before + 2);
    drop((first, others));
}
