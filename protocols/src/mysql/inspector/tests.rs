use super::super::packet;
use super::*;
use crate::mysql::capabilities::Capabilities;

fn charter(settings: Option<Vec<u8>>) -> Charter {
    Charter {
        terms: Terms::of(Capabilities::NEEDED),
        replication_allowed: true,
        settings,
        ids: ConnectionIds::new(Box::new(|_, _| false)),
        peer: Arc::default(),
    }
}

/// What a client's bytes come to, which arrive in chunks of this size.
#[derive(Debug, Default, PartialEq, Eq)]
struct Passed {
    seen: Vec<String>,
    forwarded: Vec<u8>,
    said: usize,
    malformed: Option<Malformed>,
    busy: bool,
}

fn pass(inspector: &mut Inspector, bytes: &[u8], chunk: usize) -> Passed {
    let mut passed = Passed::default();
    let (mut at, mut end) = (0, 0);
    while end < bytes.len() {
        end = bytes.len().min(end + chunk);
        loop {
            let limit = end.min(at + SHOWN);
            let mut refused = None;
            match inspector.step(&bytes[at..limit]) {
                Ok(Step::Starved) => break,
                Ok(Step::Busy) => {
                    passed.busy = true;
                    return passed;
                }
                Ok(Step::Pass(count) | Step::Last(count)) => {
                    passed.forwarded.extend(&bytes[at..at + count]);
                    at += count;
                }
                Ok(Step::Show(event, count)) => {
                    passed.seen.push(shown(&event));
                    passed.forwarded.extend(&bytes[at..at + count]);
                    at += count;
                }
                Ok(Step::Instead(event, count, instead)) => {
                    passed.seen.push(shown(&event));
                    passed.forwarded.extend(instead);
                    at += count;
                }
                Ok(Step::Refuse(event, count, answer)) => {
                    passed.seen.push(shown(&event));
                    at += count;
                    refused = Some(answer);
                }
                Err(malformed) => {
                    passed.malformed = Some(malformed);
                    return passed;
                }
            }
            if let Some(answer) = refused {
                passed.said += 1;
                inspector.say(answer);
            }
        }
    }
    passed
}

fn shown(event: &Event<'_>) -> String {
    match event {
        Event::Query { text, cut } => format!("query of {} +{cut}", text.len()),
        Event::TextEnd { length, sha256 } => format!("end of {length} {}", sha256.escape_ascii()),
        Event::Mysql(event) => format!("{event:?}").chars().take(60).collect(),
        other => format!("{other:?}"),
    }
}

fn command(payload: &[u8]) -> Vec<u8> {
    let (mut bytes, mut sequence) = (Vec::new(), 0);
    packet::append(&mut bytes, &mut sequence, payload);
    bytes
}

fn query(length: usize) -> Vec<u8> {
    command(&[&[3][..], &vec![b'q'; length - 1]].concat())
}

#[test]
fn what_is_seen_does_not_depend_on_how_the_bytes_come() {
    let bytes = [
        query(9),
        command(b"\x16select ?"),
        command(b"\x19\x01\0\0\0"),
        command(b"\x0e"),
        command(b"\xfenot known"),
        query(70_000),
        command(b"\x02prod"),
    ]
    .concat();
    let whole = pass(&mut Inspector::new(Desk::new(), charter(None)), &bytes, bytes.len());
    assert_eq!(whole.seen.len(), 8, "{:?}", whole.seen);
    assert_eq!((whole.said, &whole.malformed), (1, &None));
    assert_eq!(whole.forwarded.len(), bytes.len() - command(b"\xfenot known").len());
    for chunk in (1..40).chain([64, 1_000, 65_535, 65_536, 65_537]) {
        let again = pass(&mut Inspector::new(Desk::new(), charter(None)), &bytes, chunk);
        assert_eq!(again, whole, "{chunk}");
    }
}

#[test]
fn a_text_over_several_packets_is_hashed_without_their_headers() {
    let text = packet::MAX_PAYLOAD;
    for length in [text - 1, text, text + 1, 2 * text] {
        let bytes = query(length);
        let passed = pass(&mut Inspector::new(Desk::new(), charter(None)), &bytes, 1 << 20);
        let whole = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &vec![b'q'; length - 1]);
        let end = format!("end of {} {}", length - 1, whole.as_ref().escape_ascii());
        assert_eq!(passed.seen.last(), Some(&end), "{length}");
        assert_eq!(passed.forwarded.len(), bytes.len());
    }
}

#[test]
fn a_packet_out_of_order_ends_the_session() {
    let new = || Inspector::new(Desk::new(), charter(None));
    let first = pass(&mut new(), b"\x01\0\0\x01\x0e", 9).malformed;
    assert_eq!(first, Some(Malformed::Sequence { expected: 0, found: 1 }));
    let mut long = query(packet::MAX_PAYLOAD + 5);
    long[4 + packet::MAX_PAYLOAD + 3] = 7;
    let later = pass(&mut new(), &long, 1 << 20).malformed;
    assert_eq!(later, Some(Malformed::Sequence { expected: 1, found: 7 }));
    assert_eq!(pass(&mut new(), b"\0\0\0\0", 4).malformed, Some(Malformed::Content(0)));
}

#[test]
fn a_refused_command_that_is_longer_than_a_view_ends_the_session() {
    let long = command(&[&[0xFE][..], &vec![0; SHOWN]].concat());
    let passed = pass(&mut Inspector::new(Desk::new(), charter(None)), &long, 1 << 20);
    assert_eq!(passed.malformed, Some(Malformed::TooLong(0xFE)));
    assert!(passed.forwarded.is_empty());
}

