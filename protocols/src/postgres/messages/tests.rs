//! Views of client messages: what is shown, what is refused, and that no truncation panics.

use super::*;
use std::sync::{Arc, Mutex};

use crate::Answers;
use crate::frame::{Boundaries, SHOWN, Splitter, Step};

fn message(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&(content.len() as u32 + 4).to_be_bytes());
    bytes.extend_from_slice(content);
    bytes
}

fn shown(bytes: &[u8]) -> Result<Event<'_>, Malformed> {
    Messages.event(Frame { bytes, cut: 0 })
}

/// One well-formed message of each kind that is shown.
fn samples() -> Vec<Vec<u8>> {
    vec![
        message(b'Q', b"select 1\0"),
        message(b'P', b"name\0select $1\0\x00\x01\x00\x00\x00\x17"),
        message(b'B', b"p\0name\0\0\x01\0\x01\0\x02\0\0\0\x02\x00\x2a\xff\xff\xff\xff\0\x00"),
        message(b'E', b"p\0\0\0\0\x05"),
        message(b'C', b"Sname\0"),
        message(b'F', b"\0\0\x03\xbb\0\0\0\x01\0\0\0\x01x\0\x01"),
        message(b'S', b""),
        message(b'D', b"Pp\0"),
    ]
}

#[test]
fn each_message_is_shown_as_it_is() {
    let samples = samples();
    assert_eq!(shown(&samples[0]), Ok(Event::Query { text: b"select 1", cut: 0 }));
    assert_eq!(shown(&samples[1]), Ok(Event::Parse { statement: b"name", text: b"select $1", cut: 0 }));
    let Ok(Event::Bind { portal: b"p", statement: b"name", parameters, cut: 0 }) = shown(&samples[2]) else {
        panic!("not a Bind");
    };
    let values: Vec<_> = parameters.iter().map(|value| (value.value, value.binary)).collect();
    assert_eq!(values, [(Some(&b"\0\x2a"[..]), true), (None, true)]);
    assert_eq!(shown(&samples[3]), Ok(Event::Execute { portal: b"p", max_rows: 5 }));
    assert_eq!(shown(&samples[4]), Ok(Event::Close { kind: PreparedKind::Statement, name: b"name" }));
    let Ok(Event::FunctionCall { function: 955, arguments, cut: 0 }) = shown(&samples[5]) else {
        panic!("not a FunctionCall");
    };
    assert_eq!(arguments.iter().map(|value| value.value).collect::<Vec<_>>(), [Some(&b"x"[..])]);
    assert_eq!(shown(&samples[6]), Ok(Event::Sync));
    assert_eq!(shown(&samples[7]), Ok(Event::Describe { kind: PreparedKind::Portal, name: b"p" }));
    assert_eq!(shown(&message(b'c', b"")), Ok(Event::CopyEnd { failed: false }));
    assert_eq!(shown(&message(b'f', b"disk full\0")), Ok(Event::CopyEnd { failed: true }));
}

#[test]
fn a_message_cut_short_at_any_byte_is_malformed_and_never_panics() {
    for sample in samples() {
        for end in 5..sample.len() {
            let content = &sample[5..end];
            let whole = message(sample[0], content);
            assert_eq!(shown(&whole), Err(Malformed::Content(sample[0])), "{}: {end}", sample[0] as char);
        }
    }
}

#[test]
fn left_over_bytes_are_malformed() {
    for sample in samples() {
        let mut content = sample[5..].to_vec();
        content.push(0);
        assert_eq!(shown(&message(sample[0], &content)), Err(Malformed::Content(sample[0])));
    }
}

#[test]
fn a_query_of_length_ten_does_not_show_the_next_message() {
    let mut bytes = message(b'Q', b"select");
    bytes.extend_from_slice(&message(b'Q', b"secret\0"));
    let mut splitter = Splitter::new(Messages);
    assert!(matches!(splitter.step(&bytes), Err(Malformed::Content(b'Q'))));
}

#[test]
fn impossible_headers_are_malformed() {
    for (header, malformed) in [
        (*b"Q\0\0\0\x03", Malformed::Length { kind: b'Q', length: 3 }),
        (*b"d\xff\xff\xff\xff", Malformed::Length { kind: b'd', length: u32::MAX }),
        (*b"P\x40\0\0\0", Malformed::Length { kind: b'P', length: 0x4000_0000 }),
        (*b"S\0\0\x27\x11", Malformed::Length { kind: b'S', length: 10_001 }),
        // PostgreSQL fails it, and skips what lies behind it.
        (*b"H\0\0\0\x05", Malformed::Length { kind: b'H', length: 5 }),
        (*b"p\0\0\0\x08", Malformed::UnknownType(b'p')),
        (*b"\0\0\0\0\x08", Malformed::UnknownType(0)),
    ] {
        assert_eq!(Messages.head(&header), Err(malformed));
    }
}

