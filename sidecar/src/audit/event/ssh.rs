//! What an event says about a thing that was asked for, or has happened, in an SSH session.
//!
//! | event | code | when |
//! |---|---|---|
//! | `session.shell` | TTS20I, refused TTS20W | before a login shell starts; with its terminal, environment and recording |
//! | `exec` | T3002I, refused T3002E | before a command starts |
//! | `subsystem` | T3001I, refused T3001E | before a subsystem starts |
//! | `session.channel.end` | TTS21I | when a channel has ended: exit status or signal, bytes |
//! | `port` | T3003I, refused T3003E | before a connection is forwarded, or the upstream listens for the client |
//! | `sftp` | TS001I to TS019I, failed …E | when an operation on a file is done: a file that was read or written, once, when it is closed |
//! | `x11-forward` | T3008I, refused T3008W | before a display is lent |
//! | `session.agent` | TTS22I, refused TTS22W | before an agent is lent |
//! | `session.signal` | TTS23I | before a signal is sent |
//! | `session.request.refused` | TTS24W | something else that was asked for, and is not allowed or not known |
//! | `session.rejected` | T1006W | one channel more than `max_sessions` |
//! | `session.unrecorded` | TTS25W | a terminal goes on without being recorded (`best_effort`), or ends because of it (`strict`) |
//!
//! `channel` tells the channels of a session apart; `started_ei` is that of the shell, exec, subsystem or port event that
//! the channel began with. Names and commands are bytes: what is no UTF-8 becomes U+FFFD, and stands in `…_base64` as it was.
//!
//! A command is on record whole, or it does not run: of one that is too long the event says so, with its beginning, and with
//! `command_bytes` and `command_sha256` of all of it.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use protocols::{Exit, Listener, SftpAttributes, SftpEvent, SftpOperation, SftpOutcome, TcpForward};
use serde::Serialize;
use uuid::Uuid;

use super::statement::{fitting, lossy};
use crate::{
    audit::spool::MAX_RECORD_BYTES,
    recording::{Screen, Size},
};

/// Bytes of a path, host or other name that are written down.
pub(crate) const MAX_NAME_BYTES: usize = 4 * 1024;
/// The longest command that runs, as JSON. Linux takes 128 KiB for `sh -c`; the rest is for quotes and line ends.
const MAX_COMMAND_JSON_BYTES: usize = 136 * 1024;
/// What is shown of one that does not: its beginning.
const MAX_SHOWN_BYTES: usize = 32 * 1024;
const MAX_SHOWN_JSON_BYTES: usize = 3 * MAX_SHOWN_BYTES;
/// The environment of one channel, as JSON.
pub(crate) const MAX_ENVIRONMENT_JSON_BYTES: usize = 48 * 1024;
// Both, a terminal's name, and what a session says of itself in each event.
const _: () = assert!(
    MAX_COMMAND_JSON_BYTES + MAX_ENVIRONMENT_JSON_BYTES + 6 * MAX_NAME_BYTES + 16 * 1024 < MAX_RECORD_BYTES
);

/// The words of a refusal by the roles.
pub(crate) const NOT_ALLOWED: &str = "not allowed by your roles";
/// Those for what would run without being on record.
const TOO_LONG: &str = "too long to be put on record whole";
/// Those for a host that opens what nobody has asked it for.
const NOT_LENT: &str = "the client has not asked the host for it, or its roles do not allow it";

/// The part of an event that says what.
#[derive(Serialize)]
pub(crate) struct SshBody {
    #[serde(skip)]
    event: &'static str,
    #[serde(skip)]
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    success: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(flatten)]
    what: What,
}

