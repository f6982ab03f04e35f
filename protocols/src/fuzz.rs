//! What a fuzzer calls: bytes from outside, and what must hold whatever they are.
//!
//! Built for tests and under `cfg(fuzzing)` alone. A panic is a finding.

use crate::answer::{Answer, Answers};
use crate::frame::{Boundaries, Splitter, Step};
use crate::mysql::{self, Capabilities};
use crate::postgres::{self, Messages};
use crate::{Event, Ledger, Malformed};

use std::sync::{Arc, Mutex, PoisonError};

/// A start-up packet: what is understood is said to the upstream so that it is understood the same again.
pub fn startup(bytes: &[u8]) {
    postgres::fuzz_startup(bytes);
}

/// Client messages: the tap sees the same, and as many bytes pass, however they are split on their way. Only
/// of a long message that turns out to be malformed may more or fewer of its first bytes have passed: the
/// upstream cannot run it without its last.
pub fn client(bytes: &[u8]) {
    let whole = split(bytes, bytes.len().max(1));
    let step = 1 + usize::from(bytes.first().copied().unwrap_or(0)) % 97;
    let stepped = split(bytes, step);
    assert!((&stepped.0, stepped.2) == (&whole.0, whole.2), "the tap sees something else in steps of {step}");
    assert!(stepped.1 == whole.1 || whole.2.is_some(), "something else passes in steps of {step}");
    assert!(stepped.1.max(whole.1) <= bytes.len(), "no more passes than came");
}

/// Upstream messages: boundaries and answers are the same however the bytes are split; what is read before
/// login is read without a panic.
pub fn upstream(bytes: &[u8]) {
    let whole = follow(bytes, bytes.len().max(1));
    let step = 1 + usize::from(bytes.first().copied().unwrap_or(0)) % 97;
    assert_eq!(follow(bytes, step), whole, "in steps of {step}");
    postgres::fuzz_login_answers(bytes);
}

/// MySQL's login: what a client answers to our greeting, and what an upstream may say before it is ready.
pub fn mysql_login(bytes: &[u8]) {
    mysql::fuzz_response(bytes);
    mysql::fuzz_login_answers(bytes);
}

/// MySQL's commands: the tap sees the same, and the upstream gets the same, however the bytes are split on their
/// way; with attributes in front of queries, and without.
pub fn mysql_client(bytes: &[u8]) {
    let step = 1 + usize::from(bytes.first().copied().unwrap_or(0)) % 97;
    for flags in [Capabilities::NONE, Capabilities::QUERY_ATTRIBUTES] {
        let whole = mysql::fuzz::ask(flags, bytes, bytes.len().max(1));
        let stepped = mysql::fuzz::ask(flags, bytes, step);
        assert!((&stepped.seen, stepped.malformed) == (&whole.seen, whole.malformed), "in steps of {step}");
        assert!(
            whole.malformed.is_some()
                || (&stepped.forwarded, stepped.decided) == (&whole.forwarded, whole.decided),
            "the upstream gets something else in steps of {step}"
        );
    }
}

/// MySQL's answers: what the client hears, and how each came out, is the same however the bytes are split.
pub fn mysql_upstream(bytes: &[u8]) {
    let step = 1 + usize::from(bytes.first().copied().unwrap_or(0)) % 97;
    for flags in [
        Capabilities::NONE,
        Capabilities::DEPRECATE_EOF,
        Capabilities::DEPRECATE_EOF | Capabilities::OPTIONAL_METADATA,
        Capabilities::MARIADB_CACHE_METADATA | Capabilities::MARIADB_PROGRESS,
    ] {
        let whole = mysql::fuzz::answer(flags, bytes, bytes.len().max(1));
        assert_eq!(mysql::fuzz::answer(flags, bytes, step), whole, "{flags} in steps of {step}");
    }
}

/// MySQL's compressed packets: what comes out is the same however the bytes are split and however much space there is, and
/// no more than they say that they hold.
pub fn mysql_compressed(bytes: &[u8]) {
    mysql::fuzz_compressed(bytes);
}

/// Events as text, bytes passed, and how it ended.
type Passed = (Vec<String>, usize, Option<Malformed>);

fn split(bytes: &[u8], step: usize) -> Passed {
    let (mut splitter, mut ledger) = (Splitter::new(Messages), Ledger::new());
    let (mut seen, mut passed, mut there) = (Vec::new(), 0, 0);
    while there < bytes.len() {
        there = bytes.len().min(there + step);
        while let Some(rest) = bytes.get(passed..there).filter(|rest| !rest.is_empty()) {
            match splitter.step(rest) {
                Ok(Step::Starved) => break,
                Ok(Step::Pass(count)) => passed += count,
                Ok(Step::Show(event, count)) => {
                    ledger.asked(&event, || ());
                    seen.push(describe(&event));
                    passed += count;
                }
                Ok(Step::Last(count)) => return (seen, passed + count, None),
                Ok(step) => unreachable!("PostgreSQL never takes {step:?}"),
                Err(malformed) => return (seen, passed, Some(malformed)),
            }
        }
    }
    (seen, passed, None)
}

/// The event, and every parameter in it.
fn describe(event: &Event<'_>) -> String {
    match event {
        Event::Bind { parameters, .. } | Event::FunctionCall { arguments: parameters, .. } => {
            format!("{event:?} {:?}", parameters.iter().collect::<Vec<_>>())
        }
        _ => format!("{event:?}"),
    }
}

/// Hears answers, and pairs them with questions that nobody asked.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<(Vec<String>, Ledger<()>)>>);

impl Answers for Heard {
    fn answered(&mut self, answer: Answer<'_>) {
        let (heard, ledger) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.push(format!("{answer:?} {:?}", answer.rows()));
        ledger.answered(&answer);
    }
}

/// Answers as text, and whether the bytes end with a message.
fn follow(bytes: &[u8], step: usize) -> (Vec<String>, bool) {
    let heard = Heard::default();
    let mut boundaries = Boundaries::<Messages>::new(Some(Box::new(heard.clone())));
    for chunk in bytes.chunks(step) {
        let last = boundaries.follow(chunk);
        assert!(last.is_none_or(|end| end <= chunk.len()), "a boundary lies within the bytes");
    }
    let (heard, _) = &mut *heard.0.lock().unwrap_or_else(PoisonError::into_inner);
    (std::mem::take(heard), boundaries.at_boundary())
}

#[cfg(test)]
mod tests;
