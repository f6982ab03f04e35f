use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Mutex, atomic::Ordering},
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::*;

const BOUND: u64 = 16 * 1024 * 1024;

fn of() -> Of {
    let (user, login, target_name) = ("jerry".to_owned(), "root".to_owned(), "prod-web".to_owned());
    Of { user, login, target_name, started: 1_700_000_000_123 }
}

fn screen() -> Screen {
    Screen { term: "xterm".to_owned(), size: Size::new(80, 24) }
}

/// An authd that keeps recordings, and may be away.
#[derive(Clone, Default)]
struct Archive(Arc<Shelf>);

#[derive(Default)]
struct Shelf {
    kept: Mutex<BTreeMap<Uuid, (Vec<u8>, bool)>>,
    changed: Notify,
    away: std::sync::atomic::AtomicBool,
    refuses: std::sync::atomic::AtomicBool,
    of: Mutex<Vec<Of>>,
}

impl Archive {
    fn away(&self, away: bool) {
        self.0.away.store(away, Ordering::SeqCst);
    }

    async fn until<T>(&self, mut look: impl FnMut(&BTreeMap<Uuid, (Vec<u8>, bool)>) -> Option<T>) -> T {
        timeout(Duration::from_secs(20), async {
            loop {
                let changed = self.0.changed.notified();
                if let Some(found) = look(&self.0.kept.lock().unwrap()) {
                    return found;
                }
                changed.await;
            }
        })
        .await
        .expect("the archive never had it")
    }

    async fn finished(&self, id: Uuid) -> String {
        let kept =
            |kept: &BTreeMap<Uuid, (Vec<u8>, bool)>| kept.get(&id).filter(|(_, finished)| *finished).cloned();
        String::from_utf8(self.until(kept).await.0).unwrap()
    }
}

impl RecordingUplink for Archive {
    async fn upload(
        &self,
        id: Uuid,
        of: &Of,
        offset: u64,
        data: Vec<u8>,
        finished: bool,
    ) -> Result<Acknowledged, UploadError> {
        if self.0.away.load(Ordering::SeqCst) {
            return Err(UploadError::Failed("away".into()));
        }
        if self.0.refuses.load(Ordering::SeqCst) {
            return Err(UploadError::Refused("never".into()));
        }
        self.0.of.lock().unwrap().push(of.clone());
        let mut kept = self.0.kept.lock().unwrap();
        let (bytes, end) = kept.entry(id).or_default();
        let offset = usize::try_from(offset).unwrap();
        assert!(offset <= bytes.len(), "a gap");
        // What is there already is passed over, and must be the same.
        let known = (bytes.len() - offset).min(data.len());
        assert_eq!(bytes[offset..offset + known], data[..known]);
        bytes.extend_from_slice(&data[known..]);
        *end |= finished;
        self.0.changed.notify_waiters();
        Ok(Acknowledged { offset: bytes.len() as u64, finished: *end })
    }
}

struct Stage {
    data: TempDir,
    recordings: Arc<Recordings>,
    archive: Archive,
    stop: CancellationToken,
    couriers: JoinHandle<()>,
}

impl Stage {
    fn new() -> Self {
        Self::over(tempfile::tempdir().unwrap(), Archive::default(), BOUND)
    }

    fn over(data: TempDir, archive: Archive, bound: u64) -> Self {
        let (recordings, couriers) = Recordings::open(data.path(), bound).unwrap();
        let stop = CancellationToken::new();
        let couriers = tokio::spawn(couriers.run(archive.clone(), stop.clone()));
        Self { data, recordings, archive, stop, couriers }
    }

    /// As after kill -9: nothing is flushed, finished or dropped. (What is leaked here, the kernel would close.)
    fn killed(self) -> (TempDir, Archive) {
        self.couriers.abort();
        (self.data, self.archive)
    }

    async fn begin(&self) -> Recorder {
        self.recordings.begin(Uuid::new_v4(), of(), &screen()).await.unwrap()
    }

    fn files(&self) -> Vec<String> {
        files(&self.data)
    }

    /// What a recording says, line by line, once it is in the archive.
    async fn said(&self, id: Uuid) -> Vec<String> {
        let text = self.archive.finished(id).await;
        let events = text.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.map(|event| event[2].as_str().unwrap().to_owned()).collect()
    }

    /// Where a recording is that was refused for good, once it is there.
    async fn set_aside(&self, id: Uuid) -> PathBuf {
        let aside = self.data.path().join(format!("recordings/rejected/{id}.cast"));
        let there = async {
            while !aside.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), there).await.unwrap();
        aside
    }

    /// Stops what ships. What it leaves takes no room.
    async fn close(self) -> TempDir {
        self.stop.cancel();
        self.couriers.await.unwrap();
        assert_eq!(self.recordings.bytes(), 0, "there is room again");
        self.data
    }
}

