//! The channels of one SSH session: what is written down of each, and which terminals are recorded.
//!
//! A request is in the audit trail's queue before it is forwarded; a shell, and whatever has a terminal, starts only once its
//! recording has begun. When a terminal cannot be recorded, the session ends (`record_session: strict`) or goes on, which is an event.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use auth::resource::RecordingMode;
use protocols::{ChannelKind, Refusal, RefusalCode, SshAction, SshEvent, TerminalSize, Verdict};
use tokio::time::Instant;
use tracing::{error, warn};
use uuid::Uuid;

use super::{
    AuditError,
    event::{
        Command, MAX_ENVIRONMENT_JSON_BYTES, MAX_NAME_BYTES, SshBody, Surroundings, json_bytes, ssh_text,
    },
    trail::Shared,
};
use crate::{
    chain::Chain,
    recording::{Of, RecordError, Recorder, Recordings, Screen, Size},
};

/// Environment variables of one channel that are written down, and bytes of a name.
const MAX_VARIABLES: usize = 64;
const MAX_VARIABLE_BYTES: usize = 1024;
/// Recordings that the end of a session names.
const MAX_NAMED: usize = 64;
/// Teleport's words.
const MAX_SESSIONS: &str = "max_sessions limit reached";
/// Why a command does not run, and why a variable does not pass.
const LONG_COMMAND: &str = "the command is too long to be put on record";
const MUCH_ENVIRONMENT: &str = "an environment that cannot be put on record whole";
/// What a client reads whose terminal cannot be recorded.
const NOT_RECORDED: &str = "the session ended: its recording cannot go on, and your roles ask for one";

/// How the terminals of a session are recorded.
pub(crate) struct Recorded {
    pub(crate) recordings: Arc<Recordings>,
    pub(crate) of: Of,
    pub(crate) sid: Uuid,
    pub(crate) mode: RecordingMode,
}

/// What is going on in a session's channels, for who watches over it.
#[derive(Debug)]
pub(super) struct Doings(Mutex<Doing>);

#[derive(Debug)]
struct Doing {
    /// Channels that are work while they are open: all but terminals, whose work is what is typed.
    busy: usize,
    active: Instant,
    recordings: Vec<Uuid>,
    interactive: bool,
    stopped: Option<&'static str>,
}

impl Doings {
    pub(super) fn new(now: Instant) -> Self {
        let recordings = Vec::new();
        Self(Mutex::new(Doing { busy: 0, active: now, recordings, interactive: false, stopped: None }))
    }

    fn lock(&self) -> MutexGuard<'_, Doing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when nothing was asked for or typed; `None` while something runs that has no terminal.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let doing = self.lock();
        (doing.busy == 0).then_some(doing.active)
    }

    /// Why the tap ended the session, if it did.
    pub(super) fn stopped(&self) -> Option<&'static str> {
        self.lock().stopped
    }

    /// The recordings, and whether there was a terminal at all.
    pub(super) fn terminals(&self) -> (Vec<Uuid>, bool) {
        let doing = self.lock();
        (doing.recordings.clone(), doing.interactive)
    }
}

/// The channels of one session, as the tap has seen them.
pub(super) struct Channels {
    /// In a box: a session of a database, which has none, keeps room for this in each layer of its relay.
    recorded: Option<Box<Recorded>>,
    open: HashMap<u32, Channel>,
    /// Recordings that were begun, or tried.
    terminals: u32,
}

#[derive(Default)]
struct Channel {
    around: Surroundings,
    recorder: Option<Recorder>,
    /// Of the event with which its work began.
    started_ei: Option<u64>,
    busy: bool,
}

impl Channels {
    pub(super) fn new(recorded: Option<Recorded>) -> Self {
        Self { recorded: recorded.map(Box::new), open: HashMap::new(), terminals: 0 }
    }

