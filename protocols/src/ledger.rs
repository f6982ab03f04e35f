//! Which statement an answer belongs to: what a client asked and what the upstream answered, paired.
//!
//! A client may ask on without waiting (a pipeline), and PostgreSQL answers in order, except that an error
//! skips what lies behind it, up to the end of its round. MySQL answers one command after the other, each as a
//! simple query is answered. The ledger follows both, from what a tap sees and
//! hears, so that duration, rows and outcome come to the right statement; and it knows whether the upstream
//! is at work, so that an idle timeout kills no running query.
//!
//! It never guesses: where a client does what no answer can be attributed to (see [`Ledger::asked`]), the
//! ledger is *adrift*, attributes nothing, and calls the session busy.

use std::collections::VecDeque;

use crate::answer::Answer;
use crate::event::Event;

/// Statements that may be asked and not answered: what a driver sends in one go of a long pipeline, and less
/// than a MiB of notes of a hundred bytes.
const PENDING: usize = 8_192;
/// Of these, the room for so many stays when the session is idle.
const KEPT: usize = 16;

/// What was asked and is not answered. `T` is what its owner notes about a statement: when it began, under
/// which number it is in the audit trail.
#[derive(Debug)]
pub struct Ledger<T> {
    asked: VecDeque<Asked<T>>,
    /// The statement that was answered last and has left `asked`.
    last: Option<T>,
    /// Since the last end of a round, the client has prepared or run something that takes a Sync to end.
    extended: bool,
    mood: Mood,
}

#[derive(Debug)]
enum Asked<T> {
    /// Ends its own round; many answers. `mixed`: behind extended messages of the same round.
    Query {
        note: T,
        mixed: bool,
    },
    /// One answer, and no end of the round.
    Execute(T),
    Sync,
    CopyEnd,
}

/// What becomes of what the client asks now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Following,
    /// The round has failed: skipped by the upstream up to the next Sync.
    Skipping,
    /// COPY data is awaited: a Sync in it is ignored (PostgreSQL `CopyGetData`).
    Copying,
    /// Rounds that are not over, at least.
    Adrift(u64),
}

impl<T> Default for Ledger<T> {
    fn default() -> Self {
        Self { asked: VecDeque::new(), last: None, extended: false, mood: Mood::Following }
    }
}