/// Every event of `bytes`, fed in pieces that end at the given places, as text; and how many bytes were passed.
fn events(bytes: &[u8], pieces: &[usize]) -> (Vec<String>, usize) {
    let mut splitter = Splitter::new(Messages);
    let (mut seen, mut passed) = (Vec::new(), 0);
    for end in pieces.iter().copied().chain([bytes.len()]) {
        loop {
            match splitter.step(&bytes[passed..end]).unwrap() {
                Step::Starved => break,
                Step::Pass(count) => passed += count,
                Step::Show(event, count) => {
                    seen.push(format!("{event:?}"));
                    passed += count;
                }
                Step::Last(count) => {
                    passed += count;
                    return (seen, passed);
                }
                step => panic!("{step:?}"),
            }
            if passed == end {
                break;
            }
        }
    }
    (seen, passed)
}

#[test]
fn the_tap_sees_the_same_wherever_the_bytes_are_split() {
    let mut bytes: Vec<u8> = samples().concat();
    bytes.extend(message(b'd', &[b'x'; 300]));
    bytes.extend(message(b'H', b""));
    bytes.extend(samples().concat());
    bytes.extend(message(b'X', b""));
    let whole = events(&bytes, &[]);
    assert_eq!(whole.0.len(), 16);
    assert_eq!(whole.1, bytes.len());
    for first in 0..=bytes.len() {
        assert_eq!(events(&bytes, &[first]), whole, "{first}");
        let second = (first + 7).min(bytes.len());
        assert_eq!(events(&bytes, &[first, second]), whole, "{first}, {second}");
    }
    let each: Vec<usize> = (0..bytes.len()).collect();
    assert_eq!(events(&bytes, &each), whole, "one byte at a time");
}

#[test]
fn a_long_query_is_shown_by_its_beginning_wherever_the_bytes_are_split() {
    let mut text = vec![b'a'; 3 * SHOWN];
    text.push(0);
    let bytes = [message(b'Q', &text), message(b'Q', b"next\0")].concat();
    let mut splitter = Splitter::new(Messages);
    assert!(matches!(splitter.step(&bytes[..SHOWN - 1]), Ok(Step::Starved)));
    let Ok(Step::Show(Event::Query { text, cut }, SHOWN)) = splitter.step(&bytes[..SHOWN + 9]) else {
        panic!("not shown");
    };
    assert_eq!((text.len(), cut), (SHOWN - 5, (2 * SHOWN + 5) as u64));
    let whole = events(&bytes, &[]);
    for first in [1, 4, 5, 6, SHOWN - 1, SHOWN, SHOWN + 1, 3 * SHOWN + 5, 3 * SHOWN + 6, 3 * SHOWN + 7] {
        assert_eq!(events(&bytes, &[first]), whole, "{first}");
    }
}

#[test]
fn the_hash_of_a_long_text_is_shown_before_its_last_bytes_wherever_the_bytes_are_split() {
    let text: Vec<u8> = (0..3 * SHOWN).map(|place| b'a' + (place % 23) as u8).collect();
    let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &text);
    let end = Event::TextEnd { sha256: sha256.as_ref().try_into().unwrap(), length: text.len() as u64 };
    let query = message(b'Q', &[&text[..], b"\0"].concat());
    let parse = message(b'P', &[b"name\0", &text[..], b"\0\0\x02\0\0\0\x17\0\0\0\x19"].concat());
    for (frame, behind) in [(query, 1), (parse, 11)] {
        let bytes = [&frame[..], &message(b'Q', b"next\0")].concat();
        let (seen, passed) = events(&bytes, &[]);
        assert_eq!((seen.len(), passed), (3, bytes.len()));
        assert_eq!(seen[1], format!("{end:?}"));
        let text_ends = frame.len() - behind;
        let near = [SHOWN, text_ends, frame.len()].map(|place| place - 2..place + 3);
        for split in near.into_iter().flatten().chain([1, 5, 2 * SHOWN]) {
            assert_eq!(events(&bytes, &[split]).0, seen, "{split}");
            assert_eq!(events(&bytes, &[split, split + 1]).0, seen, "{split}");
        }
        // Everything but the last byte may be on its way; then the hash must be allowed first.
        let mut splitter = Splitter::new(Messages);
        let last = frame.len() - 1;
        assert!(matches!(splitter.step(&frame[..SHOWN]), Ok(Step::Show(_, SHOWN))));
        assert!(matches!(splitter.step(&frame[SHOWN..last]), Ok(Step::Pass(_))));
        assert!(matches!(splitter.step(&frame[last..]), Ok(Step::Show(Event::TextEnd { .. }, 1))));
    }
}

