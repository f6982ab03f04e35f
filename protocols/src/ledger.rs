//! Which statement an answer belongs to: what a client asked and what the upstream answered, paired.
//!
//! A client may ask on without waiting (a pipeline), and PostgreSQL answers in order, except that an error
//! skips what lies behind it, up to the end of its round. MySQL answers one command after the other, each as a
//! simple query is answered. The ledger follows both, from what a tap sees and
//! hears, so that duration, rows and outcome come to the right statement; and it knows whether the upstream
//! is at work, so that an idle timeout kills no running query.
//!
//! It never guesses: where a client does what no answer can be attributed to (see [`Ledger::asked`]), the
//! ledger is *adrift*, attributes nothing, and calls the session busy. The client may be hostile: whatever it
//! sends, in whatever order, no answer is said to be another statement's.

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
    /// So many Syncs came to a COPY that failed. Each was ignored by it, or is answered before anything that
    /// lies behind it.
    strays: u32,
    mood: Mood,
}

#[derive(Debug)]
enum Asked<T> {
    /// So many messages that prepare, describe or close: each has an answer of its own.
    Steps(u32),
    /// Ends its own round; many answers.
    Query {
        note: T,
        heard: Heard,
    },
    /// One answer, and no end of the round.
    Execute(T),
    Sync,
    CopyEnd,
}

/// What the upstream has said about a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Nothing,
    Something,
    /// It says no more before the round is over.
    Failure,
}

/// What becomes of what the client asks now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Following,
    /// The round has failed: skipped by the upstream up to the next Sync.
    Skipping,
    /// The same, unless the upstream has seen a Sync already.
    Doubtful,
    /// The statement at the front takes COPY data: a Sync in it is ignored (PostgreSQL `CopyGetData`).
    Copying,
    /// Rounds that are not over. What the upstream skips cannot be counted.
    Adrift {
        rounds: u64,
        countable: bool,
    },
}

impl<T> Default for Ledger<T> {
    fn default() -> Self {
        Self { asked: VecDeque::new(), last: None, extended: false, strays: 0, mood: Mood::Following }
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
        let awaits = |asked: &Asked<T>| !matches!(asked, Asked::CopyEnd | Asked::Steps(_));
        self.asked.iter().any(awaits) || matches!(self.mood, Mood::Adrift { .. })
    }

    /// The client asks. Must be called before the event's message is forwarded. `note` is called for a Query,
    /// an Execute, a FunctionCall or a command of MySQL's that will be answered.
    ///
    /// A client with more than 8,192 statements on their way sets the ledger adrift; it comes back when
    /// everything that was asked is answered. It does not come back where that cannot be known: a query or COPY
    /// data in the middle of those, or, while COPY data is awaited that then fails, a Sync and anything but the
    /// end of the data behind it.
    pub fn asked(&mut self, event: &Event<'_>, note: impl FnOnce() -> T) {
        let is_command = matches!(event, Event::Mysql(command) if command.is_answered());
        let is_simple = matches!(event, Event::Query { .. } | Event::FunctionCall { .. });
        let is_step = matches!(
            event,
            Event::Parse { .. } | Event::Bind { .. } | Event::Describe { .. } | Event::Close { .. }
        );
        let is_extended = is_step || matches!(event, Event::Execute { .. });
        let ends_round = is_command || is_simple || matches!(event, Event::Sync);
        match (self.mood, event) {
            (Mood::Adrift { rounds, countable }, _) => {
                let rounds = rounds + u64::from(ends_round);
                self.mood = Mood::Adrift { rounds, countable: countable && !(is_simple && self.extended) };
            }
            (Mood::Skipping | Mood::Doubtful, Event::Sync) => {
                self.mood = Mood::Following;
                self.push(Asked::Sync);
            }
            (Mood::Doubtful, _) if is_extended || ends_round => {
                self.mood = Mood::Adrift { rounds: u64::from(ends_round), countable: false };
            }
            (Mood::Skipping | Mood::Doubtful, _) => {}
            (_, Event::Execute { .. }) => self.push(Asked::Execute(note())),
            (_, Event::Sync) => self.push(Asked::Sync),
            _ if is_simple || is_command => self.push(Asked::Query { note: note(), heard: Heard::Nothing }),
            _ if is_step => self.step(),
            // Where nobody asked for it, PostgreSQL ignores it.
            (_, Event::CopyEnd { .. }) if !self.asked.is_empty() => self.push(Asked::CopyEnd),
            _ => {}
        }
        self.extended = (self.extended && !ends_round) || is_extended;
    }

