//! HOT: upstream to client: answers as they come, byte for byte; what nobody asked for, or asked of us alone, is
//! left out.
//!
//! The front of a packet is forwarded with the bytes that say what it is, so that nothing has to be kept of it.

use std::future::Future;
use std::sync::Arc;

use crate::answer::{Answer, Answers, Transaction};
use crate::event::mysql::FileFate;
use crate::frame::{Course, Follow, SHOWN};
use crate::refusal::{Refusal, RefusalCode};

use super::desk::{Desk, FileState, State, Waiting};
use super::error_packet;
use super::framing::{self, Header};
use super::packet::HEADER;
use super::responses::{Heard, Reply, Terms, Tracker, Wrong, number_and_state};

/// Bytes of a file's name at most.
const MAX_FILE_NAME: usize = 4_096;

/// The upstream's half of a session.
pub(super) struct Follower {
    desk: Arc<Desk>,
    answers: Option<Box<dyn Answers>>,
    tracker: Tracker,
    local_infile_allowed: bool,
    /// Bytes of the current packet that are to come.
    remaining: usize,
    /// The next packet continues the current one.
    continued: bool,
    /// An answer has begun, and is not over.
    answering: Option<Audience>,
    /// It is over with the current packet.
    ends: Option<Ended>,
    /// One of its results is, and others follow.
    result_ends: bool,
    /// The number of the client's packet that came last, until the desk knows.
    sequence: Option<u8>,
}

/// Who hears an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Audience {
    Client,
    /// Nobody: the settings of the session are made again.
    Nobody,
    /// Nobody: a file was wished for that the client is not asked for. It is told so in the end, under this number.
    Denied(u8),
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ended {
    failed: bool,
    in_transaction: Option<bool>,
}

/// What the front of a packet comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Front {
    /// It goes on its way.
    Known,
    /// More bytes are needed, or what lies before must go first, or the tap is asked.
    NotYet,
    /// The packet of so many bytes, which wished for a file, is left out.
    LeftOut(usize),
}

/// What may go.
#[derive(Clone, Copy, Debug, Default)]
struct Walk {
    bytes: usize,
    /// Where a packet ended last.
    boundary: Option<usize>,
    /// The client does not hear it.
    unheard: bool,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("tracker", &self.tracker).finish_non_exhaustive()
    }
}

impl Follower {
    pub(super) fn new(
        desk: Arc<Desk>,
        terms: Terms,
        local_infile_allowed: bool,
        answers: Option<Box<dyn Answers>>,
    ) -> Self {
        Self {
            desk,
            answers,
            tracker: Tracker::new(terms),
            local_infile_allowed,
            remaining: 0,
            continued: false,
            answering: None,
            ends: None,
            result_ends: false,
            sequence: None,
        }
    }

    fn is_between_packets(&self) -> bool {
        self.remaining == 0 && !self.continued
    }

    fn tell(&mut self, answer: Answer<'_>) {
        if let Some(answers) = &mut self.answers {
            answers.answered(answer);
        }
    }

    /// The front of a packet that continues nothing. `first`: nothing that is not written lies before it.
    fn front(&mut self, rest: &[u8], first: bool) -> Result<Front, Wrong> {
        let Some(header) = Header::read(rest) else { return Ok(Front::NotYet) };
        let payload = rest.get(HEADER..).unwrap_or_default();
        let payload = payload.get(..header.length).unwrap_or(payload);
        let desk = Arc::clone(&self.desk);
        let mut state = desk.lock();
        if self.answering.is_none() {
            match state.waiting.front() {
                Some(Waiting::Client(reply, _)) => self.begin(*reply, Audience::Client),
                Some(Waiting::Settings) => self.begin(Reply::One, Audience::Nobody),
                None if payload.is_empty() && header.length > 0 => return Ok(Front::NotYet),
                // An error of its own accord: it is about to close.
                None if payload.first() == Some(&error_packet::ERR) => {
                    self.begin(Reply::One, Audience::Client)
                }
                Some(Waiting::Said(_)) | None => return Err("it answers what nobody asked"),
            }
        }
        if matches!(state.file, FileState::Wished { .. } | FileState::Seen(_)) {
            return self.wish(&mut state, header, payload, first);
        }
        let wanted = self.tracker.wanted(header.length, payload.first().copied());
        let Some(lead) = payload.get(..wanted) else { return Ok(Front::NotYet) };
        let heard = self.tracker.packet(header.length, lead)?;
        if heard == Heard::File {
            return self.wish(&mut state, header, payload, first);
        }
        drop(state);
        self.enter(header);
        self.hear(heard);
        Ok(Front::Known)
    }

