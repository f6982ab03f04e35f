//! The channels of a session (RFC 4254 §5): what each is for, whose number is whose, and which answers are still
//! owed.
//!
//! A channel has one number of ours, which both sides are told as the other's: a message goes on when that number
//! is replaced by the one that its receiver chose. Windows are not ours at all: each side tells the other how
//! much it will take, through us, so a slow reader stops its own channel and no other, and nothing is queued
//! here.

use std::collections::{HashMap, VecDeque};

use super::CHANNELS;
use super::lent::Listening;
use super::sftp::View;
use crate::event::ssh::Exit;

/// Requests of one channel, or of the connection, that may wait for an answer.
const UNANSWERED: usize = 256;
/// Bytes of a signal's name that are kept.
const SIGNAL: usize = 64;

/// Who sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Client,
    Upstream,
}

impl From {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Client => Self::Upstream,
            Self::Upstream => Self::Client,
        }
    }
}

/// One for each side.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Both<T> {
    client: T,
    upstream: T,
}

impl<T> Both<T> {
    pub(super) fn of(&self, side: From) -> &T {
        match side {
            From::Client => &self.client,
            From::Upstream => &self.upstream,
        }
    }

    pub(super) fn of_mut(&mut self, side: From) -> &mut T {
        match side {
            From::Client => &mut self.client,
            From::Upstream => &mut self.upstream,
        }
    }
}

/// An answer that the client waits for; for the whole connection, the upstream may wait for one too, of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owed {
    /// The other side's, whatever it will be.
    Other,
    /// The upstream's, to the request to listen there. Boxed, as it is rare and the others are small.
    Listening(Box<Listening>),
    /// The other side's, to the request for what is to run in the channel.
    Start,
    /// Ours: no. It waits behind the other side's, because answers have no numbers.
    No,
}

/// Answers that a side waits for, in the order of its requests.
#[derive(Debug, Default)]
pub(super) struct Answers(VecDeque<Owed>);

/// More requests at once than anybody needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl Answers {
    /// One more is owed. For [`Owed::No`]: whether it can be given at once.
    pub(super) fn owe(&mut self, owed: Owed) -> Result<bool, TooMany> {
        if owed == Owed::No && self.0.is_empty() {
            return Ok(true);
        }
        if self.0.len() >= UNANSWERED {
            return Err(TooMany);
        }
        self.0.push_back(owed);
        Ok(false)
    }

    /// Listeners that the upstream has not said yes or no to.
    pub(super) fn listeners(&self) -> usize {
        self.0.iter().filter(|owed| matches!(owed, Owed::Listening(_))).count()
    }

    /// The client does not want a listener any more, though the upstream may still say yes to it.
    pub(super) fn cancel(&mut self, listening: &Listening) {
        for owed in &mut self.0 {
            if matches!(owed, Owed::Listening(asked) if **asked == *listening) {
                *owed = Owed::Other;
            }
        }
    }

    /// Whether the other side owes any.
    pub(super) fn awaits(&self) -> bool {
        self.0.iter().any(|owed| *owed != Owed::No)
    }

    /// The other side answers: to what, and how many answers of ours follow. `None`: nothing was asked.
    ///
    /// Answers have no numbers. A side that has left one out, and so broken the protocol, answers something that was asked
    /// later: what it said is about the request that is told here for certain only where it owes no other ([`Self::awaits`]).
    pub(super) fn answered(&mut self) -> Option<(Owed, usize)> {
        let owed = self.0.pop_front()?;
        let follow = self.0.iter().take_while(|owed| **owed == Owed::No).count();
        self.0.drain(..follow);
        Some((owed, follow))
    }
}

/// One channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) is_session: bool,
    opened_by: From,
    /// Both sides have agreed to it.
    is_open: bool,
    /// What each side calls it.
    ids: Both<u32>,
    closed: Both<bool>,
    /// The client has asked for a terminal: that something is typed is shown to the tap.
    pub(super) terminal: bool,
    /// It has asked for a terminal, or for a shell without one: what the upstream writes is shown to the tap.
    pub(super) shown: bool,
    /// What is to run in it has been asked for, and was not refused.
    pub(super) started: bool,
    /// It lends the display for one connection, which has not come yet.
    pub(super) display: bool,
    /// It carries SFTP, or may turn out to.
    pub(super) files: Option<Box<View>>,
    exit: Option<Ended>,
    /// Bytes that each side wrote.
    pub(super) bytes: Both<u64>,
    pub(super) answers: Answers,
}

/// How what ran in a channel ended: kept until the channel ends.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    Status(u32),
    Signal(Vec<u8>),
}

impl Ended {
    pub(super) fn signal(name: &[u8]) -> Self {
        Self::Signal(name.get(..name.len().min(SIGNAL)).unwrap_or(name).to_vec())
    }

    pub(super) fn event(&self) -> Exit<'_> {
        match self {
            Self::Status(status) => Exit::Status(*status),
            Self::Signal(name) => Exit::Signal { name },
        }
    }
}

impl Channel {
    /// What a side calls it.
    pub(super) fn id(&self, side: From) -> u32 {
        *self.ids.of(side)
    }

    /// The first word about how it ended counts.
    pub(super) fn ended(&mut self, how: Ended) {
        self.exit.get_or_insert(how);
    }

    pub(super) fn exit(&self) -> Option<&Ended> {
        self.exit.as_ref()
    }
}