    /// Writes down, and records.
    pub(super) async fn observe(
        &mut self,
        shared: &Shared,
        event: &SshEvent<'_>,
    ) -> Result<Verdict, AuditError> {
        let SshEvent { channel, allowed, action } = *event;
        if !is_the_hosts(&action) && !matches!(action, SshAction::WindowChange(_)) {
            shared.doings().lock().active = Instant::now();
        }
        match action {
            SshAction::Output { bytes } => return self.output(shared, channel, bytes).await,
            SshAction::Input { .. } => {}
            SshAction::Open(kind) => self.opened(shared, channel, allowed, kind).await?,
            SshAction::Pty { term, size } if allowed => {
                let screen = Screen { term: ssh_text(term), size: size_of(size) };
                self.channel(channel).around.screen = Some(screen);
            }
            SshAction::Pty { term, .. } => record(shared, SshBody::refused(channel, "pty", term)).await?,
            SshAction::WindowChange(size) => return self.resized(shared, channel, size_of(size)).await,
            SshAction::Env { name, value } if allowed && self.environment(channel, name, value) => {}
            SshAction::Env { name, .. } => {
                record(shared, SshBody::refused(channel, "env", name)).await?;
                if allowed {
                    return Ok(Verdict::Refuse(Refusal::new(RefusalCode::Unsupported, MUCH_ENVIRONMENT)));
                }
            }
            SshAction::Shell => {
                // Without a terminal too: a session would be recorded or not as its user likes.
                let body = |around| SshBody::shell(channel, allowed, around);
                return self.start(shared, channel, allowed, Some(Screen::none()), body).await;
            }
            SshAction::Exec { command, file_copy } => {
                let command = Command::new(command);
                let is_whole = command.is_whole();
                let body = |around| SshBody::exec(channel, allowed, command, file_copy, around);
                if allowed && !is_whole {
                    let around = self.channel(channel).around.clone();
                    record(shared, body(around)).await?;
                    return Ok(Verdict::Refuse(Refusal::new(RefusalCode::Unsupported, LONG_COMMAND)));
                }
                return self.start(shared, channel, allowed, None, body).await;
            }
            SshAction::Subsystem { name, .. } if allowed && name.len() > MAX_NAME_BYTES => {
                record(shared, SshBody::refused(channel, "subsystem", name)).await?;
                return Ok(Verdict::Refuse(Refusal::new(RefusalCode::Unsupported, LONG_COMMAND)));
            }
            SshAction::Subsystem { name, file_copy } => {
                let body = |around| SshBody::subsystem(channel, allowed, name, file_copy, around);
                return self.start(shared, channel, allowed, None, body).await;
            }
            SshAction::Agent => record(shared, SshBody::agent(channel, allowed)).await?,
            SshAction::X11 { single } => record(shared, SshBody::x11(channel, allowed, single)).await?,
            SshAction::Signal { name } if allowed => record(shared, SshBody::signal(channel, name)).await?,
            SshAction::Signal { name } => record(shared, SshBody::refused(channel, "signal", name)).await?,
            SshAction::Listen(listener) => {
                record(shared, SshBody::listener(channel, allowed, "listen", listener)).await?;
            }
            SshAction::CancelListen(listener) => {
                record(shared, SshBody::listener(channel, allowed, "cancel", listener)).await?;
            }
            SshAction::Unknown { name } => record(shared, SshBody::refused(channel, "request", name)).await?,
            SshAction::Sftp(ref operation) => record(shared, SshBody::sftp(channel, operation)).await?,
            SshAction::Close { exit, from_client, from_upstream } => {
                let known = channel.and_then(|number| self.open.remove(&number));
                if known.as_ref().is_some_and(|known| known.busy) {
                    shared.doings().lock().busy -= 1;
                }
                let started = known.and_then(|known| known.started_ei);
                let body = SshBody::ended(channel, started, exit, from_client, from_upstream);
                record(shared, body).await?;
            }
        }
        Ok(Verdict::Forward)
    }

    fn channel(&mut self, number: Option<u32>) -> &mut Channel {
        // What belongs to no channel does not come here.
        self.open.entry(number.unwrap_or(u32::MAX)).or_default()
    }