impl<T> Ledger<T> {
    /// A session that has just begun: the upstream waits for the client.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// True while the upstream has something to do, or to say. COPY and replication count as long as they
    /// last.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        let awaits = |asked: &Asked<T>| !matches!(asked, Asked::CopyEnd);
        self.asked.iter().any(awaits) || matches!(self.mood, Mood::Adrift(_))
    }

    /// The client asks. Must be called before the event's message is forwarded. `note` is called for a Query,
    /// an Execute, a FunctionCall or a command of MySQL's that will be answered.
    ///
    /// A client with more than 8,192 statements on their way, or one that sends a simple query in the middle
    /// of a round of the extended protocol which then fails, sets the ledger adrift; it comes back when
    /// everything that was asked is answered.
    pub fn asked(&mut self, event: &Event<'_>, note: impl FnOnce() -> T) {
        let is_command = matches!(event, Event::Mysql(command) if command.is_answered());
        let ends_round =
            is_command || matches!(event, Event::Query { .. } | Event::FunctionCall { .. } | Event::Sync);
        match (self.mood, event) {
            (Mood::Adrift(rounds), _) => self.mood = Mood::Adrift(rounds + u64::from(ends_round)),
            (Mood::Skipping, Event::Sync) => self.push(Asked::Sync, Mood::Following),
            (Mood::Copying, Event::CopyEnd { .. }) => self.mood = Mood::Following,
            (Mood::Skipping, _) | (Mood::Copying, Event::Sync) => {}
            (mood, Event::Query { .. } | Event::FunctionCall { .. }) => {
                self.push(Asked::Query { note: note(), mixed: self.extended }, mood);
            }
            (mood, Event::Mysql(_)) if is_command => {
                self.push(Asked::Query { note: note(), mixed: false }, mood);
            }
            (mood, Event::Execute { .. }) => self.push(Asked::Execute(note()), mood),
            (mood, Event::Sync) => self.push(Asked::Sync, mood),
            // Nobody asked for it, and PostgreSQL ignores it; or the upstream has not said yet that it waits.
            (mood, Event::CopyEnd { .. }) if !self.asked.is_empty() => self.push(Asked::CopyEnd, mood),
            (_, Event::Parse { .. } | Event::Bind { .. } | Event::Close { .. }) => self.extended = true,
            (
                _,
                Event::CopyEnd { .. }
                | Event::TextEnd { .. }
                | Event::Mysql(_)
                | Event::Ssh(_)
                | Event::Malformed { .. },
            ) => {}
        }
        if let Event::Execute { .. } = event {
            self.extended = true;
        } else if ends_round {
            self.extended = false;
        }
    }

    /// The upstream answers. Returns the note of the statement that this is about; a Query that holds several
    /// statements has several answers. Statements that are skipped because of an error before them are never
    /// answered.
    pub fn answered(&mut self, answer: &Answer<'_>) -> Option<&mut T> {
        if let Mood::Adrift(rounds) = self.mood {
            self.drift(rounds, answer);
            return None;
        }
        while let Some(Asked::CopyEnd) = self.asked.front() {
            self.asked.pop_front();
        }
        match answer {
            Answer::Ready { .. } => {
                self.end_round();
                return None;
            }
            Answer::CopyIn | Answer::CopyBoth => self.begin_copy(),
            Answer::Failed { .. } => return self.fail(),
            _ => {}
        }
        if let Some(Asked::Sync) = self.asked.front() {
            // No Sync is answered so: what was asked is not what we think.
            self.lose();
            return None;
        }
        let done = !matches!(answer, Answer::CopyIn | Answer::CopyOut | Answer::CopyBoth);
        if done && self.mood == Mood::Copying {
            self.mood = Mood::Following;
        }
        self.front(done)
    }

    /// The statement at the front; an Execute that is done leaves.
    fn front(&mut self, done: bool) -> Option<&mut T> {
        if let (Some(Asked::Execute(_)), true) = (self.asked.front(), done) {
            if let Some(Asked::Execute(note)) = self.asked.pop_front() {
                self.last = Some(note);
            }
            return self.last.as_mut();
        }
        match self.asked.front_mut()? {
            Asked::Query { note, .. } | Asked::Execute(note) => Some(note),
            Asked::Sync | Asked::CopyEnd => None,
        }
    }

    fn push(&mut self, asked: Asked<T>, mood: Mood) {
        self.mood = mood;
        self.asked.push_back(asked);
        if self.asked.len() > PENDING {
            self.lose();
        }
    }

    /// From here on only rounds are counted.
    fn lose(&mut self) {
        let ends = |asked: &&Asked<T>| matches!(asked, Asked::Query { .. } | Asked::Sync);
        self.mood = Mood::Adrift(self.asked.iter().filter(ends).count() as u64);
        self.asked = VecDeque::new();
    }

    fn drift(&mut self, rounds: u64, answer: &Answer<'_>) {
        if let Answer::Ready { .. } = answer {
            // The last round is over: nothing is on its way but what no Sync has ended yet.
            self.mood = if rounds <= 1 && !self.extended {
                Mood::Following
            } else {
                Mood::Adrift(rounds.saturating_sub(1))
            };
        }
    }

    /// Everything up to the front round's end is answered.
    fn end_round(&mut self) {
        if self.mood == Mood::Copying {
            self.mood = Mood::Following;
        }
        while let Some(asked) = self.asked.pop_front() {
            if matches!(asked, Asked::Query { .. } | Asked::Sync) {
                break;
            }
        }
        if self.asked.is_empty() {
            self.asked.shrink_to(KEPT);
        }
    }

    /// Syncs are ignored up to the end of the data, wherever that is already.
    fn begin_copy(&mut self) {
        self.mood = Mood::Copying;
        while let Some(Asked::Sync | Asked::CopyEnd) = self.asked.get(1) {
            if let Some(Asked::CopyEnd) = self.asked.remove(1) {
                self.mood = Mood::Following;
                return;
            }
        }
    }

    /// An error: of the statement at the front, or of a message before it in its round.
    fn fail(&mut self) -> Option<&mut T> {
        match self.asked.front() {
            Some(Asked::Query { mixed: true, .. }) => {
                // Is it the query's, and its round ends with it, or did something before it fail, and the
                // query is skipped?
                self.lose();
                None
            }
            Some(Asked::Execute(_)) | None => {
                let failed = self.asked.pop_front();
                while self.asked.front().is_some_and(|asked| !matches!(asked, Asked::Sync)) {
                    self.asked.pop_front();
                }
                self.mood = if self.asked.is_empty() { Mood::Skipping } else { Mood::Following };
                let Some(Asked::Execute(note)) = failed else { return None };
                self.last = Some(note);
                self.last.as_mut()
            }
            Some(_) => {
                self.mood = Mood::Following;
                self.front(false)
            }
        }
    }
}

#[cfg(test)]
mod tests;