    fn begin(&mut self, reply: Reply, audience: Audience) {
        self.tracker.begin(reply);
        self.answering = Some(audience);
    }

    /// The header is decided about.
    fn enter(&mut self, header: Header) {
        (self.remaining, self.continued) = (HEADER + header.length, header.is_continued());
        if self.answering == Some(Audience::Client) {
            self.sequence = Some(header.sequence);
        }
    }

    fn hear(&mut self, heard: Heard) {
        let is_heard = self.answering == Some(Audience::Client);
        self.ends = match heard {
            Heard::Goes | Heard::File => None,
            Heard::End => Some(Ended { failed: false, in_transaction: None }),
            Heard::Prepared { statement, parameters, last } => {
                self.desk.lock().prepared.push((statement, parameters));
                self.tell(Answer::Prepared { statement });
                last.then_some(Ended { failed: false, in_transaction: None })
            }
            Heard::Done { rows, in_transaction, last } => {
                if is_heard {
                    self.tell(Answer::Done { rows });
                }
                self.result_ends = is_heard && !last;
                last.then_some(Ended { failed: false, in_transaction })
            }
            Heard::Failed { number, sql_state } => {
                if is_heard {
                    self.tell(Answer::Failed { number, sql_state });
                }
                Some(Ended { failed: true, in_transaction: None })
            }
        };
    }

    /// A file is wished for. The client's half shows it to the tap, and comes back with what becomes of it.
    fn wish(
        &mut self,
        state: &mut State,
        header: Header,
        payload: &[u8],
        first: bool,
    ) -> Result<Front, Wrong> {
        if header.length > MAX_FILE_NAME {
            return Err("it asks for a file with a name that is too long");
        }
        let Some(packet) = payload.get(..header.length).filter(|_| first) else { return Ok(Front::NotYet) };
        match &state.file {
            FileState::None => {
                let name = packet.get(1..).unwrap_or_default();
                let is_named = matches!(
                    state.waiting.front(),
                    Some(Waiting::Client(_, files)) if files.iter().any(|file| file == name)
                );
                let fate = match (is_named, self.local_infile_allowed) {
                    (false, _) => FileFate::NotNamed,
                    (true, false) => FileFate::NotAllowed,
                    (true, true) => FileFate::Asked,
                };
                state.file = FileState::Wished { name: name.to_vec(), sequence: header.sequence, fate };
                self.desk.call_inspector();
                Ok(Front::NotYet)
            }
            FileState::Wished { .. } => Ok(Front::NotYet),
            FileState::Seen(FileFate::Asked) => {
                state.file = FileState::Flows;
                self.call_inspector(state);
                self.enter(header);
                Ok(Front::Known)
            }
            FileState::Seen(_) => {
                state.file = FileState::None;
                if self.answering == Some(Audience::Client) {
                    self.answering = Some(Audience::Denied(header.sequence));
                }
                Ok(Front::LeftOut(HEADER + header.length))
            }
            FileState::Flows => Err("it asks for a file while it gets one"),
        }
    }

    /// The answer is over.
    fn finish(&mut self, ended: Ended) {
        let audience = self.answering.take();
        self.sequence = None;
        if audience == Some(Audience::Client) {
            let open = |open| if open { Transaction::Open } else { Transaction::Idle };
            self.tell(Answer::Ready { transaction: ended.in_transaction.map(open) });
        }
        let desk = Arc::clone(&self.desk);
        let mut state = desk.lock();
        state.answered();
        state.answers += u64::from(audience == Some(Audience::Client));
        match audience {
            Some(Audience::Nobody) if ended.failed => {
                let lost = "the session settings could not be made again after a reset";
                state.ending = Some(Refusal::new(RefusalCode::UpstreamUnavailable, lost));
            }
            Some(Audience::Denied(sequence)) => {
                state.waiting.push_front(Waiting::Said(framing::packet(sequence, &file_denied())));
            }
            // The rest of the file would be read as commands.
            Some(Audience::Client) if state.file == FileState::Flows => {
                let early = "the upstream answered before it had the whole file";
                state.ending = Some(Refusal::new(RefusalCode::UpstreamUnavailable, early));
            }
            _ => {}
        }
        self.call_inspector(&mut state);
    }

