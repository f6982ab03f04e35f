//! What becomes of each message of a session. HOT.

use std::sync::Mutex as Lock;

use tokio::sync::Mutex;

use super::channels::{Answers, Both, Channel, Ended, From, Owed, Table, TooMany};
use super::lent::Lent;
use super::message::{self, about, open, open_failure};
use super::relay::{Stop, locked};
use super::requests::{Open, Request, client_may_open, may};
use super::sftp::{Lost, View};
use crate::endpoint::Allowed;
use crate::event::ssh::{ChannelKind, SshAction, SshEvent};
use crate::reader::{Reader, Short};
use crate::refusal::Refusal;
use crate::{Event, Tap, Transferred, Verdict};

mod global;

/// What becomes of a message.
#[derive(Debug)]
pub(super) enum Next {
    /// Nothing.
    Nothing,
    /// It goes on as it is now, and after it another message, so many times.
    Forward { then: Vec<u8>, times: usize },
    /// This goes back.
    Answer(Vec<u8>),
    /// It is not known here, which its sender is told.
    Unknown,
}

const FORWARD: Next = Next::Forward { then: Vec::new(), times: 0 };
const CUT: &str = "a message ends before it should";

/// What a session knows, for both directions.
pub(super) struct Session<T> {
    allowed: Allowed,
    tap: Mutex<T>,
    /// Never held where anything waits.
    state: Lock<State>,
}

#[derive(Default)]
struct State {
    table: Table,
    lent: Lent,
    /// What the client asked for the whole connection.
    answers: Answers,
    /// What the upstream asked so.
    upstream_answers: Answers,
    bytes: Both<u64>,
}

impl State {
    /// Whether the upstream may open such a channel. What was lent for one connection is taken.
    fn lends(&mut self, allowed: &Allowed, kind: &ChannelKind<'_>) -> bool {
        let single = *kind == ChannelKind::X11 && !self.lent.display && self.table.take_display();
        self.lent.may_open(allowed, single, kind)
    }
}

impl<T: Tap> Session<T> {
    pub(super) fn new(allowed: Allowed, tap: T) -> Self {
        Self { allowed, tap: Mutex::new(tap), state: Lock::default() }
    }

    /// Looks at a message, and makes it one for the other side.
    pub(super) async fn message(&self, from: From, payload: &mut [u8]) -> Result<Next, Stop> {
        let cut = |_: Short| Stop::Malformed(from, CUT);
        match payload.first().copied().unwrap_or_default() {
            message::CHANNEL_DATA => self.data(from, payload, 5).await,
            message::CHANNEL_EXTENDED_DATA => self.data(from, payload, 9).await,
            message::CHANNEL_WINDOW_ADJUST | message::CHANNEL_EOF => {
                self.readdress(from, payload).map_err(cut)
            }
            message::CHANNEL_REQUEST if from == From::Client => self.asked(payload).await,
            message::CHANNEL_REQUEST => self.told(payload).map_err(cut),
            message::CHANNEL_SUCCESS | message::CHANNEL_FAILURE => self.answered(from, payload),
            message::CHANNEL_OPEN => self.open(from, payload).await,
            message::CHANNEL_OPEN_CONFIRMATION => self.agreed(from, payload).map_err(cut),
            message::CHANNEL_OPEN_FAILURE => self.disagreed(from, payload).await,
            message::CHANNEL_CLOSE => self.close(from, payload).await,
            message::GLOBAL_REQUEST => self.global(from, payload).await,
            message::REQUEST_SUCCESS | message::REQUEST_FAILURE => self.global_answer(from, payload),
            message::IGNORE | message::DEBUG | message::UNIMPLEMENTED | message::EXT_INFO => {
                Ok(Next::Nothing)
            }
            // RFC 4252 §5.3: a client may have sent it before it knew.
            message::USERAUTH_REQUEST if from == From::Client => Ok(Next::Nothing),
            number if number < message::GLOBAL_REQUEST => {
                Err(Stop::Malformed(from, "a message that has no place in a session"))
            }
            _ => Ok(Next::Unknown),
        }
    }

    /// Shows an event to the tap: why it says no, if it does.
    async fn show(
        &self,
        channel: Option<u32>,
        allowed: bool,
        action: SshAction<'_>,
    ) -> Result<Option<Refusal>, Stop> {
        let event = Event::Ssh(SshEvent { channel, allowed, action });
        match self.tap.lock().await.observe(event).await {
            Ok(Verdict::Forward) => Ok(None),
            Ok(Verdict::Refuse(refusal)) => Ok(Some(refusal)),
            Ok(Verdict::End(refusal)) => Err(Stop::Refused(refusal)),
            Err(crate::TapClosed) => Err(Stop::Tap),
        }
    }