fn files(data: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(data.path().join("recordings")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn on_disk(data: &TempDir, id: Uuid) -> String {
    fs::read_to_string(data.path().join(format!("recordings/{id}.cast"))).unwrap()
}

#[tokio::test]
async fn a_recording_has_its_header_on_disk_before_anything_is_shown_and_output_when_it_is_shown() {
    let stage = Stage::new();
    stage.archive.away(true);
    let mut recorder = stage.begin().await;
    let header: Value = serde_json::from_str(&on_disk(&stage.data, recorder.id())).unwrap();
    assert_eq!((&header["title"], &header["timestamp"]), (&"root@prod-web".into(), &1_700_000_000.into()));
    recorder.output(b"hello\r\n").await.unwrap();
    let text = on_disk(&stage.data, recorder.id());
    assert!(text.ends_with("\"o\",\"hello\\r\\n\"]\n"), "{text}");
}

#[tokio::test]
async fn a_finished_recording_is_with_authd_and_gone_from_here() {
    let stage = Stage::new();
    let mut recorder = stage.begin().await;
    let id = recorder.id();
    recorder.output(b"one").await.unwrap();
    recorder.resize(Size::new(132, 43)).await.unwrap();
    recorder.output(b"two\xe2").await.unwrap();
    drop(recorder);
    assert_eq!(stage.said(id).await, ["one", "132x43", "two", "\u{fffd}"]);
    assert_eq!(stage.archive.0.of.lock().unwrap()[0], of());
    assert_eq!(files(&stage.close().await), Vec::<String>::new());
}

#[tokio::test]
async fn a_recording_is_shipped_while_it_grows() {
    let stage = Stage::new();
    let mut recorder = stage.begin().await;
    let id = recorder.id();
    recorder.output(b"first").await.unwrap();
    let holds = |what: &'static str| {
        move |kept: &BTreeMap<Uuid, (Vec<u8>, bool)>| {
            let (bytes, finished) = kept.get(&id)?;
            (!finished && String::from_utf8_lossy(bytes).contains(what)).then_some(())
        }
    };
    stage.archive.until(holds("first")).await;
    recorder.output(b"second").await.unwrap();
    stage.archive.until(holds("second")).await;
}

#[tokio::test]
async fn what_authd_missed_is_sent_when_it_is_back() {
    let stage = Stage::new();
    stage.archive.away(true);
    let mut recorder = stage.begin().await;
    let id = recorder.id();
    recorder.output(b"while it was away").await.unwrap();
    drop(recorder);
    stage.archive.away(false);
    assert!(stage.archive.finished(id).await.contains("while it was away"));
}

#[tokio::test]
async fn after_a_kill_the_next_start_sends_the_rest_up_to_the_last_whole_line() {
    for torn in [&b""[..], b"[1.0,\"o\",\"to", b"\xff"] {
        let stage = Stage::new();
        let mut recorder = stage.begin().await;
        let id = recorder.id();
        recorder.output(b"acknowledged").await.unwrap();
        let acknowledged = |kept: &BTreeMap<Uuid, (Vec<u8>, bool)>| {
            String::from_utf8_lossy(&kept.get(&id)?.0).contains("acknowledged").then_some(())
        };
        stage.archive.until(acknowledged).await;
        stage.archive.away(true);
        recorder.output(b"not shipped").await.unwrap();
        std::mem::forget(recorder);
        let (data, archive) = stage.killed();
        let path = data.path().join(format!("recordings/{id}.cast"));
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [whole.as_slice(), torn].concat()).unwrap();

        archive.away(false);
        let next = Stage::over(data, archive, BOUND);
        let text = next.archive.finished(id).await;
        assert_eq!(text.as_bytes(), whole, "torn: {torn:?}");
        assert!(text.contains("not shipped"));
    }
}

#[tokio::test]
async fn a_kill_between_the_two_files_leaves_nothing() {
    let data = tempfile::tempdir().unwrap();
    fs::create_dir(data.path().join("recordings")).unwrap();
    let name = format!("recordings/{}.json", Uuid::new_v4());
    fs::write(data.path().join(name), serde_json::to_vec(&of()).unwrap()).unwrap();
    let stage = Stage::over(data, Archive::default(), BOUND);
    assert_eq!(stage.files(), Vec::<String>::new());
}

