use std::sync::Mutex;

use super::super::packet;
use super::*;
use crate::mysql::capabilities::Capabilities;

const OK: &[u8] = b"\x00\x00\x00\x02\x00\x00\x00";
const ERR: &[u8] = b"\xff\x28\x04#42000no";
const EOF: &[u8] = b"\xfe\x00\x00\x02\x00";

#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Vec<String>>>);

impl Answers for Ear {
    fn answered(&mut self, answer: Answer<'_>) {
        let text = format!("{answer:?}");
        self.0.lock().unwrap().push(text.split(' ').next().unwrap().to_owned());
    }
}

struct Session {
    desk: Arc<Desk>,
    follower: Follower,
    ear: Ear,
}

impl Session {
    fn new(local_infile: bool) -> Self {
        let (desk, ear) = (Desk::new(), Ear::default());
        let terms = Terms::of(Capabilities::NEEDED);
        let follower = Follower::new(Arc::clone(&desk), terms, local_infile, Some(Box::new(ear.clone())));
        Self { desk, follower, ear }
    }

    fn asks(&self, reply: Reply, files: &[&[u8]]) {
        let files = files.iter().map(|file| file.to_vec()).collect();
        self.desk.lock().waiting.push_back(Waiting::Client(reply, files));
    }

    /// What the client hears of these bytes, which come in chunks of this size; or what is wrong.
    fn hears(&mut self, bytes: &[u8], chunk: usize) -> Result<Vec<u8>, Wrong> {
        let (mut heard, mut at, mut end) = (Vec::new(), 0, 0);
        while end < bytes.len() {
            end = bytes.len().min(end + chunk);
            loop {
                while let Some(said) = self.follower.say() {
                    heard.extend(said);
                }
                if at == end {
                    break;
                }
                match self.follower.follow(&bytes[at..end.min(at + SHOWN)]) {
                    Course::Forward { bytes: count, boundary } => {
                        assert!(count > 0 && boundary.is_none_or(|boundary| boundary <= count));
                        heard.extend(&bytes[at..at + count]);
                        at += count;
                    }
                    Course::Drop(count) => at += count,
                    Course::Starved => break,
                    Course::Lost(wrong) => return Err(wrong),
                }
            }
        }
        Ok(heard)
    }

    fn told(&self) -> Vec<String> {
        self.ear.0.lock().unwrap().clone()
    }
}

/// Packets with their numbers, from 1.
fn answer(payloads: &[&[u8]]) -> Vec<u8> {
    let (mut bytes, mut sequence) = (Vec::new(), 1);
    for payload in payloads {
        packet::append(&mut bytes, &mut sequence, payload);
    }
    bytes
}

const DEFINITION: &[u8] = b"\x03def\x00\x00\x00\x011\x00\x0c\x3f\x00\x01\x00\x00\x00\x03\x81\x00\x00\x00\x00";

#[test]
fn answers_are_forwarded_byte_for_byte_however_they_come() {
    let bytes = [
        answer(&[b"\x01", DEFINITION, EOF, b"\x011", &vec![b'x'; 70_000], EOF]),
        answer(&[OK]),
        answer(&[b"\x00\x05\0\0\0\0\0\x01\0\0\0\0", DEFINITION, EOF]),
        answer(&[ERR]),
    ]
    .concat();
    for chunk in (1..60).chain([1_000, 65_536, bytes.len()]) {
        let mut session = Session::new(false);
        for reply in [Reply::Results, Reply::One, Reply::Prepared, Reply::Results] {
            session.asks(reply, &[]);
        }
        assert_eq!(session.hears(&bytes, chunk), Ok(bytes.clone()), "{chunk}");
        assert_eq!(
            session.told(),
            ["Done", "Ready", "Done", "Ready", "Prepared", "Ready", "Failed", "Ready"]
        );
        assert!(session.follower.at_boundary() && !session.desk.is_busy());
        assert_eq!(session.desk.lock().prepared, [(5, 1)]);
    }
}

#[test]
fn a_row_of_sixteen_mebibytes_and_more_is_one_row() {
    let mut session = Session::new(false);
    session.asks(Reply::Results, &[]);
    let bytes = answer(&[b"\x01", DEFINITION, EOF, &vec![0xFF - 3; packet::MAX_PAYLOAD], EOF]);
    assert_eq!(session.hears(&bytes, 60_000).unwrap().len(), bytes.len());
    assert_eq!(session.told(), ["Done", "Ready"]);
}

#[test]
fn our_own_answers_come_in_their_turn() {
    let said = framing::packet(1, ERR);
    let bytes = answer(&[OK]).repeat(2);
    for chunk in [1, bytes.len()] {
        let mut session = Session::new(false);
        session.asks(Reply::One, &[]);
        session.desk.lock().waiting.push_back(Waiting::Said(said.clone()));
        session.asks(Reply::One, &[]);
        let expected = [answer(&[OK]), said.clone(), answer(&[OK])].concat();
        assert_eq!(session.hears(&bytes, chunk), Ok(expected));
        assert_eq!(session.told(), ["Done", "Ready", "Failed", "Ready", "Done", "Ready"]);
    }
}