    /// Shows what has happened already: a no ends the session.
    async fn report(&self, channel: u32, action: SshAction<'_>) -> Result<(), Stop> {
        match self.show(Some(channel), true, action).await? {
            None => Ok(()),
            Some(refusal) => Err(Stop::Refused(refusal)),
        }
    }

    /// Bytes of a channel; `at` is where their length stands.
    async fn data(&self, from: From, payload: &mut [u8], at: usize) -> Result<Next, Stop> {
        let cut = |_: Short| Stop::Malformed(from, CUT);
        let mut reader = Reader::new(payload.get(at..).ok_or(Stop::Malformed(from, CUT))?);
        let bytes = reader.string().map_err(cut)?;
        reader.finish().map_err(cut)?;
        let number = number(payload).map_err(cut)?;
        let (mut done, mut followed, mut blamed) = (Vec::new(), Ok(()), from);
        let (id, terminal, shown) = {
            let mut state = locked(&self.state);
            let State { table, bytes: total, .. } = &mut *state;
            let Some(channel) = table.open(number, from) else { return Ok(Next::Nothing) };
            *channel.bytes.of_mut(from) += bytes.len() as u64;
            *total.of_mut(from) += bytes.len() as u64;
            if let Some(view) = channel.files.as_mut().filter(|_| at == 5) {
                let was_certain = view.is_certain();
                followed = match from {
                    From::Client => view.asked(bytes),
                    From::Upstream => view.answered(bytes, &mut done),
                };
                if view.is_certain() && !was_certain {
                    // The host has said only what the client has brought it to.
                    blamed = From::Client;
                    if followed.is_ok() && !self.allowed.file_copy {
                        followed = Err(Lost("SFTP is not allowed"));
                    }
                }
                if view.is_none() {
                    channel.files = None;
                }
            }
            (channel.id(from.other()), channel.terminal, channel.shown)
        };
        match from {
            From::Upstream if shown => self.report(number, SshAction::Output { bytes }).await?,
            From::Client if terminal => self.report(number, SshAction::Input { length: bytes.len() }).await?,
            _ => {}
        }
        for file in &done {
            self.report(number, SshAction::Sftp(file.event())).await?;
        }
        // After what could be followed.
        followed.map_err(|lost| Stop::Malformed(blamed, lost.0))?;
        write(payload, 1, id).map_err(cut)?;
        Ok(FORWARD)
    }

    /// A message about an open channel that says nothing that anybody need know.
    fn readdress(&self, from: From, payload: &mut [u8]) -> Result<Next, Short> {
        let id = match locked(&self.state).table.open(number(payload)?, from) {
            Some(channel) => channel.id(from.other()),
            None => return Ok(Next::Nothing),
        };
        write(payload, 1, id)?;
        Ok(FORWARD)
    }

    /// A side asks for a channel.
    async fn open(&self, from: From, payload: &mut [u8]) -> Result<Next, Stop> {
        let asked = Open::parse(from, payload).map_err(|_| Stop::Malformed(from, CUT))?;
        let is_session = asked.kind == ChannelKind::Session;
        let (number, may, room) = {
            let mut state = locked(&self.state);
            let may = match from {
                From::Client => client_may_open(&self.allowed, &asked.kind),
                From::Upstream => state.lends(&self.allowed, &asked.kind),
            };
            let seats = usize::try_from(self.allowed.max_channels).unwrap_or(usize::MAX);
            let room = state.table.has_room() && (!is_session || state.table.sessions() < seats);
            (state.table.number(), may, room)
        };
        let refusal = self.show(Some(number), may && room, SshAction::Open(asked.kind)).await?;
        let no = match (asked.kind, may, room, &refusal) {
            (ChannelKind::Unknown { .. } | ChannelKind::Uninvited { .. }, ..) => {
                Some((open::UNKNOWN_TYPE, "not known here"))
            }
            (_, false, ..) => Some((open::PROHIBITED, "not allowed")),
            (_, true, false, _) => Some((open::RESOURCE_SHORTAGE, "max_sessions limit reached")),
            (_, true, true, Some(refusal)) => Some((open::PROHIBITED, refusal.message.as_str())),
            (_, true, true, None) => None,
        };
        if let Some((reason, text)) = no {
            return Ok(Next::Answer(open_failure(asked.sender, reason, text)));
        }
        let (sender, at) = (asked.sender, asked.sender_at);
        locked(&self.state).table.ask(number, from, sender, is_session);
        let cut = |_: Short| Stop::Malformed(from, CUT);
        write(payload, at, number).map_err(cut)?;
        limit(payload, at + 8).map_err(cut)?;
        Ok(FORWARD)
    }