#[test]
fn the_hash_of_long_values_is_shown_before_their_last_bytes_wherever_the_bytes_are_split() {
    let value: Vec<u8> = (0..3 * SHOWN).map(|place| b'a' + (place % 23) as u8).collect();
    let length = u32::try_from(value.len()).unwrap().to_be_bytes();
    let values = [&length[..], &value, b"\0\0"].concat();
    let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &values);
    let end = Event::ValuesEnd { sha256: sha256.as_ref().try_into().unwrap(), length: values.len() as u64 };
    let bind = message(b'B', &[&b"p\0name\0\0\0\0\x01"[..], &values].concat());
    let call = message(b'F', &[&b"\0\0\x03\xbb\0\0\0\x01"[..], &values].concat());
    for frame in [bind, call] {
        let bytes = [&frame[..], &message(b'Q', b"next\0")].concat();
        let (seen, passed) = events(&bytes, &[]);
        assert_eq!((seen.len(), passed), (3, bytes.len()));
        assert_eq!(seen[1], format!("{end:?}"));
        let near = [SHOWN, frame.len()].map(|place| place - 2..place + 3);
        for split in near.into_iter().flatten().chain([1, 5, 2 * SHOWN]) {
            assert_eq!(events(&bytes, &[split]).0, seen, "{split}");
            assert_eq!(events(&bytes, &[split, split + 1]).0, seen, "{split}");
        }
        let mut splitter = Splitter::new(Messages);
        let last = frame.len() - 1;
        assert!(matches!(splitter.step(&frame[..SHOWN]), Ok(Step::Show(_, SHOWN))));
        assert!(matches!(splitter.step(&frame[SHOWN..last]), Ok(Step::Pass(_))));
        assert!(matches!(splitter.step(&frame[last..]), Ok(Step::Show(Event::ValuesEnd { .. }, 1))));
    }
}

#[test]
fn a_long_text_that_ends_early_or_never_is_malformed() {
    let text = vec![b'a'; 2 * SHOWN];
    for (kind, tail) in [
        (b'Q', &b"bb"[..]),
        (b'Q', b"\0b"),
        (b'Q', b"\0\0"),
        (b'P', b"bb"),
        (b'P', b"\0\0"),
        (b'P', b"\0\0\0\0"),
    ] {
        let frame =
            message(kind, &[b"\0".repeat(usize::from(kind == b'P')), text.clone(), tail.to_vec()].concat());
        let mut splitter = Splitter::new(Messages);
        assert!(matches!(splitter.step(&frame), Ok(Step::Show(_, SHOWN))));
        let result = splitter.step(&frame[SHOWN..]);
        assert!(matches!(result, Err(Malformed::Content(found)) if found == kind), "{tail:?}");
    }
}

#[test]
fn a_text_whose_nul_alone_is_not_shown_is_whole() {
    let mut text = vec![b'a'; SHOWN - 5];
    text.push(0);
    let bytes = message(b'Q', &text);
    let mut splitter = Splitter::new(Messages);
    let Ok(Step::Show(Event::Query { text, cut: 0 }, SHOWN)) = splitter.step(&bytes) else {
        panic!("not shown");
    };
    assert_eq!(text.len(), SHOWN - 5);
}

#[test]
fn a_nul_in_the_middle_of_a_long_query_is_malformed() {
    let mut text = vec![b'a'; 2 * SHOWN];
    text[SHOWN - 6] = 0;
    let bytes = message(b'Q', &text);
    assert!(matches!(Splitter::new(Messages).step(&bytes), Err(Malformed::Content(b'Q'))));
}

#[test]
fn a_long_value_is_shown_by_its_beginning() {
    let mut content = b"\0\0\0\0\0\x02\0\0\0\x01x".to_vec();
    content.extend_from_slice(&(SHOWN as u32 * 2).to_be_bytes());
    content.extend(vec![b'y'; SHOWN * 2]);
    content.extend(b"\0\0");
    let bytes = message(b'B', &content);
    let mut splitter = Splitter::new(Messages);
    let Ok(Step::Show(Event::Bind { parameters, cut, .. }, SHOWN)) = splitter.step(&bytes) else {
        panic!("not shown");
    };
    let values: Vec<_> = parameters.iter().collect();
    assert_eq!(parameters.count(), 2);
    assert_eq!((values[0].value, values[0].cut), (Some(&b"x"[..]), 0));
    assert_eq!(values[1].value.map(<[u8]>::len).unwrap() as u64 + values[1].cut, SHOWN as u64 * 2);
    assert_eq!(cut, (bytes.len() - SHOWN) as u64);
}

#[test]
fn latin1_is_shown_as_its_bytes() {
    let bytes = message(b'Q', b"select 'caf\xe9'\0");
    assert_eq!(shown(&bytes), Ok(Event::Query { text: b"select 'caf\xe9'", cut: 0 }));
}

