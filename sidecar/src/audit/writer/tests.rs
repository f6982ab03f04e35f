use tempfile::TempDir;

use super::{super::queue::queue, *};

/// A writer that nobody runs, and its spool.
fn writer() -> (Writer, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let space = Arc::new(Semaphore::new(0));
    (Writer::new(directory.path().to_owned(), space, State::new(0)), directory)
}

/// One event, and what who waits for it hears.
fn write(writer: &mut Writer) -> Result<(), WriteFailed> {
    let (_sender, mut queue) = queue();
    let (done, mut written) = oneshot::channel();
    let event = Draft::Rendered("{}".to_owned());
    writer.write_group(Item { event, space: 0, done: Some(done), hurry: true }, &mut queue);
    written.try_recv().expect("whoever waits is answered")
}

fn segments(directory: &TempDir) -> usize {
    let names = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".log")).count()
}

/// A segment that takes no more, with so many bytes that came to be there in the attempt.
fn full(bytes: usize) -> (Segment, TempDir) {
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("full");
    fs::write(&path, vec![b'x'; bytes]).unwrap();
    // Not open for writing.
    (Segment { file: File::open(path).unwrap(), first: 1, bytes: 0 }, elsewhere)
}

#[test]
fn while_the_disk_refuses_nothing_is_left_on_it_and_once_it_takes_data_one_segment_is_begun() {
    let (mut writer, directory) = writer();
    let (segment, _elsewhere) = full(0);
    writer.segment = Some(segment);
    for _ in 0..200 {
        assert!(write(&mut writer).is_err());
    }
    assert_eq!((segments(&directory), *writer.state.failures.borrow()), (0, 1));
    assert!(writer.state.broken.load(Ordering::Acquire));
    // The time has come: events that keep coming do not put it off.
    writer.next_probe = Instant::now();
    for _ in 0..3 {
        write(&mut writer).unwrap();
    }
    assert!(!writer.state.broken.load(Ordering::Acquire));
    assert_eq!(segments(&directory), 1);
}

#[test]
fn a_probe_that_fails_is_not_repeated_at_once() {
    let (mut writer, directory) = writer();
    let (segment, _elsewhere) = full(0);
    writer.segment = Some(segment);
    assert!(write(&mut writer).is_err());
    writer.directory = directory.path().join("a file");
    fs::write(&writer.directory, b"in the way").unwrap();
    writer.next_probe = Instant::now();
    assert!(write(&mut writer).is_err());
    assert!(writer.next_probe > Instant::now());
    fs::remove_file(&writer.directory).unwrap();
    writer.next_probe = Instant::now();
    write(&mut writer).unwrap();
}

#[test]
fn what_a_failed_write_left_counts_as_room_that_is_taken() {
    let (mut writer, _directory) = writer();
    let (segment, _elsewhere) = full(1_000);
    writer.segment = Some(segment);
    assert!(write(&mut writer).is_err());
    assert_eq!(writer.state.bytes.load(Ordering::Acquire), 1_000);
}