    /// A side agrees to a channel.
    fn agreed(&self, from: From, payload: &mut [u8]) -> Result<Next, Short> {
        let number = number(payload)?;
        let mut reader = Reader::new(payload.get(5..).ok_or(Short)?);
        let sender = reader.u32()?;
        let Some(id) = locked(&self.state).table.agree(number, from, sender) else {
            return Ok(Next::Nothing);
        };
        write(payload, 1, id)?;
        write(payload, 5, number)?;
        limit(payload, 13)?;
        Ok(FORWARD)
    }

    /// A side does not agree to a channel: the tap, which has seen it asked for, hears that nothing came of it.
    async fn disagreed(&self, from: From, payload: &mut [u8]) -> Result<Next, Stop> {
        let cut = |_: Short| Stop::Malformed(from, CUT);
        let number = number(payload).map_err(cut)?;
        let disagreed = locked(&self.state).table.disagree(number, from);
        let Some(channel) = disagreed else { return Ok(Next::Nothing) };
        write(payload, 1, channel.id(from.other())).map_err(cut)?;
        self.gone(number, channel).await?;
        Ok(FORWARD)
    }

    /// The client asks for something in a channel.
    async fn asked(&self, payload: &mut [u8]) -> Result<Next, Stop> {
        let from = From::Client;
        let cut = |_: Short| Stop::Malformed(from, CUT);
        let number = number(payload).map_err(cut)?;
        let request = Request::parse(Reader::new(payload.get(5..).unwrap_or_default())).map_err(cut)?;
        let action = request.channel_action().map_err(cut)?;
        let (is_session, started, terminal) = match locked(&self.state).table.open(number, from) {
            Some(channel) => (channel.is_session, channel.started, channel.terminal),
            None => return Ok(Next::Nothing),
        };
        let starts = action.is_some_and(|action| action.starts());
        let mut refused = !is_session;
        if let Some(action) = action {
            // One thing runs in a channel (RFC 4254 §6.5): a recording must not begin anew in the middle of it. Nor does
            // that get a terminal: its recording would have begun before.
            let is_late = started && (starts || matches!(action, SshAction::Pty { .. }));
            // A terminal makes other bytes of those that were looked at (ISTRIP, IUCLC): other files than are on record.
            let is_garbled = terminal && matches!(action, SshAction::Subsystem { file_copy: true, .. });
            let allowed = is_session && may(&self.allowed, &action) && !is_late && !is_garbled;
            refused = self.show(Some(number), allowed, action).await?.is_some() || !allowed;
        }
        let mut state = locked(&self.state);
        let State { table, lent, .. } = &mut *state;
        let Some(channel) = table.open(number, from) else { return Ok(Next::Nothing) };
        let id = channel.id(from.other());
        if refused {
            let at_once = request.want_reply && channel.answers.owe(Owed::No).map_err(too_many)?;
            let own = channel.id(from);
            return Ok(if at_once {
                Next::Answer(about(message::CHANNEL_FAILURE, own).to_vec())
            } else {
                Next::Nothing
            });
        }
        let mut owed = Owed::Other;
        match action {
            // Whatever the host says to it, and whether it says anything: that is the other side of what is recorded.
            Some(SshAction::Pty { .. }) => {
                (channel.terminal, channel.shown) = (true, true);
                if let Some(view) = &mut channel.files {
                    view.through_terminal();
                }
            }
            Some(SshAction::Subsystem { file_copy: true, .. }) => {
                // A host may keep what came too early for whatever is started: it would be files that nobody saw.
                if *channel.bytes.of(from) > 0 {
                    return Err(Stop::Malformed(from, "data in a channel before SFTP was asked for"));
                }
                channel.files = Some(Box::new(View::default()));
            }
            Some(SshAction::Shell) => channel.shown = true,
            Some(SshAction::Agent) => lent.agent = true,
            Some(SshAction::X11 { single: true }) => channel.display = true,
            Some(SshAction::X11 { single: false }) => lent.display = true,
            _ => {}
        }
        if starts {
            channel.started = true;
            owed = Owed::Start;
        }
        if request.want_reply {
            channel.answers.owe(owed).map_err(too_many)?;
        }
        drop(state);
        write(payload, 1, id).map_err(cut)?;
        Ok(FORWARD)
    }

