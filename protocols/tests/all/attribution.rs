//! The ledger against a real PostgreSQL: whatever a client sends, in whatever order, how a statement came out is never
//! said of another one. Each statement of these sessions is known by what becomes of it: `SELECT n`, `COPY n`, or an
//! error of its own number.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocols::frame::{Boundaries, Splitter, Step};
use protocols::postgres::Messages;
use protocols::{Answer, Answers, Event, Ledger, UpstreamAddress};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::support::Authority;
use crate::support::client::{ALICE, message, startup};
use crate::support::postgresql::Postgresql;

/// Sessions, each with dice of its own.
const ROUNDS: u64 = 80;

const SETUP: &str = "\
    create function bad(n int) returns int language plpgsql volatile as \
        'begin raise exception using errcode = ''Z'' || lpad(n::text, 4, ''0''); end';\
    create function each() returns trigger language plpgsql as \
        'begin if new.i < 0 then perform bad(-new.i); end if; return null; end';\
    create function whole() returns trigger language plpgsql as 'begin perform bad(9999); return null; end';\
    create table t (i int);\
    create trigger t before insert on t for each row execute function each();\
    create table never (i int);\
    create trigger never before insert on never for each statement execute function whole();";

/// Dice that fall the same each time (xorshift).
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// What a client says, and which statements are in it.
#[derive(Default)]
struct Script {
    messages: Vec<(String, Vec<u8>)>,
    last: u32,
}

impl Script {
    fn say(&mut self, name: impl Into<String>, kind: u8, content: &[u8]) {
        self.messages.push((name.into(), message(kind, content)));
    }

    fn number(&mut self) -> u32 {
        self.last += 1;
        self.last
    }

    /// A statement that comes out as its number says.
    fn statement(&mut self, dice: &mut Dice) -> String {
        let n = self.number();
        match dice.below(6) {
            0..=2 => format!("select from generate_series(1, {n})"),
            3 => format!("select bad({n})"),
            4 => format!("copy t from stdin /* {n} */"),
            _ => format!("copy never from stdin /* {n} */"),
        }
    }

    fn prepare(&mut self, dice: &mut Dice, prepared: &mut Option<String>) {
        let text = self.statement(dice);
        self.say(format!("P {text}"), b'P', format!("\0{text}\0\0\0").as_bytes());
        *prepared = Some(text);
        if dice.below(2) == 0 {
            self.say("D", b'D', b"S\0");
        }
        self.say("B", b'B', b"\0\0\0\0\0\0\0\0");
    }

    fn next(&mut self, dice: &mut Dice, prepared: &mut Option<String>) {
        match dice.below(16) {
            0 | 1 => {
                let mut text = self.statement(dice);
                while dice.below(3) == 0 {
                    text = format!("{text}; {}", self.statement(dice));
                }
                self.say(format!("Q {text}"), b'Q', format!("{text}\0").as_bytes());
            }
            2..=4 => {
                self.prepare(dice, prepared);
                self.say("E", b'E', b"\0\0\0\0\0");
            }
            5 => self.say("E again", b'E', b"\0\0\0\0\0"),
            6 => self.say("P!", b'P', b"\0selec\0\0\0"),
            7 => self.say("B!", b'B', b"\0none\0\0\0\0\0\0\0"),
            8 => self.say("D!", b'D', b"Snone\0"),
            9 => self.say("C", b'C', b"Snone\0"),
            10 | 11 => self.say("S", b'S', b""),
            12 => self.say("H", b'H', b""),
            13 => self.data(dice),
            14 => self.say("c", b'c', b""),
            _ if dice.below(2) == 0 => self.say("f", b'f', b"no\0"),
            _ => self.end_copy(dice),
        }
    }

    /// One row, which may be the one that fails.
    fn data(&mut self, dice: &mut Dice) {
        let row = if dice.below(3) == 0 { "x\n" } else { "1\n" };
        self.say(format!("d {}", row.trim()), b'd', row.as_bytes());
    }