#[test]
fn behind_a_query_that_offers_a_file_no_command_is_read_before_the_answer() {
    let mut inspector = Inspector::new(Desk::new(), charter(None));
    let load = command(b"\x03load data local infile 'a' into table t");
    let bytes = [&load[..], &command(b"\x0e")].concat();
    let passed = pass(&mut inspector, &bytes, bytes.len());
    assert!(passed.busy && passed.forwarded == load, "{passed:?}");
}

#[test]
fn a_file_is_counted_and_its_end_is_seen_before_it_is_forwarded() {
    let desk = Desk::new();
    let mut inspector = Inspector::new(Arc::clone(&desk), charter(None));
    pass(&mut inspector, &command(b"\x03load data local infile 'a' into table t"), 9);
    desk.lock().file = FileState::Flows;
    inspector.sequence = 2;
    // A query in it is no command.
    let bytes = b"\x09\0\0\x02\x03select 1\x01\0\0\x03x\0\0\0\x04";
    let passed = pass(&mut inspector, bytes, 1);
    assert_eq!(passed.seen, ["LocalInfileEnd { bytes: 10 }"]);
    assert_eq!(passed.forwarded, bytes);
    assert_eq!(desk.lock().file, FileState::None);
}

#[test]
fn the_settings_follow_a_reset_and_nothing_else_follows_before_they_are_answered() {
    let mut inspector = Inspector::new(Desk::new(), charter(Some(b"\x03SET a = 1".to_vec())));
    let bytes = [command(b"\x1f"), command(b"\x0e")].concat();
    let passed = pass(&mut inspector, &bytes, bytes.len());
    assert!(passed.busy);
    assert_eq!(passed.forwarded, [command(b"\x1f"), command(b"\x03SET a = 1")].concat());
}

#[test]
fn the_last_prepared_statement_is_waited_for() {
    let desk = Desk::new();
    let mut inspector = Inspector::new(Arc::clone(&desk), charter(None));
    let prepare = command(b"\x16select ?");
    let execute = command(b"\x17\xff\xff\xff\xff\0\x01\0\0\0\0\x01\x03\0\x07\0\0\0");
    let passed = pass(&mut inspector, &[&prepare[..], &execute].concat(), 99);
    assert!(passed.busy && passed.forwarded == prepare);
    {
        let mut state = desk.lock();
        state.answered();
        state.prepared.push((5, 1));
    }
    let Ok(Step::Show(Event::Mysql(MysqlEvent::Execute { values, .. }), _)) = inspector.step(&execute) else {
        panic!("it is not shown");
    };
    assert_eq!(values.iter().collect::<Vec<_>>(), [crate::Value::Int(7)]);
}

#[test]
fn a_client_that_sends_on_and_on_waits() {
    let mut inspector = Inspector::new(Desk::new(), charter(None));
    let bytes = command(b"\x0e").repeat(super::super::desk::MAX_WAITING + 1);
    let passed = pass(&mut inspector, &bytes, bytes.len());
    assert!(passed.busy);
    assert_eq!(passed.seen.len(), super::super::desk::MAX_WAITING);
}

#[test]
fn goodbye_is_heard_even_while_an_answer_is_awaited() {
    let mut inspector = Inspector::new(Desk::new(), charter(None));
    pass(&mut inspector, &command(b"\x12\x04\0\0\0\0\0\x01\0\0\0"), 99);
    assert!(matches!(inspector.step(&command(b"\x01")), Ok(Step::Last(5))));
}

/// What the tap is shown of a wish for a file, and what the upstream gets for it; and what comes next.
fn errands(fate: FileFate) -> (Vec<u8>, Option<String>, FileState) {
    let desk = Desk::new();
    let mut inspector = Inspector::new(Arc::clone(&desk), charter(None));
    desk.lock().file = FileState::Wished { name: b"/etc/passwd".to_vec(), sequence: 1, fate };
    let sent = match inspector.errand() {
        Some(Errand::Show(
            Event::Mysql(MysqlEvent::LocalInfile { name: b"/etc/passwd", fate: shown }),
            sent,
        )) => {
            assert_eq!(shown, fate);
            sent
        }
        other => panic!("{other:?}"),
    };
    inspector.errand_done();
    let end = match inspector.errand() {
        Some(Errand::End(refusal)) => Some(refusal.message),
        Some(other) => panic!("{other:?}"),
        None => None,
    };
    let file = std::mem::replace(&mut desk.lock().file, FileState::None);
    (sent, end, file)
}

#[test]
fn every_wish_for_a_file_is_shown_to_the_tap_before_anybody_else_hears_of_it() {
    let (sent, end, file) = errands(FileFate::Asked);
    assert_eq!((sent, end, file), (Vec::new(), None, FileState::Seen(FileFate::Asked)));
    let (sent, end, file) = errands(FileFate::NotAllowed);
    let empty = b"\0\0\0\x02".to_vec();
    assert_eq!((sent, end, file), (empty, None, FileState::Seen(FileFate::NotAllowed)));
}

#[test]
fn a_session_whose_upstream_asks_for_another_file_ends() {
    let (sent, end, _) = errands(FileFate::NotNamed);
    assert!(sent.is_empty());
    assert_eq!(end.unwrap(), "the upstream asked for a file that the statement does not name");
}
