//! HOT: what is going on in one session: which statements wait for an answer, how those came out that have one, and since
//! when the session is idle.
//!
//! Both pumps of the relay look in here, the client's when a statement goes by and the upstream's when an answer does. They
//! are polled by one task, so the lock around it is never waited for, and nobody holds it across an `.await`.

use std::collections::VecDeque;

use protocols::{Answer, Event, Ledger};
use tokio::time::Instant;

use super::{draft::Came, event::Outcome};

/// Results that may wait for room in the queue. A client can bring about no more than it sent since its last message was
/// shown to the tap, where they are queued before anything else; twice what a ledger holds is out of reach.
const MAX_OWED: usize = 2_048;

/// The statements of one session.
#[derive(Debug)]
pub(super) struct Statements {
    ledger: Ledger<Note>,
    /// Of the simple query that is being answered.
    open: Option<Outcome>,
    /// When the upstream last said something about a statement.
    answered: Instant,
    /// When client or upstream last did something that shows.
    active: Instant,
    /// The client has said something that is not forwarded yet.
    waits: bool,
    /// Results of no known statement that may be written down: one more than the client has asked for. Whatever an upstream
    /// says unasked, it fills no disk.
    unknown: u64,
    /// Results that found the queue full.
    owed: VecDeque<Came>,
    overrun: bool,
    encoding: Encoding,
}

/// In which encoding the upstream reads what the client says (PostgreSQL).
#[derive(Debug)]
struct Encoding {
    /// As the trail has it.
    on_record: Box<[u8]>,
    /// As the upstream says, where that is another one.
    reported: Option<Box<[u8]>>,
}

/// What is not said otherwise in the trail is in this.
const ENCODING: &str = "UTF8";

/// What is noted about a statement that waits for its answer.
#[derive(Clone, Copy, Debug)]
struct Note {
    /// `None` of what is answered and not recorded: how that comes out is not, either.
    ei: Option<u64>,
    forwarded: Instant,
    /// Rows that an execute may give at once.
    max_rows: u32,
    /// Answered several times, and at an end with the round.
    ends_with_round: bool,
}

impl Statements {
    /// `encoding`: what the client asked for, which is on record.
    pub(super) fn new(now: Instant, encoding: Option<&str>) -> Self {
        let on_record = encoding.unwrap_or(ENCODING).as_bytes().into();
        Self {
            ledger: Ledger::new(),
            open: None,
            answered: now,
            active: now,
            waits: false,
            unknown: 1,
            owed: VecDeque::new(),
            overrun: false,
            encoding: Encoding { on_record, reported: None },
        }
    }

    /// The client said something, which may have to wait for room in the queue. True when results are owed, or the encoding is
    /// another one: they go first.
    #[must_use]
    pub(super) fn shown(&mut self) -> bool {
        self.waits = true;
        self.overrun || !self.owed.is_empty() || self.encoding.reported.is_some()
    }

    /// The client is in the middle of a message, or sends what is no statement.
    pub(super) fn went_on(&mut self, now: Instant) {
        self.active = now;
    }

    /// The client's message is on record under `ei` (if it is one that is recorded), and about to be forwarded.
    pub(super) fn asked(&mut self, event: &Event<'_>, ei: Option<u64>, now: Instant) {
        self.active = now;
        self.waits = false;
        self.unknown = self.unknown.saturating_add(1);
        let max_rows = if let Event::Execute { max_rows, .. } = event { *max_rows } else { 0 };
        let ends_with_round = !matches!(event, Event::Execute { .. });
        self.ledger.asked(event, || Note { ei, forwarded: now, max_rows, ends_with_round });
    }

    /// The upstream answered. Returns how a statement came out that is at an end.
    pub(super) fn answered(&mut self, answer: &Answer<'_>, now: Instant) -> Option<Outcome> {
        if let Answer::Encoding { name } = answer {
            self.encoding.report(name);
            return None;
        }
        self.active = now;
        let note = self.ledger.answered(answer).copied();
        if let Answer::Stepped = answer {
            return None;
        }
        let before = std::mem::replace(&mut self.answered, now);
        match (answer, note) {
            (Answer::Ready { .. }, _) => {
                let mut outcome = self.open.take()?;
                outcome.took(now.saturating_duration_since(before));
                Some(outcome)
            }
            (Answer::CopyIn | Answer::CopyOut | Answer::CopyBoth, _) => None,
            (answer, Some(note)) => self.heard(answer, note, before, now),
            (answer, None) => self.heard_of_unknown(answer),
        }
    }

    /// An answer to nobody knows what: it is of the query that is being answered, or of no known statement. What such
    /// statements say in one round is one result.
    fn heard_of_unknown(&mut self, answer: &Answer<'_>) -> Option<Outcome> {
        if self.open.is_none() {
            self.unknown = self.unknown.checked_sub(1)?;
        }
        let mut outcome = self.open.take().unwrap_or_default();
        outcome.hear(answer, 0);
        if outcome.success {
            self.open = Some(outcome);
            return None;
        }
        Some(outcome)
    }

    fn heard(&mut self, answer: &Answer<'_>, note: Note, before: Instant, now: Instant) -> Option<Outcome> {
        let ei = note.ei?;
        let mut outcome = self.open.take().unwrap_or_else(|| Outcome::of(ei));
        outcome.hear(answer, note.max_rows);
        // In a pipeline, the upstream was busy with what lies before.
        outcome.took(now.saturating_duration_since(before.max(note.forwarded)));
        if note.ends_with_round && outcome.success {
            self.open = Some(outcome);
            return None;
        }
        Some(outcome)
    }

    /// Since when nothing has happened and nothing is awaited; `None` while a statement runs or its result comes in.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (!self.waits && !self.ledger.is_busy()).then_some(self.active)
    }

    /// Keeps a result for which the queue had no room. False when it is lost.
    #[must_use]
    pub(super) fn owe(&mut self, result: Came) -> bool {
        self.overrun |= self.owed.len() >= MAX_OWED;
        if !self.overrun {
            self.owed.push_back(result);
        }
        !self.overrun
    }

    /// The oldest result that is not queued yet.
    pub(super) fn owed(&self) -> Option<&Came> {
        self.owed.front()
    }

    /// The oldest result is queued.
    pub(super) fn paid(&mut self) {
        self.owed.pop_front();
    }

    /// All results that are not queued yet.
    pub(super) fn take_owed(&mut self) -> VecDeque<Came> {
        std::mem::take(&mut self.owed)
    }

    /// In which encoding the upstream reads what the client says now, where the trail does not say so. What it was between two
    /// messages of the client matters to nobody.
    pub(super) fn encoding(&self) -> Option<Box<str>> {
        let reported = self.encoding.reported.as_deref()?;
        Some(String::from_utf8_lossy(reported).into())
    }

    /// This one is on record now. The upstream may have said another meanwhile.
    pub(super) fn encoding_recorded(&mut self, name: &str) {
        self.encoding.on_record = name.as_bytes().into();
        self.encoding.reported.take_if(|reported| is_same(reported, name.as_bytes()));
    }

    /// Are results lost?
    pub(super) fn is_overrun(&self) -> bool {
        self.overrun
    }
}

impl Encoding {
    fn report(&mut self, name: &[u8]) {
        self.reported = (!is_same(name, &self.on_record)).then(|| name.into());
    }
}

/// As PostgreSQL compares names of encodings: `utf-8` is `UTF8`.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let counts = |name: &[u8]| -> Vec<u8> {
        name.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect()
    };
    counts(one) == counts(other)
}

#[cfg(test)]
mod tests;