    /// As libpq does.
    fn end_copy(&mut self, dice: &mut Dice) {
        for _ in 0..dice.below(3) {
            self.data(dice);
        }
        self.say("c", b'c', b"");
        self.say("S", b'S', b"");
    }
}

/// The numbers in a text, which are those of its statements.
fn numbers(text: &str) -> Vec<u32> {
    let digits = |c: char| !c.is_ascii_digit();
    text.split(digits).filter_map(|digits| digits.parse().ok()).filter(|n| *n > 1).collect()
}

/// What is noted about a statement.
#[derive(Clone, Debug)]
struct Note {
    text: String,
    simple: bool,
}

impl Note {
    /// Whether it may come out like this.
    fn may_say(&self, answer: &Answer<'_>) -> bool {
        let is_copy = self.text.contains("copy");
        match answer {
            Answer::Completed { tag } => {
                let tag = String::from_utf8_lossy(tag);
                match tag.split_once(' ') {
                    Some(("SELECT", n)) => n == "0" || numbers(&self.text).contains(&n.parse().unwrap()),
                    Some(("COPY", _)) => is_copy,
                    // The test's own.
                    _ => self.text.contains("create"),
                }
            }
            Answer::Failed { sql_state: Some(state), .. } => {
                let state = state.as_str();
                match state.strip_prefix('Z').map(|n| n.parse::<u32>().unwrap()) {
                    Some(9999) => self.text.contains("copy never"),
                    Some(n) => self.text.contains(&format!("bad({n})")),
                    // Data that is none, or CopyFail; a message before it in its round; a query during COPY.
                    None if state == "22P02" || state == "57014" => is_copy,
                    None => !self.simple || is_copy,
                }
            }
            Answer::Suspended | Answer::Empty | Answer::Returned => !self.simple,
            _ => true,
        }
    }
}

/// What is known on both ways.
#[derive(Default)]
struct Known {
    ledger: Ledger<Note>,
    prepared: String,
    /// Completions that were attributed to nothing.
    lost: usize,
    transcript: Vec<String>,
    marker: Option<bool>,
}

const MARKER: &str = "select from generate_series(1, 77777)";

impl Known {
    fn asked(&mut self, event: &Event<'_>) {
        let mut note = Note { text: String::new(), simple: false };
        match event {
            Event::Query { text, .. } => {
                note = Note { text: String::from_utf8_lossy(text).into_owned(), simple: true };
            }
            Event::Parse { text, .. } if *text != b"selec" => {
                self.prepared = String::from_utf8_lossy(text).into_owned();
            }
            Event::Execute { .. } => note.text.clone_from(&self.prepared),
            _ => {}
        }
        self.transcript.push(format!("> {event:?} {}", note.text));
        self.ledger.asked(event, || note);
    }
}

struct Heard(Arc<Mutex<Known>>);

impl Answers for Heard {
    fn answered(&mut self, answer: Answer<'_>) {
        let mut known = self.0.lock().unwrap();
        let note = known.ledger.answered(&answer).cloned();
        let about = note.as_ref().map(|note| note.text.clone());
        known.transcript.push(format!("< {answer:?} {about:?}"));
        if let Answer::Completed { tag: b"SELECT 77777" } = answer {
            known.marker = Some(note.is_some());
        } else if let (Answer::Completed { .. }, None) = (answer, &note) {
            known.lost += 1;
        }
        if let Some(note) = note {
            assert!(note.may_say(&answer), "{answer:?} is not of {note:?}\n{}", known.transcript.join("\n"));
        }
    }
}

struct Session {
    stream: UnixStream,
    splitter: Splitter<Messages>,
    boundaries: Boundaries<Messages>,
    known: Arc<Mutex<Known>>,
    over: bool,
}