#[derive(Serialize)]
#[serde(untagged)]
enum What {
    Started(Started),
    Ended(ChannelEnd),
    Port(Port),
    Sftp(Sftp),
    X11 { single_connection: bool },
    Nothing {},
    Signal { signal: String },
    Refused { request: &'static str, name: String },
    Rejected { reason: &'static str, maximum: u32 },
    RecordingFailed { recording: Uuid, reason: String, record_session: &'static str },
}

/// With what a shell, command or subsystem starts.
#[derive(Clone, Default)]
pub(crate) struct Surroundings {
    pub(crate) screen: Option<Screen>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) recording: Option<Uuid>,
}

#[derive(Serialize)]
struct Started {
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    command: Option<Command>,
    #[serde(rename = "name", skip_serializing_if = "Option::is_none")]
    subsystem: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    file_copy: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    terminal: Option<Terminal>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    environment: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recording: Option<Uuid>,
}

#[derive(Serialize)]
struct Terminal {
    #[serde(rename = "type")]
    term: String,
    #[serde(flatten)]
    size: Size,
}

/// What a client wants to run.
#[derive(Serialize)]
pub(crate) struct Command {
    command: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    command_base64: Option<String>,
    /// Of a command that is not all here.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    cut: Option<CutCommand>,
}

#[derive(Serialize)]
struct CutCommand {
    command_cut: bool,
    command_bytes: usize,
    command_sha256: String,
}

#[derive(Serialize)]
struct ChannelEnd {
    #[serde(skip_serializing_if = "Option::is_none")]
    started_ei: Option<u64>,
    #[serde(rename = "exitCode", skip_serializing_if = "Option::is_none")]
    exit_code: Option<u32>,
    #[serde(rename = "exitSignal", skip_serializing_if = "Option::is_none")]
    exit_signal: Option<String>,
    bytes_from_client: u64,
    bytes_from_upstream: u64,
}

#[derive(Serialize)]
struct Port {
    /// `connect`: the client, through the host; `accept`: somebody, where the host listens for the client; `listen`, `cancel`.
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    addr: String,
}

#[derive(Serialize)]
struct Sftp {
    action: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_path_base64: Option<String>,
    /// In base64: what stood in the place of a path, and is no open file's.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown_handle: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    bytes_read: u64,
    #[serde(skip_serializing_if = "is_zero")]
    bytes_written: u64,
    /// What a file was opened for: `read`, `write`, `append`, `create`, `truncate`, `exclusive`.
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attributes: Option<Attributes>,
    /// `SSH_FX_*`; 255 of what never came to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u32>,
}

/// What a file was to have; the names are Teleport's.
#[derive(Serialize)]
struct Attributes {
    #[serde(skip_serializing_if = "Option::is_none")]
    file_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
    /// In octal, as chmod takes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    permissions: Option<String>,
    /// Seconds since 1970, as the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    access_time: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modification_time: Option<u32>,
}

impl Attributes {
    /// `None` where nothing was to change.
    fn of(wanted: SftpAttributes) -> Option<Self> {
        let SftpAttributes { size, owner, permissions, times } = wanted;
        (wanted != SftpAttributes::default()).then(|| Self {
            file_size: size,
            uid: owner.map(|(user, _)| user),
            gid: owner.map(|(_, group)| group),
            permissions: permissions.map(|permissions| format!("{permissions:04o}")),
            access_time: times.map(|(accessed, _)| accessed),
            modification_time: times.map(|(_, modified)| modified),
        })
    }
}

impl SshBody {
    pub(super) fn name_and_code(&self) -> (&'static str, &'static str) {
        (self.event, self.code)
    }

    fn new(event: &'static str, code: &'static str, channel: Option<u32>, what: What) -> Self {
        Self { event, code, channel, success: None, error: None, what }
    }

    /// Something that was asked for, with the codes of a yes and a no.
    fn asked(
        event: &'static str,
        (yes, no): (&'static str, &'static str),
        channel: Option<u32>,
        allowed: bool,
        what: What,
    ) -> Self {
        let error = (!allowed).then_some(NOT_ALLOWED);
        let code = if allowed { yes } else { no };
        Self { success: Some(allowed), error, ..Self::new(event, code, channel, what) }
    }

    pub(crate) fn shell(channel: Option<u32>, allowed: bool, around: Surroundings) -> Self {
        let started = Started::new(around);
        Self::asked("session.shell", ("TTS20I", "TTS20W"), channel, allowed, What::Started(started))
    }

    pub(crate) fn exec(
        channel: Option<u32>,
        allowed: bool,
        command: Command,
        file_copy: bool,
        around: Surroundings,
    ) -> Self {
        let is_whole = command.is_whole();
        let started = Started { command: Some(command), file_copy, ..Started::new(around) };
        let asked = What::Started(started);
        let body = Self::asked("exec", ("T3002I", "T3002E"), channel, allowed && is_whole, asked);
        if allowed && !is_whole { Self { error: Some(TOO_LONG), ..body } } else { body }
    }

    pub(crate) fn subsystem(
        channel: Option<u32>,
        allowed: bool,
        name: &[u8],
        file_copy: bool,
        around: Surroundings,
    ) -> Self {
        let started = Started { subsystem: Some(text(name)), file_copy, ..Started::new(around) };
        Self::asked("subsystem", ("T3001I", "T3001E"), channel, allowed, What::Started(started))
    }

    pub(crate) fn ended(
        channel: Option<u32>,
        started_ei: Option<u64>,
        exit: Option<Exit<'_>>,
        from_client: u64,
        from_upstream: u64,
    ) -> Self {
        let (exit_code, exit_signal) = match exit {
            Some(Exit::Status(status)) => (Some(status), None),
            Some(Exit::Signal { name }) => (None, Some(text(name))),
            None => (None, None),
        };
        let (bytes_from_client, bytes_from_upstream) = (from_client, from_upstream);
        let end = ChannelEnd { started_ei, exit_code, exit_signal, bytes_from_client, bytes_from_upstream };
        Self::new("session.channel.end", "TTS21I", channel, What::Ended(end))
    }

    pub(crate) fn tcp(
        channel: Option<u32>,
        allowed: bool,
        action: &'static str,
        TcpForward { host, port, origin_host, origin_port }: TcpForward<'_>,
    ) -> Self {
        let origin = Some(address(origin_host, origin_port));
        Self::port(channel, allowed, Port { action, origin, addr: address(host, port) })
    }

    pub(crate) fn socket(channel: Option<u32>, allowed: bool, action: &'static str, path: &[u8]) -> Self {
        Self::port(channel, allowed, Port { action, origin: None, addr: format!("unix:{}", text(path)) })
    }

    pub(crate) fn listener(
        channel: Option<u32>,
        allowed: bool,
        action: &'static str,
        listener: Listener<'_>,
    ) -> Self {
        match listener {
            Listener::Tcp { host, port } => {
                Self::port(channel, allowed, Port { action, origin: None, addr: address(host, port) })
            }
            Listener::Unix { path } => Self::socket(channel, allowed, action, path),
        }
    }

    fn port(channel: Option<u32>, allowed: bool, port: Port) -> Self {
        let no = if port.action == "accept" { NOT_LENT } else { NOT_ALLOWED };
        let body = Self::asked("port", ("T3003I", "T3003E"), channel, allowed, What::Port(port));
        Self { error: (!allowed).then_some(no), ..body }
    }

    pub(crate) fn sftp(channel: Option<u32>, event: &SftpEvent<'_>) -> Self {
        let (action, done, failed) = sftp_words(event);
        let status = match event.outcome {
            SftpOutcome::Done => None,
            SftpOutcome::Failed { code } => Some(code),
            SftpOutcome::Unfinished => Some(255),
        };
        let shown = bounded(event.path);
        let base64 = |path: &[u8]| std::str::from_utf8(path).is_err().then(|| STANDARD.encode(path));
        let target = event.target.map(bounded);
        let sftp = Sftp {
            action,
            path: lossy(shown),
            path_base64: base64(shown),
            target_path: target.map(lossy),
            target_path_base64: target.and_then(base64),
            unknown_handle: event.unknown_handle.map(|handle| STANDARD.encode(handle)),
            bytes_read: event.read,
            bytes_written: event.written,
            flags: event.flags.map(opened_for),
            attributes: Attributes::of(event.attributes),
            status,
        };
        let code = if status.is_none() { done } else { failed };
        Self { success: Some(status.is_none()), ..Self::new("sftp", code, channel, What::Sftp(sftp)) }
    }

    pub(crate) fn x11(channel: Option<u32>, allowed: bool, single_connection: bool) -> Self {
        Self::asked("x11-forward", ("T3008I", "T3008W"), channel, allowed, What::X11 { single_connection })
    }

    pub(crate) fn agent(channel: Option<u32>, allowed: bool) -> Self {
        Self::asked("session.agent", ("TTS22I", "TTS22W"), channel, allowed, What::Nothing {})
    }

    pub(crate) fn signal(channel: Option<u32>, name: &[u8]) -> Self {
        Self::new("session.signal", "TTS23I", channel, What::Signal { signal: text(name) })
    }

    /// `request`: `pty`, `env`, `subsystem`, `signal`, `channel`, `request`; `host_channel` alone is the host's.
    pub(crate) fn refused(channel: Option<u32>, request: &'static str, name: &[u8]) -> Self {
        let what = What::Refused { request, name: text(name) };
        Self::asked("session.request.refused", ("TTS24W", "TTS24W"), channel, false, what)
    }

    /// A channel that the host has asked for, and the client has not.
    pub(crate) fn uninvited(channel: Option<u32>, name: &[u8]) -> Self {
        Self { error: Some(NOT_LENT), ..Self::refused(channel, "host_channel", name) }
    }

    pub(crate) fn rejected(channel: Option<u32>, reason: &'static str, maximum: u32) -> Self {
        Self::new("session.rejected", "T1006W", channel, What::Rejected { reason, maximum })
    }

    pub(crate) fn recording_failed(
        channel: Option<u32>,
        recording: Uuid,
        reason: String,
        record_session: &'static str,
    ) -> Self {
        let what = What::RecordingFailed { recording, reason, record_session };
        Self::new("session.unrecorded", "TTS25W", channel, what)
    }
}

impl Started {
    fn new(around: Surroundings) -> Self {
        let Surroundings { screen, environment, recording } = around;
        let terminal = screen.map(|Screen { term, size }| Terminal { term, size });
        Self { command: None, subsystem: None, file_copy: false, terminal, environment, recording }
    }
}

impl Command {
    pub(crate) fn new(command: &[u8]) -> Self {
        let is_text = std::str::from_utf8(command).is_ok();
        let of = |shown: &[u8]| Self {
            command: lossy(shown),
            command_base64: (!is_text).then(|| STANDARD.encode(shown)),
            cut: None,
        };
        let whole = of(command);
        if whole.json_bytes() <= MAX_COMMAND_JSON_BYTES {
            return whole;
        }
        let shown = fitting(command, MAX_SHOWN_BYTES, MAX_SHOWN_JSON_BYTES);
        let cut = CutCommand {
            command_cut: true,
            command_bytes: command.len(),
            command_sha256: hex::encode(digest::digest(&digest::SHA256, command).as_ref()),
        };
        Self { cut: Some(cut), ..of(shown) }
    }

    /// Is all of it on record? It must not run otherwise: its end would be hidden.
    pub(crate) fn is_whole(&self) -> bool {
        self.cut.is_none()
    }

    fn json_bytes(&self) -> usize {
        json_bytes(&self.command) + self.command_base64.as_ref().map_or(0, String::len)
    }
}

/// Bytes that a text takes as JSON, without its quotes.
pub(crate) fn json_bytes(text: &str) -> usize {
    let cost = |byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..=0x1f => 6,
        _ => 1,
    };
    text.bytes().map(cost).sum()
}

/// Teleport's name for it, and the codes of success and failure.
fn sftp_words(event: &SftpEvent<'_>) -> (&'static str, &'static str, &'static str) {
    match event.operation {
        SftpOperation::File if event.written > 0 => ("write", "TS004I", "TS004E"),
        SftpOperation::File if event.read > 0 => ("read", "TS003I", "TS003E"),
        SftpOperation::File => ("open", "TS001I", "TS001E"),
        SftpOperation::List => ("readdir", "TS010I", "TS010E"),
        SftpOperation::SetAttributes => ("setstat", "TS007I", "TS007E"),
        SftpOperation::Remove => ("remove", "TS011I", "TS011E"),
        SftpOperation::MakeDirectory => ("mkdir", "TS012I", "TS012E"),
        SftpOperation::RemoveDirectory => ("rmdir", "TS013I", "TS013E"),
        SftpOperation::Rename => ("rename", "TS016I", "TS016E"),
        SftpOperation::Symlink => ("symlink", "TS018I", "TS018E"),
        SftpOperation::Hardlink => ("link", "TS019I", "TS019E"),
        // Ours: Teleport knows neither.
        SftpOperation::Copy => ("copy", "TTS26I", "TTS26W"),
        SftpOperation::Extended => ("extended", "TTS27I", "TTS27W"),
    }
}

/// `SSH_FXF_*`, in words.
fn opened_for(flags: u32) -> Vec<&'static str> {
    const WORDS: [(u32, &str); 6] =
        [(1, "read"), (2, "write"), (4, "append"), (8, "create"), (16, "truncate"), (32, "exclusive")];
    WORDS.into_iter().filter(|(flag, _)| flags & flag != 0).map(|(_, word)| word).collect()
}

fn address(host: &[u8], port: u32) -> String {
    let host = text(host);
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn bounded(name: &[u8]) -> &[u8] {
    name.get(..MAX_NAME_BYTES).unwrap_or(name)
}

/// A name, as text.
pub(crate) fn text(name: &[u8]) -> String {
    lossy(bounded(name))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's shape")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