/// Remembers answers as text.
struct Heard(Arc<Mutex<Vec<String>>>);

impl Answers for Heard {
    fn answered(&mut self, answer: Answer<'_>) {
        let text = match answer {
            Answer::Completed { tag } => format!("completed {} {:?}", tag.escape_ascii(), answer.rows()),
            other => format!("{other:?}"),
        };
        self.0.lock().unwrap().push(text);
    }
}

#[test]
fn answers_are_heard_the_same_wherever_the_bytes_are_split() {
    let error = [&b"SERROR\0VERROR\0C42P01\0M"[..], &[b'm'; 500], b"\0\0"].concat();
    let bytes = [
        message(b'T', &[0; 40]),
        message(b'D', &[b'C'; 300]),
        message(b'C', b"SELECT 1\0"),
        message(b's', b""),
        message(b'I', b""),
        message(b'E', &error),
        message(b'E', b"Mno state\0\0"),
        message(b'E', b""),
        message(b'C', &[b'x'; 400]),
        message(b'1', b""),
        message(b'2', b""),
        message(b'G', b"\0\0\0"),
        message(b'C', b"COPY 18446744073709551615\0"),
        message(b'H', b"\0\0\0"),
        message(b'd', b"Z\0\0\0\x05I"),
        message(b'C', b"INSERT 0 7\0"),
        message(b'W', b"\0\0\0"),
        message(b'V', b"\0\0\0\x01x"),
        message(b'A', b"\0\0\0\x07channel\0payload\0"),
        message(b'Z', b"I"),
        message(b'Z', b"T"),
        message(b'Z', b"E"),
        message(b'Z', b"?"),
        message(b'Z', b""),
    ]
    .concat();
    let failed = |state: &[u8]| {
        format!("{:?}", Answer::Failed { sql_state: crate::SqlState::parse(state), number: None })
    };
    let ready = |transaction| format!("{:?}", Answer::Ready { transaction });
    let expected = [
        "Stepped".to_owned(),
        "completed SELECT 1 Some(1)".to_owned(),
        "Suspended".to_owned(),
        "Empty".to_owned(),
        failed(b"42P01"),
        failed(b""),
        failed(b""),
        format!("completed {} None", "x".repeat(CAPTURED)),
        "Stepped".to_owned(),
        "Stepped".to_owned(),
        "CopyIn".to_owned(),
        format!("completed COPY {0} Some({0})", u64::MAX),
        "CopyOut".to_owned(),
        "completed INSERT 0 7 Some(7)".to_owned(),
        "CopyBoth".to_owned(),
        "Returned".to_owned(),
        ready(Some(Transaction::Idle)),
        ready(Some(Transaction::Open)),
        ready(Some(Transaction::Failed)),
        ready(None),
        ready(None),
    ];
    for step in 1..=bytes.len() {
        let heard = Arc::new(Mutex::default());
        let mut boundaries = Boundaries::<Messages>::new(Some(Box::new(Heard(Arc::clone(&heard)))));
        for chunk in bytes.chunks(step) {
            boundaries.follow(chunk);
        }
        assert!(boundaries.at_boundary());
        assert_eq!(*heard.lock().unwrap(), expected, "in steps of {step}");
    }
}

#[test]
fn an_upstream_that_breaks_the_protocol_is_never_at_a_boundary_again() {
    let mut boundaries = Boundaries::<Messages>::new(None);
    assert_eq!(boundaries.follow(&message(b'D', b"row")), Some(8));
    assert_eq!(boundaries.follow(b"D\0\0\0\x03"), Some(0));
    assert!(!boundaries.at_boundary());
    assert_eq!(boundaries.follow(&[0; 100_000]), None);
    assert!(!boundaries.at_boundary());
}

#[test]
fn of_what_is_set_the_encoding_is_told() {
    let told = |content: &'static [u8]| Messages::answer(b"S\0\0\0\0", content);
    assert_eq!(told(b"client_encoding\0SJIS\0"), Some(Answer::Encoding { name: b"SJIS" }));
    for other in [&b"client_encodings\0SJIS\0"[..], b"server_encoding\0UTF8\0", b"client_encoding", b""] {
        assert_eq!(told(other), None);
    }
    let greeting = b"S\0\0\0\x08a\x001\0N\0\0\0\x05\0S\0\0\0\x18client_encoding\0GBK\0S\0\0\0\x08b\x001\0";
    assert_eq!(encodings(greeting).collect::<Vec<_>>(), [Answer::Encoding { name: b"GBK" }]);
    assert_eq!(encodings(&greeting[..greeting.len() - 1]).count(), 1);
    assert_eq!(encodings(&greeting[..20]).count(), 0);
}
