use std::io::{BufRead as _, BufReader, PipeReader, Read as _};

use super::*;

/// 100 bytes.
const LINE: &[u8; 100] = &{
    let mut line = [b'.'; 100];
    line[99] = b'\n';
    line
};

fn piped() -> (Log, PipeReader) {
    let (reader, writer) = io::pipe().unwrap();
    (Log::on(writer).unwrap(), reader)
}

/// More lines than there is room for: in the log twice, and in the pipe.
fn flood(log: &mut Log) -> usize {
    const LINES: usize = 3 * ROOM / LINE.len();
    for _ in 0..LINES {
        log.write_all(LINE).unwrap();
    }
    LINES
}

#[test]
fn a_reader_that_has_stopped_holds_up_nobody_and_neither_the_end() {
    let (mut log, _reader) = piped();
    let sent = flood(&mut log) as u64;
    let kept = 2 * ROOM as u64 / 100 + 65_536 / 100 + 1;
    assert!(lost() >= sent - kept, "{} of {sent}", lost());
    let began = Instant::now();
    log.last_words("nobody hears it");
    assert!(began.elapsed() < 10 * GOODBYE);
}

#[test]
fn what_is_lost_is_told_behind_what_is_kept() {
    let (mut log, reader) = piped();
    let said = log.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || said.clone());
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
    let sent = flood(&mut log);
    let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
    let (mut kept, mut told) = (0, None);
    for line in lines.by_ref() {
        match serde_json::from_str::<serde_json::Value>(&line) {
            Ok(event) => {
                assert_eq!((&event["level"], told), (&"WARN".into(), None));
                told = event["fields"]["lines"].as_u64();
                break;
            }
            Err(_) => kept += 1,
        }
    }
    assert_eq!(told, Some((sent - kept) as u64));
    tracing::info!("and on");
    let next = lines.next().unwrap();
    assert!(next.contains("and on"), "it was told once: {next}");
}

#[test]
fn all_is_written_before_a_program_ends() {
    let (mut log, mut reader) = piped();
    log.write_all(b"first\n").unwrap();
    log.last_words("it does not go on");
    let mut text = vec![0; b"first\nERROR: it does not go on\n".len()];
    reader.read_exact(&mut text).unwrap();
    assert_eq!(text, b"first\nERROR: it does not go on\n");
}

#[test]
fn a_place_that_takes_nothing_is_not_told_of_it_without_end() {
    struct Full(Arc<AtomicU64>);
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Err(ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let tries = Arc::new(AtomicU64::new(0));
    let log = Log::on(Full(Arc::clone(&tries))).unwrap();
    let said = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || said.clone());
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
    for number in 1..=3 {
        tracing::info!("lost");
        log.flush();
        assert_eq!((lost(), tries.load(Ordering::SeqCst)), (number, number));
    }
}

#[test]
fn a_panic_is_a_line_of_the_log() {
    let (log, reader) = piped();
    let said = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || said.clone());
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
    take_panics();
    let died = thread::Builder::new().name("relay".to_owned()).spawn(|| panic!("a frame too short")).unwrap();
    died.join().unwrap_err();
    let line = BufReader::new(reader).lines().next().unwrap().unwrap();
    for part in ["ERROR", "a frame too short", "thread=\"relay\"", "place=auth/src/log/tests.rs:"] {
        assert!(line.contains(part), "{part} is not in: {line}");
    }
}