    /// Wakes the client's half if it has to do with what is new.
    fn call_inspector(&self, state: &mut State) {
        if state.inspector_waits || state.ending.is_some() {
            state.inspector_waits = false;
            self.desk.call_inspector();
        }
    }

    /// Walks as far as one audience hears all of it; or says how many bytes are left out.
    fn walk(&mut self, bytes: &[u8]) -> Result<Result<Walk, usize>, Wrong> {
        let mut walk = Walk { boundary: self.is_between_packets().then_some(0), ..Walk::default() };
        while let Some(rest) = bytes.get(walk.bytes..).filter(|rest| !rest.is_empty()) {
            if self.remaining > 0 {
                walk.unheard = self.answering != Some(Audience::Client);
                let now = self.remaining.min(rest.len());
                (self.remaining, walk.bytes) = (self.remaining - now, walk.bytes + now);
                if self.is_between_packets() {
                    walk.boundary = Some(walk.bytes);
                    // Who hears what follows, and whether it is for us to say, is seen next time.
                    if let Some(ended) = self.ends.take() {
                        self.finish(ended);
                        break;
                    }
                    if std::mem::take(&mut self.result_ends) {
                        self.desk.lock().results += 1;
                        break;
                    }
                }
            } else if self.continued {
                let Some(header) = Header::read(rest) else { break };
                self.enter(header);
            } else {
                match self.front(rest, walk.bytes == 0)? {
                    Front::Known => {}
                    Front::NotYet => break,
                    Front::LeftOut(length) => return Ok(Err(length)),
                }
            }
        }
        Ok(Ok(walk))
    }
}

/// What the client is told in the place of a wish for a file.
fn file_denied() -> Vec<u8> {
    error_packet::error(
        3948,
        b"42000",
        "loading local files is not allowed here; a role needs the option db_local_infile",
    )
}

impl Follow for Follower {
    fn follow(&mut self, bytes: &[u8]) -> Course {
        let walk = match self.walk(bytes) {
            Ok(Ok(walk)) => walk,
            Ok(Err(left_out)) => return Course::Drop(left_out),
            Err(wrong) => return Course::Lost(wrong),
        };
        if let Some(sequence) = self.sequence.take() {
            self.desk.lock().sequence = sequence.wrapping_add(1);
        }
        match walk {
            Walk { bytes: 0, .. } if bytes.len() >= SHOWN => {
                Course::Lost("it sends on while it waits for a file")
            }
            Walk { bytes: 0, .. } => Course::Starved,
            Walk { bytes, unheard: true, .. } => Course::Drop(bytes),
            Walk { bytes, boundary, .. } => Course::Forward { bytes, boundary },
        }
    }

    fn at_boundary(&self) -> bool {
        self.is_between_packets() || self.answering != Some(Audience::Client)
    }

    fn say(&mut self) -> Option<Vec<u8>> {
        if self.answering.is_some() {
            return None;
        }
        let said = {
            let mut state = self.desk.lock();
            let Some(Waiting::Said(_)) = state.waiting.front() else { return None };
            let Some(Waiting::Said(said)) = state.waiting.pop_front() else { return None };
            state.answers += 1;
            self.call_inspector(&mut state);
            said
        };
        let (number, sql_state) = number_and_state(said.get(HEADER..).unwrap_or_default());
        self.tell(Answer::Failed { number, sql_state });
        self.tell(Answer::Ready { transaction: None });
        Some(said)
    }

    fn called(&self) -> impl Future<Output = ()> + Send {
        self.desk.follower_called()
    }
}

#[cfg(test)]
mod tests;