#[test]
fn the_answer_to_our_settings_is_not_for_the_client_and_a_failure_ends_the_session() {
    for (last, ends) in [(OK, false), (ERR, true)] {
        for chunk in [1, 100] {
            let mut session = Session::new(false);
            session.asks(Reply::One, &[]);
            session.desk.lock().waiting.push_back(Waiting::Settings);
            let bytes = [answer(&[OK]), answer(&[last])].concat();
            assert_eq!(session.hears(&bytes, chunk), Ok(answer(&[OK])));
            assert_eq!(session.told(), ["Done", "Ready"]);
            assert_eq!(session.desk.lock().ending.is_some(), ends);
        }
    }
}

#[test]
fn what_nobody_asked_for_is_not_forwarded_but_an_error_is() {
    assert!(Session::new(false).hears(&answer(&[OK]), 99).is_err());
    let shutdown = answer(&[b"\xff\x1d\x04#08S01Server shutdown in progress"]);
    assert_eq!(Session::new(false).hears(&shutdown, 3), Ok(shutdown));
}

/// Found by the fuzzer: the front of the next packet was taken for that of an empty one.
#[test]
fn an_empty_packet_among_rows_is_wrong_whatever_follows() {
    for chunk in [1, 99] {
        let mut session = Session::new(false);
        session.asks(Reply::Rows, &[]);
        assert!(session.hears(&answer(&[b"\x011", b"", EOF]), chunk).is_err());
    }
}

/// The wish for a file, and the fate that the tap is shown.
fn wish(session: &mut Session, name: &[u8]) -> (Vec<u8>, FileFate) {
    let bytes = answer(&[&[&[0xFB], name].concat()]);
    assert_eq!(session.hears(&bytes, 1), Ok(Vec::new()), "the tap is asked first");
    let fate = match &session.desk.lock().file {
        FileState::Wished { name: wished, sequence: 1, fate } if wished == name => *fate,
        other => panic!("{other:?}"),
    };
    (bytes, fate)
}

#[test]
fn a_file_that_the_statement_names_is_asked_for_when_the_tap_has_seen_it() {
    let mut session = Session::new(true);
    session.asks(Reply::Results, &[b"a.csv"]);
    let (bytes, fate) = wish(&mut session, b"a.csv");
    assert_eq!(fate, FileFate::Asked);
    session.desk.lock().file = FileState::Seen(fate);
    assert_eq!(session.hears(&bytes, 99), Ok(bytes.clone()));
    assert_eq!(session.desk.lock().file, FileState::Flows);
    session.desk.lock().file = FileState::None;
    assert_eq!(session.hears(b"\x07\0\0\x04\0\0\0\x02\0\0\0", 3).unwrap().len(), 11);
    assert_eq!(session.told(), ["Done", "Ready"]);
}

#[test]
fn a_file_that_no_role_allows_is_never_asked_for_and_the_client_is_told() {
    let mut session = Session::new(false);
    session.asks(Reply::Results, &[b"a.csv"]);
    let (bytes, fate) = wish(&mut session, b"a.csv");
    assert_eq!(fate, FileFate::NotAllowed);
    session.desk.lock().file = FileState::Seen(fate);
    assert_eq!(session.hears(&bytes, 99), Ok(Vec::new()));
    let heard = session.hears(b"\x07\0\0\x03\0\0\0\x02\0\0\0", 99).unwrap();
    assert_eq!(heard[3..7], [1, 0xFF, 0x6C, 0x0F], "ERR 3948, in the place of the wish");
    assert_eq!(session.told(), ["Failed", "Ready"]);
    assert!(!session.desk.is_busy());
}

#[test]
fn a_hostile_upstream_gets_no_file_that_the_statement_does_not_name() {
    for files in [&[][..], &[&b"a.csv"[..]]] {
        let mut session = Session::new(true);
        session.asks(Reply::Results, files);
        assert_eq!(wish(&mut session, b"/etc/passwd").1, FileFate::NotNamed);
    }
    let mut session = Session::new(true);
    session.asks(Reply::Results, &[b"a"]);
    assert!(session.hears(&answer(&[&vec![0xFB; 5_000]]), 99).is_err(), "nor one with such a name");
}

#[test]
fn an_answer_before_the_end_of_the_file_ends_the_session() {
    let mut session = Session::new(true);
    session.asks(Reply::Results, &[b"a.csv"]);
    let (bytes, fate) = wish(&mut session, b"a.csv");
    session.desk.lock().file = FileState::Seen(fate);
    session.hears(&bytes, 99).unwrap();
    assert_eq!(session.hears(&answer(&[ERR]), 99), Ok(answer(&[ERR])));
    assert!(session.desk.lock().ending.is_some(), "the rest of the file would be read as commands");
}

#[test]
fn we_always_know_the_number_of_the_packet_that_comes_next() {
    let mut session = Session::new(false);
    assert_eq!(session.desk.lock().sequence, 1, "as in answer to what comes next");
    session.asks(Reply::Results, &[]);
    session.hears(&answer(&[b"\x01", DEFINITION, EOF, b"\x011"]), 99).unwrap();
    assert_eq!(session.desk.lock().sequence, 5, "in the middle of an answer");
    session.hears(b"\x05\0\0\x05\xfe\0\0\x02\0", 99).unwrap();
    assert_eq!(session.desk.lock().sequence, 1);
}