    /// The upstream tells, or asks, something in a channel.
    fn told(&self, payload: &mut [u8]) -> Result<Next, Short> {
        let from = From::Upstream;
        let mut request = Request::parse(Reader::new(payload.get(5..).ok_or(Short)?))?;
        let id = {
            let mut state = locked(&self.state);
            let Some(channel) = state.table.open(number(payload)?, from) else { return Ok(Next::Nothing) };
            match request.name {
                b"exit-status" => channel.ended(Ended::Status(request.rest.u32()?)),
                b"exit-signal" => channel.ended(Ended::signal(request.rest.string()?)),
                _ => {}
            }
            channel.id(from.other())
        };
        write(payload, 1, id)?;
        Ok(FORWARD)
    }

    /// A side answers a request in a channel.
    fn answered(&self, from: From, payload: &mut [u8]) -> Result<Next, Stop> {
        let cut = |_: Short| Stop::Malformed(from, CUT);
        let mut state = locked(&self.state);
        let channel = state.table.open(number(payload).map_err(cut)?, from);
        let Some(channel) = channel else { return Ok(Next::Nothing) };
        let id = channel.id(from.other());
        let mut times = 0;
        if from == From::Upstream {
            let answered = channel.answers.answered();
            let (owed, follow) = answered.ok_or(Stop::Malformed(from, "an answer to no request"))?;
            let is_yes = payload.first() == Some(&message::CHANNEL_SUCCESS);
            // A no that may be to something else leaves it at that: it runs, and is followed.
            if !is_yes && owed == Owed::Start && !channel.answers.awaits() {
                // Something else may be tried: clients do, where there is no SFTP.
                channel.started = false;
                let begun = *channel.bytes.of(From::Client) > 0;
                if let Some(view) = channel.files.as_mut().filter(|_| *channel.bytes.of(From::Upstream) == 0)
                {
                    view.refused(begun);
                }
            }
            times = follow;
        }
        drop(state);
        write(payload, 1, id).map_err(cut)?;
        Ok(Next::Forward { then: about(message::CHANNEL_FAILURE, id).to_vec(), times })
    }

    /// A side closes a channel.
    async fn close(&self, from: From, payload: &mut [u8]) -> Result<Next, Stop> {
        let cut = |_: Short| Stop::Malformed(from, CUT);
        let number = number(payload).map_err(cut)?;
        let closed = locked(&self.state).table.close(number, from);
        let Some((id, gone)) = closed else { return Ok(Next::Nothing) };
        if let Some(channel) = gone {
            self.gone(number, channel).await?;
        }
        write(payload, 1, id).map_err(cut)?;
        Ok(FORWARD)
    }

    /// A channel has ended, or did not come to be.
    async fn gone(&self, number: u32, mut channel: Channel) -> Result<(), Stop> {
        if let Some(files) = &mut channel.files {
            for file in files.end() {
                self.report(number, SshAction::Sftp(file.event())).await?;
            }
        }
        let close = SshAction::Close {
            exit: channel.exit().map(Ended::event),
            from_client: *channel.bytes.of(From::Client),
            from_upstream: *channel.bytes.of(From::Upstream),
        };
        self.report(number, close).await
    }

    /// A message that ended the session.
    pub(super) async fn malformed(&self, event: Event<'_>) {
        // The session ends, whatever the tap says.
        let _ = self.tap.lock().await.observe(event).await;
    }

    /// The session has ended: so have its channels.
    pub(super) async fn end(&self) {
        let left = locked(&self.state).table.end();
        for (number, channel) in left {
            if self.gone(number, channel).await.is_err() {
                return;
            }
        }
    }

    pub(super) fn transferred(&self) -> Transferred {
        let bytes = locked(&self.state).bytes;
        Transferred {
            from_client: *bytes.of(From::Client),
            from_upstream: *bytes.of(From::Upstream),
            ..Transferred::default()
        }
    }
}

fn too_many(_: TooMany) -> Stop {
    Stop::Malformed(From::Client, "too many requests at once")
}

/// The channel's number, which every message about one begins with.
fn number(payload: &[u8]) -> Result<u32, Short> {
    let mut reader = Reader::new(payload);
    reader.u8()?;
    reader.u32()
}

/// Data that fits into one packet of ours, whatever a side says that it takes.
const LARGEST: u32 = 128 * 1024;

/// Lowers the largest packet that a side asks for to what we pass on.
fn limit(payload: &mut [u8], at: usize) -> Result<(), Short> {
    let asked = Reader::new(payload.get(at..).ok_or(Short)?).u32()?;
    write(payload, at, asked.min(LARGEST))
}

/// Writes a number into a message.
fn write(payload: &mut [u8], at: usize, number: u32) -> Result<(), Short> {
    let field = payload.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<4>).ok_or(Short)?;
    *field = number.to_be_bytes();
    Ok(())
}