    /// The upstream answers. Returns the note of the statement that this is about; a Query that holds several
    /// statements has several answers. A message that prepares something and fails is about the Execute behind
    /// it, if that was asked. Statements that are skipped because of an error before them are never answered.
    pub fn answered(&mut self, answer: &Answer<'_>) -> Option<&mut T> {
        if let Answer::Encoding { .. } = answer {
            // It answers nothing, and may come by itself.
            return None;
        }
        if let Mood::Adrift { rounds, countable } = self.mood {
            self.drift(rounds, countable, answer);
            return None;
        }
        self.drop_copy_ends();
        match answer {
            Answer::Ready { .. } => {
                self.ready();
                None
            }
            Answer::Failed { .. } => self.fail(),
            Answer::Stepped => {
                self.stepped();
                None
            }
            Answer::CopyIn | Answer::CopyBoth => {
                self.strays = 0;
                self.mood = Mood::Copying;
                self.front()
            }
            Answer::CopyOut => {
                self.strays = 0;
                self.front()
            }
            _ => self.complete(),
        }
    }

    /// The statement at the front.
    fn front(&mut self) -> Option<&mut T> {
        if let Some(Asked::Steps(_) | Asked::Sync) = self.asked.front() {
            // None of them is answered so: what was asked is not what we think.
            self.lose();
        }
        match self.asked.front_mut()? {
            Asked::Query { heard: Heard::Failure, .. } => None,
            Asked::Query { note, .. } | Asked::Execute(note) => Some(note),
            Asked::Steps(_) | Asked::Sync | Asked::CopyEnd => None,
        }
    }

    /// The statement at the front is done, or one of several in a query; an Execute leaves.
    fn complete(&mut self) -> Option<&mut T> {
        self.strays = 0;
        if self.mood == Mood::Copying {
            self.mood = Mood::Following;
            self.swallow(1);
        }
        match self.asked.front_mut() {
            Some(Asked::Execute(_)) => self.leave(),
            Some(Asked::Query { heard, .. }) if *heard == Heard::Nothing => {
                *heard = Heard::Something;
                self.front()
            }
            _ => self.front(),
        }
    }

    /// The Execute at the front, if it is one, is answered.
    fn leave(&mut self) -> Option<&mut T> {
        let Some(Asked::Execute(_)) = self.asked.front() else { return None };
        let Some(Asked::Execute(note)) = self.asked.pop_front() else { return None };
        self.last = Some(note);
        self.last.as_mut()
    }

    /// A message that prepares something has gone well. (Queries describe their rows in the same words.)
    fn stepped(&mut self) {
        self.strays = 0;
        if let Some(Asked::Steps(left)) = self.asked.front_mut() {
            *left -= 1;
            if *left == 0 {
                self.asked.pop_front();
            }
        }
    }

    fn step(&mut self) {
        match self.asked.back_mut() {
            Some(Asked::Steps(steps)) => *steps = steps.saturating_add(1),
            _ => self.push(Asked::Steps(1)),
        }
    }

    fn push(&mut self, asked: Asked<T>) {
        self.asked.push_back(asked);
        if self.asked.len() > PENDING {
            self.lose();
        }
    }