#[tokio::test]
async fn beyond_the_bound_none_begins_and_live_ones_go_on_for_a_while() {
    let archive = Archive::default();
    archive.away(true);
    let stage = Stage::over(tempfile::tempdir().unwrap(), archive, 2_000);
    let mut recorder = stage.begin().await;
    while stage.recordings.bytes() <= 2_000 {
        recorder.output(&[b'x'; 100]).await.unwrap();
    }
    let refused = stage.recordings.begin(Uuid::new_v4(), of(), &screen()).await;
    assert!(matches!(refused.err(), Some(RecordError::Full { bound: 2_000, .. })));
    let mut more = 0;
    while recorder.output(&[b'x'; 100]).await.is_ok() {
        more += 1;
        assert!(more < 10, "a live one is bounded too");
    }
    stage.archive.away(false);
    let id = recorder.id();
    drop(recorder);
    stage.archive.finished(id).await;
    stage.close().await;
}

#[tokio::test]
async fn a_disk_that_refuses_is_an_error_and_no_recording() {
    let stage = Stage::new();
    let directory = stage.data.path().join("recordings");
    fs::remove_dir_all(&directory).unwrap();
    fs::write(&directory, b"a file where the directory was").unwrap();
    let refused = stage.recordings.begin(Uuid::new_v4(), of(), &screen()).await;
    assert!(matches!(refused.err(), Some(RecordError::Write(_))));
}

#[tokio::test]
async fn what_authd_refuses_for_good_is_set_aside_and_does_not_stand_in_the_way() {
    let stage = Stage::new();
    stage.archive.0.refuses.store(true, Ordering::SeqCst);
    let mut recorder = stage.begin().await;
    let id = recorder.id();
    recorder.output(b"never wanted").await.unwrap();
    drop(recorder);
    let aside = stage.set_aside(id).await;
    stage.archive.0.refuses.store(false, Ordering::SeqCst);
    let next = stage.begin().await;
    let id = next.id();
    drop(next);
    stage.archive.finished(id).await;
    assert!(fs::read_to_string(aside).unwrap().contains("never wanted"));
}

#[tokio::test]
async fn a_recording_that_is_refused_while_it_grows_fails_at_its_next_line_and_is_kept_and_counted() {
    let stage = Stage::new();
    stage.archive.0.refuses.store(true, Ordering::SeqCst);
    let mut recorder = stage.begin().await;
    let id = recorder.id();
    let mut progress = recorder.live.watch();
    recorder.output(b"shown before").await.unwrap();
    timeout(Duration::from_secs(20), progress.wait_for(|now| now.refused)).await.unwrap().unwrap();
    assert!(matches!(recorder.output(b"shown after").await, Err(RecordError::Refused)));
    assert!(matches!(recorder.resize(Size::new(1, 1)).await, Err(RecordError::Refused)));
    assert!(stage.recordings.bytes() > 0);
    drop(recorder);
    let aside = stage.set_aside(id).await;
    let _data = stage.close().await;
    let text = fs::read_to_string(aside).unwrap();
    assert!(text.contains("shown before") && !text.contains("shown after"), "{text}");
}

/// Keeps a recording's file as busy as a disk that stalls, until told to stop.
fn stall(recorder: &Recorder) -> impl FnOnce() + use<> {
    let (held, is_held) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let live = Arc::clone(&recorder.live);
    let holder = std::thread::spawn(move || {
        let file = live.file();
        held.send(()).unwrap();
        let _ = released.recv();
        drop(file);
    });
    is_held.recv().unwrap();
    move || {
        drop(release);
        holder.join().unwrap();
    }
}

#[tokio::test]
async fn a_recording_whose_disk_stalls_is_finished_in_order_and_nobody_waits_for_it() {
    for half in [&b""[..], b"\xe2"] {
        let stage = Stage::new();
        let mut recorder = stage.begin().await;
        let id = recorder.id();
        recorder.output(b"one").await.unwrap();
        let go_on = stall(&recorder);
        let shown = [b"two", half].concat();
        assert!(timeout(Duration::from_millis(50), recorder.output(&shown)).await.is_err(), "it is written");
        // On this thread, which serves other sessions: this would wait for ever.
        drop(recorder);
        go_on();
        let said = stage.said(id).await.concat();
        assert_eq!(said, if half.is_empty() { "onetwo" } else { "onetwo\u{fffd}" });
        stage.close().await;
    }
}

#[tokio::test]
async fn half_a_character_does_not_wait_for_a_disk_that_stalls() {
    let stage = Stage::new();
    let mut recorder = stage.begin().await;
    let id = recorder.id();
    recorder.output(b"one\xe2").await.unwrap();
    let go_on = stall(&recorder);
    drop(recorder);
    go_on();
    assert!(stage.archive.finished(id).await.ends_with("\u{fffd}\"]\n"));
}

#[tokio::test]
async fn nothing_is_readable_for_others() {
    use std::os::unix::fs::PermissionsExt as _;
    let stage = Stage::new();
    stage.archive.away(true);
    let _recorder = stage.begin().await;
    let directory = stage.data.path().join("recordings");
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(stage.files().len(), 2);
    for name in stage.files() {
        assert_eq!(fs::metadata(directory.join(name)).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