impl Session {
    async fn open(upstream: &Postgresql) -> Self {
        let UpstreamAddress::Unix(path) = upstream.unix().address else { panic!("a socket") };
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(&startup(0, ALICE)).await.unwrap();
        while {
            let (kind, length) = (stream.read_u8().await.unwrap(), stream.read_u32().await.unwrap());
            stream.read_exact(&mut vec![0; length as usize - 4]).await.unwrap();
            kind != b'Z'
        } {}
        let known = Arc::new(Mutex::new(Known::default()));
        let answers = Heard(Arc::clone(&known));
        let boundaries = Boundaries::new(Some(Box::new(answers)));
        Self { stream, splitter: Splitter::new(Messages), boundaries, known, over: false }
    }

    /// As the relay does: past the tap, and then to the upstream.
    async fn say(&mut self, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            match self.splitter.step(bytes.split_at(done).1).unwrap() {
                Step::Pass(now) => done += now,
                Step::Show(event, now) => {
                    self.known.lock().unwrap().asked(&event);
                    done += now;
                }
                step => panic!("{step:?}"),
            }
        }
        self.over |= self.stream.write_all(bytes).await.is_err();
    }

    /// What is there already; or, with patience, what comes.
    async fn hear(&mut self, patience: Duration) {
        let _ = timeout(patience, self.stream.readable()).await;
        let mut bytes = [0; 4096];
        loop {
            match self.stream.try_read(&mut bytes) {
                Ok(0) => {
                    self.over = true;
                    return;
                }
                Ok(now) => {
                    self.boundaries.follow(bytes.split_at(now).0);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.over = true;
                    return;
                }
            }
        }
    }
}

#[tokio::test]
async fn whatever_a_client_sends_no_result_is_said_of_another_statement() {
    let authority = Authority::new();
    let Some(upstream) = Postgresql::start(&authority) else { return };
    let mut setup = Session::open(&upstream).await;
    setup.say(&message(b'Q', format!("{SETUP}\0").as_bytes())).await;
    while setup.known.lock().unwrap().ledger.is_busy() {
        setup.hear(Duration::from_secs(20)).await;
    }
    let (mut ended, mut adrift, mut found) = (0, 0, 0);
    for seed in 0..ROUNDS {
        let mut dice = Dice::new(seed);
        let (mut script, mut prepared) = (Script { last: 1, ..Script::default() }, None);
        for _ in 0..3 + dice.below(14) {
            script.next(&mut dice, &mut prepared);
        }
        // Out of whatever state it is in; and a statement that everybody knows.
        script.say("f", b'f', b"over\0");
        script.say("S", b'S', b"");
        script.say("Q", b'Q', format!("{MARKER}\0").as_bytes());
        let mut session = Session::open(&upstream).await;
        let slow = dice.below(3);
        for (_, bytes) in &script.messages {
            session.say(bytes).await;
            let patience = if dice.below(4) < slow { Duration::from_millis(2) } else { Duration::ZERO };
            session.hear(patience).await;
        }
        while !session.over && session.known.lock().unwrap().marker.is_none() {
            session.hear(Duration::from_secs(20)).await;
        }
        // The Ready behind the marker.
        while !session.over && session.known.lock().unwrap().transcript.last().unwrap().contains("77777") {
            session.hear(Duration::from_secs(20)).await;
        }
        let known = session.known.lock().unwrap();
        if known.marker.is_none() {
            ended += 1;
        } else if known.marker == Some(false) || known.lost > 0 {
            assert!(
                known.ledger.is_busy(),
                "{seed}: what is lost counts as busy\n{}",
                known.transcript.join("\n")
            );
            adrift += 1;
        } else {
            assert!(!known.ledger.is_busy(), "{seed}\n{}", known.transcript.join("\n"));
            found += 1;
        }
    }
    println!("{found} sessions followed, {adrift} adrift, {ended} ended by PostgreSQL");
    assert!(found > adrift * 10, "{found} sessions followed, {adrift} adrift, {ended} ended");
}