    /// From here on only rounds are counted.
    fn lose(&mut self) {
        let (mut rounds, mut extended) = (0, false);
        let mut countable = self.mood == Mood::Following && self.strays == 0;
        for asked in &self.asked {
            match asked {
                Asked::Steps(_) | Asked::Execute(_) => extended = true,
                // Is it skipped, should something before it fail?
                Asked::Query { .. } => countable &= !extended,
                Asked::Sync | Asked::CopyEnd => {}
            }
            if let Asked::Query { .. } | Asked::Sync = asked {
                (rounds, extended) = (rounds + 1, false);
            }
        }
        self.mood = Mood::Adrift { rounds, countable };
        self.asked = VecDeque::new();
    }

    fn drift(&mut self, rounds: u64, countable: bool, answer: &Answer<'_>) {
        self.mood = match answer {
            // The last round is over: nothing is on its way but what no Sync has ended yet.
            Answer::Ready { .. } if countable && rounds <= 1 && !self.extended => Mood::Following,
            Answer::Ready { .. } => Mood::Adrift { rounds: rounds.saturating_sub(1), countable },
            // Syncs in it are not answered.
            Answer::CopyIn | Answer::CopyBoth => Mood::Adrift { rounds, countable: false },
            _ => return,
        };
    }

    /// Everything up to the front round's end is answered; or a Sync that a COPY might have ignored, and did not.
    fn ready(&mut self) {
        let is_expected = match self.asked.front() {
            Some(Asked::Sync) => true,
            Some(Asked::Query { heard, .. }) => *heard != Heard::Nothing,
            _ => false,
        };
        if let Mood::Copying | Mood::Skipping | Mood::Doubtful = self.mood {
            self.mood = Mood::Following;
        }
        if !is_expected && self.strays > 0 {
            self.strays -= 1;
            return;
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

    /// An error: of the statement at the front, or of a message before it in its round.
    fn fail(&mut self) -> Option<&mut T> {
        self.strays = 0;
        let copying = self.mood == Mood::Copying;
        match self.asked.front_mut() {
            Some(Asked::Query { heard, .. }) => {
                let is_first = *heard != Heard::Failure;
                *heard = Heard::Failure;
                if copying {
                    self.mood = Mood::Following;
                    self.strays = self.swallow(1);
                }
                match self.asked.front_mut() {
                    Some(Asked::Query { note, .. }) if is_first => Some(note),
                    _ => None,
                }
            }
            Some(Asked::Execute(_)) => {
                self.leave();
                if copying {
                    self.mood = Mood::Following;
                    self.strays = self.swallow(0);
                }
                self.skip();
                self.last.as_mut()
            }
            Some(Asked::Steps(_)) => {
                self.asked.pop_front();
                let is_about = self.leave().is_some();
                self.skip();
                self.last.as_mut().filter(|_| is_about)
            }
            // A commit that fails in the end; or the upstream's farewell.
            Some(Asked::Sync | Asked::CopyEnd) | None => None,
        }
    }

    /// Up to the next Sync nothing is answered.
    fn skip(&mut self) {
        loop {
            match (self.asked.front(), self.strays) {
                (Some(Asked::Sync), _) => return,
                (None, 0) => return self.mood = Mood::Skipping,
                (None, _) => return self.mood = Mood::Doubtful,
                // If one of the strays was seen, this is not skipped.
                (Some(Asked::Steps(_) | Asked::Query { .. } | Asked::Execute(_)), 1..) => return self.lose(),
                (Some(_), _) => self.asked.pop_front(),
            };
        }
    }

    /// The Syncs that came to a COPY, from this place on, and the end of its data are not awaited: how many Syncs?
    fn swallow(&mut self, place: usize) -> u32 {
        let mut syncs = 0;
        while let Some(Asked::Sync) = self.asked.get(place) {
            self.asked.remove(place);
            syncs += 1;
        }
        if let Some(Asked::CopyEnd) = self.asked.get(place) {
            self.asked.remove(place);
        }
        syncs
    }

    fn drop_copy_ends(&mut self) {
        while let Some(Asked::CopyEnd) = self.asked.front() {
            self.asked.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
