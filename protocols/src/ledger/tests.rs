//! Pipelines, errors and COPY, message by message as PostgreSQL answers them.

use super::*;
use crate::event::PreparedKind;

const READY: Answer<'_> = Answer::Ready { transaction: None };
const DONE: Answer<'_> = Answer::Completed { tag: b"SELECT 1" };
const FAILED: Answer<'_> = Answer::Failed { sql_state: None, number: None };
const END: Event<'_> = Event::CopyEnd { failed: false };

/// Plays a session: a digit runs a statement of that name, `q` and a digit asks it simply, `p` prepares, `s`
/// syncs, `d` describes, `c` ends COPY data; `+` says that something was prepared or described, `!` fails, `.`
/// completes, `z` is ready, `i` takes COPY data. Returns what each answer but `+` was about, and whether the session
/// is busy at the end.
fn play(script: &str) -> (String, bool) {
    let mut ledger = Ledger::new();
    let mut about = String::new();
    let mut simple = false;
    for step in script.chars() {
        let answer = match step {
            'q' => {
                simple = true;
                continue;
            }
            '0'..='9' if simple => {
                ledger.asked(&Event::Query { text: b"", cut: 0 }, || step);
                simple = false;
                continue;
            }
            '0'..='9' => {
                ledger.asked(&Event::Execute { portal: b"", max_rows: 0 }, || step);
                continue;
            }
            'p' | 'd' | 's' | 'c' => {
                let event = match step {
                    'p' => Event::Parse { statement: b"", text: b"", cut: 0 },
                    'd' => Event::Describe { kind: PreparedKind::Statement, name: b"" },
                    's' => Event::Sync,
                    _ => END,
                };
                ledger.asked(&event, || unreachable!());
                continue;
            }
            '+' => {
                assert!(ledger.answered(&Answer::Stepped).is_none());
                continue;
            }
            '.' => DONE,
            '!' => FAILED,
            'i' => Answer::CopyIn,
            'z' => READY,
            _ => continue,
        };
        about.push(ledger.answered(&answer).map_or('-', |note| *note));
    }
    (about, ledger.is_busy())
}

#[test]
fn every_answer_comes_to_its_statement() {
    for (session, script, about, busy) in [
        ("a query of two statements", "q1 . . z", "11-", false),
        ("one that fails in the second", "q1 . ! z", "11-", false),
        ("a query that runs", "q1 .", "1", true),
        ("a query whose rows are described", "q1 + . z", "1-", false),
        ("one statement, prepared", "p 1 s + . z", "1-", false),
        ("a pipeline of rounds", "p1s 2s 3s + . z . z", "1-2-", true),
        ("without a Sync, after its answer", "p 1 + .", "1", false),
        ("an error skips its round alone", "1 2 s 3 s ! z . z", "1-3-", false),
        ("asked behind an error that is not known yet", "1 ! 2 3 s z 4 s . z", "1-4-", false),
        ("the preparation fails", "p 1 s ! z 2 s . z", "1-2-", false),
        ("the second of two preparations fails", "p p 1 s + ! z 2 s . z", "1-2-", false),
        ("a preparation fails alone", "p ! 1 s z", "--", false),
        ("the commit fails", "1 s . ! z", "1--", false),
        ("an error in a query is its own alone", "q1 q2 ! z . z", "1-2-", false),
        ("a query behind a preparation that fails is skipped", "p q1 s ! z q2 . z", "--2-", false),
        ("one behind a preparation that goes well fails", "p q1 s + ! z z q2 . z", "1--2-", false),
        ("a query behind a description that fails is skipped", "d q1 s ! z q2 ! z q3 . z", "--2-3-", false),
        ("an upstream that fails without end", "q1 ! ! ! z", "1---", false),
        ("COPY, simply", "q1 i c . z", "11-", false),
        ("COPY, where libpq syncs too early", "p 1 s + i c s . z", "11-", false),
        ("COPY, in one go", "p 1 s c s + i . z", "11-", false),
        ("COPY that waits for its data", "q1 i", "1", true),
        ("COPY that fails", "p 1 s + i ! c s z 2 s . z", "11-2-", false),
        ("COPY that fails before it sees a Sync", "p 1 s + i ! z c s z q2 . z", "11--2-", false),
        ("the same, all sent before", "p 1 s c s q2 + i ! z z . z", "11--2-", false),
        ("and where it has seen it", "p 1 s c s q2 + i ! z . z", "11-2-", false),
        ("a query's COPY that fails before it sees two Syncs", "q1 i s s c q2 ! z z z . z", "11---2-", false),
        ("COPY that has failed before its end is sent", "q1 i ! c z", "11-", false),
        ("an end of no COPY, last", "q1 c . z", "1-", false),
        ("an end of no COPY", "c q1 c . z q2 . z", "1-2-", false),
    ] {
        assert_eq!(play(script), (about.to_owned(), busy), "{session}");
    }
}

#[test]
fn what_cannot_be_attributed_is_not_and_counts_as_busy() {
    assert_eq!(play("s 1 s . . z"), ("---".to_owned(), true));
    // Has the upstream seen the Sync, and runs this? Or does it skip it?
    assert_eq!(play("p 1 s + i ! q2 z . z"), ("11---".to_owned(), true));
    assert_eq!(play("p 1 s c q2 s + i ! z . z z"), ("11----".to_owned(), true));
}

#[test]
fn a_client_that_never_waits_takes_no_more_memory() {
    let mut ledger = Ledger::new();
    for _ in 0..100_000 {
        ledger.asked(&Event::Execute { portal: b"", max_rows: 0 }, || [0_u8; 64]);
    }
    assert!(ledger.asked.len() <= PENDING && ledger.is_busy());
    ledger.asked(&Event::Sync, || [0; 64]);
    assert!(ledger.answered(&READY).is_none());
    assert!(!ledger.is_busy());
}