    async fn opened(
        &mut self,
        shared: &Shared,
        channel: Option<u32>,
        allowed: bool,
        kind: ChannelKind<'_>,
    ) -> Result<(), AuditError> {
        let body = match kind {
            ChannelKind::Session if allowed => {
                self.channel(channel);
                return Ok(());
            }
            ChannelKind::Session => {
                let open = u32::try_from(self.open.len()).unwrap_or(u32::MAX);
                return record(shared, SshBody::rejected(channel, MAX_SESSIONS, open)).await;
            }
            ChannelKind::DirectTcpip(forward) => SshBody::tcp(channel, allowed, "connect", forward),
            ChannelKind::DirectStreamlocal { path } => SshBody::socket(channel, allowed, "connect", path),
            ChannelKind::ForwardedTcpip(forward) => SshBody::tcp(channel, allowed, "accept", forward),
            ChannelKind::ForwardedStreamlocal { path } => SshBody::socket(channel, allowed, "accept", path),
            // That they are lent is on record.
            ChannelKind::Agent | ChannelKind::X11 if allowed => {
                self.work(shared, channel);
                return Ok(());
            }
            ChannelKind::Agent => SshBody::uninvited(channel, b"auth-agent@openssh.com"),
            ChannelKind::X11 => SshBody::uninvited(channel, b"x11"),
            ChannelKind::Uninvited { name } => SshBody::uninvited(channel, name),
            ChannelKind::Unknown { name } => SshBody::refused(channel, "channel", name),
        };
        let ei = shared.record(&body).await?;
        if allowed {
            self.work(shared, channel);
            self.channel(channel).started_ei = Some(ei);
        }
        Ok(())
    }

    /// From now on, the channel is work.
    fn work(&mut self, shared: &Shared, channel: Option<u32>) {
        let channel = self.channel(channel);
        if !std::mem::replace(&mut channel.busy, true) {
            shared.doings().lock().busy += 1;
        }
    }

    /// Whether it was written down whole: what is not on record does not pass, or a command that reads it would be hidden. A
    /// name that is no text could not be told from others.
    fn environment(&mut self, channel: Option<u32>, name: &[u8], value: &[u8]) -> bool {
        let around = &mut self.channel(channel).around;
        let Some(name) = std::str::from_utf8(name).ok().filter(|name| name.len() <= MAX_VARIABLE_BYTES)
        else {
            return false;
        };
        if around.environment.len() >= MAX_VARIABLES || value.len() > MAX_ENVIRONMENT_JSON_BYTES {
            return false;
        }
        let (name, written) = (name.to_owned(), String::from_utf8_lossy(value).into_owned());
        // With the quotes, colon and comma around them. What it takes the place of counts too: it is little.
        let taken: usize = around.environment.iter().map(|(name, value)| variable_bytes(name, value)).sum();
        let fits = taken + variable_bytes(&name, &written) <= MAX_ENVIRONMENT_JSON_BYTES;
        if fits {
            around.environment.insert(name, written);
        }
        fits
    }

    /// A shell, command or subsystem is about to start. It is recorded where it has a terminal, or something is said to stand
    /// for one.
    async fn start(
        &mut self,
        shared: &Shared,
        channel: Option<u32>,
        allowed: bool,
        in_its_place: Option<Screen>,
        body: impl FnOnce(Surroundings) -> SshBody,
    ) -> Result<Verdict, AuditError> {
        let around = self.channel(channel).around.clone();
        if !allowed {
            record(shared, body(around)).await?;
            return Ok(Verdict::Forward);
        }
        let has_terminal = around.screen.is_some();
        let Some(screen) = around.screen.clone().or(in_its_place) else {
            let ei = shared.record(&body(around)).await?;
            self.work(shared, channel);
            self.channel(channel).started_ei = Some(ei);
            return Ok(Verdict::Forward);
        };
        shared.doings().lock().interactive |= has_terminal;
        let (id, begun) = self.begin_recording(&screen).await;
        let recording = begun.is_ok().then_some(id);
        let ei = shared.record(&body(Surroundings { recording, ..around })).await?;
        if !has_terminal {
            self.work(shared, channel);
        }
        let known = self.channel(channel);
        known.started_ei = Some(ei);
        match begun {
            Ok(recorder) => {
                known.recorder = recorder;
                let mut doing = shared.doings().lock();
                if doing.recordings.len() < MAX_NAMED {
                    doing.recordings.extend(recording.filter(|_| self.recorded.is_some()));
                }
                Ok(Verdict::Forward)
            }
            Err(failed) => self.not_recorded(shared, channel, id, &failed).await,
        }
    }

    /// The first terminal of a session has the session's id.
    async fn begin_recording(&mut self, screen: &Screen) -> (Uuid, Result<Option<Recorder>, RecordError>) {
        let Some(recorded) = &self.recorded else { return (Uuid::nil(), Ok(None)) };
        let id = if self.terminals == 0 { recorded.sid } else { Uuid::new_v4() };
        self.terminals += 1;
        (id, recorded.recordings.begin(id, recorded.of.clone(), screen).await.map(Some))
    }