/// All channels of a connection, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Table {
    channels: HashMap<u32, Channel>,
    next: u32,
}

impl Table {
    /// Whether there is room for one more.
    pub(super) fn has_room(&self) -> bool {
        self.channels.len() < CHANNELS
    }

    /// Sessions that are open or about to be.
    pub(super) fn sessions(&self) -> usize {
        self.channels.values().filter(|channel| channel.is_session).count()
    }

    /// Whether a channel lends the display for one connection: whoever hears yes has taken it.
    pub(super) fn take_display(&mut self) -> bool {
        let is_lent = |channel: &&mut Channel| channel.display && !channel.closed.of(From::Client);
        let lent = self.channels.values_mut().find(is_lent);
        lent.is_some_and(|channel| std::mem::take(&mut channel.display))
    }

    /// The number that the next channel gets; none is used twice, unless 2^32 were.
    pub(super) fn number(&mut self) -> u32 {
        while self.channels.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        number
    }

    /// One side asks for a channel, which it calls `id`.
    pub(super) fn ask(&mut self, number: u32, opened_by: From, id: u32, is_session: bool) {
        let mut ids = Both::default();
        *ids.of_mut(opened_by) = id;
        let channel = Channel {
            is_session,
            opened_by,
            is_open: false,
            ids,
            closed: Both::default(),
            terminal: false,
            shown: false,
            started: false,
            display: false,
            files: is_session.then(|| Box::new(View::guess())),
            exit: None,
            bytes: Both::default(),
            answers: Answers::default(),
        };
        self.channels.insert(number, channel);
    }

    /// The other side agrees, and calls it `id`: what the side that asked calls it.
    pub(super) fn agree(&mut self, number: u32, by: From, id: u32) -> Option<u32> {
        let channel = self.asked(number, by)?;
        channel.is_open = true;
        *channel.ids.of_mut(by) = id;
        Some(channel.id(by.other()))
    }

    /// The other side does not agree: what the side that asked calls it.
    pub(super) fn disagree(&mut self, number: u32, by: From) -> Option<Channel> {
        self.asked(number, by)?;
        self.channels.remove(&number)
    }

    /// A channel that waits for this side's word.
    fn asked(&mut self, number: u32, by: From) -> Option<&mut Channel> {
        let channel = self.channels.get_mut(&number)?;
        (!channel.is_open && channel.opened_by != by).then_some(channel)
    }

    /// An open channel that this side has not closed.
    pub(super) fn open(&mut self, number: u32, from: From) -> Option<&mut Channel> {
        let channel = self.channels.get_mut(&number)?;
        (channel.is_open && !channel.closed.of(from)).then_some(channel)
    }

    /// This side closes an open channel: what the other calls it, and the channel itself when both have.
    pub(super) fn close(&mut self, number: u32, from: From) -> Option<(u32, Option<Channel>)> {
        let channel = self.open(number, from)?;
        *channel.closed.of_mut(from) = true;
        let id = channel.id(from.other());
        let both = *channel.closed.of(from.other());
        Some((id, if both { self.channels.remove(&number) } else { None }))
    }

    /// The connection ends: everything that is left, in order, also what nobody has agreed to yet.
    pub(super) fn end(&mut self) -> Vec<(u32, Channel)> {
        let mut left: Vec<_> = self.channels.drain().collect();
        left.sort_by_key(|(number, _)| *number);
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_open_when_the_other_side_agrees_and_gone_when_both_have_closed() {
        let mut table = Table::default();
        let number = table.number();
        table.ask(number, From::Client, 7, true);
        assert!(table.open(number, From::Client).is_none(), "not yet");
        assert!(table.agree(number, From::Client, 9).is_none(), "nobody agrees with itself");
        assert_eq!(table.agree(number, From::Upstream, 9), Some(7));
        assert!(table.agree(number, From::Upstream, 8).is_none(), "only once");
        assert_eq!(table.open(number, From::Client).unwrap().id(From::Upstream), 9);
        assert!(matches!(table.close(number, From::Client), Some((9, None))));
        assert!(table.close(number, From::Client).is_none(), "only once");
        assert!(table.open(number, From::Client).is_none() && table.open(number, From::Upstream).is_some());
        assert!(matches!(table.close(number, From::Upstream), Some((7, Some(_)))));
        assert_eq!(table.sessions(), 0);
        assert_ne!(table.number(), number);
    }

    #[test]
    fn our_no_waits_for_the_answers_before_it() {
        let mut answers = Answers::default();
        assert_eq!(answers.owe(Owed::No), Ok(true), "nothing before it");
        for owed in [Owed::Start, Owed::No, Owed::No, Owed::Other, Owed::No] {
            assert_eq!(answers.owe(owed), Ok(false));
        }
        assert_eq!(answers.answered(), Some((Owed::Start, 2)));
        assert!(answers.awaits());
        assert_eq!(answers.answered(), Some((Owed::Other, 1)));
        assert!(!answers.awaits());
        assert_eq!(answers.answered(), None);
    }

    #[test]
    fn nobody_is_owed_more_answers_than_there_is_room_for() {
        let mut answers = Answers::default();
        for _ in 0..UNANSWERED {
            answers.owe(Owed::Other).unwrap();
        }
        assert_eq!(answers.owe(Owed::Other), Err(TooMany));
    }
}
