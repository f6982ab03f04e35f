//! HOT: client to upstream: commands, each shown to the tap before its last byte is forwarded.
//!
//! A command begins with packet number 0 and ends with the first packet that is not full. One that is longer than
//! a view is decided about by its beginning; of a text, the hash of the whole follows. While a file flows
//! (`LOAD DATA LOCAL INFILE`), packets are its parts, up to an empty one.

use std::future::Future;
use std::sync::Arc;

use crate::Peer;
use crate::event::mysql::FileFate;
use crate::event::{Event, Malformed, MysqlEvent};
use crate::frame::{Errand, Inspect, LongText, SHOWN, Step};
use crate::refusal::{Refusal, RefusalCode};

use super::commands::{self, Command, Fate, Judge};
use super::connection_id::ConnectionIds;
use super::desk::{Desk, FileState, State, Waiting};
use super::framing::{self, Header};
use super::packet::HEADER;
use super::responses::{Reply, Terms};
use super::statements::{LAST, Statements};
use super::{error_packet, local_infile};

/// The first byte of a replica's acknowledgement, in the middle of a dump (semi-synchronous replication).
const ACKNOWLEDGEMENT: u8 = 0xEF;

/// The client's half of a session.
pub(super) struct Inspector {
    desk: Arc<Desk>,
    charter: Charter,
    statements: Statements,
    place: Place,
    /// The number of the packet that comes next, unless a command begins.
    sequence: u8,
    /// A text that was shown cut.
    text: Option<LongText>,
    /// Bytes of the file that flows.
    file: u64,
    /// What the upstream's half wants done.
    errand: Option<Job>,
}

/// What holds for one session.
pub(super) struct Charter {
    pub(super) terms: Terms,
    pub(super) replication_allowed: bool,
    /// The COM_QUERY that makes the session's settings again.
    pub(super) settings: Option<Vec<u8>>,
    /// Who may be killed by our numbers, and by whom this session may.
    pub(super) ids: Arc<ConnectionIds>,
    pub(super) peer: Arc<Peer>,
}

/// Where in a command, or in a part of a file, the client's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In front of one.
    Front,
    /// So many bytes of a packet are decided about and to come.
    Inside { left: usize, continued: bool },
    /// In front of a packet that continues the last one.
    Continuation,
}

/// Something to do where the tap is.
#[derive(Debug)]
enum Job {
    File { name: Vec<u8>, fate: FileFate, sequence: u8 },
    End(Refusal),
}

impl std::fmt::Debug for Inspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspector").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Inspector {
    pub(super) fn new(desk: Arc<Desk>, charter: Charter) -> Self {
        Self {
            desk,
            charter,
            statements: Statements::default(),
            place: Place::Front,
            sequence: 0,
            text: None,
            file: 0,
            errand: None,
        }
    }

    /// More of a packet about which is decided.
    fn pass<'a>(&mut self, bytes: &'a [u8], left: usize, continued: bool) -> Step<'a> {
        let now = left.min(bytes.len());
        if let Some(text) = &mut self.text {
            text.pass(bytes.get(..now).unwrap_or_default(), |_| None);
        }
        self.place = match left - now {
            0 if continued => Place::Continuation,
            0 => Place::Front,
            left => Place::Inside { left, continued },
        };
        self.passed(now)
    }

    /// So many bytes may go. With the last of a text, its hash is shown.
    fn passed<'a>(&mut self, bytes: usize) -> Step<'a> {
        match self.text.take_if(|_| self.place == Place::Front) {
            None => Step::Pass(bytes),
            Some(text) => {
                let (sha256, length, _) = text.finish();
                Step::Show(Event::TextEnd { sha256, length }, bytes)
            }
        }
    }

    /// The header of a packet that continues the last one.
    fn continuation<'a>(&mut self, bytes: &'a [u8]) -> Result<Step<'a>, Malformed> {
        let Some(header) = Header::read(bytes) else { return Ok(Step::Starved) };
        self.in_order(header)?;
        self.place = match header.length {
            0 => Place::Front,
            left => Place::Inside { left, continued: header.is_continued() },
        };
        Ok(self.passed(HEADER))
    }

    fn in_order(&mut self, header: Header) -> Result<(), Malformed> {
        if header.sequence != self.sequence {
            return Err(Malformed::Sequence { expected: self.sequence, found: header.sequence });
        }
        self.sequence = self.sequence.wrapping_add(1);
        Ok(())
    }

    /// A part of a file, or its end.
    fn file_part<'a>(&mut self, bytes: &'a [u8]) -> Result<Step<'a>, Malformed> {
        let Some(header) = Header::read(bytes) else { return Ok(Step::Starved) };
        self.in_order(header)?;
        if header.length == 0 {
            self.desk.lock().file = FileState::None;
            let bytes = std::mem::take(&mut self.file);
            return Ok(Step::Show(Event::Mysql(MysqlEvent::LocalInfileEnd { bytes }), HEADER));
        }
        self.file += header.length as u64;
        self.place = Place::Inside { left: header.length, continued: header.is_continued() };
        Ok(Step::Pass(HEADER))
    }

    /// A command: its first packet, or the beginning of that.
    fn command<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Step<'a>, Malformed> {
        let Some(header) = Header::read(bytes) else { return Ok(Step::Starved) };
        self.sequence = 0;
        self.in_order(header)?;
        if header.length == 0 {
            return Err(Malformed::Content(0));
        }
        let Some(&kind) = bytes.get(HEADER) else { return Ok(Step::Starved) };
        let whole = HEADER + header.length;
        let Some(view) = bytes.get(..whole.min(SHOWN)) else { return Ok(Step::Starved) };
        if kind == commands::QUIT {
            return Ok(Step::Last(view.len()));
        }
        let content = view.get(HEADER + 1..).unwrap_or_default();
        let mut state = self.desk.lock();
        for (number, parameters) in state.prepared.drain(..) {
            self.statements.prepared(number, parameters);
        }
        if state.is_closed_to(names_last(kind, content)) {
            if kind == ACKNOWLEDGEMENT
                && matches!(state.waiting.back(), Some(Waiting::Client(Reply::Dump, _)))
            {
                drop(state);
                return Ok(self.pass(bytes, whole, header.is_continued()));
            }
            state.inspector_waits = true;
            return Ok(Step::Busy);
        }
        // A full packet is continued: how far is not known yet.
        let cut = (whole - view.len()) as u64 + u64::from(header.is_continued());
        let charter = &self.charter;
        let judge = Judge {
            terms: charter.terms,
            replication_allowed: charter.replication_allowed,
            kill: |number| charter.ids.kill(number, &charter.peer),
        };
        let (event, fate) = judge.decide(Command { kind, content, cut }, &mut self.statements)?;
        if let (Event::Query { text, .. } | Event::Mysql(MysqlEvent::Prepare { text, .. }), 1..) =
            (&event, cut)
        {
            self.text = Some(LongText::begin(text));
        }
        self.place = match whole - view.len() {
            0 if header.is_continued() => Place::Continuation,
            0 => Place::Front,
            left => Place::Inside { left, continued: header.is_continued() },
        };
        match fate {
            Fate::Forward(reply) => {
                state.waiting.push_back(Waiting::Client(reply, files(&event)));
                Ok(Step::Show(event, view.len()))
            }
            Fate::Silent => Ok(Step::Show(event, view.len())),
            _ if cut > 0 => Err(Malformed::TooLong(kind)),
            Fate::Reset => Ok(reset(&mut state, event, view, charter.settings.as_deref())),
            Fate::Instead(payload, reply) => {
                state.waiting.push_back(Waiting::Client(reply, Vec::new()));
                Ok(Step::Instead(event, view.len(), framing::packet(0, &payload)))
            }
            Fate::Refuse(payload) => Ok(Step::Refuse(event, view.len(), framing::packet(1, &payload))),
        }
    }
}