    async fn output(
        &mut self,
        shared: &Shared,
        channel: Option<u32>,
        bytes: &[u8],
    ) -> Result<Verdict, AuditError> {
        let Channel { recorder: Some(recorder), around, .. } = self.channel(channel) else {
            return Ok(Verdict::Forward);
        };
        let shown = if around.screen.is_some() { Cow::Borrowed(bytes) } else { as_shown(bytes) };
        match recorder.output(&shown).await {
            Ok(()) => Ok(Verdict::Forward),
            Err(failed) => self.broke_off(shared, channel, &failed).await,
        }
    }

    async fn resized(
        &mut self,
        shared: &Shared,
        channel: Option<u32>,
        size: Size,
    ) -> Result<Verdict, AuditError> {
        let known = self.channel(channel);
        if let Some(screen) = &mut known.around.screen {
            screen.size = size;
        }
        let Some(recorder) = &mut known.recorder else { return Ok(Verdict::Forward) };
        match recorder.resize(size).await {
            Ok(()) => Ok(Verdict::Forward),
            Err(failed) => self.broke_off(shared, channel, &failed).await,
        }
    }

    /// What is recorded so far is kept, as finished.
    async fn broke_off(
        &mut self,
        shared: &Shared,
        channel: Option<u32>,
        failed: &RecordError,
    ) -> Result<Verdict, AuditError> {
        let recorder = self.channel(channel).recorder.take();
        let id = recorder.map_or(Uuid::nil(), |recorder| recorder.id());
        self.not_recorded(shared, channel, id, failed).await
    }

    async fn not_recorded(
        &mut self,
        shared: &Shared,
        channel: Option<u32>,
        id: Uuid,
        failed: &RecordError,
    ) -> Result<Verdict, AuditError> {
        let mode = self.recorded.as_ref().map_or(RecordingMode::BestEffort, |recorded| recorded.mode);
        let body = SshBody::recording_failed(channel, id, Chain(failed).to_string(), mode.as_str());
        record(shared, body).await?;
        match mode {
            RecordingMode::BestEffort => {
                warn!(recording = %id, error = %Chain(failed), "a terminal goes on without being recorded");
                Ok(Verdict::Forward)
            }
            RecordingMode::Strict => {
                error!(recording = %id, error = %Chain(failed), "a session ends because it cannot be recorded");
                shared.doings().lock().stopped = Some("recording_failed");
                Ok(Verdict::End(Refusal::new(RefusalCode::Internal, NOT_RECORDED)))
            }
        }
    }
}

/// What the host does by itself: it does not keep a session whose client is idle.
fn is_the_hosts(action: &SshAction<'_>) -> bool {
    let SshAction::Open(kind) = action else { return matches!(action, SshAction::Output { .. }) };
    match kind {
        ChannelKind::ForwardedTcpip(_)
        | ChannelKind::ForwardedStreamlocal { .. }
        | ChannelKind::Agent
        | ChannelKind::X11
        | ChannelKind::Uninvited { .. } => true,
        ChannelKind::Session
        | ChannelKind::DirectTcpip(_)
        | ChannelKind::DirectStreamlocal { .. }
        | ChannelKind::Unknown { .. } => false,
    }
}

async fn record(shared: &Shared, body: SshBody) -> Result<(), AuditError> {
    shared.record(&body).await.map(drop)
}

/// As a terminal would show it, which begins a line where a shell only ends one.
fn as_shown(bytes: &[u8]) -> Cow<'_, [u8]> {
    if !bytes.contains(&b'\n') {
        return Cow::Borrowed(bytes);
    }
    let mut shown = Vec::with_capacity(bytes.len() + bytes.len() / 16);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(line) if !line.ends_with(b"\r") => {
                shown.extend_from_slice(line);
                shown.extend_from_slice(b"\r\n");
            }
            _ => shown.extend_from_slice(line),
        }
    }
    Cow::Owned(shown)
}

/// What a variable takes of an event.
fn variable_bytes(name: &str, value: &str) -> usize {
    json_bytes(name) + json_bytes(value) + r#""":"","#.len()
}

fn size_of(TerminalSize { columns, rows }: TerminalSize) -> Size {
    Size::new(columns, rows)
}

#[cfg(test)]
mod tests;