/// Does the command mean "the statement that was prepared last"?
fn names_last(kind: u8, content: &[u8]) -> bool {
    matches!(kind, commands::STMT_EXECUTE | commands::STMT_BULK_EXECUTE | commands::STMT_FETCH)
        && content.starts_with(&LAST.to_le_bytes())
}

/// The files that a query offers.
fn files(event: &Event<'_>) -> Vec<Vec<u8>> {
    match event {
        Event::Query { text, .. } => local_infile::offered(text),
        _ => Vec::new(),
    }
}

/// A reset, and behind it the settings, which are to hold before the client's next command.
fn reset<'a>(state: &mut State, event: Event<'a>, view: &[u8], settings: Option<&[u8]>) -> Step<'a> {
    state.waiting.push_back(Waiting::Client(Reply::One, Vec::new()));
    let Some(settings) = settings else { return Step::Show(event, view.len()) };
    state.waiting.push_back(Waiting::Settings);
    let packets = [view, &framing::packet(0, settings)].concat();
    Step::Instead(event, view.len(), packets)
}

impl Inspect for Inspector {
    fn step<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Step<'a>, Malformed> {
        if bytes.is_empty() {
            return Ok(Step::Starved);
        }
        match self.place {
            Place::Inside { left, continued } => Ok(self.pass(bytes, left, continued)),
            Place::Continuation => self.continuation(bytes),
            Place::Front if self.desk.lock().file == FileState::Flows => self.file_part(bytes),
            Place::Front => self.command(bytes),
        }
    }

    fn farewell(&self, refusal: &Refusal) -> Vec<u8> {
        framing::packet(self.desk.lock().sequence, &error_packet::refusal(refusal))
    }

    fn say(&mut self, answer: Vec<u8>) {
        self.desk.lock().waiting.push_back(Waiting::Said(answer));
        self.desk.call_follower();
    }

    fn errand(&mut self) -> Option<Errand<'_>> {
        if self.errand.is_none() {
            let mut state = self.desk.lock();
            if let Some(refusal) = state.ending.take() {
                self.errand = Some(Job::End(refusal));
            } else if let FileState::Wished { name, sequence, fate } = &mut state.file {
                let name = std::mem::take(name);
                self.errand = Some(Job::File { name, fate: *fate, sequence: *sequence });
            }
        }
        Some(match self.errand.as_ref()? {
            Job::End(refusal) => Errand::End(refusal.clone()),
            Job::File { name, fate, sequence } => {
                // An empty file: the upstream goes on with nothing.
                let nothing = match fate {
                    FileFate::NotAllowed => framing::packet(sequence.wrapping_add(1), &[]),
                    FileFate::Asked | FileFate::NotNamed => Vec::new(),
                };
                Errand::Show(Event::Mysql(MysqlEvent::LocalInfile { name, fate: *fate }), nothing)
            }
        })
    }

    fn errand_done(&mut self) {
        let Some(Job::File { fate, sequence, .. }) = self.errand.take() else { return };
        if fate == FileFate::NotNamed {
            let stolen = "the upstream asked for a file that the statement does not name";
            self.errand = Some(Job::End(Refusal::new(RefusalCode::UpstreamUnavailable, stolen)));
            return;
        }
        self.sequence = sequence.wrapping_add(1);
        self.desk.lock().file = FileState::Seen(fate);
        self.desk.call_follower();
    }

    fn called(&self) -> impl Future<Output = ()> + Send {
        self.desk.inspector_called()
    }
}

#[cfg(test)]
mod tests;
